import { CloseCode, MAX_CONTROL_BYTES, Opcode, type Role } from './constants.ts'
import { dispose } from './disposal.ts'
import { ProtocolError } from './errors.ts'
import { applyMask, rotateMaskingKey } from './masking.ts'

/*
 * RFC 6455 §5.2, in both directions:
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     +-+-+-+-+-------+-+-------------+-------------------------------+
 *     |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
 *     |I|S|S|S|  (4)  |A|     (7)     |          (16 / 64)            |
 *     |N|V|V|V|       |S|             | (if payload len == 126 / 127) |
 *     | |1|2|3|       |K|             |                               |
 *     +-+-+-+-+-------+-+-------------+-------------------------------+
 *     |  masking key (4 bytes, if MASK is set)  |  payload            |
 *     +-----------------------------------------+---------------------+
 */

const FIN = 0x80
const RSV1 = 0x40
const RSV2_RSV3 = 0x30
const OPCODE = 0x0f
const MASK = 0x80
const LENGTH = 0x7f
const LENGTH_16 = 126
const LENGTH_64 = 127

/** Longest possible frame header: 2 bytes, a 64-bit length, a masking key. */
export const MAX_HEADER_BYTES = 14

/** A frame to encode. */
export interface Frame {
  readonly opcode: Opcode
  readonly payload: Uint8Array
  /** Last frame of its message. Default true. */
  readonly fin?: boolean
  /** First frame of a compressed message (RFC 7692 §6). Default false. */
  readonly rsv1?: boolean
  /** Present on frames of a client (§5.3): a 32-bit integer, its lowest byte first on the wire. */
  readonly maskingKey?: number | undefined
}

/** First byte of a frame. */
export function firstByte(opcode: Opcode, fin: boolean, rsv1: boolean): number {
  return opcode | (fin ? FIN : 0) | (rsv1 ? RSV1 : 0)
}

/** Bytes that the header of a frame takes. */
export function headerSize(payloadLength: number, masked: boolean): number {
  return (payloadLength < LENGTH_16 ? 2 : payloadLength < 0x10000 ? 4 : 10) + (masked ? 4 : 0)
}

/** Writes a header at `target[at...]` and returns where the payload begins. */
export function writeHeader(
  target: Buffer,
  at: number,
  first: number,
  payloadLength: number,
  maskingKey: number | undefined,
): number {
  target[at] = first
  const maskBit = maskingKey === undefined ? 0 : MASK
  if (payloadLength < LENGTH_16) {
    target[at + 1] = maskBit | payloadLength
    at += 2
  } else if (payloadLength < 0x10000) {
    target[at + 1] = maskBit | LENGTH_16
    target[at + 2] = payloadLength >> 8
    target[at + 3] = payloadLength
    at += 4
  } else {
    target[at + 1] = maskBit | LENGTH_64
    target.writeUInt32BE(Math.floor(payloadLength / 0x100000000), at + 2)
    target.writeUInt32BE(payloadLength >>> 0, at + 6)
    at += 10
  }
  if (maskingKey === undefined) return at
  target.writeInt32LE(maskingKey | 0, at)
  return at + 4
}

/** Writes a whole frame at `target[at...]`, masked if it has a key, and returns its end. */
export function writeFrame(
  target: Buffer,
  at: number,
  first: number,
  payload: Uint8Array,
  maskingKey: number | undefined,
): number {
  const start = writeHeader(target, at, first, payload.byteLength, maskingKey)
  target.set(payload, start)
  const end = start + payload.byteLength
  if (maskingKey !== undefined) applyMask(target, start, end, maskingKey)
  return end
}

/** Most bytes that `writeTextFrame` may need for this text. */
export function maxTextFrameSize(text: string): number {
  return MAX_HEADER_BYTES + text.length * 3
}

/** As `writeFrame`, straight from a string: the text is encoded once, in its place. `target` has `maxTextFrameSize`. */
export function writeTextFrame(
  target: Buffer,
  at: number,
  first: number,
  text: string,
  maskingKey: number | undefined,
): number {
  // The header stands before the length is known: room is left for that of an ASCII text, which is mostly right.
  const guess = at + headerSize(text.length, maskingKey !== undefined)
  const length = target.write(text, guess)
  const start = at + headerSize(length, maskingKey !== undefined)
  if (start !== guess) target.copyWithin(start, guess, guess + length)
  writeHeader(target, at, first, length, maskingKey)
  const end = start + length
  if (maskingKey !== undefined) applyMask(target, start, end, maskingKey)
  return end
}

