import { createInterface } from 'node:readline'
import { jetstream } from '@nats-io/jetstream'
import { connect as connectNats } from '@nats-io/transport-node'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { natsBackplane } from '../../src/cluster/nats.ts'
import { redisBackplane } from '../../src/cluster/redis.ts'
import { type Backplane, WebSocketServer } from '../../src/index.ts'

/*
 * A program for tests: one server process of several. It tells on its output what happens, in lines of JSON, and does
 * what it is told on its input:
 *
 *   publish TOPIC FROM TO    the numbers FROM to TO - 1, as `NAME:NUMBER`
 *   keep TOPIC FROM TO       the same, one after the other, each until the history has it
 *   count                    how many clients and topics there are
 *
 * A client is in the topics that its URL names: `?topic=a&topic=b`.
 */

const [engine = '', port = '', name = ''] = process.argv.slice(2)
const PATIENCE = { pingIntervalMs: 500, pingTimeoutMs: 2_000 }

const openBackplane: Readonly<Record<string, () => Promise<Backplane>>> = {
  'node-redis': async () => {
    const client = createClient({ url: `redis://127.0.0.1:${port}`, socket: { reconnectStrategy: 20 } })
    await client.connect()
    return redisBackplane({ client, ...PATIENCE })
  },
  ioredis: async () => {
    const client = new Redis({ port: Number(port), retryStrategy: () => 20 })
    return redisBackplane({ client, ...PATIENCE })
  },
  nats: async () => {
    const connection = await connectNats({
      servers: `127.0.0.1:${port}`,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 20,
      reconnectJitter: 0,
    })
    return natsBackplane({ connection, jetstream: jetstream(connection), ...PATIENCE })
  },
}

const server = new WebSocketServer({
  backplane: await openBackplane[engine]!(),
  history: (topic) => (topic.startsWith('kept') ? { maxMessages: 100_000, maxAgeMs: 600_000 } : undefined),
  slowConsumer: 'drop',
  maxBufferedBytes: 1_000_000,
  open: (client, request) => {
    for (const topic of request.query.getAll('topic')) client.subscribe(topic)
  },
  error: (error) => tell({ event: 'error', code: 'code' in error ? error.code : undefined, message: error.message }),
  backplaneRestored: () => tell({ event: 'restored' }),
})

function tell(line: object): void {
  console.log(JSON.stringify(line))
}

async function keep(topic: string, message: string): Promise<string | undefined> {
  // A message that could not be kept is tried again: nobody has got it.
  for (;;) {
    try {
      return await server.publish(topic, message).stored
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

const commands: Readonly<Record<string, (topic: string, from: number, to: number) => unknown>> = {
  publish: (topic, from, to) => {
    const reaches = new Set<unknown>()
    for (let number = from; number < to; number++) reaches.add(server.publish(topic, `${name}:${number}`).reach)
    tell({ event: 'published', topic, to, reaches: [...reaches] })
  },
  keep: async (topic, from, to) => {
    for (let number = from; number < to; number++) await keep(topic, `${name}:${number}`)
    tell({ event: 'kept', topic, to })
  },
  count: async () => {
    await server.synced()
    tell({ event: 'count', clients: server.clients.size, topics: server.topics.size })
  },
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const [command = '', topic = '', from, to] = line.split(' ')
  commands[command]?.(topic, Number(from), Number(to))
})

process.once('SIGTERM', async () => {
  await server.close()
  tell({ event: 'closed' })
  process.exit()
})

const { port: ownPort } = await server.listen()
await server.ready()
await server.synced()
tell({ event: 'listening', port: ownPort })
