import { once } from 'node:events'
import { constants, deflateRawSync } from 'node:zlib'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import {
  type CloseEvent,
  type ConnectOptions,
  type Message,
  type MessageStream,
  reconnecting,
  toWebStreams,
  UsageError,
  WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { usedBytes } from '../support/garbage.ts'
import { defer, Queue } from '../support/queue.ts'
import { closeOf, frame, ping, pong, RawClient, text } from '../support/raw-client.ts'
import { certificate, firstClient, nextTurn, openClient, startServer, until } from '../support/servers.ts'

const MIB = 1_048_576
const TAKEOVER = { serverNoContextTakeover: false, clientNoContextTakeover: false }
const COMPRESSIONS = [
  ['no compression', false],
  ['compression', true],
  ['context takeover', TAKEOVER],
] as const
const CLOSED = { code: 'ERR_CONNECTION_CLOSED' }

function records(size: number): string {
  let all = ''
  for (let index = 0; all.length < size; index++) all += `{"id":${index},"name":"Zoë ${(index * 7_919) % 10_007} 😀"},`
  return all.slice(0, size)
}

/** The whole of it, put together. */
async function collect({ type, readable }: MessageStream): Promise<Message> {
  const pieces: (string | Buffer)[] = []
  for await (const piece of readable) {
    expect(typeof piece).toBe(type === 'text' ? 'string' : 'object')
    expect(piece.length).toBeGreaterThan(0)
    pieces.push(piece)
  }
  return type === 'text' ? pieces.join('') : Buffer.concat(pieces as Buffer[])
}

/** A server that takes messages piece by piece. */
async function startStreamed(options: WebSocketServerOptions = {}) {
  const closed = new Queue<CloseEvent>()
  const errors = new Queue<Error>()
  const messages = new Queue<MessageStream>()
  const started = await startServer({
    messageStream: (_, message) => messages.push(message),
    close: (_, event) => closed.push(event),
    error: errors.push,
    ...options,
  })
  return { ...started, closed, errors, messages }
}

/** A server, and a client that is told what comes. */
async function openOut(serverOptions: WebSocketServerOptions = {}, options: ConnectOptions = {}) {
  const received = new Queue<Message>()
  const ends = new Queue<CloseEvent>()
  const closed = new Queue<CloseEvent>()
  const { server, url } = await startServer({ close: (_, event) => closed.push(event), ...serverOptions })
  const peer = await openClient(url, {
    maxMessageBytes: 64 * MIB,
    message: (_, data) => received.push(data),
    close: (_, event) => ends.push(event),
    ...options,
  })
  return { server, client: await firstClient(server), peer, received, ends, closed }
}

async function openRaw(options: WebSocketServerOptions = {}) {
  const started = await startStreamed(options)
  const raw = await RawClient.open({ port: started.port })
  return { ...started, raw, client: await firstClient(started.server) }
}

/** A raw peer that has agreed on compression. */
async function openCompressedRaw(options: WebSocketServerOptions = {}) {
  const started = await startStreamed({ compression: true, ...options })
  const headers = { 'Sec-WebSocket-Extensions': 'permessage-deflate' }
  const raw = await RawClient.open({ port: started.port, headers })
  const client = await firstClient(started.server)
  expect(client.compressed).toBe(true)
  return { ...started, raw, client }
}

/** A frame of a client with RSV1. */
function compressedFrame(opcode: number, payload: Uint8Array): Buffer {
  const bytes = frame(opcode, payload)
  bytes[0]! |= 0x40
  return bytes
}

async function openWs(url: string, options: ClientOptions = {}) {
  const ws = new WebSocket(url, { maxPayload: 64 * MIB, ...options })
  onTestFinished(() => ws.terminate())
  const messages = new Queue<Message>()
  ws.on('message', (data, isBinary) => messages.push(isBinary ? (data as Buffer) : String(data)))
  await once(ws, 'open')
  return { ws, messages }
}

function settled(promise: Promise<unknown>): { readonly isSettled: boolean } {
  const state = { isSettled: false }
  const settle = (): void => {
    state.isSettled = true
  }
  promise.then(settle, settle)
  return state
}

/** Memory that this process holds, in bytes, at the most, while something goes on. */
async function mostMemory(work: () => Promise<void>): Promise<number> {
  const before = usedBytes()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, usedBytes())
  }, 300)
  await work()
  clearInterval(timer)
  return most - before
}

// ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

describe('a message that is sent as a stream', () => {
  it('is one message; each write is a fragment', async () => {
    const { raw, client } = await openRaw()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write('one')
    expect(await raw.readFrame()).toMatchObject({ fin: false, opcode: 1, payload: Buffer.from('one') })
    await writer.write('')
    await writer.write(Buffer.from('two'))
    await writer.close()
    expect(await raw.readFrame()).toMatchObject({ fin: false, opcode: 0, payload: Buffer.from('two') })
    expect(await raw.readFrame()).toMatchObject({ fin: true, opcode: 0, payload: Buffer.alloc(0) })
    await client.sendStream({ type: 'binary' }).close()
    expect(await raw.readFrame()).toMatchObject({ fin: true, opcode: 2, payload: Buffer.alloc(0) })
  })

  it.each(COMPRESSIONS)('arrives, in both directions, at ours and at ws: %s', async (_, compression) => {
    const received = new Queue<Message>()
    const {
      server,
      client,
      peer,
      received: answers,
    } = await openOut(
      { compression, maxMessageBytes: 64 * MIB, message: (__, data) => received.push(data) },
      { compression },
    )
    const { ws, messages } = await openWs(`ws://127.0.0.1:${server.port}`)
    await until(() => server.clients.size === 2)
    const other = [...server.clients.values()][1]!
    expect(ws.extensions !== '').toBe(compression !== false)
    const message = records(3_000_000)
    const chunks = [7, 100, 65_536, 70_001, 16_384, 16_385, 1_000_000]
    for (const [from, to] of [
      [client, answers],
      [peer, received],
      [other, messages],
    ] as const) {
      for (const type of ['text', 'binary'] as const) {
        for (const compress of [undefined, false]) {
          const writer = from.sendStream({ type, compress }).getWriter()
          for (let at = 0, count = 0; at < message.length; count++) {
            const part = message.slice(at, at + chunks[count % 7]!)
            at += part.length
            // A string may be cut anywhere.
            await writer.write(type === 'text' ? part : Buffer.from(part, 'latin1'))
          }
          void writer.close()
          from.send('behind it')
          const expected = type === 'text' ? message : Buffer.from(message, 'latin1')
          const got = await to.next()
          expect(got.length).toBe(expected.length)
          expect(typeof got === 'string' ? got === expected : got.equals(expected as Buffer)).toBe(true)
          expect(await to.next()).toBe('behind it')
        }
      }
    }
  })

  it('text may be cut inside of a character, as string or as bytes', async () => {
    const { client, received } = await openOut()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    for (const unit of 'a😀€'.split('')) await writer.write(unit)
    for (const byte of Buffer.from('b😀€')) await writer.write(Uint8Array.of(byte))
    await writer.write('c\ud83d')
    await writer.write(Buffer.from('x'))
    await writer.write('\ud83d')
    await writer.close()
    expect(await received.next()).toBe('a😀€b😀€c\uFFFDx\uFFFD')
  })

  it('everything else waits behind it and is counted; pings and pongs do not', async () => {
    const { raw, client, server } = await openRaw()
    const stream = client.sendStream({ type: 'text' })
    const writer = stream.getWriter()
    await writer.write('one')
    expect(client.send('message')).toBe(true)
    expect(server.broadcast('broadcast').sent).toBe(1)
    const second = client.sendStream({ type: 'binary' }).getWriter()
    const written = second.write(Buffer.from('second'))
    const flushed = settled(client.flushed())
    const delivered = settled(client.delivered())
    client.close(1000)
    await nextTurn()
    expect(client.bufferedBytes).toBe('message'.length + 'broadcast'.length + 2)
    raw.send(ping('still there?'))
    const frames = [await raw.readFrame(), await raw.readFrame()]
    expect(frames.map(({ opcode, payload }) => `${opcode} ${payload}`)).toEqual(['1 one', '10 still there?'])
    expect([flushed.isSettled, delivered.isSettled]).toEqual([false, false])
    await writer.write('two')
    await writer.close()
    await written
    expect([flushed.isSettled, delivered.isSettled]).toEqual([false, false])
    await second.close()
    const rest: string[] = []
    for (;;) {
      const { opcode, payload, fin } = await raw.readFrame()
      rest.push(`${opcode}${fin ? '' : '+'} ${opcode > 7 ? '' : payload}`)
      if (opcode === 9) raw.send(pong(payload))
      if (opcode === 8) break
    }
    expect(rest).toEqual(['0+ two', '0 ', '1 message', '1 broadcast', '2+ second', '0 ', '9 ', '8 '])
    raw.send(Buffer.from([0x88, 0x80, 0, 0, 0, 0]))
  })

  it('flushed() and delivered() resolve behind it', async () => {
    const { client, received } = await openOut()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write('one')
    const done = Promise.all([client.flushed(), client.delivered()])
    const state = settled(done)
    await nextTurn()
    expect(state.isSettled).toBe(false)
    await writer.close()
    await done
    expect(await received.next()).toBe('one')
  })

  it('a write takes as long as the peer makes it wait', async () => {
    const { client, peer, received } = await openOut()
    peer.pause()
    const writer = client.sendStream({ type: 'binary' }).getWriter()
    let written = 0
    const writing = (async () => {
      for (; written < 200; written++) await writer.write(Buffer.alloc(100_000, written))
      await writer.close()
    })()
    for (let last = -1; last < written; await new Promise((resolve) => setTimeout(resolve, 50))) last = written
    expect(written).toBeLessThan(200)
    expect(client.bufferedBytes).toBeLessThan(5 * MIB)
    peer.resume()
    await writing
    expect(await received.next()).toHaveLength(20_000_000)
  })

  it('of 200 MiB takes little memory, out and in', async () => {
    for (const compression of [false, TAKEOVER]) {
      const size = 200 * MIB
      const done = new Queue<number>()
      const count = async ({ readable }: MessageStream): Promise<void> => {
        let bytes = 0
        for await (const piece of readable) bytes += piece.length
        done.push(bytes)
      }
      const { server, url } = await startStreamed({ compression, messageStream: (_, message) => count(message) })
      const peer = await openClient(url, { compression, messageStream: (_, message) => count(message) })
      const client = await firstClient(server)
      expect(client.compressed).toBe(compression !== false)
      const chunk = Buffer.from(records(60_000))
      for (const from of [client, peer]) {
        const most = await mostMemory(async () => {
          const writer = from.sendStream({ type: 'binary' }).getWriter()
          let sent = 0
          for (; sent < size; sent += chunk.length) await writer.write(chunk)
          await writer.close()
          expect(await done.next()).toBe(sent)
        })
        expect(most).toBeLessThan(5 * MIB)
      }
    }
  }, 60_000)

  it.each(['before its turn', 'before anything was written'])('abort %s has no consequences', async (when) => {
    const { client, received } = await openOut()
    const first = client.sendStream({ type: 'text' }).getWriter()
    const stream = when === 'before its turn' ? client.sendStream({ type: 'text' }) : undefined
    const writer = stream?.getWriter() ?? first
    const written = stream && writer.write('never').catch((error: unknown) => error)
    client.send('behind it')
    await writer.abort(new Error('no more'))
    if (stream) expect(await written).toMatchObject({ message: 'no more' })
    if (stream) {
      await first.write('first')
      await first.close()
      expect(await received.next()).toBe('first')
    }
    expect(await received.next()).toBe('behind it')
    expect(client.state).toBe('open')
    expect(client.bufferedBytes).toBe(0)
  })

  it('abort fails the connection when something was written', async () => {
    const { client, ends, closed } = await openOut()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write('begun')
    client.send('never')
    await writer.abort(new Error('no more'))
    expect(await ends.next()).toMatchObject({ code: 1011, reason: 'a message was given up' })
    expect(await closed.next()).toMatchObject({ code: 1011, wasClean: false })
  })

  it('abort does not wait for a peer that does not read', async () => {
    const { client, peer } = await openOut({ closeTimeoutMs: 60_000 })
    peer.pause()
    const writer = client.sendStream({ type: 'binary' }).getWriter()
    const writes = Array.from({ length: 10 }, () => writer.write(Buffer.alloc(2 * MIB)).catch(() => 'failed'))
    await nextTurn()
    await writer.abort()
    expect(await writes.at(-1)).toBe('failed')
    expect(client.state).toBe('draining')
  })

  it('what cannot be sent is refused; the connection goes on when nothing was sent', async () => {
    const { client, received, closed } = await openOut()
    expect(() => client.sendStream({ type: 'blob' as never })).toThrow(UsageError)
    for (const [type, ...chunks] of [
      ['binary', 'a string'],
      ['text', Buffer.of(0xff)],
      ['text', Buffer.of(0xed, 0xa0)],
      ['text', 1],
    ] as const) {
      const writer = client.sendStream({ type }).getWriter()
      await expect(writer.write(chunks[0] as never)).rejects.toMatchObject({ code: 'ERR_DATA_TYPE' })
    }
    client.send('fine')
    expect(await received.next()).toBe('fine')
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write(Buffer.of(0xe2, 0x82))
    await expect(writer.write('a string')).rejects.toMatchObject({ code: 'ERR_DATA_TYPE' })
    expect(await closed.next()).toMatchObject({ code: 1011 })
  })

  it('text that ends inside a character fails as a whole', async () => {
    const { client, closed } = await openOut()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write(Buffer.of(0xe2, 0x82))
    await expect(writer.close()).rejects.toMatchObject({ code: 'ERR_DATA_TYPE' })
    expect(await closed.next()).toMatchObject({ code: 1011 })
  })

  it.each(['terminate', 'reset', 'end'])('fails when the connection ends: %s', async (how) => {
    const { raw, client } = await openRaw()
    const begun = client.sendStream({ type: 'text' }).getWriter()
    const waiting = client.sendStream({ type: 'text' }).getWriter()
    await begun.write('begun')
    const write = waiting.write('waits')
    const closedPromises = [begun.closed, waiting.closed, write]
    for (const each of closedPromises) each.catch(() => {})
    if (how === 'terminate') client.terminate()
    else if (how === 'reset') raw.reset()
    else raw.end()
    for (const each of closedPromises) await expect(each).rejects.toMatchObject(CLOSED)
    const late = client.sendStream({ type: 'text' }).getWriter()
    await expect(late.write('late')).rejects.toMatchObject(CLOSED)
    await expect(client.sendStream({ type: 'text' }).close()).rejects.toMatchObject(CLOSED)
  })

  it('fails a write that waits for the peer when the connection is cut', async () => {
    const { client, peer } = await openOut()
    peer.pause()
    const writer = client.sendStream({ type: 'binary' }).getWriter()
    const write = writer.write(Buffer.alloc(32 * MIB))
    write.catch(() => {})
    await nextTurn()
    client.terminate()
    await expect(write).rejects.toMatchObject(CLOSED)
  })

  it('what waits behind it counts towards maxBufferedBytes; with drop the message goes on', async () => {
    const { client, received } = await openOut({ maxBufferedBytes: 100_000, slowConsumer: 'drop' })
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write('one')
    expect(client.send(Buffer.alloc(90_000))).toBe(true)
    expect(client.send(Buffer.alloc(90_000))).toBe(false)
    await writer.write('x'.repeat(300_000))
    await writer.close()
    expect(await received.next()).toHaveLength(300_003)
    expect(await received.next()).toHaveLength(90_000)
  })

  it('close() waits for it, as far as closeTimeoutMs', async () => {
    const { client, received, ends } = await openOut()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write('one')
    client.close(1000, 'bye')
    await writer.write('two')
    await writer.close()
    expect(await received.next()).toBe('onetwo')
    expect(await ends.next()).toEqual({ code: 1000, reason: 'bye', wasClean: true })

    const other = await openOut({ closeTimeoutMs: 50 })
    const open = other.client.sendStream({ type: 'text' }).getWriter()
    await open.write('one')
    other.client.close(1000)
    expect(await other.ends.next()).toMatchObject({ code: 1006 })
    await expect(open.closed).rejects.toMatchObject(CLOSED)
  })

  it('a failure while close() waits for it tells the peer why', async () => {
    const { client, ends } = await openOut()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write('one')
    client.close(1000)
    await writer.abort()
    expect(await ends.next()).toMatchObject({ code: 1011 })
  })

  it('a peer may close in the middle: it gets the rest, and the answer behind it', async () => {
    const { raw, client } = await openRaw()
    const writer = client.sendStream({ type: 'text' }).getWriter()
    await writer.write('one')
    raw.send(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]))
    await until(() => client.state === 'draining')
    await writer.write('two')
    await writer.close()
    const frames = await raw.readFrames()
    expect(frames.map(({ opcode }) => opcode)).toEqual([1, 0, 0, 8])
    expect(closeOf(frames.at(-1)!).code).toBe(1000)
    raw.end()
  })

  it('may take longer than the heartbeat', async () => {
    const { client, peer, received, closed } = await openOut(
      { pingIntervalMs: 30, pongTimeoutMs: 60 },
      { pingIntervalMs: 30, pongTimeoutMs: 60 },
    )
    for (const from of [client, peer]) {
      const writer = from.sendStream({ type: 'text' }).getWriter()
      for (let count = 0; count < 10; count++) {
        await writer.write('x')
        await new Promise((resolve) => setTimeout(resolve, 25))
      }
      await writer.close()
    }
    expect(await received.next()).toBe('x'.repeat(10))
    expect([client.state, peer.state, closed.all]).toEqual(['open', 'open', []])
    expect(client.latencyMs).toBeGreaterThan(0)
  })

  it('goes over TLS', async () => {
    const { client, received } = await openOut({ tls: certificate })
    const writer = client.sendStream({ type: 'binary' }).getWriter()
    for (let count = 0; count < 100; count++) await writer.write(Buffer.alloc(50_000, count))
    await writer.close()
    const message = (await received.next()) as Buffer
    for (let count = 0; count < 100; count++) expect(message[count * 50_000 + 7]).toBe(count)
  })

  it('takes what is piped into it', async () => {
    const { client, received } = await openOut()
    await new Blob([records(500_000)]).stream().pipeTo(client.sendStream({ type: 'text' }))
    expect(await received.next()).toBe(Buffer.from(records(500_000)).toString())
  })
})

