import { MessageAssembly } from './assembly.ts'
import { CloseCode, isSendableCloseCode, MAX_CLOSE_REASON_BYTES, MAX_CONTROL_BYTES, Opcode } from './constants.ts'
import { ProtocolError, UsageError } from './errors.ts'
import {
  FrameDecoder,
  type FrameDecoderOptions,
  firstByte,
  headerSize,
  MAX_HEADER_BYTES,
  maxTextFrameSize,
  type Piece,
  writeFrame,
  writeHeader,
  writeTextFrame,
} from './framing.ts'
import { applyMask, randomMaskingKey } from './masking.ts'
import { advanceUtf8, UTF8_INVALID, UTF8_START } from './utf8.ts'

/** Where one peer of one connection stands (RFC 6455 §7.1). */
export type ProtocolState =
  /** Messages go both ways. */
  | 'open'
  /** Our Close frame is out; the peer's is awaited (§7.1.3). */
  | 'close-sent'
  /** Nothing is read or sent any more; TCP is on its way down (§7.1.1). */
  | 'draining'
  /** TCP is gone (§7.1.4). */
  | 'closed'

/** How a connection ended. */
export interface CloseEvent {
  /** Of the peer's Close frame; 1005 when it had none (§7.1.5), 1006 when no Close frame came, else what we failed with. */
  readonly code: number
  readonly reason: string
  /** Both Close frames were exchanged (§7.1.4). */
  readonly wasClean: boolean
}

/** The role, and limits on what a peer makes us keep. */
export interface ProtocolOptions extends FrameDecoderOptions {
  /** Longest message, after assembly. */
  readonly maxMessageBytes: number
  /** Most frames of one message. */
  readonly maxFragments: number
  /** Most pongs that wait for a peer that does not read. */
  readonly maxPendingPongs: number
}

/** Where encoded bytes go: an area to write them into, and a queue for bytes that are not copied. */
export interface FrameSink {
  /** The memory that `reserve` gives room in; may be another one after each call of it. */
  readonly area: Buffer
  /** Makes room for `size` bytes behind all earlier output; returns their offset in `area`. */
  reserve(size: number): number
  /** The reserved room was used up to `end`. */
  commit(end: number): void
  /** Appends bytes as they are; they must not change any more. */
  append(bytes: Buffer): void
}

/** The other side of the protocol: the socket and the user. */
export interface ProtocolHost extends FrameSink {
  /** A whole message: a text as string, or binary. */
  onMessage(data: string | Buffer): void
  /** A Pong frame; the payload is a view and only valid now. */
  onPong(payload: Buffer): void
  /** Everything that is to be sent has been; end TCP behind it (§7.1.1). */
  onEnd(): void
  /** The peer broke the protocol or a limit (§7.1.7). */
  onViolation(error: ProtocolError): void
  /** Something else has failed while its bytes were read: a text longer than a string can be, memory that was taken away. */
  onFailure(error: unknown): void
  /** Tries to send what waits; true when nothing waits any more. */
  flushNow(): boolean
}

/** Longest text, in UTF-16 units, that is encoded in the sink's area; longer ones get memory of their own. */
const ENCODED_IN_PLACE = 1_048_576
/** Longer payloads of binary messages are not copied when they need no mask. */
const COPIED_BYTES = 16_384
const NO_REASON: Buffer = Buffer.alloc(0)

/**
 * One peer of one connection, without I/O: `receive` bytes, and what they mean reaches the host; `send...`, and bytes
 * reach the sink. Fragmentation, control frames, the closing handshake and limits are here; sockets and time are not.
 *
 * The role changes: who masks and what is expected (framing.ts), and who ends TCP first (`#finish`).
 */
export class WebSocketProtocol {
  state: ProtocolState = 'open'

  readonly #options: ProtocolOptions
  readonly #host: ProtocolHost
  /** Only while a chunk is read or a frame is incomplete. */
  #decoder: FrameDecoder | undefined = undefined
  /** The message that is not whole yet. */
  #assembly: MessageAssembly | undefined = undefined
  /** Pongs since the output was last seen empty. */
  #pendingPongs = 0
  #held = false
  #reading = false
  /** The peer's Close frame, or the failure that stands for it. */
  #closeEvent: CloseEvent | undefined = undefined

  constructor(options: ProtocolOptions, host: ProtocolHost) {
    this.#options = options
    this.#host = host
  }

  // ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes bytes of the peer; they are unmasked in place and belong to the messages made of them. Not while held. */
  receive(chunk: Buffer): void {
    // §1.4: after the Close frame "any additional data is discarded".
    if (this.state === 'draining' || this.state === 'closed') return
    this.#decoder ??= takeDecoder(this.#options)
    this.#decoder.push(chunk)
    this.#readFrames(this.#decoder)
  }

  /** Stops between two frames: the rest of the chunk stays where it is. */
  hold(): void {
    this.#held = true
  }

  /** Goes on where `hold` has stopped. */
  release(): void {
    this.#held = false
    // Called from a handler in the middle of a chunk, the loop that called the handler goes on by itself.
    if (this.#reading || this.#decoder === undefined) return
    if (this.state === 'open' || this.state === 'close-sent') this.#readFrames(this.#decoder)
  }

  /** Reads and sends nothing any more: TCP has ended or is being cut, for a reason that only we know. */
  abandon(reason = ''): void {
    if (this.state === 'open' || this.state === 'close-sent') this.state = 'draining'
    this.#assembly = undefined
    this.#closeEvent ??= { code: CloseCode.ABNORMAL, reason, wasClean: false }
  }

  /** TCP has ended, politely or not; returns how the connection closed (§7.1.5). */
  receiveEnd(): CloseEvent {
    this.state = 'closed'
    this.#assembly = undefined
    return this.#closeEvent ?? { code: CloseCode.ABNORMAL, reason: '', wasClean: false }
  }

  #readFrames(decoder: FrameDecoder): void {
    this.#reading = true
    try {
      while (!this.#held) {
        const piece = decoder.read()
        if (piece === undefined) break
        if (piece.opcode < Opcode.CLOSE) this.#readData(piece)
        else this.#readControl(piece)
        if (this.state === 'draining') break
      }
    } catch (error) {
      // The one place where a violation becomes a close code.
      if (error instanceof ProtocolError) {
        this.#host.onViolation(error)
        this.fail(error.closeCode, error.message)
      } else this.#host.onFailure(error)
    } finally {
      this.#reading = false
      if (decoder.idle) {
        this.#decoder = undefined
        spareDecoder = decoder
      }
    }
  }

