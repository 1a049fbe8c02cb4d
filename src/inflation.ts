import { createInflateRaw, type InflateRaw } from 'node:zlib'
import { type DeflateWindow, EMPTY_BLOCK, ENDING, inflateError, MAX_RUNS, notDeflate, tooLong } from './deflate.ts'

/** zlib gives what comes out in steps of this ... */
const STEP_BYTES = 65_536
/** ... and at most about so much more of them while nobody takes them. */
const AHEAD_BYTES = 16_384
/** So much waits for zlib at the most, in bytes ... */
const WAITING_BYTES = 65_536
/** ... or in pieces. */
const WAITING_PIECES = 64

/** Whom an inflation tells what becomes of it; never from within `write`, unless zlib cannot be had. */
export interface InflationUser {
  /** The next bytes that came out; `pause` may be called. The memory may be shared with those before and behind. */
  onOutput(bytes: Buffer): void
  /** Everything that was written is through; more may come. */
  onThrough(): void
  /** The message is whole. */
  onFinished(): void
  /** Nothing more comes out: `ProtocolError` `ERR_COMPRESSED_DATA` or `ERR_MESSAGE_TOO_BIG`, or what zlib fails with. */
  onError(error: unknown): void
}

/**
 * One compressed message (RFC 7692 §7.2.2) that is inflated while it arrives, and handed on as it comes out: of neither
 * side is more held than a few hundred KiB, whatever the length. It has a zlib stream of its own, in the thread pool.
 */
export class MessageInflation {
  readonly #user: InflationUser
  /** What the message may refer to; what comes out is added. */
  readonly #window: DeflateWindow
  readonly #maxBytes: number
  #zlib: InflateRaw | undefined = undefined
  /** What zlib has not been given yet. */
  #waiting: Buffer[] = []
  #waitingBytes = 0
  /** Nothing follows what waits. */
  #isWhole = false
  /** What zlib was given last, and how much it had taken before. */
  #input: Buffer | undefined = undefined
  #takenBefore = 0
  #isEmpty = true
  #length = 0
  #runs = 0
  #paused = false
  #closed = false

  constructor(window: DeflateWindow, maxBytes: number, user: InflationUser) {
    this.#window = window
    this.#maxBytes = maxBytes
    this.#user = user
  }

  /** No more should be written until `onThrough`. */
  get full(): boolean {
    return this.#waitingBytes >= WAITING_BYTES || this.#waiting.length >= WAITING_PIECES
  }

  /** The next bytes of the message; they must not change any more. */
  write(bytes: Buffer, isLast: boolean): void {
    if (bytes.length > 0) {
      this.#isEmpty = false
      this.#waiting.push(bytes)
      this.#waitingBytes += bytes.length
    }
    if (isLast) {
      this.#isWhole = true
      // A payload of no bytes at all is not in the RFC, but can mean one thing only.
      if (this.#isEmpty) this.#waiting.push(EMPTY_BLOCK)
    }
    if (this.#input === undefined) this.#next()
  }

  /** Nothing comes out until `resume`. */
  pause(): void {
    this.#paused = true
    this.#zlib?.pause()
  }

  resume(): void {
    this.#paused = false
    this.#zlib?.resume()
  }

  /** Gives up; nobody is told anything any more. */
  close(): void {
    this.#closed = true
    this.#zlib?.destroy()
  }

  /** Gives zlib what waits, then what ends the message. */
  #next(): void {
    if (this.#waiting.length > 0) {
      const input = this.#waiting.length === 1 ? this.#waiting[0]! : Buffer.concat(this.#waiting, this.#waitingBytes)
      this.#waiting = []
      this.#waitingBytes = 0
      this.#give(input)
    } else if (this.#isWhole) this.#give(ENDING)
  }

  #give(input: Buffer): void {
    const zlib = (this.#zlib ??= this.#start())
    if (zlib === undefined) return
    this.#input = input
    this.#takenBefore = zlib.bytesWritten
    // Behind the ending zlib says so when the data end too early.
    if (input === ENDING) zlib.end(input)
    else zlib.write(input, (error) => this.#given(error))
  }

  #given(error: Error | null | undefined): void {
    if (this.#closed || error || this.#rest().length > 0) return
    this.#input = undefined
    this.#next()
    if (this.#input === undefined) this.#user.onThrough()
  }

  /** What zlib has left of its input: it stops behind a block with BFINAL. */
  #rest(): Buffer {
    return this.#input!.subarray(this.#zlib!.bytesWritten - this.#takenBefore)
  }

  #start(): InflateRaw | undefined {
    this.#runs++
    const { dictionary } = this.#window
    const options = { chunkSize: STEP_BYTES, highWaterMark: AHEAD_BYTES, ...(dictionary && { dictionary }) }
    try {
      const zlib = createInflateRaw(options)
      zlib.on('error', (error) => this.#fail(error))
      zlib.on('end', () => this.#ended())
      if (this.#paused) zlib.pause()
      zlib.on('data', (bytes: Buffer) => this.#take(bytes))
      return zlib
    } catch (error) {
      this.#fail(error)
      return undefined
    }
  }

  #take(bytes: Buffer): void {
    // What was ready is still given when the stream is destroyed.
    if (this.#closed) return
    this.#length += bytes.length
    if (this.#length > this.#maxBytes) {
      this.#fail(tooLong(this.#maxBytes))
      return
    }
    this.#window.append(bytes)
    this.#user.onOutput(bytes)
  }

  /** Everything that this run of zlib gives is out. */
  #ended(): void {
    if (this.#closed) return
    const rest = this.#rest()
    // Behind a last block of the peer's the ending may stand alone; a part of it means that data was cut short.
    if (this.#input === ENDING && (rest.length === 0 || rest.length === ENDING.length)) {
      this.close()
      this.#user.onFinished()
    } else if (this.#input === ENDING || this.#runs === MAX_RUNS) this.#fail(notDeflate())
    else {
      // §7.2.3.4, §7.2.3.5: what follows such a block goes on in the same window.
      this.#zlib!.destroy()
      this.#zlib = undefined
      this.#give(rest)
    }
  }

  #fail(error: unknown): void {
    this.close()
    this.#user.onError(inflateError(error, this.#maxBytes))
  }
}
