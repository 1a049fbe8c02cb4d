// fullduplex as it is published: the compiled files, no loader.
// FULLDUPLEX_DIST is another build than ../../dist/, for comparing two of them.
import { pathToFileURL } from 'node:url'
import { ready } from './control.mjs'

const { FULLDUPLEX_DIST } = process.env
const dist = FULLDUPLEX_DIST ? pathToFileURL(`${FULLDUPLEX_DIST}/`) : new URL('../../dist/', import.meta.url)
const { WebSocketServer } = await import(new URL('index.js', dist).href)

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
