import { Server } from 'socket.io'
import { io } from 'socket.io-client'
import WebSocket, { WebSocketServer } from 'ws'
import { listen, next, say, sayWhose, sayWhoseClass } from './report.mjs'

sayWhoseClass('import', WebSocket)

/** Rooms, acknowledgements and bytes over WebSockets alone. */
async function run(title, options) {
  say(`== ${title}`)
  const { server, port } = await listen()
  const main = new Server(server, { transports: ['websocket'], perMessageDeflate: true, ...options })
  main.on('connection', (socket) => {
    socket.on('join', (room, done) => {
      socket.join(room)
      done(`joined ${room}`)
    })
    socket.on('echo', (value, done) => done(value))
    socket.on('bytes', (bytes, done) => done(Buffer.from(bytes).reverse()))
    socket.on('shout', (text) => main.to('room').emit('shouted', text, Buffer.from(text)))
  })
  const open = async () => {
    const connected = next(main, 'connection')
    const client = io(`http://127.0.0.1:${port}`, { transports: ['websocket'], forceNew: true, reconnection: false })
    await next(client, 'connect')
    await connected
    return client
  }
  const clients = []
  for (let count = 0; count < 3; count++) clients.push(await open())
  const [first] = main.of('/').sockets.values()
  sayWhose('server', first.conn.transport.socket)
  sayWhose('client', clients[0].io.engine.transport.ws)
  say('transport', clients[0].io.engine.transport.name, 'extensions', first.conn.transport.socket.extensions)
  for (const client of clients.slice(0, 2)) say(await client.emitWithAck('join', 'room'))
  const echo = await clients[2].emitWithAck('echo', { text: 'x'.repeat(3000), number: 1 })
  say('echo', echo.text.length, echo.number)
  say((await clients[2].emitWithAck('bytes', Buffer.from('abc'))).toString())
  const heard = clients.slice(0, 2).map((client) => next(client, 'shouted'))
  clients[2].on('shouted', () => say('nobody shall hear this'))
  clients[2].emit('shout', 'to the room')
  for (const [text, bytes] of await Promise.all(heard)) say('heard', text, bytes.toString())
  const everybody = clients.map((client) => next(client, 'all'))
  main.emit('all', 'y'.repeat(2000))
  for (const [text] of await Promise.all(everybody)) say('all heard', text.length)
  const volatile = next(clients[0], 'text')
  main.emit('text', 'only text')
  say('text', (await volatile)[0])
  const gone = next(first, 'disconnect')
  clients[0].disconnect()
  say('server:', (await gone)[0])
  const ended = clients.slice(1).map((client) => next(client, 'disconnect'))
  await main.close()
  for (const [reason] of await Promise.all(ended)) say('client:', reason)
}

await run('as it is', {})
await run('with wsEngine', { wsEngine: WebSocketServer })
