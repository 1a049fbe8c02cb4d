// Bun's own server (uWebSockets inside), for orientation: it is not Node.
import { ready } from './control.mjs'

const MiB = 1024 * 1024

const server = globalThis.Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request, server) {
    const broadcast = new URL(request.url).pathname === '/broadcast'
    if (!server.upgrade(request, { data: { broadcast } })) return new Response('', { status: 400 })
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 128 * MiB,
    backpressureLimit: 256 * MiB,
    idleTimeout: 0,
    sendPings: false,
    open(client) {
      if (client.data.broadcast) client.subscribe('all')
    },
    message(client, message) {
      if (client.data.broadcast) server.publish('all', message)
      else client.send(message)
    },
  },
})
ready(server.port, `Bun ${process.versions.bun}`)
