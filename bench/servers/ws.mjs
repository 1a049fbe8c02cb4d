// ws, in the manner of its own examples. WS_NO_BUFFER_UTIL=1 keeps bufferutil out. WS_DROP_IN=1 runs the same program with
// fullduplex/ws.
import { createRequire } from 'node:module'
import { ready } from './control.mjs'

const require = createRequire(import.meta.url)
const MiB = 1024 * 1024
const { COMPRESSION = '', WS_DROP_IN, WS_NO_BUFFER_UTIL } = process.env

const { WebSocketServer } = WS_DROP_IN ? await (await import('./engine.mjs')).importDropIn() : await import('ws')

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  backlog: 4096,
  perMessageDeflate: COMPRESSION !== '',
  maxPayload: 128 * MiB,
  maxFragments: MiB,
  maxBufferedChunks: MiB,
})
server.on('connection', (client, request) => {
  client.on('error', () => {})
  if (request.url === '/broadcast') {
    client.on('message', (data, isBinary) => {
      for (const member of server.clients) member.send(data, { binary: isBinary })
    })
  } else {
    client.on('message', (data, isBinary) => client.send(data, { binary: isBinary }))
  }
})
server.on('listening', () => {
  ready(server.address().port, `${WS_DROP_IN ? '' : `${versions()}, `}Node ${process.versions.node}`)
})

function versions() {
  const bufferutil = WS_NO_BUFFER_UTIL ? '' : ` + bufferutil ${activeBufferutil()}`
  return `ws ${require('ws/package.json').version}${bufferutil}`
}

/** bufferutil falls back to JavaScript when there is no binary for this machine; that would not be worth a row. */
function activeBufferutil() {
  if (!Function.prototype.toString.call(require('bufferutil').unmask).includes('[native code]')) {
    console.error('bufferutil has no native part here')
    process.exit(1)
  }
  return require('bufferutil/package.json').version
}
