import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  type CloseEvent,
  type Data,
  type Message,
  UsageError,
  type WebSocketConnection,
  WebSocketError,
  WebSocketServer,
} from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { binary, closeFrame, closeOf, frame, pong, RawClient, type RawFrame, text } from '../support/raw-client.ts'
import {
  acceptance,
  certificate,
  firstClient,
  nextTurn,
  openClient,
  startRawServer,
  startServer,
} from '../support/servers.ts'

const MIB = 1_048_576
const limits = { maxMessageBytes: 64 * MIB, maxBufferedBytes: 256 * MIB }

/** A raw client, and the connection that the server has for it. */
async function openPair(
  options: ConstructorParameters<typeof WebSocketServer>[0] = {},
  raw: { paused?: boolean } = {},
): Promise<{ raw: RawClient; client: WebSocketConnection; server: WebSocketServer }> {
  const { server, port } = await startServer(options)
  const opened = await RawClient.open({ port, ca: options.tls && certificate.cert, ...raw })
  return { raw: opened, client: await firstClient(server), server }
}

describe('send', () => {
  it.each<[string, Data, number, string | Uint8Array]>([
    ['a text', 'hello', 1, 'hello'],
    ['an empty text', '', 1, ''],
    ['a text of several bytes per character', 'grüße \u{1f600} \u20ac', 1, 'grüße \u{1f600} \u20ac'],
    ['a text with a NUL', 'a\u0000b', 1, 'a\u0000b'],
    ['lone surrogates', 'a\ud800b\udc00', 1, 'a\ufffdb\ufffd'],
    ['a Buffer', Buffer.from('bytes'), 2, 'bytes'],
    ['a Uint8Array', Uint8Array.of(0, 1, 255), 2, Uint8Array.of(0, 1, 255)],
    ['no bytes', new Uint8Array(0), 2, ''],
    ['a part of an ArrayBuffer', new Uint8Array(Uint8Array.of(9, 8, 7, 6).buffer, 1, 2), 2, Uint8Array.of(8, 7)],
    ['an ArrayBuffer', Uint8Array.of(9, 8, 7).buffer, 2, Uint8Array.of(9, 8, 7)],
  ])('sends %s as one frame without mask', async (_, data, opcode, payload) => {
    const { raw, client } = await openPair()
    expect(client.send(data)).toBe(true)
    expect(await raw.readFrame()).toEqual({ fin: true, masked: false, opcode, payload: Buffer.from(payload as never) })
  })

  it.each([0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 16_384, 16_385, 262_144, MIB, MIB + 1])(
    'sends and receives %d bytes, as text and as binary',
    async (size) => {
      const { url } = await startServer({ ...limits, message: (client, data) => void client.send(data) })
      const answers = new Queue<Message>()
      const client = await openClient(url, { ...limits, message: (_, data) => answers.push(data) })
      for (const message of ['a'.repeat(size), 'ü'.repeat(size), Buffer.alloc(size, 7)]) {
        client.send(message)
        const answer = await answers.next()
        expect(typeof answer).toBe(typeof message)
        // Not by toEqual, which takes its time.
        expect(Buffer.from(answer as string).equals(Buffer.from(message as string))).toBe(true)
      }
    },
  )

  it.each(['ws', 'wss'] as const)('sends and receives 20 MiB over %s with the limits opened', async (scheme) => {
    const { url } = await startServer({
      ...limits,
      ...(scheme === 'wss' ? { tls: certificate } : {}),
      message: (client, data) => void client.send(data),
    })
    const answers = new Queue<Message>()
    const client = await openClient(url, { ...limits, message: (_, data) => answers.push(data) })
    const bytes = Buffer.alloc(20 * MIB, 'all of it, in order; ')
    expect(client.send(bytes)).toBe(true)
    expect(((await answers.next()) as Buffer).equals(bytes)).toBe(true)
    const long = bytes.toString('latin1')
    expect(client.send(long)).toBe(true)
    expect((await answers.next()) === long).toBe(true)
  })

  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['a number', 7],
    ['an object', { toString: () => 'hello' }],
    ['an array', [1, 2]],
    ['a Uint16Array', new Uint16Array(2)],
    ['a DataView', new DataView(new ArrayBuffer(2))],
    ['a String', new String('hello')],
  ])('throws a UsageError for %s, and the connection goes on', async (_, data) => {
    const { raw, client, server } = await openPair()
    const error = expect.objectContaining({ code: 'ERR_DATA_TYPE' })
    expect(() => client.send(data as Data)).toThrow(UsageError)
    expect(() => client.send(data as Data)).toThrow(error)
    expect(() => server.broadcast(data as Data)).toThrow(error)
    client.send('still here')
    expect(await raw.readText()).toBe('still here')
  })

  it('says false, and throws nothing, from the moment the connection is closing', async () => {
    const events = new Queue<CloseEvent>()
    const { raw, client, server } = await openPair({ close: (_, event) => events.push(event) })
    expect(client.send('first')).toBe(true)
    client.close(4_000, 'enough')
    expect([client.state, client.send('late'), client.ping()]).toEqual(['close-sent', false, false])
    expect(server.broadcast('late')).toEqual({ sent: 0, dropped: 0 })
    expect(await raw.readText()).toBe('first')
    expect(closeOf(await raw.readFrame())).toEqual({ code: 4_000, reason: 'enough' })
    await raw.leave(4_000)
    await events.next()
    expect([client.state, client.send('late'), client.send(Buffer.alloc(0)), client.ping()]).toEqual([
      'closed',
      false,
      false,
      false,
    ])
    client.close()
    client.terminate()
    client.pause()
    client.resume()
    expect(raw.pending).toHaveLength(0)
  })

  it('says false for a peer that is gone', async () => {
    const events = new Queue<CloseEvent>()
    const { raw, client } = await openPair({ close: (_, event) => events.push(event) })
    raw.reset()
    await events.next()
    expect(client.send('late')).toBe(false)
    expect(client.bufferedBytes).toBe(0)
  })

  it('takes binary as it is at that moment when it is small: the memory may be used again', async () => {
    const { raw, client } = await openPair()
    const bytes = Buffer.from('first')
    client.send(bytes)
    bytes.write('other')
    client.send(bytes)
    expect([await raw.readFrame(), await raw.readFrame()].map(({ payload }) => String(payload))).toEqual([
      'first',
      'other',
    ])
  })

  it('gives received bytes that stay as they are, and are the user’s', async () => {
    const received: Buffer[] = []
    const done = new Queue<void>()
    const { raw } = await openPair({
      message: (client, data) => {
        received.push(data as Buffer)
        client.send(data)
        if (received.length === 3_000) done.push()
      },
    })
    const sent = Array.from({ length: 3_000 }, (_, index) => Buffer.alloc(index % 300, index))
    raw.send(...sent.map((bytes) => binary(bytes)))
    await done.next()
    for (const bytes of sent) expect((await raw.readFrame()).payload.equals(bytes)).toBe(true)
    for (const [index, bytes] of sent.entries()) expect(received[index]!.equals(bytes)).toBe(true)
  })
})

