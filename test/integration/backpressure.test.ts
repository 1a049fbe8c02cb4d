import { describe, expect, it } from 'vitest'
import type { CloseEvent, Message, WebSocketConnection, WebSocketServerOptions } from '../../src/index.ts'
import { defer, Queue } from '../support/queue.ts'
import { binary, closeOf, frame, ping, pong, RawClient, type RawFrame, text } from '../support/raw-client.ts'
import {
  acceptance,
  certificate,
  firstClient,
  nextTurn,
  openClient,
  startRawServer,
  startServer,
  until,
} from '../support/servers.ts'

const MIB = 1_048_576
const SCHEMES = ['ws', 'wss'] as const
type Scheme = (typeof SCHEMES)[number]

function tlsOf(scheme: Scheme): WebSocketServerOptions {
  return scheme === 'wss' ? { tls: certificate } : {}
}

function caOf(scheme: Scheme): string | undefined {
  return scheme === 'wss' ? certificate.cert : undefined
}

/** Waits until nothing moves any more, by a number that would. What a test then asserts holds also when it is early. */
async function settled(progress: () => number): Promise<void> {
  for (let quiet = 0, last = progress(); quiet < 25; quiet++) {
    await new Promise((resolve) => setTimeout(resolve, 4))
    if (progress() !== last) quiet = 0
    last = progress()
  }
}

describe('two ends that both have much to send', () => {
  it.each(SCHEMES)('get it all across over %s, and do not wait for each other', async (scheme) => {
    const limits = { maxMessageBytes: 16 * MIB, maxBufferedBytes: 64 * MIB }
    const { url } = await startServer({
      ...limits,
      ...tlsOf(scheme),
      message: (client, data) => void client.send(data),
    })
    const answers = new Queue<Message>()
    const client = await openClient(url, { ...limits, message: (_, data) => answers.push(data) })
    const sent = [1, 2, 3].map((byte) => Buffer.alloc(8 * MIB, byte))
    for (const message of sent) expect(client.send(message)).toBe(true)
    const received = (await answers.take(sent.length)) as Buffer[]
    for (const [index, message] of sent.entries()) expect(message.equals(received[index]!)).toBe(true)
  })
})

describe('a message handler that pauses and resumes at once, then returns a promise', () => {
  it('is called for one message at a time, and harms nobody', async () => {
    const events = new Queue<string>()
    const { url } = await startServer({
      message: async (client, data) => {
        events.push(`begin ${data}`)
        client.pause()
        client.resume()
        await new Promise((resolve) => setTimeout(resolve, 5))
        events.push(`end ${data}`)
      },
    })
    const client = await openClient(url)
    for (const message of ['1', '2', '3', '4']) client.send(message)
    expect(await events.take(8)).toEqual(
      ['1', '2', '3', '4'].flatMap((message) => [`begin ${message}`, `end ${message}`]),
    )
    client.send('5')
    expect(await events.take(2)).toEqual(['begin 5', 'end 5'])
  })
})

/** Numbered messages of many sizes: what arrives shows what is missing, and that it is whole. */
function numbered(index: number): Buffer {
  const message = Buffer.alloc(1_000 + (index % 7) * 16_000, index % 251)
  message.writeUInt32BE(index)
  return message
}

function expectNumbered({ fin, opcode, payload }: RawFrame): number {
  const index = payload.readUInt32BE(0)
  expect([fin, opcode, payload.equals(numbered(index))]).toEqual([true, 2, true])
  return index
}

