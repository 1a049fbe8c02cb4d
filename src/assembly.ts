import { CloseCode, Opcode } from './constants.ts'
import { DISPOSED_FROM, dispose } from './disposal.ts'
import { ProtocolError } from './errors.ts'
import { invalidText } from './text.ts'
import { advanceUtf8, UTF8_INVALID, UTF8_START } from './utf8.ts'

/** A piece is kept as a view when it is at least this much of the memory that it would hold on to. */
const KEPT_SHARE = 0.5
/** ... and not a small one: a view takes some hundred bytes beside what it holds. */
const KEPT_FROM = 4_096
/** Copied pieces are gathered in blocks that double from here ... */
const FIRST_BLOCK_BYTES = 256
/** ... to here: memory follows what has arrived, never what a header has announced. */
const LAST_BLOCK_BYTES = 65_536
/** Only when this share of a frame is there, the rest gets its memory at once. */
const TRUSTED_SHARE = 0.25

/** Memory for long texts, which are strings as soon as they are whole, is kept for the next ones: this much, so often. */
const SPARE_BYTES = 1_048_576
const MAX_SPARES = 4

const EMPTY: Buffer = Buffer.alloc(0)
const spares: Buffer[] = []

/**
 * A message on its way in, when it comes in more than one piece: cut by fragmentation (RFC 6455 §5.4) or by the end of
 * a chunk. Any number of pieces of any size cost at most a few times their bytes, in memory and in copying.
 */
export class MessageAssembly {
  readonly opcode: Opcode
  /** Its first frame had RSV1: the payload is to be inflated (RFC 7692 §6). */
  readonly compressed: boolean
  /** Bytes so far. */
  length = 0
  /** Frames so far. */
  fragments = 0
  /** UTF-8 state behind the last byte (utf8.ts); only texts move it. */
  utf8: number = UTF8_START
  /** No byte so far is above 0x7F. */
  ascii = true

  /** Where each frame has ended, if anybody wants to know. */
  frameEnds: number[] | undefined = undefined

  /** Finished parts, in order; `#block` comes behind them. */
  #parts: Buffer[] = []
  #block: Buffer = EMPTY
  #filled = 0
  /** What `length` will be at the end of the current frame, as its header says. */
  #announced = 0
  /** Memory of finished parts that is nobody else's. */
  #ours: Buffer[] | undefined = undefined

  constructor(opcode: Opcode, compressed = false) {
    this.opcode = opcode
    this.compressed = compressed
  }

  /** As `startFrame`, if that is within the limits; `maxBytes` is the one on what comes in. @throws ProtocolError */
  admitFrame(
    payloadLength: number,
    maxBytes: number,
    { maxMessageBytes, maxFragments }: { readonly maxMessageBytes: number; readonly maxFragments: number },
  ): void {
    if (this.length + payloadLength > maxBytes) {
      throw new ProtocolError(
        'ERR_MESSAGE_TOO_BIG',
        CloseCode.MESSAGE_TOO_BIG,
        `a message may have ${maxMessageBytes} bytes at most`,
      )
    }
    this.startFrame(payloadLength)
    if (this.fragments > maxFragments) {
      throw new ProtocolError(
        'ERR_TOO_MANY_FRAGMENTS',
        CloseCode.POLICY_VIOLATION,
        `a message may have ${maxFragments} fragments at most`,
      )
    }
  }

  /** A frame with this many bytes of payload begins. */
  startFrame(payloadLength: number): void {
    this.fragments++
    this.#announced = this.length + payloadLength
  }

  /** The frame is whole: keeps the place. */
  endFrame(): void {
    this.frameEnds ??= []
    this.frameEnds.push(this.length)
  }

  /** §8.1: a piece of a text fails at its first byte that cannot be. */
  checkText(bytes: Buffer, start: number, end: number, ascii: boolean): void {
    if (ascii && this.utf8 === UTF8_START) return
    this.ascii = false
    this.utf8 = advanceUtf8(this.utf8, bytes, start, end)
    if (this.utf8 === UTF8_INVALID) throw invalidText()
  }

