import { EventEmitter } from 'node:events'
import type { Server as HttpServer, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { DeflateProfile } from '../../deflate.ts'
import { acceptFor } from '../../handshake.ts'
import { isFieldValue, parseSubprotocols } from '../../headers.ts'
import { acceptOffers, checkDeflateOptions, type PerMessageDeflateOptions } from './extension.ts'
import { http } from './node-http.ts'
import { CONNECTION_DEFAULTS, type CommonOptions } from './options.ts'
import { WebSocket } from './websocket.ts'

/** What `verifyClient` is told. */
interface VerifyInfo<Request> {
  origin: string
  secure: boolean
  req: Request
}

export type VerifyClientCallbackSync<Request extends IncomingMessage = IncomingMessage> = (
  info: VerifyInfo<Request>,
) => boolean

export type VerifyClientCallbackAsync<Request extends IncomingMessage = IncomingMessage> = (
  info: VerifyInfo<Request>,
  callback: (result: boolean, code?: number, message?: string, headers?: OutgoingHttpHeaders) => void,
) => void

/** Options of `new WebSocketServer`; exactly one of `port`, `server` and `noServer` must be given. */
export interface ServerOptions<
  U extends typeof WebSocket = typeof WebSocket,
  V extends typeof IncomingMessage = typeof IncomingMessage,
> extends CommonOptions {
  /** Address to listen on; default all of the machine. */
  host?: string | undefined
  port?: number | undefined
  backlog?: number | undefined
  /** An http server of yours. */
  server?: HttpServer<V> | HttpsServer<V> | undefined
  /** You call `handleUpgrade` yourself. */
  noServer?: boolean | undefined
  /** The only path that is served; others get 400. */
  path?: string | undefined
  /** Says who may connect; with two parameters it calls back. */
  verifyClient?: VerifyClientCallbackAsync<InstanceType<V>> | VerifyClientCallbackSync<InstanceType<V>> | undefined
  /** Chooses the subprotocol; default the first that is offered. */
  handleProtocols?: ((protocols: Set<string>, request: InstanceType<V>) => string | false) | undefined
  /** Keeps `clients`. Default true. */
  clientTracking?: boolean | undefined
  /** Default false. */
  perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /** The class of connections. */
  WebSocket?: U | undefined
}

/** Listeners of the emitter. */
interface ServerListeners<Server, Connection, Request> {
  connection(this: Server, websocket: Connection, request: Request): void
  error(this: Server, error: Error): void
  headers(this: Server, headers: string[], request: Request): void
  listening(this: Server): void
  close(this: Server): void
  wsClientError(this: Server, error: Error, socket: Duplex, request: Request): void
}

// biome-ignore lint/suspicious/noExplicitAny: of events that are not ours nothing is known
type AnyListener<Server> = (this: Server, ...args: any[]) => void

const RUNNING = 0
const CLOSING = 1
const CLOSED = 2

const DEFAULTS = {
  ...CONNECTION_DEFAULTS,
  perMessageDeflate: false,
  handleProtocols: null,
  clientTracking: true,
  verifyClient: null,
  noServer: false,
  backlog: null,
  server: null,
  host: null,
  path: null,
  port: null,
}

/** A handshake that is refused: status, text, and whether `wsClientError` is told of it. */
class Refusal extends Error {
  readonly status: number
  readonly headers: OutgoingHttpHeaders

  constructor(status: number, message: string, headers: OutgoingHttpHeaders = {}) {
    super(message)
    this.status = status
    this.headers = headers
  }
}

/** Sockets that have become a WebSocket. */
const upgraded = new WeakSet<Duplex>()

type Listeners<U extends typeof WebSocket, V extends typeof IncomingMessage> = ServerListeners<
  WebSocketServer<U, V>,
  InstanceType<U>,
  InstanceType<V>
>

/** The emitter's members, which know its events. */
export interface WebSocketServer<
  U extends typeof WebSocket = typeof WebSocket,
  V extends typeof IncomingMessage = typeof IncomingMessage,
> {
  on<Name extends keyof Listeners<U, V>>(event: Name, listener: Listeners<U, V>[Name]): this
  on(event: string | symbol, listener: AnyListener<WebSocketServer<U, V>>): this
  once<Name extends keyof Listeners<U, V>>(event: Name, listener: Listeners<U, V>[Name]): this
  once(event: string | symbol, listener: AnyListener<WebSocketServer<U, V>>): this
  off<Name extends keyof Listeners<U, V>>(event: Name, listener: Listeners<U, V>[Name]): this
  off(event: string | symbol, listener: AnyListener<WebSocketServer<U, V>>): this
  addListener<Name extends keyof Listeners<U, V>>(event: Name, listener: Listeners<U, V>[Name]): this
  addListener(event: string | symbol, listener: AnyListener<WebSocketServer<U, V>>): this
  removeListener<Name extends keyof Listeners<U, V>>(event: Name, listener: Listeners<U, V>[Name]): this
  removeListener(event: string | symbol, listener: AnyListener<WebSocketServer<U, V>>): this
}

/** A server with the API of ws's, on this library's engine. */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: types alone
export class WebSocketServer<
  U extends typeof WebSocket = typeof WebSocket,
  V extends typeof IncomingMessage = typeof IncomingMessage,
> extends EventEmitter {
  /** The class of connections, where the options name none. */
  protected static get Connection(): typeof WebSocket {
    return WebSocket
  }

  /** What was given, over the defaults; read anew for each handshake. */
  options: ServerOptions<U, V>
  /** The connections; undefined with `clientTracking: false`. */
  declare clients: Set<InstanceType<U>>
  /** The path that was given as an option. */
  declare path: string

  /** @internal */
  declare _server: HttpServer | HttpsServer | null
  /** @internal */
  _state: number = RUNNING
  #detach: (() => void) | undefined
  #emitClose = false

  /**
   * @param callback listener for `listening` of the port.
   * @throws TypeError unless exactly one of `port`, `server` and `noServer` is given.
   */
  constructor(options?: ServerOptions<U, V> | HttpServer<V> | HttpsServer<V>, callback?: () => void) {
    super()
    const said = isHttpServer(options) ? { server: options } : options
    const { Connection } = new.target
    const given = { ...DEFAULTS, WebSocket: Connection, ...said } as unknown as ServerOptions<U, V>
    if (given.perMessageDeflate === true) given.perMessageDeflate = {}
    checkKind(said, given)
    checkDeflateOptions(given.perMessageDeflate)
    this.options = given
    const { server, port, host, backlog, clientTracking } = given
    if (port !== undefined && port !== null) {
      this._server = http.createServer(refusePlainRequest)
      this._server.listen(port as number, host as string, backlog as number, callback)
    } else if (server) this._server = server as HttpServer
    if (this._server) this.#listenTo(this._server)
    if (clientTracking) this.clients = new Set()
  }

  #listenTo(server: HttpServer | HttpsServer): void {
    const emit = this.emit.bind(this) as (event: string, ...args: unknown[]) => boolean
    const onListening = (): boolean => emit('listening')
    const onError = (error: Error): boolean => emit('error', error)
    const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
      this.handleUpgrade(request as InstanceType<V>, socket, head, (websocket, req) => {
        emit('connection', websocket, req)
      })
    }
    server.on('listening', onListening)
    server.on('error', onError)
    server.on('upgrade', onUpgrade)
    this.#detach = () => {
      server.removeListener('listening', onListening)
      server.removeListener('error', onError)
      server.removeListener('upgrade', onUpgrade)
    }
  }

  /** As of the http server; null when closed. @throws Error in `noServer` mode. */
  address(): AddressInfo | string | null {
    if (this.options.noServer) throw new Error('The server is operating in "noServer" mode')
    return this._server ? this._server.address() : null
  }

  /** Takes no more connections. Those that are open stay: close or terminate them yourself. */
  close(callback?: (error?: Error) => void): void {
    if (this._state === CLOSED) {
      if (callback !== undefined) this.once('close', () => callback(new Error('The server is not running')))
      process.nextTick(() => this.#tellClosed())
      return
    }
    if (callback !== undefined) this.once('close', () => callback())
    if (this._state === CLOSING) return
    this._state = CLOSING
    this.#detach?.()
    this.#detach = undefined
    const server = this._server
    this._server = null
    if (this.options.noServer || this.options.server) {
      if (this.clients !== undefined && this.clients.size > 0) this.#emitClose = true
      else process.nextTick(() => this.#tellClosed())
    } else server?.close(() => this.#tellClosed())
  }

  #tellClosed(): void {
    this._state = CLOSED
    this.emit('close')
  }

  /** Whether a request is one for this server; by default its path decides. */
  shouldHandle(request: InstanceType<V>): boolean | Promise<boolean> {
    const { path } = this.options
    if (!path) return true
    const url = request.url ?? ''
    const query = url.indexOf('?')
    return (query === -1 ? url : url.slice(0, query)) === path
  }

  /**
   * Answers an upgrade request.
   *
   * @param callback called with the open connection; at once when nothing on the way is asynchronous.
   * @throws Error when the same socket was upgraded before.
   */
  handleUpgrade(
    request: InstanceType<V>,
    socket: Duplex,
    head: Buffer,
    callback: (websocket: InstanceType<U>, request: InstanceType<V>) => void,
  ): void {
    socket.on('error', destroy)
    let upgrade: Upgrade
    try {
      upgrade = this.#checkRequest(request)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.#refuse(error, socket, request)
      return
    }
    const complete = (): void => this.completeUpgrade(upgrade, request, socket, head, callback)
    if (this.options.verifyClient) this.#verify(request, socket, upgrade.version, complete)
    else complete()
  }

  #checkRequest(request: InstanceType<V>): Upgrade {
    const { headers, method } = request
    const key = headers['sec-websocket-key']
    const version = Number(headers['sec-websocket-version'])
    if (method !== 'GET') throw new Refusal(405, 'Invalid HTTP method')
    if (headers.upgrade === undefined || headers.upgrade.toLowerCase() !== 'websocket') {
      throw new Refusal(400, 'Invalid Upgrade header')
    }
    if (key === undefined || !/^[+/0-9A-Za-z]{22}==$/.test(key)) {
      throw new Refusal(400, 'Missing or invalid Sec-WebSocket-Key header')
    }
    if (version !== 13 && version !== 8) {
      throw new Refusal(400, 'Missing or invalid Sec-WebSocket-Version header', { 'Sec-WebSocket-Version': '13, 8' })
    }
    // No fault of the request's that anybody would have to be told of.
    if (!this.shouldHandle(request)) throw new Refusal(400, '')
    const offered = headers['sec-websocket-protocol']
    const protocols = offered === undefined ? [] : parseSubprotocols(offered)
    if (protocols === undefined) throw new Refusal(400, 'Invalid Sec-WebSocket-Protocol header')
    return {
      key,
      version,
      protocols: new Set(protocols),
      deflate: this.#negotiate(headers['sec-websocket-extensions']),
    }
  }

  #negotiate(offered: string | undefined): Upgrade['deflate'] {
    const { perMessageDeflate } = this.options
    if (!perMessageDeflate || offered === undefined) return undefined
    try {
      return acceptOffers(offered, perMessageDeflate === true ? {} : perMessageDeflate)
    } catch {
      throw new Refusal(400, 'Invalid or unacceptable Sec-WebSocket-Extensions header')
    }
  }

  #refuse(refusal: Refusal, socket: Duplex, request: InstanceType<V>): void {
    const isFault = refusal.message !== ''
    if (isFault && this.listenerCount('wsClientError') > 0) {
      this.emit('wsClientError', new Error(refusal.message), socket, request)
    } else abortHandshake(socket, refusal.status, refusal.message, refusal.headers)
  }

  #verify(request: InstanceType<V>, socket: Duplex, version: number, complete: () => void): void {
    const { headers } = request
    const from = request.socket as { authorized?: boolean; encrypted?: boolean }
    const info: VerifyInfo<InstanceType<V>> = {
      origin: headers[version === 8 ? 'sec-websocket-origin' : 'origin'] as string,
      secure: Boolean(from.authorized || from.encrypted),
      req: request,
    }
    const options = this.options as { verifyClient: VerifyClientCallbackAsync<InstanceType<V>> }
    if (options.verifyClient.length === 2) {
      options.verifyClient(info, (verified, code, message, headers) => {
        if (verified) complete()
        else abortHandshake(socket, code || 401, message, headers)
      })
    } else if ((options.verifyClient as unknown as (info: unknown) => unknown)(info)) complete()
    else abortHandshake(socket, 401)
  }

  /** @internal Writes the 101 and opens the connection. */
  completeUpgrade(
    { key, protocols, deflate }: Upgrade,
    request: InstanceType<V>,
    socket: Duplex,
    head: Buffer,
    callback: (websocket: InstanceType<U>, request: InstanceType<V>) => void,
  ): void {
    // The peer has gone meanwhile.
    if (!socket.readable || !socket.writable) {
      socket.destroy()
      return
    }
    if (upgraded.has(socket)) {
      throw new Error(
        'server.handleUpgrade() was called more than once with the same socket, possibly due to a misconfiguration',
      )
    }
    if (this._state > RUNNING) {
      abortHandshake(socket, 503)
      return
    }
    upgraded.add(socket)
    const lines = [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Accept: ${acceptFor(key)}`,
    ]
    const Connection = this.options.WebSocket as unknown as new (
      address: null,
      protocols: undefined,
      options: object,
    ) => InstanceType<U>
    const websocket = new Connection(null, undefined, this.options)
    const protocol = this.#chooseProtocol(protocols, request)
    // What would break out of its header line is nobody's subprotocol.
    if (!isFieldValue(String(protocol))) {
      abortHandshake(socket, 500)
      return
    }
    if (protocol) lines.push(`Sec-WebSocket-Protocol: ${protocol}`)
    if (deflate !== undefined) lines.push(`Sec-WebSocket-Extensions: ${deflate.response}`)
    websocket._accept(protocol || '', deflate?.profile)
    this.emit('headers', lines, request)
    socket.write(`${lines.join('\r\n')}\r\n\r\n`)
    socket.removeListener('error', destroy)
    websocket.setSocket(socket, head, this.options)
    if (this.clients !== undefined) this.#track(websocket)
    callback(websocket, request)
  }

  #chooseProtocol(protocols: Set<string>, request: InstanceType<V>): string | false | undefined {
    if (protocols.size === 0) return undefined
    const { options } = this
    if (options.handleProtocols) return options.handleProtocols(protocols, request)
    return protocols.values().next().value
  }

  #track(websocket: InstanceType<U>): void {
    this.clients.add(websocket)
    websocket.on('close', () => {
      this.clients.delete(websocket)
      if (this.#emitClose && this.clients.size === 0) process.nextTick(() => this.#tellClosed())
    })
  }
}

/** What a request that may be upgraded says. */
interface Upgrade {
  readonly key: string
  readonly version: number
  readonly protocols: Set<string>
  readonly deflate: { readonly profile: DeflateProfile; readonly response: string } | undefined
}

function destroy(this: Duplex): void {
  this.destroy()
}

/** Exactly one of three; what looks like a misunderstanding is explained. */
function checkKind(
  said: object | undefined,
  { port, server, noServer }: { port?: unknown; server?: unknown; noServer?: unknown },
): void {
  const kinds = [port !== undefined && port !== null, Boolean(server), Boolean(noServer)]
  if (kinds.filter(Boolean).length === 1) return
  const meant = Object.entries(said ?? {}).some(([name, value]) => !(name in DEFAULTS) && isLikeServer(name, value))
  const hint = meant ? '; did you mean { server }?' : ''
  throw new TypeError(`One and only one of the "port", "server", or "noServer" options must be specified${hint}`)
}

function isLikeServer(name: string, value: unknown): boolean {
  return isHttpServer(value) || name.toLowerCase().endsWith('server')
}

function isHttpServer(value: unknown): value is HttpServer {
  return value instanceof EventEmitter && typeof (value as { listen?: unknown }).listen === 'function'
}

function refusePlainRequest(_request: IncomingMessage, response: ServerResponse): void {
  const body = http.STATUS_CODES[426] as string
  response.writeHead(426, { 'Content-Length': body.length, 'Content-Type': 'text/plain' })
  response.end(body)
}

/** Refuses a handshake, as plain HTTP. */
function abortHandshake(socket: Duplex, code: number, message?: string, headers: OutgoingHttpHeaders = {}): void {
  const body = message || (http.STATUS_CODES[code] ?? '')
  const fields: OutgoingHttpHeaders = {
    Connection: 'close',
    'Content-Type': 'text/html',
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  }
  socket.once('finish', () => socket.destroy())
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`)
  socket.end(`HTTP/1.1 ${code} ${http.STATUS_CODES[code]}\r\n${lines.join('\r\n')}\r\n\r\n${body}`)
}