describe('flushed', () => {
  it.each(['ws', 'wss'] as const)('resolves at once where the peer reads, over %s', async (scheme) => {
    const { raw, client } = await openPair(scheme === 'wss' ? { tls: certificate } : {})
    await client.flushed()
    client.send('hello')
    await client.flushed()
    expect(client.bufferedBytes).toBe(0)
    expect(await raw.readText()).toBe('hello')
  })

  it.each(['ws', 'wss'] as const)('resolves when a slow peer has read enough, over %s', async (scheme) => {
    const { raw, client } = await openPair({ ...limits, ...(scheme === 'wss' ? { tls: certificate } : {}) })
    raw.stopReading()
    const bytes = Buffer.alloc(24 * MIB, 'slow ')
    client.send(bytes)
    let isFlushed = false
    const flushed = Promise.all([client.flushed(), client.flushed()]).then(() => {
      isFlushed = true
    })
    await nextTurn()
    expect(isFlushed).toBe(false)
    expect(client.bufferedBytes).toBeGreaterThan(0)
    raw.startReading()
    expect((await raw.readFrame()).payload.equals(bytes)).toBe(true)
    await flushed
    expect(client.bufferedBytes).toBe(0)
  })

  it('rejects when the connection ends before, and behind its end', async () => {
    const { raw, client } = await openPair({ ...limits, maxBufferedBytes: Number.POSITIVE_INFINITY })
    raw.stopReading()
    for (let sent = 0; sent < 6; sent++) client.send(Buffer.alloc(8 * MIB))
    const flushed = client.flushed()
    raw.reset()
    const error = expect.objectContaining({ code: 'ERR_CONNECTION_CLOSED' })
    await expect(flushed).rejects.toThrow(error)
    await expect(flushed).rejects.toBeInstanceOf(WebSocketError)
    await expect(client.flushed()).rejects.toThrow(error)
  })

  it('rejects when the connection is cut here', async () => {
    const { raw, client } = await openPair(limits)
    raw.stopReading()
    client.send(Buffer.alloc(48 * MIB))
    const flushed = client.flushed()
    client.terminate()
    await expect(flushed).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
  })

  it('may be called behind close: it waits for what was accepted, and the Close frame', async () => {
    const { raw, client } = await openPair(limits)
    raw.stopReading()
    client.send(Buffer.alloc(24 * MIB))
    client.close(1_000)
    const flushed = client.flushed()
    raw.startReading()
    await flushed
    expect((await raw.readFrame()).payload).toHaveLength(24 * MIB)
    expect(closeOf(await raw.readFrame()).code).toBe(1_000)
  })
})

