import express from 'express'
import expressWs from 'express-ws'
import WebSocket from 'ws'
import { next, say, sayWhose } from './report.mjs'

const app = express()
const { applyTo, getWss } = expressWs(app)
app.use((request, _response, proceed) => {
  request.note = 'through middleware'
  proceed()
})
app.ws('/echo/:name', (ws, request) => {
  sayWhose('server', ws)
  say('connection', request.params.name, request.note, getWss().clients.size)
  ws.on('message', (message) => ws.send(`echo ${message}`))
  ws.on('close', (code) => say('server closed', code))
})
const router = express.Router()
applyTo(router)
router.ws('/', (ws) => {
  ws.send('from the router')
  ws.close(1000)
})
app.use('/routed', router)

const server = app.listen(0, '127.0.0.1')
await next(server, 'listening')
const { port } = server.address()
const client = new WebSocket(`ws://127.0.0.1:${port}/echo/me`)
await next(client, 'open')
client.send('hello')
say(String((await next(client, 'message'))[0]))
const ended = next([...getWss().clients][0], 'close')
client.close(1001)
await ended

const routed = new WebSocket(`ws://127.0.0.1:${port}/routed`)
const closed = next(routed, 'close')
say(String((await next(routed, 'message'))[0]))
say('closed', (await closed)[0])
server.close()