/** One frame as bytes. The payload is copied, never changed. */
export function encodeFrame(frame: Frame): Buffer {
  const { opcode, payload, fin = true, rsv1 = false, maskingKey } = frame
  const bytes = Buffer.allocUnsafe(headerSize(payload.byteLength, maskingKey !== undefined) + payload.byteLength)
  writeFrame(bytes, 0, firstByte(opcode, fin, rsv1), payload, maskingKey)
  return bytes
}

/** What the decoder has to know about the connection. */
export interface FrameDecoderOptions {
  /** Our own role: a server demands masked frames, a client refuses them (§5.1). */
  readonly role: Role
  /** Longest payload that one frame may declare; beyond it the frame fails with 1009 before any of it is kept. */
  readonly maxFrameBytes: number
  /** RSV1 is defined by a negotiated extension (RFC 7692 §6). Default false. */
  readonly allowRsv1?: boolean
  /** Lengths need not be encoded minimally, against §5.2. Default false. */
  readonly allowLongLengths?: boolean | undefined
}

const EMPTY: Buffer = Buffer.alloc(0)

/** What has arrived of a frame: the bytes `bytes[start..end)` of its payload. */
export interface Piece {
  fin: boolean
  rsv1: boolean
  opcode: Opcode
  /** Of the whole frame. */
  payloadLength: number
  bytes: Buffer
  start: number
  end: number
  /** It is the first piece of its frame. */
  starts: boolean
  /** It is the last piece of its frame. */
  ends: boolean
  /** No byte of the piece is above 0x7F. False also where nobody has looked (unmasked frames). */
  ascii: boolean
  /** Its chunk is ours, and holds nothing else but the header: whoever keeps the piece has all of that memory. */
  sole: boolean
}

/** The piece that was read last, by whichever decoder: an idle connection has none. */
const piece: Piece = {
  fin: true,
  rsv1: false,
  opcode: Opcode.CONTINUATION,
  payloadLength: 0,
  bytes: EMPTY,
  start: 0,
  end: 0,
  starts: false,
  ends: false,
  ascii: false,
  sole: false,
}

/**
 * Bytes to frames. `push` a chunk, then `read` until there is no piece left.
 *
 * A control frame is always one piece. A data frame whose payload the chunk cuts comes in several, so that nothing is
 * kept here and bad text can fail at its first bad byte. Payloads are unmasked in place: the chunk belongs to the
 * decoder from `push` on, and a piece is a view of it. Memory that is ours is freed when the chunk has been read and all
 * of its pieces were `spent`.
 *
 * `read` throws `ProtocolError` when a header says what it must not (RSV bits, opcode, mask, length).
 */
export class FrameDecoder {
  /** May change between two frames. */
  options: FrameDecoderOptions
  #chunk: Buffer = EMPTY
  #at = 0
  /** Where the chunk ends. Its length does not tell: whoever keeps the last piece may take or free the memory at any time. */
  #end = 0
  /** All the memory that the chunk is in may be freed, unless somebody keeps a piece of it. */
  #isOurs = false
  /** Pieces of the chunk that were read, and how many of them nobody holds any more. */
  #pieces = 0
  #spent = 0
  /** Of the data frame under way: its first byte, its length, and how much of it is still to come. */
  #first = 0
  #payloadLength = 0
  #remaining = 0
  #maskingKey = 0
  /** A header, or a control frame, that the end of a chunk has cut; `#heldLength` bytes of it are there. */
  #held: Buffer | undefined = undefined
  #heldLength = 0

  constructor(options: FrameDecoderOptions) {
    this.options = options
  }

  /** Nothing of a frame is kept: what comes next is the start of one. */
  get idle(): boolean {
    return this.#remaining === 0 && this.#held === undefined && this.#at === this.#end
  }

  /** Bytes of a frame that is not whole: of its payload, or of its header. */
  get partialBytes(): number {
    return this.#remaining > 0 ? this.#payloadLength - this.#remaining : this.#held === undefined ? 0 : this.#heldLength
  }

  /** Hands over the next bytes, and all the memory that they are in if it `isOurs`. Those before must have been read. */
  push(chunk: Buffer, isOurs = false): void {
    this.#chunk = chunk
    this.#at = 0
    this.#end = chunk.length
    this.#isOurs = isOurs
    this.#pieces = 0
    this.#spent = 0
  }

  /** The piece that was read last is not looked at any more. */
  spend(): void {
    this.#spent++
  }

