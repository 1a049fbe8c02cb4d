import { CloseCode, Opcode } from './constants.ts'
import { type Data, toBytes } from './data.ts'
import { type ProtocolError, UsageError, WebSocketError } from './errors.ts'
import { escapePayload } from './marks.ts'
import type { Output } from './output.ts'
import type { PieceHandler } from './pieces.ts'
import type { WebSocketProtocol } from './protocol.ts'
import type { FragmentWriter } from './sender.ts'
import { advanceUtf8, UTF8_INVALID, UTF8_START } from './utf8.ts'

/*
 * Messages of any length that nobody holds as a whole: as web streams, in pieces, with backpressure.
 */

/** A message that arrives piece by piece. */
export interface MessageStream {
  readonly type: 'text' | 'binary'
  /**
   * Its pieces as they come: strings of a text, which is cut between characters, or else `Buffer`s. The peer is held
   * back while they are not read. To cancel it discards the rest of the message, and goes on with the next one. It fails
   * with `WebSocketError` `ERR_CONNECTION_CLOSED` when the connection ends before the message does, or with the
   * `ProtocolError` for which it ends.
   */
  readonly readable: ReadableStream<string | Buffer>
}

/** How a message is sent that is given piece by piece. */
export interface SendStreamOptions {
  readonly type: 'text' | 'binary'
  /** Whether it is compressed, where the connection has agreed on compression. Default true. */
  readonly compress?: boolean | undefined
}

/** So much may wait for readers, in bytes, before the peer is held back ... */
const UNREAD_BYTES = 65_536
/** ... where each piece counts as so many more. */
const PIECE_BYTES = 128
/** Beyond this much of unsent data a write waits for the peer. Longer pieces are not copied when they are sent. */
const WRITE_AHEAD_BYTES = 16_384

const EMPTY: Buffer = Buffer.alloc(0)
const REPLACEMENT: Buffer = Buffer.from('\uFFFD')

export function closedError(): WebSocketError {
  return new WebSocketError('ERR_CONNECTION_CLOSED', 'the connection is closed')
}

// ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the intake has to tell its connection. */
export interface IntakeHost {
  /** A message has begun. */
  onMessage(message: IncomingMessage): void
  /** As much waits for readers as may. */
  onIntakeFull(): void
  /** Less waits again. */
  onIntakeRead(): void
}

/** The messages of one connection, for a handler that takes them as streams. */
export class MessageIntake implements PieceHandler {
  readonly #host: IntakeHost
  #current: IncomingMessage | undefined = undefined
  #unreadBytes = 0
  #failure: WebSocketError | undefined = undefined

  constructor(host: IntakeHost) {
    this.#host = host
  }

  get full(): boolean {
    return this.#unreadBytes >= UNREAD_BYTES
  }

  /** Whether it is of this that a message has failed which was cut: no news to anybody when a handler passes it on. */
  isFailure(error: unknown): boolean {
    if (this.#failure === undefined) return false
    // A stream on the way out fails at the same time.
    return error === this.#failure || (error instanceof WebSocketError && error.code === 'ERR_CONNECTION_CLOSED')
  }

  onStart(isBinary: boolean): void {
    this.#current = new IncomingMessage(isBinary ? 'binary' : 'text', (bytes) => this.#read(bytes))
    this.#host.onMessage(this.#current)
  }

  onPiece(data: string | Buffer): void {
    this.#unreadBytes += this.#current!.push(data)
    if (this.full) this.#host.onIntakeFull()
  }

  onEnd(): void {
    this.#current!.end()
    this.#current = undefined
  }

  /** The peer broke the protocol: of that the message is to fail, when it does. */
  noteViolation(error: ProtocolError): void {
    this.#failure = error
  }

  /** Nothing follows; returns whether a message is incomplete now. */
  end(): boolean {
    const message = this.#current
    if (message === undefined) return false
    this.#current = undefined
    this.#failure ??= closedError()
    message.fail(this.#failure)
    return true
  }

  #read(bytes: number): void {
    const wasFull = this.full
    this.#unreadBytes -= bytes
    if (wasFull && !this.full) this.#host.onIntakeRead()
  }
}

/** One message on its way in. What nobody has asked for waits here, and not in the stream: so it can be counted. */
export class IncomingMessage {
  /** While it waits for its handler it counts as a message, not by its length. */
  readonly length = 0
  readonly stream: MessageStream
  readonly #taken: (bytes: number) => void
  #controller!: ReadableStreamDefaultController<string | Buffer>
  #pieces: (string | Buffer)[] = []
  /** A reader waits for the next piece. */
  #isWanted = false
  #isWhole = false
  /** Nobody wants the rest. */
  #isOver = false

