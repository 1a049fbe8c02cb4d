import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import WebSocket from 'fullduplex/ws7'

const host = '127.0.0.1'
const { PORT = 8081, PAGE_PORT = 8080 } = process.env

// The relay: what one says goes to everybody, the speaker included.
const relay = new WebSocket.Server({ host, port: PORT })

relay.on('connection', (socket) => {
  socket.on('message', (message) => {
    for (const client of relay.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(message)
    }
  })
  // A client that breaks the protocol. It is closed by itself, but without a listener the error would end this program.
  socket.on('error', (error) => console.error(error.message))
  socket.send('Welcome! Everybody who is here will read what you send.')
})

// The page.
const page = readFileSync(new URL('index.html', import.meta.url))
const pages = createServer((request, response) => {
  const isHome = new URL(request.url, 'http://localhost').pathname === '/'
  response.writeHead(isHome ? 200 : 404, { 'Content-Type': isHome ? 'text/html; charset=utf-8' : 'text/plain' })
  response.end(isHome ? page : 'Not found')
})

relay.on('listening', () => {
  pages.listen(PAGE_PORT, host, () => {
    console.log(`Open http://${host}:${pages.address().port}/?port=${relay.address().port} in two windows.`)
  })
})
