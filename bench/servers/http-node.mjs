// The usual way to have the same: node:http, and ws behind its 'upgrade' event.
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { ready } from './control.mjs'

const websockets = new WebSocketServer({ noServer: true, perMessageDeflate: false })
const server = createServer((_, response) => {
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': 5 })
  response.end('hello')
})
server.on('upgrade', (request, socket, head) => {
  socket.on('error', () => {})
  if (new URL(request.url, 'http://localhost').searchParams.get('token') !== process.env.TOKEN) {
    socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
    return
  }
  websockets.handleUpgrade(request, socket, head, (client) => {
    client.on('error', () => {})
    client.on('message', (data, isBinary) => client.send(data, { binary: isBinary }))
  })
})
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  ready(server.address().port, `node:http and ws, Node ${process.versions.node}`)
})
