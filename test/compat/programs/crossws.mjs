import crossws from 'crossws/adapters/node'
import WebSocket, { WebSocketServer } from 'ws'
import { listen, next, say, sayWhose } from './report.mjs'

// The package has its own copy inside; this is how it is given another.
const wss = new WebSocketServer({ noServer: true })
const adapter = crossws({
  wss,
  hooks: {
    upgrade(request) {
      const { pathname, search } = new URL(request.url)
      if (pathname === '/no') return new Response('not here', { status: 403 })
      return { headers: { 'X-Greeting': 'hello' }, perMessageDeflate: search === '?deflate' }
    },
    open(peer) {
      peer.subscribe('all')
      peer.send('welcome')
    },
    message(peer, message) {
      say('message', message.text())
      if (message.text() === 'bytes') peer.send(new Uint8Array([1, 2, 3]))
      else if (message.text() === 'terminate') peer.terminate()
      else peer.publish('all', `somebody said ${message.text()}`)
    },
    close: (_peer, { code, reason }) => say('closed', code, reason),
    error: (_peer, error) => say('error', String(error)),
  },
})
const { server, port } = await listen()
server.on('upgrade', (request, socket, head) => adapter.handleUpgrade(request, socket, head))
wss.on('connection', (socket) => sayWhose('server', socket))

async function open(path) {
  const client = new WebSocket(`ws://127.0.0.1:${port}${path}`)
  const welcome = next(client, 'message')
  const [response] = await next(client, 'upgrade')
  say('open', response.headers['x-greeting'], String((await welcome)[0]), client.extensions)
  return client
}
const [first, second] = [await open('/'), await open('/?deflate')]
const heard = next(second, 'message')
first.send('hi')
say(String((await heard)[0]))
const bytes = next(second, 'message')
second.send('bytes')
say([...(await bytes)[0]])
const refused = new WebSocket(`ws://127.0.0.1:${port}/no`)
say((await next(refused, 'error'))[0].message)
const closed = next(first, 'close')
first.close(4001, 'mine')
await closed
const cut = next(second, 'close')
second.send('terminate')
say('cut', (await cut)[0])
adapter.closeAll(1001, 'end')
await new Promise((resolve) => wss.close(resolve))
server.close()
