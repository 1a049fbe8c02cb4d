import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { normalizeAddress } from './admission.ts'
import { type ConnectionHandlers, type ConnectionOwner, WebSocketConnection } from './connection.ts'
import { HandshakeError, UsageError } from './errors.ts'
import { reportError } from './handlers.ts'
import { type ClientRequest, checkResponse, formatRequest, randomKey } from './handshake.ts'
import { mergeFields } from './headers.ts'
import { HeadReader, parseResponseHead, type ResponseHead } from './http-head.ts'
import { randomId } from './ids.ts'
import {
  CONNECTION_DEFAULTS,
  type ConnectionLimits,
  checkOptions,
  HEAD_DEFAULTS,
  type HeadLimitOptions,
  resolveTiming,
  withDefaults,
} from './options.ts'
import { adopt, type SocketPeer } from './socket-peer.ts'

/** Options of `connect`. */
export interface ConnectOptions extends ConnectionLimits, HeadLimitOptions, ConnectionHandlers<undefined> {
  /** Offered subprotocols, in order of preference. */
  readonly subprotocols?: readonly string[] | undefined
  /** Further headers of the request, for instance `Authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** `Origin` of the request; programs need none. */
  readonly origin?: string | undefined
  /** Options of node:tls for wss:// (`ca`, `servername`, ...). */
  readonly tls?: ConnectionOptions | undefined
  /** Gives up the opening handshake; the promise rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

const OPTION_NAMES: readonly string[] = [
  ...Object.keys(CONNECTION_DEFAULTS),
  ...Object.keys(HEAD_DEFAULTS),
  ...['subprotocols', 'headers', 'origin', 'tls', 'signal', 'message', 'drain', 'close', 'error'],
]

/** Ports that a URL leaves out. */
const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'ws:': 80, 'wss:': 443 }

/** Bytes of a refusal's text that are kept for the error message. */
const MAX_REFUSAL_BYTES = 1_024

/**
 * Opens a WebSocket (RFC 6455 §4.1). Messages go to the `message` handler, or, without one, wait to be read with
 * `for await (const message of connection)`.
 *
 * @param url `ws:`, `wss:`, `http:` or `https:`; a user and password in it are sent as Basic authentication.
 * @throws UsageError for a URL or an option that cannot be, HandshakeError when the server refuses or does not answer in
 *   time, the system's error when it cannot be reached, or the reason of `signal`.
 */
export async function connect(
  url: string | URL,
  options: ConnectOptions = {},
): Promise<WebSocketConnection<undefined>> {
  checkOptions(options, OPTION_NAMES)
  const target = parseUrl(url)
  options.signal?.throwIfAborted()
  const request: ClientRequest = {
    target: target.pathname + target.search,
    host: target.host,
    key: randomKey(),
    subprotocols: options.subprotocols ?? [],
    headers: mergeFields(
      { ...credentials(target), ...(options.origin === undefined ? {} : { Origin: options.origin }) },
      options.headers ?? {},
    ),
  }
  const text = formatRequest(request)
  const socket = openSocket(target, options.tls)
  return new Dialing(socket, request, text, options).opened
}

function parseUrl(given: string | URL): URL {
  if (!URL.canParse(String(given))) throw new UsageError('ERR_URL', 'this is not a URL')
  const url = new URL(given)
  if (url.protocol === 'http:') url.protocol = 'ws:'
  if (url.protocol === 'https:') url.protocol = 'wss:'
  if (!(url.protocol in DEFAULT_PORTS))
    throw new UsageError('ERR_URL', 'the URL must begin with ws://, wss://, http:// or https://')
  // §3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used".
  if (url.hash !== '' || String(given).includes('#')) throw new UsageError('ERR_URL', 'the URL may not have a fragment')
  return url
}

function credentials({ username, password }: URL): Record<string, string> {
  if (username === '' && password === '') return {}
  const pair = `${decodeUserinfo(username)}:${decodeUserinfo(password)}`
  return { Authorization: `Basic ${Buffer.from(pair).toString('base64')}` }
}

function decodeUserinfo(encoded: string): string {
  try {
    return decodeURIComponent(encoded)
  } catch {
    throw new UsageError('ERR_URL', 'the user or the password in the URL is not percent-encoded UTF-8')
  }
}

function openSocket(url: URL, tls: ConnectionOptions | undefined): Socket {
  const host = url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname
  const port = url.port === '' ? DEFAULT_PORTS[url.protocol]! : Number(url.port)
  if (url.protocol === 'ws:') return connectTcp({ host, port, noDelay: true })
  // RFC 6066 §3: no server name for an address.
  const servername = isIP(host) === 0 ? { servername: host } : {}
  return connectTls({ ALPNProtocols: ['http/1.1'], ...servername, ...tls, host, port }).setNoDelay(true)
}

