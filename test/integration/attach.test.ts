import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { type Refusal, WebSocketServer, type WebSocketServerOptions } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { acceptOf, closeOf, KEY, plainRequest, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import { certificate, closeBehindTest, firstClient, startHttpServer, until } from '../support/servers.ts'

const KINDS = ['http', 'https'] as const
type Kind = (typeof KINDS)[number]

const echo: WebSocketServerOptions = { message: (client, data) => void client.send(data) }

function newServer(options: WebSocketServerOptions = echo): WebSocketServer {
  const server = new WebSocketServer(options)
  closeBehindTest(server)
  return server
}

function caOf(kind: Kind): string | undefined {
  return kind === 'https' ? certificate.cert : undefined
}

async function expectEcho(client: RawClient, message = 'hello'): Promise<void> {
  client.send(text(message))
  expect(await client.readText()).toBe(message)
}

describe('a peer that ends TCP without a Close frame', () => {
  it.each(KINDS)('is gone at once on a node:%s server too', async (kind) => {
    const { httpServer, port } = await startHttpServer(kind)
    const events = new Queue<object>()
    // Not by the closing timeout.
    const server = newServer({ closeTimeoutMs: 60_000, close: (_, event) => events.push(event) })
    server.attach(httpServer)
    const client = await RawClient.open({ port, ca: caOf(kind) })
    client.end()
    expect(await events.next()).toEqual({ code: 1006, reason: '', wasClean: false })
    await client.ended()
  })
})

describe.each(KINDS)('attached to a node:%s server', (kind) => {
  const ca = caOf(kind)

  it('opens WebSockets, and leaves plain requests to it', async () => {
    const { httpServer, port } = await startHttpServer(kind)
    httpServer.on('request', (request, response) => response.setHeader('Connection', 'close').end(request.url))
    const requests = new Queue<object>()
    newServer({
      ...echo,
      respond: () => ({ body: 'not asked' }),
      open: (client, { url, remoteAddress, remotePort, secure }) =>
        requests.push({ url, remoteAddress, remotePort, secure, path: client.path, address: client.remoteAddress }),
    }).attach(httpServer)
    const client = await RawClient.open({ port, ca, target: '/socket?a=1' })
    expect(await requests.next()).toEqual({
      url: '/socket?a=1',
      remoteAddress: '127.0.0.1',
      remotePort: client.socket.localPort,
      secure: kind === 'https',
      path: '/socket',
      address: '127.0.0.1',
    })
    await expectEcho(client)
    expect((await RawClient.ask({ port, ca }, plainRequest({ target: '/page' }))).body).toBe('/page')
    const frames = await client.leave(1000, 'bye')
    expect(frames.map(closeOf)).toEqual([{ code: 1000, reason: '' }])
  })

  it.each<[string, WebSocketServerOptions]>([
    ['sync handlers', {}],
    ['an async authorize', { authorize: () => new Promise((resolve) => setTimeout(() => resolve(true), 10)) }],
    ['an async open', { open: () => new Promise((resolve) => setTimeout(resolve, 10)) }],
  ])('loses no frame that comes in the same packet as the request: %s', async (_, options) => {
    const { httpServer, port } = await startHttpServer(kind)
    newServer({ ...echo, ...options }).attach(httpServer)
    const client = await RawClient.connect({ port, ca })
    const messages = Array.from({ length: 50 }, (_, index) => `message ${index}`)
    const frames = Buffer.concat(messages.map(text))
    client.send(upgradeRequest(), frames.subarray(0, -3))
    const { status, headers } = await client.readHead()
    expect([status, headers.get('sec-websocket-accept')]).toEqual([101, acceptOf(KEY)])
    client.send(frames.subarray(-3))
    for (const message of messages) expect(await client.readText()).toBe(message)
  })

  it('opens one behind plain requests on the same connection', async () => {
    const { httpServer, port } = await startHttpServer(kind)
    httpServer.on('request', (_, response) => response.end('page'))
    newServer().attach(httpServer)
    const client = await RawClient.connect({ port, ca })
    client.send(plainRequest())
    const { headers } = await client.readHead()
    expect(headers.get('content-length')).toBe('4')
    expect((await client.read(4)).toString()).toBe('page')
    client.send(upgradeRequest(), text('hello'))
    expect((await client.readHead()).status).toBe(101)
    expect(await client.readText()).toBe('hello')
  })

  it('refuses as on a port of its own, and tells so', async () => {
    const { httpServer, port } = await startHttpServer(kind)
    const refusals = new Queue<Refusal>()
    newServer({ token: 'token', subprotocols: ['chat'], refused: refusals.push }).attach(httpServer)
    const cases: readonly [string, number][] = [
      [upgradeRequest(), 401],
      [upgradeRequest({ target: '/?token=wrong' }), 401],
      [upgradeRequest({ target: '/?token=token', headers: { 'Sec-WebSocket-Version': '8' } }), 426],
      [upgradeRequest({ target: '/?token=token', headers: { 'Sec-WebSocket-Key': undefined } }), 400],
      [upgradeRequest({ target: '/?token=token', headers: { 'Sec-WebSocket-Protocol': 'a, a' } }), 400],
      [upgradeRequest({ target: '/?token=token', method: 'POST' }), 405],
      [upgradeRequest({ target: '/?token=token', headers: { Upgrade: 'h2c' } }), 426],
    ]
    for (const [request, status] of cases) {
      const answer = await RawClient.ask({ port, ca }, request)
      expect(answer.status).toBe(status)
      expect(answer.body).toMatch(/^[^\r\n]+\n$/)
      expect((await refusals.next()).status).toBe(status)
    }
    const client = await RawClient.connect({ port, ca })
    const headers = {
      'Sec-WebSocket-Protocol': [`bearer.${Buffer.from('token').toString('base64url')}`, 'chat'],
    }
    client.send(upgradeRequest({ headers }))
    const head = await client.readHead()
    expect([head.status, head.headers.get('sec-websocket-protocol')]).toEqual([101, 'chat'])
  })

  it('carries large messages both ways', async () => {
    const { httpServer, port } = await startHttpServer(kind)
    newServer({ ...echo, maxMessageBytes: 4_000_000 }).attach(httpServer)
    const client = await RawClient.open({ port, ca })
    const message = 'large '.repeat(500_000)
    await expectEcho(client, message)
  })

  it('close() detaches: clients get 1001, and the http server goes on', async () => {
    const { httpServer, port } = await startHttpServer(kind)
    httpServer.on('request', (_, response) => response.setHeader('Connection', 'close').end('page'))
    const server = newServer()
    server.attach(httpServer)
    const client = await RawClient.open({ port, ca })
    const closing = server.close({ reason: 'restart' })
    expect(closeOf(await client.readFrame())).toEqual({ code: 1001, reason: 'restart' })
    // Meanwhile newcomers are told to come back.
    const { status, headers } = await RawClient.ask({ port, ca }, upgradeRequest())
    expect([status, headers.has('retry-after')]).toEqual([503, true])
    await client.leave(1001)
    await closing
    expect(httpServer.listenerCount('upgrade')).toBe(0)
    expect((await RawClient.ask({ port, ca }, plainRequest())).body).toBe('page')
    // And another one may take its place.
    newServer().attach(httpServer)
    await expectEcho(await RawClient.open({ port, ca }))
  })
})

describe('several on one http server', () => {
  /** A WebSocket server of somebody else, as far as it takes to be recognised. */
  function attachForeign(httpServer: Awaited<ReturnType<typeof startHttpServer>>['httpServer'], path: string): void {
    httpServer.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
      if (request.url === path) socket.end('HTTP/1.1 101 Switching Protocols\r\nX-Owner: somebody else\r\n\r\n')
    })
  }

  it('get what belongs to their paths, and each its own clients', async () => {
    const { httpServer, port } = await startHttpServer()
    const [a, b] = ['a', 'b'].map((name) =>
      newServer({ message: (client, data) => void client.send(`${name}${client.path}: ${data}`) }),
    ) as [WebSocketServer, WebSocketServer]
    a.attach(httpServer, { path: '/a' })
    b.attach(httpServer, { path: '/b' })
    // One server may have several.
    a.attach(httpServer, { path: '/a/more' })
    for (const [target, expected] of [
      ['/a', 'a/a: hello'],
      ['/b?c=d', 'b/b: hello'],
      ['/a/more', 'a/a/more: hello'],
    ] as const) {
      const client = await RawClient.open({ port, target })
      client.send(text('hello'))
      expect(await client.readText()).toBe(expected)
    }
    expect([a.clients.size, b.clients.size]).toEqual([2, 1])
    // One listener for all of them: ten are no leak that node would warn of.
    expect(httpServer.listenerCount('upgrade')).toBe(1)
  })

  it('leave other paths to a listener of somebody else, wherever it stands', async () => {
    const { httpServer, port } = await startHttpServer()
    attachForeign(httpServer, '/before')
    newServer().attach(httpServer, { path: '/ours' })
    attachForeign(httpServer, '/behind')
    for (const target of ['/before', '/behind']) {
      const { status, headers } = await RawClient.ask({ port }, upgradeRequest({ target }))
      expect([status, headers.get('x-owner')]).toEqual([101, 'somebody else'])
    }
    await expectEcho(await RawClient.open({ port, target: '/ours' }))
  })

  it('do not answer for somebody else either: what nobody wants is not theirs to refuse', async () => {
    const { httpServer, port } = await startHttpServer()
    newServer().attach(httpServer, { path: '/ours' })
    const unwanted = new Queue<Duplex>()
    httpServer.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
      if (request.url === '/nobody') unwanted.push(socket)
    })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest({ target: '/nobody' }))
    const socket = await unwanted.next()
    expect([socket.destroyed, socket.writableEnded]).toEqual([false, false])
    socket.end('HTTP/1.1 410 Gone\r\n\r\n')
    expect((await client.readAnswer()).status).toBe(410)
  })

  it('refuse with 404 what nobody owns when nobody else is there', async () => {
    const { httpServer, port } = await startHttpServer()
    newServer().attach(httpServer, { path: '/a' })
    newServer({ ...echo, path: '/b' }).attach(httpServer)
    for (const target of ['/', '/c', '/a/', '/A', '/b/c']) {
      const { status, body } = await RawClient.ask({ port }, upgradeRequest({ target }))
      expect(status).toBe(404)
      expect(body).toMatch(/^[^\r\n]+\n$/)
    }
    await expectEcho(await RawClient.open({ port, target: '/b' }))
  })

  it('tell operators of that refusal like of any other, and cut a peer that does not go', async () => {
    const { httpServer, port } = await startHttpServer()
    const refusals = new Queue<Refusal>()
    newServer({ refused: refusals.push, closeTimeoutMs: 50 }).attach(httpServer, { path: '/a' })
    const closed = new Queue<unknown>()
    httpServer.on('connection', (socket) => socket.on('close', closed.push))
    const headers = { Origin: 'https://app.example' }
    const { status } = await RawClient.ask({ port }, upgradeRequest({ target: '/b?c=d', headers }))
    expect(status).toBe(404)
    expect(await refusals.next()).toMatchObject({
      status: 404,
      reason: 'ERR_PATH',
      remoteAddress: '127.0.0.1',
      origin: 'https://app.example',
      path: '/b',
    })
    await closed.next()
  })

  it('count a socket under the address that it came with, whatever it says later', async () => {
    const { httpServer, port } = await startHttpServer()
    const server = newServer({ maxConnectionsPerAddress: 1 })
    server.attach(httpServer)
    let upgrades = 0
    httpServer.on('upgrade', (_request, socket: Duplex) => {
      Object.defineProperty(socket, 'remoteAddress', { value: `10.0.0.${++upgrades}` })
    })
    for (let round = 0; round < 3; round++) {
      const client = await RawClient.open({ port })
      expect((await firstClient(server)).remoteAddress).toBe('127.0.0.1')
      client.socket.destroy()
      await until(() => server.clients.size === 0)
    }
    expect(upgrades).toBe(3)
  })

  it('take everything when they have no path', async () => {
    const { httpServer, port } = await startHttpServer()
    newServer().attach(httpServer)
    await expectEcho(await RawClient.open({ port, target: '/anywhere' }))
  })

  it('take the path that attach is given before that of the options', async () => {
    const { httpServer, port } = await startHttpServer()
    newServer({ ...echo, path: '/option' }).attach(httpServer, { path: '/attached' })
    await expectEcho(await RawClient.open({ port, target: '/attached' }))
    expect((await RawClient.ask({ port }, upgradeRequest({ target: '/option' }))).status).toBe(404)
  })
})

