/**
 * An echo server for conformance suites and load generators, with its limits wide open:
 *
 *     node --import tsx test/conformance/echo-server.ts PORT
 *
 * Prints one line when it is ready and ends on SIGINT or SIGTERM.
 */
import { WebSocketServer } from '../../src/index.ts'

const port = Number(process.argv[2] ?? 9001)

const server = new WebSocketServer({
  port,
  // A suite may run in a container or be called by another name: everybody who reaches this port may come in.
  host: '0.0.0.0',
  authorize: () => true,
  origins: '*',
  maxMessageBytes: 128 * 1024 * 1024,
  maxBufferedBytes: 512 * 1024 * 1024,
  maxFragments: 1_000_000,
  // Any offer is taken as it is, and everything that becomes shorter is compressed.
  compression: { threshold: 0, serverNoContextTakeover: false, clientNoContextTakeover: false },
  // A ping of ours in a quiet case would be recorded by the suite.
  pingIntervalMs: 0,
  message: (client, data) => void client.send(data),
  error: (error) => console.error(error.message),
})

await server.listen()
console.log(`echo server on ws://127.0.0.1:${port}`)

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void server.close({ timeoutMs: 1_000 }).then(() => process.exit(0)))
}
