import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type HttpRequest, type Refusal, UsageError, type WebSocketServerOptions } from '../../src/index.ts'
import { defer, Queue } from '../support/queue.ts'
import { acceptOf, KEY, plainRequest, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import { startServer } from '../support/servers.ts'

const TOKEN = 'correct horse battery/+=%staple'
const echo: WebSocketServerOptions = { message: (client, data) => void client.send(data) }

describe('a refusal', () => {
  interface Case {
    readonly name: string
    readonly options?: WebSocketServerOptions
    readonly request: string
    readonly status: number
    readonly reason: string
    readonly headers?: Readonly<Record<string, string>>
  }

  const get = (headers: Record<string, string | readonly string[] | undefined>): string => upgradeRequest({ headers })
  const supported = { 'sec-websocket-version': '13', upgrade: 'websocket' }
  const cases: readonly Case[] = [
    { name: 'garbage', request: '\u0001\u0002\r\n\r\n', status: 400, reason: 'ERR_HEAD_SYNTAX' },
    { name: 'no target', request: 'GET\r\n\r\n', status: 400, reason: 'ERR_HEAD_SYNTAX' },
    { name: 'a line without colon', request: 'GET / HTTP/1.1\r\nHost\r\n\r\n', status: 400, reason: 'ERR_HEAD_SYNTAX' },
    {
      name: 'a blank before the colon',
      request: 'GET / HTTP/1.1\r\nHost : localhost\r\n\r\n',
      status: 400,
      reason: 'ERR_HEAD_SYNTAX',
    },
    {
      name: 'a folded line',
      request: 'GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n',
      status: 400,
      reason: 'ERR_HEAD_SYNTAX',
    },
    { name: 'a NUL in a value', request: get({ 'X-Nul': 'a\u0000b' }), status: 400, reason: 'ERR_HEAD_SYNTAX' },
    {
      name: 'a repeated key',
      request: get({ 'Sec-WebSocket-Key': [KEY, KEY] }),
      status: 400,
      reason: 'ERR_HEAD_SYNTAX',
    },
    { name: 'a repeated Host', request: get({ Host: ['a', 'b'] }), status: 400, reason: 'ERR_HEAD_SYNTAX' },
    { name: 'no Host', request: get({ Host: undefined }), status: 400, reason: 'ERR_HOST_HEADER' },
    {
      name: 'an absolute URI of another host',
      request: upgradeRequest({ target: 'http://elsewhere/' }),
      status: 400,
      reason: 'ERR_HOST_HEADER',
    },
    { name: 'no Connection', request: get({ Connection: undefined }), status: 400, reason: 'ERR_UPGRADE_HEADERS' },
    {
      name: 'a Connection that says something else',
      request: get({ Connection: 'keep-alive, upgraded' }),
      status: 400,
      reason: 'ERR_UPGRADE_HEADERS',
    },
    { name: 'no key', request: get({ 'Sec-WebSocket-Key': undefined }), status: 400, reason: 'ERR_WEBSOCKET_KEY' },
    {
      name: 'a key of 15 bytes',
      request: get({ 'Sec-WebSocket-Key': Buffer.alloc(15).toString('base64') }),
      status: 400,
      reason: 'ERR_WEBSOCKET_KEY',
    },
    {
      name: 'a subprotocol offered twice',
      request: get({ 'Sec-WebSocket-Protocol': 'chat, chat' }),
      status: 400,
      reason: 'ERR_SUBPROTOCOL_HEADER',
    },
    {
      name: 'an extension that is none',
      request: get({ 'Sec-WebSocket-Extensions': 'permessage-deflate; =' }),
      status: 400,
      reason: 'ERR_EXTENSION_HEADER',
    },
    {
      name: 'no token',
      options: { token: TOKEN },
      request: upgradeRequest(),
      status: 401,
      reason: 'ERR_TOKEN_MISSING',
      headers: { 'www-authenticate': 'Bearer' },
    },
    {
      name: 'a wrong token',
      options: { token: TOKEN },
      request: upgradeRequest({ target: '/?token=guess' }),
      status: 401,
      reason: 'ERR_TOKEN_WRONG',
      headers: { 'www-authenticate': 'Bearer' },
    },
    { name: 'a foreign Host', request: get({ Host: 'rebound.example' }), status: 403, reason: 'ERR_HOST' },
    { name: 'a foreign Origin', request: get({ Origin: 'https://evil.example' }), status: 403, reason: 'ERR_ORIGIN' },
    {
      name: 'a no of authorize',
      options: { authorize: () => false },
      request: upgradeRequest(),
      status: 403,
      reason: 'ERR_NOT_AUTHORIZED',
    },
    {
      name: 'another path',
      options: { path: '/socket' },
      request: upgradeRequest({ target: '/socket/' }),
      status: 404,
      reason: 'ERR_PATH',
    },
    {
      name: 'POST',
      request: upgradeRequest({ method: 'POST' }),
      status: 405,
      reason: 'ERR_METHOD',
      headers: { allow: 'GET, HEAD' },
    },
    {
      name: 'a body',
      request: `${get({ 'Content-Length': '4' })}body`,
      status: 413,
      reason: 'ERR_REQUEST_BODY',
    },
    { name: 'chunks', request: get({ 'Transfer-Encoding': 'chunked' }), status: 413, reason: 'ERR_REQUEST_BODY' },
    {
      name: 'a target that is too long',
      options: { maxHeadBytes: 1_000 },
      request: upgradeRequest({ target: `/${'a'.repeat(1_000)}` }),
      status: 414,
      reason: 'ERR_TARGET_TOO_LONG',
    },
    { name: 'an expectation', request: get({ Expect: '100-continue' }), status: 417, reason: 'ERR_HEAD_SYNTAX' },
    {
      name: 'version 8',
      request: get({ 'Sec-WebSocket-Version': '8' }),
      status: 426,
      reason: 'ERR_WEBSOCKET_VERSION',
      headers: supported,
    },
    {
      name: 'no version',
      request: get({ 'Sec-WebSocket-Version': undefined }),
      status: 426,
      reason: 'ERR_WEBSOCKET_VERSION',
      headers: supported,
    },
    {
      name: 'a plain request',
      request: plainRequest(),
      status: 426,
      reason: 'ERR_UPGRADE_REQUIRED',
      headers: supported,
    },
    {
      name: 'a head that is too long',
      options: { maxHeadBytes: 1_000 },
      request: get({ 'X-Long': 'a'.repeat(1_000) }),
      status: 431,
      reason: 'ERR_HEAD_TOO_LARGE',
    },
    {
      name: 'too many headers',
      options: { maxHeaders: 20 },
      request: get({ 'X-Many': Array.from({ length: 20 }, () => 'a') }),
      status: 431,
      reason: 'ERR_HEAD_TOO_MANY_FIELDS',
    },
    {
      name: 'an exception in authorize',
      options: {
        error: () => {},
        authorize: () => {
          throw new Error('secret detail')
        },
      },
      request: upgradeRequest(),
      status: 500,
      reason: 'ERR_AUTHORIZE_FAILED',
    },
    { name: 'HTTP/1.0', request: upgradeRequest({ version: 'HTTP/1.0' }), status: 505, reason: 'ERR_HTTP_VERSION' },
    { name: 'HTTP/2.0', request: upgradeRequest({ version: 'HTTP/2.0' }), status: 505, reason: 'ERR_HTTP_VERSION' },
  ]

  it.each(cases)('of $name: $status $reason, with one line that says what to do', async (given) => {
    const refusals = new Queue<Refusal>()
    const opened: unknown[] = []
    const { port } = await startServer({
      ...given.options,
      refused: refusals.push,
      open: (client) => void opened.push(client),
    })
    const { status, headers, body } = await RawClient.ask({ port }, given.request)
    expect(status).toBe(given.status)
    expect(body).toMatch(/^[^\r\n]{5,150}\n$/)
    expect(body).not.toContain('secret detail')
    expect(Object.fromEntries(headers)).toMatchObject({
      connection: 'close',
      'content-type': 'text/plain; charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
      ...given.headers,
    })
    const refusal = await refusals.next()
    expect(refusal).toMatchObject({ status, reason: given.reason, message: body.trimEnd(), remoteAddress: '127.0.0.1' })
    expect(opened).toEqual([])
  })

  it('tells operators the origin and the path, once the request is known', async () => {
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({ refused: refusals.push })
    await RawClient.ask(
      { port },
      upgradeRequest({ target: '/socket?page=1', headers: { Origin: 'https://evil.example' } }),
    )
    expect(await refusals.next()).toMatchObject({ origin: 'https://evil.example', path: '/socket' })
    await RawClient.ask({ port }, 'nonsense\r\n\r\n')
    expect(await refusals.next()).toMatchObject({ origin: undefined, path: undefined })
  })

  it('of HEAD has no body, whatever it is for', async () => {
    const { port } = await startServer({ path: '/socket' })
    const answer = await RawClient.ask({ port }, upgradeRequest({ method: 'HEAD', target: '/socket' }))
    expect([answer.status, answer.body]).toEqual([405, ''])
  })

  it('arrives although the peer goes on sending what nobody reads', async () => {
    const { port } = await startServer({ token: TOKEN })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest(), Buffer.alloc(1_000_000))
    expect((await client.readAnswer()).status).toBe(401)
    expect(client.error).toBeUndefined()
  })
})