describe('detaching', () => {
  it('takes away one owner and leaves the others, and the clients that are in', async () => {
    const { httpServer, port } = await startHttpServer()
    const server = newServer()
    const detach = server.attach(httpServer, { path: '/a' })
    server.attach(httpServer, { path: '/b' })
    const client = await RawClient.open({ port, target: '/a' })
    detach()
    detach()
    expect((await RawClient.ask({ port }, upgradeRequest({ target: '/a' }))).status).toBe(404)
    await expectEcho(client)
    await expectEcho(await RawClient.open({ port, target: '/b' }))
    expect(httpServer.listenerCount('upgrade')).toBe(1)
  })

  it('leaves nothing behind: without owners, node:http answers upgrade requests as plain ones', async () => {
    const { httpServer, port } = await startHttpServer()
    httpServer.on('request', (_, response) => response.setHeader('Connection', 'close').end('page'))
    const before = httpServer.eventNames().map((name) => [name, httpServer.listenerCount(name)])
    newServer().attach(httpServer)()
    expect(httpServer.eventNames().map((name) => [name, httpServer.listenerCount(name)])).toEqual(before)
    expect((await RawClient.ask({ port }, upgradeRequest())).body).toBe('page')
  })

  it('and attaching again is possible until the server was closed', async () => {
    const { httpServer, port } = await startHttpServer()
    const server = newServer()
    server.attach(httpServer)()
    server.attach(httpServer)
    await expectEcho(await RawClient.open({ port }))
    await server.close({ timeoutMs: 0 })
    expect(() => server.attach(httpServer)).toThrow(expect.objectContaining({ code: 'ERR_SERVER_STATE' }))
  })
})

