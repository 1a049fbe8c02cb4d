import { describe, expect, it } from 'vitest'
import type { HttpAnswer, HttpRequest, Refusal, WebSocketServerOptions } from '../../src/index.ts'
import { defer, Queue } from '../support/queue.ts'
import { plainRequest, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import { certificate, startServer } from '../support/servers.ts'

type Respond = NonNullable<WebSocketServerOptions['respond']>

it('answers a peer that has half-closed behind its request, also when the answer takes a while', async () => {
  const { port } = await startServer({
    respond: async () => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      return { body: 'hello' }
    },
  })
  const client = await RawClient.connect({ port })
  client.send(plainRequest())
  client.end()
  const { status, body } = await client.readAnswer()
  expect([status, body]).toEqual([200, 'hello'])
})

it('refuses a HEAD request without a body', async () => {
  const { port } = await startServer()
  const client = await RawClient.connect({ port })
  client.send(plainRequest({ method: 'HEAD' }))
  const { status, body } = await client.readAnswer()
  expect([status, body]).toEqual([426, ''])
})

describe('respond', () => {
  const page = '<!doctype html><title>Grüße</title>'

  it.each<[string, (answer: HttpAnswer | undefined) => ReturnType<Respond>]>([
    ['at once', (answer) => answer],
    ['async', async (answer) => answer],
    ['later', (answer) => new Promise((resolve) => setTimeout(() => resolve(answer), 10))],
  ])('answers GET and HEAD %s; undefined is 404', async (_, give) => {
    const seen = new Queue<string>()
    const { port } = await startServer({
      respond: (request) => {
        seen.push(`${request.method} ${request.url}`)
        if (request.path !== '/page') return give(undefined)
        return give({ body: page, headers: { 'Content-Type': 'text/html; charset=utf-8', 'X-Mine': 'yes' } })
      },
    })
    const expected = {
      connection: 'close',
      'content-type': 'text/html; charset=utf-8',
      'content-length': String(Buffer.byteLength(page)),
      'x-mine': 'yes',
    }
    for (const method of ['GET', 'HEAD']) {
      const { text, headers, body } = await RawClient.ask({ port }, plainRequest({ method, target: '/page?a=1' }))
      expect(text).toBe('HTTP/1.1 200 OK')
      expect(Object.fromEntries(headers)).toEqual(expected)
      expect(body).toBe(method === 'GET' ? page : '')
    }
    const missing = await RawClient.ask({ port }, plainRequest({ target: '/other' }))
    expect(missing.status).toBe(404)
    expect(missing.body).toMatch(/^[^\r\n]+\n$/)
    expect(seen.all).toEqual(['GET /page?a=1', 'HEAD /page?a=1', 'GET /other'])
  })

  it('answers beside WebSockets on the same port', async () => {
    const { port } = await startServer({
      respond: () => ({ body: 'page' }),
      message: (client, data) => void client.send(data),
    })
    const client = await RawClient.open({ port })
    expect((await RawClient.ask({ port }, plainRequest())).body).toBe('page')
    client.send(text('hello'))
    expect(await client.readText()).toBe('hello')
  })

  it.each<[string, HttpAnswer, number, string]>([
    ['an empty answer', {}, 200, ''],
    ['bytes', { body: Buffer.from('bytes') }, 200, 'bytes'],
    ['a status of its own', { status: 418, body: 'teapot' }, 418, 'teapot'],
    ['no content', { status: 204 }, 204, ''],
    ['a redirection', { status: 302, headers: { Location: '/elsewhere' } }, 302, ''],
    // Its length is ours to tell: one that is wrong would cut the answer, or smuggle.
    [
      'a wrong length',
      { body: 'hello', headers: { 'content-LENGTH': '2', 'transfer-encoding': 'chunked' } },
      200,
      'hello',
    ],
  ])('answers with %s', async (_, answer, status, body) => {
    const { port } = await startServer({ respond: () => answer })
    const { status: received, body: bytes, headers } = await RawClient.ask({ port }, plainRequest())
    expect([received, bytes]).toEqual([status, body])
    expect(headers.get('content-length')).toBe(status === 204 ? undefined : String(body.length))
    expect(headers.has('transfer-encoding')).toBe(false)
    if (status === 302) expect(headers.get('location')).toBe('/elsewhere')
  })

  it('answers with many bytes, whole, also over TLS and to a peer that reads late', async () => {
    const body = Buffer.alloc(12_000_000, 'all of it ')
    for (const tls of [undefined, certificate]) {
      const { port } = await startServer({ tls, respond: () => ({ body }) })
      const client = await RawClient.connect({ port, ca: tls?.cert })
      client.stopReading()
      client.send(plainRequest())
      // By then the first answer is on its way.
      const other = await RawClient.connect({ port, ca: tls?.cert })
      other.send(plainRequest({ method: 'HEAD' }))
      await other.readAnswer()
      client.startReading()
      expect((await client.readHead()).status).toBe(200)
      expect((await client.readToEnd()).equals(body)).toBe(true)
    }
  })

  it.each<[string, Respond]>([
    [
      'throws',
      () => {
        throw new Error('secret detail')
      },
    ],
    ['rejects', () => Promise.reject(new Error('secret detail'))],
  ])('is answered with 500 when it %s, and told to the error handler', async (_, respond) => {
    const errors = new Queue<Error>()
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({ respond, error: errors.push, refused: refusals.push })
    const { status, body } = await RawClient.ask({ port }, plainRequest({ target: '/page' }))
    expect(status).toBe(500)
    expect(body).toMatch(/^[^\r\n]+\n$/)
    expect(body).not.toContain('secret detail')
    expect((await errors.next()).message).toBe('secret detail')
    expect(await refusals.next()).toMatchObject({ status: 500, reason: 'ERR_RESPOND_FAILED', path: '/page' })
  })

  it.each<[string, HttpAnswer]>([
    ['CR and LF in a header', { headers: { 'X-Mine': 'a\r\nX-Injected: yes' } }],
    ['NUL in a header', { headers: { 'X-Mine': '\u0000' } }],
    ['CR and LF in the name of a header', { headers: { 'X-Injected: yes\r\nX': 'y' } }],
    ['a status that is none', { status: 42 }],
    ['status 101', { status: 101 }],
  ])('is answered with 500 for %s', async (_, answer) => {
    for (const respond of [() => answer, () => Promise.resolve(answer)]) {
      const errors = new Queue<Error>()
      const { port } = await startServer({ respond, error: errors.push })
      const { status, headers } = await RawClient.ask({ port }, plainRequest())
      expect([status, headers.has('x-injected')]).toEqual([500, false])
      expect(await errors.next()).toMatchObject({ name: 'UsageError', code: 'ERR_HEADER_VALUE' })
    }
  })

  it('does not see requests for a WebSocket, nor those that no request may be', async () => {
    const seen: HttpRequest[] = []
    const { port } = await startServer({
      path: '/socket',
      respond: (request) => {
        seen.push(request)
        return { body: 'page' }
      },
    })
    const statuses = []
    for (const request of [
      upgradeRequest({ target: '/elsewhere' }),
      plainRequest({ method: 'POST' }),
      plainRequest({ method: 'OPTIONS' }),
      plainRequest({ headers: { 'Content-Length': '1' } }),
      plainRequest({ headers: { Host: undefined } }),
    ]) {
      statuses.push((await RawClient.ask({ port }, request)).status)
    }
    expect(statuses).toEqual([404, 405, 405, 413, 400])
    expect(seen).toEqual([])
    // The option `path` is for WebSockets; plain requests choose for themselves.
    expect((await RawClient.ask({ port }, plainRequest({ target: '/elsewhere' }))).body).toBe('page')
  })

  it('answers HTTP/1.0, with and without Host', async () => {
    const { port } = await startServer({
      respond: (request) => ({ body: String(request.host) }),
      authorize: () => true,
    })
    const version = 'HTTP/1.0'
    expect((await RawClient.ask({ port }, plainRequest({ version }))).body).toBe('localhost')
    expect((await RawClient.ask({ port }, plainRequest({ version, headers: { Host: undefined } }))).body).toBe(
      'undefined',
    )
  })

  it('is told to the peer once: what comes behind the request is not a second one', async () => {
    const seen = new Queue<string>()
    const { port } = await startServer({
      respond: (request) => {
        seen.push(request.path)
        return { body: request.path }
      },
    })
    const { body } = await RawClient.ask(
      { port },
      plainRequest({ target: '/first' }),
      plainRequest({ target: '/second' }),
    )
    expect(body).toBe('/first')
    expect(seen.all).toEqual(['/first'])
  })

  it('may take its time, but not more than the handshake', async () => {
    const answer = defer<HttpAnswer>()
    const { port } = await startServer({ handshakeTimeoutMs: 50, respond: () => answer.promise })
    expect((await RawClient.ask({ port }, plainRequest())).status).toBe(408)
    answer.resolve({ body: 'late' })
  })

  it('does not wait for a peer that never reads its answer', async () => {
    const { server, port } = await startServer({
      closeTimeoutMs: 50,
      respond: () => ({ body: Buffer.alloc(64_000_000) }),
    })
    const client = await RawClient.connect({ port, paused: true })
    client.send(plainRequest())
    await RawClient.ask({ port }, plainRequest({ method: 'HEAD' }))
    await server.close()
  })
})

