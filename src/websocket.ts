import { CONNECT_OPTION_NAMES, type ConnectOptions, checkConnectOptions, connect } from './client.ts'
import type { WebSocketConnection } from './connection.ts'
import { MAX_CLOSE_REASON_BYTES } from './constants.ts'
import { UsageError, WebSocketError } from './errors.ts'
import { isToken } from './headers.ts'
import type { Message } from './inbox.ts'
import type { CloseEvent } from './protocol.ts'
import { parseUrl } from './target.ts'
import { EventAttributes, WebSocketCloseEvent, WebSocketErrorEvent } from './websocket-events.ts'

/** Options of `WebSocket`: those of `connect`, but for its handlers and what the standard decides. */
export interface WebSocketOptions
  extends Omit<
    ConnectOptions,
    'subprotocols' | 'slowConsumer' | 'message' | 'messageStream' | 'drain' | 'close' | 'error'
  > {
  /** As the second argument of the standard: one subprotocol, or several in order of preference. */
  readonly protocols?: string | Iterable<string> | undefined
}

/** The events of a `WebSocket`. */
export interface WebSocketEvents {
  readonly open: Event
  readonly message: MessageEvent
  readonly error: WebSocketErrorEvent
  readonly close: WebSocketCloseEvent
}

/** A listener of a `WebSocket`. */
export type WebSocketListener<Type extends keyof WebSocketEvents> = (
  this: WebSocket,
  event: WebSocketEvents[Type],
) => unknown

const GIVEN_BY_US = ['subprotocols', 'slowConsumer', 'message', 'messageStream', 'drain', 'close', 'error']
const OPTION_NAMES = CONNECT_OPTION_NAMES.filter((name) => !GIVEN_BY_US.includes(name))

const CONNECTING = 0
const OPEN = 1
const CLOSING = 2
const CLOSED = 3

/** What waits to be sent: it comes behind a Blob that is still being read. */
type Waiting = string | Uint8Array | Blob

/**
 * The `WebSocket` of browsers (https://websockets.spec.whatwg.org), on the engine of this library and with its limits:
 * a message of more than `maxMessageBytes`, by default 1 MiB, fails the connection; so do more than `maxBufferedBytes`,
 * by default 16 MiB, that the peer has not read.
 */
export class WebSocket extends EventTarget {
  static readonly CONNECTING: 0 = CONNECTING
  static readonly OPEN: 1 = OPEN
  static readonly CLOSING: 2 = CLOSING
  static readonly CLOSED: 3 = CLOSED
  declare readonly CONNECTING: 0
  declare readonly OPEN: 1
  declare readonly CLOSING: 2
  declare readonly CLOSED: 3

  readonly #url: string
  readonly #origin: string
  readonly #attributes = new EventAttributes(this)
  readonly #dialling = new AbortController()
  #state: 0 | 1 | 2 | 3 = CONNECTING
  #connection: WebSocketConnection<undefined> | undefined
  #binaryType: 'blob' | 'arraybuffer' = 'blob'
  /** Why the connection is about to end, as far as anybody said. */
  #error: Error | undefined

  /** A Blob that is being read, and what came behind it. */
  readonly #waiting: Waiting[] = []
  /** `close` was called while something was waiting. */
  #closeBehind: (() => void) | undefined
  /** Payload bytes of what waits. */
  #waitingBytes = 0
  /** Payload bytes that were handed to the connection in this turn of the event loop. */
  #turnBytes = 0
  /** Payload bytes that were accepted and that the kernel has not got, as far as we know. */
  #unsentBytes = 0
  /** Payload bytes that were given to `send` too late. */
  #lostBytes = 0

