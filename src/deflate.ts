import { kMaxLength } from 'node:buffer'
import { constants, deflateRaw, deflateRawSync, inflateRaw, inflateRawSync, type ZlibOptions } from 'node:zlib'
import { CloseCode, type Role } from './constants.ts'
import { ProtocolError } from './errors.ts'
import type { Compression, DeflateAgreement } from './extension.ts'

/*
 * permessage-deflate (RFC 7692 §7.2): payloads to compressed payloads and back. zlib is called once per message and
 * keeps nothing in between: where context takeover was agreed on, what it would have kept is given to it again, as a
 * preset dictionary. So a connection costs at most its windows of plain text, and nothing while it has sent nothing.
 *
 * Small payloads are done at once, which is faster than a way to the thread pool and back; large ones there, so that
 * nobody else waits for them. What is inflated while it arrives is in inflation.ts; nobody else knows zlib.
 */

/** Payloads up to this size are compressed and inflated on the event loop ... */
const AT_ONCE_BYTES = 65_536
/** ... and inflated to no more than this; what turns out to be longer starts again in the pool. */
const INFLATED_AT_ONCE_BYTES = 262_144
/** A message that ends and begins anew (BFINAL) more often than this is not worth its cost. */
export const MAX_RUNS = 256
const MIN_ZLIB_BITS = 9
/** What we keep of our own messages for the next: more of it takes zlib longer to read than it saves. */
const SENT_WINDOW_BITS = 12

/** What ends a message on the way in, and is taken off on the way out (§7.2.1, §7.2.2). */
const TAIL: Buffer = Buffer.from([0x00, 0x00, 0xff, 0xff])
/** The tail and a last block without content: without that, zlib would not say that the data ends too early. */
export const ENDING: Buffer = Buffer.from([0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff])
const EMPTY: Buffer = Buffer.alloc(0)
/** What is left of a block without content when its tail is taken off (§7.2.3.6). */
export const EMPTY_BLOCK: Buffer = Buffer.from([0x00])
/** The largest window there is (RFC 1951 §2). */
const MAX_WINDOW_BYTES = 32_768
/** zlib's own limit for a limit. */
const MAX_ZLIB_LIMIT: number = kMaxLength

/** How one side's messages are to be compressed and inflated. Connections that agreed on the same share one object. */
export interface DeflateProfile {
  readonly threshold: number
  readonly level: number
  readonly memLevel: number
  /** Window of what we send. */
  readonly windowBits: number
  /** Send a message compressed also when that has not made it smaller. */
  readonly evenIfLarger: boolean
  /** Bytes of earlier messages that the next one that we send may refer to; 0 without context takeover. */
  readonly sentWindow: number
  /** The same of what we receive. */
  readonly receivedWindow: number
}

/** What an agreement means for this side. */
export function deflateProfile(
  agreement: DeflateAgreement,
  wanted: Pick<Compression, 'threshold' | 'level' | 'memLevel'> & { readonly evenIfLarger?: boolean },
  role: Role,
): DeflateProfile {
  const isServer = role === 'server'
  const { serverMaxWindowBits, clientMaxWindowBits, serverNoContextTakeover, clientNoContextTakeover } = agreement
  const ownBits = isServer ? serverMaxWindowBits : clientMaxWindowBits
  const peerBits = isServer ? clientMaxWindowBits : serverMaxWindowBits
  const ownTakeover = !(isServer ? serverNoContextTakeover : clientNoContextTakeover)
  const peerTakeover = !(isServer ? clientNoContextTakeover : serverNoContextTakeover)
  return Object.freeze({
    threshold: wanted.threshold,
    level: wanted.level,
    memLevel: wanted.memLevel,
    evenIfLarger: wanted.evenIfLarger === true,
    // zlib has no raw window of 8 bits, but with one of 9 it refers to nothing that is more than 250 bytes away.
    windowBits: Math.max(ownBits, MIN_ZLIB_BITS),
    sentWindow: ownTakeover ? 1 << Math.min(ownBits, SENT_WINDOW_BITS) : 0,
    receivedWindow: peerTakeover ? 1 << peerBits : 0,
  })
}

/** Most bytes of a compressed message: deflate makes what it cannot make smaller a little larger. */
export function maxCompressedBytes(maxMessageBytes: number): number {
  return Math.ceil(maxMessageBytes * 1.125) + 64
}