describe('a request that asks for another upgrade', () => {
  it.each([
    [
      'Upgrade: h2c',
      { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAoAAAAAIAAAAA' },
    ],
    ['Upgrade: TLS/1.0', { Connection: 'Upgrade', Upgrade: 'TLS/1.0' }],
    ['Upgrade: websocketed', { Connection: 'Upgrade', Upgrade: 'websocketed' }],
  ])('is answered as a plain one: %s', async (_, headers) => {
    const withPage = await startServer({ respond: () => ({ body: 'page' }) })
    const { status, body } = await RawClient.ask(withPage, plainRequest({ headers }))
    expect([status, body]).toEqual([200, 'page'])
    const without = await startServer()
    expect((await RawClient.ask(without, plainRequest({ headers }))).status).toBe(426)
  })
})

describe('the rule on Host', () => {
  const hosts: readonly [string, number][] = [
    ['localhost', 200],
    ['LOCALHOST:8080', 200],
    ['127.0.0.1', 200],
    ['127.1.2.3:80', 200],
    ['[::1]:8080', 200],
    ['rebound.example', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['user@localhost', 403],
    ['localhost/../evil.example', 403],
    ['0.0.0.0', 403],
    ['', 403],
  ]

  it.each(hosts)('holds for plain requests too: %s gives %d', async (Host, status) => {
    const { port } = await startServer({ respond: () => ({ body: 'page' }) })
    expect((await RawClient.ask({ port }, plainRequest({ headers: { Host } }))).status).toBe(status)
  })

  it('lets listed names in', async () => {
    const { port } = await startServer({ hosts: ['app.example'], token: 'token', respond: () => ({ body: 'page' }) })
    const statuses = []
    for (const Host of ['app.example', 'app.example:1234', 'localhost', 'rebound.example']) {
      statuses.push((await RawClient.ask({ port }, plainRequest({ headers: { Host } }))).status)
    }
    expect(statuses).toEqual([200, 200, 200, 403])
  })

  it('does not bind where a token or an authorize handler decides', async () => {
    for (const options of [{ token: 'token' }, { authorize: () => true }]) {
      const { port } = await startServer({ ...options, respond: () => ({ body: 'page' }) })
      const { status } = await RawClient.ask({ port }, plainRequest({ headers: { Host: 'app.example' } }))
      expect(status).toBe(200)
    }
  })

  it('does not ask where a plain request comes from: a page may be linked to', async () => {
    const { port } = await startServer({ respond: () => ({ body: 'page' }) })
    const headers = { Origin: 'https://elsewhere.example', Referer: 'https://elsewhere.example/' }
    expect((await RawClient.ask({ port }, plainRequest({ headers }))).status).toBe(200)
  })
})
