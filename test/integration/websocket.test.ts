import { mkdtempSync, openAsBlob, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import {
  type CloseEvent,
  type Message,
  WebSocket,
  WebSocketCloseEvent,
  WebSocketErrorEvent,
  type WebSocketOptions,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { freePort } from '../support/ports.ts'
import { Queue } from '../support/queue.ts'
import { frame, type RawClient } from '../support/raw-client.ts'
import { acceptance, certificate, firstClient, nextTurn, startRawServer, startServer } from '../support/servers.ts'

/** A socket that is gone behind its test. */
function open(url: string, options?: ConstructorParameters<typeof WebSocket>[1]): WebSocket {
  const socket = new WebSocket(url, options)
  onTestFinished(() => {
    if (socket.readyState !== socket.CLOSED) socket.close()
  })
  return socket
}

/** The next event of that type. */
function next<Type extends 'open' | 'message' | 'error' | 'close'>(socket: WebSocket, type: Type) {
  return new Promise<Parameters<NonNullable<WebSocket[`on${Type}`]>>[0]>((resolve) => {
    socket.addEventListener(type, resolve as never, { once: true })
  })
}

/** Types of all events, in order, up to `close`. */
async function eventsOf(socket: WebSocket): Promise<string[]> {
  const types: string[] = []
  for (const type of ['open', 'message', 'error', 'close'] as const) {
    socket.addEventListener(type, () => types.push(type))
  }
  await next(socket, 'close')
  return types
}

async function startPeer(options: WebSocketServerOptions = {}) {
  const received = new Queue<Message>()
  const ends = new Queue<CloseEvent>()
  const started = await startServer({
    message: (_, data) => received.push(data),
    close: (_, event) => ends.push(event),
    ...options,
  })
  return { ...started, received, ends }
}

function nameOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    return error instanceof DOMException ? error.name : (error as Error).constructor.name
  }
  return 'nothing'
}