describe('delivered', () => {
  it('resolves when the peer has answered behind the last message', async () => {
    const { raw, client } = await openPair()
    client.send('one')
    let isDelivered = false
    const delivered = client.delivered().then(() => {
      isDelivered = true
    })
    client.send('two')
    const frames = [await raw.readFrame(), await raw.readFrame(), await raw.readFrame()]
    expect(frames.map(({ opcode }) => opcode)).toEqual([1, 9, 1])
    // A pong that answers nothing.
    raw.send(pong('else'))
    raw.send(text('some message'))
    await nextTurn()
    expect(isDelivered).toBe(false)
    raw.send(pong(frames[1]!.payload))
    await delivered
    expect(client.latencyMs).toBeGreaterThanOrEqual(0)
  })

  it('resolves for all that wait when the latest ping is answered', async () => {
    const { raw, client } = await openPair()
    const delivered = [client.delivered(), client.delivered(), client.delivered()]
    const pings = [await raw.readFrame(), await raw.readFrame(), await raw.readFrame()]
    expect(new Set(pings.map(({ payload }) => payload.toString('hex'))).size).toBe(3)
    raw.send(pong(pings.at(-1)!.payload))
    await Promise.all(delivered)
  })

  it('works between two of ours, in both directions', async () => {
    const { server, url } = await startServer()
    const client = await openClient(url)
    const opened = await firstClient(server)
    client.send('there')
    opened.send('and back')
    await Promise.all([client.delivered(), opened.delivered()])
  })

  it('rejects with ERR_DELIVERY_TIMEOUT when no answer comes in time; the connection goes on', async () => {
    const { raw, client } = await openPair({ pongTimeoutMs: 60_000 })
    client.send('hello')
    await expect(client.delivered({ timeoutMs: 20 })).rejects.toMatchObject({ code: 'ERR_DELIVERY_TIMEOUT' })
    expect(await raw.readText()).toBe('hello')
    const late = await raw.readFrame()
    const next = client.delivered()
    raw.send(pong(late.payload))
    raw.send(pong((await raw.readFrame()).payload))
    await next
  })

  it('takes pongTimeoutMs when no time is given', async () => {
    const { client } = await openPair({ pongTimeoutMs: 20, pingIntervalMs: 0 })
    await expect(client.delivered()).rejects.toMatchObject({ code: 'ERR_DELIVERY_TIMEOUT' })
  })

  it.each<[string, (raw: RawClient, client: WebSocketConnection) => unknown]>([
    ['is reset', (raw) => raw.reset()],
    ['is ended', (raw) => raw.end()],
    ['is closed by the peer', (raw) => raw.leave(1_000)],
    ['is cut', (_, client) => client.terminate()],
    ['is closed', (raw, client) => [client.close(), raw.leave()]],
  ])('rejects with ERR_CONNECTION_CLOSED when the connection %s before', async (_, end) => {
    const { raw, client } = await openPair()
    client.send('hello')
    const delivered = client.delivered()
    // Waited for at once: it must not be an unhandled rejection meanwhile.
    const rejection = expect(delivered).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
    await raw.readFrame()
    await end(raw, client)
    await rejection
    await expect(client.delivered()).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
  })
})

