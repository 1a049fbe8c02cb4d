import { createServer } from 'node:http'
import { WebSocketServer } from 'fullduplex/ws'
import { Server } from 'socket.io'

const host = '127.0.0.1'
const { PORT = 3000 } = process.env
const ACKNOWLEDGE_WITHIN_MS = 5_000

const httpServer = createServer()
const io = new Server(httpServer, {
  // The class of the engine; Socket.IO makes the server.
  wsEngine: WebSocketServer,
  // Without long polling there is nothing to upgrade from, and every byte goes over this engine.
  transports: ['websocket'],
})

io.on('connection', (socket) => {
  socket.on('join', (room, done) => {
    if (typeof room !== 'string' || typeof done !== 'function') return
    socket.join(room)
    done({ room, people: io.of('/').adapter.rooms.get(room).size })
  })

  // To everybody else in the room; the sender is told how many have confirmed it.
  socket.on('say', async (room, text, done) => {
    if (typeof room !== 'string' || typeof text !== 'string' || typeof done !== 'function') return
    try {
      const answers = await socket.to(room).timeout(ACKNOWLEDGE_WITHIN_MS).emitWithAck('said', text)
      done({ confirmed: answers.length })
    } catch (error) {
      done({ confirmed: error.responses.length })
    }
  })
})

httpServer.listen(PORT, host, () => {
  console.log(`Listening on http://${host}:${httpServer.address().port}`)
})
