import { nodeBackplane } from '../../../src/cluster/node.ts'
import { WebSocketServer } from '../../../src/index.ts'

/*
 * A server of which each client is a test that can tell it what to do: {"do": "subscribe", "topic": "news"}. It answers
 * every command with {"done": ...}; everything else that the client gets was published.
 */

/** Lines for the test; one write for each, as others write to the same output. */
export function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

/** Items of the exchange that have arrived in this process or thread, by their names. */
export const arrived = {}

export function countArrivals(message) {
  if (message?.type !== 'fullduplex' || !Array.isArray(message.items)) return
  for (const item of message.items) if (Array.isArray(item)) arrived[item[0]] = (arrived[item[0]] ?? 0) + 1
}

/** Starts a server; `more` has commands beside those that all servers know. */
export async function serve(name, options = {}, more = {}) {
  const { server: serverOptions, backplane: backplaneOptions, joins = [], isAlone = false } = options
  const server = new WebSocketServer({
    backplane: nodeBackplane(backplaneOptions),
    ...serverOptions,
    open(client) {
      for (const topic of joins) client.subscribe(topic)
      client.send(JSON.stringify({ hello: name, pid: process.pid }))
    },
    async message(client, text) {
      const command = JSON.parse(text)
      const action = more[command.do] ?? actions[command.do]
      client.send(JSON.stringify({ done: command.do, ...(await action(client, command)) }))
    },
    error: (error) => say({ error: error.message, code: error.code, at: name }),
    backplaneRestored: () => say({ restored: true, at: name }),
  })
  const actions = {
    async subscribe(client, { topics }) {
      for (const topic of topics) client.subscribe(topic)
      await server.synced()
    },
    async unsubscribe(client, { topics }) {
      for (const topic of topics) client.unsubscribe(topic)
      await server.synced()
    },
    /** Texts `NAME NUMBER`, filled up to a size; several in one step, and then a step of everybody else. */
    async publish(_client, { topics, first = 0, count = 1, bytes = 0, atOnce = 50 }) {
      let everywhere = 0
      for (let number = first; number < first + count; number++) {
        for (const topic of topics) {
          const { reach } = server.publish(topic, `${name} ${number}`.padEnd(bytes, '.'))
          if (reach === 'everywhere') everywhere++
        }
        if (number % atOnce === atOnce - 1) await new Promise((resolve) => setImmediate(resolve))
      }
      return { everywhere }
    },
    publishBytes: (_client, { topic, bytes }) => server.publish(topic, Uint8Array.from(bytes)),
    /** Not to this client. */
    publishFrom: (client, { topic, data }) => client.publish(topic, data),
    broadcast: (_client, { data }) => server.broadcast(data),
    /** Into a history, one behind the other. */
    async store(_client, { topic, first = 0, count = 1, bytes = 0 }) {
      let position
      for (let number = first; number < first + count; number++) {
        position = await server.publish(topic, `${name} ${number}`.padEnd(bytes, '.')).stored
      }
      return { position }
    },
    stats: () => ({ arrived, clients: server.clients.size, topics: server.topics.size }),
  }
  const { port } = await server.listen()
  if (!isAlone) await server.ready()
  return { server, port }
}