// ── in ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

describe('a message that is received as a stream', () => {
  it('begins with its first piece, and ends with its last', async () => {
    const { raw, messages } = await openRaw()
    raw.send(frame(1, 'one', { fin: false }))
    const { type, readable } = await messages.next()
    expect(type).toBe('text')
    const reader = readable.getReader()
    expect(await reader.read()).toEqual({ done: false, value: 'one' })
    const next = reader.read()
    raw.send(ping('between'), frame(0, 'two', { fin: false }))
    expect(await next).toEqual({ done: false, value: 'two' })
    expect((await raw.readFrame()).payload.toString()).toBe('between')
    raw.send(frame(0, ''))
    expect(await reader.read()).toEqual({ done: true, value: undefined })
    raw.send(frame(2, 'three'))
    expect(await collect(await messages.next())).toEqual(Buffer.from('three'))
  })

  it.each(COMPRESSIONS)('is whole, from a client of ws: %s', async (_, compression) => {
    const { url, messages } = await startStreamed({ compression })
    const { ws } = await openWs(url, { perMessageDeflate: { threshold: 0 } })
    expect(ws.extensions !== '').toBe(compression !== false)
    const whole = Buffer.from(records(1_000_000))
    for (const size of [333, 70_000, 2_000_000]) {
      for (const binary of [false, true]) {
        for (let at = 0; at < whole.length; at += size) {
          const part = whole.subarray(at, at + size)
          ws.send(part, { fin: at + size >= whole.length, binary })
        }
        const got = await collect(await messages.next())
        expect(typeof got === 'string' ? got === whole.toString() : got.equals(whole)).toBe(true)
        ws.send('short')
        expect(await collect(await messages.next())).toBe('short')
        ws.send('')
        expect(await collect(await messages.next())).toBe('')
      }
    }
  })

  it('a client takes them as well, and iterates over nothing then', async () => {
    const { server, url } = await startServer()
    const messages = new Queue<Message>()
    const peer = await openClient(url, {
      messageStream: async (_, message) => messages.push(await collect(message)),
    })
    const client = await firstClient(server)
    client.send(records(2_000_000))
    expect((await messages.next()) === Buffer.from(records(2_000_000)).toString()).toBe(true)
    expect(() => toWebStreams(peer)).toThrow(expect.objectContaining({ code: 'ERR_ITERATION' }))
  })

  it('there is one handler for messages', async () => {
    const both = { message() {}, messageStream() {} }
    expect(() => new WebSocketServer(both)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    const { url } = await startServer()
    await expect(openClient(url, both)).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })

  it('limits count where they are given, and not by themselves', async () => {
    const { raw, messages, errors } = await openRaw({ maxMessageBytes: 100 })
    raw.send(frame(2, Buffer.alloc(60), { fin: false }), frame(0, Buffer.alloc(60)))
    const failing = collect(await messages.next())
    await expect(failing).rejects.toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG' })
    expect(await errors.next()).toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG' })
    const other = await openRaw()
    for (let count = 0; count < 3_000; count++) other.raw.send(frame(count === 0 ? 2 : 0, 'x', { fin: false }))
    other.raw.send(frame(0, 'x'))
    expect(await collect(await other.messages.next())).toHaveLength(3_001)
  })

  it('a slow reader holds the peer back', async () => {
    const { server, url, messages } = await startStreamed()
    const peer = await openClient(url, { maxBufferedBytes: Number.POSITIVE_INFINITY })
    const size = 64 * MIB
    peer.send(Buffer.alloc(size, 'abc'))
    const { readable } = await messages.next()
    let waiting = -1
    for (; waiting !== peer.bufferedBytes; await new Promise((resolve) => setTimeout(resolve, 50))) {
      waiting = peer.bufferedBytes
    }
    // Kernel buffers took some of it; the receiver has not.
    expect(waiting).toBeGreaterThan(size / 2)
    expect((await firstClient(server)).state).toBe('open')
    const reader = readable.getReader()
    const first = (await reader.read()).value as Buffer
    let bytes = first.length
    for (let next = await reader.read(); !next.done; next = await reader.read()) bytes += next.value.length
    expect(bytes).toBe(size)
    expect(peer.bufferedBytes).toBe(0)
  })

  it('a bomb does not get far ahead of its reader', async () => {
    const { raw, messages, client } = await openCompressedRaw()
    // 300 MiB in 300 KB.
    const part = deflateRawSync(Buffer.alloc(3 * MIB), { finishFlush: constants.Z_SYNC_FLUSH })
    const bomb = compressedFrame(2, Buffer.concat(new Array(100).fill(part)).subarray(0, -4))
    const most = await mostMemory(async () => {
      raw.send(bomb)
      const { readable } = await messages.next()
      const reader = readable.getReader()
      for (let count = 0; count < 20; count++) {
        await reader.read()
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      await reader.cancel()
    })
    expect(most).toBeLessThan(20 * MIB)
    raw.send(text('next'))
    expect(await collect(await messages.next())).toBe('next')
    expect(client.state).toBe('open')
  })

  it('cancel() discards the rest, and the next message comes', async () => {
    const { raw, messages, client } = await openRaw()
    raw.send(frame(2, Buffer.alloc(200_000), { fin: false }))
    const { readable } = await messages.next()
    for await (const piece of readable) {
      expect(piece.length).toBeGreaterThan(0)
      break
    }
    raw.send(frame(0, Buffer.alloc(300_000), { fin: false }), frame(0, 'end'), text('next'))
    expect(await collect(await messages.next())).toBe('next')
    raw.send(text('x'.repeat(100_000)), text('last'))
    await (await messages.next()).readable.cancel()
    expect(await collect(await messages.next())).toBe('last')
    expect(client.state).toBe('open')
  })

  it('what is not valid is still found in what was cancelled', async () => {
    const { raw, messages, closed } = await openRaw()
    raw.send(frame(1, 'one', { fin: false }))
    await (await messages.next()).readable.cancel()
    raw.send(frame(0, Buffer.of(0xff)))
    expect(closeOf((await raw.readFrames()).at(-1)!).code).toBe(1007)
    raw.end()
    expect(await closed.next()).toMatchObject({ code: 1007 })
  })

  it('a promise keeps back the next message, and that alone', async () => {
    const gates = [defer(), defer(), defer()]
    const events = new Queue<string>()
    const contents = new Queue<Promise<Message>>()
    let count = 0
    const { raw } = await openRaw({
      messageStream: async (_, message) => {
        const index = count++
        events.push(`begin ${index}`)
        contents.push(collect(message))
        await gates[index]!.promise
        events.push(`end ${index}`)
      },
    })
    raw.send(text('zero'), ping('answered'), text('one'), frame(2, Buffer.alloc(500_000), { fin: false }))
    expect((await raw.readFrame()).payload.toString()).toBe('answered')
    expect(await events.next()).toBe('begin 0')
    await nextTurn()
    expect(events.all).toHaveLength(1)
    gates[0]!.resolve()
    expect(await events.take(2)).toEqual(['end 0', 'begin 1'])
    gates[1]!.resolve()
    expect(await events.take(2)).toEqual(['end 1', 'begin 2'])
    // Though it waited: what is yet to come of it comes.
    raw.send(frame(0, Buffer.alloc(500_000)))
    const [zero, one, two] = await Promise.all(await contents.take(3))
    expect([zero, one, two!.length]).toEqual(['zero', 'one', 1_000_000])
    gates[2]!.resolve()
    expect(await events.next()).toBe('end 2')
  })

  it('many that wait hold the peer back, and all of them come', async () => {
    const gate = defer()
    const sizes: number[] = []
    const done = defer()
    const { raw } = await openRaw({
      open: () => gate.promise,
      messageStream: async (_, message) => {
        sizes.push((await collect(message)).length)
        if (sizes.length === 41) done.resolve()
      },
    })
    for (let count = 0; count < 40; count++) raw.send(text('x'.repeat(count)))
    raw.send(frame(2, Buffer.alloc(100_000), { fin: false }), frame(0, Buffer.alloc(200_000)))
    await nextTurn()
    expect(sizes).toEqual([])
    gate.resolve()
    await done.promise
    expect(sizes).toEqual([...Array.from({ length: 40 }, (_, index) => index), 300_000])
  })

  it('the sixteenth that waits may be one that has not ended', async () => {
    const gate = defer()
    const got = new Queue<number>()
    const { raw } = await openRaw({
      open: () => gate.promise,
      messageStream: async (_, message) => got.push((await collect(message)).length),
    })
    for (let count = 0; count < 15; count++) raw.send(text('x'))
    raw.send(frame(2, 'begins', { fin: false }))
    await nextTurn()
    gate.resolve()
    expect(await got.take(15)).toEqual(new Array(15).fill(1))
    raw.send(frame(0, Buffer.alloc(100_000)))
    expect(await got.next()).toBe(100_006)
  })

  it('fails when the peer is gone in the middle; close comes behind', async () => {
    for (const how of ['reset', 'end', 'terminate', 'close'] as const) {
      const events = new Queue<string>()
      const { raw, client } = await openRaw({
        messageStream(_, message) {
          collect(message).catch((error) => events.push(`${error.code}`))
          events.push('begun')
        },
        close: (_, { code }) => events.push(`close ${code}`),
      })
      raw.send(frame(1, 'one', { fin: false }))
      expect(await events.next()).toBe('begun')
      if (how === 'terminate') client.terminate()
      else if (how === 'close') void raw.leave()
      else raw[how]()
      expect(await events.take(2)).toEqual(['ERR_CONNECTION_CLOSED', `close ${how === 'close' ? 1005 : 1006}`])
    }
  })

  it('a handler that passes that on has not failed', async () => {
    let isBegun = false
    const { raw, errors, closed } = await openRaw({
      messageStream: async (_, message) => {
        isBegun = true
        await collect(message)
      },
    })
    raw.send(frame(1, 'one', { fin: false }))
    await until(() => isBegun)
    raw.reset()
    expect(await closed.next()).toMatchObject({ code: 1006 })
    expect(errors.all).toEqual([])
  })

  it('nor has one that has passed the message on to a stream that fails as well', async () => {
    const { raw, errors, closed } = await openRaw({
      messageStream: (client, { type, readable }) => readable.pipeTo(client.sendStream({ type })),
    })
    raw.send(frame(1, 'one', { fin: false }))
    expect(await raw.readFrame()).toMatchObject({ fin: false, payload: Buffer.from('one') })
    raw.reset()
    expect(await closed.next()).toMatchObject({ code: 1006 })
    expect(errors.all).toEqual([])
  })

  it.each([
    ['invalid UTF-8', [Buffer.of(0xff)], 1007, 'ERR_TEXT_UTF8'],
    ['a message inside', undefined, 1002, 'ERR_EXPECTED_CONTINUATION'],
  ] as const)('fails with the violation of the peer: %s', async (_, payload, code, name) => {
    const failures = new Queue<unknown>()
    const { raw, errors, closed } = await openRaw({
      messageStream: (__, message) => void collect(message).catch(failures.push),
    })
    raw.send(frame(1, 'fine', { fin: false }))
    raw.send(payload ? frame(0, payload[0]) : text('inside'))
    const [error, failure] = [await errors.next(), await failures.next()]
    expect(error).toMatchObject({ code: name })
    expect(failure).toBe(error)
    expect(closeOf((await raw.readFrames()).at(-1)!).code).toBe(code)
    raw.end()
    expect(await closed.next()).toMatchObject({ code })
  })

  it('a handler that fails closes the client with 1011', async () => {
    for (const fail of [
      () => {
        throw new Error('no')
      },
      async () => {
        throw new Error('no')
      },
    ]) {
      const { raw, errors } = await openRaw({ messageStream: fail })
      raw.send(frame(1, 'one', { fin: false }), frame(0, 'two'), text('three'))
      expect(await errors.next()).toMatchObject({ message: 'no' })
      expect(closeOf((await raw.readFrames()).at(-1)!).code).toBe(1011)
      raw.end()
    }
  })

  it('several reads may wait at once', async () => {
    const { raw, messages } = await openRaw()
    raw.send(frame(1, 'one', { fin: false }))
    const reader = (await messages.next()).readable.getReader()
    const reads = [reader.read(), reader.read(), reader.read(), reader.read()]
    raw.send(frame(0, 'two', { fin: false }), frame(0, 'three'))
    expect((await Promise.all(reads)).map(({ value }) => value)).toEqual(['one', 'two', 'three', undefined])
  })

  it('what has been read slowly may be longer than the heartbeat', async () => {
    const { raw, messages, client } = await openRaw({ pingIntervalMs: 20, pongTimeoutMs: 40 })
    raw.send(frame(2, Buffer.alloc(2 * MIB)))
    const { readable } = await messages.next()
    let bytes = 0
    for await (const piece of readable) {
      bytes += piece.length
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    expect(bytes).toBe(2 * MIB)
    expect(client.state).toBe('open')
  })

  it('compressed data of a peer that is gone are still inflated, while somebody reads them', async () => {
    const payload = deflateRawSync(Buffer.alloc(3 * MIB), { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
    const gone = async (closeTimeoutMs: number) => {
      const started = await openCompressedRaw({ closeTimeoutMs })
      started.raw.send(compressedFrame(2, payload))
      const message = await started.messages.next()
      started.raw.reset()
      // Nobody is told that the socket is gone while there is something to read.
      await new Promise((resolve) => setTimeout(resolve, 20))
      return { ...started, message }
    }
    const read = await gone(60_000)
    expect(read.server.clients.size).toBe(1)
    expect(await collect(read.message)).toHaveLength(3 * MIB)
    expect(await read.closed.next()).toMatchObject({ code: 1006 })
    const unread = await gone(60)
    expect(await unread.closed.next()).toMatchObject({ code: 1006 })
    await expect(collect(unread.message)).rejects.toMatchObject(CLOSED)
  })

  it('a client that comes back takes them as well', async () => {
    const { server, url } = await startServer()
    const messages = new Queue<Message>()
    const client = reconnecting(url, { messageStream: async (_, message) => messages.push(await collect(message)) })
    onTestFinished(() => client.close())
    for (const text of ['one', 'two']) {
      const connection = await firstClient(server)
      connection.send(text)
      expect(await messages.next()).toBe(text)
      connection.terminate()
      await until(() => server.clients.size === 0)
    }
  })

  it('streams go through: what comes in goes out', async () => {
    const { url } = await startServer({
      compression: TAKEOVER,
      messageStream: async (client, { type, readable }) => readable.pipeTo(client.sendStream({ type })),
    })
    const { ws, messages } = await openWs(url, { perMessageDeflate: { threshold: 0 } })
    const whole = Buffer.from(records(2_000_000))
    for (const binary of [false, true]) {
      for (let at = 0; at < whole.length; at += 50_000) {
        ws.send(whole.subarray(at, at + 50_000), { fin: at + 50_000 >= whole.length, binary })
      }
      ws.send('short')
      const got = await messages.next()
      expect(typeof got === 'string' ? got === whole.toString() : got.equals(whole)).toBe(true)
      expect(await messages.next()).toBe('short')
    }
  })
})
