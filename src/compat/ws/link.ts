import type { Duplex } from 'node:stream'
import { batch } from '../../batch.ts'
import type { Opcode } from '../../constants.ts'
import type { DeflateProfile } from '../../deflate.ts'
import { maxCompressedBytes } from '../../deflate.ts'
import type { ProtocolError } from '../../errors.ts'
import { Output, type OutputHost } from '../../output.ts'
import { type ProtocolOptions, WebSocketProtocol } from '../../protocol.ts'
import type { Conversation, ProtocolHost } from '../../protocol-host.ts'
import { findRepeated, forgetReceiver } from '../../repeats.ts'
import { adopt, isAlone, type SocketPeer } from '../../socket-peer.ts'
import { tooManyChunks } from './errors.ts'

/** What a link has to know; see the options of `ws`. */
export interface LinkSettings {
  readonly isServer: boolean
  readonly textAsString: boolean
  readonly allowSynchronousEvents: boolean
  readonly maxPayload: number
  readonly maxFragments: number
  readonly maxBufferedChunks: number
  readonly skipUTF8Validation: boolean
  readonly generateMask: ((mask: Buffer) => void) | undefined
  readonly deflate: DeflateProfile | undefined
}

// What a link tells its WebSocket: by symbols, so that programs see nothing of it, and by methods, so that a connection
// needs no closures.
export const kMessage: unique symbol = Symbol('message')
export const kPing: unique symbol = Symbol('ping')
export const kPong: unique symbol = Symbol('pong')
export const kCloseFrame: unique symbol = Symbol('closeFrame')
export const kFailed: unique symbol = Symbol('failed')
export const kEnded: unique symbol = Symbol('ended')
export const kClosing: unique symbol = Symbol('closing')
export const kClosed: unique symbol = Symbol('closed')

/** Who is told what happens on a link. */
export interface LinkUser {
  [kMessage](data: string | Buffer, isBinary: boolean, fragmentEnds: readonly number[] | undefined): void
  [kPing](payload: Buffer): void
  [kPong](payload: Buffer): void
  /** The peer's Close frame. */
  [kCloseFrame](code: number, reason: Buffer): void
  /** Reading has failed, by the peer's fault mostly. */
  [kFailed](error: unknown): void
  /** The peer has ended TCP. */
  [kEnded](): void
  /** The socket is gone, and everything that it has brought is delivered; callbacks follow, and then `kClosed`. */
  [kClosing](): void
  [kClosed](): void
}

export type SendCallback = (error?: Error | null) => void

/** 0 stands for no limit, and so does what is no number. */
function limit(value: number | undefined): number {
  return value !== undefined && value > 0 ? value : Number.POSITIVE_INFINITY
}

/** So many connections compress what waits before others have their turn on the event loop. */
const MAX_DEFERRED = 64
let deferred = 0

function defer(work: () => void): void {
  if (deferred === 0) {
    setImmediate(() => {
      deferred = 0
    })
  }
  if (deferred++ < MAX_DEFERRED) process.nextTick(work)
  else setImmediate(work)
}

/** Listeners of the user's are called as an emitter calls them: what they throw is the process's, not the connection's. */
function callUser(action: () => void): void {
  try {
    action()
  } catch (error) {
    process.nextTick(() => {
      throw error
    })
  }
}

/** Joins the engine's protocol and output to a socket, for a `WebSocket` that answers and closes by its own rules. */
export class Link implements ProtocolHost, OutputHost, Conversation, SocketPeer {
  readonly socket: Duplex
  readonly protocol: WebSocketProtocol
  readonly output: Output
  readonly unreadMark: number = Number.POSITIVE_INFINITY
  readonly fillsSocket = true
  readonly #user: LinkUser
  readonly #settings: LinkSettings
  /** A message that goes to many connections can be one frame: it is neither masked nor compressed. */
  readonly #sharesFrames: boolean
  /** Callbacks of messages that are on their way to the socket, each with the place where its message ends. */
  #callbacks: { readonly end: number; readonly callback: SendCallback }[] = []
  /** Pongs that the socket has not taken. */
  #pendingPongs = 0
  /** Chunks that the frame under way has come in. */
  #chunks = 0
  #paused = false
  /** Why nothing is read: a message that is being inflated, an event that is to come. */
  #holds = 0
  /** Nothing is read any more: behind a Close frame, or a failure. */
  #finished = false
  #gone = false

  constructor(socket: Duplex, user: LinkUser, settings: LinkSettings) {
    this.socket = socket
    this.#user = user
    this.#settings = settings
    this.#sharesFrames = settings.isServer && settings.deflate === undefined
    this.output = new Output(socket, this)
    this.protocol = new WebSocketProtocol(protocolOptions(settings), this)
  }

  get conversation(): Conversation {
    return this
  }