describe('ping', () => {
  it('measures the latency when its pong is there', async () => {
    const { raw, client } = await openPair()
    expect(client.latencyMs).toBeUndefined()
    expect(client.ping()).toBe(true)
    const { opcode, payload } = await raw.readFrame()
    expect(opcode).toBe(9)
    raw.send(pong('nobody asked'), pong(), text('behind'))
    await nextTurn()
    expect(client.latencyMs).toBeUndefined()
    raw.send(pong(payload))
    while (client.latencyMs === undefined) await nextTurn()
    expect(client.latencyMs).toBeGreaterThanOrEqual(0)
  })

  it('of the peer is answered with its own payload, between the fragments of a message too', async () => {
    const { raw } = await openPair({ message: (client, data) => void client.send(data) })
    raw.send(
      frame(1, 'hel', { fin: false }),
      frame(9, 'one'),
      frame(0, 'lo', { fin: false }),
      frame(9, ''),
      frame(0, '!'),
    )
    const frames = [await raw.readFrame(), await raw.readFrame(), await raw.readFrame()]
    expect(frames.map(({ opcode, payload }) => [opcode, String(payload)])).toEqual([
      [10, 'one'],
      [10, ''],
      [1, 'hello!'],
    ])
  })
})

describe('bufferedBytes', () => {
  it('counts what the peer has not read, up to all of it, and is 0 when it has', async () => {
    const drained = new Queue<number>()
    const { raw, client } = await openPair({
      ...limits,
      drain: (client) => drained.push(client.bufferedBytes),
    })
    expect(client.bufferedBytes).toBe(0)
    raw.stopReading()
    const size = 4 * MIB
    let sent = 0
    let before = 0
    for (let message = 0; message < 8; message++) {
      client.send(Buffer.alloc(size))
      sent += size + 10
      expect(client.bufferedBytes).toBeGreaterThanOrEqual(before)
      expect(client.bufferedBytes).toBeLessThanOrEqual(sent)
      before = client.bufferedBytes
    }
    // The kernel takes a few megabytes for itself.
    expect(client.bufferedBytes).toBeGreaterThan(sent / 3)
    raw.startReading()
    for (let message = 0; message < 8; message++) expect((await raw.readFrame()).payload).toHaveLength(size)
    expect(await drained.next()).toBe(0)
    expect(raw.received).toBeGreaterThanOrEqual(sent)
  })

  it('may be asked for in the middle of things without disturbing the order', async () => {
    const { raw, client } = await openPair()
    for (let index = 0; index < 2_000; index++) {
      client.send(`${index} ${'x'.repeat(index % 97)}`)
      if (index % 3 === 0) expect(client.bufferedBytes).toBeGreaterThanOrEqual(0)
    }
    for (let index = 0; index < 2_000; index++) expect(await raw.readText()).toBe(`${index} ${'x'.repeat(index % 97)}`)
  })
})

