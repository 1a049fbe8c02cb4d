import type { Duplex } from 'node:stream'
import { type AdmissionOptions, checkHost, checkOrigin, TokenGate, takeTokens } from './admission.ts'
import { HandshakeError } from './errors.ts'
import { acceptDeflateOffer, type Compression, type DeflateAgreement } from './extension.ts'
import { isPromise } from './handlers.ts'
import {
  checkRequest,
  checkUpgrade,
  formatAcceptance,
  formatAnswer,
  formatRefusal,
  type HttpAnswer,
  HttpRequest,
  isServed,
  type PathRule,
  selectSubprotocol,
} from './handshake.ts'
import { type HeadLimits, HeadReader, parseRequestHead, type RequestHead } from './http-head.ts'
import { allowedMethods, answerProbe, corsFields, isProbe } from './probe.ts'
import { type Refusal, tellRefusal } from './refusal.ts'
import { type Door, SocketOrigin } from './socket-origin.ts'
import { adopt, type SocketPeer } from './socket-peer.ts'

/** What an `authorize` handler says: yes (with what becomes `client.data`), or no (with an HTTP status and text). */
export type Authorization<UserData> =
  | boolean
  | {
      readonly accept: true
      readonly data?: UserData
      /** Added to the 101 answer, for instance `Set-Cookie`. */
      readonly headers?: Readonly<Record<string, string>>
    }
  | {
      readonly accept: false
      /** Default 403. */
      readonly status?: number
      /** One line for the peer. */
      readonly message?: string
      readonly headers?: Readonly<Record<string, string>>
    }

export type { Refusal }

/** Handlers that take part in the opening handshake. */
export interface ReceptionHandlers<UserData> {
  /**
   * Decides who may come in, behind the rules on Host, Origin and token. May be async; a promise that rejects, or an
   * exception, refuses with 500.
   */
  authorize?(request: HttpRequest): Authorization<UserData> | Promise<Authorization<UserData>>
  /**
   * Answers a plain GET or HEAD on the same port, for instance with a page or a health check. Undefined means 404.
   * Without this handler plain requests get 426. Anybody who can reach the port is answered: the token is not asked for.
   */
  respond?(request: HttpRequest): HttpAnswer | undefined | Promise<HttpAnswer | undefined>
  /** Somebody was not let in. */
  refused?(refusal: Refusal): void
}

/** What a server decides for its reception. */
export interface ReceptionOptions<UserData> {
  readonly admission: AdmissionOptions
  /** Name of the app, for pages that look for it. */
  readonly app: string | undefined
  readonly handlers: ReceptionHandlers<UserData>
  readonly headLimits: HeadLimits
  readonly path: PathRule | undefined
  readonly subprotocols: readonly string[]
  /** Undefined: offers of compression are declined. */
  readonly compression: Compression | undefined
  readonly maxConnections: number
  /** Undefined: 256, and loopback addresses, which all local programs and proxies share, are not counted. */
  readonly maxConnectionsPerAddress: number | undefined
  readonly handshakeTicks: number
  readonly closeTicks: number
  readonly sweepMs: number
  /** Opens the connection: the 101 answer is written. `rest` came behind the request in the same packet. */
  open(accepted: Accepted<UserData>): void
  report(error: unknown): void
}

/** Somebody who was let in. */
export interface Accepted<UserData> {
  readonly socket: Duplex
  readonly from: SocketOrigin
  readonly request: HttpRequest
  readonly data: UserData | undefined
  readonly subprotocol: string
  /** What was agreed on for compression. */
  readonly deflate: DeflateAgreement | undefined
  readonly rest: Buffer
}

const DEFAULT_PER_ADDRESS = 256
/** Sockets of one address that may take their time to read a refusal. */
const LINGERING_PER_ADDRESS = 16
/** Whoever reads an answer more slowly than this, in bytes per second, does not get the end of it. */
const SLOWEST_READER = 8_192

/**
 * The opening handshake of a server, for both doors: sockets of our own listener, whose request is read here, and
 * requests that a node:http server has read. Both go through the same decision and get the same answer.
 */
export class Reception<UserData> {
  readonly options: ReceptionOptions<UserData>
  /** No new peers: 503. */
  closing = false

