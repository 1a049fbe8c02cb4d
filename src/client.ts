import type { Duplex } from 'node:stream'
import type { ConnectionOptions } from 'node:tls'
import { type ConnectionHandlers, type ConnectionOwner, WebSocketConnection } from './connection.ts'
import { checkStream, type DialOptions, dial } from './dial.ts'
import { HandshakeError, UsageError } from './errors.ts'
import {
  type CompressionOptions,
  type DeflateAgreement,
  formatDeflateOffer,
  readDeflateResponse,
  resolveCompression,
} from './extension.ts'
import { isPromise, reportError } from './handlers.ts'
import { type ClientRequest, checkResponse, formatRequest, randomKey } from './handshake.ts'
import { mergeFields } from './headers.ts'
import { HeadReader, parseResponseHead, type ResponseHead } from './http-head.ts'
import { randomId } from './ids.ts'
import {
  CONNECTION_DEFAULTS,
  CompressedSettings,
  type ConnectionLimits,
  checkOptions,
  HEAD_DEFAULTS,
  type HeadLimitOptions,
  resolveTiming,
  withDefaults,
} from './options.ts'
import { SocketOrigin } from './socket-origin.ts'
import { adopt, type SocketPeer } from './socket-peer.ts'
import {
  isRedirect,
  isSameOrigin,
  parseUrl,
  redirectTarget,
  type Target,
  withoutSecrets,
  withoutTokens,
} from './target.ts'

/** Options of `connect`. */
export interface ConnectOptions extends ConnectionLimits, HeadLimitOptions, DialOptions, ConnectionHandlers<undefined> {
  /** Offered subprotocols, in order of preference. */
  readonly subprotocols?: readonly string[] | undefined
  /** Further headers of the request, for instance `Authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** `Origin` of the request; programs need none. */
  readonly origin?: string | undefined
  /**
   * Most redirects (301, 302, 303, 307, 308) that are followed; never from wss:// to ws://. Another origin gets no
   * credentials: no `Authorization`, `Cookie` or `Proxy-Authorization`, no user and password of the URL, no `bearer.`
   * subprotocol, no client certificate. Other headers go along. Default 0: a redirect is a refusal.
   */
  readonly maxRedirects?: number | undefined
  /**
   * Offers compression (permessage-deflate, RFC 7692); `true` for its defaults. Default false. See docs/COMPRESSION.md.
   */
  readonly compression?: boolean | CompressionOptions | undefined
  /** Gives up the opening handshake; the promise rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

/** Names of the options of `connect`. */
export const CONNECT_OPTION_NAMES: readonly string[] = [
  ...Object.keys(CONNECTION_DEFAULTS),
  ...Object.keys(HEAD_DEFAULTS),
  ...['subprotocols', 'headers', 'origin', 'tls', 'socket', 'createConnection', 'maxRedirects', 'signal'],
  'compression',
  ...['message', 'messageStream', 'drain', 'close', 'error'],
]

/** Bytes of a refusal's text that are kept for the error message. */
const MAX_REFUSAL_BYTES = 1_024

/**
 * Opens a WebSocket (RFC 6455 §4.1). Messages go to the `message` handler, or, without one, wait to be read with
 * `for await (const message of connection)`.
 *
 * @param url `ws:`, `wss:`, `http:` or `https:`; a user and password in it are sent as Basic authentication. Or
 *   `ws+unix:/path/to.sock:/path?query` for a Unix socket, whose path may be percent-encoded.
 * @throws UsageError for a URL or an option that cannot be, HandshakeError when the server refuses or does not answer in
 *   time, the system's error when it cannot be reached, or the reason of `signal`.
 */
export async function connect(
  url: string | URL,
  options: ConnectOptions = {},
): Promise<WebSocketConnection<undefined>> {
  checkConnectOptions(options, CONNECT_OPTION_NAMES)
  let hop = firstHop(url, options)
  // Refuses what cannot be sent before anybody is called.
  const compression = resolveCompression(options.compression)
  const extensions = compression && formatDeflateOffer(compression)
  let request = buildRequest(hop, extensions)
  let text = formatRequest(request)
  const { maxRedirects = 0 } = options
  const deadline = new Deadline(options)
  try {
    for (let redirects = 0; ; redirects++) {
      const answer = await new Exchange(hop, request, text, options, deadline.signal).answer
      if (isOpened(answer)) return openConnection(answer, request, options)
      if (redirects === maxRedirects) {
        throw new HandshakeError(
          'ERR_TOO_MANY_REDIRECTS',
          answer.status,
          `More than ${maxRedirects} redirects; the last one was not followed.`,
        )
      }
      hop = nextHop(hop, answer)
      request = buildRequest(hop, extensions)
      text = formatRequest(request)
    }
  } finally {
    deadline.clear()
  }
}

/** Refuses options that `connect` does not have, or that cannot be. */
export function checkConnectOptions(options: ConnectOptions, known: readonly string[]): void {
  checkOptions(options, known)
  const { maxRedirects = 0, socket, createConnection } = options
  if (!Number.isInteger(maxRedirects) || maxRedirects < 0)
    throw new UsageError('ERR_OPTION', 'the option maxRedirects must be a whole number from 0')
  if (socket !== undefined) checkStream(socket)
  if (socket !== undefined && createConnection !== undefined)
    throw new UsageError('ERR_OPTION', 'give either socket or createConnection')
  if (socket !== undefined && maxRedirects > 0)
    throw new UsageError('ERR_OPTION', 'a redirect needs another socket: give createConnection instead of socket')
}

/** One request on the way to the server, and what it may say. */
interface Hop {
  readonly target: Target
  readonly headers: Readonly<Record<string, string>>
  readonly subprotocols: readonly string[]
  readonly tls: ConnectionOptions | undefined
}

function firstHop(url: string | URL, options: ConnectOptions): Hop {
  const { target, credentials } = parseUrl(url)
  const headers = mergeFields(
    { ...credentials, ...(options.origin === undefined ? {} : { Origin: options.origin }) },
    options.headers ?? {},
  )
  return { target, headers, subprotocols: options.subprotocols ?? [], tls: options.tls }
}

/** Where a redirect leads; what another origin may not know is left out, also when the way leads back. */
function nextHop(hop: Hop, { status, headers }: ResponseHead): Hop {
  const target = redirectTarget(hop.target, status, headers.get('location'))
  if (isSameOrigin(hop.target, target)) return { ...hop, target }
  const subprotocols = withoutTokens(hop.subprotocols)
  return { target, headers: withoutSecrets(hop.headers), subprotocols, tls: hop.tls && withoutIdentity(hop.tls) }
}

/** Options of node:tls that say who the client is, or which server it means. */
const IDENTITY_OPTIONS = [
  ...['cert', 'key', 'pfx', 'passphrase', 'secureContext', 'privateKeyEngine', 'privateKeyIdentifier'],
  ...['pskCallback', 'session', 'servername'],
]

function withoutIdentity(tls: ConnectionOptions): ConnectionOptions {
  return Object.fromEntries(Object.entries(tls).filter(([name]) => !IDENTITY_OPTIONS.includes(name)))
}

/** The request of a hop. */
function buildRequest({ target, headers, subprotocols }: Hop, extensions: string | undefined): ClientRequest {
  return { target: target.path, host: target.host, key: randomKey(), subprotocols, extensions, headers }
}

/** The time that the whole opening handshake has, and the user's signal, as one signal. */
class Deadline {
  readonly #controller = new AbortController()
  readonly #options: ConnectOptions
  readonly #timer: NodeJS.Timeout
  readonly #onAbort = (): void => this.#controller.abort(this.#options.signal?.reason)