/** One opening handshake, from the dialled socket to the connection. */
class Dialing implements SocketPeer {
  readonly opened: Promise<WebSocketConnection<undefined>>

  readonly #socket: Socket
  readonly #request: ClientRequest
  readonly #options: ConnectOptions
  #reader: HeadReader | undefined
  /** The head of an answer that is not a 101; its text is awaited. */
  #refusal: ResponseHead | undefined
  #refusalText: Buffer = Buffer.alloc(0)
  #resolve!: (connection: WebSocketConnection<undefined>) => void
  #reject!: (reason: unknown) => void
  readonly #timer: NodeJS.Timeout
  readonly #onError = (error: Error): void => this.#fail(error)
  readonly #onAbort = (): void => this.#fail(this.#options.signal?.reason)

  constructor(socket: Socket, request: ClientRequest, text: string, options: ConnectOptions) {
    this.#socket = socket
    this.#request = request
    this.#options = options
    this.#reader = new HeadReader(withDefaults(HEAD_DEFAULTS, options))
    this.opened = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    const timeoutMs = options.handshakeTimeoutMs ?? CONNECTION_DEFAULTS.handshakeTimeoutMs
    this.#timer = setTimeout(() => {
      if (this.#refusal !== undefined) this.#failRefused(this.#refusal)
      else
        this.#fail(new HandshakeError('ERR_HANDSHAKE_TIMEOUT', 0, `The server did not answer within ${timeoutMs} ms.`))
    }, timeoutMs)
    options.signal?.addEventListener('abort', this.#onAbort)
    adopt(socket, this)
    socket.on('error', this.#onError)
    socket.write(text, 'latin1')
  }

  receive(chunk: Buffer): void {
    try {
      if (this.#refusal !== undefined) this.#readRefusal(this.#refusal, chunk)
      else this.#readHead(chunk)
    } catch (error) {
      this.#fail(error)
    }
  }

  socketClosed(): void {
    if (this.#refusal !== undefined) this.#failRefused(this.#refusal)
    else
      this.#fail(
        new HandshakeError('ERR_RESPONSE_INCOMPLETE', 0, 'The server closed the connection without an answer.'),
      )
  }

  #readHead(chunk: Buffer): void {
    const whole = this.#reader?.push(chunk)
    if (whole === undefined) return
    this.#reader = undefined
    const head = parseResponseHead(whole.text, withDefaults(HEAD_DEFAULTS, this.#options))
    if (head.status !== 101) {
      this.#refusal = head
      this.#readRefusal(head, whole.rest)
      return
    }
    this.#open(checkResponse(head, this.#request), whole.rest)
  }

  #open(subprotocol: string, rest: Buffer): void {
    this.#settled()
    const { settings, sweepMs } = resolveTiming('client', this.#options)
    const { message, error } = this.#options
    const sweep = setInterval(() => connection.tick(), sweepMs).unref()
    const owner: ConnectionOwner<undefined> = {
      settings,
      handlers: this.#options,
      connectionEnded: () => clearInterval(sweep),
      report: (thrown) => reportError(thrown, error && ((reported) => error(reported, connection))),
    }
    const connection = new WebSocketConnection<undefined>({
      socket: this.#socket,
      owner,
      id: randomId(),
      data: undefined,
      path: this.#request.target.split('?', 1)[0]!,
      subprotocol,
      remoteAddress: normalizeAddress(this.#socket.remoteAddress ?? ''),
    })
    if (message === undefined) connection.queueMessages()
    // What comes until then waits in the socket.
    this.#socket.pause()
    this.#resolve(connection)
    // Behind whoever awaits the connection: a message handler may want to know it already.
    setImmediate(() => connection.start(rest))
  }

  /** The server's one line of text says more than its status. */
  #readRefusal(refusal: ResponseHead, chunk: Buffer): void {
    this.#refusalText = Buffer.concat([this.#refusalText, chunk])
    const expected = Math.min(Number(refusal.headers.get('content-length') ?? MAX_REFUSAL_BYTES), MAX_REFUSAL_BYTES)
    if (this.#refusalText.length >= expected || refusal.headers.has('transfer-encoding')) this.#failRefused(refusal)
  }

  #failRefused({ status, headers }: ResponseHead): void {
    const isText = headers.get('content-type')?.startsWith('text/plain') === true
    const text = isText ? this.#refusalText.toString('utf8', 0, MAX_REFUSAL_BYTES).trim() : ''
    const detail = text === '' ? '.' : `: ${text}`
    this.#fail(
      new HandshakeError(
        'ERR_RESPONSE_STATUS',
        status,
        `The server refused the WebSocket with status ${status}${detail}`,
      ),
    )
  }

  #fail(reason: unknown): void {
    this.#settled()
    this.#reject(reason)
    this.#socket.destroy()
  }

  #settled(): void {
    clearTimeout(this.#timer)
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#socket.off('error', this.#onError)
  }
}
