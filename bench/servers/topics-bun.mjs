// Bun's own server, whose topics are those of uWebSockets: it does what topics-fullduplex.mjs does.
import { ready } from './control.mjs'

const server = globalThis.Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request, server) {
    if (!server.upgrade(request)) return new Response('', { status: 400 })
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    sendPings: false,
    message(client, text) {
      if (text.startsWith('+') || text.startsWith('-')) {
        for (const topic of JSON.parse(text.slice(1))) {
          if (text.startsWith('+')) client.subscribe(topic)
          else client.unsubscribe(topic)
        }
        client.send(text[0])
        return
      }
      server.publish(text.slice(0, 8), text)
    },
  },
})
ready(server.port, `Bun ${process.versions.bun}`)
