// node --import tsx bench/micro/masking.ts: src/masking.ts against the loop over bytes that says the same.
import { randomBytes } from 'node:crypto'
import { applyMask } from '../../src/masking.ts'
import { number, times } from '../report/figures.ts'
import { nanosecondsPerCall, table } from './time.ts'

const KEY = 0x7a3c_91e5

function byteLoop(bytes: Uint8Array, start: number, end: number, key: number): number {
  let seen = 0
  for (let i = start; i < end; i++) seen |= bytes[i]! ^= key >>> (((i - start) & 3) << 3)
  return seen & 0xff
}

/** As payloads lie in a chunk: behind a header, at any alignment. */
function place(size: number, offset: number): Buffer {
  return Buffer.from(new ArrayBuffer(size + 16), 0, size + 16)
    .fill(randomBytes(size + 16))
    .subarray(0, offset + size)
}

function check(size: number, offset: number): void {
  const fast = place(size, offset)
  const slow = Buffer.from(fast)
  const same = applyMask(fast, offset, offset + size, KEY) === byteLoop(slow, offset, offset + size, KEY)
  if (!same || !fast.equals(slow)) throw new Error(`${size} bytes at ${offset} are not masked as they should be`)
}

const rows = [16, 32, 64, 128, 1024, 4096, 65_536, 1_048_576].map((size) => {
  for (let offset = 0; offset < 8; offset++) check(size, offset)
  const bytes = place(size, 6)
  const slow = nanosecondsPerCall(() => byteLoop(bytes, 6, 6 + size, KEY))
  const fast = nanosecondsPerCall(() => applyMask(bytes, 6, 6 + size, KEY))
  return [size.toLocaleString('en-US'), number(slow), number(fast), times(slow / fast), number(size / fast)]
})
table(['Bytes', 'byte loop, ns', 'applyMask, ns', 'faster', 'GB/s'], rows)