it('a server may listen and be attached, to several http servers even', async () => {
  const server = newServer()
  const { port } = await server.listen()
  const others = [await startHttpServer('http'), await startHttpServer('https')] as const
  for (const { httpServer } of others) server.attach(httpServer)
  const clients = [
    await RawClient.open({ port }),
    await RawClient.open({ port: others[0].port }),
    await RawClient.open({ port: others[1].port, ca: certificate.cert }),
  ]
  expect(server.broadcast('to all')).toEqual({ sent: 3, dropped: 0 })
  for (const client of clients) expect(await client.readText()).toBe('to all')
  const closing = server.close()
  for (const client of clients) {
    expect(closeOf(await client.readFrame()).code).toBe(1001)
    await client.leave(1001)
  }
  await closing
})

it("the http server's own timeouts end with the request", async () => {
  const { httpServer, port } = await startHttpServer()
  Object.assign(httpServer, { timeout: 40, keepAliveTimeout: 40, headersTimeout: 40, requestTimeout: 40 })
  newServer({ ...echo, pingIntervalMs: 0 }).attach(httpServer)
  const client = await RawClient.open({ port })
  await new Promise((resolve) => setTimeout(resolve, 200))
  await expectEcho(client)
})

it('closing the http server leaves the clients that are in alone', async () => {
  const { httpServer, port } = await startHttpServer()
  const server = newServer()
  server.attach(httpServer)
  const client = await RawClient.open({ port })
  const closed = once(httpServer, 'close')
  httpServer.close()
  httpServer.closeAllConnections()
  await expectEcho(client)
  ;(await firstClient(server)).terminate()
  await client.ended()
  await closed
})
