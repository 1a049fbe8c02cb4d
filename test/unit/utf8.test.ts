import { describe, expect, it } from 'vitest'
import { advanceUtf8, UTF8_INVALID, UTF8_START } from '../../src/utf8.ts'

/** Bytes as hex, for tables. */
function bytesOf(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex')
}

function stateAfter(bytes: Buffer): number {
  return advanceUtf8(UTF8_START, bytes, 0, bytes.length)
}

/** How many bytes pass, one by one, before one that cannot be; all of them when there is none. */
function passed(bytes: Buffer): number {
  let state = UTF8_START
  for (let at = 0; at < bytes.length; at++) {
    state = advanceUtf8(state, bytes, at, at + 1)
    if (state === UTF8_INVALID) return at
  }
  return bytes.length
}

describe('whole text', () => {
  it.each([
    ['nothing', ''],
    ['ASCII', '00 41 7f'],
    ['the first and the last of two bytes', 'c2 80 df bf'],
    ['the first and the last of three bytes', 'e0 a0 80 ef bf bf'],
    ['what stands around the surrogates', 'ed 9f bf ee 80 80'],
    ['the first and the last of four bytes', 'f0 90 80 80 f4 8f bf bf'],
    ['a byte order mark, which is text like any other', 'ef bb bf 41'],
    ['noncharacters, which may be sent', 'ef bf be ef b7 90'],
    ['a mixture of all lengths', '41 c3 a9 e2 82 ac f0 9f 98 80 42'],
  ])('is valid: %s', (_, hex) => {
    expect(stateAfter(bytesOf(hex))).toBe(UTF8_START)
    expect(passed(bytesOf(hex))).toBe(bytesOf(hex).length)
  })

  it('is valid for every code point there is, also byte by byte', () => {
    const points = Array.from({ length: 0x110000 }, (_, point) => point).filter((p) => p < 0xd800 || p > 0xdfff)
    const text = Buffer.concat(
      Array.from({ length: 0x11 }, (_, plane) =>
        Buffer.from(String.fromCodePoint(...points.filter((point) => point >> 16 === plane))),
      ),
    )
    expect(stateAfter(text)).toBe(UTF8_START)
    expect(passed(text)).toBe(text.length)
  })
})

describe('bad text fails at its first bad byte', () => {
  it.each([
    ['a continuation byte without a lead byte', '80', 0],
    ['a continuation byte too many', '41 c3 a9 a9', 3],
    ['overlong forms of two bytes, first', 'c0 80', 0],
    ['overlong forms of two bytes, last', 'c1 bf', 0],
    ['an overlong form of three bytes', 'e0 9f bf', 1],
    ['an overlong form of four bytes', 'f0 8f bf bf', 1],
    ['the first surrogate', 'ed a0 80', 1],
    ['the last surrogate', 'ed bf bf', 1],
    ['a pair of surrogates, as CESU-8 has it', 'ed a0 bd ed b8 80', 1],
    ['the first code point that is too high', 'f4 90 80 80', 1],
    ['a lead byte of what is too high', 'f5 80 80 80', 0],
    ['a lead byte of five bytes', 'f8 88 80 80 80', 0],
    ['a lead byte of six bytes', 'fc 84 80 80 80 80', 0],
    ['a byte order mark of UTF-16', 'ff fe', 0],
    ['a character that the next one cuts', 'e2 82 41', 2],
    ['a character that a lead byte cuts', 'f0 9f c3 a9', 2],
  ])('%s', (_, hex, badAt) => {
    const bytes = bytesOf(hex)
    expect(passed(bytes)).toBe(badAt)
    expect(stateAfter(bytes)).toBe(UTF8_INVALID)
    expect(stateAfter(bytes.subarray(0, badAt))).not.toBe(UTF8_INVALID)
    // Deep inside a stretch too, where nothing goes byte by byte.
    const inside = Buffer.concat([Buffer.from('before'), bytes, Buffer.from('behind it')])
    expect(stateAfter(inside)).toBe(UTF8_INVALID)
    expect(passed(inside)).toBe(6 + badAt)
  })
})

describe('cut text', () => {
  it.each([
    ['after the lead byte of two', 'c3', 'a9'],
    ['after the lead byte of three', 'e2', '82 ac'],
    ['before the last byte of three', 'e2 82', 'ac'],
    ['after the lead byte of four', 'f0', '9f 98 80'],
    ['in the middle of four', 'f0 9f', '98 80'],
    ['before the last byte of four', 'f0 9f 98', '80'],
  ])('goes on %s', (_, head, tail) => {
    for (const before of ['', '41', 'c3 a9', 'f0 9f 98 80']) {
      const state = stateAfter(bytesOf(before + head))
      expect(state).toBeGreaterThan(UTF8_START)
      const rest = bytesOf(`${tail} 41 42 43 44`)
      expect(advanceUtf8(state, rest, 0, rest.length)).toBe(UTF8_START)
    }
  })

  it('does not go on with a character that stands where a continuation byte is missing', () => {
    const state = stateAfter(bytesOf('e2 82'))
    expect(advanceUtf8(state, Buffer.from('A'), 0, 1)).toBe(UTF8_INVALID)
  })

  it('keeps its state over an empty piece', () => {
    const state = stateAfter(bytesOf('e2 82'))
    expect(advanceUtf8(state, Buffer.alloc(0), 0, 0)).toBe(state)
    expect(advanceUtf8(UTF8_START, Buffer.alloc(0), 0, 0)).toBe(UTF8_START)
  })

  it('does not say that it is whole', () => {
    expect(stateAfter(bytesOf('41 e2 82'))).not.toBe(UTF8_START)
    expect(stateAfter(bytesOf('41 e2 82'))).not.toBe(UTF8_INVALID)
  })
})

it('looks at bytes[start..end) and nowhere else', () => {
  const bytes = bytesOf('ff c3 a9 41 ff')
  expect(advanceUtf8(UTF8_START, bytes, 1, 4)).toBe(UTF8_START)
  expect(advanceUtf8(UTF8_START, bytes, 1, 5)).toBe(UTF8_INVALID)
  expect(advanceUtf8(UTF8_START, bytes, 0, 4)).toBe(UTF8_INVALID)
})