describe('broadcast', () => {
  it('reaches all, all but some, or some, and says how many', async () => {
    const { server, port } = await startServer()
    const raws: RawClient[] = []
    for (let index = 0; index < 4; index++) raws.push(await RawClient.open({ port, target: `/${index}` }))
    const clients = [...server.clients.values()]
    expect(server.broadcast('all')).toEqual({ sent: 4, dropped: 0 })
    expect(server.broadcast(Buffer.from('not 0'), { except: clients[0] })).toEqual({ sent: 3, dropped: 0 })
    expect(server.broadcast('not 0 and 1', { except: clients.slice(0, 2) })).toEqual({ sent: 2, dropped: 0 })
    expect(server.broadcast('not 2', { except: new Set([clients[2]!]) })).toEqual({ sent: 3, dropped: 0 })
    expect(server.broadcast('only 3', { filter: (client) => client.path === '/3' })).toEqual({ sent: 1, dropped: 0 })
    expect(server.broadcast('nobody', { except: clients[3], filter: (client) => client === clients[3] })).toEqual({
      sent: 0,
      dropped: 0,
    })
    expect(server.broadcast(new ArrayBuffer(2))).toEqual({ sent: 4, dropped: 0 })
    const expected = [
      ['all', 'not 2', '\0\0'],
      ['all', 'not 0', 'not 2', '\0\0'],
      ['all', 'not 0', 'not 0 and 1', '\0\0'],
      ['all', 'not 0', 'not 0 and 1', 'not 2', 'only 3', '\0\0'],
    ]
    for (const [index, raw] of raws.entries()) {
      for (const message of expected[index]!) {
        const { payload, opcode, masked } = await raw.readFrame()
        expect([String(payload), opcode, masked]).toEqual([message, /not 0$|\0/.test(message) ? 2 : 1, false])
      }
      expect(raw.pending).toHaveLength(0)
    }
  })

  it('reaches nobody without clients', async () => {
    const { server } = await startServer()
    expect(server.broadcast('hello')).toEqual({ sent: 0, dropped: 0 })
    expect(new WebSocketServer().broadcast('hello')).toEqual({ sent: 0, dropped: 0 })
  })

  it('reaches a client from its open handler on, and not from its close handler on', async () => {
    const results: unknown[] = []
    const closed = new Queue<void>()
    const { server, port } = await startServer({
      open: (client) => {
        client.send('welcome')
        results.push(server.broadcast('somebody came'))
      },
      close: () => {
        results.push(server.broadcast('somebody left'))
        closed.push()
      },
    })
    const raw = await RawClient.open({ port })
    expect([await raw.readText(), await raw.readText()]).toEqual(['welcome', 'somebody came'])
    await raw.leave()
    await closed.next()
    expect(results).toEqual([
      { sent: 1, dropped: 0 },
      { sent: 0, dropped: 0 },
    ])
  })
})