  #readData(piece: Piece): void {
    if (
      piece.starts &&
      piece.ends &&
      piece.fin &&
      piece.payloadLength <= this.#options.maxMessageBytes &&
      piece.opcode !== Opcode.CONTINUATION &&
      this.#assembly === undefined
    ) {
      // The common case: a message in one frame in one chunk.
      if (piece.opcode === Opcode.BINARY) this.#host.onMessage(piece.bytes.subarray(piece.start, piece.end))
      else this.#host.onMessage(decodeText(piece.bytes, piece.start, piece.end, piece.ascii))
      return
    }
    const assembly = piece.starts ? this.#startFrame(piece) : this.#assembly!
    if (assembly.opcode === Opcode.TEXT) checkText(assembly, piece)
    assembly.append(piece.bytes, piece.start, piece.end)
    if (!piece.ends || !piece.fin) return
    this.#assembly = undefined
    if (assembly.utf8 !== UTF8_START) throw invalidText()
    this.#host.onMessage(assembly.opcode === Opcode.BINARY ? assembly.takeBytes() : assembly.takeText())
  }

  /** §5.4: the first frame of a message has an opcode, the others are continuations. */
  #startFrame(piece: Piece): MessageAssembly {
    let assembly = this.#assembly
    if (piece.opcode === Opcode.CONTINUATION) {
      if (assembly === undefined) {
        throw new ProtocolError(
          'ERR_UNEXPECTED_CONTINUATION',
          CloseCode.PROTOCOL_ERROR,
          'there is no message to continue',
        )
      }
    } else {
      if (assembly !== undefined) {
        throw new ProtocolError(
          'ERR_EXPECTED_CONTINUATION',
          CloseCode.PROTOCOL_ERROR,
          'a message began inside another one',
        )
      }
      assembly = this.#assembly = new MessageAssembly(piece.opcode)
    }
    const { maxMessageBytes, maxFragments } = this.#options
    if (assembly.length + piece.payloadLength > maxMessageBytes) {
      throw new ProtocolError(
        'ERR_MESSAGE_TOO_BIG',
        CloseCode.MESSAGE_TOO_BIG,
        `a message may have ${maxMessageBytes} bytes at most`,
      )
    }
    assembly.startFrame(piece.payloadLength)
    if (assembly.fragments > maxFragments) {
      throw new ProtocolError(
        'ERR_TOO_MANY_FRAGMENTS',
        CloseCode.POLICY_VIOLATION,
        `a message may have ${maxFragments} fragments at most`,
      )
    }
    return assembly
  }

  #readControl(piece: Piece): void {
    const payload = piece.bytes.subarray(piece.start, piece.end)
    if (piece.opcode === Opcode.PING) this.#answerPing(payload)
    else if (piece.opcode === Opcode.PONG) this.#host.onPong(payload)
    else this.#readClose(payload)
  }

  /** §5.5.2: a Ping is answered with its own payload, whatever message it stands in the middle of. */
  #answerPing(payload: Buffer): void {
    const { maxPendingPongs } = this.#options
    if (this.#pendingPongs >= maxPendingPongs) {
      if (!this.#host.flushNow()) {
        throw new ProtocolError(
          'ERR_TOO_MANY_PINGS',
          CloseCode.POLICY_VIOLATION,
          `${maxPendingPongs} pongs wait to be read`,
        )
      }
      this.#pendingPongs = 0
    }
    this.#pendingPongs++
    this.#sendControl(Opcode.PONG, payload)
  }

  /** §5.5.1 */
  #readClose(payload: Buffer): void {
    const { code, reason } = parseClose(payload)
    this.#closeEvent = { code, reason, wasClean: true }
    // "When sending a Close frame in response, the endpoint typically echos the status code it received."
    if (this.state === 'open') this.#sendClose(code === CloseCode.NO_STATUS ? NO_REASON : payload.subarray(0, 2))
    this.#finish()
  }

  /** Both Close frames are through. §7.1.1: the server ends TCP; a client gives it the time to do so. */
  #finish(): void {
    this.state = 'draining'
    if (this.#options.role === 'server') this.#host.onEnd()
  }

  // ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends a text message; the state must be `open`. */
  sendText(text: string): void {
    const first = firstByte(Opcode.TEXT, true, false)
    if (text.length <= ENCODED_IN_PLACE) {
      const sink = this.#host
      const at = sink.reserve(maxTextFrameSize(text))
      sink.commit(writeTextFrame(sink.area, at, first, text, this.#nextMaskingKey()))
    } else {
      this.#host.append(encodeText(text, this.#nextMaskingKey()))
    }
  }

  /** Sends a binary message; the state must be `open`. Above 16 KiB a server sends the very bytes, without a copy. */
  sendBinary(payload: Uint8Array): void {
    const sink = this.#host
    const first = firstByte(Opcode.BINARY, true, false)
    const maskingKey = this.#nextMaskingKey()
    if (payload.byteLength <= COPIED_BYTES) {
      const at = sink.reserve(MAX_HEADER_BYTES + payload.byteLength)
      sink.commit(writeFrame(sink.area, at, first, payload, maskingKey))
    } else if (maskingKey === undefined) {
      const at = sink.reserve(MAX_HEADER_BYTES)
      sink.commit(writeHeader(sink.area, at, first, payload.byteLength, undefined))
      sink.append(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength))
    } else {
      const bytes = Buffer.allocUnsafe(headerSize(payload.byteLength, true) + payload.byteLength)
      writeFrame(bytes, 0, first, payload, maskingKey)
      sink.append(bytes)
    }
  }

  /** Sends whole frames that were encoded before, for several connections at once; the state must be `open`. */
  sendEncoded(frames: Buffer): void {
    this.#host.append(frames)
  }

  /** Sends a Ping (§5.5.2) with up to 125 bytes; the state must be `open`. */
  sendPing(payload: Uint8Array): void {
    this.#sendControl(Opcode.PING, payload)
  }

  /** The output has reached the kernel: no pong waits any more. */
  outputFlushed(): void {
    this.#pendingPongs = 0
  }

  /** Starts the closing handshake (§7.1.2). Without a code the Close frame is empty. Does nothing when it has begun. */
  close(code?: number, reason = ''): void {
    const payload = formatClose(code, reason)
    if (this.state !== 'open') return
    this.state = 'close-sent'
    this.#sendClose(payload)
  }

  /** Fails the connection (§7.1.7): tells the peer why, unless a Close frame is out, and ends TCP. */
  fail(code: number, reason: string): void {
    if (this.state === 'draining' || this.state === 'closed') return
    if (this.state === 'open') this.#sendClose(formatClose(code, reason))
    this.state = 'draining'
    this.#assembly = undefined
    this.#closeEvent = { code, reason, wasClean: false }
    this.#host.onEnd()
  }

  #sendClose(payload: Uint8Array): void {
    this.#sendControl(Opcode.CLOSE, payload)
  }

  #sendControl(opcode: Opcode, payload: Uint8Array): void {
    const sink = this.#host
    const at = sink.reserve(MAX_HEADER_BYTES + MAX_CONTROL_BYTES)
    sink.commit(writeFrame(sink.area, at, firstByte(opcode, true, false), payload, this.#nextMaskingKey()))
  }

  /** §5.3: "a client MUST mask all frames that it sends", each with a fresh key. */
  #nextMaskingKey(): number | undefined {
    return this.#options.role === 'client' ? randomMaskingKey() : undefined
  }
}

