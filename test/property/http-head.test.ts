import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkRequest } from '../../src/handshake.ts'
import { formatFields } from '../../src/headers.ts'
import { type HeadLimits, HeadReader, parseRequestHead, parseResponseHead } from '../../src/http-head.ts'
import { chunksOf } from '../support/frames.ts'
import { LIMITS, verdictOf } from '../support/heads.ts'
import { type Judge, judgeOfRequests, judgeOfResponses } from '../support/node-http.ts'

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1')

/** The first head in these bytes: `accepted`, the refusal, or `not whole`. */
function ourVerdict(chunks: readonly Buffer[], limits: HeadLimits = LIMITS): string {
  let whole: { text: string } | undefined
  const verdict = verdictOf(() => {
    const reader = new HeadReader(limits)
    for (const chunk of chunks) if ((whole = reader.push(chunk)) !== undefined) break
    if (whole !== undefined) checkRequest(parseRequestHead(whole.text, limits))
  })
  return verdict === 'accepted' && whole === undefined ? 'not whole' : verdict
}

function ourResponseVerdict(bytes: Buffer): string {
  const whole = new HeadReader(LIMITS).push(bytes)
  return whole === undefined ? 'not whole' : verdictOf(() => parseResponseHead(whole.text, LIMITS))
}

/** Of the heads that we accept, those that the judge refuses; there should be none. */
async function refusedBy(judge: Judge, accepted: readonly string[]): Promise<string[]> {
  const refused: string[] = []
  for (let at = 0; at < accepted.length; at += 32) {
    const batch = accepted.slice(at, at + 32)
    const verdicts = await Promise.all(batch.map((head) => judge.accepts(latin1(head))))
    refused.push(...batch.filter((head, index) => !verdicts[index] && !isStricterThanTheStandard(head)))
  }
  return refused
}

/** `Content-Length: 0` with a tab behind it: blanks there are no part of a value (RFC 9110 §5.5), but node:http minds tabs. */
function isStricterThanTheStandard(head: string): boolean {
  return /\r\ncontent-length:[\t ]*0[\t ]*\t[\t ]*\r\n/i.test(head)
}

/** Every byte at every place that is marked with § in the template; a place that stands twice gets the same byte. */
function withEveryByte(template: string): string[] {
  return Array.from({ length: 256 }, (_, byte) => template.replaceAll('§', String.fromCharCode(byte)))
}

// ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Requests of many kinds, put together from what is right, odd and wrong in each place, then changed here and there. */
const words = {
  method: ['GET', 'HEAD', 'GET', 'GET', 'get', 'POST', 'OPTIONS', 'CONNECT', 'G', 'GETT', ''],
  gap: [' ', ' ', ' ', ' ', ' ', ' ', '  ', '\t', ''],
  target: [
    '/',
    '/chat',
    '/chat?a=1&b=%20',
    '//x',
    '/?',
    '/~!$&\'()*+,;=:@[]{}|^`"<>\\',
    '/%',
    '*',
    '',
    'chat',
    '/#a',
    '/\xe9',
  ],
  absolute: ['http://', 'https://', 'http:/', 'HTTP://', 'ws://', 'http:'],
  authority: [
    'a',
    'a:80',
    'a.example',
    '[::1]:80',
    'A',
    'u@a',
    'a{b',
    'a"b',
    '[',
    ']',
    '',
    ':',
    'a%20b',
    'a_b',
    'a@b@c',
    '*',
    '\\',
  ],
  version: [
    'HTTP/1.1',
    'HTTP/1.1',
    'HTTP/1.1',
    'HTTP/1.0',
    'HTTP/1.2',
    'HTTP/2.0',
    'HTTP/0.9',
    'http/1.1',
    'HTTP/1.1 ',
    '',
  ],
  end: ['\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r', '\r\r\n', '\r\n\r\n'],
  name: [
    'Host',
    'host',
    'X-A',
    "a!#$%&'*+-.^_`|~9",
    'Connection',
    'Upgrade',
    'Content-Length',
    'Transfer-Encoding',
    'Expect',
  ],
  oddName: [
    '',
    'a b',
    'a(',
    '\xe9',
    'a\t',
    ' a',
    'Content-Length ',
    '"a"',
    'a/b',
    'Origin',
    'Proxy-Connection',
    'Trailer',
    'TE',
  ],
  colon: [':', ': ', ':', ': ', ':\t ', ' :', '', ';'],
  value: [
    '',
    'a',
    'b c',
    ' d ',
    'Upgrade',
    'upgrade, keep-alive',
    'websocket',
    'close',
    '0',
    '\t',
    '\xe9\xff',
    '"q"',
    ',,',
  ],
  oddValue: [
    '5',
    '+0',
    '00',
    '-1',
    '0, 0',
    'chunked',
    'gzip',
    'chunked, chunked',
    '100-continue',
    'a\r',
    'a\n',
    '\0',
    '\x7f',
    'a\r\n b',
  ],
}
const oneOf = (choices: readonly string[]) => fc.constantFrom(...choices)
const fieldLine = fc
  .tuple(
    fc.oneof({ weight: 5, arbitrary: oneOf(words.name) }, { weight: 1, arbitrary: oneOf(words.oddName) }),
    oneOf(words.colon),
    fc.oneof({ weight: 5, arbitrary: oneOf(words.value) }, { weight: 1, arbitrary: oneOf(words.oddValue) }),
    oneOf(words.end),
  )
  .map((parts) => parts.join(''))
/** Mostly one Host, mostly that of an absolute target. */
const oddRequest = fc
  .record({
    start: fc.tuple(oneOf(words.method), oneOf(words.gap)).map((parts) => parts.join('')),
    scheme: fc.oneof({ weight: 2, arbitrary: fc.constant('') }, { weight: 1, arbitrary: oneOf(words.absolute) }),
    authority: oneOf(words.authority),
    target: oneOf(words.target),
    version: fc.tuple(oneOf(words.gap), oneOf(words.version), oneOf(words.end)).map((parts) => parts.join('')),
    fields: fc.array(fieldLine, { maxLength: 4 }),
  })
  .map(({ start, scheme, authority, target, version, fields }) => {
    const absolute = scheme === '' ? target : `${scheme}${authority}${target}`
    return `${start}${absolute}${version}Host: ${authority}\r\n${fields.join('')}\r\n`
  })
const goodRequest = fc
  .tuple(
    oneOf(words.target.slice(0, 5)),
    fc.array(fc.tuple(oneOf(['X-A', 'Upgrade', 'Cookie', 'Accept']), oneOf(words.value)), { maxLength: 4 }),
  )
  .map(([target, fields]) => {
    const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    return `GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n${lines}\r\n`
  })
const oddByte = fc.oneof(
  fc.constantFrom(...'\0\t\n\r "#%,/:;@[\\]{}\x7f\x80\xff'),
  fc.nat(255).map((byte) => String.fromCharCode(byte)),
)
type Change = readonly [kind: 'insert' | 'replace' | 'remove', at: number, byte: string]
const change: fc.Arbitrary<Change> = fc.tuple(fc.constantFrom('insert', 'replace', 'remove'), fc.nat(200), oddByte)

function changed(text: string, [kind, place, byte]: Change): string {
  const at = place % text.length
  return text.slice(0, at) + (kind === 'remove' ? '' : byte) + text.slice(kind === 'insert' ? at : at + 1)
}

const anyRequest = fc
  .tuple(fc.oneof(oddRequest, goodRequest), fc.array(change, { maxLength: 2 }))
  .map(([text, changes]) => changes.reduce(changed, text))