  /**
   * Begins to connect; what comes of it is told by events, never before the constructor has returned.
   *
   * @param url `ws:`, `wss:`, `http:` or `https:`, as a page has it; also `ws+unix:`, as `connect` has it.
   * @param protocols one subprotocol or several; or, beyond the standard, options.
   * @throws DOMException `SyntaxError` for a URL that cannot be, and for subprotocols that are no tokens or stand twice;
   *   UsageError for options that cannot be.
   */
  constructor(url: string | URL, protocols: string | Iterable<string> | WebSocketOptions = []) {
    super()
    const isList = typeof protocols === 'string' || Symbol.iterator in protocols
    const { protocols: given = [], signal, ...options } = isList ? { protocols } : protocols
    const subprotocols = typeof given === 'string' ? [given] : Array.from(given, String)
    const parsed = parsePageUrl(url)
    checkSubprotocols(subprotocols)
    checkConnectOptions(options, OPTION_NAMES)
    this.#url = parsed.href
    this.#origin = parsed.origin
    const { signal: dialling } = this.#dialling
    connect(parsed, {
      ...options,
      subprotocols,
      signal: signal === undefined ? dialling : AbortSignal.any([signal, dialling]),
      message: (_, data) => this.#receive(data),
      close: (_, event) => this.#end(event),
      error: (error) => {
        this.#error = error
      },
    }).then(
      (connection) => this.#open(connection, subprotocols),
      // A task of its own, as everything that is told.
      (error) => setImmediate(() => this.#fail(error)),
    )
  }

  // ── attributes ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The URL, as it was understood. */
  get url(): string {
    return this.#url
  }

  /** `CONNECTING`, `OPEN`, `CLOSING` or `CLOSED`. */
  get readyState(): 0 | 1 | 2 | 3 {
    // The peer has begun to close, or the connection has failed.
    if (this.#state === OPEN && this.#connection?.state !== 'open') return CLOSING
    return this.#state
  }

  /**
   * Bytes, without framing, that were given to `send` and that the kernel has not got. What is given when it is too late
   * counts for ever.
   */
  get bufferedAmount(): number {
    if (this.#state === CLOSED || this.#connection === undefined) return this.#unsentBytes + this.#lostBytes
    const most = this.#waitingBytes + this.#turnBytes + this.#connection.bufferedBytes
    return Math.min(this.#unsentBytes, most) + this.#lostBytes
  }

  /** The extensions that were agreed on; '' before it is open, and where there are none. */
  get extensions(): string {
    return this.#connection?.compressed === true ? 'permessage-deflate' : ''
  }

  /** The subprotocol that the server has chosen; '' before it is open, and where there is none. */
  get protocol(): string {
    return this.#connection?.subprotocol ?? ''
  }

  /** What `data` of a binary message is: a `Blob`, which is the default, or an `ArrayBuffer`. Other values are ignored. */
  get binaryType(): 'blob' | 'arraybuffer' {
    return this.#binaryType
  }

  set binaryType(type: 'blob' | 'arraybuffer') {
    if (type === 'blob' || type === 'arraybuffer') this.#binaryType = type
  }

  /** Listener of the event `open`. */
  get onopen(): WebSocketListener<'open'> | null {
    return this.#attributes.get('open') as WebSocketListener<'open'> | null
  }

  set onopen(listener: WebSocketListener<'open'> | null) {
    this.#attributes.set('open', listener)
  }

  /** Listener of the event `message`. */
  get onmessage(): WebSocketListener<'message'> | null {
    return this.#attributes.get('message') as WebSocketListener<'message'> | null
  }

  set onmessage(listener: WebSocketListener<'message'> | null) {
    this.#attributes.set('message', listener)
  }

  /** Listener of the event `error`, which comes before `close` when the connection has failed. */
  get onerror(): WebSocketListener<'error'> | null {
    return this.#attributes.get('error') as WebSocketListener<'error'> | null
  }

  set onerror(listener: WebSocketListener<'error'> | null) {
    this.#attributes.set('error', listener)
  }

  /** Listener of the event `close`. */
  get onclose(): WebSocketListener<'close'> | null {
    return this.#attributes.get('close') as WebSocketListener<'close'> | null
  }

  set onclose(listener: WebSocketListener<'close'> | null) {
    this.#attributes.set('close', listener)
  }

  // ── methods ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends a message: a string as text (lone surrogates become U+FFFD), bytes or a Blob as binary, and anything else as
   * its string. Messages leave in the order of the calls, also where a Blob has to be read first. Does nothing when the
   * connection is closing or closed.
   *
   * @throws DOMException `InvalidStateError` while connecting.
   */
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): void {
    if (this.#state === CONNECTING) throw new DOMException('The WebSocket is still connecting.', 'InvalidStateError')
    const message = toMessage(data)
    const size = sizeOf(message)
    if (this.readyState !== OPEN) {
      this.#lostBytes += size
      return
    }
    this.#unsentBytes += size
    if (this.#waiting.length === 0 && !(message instanceof Blob)) {
      this.#transmit(message)
      return
    }
    // Its bytes may change while it waits.
    this.#waiting.push(message instanceof Uint8Array ? message.slice() : message)
    this.#waitingBytes += size
    if (this.#waiting.length === 1) void this.#transmitWaiting()
  }

  /**
   * Closes the connection behind everything that was sent; while connecting, gives up. Does nothing when it is closing
   * already.
   *
   * @param code 1000, or 3000 to 4999.
   * @param reason at most 123 bytes of UTF-8.
   * @throws DOMException `InvalidAccessError` for any other code, `SyntaxError` for a longer reason.
   */
  close(code?: number, reason?: string): void {
    const status = code === undefined ? undefined : toUnsignedShort(code)
    if (status !== undefined && status !== 1000 && !(status >= 3000 && status <= 4999))
      throw new DOMException('The close code must be 1000, or 3000 to 4999.', 'InvalidAccessError')
    const text = reason === undefined ? '' : String(reason)
    if (Buffer.byteLength(text) > MAX_CLOSE_REASON_BYTES)
      throw new DOMException(`The reason may have ${MAX_CLOSE_REASON_BYTES} bytes at most.`, 'SyntaxError')
    if (this.#state === CONNECTING) {
      this.#dialling.abort(new WebSocketError('ERR_CONNECTION_CLOSED', 'it was closed before it was open'))
    } else if (this.#state === OPEN) {
      // A reason cannot go without a code.
      const close = (): void => this.#connection?.close(status ?? (text === '' ? undefined : 1000), text)
      if (this.#waiting.length === 0) close()
      else this.#closeBehind = close
    } else return
    this.#state = CLOSING
  }

  override addEventListener<Type extends keyof WebSocketEvents>(
    type: Type,
    listener: WebSocketListener<Type> | { handleEvent(event: WebSocketEvents[Type]): unknown } | null,
    options?: Parameters<EventTarget['addEventListener']>[2],
  ): void
  override addEventListener(...given: Parameters<EventTarget['addEventListener']>): void
  override addEventListener(...given: unknown[]): void {
    super.addEventListener(...(given as Parameters<EventTarget['addEventListener']>))
  }

  override removeEventListener<Type extends keyof WebSocketEvents>(
    type: Type,
    listener: WebSocketListener<Type> | { handleEvent(event: WebSocketEvents[Type]): unknown } | null,
    options?: Parameters<EventTarget['removeEventListener']>[2],
  ): void
  override removeEventListener(...given: Parameters<EventTarget['removeEventListener']>): void
  override removeEventListener(...given: unknown[]): void {
    super.removeEventListener(...(given as Parameters<EventTarget['removeEventListener']>))
  }

  get [Symbol.toStringTag](): string {
    return 'WebSocket'
  }

  // ── the connection ────────────────────────────────────────────────────────────────────────────────────────────────

  #open(connection: WebSocketConnection<undefined>, offered: readonly string[]): void {
    this.#connection = connection
    // "This covers a subprotocol requested by the client, but unacknowledged by the server": the standard is stricter
    // than RFC 6455.
    if (offered.length > 0 && connection.subprotocol === '')
      this.#error = new WebSocketError('ERR_CONNECTION_CLOSED', 'the server has chosen none of the subprotocols')
    else if (this.#state !== CONNECTING)
      this.#error = new WebSocketError('ERR_CONNECTION_CLOSED', 'it was closed before it was open')
    if (this.#error !== undefined) {
      connection.terminate()
      return
    }
    this.#state = OPEN
    this.dispatchEvent(new Event('open'))
  }

  #receive(data: Message): void {
    if (this.#state !== OPEN) return
    this.dispatchEvent(new MessageEvent('message', { data: this.#toData(data), origin: this.#origin }))
  }

  #toData(message: Message): string | Blob | ArrayBuffer {
    if (typeof message === 'string') return message
    if (this.#binaryType === 'blob') return new Blob([message as Uint8Array<ArrayBuffer>])
    const { buffer, byteOffset, byteLength } = message
    const isWhole = byteLength === buffer.byteLength && buffer instanceof ArrayBuffer
    return (isWhole ? buffer : buffer.slice(byteOffset, byteOffset + byteLength)) as ArrayBuffer
  }

  #end(event: CloseEvent): void {
    if (event.wasClean) this.#tellClose(event)
    else
      this.#fail(this.#error ?? new WebSocketError('ERR_CONNECTION_CLOSED', event.reason || 'the connection was cut'))
  }

  #fail(error: unknown): void {
    this.#state = CLOSED
    this.dispatchEvent(new WebSocketErrorEvent('error', error))
    this.#tellClose({ code: 1006, reason: '', wasClean: false })
  }

  #tellClose(event: CloseEvent): void {
    this.#state = CLOSED
    this.dispatchEvent(new WebSocketCloseEvent('close', event))
  }

  #transmit(data: string | Uint8Array): void {
    this.#connection?.send(data)
    if (this.#turnBytes === 0) setImmediate(() => this.#turnEnds())
    this.#turnBytes += sizeOf(data)
  }

  /** From here on the connection knows what has left. */
  #turnEnds(): void {
    const bytes = this.#turnBytes
    this.#turnBytes = 0
    this.#connection?.flushed().then(
      () => {
        this.#unsentBytes -= bytes
      },
      // It stays unsent.
      () => {},
    )
  }

  async #transmitWaiting(): Promise<void> {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      try {
        const data = next instanceof Blob ? new Uint8Array(await next.arrayBuffer()) : next
        this.#transmit(data)
      } catch (error) {
        // A file that is gone, say. The other side must not take what follows for the whole.
        this.#error = error as Error
        await this.#connection?.flushed().catch(() => {})
        this.#connection?.terminate()
        return
      }
      this.#waiting.shift()
      this.#waitingBytes -= sizeOf(next)
    }
    this.#closeBehind?.()
  }
}

for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSING, CLOSED })) {
  const constant = { value, enumerable: true, writable: false, configurable: false }
  Object.defineProperty(WebSocket, name, constant)
  Object.defineProperty(WebSocket.prototype, name, constant)
}