describe('order', () => {
  const SIZES = [0, 1, 7, 125, 126, 1_000, 16_383, 16_384, 16_385, 65_535, 65_536, 70_000, 300_000]

  /** What a client should get, as a digest per frame. */
  class Script {
    readonly #expected: string[] = []

    note(opcode: number, payload: string | Uint8Array): void {
      this.#expected.push(digestOf(opcode, Buffer.from(payload as string)))
    }

    async verify(raw: RawClient): Promise<void> {
      for (const [index, expected] of this.#expected.entries()) {
        const { fin, masked, opcode, payload } = await raw.readFrame()
        const digest = fin && !masked ? digestOf(opcode, payload) : 'not a whole frame of a server'
        if (digest !== expected) expect.fail(`frame ${index} is ${digest}, not ${expected}`)
      }
    }
  }

  function digestOf(opcode: number, payload: Buffer): string {
    return `${opcode} ${payload.length} ${createHash('sha1').update(payload).digest('base64')}`
  }

  function randomMessage(random: Random): string | Buffer {
    // Mostly small ones: many of them leave in one write.
    const size = random(4) === 0 ? SIZES[random(SIZES.length)]! : random(200)
    const fill = String.fromCharCode(97 + random(26), 97 + random(26), 97 + random(26))
    if (random(2) === 0) return Buffer.alloc(size, fill)
    return random(3) === 0 ? 'ü'.repeat(size / 2) + fill : fill.repeat(size / 3)
  }

  it.each([
    ['ws', 1],
    ['ws', 2],
    ['wss', 3],
  ] as const)(
    'is kept, whatever is sent how to whom: every client gets its own bytes (%s, %d)',
    async (scheme, seed) => {
      const random = seededRandom(seed)
      const tls = scheme === 'wss' ? { tls: certificate } : {}
      const { server, port } = await startServer({ ...tls, maxBufferedBytes: Number.POSITIVE_INFINITY })
      const raws: RawClient[] = []
      for (let index = 0; index < 16; index++) {
        raws.push(await RawClient.open({ port, ca: scheme === 'wss' ? certificate.cert : undefined }))
      }
      const clients = [...server.clients.values()]
      const scripts = clients.map(() => new Script())
      // One does not read for now: what waits for it must not come into the way of others.
      raws[0]!.stopReading()

      const sendTo = (index: number): void => {
        const message = randomMessage(random)
        expect(clients[index]!.send(message)).toBe(true)
        scripts[index]!.note(typeof message === 'string' ? 1 : 2, message)
      }
      const burst = async (index: number): Promise<void> => {
        for (let count = random(6); count >= 0; count--) {
          sendTo(index)
          switch (random(8)) {
            case 0:
              await Promise.resolve()
              break
            case 1:
              await nextTurn()
              break
            case 2:
              if (index !== 0) await clients[index]!.flushed()
              break
            case 3:
              void clients[index]!.bufferedBytes
              break
            default:
          }
        }
      }
      const broadcast = (): void => {
        const message = randomMessage(random)
        const left = random(clients.length)
        const reached = clients.map((_, index) => index).filter((index) => random(2) === 0 || index !== left)
        const chosen = new Set(reached.map((index) => clients[index]))
        const { sent, dropped } = server.broadcast(message, { filter: (client) => chosen.has(client) })
        expect([sent, dropped]).toEqual([reached.length, 0])
        for (const index of reached) scripts[index]!.note(typeof message === 'string' ? 1 : 2, message)
      }
      const bursts: Promise<void>[] = []
      for (let round = 0; round < 120; round++) {
        for (let action = random(10); action >= 0; action--) {
          if (random(5) === 0) broadcast()
          else bursts.push(burst(random(clients.length)))
        }
        if (random(3) === 0) await nextTurn()
        else if (round % 7 === 0) await Promise.all(bursts)
      }
      await Promise.all(bursts)
      raws[0]!.startReading()
      for (const [index, raw] of raws.entries()) {
        clients[index]!.close(1_000)
        await scripts[index]!.verify(raw)
        expect(closeOf(await raw.readFrame()).code).toBe(1_000)
        expect(raw.pending).toHaveLength(0)
      }
    },
  )

  it('is kept between what one sends and what all are sent, in one tick', async () => {
    const { server, port } = await startServer()
    const raws = [await RawClient.open({ port }), await RawClient.open({ port })]
    const [a, b] = [...server.clients.values()] as [WebSocketConnection, WebSocketConnection]
    a.send('a1')
    server.broadcast('all 1')
    b.send('b1')
    server.broadcast('all 2')
    a.send('a2')
    a.ping()
    a.send(Buffer.alloc(70_000, 'large'))
    b.send('b2')
    server.broadcast('all 3')
    a.send('a3')
    const shown = ({ opcode, payload }: RawFrame): string => (opcode === 9 ? 'ping' : String(payload.subarray(0, 5)))
    const read = async (raw: RawClient, count: number): Promise<string[]> => {
      const frames: string[] = []
      while (frames.length < count) frames.push(shown(await raw.readFrame()))
      return frames
    }
    expect(await read(raws[0]!, 8)).toEqual(['a1', 'all 1', 'all 2', 'a2', 'ping', 'large', 'all 3', 'a3'])
    expect(await read(raws[1]!, 5)).toEqual(['all 1', 'b1', 'all 2', 'b2', 'all 3'])
  })

  it('is kept when handlers answer after they have waited', async () => {
    const { url } = await startServer({
      message: async (client, data) => {
        client.send(`begin ${data}`)
        await nextTurn()
        client.send(`end ${data}`)
      },
    })
    const answers = new Queue<Message>()
    const client = await openClient(url, { message: (_, data) => answers.push(data) })
    const count = 200
    for (let index = 0; index < count; index++) client.send(String(index))
    const expected = Array.from({ length: count }, (_, index) => [`begin ${index}`, `end ${index}`]).flat()
    expect(await answers.take(2 * count)).toEqual(expected)
  })

  it('is kept between many clients that all echo at the same time', async () => {
    const { url } = await startServer({ ...limits, message: (client, data) => void client.send(data) })
    const random = seededRandom(4)
    const messages = Array.from({ length: 12 }, () => Array.from({ length: 60 }, () => randomMessage(random)))
    await Promise.all(
      messages.map(async (sent) => {
        const answers = new Queue<Message>()
        const client = await openClient(url, { ...limits, message: (_, data) => answers.push(data) })
        for (const message of sent) {
          client.send(message)
          if (message.length % 2 === 0) await nextTurn()
        }
        const received = await answers.take(sent.length)
        for (const [index, message] of sent.entries()) {
          const answer = received[index]!
          expect(typeof answer).toBe(typeof message)
          expect(Buffer.from(answer as string).equals(Buffer.from(message as string))).toBe(true)
        }
      }),
    )
  })
})

