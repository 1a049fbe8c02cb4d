import { describe, expect, it } from 'vitest'
import { HandshakeError } from '../../src/errors.ts'
import {
  acceptFor,
  type ClientRequest,
  checkRequest,
  checkResponse,
  checkUpgrade,
  formatAcceptance,
  formatAnswer,
  formatRefusal,
  formatRequest,
  HttpRequest,
  randomKey,
  selectSubprotocol,
  splitTarget,
} from '../../src/handshake.ts'
import { HeadReader, parseRequestHead, parseResponseHead, type RequestHead } from '../../src/http-head.ts'
import {
  LIMITS,
  type Lines,
  requestHead,
  requestOf,
  responseHead,
  SAMPLE_ACCEPT,
  SAMPLE_KEY,
  upgradeLines,
  verdictOf,
} from '../support/heads.ts'

const CLIENT_REQUEST: ClientRequest = {
  target: '/chat?room=1',
  host: 'localhost:8080',
  key: SAMPLE_KEY,
  subprotocols: [],
  headers: {},
}

const USAGE_ERROR = (code: string) => expect.objectContaining({ name: 'UsageError', code })

/** The head and the body of an answer. */
function parsedAnswer(bytes: Buffer) {
  const whole = new HeadReader(LIMITS).push(bytes)!
  const { status, statusText, headers } = parseResponseHead(whole.text, LIMITS)
  return { status, statusText, headers: Object.fromEntries(headers), body: whole.rest.toString() }
}

describe('acceptFor', () => {
  it('answers the key of RFC 6455 §1.3 as it stands there', () => {
    expect(acceptFor(SAMPLE_KEY)).toBe(SAMPLE_ACCEPT)
  })
})

describe('randomKey', () => {
  it('is 16 bytes in base64, other ones each time', () => {
    const keys = Array.from({ length: 100 }, randomKey)
    expect(keys.every((key) => Buffer.from(key, 'base64').length === 16 && key.length === 24)).toBe(true)
    expect(new Set(keys).size).toBe(100)
  })
})

describe('splitTarget', () => {
  it.each([
    ['/', '/', ''],
    ['/chat', '/chat', ''],
    ['/chat?', '/chat', '?'],
    ['/chat?a=b?c', '/chat', '?a=b?c'],
    ['?a', '', '?a'],
  ])('splits %s', (target, path, search) => {
    expect(splitTarget(target)).toEqual({ path, search })
  })
})

describe('HttpRequest', () => {
  const request = new HttpRequest(
    requestHead(upgradeLines({ Origin: 'http://localhost', 'Sec-WebSocket-Protocol': 'a, b' }), {
      target: '/p%20q?a=1&b=%C3%A9',
    }),
    { remoteAddress: '10.0.0.1', remotePort: 50_000, secure: true },
  )

  it('shows what was asked for, and by whom', () => {
    expect(request).toMatchObject({
      method: 'GET',
      url: '/p%20q?a=1&b=%C3%A9',
      path: '/p%20q',
      host: 'localhost:8080',
      origin: 'http://localhost',
      subprotocols: ['a', 'b'],
      remoteAddress: '10.0.0.1',
      remotePort: 50_000,
      secure: true,
      authenticated: false,
      isUpgrade: true,
    })
  })

  it('decodes the query, once', () => {
    expect(request.query.get('b')).toBe('é')
    expect(request.query).toBe(request.query)
    expect([...requestOf([]).query]).toEqual([])
  })

  it('says so where a header is missing', () => {
    const { host, origin, subprotocols, isUpgrade } = requestOf([])
    expect({ host, origin, subprotocols, isUpgrade }).toEqual({
      host: undefined,
      origin: undefined,
      subprotocols: [],
      isUpgrade: false,
    })
  })

  it('offers no subprotocols where the header is malformed', () => {
    expect(requestOf([['Sec-WebSocket-Protocol', 'a,,b']]).subprotocols).toEqual([])
  })

  it.each([
    ['websocket', true],
    ['WebSocket', true],
    ['h2c, websocket', true],
    ['h2c', false],
    ['websockets', false],
  ])('asks with Upgrade: %s for a WebSocket: %s', (upgrade, isUpgrade) => {
    expect(requestOf([['Upgrade', upgrade]]).isUpgrade).toBe(isUpgrade)
  })
})