describe('a request that takes too long', () => {
  const slow = { handshakeTimeoutMs: 100, closeTimeoutMs: 60_000 }

  it.each([
    ['nothing comes', ''],
    ['half a head comes', upgradeRequest().slice(0, 60)],
  ])('is refused with 408 when %s', async (_, start) => {
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({ ...slow, refused: refusals.push })
    const client = await RawClient.connect({ port })
    if (start !== '') client.send(start)
    const { status, body } = await client.readAnswer()
    expect(status).toBe(408)
    expect(body).toMatch(/^[^\r\n]+\n$/)
    expect((await refusals.next()).reason).toBe('ERR_HANDSHAKE_TIMEOUT')
  })

  it('is refused with 408 although it never stops coming, byte by byte', async () => {
    const { port } = await startServer(slow)
    const client = await RawClient.connect({ port })
    client.send('GET / HTTP/1.1\r\nX-Dribble: ')
    const dribble = setInterval(() => client.send('a'), 5)
    onTestFinished(() => clearInterval(dribble))
    expect((await client.readHead()).status).toBe(408)
  })

  it('is cut when the peer does not go after the refusal', async () => {
    const { port } = await startServer({ handshakeTimeoutMs: 50, closeTimeoutMs: 50 })
    const client = await RawClient.connect({ port })
    const closed = defer<void>()
    // It never ends its side; what it sends late is answered with a reset, which is how it learns that it was cut.
    client.socket.on('close', () => closed.resolve())
    expect((await client.readAnswer()).status).toBe(408)
    const knock = setInterval(() => client.send('a'), 5)
    onTestFinished(() => clearInterval(knock))
    await closed.promise
  })

  it('is the one of that peer: others come in meanwhile', async () => {
    const { port } = await startServer({ ...echo, handshakeTimeoutMs: 60_000 })
    const silent = await RawClient.connect({ port })
    const other = await RawClient.open({ port })
    other.send(text('hello'))
    expect(await other.readText()).toBe('hello')
    silent.send(upgradeRequest())
    expect((await silent.readHead()).status).toBe(101)
  })
})