function parsePageUrl(given: string | URL): URL {
  try {
    parseUrl(given)
  } catch (error) {
    const message = error instanceof UsageError ? `${error.message}.` : String(error)
    throw new DOMException(message, 'SyntaxError')
  }
  const url = new URL(given)
  if (url.protocol === 'http:') url.protocol = 'ws:'
  if (url.protocol === 'https:') url.protocol = 'wss:'
  return url
}

function checkSubprotocols(subprotocols: readonly string[]): void {
  const distinct = new Set(subprotocols.map((subprotocol) => subprotocol.toLowerCase()))
  if (distinct.size === subprotocols.length && subprotocols.every(isToken)) return
  throw new DOMException('Subprotocols must be tokens, none twice.', 'SyntaxError')
}

function toMessage(data: unknown): string | Uint8Array | Blob {
  if (typeof data === 'string' || data instanceof Blob) return data
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  // `instanceof` knows only the classes of this realm.
  if (Object.prototype.toString.call(data) === '[object ArrayBuffer]') return new Uint8Array(data as ArrayBuffer)
  return String(data)
}

function sizeOf(data: string | Uint8Array | Blob): number {
  if (typeof data === 'string') return Buffer.byteLength(data)
  return data instanceof Blob ? data.size : data.byteLength
}

/** Web IDL §3.2.4.9, `[Clamp] unsigned short`. */
function toUnsignedShort(value: unknown): number {
  return Math.min(Math.max(Math.round(Number(value)) || 0, 0), 0xffff)
}
