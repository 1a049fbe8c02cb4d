// socket.io with its Redis adapter: the same as topics-fullduplex.mjs, in socket.io's manner. WebSocket only, and without
// compression, which is its default.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { createAdapter } from '@socket.io/redis-adapter'
import { Server } from 'socket.io'
import { ready } from './control.mjs'
import { clientVersion, connectRedis } from './topics-clients.mjs'

const require = createRequire(import.meta.url)
const { ENGINE, ENGINE_PORT, PREFIX } = process.env

const publisher = await connectRedis(ENGINE, ENGINE_PORT)
const subscriber = publisher.duplicate()
if (ENGINE === 'node-redis') await subscriber.connect()
for (const client of [publisher, subscriber]) client.on('error', (error) => console.error(error))

const server = createServer()
const io = new Server(server, {
  adapter: createAdapter(publisher, subscriber, { key: PREFIX }),
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
})
io.on('connection', (socket) => {
  socket.on('join', (topics, joined) => {
    socket.join(topics)
    joined()
  })
  socket.on('publish', (message) => {
    io.to(message.slice(0, 8)).emit('message', message)
  })
})
// Behind the adapter's own subscriptions.
await subscriber.ping()
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  const version = (name) => require(`${name}/package.json`).version
  const adapter = `@socket.io/redis-adapter ${version('@socket.io/redis-adapter')}`
  ready(
    server.address().port,
    `socket.io ${version('socket.io')}, ${adapter}, ${clientVersion(ENGINE)}, Node ${process.versions.node}`,
  )
})