describe.each(SCHEMES)("slowConsumer 'close' over %s", (scheme) => {
  it('closes with 1013: the peer gets a clean prefix, the Close frame, and nothing behind the gap', async () => {
    const events = new Queue<CloseEvent>()
    const drained: unknown[] = []
    const { server, port } = await startServer({
      ...tlsOf(scheme),
      maxBufferedBytes: MIB,
      closeTimeoutMs: 60_000,
      close: (_, event) => events.push(event),
      drain: (client) => void drained.push(client),
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    raw.stopReading()
    const client = await firstClient(server)
    let accepted = 0
    while (client.send(numbered(accepted))) {
      accepted++
      if (accepted % 10 === 0) await nextTurn()
    }
    expect(client.state).toBe('draining')
    // Over TLS everything takes a moment: it may have drained before.
    drained.length = 0
    expect(client.bufferedBytes).toBeLessThanOrEqual(MIB + 200)
    // What comes behind the gap is not sent, nor are pings.
    expect([client.send('late'), client.ping(), server.broadcast('late').sent]).toEqual([false, false, 0])
    raw.startReading()
    const frames = await raw.readFrames()
    raw.end()
    expect(closeOf(frames.pop()!)).toEqual({ code: 1013, reason: expect.stringContaining('slow') })
    expect(frames.map(expectNumbered)).toEqual(Array.from({ length: accepted }, (_, index) => index))
    expect(await events.next()).toMatchObject({ code: 1013, wasClean: false })
    expect(drained).toEqual([])
  })

  it('cuts a peer that does not read that either, after closeTimeoutMs', async () => {
    const events = new Queue<CloseEvent>()
    const { server, port } = await startServer({
      ...tlsOf(scheme),
      maxBufferedBytes: MIB,
      closeTimeoutMs: 50,
      close: (_, event) => events.push(event),
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    raw.stopReading()
    const client = await firstClient(server)
    while (client.send(Buffer.alloc(100_000))) await nextTurn()
    expect(await events.next()).toMatchObject({ code: 1013, wasClean: false })
    expect([client.state, server.clients.size]).toEqual(['closed', 0])
  })

  it('counts broadcasts too: who is too slow is dropped and closed, others get everything', async () => {
    const { server, port } = await startServer({ ...tlsOf(scheme), maxBufferedBytes: MIB })
    const slow = await RawClient.open({ port, ca: caOf(scheme) })
    slow.stopReading()
    const quick = await RawClient.open({ port, ca: caOf(scheme) })
    let index = 0
    let result = { sent: 2, dropped: 0 }
    for (; result.dropped === 0; index++) {
      expect(result).toEqual({ sent: 2, dropped: 0 })
      result = server.broadcast(numbered(index))
      expect(expectNumbered(await quick.readFrame())).toBe(index)
    }
    expect(result).toEqual({ sent: 1, dropped: 1 })
    expect(server.broadcast(numbered(index))).toEqual({ sent: 1, dropped: 0 })
    expect(expectNumbered(await quick.readFrame())).toBe(index)
    slow.startReading()
    const frames = await slow.readFrames()
    expect(closeOf(frames.at(-1)!).code).toBe(1013)
    expect(frames.slice(0, -1).map(expectNumbered)).toEqual(Array.from({ length: index - 1 }, (_, at) => at))
    slow.end()
  })
})

describe.each(SCHEMES)("slowConsumer 'drop' over %s", (scheme) => {
  it('drops whole messages, says so, and tells when there is room again', async () => {
    const drained = new Queue<number>()
    const { server, port } = await startServer({
      ...tlsOf(scheme),
      maxBufferedBytes: MIB,
      slowConsumer: 'drop',
      drain: (client) => drained.push(client.bufferedBytes),
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    const client = await firstClient(server)
    const accepted: number[] = []
    let index = 0
    for (let round = 0; round < 3; round++) {
      raw.stopReading()
      let dropped = 0
      while (dropped < 20) {
        if (client.send(numbered(index))) accepted.push(index)
        else dropped++
        index++
        if (index % 10 === 0) await nextTurn()
      }
      expect(client.state).toBe('open')
      expect(client.bufferedBytes).toBeLessThanOrEqual(MIB + 200)
      const before = drained.all.length
      // A control frame is not dropped.
      expect(client.ping()).toBe(true)
      raw.startReading()
      while (accepted.length > 0) expect(expectNumbered(await raw.readFrame())).toBe(accepted.shift())
      expect((await raw.readFrame()).opcode).toBe(9)
      await until(() => drained.all.length > before)
      expect(drained.all.at(-1)).toBe(0)
    }
    expect(client.send('and now?')).toBe(true)
    expect(await raw.readText()).toBe('and now?')
    const [close] = await raw.leave(1000)
    expect(closeOf(close!).code).toBe(1000)
  })

  it('tells it in the result of a broadcast', async () => {
    const { server, port } = await startServer({ ...tlsOf(scheme), maxBufferedBytes: MIB, slowConsumer: 'drop' })
    const slow = await RawClient.open({ port, ca: caOf(scheme) })
    slow.stopReading()
    const quick = await RawClient.open({ port, ca: caOf(scheme) })
    const accepted: number[] = []
    for (let index = 0, dropped = 0; dropped < 5; index++) {
      const result = server.broadcast(numbered(index))
      expect(expectNumbered(await quick.readFrame())).toBe(index)
      if (result.dropped === 0) accepted.push(index)
      dropped += result.dropped
      expect(result.sent + result.dropped).toBe(2)
    }
    expect(server.clients.size).toBe(2)
    slow.startReading()
    for (const index of accepted) expect(expectNumbered(await slow.readFrame())).toBe(index)
  })

  it('a message of any size may go to a peer that keeps up', async () => {
    const { server, port } = await startServer({ ...tlsOf(scheme), maxBufferedBytes: 1_000, slowConsumer: 'drop' })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    const client = await firstClient(server)
    for (const size of [100_000, 10 * MIB, 999, 1_001]) {
      expect(client.send(Buffer.alloc(size, 'any'))).toBe(true)
      expect((await raw.readFrame()).payload).toHaveLength(size)
      await client.flushed()
    }
  })
})

describe.each(SCHEMES)('many bytes for a slow peer over %s', (scheme) => {
  const count = 2_000

  /** Reads them all, with a rest now and then. */
  async function readAll(raw: RawClient): Promise<void> {
    for (let index = 0; index < count; index++) {
      if (index % 100 === 0) {
        raw.stopReading()
        await nextTurn()
        raw.startReading()
      }
      expect(expectNumbered(await raw.readFrame())).toBe(index)
    }
  }

  it('are pumped by send and drain, with no more than maxBufferedBytes here', async () => {
    let next = 0
    let most = 0
    const pump = (client: WebSocketConnection): void => {
      while (next < count && client.send(numbered(next))) next++
      most = Math.max(most, client.bufferedBytes)
    }
    const { port } = await startServer({
      ...tlsOf(scheme),
      maxBufferedBytes: MIB,
      slowConsumer: 'drop',
      open: pump,
      drain: pump,
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    await readAll(raw)
    expect(next).toBe(count)
    expect(most).toBeLessThanOrEqual(MIB)
  })

  it('are pumped by send and flushed', async () => {
    const { server, port } = await startServer({ ...tlsOf(scheme), maxBufferedBytes: MIB })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    const client = await firstClient(server)
    const reading = readAll(raw)
    for (let index = 0; index < count; index++) {
      expect(client.send(numbered(index))).toBe(true)
      if (index % 10 === 9) await client.flushed()
    }
    await reading
  })
})

describe.each(SCHEMES)('a client that sends without reading, over %s', (scheme) => {
  it('is held back; memory stays bounded, nothing is lost, and it is no slow consumer', async () => {
    const size = 4_000
    const count = 12_000
    const limit = 4 * MIB
    let most = 0
    let answered = 0
    const events: CloseEvent[] = []
    const { port } = await startServer({
      ...tlsOf(scheme),
      maxBufferedBytes: limit,
      message: (client, data) => {
        expect(client.send(data)).toBe(true)
        answered++
        most = Math.max(most, client.bufferedBytes)
      },
      close: (_, event) => void events.push(event),
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    raw.stopReading()
    const messages = Array.from({ length: count }, (_, index) => {
      const message = Buffer.alloc(size, index % 251)
      message.writeUInt32BE(index)
      return message
    })
    // 48 MB: more than the kernel takes in both directions.
    for (let at = 0; at < count; at += 100) raw.send(...messages.slice(at, at + 100).map((message) => binary(message)))
    await settled(() => answered)
    expect(answered).toBeLessThan(count)
    // The mark is a megabyte; what one read of the socket brings comes on top.
    expect(most).toBeLessThan(2 * MIB)
    raw.startReading()
    for (const message of messages) expect((await raw.readFrame()).payload.equals(message)).toBe(true)
    expect(most).toBeLessThan(2 * MIB)
    expect(events).toEqual([])
  })

  it('is held back also when it pings; a few unread pongs are allowed, more than maxPendingPongs are not', async () => {
    const events = new Queue<CloseEvent>()
    const errors = new Queue<Error>()
    const { port } = await startServer({
      ...tlsOf(scheme),
      maxPendingPongs: 1_000,
      closeTimeoutMs: 50,
      close: (_, event) => events.push(event),
      error: errors.push,
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    raw.stopReading()
    const payload = Buffer.alloc(125, 'ping')
    const burst = Buffer.concat(Array.from({ length: 1_000 }, () => ping(payload)))
    const flood = setInterval(() => raw.send(burst), 1)
    try {
      expect(await events.next()).toMatchObject({ code: 1008, wasClean: false })
    } finally {
      clearInterval(flood)
    }
    expect(await errors.next()).toMatchObject({ code: 'ERR_TOO_MANY_PINGS' })
  })
})

describe('a client that pings and reads', () => {
  it('may do so for ever', async () => {
    const { port } = await startServer({ maxPendingPongs: 10 })
    const raw = await RawClient.open({ port })
    for (let round = 0; round < 30; round++) {
      raw.send(...Array.from({ length: 100 }, (_, index) => ping(`${round} ${index}`)))
      for (let index = 0; index < 100; index++) {
        const { opcode, payload } = await raw.readFrame()
        expect([opcode, String(payload)]).toEqual([10, `${round} ${index}`])
      }
    }
  })
})

describe.each(SCHEMES)('an async message handler over %s', (scheme) => {
  it('holds back the next message; order is kept', async () => {
    const running = new Map<unknown, number>()
    const { url } = await startServer({
      ...tlsOf(scheme),
      message: async (client, data) => {
        expect(running.get(client) ?? 0).toBe(0)
        running.set(client, 1)
        const index = Number(data)
        if (index % 3 === 0) await nextTurn()
        else if (index % 3 === 1) await Promise.resolve()
        else await new Promise((resolve) => setTimeout(resolve, 1))
        running.set(client, 0)
        client.send(data)
      },
    })
    const count = 150
    const expected = Array.from({ length: count }, (_, index) => String(index))
    await Promise.all(
      [0, 1, 2].map(async () => {
        const answers = new Queue<Message>()
        const client = await openClient(url, { message: (_, data) => answers.push(data) })
        for (const message of expected) client.send(message)
        expect(await answers.take(count)).toEqual(expected)
      }),
    )
  })

  it('pauses the socket beyond a small queue: TCP holds the peer back', async () => {
    const first = defer<void>()
    const begun = new Queue<number>()
    const size = 100_000
    const count = 600
    let handled = 0
    const { port } = await startServer({
      ...tlsOf(scheme),
      message: async (_, data) => {
        begun.push((data as Buffer).readUInt32BE(0))
        await first.promise
        handled++
      },
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    for (let index = 0; index < count; index++) {
      const message = Buffer.alloc(size)
      message.writeUInt32BE(index)
      raw.send(binary(message))
    }
    const unsent = (): number => raw.socket.writableLength
    await begun.next()
    await settled(unsent)
    // 60 MB in all; the kernel takes what it likes, and this process a few messages.
    expect(unsent()).toBeGreaterThan(10_000_000)
    expect(begun.all).toEqual([0])
    first.resolve()
    expect(await begun.take(count - 1)).toEqual(Array.from({ length: count - 1 }, (_, index) => index + 1))
    await until(() => handled === count)
  })

  it('does not hold back other clients', async () => {
    const forever = defer<void>()
    const { port } = await startServer({
      ...tlsOf(scheme),
      message: (client, data) => (data === 'wait' ? forever.promise : void client.send(data)),
    })
    const waiting = await RawClient.open({ port, ca: caOf(scheme) })
    const other = await RawClient.open({ port, ca: caOf(scheme) })
    waiting.send(text('wait'), text('behind'))
    other.send(text('hello'))
    expect(await other.readText()).toBe('hello')
    // Control frames of that client are answered too, as long as it is read.
    waiting.send(ping('there?'))
    expect((await waiting.readFrame()).opcode).toBe(10)
    forever.resolve()
    expect(await waiting.readText()).toBe('behind')
  })

  it('gets all messages before close is told, also when the peer has left meanwhile', async () => {
    const events = new Queue<string>()
    const { port } = await startServer({
      ...tlsOf(scheme),
      message: async (_, data) => {
        await nextTurn()
        events.push(String(data))
      },
      close: (_, { code }) => events.push(`close ${code}`),
    })
    const raw = await RawClient.open({ port, ca: caOf(scheme) })
    raw.send(text('1'), text('2'), text('3'))
    await raw.leave(4_000)
    expect(await events.take(4)).toEqual(['1', '2', '3', 'close 4000'])
  })
})

describe('pause and resume', () => {
  it('stop and continue the delivery of messages; the peer is held back meanwhile', async () => {
    const received = new Queue<Message>()
    const { server, port } = await startServer({ message: (_, data) => received.push(data) })
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    client.pause()
    const size = 500_000
    const count = 100
    for (let index = 0; index < count; index++) raw.send(binary(Buffer.alloc(size, index)))
    await settled(() => raw.socket.writableLength)
    expect(raw.socket.writableLength).toBeGreaterThan(10_000_000)
    // What one read of the socket had brought already is not delivered either.
    expect(received.all.length).toBe(0)
    client.resume()
    for (let index = 0; index < count; index++) {
      const message = (await received.next()) as Buffer
      expect([message.length, message[0], message[size - 1]]).toEqual([size, index, index])
    }
  })

  it('hold in the middle of a chunk', async () => {
    const received: Message[] = []
    const paused = new Queue<WebSocketConnection>()
    const { port } = await startServer({
      message: (client, data) => {
        received.push(data)
        if (data === 'pause') {
          client.pause()
          paused.push(client)
        }
      },
    })
    const raw = await RawClient.open({ port })
    raw.send(text('1'), text('pause'), text('2'), frame(1, 'half', { fin: false }), ping(), frame(0, ' whole'))
    const client = await paused.next()
    await nextTurn()
    await nextTurn()
    expect(received).toEqual(['1', 'pause'])
    // Twice is once.
    client.pause()
    client.resume()
    expect((await raw.readFrame()).opcode).toBe(10)
    await until(() => received.length === 4)
    expect(received).toEqual(['1', 'pause', '2', 'half whole'])
  })

  it('hold also what waits behind an async handler', async () => {
    const events = new Queue<string>()
    const gate = defer()
    const { server, port } = await startServer({
      message: async (_, data) => {
        events.push(`begin ${data}`)
        await gate.promise
        events.push(`end ${data}`)
      },
    })
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    raw.send(text('1'), text('2'), text('3'))
    expect(await events.next()).toBe('begin 1')
    client.pause()
    gate.resolve()
    expect(await events.next()).toBe('end 1')
    await nextTurn()
    await nextTurn()
    expect(events.all).toHaveLength(2)
    client.resume()
    expect(await events.take(4)).toEqual(['begin 2', 'end 2', 'begin 3', 'end 3'])
  })

  it('may hide the end of a peer; it is told behind resume', async () => {
    const events = new Queue<unknown>()
    const { server, port } = await startServer({
      message: (_, data) => events.push(data),
      close: (_, { code }) => events.push(code),
    })
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    client.pause()
    await nextTurn()
    raw.send(text('last words'))
    raw.end()
    await nextTurn()
    await nextTurn()
    expect(events.all).toEqual([])
    client.resume()
    expect(await events.take(2)).toEqual(['last words', 1006])
  })

  it('do not keep from sending', async () => {
    const { server, port } = await startServer()
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    client.pause()
    client.send('hello')
    expect(await raw.readText()).toBe('hello')
    await client.flushed()
  })

  it('do not keep from closing: close() reads on, so that the peer’s answer is seen', async () => {
    const events = new Queue<CloseEvent>()
    const { server, port } = await startServer({ closeTimeoutMs: 60_000, close: (_, event) => events.push(event) })
    const raw = await RawClient.open({ port })
    const client = await firstClient(server)
    client.pause()
    await nextTurn()
    client.close(4_000)
    expect(closeOf(await raw.readFrame()).code).toBe(4_000)
    await raw.leave(4_000)
    expect(await events.next()).toEqual({ code: 4_000, reason: '', wasClean: true })
  })

  it('work in the client role too', async () => {
    const received: Message[] = []
    const { server, url } = await startServer()
    const client = await openClient(url, { message: (_, data) => void received.push(data) })
    client.pause()
    const opened = await firstClient(server)
    opened.send('later')
    opened.ping()
    await opened.flushed()
    await nextTurn()
    await nextTurn()
    expect(received).toEqual([])
    client.resume()
    await until(() => received.length === 1)
  })
})

describe('while an async open handler runs', () => {
  it('messages wait, in order; also many of them', async () => {
    const gate = defer<void>()
    const events = new Queue<string>()
    const { port } = await startServer({
      open: async () => {
        events.push('open')
        await gate.promise
        events.push('opened')
      },
      message: (_, data) => events.push(String(data)),
    })
    const raw = await RawClient.open({ port })
    const count = 500
    for (let index = 0; index < count; index++) raw.send(text(String(index)))
    expect(await events.next()).toBe('open')
    raw.send(text('last'))
    await nextTurn()
    expect(events.all).toEqual(['open'])
    gate.resolve()
    const numbers = Array.from({ length: count }, (_, index) => String(index))
    expect(await events.take(count + 2)).toEqual(['opened', ...numbers, 'last'])
  })

  it('the client may be sent to, and may leave', async () => {
    const gate = defer<void>()
    const events = new Queue<string>()
    const { port } = await startServer({
      open: async (client) => {
        client.send('welcome')
        await gate.promise
        events.push(`opened ${client.send('too late')}`)
      },
      message: (_, data) => events.push(String(data)),
      close: (_, { code }) => events.push(`close ${code}`),
    })
    const raw = await RawClient.open({ port })
    expect(await raw.readText()).toBe('welcome')
    raw.send(text('and'))
    await raw.leave(4_000)
    gate.resolve()
    expect(await events.take(3)).toEqual(['opened false', 'and', 'close 4000'])
  })
})

describe('the heartbeat', () => {
  it('cuts a peer that does not answer', async () => {
    const events = new Queue<CloseEvent>()
    const { server, port } = await startServer({
      pingIntervalMs: 30,
      pongTimeoutMs: 30,
      close: (_, event) => events.push(event),
    })
    const raw = await RawClient.open({ port })
    expect((await raw.readFrame()).opcode).toBe(9)
    expect(await events.next()).toMatchObject({ code: 1006, reason: expect.stringMatching(/ping/), wasClean: false })
    expect(server.clients.size).toBe(0)
    await raw.ended()
  })

  it('cuts a dead peer also while there is something unread for it', async () => {
    const events = new Queue<CloseEvent>()
    const { port } = await startServer({
      pingIntervalMs: 30,
      pongTimeoutMs: 30,
      maxBufferedBytes: 64 * MIB,
      open: (client) => void client.send(Buffer.alloc(32 * MIB)),
      close: (_, event) => events.push(event),
    })
    await RawClient.open({ port, paused: true })
    expect(await events.next()).toMatchObject({ code: 1006, wasClean: false })
  })

  it('lets a peer live that answers, and one that says anything', async () => {
    const events: CloseEvent[] = []
    const { port } = await startServer({
      pingIntervalMs: 20,
      pongTimeoutMs: 5_000,
      close: (_, event) => void events.push(event),
      message: (client, data) => void client.send(data),
    })
    const raw = await RawClient.open({ port })
    for (let round = 0; round < 10; round++) {
      const { opcode, payload } = await raw.readFrame()
      expect(opcode).toBe(9)
      if (round % 2 === 0) raw.send(pong(payload))
      else {
        raw.send(text(String(round)))
        expect(await raw.readText()).toBe(String(round))
      }
    }
    expect(events).toEqual([])
  })

  it('lets two of ours live for as long as they like, and knows the latency', async () => {
    const events: CloseEvent[] = []
    const times = { pingIntervalMs: 10, pongTimeoutMs: 5_000 }
    const { server, url } = await startServer({ ...times, close: (_, event) => void events.push(event) })
    const client = await openClient(url, times)
    const opened = await firstClient(server)
    // Whoever pings first keeps the other quiet; one of them measures.
    await until(() => client.latencyMs !== undefined || opened.latencyMs !== undefined)
    await new Promise((resolve) => setTimeout(resolve, 150))
    expect(events).toEqual([])
    expect([client.state, opened.state]).toEqual(['open', 'open'])
  })

  it('is off when told so', async () => {
    const { port } = await startServer({ pingIntervalMs: 0, pongTimeoutMs: 10 })
    const raw = await RawClient.open({ port })
    await new Promise((resolve) => setTimeout(resolve, 150))
    expect([raw.pending.length, raw.socket.destroyed]).toEqual([0, false])
    raw.send(ping('still there?'))
    expect((await raw.readFrame()).opcode).toBe(10)
  })

  it('works in the client role: a server that is silent is cut', async () => {
    const events = new Queue<CloseEvent>()
    const { url } = await startRawServer((peer, request) => peer.send(acceptance(request)))
    await openClient(url, { pingIntervalMs: 20, pongTimeoutMs: 20, close: (_, event) => events.push(event) })
    expect(await events.next()).toMatchObject({ code: 1006, wasClean: false })
  })

  it.each(SCHEMES)(
    'lets a slow reader live that makes progress, although it answers nothing, over %s',
    async (scheme) => {
      const chunk = Buffer.alloc(4 * MIB, 'slow')
      const events: CloseEvent[] = []
      const { server, port } = await startServer({
        ...tlsOf(scheme),
        pingIntervalMs: 150,
        pongTimeoutMs: 150,
        maxBufferedBytes: 64 * MIB,
        close: (_, event) => void events.push(event),
      })
      const raw = await RawClient.open({ port, ca: caOf(scheme) })
      const client = await firstClient(server)
      // One chunk of bytes at a time.
      const stop = (): void => raw.stopReading()
      raw.socket.on('data', stop)
      raw.stopReading()
      let sent = 0
      // Long enough to be cut, were it not for its progress.
      for (const started = performance.now(); performance.now() - started < 2_000; ) {
        while (client.bufferedBytes < 2 * chunk.length) {
          client.send(chunk)
          sent++
        }
        const before = raw.received
        raw.startReading()
        await until(() => raw.received > before)
        expect(events).toEqual([])
      }
      raw.socket.off('data', stop)
      raw.startReading()
      while (sent > 0) {
        const { opcode, payload } = await raw.readFrame()
        if (opcode === 9) continue
        expect(payload.equals(chunk)).toBe(true)
        sent--
      }
    },
  )

  it.each(SCHEMES)(
    'lets a client live whose handler is busy for long, although it is not read, over %s',
    async (scheme) => {
      const events = new Queue<CloseEvent>()
      const gate = defer<void>()
      const handled = new Queue<Message>()
      const { port } = await startServer({
        ...tlsOf(scheme),
        pingIntervalMs: 20,
        pongTimeoutMs: 20,
        message: async (_, data) => {
          await gate.promise
          handled.push(data)
        },
        close: (_, event) => events.push(event),
      })
      const raw = await RawClient.open({ port, ca: caOf(scheme) })
      // More than the queue holds: it is not read any more, and could answer no ping.
      const count = 100
      raw.send(...Array.from({ length: count }, (_, index) => text(String(index))))
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect(events.all).toEqual([])
      gate.resolve()
      expect(await handled.take(count)).toEqual(Array.from({ length: count }, (_, index) => String(index)))
    },
  )

  it('lets a client live that is paused for long', async () => {
    const events: CloseEvent[] = []
    const { server, port } = await startServer({
      pingIntervalMs: 20,
      pongTimeoutMs: 20,
      close: (_, event) => void events.push(event),
    })
    await RawClient.open({ port })
    const client = await firstClient(server)
    client.pause()
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(events).toEqual([])
    expect(client.state).toBe('open')
  })
})
