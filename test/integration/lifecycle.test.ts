import { describe, expect, it, onTestFinished } from 'vitest'
import {
  type CloseEvent,
  connect,
  type Message,
  UsageError,
  type WebSocketConnection,
  WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { defer, Queue } from '../support/queue.ts'
import { seededRandom } from '../support/random.ts'
import { closeFrame, closeOf, frame, plainRequest, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import {
  acceptance,
  certificate,
  closeBehindTest,
  firstClient,
  nextTurn,
  openClient,
  startRawServer,
  startServer,
  until,
} from '../support/servers.ts'

describe('a handler that is async and fails', () => {
  const failing = async (): Promise<never> => {
    throw new Error('rejected')
  }

  it('close: reaches the error handler', async () => {
    const errors = new Queue<Error>()
    const { port } = await startServer({ close: failing, error: errors.push })
    const client = await RawClient.open({ port })
    client.reset()
    expect((await errors.next()).message).toBe('rejected')
  })

  it('refused: reaches the error handler', async () => {
    const errors = new Queue<Error>()
    const { port } = await startServer({ refused: failing, error: errors.push })
    const client = await RawClient.connect({ port })
    client.send(plainRequest())
    expect((await client.readAnswer()).status).toBe(426)
    expect((await errors.next()).message).toBe('rejected')
  })

  it('drain: reaches the error handler, and closes that client with 1011', async () => {
    const errors = new Queue<Error>()
    const events = new Queue<{ code: number }>()
    const { port } = await startServer({
      drain: failing,
      error: errors.push,
      close: (_, event) => events.push(event),
      open: (client) => {
        // More than the kernel takes at once.
        for (let sent = 0; sent < 12; sent++) client.send(Buffer.alloc(1_000_000))
      },
    })
    const client = await RawClient.open({ port })
    expect((await errors.next()).message).toBe('rejected')
    const frames = await client.readFrames()
    expect(closeOf(frames.at(-1)!).code).toBe(1011)
    client.end()
    expect((await events.next()).code).toBe(1011)
  })

  it('error: becomes a process warning', async () => {
    const warnings = new Queue<Error>()
    process.once('warning', warnings.push)
    const { port } = await startServer({
      error: failing,
      message: () => {
        throw new Error('thrown')
      },
    })
    const client = await RawClient.open({ port })
    client.send(text('hello'))
    expect((await warnings.next()).message).toBe('rejected')
  })

  it.each(['open', 'message'] as const)('%s: what waits behind it is not delivered any more', async (name) => {
    const delivered: unknown[] = []
    const errors = new Queue<Error>()
    const handlers: WebSocketServerOptions = {
      open: name === 'open' ? failing : () => {},
      message: (_, data) => {
        delivered.push(data)
        return name === 'message' ? failing() : undefined
      },
    }
    const events = new Queue<{ code: number }>()
    const { port } = await startServer({ ...handlers, error: errors.push, close: (_, event) => events.push(event) })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest(), text('one'), text('two'), text('three'))
    expect((await client.readHead()).status).toBe(101)
    expect(closeOf(await client.readFrame()).code).toBe(1011)
    client.end()
    expect((await events.next()).code).toBe(1011)
    expect(delivered).toEqual(name === 'open' ? [] : ['one'])
    expect(errors.all.map((error) => error.message)).toEqual(['rejected'])
  })
})

describe('server.close with a code that may not be sent', () => {
  it('rejects, and the server goes on', async () => {
    const { server, url } = await startServer({ message: (client, data) => void client.send(data) })
    const answers = new Queue<unknown>()
    const client = await openClient(url, { message: (_, data) => answers.push(data) })
    await expect(server.close({ code: 1005 })).rejects.toMatchObject({ code: 'ERR_CLOSE_ARGUMENT' })
    client.send('still here')
    expect(await answers.next()).toBe('still here')
    await server.close()
    expect(server.port).toBeNull()
  })

  it('rejects also without clients', async () => {
    const { server } = await startServer()
    await expect(server.close({ code: 1005 })).rejects.toMatchObject({ code: 'ERR_CLOSE_ARGUMENT' })
  })
})

/** What `close` handlers are told, by the path of the connection. */
interface Ended extends CloseEvent {
  readonly path: string
}

/** A server that echoes and notes what happens; `expectAlive` shows that it goes on. */
async function startWatched(options: WebSocketServerOptions = {}): Promise<{
  server: WebSocketServer
  port: number
  url: string
  opened: string[]
  ended: Queue<Ended>
  errors: Queue<Error>
  expectAlive(): Promise<void>
}> {
  const opened: string[] = []
  const ended = new Queue<Ended>()
  const errors = new Queue<Error>()
  const started = await startServer({
    message: (client, data) => void client.send(data),
    ...options,
    open: (client, request) => {
      opened.push(client.path)
      return options.open?.(client, request)
    },
    close: (client, event) => {
      ended.push({ path: client.path, ...event })
      return options.close?.(client, event)
    },
    error: (error, client) => {
      errors.push(error)
      return options.error?.(error, client)
    },
  })
  const { port } = started
  const ca = options.tls === undefined ? undefined : certificate.cert
  return {
    ...started,
    opened,
    ended,
    errors,
    async expectAlive() {
      const client = await RawClient.open({ port, ca, target: '/alive' })
      client.send(text('still here?'))
      expect(await client.readText()).toBe('still here?')
      await client.leave(1000)
      while ((await ended.next()).path !== '/alive');
    },
  }
}

describe('a closing handshake that the peer begins', () => {
  it.each<[string, number | undefined, string, number, number]>([
    ['1000', 1000, 'done', 1000, 1000],
    ['1001 without a reason', 1001, '', 1001, 1001],
    ['no code', undefined, '', 1005, 1005],
    ['a code of an application', 4_321, 'grüße', 4_321, 4_321],
    ['a registered code', 3_000, 'x'.repeat(123), 3_000, 3_000],
  ])('with %s is answered in kind, and told', async (_, code, reason, answered, told) => {
    const { port, ended, server } = await startWatched()
    const raw = await RawClient.open({ port })
    raw.send(text('before'), closeFrame(code, reason), text('behind it nothing counts'))
    expect(await raw.readText()).toBe('before')
    expect(closeOf(await raw.readFrame())).toEqual({ code: answered, reason: '' })
    // RFC 6455 §7.1.1: the server ends TCP first.
    await raw.ended()
    expect(raw.pending).toHaveLength(0)
    raw.end()
    expect(await ended.next()).toEqual({ path: '/', code: told, reason, wasClean: true })
    expect(server.clients.size).toBe(0)
  })

  it.each<[string, Buffer, number, string]>([
    ['a code that may not be sent', closeFrame(1005), 1002, 'ERR_CLOSE_CODE'],
    ['a code of nobody', closeFrame(2_999), 1002, 'ERR_CLOSE_CODE'],
    ['half a code', frame(8, '\u0003'), 1002, 'ERR_CLOSE_PAYLOAD'],
    ['a reason that is no text', frame(8, Buffer.from([3, 0xe8, 0xff])), 1007, 'ERR_CLOSE_REASON_UTF8'],
    ['126 bytes', frame(8, Buffer.alloc(126, 'a')), 1002, 'ERR_CONTROL_TOO_LONG'],
  ])('with %s fails', async (_, bytes, code, reason) => {
    const { port, ended, errors } = await startWatched()
    const raw = await RawClient.open({ port })
    raw.send(bytes)
    expect(closeOf(await raw.readFrame()).code).toBe(code)
    raw.end()
    expect(await ended.next()).toMatchObject({ code, wasClean: false })
    expect(await errors.next()).toMatchObject({ code: reason, closeCode: code })
  })
})

describe('a closing handshake that the server begins', () => {
  it.each<[string, [number?, string?], { code: number; reason: string }]>([
    ['a code and a reason', [4_000, 'bye'], { code: 4_000, reason: 'bye' }],
    ['a code', [1000], { code: 1000, reason: '' }],
    ['nothing', [], { code: 1005, reason: '' }],
    ['the longest reason', [1012, 'ü'.repeat(61)], { code: 1012, reason: 'ü'.repeat(61) }],
  ])('with %s: what was sent before arrives, what comes until the answer is delivered', async (_, args, expected) => {
    const received = new Queue<unknown>()
    const { port, ended, server } = await startWatched({
      message: (client, data) => {
        received.push(data)
        if (data !== 'close') return
        client.send('last')
        client.close(...args)
        client.close(1011, 'a second time changes nothing')
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(text('close'))
    expect(await raw.readText()).toBe('last')
    expect(closeOf(await raw.readFrame())).toEqual(expected)
    expect([...server.clients.values()].map((client) => client.state)).toEqual(['close-sent'])
    raw.send(text('still under way'), closeFrame(4_999, 'mine'), text('nothing counts any more'))
    await raw.ended()
    raw.end()
    // RFC 6455 §7.1.5: the code is that of the peer's Close frame.
    expect(await ended.next()).toEqual({ path: '/', code: 4_999, reason: 'mine', wasClean: true })
    expect(received.all).toEqual(['close', 'still under way'])
  })

  it.each<[string, [unknown?, unknown?]]>([
    ['1004', [1004]],
    ['1005', [1005, 'reason']],
    ['1006', [1006]],
    ['1015', [1015]],
    ['999', [999]],
    ['5000', [5_000]],
    ['1000.5', [1000.5]],
    ['a string', ['1000']],
    ['a reason of 124 bytes', [1000, 'ü'.repeat(62)]],
    ['a reason without a code', [undefined, 'reason']],
  ])('with what may not be sent is a UsageError, and nothing happens: %s', async (_, args) => {
    const { port, server, expectAlive } = await startWatched()
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    const close = (): void => client.close(...(args as [number]))
    expect(close).toThrow(UsageError)
    expect(close).toThrow(expect.objectContaining({ code: 'ERR_CLOSE_ARGUMENT' }))
    expect(client.state).toBe('open')
    raw.send(text('hello'))
    expect(await raw.readText()).toBe('hello')
    await expectAlive()
  })

  it('both at the same time is a clean end', async () => {
    const { port, ended, server } = await startWatched()
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    raw.send(closeFrame(4_001, 'peer'))
    client.close(4_002, 'server')
    expect(closeOf(await raw.readFrame())).toEqual({ code: 4_002, reason: 'server' })
    await raw.ended()
    expect(raw.pending).toHaveLength(0)
    raw.end()
    expect(await ended.next()).toEqual({ path: '/', code: 4_001, reason: 'peer', wasClean: true })
  })

  it('cuts a peer that does not answer, after closeTimeoutMs', async () => {
    const { port, ended, server } = await startWatched({ closeTimeoutMs: 50 })
    const raw = await RawClient.open({ port })
    ;(await firstClient(server)).close(1000)
    expect(closeOf(await raw.readFrame()).code).toBe(1000)
    await raw.ended()
    expect(await ended.next()).toMatchObject({ code: 1006, wasClean: false })
  })

  it('cuts a peer that goes on sending instead', async () => {
    const { port, ended, server } = await startWatched({ closeTimeoutMs: 50, pingIntervalMs: 0 })
    const raw = await RawClient.open({ port })
    ;(await firstClient(server)).close(1000)
    const chatter = setInterval(() => raw.send(text('but')), 5)
    onTestFinished(() => clearInterval(chatter))
    expect(await ended.next()).toMatchObject({ code: 1006, wasClean: false })
  })

  it('cuts a peer that has answered and does not end TCP; that was clean', async () => {
    const { port, ended } = await startWatched({ closeTimeoutMs: 50 })
    const raw = await RawClient.open({ port })
    raw.send(closeFrame(1000))
    expect(await ended.next()).toEqual({ path: '/', code: 1000, reason: '', wasClean: true })
  })

  it('waits for a peer that reads slowly what was sent before', async () => {
    const size = 24_000_000
    const { port, ended, server } = await startWatched({ closeTimeoutMs: 60_000, maxBufferedBytes: 2 * size })
    const raw = await RawClient.open({ port })
    raw.stopReading()
    const client = await firstClient(server)
    client.send(Buffer.alloc(size, 'all '))
    client.close(1000, 'behind it')
    expect(client.bufferedBytes).toBeGreaterThan(0)
    raw.startReading()
    expect((await raw.readFrame()).payload.equals(Buffer.alloc(size, 'all '))).toBe(true)
    expect(closeOf(await raw.readFrame())).toEqual({ code: 1000, reason: 'behind it' })
    await raw.leave(1000)
    expect(await ended.next()).toMatchObject({ code: 1000, wasClean: true })
  })
})

describe('a closing handshake in the client role', () => {
  it('begun by the client, or by the server, is clean at both ends', async () => {
    for (const first of ['client', 'server'] as const) {
      const { server, url, ended } = await startWatched({ closeTimeoutMs: 60_000 })
      const events = new Queue<CloseEvent>()
      const client = await openClient(url, { closeTimeoutMs: 60_000, close: (_, event) => events.push(event) })
      const opened = await firstClient(server)
      const closing = first === 'client' ? client : opened
      closing.close(4_000, 'enough')
      // Who begins hears his own code echoed, without the reason.
      const echoed = { code: 4_000, reason: '', wasClean: true }
      const given = { code: 4_000, reason: 'enough', wasClean: true }
      expect(await events.next()).toEqual(first === 'client' ? echoed : given)
      expect(await ended.next()).toEqual({ path: '/', ...(first === 'client' ? given : echoed) })
      expect([client.state, opened.state]).toEqual(['closed', 'closed'])
    }
  })

  it('leaves it to the server to end TCP, but not for longer than closeTimeoutMs', async () => {
    const { url } = await startRawServer(async (peer, request) => {
      peer.send(acceptance(request))
      const { code } = closeOf(await peer.readFrame())
      peer.send(frame(8, Buffer.from([code >> 8, code & 0xff]), { masked: false }))
    })
    const events = new Queue<CloseEvent>()
    const client = await openClient(url, { closeTimeoutMs: 50, close: (_, event) => events.push(event) })
    client.close(1000)
    expect(await events.next()).toEqual({ code: 1000, reason: '', wasClean: true })
  })

  it('cuts a server that does not answer', async () => {
    const { url } = await startRawServer((peer, request) => peer.send(acceptance(request)))
    const events = new Queue<CloseEvent>()
    const client = await openClient(url, { closeTimeoutMs: 50, close: (_, event) => events.push(event) })
    client.close(1000)
    expect(await events.next()).toMatchObject({ code: 1006, wasClean: false })
  })
})

describe('a handler that ends its client', () => {
  it.each(['sync', 'async'] as const)('in open (%s): the peer is let in and told goodbye', async (manner) => {
    const received: unknown[] = []
    const { port, ended, errors } = await startWatched({
      open: (client) => {
        client.send('sorry')
        client.close(1008, 'not you')
        return manner === 'async' ? Promise.resolve() : undefined
      },
      message: (_, data) => void received.push(data),
    })
    const raw = await RawClient.connect({ port })
    raw.send(upgradeRequest(), closeFrame(1000), text('behind it nothing counts'))
    expect((await raw.readHead()).status).toBe(101)
    expect(await raw.readText()).toBe('sorry')
    expect(closeOf(await raw.readFrame())).toEqual({ code: 1008, reason: 'not you' })
    raw.end()
    expect(await ended.next()).toMatchObject({ wasClean: true })
    expect([received, errors.all]).toEqual([[], []])
  })

  it('in open, by terminate: nothing is delivered', async () => {
    const received: unknown[] = []
    const { port, ended, opened } = await startWatched({
      open: (client) => client.terminate(),
      message: (_, data) => void received.push(data),
    })
    const raw = await RawClient.connect({ port })
    raw.send(upgradeRequest(), text('hello'))
    await raw.ended()
    expect(await ended.next()).toMatchObject({ code: 1006, wasClean: false })
    expect([received, opened]).toEqual([[], ['/']])
  })

  it('in message, by terminate: what came in the same chunk is not delivered', async () => {
    const received: unknown[] = []
    const { port, ended } = await startWatched({
      message: (client, data) => {
        received.push(data)
        client.send('too late')
        client.terminate()
        expect([client.send('too late'), client.ping(), client.bufferedBytes >= 0]).toEqual([false, false, true])
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(text('1'), text('2'), frame(9), closeFrame(1000))
    await raw.ended()
    expect(await ended.next()).toMatchObject({ code: 1006, wasClean: false })
    expect(received).toEqual(['1'])
    // Cut is cut: nothing is sent that had not left yet.
    expect(raw.pending).toHaveLength(0)
  })

  it('while its async handler is at work, by terminate: what waits is not delivered', async () => {
    const received = new Queue<unknown>()
    const gate = defer()
    const { server, port, ended } = await startWatched({
      message: (_, data) => {
        received.push(data)
        return gate.promise
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(...Array.from({ length: 100 }, (_, index) => text(String(index))))
    expect(await received.next()).toBe('0')
    ;(await firstClient(server)).terminate()
    gate.resolve()
    expect(await ended.next()).toMatchObject({ code: 1006, wasClean: false })
    expect(received.all).toEqual(['0'])
  })

  it('and that ends another one, or all of them', async () => {
    const { server, port, ended, errors } = await startWatched({
      message: () => {
        for (const client of server.clients.values()) client.path === '/cut' ? client.terminate() : client.close(1000)
      },
    })
    const raws = []
    for (const target of ['/1', '/cut', '/2', '/3']) raws.push(await RawClient.open({ port, target }))
    raws[0]!.send(text('now'))
    for (const [index, raw] of raws.entries()) {
      if (index === 1) await raw.ended()
      else await raw.leave(1000)
    }
    const events = await ended.take(4)
    expect(events.map(({ path, wasClean }) => `${path} ${wasClean}`).sort()).toEqual([
      '/1 true',
      '/2 true',
      '/3 true',
      '/cut false',
    ])
    expect(errors.all).toEqual([])
  })
})

describe('a peer that goes without a word', () => {
  it('half-closed: is gone at once, without an answer to wait for', async () => {
    const { port, ended, expectAlive } = await startWatched({ closeTimeoutMs: 60_000 })
    const raw = await RawClient.open({ port })
    raw.send(text('last words'))
    raw.end()
    expect(await raw.readText()).toBe('last words')
    expect(await ended.next()).toEqual({ path: '/', code: 1006, reason: '', wasClean: false })
    await raw.ended()
    await expectAlive()
  })

  it('half-closed behind its Close frame: still gets the answer', async () => {
    const { port, ended } = await startWatched({ closeTimeoutMs: 60_000 })
    const raw = await RawClient.open({ port })
    raw.send(text('hello'), closeFrame(1000))
    raw.end()
    expect(await raw.readText()).toBe('hello')
    expect(closeOf(await raw.readFrame()).code).toBe(1000)
    expect(await ended.next()).toMatchObject({ code: 1000, wasClean: true })
  })

  it('half-closed in the middle of a frame, or of the head: nothing of it is delivered', async () => {
    const received: unknown[] = []
    const { port, ended, expectAlive } = await startWatched({
      closeTimeoutMs: 60_000,
      message: (client, data) => {
        received.push(data)
        client.send(data)
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(frame(1, 'first half', { fin: false }), text('second').subarray(0, 4))
    raw.end()
    expect(await ended.next()).toMatchObject({ code: 1006 })
    const early = await RawClient.connect({ port })
    early.send('GET / HTTP/1.1\r\n')
    early.end()
    expect(await early.readToEnd()).toHaveLength(0)
    await expectAlive()
    expect(received).toEqual(['still here?'])
  })

  it('terminate cuts it here: the peer sees an end without a Close frame, and close is told', async () => {
    const { port, ended, server } = await startWatched()
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    client.terminate()
    client.terminate()
    await raw.ended()
    expect(raw.pending).toHaveLength(0)
    expect(await ended.next()).toMatchObject({ code: 1006, wasClean: false })
    expect(ended.all).toHaveLength(1)
  })
})

describe('a reset', () => {
  const phases: readonly [string, boolean, (raw: RawClient, server: WebSocketServer) => unknown][] = [
    ['before the request', false, () => {}],
    ['in the middle of the request', false, (raw) => raw.send('GET / HTTP/1.1\r\nHo')],
    ['behind the request', false, (raw) => raw.send(upgradeRequest())],
    ['behind a request that is refused', false, (raw) => raw.send(plainRequest())],
    ['behind the answer', true, (raw) => open(raw)],
    ['in the middle of a frame', true, async (raw) => [await open(raw), raw.send(text('hello').subarray(0, 8))]],
    ['in the middle of a message', true, async (raw) => [await open(raw), raw.send(frame(1, 'hel', { fin: false }))]],
    ['behind a message', true, async (raw) => [await open(raw), raw.send(text('hello'))]],
    ['behind a ping', true, async (raw) => [await open(raw), raw.send(frame(9, 'hello'))]],
    ['behind a violation', true, async (raw) => [await open(raw), raw.send(frame(3, 'hello'))]],
    ['behind its Close frame', true, async (raw) => [await open(raw), raw.send(closeFrame(1000))]],
    ['behind its FIN', true, async (raw) => [await open(raw), raw.end()]],
    [
      'behind the Close frame of the server',
      true,
      async (raw, server) => {
        await open(raw)
        for (const client of server.clients.values()) if (client.path === '/reset') client.close(1000)
        await raw.readFrame()
      },
    ],
    [
      'while much is unread',
      true,
      async (raw, server) => {
        await open(raw)
        raw.stopReading()
        for (const client of server.clients.values()) client.send(Buffer.alloc(12_000_000))
      },
    ],
    [
      'while its async handler is at work',
      true,
      async (raw) => {
        await open(raw)
        raw.send(text('wait'), text('wait'), text('hello'))
      },
    ],
  ]

  async function open(raw: RawClient): Promise<void> {
    raw.send(upgradeRequest({ target: '/reset' }))
    expect((await raw.readHead()).status).toBe(101)
  }

  it.each(phases.flatMap((phase) => [['ws', ...phase] as const, ['wss', ...phase] as const]))(
    'over %s %s harms nobody',
    async (scheme, _, isOpened, act) => {
      const tls = scheme === 'wss' ? { tls: certificate } : {}
      const ca = scheme === 'wss' ? certificate.cert : undefined
      const { server, port, opened, ended, errors, expectAlive } = await startWatched({
        ...tls,
        closeTimeoutMs: 60_000,
        handshakeTimeoutMs: 60_000,
        message: (client, data) => {
          client.send(data)
          return data === 'wait' ? new Promise((resolve) => setTimeout(resolve, 10)) : undefined
        },
      })
      const raw = await RawClient.connect({ port, ca })
      await act(raw, server)
      raw.reset()
      await expectAlive()
      await until(() => server.clients.size === 0)
      if (isOpened) {
        await until(() => ended.all.some(({ path }) => path === '/reset'))
        expect(opened.filter((path) => path === '/reset')).toHaveLength(1)
      }
      await until(() => ended.all.length === opened.length)
      expect(errors.all.filter((error) => error.name !== 'ProtocolError')).toEqual([])
      // No socket is left behind either.
      await server.close()
    },
  )

  it('of a server reaches the client as 1006', async () => {
    const { url } = await startRawServer((peer, request) => {
      peer.send(acceptance(request), frame(1, 'hello', { masked: false }))
      setTimeout(() => peer.reset(), 10)
    })
    const events = new Queue<unknown>()
    await openClient(url, { message: (_, data) => events.push(data), close: (_, event) => events.push(event) })
    expect(await events.take(2)).toEqual(['hello', { code: 1006, reason: '', wasClean: false }])
  })
})

describe('server.close', () => {
  it('tells clients 1001, refuses newcomers with 503, and resolves when all are gone', async () => {
    const { server, port, ended } = await startWatched()
    const raws = [await RawClient.open({ port, target: '/1' }), await RawClient.open({ port, target: '/2' })]
    const slowHead = await RawClient.connect({ port })
    slowHead.send(upgradeRequest().slice(0, 40))
    // The server has it when it answers a later one.
    await RawClient.ask({ port }, plainRequest())
    let isClosed = false
    const closing = server.close({ reason: 'update' }).then(() => {
      isClosed = true
    })
    for (const raw of raws) expect(closeOf(await raw.readFrame())).toEqual({ code: 1001, reason: 'update' })
    // Who was on the way in is told too.
    const onTheWay = await slowHead.readAnswer()
    slowHead.end()
    expect([onTheWay.status, onTheWay.headers.has('retry-after')]).toEqual([503, true])
    for (const request of [upgradeRequest(), plainRequest()]) {
      const { status, headers, body } = await RawClient.ask({ port }, request)
      expect([status, Number(headers.get('retry-after'))]).toEqual([503, expect.any(Number)])
      expect(body).toMatch(/^[^\r\n]+\n$/)
    }
    expect(isClosed).toBe(false)
    await raws[0]!.leave(1001)
    await ended.next()
    expect([isClosed, server.clients.size]).toEqual([false, 1])
    await raws[1]!.leave(1001)
    await closing
    expect([server.clients.size, server.port]).toEqual([0, null])
    expect(ended.all.map(({ code, wasClean }) => [code, wasClean])).toEqual([
      [1001, true],
      [1001, true],
    ])
  })

  it('takes a code and a reason', async () => {
    const { server, port } = await startWatched()
    const raw = await RawClient.open({ port })
    const closing = server.close({ code: 1012, reason: 'restart' })
    expect(closeOf(await raw.readFrame())).toEqual({ code: 1012, reason: 'restart' })
    await raw.leave(1012)
    await closing
  })

  it.each<[string, WebSocketServerOptions, object]>([
    ['timeoutMs', { closeTimeoutMs: 60_000 }, { timeoutMs: 50 }],
    ['closeTimeoutMs', { closeTimeoutMs: 50 }, {}],
  ])('cuts after %s who has not gone: silent, not reading, half-way in, refused, plain', async (_, options, given) => {
    const { server, port, ended } = await startWatched({
      ...options,
      handshakeTimeoutMs: 60_000,
      maxBufferedBytes: 64_000_000,
      respond: (request) => (request.path === '/large' ? { body: Buffer.alloc(32_000_000) } : undefined),
    })
    await RawClient.open({ port, target: '/silent' })
    const unread = await RawClient.open({ port, target: '/unread' })
    unread.stopReading()
    for (const client of server.clients.values()) if (client.path === '/unread') client.send(Buffer.alloc(32_000_000))
    const head = await RawClient.connect({ port })
    head.send('GET / HT')
    const refused = await RawClient.connect({ port })
    refused.send(plainRequest({ method: 'POST' }))
    await refused.readAnswer()
    const plain = await RawClient.connect({ port, paused: true })
    plain.send(plainRequest({ target: '/large' }))
    await RawClient.ask({ port }, plainRequest())
    await server.close(given)
    expect([server.clients.size, server.port]).toEqual([0, null])
    const events = await ended.take(2)
    expect(events.map(({ path }) => path).sort()).toEqual(['/silent', '/unread'])
    for (const event of events) expect(event).toMatchObject({ code: 1006, wasClean: false })
    await head.ended()
    const [late] = await Promise.allSettled([RawClient.connect({ port })])
    expect(late.status).toBe('rejected')
  })

  it('resolves at once without clients, and without ever having listened', async () => {
    const { server } = await startServer({ closeTimeoutMs: 60_000 })
    await server.close()
    await new WebSocketServer().close()
  })

  it('does not wait for those on the way in, and tells them 503', async () => {
    const { server, port } = await startServer({ closeTimeoutMs: 60_000, handshakeTimeoutMs: 60_000 })
    const raw = await RawClient.connect({ port })
    raw.send('GET / HTTP/1.1\r\n')
    await RawClient.ask({ port }, plainRequest({ method: 'HEAD' }))
    const answer = raw.readAnswer()
    await server.close()
    expect((await answer).status).toBe(503)
  })

  it('is the same when called again, and by several', async () => {
    const { server, port } = await startWatched()
    const raw = await RawClient.open({ port })
    const closings = [server.close({ code: 4_000 }), server.close({ code: 4_001 }), server.close()]
    expect(closeOf(await raw.readFrame()).code).toBe(4_000)
    await raw.leave(4_000)
    await Promise.all(closings)
    await server.close()
    expect(raw.pending).toHaveLength(0)
  })

  it('may be called from a handler', async () => {
    const closed = new Queue<void>()
    const { server, port } = await startServer({
      message: (_, data) => {
        if (data === 'stop') void server.close().then(() => closed.push())
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(text('stop'), text('more'))
    expect(closeOf(await raw.readFrame()).code).toBe(1001)
    await raw.leave(1001)
    await closed.next()
  })

  it('frees the port at once: another server can listen on it, again and again', async () => {
    let port = 0
    for (let round = 0; round < 10; round++) {
      const server = new WebSocketServer({ port })
      closeBehindTest(server)
      port = (await server.listen()).port
      // It ends TCP itself, which leaves the connection in TIME_WAIT.
      const client = await openClient(`ws://127.0.0.1:${port}`, { closeTimeoutMs: 60_000 })
      await server.close()
      await until(() => client.state === 'closed')
    }
  })

  it('with stopListening gives the port to the next server while its own clients are still there', async () => {
    const { server, port, ended } = await startWatched({ closeTimeoutMs: 60_000 })
    const old = await RawClient.open({ port })
    const closing = server.close({ code: 1012, stopListening: true })
    const next = new WebSocketServer({ port })
    closeBehindTest(next)
    await next.listen()
    const newcomer = await RawClient.open({ port })
    expect(closeOf(await old.readFrame()).code).toBe(1012)
    expect([server.clients.size, next.clients.size, ended.all.length]).toEqual([1, 1, 0])
    await old.leave(1012)
    await closing
    expect(await ended.next()).toMatchObject({ code: 1012, wasClean: true })
    expect(newcomer.pending).toHaveLength(0)
  })

  it('does not wait for async message handlers, but close is told behind them', async () => {
    const gate = defer<void>()
    const events = new Queue<string>()
    const { server, port } = await startServer({
      message: async (_, data) => {
        events.push(`begin ${data}`)
        await gate.promise
        events.push(`end ${data}`)
      },
      close: () => events.push('close'),
    })
    const raw = await RawClient.open({ port })
    raw.send(text('1'), text('2'))
    expect(await events.next()).toBe('begin 1')
    const closing = server.close()
    await raw.readFrame()
    await raw.leave(1001)
    await closing
    gate.resolve()
    expect(await events.take(4)).toEqual(['end 1', 'begin 2', 'end 2', 'close'])
  })

  it.each(['ws', 'wss'] as const)('under load over %s: all clients are told, and gone', async (scheme) => {
    const tls = scheme === 'wss' ? { tls: certificate } : {}
    const { server, url, ended, errors } = await startWatched(tls)
    const count = 60
    const events = new Queue<CloseEvent>()
    const clients = await Promise.all(
      Array.from({ length: count }, () =>
        openClient(url, {
          message: (client, data) => {
            if (String(data).startsWith('x')) client.send(data)
          },
          close: (_, event) => events.push(event),
        }),
      ),
    )
    for (const client of clients) for (let index = 1; index <= 20; index++) client.send('x'.repeat(index * 50))
    const broadcasts = setInterval(() => server.broadcast('to all '.repeat(100)), 2)
    onTestFinished(() => clearInterval(broadcasts))
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(server.clients.size).toBe(count)
    await server.close({ timeoutMs: 15_000 })
    expect([server.clients.size, server.port]).toEqual([0, null])
    expect((await ended.take(count)).every(({ code, wasClean }) => code === 1001 && wasClean)).toBe(true)
    expect((await events.take(count)).every(({ code, wasClean }) => code === 1001 && wasClean)).toBe(true)
    expect(errors.all).toEqual([])
  })
})

describe('an exception in a handler', () => {
  const thrown = new Error('thrown by the handler')
  const fail = (): never => {
    throw thrown
  }
  const rejectLater = (): Promise<never> => new Promise((_, reject) => setTimeout(() => reject(thrown), 5))
  const manners = [
    ['sync', fail],
    ['async', () => Promise.reject(thrown)],
    ['later', rejectLater],
  ] as const

  it.each(manners.flatMap((manner) => [['open', ...manner] as const, ['message', ...manner] as const]))(
    'in %s (%s) closes that client with 1011, is told, and harms no other',
    async (name, _, handler) => {
      const { port, ended, errors, server } = await startWatched({
        [name]: (client: WebSocketConnection, data: unknown) => {
          if (client.path === '/bad') return handler()
          return name === 'message' ? void client.send(data as string) : undefined
        },
        ...(name === 'open' ? { message: (client, data) => void client.send(data) } : {}),
      })
      const other = await RawClient.open({ port })
      const bad = await RawClient.open({ port, target: '/bad' })
      bad.send(text('hello'))
      const close = closeOf(await bad.readFrame())
      expect(close.code).toBe(1011)
      // What has happened is nobody's business out there.
      expect(close.reason).not.toContain('thrown')
      bad.end()
      expect(await ended.next()).toMatchObject({ path: '/bad', code: 1011, wasClean: false })
      expect(await errors.next()).toBe(thrown)
      other.send(text('hello'))
      expect(await other.readText()).toBe('hello')
      expect([server.clients.size, errors.all.length]).toEqual([1, 1])
    },
  )

  it.each(['full queue', 'pause'] as const)(
    'in message is told to a peer that was held back (%s); its end is seen',
    async (by) => {
      const begun = new Queue<void>()
      const gate = defer()
      const { port, ended, errors } = await startWatched({
        closeTimeoutMs: 60_000,
        message: (client) => {
          if (by === 'pause') client.pause()
          begun.push()
          return gate.promise
        },
      })
      const raw = await RawClient.open({ port })
      raw.send(...Array.from({ length: 200 }, () => text('x'.repeat(10_000))))
      await begun.next()
      await until(() => raw.socket.writableLength === 0)
      gate.reject(thrown)
      expect(closeOf(await raw.readFrame()).code).toBe(1011)
      raw.end()
      expect(await ended.next()).toMatchObject({ code: 1011 })
      expect(errors.all).toEqual([thrown])
    },
  )

  it.each(manners)('in close (%s) is told, and harms nobody', async (_, handler) => {
    const { port, errors, server, expectAlive } = await startWatched({
      close: (client) => (client.path === '/bad' ? handler() : undefined),
    })
    const bad = await RawClient.open({ port, target: '/bad' })
    await bad.leave(1000)
    expect(await errors.next()).toBe(thrown)
    expect(server.clients.size).toBe(0)
    await expectAlive()
  })

  it.each(manners)('in drain (%s) closes that client with 1011, and is told', async (_, handler) => {
    const { port, errors, ended, server } = await startWatched({ drain: handler, maxBufferedBytes: 64_000_000 })
    const raw = await RawClient.open({ port })
    raw.stopReading()
    ;(await firstClient(server)).send(Buffer.alloc(24_000_000))
    raw.startReading()
    expect((await raw.readFrame()).payload).toHaveLength(24_000_000)
    expect(closeOf(await raw.readFrame()).code).toBe(1011)
    raw.end()
    expect(await errors.next()).toBe(thrown)
    expect(await ended.next()).toMatchObject({ code: 1011 })
  })

  it.each(manners)('in refused (%s) is told; the refusal goes out', async (_, handler) => {
    const { port, errors, expectAlive } = await startWatched({ refused: handler })
    expect((await RawClient.ask({ port }, plainRequest())).status).toBe(426)
    expect(await errors.next()).toBe(thrown)
    await expectAlive()
  })

  it.each(manners)('in error (%s) becomes a process warning', async (_, handler) => {
    const warnings = new Queue<Error>()
    process.once('warning', warnings.push)
    const { port } = await startServer({
      error: handler,
      message: () => {
        throw new Error('the first')
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(text('hello'))
    expect(closeOf(await raw.readFrame()).code).toBe(1011)
    expect(await warnings.next()).toBe(thrown)
  })

  it.each(manners)('in authorize (%s) is told; 500 goes out', async (_, handler) => {
    const { port, errors } = await startWatched({ authorize: handler })
    expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(500)
    expect(await errors.next()).toBe(thrown)
  })

  it.each(manners)('in respond (%s) is told; 500 goes out', async (_, handler) => {
    const { port, errors, expectAlive } = await startWatched({ respond: handler })
    expect((await RawClient.ask({ port }, plainRequest())).status).toBe(500)
    expect(await errors.next()).toBe(thrown)
    await expectAlive()
  })

  it.each(['open', 'message', 'close', 'refused'] as const)(
    'in %s is a process warning where there is no error handler',
    async (name) => {
      const warnings = new Queue<Error>()
      process.once('warning', warnings.push)
      const { port } = await startServer({ [name]: fail })
      if (name === 'refused') await RawClient.ask({ port }, plainRequest())
      else {
        const raw = await RawClient.open({ port })
        raw.send(text('hello'))
        if (name === 'close') raw.send(closeFrame())
        raw.end()
      }
      expect(await warnings.next()).toBe(thrown)
    },
  )

  it('that is no Error reaches the error handler as one', async () => {
    const { port, errors } = await startWatched({
      message: () => {
        throw 'just a string'
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(text('hello'))
    const error = await errors.next()
    expect(error).toBeInstanceOf(Error)
    expect(error.message).toBe('just a string')
  })

  it('in a handler of a client closes with 1011 too', async () => {
    const { url, ended } = await startWatched({ open: (client) => void client.send('hello') })
    const errors = new Queue<[Error, unknown]>()
    const client = await openClient(url, {
      message: fail,
      error: (error, connection) => errors.push([error, connection]),
    })
    expect(await errors.next()).toEqual([thrown, client])
    expect(await ended.next()).toMatchObject({ code: 1011 })
  })
})

describe('many clients that do what they like', () => {
  it.each([
    ['ws', 1],
    ['ws', 2],
    ['wss', 3],
  ] as const)(
    'get their own echoes in order up to their end, and each is opened and closed once (%s, %d)',
    async (scheme, seed) => {
      const random = seededRandom(seed)
      const tls = scheme === 'wss' ? { tls: certificate } : {}
      const ca = scheme === 'wss' ? certificate.cert : undefined
      const { server, port, url, opened, ended, errors } = await startWatched({
        ...tls,
        maxBufferedBytes: 8_000_000,
        open: () => (random(2) === 0 ? nextTurn() : undefined),
        message: async (client, data) => {
          const what = random(12)
          if (what < 4) await nextTurn()
          else if (what === 4) await new Promise((resolve) => setTimeout(resolve, 2))
          else if (what === 5) {
            client.pause()
            setTimeout(() => client.resume(), random(4))
          } else if (what === 6) server.broadcast('to all', { except: client, filter: () => random(2) === 0 })
          else if (what === 7) client.ping()
          client.send(data)
          if (what === 8) await client.flushed().catch(() => {})
          if (random(150) === 0) client.close(4_000 + random(10))
          if (random(300) === 0) client.terminate()
        },
      })

      /** One of ours: sends numbered texts until it has had enough, or the server has. */
      async function visit(path: string): Promise<void> {
        const received: string[] = []
        const closed = new Queue<CloseEvent>()
        const client = await openClient(`${url}${path}`, {
          message: (connection, data) => {
            if (data !== 'to all') received.push(String(data))
            if (random(20) === 0) {
              connection.pause()
              setTimeout(() => connection.resume(), random(5))
            }
          },
          close: (_, event) => closed.push(event),
        })
        const sent: string[] = []
        for (let count = random(60); count >= 0 && client.state === 'open'; count--) {
          const message = `${sent.length} ${'x'.repeat(random(3) === 0 ? random(70_000) : random(100))}`
          if (client.send(message)) sent.push(message)
          if (random(3) === 0) await nextTurn()
        }
        const how = random(4)
        if (how === 0) client.terminate()
        else {
          if (how > 1) await client.delivered({ timeoutMs: 15_000 }).catch(() => {})
          client.close(1000)
        }
        await closed.next()
        expect(received.length).toBeLessThanOrEqual(sent.length)
        for (const [index, message] of received.entries()) if (message !== sent[index]) expect.fail(`message ${index}`)
      }

      /** A raw one, which goes in the middle of something. */
      async function burst(path: string): Promise<void> {
        const raw = await RawClient.connect({ port, ca })
        const bytes = Buffer.concat([
          Buffer.from(upgradeRequest({ target: path })),
          ...Array.from({ length: random(30) }, (_, index) => text(`${index} ${'y'.repeat(random(20_000))}`)),
          random(3) === 0 ? closeFrame(1000) : frame(9, 'ping'),
        ])
        if (random(3) === 0) raw.stopReading()
        for (let at = 0; at < bytes.length; ) {
          const size = 1 + random(40_000)
          raw.send(bytes.subarray(at, at + size))
          at += size
          if (random(2) === 0) await nextTurn()
        }
        if (random(2) === 0) raw.reset()
        else {
          raw.end()
          raw.startReading()
          await raw.ended()
        }
      }

      const visits: Promise<void>[] = []
      for (let index = 0; index < 80; index++) {
        visits.push(random(2) === 0 ? visit(`/${index}`) : burst(`/${index}`))
        if (random(4) === 0) await nextTurn()
      }
      await Promise.all(visits)
      await until(() => ended.all.length === opened.length)
      expect(server.clients.size).toBe(0)
      expect(new Set(opened).size).toBe(opened.length)
      expect(ended.all.map(({ path }) => path).sort()).toEqual([...opened].sort())
      expect(errors.all).toEqual([])
      await server.close()
    },
  )
})

describe('1,000 clients', () => {
  it('echo, are reached by broadcasts, and leave', async () => {
    const count = 1_000
    const { server, url, ended, errors } = await startWatched()
    const clients: { connection: WebSocketConnection; received: Queue<Message> }[] = []
    while (clients.length < count) {
      const batch = Array.from({ length: 100 }, async () => {
        const received = new Queue<Message>()
        return { received, connection: await connect(url, { message: (_, data) => received.push(data) }) }
      })
      clients.push(...(await Promise.all(batch)))
    }
    onTestFinished(() => {
      for (const { connection } of clients) connection.terminate()
    })
    expect(server.clients.size).toBe(count)
    expect(new Set(server.clients.keys()).size).toBe(count)
    for (const [index, { connection }] of clients.entries()) {
      connection.send(`text of ${index}`)
      connection.send(Buffer.from(`bytes of ${index}`))
    }
    for (const [index, { received }] of clients.entries()) {
      const [asText, asBytes] = await received.take(2)
      expect([asText, String(asBytes), typeof asBytes]).toEqual([`text of ${index}`, `bytes of ${index}`, 'object'])
    }
    const broadcasts = ['one', 'two '.repeat(5_000), 'three']
    for (const message of broadcasts) expect(server.broadcast(message)).toEqual({ sent: count, dropped: 0 })
    for (const { received } of clients) expect(await received.take(3)).toEqual(broadcasts)
    for (const [index, { connection }] of clients.entries()) {
      if (index % 2 === 0) connection.close(1000)
      else connection.terminate()
    }
    const events = await ended.take(count)
    expect(events.filter(({ wasClean }) => wasClean)).toHaveLength(count / 2)
    expect([server.clients.size, errors.all.length]).toEqual([0, 0])
  })
})

describe('for await', () => {
  it('reads the messages of a client of ours, and ends with a clean close', async () => {
    const { url } = await startServer({
      open: (client) => {
        client.send('one')
        client.send(Buffer.from('two'))
        client.send('three')
        client.close(1000)
      },
    })
    const messages: string[] = []
    for await (const message of await openClient(url)) messages.push(`${typeof message} ${message}`)
    expect(messages).toEqual(['string one', 'object two', 'string three'])
  })

  it('reads the messages on the server side too', async () => {
    const ends = new Queue<string>()
    const { url } = await startServer({
      // Messages go to the iteration, although the handler has not returned.
      open: async (client) => {
        for await (const message of client) client.send(`got ${message}`)
        ends.push('end')
      },
      close: (_, { code }) => ends.push(`close ${code}`),
    })
    const answers = new Queue<Message>()
    const client = await openClient(url, { message: (_, data) => answers.push(data) })
    for (const message of ['1', '2', '3']) client.send(message)
    expect(await answers.take(3)).toEqual(['got 1', 'got 2', 'got 3'])
    client.close(1000)
    expect(await ends.take(2)).toEqual(['end', 'close 1000'])
  })

  it('gets what came before the end, also when it begins later, and throws when that was not clean', async () => {
    for (const clean of [true, false]) {
      const sent = new Queue<void>()
      const { url } = await startServer({
        open: async (client) => {
          client.send('one')
          client.send('two')
          await client.delivered()
          if (clean) client.close(1000)
          else client.terminate()
          sent.push()
        },
      })
      const client = await openClient(url)
      await sent.next()
      await until(() => client.state === 'closed')
      const messages: Message[] = []
      const reading = (async () => {
        for await (const message of client) messages.push(message)
      })()
      if (clean) await reading
      else await expect(reading).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
      expect(messages).toEqual(['one', 'two'])
      // Behind the end there is nothing, and no second error.
      for await (const message of client) expect.fail(String(message))
    }
  })

  it('holds the peer back while nobody reads', async () => {
    const { server, url } = await startServer({ maxBufferedBytes: 64_000_000 })
    const client = await openClient(url)
    const opened = await firstClient(server)
    const size = 100_000
    const count = 300
    for (let index = 0; index < count; index++) opened.send(Buffer.alloc(size, index))
    await new Promise((resolve) => setTimeout(resolve, 50))
    // Thirty megabytes: the kernel has some, and this process a few messages.
    expect(opened.bufferedBytes).toBeGreaterThan(5_000_000)
    let index = 0
    for await (const message of client) {
      expect([message.length, message[0]]).toEqual([size, index % 256])
      if (++index === count) break
    }
    // And may be taken up again.
    opened.send('one more')
    for await (const message of client) {
      expect(message).toBe('one more')
      break
    }
  })

  it('gives each message once, to one reader; all of them end', async () => {
    const { server, url } = await startServer()
    const client = await openClient(url)
    const opened = await firstClient(server)
    const iterator = client[Symbol.asyncIterator]()
    const results = [iterator.next(), iterator.next(), iterator.next()]
    opened.send('one')
    opened.send('two')
    opened.close(1000)
    expect(await Promise.all(results)).toEqual([
      { done: false, value: 'one' },
      { done: false, value: 'two' },
      { done: true, value: undefined },
    ])
    expect(await iterator.next()).toEqual({ done: true, value: undefined })
  })

  it('is a UsageError where a message handler takes the messages', async () => {
    const { url } = await startServer()
    const client = await openClient(url, { message: () => {} })
    expect(() => client[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: 'ERR_ITERATION' }))
  })
})
