import { Resumption } from './browser/resume.ts'
import { CONNECT_OPTION_NAMES, type ConnectOptions, checkConnectOptions, connect } from './client.ts'
import { formatClose } from './close-frame.ts'
import { type ConnectionHandlers, type Data, toBytes, type WebSocketConnection } from './connection.ts'
import { CloseCode } from './constants.ts'
import { UsageError } from './errors.ts'
import { asError, callHandler, reportError } from './handlers.ts'
import { mergeFields } from './headers.ts'
import type { Message } from './inbox.ts'
import { type ConnectionLoss, delayBehind, isForToken, isForTokenError, isPassing, isPassingError } from './losses.ts'
import type { Defaults } from './options.ts'
import type { CloseEvent } from './protocol.ts'
import { parseUrl } from './target.ts'

/** One URL, or several that are tried in this order in each round; a function is asked at the beginning of each. */
export type UrlSource = UrlList | (() => UrlList | Promise<UrlList>)
/** One URL, or several. */
export type UrlList = string | URL | readonly (string | URL)[]

/** What may change from one attempt to the next. */
export interface RefreshedOptions {
  /** Takes the place of the URL of the list, for instance with a fresh token in it. */
  readonly url?: string | URL | undefined
  /** Are added to the headers of the options; of a name that both have, these. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Take the place of those of the options. */
  readonly subprotocols?: readonly string[] | undefined
}

/** How long a reconnecting client waits, and how much it keeps meanwhile. */
export interface ReconnectingLimits {
  /** Shortest time between two rounds of attempts, in milliseconds. Default 250. */
  readonly minDelayMs?: number | undefined
  /** Longest time between two rounds of attempts that the server has not asked for, in milliseconds. Default 30,000. */
  readonly maxDelayMs?: number | undefined
  /** A connection that was open for this long was stable: the delays begin at the shortest again. Default 5,000. */
  readonly stableMs?: number | undefined
  /** Most bytes that wait for a connection. Default 1 MiB. */
  readonly maxQueuedBytes?: number | undefined
  /** Most messages that wait for a connection. Default 1,024. */
  readonly maxQueuedMessages?: number | undefined
}

/** Defaults of `ReconnectingLimits`. */
const RECONNECTING_DEFAULTS: Defaults<ReconnectingLimits> = Object.freeze({
  minDelayMs: 250,
  maxDelayMs: 30_000,
  stableMs: 5_000,
  maxQueuedBytes: 1_048_576,
  maxQueuedMessages: 1_024,
})

/** Options of `reconnecting`: those of `connect` for each attempt, and its own. */
export interface ReconnectingOptions extends Omit<ConnectOptions, 'socket'>, ReconnectingLimits {
  /**
   * A connection is open. What is sent on it here goes before everything that has waited. `attempt` is 1, and one more
   * for each loss in a row.
   */
  open?(connection: WebSocketConnection<undefined>, attempt: number): void
  /** The next round of attempts begins in `delayMs` milliseconds. */
  reconnecting?(loss: ConnectionLoss, delayMs: number): void
  /** It is over, and not because of `close` or `signal`. */
  gaveUp?(loss: ConnectionLoss): void
  /**
   * Whether to go on. Undefined for the default: not behind the close codes 1008, 4401 and 4403, an answer 4xx other than
   * 408, 425 and 429, or a `UsageError`. With `refresh`, 401 and 4401 are worth one more attempt.
   */
  shouldReconnect?(loss: ConnectionLoss): boolean | undefined
  /** Asked before each attempt, for instance for a fresh token. When it fails, so does the attempt. */
  refresh?(url: string): RefreshedOptions | undefined | Promise<RefreshedOptions | undefined>
  /**
   * Goes on where it was: what was published to topics with a history while there was no connection arrives first, in
   * order, each message once. For servers of this library; it adds `resume=` to the query of the URL. Not together with
   * `messageStream`. Default false.
   */
  readonly resume?: boolean | undefined
  /** With `resume`: something is missing in a topic, as its history does not reach back far enough, or is another one. */
  gap?(topic: string): void
  /** Ends it for good, as `close(1000)` does. */
  readonly signal?: AbortSignal | undefined
  /** A number from 0 up to 1 for the jitter. Default `Math.random`. */
  readonly random?: (() => number) | undefined
}

