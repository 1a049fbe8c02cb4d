// ws, in the manner of its own examples. WS_NO_BUFFER_UTIL=1 keeps bufferutil out.
import { createRequire } from 'node:module'
import { WebSocketServer } from 'ws'
import { ready } from './control.mjs'

const require = createRequire(import.meta.url)
const MiB = 1024 * 1024

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  backlog: 4096,
  perMessageDeflate: false,
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
  const bufferutil = process.env.WS_NO_BUFFER_UTIL ? '' : ` + bufferutil ${activeBufferutil()}`
  ready(server.address().port, `ws ${require('ws/package.json').version}${bufferutil}, Node ${process.versions.node}`)
})

/** bufferutil falls back to JavaScript when there is no binary for this machine; that would not be worth a row. */
function activeBufferutil() {
  if (!Function.prototype.toString.call(require('bufferutil').unmask).includes('[native code]')) {
    console.error('bufferutil has no native part here')
    process.exit(1)
  }
  return require('bufferutil/package.json').version
}
