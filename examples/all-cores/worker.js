import { WebSocketServer } from 'fullduplex'
import { nodeBackplane } from 'fullduplex/cluster/node'

/*
 * One of several processes that listen on the same port. What a client says goes to all clients in its topic, whichever
 * worker they are with.
 */

const { PORT = 8080 } = process.env

const server = new WebSocketServer({
  port: Number(PORT),
  backplane: nodeBackplane(),

  // ws://127.0.0.1:8080/?topic=garden
  authorize({ query }) {
    const topic = query.get('topic') ?? 'everybody'
    if (!/^[\w-]{1,32}$/.test(topic)) return { accept: false, status: 400, message: 'A topic is a word.' }
    return { accept: true, data: { topic } }
  },

  open(client) {
    client.subscribe(client.data.topic)
    client.send(`You are in ${client.data.topic}, by way of process ${process.pid}.`)
  },

  message(client, data) {
    if (typeof data === 'string') client.publish(client.data.topic, `${process.pid}: ${data}`)
  },

  error(error) {
    console.error(error.message)
  },
})

process.on('message', async ({ type }) => {
  // The backplane's messages come this way, too; their type is "fullduplex".
  if (type !== 'drain') return
  // Newcomers go to the other workers from now on.
  await server.close({ code: 1012, reason: 'Come again', stopListening: true })
  process.exit()
})

// Ctrl-C goes to all processes of the terminal; this one waits for its turn.
process.on('SIGINT', () => {})

await server.listen().catch((error) => {
  console.error(error.message)
  process.exit(1)
})