/** Where a reconnecting client stands. */
export type ReconnectingState = 'connecting' | 'open' | 'waiting' | 'closing' | 'closed'

const OWN_NAMES = ['open', 'reconnecting', 'gaveUp', 'shouldReconnect', 'refresh', 'resume', 'gap', 'random']
const OPTION_NAMES = [
  ...CONNECT_OPTION_NAMES.filter((name) => name !== 'socket'),
  ...Object.keys(RECONNECTING_DEFAULTS),
  ...OWN_NAMES,
]

/** Beyond this much of unsent data what has waited goes on waiting for the peer, in bytes. */
const SEND_AHEAD_BYTES = 65_536

/**
 * Keeps a connection to a server: connects, and connects again when the connection is lost.
 *
 * @throws UsageError for options that cannot be, and for a URL that cannot be, unless a function gives it.
 */
export function reconnecting(url: UrlSource, options: ReconnectingOptions = {}): ReconnectingConnection {
  return new ReconnectingConnection(url, options)
}

/** What `reconnecting` gives. */
export class ReconnectingConnection {
  /** Resolves when it is over: behind `close`, `signal` or `gaveUp`, and behind the end of the last connection. */
  readonly closed: Promise<void>

  readonly #source: UrlSource
  readonly #options: ReconnectingOptions
  readonly #limits: Defaults<ReconnectingLimits>
  readonly #stop = new AbortController()
  #state: ReconnectingState = 'connecting'
  #connection: WebSocketConnection<undefined> | undefined
  /** What has waited is through: messages go to the connection at once. */
  #isFlowing = false
  #losses = 0
  /** A refusal for want of a right token has been answered with a fresh one, and nothing was stable since. */
  #hasRefreshed = false
  readonly #resumption: Resumption | undefined
  readonly #queue: (string | Uint8Array)[] = []
  #queuedBytes = 0

  /** @internal Made by `reconnecting`. */
  constructor(source: UrlSource, options: ReconnectingOptions) {
    checkConnectOptions(options, OPTION_NAMES)
    this.#options = options
    this.#limits = resolveLimits(options)
    if (options.resume === true) {
      if (options.messageStream !== undefined) {
        throw new UsageError('ERR_OPTION', 'the option resume is for whole messages: leave out messageStream')
      }
      this.#resumption = new Resumption((topic) => this.#call(() => this.#options.gap?.(topic)))
    }
    this.#source = source
    if (typeof source !== 'function') for (const url of listOf(source)) parseUrl(url)
    const abort = (): void => this.close(CloseCode.NORMAL)
    if (options.signal?.aborted) abort()
    else options.signal?.addEventListener('abort', abort)
    this.closed = this.#run().finally(() => options.signal?.removeEventListener('abort', abort))
  }

  /** `connecting`, `open`, `waiting` for the next round, `closing` behind `close`, or `closed` for good. */
  get state(): ReconnectingState {
    return this.#state
  }

  /** The connection, while it is open. */
  get connection(): WebSocketConnection<undefined> | undefined {
    return this.#connection
  }

