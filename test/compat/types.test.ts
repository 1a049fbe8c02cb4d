import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runCompiler } from '../support/package.ts'
import { buildApart } from './build.ts'

/*
 * What users write against @types/ws compiles with our declarations as well, as an ES module and as CommonJS; and what the
 * compiler must refuse it refuses.
 */

/** Everything but the imports; `WebSocket` is the class. */
const BODY = `
const options: WebSocket.ServerOptions = {
  port: 0,
  perMessageDeflate: { threshold: 1024, zlibDeflateOptions: { level: 9 }, serverNoContextTakeover: true },
  maxPayload: 1024,
  clientTracking: true,
  verifyClient: ({ origin, secure, req }, callback) => callback(secure && origin === req.url, 401, 'no', { 'X-A': 'b' }),
  handleProtocols: (protocols, request) => (protocols.has('a') && request.url === '/' ? 'a' : false),
  skipUTF8Validation: false,
  autoPong: true,
  allowSynchronousEvents: true,
  backlog: 5,
}
const synchronous: WebSocket.VerifyClientCallbackSync = ({ origin }) => origin === 'x'
const asynchronous: WebSocket.VerifyClientCallbackAsync = (_info, callback) => callback(true)
const wss = new WebSocketServer({ ...options, verifyClient: synchronous }, () => {})
new WebSocketServer({ noServer: true, verifyClient: asynchronous, path: '/x', host: 'localhost' })
new WebSocketServer({ server: createServer(), WebSocket })

wss.on('connection', function (socket, request) {
  const self: WebSocketServer = this
  const path: string | undefined = request.url
  const state: 0 | 1 | 2 | 3 = socket.readyState
  socket.on('message', (data, isBinary) => {
    const raw: WebSocket.RawData = data
    const flag: boolean = isBinary
    if (Buffer.isBuffer(data)) data.toString('utf8')
    else if (Array.isArray(data)) Buffer.concat(data)
    else if (data instanceof ArrayBuffer) data.byteLength.toFixed()
    socket.send(data.toString(), { binary: isBinary, compress: true, fin: true, mask: false }, (error) => error?.message)
    for (const client of wss.clients) if (client !== socket && client.readyState === WebSocket.OPEN) client.send(data as Buffer)
    void [raw, flag]
  })
  socket.on('close', (code, reason) => code.toFixed() + reason.toString())
  socket.on('error', (error) => error.message)
  socket.on('ping', (data) => data.length)
  socket.once('pong', (data) => data.length)
  socket.on('custom', (...args) => args.length)
  socket.ping()
  socket.ping('data', true, (error) => error)
  socket.pong(Buffer.from('x'))
  socket.pause()
  socket.resume()
  const paused: boolean = socket.isPaused
  socket.terminate()
  void [self, path, state, paused]
})
wss.once('listening', () => {})
wss.on('error', (error) => error.message)
wss.on('headers', (headers, request) => headers.push(request.url ?? ''))
wss.on('wsClientError', (error, socket, request) => socket.end(error.message + request.url))
wss.on('close', () => {})
wss.off('error', () => {})
const address = wss.address()
if (address !== null && typeof address === 'object') address.port.toFixed()
wss.close()
wss.close((error) => error?.message)
const size: number = wss.clients.size
createServer().on('upgrade', (request, socket, head) => {
  if (!wss.shouldHandle(request)) return
  wss.handleUpgrade(request, socket, head, (client, given) => wss.emit('connection', client, given))
})

const client = new WebSocket('ws://localhost', ['a'], {
  headers: { a: 'b' },
  origin: 'x',
  handshakeTimeout: 5,
  followRedirects: true,
  maxRedirects: 3,
  perMessageDeflate: false,
  protocolVersion: 13,
  rejectUnauthorized: false,
  ca: 'x',
  cert: Buffer.alloc(0),
  key: 'k',
  agent: new Agent(),
  generateMask: (mask) => mask.fill(0),
  finishRequest: (request, socket) => {
    request.setHeader('x', String(socket.readyState))
    request.end()
  },
  createConnection: connect,
})
new WebSocket(new URL('ws://localhost'), 'protocol')
new WebSocket('ws://localhost', { maxPayload: 5, auth: 'a:b' })
new WebSocket(null)
const clientOptions: WebSocket.ClientOptions = { origin: 'x', localAddress: '127.0.0.1', family: 4 }
client.on('open', function () {
  this.send('x')
})
client.on('upgrade', (response) => response.headers)
client.on('unexpected-response', (request, response) => request.destroy(new Error(String(response.statusCode))))
client.on('redirect', (url, request) => request.setHeader('x', url))
client.binaryType = 'arraybuffer'
const [url, protocol, extensions, buffered]: [string, string, string, number] = [
  client.url, client.protocol, client.extensions, client.bufferedAmount,
]
client.onopen = (event) => event.target.close()
client.onmessage = (event: WebSocket.MessageEvent) => {
  const data: WebSocket.Data = event.data
  if (typeof data === 'string') data.length.toFixed()
}
client.onclose = ({ code, reason, wasClean, target }: WebSocket.CloseEvent) => void [code + 1, reason.length, wasClean, target.url]
client.onerror = ({ error, message, type }: WebSocket.ErrorEvent) => void [error, message.length, type.length]
client.onmessage = null
client.addEventListener('message', ({ data, type, target }) => void [data, type.length, target.url], { once: true })
client.addEventListener('close', (event) => event.code.toFixed() + event.reason)
client.addEventListener('error', (event) => event.message)
client.addEventListener('open', { handleEvent: (event) => event.type })
const listener = (event: WebSocket.Event): void => void event.type
client.addEventListener('open', listener)
client.removeEventListener('open', listener)
for (const data of ['x', Buffer.alloc(1), new Uint8Array(1), new ArrayBuffer(1), new DataView(new ArrayBuffer(1)), 5, [1, 2]]) {
  client.send(data)
}
client.send(new Blob(['x']))
client.send('x', (error) => error?.message)
client.close()
client.close(1000, 'x')
client.close(1000, Buffer.from('x'))
const states: [0, 1, 2, 3] = [WebSocket.CONNECTING, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED]
const mine: 0 | 1 | 2 | 3 = client.OPEN

const stream = createWebSocketStream(client, { encoding: 'utf8', allowHalfOpen: false })
stream.pipe(process.stdout)
process.stdin.pipe(stream)

class Special extends WebSocket {
  isAlive = true
  greet(): void {
    this.send('hello')
  }
}
class Request extends IncomingMessage {
  user = 'somebody'
}
const special = new WebSocketServer<typeof Special, typeof Request>({ port: 0, WebSocket: Special })
special.on('connection', (socket, request) => {
  socket.greet()
  socket.isAlive = request.user.length > 0
})
for (const socket of special.clients) socket.greet()
class Mine extends WebSocketServer {
  override shouldHandle(request: IncomingMessage): boolean {
    return request.url === '/'
  }
}
const sockets = new Map<string, WebSocket>()
sockets.set('x', client)
function take(socket: WebSocket): number {
  return socket.readyState
}
take(client)
const map: WebSocket.WebSocketEventMap['close']['code'] = 5
const deflate: WebSocket.PerMessageDeflateOptions = { threshold: 5 }
const listening: WebSocket.EventListenerOptions = { once: true }
void [size, clientOptions, url, protocol, extensions, buffered, states, mine, new Mine({ port: 0 }), map, deflate, listening]
`