describe('a WebSocket', () => {
  it('opens, talks and closes, by listeners', async () => {
    const { url, server, received, ends } = await startPeer()
    const socket = open(`${url}/path?a=b`)
    expect([socket.readyState, socket.url, socket.protocol, socket.extensions, socket.bufferedAmount]).toEqual([
      WebSocket.CONNECTING,
      `${url}/path?a=b`,
      '',
      '',
      0,
    ])
    const event = await next(socket, 'open')
    expect([event.type, event.target, socket.readyState]).toEqual(['open', socket, WebSocket.OPEN])
    socket.send('hello')
    expect(await received.next()).toBe('hello')
    const peer = await firstClient(server)
    const message = next(socket, 'message')
    peer.send('welcome')
    expect(await message).toBeInstanceOf(MessageEvent)
    expect(await message).toMatchObject({ data: 'welcome', origin: url, type: 'message' })
    const closed = next(socket, 'close')
    socket.close(4321, 'bye')
    expect(socket.readyState).toBe(WebSocket.CLOSING)
    expect(await closed).toMatchObject({ code: 4321, reason: '', wasClean: true, type: 'close' })
    expect(await closed).toBeInstanceOf(WebSocketCloseEvent)
    expect(socket.readyState).toBe(WebSocket.CLOSED)
    expect(await ends.next()).toEqual({ code: 4321, reason: 'bye', wasClean: true })
  })

  it('tells the code and the reason of the peer, and is closing in between', async () => {
    const { url } = await startRawServer(async (peer, request) => {
      peer.send(
        acceptance(request),
        frame(8, Buffer.concat([Buffer.from([0x0f, 0xa0]), Buffer.from('tschüs')]), { masked: false }),
      )
      await peer.readFrame()
      expect(socket.readyState).toBe(WebSocket.CLOSING)
      peer.end()
    })
    const socket = open(url)
    const types = eventsOf(socket)
    expect(await next(socket, 'close')).toMatchObject({ code: 4000, reason: 'tschüs', wasClean: true })
    expect(await types).toEqual(['open', 'close'])
  })

  it('takes options in place of subprotocols: headers, TLS, limits', async () => {
    const { url } = await startPeer({ tls: certificate, token: 'secret', subprotocols: ['b'] })
    const options: WebSocketOptions = {
      protocols: ['a', 'b'],
      headers: { Authorization: 'Bearer secret' },
      tls: { ca: certificate.cert },
    }
    const socket = open(url, options)
    await next(socket, 'open')
    expect(socket.protocol).toBe('b')
    expect(nameOf(() => new WebSocket(url, { maxMesageBytes: 1 } as never))).toBe('UsageError')
    expect(nameOf(() => new WebSocket(url, { message() {} } as never))).toBe('UsageError')
    expect(nameOf(() => new WebSocket(url, { maxMessageBytes: 0 }))).toBe('UsageError')
  })

  it('fails when the server chooses none of the subprotocols', async () => {
    const { url } = await startPeer()
    const socket = open(url, 'chat')
    const types = eventsOf(socket)
    expect(await next(socket, 'close')).toMatchObject({ code: 1006, wasClean: false })
    expect(await types).toEqual(['error', 'close'])
  })

  it('gives binary messages as Blob, or as an ArrayBuffer of their own', async () => {
    const { url, server } = await startPeer()
    const socket = open(url)
    await next(socket, 'open')
    const peer = await firstClient(server)
    const bytes = Uint8Array.of(1, 2, 3)
    const first = next(socket, 'message')
    peer.send(bytes)
    const { data } = await first
    expect(data).toBeInstanceOf(Blob)
    expect(new Uint8Array(await (data as Blob).arrayBuffer())).toEqual(bytes)
    socket.binaryType = 'nonsense' as never
    expect(socket.binaryType).toBe('blob')
    socket.binaryType = 'arraybuffer'
    for (const size of [3, 100_000]) {
      const message = next(socket, 'message')
      peer.send(Buffer.alloc(size, 7))
      const { data: buffer } = await message
      expect(buffer).toBeInstanceOf(ArrayBuffer)
      expect(Buffer.alloc(size, 7).equals(Buffer.from(buffer as ArrayBuffer))).toBe(true)
    }
  })

  it('sends what the standard knows, and the string of anything else', async () => {
    const { url, received } = await startPeer()
    const socket = open(url)
    await next(socket, 'open')
    const bytes = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7)
    const sent = [
      'text',
      '\ud800',
      bytes.buffer,
      bytes.subarray(1, 3),
      new DataView(bytes.buffer, 2, 2),
      new Uint16Array(bytes.buffer, 4),
      new Blob(['blob']),
    ]
    for (const data of sent) socket.send(data as never)
    for (const data of [1, null, undefined, { toString: () => 'object' }]) socket.send(data as never)
    expect(await received.take(11)).toEqual([
      'text',
      '\ufffd',
      Buffer.from(bytes),
      Buffer.from([1, 2]),
      Buffer.from([2, 3]),
      Buffer.from([4, 5, 6, 7]),
      Buffer.from('blob'),
      '1',
      'null',
      'undefined',
      'object',
    ])
  })

  it('keeps the order across Blobs, and the bytes as they were', async () => {
    const { url, received, ends } = await startPeer({ maxMessageBytes: 10_000_000 })
    const socket = open(url)
    await next(socket, 'open')
    const changing = Uint8Array.of(1)
    socket.send('1')
    socket.send(new Blob([Buffer.alloc(3_000_000, 2)]))
    socket.send('3')
    socket.send(changing)
    changing[0] = 9
    socket.send(new Blob(['5']))
    socket.send(new Blob([]))
    socket.send('7')
    expect(socket.bufferedAmount).toBe(1 + 3_000_000 + 1 + 1 + 1 + 0 + 1)
    socket.close(1000, 'behind all')
    expect(socket.readyState).toBe(WebSocket.CLOSING)
    socket.send('too late')
    const messages = await received.take(7)
    expect(Buffer.alloc(3_000_000, 2).equals(messages[1] as Buffer)).toBe(true)
    expect(messages.toSpliced(1, 1)).toEqual(['1', '3', Buffer.from([1]), Buffer.from('5'), Buffer.alloc(0), '7'])
    expect(await ends.next()).toEqual({ code: 1000, reason: 'behind all', wasClean: true })
    expect(received.all).toHaveLength(7)
  })

  it('fails when a Blob cannot be read, and sends nothing behind it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'file')
    writeFileSync(path, 'x'.repeat(1_000))
    const blob = await openAsBlob(path)
    truncateSync(path, 10)
    const { url, received, ends } = await startPeer()
    const socket = open(url)
    await next(socket, 'open')
    const failed = next(socket, 'error')
    const closed = next(socket, 'close')
    socket.send('before')
    socket.send(blob)
    socket.send('behind')
    expect((await failed).error).toMatchObject({ name: 'NotReadableError' })
    expect((await closed).code).toBe(1006)
    await ends.next()
    expect(received.all).toEqual(['before'])
  })

  it('counts what is not sent, without framing, and what came too late for ever', async () => {
    const { url } = await startPeer()
    const socket = open(url)
    expect(socket.bufferedAmount).toBe(0)
    await next(socket, 'open')
    socket.send('häuser')
    socket.send(Uint8Array.of(1, 2, 3))
    expect(socket.bufferedAmount).toBe(10)
    while (socket.bufferedAmount > 0) await nextTurn()
    const closed = next(socket, 'close')
    socket.close()
    socket.send('12345')
    expect(socket.bufferedAmount).toBe(5)
    await closed
    socket.send(new Blob(['123']))
    expect(socket.bufferedAmount).toBe(8)
    await nextTurn()
    expect(socket.bufferedAmount).toBe(8)
  })

  it('counts what a peer does not read, and keeps the count when it is gone', async () => {
    const peers = new Queue<RawClient>()
    const { url } = await startRawServer((peer, request) => {
      peer.send(acceptance(request))
      peer.stopReading()
      peers.push(peer)
    })
    const socket = open(url)
    await next(socket, 'open')
    const peer = await peers.next()
    const chunk = Buffer.alloc(1_000_000)
    while (socket.bufferedAmount < 3_000_000) {
      socket.send(chunk)
      await nextTurn()
    }
    const before = socket.bufferedAmount
    const closed = next(socket, 'close')
    peer.reset()
    expect((await closed).code).toBe(1006)
    expect(socket.bufferedAmount).toBeGreaterThanOrEqual(before)
  })

  it('fails when the peer reads so slowly that the buffer is full', async () => {
    const { url } = await startRawServer((peer, request) => {
      peer.send(acceptance(request))
      peer.stopReading()
    })
    const socket = open(url, { maxBufferedBytes: 100_000, closeTimeoutMs: 50 })
    await next(socket, 'open')
    const types = eventsOf(socket)
    while (socket.readyState === WebSocket.OPEN) {
      socket.send(Buffer.alloc(90_000))
      await nextTurn()
    }
    expect(await types).toEqual(['error', 'close'])
  })

  it('tells of messages no more once it is closing', async () => {
    const { url, server } = await startPeer()
    const socket = open(url)
    await next(socket, 'open')
    const peer = await firstClient(server)
    const types = eventsOf(socket)
    peer.send('on its way')
    await peer.flushed()
    socket.close()
    expect(await types).toEqual(['close'])
  })
})