describe('repeated wrong tokens of one address', () => {
  it('get 429 with Retry-After, while the right one is still let in', async () => {
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({ token: TOKEN, refused: refusals.push })
    const wrong = upgradeRequest({ target: '/?token=guess' })
    for (let attempt = 0; attempt < 5; attempt++) expect((await RawClient.ask({ port }, wrong)).status).toBe(401)
    for (const request of [wrong, upgradeRequest(), plainRequest({ target: '/?token=guess' })]) {
      const { status, headers, body } = await RawClient.ask({ port }, request)
      expect(status).toBe(429)
      expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
      expect(body).toMatch(/^[^\r\n]+\n$/)
    }
    expect((await refusals.take(6)).at(-1)!.reason).toBe('ERR_TOKEN_ATTEMPTS')
    await RawClient.open({ port, target: `/?token=${encodeURIComponent(TOKEN)}` })
  })
})

describe('an acceptance', () => {
  it.each([
    ['Connection: keep-alive, uPGRADE', { Connection: 'keep-alive, uPGRADE' }],
    ['several Connection lines', { Connection: ['keep-alive', 'Upgrade'] }],
    ['Upgrade: WebSocket', { Upgrade: 'WebSocket' }],
    ['Upgrade: WEBSOCKET beside others', { Upgrade: 'h2c, WEBSOCKET' }],
    ['no blank behind the colon', { 'Sec-WebSocket-Version': undefined, 'Sec-WebSocket-Version:13\r\nX': 'y' }],
    ['an extension that nobody speaks', { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' }],
  ])('is given for %s', async (_, headers) => {
    const { port } = await startServer(echo)
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest({ headers }))
    const head = await client.readHead()
    expect(head.text).toBe('HTTP/1.1 101 Switching Protocols')
    expect(Object.fromEntries(head.headers)).toEqual({
      upgrade: 'websocket',
      connection: 'Upgrade',
      'sec-websocket-accept': acceptOf(KEY),
    })
    client.send(text('hello'))
    expect(await client.readText()).toBe('hello')
  })

  it('is given for an absolute URI whose authority is that of Host', async () => {
    const paths = new Queue<string>()
    const { port } = await startServer({ path: '/socket', open: (client) => paths.push(client.path) })
    await RawClient.open({ port, target: 'http://LOCALHOST/socket?a=1' })
    expect(await paths.next()).toBe('/socket')
  })

  it('is given for a request that comes byte by byte', async () => {
    const { port } = await startServer(echo)
    const client = await RawClient.connect({ port })
    for (const byte of Buffer.concat([Buffer.from(upgradeRequest()), text('hello')])) {
      client.send(Uint8Array.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await client.readHead()).status).toBe(101)
    expect(await client.readText()).toBe('hello')
  })
})

describe('frames in the same packet as the request', () => {
  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20))
  const messages = Array.from({ length: 40 }, (_, index) => `message ${index}`)

  it.each<[string, WebSocketServerOptions]>([
    ['sync handlers', {}],
    ['an async authorize', { authorize: () => pause().then(() => true) }],
    ['an async open', { open: pause }],
    ['both of them async', { authorize: () => pause().then(() => true), open: pause }],
    ['an async message handler', { message: (client, data) => pause().then(() => void client.send(data)) }],
  ])('are not lost with %s', async (_, options) => {
    const { port } = await startServer({ ...echo, ...options })
    const client = await RawClient.connect({ port })
    const half = text(messages.at(-1)!).length - 3
    client.send(
      upgradeRequest(),
      ...messages.slice(0, -1).map((message) => text(message)),
      text(messages.at(-1)!).subarray(0, half),
    )
    expect((await client.readHead()).status).toBe(101)
    client.send(text(messages.at(-1)!).subarray(half))
    for (const message of messages) expect(await client.readText()).toBe(message)
  })

  it('and those behind it are not lost while an async authorize is at work', async () => {
    const asked = defer()
    const verdict = defer<boolean>()
    const { port } = await startServer({
      ...echo,
      authorize: () => {
        asked.resolve()
        return verdict.promise
      },
    })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest(), text('with it'))
    await asked.promise
    client.send(text('behind it'))
    await pause()
    client.send(text('later'))
    verdict.resolve(true)
    expect((await client.readHead()).status).toBe(101)
    for (const message of ['with it', 'behind it', 'later']) expect(await client.readText()).toBe(message)
  })

  it('come behind open', async () => {
    const events = new Queue<string>()
    const { port } = await startServer({
      open: async () => {
        events.push('open begins')
        await pause()
        events.push('open ends')
      },
      message: (_, data) => events.push(String(data)),
    })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest(), text('one'), text('two'))
    expect(await events.take(4)).toEqual(['open begins', 'open ends', 'one', 'two'])
  })
})