/** Each of these must be refused. */
const WRONG = [
  "client.binaryType = 'nothing'",
  'client.readyState = 1',
  'client.send()',
  "client.close('1000')",
  "new WebSocketServer({ port: 'x' })",
  'new WebSocket(5)',
  'WebSocket.OPEN = 5',
  'client.onclose = (event: WebSocket.MessageEvent) => event',
  "special.on('connection', (socket) => socket.missing())",
]

const COMMON = `
import { createServer, IncomingMessage, Agent } from 'node:http'
import { connect } from 'node:net'
`
const MODULE = `${COMMON}
import WebSocket, { createWebSocketStream, WebSocketServer, type RawData, type ServerOptions, type ClientOptions } from 'ws'
import { WebSocket as Named, type Data, type MessageEvent, type CloseEvent, type ErrorEvent } from 'ws'
export type { RawData, ServerOptions, ClientOptions, Data, MessageEvent, CloseEvent, ErrorEvent }
const named: Named = new Named('ws://localhost')
const alias: typeof WebSocket = Named
const server: WebSocketServer = new WebSocketServer({ port: 0 })
const raw: RawData = Buffer.alloc(0)
void [named, alias, server, raw]
${BODY}`
const COMMONJS = `${COMMON}
import WebSocket = require('ws')
const { createWebSocketStream, WebSocketServer } = WebSocket
type WebSocketServer = WebSocket.WebSocketServer
const server: WebSocket.Server = new WebSocket.Server({ port: 0 })
const named: WebSocket.WebSocket = new WebSocket.WebSocket('ws://localhost')
const generic: WebSocket.Server<typeof WebSocket> = server
void [server, named, generic]
${BODY}`

let folder: string
let remove: () => void

beforeAll(async () => {
  ;({ folder, remove } = await buildApart())
})

afterAll(() => remove?.())

/** Compiles a program; what the compiler says when it refuses it. */
async function compile(name: string, file: string, code: string, paths: object): Promise<string> {
  const project = join(folder, name)
  mkdirSync(project)
  writeFileSync(join(project, file), code)
  const compilerOptions = {
    target: 'es2023',
    lib: ['es2023'],
    module: 'nodenext',
    types: ['node'],
    strict: true,
    noEmit: true,
    esModuleInterop: true,
    noImplicitOverride: true,
    paths,
  }
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }))
  try {
    return await runCompiler(['-p', '.', '--pretty', 'false'], { cwd: project })
  } catch (error) {
    return (error as Error).message
  }
}

describe.each([
  ['ws', {}],
  ['fullduplex/ws', { ws: ['../dist/compat/ws.d.ts'] }],
])('with the declarations of %s', (name, paths) => {
  const key = name.replace('/', '-')

  it('an ES module compiles', async () => {
    expect(await compile(`${key}-module`, 'program.mts', MODULE, paths)).toBe('')
  })

  it('a CommonJS module compiles', async () => {
    expect(await compile(`${key}-commonjs`, 'program.cts', COMMONJS, paths)).toBe('')
  })

  it('mistakes do not', async () => {
    const code = `${MODULE}\n${WRONG.join('\n')}\n`
    const first = MODULE.split('\n').length + 1
    const output = await compile(`${key}-wrong`, 'program.mts', code, paths)
    const lines = [...output.matchAll(/program\.mts\((\d+),/g)].map(([, line]) => Number(line) - first)
    expect([...new Set(lines)].sort((a, b) => a - b)).toEqual(WRONG.map((_, index) => index))
  })
})