/** Compression and decompression for one connection, with what its messages may refer to. */
export class MessageDeflate {
  readonly profile: DeflateProfile
  readonly #sent: DeflateWindow | undefined
  readonly #received: DeflateWindow | undefined
  /** While a message is sent in fragments. */
  #fragments: DeflateWindow | undefined = undefined

  constructor(profile: DeflateProfile) {
    this.profile = profile
    this.#sent = profile.sentWindow === 0 ? undefined : new DeflateWindow(profile.sentWindow)
    this.#received = profile.receivedWindow === 0 ? undefined : new DeflateWindow(profile.receivedWindow)
  }

  /** The payload, compressed; undefined when that is not worth it and the message should go out as it is. */
  compress(payload: Uint8Array): Buffer | undefined {
    return this.#judge(payload, compress(payload, this.profile, this.#sent?.dictionary))
  }

  /** As `compress`, in the thread pool. Neither the payload nor any other message may come by before `done`. */
  compressLater(payload: Uint8Array, done: (compressed: Buffer | undefined) => void): void {
    compressLater(payload, this.profile, this.#sent?.dictionary, (compressed) => {
      done(compressed && this.#judge(payload, compressed))
    })
  }

  /**
   * A fragment of a message that is compressed piece by piece: it may refer to those before it, whatever was agreed on
   * for messages.
   */
  compressFragment(payload: Uint8Array, isFirst: boolean, isLast: boolean): Buffer {
    const window = this.#startFragment(isFirst)
    const bytes = deflateRawSync(payload, deflateOptions(payload, this.profile, window.dictionary))
    return this.#endFragment(payload, bytes, isLast)
  }

  /** As `compressFragment`, in the thread pool. Neither the payload nor any other message may come by before `done`. */
  compressFragmentLater(
    payload: Uint8Array,
    isFirst: boolean,
    isLast: boolean,
    done: (error: Error | null, bytes: Buffer) => void,
  ): void {
    const window = this.#startFragment(isFirst)
    inPool((leave) => {
      deflateRaw(payload, deflateOptions(payload, this.profile, window.dictionary), (error, bytes) => {
        leave()
        if (error !== null) done(error, EMPTY)
        else done(null, this.#endFragment(payload, bytes, isLast))
      })
    })
  }

  #startFragment(isFirst: boolean): DeflateWindow {
    if (isFirst) this.#fragments = this.#sent ?? new DeflateWindow(1 << SENT_WINDOW_BITS)
    return this.#fragments!
  }

  #endFragment(payload: Uint8Array, bytes: Buffer, isLast: boolean): Buffer {
    this.#fragments!.append(payload)
    if (!isLast) return bytes
    this.#fragments = undefined
    return withoutTail(bytes)
  }

  /** A message was sent that somebody else has compressed, without reference to any other. */
  noteSent(payload: Uint8Array): void {
    this.#sent?.append(payload)
  }

  /**
   * The payload, inflated; undefined when it is too long to be done at once: then `inflateLater`.
   *
   * @throws ProtocolError `ERR_MESSAGE_TOO_BIG` as soon as more than `maxBytes` come out, `ERR_COMPRESSED_DATA` for what
   *   is not deflate data.
   */
  inflate(payload: Buffer, maxBytes: number): Buffer | undefined {
    const inflated = inflate(payload, maxBytes, this.#received?.dictionary)
    if (inflated !== undefined) this.#received?.append(inflated)
    return inflated
  }

  /** As `inflate`, in the thread pool and of any length. No other message may come by before `done`. */
  inflateLater(payload: Buffer, maxBytes: number, done: (error: unknown, inflated: Buffer) => void): void {
    inflateLater(payload, maxBytes, this.#received?.dictionary, (error, inflated) => {
      if (error === undefined) this.#received?.append(inflated)
      done(error, inflated)
    })
  }

  /** What the next message that we receive may refer to, and where what comes out of it is to be added. */
  get receivedWindow(): DeflateWindow {
    return this.#received ?? new DeflateWindow(MAX_WINDOW_BYTES)
  }

  #judge(payload: Uint8Array, compressed: Buffer): Buffer | undefined {
    if (compressed.length >= payload.length && !this.profile.evenIfLarger) return undefined
    this.#sent?.append(payload)
    return compressed
  }
}

// ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Whether a payload is short enough for `compress`; else `compressLater`. */
export function isCompressedAtOnce(payload: Uint8Array): boolean {
  return payload.length <= AT_ONCE_BYTES
}

/** The payload, compressed. `dictionary` is what earlier messages have left in the window of the peer. */
export function compress(payload: Uint8Array, profile: DeflateProfile, dictionary?: Buffer): Buffer {
  return withoutTail(deflateRawSync(payload, deflateOptions(payload, profile, dictionary)))
}