  /** Bytes that wait for a connection. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /**
   * Sends a message, or keeps it for the next connection: what waits leaves in its order, and before what is sent later.
   *
   * What a connection has accepted is not sent again on the next one: a message may be lost that was accepted while the
   * connection was already broken or while the server was closing it; nothing arrives twice. Only an answer of the other
   * side tells that a message was handled.
   *
   * @returns false when the message is not accepted: too much waits, or it is over.
   * @throws UsageError `ERR_DATA_TYPE` for anything but a string, a `Uint8Array` or an `ArrayBuffer`.
   */
  send(data: Data): boolean {
    const message = typeof data === 'string' ? data : toBytes(data)
    if (this.#isOver) return false
    if (this.#isFlowing && this.#connection?.state === 'open') return this.#connection.send(message)
    const { maxQueuedBytes, maxQueuedMessages } = this.#limits
    const size = sizeOf(message)
    if (this.#queue.length >= maxQueuedMessages || this.#queuedBytes + size > maxQueuedBytes) return false
    // Its bytes may change while it waits.
    this.#queue.push(typeof message === 'string' ? message : new Uint8Array(message))
    this.#queuedBytes += size
    return true
  }

  /**
   * Ends it for good: an open connection is closed behind everything accepted, an attempt is given up, and what waits
   * for a connection is dropped. Does nothing when it is over already.
   *
   * @throws UsageError `ERR_CLOSE_ARGUMENT` for a code that cannot be sent, or a longer reason than 123 bytes.
   */
  close(code?: number, reason?: string): void {
    formatClose(code, reason ?? '')
    if (this.#isOver) return
    this.#state = 'closing'
    const connection = this.#connection
    if (connection !== undefined) {
      for (const message of this.#queue) connection.send(message)
      connection.close(code, reason)
    }
    this.#clearQueue()
    this.#stop.abort()
  }

  get #isOver(): boolean {
    return this.#stop.signal.aborted || this.#state === 'closing' || this.#state === 'closed'
  }

  // ── rounds ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #run(): Promise<void> {
    while (!this.#isOver) {
      const loss = await this.#round()
      if (this.#isOver) break
      if (!this.#isWorthReturning(loss)) {
        this.#state = 'closed'
        this.#clearQueue()
        this.#call(() => this.#options.gaveUp?.(loss))
        break
      }
      this.#state = 'waiting'
      const delayMs = delayBehind(loss, this.#limits, this.#options.random)
      this.#call(() => this.#options.reconnecting?.(loss, delayMs))
      await this.#sleep(delayMs)
    }
    this.#state = 'closed'
  }

  /** Tries every URL once; ends with the connection that one of them gives, or when none does. */
  async #round(): Promise<ConnectionLoss> {
    this.#state = 'connecting'
    const errors: Error[] = []
    try {
      const source = this.#source
      for (const url of listOf(typeof source === 'function' ? await this.#unlessOver(source()) : source)) {
        const event = await this.#attempt(url, errors)
        if (event !== undefined) return { event, error: undefined, losses: ++this.#losses }
        if (this.#isOver) break
      }
    } catch (error) {
      errors.push(asError(error))
    }
    const error = errors.find(isPassingError) ?? errors.find(isForTokenError) ?? errors.at(-1)
    return { event: undefined, error, losses: ++this.#losses }
  }

  /** One attempt; returns how the connection has ended, if there was one. */
  async #attempt(url: string | URL, errors: Error[]): Promise<CloseEvent | undefined> {
    const ended = withResolvers<CloseEvent>()
    let connection: WebSocketConnection<undefined>
    try {
      const { refresh } = this.#options
      const fresh = refresh && (await this.#unlessOver(refresh.call(this.#options, String(url))))
      const target = fresh?.url ?? url
      connection = await connect(
        this.#resumption?.begin(String(target)) ?? target,
        this.#connectOptions(fresh, ended.resolve),
      )
    } catch (error) {
      errors.push(asError(error))
      return undefined
    }
    if (this.#isOver) connection.terminate()
    else this.#opened(connection)
    const openedAt = performance.now()
    const event = await ended.promise
    if (performance.now() - openedAt >= this.#limits.stableMs) {
      this.#losses = 0
      this.#hasRefreshed = false
    }
    return event
  }

  #connectOptions(fresh: RefreshedOptions | undefined, ended: (event: CloseEvent) => void): ConnectOptions {
    const options = this.#options
    const given = Object.entries(options).filter(
      ([name]) => !OWN_NAMES.includes(name) && !Object.hasOwn(RECONNECTING_DEFAULTS, name),
    )
    const handlers: ConnectionHandlers<undefined> = {
      ...(options.messageStream === undefined && { message: (client, data) => this.#receive(client, data) }),
      drain: (client) => options.drain?.(client),
      error: options.error && ((error, client) => options.error?.(error, client)),
      close: (client, event) => {
        ended(event)
        // One that came too late was never told of.
        if (this.#connection !== client) return
        this.#connection = undefined
        this.#isFlowing = false
        if (!this.#isOver) this.#state = 'waiting'
        return options.close?.(client, event)
      },
    } as ConnectionHandlers<undefined>
    return {
      ...Object.fromEntries(given),
      ...handlers,
      headers: mergeFields(options.headers ?? {}, fresh?.headers ?? {}),
      subprotocols: fresh?.subprotocols ?? options.subprotocols,
      signal: this.#stop.signal,
    }
  }

  #receive(client: WebSocketConnection<undefined>, data: Message): unknown {
    const message = this.#resumption === undefined ? data : this.#resumption.receive(data)
    return message === undefined ? undefined : this.#options.message?.(client, message)
  }

  #opened(connection: WebSocketConnection<undefined>): void {
    this.#connection = connection
    this.#state = 'open'
    this.#call(() => this.#options.open?.(connection, this.#losses + 1))
    void this.#sendQueued(connection)
  }

  /** Hands over what has waited, no faster than the peer takes it. What the connection has not accepted goes on waiting. */
  async #sendQueued(connection: WebSocketConnection<undefined>): Promise<void> {
    try {
      for (let message = this.#queue[0]; message !== undefined; message = this.#queue[0]) {
        if (connection.state !== 'open') return
        if (connection.send(message)) {
          this.#queue.shift()
          this.#queuedBytes -= sizeOf(message)
          if (connection.bufferedBytes <= SEND_AHEAD_BYTES) continue
        }
        await connection.flushed()
      }
      if (this.#connection === connection) this.#isFlowing = true
    } catch {
      // It has ended; the next one goes on.
    }
  }

  // ── between the rounds ────────────────────────────────────────────────────────────────────────────────────────────

  #isWorthReturning(loss: ConnectionLoss): boolean {
    let decision: boolean | undefined
    this.#call(() => {
      decision = this.#options.shouldReconnect?.(loss)
    })
    if (decision !== undefined) return decision
    if (isPassing(loss)) return true
    if (!isForToken(loss) || this.#options.refresh === undefined || this.#hasRefreshed) return false
    this.#hasRefreshed = true
    return true
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#stop
      const wake = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      const timer = setTimeout(wake, delayMs)
      signal.addEventListener('abort', wake)
      // A handler has closed it.
      if (signal.aborted) wake()
    })
  }

  /** What somebody else works on, unless it is over before. */
  #unlessOver<T>(value: T | PromiseLike<T>): Promise<T> {
    const { signal } = this.#stop
    return new Promise((resolve, reject) => {
      const giveUp = (): void => reject(signal.reason)
      signal.addEventListener('abort', giveUp)
      Promise.resolve(value)
        .then(resolve, reject)
        .finally(() => signal.removeEventListener('abort', giveUp))
    })
  }

  #clearQueue(): void {
    this.#queue.length = 0
    this.#queuedBytes = 0
  }

  #call(handler: () => unknown): void {
    const { error } = this.#options
    callHandler(handler, (thrown) => reportError(thrown, error && ((reported) => this.#options.error?.(reported))))
  }
}

function listOf(urls: UrlList): readonly (string | URL)[] {
  const list = Array.isArray(urls) ? (urls as readonly (string | URL)[]) : [urls as string | URL]
  if (list.length === 0) throw new UsageError('ERR_URL', 'the list of URLs is empty')
  return list
}

function resolveLimits(options: ReconnectingLimits): Defaults<ReconnectingLimits> {
  const limits = { ...RECONNECTING_DEFAULTS }
  for (const name of Object.keys(limits) as (keyof ReconnectingLimits)[]) {
    const value = options[name]
    if (value === undefined) continue
    const most = name.endsWith('Ms') ? 0x7fffffff : Number.POSITIVE_INFINITY
    const least = name === 'minDelayMs' || name === 'maxDelayMs' ? 1 : 0
    const isWhole = Number.isInteger(value) || value === most
    if (typeof value !== 'number' || !isWhole || value < least || value > most)
      throw new UsageError('ERR_OPTION', `the option ${name} must be a whole number from ${least} to ${most}`)
    Object.assign(limits, { [name]: value })
  }
  if (limits.minDelayMs > limits.maxDelayMs)
    throw new UsageError('ERR_OPTION', 'the option minDelayMs is more than maxDelayMs')
  return limits
}

function sizeOf(message: string | Uint8Array): number {
  return typeof message === 'string' ? Buffer.byteLength(message) : message.byteLength
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void
  const promise = new Promise<T>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
