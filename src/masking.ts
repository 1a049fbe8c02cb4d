import { isAscii } from 'node:buffer'
import { randomFillSync } from 'node:crypto'

/*
 * XOR with the masking key (RFC 6455 §5.3). The key is a 32-bit integer whose lowest byte applies to the first byte
 * of the payload: what a little-endian read of the four key bytes gives.
 *
 * Island: the plain version is four lines (see the test that holds the two against each other); this one works in
 * words of 4 or 8 bytes, and tells whether a byte above 0x7F came out, which makes "is it ASCII?" nearly free.
 */

/** Below this many bytes the loop over words does not pay for its preparation ... */
const WORDS_FROM = 48
/** ... and from here on long words do, with a native look for bytes above 0x7F behind them. */
const LONG_WORDS_FROM = 1024

const littleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1

// Frames of one chunk share its memory: its views are made once per chunk, not per frame.
let viewed: Uint8Array | undefined
let words: Int32Array<ArrayBufferLike> = new Int32Array(0)
let longWords: BigUint64Array<ArrayBufferLike> = new BigUint64Array(0)

/** The key for long words is that for words, twice; put together here, no step of it makes a BigInt. */
const keyHalves = new Int32Array(2)
const wholeKey = new BigUint64Array(keyHalves.buffer)

function makeViews(bytes: Uint8Array): void {
  const memory = bytes.buffer
  viewed = bytes
  words = new Int32Array(memory, 0, memory.byteLength >> 2)
  longWords = new BigUint64Array(memory, 0, memory.byteLength >> 3)
}

/** The key for the bytes that follow the first `count` bytes of a payload. */
export function rotateMaskingKey(key: number, count: number): number {
  const shift = (count & 3) << 3
  return shift === 0 ? key : (key >>> shift) | (key << (32 - shift))
}

/**
 * XORs `bytes[start..end)` in place with `key`; masking and unmasking are the same operation.
 *
 * @returns a number of which `& 0x80` tells whether any of the resulting bytes is above 0x7F.
 */
export function applyMask(bytes: Uint8Array, start: number, end: number, key: number): number {
  if (end - start < WORDS_FROM) return maskBytes(bytes, start, end, key)
  if (bytes !== viewed) makeViews(bytes)
  return end - start < LONG_WORDS_FROM ? maskWords(bytes, start, end, key) : maskLongWords(bytes, start, end, key)
}

function maskBytes(bytes: Uint8Array, start: number, end: number, key: number): number {
  let seen = 0
  for (let at = start, shift = 0; at < end; at++, shift = (shift + 8) & 31) seen |= bytes[at]! ^= (key >>> shift) & 0xff
  return seen
}

/** Where the first word of this size (a power of two) begins in `bytes`, from `start` on. */
function firstWord(bytes: Uint8Array, start: number, size: number): number {
  return start + (-(bytes.byteOffset + start) & (size - 1))
}

function maskWords(bytes: Uint8Array, start: number, end: number, key: number): number {
  const first = firstWord(bytes, start, 4)
  let seen = maskBytes(bytes, start, first, key)
  const alignedKey = rotateMaskingKey(key, first - start)
  const wordKey = littleEndian ? alignedKey | 0 : swapBytes(alignedKey)
  const view = words
  const lastWord = (bytes.byteOffset + end) >> 2
  let word = (bytes.byteOffset + first) >> 2
  let seenWords = 0
  for (const unrolled = lastWord - 3; word < unrolled; word += 4) {
    const a = view[word]! ^ wordKey
    const b = view[word + 1]! ^ wordKey
    const c = view[word + 2]! ^ wordKey
    const d = view[word + 3]! ^ wordKey
    view[word] = a
    view[word + 1] = b
    view[word + 2] = c
    view[word + 3] = d
    seenWords |= a | b | c | d
  }
  for (; word < lastWord; word++) seenWords |= view[word]! ^= wordKey
  seen |= maskBytes(bytes, (word << 2) - bytes.byteOffset, end, alignedKey)
  seenWords |= seenWords >>> 16
  return seen | seenWords | (seenWords >>> 8)
}

function maskLongWords(bytes: Uint8Array, start: number, end: number, key: number): number {
  const first = firstWord(bytes, start, 8)
  maskBytes(bytes, start, first, key)
  const alignedKey = rotateMaskingKey(key, first - start)
  keyHalves[0] = keyHalves[1] = littleEndian ? alignedKey : swapBytes(alignedKey)
  const longKey = wholeKey[0]!
  const view = longWords
  const lastWord = (bytes.byteOffset + end) >> 3
  let word = (bytes.byteOffset + first) >> 3
  for (const unrolled = lastWord - 3; word < unrolled; word += 4) {
    view[word] = view[word]! ^ longKey
    view[word + 1] = view[word + 1]! ^ longKey
    view[word + 2] = view[word + 2]! ^ longKey
    view[word + 3] = view[word + 3]! ^ longKey
  }
  for (; word < lastWord; word++) view[word] = view[word]! ^ longKey
  maskBytes(bytes, (word << 3) - bytes.byteOffset, end, alignedKey)
  return isAscii(bytes.subarray(start, end)) ? 0 : 0x80
}

function swapBytes(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)
}

const pool = Buffer.allocUnsafeSlow(8192)
let poolAt = pool.length

/** A fresh key for one frame; unpredictable, as §5.3 demands. */
export function randomMaskingKey(): number {
  if (poolAt === pool.length) {
    randomFillSync(pool)
    poolAt = 0
  }
  const key = pool.readInt32LE(poolAt)
  poolAt += 4
  return key
}