  readonly #gate: TokenGate | undefined
  /** Whoever is on the way in or out, each at its `index`. A set would leave dead arrivals to the next full collection. */
  readonly #arrivals: Arrival<UserData>[] = []
  /** Sockets per address, from accept to their end, of those that are counted. */
  readonly #perAddress = new Map<string, number>()
  /** Refused sockets per address that are not gone yet. */
  readonly #lingering = new Map<string, number>()
  #connections = 0

  constructor(options: ReceptionOptions<UserData>) {
    this.options = options
    const { token } = options.admission
    this.#gate = token === undefined ? undefined : new TokenGate(token)
  }

  /** Door one: a socket that has sent no request yet, and has been here for some ticks. */
  receiveSocket(socket: Duplex, door: Door, waitedTicks: number): void {
    this.#welcome(socket, door, this.options.path)?.readHead(new HeadReader(this.options.headLimits), waitedTicks)
  }

  /** Door two: a request that node:http has read, what came behind it, and the path that it should have. */
  receiveUpgrade(socket: Duplex, door: Door, head: RequestHead, rest: Buffer, path: PathRule | undefined): void {
    this.#welcome(socket, door, path)?.decide(head, rest)
  }

  /** One step of the sweep. */
  tick(): void {
    for (const arrival of [...this.#arrivals]) arrival.tick()
  }

  /** Refuses whoever is on the way in. */
  refuseAll(): void {
    for (const arrival of [...this.#arrivals]) arrival.refuse(closingError())
  }

  /** Cuts whoever has not gone yet. */
  destroyAll(): void {
    for (const arrival of this.#arrivals) arrival.socket.destroy()
  }

  /** A socket that came through here has ended. */
  left(from: SocketOrigin): void {
    this.#connections--
    if (this.#isCounted(from)) add(this.#perAddress, from.remoteAddress, -1)
  }

  /** Somebody was refused and is not gone yet; false when that address has enough of those. */
  linger({ remoteAddress }: SocketOrigin): boolean {
    return add(this.#lingering, remoteAddress, 1) <= LINGERING_PER_ADDRESS
  }

  lingered({ remoteAddress }: SocketOrigin): void {
    add(this.#lingering, remoteAddress, -1)
  }

  forget(arrival: Arrival<UserData>): void {
    const last = this.#arrivals.pop()!
    if (last === arrival) return
    this.#arrivals[arrival.index] = last
    last.index = arrival.index
  }

  /** Takes the presented tokens out of a request, where there is one to present. */
  takeTokens(head: RequestHead): { tokens: string[]; head: RequestHead } {
    return this.#gate === undefined ? { tokens: [], head } : takeTokens(head)
  }

  /** Whether the right token was presented. A plain request needs none, but a wrong one is refused there too. */
  checkTokens(tokens: readonly string[], request: HttpRequest): boolean {
    if (this.#gate === undefined || (!request.isUpgrade && tokens.length === 0)) return false
    this.#gate.check(tokens, request, performance.now())
    return true
  }

  #welcome(socket: Duplex, door: Door, path: PathRule | undefined): Arrival<UserData> | undefined {
    const from = new SocketOrigin(socket, door)
    const arrival = new Arrival(this, socket, from, path)
    adopt(socket, arrival)
    arrival.index = this.#arrivals.push(arrival) - 1
    this.#connections++
    const ofAddress = this.#isCounted(from) ? add(this.#perAddress, from.remoteAddress, 1) : 0
    const refusal = this.#refusalOnArrival(ofAddress)
    if (refusal === undefined) return arrival
    arrival.refuse(refusal)
    return undefined
  }

  /** All local programs share the loopback addresses, and so does everybody behind a proxy on this machine. */
  #isCounted(from: SocketOrigin): boolean {
    return this.options.maxConnectionsPerAddress !== undefined || !from.isLocal
  }

  #refusalOnArrival(ofAddress: number): HandshakeError | undefined {
    const { maxConnections, maxConnectionsPerAddress = DEFAULT_PER_ADDRESS } = this.options
    if (this.closing) return closingError()
    if (this.#connections > maxConnections) {
      return new HandshakeError(
        'ERR_TOO_MANY_CONNECTIONS',
        503,
        'The server has no room for another connection; try again later.',
      )
    }
    if (ofAddress > maxConnectionsPerAddress) {
      return new HandshakeError(
        'ERR_TOO_MANY_CONNECTIONS_OF_ADDRESS',
        429,
        'Your address has too many connections; close one first.',
      )
    }
    return undefined
  }
}

/** Counts per key; one that is back at 0 is forgotten. */
function add(counts: Map<string, number>, key: string, change: 1 | -1): number {
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
  return count
}

function closingError(): HandshakeError {
  return new HandshakeError('ERR_SERVER_CLOSING', 503, 'The server is closing; try again later.')
}

/** One socket, from accept to the answer; after a refusal, until it is gone. */
class Arrival<UserData> implements SocketPeer {
  readonly socket: Duplex
  /** Its place in the reception's list. */
  index = 0
  readonly #reception: Reception<UserData>
  readonly #from: SocketOrigin
  /** The only path at which a WebSocket can be opened here; undefined for any. */
  readonly #path: PathRule | undefined
  #reader: HeadReader | undefined
  #request: HttpRequest | undefined
  #answered = false
  #ticks = 0
  /** Ticks that the peer has for reading its answer. */
  #patience = 0

  constructor(reception: Reception<UserData>, socket: Duplex, from: SocketOrigin, path: PathRule | undefined) {
    this.#reception = reception
    this.socket = socket
    this.#from = from
    this.#path = path
  }

  readHead(reader: HeadReader, waitedTicks: number): void {
    this.#reader = reader
    this.#ticks = waitedTicks
  }

  receive(chunk: Buffer): void {
    // Behind a refusal: read and thrown away, or the answer would be lost in a reset.
    if (this.#reader === undefined) return
    try {
      const whole = this.#reader.push(chunk)
      if (whole === undefined) return
      this.#reader = undefined
      this.#decide(parseRequestHead(whole.text, this.#reception.options.headLimits), whole.rest)
    } catch (error) {
      this.#failed(error)
    }
  }

  decide(head: RequestHead, rest: Buffer): void {
    try {
      this.#decide(head, rest)
    } catch (error) {
      this.#failed(error)
    }
  }

  socketClosed(): void {
    // Whoever was answered has left already: one that is turned away and stays takes nobody's place.
    if (!this.#answered) this.#reception.left(this.#from)
    else this.#reception.lingered(this.#from)
    this.#from.settle()
    this.#answered = true
    this.#reception.forget(this)
  }

  tick(): void {
    const { handshakeTicks } = this.#reception.options
    this.#ticks++
    if (this.#answered) {
      if (this.#ticks > this.#patience) this.socket.destroy()
    } else if (this.#ticks > handshakeTicks) {
      this.refuse(new HandshakeError('ERR_HANDSHAKE_TIMEOUT', 408, 'The request took too long; send it at once.'))
    }
  }

  refuse(error: HandshakeError, headers?: Readonly<Record<string, string>>): void {
    if (this.#answered) return
    this.#answer(formatRefusal(error, headers, this.#request?.method))
    const { handlers, report } = this.#reception.options
    tellRefusal(error, this.#from, this.#request, handlers, report)
  }

  /** The whole decision. Throws `HandshakeError` for a no. */
  #decide(given: RequestHead, rest: Buffer): void {
    const { admission, app, handlers } = this.#reception.options
    const { tokens, head } = this.#reception.takeTokens(checkRequest(given, allowedMethods(given, app)))
    const request = new HttpRequest(head, this.#from)
    this.#request = request
    const key = request.isUpgrade ? checkUpgrade(head) : undefined
    if (key !== undefined && !isServed(request.path, this.#path)) {
      throw new HandshakeError('ERR_PATH', 404, 'There is no WebSocket at this path.')
    }
    checkHost(request, admission)
    if (app !== undefined && isProbe(request)) {
      this.#answerProbe(app, request, tokens)
      return
    }
    request.authenticated = this.#reception.checkTokens(tokens, request)
    if (key === undefined) {
      this.#respond(request)
      return
    }
    checkOrigin(request, admission)
    this.#ask(
      () => (handlers.authorize === undefined ? true : handlers.authorize(request)),
      (authorization) => this.#admit(request, key, rest, authorization),
    )
  }

  /** Asks a handler of the user's, and goes on with its answer. Whatever it throws is not a refusal of ours. */
  #ask<T>(handler: () => T | PromiseLike<T>, goOn: (answer: T) => void): void {
    let answer: T | PromiseLike<T>
    try {
      answer = handler()
    } catch (error) {
      this.#handlerFailed(error)
      return
    }
    if (!isPromise(answer)) {
      goOn(answer)
      return
    }
    // What the peer sends meanwhile stays in the socket, and if it has sent its last byte it still gets its answer.
    this.socket.pause()
    this.socket.allowHalfOpen = true
    answer.then(
      (settled) => {
        try {
          goOn(settled)
        } catch (error) {
          this.#failed(error)
        }
      },
      (error) => this.#handlerFailed(error),
    )
  }

  #admit(request: HttpRequest, key: string, rest: Buffer, authorization: Authorization<UserData>): void {
    if (this.#answered) return
    const { subprotocols, compression, open } = this.#reception.options
    const said = typeof authorization === 'boolean' ? { accept: authorization } : authorization
    if (said?.accept !== true) {
      const {
        status = 403,
        message = 'You may not connect.',
        headers,
      } = { ...said } as Extract<typeof said, { accept: false }>
      this.refuse(new HandshakeError('ERR_NOT_AUTHORIZED', status, message), headers)
      return
    }
    const { data, headers } = said as { data?: UserData; headers?: Readonly<Record<string, string>> }
    const subprotocol = selectSubprotocol(subprotocols, request.subprotocols)
    const offered = request.headers.get('sec-websocket-extensions')
    const deflate = compression && acceptDeflateOffer(offered, compression)
    const acceptance = formatAcceptance({ key, subprotocol, extensions: deflate?.response, headers })
    this.#answered = true
    this.#reception.forget(this)
    this.socket.write(acceptance, 'latin1')
    open({ socket: this.socket, from: this.#from, request, data, subprotocol, deflate: deflate?.agreement, rest })
  }

  /** A plain request. */
  #respond(request: HttpRequest): void {
    const { handlers } = this.#reception.options
    if (handlers.respond === undefined) {
      throw new HandshakeError(
        'ERR_UPGRADE_REQUIRED',
        426,
        'This port speaks WebSocket; connect with a WebSocket client.',
      )
    }
    this.#ask(
      () => handlers.respond!(request),
      (answer) => this.#answerPlain(request, answer),
    )
  }

  /** A page asks which app this is. One whose Origin may connect is told of a wrong token in a way that it can read. */
  #answerProbe(app: string, request: HttpRequest, tokens: readonly string[]): void {
    const { admission } = this.#reception.options
    checkOrigin(request, admission)
    try {
      request.authenticated = this.#reception.checkTokens(tokens, request)
    } catch (error) {
      if (!(error instanceof HandshakeError)) throw error
      this.refuse(error, corsFields(request))
      return
    }
    this.#answerPlain(request, answerProbe(app, request, admission.token !== undefined))
  }

  #answerPlain(request: HttpRequest, answer: HttpAnswer | undefined): void {
    if (this.#answered) return
    this.#answer(formatAnswer(answer ?? { status: 404, body: 'There is nothing at this path.\n' }, request.method))
  }

  #answer(bytes: Buffer): void {
    this.#answered = true
    const { closeTicks, sweepMs } = this.#reception.options
    this.#reception.left(this.#from)
    this.#ticks = 0
    this.#patience = closeTicks + Math.ceil(((bytes.length / SLOWEST_READER) * 1_000) / sweepMs)
    this.#reader = undefined
    this.socket.resume()
    const mayLinger = this.#reception.linger(this.#from)
    this.socket.end(bytes, () => mayLinger || this.socket.destroy())
  }

  /** A no of ours, or something that the answer to the peer cannot be made of. */
  #failed(error: unknown): void {
    if (error instanceof HandshakeError) this.refuse(error)
    else this.#handlerFailed(error)
  }

  /** An exception in a handler is the user's to see, and a 500 for the peer. */
  #handlerFailed(error: unknown): void {
    this.#reception.options.report(error)
    const code = this.#request?.isUpgrade === false ? 'ERR_RESPOND_FAILED' : 'ERR_AUTHORIZE_FAILED'
    this.refuse(new HandshakeError(code, 500, 'The server failed to decide; try again later.'))
  }
}
