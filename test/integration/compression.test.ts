import { once } from 'node:events'
import { deflateRawSync, constants as zlibConstants } from 'node:zlib'
import { WebSocket as UndiciWebSocket } from 'undici'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import type { CloseEvent, Message, WebSocketServerOptions } from '../../src/index.ts'
import { dissect } from '../support/deflate-blocks.ts'
import { DeflatePeer } from '../support/deflate-peer.ts'
import { usedBytes } from '../support/garbage.ts'
import { Queue } from '../support/queue.ts'
import { closeFrame, frame, RawClient, type RawFrame, text } from '../support/raw-client.ts'
import { firstClient, nextTurn, startServer, until } from '../support/servers.ts'

/*
 * Compression on real sockets, with clients that others have written.
 */

/** How often zlib has compressed something, here and in the pool. */
const calls = vi.hoisted(() => ({ now: 0, later: 0 }))

vi.mock('node:zlib', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:zlib')>()
  const counted =
    <Args extends unknown[], Result>(name: keyof typeof calls, call: (...args: Args) => Result) =>
    (...args: Args): Result => {
      calls[name]++
      return call(...args)
    }
  return {
    ...original,
    deflateRawSync: counted('now', original.deflateRawSync),
    deflateRaw: counted('later', original.deflateRaw as (...args: unknown[]) => void),
  }
})

const MIB = 1_048_576
const OFFER = 'permessage-deflate; client_max_window_bits'
const LIMITS = { maxMessageBytes: 32 * MIB, maxBufferedBytes: 64 * MIB }
/** Compressed, and inflated, in the pool. */
const LONG = 'Compressed in the thread pool, and inflated there as well. '.repeat(20_000)
const SHORT = 'Compressed at once. '.repeat(100)
const SIZES = [0, 1, 125, 126, 1_023, 1_024, 16_384, 65_535, 65_536, 65_537, 262_144, 262_145, 1_000_000, 3_000_000]

function records(size: number): string {
  let all = ''
  for (let index = 0; all.length < size; index++) all += `{"id":${index},"name":"item ${(index * 7_919) % 10_007}"},`
  return all.slice(0, size)
}

function deflated(payload: string | Uint8Array): Buffer {
  return deflateRawSync(payload, { finishFlush: zlibConstants.Z_SYNC_FLUSH }).subarray(0, -4)
}

/** A frame of a client with RSV1. */
function compressedFrame(opcode: number, payload: Uint8Array): Buffer {
  const bytes = frame(opcode, payload)
  bytes[0]! |= 0x40
  return bytes
}
const compressedText = (message: string): Buffer => compressedFrame(1, deflated(message))

async function startEcho(options: WebSocketServerOptions = {}) {
  const closed = new Queue<CloseEvent>()
  const errors = new Queue<Error>()
  const started = await startServer({
    ...LIMITS,
    compression: true,
    message: (client, data) => void client.send(data),
    close: (_, event) => closed.push(event),
    error: errors.push,
    ...options,
  })
  return { ...started, closed, errors }
}

