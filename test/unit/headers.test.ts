import { describe, expect, it } from 'vitest'
import {
  formatFields,
  HeaderFields,
  isFieldValue,
  isToken,
  listIncludes,
  parseExtensions,
  parseList,
  parseSubprotocols,
  printable,
  trimBlanks,
} from '../../src/headers.ts'
import { fieldsOf, verdictOf } from '../support/heads.ts'

/** All characters of latin1, which is what a head is read as, and one beyond. */
const CHARACTERS = Array.from({ length: 0x101 }, (_, code) => String.fromCharCode(code))

describe('isToken', () => {
  it('takes exactly the characters of RFC 9110 §5.6.2', () => {
    const taken = CHARACTERS.filter(isToken).join('')
    expect(taken).toBe("!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~")
  })

  it.each(['', ' ', 'a b', 'a,', 'a\r', 'é', 'a\u0130'])('refuses %j', (text) => {
    expect(isToken(text)).toBe(false)
  })
})

describe('isFieldValue', () => {
  it('takes exactly what RFC 9110 §5.5 calls field content, and spaces and tabs', () => {
    const refused = CHARACTERS.filter((character) => !isFieldValue(`a${character}b`)).map((c) => c.charCodeAt(0))
    const controls = Array.from({ length: 0x20 }, (_, code) => code).filter((code) => code !== 0x09)
    expect(refused).toEqual([...controls, 0x7f, 0x100])
  })

  it('takes nothing at all', () => {
    expect(isFieldValue('')).toBe(true)
  })
})

describe('trimBlanks', () => {
  it.each([
    ['', ''],
    [' \t ', ''],
    ['a', 'a'],
    [' \ta b\t ', 'a b'],
    ['\u00a0a\u00a0', '\u00a0a\u00a0'],
    ['\na\n', '\na\n'],
  ])('makes %j to %j', (text, trimmed) => {
    expect(trimBlanks(text)).toBe(trimmed)
  })
})

describe('lists (RFC 9110 §5.6.1)', () => {
  it.each([
    ['', []],
    [',, ,', []],
    ['a', ['a']],
    [' a , b,c\t', ['a', 'b', 'c']],
    ['a, ,b,', ['a', 'b']],
  ])('has in %j the elements %j', (value, elements) => {
    expect(parseList(value)).toEqual(elements)
  })

  it.each([
    ['upgrade', true],
    ['Upgrade', true],
    ['keep-alive, UPGRADE', true],
    ['keep-alive,upgrade , x', true],
    ['', false],
    ['upgrades', false],
    ['up grade', false],
    ['"upgrade"', false],
    [undefined, false],
  ])('finds upgrade in %j: %s', (value, found) => {
    expect(listIncludes(value, 'upgrade')).toBe(found)
  })
})

describe('parseSubprotocols (RFC 6455 §4.1)', () => {
  it.each([
    ['chat', ['chat']],
    ['chat, superchat', ['chat', 'superchat']],
    ['b,a\t,  c', ['b', 'a', 'c']],
    ['chat, Chat', ['chat', 'Chat']],
  ])('reads %j in its order', (value, subprotocols) => {
    expect(parseSubprotocols(value)).toEqual(subprotocols)
  })

  it.each(['', ' ', 'chat,', ',chat', 'chat,,b', 'chat, chat', 'a b', 'a;b', '"chat"', 'chät', 'a/b'])(
    'refuses %j, which is no list of tokens of which none comes twice',
    (value) => {
      expect(parseSubprotocols(value)).toBeUndefined()
    },
  )
})