describe('a request that we accept is accepted by node:http', () => {
  let judge: Judge
  beforeAll(async () => {
    judge = await judgeOfRequests()
  })
  afterAll(() => judge.close())

  it('for odd requests of all kinds', async () => {
    let accepted = 0
    await fc.assert(
      fc.asyncProperty(anyRequest, async (text) => {
        if (ourVerdict([latin1(text)]) !== 'accepted' || isStricterThanTheStandard(text)) return
        accepted++
        expect({ text, node: await judge.accepts(latin1(text)) }).toEqual({ text, node: true })
      }),
      { numRuns: 3_000 },
    )
    // Else this says nothing.
    expect(accepted).toBeGreaterThan(100)
  }, 20_000)

  it.each([
    'G§T / HTTP/1.1\r\nHost: a\r\n\r\n',
    '§GET / HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET§/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET §/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET /a§b HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET /?a§b HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET /§HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET h§ttp://a/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET http:§//a/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET http://§/ HTTP/1.1\r\nHost: §\r\n\r\n',
    'GET http://a§b/ HTTP/1.1\r\nHost: a§b\r\n\r\n',
    'GET http://a§§b/ HTTP/1.1\r\nHost: a§§b\r\n\r\n',
    'GET / HTTP§1.1\r\nHost: a\r\n\r\n',
    'GET / HTTP/1§1\r\nHost: a\r\n\r\n',
    'GET / HTTP/1.§\r\nHost: a\r\n\r\n',
    'GET / HTTP/1.1§\r\nHost: a\r\n\r\n',
    'GET / HTTP/1.1\r§\nHost: a\r\n\r\n',
    'GET / HTTP/1.1\r\n§Host: a\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nX§A: b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\n§: b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nX-A§: b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nX-A:§b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nX-A: b§c\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nX-A: b§\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r§\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n§\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0§\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: §0\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\nUpgrade: web§socket\r\nConnection: Upgrade§\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: §\r\n\r\n',
  ])('with any byte at § in %j', async (template) => {
    const accepted = withEveryByte(template).filter((head) => ourVerdict([latin1(head)]) === 'accepted')
    expect(await refusedBy(judge, accepted)).toEqual([])
  })

  it('up to the last byte that we take', async () => {
    const frame = 'GET / HTTP/1.1\r\nHost: a\r\nX-A: \r\n\r\n'
    const longest = frame.replace('X-A: ', `X-A: ${'x'.repeat(LIMITS.maxHeadBytes + 4 - frame.length)}`)
    expect(ourVerdict([latin1(longest)])).toBe('accepted')
    expect(ourVerdict([latin1(longest.replace('X-A', 'X-AB'))])).toBe('431 ERR_HEAD_TOO_LARGE')
    expect(await refusedBy(judge, [longest])).toEqual([])
  })

  /** The other direction: what node:http lets through and we do not, each for a reason. */
  it.each([
    ['an empty line first', '\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n', '400 ERR_HEAD_SYNTAX', 'no client sends it'],
    ['two blanks', 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n', '400 ERR_HEAD_SYNTAX', 'RFC 9112 §3: one'],
    ['a fragment', 'GET /#a HTTP/1.1\r\nHost: a\r\n\r\n', '400 ERR_HEAD_SYNTAX', 'RFC 6455 §3: none'],
    ['*', 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n', '400 ERR_HEAD_SYNTAX', 'for OPTIONS alone, which we do not have'],
    [
      'another scheme',
      'GET ws://a/ HTTP/1.1\r\nHost: a\r\n\r\n',
      '400 ERR_HEAD_SYNTAX',
      'HTTP requests are for http: and https:',
    ],
    ['a scheme in capitals', 'GET HTTP://a/ HTTP/1.1\r\nHost: a\r\n\r\n', '400 ERR_HEAD_SYNTAX', 'no client sends it'],
    ['another method', 'POST / HTTP/1.1\r\nHost: a\r\n\r\n', '405 ERR_METHOD', 'RFC 6455 §4.2.1: GET'],
    ['another version', 'GET / HTTP/2.0\r\nHost: a\r\n\r\n', '505 ERR_HTTP_VERSION', 'we speak HTTP/1.1'],
    ['a version before 1.0', 'GET / HTTP/0.9\r\nHost: a\r\n\r\n', '505 ERR_HTTP_VERSION', 'it has no headers'],
    ['another protocol', 'GET / RTSP/1.1\r\nHost: a\r\n\r\n', '505 ERR_HTTP_VERSION', 'we speak HTTP/1.1'],
    ['two Hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', '400 ERR_HEAD_SYNTAX', 'RFC 9112 §3.2: one, or 400'],
    [
      'two Origins',
      'GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n',
      '400 ERR_HEAD_SYNTAX',
      'which is it?',
    ],
    [
      'a body',
      'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx',
      '413 ERR_REQUEST_BODY',
      'frames follow the head',
    ],
    [
      'a chunked body',
      'GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      '413 ERR_REQUEST_BODY',
      'the same',
    ],
    [
      'a length of 00',
      'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n',
      '413 ERR_REQUEST_BODY',
      'nothing is guessed',
    ],
    [
      'Expect',
      'GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n',
      '417 ERR_HEAD_SYNTAX',
      'there is no body to wait for',
    ],
    [
      'an absolute target of another host',
      'GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n',
      '400 ERR_HOST_HEADER',
      'which is it?',
    ],
    [
      'an absolute target with a user',
      'GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n',
      '400 ERR_HOST_HEADER',
      'RFC 9110 §4.2.4: refuse',
    ],
    [
      'an absolute target without a path',
      'GET http://a HTTP/1.1\r\nHost: a\r\n\r\n',
      '400 ERR_HOST_HEADER',
      'RFC 9112 §3.2.2: a path',
    ],
    [
      '101 header lines',
      `GET / HTTP/1.1\r\nHost: a\r\n${'a: b\r\n'.repeat(100)}\r\n`,
      '431 ERR_HEAD_TOO_MANY_FIELDS',
      'a limit',
    ],
  ])('but not the other way round: %s', async (_, head, verdict) => {
    expect(ourVerdict([latin1(head)])).toBe(verdict)
    expect(await judge.accepts(latin1(head))).toBe(true)
  })

  it('and is not accepted by chance: the judge refuses, too', async () => {
    for (const head of ['GET / HTTP/1.1\r\n\r\n', 'GET / HTTP/1.1\r\nHost: a\r\n', 'nonsense\r\n\r\n', '']) {
      expect(await judge.accepts(latin1(head))).toBe(false)
    }
  })
})

// ── responses ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe('a response that we accept is accepted by node:http', () => {
  let judge: Judge
  beforeAll(async () => {
    judge = await judgeOfResponses()
  })
  afterAll(() => judge.close())

  const fields = 'Upgrade: websocket\r\nConnection: Upgrade\r\n'

  it.each([
    `§HTTP/1.1 101 Switching\r\n${fields}\r\n`,
    `HTTP§1.1 101 Switching\r\n${fields}\r\n`,
    `HTTP/1.§ 101 Switching\r\n${fields}\r\n`,
    `HTTP/1.1§101 Switching\r\n${fields}\r\n`,
    'HTTP/1.1 §00 OK\r\nContent-Length: 0\r\n\r\n',
    'HTTP/1.1 4§4 OK\r\nContent-Length: 0\r\n\r\n',
    'HTTP/1.1 40§ OK\r\nContent-Length: 0\r\n\r\n',
    `HTTP/1.1 101§Switching\r\n${fields}\r\n`,
    `HTTP/1.1 101 Swit§ching\r\n${fields}\r\n`,
    `HTTP/1.1 101 Switching§\r\n${fields}\r\n`,
    `HTTP/1.1 101 Switching\r\n§${fields}\r\n`,
    `HTTP/1.1 101 Switching\r\n${fields}X§A: b\r\n\r\n`,
    `HTTP/1.1 101 Switching\r\n${fields}X-A§: b\r\n\r\n`,
    `HTTP/1.1 101 Switching\r\n${fields}X-A: b§c\r\n\r\n`,
    `HTTP/1.1 101 Switching\r\n${fields}X-A: b§\r\n\r\n`,
  ])('with any byte at § in %j', async (template) => {
    // Answers before the final one (1xx but for 101) are not given to the user of node:http.
    const accepted = withEveryByte(template).filter(
      (head) => ourResponseVerdict(latin1(head)) === 'accepted' && !/^\S+ 10[^1]|^\S+ 1[^0]/.test(head),
    )
    expect(await refusedBy(judge, accepted)).toEqual([])
  })

  it('and is not accepted by chance: the judge refuses, too', async () => {
    for (const head of ['HTTP/1.1 NaN OK\r\n\r\n', 'HTTP/1.1 200 OK\nA: b\r\n\r\n', '']) {
      expect(await judge.accepts(latin1(head))).toBe(false)
    }
  })
})