/** A raw client that has offered compression, and knows what the server says. */
async function openRaw(port: number, options: { offer?: string; paused?: boolean } = {}) {
  const { offer = OFFER, paused = false } = options
  const client = await RawClient.connect({ port })
  const request = ['GET / HTTP/1.1', 'Host: localhost', 'Connection: Upgrade', 'Upgrade: websocket']
  request.push('Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
  client.send(`${[...request, `Sec-WebSocket-Extensions: ${offer}`].join('\r\n')}\r\n\r\n`)
  const head = await client.readHead()
  expect(head.status).toBe(101)
  if (paused) client.stopReading()
  return { client, agreed: head.headers.get('sec-websocket-extensions') }
}

/** A client of ws. */
async function openWs(url: string, options: ClientOptions = {}) {
  const ws = new WebSocket(url, { perMessageDeflate: { threshold: 0 }, maxPayload: LIMITS.maxMessageBytes, ...options })
  onTestFinished(() => ws.terminate())
  const messages = new Queue<Message>()
  const closed = new Queue<[code: number, reason: string]>()
  ws.on('message', (data, isBinary) => messages.push(isBinary ? (data as Buffer) : String(data)))
  ws.on('close', (code, reason) => closed.push([code, String(reason)]))
  await once(ws, 'open')
  return { ws, messages, closed }
}

async function openUndici(url: string) {
  const ws = new UndiciWebSocket(url)
  ws.binaryType = 'arraybuffer'
  onTestFinished(() => ws.close())
  const messages = new Queue<Message>()
  ws.addEventListener('message', ({ data }) => messages.push(typeof data === 'string' ? data : Buffer.from(data)))
  await new Promise<void>((resolve, reject) => {
    ws.addEventListener('open', () => resolve())
    ws.addEventListener('error', ({ error }) => reject(error ?? new Error('it did not open')))
  })
  return { ws, messages }
}

/** Something that goes through the pool, so that what was given to it before is through as well. */
async function poolIdle(): Promise<void> {
  const peer = new DeflatePeer()
  for (let round = 0; round < 8; round++) await peer.compress(LONG)
  peer.end()
  await nextTurn()
}

const TAKEOVER = { serverNoContextTakeover: false, clientNoContextTakeover: false }
const SETTINGS: readonly (readonly [string, WebSocketServerOptions['compression'], string])[] = [
  ['defaults', true, '; server_no_context_takeover; client_no_context_takeover'],
  ['context takeover', { ...TAKEOVER, threshold: 1 }, ''],
  [
    'small windows',
    { ...TAKEOVER, threshold: 1, serverMaxWindowBits: 9, clientMaxWindowBits: 10 },
    '; server_max_window_bits=9; client_max_window_bits=10',
  ],
]

describe.each(SETTINGS)('echo, with %s', (_, compression, agreed) => {
  it('a client of ws gets everything back', async () => {
    const { server, url } = await startEcho({ compression })
    const { ws, messages } = await openWs(url)
    expect(ws.extensions).toBe('permessage-deflate')
    expect((await firstClient(server)).compressed).toBe(true)
    for (const size of SIZES) {
      ws.send(records(size))
      expect((await messages.next()) === records(size)).toBe(true)
      ws.send(Buffer.from(records(size)))
      expect(((await messages.next()) as Buffer).equals(Buffer.from(records(size)))).toBe(true)
    }
  })

  it('many at a time come back in order', async () => {
    const { url } = await startEcho({ compression })
    const { ws, messages } = await openWs(url)
    const sent = Array.from(
      { length: 60 },
      (__, index) => `${index} ${records([20, 70_000, 2_000, 300_000][index % 4]!)}`,
    )
    for (const each of sent) ws.send(each)
    const received = await messages.take(sent.length)
    expect(received.map((each) => String(each).slice(0, 20))).toEqual(sent.map((each) => each.slice(0, 20)))
    expect(received).toEqual(sent)
  })

  it('a client of undici gets everything back', async () => {
    const { server, url } = await startEcho({ compression })
    const { ws, messages } = await openUndici(url)
    expect(ws.extensions).toContain('permessage-deflate')
    expect((await firstClient(server)).compressed).toBe(true)
    for (const size of SIZES) {
      ws.send(records(size))
      expect((await messages.next()) === records(size)).toBe(true)
      ws.send(Buffer.from(records(size)))
      expect(((await messages.next()) as Buffer).equals(Buffer.from(records(size)))).toBe(true)
    }
  })

  it('says what was agreed on', async () => {
    const { port } = await startEcho({ compression })
    expect((await openRaw(port)).agreed).toBe(`permessage-deflate${agreed}`)
  })
})

describe('negotiation', () => {
  it('without the option nothing is agreed on', async () => {
    for (const compression of [undefined, false]) {
      const { server, url, port } = await startEcho({ compression })
      const { ws, messages } = await openWs(url)
      expect(ws.extensions).toBe('')
      expect((await firstClient(server)).compressed).toBe(false)
      ws.send(SHORT)
      expect(await messages.next()).toBe(SHORT)
      expect((await openRaw(port)).agreed).toBeUndefined()
    }
  })

  it('nor with a client that does not offer it, or offers what cannot be', async () => {
    const { server, url, port } = await startEcho()
    const { ws, messages } = await openWs(url, { perMessageDeflate: false })
    expect((await firstClient(server)).compressed).toBe(false)
    ws.send(LONG)
    expect(await messages.next()).toBe(LONG)
    for (const offer of ['permessage-deflate; unknown', 'permessage-deflate; server_max_window_bits=7', 'x-other']) {
      expect((await openRaw(port, { offer })).agreed).toBeUndefined()
    }
  })

  it('takes a fallback, in one line or in several', async () => {
    const { port } = await startEcho({ compression: TAKEOVER })
    const fallback = 'permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9, permessage-deflate'
    expect((await openRaw(port, { offer: fallback })).agreed).toBe('permessage-deflate; server_max_window_bits=9')
    const lines =
      'permessage-deflate; unknown\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10'
    expect((await openRaw(port, { offer: lines })).agreed).toBe('permessage-deflate; server_max_window_bits=10')
  })

  it('an option that cannot be is refused when the server is made', async () => {
    await expect(startEcho({ compression: { level: 10 } })).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(startEcho({ compression: { levels: 1 } as never })).rejects.toMatchObject({
      code: 'ERR_OPTION_UNKNOWN',
    })
  })
})

describe('what is compressed', () => {
  it('what is long enough, or as the call says', async () => {
    const { server, port } = await startEcho({ compression: { threshold: 500 } })
    const { client } = await openRaw(port)
    const connection = await firstClient(server)
    const sent: [size: number, compress: boolean | undefined, first: number][] = [
      [499, undefined, 0x81],
      [500, undefined, 0xc1],
      [500, false, 0x81],
      [100, true, 0xc1],
      [1, true, 0x81],
      [0, true, 0x81],
    ]
    for (const [size, compress, first] of sent) {
      expect(connection.send('a'.repeat(size), { compress })).toBe(true)
      const [head = 0, length = 0] = await client.read(2)
      expect([size, head]).toEqual([size, first])
      const isLong = length === 126
      await client.read(isLong ? (await client.read(2)).readUInt16BE(0) : length)
    }
  })

  it('a broadcast is compressed once for all who have agreed on the same', async () => {
    const { server, url } = await startEcho()
    const open = [
      ...[1, 2, 3].map(() => openWs(url)),
      ...[1, 2].map(() => openWs(url, { perMessageDeflate: { serverMaxWindowBits: 10 } })),
      openWs(url, { perMessageDeflate: false }),
    ]
    const clients: { messages: Queue<Message> }[] = [...(await Promise.all(open)), await openUndici(url)]
    await until(() => server.clients.size === clients.length)
    for (const [message, expected] of [
      [SHORT, { now: 2, later: 0 }],
      [Buffer.from(SHORT), { now: 2, later: 0 }],
      [LONG, { now: 0, later: 2 }],
      ['short', { now: 0, later: 0 }],
    ] as const) {
      calls.now = calls.later = 0
      expect(server.broadcast(message)).toEqual({ sent: clients.length, dropped: 0 })
      // Behind a long one that is still being compressed nothing overtakes.
      server.broadcast('the next')
      const counted = { ...calls }
      for (const { messages } of clients) {
        expect(await messages.next()).toEqual(message)
        expect(await messages.next()).toBe('the next')
      }
      expect(counted).toEqual(expected)
    }
    calls.now = calls.later = 0
    server.broadcast(LONG, { compress: false })
    server.broadcast('a'.repeat(100), { compress: true })
    for (const { messages } of clients) {
      expect(await messages.next()).toBe(LONG)
      expect(await messages.next()).toBe('a'.repeat(100))
    }
    expect(calls).toEqual({ now: 2, later: 0 })
  })

  it('with context takeover messages get shorter, also behind a broadcast', async () => {
    const { server, port } = await startEcho({ compression: { ...TAKEOVER, threshold: 1, level: 6 } })
    const { client } = await openRaw(port)
    const connection = await firstClient(server)
    const peer = new DeflatePeer()
    onTestFinished(() => peer.end())
    const message = records(2_000)
    const lengths: number[] = []
    for (let count = 0; count < 4; count++) {
      if (count === 0) server.broadcast(message)
      else connection.send(message)
      const { payload } = await client.readFrame()
      expect((await peer.inflate(payload)).toString()).toBe(message)
      lengths.push(payload.length)
      expect(dissect(payload).farthestBefore > 0).toBe(count > 0)
    }
    expect(Math.max(...lengths.slice(1))).toBeLessThan(lengths[0]! / 10)
  })
})

describe('what waits for the pool', () => {
  it('is in bufferedBytes; drain is called when it has left', async () => {
    const drained = new Queue<number>()
    const { server, url } = await startEcho({ drain: (client) => drained.push(client.bufferedBytes) })
    const { messages } = await openWs(url)
    const connection = await firstClient(server)
    expect(connection.send(LONG)).toBe(true)
    expect(connection.send('behind it')).toBe(true)
    expect(connection.bufferedBytes).toBe(LONG.length + 9)
    expect(await drained.next()).toBe(0)
    expect(await messages.take(2)).toEqual([LONG, 'behind it'])
    // A small one would have been noticed by nobody.
    connection.send(SHORT)
    await messages.next()
    expect(drained.all).toHaveLength(1)
  })

  it('flushed() and delivered() wait for it', async () => {
    const { server, url } = await startEcho()
    const { messages } = await openWs(url)
    const connection = await firstClient(server)
    connection.send(LONG)
    await connection.flushed()
    expect(connection.bufferedBytes).toBe(0)
    expect(await messages.next()).toBe(LONG)

    const events: string[] = []
    connection.send(`${LONG}!`)
    const seen = messages.next().then(() => events.push('message'))
    await connection.delivered().then(() => events.push('delivered'))
    await seen
    expect(events).toEqual(['message', 'delivered'])
  })

  it('flushed() and delivered() fail when the connection is cut meanwhile', async () => {
    const { server, url } = await startEcho()
    const { closed } = await openWs(url)
    const connection = await firstClient(server)
    connection.send(LONG)
    const waiting = [connection.flushed(), connection.delivered()]
    for (const each of waiting) each.catch(() => {})
    connection.terminate()
    for (const each of waiting) await expect(each).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
    expect(await closed.next()).toEqual([1006, ''])
    await poolIdle()
  })

  it.each(['close', 'drop'] as const)('counts towards maxBufferedBytes: %s', async (slowConsumer) => {
    const drained = new Queue<void>()
    const { server, url } = await startEcho({
      slowConsumer,
      maxBufferedBytes: 2 * LONG.length,
      drain: () => drained.push(),
    })
    const { messages, closed } = await openWs(url)
    const connection = await firstClient(server)
    expect(connection.send(LONG)).toBe(true)
    expect(connection.send('fits')).toBe(true)
    expect(connection.send(LONG)).toBe(false)
    if (slowConsumer === 'close') {
      expect(connection.send('no more')).toBe(false)
      expect((await closed.next())[0]).toBe(1013)
      expect(messages.all).toEqual([])
      return
    }
    expect(connection.send('fits as well')).toBe(true)
    await drained.next()
    expect(connection.send(`${LONG}again`)).toBe(true)
    expect(await messages.take(4)).toEqual([LONG, 'fits', 'fits as well', `${LONG}again`])
  })

  it('does not block the loop: others are served meanwhile', async () => {
    const { server, url } = await startEcho()
    const slow = await openWs(url)
    const quick = await openWs(url)
    await until(() => server.clients.size === 2)
    const events: string[] = []
    const longest = records(24 * MIB)
    const done = slow.messages.next().then(() => events.push('long'))
    slow.ws.send(longest)
    ;[...server.clients.values()][0]!.send(longest)
    for (let count = 0; count < 10; count++) {
      quick.ws.send(`${count}`)
      expect(await quick.messages.next()).toBe(`${count}`)
      events.push('short')
    }
    await done
    expect(events).toEqual([...Array.from({ length: 10 }, () => 'short'), 'long'])
  })
})

describe('the end of a connection', () => {
  it('close() waits for messages that are being compressed', async () => {
    const { server, url, closed } = await startEcho()
    const client = await openWs(url)
    const connection = await firstClient(server)
    connection.send(LONG)
    connection.send('last')
    connection.close(1000, 'Done')
    expect(connection.send('too late')).toBe(false)
    expect(await client.messages.take(2)).toEqual([LONG, 'last'])
    expect(await client.closed.next()).toEqual([1000, 'Done'])
    expect(await closed.next()).toMatchObject({ code: 1000, wasClean: true })
  })

  it('so does the answer to the peer’s Close', async () => {
    const { server, port, closed } = await startEcho()
    const { client } = await openRaw(port)
    const connection = await firstClient(server)
    connection.send(LONG)
    const frames: RawFrame[] = await client.leave(1000)
    expect(frames.map(({ opcode }) => opcode)).toEqual([1, 8])
    expect(await closed.next()).toMatchObject({ code: 1000, wasClean: true })
  })

  it('so does server.close()', async () => {
    const { server, url } = await startEcho()
    const clients = await Promise.all([openWs(url), openWs(url), openWs(url, { perMessageDeflate: false })])
    await until(() => server.clients.size === 3)
    server.broadcast(LONG)
    for (const connection of server.clients.values()) connection.send(`${LONG}!`)
    await server.close()
    expect(server.clients.size).toBe(0)
    for (const { messages, closed } of clients) {
      expect(await messages.take(2)).toEqual([LONG, `${LONG}!`])
      expect(await closed.next()).toEqual([1001, ''])
    }
  })

  it('terminate() gives up what is being compressed or inflated', async () => {
    const received = new Queue<Message>()
    const { server, port, closed } = await startEcho({ message: (_, data) => received.push(data) })
    const { client } = await openRaw(port)
    const connection = await firstClient(server)
    client.send(text('first'), compressedText(LONG), text('never'))
    expect(await received.next()).toBe('first')
    connection.send(LONG)
    connection.terminate()
    expect(await closed.next()).toEqual({ code: 1006, reason: '', wasClean: false })
    await poolIdle()
    expect(received.all).toEqual(['first'])
    expect(closed.all).toHaveLength(1)
    expect(await client.readToEnd()).toHaveLength(0)
  })

  it('a peer that is gone while its message is inflated: that is delivered, then close is told', async () => {
    for (const leave of [(client: RawClient) => client.end(), (client: RawClient) => client.reset()]) {
      const events = new Queue<string>()
      const { port } = await startEcho({
        message: (_, data) => events.push(`${data.length}`),
        close: (_, { code }) => events.push(`close ${code}`),
      })
      const { client } = await openRaw(port)
      client.send(text('first'), compressedText(LONG), compressedText(`${LONG}!`), text('last'))
      expect(await events.next()).toBe('5')
      leave(client)
      expect(await events.take(4)).toEqual([`${LONG.length}`, `${LONG.length + 1}`, '4', 'close 1006'])
    }
  })

  it('also when something is sent to it meanwhile', async () => {
    const events = new Queue<string>()
    let isOver = false
    const { port } = await startEcho({
      message(client, data) {
        events.push(`${data.length}`)
        const goOn = (): void => {
          client.send('something')
          if (!isOver) setImmediate(goOn)
        }
        if (data.length === 5) goOn()
      },
      close: (_, { code }) => {
        isOver = true
        events.push(`close ${code}`)
      },
    })
    const { client } = await openRaw(port)
    client.send(text('first'), compressedText('a'.repeat(20 * MIB)))
    client.end()
    expect(await events.take(3)).toEqual(['5', `${20 * MIB}`, 'close 1006'])
  })

  it('the peer’s Close waits for its message', async () => {
    const received = new Queue<number>()
    const { port, closed } = await startEcho({ message: (_, data) => received.push(data.length) })
    const { client } = await openRaw(port)
    client.send(compressedText(LONG), closeFrame(1000, 'Done'))
    client.end()
    expect(await received.next()).toBe(LONG.length)
    expect(await closed.next()).toEqual({ code: 1000, reason: 'Done', wasClean: true })
  })
})

describe('what a peer may do wrong', () => {
  it.each<[string, Buffer, number, string]>([
    ['data that are none', compressedFrame(1, Buffer.of(0x07)), 1007, 'ERR_COMPRESSED_DATA'],
    ['data that are none, in the pool', compressedFrame(2, Buffer.alloc(70_000, 0xff)), 1007, 'ERR_COMPRESSED_DATA'],
    ['data cut short', compressedFrame(1, deflated(SHORT).subarray(0, -2)), 1007, 'ERR_COMPRESSED_DATA'],
    ['text that is none', compressedFrame(1, deflated(Buffer.of(0xff))), 1007, 'ERR_TEXT_UTF8'],
    ['a bomb', compressedFrame(2, deflated(Buffer.alloc(8 * MIB))), 1009, 'ERR_MESSAGE_TOO_BIG'],
    ['a bomb, from the pool', compressedFrame(2, deflated(Buffer.alloc(80 * MIB))), 1009, 'ERR_MESSAGE_TOO_BIG'],
    ['a byte too many', compressedFrame(2, deflated(Buffer.alloc(100_001))), 1009, 'ERR_MESSAGE_TOO_BIG'],
    ['a bit that means nothing', compressedFrame(9, Buffer.alloc(0)), 1002, 'ERR_RESERVED_BITS'],
  ])('%s', async (_, bytes, closeCode, code) => {
    const received = new Queue<Message>()
    const { port, errors } = await startEcho({ maxMessageBytes: 100_000, message: (__, data) => received.push(data) })
    const { client } = await openRaw(port)
    client.send(compressedFrame(2, deflated(Buffer.alloc(100_000))), bytes, text('never'))
    const frames = await client.readFrames()
    expect(frames.map(({ opcode, payload }) => [opcode, payload.readUInt16BE(0)])).toEqual([[8, closeCode]])
    expect(await errors.next()).toMatchObject({ code })
    expect(received.all.map(({ length }) => length)).toEqual([100_000])
  })
})

describe('memory', () => {
  /** Bytes for 200 idle connections, each of which has exchanged a message. */
  async function measure(compression: WebSocketServerOptions['compression']): Promise<number> {
    const { server, port } = await startEcho({ compression })
    const open = async (): Promise<RawClient> => {
      const { client } = await openRaw(port)
      client.send(text('hello'))
      await client.readFrame()
      return client
    }
    // Whatever is made once is made before.
    const first = await open()
    const before = usedBytes()
    const clients = await Promise.all(Array.from({ length: 200 }, open))
    expect(server.clients.size).toBe(201)
    const after = usedBytes()
    for (const client of [first, ...clients]) client.socket.destroy()
    await until(() => server.clients.size === 0)
    return after - before
  }

  /** The least of some rounds: what else the process does in the meantime adds to a round, and takes nothing away. */
  async function least(compression: WebSocketServerOptions['compression']): Promise<number> {
    const rounds = [await measure(compression), await measure(compression), await measure(compression)]
    return Math.min(...rounds)
  }

  it('200 idle connections cost no more with compression than without', async () => {
    await measure(false)
    const without = await least(false)
    // A zlib stream of each direction would be 300 KiB per connection, the smaller of the two 40 KiB.
    for (const compression of [true, TAKEOVER]) {
      expect(await least(compression)).toBeLessThan(without + 200 * 8_192)
    }
  })
})
