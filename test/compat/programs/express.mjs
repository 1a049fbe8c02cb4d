import { createServer } from 'node:http'
import express from 'express'
import WebSocket, { WebSocketServer } from 'ws'
import { listen, next, say, sayWhose } from './report.mjs'

const app = express()
app.get('/hello', (_request, response) => response.send('hello over http'))
const { server, port } = await listen(createServer(app))
const wss = new WebSocketServer({
  server,
  path: '/chat',
  perMessageDeflate: { threshold: 100 },
  verifyClient({ req, origin }, callback) {
    if (req.headers['x-token'] === 'right') callback(true)
    else callback(false, 403, `not you, ${origin}`, { 'X-Reason': 'token' })
  },
})
wss.on('connection', (ws, request) => {
  sayWhose('server', ws)
  say('connection', request.url, wss.clients.size)
  ws.isAlive = true
  ws.on('pong', () => {
    ws.isAlive = true
  })
  ws.on('message', (data, isBinary) => {
    for (const client of wss.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary })
    }
  })
})

say(await (await fetch(`http://127.0.0.1:${port}/hello`)).text())
const options = { headers: { 'X-Token': 'right' } }
const clients = []
for (let count = 0; count < 2; count++) {
  const client = new WebSocket(`ws://127.0.0.1:${port}/chat?room=${count}`, options)
  await next(client, 'open')
  clients.push(client)
}
sayWhose('client', clients[0])
const heard = clients.map((client) => next(client, 'message'))
clients[0].send('z'.repeat(500))
for (const [data, isBinary] of await Promise.all(heard)) say('heard', data.length, isBinary)

const refused = new WebSocket(`ws://127.0.0.1:${port}/chat`, { origin: 'http://example.com' })
refused.on('error', () => {})
const [request, response] = await next(refused, 'unexpected-response')
say('refused', response.statusCode, response.headers['x-reason'], response.headers.connection)
let body = ''
for await (const chunk of response.setEncoding('utf8')) body += chunk
say(body)
request.destroy()

const lost = new WebSocket(`ws://127.0.0.1:${port}/elsewhere`, options)
say('lost', (await next(lost, 'error'))[0].message)
for (const client of wss.clients) {
  client.isAlive = false
  client.ping()
}
await next([...wss.clients].at(-1), 'pong')
say('alive', [...wss.clients].map(({ isAlive }) => isAlive).at(-1))
const closed = clients.map((client) => next(client, 'close'))
for (const client of wss.clients) client.close(1012, 'restart')
for (const [code, reason] of await Promise.all(closed)) say('closed', code, String(reason))
await new Promise((resolve) => wss.close(resolve))
server.close()
say('end')
