import { MessageAssembly } from './assembly.ts'
import { Opcode } from './constants.ts'
import type { MessageDeflate } from './deflate.ts'
import type { Piece } from './framing.ts'
import { MessageInflation } from './inflation.ts'
import { invalidText } from './text.ts'
import { UTF8_START } from './utf8.ts'

/** Takes messages as they come, piece by piece. */
export interface PieceHandler {
  /** As much waits to be taken as may: what is being inflated stops here. */
  readonly full: boolean
  /** A message begins: the head of its first frame is there. */
  onStart(isBinary: boolean): void
  /** The next bytes of it, or the next characters of a text; never empty. */
  onPiece(data: string | Buffer): void
  /** The message is whole. */
  onEnd(): void
}

/** What a message on its way needs, and whom it tells what becomes of it. */
export interface PassageContext {
  readonly handler: PieceHandler
  readonly deflate: MessageDeflate | undefined
  /** Of a compressed message it is on what comes out. */
  readonly maxMessageBytes: number
  /** Nothing should be read between the two: a message is being inflated. */
  readonly host: { onInflating(): void; onInflated(): void }
  /** The message is whole, and about to be told so. */
  onWhole(): void
  /** It fails while nothing is read. */
  onError(error: unknown): void
}

/** A piece is a view when it is at least this much of the memory that it would hold on to ... */
const KEPT_SHARE = 0.5
/** ... and not a small one. */
const KEPT_FROM = 4_096

const EMPTY: Buffer = Buffer.alloc(0)

/** `bytes[start..end)`, which may be kept for long: a view, unless it would keep much more memory alive than its own. */
function keepBytes(bytes: Buffer, start: number, end: number): Buffer {
  const view = bytes.subarray(start, end)
  const isKept = view.length >= KEPT_FROM && view.length >= bytes.buffer.byteLength * KEPT_SHARE
  return isKept ? view : Buffer.from(view)
}

/** A message on its way in that nobody holds: it is handed on as it comes, and but a character that is cut is kept of it. */
export class MessagePassage extends MessageAssembly {
  readonly #context: PassageContext
  #isOver = false
  /** Of a compressed message that is not short. */
  #inflation: MessageInflation | undefined = undefined
  /** Nothing is read until the inflation is through. */
  #isAwaited = false
  /** The bytes of a character of which the others have not come. */
  #cut: Buffer = EMPTY

  constructor(opcode: Opcode, compressed: boolean, context: PassageContext) {
    super(opcode, compressed)
    this.#context = context
  }

  /** The next piece of it; returns whether nobody holds it behind that. @throws ProtocolError */
  take(piece: Piece): boolean {
    // All of it now: a handler that makes another connection read has another piece here.
    const { bytes, start, end, ascii } = piece
    const isFirst = piece.starts && this.fragments === 1
    const isLast = piece.ends && piece.fin
    if (isFirst) this.#context.handler.onStart(this.opcode === Opcode.BINARY)
    // A handler may have ended it all.
    if (this.#isOver) return false
    this.length += end - start
    if (this.compressed) this.#inflate(bytes, start, end, isFirst, isLast)
    else {
      this.#passOn(bytes, start, end, ascii)
      if (isLast) this.#finish()
    }
    return this.opcode === Opcode.TEXT && !this.compressed
  }

  /** The handler takes more again. */
  resume(): void {
    this.#inflation?.resume()
  }

  /** Gives it up; the handler hears no more of it. */
  close(): void {
    this.#isOver = true
    this.#inflation?.close()
    this.#readOn()
  }

  #passOn(bytes: Buffer, start: number, end: number, ascii: boolean): void {
    const { handler } = this.#context
    if (this.opcode === Opcode.TEXT) {
      const text = this.#decode(bytes, start, end, ascii)
      if (text !== '') handler.onPiece(text)
    } else if (end > start) handler.onPiece(keepBytes(bytes, start, end))
  }

  #finish(): void {
    if (this.#isOver) return
    if (this.utf8 !== UTF8_START) throw invalidText()
    this.#isOver = true
    this.#context.onWhole()
    this.#context.handler.onEnd()
  }

  // ── compressed ────────────────────────────────────────────────────────────────────────────────────────────────────

  #inflate(bytes: Buffer, start: number, end: number, isFirst: boolean, isLast: boolean): void {
    const { deflate, maxMessageBytes, host } = this.#context
    // One that is there as a whole, and short, needs no stream.
    const inflated = isFirst && isLast ? deflate!.inflate(bytes.subarray(start, end), maxMessageBytes) : undefined
    if (inflated !== undefined) {
      this.#passOn(inflated, 0, inflated.length, false)
      this.#finish()
      return
    }
    const inflation = (this.#inflation ??= this.#newInflation(deflate!, maxMessageBytes))
    inflation.write(keepBytes(bytes, start, end), isLast)
    if (this.#isAwaited || this.#isOver || (!isLast && !inflation.full)) return
    this.#isAwaited = true
    host.onInflating()
  }

  #newInflation(deflate: MessageDeflate, maxMessageBytes: number): MessageInflation {
    const inflation = new MessageInflation(deflate.receivedWindow, maxMessageBytes, {
      onOutput: (bytes) => {
        this.#guard(() => this.#passOn(bytes, 0, bytes.length, false))
        if (this.#context.handler.full) inflation.pause()
      },
      onThrough: () => this.#readOn(),
      onFinished: () => {
        this.#guard(() => this.#finish())
        this.#readOn()
      },
      onError: (error) => this.#context.onError(error),
    })
    return inflation
  }

  #guard(action: () => void): void {
    try {
      action()
    } catch (error) {
      this.#context.onError(error)
    }
  }

  #readOn(): void {
    if (!this.#isAwaited) return
    this.#isAwaited = false
    this.#context.host.onInflated()
  }

  // ── text ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The next characters of a text, as far as they are whole. */
  #decode(bytes: Buffer, start: number, end: number, ascii: boolean): string {
    if (ascii && this.utf8 === UTF8_START) return bytes.toString('latin1', start, end)
    const missing = this.utf8 >> 16
    this.checkText(bytes, start, end, ascii)
    const rest = start + missing
    if (rest > end) {
      this.#cut = Buffer.concat([this.#cut, bytes.subarray(start, end)])
      return ''
    }
    const begun = missing === 0 ? '' : Buffer.concat([this.#cut, bytes.subarray(start, rest)]).toString()
    const whole = this.utf8 === UTF8_START ? end : lastCharacter(bytes, end)
    this.#cut = Buffer.from(bytes.subarray(whole, end))
    return begun + bytes.toString('utf8', rest, whole)
  }
}

/** Where the last character in front of `end` begins. */
function lastCharacter(bytes: Buffer, end: number): number {
  let at = end - 1
  while ((bytes[at]! & 0xc0) === 0x80) at--
  return at
}