  constructor(type: 'text' | 'binary', taken: (bytes: number) => void) {
    this.#taken = taken
    const readable = new ReadableStream<string | Buffer>(
      {
        start: (controller) => {
          this.#controller = controller
        },
        pull: () => this.#pull(),
        cancel: () => this.#drop(),
      },
      { highWaterMark: 0 },
    )
    this.stream = { type, readable }
  }

  /** Takes the next piece; returns as how many bytes it counts until it is read. */
  push(data: string | Buffer): number {
    if (this.#isOver) return 0
    if (this.#isWanted) {
      this.#isWanted = false
      this.#controller.enqueue(data)
      return 0
    }
    this.#pieces.push(data)
    return sizeOf(data)
  }

  end(): void {
    this.#isWhole = true
    if (!this.#isOver && this.#pieces.length === 0) this.#close()
  }

  fail(error: WebSocketError): void {
    if (this.#isOver) return
    this.#drop()
    this.#controller.error(error)
  }

  #pull(): void {
    const piece = this.#pieces.shift()
    if (piece === undefined) {
      this.#isWanted = true
      return
    }
    this.#controller.enqueue(piece)
    if (this.#isWhole && this.#pieces.length === 0) this.#close()
    this.#taken(sizeOf(piece))
  }

  #close(): void {
    this.#isOver = true
    this.#controller.close()
  }

  #drop(): void {
    this.#isOver = true
    const bytes = this.#pieces.reduce((sum, piece) => sum + sizeOf(piece), 0)
    this.#pieces = []
    this.#taken(bytes)
  }
}

function sizeOf(piece: string | Buffer): number {
  return piece.length + PIECE_BYTES
}

// ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A stream of which each chunk is sent as a fragment of one message; see `WebSocketConnection.sendStream`. */
export function writeMessage(
  protocol: WebSocketProtocol,
  output: Output,
  { type, compress = true }: SendStreamOptions,
  isMarked: boolean,
): WritableStream<Data> {
  if (type !== 'text' && type !== 'binary')
    throw new UsageError('ERR_OPTION', "the type of a message must be 'text' or 'binary'")
  return new WritableStream<Data>(new MessageWriter(protocol, output, type, compress, isMarked && type === 'text'), {
    highWaterMark: 1,
  })
}

class MessageWriter {
  readonly #protocol: WebSocketProtocol
  readonly #output: Output
  readonly #type: 'text' | 'binary'
  readonly #compress: boolean
  /** The client could take the beginning of a text for a mark. */
  readonly #escapes: boolean
  /** The first half of a character, from the end of the last string. */
  #surrogate = ''
  /** UTF-8 state behind the last bytes of a text. */
  #utf8 = UTF8_START
  #controller: WritableStreamDefaultController | undefined
  /** Set while it is our turn. */
  #fragments: FragmentWriter | undefined
  /** A fragment has been sent. */
  #hasBegun = false
  /** It is sent, or given up. */
  #isOver = false
  /** Settle what a write waits for. */
  #goOn: (() => void) | undefined
  #stop: ((error: unknown) => void) | undefined

  constructor(
    protocol: WebSocketProtocol,
    output: Output,
    type: 'text' | 'binary',
    compress: boolean,
    escapes: boolean,
  ) {
    this.#protocol = protocol
    this.#output = output
    this.#type = type
    this.#compress = compress
    this.#escapes = escapes
  }