describe('checkRequest', () => {
  const host: Lines = [['Host', 'localhost']]

  it.each([
    ['GET', requestHead(host)],
    ['HEAD', requestHead(host, { method: 'HEAD' })],
    ['an empty Host', requestHead([['Host', '']])],
    ['no Host in HTTP/1.0', requestHead([], { version: '1.0' })],
    ['a body of no bytes', requestHead([...host, ['Content-Length', '0']])],
    ['one Origin', requestHead([...host, ['Origin', 'http://localhost']])],
  ])('takes %s as it is', (_, head) => {
    expect(checkRequest(head)).toBe(head)
  })

  it.each([
    ['POST', requestHead(host, { method: 'POST' }), '405 ERR_METHOD'],
    ['get in small letters', requestHead(host, { method: 'get' }), '405 ERR_METHOD'],
    ['a body', requestHead([...host, ['Content-Length', '5']]), '413 ERR_REQUEST_BODY'],
    ['a length that is none', requestHead([...host, ['Content-Length', '']]), '413 ERR_REQUEST_BODY'],
    ['a length written oddly', requestHead([...host, ['Content-Length', '+0']]), '413 ERR_REQUEST_BODY'],
    ['two lengths', requestHead([...host, ['Content-Length', '0'], ['Content-Length', '0']]), '400 ERR_HEAD_SYNTAX'],
    ['a chunked body', requestHead([...host, ['Transfer-Encoding', 'chunked']]), '413 ERR_REQUEST_BODY'],
    ['a coding that is none', requestHead([...host, ['Transfer-Encoding', '']]), '413 ERR_REQUEST_BODY'],
    ['an expectation', requestHead([...host, ['Expect', '100-continue']]), '417 ERR_HEAD_SYNTAX'],
    ['no Host', requestHead([]), '400 ERR_HOST_HEADER'],
    ['two Hosts', requestHead([...host, ...host]), '400 ERR_HEAD_SYNTAX'],
    ['two Hosts in HTTP/1.0', requestHead([...host, ...host], { version: '1.0' }), '400 ERR_HEAD_SYNTAX'],
    [
      'two Origins',
      requestHead([...host, ['Origin', 'http://localhost'], ['Origin', 'http://evil.example']]),
      '400 ERR_HEAD_SYNTAX',
    ],
  ])('refuses %s', (_, head, verdict) => {
    expect(verdictOf(() => checkRequest(head))).toBe(verdict)
  })

  it.each([
    ['http://localhost/', '/'],
    ['http://LOCALHOST/chat?a=/b', '/chat?a=/b'],
    ['https://localhost//chat', '//chat'],
  ])('turns the absolute target %s into its path', (target, path) => {
    expect(checkRequest(requestHead(host, { target }))).toMatchObject({ target: path, method: 'GET', version: '1.1' })
  })

  it.each([
    'http://localhost',
    'http://localhost?a',
    'http://localhost?a=/b',
    'http://localhost:80/',
    'http://evil.example/',
    'http://localhost@evil.example/',
    'http://user@localhost/',
    'http:///',
  ])('refuses the absolute target %s, which is not what Host says', (target) => {
    expect(verdictOf(() => checkRequest(requestHead(host, { target })))).toBe('400 ERR_HOST_HEADER')
  })

  it('refuses an absolute target where there is no Host to compare it with', () => {
    const head = requestHead([], { target: 'http://localhost/', version: '1.0' })
    expect(verdictOf(() => checkRequest(head))).toBe('400 ERR_HOST_HEADER')
  })
})

