import { describe, expect, it } from 'vitest'
import { type Refusal, UsageError, WebSocketServer, type WebSocketServerOptions } from '../../src/index.ts'
import { newApi } from '../support/facade.ts'
import { Queue } from '../support/queue.ts'
import { plainRequest, type RawAnswer, RawClient, type RequestOptions, upgradeRequest } from '../support/raw-client.ts'
import { openClient, startServer } from '../support/servers.ts'

/*
 * What a server with a name says to somebody who asks which app it is.
 */

const TOKEN = 'YOUR_SECURE_KEY'
const ORIGIN = 'https://app.example'
const TARGET = '/.well-known/fullduplex'

interface App {
  readonly port: number
  readonly refusals: Queue<Refusal>
  ask(request?: RequestOptions): Promise<RawAnswer>
}

async function startApp(options: WebSocketServerOptions = {}): Promise<App> {
  const refusals = new Queue<Refusal>()
  const { port } = await startServer({ app: 'my-app', refused: refusals.push, ...options })
  return {
    port,
    refusals,
    ask: (request = {}) => RawClient.ask({ port }, plainRequest({ target: TARGET, ...request })),
  }
}

const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` })

/** The headers of an answer that concern other origins, by their names. */
function crossOrigin({ headers }: RawAnswer): Record<string, string> {
  return Object.fromEntries([...headers].filter(([name]) => name.startsWith('access-control-') || name === 'vary'))
}

describe('a server with a name', () => {
  it.each([
    ['missing', { token: TOKEN }, {}],
    ['right', { token: TOKEN }, bearer(TOKEN)],
    ['none', {}, {}],
    ['none', {}, bearer('anything')],
  ])('says which app it is, and that the token is %s', async (token, options, headers) => {
    const { ask } = await startApp({ origins: [ORIGIN], ...options })
    const answer = await ask({ headers: { Origin: ORIGIN, ...headers } })
    expect(answer.status).toBe(200)
    expect(JSON.parse(answer.body)).toEqual({ app: 'my-app', token })
    expect(crossOrigin(answer)).toEqual({ 'access-control-allow-origin': ORIGIN, vary: 'Origin' })
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(answer.headers.get('cache-control')).toBe('no-store')
  })

  it('answers programs, which have no Origin, HEAD, and a target in absolute form', async () => {
    const { ask } = await startApp({ token: TOKEN, origins: [ORIGIN] })
    const program = await ask()
    expect([program.status, crossOrigin(program)]).toEqual([200, { vary: 'Origin' }])
    const head = await ask({ method: 'HEAD', headers: { Origin: ORIGIN } })
    expect([head.status, head.body, head.headers.get('content-length')]).toEqual([200, '', String(program.body.length)])
    expect((await ask({ target: `http://localhost${TARGET}?a=1` })).body).toBe(program.body)
  })

  it('has nothing to read for a page that may not read it', async () => {
    const { ask } = await startApp({ token: TOKEN, origins: [ORIGIN] })
    const answer = await ask({ headers: { 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Site': 'cross-site' } })
    expect([answer.status, answer.body, crossOrigin(answer)]).toEqual([204, '', { vary: 'Origin' }])
  })

  it('tells a page that its token is wrong, and the program too', async () => {
    const { ask, refusals } = await startApp({ token: TOKEN })
    const answer = await ask({ headers: { Origin: ORIGIN, ...bearer('WRONG') } })
    expect(answer.status).toBe(401)
    expect(crossOrigin(answer)).toEqual({ 'access-control-allow-origin': ORIGIN, vary: 'Origin' })
    expect(answer.body).not.toContain('my-app')
    expect(await refusals.next()).toMatchObject({ reason: 'ERR_TOKEN_WRONG', origin: ORIGIN, path: TARGET })
  })

  it('counts wrong tokens together with those of WebSockets, and lets the right one in', async () => {
    const { ask, port } = await startApp({ token: TOKEN })
    const statuses: number[] = []
    for (let round = 0; round < 4; round++) {
      statuses.push((await ask({ headers: { Origin: ORIGIN, ...bearer('WRONG') } })).status)
      statuses.push((await RawClient.ask({ port }, upgradeRequest({ target: '/?token=WRONG' }))).status)
    }
    expect(statuses).toEqual([401, 401, 401, 401, 401, 429, 429, 429])
    const limited = await ask({ headers: { Origin: ORIGIN, ...bearer('WRONG') } })
    expect([limited.status, crossOrigin(limited)['access-control-allow-origin']]).toEqual([429, ORIGIN])
    expect((await ask({ headers: bearer(TOKEN) })).status).toBe(200)
    // Asking for the name alone presents nothing.
    expect((await ask()).status).toBe(200)
  })

  it.each<[string, WebSocketServerOptions, string]>([
    ['that is not listed', { token: TOKEN, origins: [ORIGIN] }, 'https://evil.example'],
    ['without a name', { token: TOKEN, origins: [ORIGIN] }, 'null'],
    ['of a website, without token', {}, 'https://evil.example'],
    ['of a website, with authorize', { authorize: () => true }, 'https://evil.example'],
  ])('tells a page %s nothing that it could read', async (_, options, origin) => {
    const { ask, refusals } = await startApp(options)
    for (const request of [
      {},
      { headers: bearer(TOKEN) },
      { headers: bearer('WRONG') },
      { method: 'OPTIONS', headers: { 'Access-Control-Request-Method': 'GET' } },
    ]) {
      const answer = await ask({ ...request, headers: { Origin: origin, ...request.headers } })
      expect([answer.status, crossOrigin(answer)]).toEqual([403, {}])
      expect(answer.body).not.toContain('my-app')
      expect(await refusals.next()).toMatchObject({ reason: 'ERR_ORIGIN', origin })
    }
  })

  it('tells nothing under a name that is not its own', async () => {
    const { ask, refusals } = await startApp()
    for (const method of ['GET', 'OPTIONS']) {
      const answer = await ask({ method, headers: { Host: 'evil.example', Origin: 'http://localhost:3000' } })
      expect([answer.status, crossOrigin(answer)]).toEqual([403, {}])
      expect(await refusals.next()).toMatchObject({ reason: 'ERR_HOST' })
    }
  })

  it('answers a preflight, without looking at the token', async () => {
    const { ask } = await startApp({ token: TOKEN, origins: [ORIGIN] })
    const asked = {
      Origin: ORIGIN,
      'Access-Control-Request-Method': 'GET',
      'Access-Control-Request-Headers': 'authorization',
    }
    const plain = await ask({ method: 'OPTIONS', headers: asked })
    const allowed = {
      'access-control-allow-origin': ORIGIN,
      'access-control-allow-headers': 'authorization',
      vary: 'Origin',
    }
    expect([plain.status, plain.body, crossOrigin(plain)]).toEqual([204, '', allowed])
    for (const network of ['private', 'local']) {
      const local = await ask({
        method: 'OPTIONS',
        headers: { ...asked, [`Access-Control-Request-${network}-Network`]: 'true' },
      })
      expect(crossOrigin(local)).toEqual({ ...allowed, [`access-control-allow-${network}-network`]: 'true' })
    }
  })

  it('answers there alone: other paths and methods are as they were', async () => {
    const { ask, port } = await startApp({ respond: ({ path }) => ({ body: path }) })
    expect((await ask({ target: '/other' })).body).toBe('/other')
    expect((await ask({ target: `${TARGET}/` })).body).toBe(`${TARGET}/`)
    expect((await ask({ target: '/other', method: 'OPTIONS' })).status).toBe(405)
    const posted = await ask({ method: 'POST' })
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
    expect((await RawClient.ask({ port }, upgradeRequest({ target: TARGET, method: 'OPTIONS' }))).status).toBe(405)
    // A WebSocket may be opened at any path.
    await RawClient.open({ port, target: TARGET })
  })

  it('takes the subprotocol fullduplex, behind its own', async () => {
    const { port } = await startApp({ token: TOKEN, subprotocols: ['chat'] })
    const url = `ws://127.0.0.1:${port}/`
    const secret = `bearer.${Buffer.from(TOKEN).toString('base64url')}`
    expect((await openClient(url, { subprotocols: ['fullduplex', secret] })).subprotocol).toBe('fullduplex')
    expect((await openClient(url, { subprotocols: ['fullduplex', 'chat', secret] })).subprotocol).toBe('chat')
  })

  it('has a name that can stand everywhere', async () => {
    for (const app of ['', 'my app', 'my-app\r\n', 'größe', 1]) {
      expect(() => new WebSocketServer({ app: app as string }), String(app)).toThrow(UsageError)
    }
    const api = newApi()
    expect(await api.startServer({ possiblePorts: [0], token: TOKEN, app: 'my app' })).toMatchObject({ success: false })
    const { port } = await api.startServer({ possiblePorts: [0], token: TOKEN, app: 'my-app' })
    const answer = await RawClient.ask({ port: port as number }, plainRequest({ target: TARGET }))
    expect(JSON.parse(answer.body)).toEqual({ app: 'my-app', token: 'missing' })
  })
})

it('a server without a name has no such path and no such subprotocol', async () => {
  const { port } = await startServer({ token: TOKEN })
  for (const [method, status] of [
    ['GET', 426],
    ['OPTIONS', 405],
  ] as const) {
    const answer = await RawClient.ask({ port }, plainRequest({ target: TARGET, method, headers: { Origin: ORIGIN } }))
    expect([answer.status, crossOrigin(answer)]).toEqual([status, {}])
  }
  const url = `ws://127.0.0.1:${port}/?token=${TOKEN}`
  expect((await openClient(url, { subprotocols: ['fullduplex'] })).subprotocol).toBe('')
})
