import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Extension, parseExtensions, parseList, parseSubprotocols } from '../../src/headers.ts'

const TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0129AZaz"
const token = fc.string({ unit: fc.constantFrom(...TOKEN_CHARACTERS), minLength: 1, maxLength: 8 })
const blanks = fc.string({ unit: fc.constantFrom(' ', '\t'), maxLength: 2 })

/** Text with a blank or none, more or less, before and behind each of its parts. */
function spaced(parts: readonly string[], spaces: readonly string[]): string {
  return parts.map((part, index) => `${spaces[index % spaces.length]}${part}`).join('') + spaces[0]
}
const spaces = fc.array(blanks, { minLength: 1, maxLength: 7 })

describe('Sec-WebSocket-Extensions', () => {
  /** How a value is written: as a token, in quotes, or in quotes with backslashes. */
  const parameter = fc.tuple(token, fc.option(token, { nil: undefined }), fc.constantFrom('plain', 'quoted', 'escaped'))
  const extensions = fc.array(fc.tuple(token, fc.array(parameter, { maxLength: 3 })), { minLength: 1, maxLength: 4 })

  it('is read as it was meant, with any blanks and any quotes', () => {
    fc.assert(
      fc.property(extensions, spaces, (meant, between) => {
        const parts: string[] = []
        const expected: Extension[] = []
        for (const [index, [name, parameters]] of meant.entries()) {
          if (index > 0) parts.push(',')
          parts.push(name)
          for (const [key, value, style] of parameters) {
            parts.push(';', key)
            if (value === undefined) continue
            const escaped = style === 'escaped' ? [...value].map((character) => `\\${character}`).join('') : value
            parts.push('=', style === 'plain' ? value : `"${escaped}"`)
          }
          expected.push({ name, parameters: parameters.map(([key, value]) => [key, value ?? true]) })
        }
        expect(parseExtensions(spaced(parts, between))).toEqual(expected)
      }),
      { numRuns: 500 },
    )
  })

  it('is read or refused, and what was read are tokens', () => {
    const anything = fc.string({ unit: fc.constantFrom(...'ab ;,="\\\t\r\0\xe9'), maxLength: 30 })
    const isToken = (text: string) => /^[a-z]+$/.test(text)
    fc.assert(
      fc.property(anything, (text) => {
        for (const { name, parameters } of parseExtensions(text) ?? []) {
          expect(isToken(name)).toBe(true)
          for (const [key, value] of parameters) expect(isToken(key) && (value === true || isToken(value))).toBe(true)
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('Sec-WebSocket-Protocol', () => {
  it('is read as it was meant, with any blanks', () => {
    fc.assert(
      fc.property(fc.uniqueArray(token, { minLength: 1, maxLength: 5 }), spaces, (meant, between) => {
        const parts = meant.flatMap((subprotocol, index) => (index === 0 ? [subprotocol] : [',', subprotocol]))
        const text = spaced(parts, between)
        expect(parseSubprotocols(text)).toEqual(meant)
        expect(parseList(text)).toEqual(meant)
      }),
      { numRuns: 300 },
    )
  })

  it('is refused when one comes twice', () => {
    fc.assert(
      fc.property(fc.uniqueArray(token, { minLength: 1, maxLength: 5 }), fc.nat(), (meant, place) => {
        expect(parseSubprotocols([...meant, meant[place % meant.length]].join(','))).toBeUndefined()
      }),
    )
  })
})