describe('the subprotocol', () => {
  it.each([
    ['the first of the server that the client offers', ['v2.chat', 'v1.chat'], 'v1.chat, other, v2.chat', 'v2.chat'],
    ['one from a second line', ['v2.chat'], ['v1.chat', 'v2.chat'], 'v2.chat'],
    ['none when there is no common one', ['v2.chat'], 'v1.chat', ''],
    ['none when the server has none', [], 'v1.chat', ''],
    ['none when the client offers none', ['v2.chat'], undefined, ''],
    ['none in another case', ['v2.chat'], 'V2.CHAT', ''],
  ])('is %s', async (_, subprotocols, offered, chosen) => {
    const clients = new Queue<string>()
    const { port } = await startServer({ subprotocols, open: (client) => clients.push(client.subprotocol) })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest({ headers: { 'Sec-WebSocket-Protocol': offered } }))
    const { status, headers } = await client.readHead()
    expect(status).toBe(101)
    expect(headers.get('sec-websocket-protocol')).toBe(chosen === '' ? undefined : chosen)
    expect(await clients.next()).toBe(chosen)
  })
})

describe("a header of authorize's that would break out of its line", () => {
  it.each([
    ['CR and LF in a value', { 'Set-Cookie': 'a=1\r\nX-Injected: yes' }],
    ['LF in a value', { 'Set-Cookie': 'a=1\nX-Injected: yes' }],
    ['NUL in a value', { 'Set-Cookie': 'a=\u0000' }],
    ['a character above latin1', { 'X-Name': '\u{1f600}' }],
    ['CR and LF in a name', { 'X-Injected: yes\r\nX': 'y' }],
    ['a colon in a name', { 'X:': 'y' }],
  ])('is a UsageError for the error handler and 500 for the peer: %s', async (_, headers) => {
    for (const accept of [true, false] as const) {
      for (const isAsync of [false, true]) {
        const errors = new Queue<Error>()
        const opened: unknown[] = []
        const authorization = { accept, headers }
        const { port, server } = await startServer({
          authorize: () => (isAsync ? Promise.resolve(authorization) : authorization),
          open: (client) => void opened.push(client),
          error: errors.push,
        })
        const { status, headers: sent, body } = await RawClient.ask({ port }, upgradeRequest())
        expect(status).toBe(500)
        expect(sent.has('x-injected')).toBe(false)
        expect(body).not.toContain('Injected')
        const error = await errors.next()
        expect(error).toBeInstanceOf(UsageError)
        expect(error).toMatchObject({ code: 'ERR_HEADER_VALUE' })
        expect([opened.length, server.clients.size]).toEqual([0, 0])
      }
    }
  })
})

