import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import WebSocket from 'ws'
import { next, say, sayWhose } from './report.mjs'

const fastify = Fastify()
await fastify.register(websocket, { options: { maxPayload: 1000 } })
fastify.addHook('preValidation', async (request, reply) => {
  if (request.url === '/secret') await reply.code(401).send('no')
})
fastify.get('/echo', { websocket: true }, (socket, request) => {
  sayWhose('server', socket)
  say('connection', request.url)
  socket.on('message', (message, isBinary) => socket.send(message, { binary: isBinary }))
  socket.on('error', (error) => say('server error', error.code))
  socket.on('close', (code) => say('server closed', code))
})
fastify.get('/secret', { websocket: true }, () => say('nobody shall come here'))
fastify.get('/plain', async () => 'plain')

await fastify.ready()
// Without a socket.
const injected = await fastify.injectWS('/echo', {}, { onInit: (ws) => say('init', ws.readyState) })
sayWhose('injected', injected)
const echo = next(injected, 'message')
injected.send('injected')
say(String((await echo)[0]))
injected.terminate()
await fastify.injectWS('/secret').catch((error) => say(error.message))

const address = await fastify.listen({ port: 0, host: '127.0.0.1' })
const url = address.replace('http', 'ws')
say(await (await fetch(`${address}/plain`)).text())
const client = new WebSocket(`${url}/echo`)
await next(client, 'open')
client.send(Buffer.from('bytes'))
const [data, isBinary] = await next(client, 'message')
say(String(data), isBinary)
client.send('x'.repeat(1001))
say('client closed', (await next(client, 'close'))[0])

const refused = new WebSocket(`${url}/secret`)
say((await next(refused, 'error'))[0].message)
const kept = new WebSocket(`${url}/echo`)
await next(kept, 'open')
const ended = next(kept, 'close')
await fastify.close()
say('kept closed', (await ended)[0])
