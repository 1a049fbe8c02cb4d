import type { Opcode } from './constants.ts'
import { UTF8_START } from './utf8.ts'

/** A piece is kept as a view when it is at least this much of the memory that it would hold on to. */
const KEPT_SHARE = 0.5
/** Copied pieces are gathered in blocks that double from here ... */
const FIRST_BLOCK_BYTES = 256
/** ... to here: memory follows what has arrived, never what a header has announced. */
const LAST_BLOCK_BYTES = 65_536

/** Texts up to this are put together in memory that is used again and again: they are strings a moment later. */
const SCRATCH_BYTES = 1_048_576

const EMPTY: Buffer = Buffer.alloc(0)
let scratch: Buffer = EMPTY

/** The parts one behind the other; only valid until the next call. */
function join(parts: readonly Buffer[], length: number): Buffer {
  if (length > SCRATCH_BYTES) return Buffer.concat(parts, length)
  if (scratch.length < length) scratch = Buffer.allocUnsafeSlow(Math.min(length * 2, SCRATCH_BYTES))
  let at = 0
  for (const part of parts) at += part.copy(scratch, at)
  return scratch
}

/**
 * A message on its way in, when it comes in more than one piece: cut by fragmentation (RFC 6455 §5.4) or by the end of
 * a chunk. Any number of pieces of any size cost at most about twice their bytes, and one copy more at the end.
 */
export class MessageAssembly {
  readonly opcode: Opcode
  /** Bytes so far. */
  length = 0
  /** Frames so far. */
  fragments = 0
  /** UTF-8 state behind the last byte (utf8.ts); only texts move it. */
  utf8: number = UTF8_START
  /** No byte so far is above 0x7F. */
  ascii = true

  /** Finished parts, in order; `#block` comes behind them. */
  #parts: Buffer[] = []
  #block: Buffer = EMPTY
  #filled = 0

  constructor(opcode: Opcode) {
    this.opcode = opcode
  }

  /** Adds `bytes[start..end)`; the memory belongs to the message from now on. */
  append(bytes: Buffer, start: number, end: number): void {
    const size = end - start
    this.length += size
    if (size <= this.#block.length - this.#filled) {
      this.#filled += bytes.copy(this.#block, this.#filled, start, end)
    } else if (size >= bytes.buffer.byteLength * KEPT_SHARE) {
      this.#closeBlock()
      this.#parts.push(bytes.subarray(start, end))
    } else {
      this.#closeBlock()
      const doubled = Math.min(Math.max(this.length, FIRST_BLOCK_BYTES), LAST_BLOCK_BYTES)
      this.#block = Buffer.allocUnsafeSlow(Math.max(size, doubled))
      this.#filled = bytes.copy(this.#block, 0, start, end)
    }
  }

  /** The whole payload, once it is there. */
  takeBytes(): Buffer {
    const parts = this.#takeParts()
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts, this.length)
  }

  /** The whole payload of a text that was found valid. */
  takeText(): string {
    const parts = this.#takeParts()
    const encoding = this.ascii ? 'latin1' : 'utf8'
    if (parts.length === 1) return parts[0]!.toString(encoding)
    return join(parts, this.length).toString(encoding, 0, this.length)
  }

  #takeParts(): Buffer[] {
    this.#closeBlock()
    const parts = this.#parts
    this.#parts = []
    return parts
  }

  #closeBlock(): void {
    if (this.#filled > 0) this.#parts.push(this.#block.subarray(0, this.#filled))
    this.#block = EMPTY
    this.#filled = 0
  }
}
