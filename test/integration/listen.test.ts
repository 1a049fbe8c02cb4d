import { describe, expect, it } from 'vitest'
import {
  connect,
  type HttpRequest,
  type Refusal,
  UsageError,
  type WebSocketConnection,
  WebSocketError,
  WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { freePorts, holdPort, releasePort, whyNotListen } from '../support/ports.ts'
import { Queue } from '../support/queue.ts'
import { RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import { certificate, closeBehindTest, firstClient, portOf, startServer, until } from '../support/servers.ts'

const hasIPv6 = (await whyNotListen(0, '::1')) === undefined

const echo: WebSocketServerOptions = { message: (client, data) => void client.send(data) }

describe('listen', () => {
  it.runIf(hasIPv6)('listens on both loopback addresses, on one port', async () => {
    const server = new WebSocketServer(echo)
    closeBehindTest(server)
    expect(server.port).toBeNull()
    const { port, addresses } = await server.listen()
    expect(addresses).toEqual(['127.0.0.1', '::1'])
    expect(port).toBeGreaterThan(0)
    expect(server.port).toBe(port)
    for (const host of addresses) {
      const client = await RawClient.open({ port, host })
      client.send(text(host))
      expect(await client.readText()).toBe(host)
    }
    expect([...server.clients.values()].map((client) => client.remoteAddress)).toEqual(['127.0.0.1', '::1'])
  })

  it.each([
    { host: '127.0.0.1', localAddress: '127.0.0.5', late: '127.0.0.1' },
    ...(hasIPv6 ? [{ host: '::1', localAddress: '::1', late: '::1' }] : []),
  ])(
    'knows the address and port of who comes from $localAddress, also behind the end if it was asked in time',
    async ({ host, localAddress, late }) => {
      const opened = new Queue<{ client: WebSocketConnection; request: HttpRequest }>()
      const ended = new Queue<WebSocketConnection>()
      const { port } = await startServer({
        open: (client, request) => opened.push({ client, request }),
        close: (client) => ended.push(client),
      })
      for (const isAsked of [true, false]) {
        const raw = await RawClient.open({ port, host, localAddress })
        const { localPort } = raw.socket
        const { client, request } = await opened.next()
        if (isAsked) {
          expect([client.remoteAddress, request.remoteAddress]).toEqual([localAddress, localAddress])
          expect(request.remotePort).toBe(localPort)
        }
        raw.socket.resetAndDestroy()
        expect((await ended.next()).remoteAddress).toBe(isAsked ? localAddress : late)
        expect([request.remoteAddress, request.remotePort]).toEqual(
          isAsked ? [localAddress, localPort] : [late, undefined],
        )
      }
    },
  )

  it.each(['127.0.0.1', '127.0.0.2', ...(hasIPv6 ? ['::1'] : [])])('listens on %s alone when told so', async (host) => {
    const server = new WebSocketServer({ ...echo, host })
    closeBehindTest(server)
    const { port, addresses } = await server.listen()
    expect(addresses).toEqual([host])
    await RawClient.open({ port, host })
  })

  it('listens on localhost when told so', async () => {
    const { url } = await startServer({ ...echo, host: 'localhost' })
    const connection = await connect(url.replace('127.0.0.1', 'localhost'))
    connection.terminate()
  })

  it.each<[string, WebSocketServerOptions]>([
    ['a token', { token: 'token' }],
    ['an authorize handler', { authorize: () => true }],
  ])('listens on all addresses when told so with %s', async (_, options) => {
    const server = new WebSocketServer({ ...options, host: '0.0.0.0' })
    closeBehindTest(server)
    const { port, addresses } = await server.listen()
    expect(addresses).toEqual(['0.0.0.0'])
    await RawClient.open({ port, target: '/?token=token' })
  })

  it.runIf(hasIPv6)('tells IPv4 addresses as such where they come in over IPv6', async () => {
    const { port, server } = await startServer({ host: '::', token: 'token' })
    await RawClient.open({ port, target: '/?token=token' })
    expect((await firstClient(server)).remoteAddress).toBe('127.0.0.1')
  })

  it.each(['0.0.0.0', '::', '', '192.168.1.1', 'example.com', '127.0.0.1.evil.example', '::ffff:10.0.0.1'])(
    'does not let anybody reach it unasked: host %j without token and authorize is a UsageError',
    (host) => {
      expect(() => new WebSocketServer({ host })).toThrow(UsageError)
      expect(() => new WebSocketServer({ host })).toThrow(/token.*authorize/)
    },
  )

  it('rejects with what the system says when the host is not of this machine', async () => {
    const server = new WebSocketServer({ host: '192.0.2.1', token: 'token' })
    await expect(server.listen()).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' })
    expect(server.port).toBeNull()
  })

  it('may be called once at a time, and not behind close', async () => {
    const server = new WebSocketServer()
    closeBehindTest(server)
    const first = server.listen()
    await expect(server.listen()).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' })
    await first
    await expect(server.listen()).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' })
    await server.close()
    await expect(server.listen()).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' })
  })

  it('may be tried again when it has failed', async () => {
    const [port] = (await freePorts(1)) as [number]
    const holder = await holdPort(port, '127.0.0.1')
    const server = new WebSocketServer({ port })
    closeBehindTest(server)
    await expect(server.listen()).rejects.toMatchObject({ code: 'ERR_PORTS_TAKEN' })
    await releasePort(holder)
    expect((await server.listen()).port).toBe(port)
  })

  it('rejects when the server is closed meanwhile, and keeps no port', async () => {
    const [port] = (await freePorts(1)) as [number]
    const server = new WebSocketServer({ port })
    const listening = server.listen()
    await server.close()
    await expect(listening).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' })
    await holdPort(port, '127.0.0.1')
  })
})

describe('possiblePorts', () => {
  it('gives the first that is free, in their order', async () => {
    const [taken, second, third] = (await freePorts(3)) as [number, number, number]
    await holdPort(taken, '127.0.0.1')
    const { port } = await startServer({ possiblePorts: [taken, third, second] })
    expect(port).toBe(third)
    const next = await startServer({ possiblePorts: [taken, third, second] })
    expect(next.port).toBe(second)
  })

  it.runIf(hasIPv6)('passes over a port of which somebody else holds ::1 alone', async () => {
    const [halfTaken, free] = (await freePorts(2)) as [number, number]
    await holdPort(halfTaken, '::1')
    const { port } = await startServer({ possiblePorts: [halfTaken, free] })
    expect(port).toBe(free)
    // And has let go of its other half.
    await holdPort(halfTaken, '127.0.0.1')
  })

  it('may end with any free port', async () => {
    const [taken] = (await freePorts(1)) as [number]
    await holdPort(taken, '127.0.0.1')
    const { port } = await startServer({ possiblePorts: [taken, 0] })
    expect(port).toBeGreaterThan(0)
    expect(port).not.toBe(taken)
  })

  it('rejects with ERR_PORTS_TAKEN and its cause when none is free', async () => {
    const ports = await freePorts(2)
    for (const port of ports) await holdPort(port, '127.0.0.1')
    const error = await new WebSocketServer({ possiblePorts: ports }).listen().catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(WebSocketError)
    expect(error).toMatchObject({ code: 'ERR_PORTS_TAKEN', cause: { code: 'EADDRINUSE' } })
    for (const port of ports) expect((error as Error).message).toContain(String(port))
  })

  it.runIf(hasIPv6)('rejects also for a single port of which somebody else holds ::1', async () => {
    const holder = await holdPort(0, '::1')
    const server = new WebSocketServer({ port: portOf(holder) })
    await expect(server.listen()).rejects.toMatchObject({ code: 'ERR_PORTS_TAKEN', cause: { code: 'EADDRINUSE' } })
  })
})

describe('options', () => {
  it.each([
    ['maxMesageBytes', 'maxMessageBytes'],
    ['maxmessagebytes', 'maxMessageBytes'],
    ['tokens', 'token'],
    ['onmessage', 'message'],
    ['orgins', 'origins'],
    ['possiblePort', 'possiblePorts'],
    ['autorize', 'authorize'],
    ['pingInterval', 'pingIntervalMs'],
  ])('that are unknown are a UsageError that names the nearest: %s, %s', (unknown, nearest) => {
    const make = (): unknown => new WebSocketServer({ [unknown]: undefined } as WebSocketServerOptions)
    expect(make).toThrow(UsageError)
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_OPTION_UNKNOWN' }))
    expect(make).toThrow(new RegExp(`${unknown}.*\\b${nearest}\\b`))
  })

  it('that are unknown and like none are told without a guess', () => {
    const options = { perMessageCompressionWindowBits: 15 } as WebSocketServerOptions
    expect(() => new WebSocketServer(options)).toThrow(/there is no option perMessageCompressionWindowBits$/)
  })

  it.each<[string, unknown[]]>([
    ['port', [-1, 65_536, 1.5, Number.NaN, '80', null]],
    ['possiblePorts', [[], [-1], [65_536], ['80'], 80, 'all', [80, undefined]]],
    ['maxMessageBytes', [0, -1, 1.5, Number.NaN, '1', null]],
    ['maxConnections', [0, -1, '1']],
    ['maxConnectionsPerAddress', [0]],
    ['handshakeTimeoutMs', [0, -1, Number.POSITIVE_INFINITY, 2 ** 31]],
    ['pingIntervalMs', [-1, Number.POSITIVE_INFINITY]],
    ['slowConsumer', ['wait', 1, null]],
    ['token', ['', 1, null]],
    ['origins', [['app.example'], ['https://*'], ['https://a*.example'], ['https://app.example/path']]],
    ['hosts', [['http://app.example'], ['app.example/'], ['']]],
  ])('that cannot be are a UsageError: %s', (name, values) => {
    for (const value of values) {
      expect(() => new WebSocketServer({ [name]: value } as WebSocketServerOptions), String(value)).toThrow(
        expect.objectContaining({ name: 'UsageError', code: 'ERR_OPTION' }),
      )
    }
  })

  it('that are undefined are not set', async () => {
    const undefinedOnes = { port: undefined, possiblePorts: undefined, host: undefined, token: undefined }
    const { port } = await startServer({ ...undefinedOnes, maxMessageBytes: undefined, message: undefined as never })
    await RawClient.open({ port })
  })

  it('port and possiblePorts exclude each other', () => {
    expect(() => new WebSocketServer({ port: 0, possiblePorts: [0] })).toThrow(/either port or possiblePorts/)
  })

  it('of connect and close are checked too', async () => {
    await expect(connect('ws://127.0.0.1:1', { header: {} } as never)).rejects.toThrow(/header.*\bheaders\b/)
    const { server } = await startServer()
    await expect(server.close({ timeout: 1 } as never)).rejects.toThrow(/timeout.*\btimeoutMs\b/)
    await expect(server.close({ timeoutMs: -1 })).rejects.toBeInstanceOf(UsageError)
  })
})

describe.each([
  ['ws', undefined],
  ['wss', certificate],
] as const)('limits on connections over %s', (_, tls) => {
  const ca = tls?.cert

  /** Opens a WebSocket as soon as there is room for it. */
  async function openSoon(port: number, status: number): Promise<RawClient> {
    for (;;) {
      const client = await RawClient.connect({ port, ca })
      client.send(upgradeRequest())
      const head = await client.readHead()
      if (head.status === 101) return client
      expect(head.status).toBe(status)
      client.end()
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  it('maxConnections: beyond it 503 with Retry-After, until somebody leaves', async () => {
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({ ...echo, tls, maxConnections: 2, refused: refusals.push })
    const first = await RawClient.open({ port, ca })
    await RawClient.open({ port, ca })
    const refused = await RawClient.connect({ port, ca })
    const { status, headers, body } = await refused.readAnswer()
    refused.end()
    expect(status).toBe(503)
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    expect(body).toMatch(/^[^\r\n]+\n$/)
    expect(await refusals.next()).toMatchObject({ reason: 'ERR_TOO_MANY_CONNECTIONS', remoteAddress: '127.0.0.1' })
    await first.leave()
    const next = await openSoon(port, 503)
    next.send(text('in'))
    expect(await next.readText()).toBe('in')
  })

  it('maxConnectionsPerAddress: beyond it 429 with Retry-After, for that address', async () => {
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({ ...echo, tls, maxConnectionsPerAddress: 2, refused: refusals.push })
    const first = await RawClient.open({ port, ca })
    await RawClient.open({ port, ca })
    const refused = await RawClient.connect({ port, ca })
    const { status, headers, body } = await refused.readAnswer()
    refused.end()
    expect(status).toBe(429)
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    expect(body).toMatch(/^[^\r\n]+\n$/)
    expect((await refusals.next()).reason).toBe('ERR_TOO_MANY_CONNECTIONS_OF_ADDRESS')
    if (hasIPv6) await RawClient.open({ port, ca, host: '::1' })
    first.reset()
    const next = await openSoon(port, 429)
    next.send(text('in'))
    expect(await next.readText()).toBe('in')
  })

  it("are for those who are let in: who is turned away at the door takes nobody's place, even when he stays", async () => {
    const { server, port } = await startServer({ ...echo, tls, maxConnections: 2, maxConnectionsPerAddress: 2 })
    const first = await RawClient.open({ port, ca })
    await RawClient.open({ port, ca })
    for (let turned = 0; turned < 5; turned++) {
      const refused = await RawClient.connect({ port, ca })
      expect((await refused.readHead()).status).toBe(503)
    }
    await first.leave()
    await until(() => server.clients.size === 1)
    await RawClient.open({ port, ca })
  })
})

it('sockets on their way in count as connections too', async () => {
  const { port } = await startServer({ maxConnections: 2, handshakeTimeoutMs: 60_000 })
  await RawClient.connect({ port })
  await RawClient.connect({ port })
  expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(503)
})

it('without a limit per address, hundreds of programs of this machine may connect', async () => {
  const { server, port } = await startServer()
  await Promise.all(Array.from({ length: 300 }, () => RawClient.open({ port })))
  expect(server.clients.size).toBe(300)
})