describe('parseExtensions (RFC 6455 §9.1)', () => {
  it.each([
    ['foo', [{ name: 'foo', parameters: [] }]],
    [' foo ', [{ name: 'foo', parameters: [] }]],
    [
      'foo, bar',
      [
        { name: 'foo', parameters: [] },
        { name: 'bar', parameters: [] },
      ],
    ],
    [
      'foo,foo',
      [
        { name: 'foo', parameters: [] },
        { name: 'foo', parameters: [] },
      ],
    ],
    ['foo; bar', [{ name: 'foo', parameters: [['bar', true]] }]],
    ['foo;bar=1', [{ name: 'foo', parameters: [['bar', '1']] }]],
    ['foo\t;\tbar\t=\t1\t', [{ name: 'foo', parameters: [['bar', '1']] }]],
    ['foo; bar="1"', [{ name: 'foo', parameters: [['bar', '1']] }]],
    [
      'foo; bar="\\1\\5" ; baz',
      [
        {
          name: 'foo',
          parameters: [
            ['bar', '15'],
            ['baz', true],
          ],
        },
      ],
    ],
    [
      'foo; a=1; a=2',
      [
        {
          name: 'foo',
          parameters: [
            ['a', '1'],
            ['a', '2'],
          ],
        },
      ],
    ],
    [
      'permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate',
      [
        {
          name: 'permessage-deflate',
          parameters: [
            ['client_max_window_bits', true],
            ['server_max_window_bits', '10'],
          ],
        },
        { name: 'permessage-deflate', parameters: [] },
      ],
    ],
  ])('reads %j', (value, extensions) => {
    expect(parseExtensions(value)).toEqual(extensions)
  })

  it.each([
    ['nothing', ''],
    ['blanks', ' \t'],
    ['an empty element', 'foo,,bar'],
    ['an empty element at the end', 'foo,'],
    ['an empty element at the start', ',foo'],
    ['no name', '; foo'],
    ['no parameter', 'foo;'],
    ['no parameter between two', 'foo;;bar'],
    ['a parameter without a name', 'foo; =1'],
    ['a parameter without the value that it announces', 'foo; bar='],
    ['an empty quoted value', 'foo; bar=""'],
    ['a quoted value that is no token', 'foo; bar="a b"'],
    ['a quoted value that is no token, escaped', 'foo; bar="a\\"b"'],
    ['a quoted value with an end missing', 'foo; bar="a'],
    ['a quoted value with everything missing', 'foo; bar="'],
    ['a quoted value that ends in a backslash', 'foo; bar="a\\'],
    ['something behind a quoted value', 'foo; bar="a"b'],
    ['a quoted name', '"foo"'],
    ['two names', 'foo bar'],
    ['two values', 'foo; bar=1 2'],
    ['two equals signs', 'foo; bar==1'],
    ['a character that no token has', 'foo/1'],
    ['a character beyond ASCII', 'foö'],
  ])('refuses %s', (_, value) => {
    expect(parseExtensions(value)).toBeUndefined()
  })

  it('reads 16,000 parameters in no time', () => {
    const value = `foo${'; a'.repeat(16_000)}`
    expect(parseExtensions(value)?.[0]?.parameters).toHaveLength(16_000)
    expect(parseExtensions(`foo; a="${'\\a'.repeat(16_000)}`)).toBeUndefined()
  })
})

