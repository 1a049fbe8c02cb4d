// permessage-deflate for the load. Everything is made before the clock starts: what a message may refer to is known, since
// every client sends the same messages in the same order, over and over, and gets the same back.
import { randomBytes } from 'node:crypto'
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib'
import type { Content } from '../workloads.ts'
import { frame, opcodeOf, payload } from './frames.ts'

/** The largest window there is: how far back a message may refer. */
const WINDOW_BYTES = 32_768
const TAIL = Buffer.from([0x00, 0x00, 0xff, 0xff])

/** What client and server have agreed on. */
export interface Agreement {
  /** The client's messages may refer to earlier ones of the client. */
  clientTakeover: boolean
  serverTakeover: boolean
}

/** Reads it from the answer to the handshake. */
export function readAgreement(head: string): Agreement {
  const [, parameters] = /^sec-websocket-extensions: *permessage-deflate *(.*)$/im.exec(head) ?? []
  if (parameters === undefined) throw new Error('the server has not agreed to compress')
  // The messages are there already; they refer to as much as there can be.
  if (/client_max_window_bits/i.test(parameters)) throw new Error('the server wants a smaller window of the client')
  return {
    clientTakeover: !/client_no_context_takeover/i.test(parameters),
    serverTakeover: !/server_no_context_takeover/i.test(parameters),
  }
}

/** Masked frames one behind the other; the first ones again behind the last, so that any run of them is one slice. */
interface Frames {
  bytes: Buffer
  /** Where each begins. */
  starts: number[]
}

/** The messages of a run, in the order in which every client sends them, over and over. */
export class DeflateRing {
  readonly slots: number
  readonly #content: Content
  readonly #size: number
  readonly #run: number
  /** The texts, twice: from the middle on, each has a whole window before it. */
  readonly #texts: Buffer
  /** Compressed each on its own; or each with reference to those before it, as if they had been sent for ever. */
  readonly #frames = new Map<boolean, Frames>()

  /** Any `run` messages can be sent at once. */
  constructor(content: Content, size: number, run: number) {
    // No message comes again while it is still in the window.
    this.slots = Math.max(run, Math.ceil((2 * WINDOW_BYTES) / size))
    this.#content = content
    this.#size = size
    this.#run = run
    const texts = Buffer.concat(Array.from({ length: this.slots }, () => payload(content, size)))
    this.#texts = Buffer.concat([texts, texts])
  }

  /** `count` masked frames from a slot on. */
  requests(slot: number, count: number, takeover: boolean): Buffer {
    let frames = this.#frames.get(takeover)
    if (frames === undefined) this.#frames.set(takeover, (frames = this.#makeFrames(takeover)))
    return frames.bytes.subarray(frames.starts[slot], frames.starts[slot + count])
  }

  /**
   * One message with everything that a message in this slot may refer to. Sent first, it brings both sides to where they
   * would be in the long run.
   */
  primer(slot: number): Buffer {
    return this.#requestFrame(this.#before(slot), undefined)
  }

  #makeFrames(takeover: boolean): Frames {
    const frames = Array.from({ length: this.slots }, (_, slot) =>
      this.#requestFrame(this.#text(slot), takeover ? this.#before(slot) : undefined),
    )
    const all = [...frames, ...frames.slice(0, this.#run)]
    const starts = [0]
    for (const { length } of all) starts.push(starts.at(-1)! + length)
    return { bytes: Buffer.concat(all), starts }
  }

  #requestFrame(text: Buffer, dictionary: Buffer | undefined): Buffer {
    const options = { finishFlush: constants.Z_SYNC_FLUSH, ...(dictionary && { dictionary }) }
    const compressed = deflateRawSync(text, options).subarray(0, -TAIL.length)
    return frame(opcodeOf(this.#content), compressed, randomBytes(4), true, true)
  }

  /** Throws unless the payload is the text of this slot; `takeover` says what the server may have referred to. */
  verify(slot: number, answer: Answer, takeover: boolean): void {
    this.#compare(this.#text(slot), answer, takeover ? this.#before(slot) : undefined)
  }

  verifyPrimer(slot: number, answer: Answer): void {
    this.#compare(this.#before(slot), answer, undefined)
  }

  #compare(text: Buffer, { opcode, compressed, payload }: Answer, dictionary: Buffer | undefined): void {
    const inflated = compressed
      ? inflateRawSync(Buffer.concat([payload, TAIL]), {
          finishFlush: constants.Z_SYNC_FLUSH,
          ...(dictionary && { dictionary }),
        })
      : payload
    if (opcode !== opcodeOf(this.#content) || !inflated.equals(text)) {
      throw new Error('the answer is not what was sent')
    }
  }

  #text(slot: number): Buffer {
    return this.#texts.subarray(slot * this.#size, (slot + 1) * this.#size)
  }

  #before(slot: number): Buffer {
    const end = (slot + this.slots) * this.#size
    return this.#texts.subarray(end - WINDOW_BYTES, end)
  }
}

export interface Answer {
  opcode: number
  compressed: boolean
  payload: Buffer
}

/** Finds the frames in what comes from a server. */
export class AnswerReader {
  #rest: Buffer | undefined

  /** Calls back for each frame that is complete; what it is given is only valid meanwhile. */
  read(bytes: number, buffer: Buffer, tell: (answer: Answer, frameBytes: number) => void): void {
    const chunk = buffer.subarray(0, bytes)
    const all = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk
    let at = 0
    for (;;) {
      const header = headerBytes(all, at)
      const end = header === undefined ? Infinity : at + header + payloadBytes(all, at)
      if (end > all.length) break
      const first = all[at]!
      const payload = all.subarray(at + header!, end)
      tell({ opcode: first & 0x0f, compressed: (first & 0x40) !== 0, payload }, end - at)
      at = end
    }
    this.#rest = at === all.length ? undefined : Buffer.from(all.subarray(at))
  }
}

/** Undefined when not all of the header is there. */
function headerBytes(all: Buffer, at: number): number | undefined {
  if (all.length - at < 2) return undefined
  const length = all[at + 1]!
  const size = length < 126 ? 2 : length === 126 ? 4 : 10
  return all.length - at < size ? undefined : size
}

function payloadBytes(all: Buffer, at: number): number {
  const length = all[at + 1]!
  return length < 126 ? length : length === 126 ? all.readUInt16BE(at + 2) : Number(all.readBigUInt64BE(at + 2))
}