describe('checkUpgrade (§4.2.1)', () => {
  it('returns the key', () => {
    expect(checkUpgrade(requestHead(upgradeLines()))).toBe(SAMPLE_KEY)
  })

  it.each([
    ['Connection with other tokens', { Connection: 'keep-alive, Upgrade' }],
    ['Connection in any case', { Connection: 'uPGRADE' }],
    ['subprotocols', { 'Sec-WebSocket-Protocol': 'chat, superchat' }],
    ['extensions', { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' }],
  ])('takes %s', (_, changes) => {
    expect(checkUpgrade(requestHead(upgradeLines(changes)))).toBe(SAMPLE_KEY)
  })

  it.each([
    ['no Connection', { Connection: undefined }, '400 ERR_UPGRADE_HEADERS'],
    ['Connection: keep-alive', { Connection: 'keep-alive' }, '400 ERR_UPGRADE_HEADERS'],
    ['no version', { 'Sec-WebSocket-Version': undefined }, '426 ERR_WEBSOCKET_VERSION'],
    ['version 8', { 'Sec-WebSocket-Version': '8' }, '426 ERR_WEBSOCKET_VERSION'],
    ['several versions', { 'Sec-WebSocket-Version': '13, 8' }, '426 ERR_WEBSOCKET_VERSION'],
    ['version 013', { 'Sec-WebSocket-Version': '013' }, '426 ERR_WEBSOCKET_VERSION'],
    ['no key', { 'Sec-WebSocket-Key': undefined }, '400 ERR_WEBSOCKET_KEY'],
    ['an empty key', { 'Sec-WebSocket-Key': '' }, '400 ERR_WEBSOCKET_KEY'],
    ['a key of 15 bytes', { 'Sec-WebSocket-Key': Buffer.alloc(15).toString('base64') }, '400 ERR_WEBSOCKET_KEY'],
    ['a key of 17 bytes', { 'Sec-WebSocket-Key': Buffer.alloc(17).toString('base64') }, '400 ERR_WEBSOCKET_KEY'],
    ['a key without its padding', { 'Sec-WebSocket-Key': SAMPLE_KEY.slice(0, 22) }, '400 ERR_WEBSOCKET_KEY'],
    ['a key of 24 other characters', { 'Sec-WebSocket-Key': `${SAMPLE_KEY.slice(0, 22)}ab` }, '400 ERR_WEBSOCKET_KEY'],
    ['a key in base64url', { 'Sec-WebSocket-Key': '-_-_-_-_-_-_-_-_-_-_-w==' }, '400 ERR_WEBSOCKET_KEY'],
    [
      'a key with bits beyond its 16 bytes',
      { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZR==' },
      '400 ERR_WEBSOCKET_KEY',
    ],
    ['no subprotocol', { 'Sec-WebSocket-Protocol': '' }, '400 ERR_SUBPROTOCOL_HEADER'],
    ['a subprotocol twice', { 'Sec-WebSocket-Protocol': 'a, a' }, '400 ERR_SUBPROTOCOL_HEADER'],
    ['a malformed extension', { 'Sec-WebSocket-Extensions': 'foo;' }, '400 ERR_EXTENSION_HEADER'],
    ['an empty list of extensions', { 'Sec-WebSocket-Extensions': '' }, '400 ERR_EXTENSION_HEADER'],
  ])('refuses %s', (_, changes, verdict) => {
    expect(verdictOf(() => checkUpgrade(requestHead(upgradeLines(changes))))).toBe(verdict)
  })

  it.each([
    ['HEAD', { method: 'HEAD' }, '405 ERR_METHOD'],
    ['HTTP/1.0', { version: '1.0' as const }, '505 ERR_HTTP_VERSION'],
  ])('refuses %s', (_, more, verdict) => {
    expect(verdictOf(() => checkUpgrade(requestHead(upgradeLines(), more)))).toBe(verdict)
  })

  it.each(['Sec-WebSocket-Key', 'Sec-WebSocket-Version'])('refuses %s twice, even when both say the same', (name) => {
    const lines = upgradeLines()
    const repeated = lines.filter((line) => line[0] === name)
    expect(verdictOf(() => checkUpgrade(requestHead([...lines, ...repeated])))).toBe('400 ERR_HEAD_SYNTAX')
  })

  it('takes subprotocols and extensions in several lines', () => {
    const lines: Lines = [
      ...upgradeLines(),
      ['Sec-WebSocket-Protocol', 'a'],
      ['Sec-WebSocket-Protocol', 'b'],
      ['Sec-WebSocket-Extensions', 'foo'],
      ['Sec-WebSocket-Extensions', 'bar'],
    ]
    expect(checkUpgrade(requestHead(lines))).toBe(SAMPLE_KEY)
    expect(requestOf(lines).subprotocols).toEqual(['a', 'b'])
    const repeated = requestHead([...lines, ['Sec-WebSocket-Protocol', 'a']])
    expect(verdictOf(() => checkUpgrade(repeated))).toBe('400 ERR_SUBPROTOCOL_HEADER')
  })
})

describe('checkResponse (§4.1)', () => {
  const request: ClientRequest = { ...CLIENT_REQUEST, subprotocols: ['chat', 'superchat'] }
  const lines = (changes: Readonly<Record<string, string | undefined>> = {}): Lines => {
    const all = { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Accept': SAMPLE_ACCEPT, ...changes }
    return Object.entries(all).filter((line): line is [string, string] => line[1] !== undefined)
  }

  it.each([
    ['no subprotocol', {}, ''],
    ['a subprotocol that was offered', { 'Sec-WebSocket-Protocol': 'superchat' }, 'superchat'],
    ['Upgrade in any case', { Upgrade: 'WebSocket' }, ''],
    ['Connection with other tokens', { Connection: 'keep-alive, upgrade' }, ''],
  ])('takes %s', (_, changes, chosen) => {
    expect(checkResponse(responseHead(101, lines(changes)), request).subprotocol).toBe(chosen)
  })

  it.each([
    ['no Upgrade', { Upgrade: undefined }, '101 ERR_RESPONSE_UPGRADE'],
    ['another Upgrade', { Upgrade: 'h2c' }, '101 ERR_RESPONSE_UPGRADE'],
    ['no Connection', { Connection: undefined }, '101 ERR_RESPONSE_UPGRADE'],
    ['another Connection', { Connection: 'close' }, '101 ERR_RESPONSE_UPGRADE'],
    ['no accept', { 'Sec-WebSocket-Accept': undefined }, '101 ERR_RESPONSE_ACCEPT'],
    ['the accept of another key', { 'Sec-WebSocket-Accept': acceptFor('other') }, '101 ERR_RESPONSE_ACCEPT'],
    ['the accept in small letters', { 'Sec-WebSocket-Accept': SAMPLE_ACCEPT.toLowerCase() }, '101 ERR_RESPONSE_ACCEPT'],
    ['an extension', { 'Sec-WebSocket-Extensions': 'permessage-deflate' }, '101 ERR_RESPONSE_EXTENSION'],
    ['an empty extension', { 'Sec-WebSocket-Extensions': '' }, '101 ERR_RESPONSE_EXTENSION'],
    ['a subprotocol that was not offered', { 'Sec-WebSocket-Protocol': 'mqtt' }, '101 ERR_RESPONSE_SUBPROTOCOL'],
    ['a subprotocol in another case', { 'Sec-WebSocket-Protocol': 'Chat' }, '101 ERR_RESPONSE_SUBPROTOCOL'],
    ['two subprotocols', { 'Sec-WebSocket-Protocol': 'chat, superchat' }, '101 ERR_RESPONSE_SUBPROTOCOL'],
    ['an empty subprotocol', { 'Sec-WebSocket-Protocol': '' }, '101 ERR_RESPONSE_SUBPROTOCOL'],
  ])('refuses %s', (_, changes, verdict) => {
    expect(verdictOf(() => checkResponse(responseHead(101, lines(changes)), request))).toBe(verdict)
  })

  it('refuses the accept twice', () => {
    const twice: Lines = [...lines(), ['Sec-WebSocket-Accept', SAMPLE_ACCEPT]]
    expect(verdictOf(() => checkResponse(responseHead(101, twice), request))).toBe('101 ERR_RESPONSE_ACCEPT')
  })

  it.each([100, 200, 302, 401, 503])('refuses the status %d, and says it', (status) => {
    const decide = () => checkResponse(responseHead(status, lines()), request)
    expect(verdictOf(decide)).toBe(`${status} ERR_RESPONSE_STATUS`)
    expect(decide).toThrow(`status ${status}`)
  })

  it('refuses any subprotocol where none was offered', () => {
    const head = responseHead(101, lines({ 'Sec-WebSocket-Protocol': 'chat' }))
    expect(verdictOf(() => checkResponse(head, CLIENT_REQUEST))).toBe('101 ERR_RESPONSE_SUBPROTOCOL')
  })
})

describe('selectSubprotocol', () => {
  it.each([
    [['a', 'b'], ['b', 'a'], 'a'],
    [['a', 'b'], ['c', 'b'], 'b'],
    [['a'], ['b'], ''],
    [['a'], ['A'], ''],
    [[], ['a'], ''],
    [['a'], [], ''],
  ])('chooses from ours %j, offered %j: %j', (supported, offered, chosen) => {
    expect(selectSubprotocol(supported, offered)).toBe(chosen)
  })
})

describe('formatRequest (§4.1)', () => {
  it('writes what a server demands', () => {
    expect(formatRequest(CLIENT_REQUEST)).toBe(
      'GET /chat?room=1 HTTP/1.1\r\nHost: localhost:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Key: ${SAMPLE_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
    )
  })

  it('adds subprotocols and headers', () => {
    const text = formatRequest({ ...CLIENT_REQUEST, subprotocols: ['a', 'b'], headers: { Origin: 'x', Cookie: 'c=d' } })
    expect(text).toMatch(/\r\nSec-WebSocket-Protocol: a, b\r\nOrigin: x\r\nCookie: c=d\r\n\r\n$/)
  })

  it('is accepted by our own server', () => {
    const text = formatRequest({ ...CLIENT_REQUEST, key: randomKey(), subprotocols: ['a', 'b'] })
    const head: RequestHead = parseRequestHead(text.slice(0, -4), LIMITS)
    expect(verdictOf(() => checkUpgrade(checkRequest(head)))).toBe('accepted')
  })

  it.each([[['a b']], [['']], [['a', 'a']], [['a,b']], [['a\r\nX: y']]])(
    'refuses the subprotocols %j',
    (subprotocols) => {
      expect(() => formatRequest({ ...CLIENT_REQUEST, subprotocols })).toThrow(USAGE_ERROR('ERR_OPTION'))
    },
  )

  it.each([
    'Host',
    'UPGRADE',
    'connection',
    'Sec-WebSocket-Key',
    'Sec-WebSocket-Version',
    'Sec-WebSocket-Protocol',
    'Sec-WebSocket-Extensions',
  ])('refuses the header %s, which is its own', (name) => {
    expect(() => formatRequest({ ...CLIENT_REQUEST, headers: { [name]: 'x' } })).toThrow(
      USAGE_ERROR('ERR_HEADER_VALUE'),
    )
  })

  it.each([
    ['a header', { headers: { 'X-A': 'b\r\nX-C: d' } }],
    ['the name of a header', { headers: { 'X-A: b\r\nX-C': 'd' } }],
    ['the host', { host: 'a\r\nX-C: d' }],
  ])('refuses a line break in %s', (_, changes) => {
    expect(() => formatRequest({ ...CLIENT_REQUEST, ...changes })).toThrow(USAGE_ERROR('ERR_HEADER_VALUE'))
  })

  it('offers an extension', () => {
    const offer = 'permessage-deflate; client_max_window_bits'
    const text = formatRequest({ ...CLIENT_REQUEST, extensions: offer })
    expect(text).toContain(`\r\nSec-WebSocket-Extensions: ${offer}\r\n`)
    expect(formatRequest(CLIENT_REQUEST)).not.toContain('Extensions')
  })
})

describe('formatAcceptance (§4.2.2)', () => {
  it('writes what a client demands', () => {
    expect(formatAcceptance({ key: SAMPLE_KEY, subprotocol: '' })).toBe(
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Accept: ${SAMPLE_ACCEPT}\r\n\r\n`,
    )
  })

  it('adds the subprotocol and headers', () => {
    const text = formatAcceptance({ key: SAMPLE_KEY, subprotocol: 'chat', headers: { 'Set-Cookie': 'a=b' } })
    expect(text).toMatch(/\r\nSec-WebSocket-Protocol: chat\r\nSet-Cookie: a=b\r\n\r\n$/)
  })

  it('says which extension was agreed on', () => {
    const text = formatAcceptance({ key: SAMPLE_KEY, subprotocol: '', extensions: 'permessage-deflate' })
    expect(text).toMatch(/\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n$/)
  })

  it('is accepted by our own client', () => {
    const request = { ...CLIENT_REQUEST, key: randomKey(), subprotocols: ['chat'] }
    const text = formatAcceptance({ key: request.key, subprotocol: 'chat' })
    expect(checkResponse(parseResponseHead(text.slice(0, -4), LIMITS), request).subprotocol).toBe('chat')
  })

  it.each([
    ['a header', { subprotocol: '', headers: { 'X-A': 'b\r\nX-C: d' } }],
    ['the subprotocol', { subprotocol: 'a\r\nX-C: d' }],
  ])('refuses a line break in %s', (_, changes) => {
    expect(() => formatAcceptance({ key: SAMPLE_KEY, ...changes })).toThrow(USAGE_ERROR('ERR_HEADER_VALUE'))
  })
})

describe('formatAnswer', () => {
  it('writes a page as text, and says that the connection closes', () => {
    expect(parsedAnswer(formatAnswer({ body: 'Grüße' }))).toEqual({
      status: 200,
      statusText: 'OK',
      headers: { connection: 'close', 'content-type': 'text/plain; charset=utf-8', 'content-length': '7' },
      body: 'Grüße',
    })
  })

  it('writes an answer of which nothing is given', () => {
    expect(parsedAnswer(formatAnswer({}))).toMatchObject({ status: 200, headers: { 'content-length': '0' }, body: '' })
  })

  it('writes bytes as they are', () => {
    const bytes = formatAnswer({ body: Uint8Array.of(0xff, 0x00) })
    expect(bytes.subarray(-6).toString('hex')).toBe('0d0a0d0aff00')
  })

  it.each([200, 204, 301, 302, 304, 400, 401, 403, 404, 405, 408, 413, 414, 417, 426, 429, 431, 500, 503, 505])(
    'knows a phrase for %d',
    (status) => {
      const { statusText, ...rest } = parsedAnswer(formatAnswer({ status }))
      expect(rest.status).toBe(status)
      expect(statusText).toMatch(/^[A-Z][A-Za-z ]+$/)
      expect(statusText).not.toBe('Status')
    },
  )

  it('does without one for other statuses', () => {
    expect(parsedAnswer(formatAnswer({ status: 418 }))).toMatchObject({ status: 418, statusText: 'Status' })
  })

  it.each([0, 99, 100, 101, 199, 600, 200.5, Number.NaN])('refuses the status %d', (status) => {
    expect(() => formatAnswer({ status })).toThrow(USAGE_ERROR('ERR_HEADER_VALUE'))
  })

  it('takes the type that is given, in any case', () => {
    const { headers } = parsedAnswer(formatAnswer({ headers: { 'content-TYPE': 'text/html' } }))
    expect(headers).toMatchObject({ 'content-type': 'text/html' })
    expect(formatAnswer({ headers: { 'content-TYPE': 'text/html' } }).toString()).not.toContain('text/plain')
  })

  it('lets nobody say another length, or that there is more to come', () => {
    const headers = { 'content-length': '100', Connection: 'keep-alive', 'Transfer-Encoding': 'chunked', 'X-A': 'b' }
    const text = formatAnswer({ headers, body: 'abc' }).toString()
    expect(text.match(/content-length: .*/gi)).toEqual(['Content-Length: 3'])
    expect(text.match(/connection: .*/gi)).toEqual(['Connection: close'])
    expect(text).not.toMatch(/transfer-encoding/i)
    expect(text).toContain('X-A: b')
  })

  it.each([
    { method: 'HEAD', status: 200, length: '5' },
    { method: 'GET', status: 304, length: '5' },
    { method: 'GET', status: 204, length: undefined },
    { method: 'HEAD', status: 204, length: undefined },
  ])('sends no body with $status for $method (RFC 9110 §8.6, §9.3.2)', ({ method, status, length }) => {
    const { headers, body } = parsedAnswer(formatAnswer({ status, body: 'abcde' }, method))
    expect(body).toBe('')
    expect(headers['content-length']).toBe(length)
  })

  it('refuses a header with a line break', () => {
    expect(() => formatAnswer({ headers: { 'X-A': 'b\r\nX-C: d' } })).toThrow(USAGE_ERROR('ERR_HEADER_VALUE'))
  })
})

describe('formatRefusal', () => {
  it('says in one line what is wrong', () => {
    const refusal = parsedAnswer(formatRefusal(new HandshakeError('ERR_ORIGIN', 403, 'Not from there.')))
    expect(refusal).toEqual({
      status: 403,
      statusText: 'Forbidden',
      headers: { connection: 'close', 'content-type': 'text/plain; charset=utf-8', 'content-length': '16' },
      body: 'Not from there.\n',
    })
  })

  it.each([
    [401, { 'www-authenticate': 'Bearer' }],
    [405, { allow: 'GET, HEAD' }],
    [426, { upgrade: 'websocket', 'sec-websocket-version': '13' }],
    [429, { 'retry-after': '5' }],
    [503, { 'retry-after': '5' }],
  ])('says with %d what that status demands', (status, demanded) => {
    const { headers } = parsedAnswer(formatRefusal(new HandshakeError('ERR_PATH', status, 'No.')))
    expect(headers).toMatchObject(demanded)
    expect(Object.keys(headers)).toHaveLength(3 + Object.keys(demanded).length)
  })

  it('adds headers, which may say otherwise', () => {
    const error = new HandshakeError('ERR_NOT_AUTHORIZED', 401, 'No.')
    const { headers } = parsedAnswer(formatRefusal(error, { 'WWW-Authenticate': 'Basic', 'Set-Cookie': 'a=b' }))
    expect(headers).toMatchObject({ 'www-authenticate': 'Basic', 'set-cookie': 'a=b' })
  })

  it('has one line of each, in whatever case its name is given', () => {
    const error = new HandshakeError('ERR_NOT_AUTHORIZED', 429, 'No.')
    const text = formatRefusal(error, { 'retry-after': '60' }).toString()
    expect(text.match(/retry-after: .*/gi)).toEqual(['retry-after: 60'])
  })
})