describe('a failure', () => {
  it.each<[string, () => Promise<string>, object]>([
    ['nobody listens', async () => `ws://127.0.0.1:${await freePort()}`, { code: 'ECONNREFUSED' }],
    ['a refusal', async () => (await startPeer({ token: 'secret' })).url, { code: 'ERR_RESPONSE_STATUS', status: 401 }],
    ['no such header', async () => (await startPeer()).url, { code: 'ERR_HEADER_VALUE' }],
  ])('while connecting is an error with its cause, and a close with 1006: %s', async (what, start, cause) => {
    const url = await start()
    const socket = open(url, what === 'no such header' ? { headers: { Host: 'x' } } : undefined)
    const types = eventsOf(socket)
    const failed = next(socket, 'error')
    const closed = next(socket, 'close')
    expect(socket.readyState).toBe(WebSocket.CONNECTING)
    const { error, message } = await failed
    expect(await failed).toBeInstanceOf(WebSocketErrorEvent)
    expect(error).toMatchObject(cause)
    expect(message).toBe((error as Error).message)
    expect(await closed).toMatchObject({ code: 1006, reason: '', wasClean: false })
    expect(await types).toEqual(['error', 'close'])
    expect(socket.readyState).toBe(WebSocket.CLOSED)
  })

  it.each<[string, Buffer | undefined, WebSocketOptions, object]>([
    ['a broken frame', Buffer.from([0xff, 0]), {}, { code: 'ERR_RESERVED_BITS' }],
    [
      'a message over the limit',
      frame(1, 'x'.repeat(11), { masked: false }),
      { maxMessageBytes: 10 },
      { code: 'ERR_MESSAGE_TOO_BIG' },
    ],
    ['a cut', undefined, {}, { code: 'ERR_CONNECTION_CLOSED' }],
  ])('of an open connection is the same: %s', async (_, bytes, options, cause) => {
    const { url } = await startRawServer((peer, request) => {
      peer.send(acceptance(request))
      if (bytes === undefined) setTimeout(() => peer.reset(), 10)
      else peer.send(bytes)
    })
    const socket = open(url, options)
    const types = eventsOf(socket)
    const failed = next(socket, 'error')
    const closed = next(socket, 'close')
    expect((await failed).error).toMatchObject(cause)
    expect(await closed).toMatchObject({ code: 1006, reason: '', wasClean: false })
    expect(await types).toEqual(['open', 'error', 'close'])
  })

  it.each(['closed at once', 'closed while the server thinks', 'aborted', 'aborted before'])(
    'is what becomes of one that is %s while connecting',
    async (how) => {
      const asked = new Queue<RawClient>()
      const { url } = await startRawServer((peer) => asked.push(peer))
      const controller = new AbortController()
      if (how === 'aborted before') controller.abort()
      const socket = open(url, { signal: controller.signal })
      const types = eventsOf(socket)
      const closed = next(socket, 'close')
      if (how === 'closed while the server thinks' || how === 'aborted') {
        const peer = await asked.next()
        how === 'aborted' ? controller.abort() : socket.close()
        if (how !== 'aborted') expect(socket.readyState).toBe(WebSocket.CLOSING)
        await peer.ended()
      } else socket.close(4000, 'never')
      expect(await closed).toMatchObject({ code: 1006, reason: '', wasClean: false })
      expect(await types).toEqual(['error', 'close'])
    },
  )

  it('is what becomes of one that is closed when the server has just said yes', async () => {
    const { url, server } = await startPeer()
    for (let turns = 0; turns < 12; turns++) {
      const socket = open(url)
      const closed = next(socket, 'close')
      for (let turn = 0; turn < turns; turn++) await nextTurn()
      const state = socket.readyState
      socket.close()
      const { code, wasClean } = await closed
      expect([code, wasClean]).toEqual(state === WebSocket.OPEN ? [1005, true] : [1006, false])
    }
    expect(server.clients.size).toBeLessThanOrEqual(12)
  })
})