describe('a client', () => {
  it('masks every frame, each with a key of its own', async () => {
    const peers = new Queue<RawClient>()
    const { url } = await startRawServer((peer, request) => {
      peer.send(acceptance(request))
      peers.push(peer)
    })
    const client = await openClient(url, { pingIntervalMs: 0 })
    const peer = await peers.next()
    const payloads = ['', 'hello', 'a'.repeat(126), 'b'.repeat(70_000), 'c'.repeat(2 * MIB)]
    for (const payload of payloads) {
      client.send(payload)
      client.send(Buffer.from(payload))
    }
    client.ping()
    for (const payload of payloads) {
      for (const opcode of [1, 2]) {
        const received = await peer.readFrame()
        expect([received.opcode, received.masked, received.fin]).toEqual([opcode, true, true])
        expect(received.payload.equals(Buffer.from(payload))).toBe(true)
      }
    }
    expect(await peer.readFrame()).toMatchObject({ opcode: 9, masked: true })
    peer.send(frame(9, 'are you there', { masked: false }))
    const answer = await peer.readFrame()
    expect([answer.opcode, answer.masked, String(answer.payload)]).toEqual([10, true, 'are you there'])

    const zeros = Buffer.alloc(4)
    for (let index = 0; index < 50; index++) client.send(zeros)
    const keys = new Set<string>()
    for (let index = 0; index < 50; index++) {
      const bytes = await peer.read(10)
      expect([bytes[0], bytes[1]]).toEqual([0x82, 0x84])
      // The mask of four zeros is the key itself.
      expect(bytes.subarray(2, 6).equals(bytes.subarray(6))).toBe(true)
      keys.add(bytes.subarray(2, 6).toString('hex'))
    }
    expect(keys.size).toBeGreaterThan(45)
    client.close(4_001, 'bye')
    const last = await peer.readFrame()
    expect([closeOf(last), last.masked]).toEqual([{ code: 4_001, reason: 'bye' }, true])
  })

  it('leaves what it sends as it is, although it masks', async () => {
    const { url } = await startServer({ ...limits, message: (client, data) => void client.send(data) })
    const answers = new Queue<Message>()
    const client = await openClient(url, { ...limits, message: (_, data) => answers.push(data) })
    for (const size of [5, 20_000, 200_000]) {
      const bytes = Buffer.alloc(size, 'keep')
      const copy = Buffer.from(bytes)
      client.send(bytes)
      expect(bytes.equals(copy)).toBe(true)
      expect(((await answers.next()) as Buffer).equals(copy)).toBe(true)
      expect(bytes.equals(copy)).toBe(true)
    }
  })

  it('that does not mask is closed with 1002, and so is a server that does', async () => {
    const errors = new Queue<Error>()
    const { raw } = await openPair({ error: errors.push })
    raw.send(frame(1, 'hello', { masked: false }))
    expect(closeOf(await raw.readFrame()).code).toBe(1_002)
    expect(await errors.next()).toMatchObject({ name: 'ProtocolError', code: 'ERR_MASK_REQUIRED', closeCode: 1_002 })

    const closes = new Queue<RawFrame>()
    const { url } = await startRawServer(async (peer, request) => {
      peer.send(acceptance(request), frame(1, 'hello', { masked: true }))
      closes.push(await peer.readFrame())
      peer.send(closeFrame(1_002))
      peer.end()
    })
    await openClient(url, { error: errors.push })
    expect(closeOf(await closes.next()).code).toBe(1_002)
    expect(await errors.next()).toMatchObject({ code: 'ERR_MASK_FORBIDDEN' })
  })
})