  start(controller: WritableStreamDefaultController): void {
    this.#controller = controller
    if (this.#protocol.state !== 'open') {
      this.#ended()
      return
    }
    // A write that waits for its turn, or for the peer, would keep `abort` from being called.
    const { signal } = controller as WritableStreamDefaultController & { readonly signal: AbortSignal }
    signal.addEventListener('abort', () => this.#giveUp(signal.reason))
    this.#protocol.sender.sendInFragments(
      this.#type === 'text' ? Opcode.TEXT : Opcode.BINARY,
      this.#compress,
      (fragments) => this.#begin(fragments),
      () => this.#ended(),
    )
  }

  async write(data: Data): Promise<void> {
    try {
      const payload = this.#type === 'text' ? this.#encode(data) : bytesOf(data)
      if (payload.length > 0) await this.#send(payload, false)
      const isCopied = payload.length <= WRITE_AHEAD_BYTES
      if (isCopied && this.#output.unsentBytes <= WRITE_AHEAD_BYTES) return
      this.#output.flush()
      if (this.#output.congested) await this.#until((resolve, reject) => this.#output.wait().then(resolve, reject))
    } catch (error) {
      this.#giveUp(error)
      throw error
    }
  }

  async close(): Promise<void> {
    try {
      if (this.#utf8 !== UTF8_START) throw notText()
      await this.#send(this.#surrogate === '' ? EMPTY : REPLACEMENT, true)
    } catch (error) {
      this.#giveUp(error)
      throw error
    }
  }

  #begin(fragments: FragmentWriter): void {
    if (this.#isOver) {
      fragments.leave()
      return
    }
    this.#fragments = fragments
    this.#goOn?.()
  }

  /** Sends a fragment when it is our turn. */
  async #send(payload: Uint8Array, isLast: boolean): Promise<void> {
    if (this.#fragments === undefined) {
      await this.#until((resolve) => {
        this.#goOn = resolve
      })
    }
    const fragment = this.#escapes && !this.#hasBegun ? escapePayload(payload) : payload
    this.#hasBegun = true
    // What is sent behind it may find out that the connection has ended: that is no business of ours any more.
    if (isLast) this.#isOver = true
    await this.#until((resolve, reject) => {
      this.#fragments!.write(fragment, isLast, (error) => (error === undefined ? resolve() : reject(error)))
    })
  }

  /** A promise that also fails when the message is given up. */
  #until(work: (resolve: () => void, reject: (error: unknown) => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stop = reject
      work(resolve, reject)
    })
  }

  /** The connection has ended. */
  #ended(): void {
    if (this.#isOver) return
    this.#isOver = true
    const error = closedError()
    this.#controller!.error(error)
    this.#stop?.(error)
  }

  #giveUp(reason: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#stop?.(reason)
    // §5.4: no other message may begin inside of one that has.
    if (this.#hasBegun) this.#protocol.fail(CloseCode.INTERNAL_ERROR, 'a message was given up')
    else this.#fragments?.leave()
  }

  #encode(data: Data): Uint8Array {
    const before = this.#surrogate
    if (typeof data === 'string') {
      if (this.#utf8 !== UTF8_START) throw notText()
      const text = before + data
      const isCut = isHighSurrogate(text.charCodeAt(text.length - 1))
      this.#surrogate = isCut ? text.slice(-1) : ''
      return Buffer.from(isCut ? text.slice(0, -1) : text)
    }
    const bytes = toBytes(data)
    if (bytes.length === 0) return bytes
    this.#utf8 = advanceUtf8(this.#utf8, bytes, 0, bytes.length)
    if (this.#utf8 === UTF8_INVALID) throw notText()
    this.#surrogate = ''
    return before === '' ? bytes : Buffer.concat([REPLACEMENT, bytes])
  }
}

function bytesOf(data: Data): Uint8Array {
  if (typeof data === 'string') throw new UsageError('ERR_DATA_TYPE', 'a binary message takes bytes, and no strings')
  return toBytes(data)
}

function notText(): UsageError {
  return new UsageError('ERR_DATA_TYPE', 'the bytes of a text message must be valid UTF-8')
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff
}