describe('arguments', () => {
  it('of the constructor throw at once, and nobody is called', async () => {
    const { port } = await startRawServer(() => expect.fail('it was called'))
    const url = `ws://127.0.0.1:${port}`
    expect(nameOf(() => new (WebSocket as never as new () => WebSocket)())).toBe('SyntaxError')
    for (const wrong of ['', 'localhost', '/path', 'ftp://localhost', 'mailto:x', `${url}/#fragment`, `${url}/#`]) {
      expect(
        nameOf(() => new WebSocket(wrong)),
        wrong,
      ).toBe('SyntaxError')
    }
    for (const wrong of ['', ' ', 'a b', 'a,b', 'ü', '\u0000', ['a', 'a'], ['a', 'A'], ['a', '']]) {
      expect(
        nameOf(() => new WebSocket(url, wrong)),
        JSON.stringify(wrong),
      ).toBe('SyntaxError')
    }
  })

  it('of the constructor may be http:, which becomes ws:, and user and password', async () => {
    const { port } = await startPeer()
    const socket = open(`http://user:password@127.0.0.1:${port}/a b`)
    expect(socket.url).toBe(`ws://user:password@127.0.0.1:${port}/a%20b`)
    const message = next(socket, 'open')
    await message
    expect(nameOf(() => new WebSocket(new URL('https://localhost:1/')).close())).toBe('nothing')
  })

  it('of close: 1000 and 3000 to 4999, and 123 bytes, in whatever state', async () => {
    const { url, ends } = await startPeer()
    const socket = open(url)
    const check = (): void => {
      for (const code of [0, 1, 999, 1001, 1005, 1011, 2999, 5000, 65_536, Number.NaN, null]) {
        expect(
          nameOf(() => socket.close(code as number)),
          String(code),
        ).toBe('InvalidAccessError')
      }
      expect(nameOf(() => socket.close(1000, 'x'.repeat(124)))).toBe('SyntaxError')
      expect(nameOf(() => socket.close(undefined, 'ü'.repeat(62)))).toBe('SyntaxError')
    }
    check()
    await next(socket, 'open')
    check()
    expect(socket.readyState).toBe(WebSocket.OPEN)
    const closed = next(socket, 'close')
    socket.close(3000, 'ü'.repeat(61))
    expect(await ends.next()).toEqual({ code: 3000, reason: 'ü'.repeat(61), wasClean: true })
    await closed
    check()
    socket.close(1000)
  })

  it.each<[unknown[], { code: number; reason: string }]>([
    [[], { code: 1005, reason: '' }],
    [[undefined], { code: 1005, reason: '' }],
    [[1000], { code: 1000, reason: '' }],
    [[undefined, 'why'], { code: 1000, reason: 'why' }],
    [['4000', 7], { code: 4000, reason: '7' }],
    [[1000, '\ud800'], { code: 1000, reason: '\ufffd' }],
  ])('of close reach the peer: %j', async (args, expected) => {
    const { url, ends } = await startPeer()
    const socket = open(url)
    await next(socket, 'open')
    socket.close(...(args as []))
    expect(await ends.next()).toEqual({ ...expected, wasClean: true })
  })

  it('of send throw while connecting', async () => {
    const { url } = await startPeer()
    const socket = open(url)
    expect(nameOf(() => socket.send('too early'))).toBe('InvalidStateError')
    expect(nameOf(() => socket.send(new Blob(['too early'])))).toBe('InvalidStateError')
    await next(socket, 'open')
  })
})

