// fullduplex, echo and broadcast.
import { ready } from './control.mjs'
import { WebSocketServer } from './engine.mjs'

const MiB = 1024 * 1024

const server = new WebSocketServer({
  host: '127.0.0.1',
  // The limits are opened as far as the largest workload needs it; everything else is as it comes.
  maxMessageBytes: 128 * MiB,
  maxBufferedBytes: 256 * MiB,
  maxFragments: MiB,
  message(client, data) {
    if (client.path === '/broadcast') server.broadcast(data)
    else client.send(data)
  },
  error(error) {
    console.error(error)
  },
})
const { port } = await server.listen()
ready(port, `Node ${process.versions.node}`)
