import { describe, expect, it } from 'vitest'
import { HandshakeError } from '../../src/errors.ts'
import { type HeadLimits, HeadReader, parseRequestHead, parseResponseHead } from '../../src/http-head.ts'
import { LIMITS, verdictOf } from '../support/heads.ts'

const HEAD = 'GET / HTTP/1.1\r\nHost: localhost'

/** Pushes text to a fresh reader in chunks. */
function read(chunks: readonly string[], limits: HeadLimits = LIMITS): { text: string; rest: string } | undefined {
  const reader = new HeadReader(limits)
  for (const [index, chunk] of chunks.entries()) {
    const whole = reader.push(Buffer.from(chunk, 'latin1'))
    if (whole === undefined) continue
    if (index < chunks.length - 1) throw new Error('whole before its last chunk')
    return { text: whole.text, rest: whole.rest.toString('latin1') }
  }
  return undefined
}

describe('HeadReader', () => {
  it('gives a head without its empty line, and what stands behind it', () => {
    expect(read([`${HEAD}\r\n\r\nbehind`])).toEqual({ text: HEAD, rest: 'behind' })
    expect(read([`${HEAD}\r\n\r\n`])).toEqual({ text: HEAD, rest: '' })
  })

  it('gives the same wherever the head is cut', () => {
    const bytes = `${HEAD}\r\n\r\n`
    for (let cut = 0; cut < bytes.length; cut++) {
      expect(read([bytes.slice(0, cut), bytes.slice(cut)])).toEqual({ text: HEAD, rest: '' })
    }
    expect(read([...bytes])).toEqual({ text: HEAD, rest: '' })
  })

  it.each(['', HEAD, `${HEAD}\r\n`, `${HEAD}\r\n\r`, `${HEAD}\n\n`, `${HEAD}\r\r`, `${HEAD}\n\r\n\r`])(
    'waits for more behind %j',
    (text) => {
      expect(read([text])).toBeUndefined()
    },
  )

  it('reads bytes as latin1, one character each', () => {
    expect(read(['a: \xe9\xff\r\n\r\n'])?.text).toBe('a: \xe9\xff')
  })

  it('gives an empty head for two empty lines', () => {
    expect(read(['\r\n\r\n'])).toEqual({ text: '', rest: '' })
  })

  describe('with a limit', () => {
    const limits = { maxHeadBytes: HEAD.length, maxHeaders: 100 }
    const smaller = { maxHeadBytes: HEAD.length - 1, maxHeaders: 100 }

    it('takes a head of just that many bytes', () => {
      expect(read([`${HEAD}\r\n\r\n`], limits)?.text).toBe(HEAD)
    })

    it('takes it with the end in a later chunk', () => {
      expect(read([HEAD, '\r\n\r\n'], limits)?.text).toBe(HEAD)
    })

    // The empty line is no part of the head, so that it may not count only because it came in pieces.
    it('takes it wherever its end is cut', () => {
      expect(read([`${HEAD}\r`, '\n\r\n'], limits)?.text).toBe(HEAD)
      expect(read([`${HEAD}\r\n`, '\r\n'], limits)?.text).toBe(HEAD)
      expect(read([`${HEAD}\r\n\r`, '\n'], limits)?.text).toBe(HEAD)
    })

    it('does not count what stands behind the head', () => {
      expect(read([`${HEAD}\r\n\r\n${'x'.repeat(1_000)}`], limits)?.rest).toHaveLength(1_000)
    })

    it('refuses a longer head, whole or not', () => {
      expect(verdictOf(() => read([`${HEAD}\r\n\r\n`], smaller))).toBe('431 ERR_HEAD_TOO_LARGE')
      expect(verdictOf(() => read([`${HEAD}xxxx`], limits))).toBe('431 ERR_HEAD_TOO_LARGE')
      expect(verdictOf(() => read([HEAD.slice(0, 20), 'x'.repeat(1_000)], limits))).toBe('431 ERR_HEAD_TOO_LARGE')
    })

    it('says that the URL is too long where the first line alone goes beyond it', () => {
      expect(verdictOf(() => read([`GET /${'x'.repeat(40)}`], limits))).toBe('414 ERR_TARGET_TOO_LONG')
      expect(verdictOf(() => read([`GET /${'x'.repeat(40)} HTTP/1.1\r\n\r\n`], limits))).toBe('414 ERR_TARGET_TOO_LONG')
    })
  })
})

