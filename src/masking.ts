import { randomFillSync } from 'node:crypto'

/*
 * XOR with the masking key (RFC 6455 §5.3). The key is a 32-bit integer whose lowest byte applies to the first byte
 * of the payload: what a little-endian read of the four key bytes gives.
 *
 * Island: the plain version is four lines (see the test that holds the two against each other); this one works word
 * by word, and collects on its way whether a byte above 0x7F came out, which makes "is it ASCII?" free for the caller.
 */

/** Below this many bytes the loop over words does not pay for its preparation. */
const WORDS_FROM = 48

const littleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1

// Frames of one chunk share its memory: one view of words per chunk, not per frame.
let wordsOf: ArrayBufferLike | undefined
let words: Int32Array<ArrayBufferLike> = new Int32Array(0)

function wordView(memory: ArrayBufferLike): Int32Array<ArrayBufferLike> {
  if (wordsOf !== memory) {
    wordsOf = memory
    words = new Int32Array(memory, 0, memory.byteLength >> 2)
  }
  return words
}

/** The key for the bytes that follow the first `count` bytes of a payload. */
export function rotateMaskingKey(key: number, count: number): number {
  const shift = (count & 3) << 3
  return shift === 0 ? key : (key >>> shift) | (key << (32 - shift))
}

/**
 * XORs `bytes[start..end)` in place with `key`; masking and unmasking are the same operation.
 *
 * @returns the OR of all resulting bytes: `& 0x80` tells whether any of them is above 0x7F.
 */
export function applyMask(bytes: Uint8Array, start: number, end: number, key: number): number {
  let seen = 0
  let at = start
  if (end - start >= WORDS_FROM) {
    const offset = bytes.byteOffset
    while (((offset + at) & 3) !== 0) {
      seen |= bytes[at]! ^= key & 0xff
      key = rotateMaskingKey(key, 1)
      at++
    }
    const wordKey = littleEndian ? key | 0 : swapBytes(key)
    const view = wordView(bytes.buffer)
    let word = (offset + at) >> 2
    const lastWord = (offset + end) >> 2
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
    seenWords |= seenWords >>> 16
    seen |= seenWords | (seenWords >>> 8)
    at = (word << 2) - offset
  }
  for (let shift = 0; at < end; at++, shift = (shift + 8) & 31) seen |= bytes[at]! ^= key >>> shift
  return seen & 0xff
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
