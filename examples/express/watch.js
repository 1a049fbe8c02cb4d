import WebSocket from 'fullduplex/ws'

const address = process.argv[2] ?? 'ws://127.0.0.1:3000/live'
const socket = new WebSocket(address)

socket.on('open', () => console.log(`Watching ${address}`))
socket.on('message', (data) => {
  const { id, text } = JSON.parse(data)
  console.log(`${id}: ${text}`)
})
socket.on('error', (error) => console.error(error.message))
socket.on('close', (code) => console.log(`Closed (${code}).`))
