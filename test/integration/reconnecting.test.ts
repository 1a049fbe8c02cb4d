import { getEventListeners, once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import {
  type CloseEvent,
  type ConnectionLoss,
  HandshakeError,
  type Message,
  type ReconnectingConnection,
  type ReconnectingOptions,
  reconnecting,
  type UrlSource,
  UsageError,
  type WebSocketConnection,
  WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { freePort, freePorts } from '../support/ports.ts'
import { defer, Queue } from '../support/queue.ts'
import type { RawClient, RawHead } from '../support/raw-client.ts'
import { acceptance, closeBehindTest, nextTurn, startRawServer, startServer, until } from '../support/servers.ts'

interface Client {
  readonly client: ReconnectingConnection
  readonly opens: Queue<number>
  readonly messages: Queue<Message>
  readonly closes: Queue<CloseEvent>
  readonly waits: Queue<{ loss: ConnectionLoss; delayMs: number }>
  readonly ends: Queue<ConnectionLoss>
}

/** A client that hurries, and tells all. */
function start(url: UrlSource, options: ReconnectingOptions = {}): Client {
  const queues = {
    opens: new Queue<number>(),
    messages: new Queue<Message>(),
    closes: new Queue<CloseEvent>(),
    waits: new Queue<{ loss: ConnectionLoss; delayMs: number }>(),
    ends: new Queue<ConnectionLoss>(),
  }
  const client = reconnecting(url, {
    minDelayMs: 1,
    maxDelayMs: 20,
    random: () => 0,
    message: (_, data) => queues.messages.push(data),
    close: (_, event) => queues.closes.push(event),
    reconnecting: (loss, delayMs) => queues.waits.push({ loss, delayMs }),
    gaveUp: queues.ends.push,
    ...options,
    open: (connection, attempt) => {
      options.open?.(connection, attempt)
      queues.opens.push(attempt)
    },
  })
  onTestFinished(async () => {
    client.connection?.terminate()
    client.close()
    await client.closed
  })
  return { client, ...queues }
}

interface Restartable {
  readonly url: string
  readonly port: number
  readonly received: Queue<Message>
  readonly clients: Queue<WebSocketConnection<unknown>>
  /** Closes it, with this code for its clients. */
  stop(code?: number): Promise<void>
  start(options?: WebSocketServerOptions): Promise<void>
}

/** A server that comes back on the same port. */
async function startRestartable(options: WebSocketServerOptions = {}): Promise<Restartable> {
  const port = await freePort()
  const received = new Queue<Message>()
  const clients = new Queue<WebSocketConnection<unknown>>()
  let server: WebSocketServer<unknown> | undefined
  const restartable: Restartable = {
    url: `ws://127.0.0.1:${port}`,
    port,
    received,
    clients,
    stop: async (code = 1001) => server?.close({ code }),
    start: async (more = options) => {
      server = new WebSocketServer({
        port,
        message: (_, data) => received.push(data),
        open: (client) => clients.push(client),
        ...more,
      })
      closeBehindTest(server)
      await server.listen()
    },
  }
  await restartable.start()
  return restartable
}

/** A server that answers each request with the next of these. */
async function startAnswers(...answers: ((peer: RawClient, request: RawHead) => void)[]) {
  const requests = new Queue<RawHead>()
  const { url } = await startRawServer((peer, request) => {
    const answer = answers[Math.min(requests.all.length, answers.length - 1)]
    requests.push(request)
    answer?.(peer, request)
  })
  return { url, requests }
}

const refusal =
  (status: number, ...lines: string[]) =>
  (peer: RawClient): void => {
    peer.send([`HTTP/1.1 ${status} No`, ...lines, 'Content-Length: 0', '\r\n'].join('\r\n'))
    peer.end()
  }

const welcome = (peer: RawClient, request: RawHead): void => void peer.send(acceptance(request))

/** Says yes, and closes with this code at once. */
const dismissal =
  (code: number) =>
  (peer: RawClient, request: RawHead): void => {
    peer.send(acceptance(request), Uint8Array.of(0x88, 2, code >> 8, code & 0xff))
    peer.readFrame().then(
      () => peer.end(),
      () => {},
    )
  }

describe('a server that restarts', () => {
  it('is found again, and gets what was sent meanwhile: once, in order, before what comes later', async () => {
    const server = await startRestartable()
    const { client, opens, closes } = start(server.url)
    expect(client.state).toBe('connecting')
    await opens.next()
    expect([client.state, client.connection?.state]).toEqual(['open', 'open'])
    client.send('first')
    expect(await server.received.next()).toBe('first')
    for (let round = 0; round < 3; round++) {
      await server.stop()
      expect(await closes.next()).toMatchObject({ code: 1001, wasClean: true })
      expect(client.connection).toBeUndefined()
      const expected: string[] = []
      for (let count = 0; count < 50; count++) {
        expected.push(`${round} waiting ${count}`)
        expect(client.send(expected.at(-1)!)).toBe(true)
      }
      await server.start()
      await opens.next()
      expected.push(`${round} later`)
      client.send(expected.at(-1)!)
      expect(await server.received.take(51)).toEqual(expected)
      expect(client.queuedBytes).toBe(0)
    }
    expect(server.received.all).toHaveLength(1 + 3 * 51)
  })

  it('gets more than fits into a socket without being flooded', async () => {
    const server = await startRestartable()
    await server.stop()
    const { client, opens } = start(server.url, { maxQueuedBytes: 50_000_000, maxBufferedBytes: 300_000 })
    for (let count = 0; count < 100; count++) client.send(Buffer.alloc(250_000, count))
    await server.start()
    await opens.next()
    client.send('later')
    const messages = await server.received.take(101)
    for (const [count, message] of messages.slice(0, 100).entries()) expect((message as Buffer)[0]).toBe(count)
    expect(messages.at(-1)).toBe('later')
  })

  it('keeps what a connection that dies has not accepted for the next one', async () => {
    const server = await startRestartable({ message: () => new Promise(() => {}) })
    await server.stop()
    const { client, opens, closes } = start(server.url, { maxQueuedBytes: 50_000_000 })
    for (let count = 0; count < 60; count++) client.send(Buffer.alloc(500_000, count))
    await server.start()
    await opens.next()
    // It does not read, so that most of it still waits.
    const peer = await server.clients.next()
    await until(() => (client.connection?.bufferedBytes ?? 0) > 0)
    const waiting = client.queuedBytes / 500_000
    expect(waiting).toBeGreaterThan(10)
    peer.terminate()
    expect((await closes.next()).code).toBe(1006)
    await server.stop()
    await server.start({})
    const [first] = await server.received.take(1)
    expect((first as Buffer)[0]).toBeGreaterThanOrEqual(60 - waiting)
    const rest = await server.received.take(59 - (first as Buffer)[0]!)
    expect((rest.at(-1) as Buffer)[0]).toBe(59)
  })

  it('hears what is sent in the open handler before everything that has waited', async () => {
    const server = await startRestartable()
    await server.stop()
    const { client } = start(server.url, {
      open: (connection) => {
        connection.send('hello, it is me')
        client.send('behind the rest')
      },
    })
    client.send('waiting')
    await server.start()
    expect(await server.received.take(3)).toEqual(['hello, it is me', 'waiting', 'behind the rest'])
  })

  it('is answered by the messages of each connection', async () => {
    const server = await startRestartable({ open: (client) => void client.send('welcome') })
    const { messages, opens } = start(server.url)
    for (let round = 0; round < 2; round++) {
      await opens.next()
      expect(await messages.next()).toBe('welcome')
      await server.stop()
      await server.start()
    }
    await opens.next()
    expect(await messages.next()).toBe('welcome')
  })
})

describe('what waits', () => {
  it('is bounded in messages and in bytes, empty messages included', async () => {
    const url = `ws://127.0.0.1:${await freePort()}`
    const few = start(url, { maxQueuedMessages: 2 }).client
    expect([few.send(''), few.send(Buffer.alloc(0)), few.send('')]).toEqual([true, true, false])
    const small = start(url, { maxQueuedBytes: 5 }).client
    expect([
      small.send('ü'),
      small.send('ab'),
      small.send('ü'),
      small.send(new ArrayBuffer(1)),
      small.send('x'),
    ]).toEqual([true, true, false, true, false])
    expect(small.queuedBytes).toBe(5)
    const none = start(url, { maxQueuedMessages: 0 }).client
    expect(none.send('x')).toBe(false)
  })

  it('is what it was when it was sent', async () => {
    const server = await startRestartable()
    await server.stop()
    const { client } = start(server.url)
    const bytes = Buffer.from([1, 2, 3])
    client.send(bytes)
    bytes.fill(9)
    await server.start()
    expect(await server.received.next()).toEqual(Buffer.from([1, 2, 3]))
  })

  it('must be something that can be sent', async () => {
    const { client } = start(`ws://127.0.0.1:${await freePort()}`)
    expect(() => client.send({} as never)).toThrow(UsageError)
  })
})

describe('the delay', () => {
  /** Delays of a client that meets these answers, then a welcome. */
  async function delaysOf(
    random: number,
    answers: ((peer: RawClient, request: RawHead) => void)[],
    options: ReconnectingOptions = {},
  ) {
    const { url, requests } = await startAnswers(...answers, welcome)
    const { waits, opens } = start(url, { minDelayMs: 2, maxDelayMs: 50, random: () => random, ...options })
    while (requests.all.length <= answers.length) {
      await requests.next()
    }
    await opens.next()
    await until(() => opens.all.length > 0 && requests.all.length > answers.length)
    return waits.all.map(({ delayMs }) => delayMs)
  }

  it('grows exponentially up to the longest, and is never below the shortest', async () => {
    const failures = Array.from({ length: 7 }, () => refusal(500))
    expect(await delaysOf(0, failures)).toEqual([2, 2, 2, 2, 2, 2, 2])
    expect(await delaysOf(0.5, failures)).toEqual([3, 5, 9, 17, 26, 26, 26])
    expect(await delaysOf(0.999_999, failures)).toEqual([4, 8, 16, 32, 50, 50, 50])
  })

  it('is at least what the server asks for with 429 and 503, and with nothing else', async () => {
    // Rounded up to seconds by the header, so 0 and a second must do.
    expect(await delaysOf(0, [refusal(503, 'Retry-After: 1')])).toEqual([1_000])
    expect(await delaysOf(0.5, [refusal(429, 'Retry-After: 0'), refusal(500, 'Retry-After: 60')])).toEqual([3, 5])
  })

  it.each([1012, 1013])('gives a server that closes with %d more time', async (code) => {
    const { url } = await startAnswers(dismissal(code), welcome)
    const { waits } = start(url, { minDelayMs: 1, maxDelayMs: 1_000, random: () => 0.999_999 })
    expect((await waits.next()).delayMs).toBe(16)
  })

  it('goes on growing behind connections that do not last, and begins again behind one that does', async () => {
    const { url } = await startAnswers(...Array.from({ length: 4 }, () => dismissal(1011)), welcome)
    const grown = start(url, { random: () => 0.999_999, stableMs: 10_000 })
    await grown.waits.take(4)
    expect(grown.waits.all.map(({ delayMs }) => delayMs)).toEqual([2, 4, 8, 16])
    expect(grown.waits.all.map(({ loss }) => loss.losses)).toEqual([1, 2, 3, 4])
    expect(await grown.opens.take(5)).toEqual([1, 2, 3, 4, 5])
    const again = await startAnswers(...Array.from({ length: 4 }, () => dismissal(1011)), welcome)
    const reset = start(again.url, { random: () => 0.999_999, stableMs: 0 })
    await reset.waits.take(4)
    expect(reset.waits.all.map(({ delayMs }) => delayMs)).toEqual([2, 2, 2, 2])
    expect(await reset.opens.take(5)).toEqual([1, 2, 2, 2, 2])
  })
})

describe('a list of URLs', () => {
  it('is tried in its order in each round', async () => {
    const first = await startAnswers(refusal(500))
    const second = await startAnswers(refusal(404))
    const third = await startAnswers(refusal(500), dismissal(1001), refusal(500), welcome)
    const order: string[] = []
    const { opens, waits } = start([first.url, new URL(second.url), third.url], {
      refresh: (url) => void order.push(String(Number(new URL(url).port))),
    })
    await opens.take(2)
    const ports = [first.url, second.url, third.url].map((url) => new URL(url).port)
    expect(order).toEqual([...ports, ...ports, ...ports, ...ports])
    expect(waits.all).toHaveLength(3)
  })

  it('is given up when none of them is worth another attempt, and not before', async () => {
    const first = await startAnswers(refusal(404))
    const second = await startAnswers(refusal(503), refusal(403))
    const { ends, waits } = start([first.url, second.url])
    expect((await ends.next()).error).toMatchObject({ status: 403 })
    expect(waits.all.map(({ loss }) => (loss.error as HandshakeError).status)).toEqual([503])
  })

  it('may come from a function, which is asked in each round', async () => {
    const [dead] = await freePorts(1)
    const { url } = await startServer()
    const lists: UrlSource[] = [`ws://127.0.0.1:${dead}`, [`ws://127.0.0.1:${dead}`], [], [new URL(url)]]
    let asked = 0
    const { opens, waits } = start(async () => {
      const list = lists[asked++] as string
      if (list.length === 0) throw new Error('not now')
      return list
    })
    expect(await opens.next()).toBe(4)
    expect(waits.all.map(({ loss }) => (loss.error as NodeJS.ErrnoException).code ?? loss.error?.message)).toEqual([
      'ECONNREFUSED',
      'ECONNREFUSED',
      'not now',
    ])
  })
})

describe('it ends', () => {
  it.each([1008, 4401, 4403])('behind the close code %d', async (code) => {
    const { url, requests } = await startAnswers(dismissal(code))
    const { client, ends, waits } = start(url)
    client.send('kept')
    expect((await ends.next()).event).toMatchObject({ code })
    await client.closed
    expect([client.state, client.send('too late'), client.queuedBytes]).toEqual(['closed', false, 0])
    expect([waits.all.length, requests.all.length]).toEqual([0, 1])
  })

  it.each([400, 401, 403, 404, 410])('behind an answer with %d', async (status) => {
    const { url, requests } = await startAnswers(refusal(status))
    const { client, ends } = start(url)
    const { error, event, losses } = await ends.next()
    expect(error).toBeInstanceOf(HandshakeError)
    expect([(error as HandshakeError).status, event, losses]).toEqual([status, undefined, 1])
    await client.closed
    expect(requests.all).toHaveLength(1)
  })

  it.each([200, 302, 408, 425, 429, 500, 502, 503])('not behind an answer with %d', async (status) => {
    const { url } = await startAnswers(refusal(status), welcome)
    const { opens } = start(url)
    expect(await opens.next()).toBe(2)
  })

  it.each([1000, 1001, 1005, 1011, 4000])('not behind the close code %d', async (code) => {
    const { url } = await startAnswers(
      code === 1005
        ? (peer, request) => {
            peer.send(acceptance(request), Uint8Array.of(0x88, 0))
            void peer.readFrame().then(() => peer.end())
          }
        : dismissal(code),
      welcome,
    )
    const { opens, closes } = start(url)
    await opens.take(2)
    expect(closes.all.map((event) => event.code)).toEqual([code])
  })

  it('as shouldReconnect says, which may leave it to the default', async () => {
    const { url } = await startAnswers(refusal(404), refusal(404), dismissal(1000))
    const { ends, waits, opens } = start(url, {
      shouldReconnect: ({ error, event }) => (event?.code === 1000 ? false : error === undefined ? undefined : true),
    })
    expect((await ends.next()).event?.code).toBe(1000)
    expect([waits.all.length, opens.all]).toEqual([2, [3]])
    const other = await startAnswers(dismissal(1001), refusal(404))
    expect((await start(other.url, { shouldReconnect: () => undefined }).ends.next()).error).toMatchObject({
      status: 404,
    })
  })

  it('when the URL or the headers cannot be', async () => {
    const url = `ws://127.0.0.1:${await freePort()}`
    const { ends } = start(() => 'nonsense')
    expect((await ends.next()).error).toMatchObject({ code: 'ERR_URL' })
    expect((await start(() => []).ends.next()).error).toMatchObject({ code: 'ERR_URL' })
    expect((await start(url, { headers: { Host: 'x' } }).ends.next()).error).toMatchObject({ code: 'ERR_HEADER_VALUE' })
  })
})

describe('refresh', () => {
  it('is awaited before each attempt, and gives headers, subprotocols or a URL', async () => {
    const { url, requests } = await startAnswers(refusal(500), refusal(500), welcome)
    let asked = 0
    const { opens } = start(url, {
      headers: { authorization: 'old', 'X-Mine': 'yes' },
      refresh: async () => {
        await nextTurn()
        asked++
        if (asked === 1) return { headers: { Authorization: `Bearer ${asked}` } }
        if (asked === 2) return { url: `${url}/?token=${asked}`, subprotocols: [`bearer.${asked}`] }
        return undefined
      },
    })
    await opens.next()
    const [first, second, third] = (await requests.take(3)) as [RawHead, RawHead, RawHead]
    expect(first.lines.filter((line) => /^(authorization|x-mine)/i.test(line))).toEqual([
      'X-Mine: yes',
      'Authorization: Bearer 1',
    ])
    expect(second.text).toBe('GET /?token=2 HTTP/1.1')
    expect(second.headers.get('sec-websocket-protocol')).toBe('bearer.2')
    expect(second.headers.get('authorization')).toBe('old')
    expect([third.text, third.headers.get('authorization')]).toEqual(['GET / HTTP/1.1', 'old'])
  })

  it('that fails is an attempt that has failed', async () => {
    const { url } = await startAnswers(welcome)
    let asked = 0
    const { opens, waits } = start(url, {
      refresh: () => {
        if (asked++ === 0) throw new Error('thrown')
        return asked === 2 ? Promise.reject(new Error('rejected')) : undefined
      },
    })
    expect(await opens.next()).toBe(3)
    expect(waits.all.map(({ loss }) => loss.error?.message)).toEqual(['thrown', 'rejected'])
  })

  it('makes a 401 worth one more attempt, and no second one', async () => {
    const { url, requests } = await startAnswers(refusal(401), refusal(401), welcome)
    const { ends } = start(url, { refresh: () => undefined })
    expect((await ends.next()).error).toMatchObject({ status: 401 })
    expect(requests.all).toHaveLength(2)
    const other = await startAnswers(refusal(401), welcome)
    expect(await start(other.url, { refresh: () => undefined }).opens.next()).toBe(2)
  })

  it('makes the 401 of any URL of a list worth one more attempt', async () => {
    const wants = await startAnswers(refusal(401), welcome)
    const lacks = await startAnswers(refusal(404))
    expect(await start([wants.url, lacks.url], { refresh: () => undefined }).opens.next()).toBe(2)
  })

  it('makes 4401 worth one more attempt, also when the connection opens each time', async () => {
    const { url, requests } = await startAnswers(dismissal(4401))
    const { ends } = start(url, { refresh: () => undefined, stableMs: 60_000 })
    expect((await ends.next()).event?.code).toBe(4401)
    expect(requests.all).toHaveLength(2)
  })

  it('has another one when a connection was stable in between', async () => {
    const { url, requests } = await startAnswers(dismissal(4401), dismissal(4401), dismissal(4401), refusal(404))
    const { ends } = start(url, { refresh: () => undefined, stableMs: 0 })
    expect((await ends.next()).error).toMatchObject({ status: 404 })
    expect(requests.all).toHaveLength(4)
  })

  it('does not help against 403 and 4403', async () => {
    for (const answer of [refusal(403), dismissal(4403)]) {
      const { url, requests } = await startAnswers(answer)
      await start(url, { refresh: () => undefined }).ends.next()
      expect(requests.all).toHaveLength(1)
    }
  })
})

describe('close', () => {
  it('closes the connection behind what was sent, and it stays closed', async () => {
    const server = await startRestartable()
    const { client, opens, closes, waits, ends } = start(server.url)
    await opens.next()
    client.send('last')
    client.close(4000, 'bye')
    expect([client.state, client.send('too late')]).toEqual(['closing', false])
    client.close(1000)
    await client.closed
    expect(await server.received.next()).toBe('last')
    expect(await closes.next()).toMatchObject({ code: 4000, wasClean: true })
    expect([client.state, client.connection, waits.all, ends.all]).toEqual(['closed', undefined, [], []])
    expect(opens.all).toHaveLength(1)
  })

  it('sends what still waits, when there is a connection', async () => {
    const server = await startRestartable()
    await server.stop()
    const { client } = start(server.url, {
      open: () => {
        client.close(1000)
      },
    })
    client.send('waiting')
    await server.start()
    expect(await server.received.next()).toBe('waiting')
    await client.closed
  })

  it('ends the waiting for the next round at once', async () => {
    const { client, waits } = start(`ws://127.0.0.1:${await freePort()}`, {
      minDelayMs: 1_000_000,
      maxDelayMs: 2_000_000,
    })
    client.send('dropped')
    await waits.next()
    expect(client.state).toBe('waiting')
    client.close()
    await client.closed
    expect([client.state, client.queuedBytes]).toEqual(['closed', 0])
  })

  it.each(['close', 'reconnecting', 'shouldReconnect'] as const)('may be called in the handler %s', async (name) => {
    const { url, requests } = await startAnswers(dismissal(1001), welcome)
    const { client, ends } = start(url, {
      minDelayMs: 1_000_000,
      maxDelayMs: 2_000_000,
      [name]: () => client.close(),
    })
    await client.closed
    expect([client.state, requests.all.length, ends.all]).toEqual(['closed', 1, []])
  })

  it('gives up an attempt, whoever is waited for', async () => {
    const asked = new Queue<RawClient>()
    const silent = await startRawServer((peer) => asked.push(peer))
    const dialling = start(silent.url).client
    const peer = await asked.next()
    dialling.close()
    await dialling.closed
    await peer.ended()

    const refreshing = defer<undefined>()
    const calls = new Queue<string>()
    const refreshed = start(silent.url, {
      refresh: (url) => {
        calls.push(url)
        return refreshing.promise
      },
    }).client
    await calls.next()
    refreshed.close()
    await refreshed.closed
    refreshing.resolve(undefined)

    const listing = defer<string>()
    const listed = start(() => listing.promise).client
    listed.close()
    await listed.closed
    listing.resolve(silent.url)
    await nextTurn()
    expect(asked.all).toHaveLength(1)
  })

  it('while the server says yes leaves no connection behind', async () => {
    const { url, server } = await startServer()
    for (let turns = 0; turns < 12; turns++) {
      const { client, opens, closes } = start(url)
      for (let turn = 0; turn < turns; turn++) await nextTurn()
      client.close(1000)
      await client.closed
      expect(closes.all).toHaveLength(opens.all.length)
    }
    await until(() => server.clients.size === 0)
  })

  it('while the server restarts ends it too', async () => {
    const server = await startRestartable()
    const { client, opens, waits } = start(server.url)
    await opens.next()
    await server.stop(1012)
    await waits.next()
    client.close()
    await server.start()
    await client.closed
    expect(opens.all).toHaveLength(1)
  })

  it('refuses what cannot be sent, and goes on then', async () => {
    const { url } = await startServer()
    const { client, opens } = start(url)
    for (const args of [[1005], [999], [1000, 'x'.repeat(124)], [undefined, 'why']] as [number, string][]) {
      expect(() => client.close(...args)).toThrow(UsageError)
    }
    await opens.next()
    expect(client.state).toBe('open')
  })

  it('is what an aborted signal does, whenever that comes', async () => {
    const ends = new Queue<CloseEvent>()
    const { url, server } = await startServer({ close: (_, event) => ends.push(event) })
    const controller = new AbortController()
    const { client, opens } = start(url, { signal: controller.signal })
    await opens.next()
    controller.abort()
    await client.closed
    expect((await ends.next()).code).toBe(1000)
    expect(getEventListeners(controller.signal, 'abort')).toEqual([])
    const never = start(url, { signal: AbortSignal.abort() })
    await never.client.closed
    expect([never.client.state, never.client.send('x'), never.opens.all]).toEqual(['closed', false, []])
    expect(server.clients.size).toBe(0)
  })
})

describe('handlers that throw', () => {
  it('are told of by the error handler, and change nothing', async () => {
    const errors = new Queue<Error>()
    const server = await startRestartable()
    const thrower = (name: string) => (): never => {
      throw new Error(name)
    }
    const { client } = start(server.url, {
      error: errors.push,
      open: thrower('open'),
      close: thrower('close'),
      reconnecting: thrower('reconnecting'),
      shouldReconnect: thrower('shouldReconnect'),
      gaveUp: thrower('gaveUp'),
    })
    client.send('waiting')
    expect(await server.received.next()).toBe('waiting')
    await server.stop()
    await server.start()
    client.send('goes on')
    expect(await server.received.next()).toBe('goes on')
    await server.stop(4403)
    await client.closed
    const names = errors.all.map(({ message }) => message)
    expect([...new Set(names)].sort()).toEqual(['close', 'gaveUp', 'open', 'reconnecting', 'shouldReconnect'])
  })
})

describe('options', () => {
  it.each<[string, UrlSource, object, string]>([
    ['a URL that is none', 'nonsense', {}, 'ERR_URL'],
    ['one of several', ['ws://localhost', 'ftp://localhost'], {}, 'ERR_URL'],
    ['no URL', [], {}, 'ERR_URL'],
    ['an unknown one', 'ws://localhost', { minDelay: 1 }, 'ERR_OPTION_UNKNOWN'],
    ['a socket, which serves once only', 'ws://localhost', { socket: connectTcp }, 'ERR_OPTION_UNKNOWN'],
    ['no delay', 'ws://localhost', { minDelayMs: 0 }, 'ERR_OPTION'],
    ['an endless delay', 'ws://localhost', { maxDelayMs: Number.POSITIVE_INFINITY }, 'ERR_OPTION'],
    ['a shortest delay above the longest', 'ws://localhost', { minDelayMs: 20, maxDelayMs: 10 }, 'ERR_OPTION'],
    ['half a message', 'ws://localhost', { maxQueuedMessages: 0.5 }, 'ERR_OPTION'],
    ['a negative size', 'ws://localhost', { maxQueuedBytes: -1 }, 'ERR_OPTION'],
    ['a limit of connect', 'ws://localhost', { maxMessageBytes: 0 }, 'ERR_OPTION'],
  ])('refuse %s at once', (_, url, options, code) => {
    expect(() => reconnecting(url, options)).toThrow(expect.objectContaining({ name: 'UsageError', code }))
  })

  it('take Infinity for what waits', async () => {
    const { url } = await startServer()
    const { opens } = start(url, {
      maxQueuedBytes: Number.POSITIVE_INFINITY,
      maxQueuedMessages: Number.POSITIVE_INFINITY,
    })
    await opens.next()
  })

  it('of connect are passed on', async () => {
    const { url, port } = await startServer({ token: 'secret' })
    const sockets: unknown[] = []
    const { opens } = start(url, {
      headers: { Authorization: 'Bearer secret' },
      createConnection: async () => {
        const socket = connectTcp(port, '127.0.0.1')
        sockets.push(socket)
        await once(socket, 'connect')
        return socket
      },
    })
    await opens.next()
    expect(sockets).toHaveLength(1)
  })
})