describe('parseRequestHead', () => {
  const parse = (text: string, limits = LIMITS) => parseRequestHead(text, limits)

  it('takes a request apart', () => {
    const head = parse('GET /chat?room=1 HTTP/1.1\r\nHost: localhost\r\nX-A:b\r\nx-a: \t c d \t')
    expect(head).toMatchObject({ method: 'GET', target: '/chat?room=1', version: '1.1' })
    expect([...head.headers]).toEqual([
      ['host', 'localhost'],
      ['x-a', 'b'],
      ['x-a', 'c d'],
    ])
  })

  it('takes a request without header lines', () => {
    expect(parse('HEAD / HTTP/1.0')).toMatchObject({ method: 'HEAD', target: '/', version: '1.0' })
  })

  it.each([
    '/',
    '/a/b',
    '/?',
    '/a?b=c&d',
    '/%20',
    '//evil.example/',
    '/\\',
    '/~!$&\'()*+,;=:@[]{}|^`"<>',
    'http://a/',
    'https://a/b?c',
  ])('takes the target %s as it stands', (target) => {
    expect(parse(`GET ${target} HTTP/1.1`).target).toBe(target)
  })

  it.each([
    ['nothing', ''],
    ['an empty line before the request', '\r\nGET / HTTP/1.1'],
    ['one word', 'GET'],
    ['no version', 'GET /'],
    ['no target', 'GET  HTTP/1.1'],
    ['no method', ' / HTTP/1.1'],
    ['two blanks', 'GET  / HTTP/1.1'],
    ['a tab', 'GET\t/\tHTTP/1.1'],
    ['a method that is no token', 'G@T / HTTP/1.1'],
    ['a target that is no path', 'GET chat HTTP/1.1'],
    ['the target of OPTIONS', 'OPTIONS * HTTP/1.1'],
    ['the target of CONNECT', 'CONNECT localhost:80 HTTP/1.1'],
    ['another scheme', 'GET ws://localhost/ HTTP/1.1'],
    ['a scheme in capitals', 'GET HTTP://localhost/ HTTP/1.1'],
    ['a fragment', 'GET /#a HTTP/1.1'],
    ['a control character in the target', 'GET /\x01 HTTP/1.1'],
    ['a byte above 0x7F in the target', 'GET /\xe9 HTTP/1.1'],
    ['DEL in the target', 'GET /\x7f HTTP/1.1'],
    ['a TLS handshake', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ])('refuses %s', (_, text) => {
    expect(verdictOf(() => parse(text))).toBe('400 ERR_HEAD_SYNTAX')
  })

  it.each([
    'HTTP/0.9',
    'HTTP/1.2',
    'HTTP/2.0',
    'http/1.1',
    'HTTP/1.1 ',
    ' HTTP/1.1',
    'HTTP/1.1\n',
    'HTTP/11',
    'RTSP/1.1',
    '',
  ])('refuses the version %j', (version) => {
    expect(verdictOf(() => parse(`GET / ${version}`))).toBe('505 ERR_HTTP_VERSION')
  })

  it.each([
    ['no colon', 'Host'],
    ['no colon, but one in the next line', 'Host\r\nA: b'],
    ['no name', ': b'],
    ['a blank before the colon', 'A : b'],
    ['a tab before the colon', 'A\t: b'],
    ['a blank before the name', ' A: b'],
    ['a folded line', 'A: b\r\n c'],
    ['a name that is no token', 'A(b): c'],
    ['a name beyond ASCII', '\xe9: c'],
    ['an empty line', '\r\nA: b'],
    ['a line feed in a value', 'A: b\nC: d'],
    ['a carriage return in a value', 'A: b\rC: d'],
    ['a zero in a value', 'A: b\0'],
    ['DEL in a value', 'A: \x7f'],
    ['a line feed in a name', 'A\nB: c'],
  ])('refuses a header line with %s', (_, lines) => {
    expect(verdictOf(() => parse(`GET / HTTP/1.1\r\n${lines}`))).toBe('400 ERR_HEAD_SYNTAX')
    expect(verdictOf(() => parse(`GET / HTTP/1.1\r\nX: y\r\n${lines}\r\nZ: z`))).toBe('400 ERR_HEAD_SYNTAX')
  })

  it('takes as many header lines as the limit says, and no more', () => {
    const head = `GET / HTTP/1.1${'\r\na: b'.repeat(3)}`
    expect(parse(head, { maxHeadBytes: 100, maxHeaders: 3 }).headers.size).toBe(3)
    expect(verdictOf(() => parse(head, { maxHeadBytes: 100, maxHeaders: 2 }))).toBe('431 ERR_HEAD_TOO_MANY_FIELDS')
  })
})

describe('parseResponseHead', () => {
  const parse = (text: string, limits = LIMITS) => parseResponseHead(text, limits)

  it('takes a response apart', () => {
    const head = parse('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-A:b ')
    expect(head).toMatchObject({ status: 101, statusText: 'Switching Protocols' })
    expect([...head.headers]).toEqual([
      ['upgrade', 'websocket'],
      ['x-a', 'b'],
    ])
  })

  it.each([
    ['HTTP/1.1 200 OK', 200, 'OK'],
    ['HTTP/1.1 200 ', 200, ''],
    ['HTTP/1.1 200', 200, ''],
    ['HTTP/1.1 999  x', 999, ' x'],
    ['HTTP/1.1 404 Pas trouv\xe9', 404, 'Pas trouv\xe9'],
  ])('takes %j', (text, status, statusText) => {
    expect(parse(text)).toMatchObject({ status, statusText })
  })

  it.each([
    ['nothing', ''],
    ['another version', 'HTTP/1.0 200 OK'],
    ['a version of the future', 'HTTP/2.0 200 OK'],
    ['small letters', 'http/1.1 200 OK'],
    ['no status', 'HTTP/1.1'],
    ['no status behind the blank', 'HTTP/1.1 '],
    ['a status of one digit', 'HTTP/1.1 2'],
    ['a status of two digits', 'HTTP/1.1 20'],
    ['a status of two digits and a reason', 'HTTP/1.1 20 OK'],
    ['a status of four digits', 'HTTP/1.1 2000 OK'],
    ['a status below 100', 'HTTP/1.1 099 OK'],
    ['a status that JavaScript would take for a number', 'HTTP/1.1 1e2 OK'],
    ['a status in hexadecimal', 'HTTP/1.1 0x9 OK'],
    ['a negative status', 'HTTP/1.1 -10 OK'],
    ['no number at all', 'HTTP/1.1 NaN OK'],
    ['two blanks before the status', 'HTTP/1.1  200 OK'],
    ['no blank behind the status', 'HTTP/1.1 200OK'],
    ['a request', 'GET / HTTP/1.1'],
    ['a line feed in the reason', 'HTTP/1.1 200 OK\nUpgrade: websocket'],
    ['a carriage return in the reason', 'HTTP/1.1 200 OK\rUpgrade: websocket'],
  ])('refuses %s', (_, text) => {
    expect(verdictOf(() => parse(text))).toBe('0 ERR_HEAD_SYNTAX')
  })

  it('refuses header lines that are none, and too many of them', () => {
    expect(() => parse('HTTP/1.1 101 OK\r\nUpgrade')).toThrow(expect.objectContaining({ code: 'ERR_HEAD_SYNTAX' }))
    expect(() => parse(`HTTP/1.1 101 OK${'\r\na: b'.repeat(101)}`)).toThrow(
      expect.objectContaining({ code: 'ERR_HEAD_TOO_MANY_FIELDS' }),
    )
  })

  // HandshakeError.status is "the HTTP status that was sent, or received (0 when none was)".
  it.each([
    ['a header line that is none', 'HTTP/1.1 101 OK\r\nUpgrade'],
    ['too many header lines', `HTTP/1.1 101 OK${'\r\na: b'.repeat(101)}`],
  ])('does not invent a status that the server would have sent: %s', (_, text) => {
    let status: number | undefined
    try {
      parse(text)
    } catch (error) {
      status = (error as HandshakeError).status
      expect(error).toBeInstanceOf(HandshakeError)
    }
    expect([0, 101]).toContain(status)
  })
})