describe('the attributes for listeners', () => {
  it('are null, take functions and objects, and nothing else', async () => {
    const { url } = await startPeer()
    const socket = open(url)
    for (const name of ['onopen', 'onmessage', 'onerror', 'onclose'] as const) {
      const target = socket as unknown as Record<string, unknown>
      expect(target[name]).toBeNull()
      const listener = (): void => {}
      target[name] = listener
      expect(target[name]).toBe(listener)
      const object = {}
      target[name] = object
      expect(target[name]).toBe(object)
      for (const nothing of [null, undefined, 1, 'function']) {
        target[name] = listener
        target[name] = nothing
        expect(target[name]).toBeNull()
      }
    }
    await next(socket, 'open')
  })

  it('keep their place, are called with the socket as this, and can be taken away', async () => {
    const { url, server } = await startPeer()
    const socket = open(url)
    await next(socket, 'open')
    const calls: unknown[] = []
    socket.onmessage = () => calls.push('never: it is replaced')
    socket.addEventListener('message', () => calls.push('second'))
    socket.onmessage = function (event) {
      calls.push('first', this === socket, event.currentTarget === socket, event.data)
    }
    const peer = await firstClient(server)
    let message = next(socket, 'message')
    peer.send('1')
    await message
    expect(calls.splice(0)).toEqual(['first', true, true, '1', 'second'])
    socket.onmessage = null
    message = next(socket, 'message')
    peer.send('2')
    await message
    expect(calls.splice(0)).toEqual(['second'])
    socket.onmessage = () => calls.push('last')
    const received = new Promise((resolve) => socket.addEventListener('message', resolve))
    peer.send('3')
    await received
    expect(calls.splice(0)).toEqual(['second', 'last'])
  })

  it('can be removed by removeEventListener where they were added so', async () => {
    const { url } = await startPeer()
    const socket = open(url)
    const listener = (): void => expect.fail('it was removed')
    socket.addEventListener('open', listener)
    socket.removeEventListener('open', listener)
    await next(socket, 'open')
  })
})

it('the interface is that of the standard', () => {
  const constants = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 }
  for (const [name, value] of Object.entries(constants)) {
    for (const owner of [WebSocket, WebSocket.prototype]) {
      expect(Object.getOwnPropertyDescriptor(owner, name)).toEqual({
        value,
        writable: false,
        enumerable: true,
        configurable: false,
      })
    }
  }
  expect(Object.prototype.toString.call(WebSocket.prototype)).toBe('[object WebSocket]')
  expect(WebSocket.prototype).toBeInstanceOf(EventTarget)
})