describe('HeaderFields', () => {
  const fields = fieldsOf([
    ['Host', 'localhost'],
    ['X-List', 'a'],
    ['x-list', 'b, c'],
    ['Empty', ''],
  ])

  it('finds a field in any case', () => {
    expect(fields.get('host')).toBe('localhost')
    expect(fields.get('HOST')).toBe('localhost')
    expect(fields.has('hOsT')).toBe(true)
    expect(fields.getSingle('HOST')).toBe('localhost')
  })

  it('joins the lines of one name', () => {
    expect(fields.get('X-LIST')).toBe('a, b, c')
    expect(fields.getAll('X-List')).toEqual(['a', 'b, c'])
  })

  it('knows an empty field from none', () => {
    expect(fields.get('empty')).toBe('')
    expect(fields.getSingle('empty')).toBe('')
    expect(fields.has('empty')).toBe(true)
    expect(fields.get('none')).toBeUndefined()
    expect(fields.getSingle('none')).toBeUndefined()
    expect(fields.has('none')).toBe(false)
    expect(fields.getAll('none')).toEqual([])
  })

  it.each(['__proto__', 'constructor', 'toString'])('has no field %s by itself', (name) => {
    expect(fields.get(name)).toBeUndefined()
    expect(fields.has(name)).toBe(false)
  })

  it('does not take a value for a name', () => {
    const tricky = fieldsOf([
      ['X-A', 'host'],
      ['X-B', 'x-a'],
    ])
    expect(tricky.has('host')).toBe(false)
    expect(tricky.get('host')).toBeUndefined()
    expect(tricky.getAll('host')).toEqual([])
    expect(tricky.get('x-a')).toBe('host')
    expect(tricky.getSingle('x-a')).toBe('host')
  })

  it('refuses a repeated field that may stand once only', () => {
    expect(verdictOf(() => fields.getSingle('X-List'))).toBe('400 ERR_HEAD_SYNTAX')
    expect(() => fields.getSingle('X-List')).toThrow('X-List may not be repeated')
  })

  it('lists its lines in order, names in lower case', () => {
    expect([...fields]).toEqual([
      ['host', 'localhost'],
      ['x-list', 'a'],
      ['x-list', 'b, c'],
      ['empty', ''],
    ])
    expect(fields.size).toBe(4)
  })

  it('is empty at first', () => {
    expect([...new HeaderFields()]).toEqual([])
    expect(new HeaderFields().size).toBe(0)
  })
})

describe('formatFields', () => {
  it('writes a line per field', () => {
    const lines: [string, string | number][] = [
      ['Host', 'localhost'],
      ['Content-Length', 5],
      ['X-Empty', ''],
      ['X-Latin', 'é\t!'],
    ]
    expect(formatFields(lines)).toBe('Host: localhost\r\nContent-Length: 5\r\nX-Empty: \r\nX-Latin: é\t!\r\n')
    expect(formatFields([])).toBe('')
  })

  it.each([
    ['a value that begins another line', 'X-A', 'b\r\nSet-Cookie: c'],
    ['a value with a line feed', 'X-A', 'b\nc'],
    ['a value with a carriage return', 'X-A', 'b\rc'],
    ['a value with a zero', 'X-A', 'b\0c'],
    ['a value that latin1 does not have', 'X-A', '€'],
    ['a name that begins another line', 'X-A: b\r\nX-B', 'c'],
    ['a name with a colon', 'X:A', 'b'],
    ['a name with a blank', 'X A', 'b'],
    ['an empty name', '', 'b'],
  ])('refuses %s', (_, name, value) => {
    expect(() => formatFields([[name, value]])).toThrow(
      expect.objectContaining({ name: 'UsageError', code: 'ERR_HEADER_VALUE' }),
    )
  })

  it('does not repeat what it refuses in a way that could harm a terminal', () => {
    expect(() => formatFields([['X\u001b[2J', 'a']])).toThrow('"X\\u001b[2J" is not a header name')
    expect(() => formatFields([['X-Secret', 'a\n']])).toThrow(/^the value of the header X-Secret has/)
  })
})

describe('printable', () => {
  it.each([
    ['text', 'text'],
    ['a"b\\c', 'a\\"b\\\\c'],
    ['a\r\n\u0000\u001b', 'a\\r\\n\\u0000\\u001b'],
    ['x'.repeat(100), 'x'.repeat(100)],
    ['x'.repeat(101), `${'x'.repeat(100)}...`],
    [`${'x'.repeat(99)}😀`, `${'x'.repeat(99)}\\ud83d...`],
  ])('makes %j fit for a message', (text, expected) => {
    expect(printable(text)).toBe(expected)
  })

  it('escapes the control characters that are not in ASCII, too', () => {
    expect(printable('\u007f\u009b')).toBe('\\u007f\\u009b')
  })
})
