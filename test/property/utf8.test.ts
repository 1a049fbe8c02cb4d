import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { advanceUtf8, UTF8_INVALID, UTF8_START } from '../../src/utf8.ts'
import { chunksOf } from '../support/frames.ts'

const decoder = new TextDecoder('utf-8', { fatal: true })

function isValid(bytes: Uint8Array): boolean {
  try {
    decoder.decode(bytes)
    return true
  } catch {
    return false
  }
}

/**
 * What can complete a character that is cut: up to three continuation bytes. Of the first one, the lowest or the highest
 * fits behind every lead byte; behind it any does.
 */
const COMPLETIONS = ['', '80', 'bf', '8080', 'bf80', '808080', 'bf8080'].map((hex) => Buffer.from(hex, 'hex'))

/** Whether these bytes can begin a valid text: some continuation makes them one. */
function isPossible(bytes: Uint8Array): boolean {
  return COMPLETIONS.some((completion) => isValid(Buffer.concat([bytes, completion])))
}

/** Index of the first byte that makes a text impossible; the length when there is none. */
function firstBadByte(bytes: Uint8Array): number {
  for (let length = 1; length <= bytes.length; length++) if (!isPossible(bytes.subarray(0, length))) return length - 1
  return bytes.length
}

/** The states behind each chunk, up to the first `UTF8_INVALID`. */
function statesOf(chunks: readonly Uint8Array[]): number[] {
  const states: number[] = []
  let state = UTF8_START
  for (const chunk of chunks) {
    // Not at the start of its memory: offsets must not matter.
    const bytes = Buffer.concat([Buffer.of(0xff), chunk, Buffer.of(0xff)])
    state = advanceUtf8(state, bytes, 1, 1 + chunk.length)
    states.push(state)
    if (state === UTF8_INVALID) break
  }
  return states
}

/** Bytes that stand at the borders of what is allowed somewhere. */
const BORDERS = [
  0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef,
  0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
]
const character = fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }).map((text) => [...Buffer.from(text)])
const cutCharacter = fc.tuple(character, fc.nat(3)).map(([bytes, length]) => bytes.slice(0, length))
const oddBytes = fc.array(fc.constantFrom(...BORDERS), { maxLength: 3 })
const ascii = fc.string({ maxLength: 8 }).map((text) => [...Buffer.from(text)])

/** Text as it comes from elsewhere: mostly valid, with cut characters and odd bytes in between. */
const nearlyText = fc
  .array(
    fc.oneof(
      { weight: 5, arbitrary: character },
      { weight: 2, arbitrary: ascii },
      { weight: 1, arbitrary: cutCharacter },
      { weight: 1, arbitrary: oddBytes },
    ),
    { maxLength: 12 },
  )
  .map((parts) => Uint8Array.from(parts.flat()))
const cuts = fc.array(fc.nat(60), { maxLength: 8 })

describe('UTF-8 in pieces', () => {
  it('is valid in any chunking exactly if it is for TextDecoder', () => {
    fc.assert(
      fc.property(nearlyText, cuts, (bytes, places) => {
        expect(statesOf(chunksOf(bytes, places)).at(-1) === UTF8_START).toBe(isValid(bytes))
      }),
      { numRuns: 2_000 },
    )
  })

  it('fails in the chunk that has its first bad byte, and not before', () => {
    fc.assert(
      fc.property(nearlyText, cuts, (bytes, places) => {
        const chunks = chunksOf(bytes, places)
        const states = statesOf(chunks)
        const bad = firstBadByte(bytes)
        let end = 0
        for (const [index, state] of states.entries()) {
          end += chunks[index]!.length
          expect(state === UTF8_INVALID).toBe(end > bad)
        }
        expect(states.at(-1) === UTF8_INVALID).toBe(bad < bytes.length)
      }),
      { numRuns: 1_000 },
    )
  })

  it('has the same state behind the same bytes, however they were cut', () => {
    fc.assert(
      fc.property(nearlyText, cuts, cuts, (bytes, some, others) => {
        expect(statesOf(chunksOf(bytes, some)).at(-1)).toBe(statesOf(chunksOf(bytes, others)).at(-1))
      }),
      { numRuns: 1_000 },
    )
  })

  it('is valid in any chunking when it was a string', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), cuts, (text, places) => {
        expect(statesOf(chunksOf(Buffer.from(text), places)).at(-1)).toBe(UTF8_START)
      }),
    )
  })

  it('fails where it must for every two bytes, and for every four at the borders', () => {
    const sequences: Uint8Array[] = []
    for (let first = 0; first < 256; first++) {
      for (let second = 0x70; second < 0xd0; second++) sequences.push(Uint8Array.of(first, second))
    }
    for (const first of BORDERS.filter((byte) => byte >= 0xe0)) {
      for (const second of BORDERS) {
        for (const third of [0x7f, 0x80, 0xbf, 0xc0]) {
          for (const fourth of [0x41, 0x80, 0xbf, 0xe0]) sequences.push(Uint8Array.of(first, second, third, fourth))
        }
      }
    }
    for (const bytes of sequences) {
      const singles = statesOf([...bytes].map((byte) => Uint8Array.of(byte)))
      const passed = singles.filter((state) => state !== UTF8_INVALID).length
      const whole = statesOf([bytes])[0] === UTF8_INVALID
      if (passed !== firstBadByte(bytes) || whole !== passed < bytes.length)
        expect.fail(Buffer.from(bytes).toString('hex'))
    }
  })
})