  /** The next piece, valid until the next call of any decoder's `read`; undefined when more bytes are needed. */
  read(): Piece | undefined {
    if (this.#remaining > 0) return this.#readPayload(false)
    if (this.#held !== undefined) return this.#readHeld()
    const available = this.#end - this.#at
    if (available === 0) return this.#release()
    if (this.#chunk.length === 0)
      throw new Error('the memory of a message was transferred while others were in it; transfer a copy')
    const size = this.#headSize(this.#chunk, this.#at, available)
    if (available < size) return this.#hold(available)
    const start = this.#readHeader(this.#chunk, this.#at)
    if ((this.#first & OPCODE) < Opcode.CLOSE) {
      this.#at = start
      return this.#readPayload(true)
    }
    this.#at = start + this.#payloadLength
    return this.#readControl(this.#chunk, start)
  }

  /** Bytes from the start of a frame to where it can be read: its header and, for a control frame, its payload. */
  #headSize(bytes: Buffer, at: number, available: number): number {
    if (available < 2) return 2
    const first = bytes[at]!
    const second = bytes[at + 1]!
    this.#checkStart(first, second)
    const length = second & LENGTH
    const size = (length < LENGTH_16 ? 2 : length === LENGTH_16 ? 4 : 10) + (second & MASK ? 4 : 0)
    return (first & OPCODE) < Opcode.CLOSE ? size : size + length
  }

  /** What the first two bytes alone can do wrong. */
  #checkStart(first: number, second: number): void {
    const opcode = first & OPCODE
    // §5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values."
    if ((first & RSV2_RSV3) !== 0 || ((first & RSV1) !== 0 && !this.#mayBeCompressed(opcode))) {
      throw new ProtocolError('ERR_RESERVED_BITS', CloseCode.PROTOCOL_ERROR, 'reserved bits are set', {
        value: first & (RSV1 | RSV2_RSV3),
      })
    }
    if ((opcode > Opcode.BINARY && opcode < Opcode.CLOSE) || opcode > Opcode.PONG) {
      throw new ProtocolError('ERR_OPCODE', CloseCode.PROTOCOL_ERROR, `opcode ${opcode} is reserved`, { value: opcode })
    }
    if (opcode >= Opcode.CLOSE) this.#checkControl(first, second)
    if ((second & MASK) === 0) {
      // §5.1: "The server MUST close the connection upon receiving a frame that is not masked."
      if (this.options.role === 'server') {
        throw new ProtocolError('ERR_MASK_REQUIRED', CloseCode.PROTOCOL_ERROR, 'frames of a client must be masked')
      }
    } else if (this.options.role === 'client') {
      throw new ProtocolError('ERR_MASK_FORBIDDEN', CloseCode.PROTOCOL_ERROR, 'frames of a server must not be masked')
    }
  }

  /** §5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented." */
  #checkControl(first: number, second: number): void {
    if ((first & FIN) === 0) {
      throw new ProtocolError('ERR_CONTROL_FRAGMENTED', CloseCode.PROTOCOL_ERROR, 'a control frame is fragmented')
    }
    const length = second & LENGTH
    if (length > MAX_CONTROL_BYTES) {
      throw new ProtocolError('ERR_CONTROL_TOO_LONG', CloseCode.PROTOCOL_ERROR, 'a control frame is over 125 bytes', {
        value: length,
      })
    }
  }

  #mayBeCompressed(opcode: number): boolean {
    return this.options.allowRsv1 === true && (opcode === Opcode.TEXT || opcode === Opcode.BINARY)
  }

  /** Takes in the header at `bytes[at...]`, all of which is there; returns where the payload begins. */
  #readHeader(bytes: Buffer, at: number): number {
    const first = bytes[at]!
    const second = bytes[at + 1]!
    this.#first = first
    const short = second & LENGTH
    this.#payloadLength = short < LENGTH_16 ? short : this.#readLongLength(bytes, at)
    this.#checkLength(first, this.#payloadLength)
    at += short < LENGTH_16 ? 2 : short === LENGTH_16 ? 4 : 10
    if ((second & MASK) === 0) return at
    this.#maskingKey = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    return at + 4
  }