/** As `compress`, in the thread pool; both arguments must not change meanwhile. */
export function compressLater(
  payload: Uint8Array,
  profile: DeflateProfile,
  dictionary: Buffer | undefined,
  done: (compressed: Buffer | undefined) => void,
): void {
  // zlib fails for want of memory alone; a message can always go out as it is.
  inPool((leave) => {
    deflateRaw(payload, deflateOptions(payload, profile, dictionary), (error, bytes) => {
      leave()
      done(error === null ? withoutTail(bytes) : undefined)
    })
  })
}

function deflateOptions(payload: Uint8Array, profile: DeflateProfile, dictionary: Buffer | undefined): ZlibOptions {
  const { level, memLevel } = profile
  // A window that is no larger than what there is costs less to set up. zlib keeps 262 bytes of it for itself.
  const needed = 32 - Math.clz32(payload.length + (dictionary?.length ?? 0) + 261)
  const windowBits = Math.min(profile.windowBits, Math.max(needed, MIN_ZLIB_BITS))
  const options: ZlibOptions = { level, memLevel, windowBits, finishFlush: constants.Z_SYNC_FLUSH }
  // What is worth compressing mostly becomes half as long, and memory costs time.
  options.chunkSize = chunkSize(payload.length >> 1)
  if (dictionary !== undefined) options.dictionary = dictionary
  return options
}

/** §7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end." */
function withoutTail(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.length - TAIL.length)
}

/** Output comes in steps of this: one is mostly enough, and not much more memory than is needed. */
function chunkSize(expected: number): number {
  return Math.min(Math.max(expected + 64, 512), 65_536)
}

// ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The payload, inflated; undefined when it is too long to be done at once: then `inflateLater`.
 *
 * @throws ProtocolError `ERR_MESSAGE_TOO_BIG` as soon as more than `maxBytes` come out, `ERR_COMPRESSED_DATA` for what
 *   is no deflate data.
 */
function inflate(payload: Buffer, maxBytes: number, dictionary: Buffer | undefined): Buffer | undefined {
  if (payload.length > AT_ONCE_BYTES) return undefined
  const limit = Math.min(maxBytes, INFLATED_AT_ONCE_BYTES)
  const inflation = new Inflation(payload, limit, dictionary)
  try {
    while (!inflation.take(inflateRawSync(inflation.rest, inflation.options)));
    return inflation.result()
  } catch (error) {
    if (limit < maxBytes && isTooLong(error)) return undefined
    throw inflateError(error, maxBytes)
  }
}

/** As `inflate`, in the thread pool and of any length; `payload` and `dictionary` must not change meanwhile. */
function inflateLater(
  payload: Buffer,
  maxBytes: number,
  dictionary: Buffer | undefined,
  done: (error: unknown, inflated: Buffer) => void,
): void {
  const inflation = new Inflation(payload, maxBytes, dictionary)
  const run = (leave: () => void): void => {
    inflateRaw(inflation.rest, inflation.options, (error, output) => {
      let isLast = true
      try {
        if (error !== null) throw error
        isLast = inflation.take(output)
      } catch (thrown) {
        leave()
        done(inflateError(thrown, maxBytes), EMPTY)
        return
      }
      if (!isLast) {
        run(leave)
        return
      }
      leave()
      done(undefined, inflation.result())
    })
  }
  inPool(run)
}

/** What zlib gives with the option `info`. */
interface InflateInfo {
  readonly buffer: Buffer
  readonly engine: { readonly bytesWritten: number }
}

/**
 * One message on its way through zlib, which stops behind a block with BFINAL: what follows such a block goes on in the
 * same window (§7.2.3.4, §7.2.3.5).
 */
class Inflation {
  /** What zlib has not seen yet. */
  rest: Buffer
  readonly #maxBytes: number
  #dictionary: Buffer | undefined
  readonly #parts: Buffer[] = []
  #length = 0

  constructor(payload: Buffer, maxBytes: number, dictionary: Buffer | undefined) {
    // A payload of no bytes at all is not in the RFC, but can mean one thing only.
    this.rest = Buffer.concat([payload.length === 0 ? EMPTY_BLOCK : payload, ENDING])
    this.#maxBytes = maxBytes
    this.#dictionary = dictionary
  }

