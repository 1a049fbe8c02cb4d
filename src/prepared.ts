import { Opcode } from './constants.ts'
import { compress, compressLater, type DeflateProfile, isCompressedAtOnce } from './deflate.ts'
import { encodeFrame, firstByte, headerSize, writeHeader } from './framing.ts'
import { escapePayload, isMarkedPayload } from './marks.ts'
import { applyMask } from './masking.ts'

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

/**
 * A message for many connections of a server: encoded once, and compressed once for each way of compressing that its
 * receivers have agreed on. It refers to no earlier message, so that one frame does for all of them.
 */
export class PreparedMessage {
  /** The message as a frame that is not compressed. */
  readonly plain: Buffer
  /** The payload of that frame. */
  readonly payload: Buffer
  /** Whether to compress it; undefined leaves it to the threshold. */
  readonly compress: boolean | undefined
  readonly opcode: Opcode
  #compressed: Map<DeflateProfile, CompressedFrame> | undefined
  #escaped: PreparedMessage | undefined

  constructor(
    data: string | Uint8Array,
    compress?: boolean | undefined,
    opcode: Opcode = typeof data === 'string' ? Opcode.TEXT : Opcode.BINARY,
  ) {
    this.compress = compress
    this.opcode = opcode
    this.plain = typeof data === 'string' ? encodeText(data) : encodeFrame({ opcode, payload: data })
    const short = this.plain[1]!
    this.payload = this.plain.subarray(short < 126 ? 2 : short === 126 ? 4 : 10)
  }

  /** What was given: a text, or bytes of its own. */
  toData(): string | Buffer {
    return this.opcode === Opcode.TEXT ? this.payload.toString() : Buffer.from(this.payload)
  }

  /** @internal In a form that nobody takes for a mark. */
  get escaped(): PreparedMessage {
    if (this.opcode !== Opcode.TEXT || !isMarkedPayload(this.payload)) return this
    this.#escaped ??= new PreparedMessage(escapePayload(this.payload), this.compress, Opcode.TEXT)
    return this.#escaped
  }

  /** @internal */
  compressedFor(profile: DeflateProfile): CompressedFrame {
    this.#compressed ??= new Map()
    let frame = this.#compressed.get(profile)
    if (frame === undefined) {
      frame = new CompressedFrame(this.opcode, this, profile)
      this.#compressed.set(profile, frame)
    }
    return frame
  }
}

/** A prepared message, compressed in one way; a long one is not ready at once. */
class CompressedFrame {
  ready = false
  /** The frame, once it is ready; the plain one when compression has not made it smaller. */
  frame: Buffer
  readonly #opcode: Opcode
  readonly #waiting: (() => void)[] = []

  constructor(opcode: Opcode, message: PreparedMessage, profile: DeflateProfile) {
    this.#opcode = opcode
    this.frame = message.plain
    const { payload } = message
    if (isCompressedAtOnce(payload)) this.#take(payload, compress(payload, profile))
    else compressLater(payload, profile, undefined, (compressed) => this.#take(payload, compressed))
  }

  whenReady(action: () => void): void {
    if (this.ready) action()
    else this.#waiting.push(action)
  }

  #take(payload: Buffer, compressed: Buffer | undefined): void {
    if (compressed !== undefined && compressed.length < payload.length) {
      this.frame = encodeFrame({ opcode: this.#opcode, payload: compressed, rsv1: true })
    }
    this.ready = true
    for (const action of this.#waiting.splice(0)) action()
  }
}