  /** The length in the 16 or 64 bits behind the first two bytes of the header at `at`. */
  #readLongLength(bytes: Buffer, at: number): number {
    const isShort = (bytes[at + 1]! & LENGTH) === LENGTH_16
    const length = isShort ? (bytes[at + 2]! << 8) | bytes[at + 3]! : readLength64(bytes, at + 2)
    if (length < (isShort ? LENGTH_16 : 0x10000) && this.options.allowLongLengths !== true) throw notMinimal()
    return length
  }

  #checkLength(first: number, length: number): void {
    if (length <= this.options.maxFrameBytes || (first & OPCODE) >= Opcode.CLOSE) return
    throw new ProtocolError(
      'ERR_MESSAGE_TOO_BIG',
      CloseCode.MESSAGE_TOO_BIG,
      `a message may have ${this.options.maxFrameBytes} bytes at most`,
    )
  }

  /** A header that is cut behind its length fails by it at once, and not when the key is there. */
  #checkCutHeader(bytes: Buffer, at: number, available: number): void {
    if (available < 2) return
    const short = bytes[at + 1]! & LENGTH
    if (short < LENGTH_16) this.#checkLength(bytes[at]!, short)
    else if (available >= (short === LENGTH_16 ? 4 : 10)) {
      this.#checkLength(bytes[at]!, this.#readLongLength(bytes, at))
    }
  }

  /** As much of a data frame's payload as the chunk has. */
  #readPayload(starts: boolean): Piece | undefined {
    const start = this.#at
    const missing = starts ? this.#payloadLength : this.#remaining
    const available = this.#end - start
    if (available === 0 && !starts) return this.#release()
    const taken = Math.min(missing, available)
    this.#at = start + taken
    this.#remaining = missing - taken
    return this.#emit(this.#chunk, start, this.#at, starts)
  }

  #readControl(bytes: Buffer, start: number): Piece {
    return this.#emit(bytes, start, start + this.#payloadLength, true)
  }

  #emit(bytes: Buffer, start: number, end: number, starts: boolean): Piece {
    const first = this.#first
    piece.fin = (first & FIN) !== 0
    piece.rsv1 = (first & RSV1) !== 0
    piece.opcode = (first & OPCODE) as Opcode
    piece.payloadLength = this.#payloadLength
    piece.bytes = bytes
    piece.start = start
    piece.end = end
    piece.starts = starts
    piece.ends = this.#remaining === 0
    piece.ascii = this.options.role === 'server' && (applyMask(bytes, start, end, this.#maskingKey) & 0x80) === 0
    if (this.#remaining > 0) this.#maskingKey = rotateMaskingKey(this.#maskingKey, end - start)
    piece.sole = this.#isOurs && this.#pieces === 0 && bytes === this.#chunk && end === this.#end
    this.#pieces++
    return piece
  }

  /** Keeps what the end of the chunk has cut; at most one header and one control payload. */
  #hold(available: number): undefined {
    this.#checkCutHeader(this.#chunk, this.#at, available)
    this.#held = Buffer.allocUnsafeSlow(MAX_HEADER_BYTES + MAX_CONTROL_BYTES)
    this.#heldLength = this.#chunk.copy(this.#held, 0, this.#at, this.#at + available)
    return this.#release()
  }

  /** Completes what `#hold` has kept from the new chunk, and goes on in place behind it. */
  #readHeld(): Piece | undefined {
    const held = this.#held!
    for (;;) {
      const size = this.#headSize(held, 0, this.#heldLength)
      if (this.#heldLength >= size) break
      const copied = this.#chunk.copy(held, this.#heldLength, this.#at, this.#at + size - this.#heldLength)
      if (copied === 0) {
        this.#checkCutHeader(held, 0, this.#heldLength)
        return this.#release()
      }
      this.#heldLength += copied
      this.#at += copied
    }
    this.#held = undefined
    const start = this.#readHeader(held, 0)
    return (this.#first & OPCODE) < Opcode.CLOSE ? this.#readPayload(true) : this.#readControl(held, start)
  }

  /** Lets go of the chunk: an idle connection holds no memory of its last message. */
  #release(): undefined {
    if (this.#isOurs && this.#spent === this.#pieces) dispose(this.#chunk)
    this.#isOurs = false
    this.#chunk = EMPTY
    this.#at = this.#end = 0
    piece.bytes = EMPTY
    return undefined
  }
}

/** §5.2: "the most significant bit MUST be 0". Beyond 2^53 a number is not exact: refused before any arithmetic. */
function readLength64(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32BE(at)
  if (high >= 0x80000000) {
    throw new ProtocolError('ERR_LENGTH_ENCODING', CloseCode.PROTOCOL_ERROR, 'the top bit of a 64-bit length is set')
  }
  if (high >= 0x200000) {
    throw new ProtocolError('ERR_MESSAGE_TOO_BIG', CloseCode.MESSAGE_TOO_BIG, 'a frame is longer than 2^53 bytes', {
      value: 2 ** 53,
    })
  }
  return high * 0x100000000 + bytes.readUInt32BE(at + 4)
}

/** §5.2: "the minimal number of bytes MUST be used to encode the length". */
function notMinimal(): ProtocolError {
  return new ProtocolError('ERR_LENGTH_ENCODING', CloseCode.PROTOCOL_ERROR, 'a length is not encoded minimally')
}
