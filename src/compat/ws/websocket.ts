import { EventEmitter } from 'node:events'
import type { ClientRequest, ClientRequestArgs, IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { MAX_CONTROL_BYTES, Opcode } from '../../constants.ts'
import type { DeflateProfile } from '../../deflate.ts'
import { asBinaryType, checkClose, closedWhile, isBlob, toBuffer } from './data.ts'
import { Dialing } from './dialing.ts'
import { translateError } from './errors.ts'
import {
  addHandler,
  attributeHandler,
  type EventType,
  type Handler,
  removeHandler,
  setAttributeHandler,
} from './event-target.ts'
import { checkDeflateOptions } from './extension.ts'
import {
  closePayload,
  kClosed,
  kCloseFrame,
  kClosing,
  kEnded,
  kFailed,
  kMessage,
  kPing,
  kPong,
  Link,
  type LinkSettings,
  type SendCallback,
} from './link.ts'
import {
  type BinaryType,
  type BufferLike,
  type ClientOptions,
  CONNECTION_DEFAULTS,
  type CommonOptions,
  type Data,
  type RawData,
  type SendOptions,
} from './options.ts'
import { Sender } from './sender.ts'

export interface Event {
  readonly type: string
  readonly target: WebSocket
}

export interface MessageEvent extends Event {
  readonly data: Data
}

export interface CloseEvent extends Event {
  readonly code: number
  readonly reason: string
  readonly wasClean: boolean
}

export interface ErrorEvent extends Event {
  // biome-ignore lint/suspicious/noExplicitAny: as programs written for ws have it
  readonly error: any
  readonly message: string
}

export interface WebSocketEventMap {
  open: Event
  error: ErrorEvent
  close: CloseEvent
  message: MessageEvent
}

/** Listeners of the emitter. */
interface WebSocketListeners {
  open(this: WebSocket): void
  message(this: WebSocket, data: RawData, isBinary: boolean): void
  close(this: WebSocket, code: number, reason: Buffer): void
  error(this: WebSocket, error: Error): void
  ping(this: WebSocket, data: Buffer): void
  pong(this: WebSocket, data: Buffer): void
  upgrade(this: WebSocket, response: IncomingMessage): void
  redirect(this: WebSocket, url: string, request: ClientRequest): void
  'unexpected-response'(this: WebSocket, request: ClientRequest, response: IncomingMessage): void
}

// biome-ignore lint/suspicious/noExplicitAny: of events that are not ours nothing is known
type AnyListener = (this: WebSocket, ...args: any[]) => void

type ReadyState = 0 | 1 | 2 | 3
const CONNECTING = 0
const OPEN = 1
const CLOSING = 2
const CLOSED = 3
const STATE_NAMES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'] as const

const EMPTY: Buffer = Buffer.alloc(0)
const BINARY_TYPES: readonly string[] = ['nodebuffer', 'arraybuffer', 'fragments', 'blob']

const NO_STATUS = 1005
const ABNORMAL = 1006

function noop(): void {}

/** The emitter's members, which know its events. */
export interface WebSocket {
  on<Name extends keyof WebSocketListeners>(event: Name, listener: WebSocketListeners[Name]): this
  on(event: string | symbol, listener: AnyListener): this
  once<Name extends keyof WebSocketListeners>(event: Name, listener: WebSocketListeners[Name]): this
  once(event: string | symbol, listener: AnyListener): this
  off<Name extends keyof WebSocketListeners>(event: Name, listener: WebSocketListeners[Name]): this
  off(event: string | symbol, listener: AnyListener): this
  addListener<Name extends keyof WebSocketListeners>(event: Name, listener: WebSocketListeners[Name]): this
  addListener(event: string | symbol, listener: AnyListener): this
  removeListener<Name extends keyof WebSocketListeners>(event: Name, listener: WebSocketListeners[Name]): this
  removeListener(event: string | symbol, listener: AnyListener): this
}

/**
 * The class that `require('ws')` gives, on this library's engine: a connection of a `WebSocketServer`, or a client.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: types alone
export class WebSocket extends EventEmitter {
  declare static readonly CONNECTING: 0
  declare static readonly OPEN: 1
  declare static readonly CLOSING: 2
  declare static readonly CLOSED: 3
  declare readonly CONNECTING: 0
  declare readonly OPEN: 1
  declare readonly CLOSING: 2
  declare readonly CLOSED: 3

  /** Texts and reasons are given as strings, as before version 8. */
  protected static get textAsString(): boolean {
    return false
  }

  /** @internal Programs set it on a WebSocket that they give a stream of their own. */
  _isServer: boolean
  /** @internal */
  _readyState: ReadyState = CONNECTING
  /** @internal */
  _closeTimer: NodeJS.Timeout | null = null
  readonly #options: CommonOptions & ClientOptions<WebSocket>
  #url: string | undefined
  #protocol = ''
  #extensions = ''
  #binaryType: BinaryType = 'nodebuffer'
  #paused = false
  #link: Link | undefined
  #sender: Sender | undefined
  #dialing: Dialing | undefined
  #deflate: DeflateProfile | undefined
  /** Bytes that were not accepted, which the standard has counted too. */
  #refusedBytes = 0
  #closeCode = ABNORMAL
  #closeReason = EMPTY
  #closeFrameSent = false
  #closeFrameReceived = false
  #failed = false
  #errorEmitted = false
  #readsBlob = false
  #blobFailure: Error | undefined

  /**
   * Opens a connection to `address`.
   *
   * @throws SyntaxError for an address or subprotocols that cannot be, RangeError for a `protocolVersion` that is not 8 or 13.
   */
  constructor(address: null, protocols?: undefined, options?: CommonOptions)
  constructor(address: string | URL, options?: ClientOptions<WebSocket> | ClientRequestArgs)
  constructor(
    address: string | URL,
    protocols?: string | string[],
    options?: ClientOptions<WebSocket> | ClientRequestArgs,
  )
  constructor(address: string | URL | null, protocols?: unknown, options?: unknown) {
    super()
    if (address === null) {
      this.#options = (options ?? {}) as CommonOptions
      this._isServer = true
      return
    }
    this._isServer = false
    let given = options as ClientOptions<WebSocket> | undefined
    let offered = protocols
    if (typeof protocols === 'object' && protocols !== null && !Array.isArray(protocols)) {
      given = protocols as ClientOptions<WebSocket>
      offered = undefined
    }
    offered ??= protocols === null ? null : given?.protocols
    const list = offered === undefined ? [] : Array.isArray(offered) ? offered : [offered]
    this.#options = { ...CONNECTION_DEFAULTS, perMessageDeflate: true, ...given }
    checkDeflateOptions(this.#options.perMessageDeflate)
    this.#dialing = new Dialing(
      this as never,
      this.#dialer(),
      address,
      list as string[],
      this.#options as ClientOptions,
    )
    this.#dialing.start()
  }

  /** What the opening handshake may do with this object. */
  #dialer() {
    return {
      setUrl: (url: string) => {
        this.#url = url
      },
      isConnecting: () => this._readyState === CONNECTING,
      setClosing: () => {
        this._readyState = CLOSING
      },
      fail: (error: unknown) => {
        this._readyState = CLOSING
        this.#emitError(error)
        this.#emitClose()
      },
      failLater: (socket: Duplex, error: unknown) => {
        this._readyState = CLOSING
        socket.once('error', noop)
        socket.destroy()
        process.nextTick(() => {
          this.#emitError(error)
          this.#emitClose()
        })
      },
      open: (socket: Duplex, head: Buffer, protocol: string, deflate: DeflateProfile | undefined) => {
        this.#protocol = protocol
        this.#agree(deflate)
        this.setSocket(socket, head, this.#options)
      },
    }
  }

  #agree(deflate: DeflateProfile | undefined): void {
    this.#deflate = deflate
    this.#extensions = deflate === undefined ? '' : 'permessage-deflate'
  }

  // ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  get readyState(): ReadyState {
    return this._readyState
  }

  /** Address of the server; undefined on the server's side. */
  get url(): string {
    return this.#url as string
  }

  /** The subprotocol that was agreed on, or ''. */
  get protocol(): string {
    return this.#protocol
  }

  /** `permessage-deflate`, or ''. */
  get extensions(): string {
    return this.#extensions
  }

  get isPaused(): boolean {
    return this.#paused
  }

  /** Bytes that wait to be given to the kernel, and those that could not be sent any more. */
  get bufferedAmount(): number {
    return (this.#link === undefined ? 0 : this.#link.bufferedBytes) + this.#refusedBytes
  }

  get binaryType(): BinaryType {
    return this.#binaryType
  }

  set binaryType(type: BinaryType) {
    if (BINARY_TYPES.includes(type)) this.#binaryType = type
  }

  /** @internal The socket, with all that was sent before given to it. */
  get _socket(): Duplex | null {
    this.#link?.output.writeWaiting()
    return this.#link?.socket ?? null
  }

  /** @internal For programs that frame a message once and write it to many. */
  get _sender(): Sender | null {
    const link = this.#link
    if (link === undefined) return null
    this.#sender ??= new Sender(link)
    return this.#sender
  }

  // ── the socket ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @internal The server's part of the handshake: what was agreed on. */
  _accept(protocol: string, deflate: DeflateProfile | undefined): void {
    this.#protocol = protocol
    this.#agree(deflate)
  }

  /** @internal Opens the WebSocket on a stream whose handshake is done. */
  setSocket(
    socket: Duplex,
    head?: Buffer,
    options: CommonOptions & { generateMask?: ((mask: Buffer) => void) | undefined } = {},
  ): void {
    const settings: LinkSettings = {
      isServer: this._isServer,
      textAsString: this.#textAsString,
      allowSynchronousEvents: options.allowSynchronousEvents !== false,
      maxPayload: options.maxPayload ?? 0,
      maxFragments: options.maxFragments ?? 0,
      maxBufferedChunks: options.maxBufferedChunks ?? 0,
      skipUTF8Validation: options.skipUTF8Validation === true,
      generateMask: options.generateMask,
      deflate: this.#deflate,
    }
    const tcp = socket as { setTimeout?(timeout: number): void; setNoDelay?(): void }
    tcp.setTimeout?.(0)
    tcp.setNoDelay?.()
    this.#link = new Link(socket, this, settings)
    this.#link.start(head)
    this._readyState = OPEN
    this.emit('open')
  }

  get #textAsString(): boolean {
    return (this.constructor as typeof WebSocket).textAsString
  }

  /** @internal */
  [kMessage](data: string | Buffer, isBinary: boolean, ends: readonly number[] | undefined): void {
    const message = isBinary ? asBinaryType(data as Buffer, this.#binaryType, ends) : data
    this.emit('message', message, isBinary)
  }

  /** @internal */
  [kPong](payload: Buffer): void {
    this.emit('pong', payload)
  }

  /** @internal */
  [kEnded](): void {
    this._readyState = CLOSING
    this.#link?.output.end()
  }

  /** @internal */
  [kClosing](): void {
    this._readyState = CLOSING
  }

  /** @internal */
  [kClosed](): void {
    if (this._closeTimer !== null) clearTimeout(this._closeTimer)
    this.#emitClose()
  }

  /** @internal */
  [kPing](payload: Buffer): void {
    const { autoPong = true, maxPendingAutoPongs = CONNECTION_DEFAULTS.maxPendingAutoPongs } = this.#options
    if (autoPong && this._readyState === OPEN) {
      const link = this.#link!
      if (link.notePong(maxPendingAutoPongs)) this.pong(payload, !this._isServer, () => link.pongLeft())
      else this.terminate()
    }
    this.emit('ping', payload)
  }

  /** @internal */
  [kCloseFrame](code: number, reason: Buffer): void {
    this.#closeFrameReceived = true
    this.#closeCode = code
    this.#closeReason = reason
    if (code === NO_STATUS) this.close()
    else this.close(code, reason)
  }

  /** @internal */
  [kFailed](thrown: unknown): void {
    const { error, closeCode } = translateError(thrown)
    this.#failed = true
    this.close(closeCode)
    this.#emitError(error)
  }

  #emitError(error: unknown): void {
    if (this.#errorEmitted) return
    this.#errorEmitted = true
    this.emit('error', error)
  }

  #emitClose(): void {
    this._readyState = CLOSED
    const reason = this.#textAsString ? String(this.#closeReason) : this.#closeReason
    this.emit('close', this.#closeCode, reason)
  }

  // ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends a message.
   *
   * @param callback called when the kernel has taken it, or with an error when that will not be.
   * @throws Error while the connection is being opened, TypeError for what cannot be sent.
   */
  send(data: BufferLike, callback?: (error?: Error) => void): void
  send(data: BufferLike, options: SendOptions, callback?: (error?: Error) => void): void
  send(data: unknown, options?: unknown, callback?: unknown): void {
    this.#checkConnected()
    const [given, done] = typeof options === 'function' ? [undefined, options] : [options, callback]
    const message = typeof data === 'number' ? String(data) : data
    if (this._readyState !== OPEN) this.#refuse(message, done as SendCallback | undefined)
    else if (typeof message === 'string' && given === undefined && !this.#link!.protocol.sender.isFragmenting) {
      this.#link!.sendText(message)
      if (done !== undefined) this.#whenFlushed(done as SendCallback)
    } else {
      this.#sendWith(message, given as SendOptions | undefined)
      if (done !== undefined) this.#whenFlushed(done as SendCallback)
    }
  }

  #sendWith(message: unknown, given: SendOptions | undefined): void {
    const isText = typeof message === 'string'
    const { binary, compress, fin, mask } = {
      binary: !isText,
      compress: undefined,
      fin: true,
      mask: undefined,
      ...given,
    }
    const opcode = binary ? Opcode.BINARY : Opcode.TEXT
    const { sender } = this.#link!.protocol
    const isUsual = fin === true && !sender.isFragmenting && (mask === undefined || mask === !this._isServer)
    const fragment = { isLast: fin === true, compress: compress !== false, masked: mask ?? !this._isServer }
    if (isBlob(message)) {
      this.#readBlob(message, (read) => {
        if (isUsual) sender.sendFetched(opcode, message.size, read, compress)
        else sender.sendFetchedFragment(opcode, message.size, read, fragment)
      })
      return
    }
    const payload = toBuffer(message || '')
    if (isUsual) this.#link!.sendPayload(opcode, payload, compress)
    else sender.sendFragment(opcode, payload, fragment)
  }

  /** Reads a blob when it is its turn; what was sent behind it waits. */
  #readBlob(blob: Blob, whenItsTurn: (read: (done: (content: Uint8Array) => void) => void) => void): void {
    whenItsTurn((done) => {
      this.#readsBlob = true
      blob.arrayBuffer().then(
        (content) => {
          this.#readsBlob = false
          done(new Uint8Array(content))
        },
        (error) => {
          this.#readsBlob = false
          this.#blobFailure = error
          this.#link!.protocol.sender.cancel()
          process.nextTick(() => this.#failReading(error))
        },
      )
    })
  }

  #whenFlushed(callback: SendCallback): void {
    this.#link!.whenFlushed(callback, () => this.#blobFailure ?? closedWhile(this.#readsBlob))
  }

  #failReading(error: unknown): void {
    if (this._readyState === CLOSED) return
    this._readyState = CLOSING
    this.#emitError(error)
    this.#link?.output.end()
    this.#setCloseTimer()
  }

  /** Sends a Ping. @throws RangeError for more than 125 bytes, Error while the connection is being opened. */
  ping(callback?: (error?: Error) => void): void
  ping(data: unknown, callback?: (error?: Error) => void): void
  ping(data?: unknown, mask?: boolean, callback?: (error: Error) => void): void
  ping(data?: unknown, mask?: unknown, callback?: unknown): void {
    this.#sendControl(Opcode.PING, data, mask, callback)
  }

  /** Sends a Pong that nobody has asked for. @throws as `ping`. */
  pong(callback?: (error?: Error) => void): void
  pong(data: unknown, callback?: (error?: Error) => void): void
  pong(data?: unknown, mask?: boolean, callback?: (error: Error) => void): void
  pong(data?: unknown, mask?: unknown, callback?: unknown): void {
    this.#sendControl(Opcode.PONG, data, mask, callback)
  }

  #sendControl(opcode: Opcode, ...given: unknown[]): void {
    this.#checkConnected()
    const at = given.findIndex((argument) => typeof argument === 'function')
    const done = at === -1 ? undefined : (given[at] as SendCallback)
    const [data, mask] = at === -1 ? given : given.slice(0, at)
    const content = typeof data === 'number' ? String(data) : data
    if (this._readyState !== OPEN) {
      this.#refuse(content, done)
      return
    }
    const size = isBlob(content) ? content.size : toBuffer(content || '').byteLength
    if (size > MAX_CONTROL_BYTES) {
      throw new RangeError(`The data size must not be greater than ${MAX_CONTROL_BYTES} bytes`)
    }
    const { sender } = this.#link!.protocol
    const masked = mask === undefined ? !this._isServer : mask === true
    if (isBlob(content)) {
      this.#readBlob(content, (read) =>
        sender.doFetched(size, read, (payload) => sender.sendControl(opcode, payload, masked)),
      )
    } else {
      const payload = toBuffer(content || '')
      sender.whenSent(() => sender.sendControl(opcode, payload, masked), undefined, size)
    }
    if (done !== undefined) this.#whenFlushed(done)
  }

  #checkConnected(): void {
    if (this._readyState !== CONNECTING) return
    throw new Error('WebSocket is not open: readyState 0 (CONNECTING)')
  }

  /** What is sent too late is counted, as the standard has it. */
  #refuse(data: unknown, callback: SendCallback | undefined): void {
    if (data) this.#refusedBytes += isBlob(data) ? data.size : toBuffer(data).byteLength
    if (typeof callback !== 'function') return
    const state = this._readyState
    process.nextTick(callback, new Error(`WebSocket is not open: readyState ${state} (${STATE_NAMES[state]})`))
  }

  // ── closing ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Starts the closing handshake, or answers that of the peer.
   *
   * @throws TypeError for a code that may not be sent, RangeError for a reason of more than 123 bytes.
   */
  close(code?: number, reason?: string | Buffer): void {
    if (this._readyState === CLOSED) return
    if (this._readyState === CONNECTING) {
      this.#abortHandshake()
      return
    }
    const link = this.#link!
    if (this._readyState === CLOSING) {
      if (this.#closeFrameSent && (this.#closeFrameReceived || this.#failed)) link.output.end()
      return
    }
    const payload = closePayload(code, checkClose(code, reason))
    this._readyState = CLOSING
    const { sender } = link.protocol
    sender.whenSent(() => {
      sender.sendControl(Opcode.CLOSE, payload)
      this.#closeFrameSent = true
      if (this.#closeFrameReceived || this.#failed) link.output.end()
    })
    this.#setCloseTimer()
  }

  /** Cuts the connection. */
  terminate(): void {
    if (this._readyState === CLOSED) return
    if (this._readyState === CONNECTING) {
      this.#abortHandshake()
      return
    }
    if (this.#link === undefined) return
    this._readyState = CLOSING
    this.#link.output.flush()
    this.#link.protocol.sender.cancel()
    this.#link.socket.destroy()
  }

  #abortHandshake(): void {
    this._readyState = CLOSING
    this.#dialing?.abort()
    process.nextTick(() => {
      this.#emitError(new Error('WebSocket was closed before the connection was established'))
      this.#emitClose()
    })
  }

  #setCloseTimer(): void {
    const { closeTimeout = CONNECTION_DEFAULTS.closeTimeout } = this.#options
    this._closeTimer ??= setTimeout(() => this.#link?.socket.destroy(), closeTimeout)
  }

  // ── holding back ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Stops reading: TCP holds the peer back. Nothing happens while connecting, or when closed. */
  pause(): void {
    if (this._readyState === CONNECTING || this._readyState === CLOSED) return
    this.#paused = true
    this.#link?.pause()
  }

  /** Ends `pause`. */
  resume(): void {
    if (this._readyState === CONNECTING || this._readyState === CLOSED) return
    this.#paused = false
    this.#link?.resume()
  }

  // ── events, as browsers have them ─────────────────────────────────────────────────────────────────────────────────

  /** Whether both Close frames were exchanged, for whoever asks at the end. */
  get #wasClean(): () => boolean {
    return () => this.#closeFrameSent && this.#closeFrameReceived
  }

  /** Adds a listener for `open`, `message`, `close` or `error`; other types are ignored. */
  addEventListener<Type extends keyof WebSocketEventMap>(
    type: Type,
    listener: ((event: WebSocketEventMap[Type]) => void) | { handleEvent(event: WebSocketEventMap[Type]): void },
    options: { once?: boolean | undefined } = {},
  ): void {
    addHandler(this, type, listener as Handler, { once: options.once === true }, this.#wasClean)
  }

  removeEventListener<Type extends keyof WebSocketEventMap>(
    type: Type,
    listener: ((event: WebSocketEventMap[Type]) => void) | { handleEvent(event: WebSocketEventMap[Type]): void },
  ): void {
    removeHandler(this, type, listener as Handler)
  }

  get onopen(): ((event: Event) => void) | null {
    return this.#handler('open')
  }

  set onopen(handler: ((event: Event) => void) | null) {
    this.#setHandler('open', handler)
  }

  get onmessage(): ((event: MessageEvent) => void) | null {
    return this.#handler('message')
  }

  set onmessage(handler: ((event: MessageEvent) => void) | null) {
    this.#setHandler('message', handler)
  }

  get onclose(): ((event: CloseEvent) => void) | null {
    return this.#handler('close')
  }

  set onclose(handler: ((event: CloseEvent) => void) | null) {
    this.#setHandler('close', handler)
  }

  get onerror(): ((event: ErrorEvent) => void) | null {
    return this.#handler('error')
  }

  set onerror(handler: ((event: ErrorEvent) => void) | null) {
    this.#setHandler('error', handler)
  }

  #handler<E>(type: EventType): ((event: E) => void) | null {
    return attributeHandler(this, type) as ((event: E) => void) | null
  }

  #setHandler(type: EventType, handler: unknown): void {
    setAttributeHandler(this, type, handler, this.#wasClean)
  }
}

/** Gives a class the four states, as programs expect them: own, and not to be changed. */
export function defineStates(Class: typeof WebSocket): void {
  for (const [state, name] of STATE_NAMES.entries()) {
    Object.defineProperty(Class, name, { enumerable: true, value: state })
    Object.defineProperty(Class.prototype, name, { enumerable: true, value: state })
  }
}

defineStates(WebSocket)
for (const name of [
  ...['binaryType', 'bufferedAmount', 'extensions', 'isPaused', 'protocol', 'readyState', 'url'],
  ...['onopen', 'onmessage', 'onclose', 'onerror', 'addEventListener', 'removeEventListener'],
]) {
  Object.defineProperty(WebSocket.prototype, name, { enumerable: true })
}
