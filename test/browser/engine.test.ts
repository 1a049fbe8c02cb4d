import type { Page } from 'playwright-core'
import { expect, it } from 'vitest'
import {
  ProtocolError,
  type WebSocketConnection,
  type WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { describeInChromium, inPage, type NewProfile } from '../support/chromium.ts'
import { allowSockets, type PageCloseEvent, PageSocket } from '../support/page-socket.ts'
import { Queue } from '../support/queue.ts'
import type { RawFrame } from '../support/raw-client.ts'
import { acceptance, firstClient, startRawServer, startServer, until } from '../support/servers.ts'

/*
 * The engine and the WebSocket of a browser, in what the two have to agree on.
 */

interface Meeting {
  readonly server: WebSocketServer
  readonly client: WebSocketConnection
  readonly socket: PageSocket
  readonly page: Page
  readonly messages: Queue<string | Buffer>
  readonly closes: Queue<PageCloseEvent>
  readonly errors: Queue<Error>
}

const toClose = (code: number, reason: string, wasClean = true): PageCloseEvent => ({ code, reason, wasClean })

describeInChromium('the engine and Chromium', [], (newProfile) => {
  /** A page of the server itself, and one socket between the two. */
  async function meet(options: WebSocketServerOptions = {}): Promise<Meeting> {
    const messages = new Queue<string | Buffer>()
    const closes = new Queue<PageCloseEvent>()
    const errors = new Queue<Error>()
    const { server, port } = await startServer({
      respond: () => ({ headers: { 'Content-Type': 'text/html' }, body: '<title>A page</title>' }),
      message: (_, data) => messages.push(data),
      close: (_, { code, reason, wasClean }) => closes.push({ code, reason, wasClean }),
      error: errors.push,
      ...options,
    })
    const page = await openPage(newProfile, `http://127.0.0.1:${port}/`)
    const socket = await PageSocket.open(page, `ws://127.0.0.1:${port}/`)
    expect(await socket.next()).toBe('open')
    return { server, client: await firstClient(server), socket, page, messages, closes, errors }
  }

  it.each([
    [[], 1005, ''],
    [[1000], 1000, ''],
    [[1000, 'Done'], 1000, 'Done'],
    [[3000, 'A code of a library'], 3000, 'A code of a library'],
    [[4999, 'ü'.repeat(61)], 4999, 'ü'.repeat(61)],
  ] as [[number?, string?], number, string][])('the page closes with %j', async ([...given], code, reason) => {
    const { socket, closes } = await meet()
    expect(await socket.close(...given)).toBe('')
    expect(await closes.next()).toEqual(toClose(code, reason))
    // The answer repeats the code (RFC 6455 §5.5.1), not the reason.
    expect(await socket.next()).toEqual(toClose(code, ''))
  })

  it('the page may not close with a code that is not its own', async () => {
    const { socket, client } = await meet()
    expect(await socket.close(1001)).toBe('InvalidAccessError')
    expect(await socket.close(4000, 'ü'.repeat(62))).toBe('SyntaxError')
    expect(client.state).toBe('open')
  })

  it.each([
    [[], 1005, ''],
    [[1000, 'Done'], 1000, 'Done'],
    [[1001, 'The app was stopped'], 1001, 'The app was stopped'],
    [[1011, 'An error'], 1011, 'An error'],
    [[1013, 'Try again later'], 1013, 'Try again later'],
    [[3999, ''], 3999, ''],
    [[4999, '😀'.repeat(30)], 4999, '😀'.repeat(30)],
  ] as [[number?, string?], number, string][])('the server closes with %j', async ([...given], code, reason) => {
    const { client, socket, closes } = await meet()
    client.send('The last message')
    client.close(...given)
    expect(await socket.next()).toBe('The last message')
    expect(await socket.next()).toEqual(toClose(code, reason))
    expect(await closes.next()).toEqual(toClose(code, reason))
  })

  it('a connection that is cut is no clean close, for either side', async () => {
    const cut = await meet()
    cut.client.terminate()
    expect(await cut.socket.next()).toEqual(toClose(1006, '', false))

    const { page, closes } = await meet()
    await inPage(page, `location.href = 'about:blank'`)
    // A page that goes away says so (RFC 6455 §7.4.1: "navigated away"), and waits for no answer.
    expect(await closes.next()).toMatchObject({ code: 1001 })
  })

  it('the server stops: pages are told, and it waits for them', async () => {
    const { server, socket, closes } = await meet()
    await server.close({ reason: 'Closing time' })
    expect(closes.all).toEqual([toClose(1001, 'Closing time')])
    expect(await socket.next()).toEqual(toClose(1001, 'Closing time'))
  })

  it('Chromium answers pings: delivered() and latencyMs', async () => {
    const { client, socket } = await meet()
    expect(client.latencyMs).toBeUndefined()
    client.send('A message')
    await client.delivered()
    expect(client.latencyMs).toBeGreaterThan(0)
    expect(client.latencyMs).toBeLessThan(5_000)
    expect(await socket.next()).toBe('A message')
  })

  it('the heartbeat keeps a silent page, without the page noticing', async () => {
    const { client, socket } = await meet({ pingIntervalMs: 50, pongTimeoutMs: 10_000 })
    const latencies = new Set<number>()
    await until(() => client.latencyMs !== undefined && latencies.add(client.latencyMs).size === 5)
    expect(client.state).toBe('open')
    client.send('The first event')
    expect(await socket.next()).toBe('The first event')
  })

  it('text of all planes and bytes of all values, and nothing at all', async () => {
    const { client, socket, messages } = await meet()
    const bytes = Array.from({ length: 256 }, (_, value) => value)
    for (const sent of ['', 'Grüße, 世界 👩‍👩‍👧 \u0000\ud7ff\uffff', bytes, []]) {
      await socket.send(sent)
      const received = await messages.next()
      expect(typeof received === 'string' ? received : [...received]).toEqual(sent)
      client.send(received)
      expect(await socket.next()).toEqual(sent)
    }
    // What is no text in UTF-8 is replaced on its way, by either side.
    await socket.send('\ud83d!')
    expect(await messages.next()).toBe('\ufffd!')
    client.send('\ud83d!')
    expect(await socket.next()).toBe('\ufffd!')
  })

  it('messages keep their order, whatever their size and kind', async () => {
    const { client, page, messages } = await meet()
    const sizes = Array.from({ length: 300 }, (_, index) => (index % 30 === 0 ? 200_000 : index))
    await inPage(
      page,
      `new Promise((resolve) => {
        const socket = new WebSocket(location.href.replace('http', 'ws'))
        socket.onopen = () => {
          for (const [index, size] of ${JSON.stringify(sizes)}.entries()) {
            socket.send(index % 2 ? 'x'.repeat(size) : new Uint8Array(size))
          }
          resolve()
        }
      })`,
    )
    const received = await messages.take(sizes.length)
    expect(received.map((message) => message.length)).toEqual(sizes)
    expect(received.map((message) => typeof message === 'string')).toEqual(sizes.map((_, index) => index % 2 === 1))
    expect(client.state).toBe('open')
  })

  it('a message over the limit: the page is told so', async () => {
    const { socket, closes, errors } = await meet({ maxMessageBytes: 1000 })
    await socket.send('x'.repeat(1000))
    await socket.send('x'.repeat(1001))
    expect(await socket.next()).toMatchObject({ code: 1009, wasClean: true })
    expect(await closes.next()).toMatchObject({ code: 1009 })
    expect(await errors.next()).toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG' })
    expect(errors.all[0]).toBeInstanceOf(ProtocolError)
  })

  it('Chromium sends long messages in fragments, and offers compression, which is not taken', async () => {
    const frames = new Queue<RawFrame[]>()
    const offers = new Queue<string | undefined>()
    const { url } = await startRawServer(async (peer, request) => {
      offers.push(request.headers.get('sec-websocket-extensions'))
      peer.send(acceptance(request))
      const received: RawFrame[] = []
      do received.push(await peer.readFrame())
      while (!received.at(-1)!.fin)
      frames.push(received)
    })
    const { page } = await meet()
    const socket = await PageSocket.open(page, url)
    expect(await socket.next()).toBe('open')
    expect(await offers.next()).toContain('permessage-deflate')
    await socket.send('x'.repeat(1_048_576))
    const received = await frames.next()
    // Far from the 1,024 that are allowed: a message of the default limit is in no danger.
    expect(received.length).toBeGreaterThan(1)
    expect(received.length).toBeLessThan(100)
    expect(received.map(({ opcode, masked }) => ({ opcode, masked }))).toEqual(
      received.map((_, index) => ({ opcode: index === 0 ? 1 : 0, masked: true })),
    )
  })

  it('a handler that takes its time holds the page back', async () => {
    let release = (): void => {}
    const taken: number[] = []
    const { page } = await meet({
      message: (_, data) => {
        taken.push(data.length)
        return new Promise<void>((resolve) => {
          release = resolve
        })
      },
    })
    // 64 messages of 1 MiB: more than all buffers between the two would take.
    await inPage(
      page,
      `new Promise((resolve) => {
        globalThis.socket = new WebSocket(location.href.replace('http', 'ws'))
        socket.onopen = () => {
          for (let count = 0; count < 64; count++) socket.send(new Uint8Array(1024 * 1024))
          resolve()
        }
      })`,
    )
    await until(() => taken.length === 1)
    // Nothing moves any more: the same amount twice, some time apart.
    const bufferedAmount = (): Promise<number> => inPage<number>(page, 'socket.bufferedAmount')
    let before = -1
    await expect
      .poll(
        async () => {
          const now = await bufferedAmount()
          const stands = now === before
          before = now
          return stands
        },
        { interval: 300, timeout: 20_000 },
      )
      .toBe(true)
    expect(before).toBeGreaterThan(20 * 1024 * 1024)
    expect(taken).toHaveLength(1)

    while (taken.length < 64) {
      const count = taken.length
      release()
      await until(() => taken.length > count)
    }
    expect(await bufferedAmount()).toBe(0)
  })

  it('a page that does not read is closed with 1013 when its buffer is full; what went out before arrives', async () => {
    const { client, page, socket } = await meet({ maxBufferedBytes: 4 * 1024 * 1024, closeTimeoutMs: 30_000 })
    const message = 'x'.repeat(256 * 1024)
    // The page's thread stands still, as in a long calculation.
    const standing = inPage(
      page,
      `(() => { const until = performance.now() + 1500; while (performance.now() < until) {} })()`,
    )
    let sent = 0
    while (client.send(message)) {
      sent++
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(client.state).not.toBe('open')
    await standing
    let received = 0
    let event = await socket.next()
    for (; event === message; event = await socket.next()) received++
    expect(received).toBe(sent)
    expect(event).toMatchObject({ code: 1013 })
  })
})

async function openPage(newProfile: NewProfile, url: string): Promise<Page> {
  const context = await newProfile()
  await allowSockets(context)
  const page = await context.newPage()
  await page.goto(url)
  return page
}
