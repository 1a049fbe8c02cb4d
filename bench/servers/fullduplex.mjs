// fullduplex, echo and broadcast.
import { ready } from './control.mjs'
import { WebSocketServer } from './engine.mjs'

const MiB = 1024 * 1024

/** As it comes, but for the threshold: ws compresses short messages, too. */
const COMPRESSION = {
  default: { threshold: 0 },
  takeover: { threshold: 0, serverNoContextTakeover: false, clientNoContextTakeover: false },
}
const { COMPRESSION: wanted = '' } = process.env

const server = new WebSocketServer({
  host: '127.0.0.1',
  // The limits are opened as far as the largest workload needs it; everything else is as it comes.
  maxMessageBytes: 128 * MiB,
  maxBufferedBytes: 256 * MiB,
  maxFragments: MiB,
  // A build from before there was any does not know the option.
  ...(wanted !== '' && { compression: COMPRESSION[wanted] }),
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