describe('the token', () => {
  const base64url = Buffer.from(TOKEN).toString('base64url')
  const encoded = encodeURIComponent(TOKEN)
  /** All the ways in which it could show up. */
  const traces = [TOKEN, encoded, new URLSearchParams({ t: TOKEN }).toString().slice(2), base64url, 'horse', 'Bearer']

  function expectNoTrace(seen: unknown): void {
    const shown = JSON.stringify(seen)
    for (const trace of traces) expect(shown).not.toContain(trace)
  }

  /** Whatever a handler can ask of a request. */
  function shown(request: HttpRequest): object {
    return {
      ...request,
      query: String(request.query),
      token: request.query.get('token'),
      headers: [...request.headers],
      authorization: request.headers.get('authorization') ?? null,
      offered: request.headers.get('sec-websocket-protocol') ?? null,
      all: request.headers.getAll('sec-websocket-protocol'),
      subprotocols: request.subprotocols,
      origin: request.origin,
      host: request.host,
    }
  }

  const ways: readonly [string, { target?: string; headers?: Record<string, string | readonly string[]> }][] = [
    ['in the query', { target: `/path?a=1&token=${encoded}&b=2` }],
    ['in the query, all of it percent-encoded', { target: `/path?token=${percentEncoded(TOKEN)}` }],
    ['in the header Authorization', { target: '/path', headers: { Authorization: `Bearer ${TOKEN}` } }],
    [
      'in the header Authorization, in another case',
      { target: '/path', headers: { AUTHORIZATION: `bEARER  ${TOKEN}` } },
    ],
    ['as a subprotocol', { target: '/path', headers: { 'Sec-WebSocket-Protocol': `chat, bearer.${base64url}` } }],
    [
      'as a subprotocol in a line of its own',
      { target: '/path', headers: { 'Sec-WebSocket-Protocol': [`bearer.${base64url}`, 'chat'] } },
    ],
    [
      'in all ways, with the address of the page',
      {
        target: `/path?token=${encoded}&token=${encoded}`,
        headers: {
          Authorization: `Bearer ${TOKEN}`,
          'Sec-WebSocket-Protocol': `bearer.${base64url}`,
          Referer: `http://localhost/?token=${encoded}`,
        },
      },
    ],
  ]

  it.each(ways)('lets in, is told as authenticated, and shows nowhere: %s', async (_, request) => {
    const seen: unknown[] = []
    const opened = new Queue<boolean>()
    const { port } = await startServer({
      token: TOKEN,
      subprotocols: ['chat', `bearer.${base64url}`],
      authorize: (request) => {
        seen.push(shown(request))
        return request.authenticated
      },
      open: (client, request) => {
        seen.push(shown(request), client.path, client.subprotocol)
        opened.push(request.authenticated)
      },
    })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest(request))
    const head = await client.readHead()
    expect(head.status).toBe(101)
    expect(await opened.next()).toBe(true)
    expectNoTrace([...seen, head.text, ...head.headers])
    expect(JSON.stringify(seen)).toContain('/path')
  })

  it('leaves the rest of the query as it was sent', async () => {
    const urls = new Queue<string[]>()
    const { port } = await startServer({
      token: TOKEN,
      open: (_, request) => urls.push([request.url, request.path, String(request.query)]),
    })
    await RawClient.open({ port, target: `/path?a=%41&token=${encoded}&b=2&tokens=3` })
    expect(await urls.next()).toEqual(['/path?a=%41&b=2&tokens=3', '/path', 'a=A&b=2&tokens=3'])
  })

  it('shows in no refusal and in no diagnostics, be it right or wrong', async () => {
    const seen: unknown[] = []
    const hear = (message: unknown): void => void seen.push(message)
    subscribe('fullduplex:refused', hear)
    onTestFinished(() => void unsubscribe('fullduplex:refused', hear))
    const errors = new Queue<Error>()
    const { port } = await startServer({
      token: TOKEN,
      origins: ['https://app.example'],
      path: '/path',
      refused: (refusal) => void seen.push(refusal),
      error: errors.push,
      authorize: () => {
        throw new Error('the authorize handler failed')
      },
    })
    const answers: unknown[] = []
    for (const [, request] of ways) {
      const headers = request.headers ?? {}
      // Refused by another rule: Origin; path; version; a failing handler.
      answers.push(
        await RawClient.ask({ port }, upgradeRequest({ ...request, headers: { ...headers, Origin: 'null' } })),
        await RawClient.ask({ port }, upgradeRequest({ ...request, target: `/other?token=${encoded}` })),
        await RawClient.ask(
          { port },
          upgradeRequest({ ...request, headers: { ...headers, 'Sec-WebSocket-Version': '7' } }),
        ),
        await RawClient.ask({ port }, upgradeRequest(request)),
        await RawClient.ask({ port }, plainRequest(request)),
      )
    }
    // A wrong one that is nearly right.
    answers.push(await RawClient.ask({ port }, upgradeRequest({ target: `/path?token=${encoded}x` })))
    const statuses = answers.map((answer) => (answer as { status: number }).status)
    expect(statuses).toEqual([...ways.flatMap(() => [403, 404, 426, 500, 426]), 401])
    // Each is told twice: to the handler, and on the channel.
    expect(seen).toHaveLength(2 * answers.length)
    expectNoTrace(seen.map((refusal) => ({ ...(refusal as Refusal) })))
    const told = answers.map((answer) => {
      const { text, headers, body } = answer as Awaited<ReturnType<typeof RawClient.ask>>
      // "WWW-Authenticate: Bearer", and the sentence that names the ways, are no trace of it.
      return [text, ...headers, body].join(' ').replaceAll('Bearer', '')
    })
    expectNoTrace(told)
    expectNoTrace((await errors.take(ways.length)).map((error) => `${error.message} ${error.stack}`))
  })
})