  constructor(options: ConnectOptions) {
    this.#options = options
    const timeoutMs = options.handshakeTimeoutMs ?? CONNECTION_DEFAULTS.handshakeTimeoutMs
    this.#timer = setTimeout(() => {
      const message = `The server did not answer within ${timeoutMs} ms.`
      this.#controller.abort(new HandshakeError('ERR_HANDSHAKE_TIMEOUT', 0, message))
    }, timeoutMs)
    if (options.signal?.aborted) this.#onAbort()
    options.signal?.addEventListener('abort', this.#onAbort)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
  }
}

/** The server has said yes. */
interface Opened {
  readonly socket: Duplex
  readonly subprotocol: string
  /** What was agreed on for compression. */
  readonly deflate: DeflateAgreement | undefined
  /** What came behind the answer. */
  readonly rest: Buffer
}

/** What a request leads to, if it does not fail: a connection, or a redirect. */
type Answer = Opened | ResponseHead

function isOpened(answer: Answer): answer is Opened {
  return 'socket' in answer
}

/** One request and its answer, from dialling on. */
class Exchange implements SocketPeer {
  readonly answer: Promise<Answer>

  readonly #request: ClientRequest
  readonly #options: ConnectOptions
  readonly #signal: AbortSignal
  #socket: Duplex | undefined
  #reader: HeadReader | undefined
  /** The head of an answer that is not a 101; its text is awaited. */
  #refusal: ResponseHead | undefined
  #refusalText: Buffer = Buffer.alloc(0)
  #isSettled = false
  #resolve!: (answer: Answer) => void
  #reject!: (reason: unknown) => void
  readonly #onError = (error: Error): void => this.#fail(error)
  readonly #onAbort = (): void => this.#abort()