  get options(): ZlibOptions {
    const options: ZlibOptions = {
      chunkSize: chunkSize(this.rest.length * 4),
      // zlib takes no limit of 0.
      maxOutputLength: Math.min(Math.max(this.#maxBytes - this.#length, 1), MAX_ZLIB_LIMIT),
      info: true,
    }
    if (this.#dictionary !== undefined) options.dictionary = this.#dictionary
    return options
  }

  /** Takes what one run of zlib has given; true when it was the last. */
  take(output: Buffer): boolean {
    const { buffer, engine } = output as unknown as InflateInfo
    this.#length += buffer.length
    if (this.#length > this.#maxBytes) throw tooLong(this.#maxBytes)
    this.#parts.push(buffer)
    this.rest = this.rest.subarray(engine.bytesWritten)
    // Behind a last block of the peer's the ending may stand alone; a part of it means that data was cut short.
    if (this.rest.length === 0 || this.rest.length === ENDING.length) return true
    if (this.rest.length < ENDING.length || this.#parts.length === MAX_RUNS) throw notDeflate()
    if (buffer.length > 0) {
      this.#dictionary = Buffer.concat([this.#dictionary ?? EMPTY, buffer]).subarray(-MAX_WINDOW_BYTES)
    }
    return false
  }

  result(): Buffer {
    const whole = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.#length)
    // A short message must not hold on to the memory that zlib was given for a long one.
    return whole.length < whole.buffer.byteLength / 2 ? Buffer.from(whole) : whole
  }
}

/** zlib's errors in our words; anything else as it is. */
export function inflateError(error: unknown, maxBytes: number): unknown {
  if (isTooLong(error)) return tooLong(maxBytes)
  return String((error as { code?: unknown } | null)?.code).startsWith('Z_') ? notDeflate(error) : error
}

function isTooLong(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return code === 'ERR_BUFFER_TOO_LARGE' || code === 'ERR_MESSAGE_TOO_BIG'
}

export function tooLong(maxBytes: number): ProtocolError {
  return new ProtocolError(
    'ERR_MESSAGE_TOO_BIG',
    CloseCode.MESSAGE_TOO_BIG,
    `a message may have ${maxBytes} bytes at most, inflated`,
  )
}

export function notDeflate(cause?: unknown): ProtocolError {
  return new ProtocolError(
    'ERR_COMPRESSED_DATA',
    CloseCode.INVALID_PAYLOAD,
    'a compressed message is not deflate data',
    { cause },
  )
}

// ── the thread pool ───

/** More of it at once would not be done sooner, and each needs memory for what comes out: the peers choose how much. */
const MAX_IN_POOL = 8
let inPoolCount = 0
const waitingForPool: ((leave: () => void) => void)[] = []

/** Begins the work when it is its turn; it calls `leave` when it is through. */
function inPool(work: (leave: () => void) => void): void {
  if (inPoolCount === MAX_IN_POOL) {
    waitingForPool.push(work)
    return
  }
  inPoolCount++
  try {
    work(leavePool)
  } catch (error) {
    // zlib refuses its options, say: the place is free again.
    leavePool()
    throw error
  }
}

function leavePool(): void {
  inPoolCount--
  const next = waitingForPool.shift()
  if (next !== undefined) inPool(next)
}

// ── windows ───

/** The latest bytes of one direction of a connection, for the messages that may refer to them (§7.1.1). */
export class DeflateWindow {
  readonly #size: number
  #bytes: Buffer = EMPTY
  #end = 0

  constructor(size: number) {
    this.#size = size
  }

  /** A view that is valid until the next `append`; undefined while there is nothing. */
  get dictionary(): Buffer | undefined {
    return this.#end === 0 ? undefined : this.#bytes.subarray(Math.max(0, this.#end - this.#size), this.#end)
  }

  append(payload: Uint8Array): void {
    const added = payload.subarray(Math.max(0, payload.length - this.#size))
    if (this.#end + added.length > this.#bytes.length) this.#makeRoom(added.length)
    this.#bytes.set(added, this.#end)
    this.#end += added.length
  }

  /** Grows as it is filled, to a quarter more than is needed, so that not every message moves all of it. */
  #makeRoom(size: number): void {
    const kept = Math.min(this.#end, Math.max(0, this.#size - size))
    const wanted = Math.min(2 * (kept + size), this.#size + (this.#size >> 2))
    const bytes = Buffer.allocUnsafeSlow(Math.max(wanted, kept + size))
    this.#bytes.copy(bytes, 0, this.#end - kept, this.#end)
    this.#bytes = bytes
    this.#end = kept
  }
}