  /** Begins to read. */
  start(head: Buffer | undefined): void {
    // A copy: the memory is somebody else's, and what comes out of a socket is freed.
    if (head !== undefined && head.length > 0) this.socket.unshift(Buffer.from(head))
    adopt(this.socket, this)
    this.#flow()
  }

  // ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An answer is none of many. */
  get #mayRepeat(): boolean {
    return this.#sharesFrames && batch.receiver !== this
  }

  sendText(text: string): void {
    const repeated = this.#mayRepeat ? findRepeated(text, this) : undefined
    if (repeated === undefined) this.protocol.sendText(text)
    else this.protocol.sendPrepared(repeated)
  }

  /** A message of which the payload is there as bytes. */
  sendPayload(opcode: Opcode, payload: Uint8Array, compress: boolean | undefined): void {
    const repeated = this.#mayRepeat ? findRepeated(payload, this, opcode) : undefined
    if (repeated === undefined) this.protocol.sender.sendPayload(opcode, payload, compress)
    else this.protocol.sendPrepared(repeated)
  }

  /** Calls back when everything sent so far has been given to the kernel, or never will be. */
  whenFlushed(callback: SendCallback, cancelled: () => Error): void {
    this.protocol.sender.whenSent(
      () => {
        if (this.#gone) process.nextTick(callback, destroyedError())
        else if (this.output.unsentBytes === 0) process.nextTick(callback)
        else this.#callbacks.push({ end: this.output.acceptedBytes, callback })
      },
      () => {
        if (this.#gone) callUser(() => callback(cancelled()))
        else process.nextTick(callback, cancelled())
      },
    )
  }

  /** Bytes that have been accepted, and not been given to the kernel. */
  get bufferedBytes(): number {
    this.output.flush()
    return this.output.unsentBytes + this.protocol.queuedBytes
  }

  /** Notes that a pong is sent; false when as many as may wait have not left yet. */
  notePong(most: number): boolean {
    if (most > 0 && this.#pendingPongs >= most) return false
    this.#pendingPongs++
    return true
  }

  /** It has left, or never will. */
  pongLeft(): void {
    this.#pendingPongs--
  }

  // ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

  pause(): void {
    this.#paused = true
    this.socket.pause()
  }

  resume(): void {
    this.#paused = false
    this.#flow()
  }

  receive(chunk: Buffer): void {
    if (this.#finished) return
    if (this.#holds > 0) {
      // A program has set the socket going itself.
      this.socket.pause()
      this.socket.unshift(chunk)
      return
    }
    const { maxBufferedChunks } = this.#settings
    if (this.#chunks >= limit(maxBufferedChunks)) {
      this.onFailed(tooManyChunks(this.#chunks))
      return
    }
    const size = chunk.length
    batch.beginChunk(this)
    try {
      this.protocol.receive(chunk, isAlone(chunk, this.socket))
    } finally {
      batch.endChunk()
    }
    const { partialBytes } = this.protocol
    if (partialBytes === 0) this.#chunks = 0
    // The frame began in this chunk, or before it.
    else this.#chunks = partialBytes < size ? 1 : this.#chunks + 1
  }

  socketEnded(): void {
    callUser(() => this.#user[kEnded]())
  }

  socketClosed(): void {
    this.#gone = true
    // What has arrived is delivered, though nobody was reading.
    if (!this.#finished && this.#holds === 0 && this.socket.readableLength > 0) {
      const chunk = this.socket.read() as Buffer | null
      if (chunk !== null) this.receive(chunk)
    }
    if (this.#holds > 0) return
    // As with ws: the callbacks of what has not left, in order, and then `close`.
    this.#user[kClosing]()
    this.#failCallbacks()
    this.protocol.receiveEnd()
    this.output.close(destroyedError)
    forgetReceiver(this)
    callUser(() => this.#user[kClosed]())
  }

  #flow(): void {
    if (this.#paused || this.#holds > 0) return
    this.socket.resume()
  }

  #hold(): void {
    this.#holds++
    this.protocol.hold()
    this.socket.pause()
  }

  #release(): void {
    if (--this.#holds > 0) return
    batch.beginChunk(this)
    try {
      this.protocol.release()
    } finally {
      batch.endChunk()
    }
    if (this.#holds > 0) return
    if (this.#gone) this.socketClosed()
    else this.#flow()
  }

  /** An event for the user: now, or in a turn of its own. */
  #tell(action: () => void): void {
    if (this.#settings.allowSynchronousEvents) {
      callUser(action)
      return
    }
    this.#hold()
    setImmediate(() => {
      callUser(action)
      this.#release()
    })
  }

  #finish(): void {
    this.#finished = true
    // The end of the socket has to be seen.
    process.nextTick(() => this.socket.resume())
  }

  #failCallbacks(): void {
    const callbacks = this.#callbacks
    this.#callbacks = []
    for (const { callback } of callbacks) callUser(() => callback(destroyedError()))
  }

  // ── for the protocol ──────────────────────────────────────────────────────────────────────────────────────────────

  onMessage(data: string | Buffer, isBinary: boolean, fragmentEnds: readonly number[] | undefined): void {
    this.#tell(() => this.#user[kMessage](data, isBinary, fragmentEnds))
  }

  onPing(payload: Buffer): void {
    // Not a view: a few bytes would hold on to the whole chunk.
    const copy = Buffer.from(payload)
    this.#tell(() => this.#user[kPing](copy))
  }

  onPong(payload: Buffer): void {
    const copy = Buffer.from(payload)
    this.#tell(() => this.#user[kPong](copy))
  }

  onClose(code: number, reason: Buffer): void {
    this.#finish()
    const copy = Buffer.from(reason)
    callUser(() => this.#user[kCloseFrame](code, copy))
  }

  onFailed(error: unknown): void {
    this.#finish()
    callUser(() => this.#user[kFailed](error))
  }

  onInflating(): void {
    this.#hold()
  }

  onInflated(): void {
    this.#release()
  }

  onQueueEmpty(): void {}

  flushNow(): boolean {
    return this.output.flush()
  }

  get area(): Buffer {
    return this.output.area
  }

  reserve(size: number): number {
    return this.output.reserve(size)
  }

  commit(end: number): void {
    this.output.commit(end)
  }

  append(bytes: Buffer): void {
    this.output.append(bytes)
  }

  // With a conversation of one's own these are never called.
  onEnd(): void {}
  onViolation(_error: ProtocolError): void {}
  onFailure(_error: unknown): void {}

  // ── for the output ────────────────────────────────────────────────────────────────────────────────────────────────

  outputUnread(): void {}
  outputRead(): void {}
  outputDrained(): void {}
  outputRefused(): void {}

  outputProgressed(): void {
    this.#callBack(this.output.takenBytes)
  }

  outputFlushed(): void {
    this.#callBack(Number.POSITIVE_INFINITY)
  }

  /** For a feed that never pauses, everything has left at no time: each message counts by itself. */
  #callBack(taken: number): void {
    const callbacks = this.#callbacks
    let count = 0
    while (count < callbacks.length && callbacks[count]!.end <= taken) count++
    if (count === 0) return
    this.#callbacks = callbacks.slice(count)
    for (let at = 0; at < count; at++) process.nextTick(callbacks[at]!.callback)
  }
}

/** What was made last; connections of one server mostly want the same. */
let latest: { readonly settings: LinkSettings; readonly options: ProtocolOptions } | undefined

function protocolOptions(settings: LinkSettings): ProtocolOptions {
  const names = Object.keys(settings) as (keyof LinkSettings)[]
  const known = latest
  if (known === undefined || names.some((name) => known.settings[name] !== settings[name])) {
    latest = { settings, options: newProtocolOptions(settings) }
  }
  return latest!.options
}

/** What the engine's protocol has to know for settings of ws. */
export function newProtocolOptions(settings: LinkSettings): ProtocolOptions {
  const maxMessageBytes = limit(settings.maxPayload)
  return {
    role: settings.isServer ? 'server' : 'client',
    maxMessageBytes,
    maxFrameBytes: settings.deflate === undefined ? maxMessageBytes : maxCompressedBytes(maxMessageBytes),
    maxFragments: limit(settings.maxFragments),
    maxPendingPongs: Number.POSITIVE_INFINITY,
    allowRsv1: settings.deflate !== undefined,
    allowLongLengths: true,
    deflate: settings.deflate,
    rawText: !settings.textAsString,
    skipUtf8Check: settings.skipUTF8Validation,
    keepFragments: true,
    nextMaskingKey: settings.generateMask && maskingKeys(settings.generateMask),
    // As with ws, what is sent in one go is not compressed before that is over.
    defer,
  }
}

function maskingKeys(generateMask: (mask: Buffer) => void): () => number {
  return () => {
    const mask = Buffer.alloc(4)
    generateMask(mask)
    return mask.readInt32LE()
  }
}

/** What a stream says of a write behind its end. */
function destroyedError(): Error {
  const error = new Error('Cannot call write after a stream was destroyed')
  return Object.assign(error, { code: 'ERR_STREAM_DESTROYED' })
}

/** The payload of a Close frame; an empty one for no code. */
export function closePayload(code: number | undefined, reason: Uint8Array): Buffer {
  if (code === undefined) return Buffer.alloc(0)
  const payload = Buffer.alloc(2 + reason.length)
  payload.writeUInt16BE(code)
  payload.set(reason, 2)
  return payload
}
