import { afterEach, describe, expect, it, vi } from 'vitest'
import { applyMask, randomMaskingKey, rotateMaskingKey } from '../../src/masking.ts'

/** 37 fa 21 3d on the wire: the key of the examples of RFC 6455 §5.7. */
const KEY = 0x3d21fa37
const KEY_BYTES = [0x37, 0xfa, 0x21, 0x3d]

/** Around the lengths from which words of 4 and of 8 bytes are masked, and around the rounds of four words. */
const LENGTHS = [0, 1, 3, 4, 5, 47, 48, 49, 63, 64, 65, 66, 67, 68, 1_000, 1_023, 1_024, 1_025, 1_031, 1_056, 9_999]

describe('applyMask', () => {
  it('masks the "Hello" of §5.7 as it stands there', () => {
    const bytes = Buffer.from('Hello')
    applyMask(bytes, 0, bytes.length, KEY)
    expect(bytes.toString('hex')).toBe('7f9f4d5158')
  })

  it('unmasks it again', () => {
    const bytes = Buffer.from('7f9f4d5158', 'hex')
    applyMask(bytes, 0, bytes.length, KEY)
    expect(bytes.toString()).toBe('Hello')
  })

  it.each(LENGTHS)('changes %d bytes, and none beside them', (length) => {
    const bytes = Buffer.alloc(length + 16, 0xee)
    const expected = Buffer.alloc(length + 16, 0xee)
    for (let at = 0; at < length; at++) expected[8 + at]! ^= KEY_BYTES[at & 3]!
    applyMask(bytes, 8, 8 + length, KEY)
    expect(bytes.equals(expected)).toBe(true)
  })

  it.each(LENGTHS.slice(1))('tells whether the %d bytes that come out are all below 0x80', (length) => {
    const maskedText = (highAt?: number) => {
      const bytes = Buffer.alloc(length, 0x7f)
      if (highAt !== undefined) bytes[highAt] = 0x80
      applyMask(bytes, 0, length, KEY)
      return bytes
    }
    expect(applyMask(maskedText(), 0, length, KEY) & 0x80).toBe(0)
    for (const highAt of [0, 1, 2, 3, length >> 1, length - 3, length - 2, length - 1]) {
      if (highAt < 0 || highAt >= length) continue
      expect(applyMask(maskedText(highAt), 0, length, KEY) & 0x80).toBe(0x80)
    }
  })

  it('finds no byte above 0x7F among no bytes at all', () => {
    expect(applyMask(Buffer.from([0xff]), 0, 0, KEY) & 0x80).toBe(0)
  })

  it('goes over from one memory to another and back', () => {
    const first = Buffer.alloc(64, 0x20)
    const second = Buffer.alloc(64, 0x20)
    for (const bytes of [first, second, first]) applyMask(bytes, 0, 64, KEY)
    expect(first.equals(Buffer.alloc(64, 0x20))).toBe(true)
    expect(second.toString('hex')).toBe('17da011d'.repeat(16))
  })
})

describe('rotateMaskingKey', () => {
  it.each([
    [0, 0x44332211],
    [1, 0x11443322],
    [2, 0x22114433],
    [3, 0x33221144],
    [4, 0x44332211],
    [1_000_003, 0x33221144],
    [2 ** 40 + 1, 0x11443322],
  ])('gives the key for what follows %d bytes', (count, expected) => {
    expect(rotateMaskingKey(0x44332211, count) >>> 0).toBe(expected)
  })

  it('rotates a key whose top bit is set without dragging its sign along', () => {
    expect(rotateMaskingKey(0x80000001 | 0, 1) >>> 0).toBe(0x01800000)
  })
})

describe('randomMaskingKey', () => {
  const keys = Array.from({ length: 5_000 }, randomMaskingKey)

  it('gives 32-bit integers', () => {
    expect(keys.every((key) => (key | 0) === key)).toBe(true)
  })

  it('gives fresh keys, also when the random bytes that it keeps are used up', () => {
    // Two of 5,000 are equal by chance once in 350 runs; ten are never.
    expect(new Set(keys).size).toBeGreaterThan(4_990)
  })

  it('uses all 32 bits', () => {
    expect(keys.reduce((seen, key) => seen | key, 0)).toBe(-1)
    expect(keys.reduce((seen, key) => seen & key, -1)).toBe(0)
  })
})

describe('on a big-endian machine', () => {
  afterEach(() => {
    vi.restoreAllMocks()
    vi.resetModules()
  })

  // This machine is little-endian, so that its memory shows the words as the module believes to have read them: single
  // bytes up to the first whole word, words with the key turned round, and single bytes behind them.
  it.each([
    { size: 'four', words: 13 },
    { size: 'eight', words: 130 * 2 },
  ])('turns the key round for words of $size bytes, and only for them', async ({ words }) => {
    vi.resetModules()
    vi.spyOn(Uint32Array, 'of').mockReturnValue(new Uint32Array(Uint8Array.of(0, 0, 0, 1).buffer))
    const bigEndian = await import('../../src/masking.ts')
    const bytes = Buffer.from(new ArrayBuffer(words * 4 + 16), 7, words * 4 + 2)
    bigEndian.applyMask(bytes, 0, bytes.length, KEY)
    expect(bytes.toString('hex')).toBe(`37${'373d21fa'.repeat(words)}fa`)
  })
})
