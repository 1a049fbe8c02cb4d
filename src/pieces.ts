import { MessageAssembly } from './assembly.ts'
import type { MessageInflation } from './inflation.ts'
import { advanceUtf8, UTF8_INVALID, UTF8_START } from './utf8.ts'

/** Takes messages as they come, piece by piece. */
export interface PieceHandler {
  /** As much waits to be taken as may: what is being inflated stops here. */
  readonly full: boolean
  /** A message begins; its first frame has been announced. */
  onStart(isBinary: boolean): void
  /** The next bytes of it, or the next characters of a text; never empty. */
  onPiece(data: string | Buffer): void
  /** The message is whole. */
  onEnd(): void
}

/** A piece is a view when it is at least this much of the memory that it would hold on to ... */
const KEPT_SHARE = 0.5
/** ... and not a small one. */
const KEPT_FROM = 4_096

const EMPTY: Buffer = Buffer.alloc(0)

/** `bytes[start..end)`, which may be kept for long: a view, unless it would keep much more memory alive than its own. */
export function keepBytes(bytes: Buffer, start: number, end: number): Buffer {
  const view = bytes.subarray(start, end)
  const isKept = view.length >= KEPT_FROM && view.length >= bytes.buffer.byteLength * KEPT_SHARE
  return isKept ? view : Buffer.from(view)
}

/** A message on its way in of which nothing is kept but a character that is cut, and what is being inflated. */
export class MessagePassage extends MessageAssembly {
  /** Of a compressed message that is not short. */
  inflation: MessageInflation | undefined = undefined
  /** Whoever reads the frames waits for the inflation. */
  isAwaited = false
  /** The bytes of a character of which the others have not come. */
  #cut: Buffer = EMPTY

  /** The next characters of a text, as far as they are whole; undefined when it is not valid UTF-8 (RFC 6455 §8.1). */
  readText(bytes: Buffer, start: number, end: number, ascii: boolean): string | undefined {
    if (ascii && this.utf8 === UTF8_START) return bytes.toString('latin1', start, end)
    const missing = this.utf8 >> 16
    this.utf8 = advanceUtf8(this.utf8, bytes, start, end)
    if (this.utf8 === UTF8_INVALID) return undefined
    const wholeEnd = this.utf8 === UTF8_START ? end : lastCharacter(bytes, start, end)
    if (missing === 0) {
      this.#cut = Buffer.from(bytes.subarray(wholeEnd, end))
      return bytes.toString('utf8', start, wholeEnd)
    }
    const rest = start + missing
    if (rest > end) {
      this.#cut = Buffer.concat([this.#cut, bytes.subarray(start, end)])
      return ''
    }
    const character = Buffer.concat([this.#cut, bytes.subarray(start, rest)]).toString()
    this.#cut = Buffer.from(bytes.subarray(wholeEnd, end))
    return character + bytes.toString('utf8', rest, wholeEnd)
  }
}

/** Where the last character begins. */
function lastCharacter(bytes: Buffer, start: number, end: number): number {
  let at = end - 1
  while (at > start && (bytes[at]! & 0xc0) === 0x80) at--
  return at
}
