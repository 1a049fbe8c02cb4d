// fullduplex: clients join topics (`+["a","b"]`), leave them (`-[...]`), and publish: any other message goes to the topic
// that its first eight characters name. With ENGINE (node-redis, ioredis, nats) it is one of several processes.
import { ready } from './control.mjs'
import { importCluster, WebSocketServer } from './engine.mjs'
import { clientVersion, connectRedis } from './topics-clients.mjs'

const { ENGINE = '', ENGINE_PORT, PREFIX } = process.env

const server = new WebSocketServer({
  host: '127.0.0.1',
  ...(ENGINE !== '' && { backplane: await makeBackplane() }),
  message(client, text) {
    if (text.startsWith('+') || text.startsWith('-')) return change(client, text)
    server.publish(text.slice(0, 8), text)
  },
  error(error) {
    console.error(error)
  },
})

/** Answered when nothing is missed any more, wherever it is published. */
async function change(client, text) {
  for (const topic of JSON.parse(text.slice(1))) {
    if (text.startsWith('+')) client.subscribe(topic)
    else client.unsubscribe(topic)
  }
  await server.synced()
  client.send(text[0])
}

async function makeBackplane() {
  if (ENGINE === 'nats') {
    const { connect } = await import('@nats-io/transport-node')
    const connection = await connect({ servers: `127.0.0.1:${ENGINE_PORT}`, maxReconnectAttempts: -1 })
    const { natsBackplane } = await importCluster('nats')
    return natsBackplane({ connection, prefix: PREFIX })
  }
  const { redisBackplane } = await importCluster('redis')
  return redisBackplane({ client: await connectRedis(ENGINE, ENGINE_PORT), prefix: PREFIX })
}

const { port } = await server.listen()
if (ENGINE !== '') {
  while (server.publish('warm-up', '').reach !== 'everywhere') await new Promise((resolve) => setTimeout(resolve, 10))
}
ready(port, `${ENGINE === '' ? '' : `${clientVersion(ENGINE)}, `}Node ${process.versions.node}`)
