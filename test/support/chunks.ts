import type { Random } from './random.ts'

/*
 * Ways in which TCP may cut a stream. Each chunk is a copy with memory of its own, as from a socket: the protocol
 * unmasks in place.
 */

export function copyOf(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  copy.set(bytes)
  return copy
}

/** Chunks of `size` bytes; the last may be shorter. */
export function chunksOf(bytes: Uint8Array, size: number): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) chunks.push(copyOf(bytes.subarray(at, at + size)))
  return chunks
}

/** Chunks that end at the given offsets, and at the end. */
export function chunksAt(bytes: Uint8Array, cuts: readonly number[]): Buffer[] {
  const ends = [...new Set(cuts)].filter((cut) => cut > 0 && cut < bytes.length).sort((a, b) => a - b)
  return [...ends, bytes.length].map((end, index) => copyOf(bytes.subarray(ends[index - 1] ?? 0, end)))
}

/** `count` cuts anywhere. */
export function randomChunks(bytes: Uint8Array, count: number, random: Random): Buffer[] {
  return chunksAt(
    bytes,
    Array.from({ length: count }, () => random(bytes.length)),
  )
}