  constructor(hop: Hop, request: ClientRequest, text: string, options: ConnectOptions, signal: AbortSignal) {
    this.#request = request
    this.#options = options
    this.#signal = signal
    this.#reader = new HeadReader(withDefaults(HEAD_DEFAULTS, options))
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    signal.addEventListener('abort', this.#onAbort)
    if (signal.aborted) this.#abort()
    else this.#dial(hop, text)
  }

  #dial({ target, tls }: Hop, text: string): void {
    try {
      const dialled = dial(target, { ...this.#options, tls }, this.#signal)
      // A socket has to be listened to at once.
      if (!isPromise(dialled)) this.#start(dialled, text)
      else
        dialled.then(
          (socket) => this.#start(socket, text),
          (error) => this.#fail(error),
        )
    } catch (error) {
      this.#fail(error)
    }
  }

  #start(socket: Duplex, text: string): void {
    this.#socket = socket
    socket.allowHalfOpen = false
    adopt(socket, this)
    if (this.#isSettled || socket.destroyed) {
      socket.destroy()
      this.socketClosed()
      return
    }
    socket.on('error', this.#onError)
    socket.write(text, 'latin1')
    // One that was given may have been stopped.
    socket.resume()
  }

  receive(chunk: Buffer): void {
    if (this.#isSettled) return
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
    if (head.status === 101) this.#open(head, whole.rest)
    else if (isRedirect(head.status) && (this.#options.maxRedirects ?? 0) > 0) {
      this.#settle()
      this.#resolve(head)
      this.#socket?.destroy()
    } else {
      this.#refusal = head
      this.#readRefusal(head, whole.rest)
    }
  }

  #open(head: ResponseHead, rest: Buffer): void {
    const { subprotocol, extensions } = checkResponse(head, this.#request)
    const deflate = extensions === undefined ? undefined : agree(extensions, this.#options)
    const socket = this.#socket!
    this.#settle()
    // What comes until the connection takes over waits in the socket.
    socket.pause()
    this.#resolve({ socket, subprotocol, deflate, rest })
  }

  /** The server's one line of text says more than its status. */
  #readRefusal(refusal: ResponseHead, chunk: Buffer): void {
    this.#refusalText = Buffer.concat([this.#refusalText, chunk])
    const announced = Number(refusal.headers.get('content-length') ?? MAX_REFUSAL_BYTES)
    const expected = Number.isNaN(announced) ? MAX_REFUSAL_BYTES : Math.min(announced, MAX_REFUSAL_BYTES)
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
        { retryAfterMs: parseRetryAfter(headers.get('retry-after')) },
      ),
    )
  }

  #abort(): void {
    const { reason } = this.#signal
    // The server has said no; only the text of it is late.
    const isLate = reason instanceof HandshakeError && reason.code === 'ERR_HANDSHAKE_TIMEOUT'
    if (this.#refusal !== undefined && isLate) this.#failRefused(this.#refusal)
    else this.#fail(reason)
  }

  #fail(reason: unknown): void {
    this.#settle()
    this.#reject(reason)
    const socket = this.#socket ?? this.#options.socket
    socket?.on('error', () => {}).destroy()
  }

  #settle(): void {
    this.#isSettled = true
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#socket?.off('error', this.#onError)
  }
}

/** What the server makes of the offer of compression. */
function agree(extensions: string, { compression }: ConnectOptions): DeflateAgreement {
  const agreement = readDeflateResponse(extensions, resolveCompression(compression)!)
  if (agreement !== undefined) return agreement
  throw new HandshakeError(
    'ERR_RESPONSE_EXTENSION',
    101,
    'What the server says of compression does not fit what was offered.',
  )
}

/** `Retry-After` (RFC 9110 §10.2.3): seconds, or a date. Undefined for anything else. */
function parseRetryAfter(value: string | undefined): number | undefined {
  if (value === undefined || value === '') return undefined
  const isSeconds = [...value].every((char) => char >= '0' && char <= '9')
  const ms = isSeconds ? Number(value) * 1_000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined
}

function openConnection(
  { socket, subprotocol, deflate, rest }: Opened,
  request: ClientRequest,
  options: ConnectOptions,
): WebSocketConnection<undefined> {
  const { settings, sweepMs } = resolveTiming('client', options)
  const { message, messageStream, error } = options
  const sweep = setInterval(() => connection.tick(), sweepMs).unref()
  const owner: ConnectionOwner<undefined> = {
    settings,
    handlers: options,
    connectionEnded: () => clearInterval(sweep),
    report: (thrown) => reportError(thrown, error && ((reported) => error(reported, connection))),
  }
  const compression = resolveCompression(options.compression)
  const connection = new WebSocketConnection<undefined>({
    socket,
    owner,
    protocol: deflate && new CompressedSettings(settings, compression!).get(deflate),
    id: randomId(),
    data: undefined,
    path: request.target.split('?', 1)[0]!,
    subprotocol,
    from: new SocketOrigin(socket, { secure: 'encrypted' in socket }),
  })
  if (message === undefined && messageStream === undefined) connection.queueMessages()
  // Behind whoever awaits the connection: a message handler may want to know it already.
  setImmediate(() => {
    connection.start(rest)
    // It ended while nobody was listening.
    if (socket.closed) connection.socketClosed()
  })
  return connection
}
