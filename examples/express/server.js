import { createServer } from 'node:http'
import express from 'express'
import WebSocket, { WebSocketServer } from 'fullduplex/ws'

const host = '127.0.0.1'
const { PORT = 3000 } = process.env

const notes = []
const app = express()
app.use(express.json())

app.get('/notes', (_request, response) => {
  response.json(notes)
})

app.post('/notes', (request, response) => {
  const text = request.body?.text
  if (typeof text !== 'string' || text.trim() === '') {
    response.status(400).json({ error: 'Send {"text": "..."} as application/json.' })
    return
  }
  const note = { id: notes.length + 1, text }
  notes.push(note)
  for (const client of live.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(JSON.stringify(note))
  }
  response.status(201).json(note)
})

// Express answers requests, and a WebSocket is not one: both share the http server, and with it the port.
const server = createServer(app)
const live = new WebSocketServer({ server, path: '/live' })

live.on('connection', (socket) => {
  socket.on('error', (error) => console.error(error.message))
  // What was there before.
  for (const note of notes) socket.send(JSON.stringify(note))
})

server.listen(PORT, host, () => {
  console.log(`Listening on http://${host}:${server.address().port}/notes, and on /live for WebSockets.`)
})
