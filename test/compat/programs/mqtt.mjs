import { Aedes } from 'aedes'
import mqtt from 'mqtt'
import WebSocket, { createWebSocketStream, WebSocketServer } from 'ws'
import { listen, next, say, sayWhose, sayWhoseClass } from './report.mjs'

sayWhoseClass('import', WebSocket)
const aedes = await Aedes.createBroker()
const { server, port } = await listen()
const wss = new WebSocketServer({ server, handleProtocols: (protocols) => (protocols.has('mqtt') ? 'mqtt' : false) })
wss.on('connection', (socket, request) => {
  sayWhose('server', socket)
  say('protocol', socket.protocol)
  aedes.handle(createWebSocketStream(socket), request)
})

const finishRequest = (request, socket) => {
  sayWhose('client', socket)
  request.end()
}
const open = async () => {
  const client = mqtt.connect(`ws://127.0.0.1:${port}/mqtt`, { reconnectPeriod: 0, wsOptions: { finishRequest } })
  await next(client, 'connect')
  return client
}
const [publisher, subscriber] = [await open(), await open()]
await subscriber.subscribeAsync('news/#', { qos: 1 })
const messages = []
const all = new Promise((resolve) => {
  subscriber.on('message', (topic, payload) => {
    messages.push(`${topic} ${payload.length > 40 ? payload.length : payload}`)
    if (messages.length === 4) resolve()
  })
})
await publisher.publishAsync('news/one', 'hello')
await publisher.publishAsync('news/two', Buffer.alloc(300_000, 'x'), { qos: 1 })
await publisher.publishAsync('other', 'not subscribed')
await publisher.publishAsync('news/three', '', { qos: 2 })
await publisher.publishAsync('news/four', 'last')
await all
say(messages)
await publisher.endAsync()
await subscriber.endAsync()
await new Promise((resolve) => aedes.close(resolve))
await new Promise((resolve) => wss.close(resolve))
server.close()
