import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { applyMask, rotateMaskingKey } from '../../src/masking.ts'

/** The plain version (RFC 6455 §5.3): what the fast one must do, whatever the length and the alignment. */
function slowMask(bytes: Uint8Array, start: number, end: number, key: number): number {
  let seen = 0
  for (let at = start; at < end; at++) seen |= bytes[at]! ^= (key >>> (8 * ((at - start) & 3))) & 0xff
  return seen
}

/** A buffer of its own, `offset` bytes behind the start of its memory, with repeatable bytes and a margin behind. */
function bufferAt(offset: number, length: number, bits = 0xff): Buffer {
  const memory = Buffer.from(new ArrayBuffer(offset + length + 8))
  for (let at = 0; at < memory.length; at++) memory[at] = (at * 151 + (at >> 3) * 7 + 3) & bits
  return memory.subarray(offset)
}

/** Masks with both, and compares the bytes (those beside included) and what is returned. */
function compare(offset: number, start: number, length: number, key: number, bits = 0xff): void {
  const end = start + length
  const fast = bufferAt(offset, end, bits)
  const slow = Buffer.from(fast)
  const seen = applyMask(fast, start, end, key)
  const expected = slowMask(slow, start, end, key)
  const at = fast.equals(slow) ? 'nowhere' : fast.findIndex((byte, index) => byte !== slow[index])
  expect({ offset, start, length, differs: at, high: seen & 0x80 }).toEqual({
    offset,
    start,
    length,
    differs: 'nowhere',
    high: expected & 0x80,
  })
}

const anyKey = fc.integer({ min: -0x80000000, max: 0xffffffff })

describe('applyMask and its slow twin', () => {
  it('agree for every length up to 300, at every alignment of the memory and every start', () => {
    for (let length = 0; length <= 300; length++) {
      for (let offset = 0; offset < 8; offset++) {
        for (let start = 0; start < 4; start++) compare(offset, start, length, 0x9c5a37f1 | 0)
      }
    }
  }, 20_000)

  it.each([1_015, 1_023, 1_024, 1_025, 1_032, 4_095, 16_384, 65_536, 100_003])(
    'agree for some %d bytes at every alignment',
    (around) => {
      for (let length = around; length < around + 9; length++) {
        for (let offset = 0; offset < 8; offset++) compare(offset, offset & 3, length, 0x11223344)
      }
    },
  )

  it('agree on "is it ASCII?" for text that is masked with keys of all kinds', () => {
    fc.assert(
      fc.property(fc.nat(15), fc.nat(15), fc.nat(3_000), anyKey, (offset, start, length, key) => {
        // All below 0x80 once the key is through: the bits of the key that are beyond come from the bytes.
        const text = bufferAt(offset, start + length, 0x7f)
        const masked = Buffer.from(text)
        slowMask(masked, start, start + length, key)
        expect(applyMask(masked, start, start + length, key) & 0x80).toBe(0)
        expect(masked.equals(text)).toBe(true)
        compare(offset, start, length, key)
      }),
    )
  })

  it('agree on one byte above 0x7F, wherever it is', () => {
    fc.assert(
      fc.property(fc.nat(7), fc.integer({ min: 1, max: 2_500 }), fc.nat(), anyKey, (offset, length, place, key) => {
        const bytes = bufferAt(offset, length, 0x7f)
        bytes[place % length]! |= 0x80
        slowMask(bytes, 0, length, key)
        expect(applyMask(bytes, 0, length, key) & 0x80).toBe(0x80)
      }),
    )
  })
})

describe('masking', () => {
  const anyBytes = fc.uint8Array({ maxLength: 2_500 })

  it('twice is the identity', () => {
    fc.assert(
      fc.property(anyBytes, anyKey, (given, key) => {
        const bytes = Buffer.from(given)
        applyMask(bytes, 0, bytes.length, key)
        applyMask(bytes, 0, bytes.length, key)
        expect(bytes.equals(given)).toBe(true)
      }),
    )
  })

  it('in two parts is masking the whole, with the rotated key for the second', () => {
    fc.assert(
      fc.property(anyBytes, fc.nat(), anyKey, (given, place, key) => {
        const cut = place % (given.length + 1)
        const whole = Buffer.from(given)
        applyMask(whole, 0, whole.length, key)
        const parts = Buffer.from(given)
        applyMask(parts, 0, cut, key)
        applyMask(parts, cut, parts.length, rotateMaskingKey(key, cut))
        expect(parts.equals(whole)).toBe(true)
      }),
    )
  })
})

describe('rotateMaskingKey', () => {
  const anyCount = fc.maxSafeNat()

  it('gives a key that begins with the byte whose turn it is', () => {
    fc.assert(
      fc.property(anyKey, anyCount, (key, count) => {
        const rotated = rotateMaskingKey(key, count)
        for (let byte = 0; byte < 4; byte++) {
          expect((rotated >>> (8 * byte)) & 0xff).toBe((key >>> (8 * ((byte + (count % 4)) % 4))) & 0xff)
        }
      }),
    )
  })

  it('adds up', () => {
    fc.assert(
      fc.property(anyKey, fc.nat(), fc.nat(), (key, first, second) => {
        const inSteps = rotateMaskingKey(rotateMaskingKey(key, first), second)
        expect(inSteps >>> 0).toBe(rotateMaskingKey(key, first + second) >>> 0)
      }),
    )
  })
})
