import fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  type ClientRequest,
  checkRequest,
  checkResponse,
  checkUpgrade,
  formatAcceptance,
  formatAnswer,
  formatRequest,
  HttpRequest,
  selectSubprotocol,
} from '../../src/handshake.ts'
import { HeadReader, parseRequestHead, parseResponseHead } from '../../src/http-head.ts'
import { LIMITS, requestHead, upgradeLines, verdictOf } from '../support/heads.ts'

const token = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,10}$/)
const subprotocols = fc.uniqueArray(token, { maxLength: 4 })
const headers = fc.dictionary(
  token.map((name) => `X-${name}`),
  fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/),
  { maxKeys: 3 },
)
const key = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('base64'))
const target = fc.webUrl({ withQueryParameters: true, validSchemes: ['http'] }).map((url) => {
  const { pathname, search } = new URL(url)
  return pathname + search
})

/** The head and the rest of bytes that are known to have a whole head. */
function readHead(bytes: Buffer): { text: string; rest: Buffer } {
  return new HeadReader(LIMITS).push(bytes)!
}

it('what the client asks for is what the server reads, and the answer is what the client reads', () => {
  const request: fc.Arbitrary<ClientRequest> = fc.record({
    target,
    host: fc.constantFrom('localhost', 'localhost:8080', '[::1]:1', 'app.example'),
    key,
    subprotocols,
    headers,
  })
  fc.assert(
    fc.property(request, subprotocols, headers, fc.uint8Array({ maxLength: 9 }), (asked, supported, added, behind) => {
      const question = readHead(Buffer.concat([Buffer.from(formatRequest(asked), 'latin1'), behind]))
      expect(question.rest.equals(behind)).toBe(true)
      const head = checkRequest(parseRequestHead(question.text, LIMITS))
      const seen = new HttpRequest(head, { remoteAddress: '::1', secure: false })
      expect(checkUpgrade(head)).toBe(asked.key)
      expect(seen).toMatchObject({ method: 'GET', url: asked.target, host: asked.host, isUpgrade: true })
      expect(seen.subprotocols).toEqual(asked.subprotocols)
      for (const [name, value] of Object.entries(asked.headers)) expect(seen.headers.getAll(name)).toContain(value)

      const subprotocol = selectSubprotocol(supported, seen.subprotocols)
      const accepted = formatAcceptance({ key: asked.key, subprotocol, headers: added })
      const answer = readHead(Buffer.concat([Buffer.from(accepted, 'latin1'), behind]))
      expect(answer.rest.equals(behind)).toBe(true)
      const response = parseResponseHead(answer.text, LIMITS)
      expect(checkResponse(response, asked).subprotocol).toBe(subprotocol)
      expect(subprotocol === '' || asked.subprotocols.includes(subprotocol)).toBe(true)
      for (const [name, value] of Object.entries(added)) expect(response.headers.getAll(name)).toContain(value)
      // An answer to another question is refused.
      const other = { ...asked, key: Buffer.from(asked.key, 'base64').reverse().toString('base64') }
      if (other.key !== asked.key) expect(() => checkResponse(response, other)).toThrow('Sec-WebSocket-Accept')
    }),
    { numRuns: 300 },
  )
})

it('a plain answer is as long as it says, whatever is in it', () => {
  const status = fc.integer({ min: 200, max: 599 })
  fc.assert(
    fc.property(
      status,
      headers,
      fc.string({ unit: 'grapheme' }),
      fc.constantFrom('GET', 'HEAD'),
      (status, added, body, method) => {
        const { text, rest } = readHead(formatAnswer({ status, headers: added, body }, method))
        const head = parseResponseHead(text, LIMITS)
        expect(head.status).toBe(status)
        expect(head.headers.getAll('content-length')).toEqual(status === 204 ? [] : [String(Buffer.byteLength(body))])
        expect(head.headers.getAll('connection')).toEqual(['close'])
        expect(rest.toString()).toBe(method === 'HEAD' || status === 204 || status === 304 ? '' : body)
      },
    ),
    { numRuns: 300 },
  )
})

it('a key is accepted exactly if it is 16 bytes in base64, written in the one way there is', () => {
  const change = fc.tuple(fc.nat(23), fc.constantFrom(...'AQgwBZaz09+/=-_ .\xe9'))
  const nearlyKey = fc.tuple(key, fc.array(change, { maxLength: 2 })).map(([text, changes]) => {
    const characters = [...text]
    for (const [at, character] of changes) characters[at] = character
    return characters.join('')
  })
  const anyKey = fc.oneof(
    nearlyKey,
    fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes).toString('base64')),
  )
  fc.assert(
    fc.property(anyKey, (text) => {
      const bytes = Buffer.from(text, 'base64')
      const isKey = bytes.length === 16 && bytes.toString('base64') === text
      const verdict = verdictOf(() => checkUpgrade(requestHead(upgradeLines({ 'Sec-WebSocket-Key': text }))))
      expect(verdict).toBe(isKey ? 'accepted' : '400 ERR_WEBSOCKET_KEY')
    }),
    { numRuns: 2_000 },
  )
})