describe('request.authenticated', () => {
  it('is false where the server has no token, whatever is sent', async () => {
    const seen = new Queue<boolean>()
    const { port } = await startServer({ open: (_, request) => seen.push(request.authenticated) })
    await RawClient.open({ port, target: '/?token=anything' })
    expect(await seen.next()).toBe(false)
  })

  it('tells plain requests with the token from those without; a wrong token is refused there too', async () => {
    const { port } = await startServer({
      token: TOKEN,
      respond: (request) => ({ body: `${request.authenticated} ${request.url}` }),
    })
    const answers = []
    for (const query of ['', `?token=${encodeURIComponent(TOKEN)}`, '?token=guess']) {
      const { status, body } = await RawClient.ask({ port }, plainRequest({ target: `/page${query}` }))
      answers.push([status, body])
    }
    expect(answers.slice(0, 2)).toEqual([
      [200, 'false /page'],
      [200, 'true /page'],
    ])
    expect(answers[2]![0]).toBe(401)
  })
})

describe('a request', () => {
  it('tells handlers where it came from', async () => {
    const seen = new Queue<object>()
    const { port } = await startServer({
      open: (client, { method, url, path, host, origin, remoteAddress, remotePort, secure, headers }) =>
        seen.push({
          ...{ method, url, path, host, origin, remoteAddress, remotePort, secure },
          header: headers.get('X-Any-Case'),
          client: [client.path, client.remoteAddress],
        }),
    })
    const { socket } = await RawClient.open({
      port,
      target: '/socket?a=1',
      headers: { Host: 'localhost:1234', Origin: 'http://localhost:3000', 'x-any-case': '\t value ' },
    })
    expect(await seen.next()).toEqual({
      method: 'GET',
      url: '/socket?a=1',
      path: '/socket',
      host: 'localhost:1234',
      origin: 'http://localhost:3000',
      remoteAddress: '127.0.0.1',
      remotePort: socket.localPort,
      secure: false,
      header: 'value',
      client: ['/socket', '127.0.0.1'],
    })
  })
})

function percentEncoded(text: string): string {
  return [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
}

describe('a path that a function decides', () => {
  it('is asked of each request, and may change its mind; what it throws is a 500 for that one', async () => {
    const paths = new Set(['/a', '/b'])
    const errors = new Queue<Error>()
    const { port } = await startServer({
      path: (path) => {
        if (path === '/broken') throw new Error('out of order')
        return paths.has(path)
      },
      error: (error) => errors.push(error),
    })
    const statusOf = async (target: string): Promise<number> => {
      const raw = await RawClient.connect({ port })
      raw.send(upgradeRequest({ target }))
      const { status } = await raw.readHead()
      raw.socket.destroy()
      return status
    }
    expect([await statusOf('/a?x'), await statusOf('/b'), await statusOf('/c')]).toEqual([101, 101, 404])
    paths.delete('/a')
    expect([await statusOf('/a'), await statusOf('/broken'), await statusOf('/b')]).toEqual([404, 500, 101])
    expect(errors.all.map(({ message }) => message)).toEqual(['out of order'])
  })
})