  /**
   * Adds `bytes[start..end)`, and returns whether they were copied; else they are the message's from now on. So is all
   * the memory that they are in, if it `isOurs`.
   */
  append(bytes: Buffer, start: number, end: number, isOurs = false): boolean {
    const size = end - start
    this.length += size
    if (size > this.#block.length - this.#filled) {
      if (isOurs && this.#fitsIn(bytes, size)) {
        bytes.copyWithin(0, start, end)
        this.#block = bytes
        this.#filled = size
        return false
      }
      if (this.#isTrusted(size)) this.#gather()
      else if (size >= KEPT_FROM && size >= bytes.buffer.byteLength * KEPT_SHARE) {
        this.#closeBlock()
        this.#parts.push(bytes.subarray(start, end))
        if (isOurs) this.#own(bytes)
        return false
      } else {
        this.#closeBlock()
        const doubled = Math.min(Math.max(this.length, FIRST_BLOCK_BYTES), LAST_BLOCK_BYTES)
        // Behind the only frame so far, no more is needed than what it has announced; that may be a few bytes.
        const missing = this.fragments === 1 ? this.#announced - this.length + size : doubled
        this.#block = Buffer.allocUnsafeSlow(Math.max(size, Math.min(doubled, missing)))
      }
    }
    this.#filled += bytes.copy(this.#block, this.#filled, start, end)
    return true
  }

  /** The whole payload, once it is there. */
  takeBytes(): Buffer {
    this.#closeBlock()
    if (this.#parts.length === 1) return this.#parts[0]!
    const payload = Buffer.concat(this.#parts, this.length)
    this.#disposeParts()
    return payload
  }

  /** The whole payload of a text that was found valid. */
  takeText(): string {
    const text = this.takeBytes().toString(this.ascii ? 'latin1' : 'utf8')
    this.#disposeParts()
    return text
  }

  /** The first piece of a message leaves room for the rest of it, once it is moved to where its header was. */
  #fitsIn(bytes: Buffer, size: number): boolean {
    return this.length === size && this.#announced > size && this.#announced <= bytes.length
  }

  /** A frame has proved itself, and is long enough against what is there that moving that costs little. */
  #isTrusted(size: number): boolean {
    const announced = this.#announced
    const before = this.length - size
    const isWorthIt =
      this.fragments === 1
        ? before > 0 || announced > this.length
        : announced > LAST_BLOCK_BYTES && announced >= 2 * before
    return isWorthIt && this.length >= announced * TRUSTED_SHARE
  }

  #own(memory: Buffer): void {
    if (memory.length < DISPOSED_FROM) return
    this.#ours ??= []
    this.#ours.push(memory)
  }

  /** What was in the parts is somewhere else now. */
  #disposeParts(): void {
    for (const memory of this.#ours ?? []) {
      if (memory.length <= LAST_BLOCK_BYTES || memory.length > SPARE_BYTES) dispose(memory)
      else if (spares.push(memory) > MAX_SPARES) dispose(spares.shift()!)
    }
    this.#ours = undefined
  }

  /** Moves everything into memory that holds the announced length. */
  #gather(): void {
    this.#closeBlock()
    const block = this.#newBlock(this.#announced)
    for (const part of this.#parts) this.#filled += part.copy(block, this.#filled)
    this.#parts = []
    this.#disposeParts()
    this.#block = block
  }

  #newBlock(size: number): Buffer {
    const isText = this.opcode === Opcode.TEXT && !this.compressed
    const spare = isText ? spares.at(-1) : undefined
    // A text that is wanted as bytes keeps what it gets: not much more than it needs, and nothing if it is short.
    const fits = spare !== undefined && size > LAST_BLOCK_BYTES && spare.length >= size && spare.length <= 2 * size
    return fits ? spares.pop()! : Buffer.allocUnsafeSlow(size)
  }

  #closeBlock(): void {
    if (this.#filled > 0) {
      this.#parts.push(this.#block.subarray(0, this.#filled))
      this.#own(this.#block)
    }
    this.#block = EMPTY
    this.#filled = 0
  }
}
