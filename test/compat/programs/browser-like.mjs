import isomorphic from 'isomorphic-ws'
import reconnecting from 'reconnecting-websocket'
import { WebSocket as Undici } from 'undici'
import WebSocket, { WebSocketServer } from 'ws'
import { next, say, sayWhose, sayWhoseClass } from './report.mjs'

/* Clients with the interface of a browser: the server is that of `ws`; two of the clients are too. */

sayWhoseClass('isomorphic-ws', isomorphic)
const ReconnectingWebSocket = reconnecting.default ?? reconnecting

const wss = new WebSocketServer({
  port: 0,
  host: '127.0.0.1',
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (protocols) => [...protocols].at(-1),
})
await next(wss, 'listening')
const url = `ws://127.0.0.1:${wss.address().port}/`
wss.on('connection', (socket) => {
  sayWhose('server', socket)
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  socket.on('close', (code, reason) => say('server closed', code, String(reason)))
})
const event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }))

async function run(name, client) {
  say(`== ${name}`)
  client.binaryType = 'arraybuffer'
  await event(client, 'open')
  say('open', client.readyState, client.protocol, client.extensions !== '', client.url === url)
  for (const data of ['text', '\u00f6'.repeat(1000), new Uint8Array([1, 2, 3]), new Uint8Array(70_000).fill(7)]) {
    const echo = event(client, 'message')
    client.send(data)
    const { data: echoed } = await echo
    if (typeof echoed === 'string') say('text', echoed.length, echoed.slice(0, 5))
    else say('binary', echoed.byteLength, [...new Uint8Array(echoed).subarray(0, 3)])
  }
  const [socket] = wss.clients
  const [serverClosed, closed] = [next(socket, 'close'), event(client, 'close')]
  client.close(3000, 'bye')
  const { code, reason, wasClean } = await closed
  await serverClosed
  say('closed', code, reason, wasClean, client.readyState)
}

await run('undici', new Undici(url, ['a', 'b']))
await run('the global one', new (globalThis.WebSocket ?? Undici)(url, ['a', 'b']))
await run('isomorphic-ws', new isomorphic(url, ['a', 'b']))
await run('ws', new WebSocket(url, ['a', 'b']))

say('== reconnecting-websocket')
const client = new ReconnectingWebSocket(url, ['a', 'b'], {
  WebSocket,
  minReconnectionDelay: 10,
  maxReconnectionDelay: 20,
  minUptime: 5,
})
client.send('queued before open')
client.binaryType = 'arraybuffer'
await event(client, 'open')
say((await event(client, 'message')).data)
sayWhose('reconnecting-websocket', client._ws)
const again = event(client, 'open')
const ended = event(client, 'close')
for (const socket of wss.clients) socket.terminate()
say('cut', (await ended).code)
await again
const echo = event(client, 'message')
client.send('again')
say((await echo).data)
const closed = event(client, 'close')
const [socket] = wss.clients
const serverClosed = next(socket, 'close')
client.close(1000, 'end')
say('end', (await closed).code)
await serverClosed
await new Promise((resolve) => wss.close(resolve))