/** A decoder between two frames knows nothing of its connection: one serves all that have nothing under way. */
let spareDecoder: FrameDecoder | undefined

function takeDecoder(options: ProtocolOptions): FrameDecoder {
  const spare = spareDecoder
  if (spare?.options !== options) return new FrameDecoder(options)
  spareDecoder = undefined
  return spare
}

/** A text message as one frame in memory of its own. */
export function encodeText(text: string, maskingKey?: number): Buffer {
  const length = Buffer.byteLength(text)
  const size = headerSize(length, maskingKey !== undefined)
  const bytes = Buffer.allocUnsafe(size + length)
  writeHeader(bytes, 0, firstByte(Opcode.TEXT, true, false), length, maskingKey)
  // One byte per character means ASCII, which is written faster as such.
  bytes.write(text, size, length === text.length ? 'latin1' : 'utf8')
  if (maskingKey !== undefined) applyMask(bytes, size, size + length, maskingKey)
  return bytes
}

/** §8.1: a piece of a text fails at its first byte that cannot be. */
function checkText(assembly: MessageAssembly, { bytes, start, end, ascii }: Piece): void {
  if (ascii && assembly.utf8 === UTF8_START) return
  assembly.ascii = false
  assembly.utf8 = advanceUtf8(assembly.utf8, bytes, start, end)
  if (assembly.utf8 === UTF8_INVALID) throw invalidText()
}

function decodeText(bytes: Buffer, start: number, end: number, ascii: boolean): string {
  if (ascii) return bytes.toString('latin1', start, end)
  if (advanceUtf8(UTF8_START, bytes, start, end) !== UTF8_START) throw invalidText()
  return bytes.toString('utf8', start, end)
}

function invalidText(): ProtocolError {
  return new ProtocolError('ERR_TEXT_UTF8', CloseCode.INVALID_PAYLOAD, 'a text message is not valid UTF-8')
}

/** Code and reason of a Close frame; 1005 for an empty one (§7.1.5). */
function parseClose(payload: Buffer): { code: number; reason: string } {
  if (payload.length === 0) return { code: CloseCode.NO_STATUS, reason: '' }
  if (payload.length === 1) {
    throw new ProtocolError('ERR_CLOSE_PAYLOAD', CloseCode.PROTOCOL_ERROR, 'a Close frame has half a code')
  }
  const code = payload.readUInt16BE(0)
  if (!isSendableCloseCode(code)) {
    throw new ProtocolError('ERR_CLOSE_CODE', CloseCode.PROTOCOL_ERROR, `the close code ${code} may not be sent`)
  }
  if (advanceUtf8(UTF8_START, payload, 2, payload.length) !== UTF8_START) {
    throw new ProtocolError('ERR_CLOSE_REASON_UTF8', CloseCode.INVALID_PAYLOAD, 'a close reason is not valid UTF-8')
  }
  return { code, reason: payload.toString('utf8', 2) }
}

/** Throws `UsageError` for a code or a reason that may not be sent. */
export function checkCloseArguments(code: number | undefined, reason = ''): void {
  formatClose(code ?? CloseCode.NORMAL, reason)
}

/** The payload of a Close frame; throws `UsageError` for a code or a reason that may not be sent (§5.5.1, §7.4). */
function formatClose(code: number | undefined, reason: string): Buffer {
  if (code === undefined) {
    if (reason !== '') throw new UsageError('ERR_CLOSE_ARGUMENT', 'a close reason needs a close code')
    return NO_REASON
  }
  if (!isSendableCloseCode(code)) {
    throw new UsageError('ERR_CLOSE_ARGUMENT', `${code} may not be sent; use 1000 or 3000 to 4999`)
  }
  const payload = Buffer.allocUnsafe(2 + Buffer.byteLength(reason))
  if (payload.length > MAX_CONTROL_BYTES) {
    throw new UsageError('ERR_CLOSE_ARGUMENT', `a close reason has ${MAX_CLOSE_REASON_BYTES} bytes at most`)
  }
  payload.writeUInt16BE(code, 0)
  payload.write(reason, 2)
  return payload
}