// ── by itself ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe('a head in chunks', () => {
  const cuts = fc.array(fc.nat(250), { maxLength: 10 })

  it('gets the same verdict however it is cut', () => {
    fc.assert(
      fc.property(anyRequest, cuts, (text, places) => {
        expect(ourVerdict(chunksOf(latin1(text), places))).toBe(ourVerdict([latin1(text)]))
      }),
      { numRuns: 1_000 },
    )
  })

  it('gets the same verdict however it is cut, also near the limits', () => {
    fc.assert(
      fc.property(goodRequest, cuts, fc.integer({ min: -6, max: 6 }), (text, places, beyond) => {
        const limits = { maxHeadBytes: text.length - 4 + beyond, maxHeaders: 100 }
        expect(ourVerdict([latin1(text)], limits) === 'accepted').toBe(beyond >= 0)
        expect(ourVerdict(chunksOf(latin1(text), places), limits)).toBe(ourVerdict([latin1(text)], limits))
      }),
      { numRuns: 500 },
    )
  })

  it('has the same text and the same rest however it is cut', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary-ascii', maxLength: 60 }),
        fc.string({ maxLength: 20 }),
        cuts,
        (head, rest, places) => {
          fc.pre(!`${head}\r\n\r`.includes('\r\n\r\n'))
          const reader = new HeadReader(LIMITS)
          const chunks = chunksOf(latin1(`${head}\r\n\r\n${rest}`), places)
          const last = chunks.findIndex((chunk) => {
            const whole = reader.push(chunk)
            if (whole === undefined) return false
            expect(whole.text).toBe(head)
            expect(rest.startsWith(whole.rest.toString('latin1'))).toBe(true)
            return true
          })
          expect(last).not.toBe(-1)
        },
      ),
      { numRuns: 500 },
    )
  })
})

it('reads the header lines that we write', () => {
  const name = fc.string({ unit: fc.constantFrom(...'abcXYZ019-_!~'), minLength: 1, maxLength: 12 })
  const value = fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 20 })
  fc.assert(
    fc.property(fc.array(fc.tuple(name, value), { maxLength: 8 }), (lines) => {
      let text: string
      try {
        text = formatFields(lines)
      } catch {
        // What would break out of its line is not written.
        expect(lines.some(([, value]) => /[^\t\x20-\x7e\x80-\xff]/.test(value))).toBe(true)
        return
      }
      const { headers } = parseRequestHead(`GET / HTTP/1.1\r\n${text.slice(0, -2)}`, LIMITS)
      const blanks = /^[ \t]+|[ \t]+$/g
      expect([...headers]).toEqual(lines.map(([name, value]) => [name.toLowerCase(), value.replaceAll(blanks, '')]))
    }),
    { numRuns: 500 },
  )
})
