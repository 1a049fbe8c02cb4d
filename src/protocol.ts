import { MessageAssembly } from './assembly.ts'
import { formatClose, readCloseCode } from './close-frame.ts'
import { CloseCode, Opcode } from './constants.ts'
import { type DeflateProfile, MessageDeflate, maxCompressedBytes } from './deflate.ts'
import { ProtocolError } from './errors.ts'
import { FrameDecoder, type FrameDecoderOptions, type Piece } from './framing.ts'
import { MessagePassage, type PieceHandler } from './pieces.ts'
import type { PreparedMessage } from './prepared.ts'
import type { ProtocolHost } from './protocol-host.ts'
import { MessageSender, type SenderOptions } from './sender.ts'
import { checkUtf8, decodeText, invalidText } from './text.ts'
import { UTF8_START } from './utf8.ts'

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
export interface ProtocolOptions extends FrameDecoderOptions, SenderOptions {
  /** Set where permessage-deflate was agreed on; then `allowRsv1` is too. */
  readonly deflate?: DeflateProfile | undefined
  /** Longest message, after assembly. */
  readonly maxMessageBytes: number
  /** Most frames of one message. */
  readonly maxFragments: number
  /** Most pongs that wait for a peer that does not read. */
  readonly maxPendingPongs: number
  /** Texts are given as bytes, too. Default false. */
  readonly rawText?: boolean | undefined
  /** Texts are taken as they are, valid UTF-8 or not. Default false. */
  readonly skipUtf8Check?: boolean | undefined
  /** A message that came in several frames is given with the ends of them. Default false. */
  readonly keepFragments?: boolean | undefined
}

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
  readonly #sender: MessageSender
  readonly #deflate: MessageDeflate | undefined
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
    this.#deflate = options.deflate === undefined ? undefined : new MessageDeflate(options.deflate)
    this.#sender = new MessageSender(options, host, this.#deflate)
  }

  // ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Takes bytes of the peer; they are unmasked in place and belong to the messages made of them. So does all the memory
   * that they are in, if it `isOurs`: it is freed as soon as no message needs it. Not while held.
   */
  receive(chunk: Buffer, isOurs = false): void {
    // §1.4: after the Close frame "any additional data is discarded".
    if (this.state === 'draining' || this.state === 'closed') return
    this.#decoder ??= takeDecoder(this.#options)
    this.#decoder.push(chunk, isOurs)
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
    this.#dropAssembly()
    this.#sender.cancel()
    this.#closeEvent ??= { code: CloseCode.ABNORMAL, reason, wasClean: false }
  }

  /** TCP has ended, politely or not; returns how the connection closed (§7.1.5). */
  receiveEnd(): CloseEvent {
    this.state = 'closed'
    this.#dropAssembly()
    this.#sender.cancel()
    return this.#closeEvent ?? { code: CloseCode.ABNORMAL, reason: '', wasClean: false }
  }

  #readFrames(decoder: FrameDecoder): void {
    this.#reading = true
    try {
      while (!this.#held) {
        const piece = decoder.read()
        if (piece === undefined) break
        if (piece.opcode < Opcode.CLOSE) this.#readData(piece, decoder)
        else this.#readControl(piece)
        if (this.state === 'draining') break
      }
    } catch (error) {
      this.#failed(error)
    } finally {
      this.#reading = false
      if (decoder.idle) {
        this.#decoder = undefined
        spareDecoder = decoder
      }
    }
  }

  /** The one place where a violation becomes a close code. */
  #failed(error: unknown): void {
    const { conversation } = this.#host
    if (conversation !== undefined) {
      this.state = 'draining'
      this.#dropAssembly()
      conversation.onFailed(error)
    } else if (error instanceof ProtocolError) {
      this.#host.onViolation(error)
      this.fail(error.closeCode, error.message)
    } else this.#host.onFailure(error)
  }

  #readData(piece: Piece, decoder: FrameDecoder): void {
    if (
      piece.starts &&
      piece.ends &&
      piece.fin &&
      piece.payloadLength <= this.#options.maxMessageBytes &&
      piece.opcode !== Opcode.CONTINUATION &&
      this.#assembly === undefined &&
      this.#host.pieceHandler === undefined
    ) {
      // The common case: a message in one frame in one chunk.
      if (piece.rsv1) this.#inflate(piece.opcode, piece.bytes.subarray(piece.start, piece.end))
      else {
        const isDecoded = piece.opcode === Opcode.TEXT && this.#options.rawText !== true
        this.#emit(piece.opcode, piece.bytes, piece.start, piece.end, piece.ascii)
        if (isDecoded) decoder.spend()
      }
    } else this.#readPart(piece, decoder)
  }

  /** A part of a message: it is kept until the message is whole, or handed on. */
  #readPart(piece: Piece, decoder: FrameDecoder): void {
    if (this.#host.pieceHandler !== undefined) {
      const passage = piece.starts ? this.#startFrame(piece) : this.#assembly!
      if ((passage as MessagePassage).take(piece)) decoder.spend()
      return
    }
    const assembly = piece.starts ? this.#startFrame(piece) : this.#assembly!
    const isText = assembly.opcode === Opcode.TEXT
    if (isText && !assembly.compressed && this.#options.skipUtf8Check !== true)
      assembly.checkText(piece.bytes, piece.start, piece.end, piece.ascii)
    if (assembly.append(piece.bytes, piece.start, piece.end, piece.sole)) decoder.spend()
    if (!piece.ends) return
    if (this.#options.keepFragments === true) assembly.endFrame()
    if (!piece.fin) return
    this.#assembly = undefined
    if (assembly.compressed) {
      this.#inflate(assembly.opcode, assembly.takeBytes())
      return
    }
    if (assembly.utf8 !== UTF8_START) throw invalidText()
    const asText = isText && this.#options.rawText !== true
    this.#host.onMessage(asText ? assembly.takeText() : assembly.takeBytes(), !isText, assembly.frameEnds)
  }

  /** Hands over a message that is whole, and in one piece. */
  #emit(opcode: Opcode, bytes: Buffer, start: number, end: number, ascii: boolean): void {
    if (opcode === Opcode.BINARY) {
      this.#host.onMessage(bytes.subarray(start, end), true, undefined)
    } else if (this.#options.rawText === true) {
      if (!ascii && this.#options.skipUtf8Check !== true) checkUtf8(bytes, start, end)
      this.#host.onMessage(bytes.subarray(start, end), false, undefined)
    } else this.#host.onMessage(decodeText(bytes, start, end, ascii), false, undefined)
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
          { value: piece.opcode },
        )
      }
    } else {
      if (assembly !== undefined) {
        throw new ProtocolError(
          'ERR_EXPECTED_CONTINUATION',
          CloseCode.PROTOCOL_ERROR,
          'a message began inside another one',
          { value: piece.opcode },
        )
      }
      const { pieceHandler: handler } = this.#host
      assembly =
        handler === undefined ? new MessageAssembly(piece.opcode, piece.rsv1) : this.#newPassage(piece, handler)
      this.#assembly = assembly
    }
    const { maxMessageBytes } = this.#options
    const maxBytes = assembly.compressed ? maxCompressedBytes(maxMessageBytes) : maxMessageBytes
    assembly.admitFrame(piece.payloadLength, maxBytes, this.#options)
    return assembly
  }

  /** A whole message that is compressed; its limit is on what comes out. */
  #inflate(opcode: Opcode, payload: Buffer): void {
    const { maxMessageBytes } = this.#options
    const deflate = this.#deflate!
    const inflated = deflate.inflate(payload, maxMessageBytes)
    if (inflated !== undefined) {
      this.#emit(opcode, inflated, 0, inflated.length, false)
      return
    }
    this.#host.onInflating()
    deflate.inflateLater(payload, maxMessageBytes, (error, later) => {
      if (this.state === 'open' || this.state === 'close-sent') {
        try {
          if (error !== undefined) throw error
          this.#emit(opcode, later, 0, later.length, false)
        } catch (thrown) {
          this.#failed(thrown)
        }
      }
      this.#host.onInflated()
    })
  }

  // ── in, piece by piece ────────────────────────────────────────────────────────────────────────────────────────────

  #newPassage(piece: Piece, handler: PieceHandler): MessagePassage {
    return new MessagePassage(piece.opcode, piece.rsv1, {
      handler,
      host: this.#host,
      deflate: this.#deflate,
      maxMessageBytes: this.#options.maxMessageBytes,
      onWhole: () => {
        this.#assembly = undefined
      },
      onError: (error) => this.#failed(error),
    })
  }

  /** The handler of pieces takes more again. */
  resumePieces(): void {
    if (this.#assembly instanceof MessagePassage) this.#assembly.resume()
  }

  #dropAssembly(): void {
    const assembly = this.#assembly
    this.#assembly = undefined
    if (assembly instanceof MessagePassage) assembly.close()
  }

  #readControl(piece: Piece): void {
    const payload = piece.bytes.subarray(piece.start, piece.end)
    const { conversation } = this.#host
    if (piece.opcode === Opcode.PING)
      conversation === undefined ? this.#answerPing(payload) : conversation.onPing(payload)
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
    this.#sender.sendControl(Opcode.PONG, payload)
  }

  /** §5.5.1 */
  #readClose(payload: Buffer): void {
    const code = readCloseCode(payload, this.#options.skipUtf8Check === true)
    const { conversation } = this.#host
    if (conversation !== undefined) {
      this.state = 'draining'
      conversation.onClose(code, payload.subarray(2))
      return
    }
    this.#closeEvent = { code, reason: payload.toString('utf8', 2), wasClean: true }
    // "When sending a Close frame in response, the endpoint typically echos the status code it received."
    if (this.state === 'open') this.#sendClose(code === CloseCode.NO_STATUS ? NO_REASON : payload.subarray(0, 2))
    this.#finish()
  }

  /** Both Close frames are through. §7.1.1: the server ends TCP; a client gives it the time to do so. */
  #finish(): void {
    this.state = 'draining'
    if (this.#options.role === 'server') this.#sender.whenSent(() => this.#host.onEnd())
  }

  // ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Messages may be compressed. */
  get compressed(): boolean {
    return this.#deflate !== undefined
  }

  /** Bytes of messages that wait for one before them: it is still being compressed, or sent in fragments. */
  get queuedBytes(): number {
    return this.#sender.queuedBytes
  }

  /** Sends a text message; the state must be `open`. `compress` undefined leaves it to the threshold. */
  sendText(text: string, compress?: boolean): void {
    this.#sender.sendText(text, compress)
  }

  /** Sends a binary message; the state must be `open`. Above 16 KiB it is not copied: the bytes must not change. */
  sendBinary(payload: Uint8Array, compress?: boolean): void {
    this.#sender.sendPayload(Opcode.BINARY, payload, compress)
  }

  /** Sends a message that was prepared for several connections; the state must be `open`. */
  sendPrepared(message: PreparedMessage): void {
    this.#sender.sendPrepared(message)
  }

  /** Sends a Ping (§5.5.2) with up to 125 bytes; the state must be `open`. It overtakes messages that wait. */
  sendPing(payload: Uint8Array): void {
    this.#sender.sendControl(Opcode.PING, payload)
  }

  /** Calls back when everything sent so far is on its way to the socket: at once when nothing waits, else later; or `cancelled`. */
  whenSent(action: () => void, cancelled?: () => void): void {
    this.#sender.whenSent(action, cancelled)
  }

  /** What writes the frames. */
  get sender(): MessageSender {
    return this.#sender
  }

  /** Bytes that have arrived of a frame which is not whole: of its payload, or of its header. */
  get partialBytes(): number {
    return this.#decoder === undefined ? 0 : this.#decoder.partialBytes
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
    // Nothing follows a failure but the Close frame, which may wait with what is given up.
    const isCloseOut = this.state === 'close-sent' && !this.#sender.isWaiting
    this.#sender.cancel()
    if (!isCloseOut) this.#sendClose(formatClose(code, reason))
    this.state = 'draining'
    this.#dropAssembly()
    this.#closeEvent = { code, reason, wasClean: false }
    this.#host.onEnd()
  }

  #sendClose(payload: Uint8Array): void {
    this.#sender.whenSent(() => this.#sender.sendControl(Opcode.CLOSE, payload))
  }
}

/** A decoder between two frames knows nothing of its connection: one serves all that have nothing under way. */
let spareDecoder: FrameDecoder | undefined

function takeDecoder(options: ProtocolOptions): FrameDecoder {
  const spare = spareDecoder
  if (spare === undefined) return new FrameDecoder(options)
  spareDecoder = undefined
  spare.options = options
  return spare
}
