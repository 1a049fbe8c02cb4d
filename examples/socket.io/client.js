import { io } from 'socket.io-client'

// With a text it says that in the room and leaves; without one it stays and listens.
const [room = 'lobby', text, address = 'http://127.0.0.1:3000'] = process.argv.slice(2)
const socket = io(address, { transports: ['websocket'] })

socket.on('connect_error', (error) => console.error(error.message))
socket.on('said', (words, confirm) => {
  console.log(`Heard: ${words}`)
  confirm('heard')
})

socket.on('connect', async () => {
  const { people } = await socket.emitWithAck('join', room)
  console.log(`Joined ${room}, people: ${people}`)
  if (!text) return
  const { confirmed } = await socket.emitWithAck('say', room, text)
  console.log(`Confirmed by: ${confirmed}`)
  socket.disconnect()
})
