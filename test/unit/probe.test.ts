import { describe, expect, it } from 'vitest'
import { UsageError } from '../../src/errors.ts'
import { checkRequest, type HttpRequest } from '../../src/handshake.ts'
import { allowedMethods, answerProbe, checkAppName, corsFields, isProbe, PROBE_PATH } from '../../src/probe.ts'
import { requestHead, requestOf, upgradeLines, verdictOf } from '../support/heads.ts'

/*
 * What a page may be told that asks which app this is; test/integration/probe.test.ts asks a server.
 */

const ORIGIN = 'https://app.example'

function probe(headers: Readonly<Record<string, string>> = {}, method = 'GET'): HttpRequest {
  return requestOf(Object.entries({ Host: 'localhost', ...headers }), { method, target: PROBE_PATH })
}

it.each(['my-app', 'com.example.App_2', 'a', undefined])('%j can be the name of an app', (app) => {
  expect(() => checkAppName(app)).not.toThrow()
})

it.each(['', 'my app', 'größe', 'a"b', 'a\r\nb', 1, null])('%j cannot be the name of an app', (app) => {
  expect(() => checkAppName(app)).toThrow(UsageError)
})

it.each<[string, string, string | undefined, boolean]>([
  ['GET', '/', undefined, true],
  ['HEAD', '/', 'my-app', true],
  ['OPTIONS', PROBE_PATH, 'my-app', true],
  ['OPTIONS', `${PROBE_PATH}?a=1`, 'my-app', true],
  ['OPTIONS', PROBE_PATH, undefined, false],
  ['OPTIONS', '/', 'my-app', false],
  ['OPTIONS', `${PROBE_PATH}/`, 'my-app', false],
  ['POST', PROBE_PATH, 'my-app', false],
])('%s %s of %j is allowed: %j', (method, target, app, allowed) => {
  const head = requestHead([['Host', 'localhost']], { method, target })
  const verdict = verdictOf(() => checkRequest(head, allowedMethods(head, app)))
  expect(verdict).toBe(allowed ? 'accepted' : '405 ERR_METHOD')
})

it('is asked for by its path alone, and not by a WebSocket', () => {
  expect(isProbe(probe())).toBe(true)
  expect(isProbe(requestOf([['Host', 'localhost']], { target: '/' }))).toBe(false)
  expect(isProbe(requestOf(upgradeLines(), { target: PROBE_PATH }))).toBe(false)
})

it('names the Origin that asks, and never all', () => {
  expect(corsFields(probe({ Origin: ORIGIN }))['Access-Control-Allow-Origin']).toBe(ORIGIN)
  expect(corsFields(probe())).toEqual({ Vary: 'Origin', 'Cache-Control': 'no-store' })
})

describe('the answer', () => {
  it.each([
    [true, true, 'right'],
    [false, true, 'missing'],
    [false, false, 'none'],
  ])('authenticated %j, has a token %j: %s', (authenticated, hasToken, token) => {
    const request = probe()
    request.authenticated = authenticated
    const { status = 200, body } = answerProbe('my-app', request, hasToken)
    expect([status, JSON.parse(String(body))]).toEqual([200, { app: 'my-app', token }])
  })

  it('is empty for a preflight, and for who may not read it', () => {
    const readable = answerProbe('my-app', probe({ 'Sec-Fetch-Mode': 'cors' }), true)
    expect(readable.body).not.toBe('')
    for (const request of [probe({ 'Sec-Fetch-Mode': 'no-cors' }), probe({ Origin: ORIGIN }, 'OPTIONS')]) {
      const { status, body } = answerProbe('my-app', request, true)
      expect([status, body]).toEqual([204, undefined])
    }
  })

  it.each([
    [{}, []],
    [{ 'Access-Control-Request-Private-Network': 'true' }, ['Access-Control-Allow-Private-Network']],
    [{ 'Access-Control-Request-Local-Network': 'true' }, ['Access-Control-Allow-Local-Network']],
    [{ 'Access-Control-Request-Private-Network': 'yes' }, []],
  ] as [Record<string, string>, string[]][])('allows the network that a preflight asks for: %j', (asked, allowed) => {
    const { headers = {} } = answerProbe('my-app', probe({ Origin: ORIGIN, ...asked }, 'OPTIONS'), true)
    expect(Object.keys(headers).filter((name) => name.endsWith('-Network'))).toEqual(allowed)
    expect(headers['Access-Control-Allow-Headers']).toBe('authorization')
  })
})
