import { once } from 'node:events'
import { WebSocket as UndiciWebSocket } from 'undici'
import { describe, expect, it, onTestFinished } from 'vitest'
import { WebSocket, WebSocketServer as WsServer } from 'ws'
import type { CloseEvent, Message, WebSocketConnection, WebSocketServerOptions } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { certificate, firstClient, openClient, startHttpServer, startServer, until } from '../support/servers.ts'

/*
 * Others have read the same RFC: what they send we understand, what we send they do. Two clients of others against our
 * server, our client against a server of others.
 */

const limits = { maxMessageBytes: 32_000_000, maxBufferedBytes: 64_000_000 }
const SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000, 5_000_000]

/** What a test wants of a client, whoever has written it. */
interface Client {
  readonly subprotocol: string
  send(data: string | Uint8Array): void
  /** Texts as strings, binary as `Buffer`. */
  readonly messages: Queue<Message>
  readonly closed: Promise<CloseEvent>
  close(code?: number, reason?: string): void
}

interface ClientOptions {
  readonly subprotocols?: string[]
  readonly headers?: Record<string, string>
}

type Open = (url: string, options?: ClientOptions) => Promise<Client>

/** Resolves with how a WebSocket of ws has closed. */
function closeOf(ws: WebSocket): Promise<CloseEvent> {
  return new Promise((resolve) => {
    ws.on('close', (code, reason) => resolve({ code, reason: String(reason), wasClean: code !== 1006 }))
  })
}

const openWs: Open = async (url, { subprotocols = [], headers = {} } = {}) => {
  const ws = new WebSocket(url, subprotocols, { headers, ca: certificate.cert })
  onTestFinished(() => ws.terminate())
  const messages = new Queue<Message>()
  ws.on('message', (data, isBinary) => messages.push(isBinary ? (data as Buffer) : String(data)))
  const closed = closeOf(ws)
  await once(ws, 'open')
  return {
    subprotocol: ws.protocol,
    messages,
    closed,
    send: (data) => ws.send(data),
    close: (code, reason) => ws.close(code, reason),
  }
}

const openUndici: Open = async (url, { subprotocols = [], headers = {} } = {}) => {
  const ws = new UndiciWebSocket(url, { protocols: subprotocols, headers })
  ws.binaryType = 'arraybuffer'
  const messages = new Queue<Message>()
  ws.addEventListener('message', ({ data }) => messages.push(typeof data === 'string' ? data : Buffer.from(data)))
  const closed = new Promise<CloseEvent>((resolve) => {
    ws.addEventListener('close', ({ code, reason, wasClean }) => resolve({ code, reason, wasClean }))
  })
  onTestFinished(() => ws.close())
  await new Promise<void>((resolve, reject) => {
    ws.addEventListener('open', () => resolve())
    ws.addEventListener('error', ({ error }) => reject(error ?? new Error('it did not open')))
  })
  return {
    subprotocol: ws.protocol,
    messages,
    closed,
    send: (data) => ws.send(data as Uint8Array<ArrayBuffer>),
    close: (code, reason) => ws.close(code, reason),
  }
}

const CLIENTS: readonly (readonly [string, Open])[] = [
  ['ws', openWs],
  ['undici', openUndici],
]

function bytesOf(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at < size; at++) bytes[at] = (at * 31) >> (at % 7)
  return bytes
}

async function startEcho(options: WebSocketServerOptions = {}) {
  const closed = new Queue<CloseEvent>()
  const started = await startServer({
    ...limits,
    message: (client, data) => void client.send(data),
    close: (_, event) => closed.push(event),
    ...options,
  })
  return { ...started, closed }
}

describe.each(CLIENTS)('the client of %s', (_, open) => {
  it('echoes text and binary of all sizes', async () => {
    const { url } = await startEcho()
    const client = await open(url)
    for (const size of SIZES) {
      const texts = ['a'.repeat(size), 'ü\u{1f600}'.repeat(size / 6)]
      for (const text of texts) {
        client.send(text)
        expect((await client.messages.next()) === text).toBe(true)
      }
      client.send(bytesOf(size))
      const answer = await client.messages.next()
      expect(typeof answer).toBe('object')
      expect(bytesOf(size).equals(answer as Buffer)).toBe(true)
    }
  })

  it('gets many messages in their order, sent one by one and to all', async () => {
    const { server, url } = await startEcho()
    const client = await open(url)
    const opened = await firstClient(server)
    const expected: Message[] = []
    for (let index = 0; index < 500; index++) {
      const message = index % 3 === 0 ? bytesOf(index) : `message ${index}`
      expected.push(message)
      if (index % 5 === 0) server.broadcast(message)
      else opened.send(message)
      if (index % 50 === 0) opened.ping()
    }
    expect(await client.messages.take(expected.length)).toEqual(expected)
  })

  it('answers our pings', async () => {
    const { server, url } = await startEcho({ pingIntervalMs: 20, pongTimeoutMs: 10_000 })
    const client = await open(url)
    const opened = await firstClient(server)
    opened.send('hello')
    await opened.delivered()
    expect(opened.latencyMs).toBeGreaterThanOrEqual(0)
    expect(await client.messages.next()).toBe('hello')
    // By the heartbeat.
    opened.latencyMs = undefined
    await until(() => opened.latencyMs !== undefined)
  })

  it.each<[string, number?, string?]>([
    ['a code and a reason', 4_000, 'genug für heute'],
    ['1000', 1000, ''],
    ['no code'],
  ])('closes with %s', async (_, code, reason) => {
    const { url, closed } = await startEcho()
    const client = await open(url)
    client.send('last')
    client.close(code, reason)
    expect(await closed.next()).toEqual({ code: code ?? 1005, reason: reason ?? '', wasClean: true })
    expect(await client.closed).toMatchObject({ code: code ?? 1005, wasClean: true })
  })

  it.each([
    [1000, ''],
    [1001, 'going'],
    [1011, 'internal error'],
    [4_999, 'ü'.repeat(61)],
  ])('is told code %d and its reason', async (code, reason) => {
    const { server, url, closed } = await startEcho()
    const client = await open(url)
    ;(await firstClient(server)).close(code, reason)
    expect(await client.closed).toEqual({ code, reason, wasClean: true })
    expect(await closed.next()).toMatchObject({ code, wasClean: true })
  })

  it('is told 1001 by server.close, and 1009 for a message that is too big', async () => {
    const { server, url } = await startEcho({ maxMessageBytes: 1_000 })
    const first = await open(url)
    first.send('x'.repeat(1_001))
    expect((await first.closed).code).toBe(1009)
    const second = await open(url)
    await server.close({ reason: 'update' })
    expect(await second.closed).toEqual({ code: 1001, reason: 'update', wasClean: true })
  })

  it('agrees on a subprotocol, in the order of the server', async () => {
    const { server, url } = await startEcho({ subprotocols: ['v2.chat', 'v1.chat'] })
    const client = await open(url, { subprotocols: ['v1.chat', 'v2.chat'] })
    expect(client.subprotocol).toBe('v2.chat')
    expect((await firstClient(server)).subprotocol).toBe('v2.chat')
  })

  it('comes in with the token, in any of its ways, and not without', async () => {
    const { url } = await startEcho({ token: 'a token/+', subprotocols: ['chat'] })
    const bearer = `bearer.${Buffer.from('a token/+').toString('base64url')}`
    const ways: [string, ClientOptions][] = [
      [`${url}/?token=${encodeURIComponent('a token/+')}`, {}],
      [url, { headers: { Authorization: 'Bearer a token/+' } }],
      [url, { subprotocols: [bearer, 'chat'] }],
    ]
    for (const [address, options] of ways) {
      const client = await open(address, options)
      client.send('hello')
      expect(await client.messages.next()).toBe('hello')
      expect(client.subprotocol).toBe(options.subprotocols === undefined ? '' : 'chat')
    }
    await expect(open(url)).rejects.toBeInstanceOf(Error)
    await expect(open(`${url}/?token=wrong`)).rejects.toBeInstanceOf(Error)
  })

  it('works on a node:http server that ours is attached to', async () => {
    const { httpServer, port } = await startHttpServer()
    const { server } = await startEcho()
    server.attach(httpServer, { path: '/socket' })
    const client = await open(`ws://127.0.0.1:${port}/socket`)
    client.send(bytesOf(100_000))
    expect(bytesOf(100_000).equals((await client.messages.next()) as Buffer)).toBe(true)
    await expect(open(`ws://127.0.0.1:${port}/elsewhere`)).rejects.toBeInstanceOf(Error)
  })
})

describe('the client of ws', () => {
  it('works over wss', async () => {
    const { url, closed } = await startEcho({ tls: certificate })
    const client = await openWs(url)
    for (const size of SIZES) {
      client.send(bytesOf(size))
      expect(bytesOf(size).equals((await client.messages.next()) as Buffer)).toBe(true)
    }
    client.close(4_000, 'bye')
    expect(await closed.next()).toEqual({ code: 4_000, reason: 'bye', wasClean: true })
  })

  it('may send fragments, and pings between them', async () => {
    const { url } = await startEcho()
    const ws = new WebSocket(url)
    onTestFinished(() => ws.terminate())
    const events = new Queue<string>()
    ws.on('message', (data, isBinary) => events.push(`${isBinary ? 'binary' : 'text'} ${data}`))
    ws.on('pong', (data) => events.push(`pong ${data}`))
    await once(ws, 'open')
    ws.send('grü', { fin: false })
    ws.ping('between')
    ws.send('ße', { fin: false })
    ws.send('', { fin: true })
    expect(await events.take(2)).toEqual(['pong between', 'text grüße'])
    for (let index = 0; index < 100; index++) ws.send(Buffer.from([index]), { fin: index === 99, binary: true })
    expect(await events.next()).toBe(`binary ${Buffer.from(Array.from({ length: 100 }, (_, index) => index))}`)
    ws.ping()
    expect(await events.next()).toBe('pong ')
  })

  it('offers compression, which we do not take', async () => {
    const { url } = await startEcho()
    const ws = new WebSocket(url, { perMessageDeflate: true })
    onTestFinished(() => ws.terminate())
    const message = once(ws, 'message')
    await once(ws, 'open')
    expect(ws.extensions).toBe('')
    ws.send('x'.repeat(10_000))
    const [data] = (await message) as [Buffer]
    expect(data).toHaveLength(10_000)
  })

  it('is told why it was refused', async () => {
    const { url } = await startEcho({ token: 'token' })
    const ws = new WebSocket(url)
    onTestFinished(() => ws.terminate())
    ws.on('error', () => {})
    const [, response] = await once(ws, 'unexpected-response')
    let body = ''
    for await (const chunk of response) body += chunk
    expect(response.statusCode).toBe(401)
    expect(body).toMatch(/^[^\r\n]+\n$/)
  })
})

describe('our client and a server of ws', () => {
  interface Peer {
    readonly ws: WebSocket
    readonly closed: Promise<CloseEvent>
  }

  async function startWs(options: ConstructorParameters<typeof WsServer>[0] = {}, onPeer?: (ws: WebSocket) => void) {
    const wsServer = new WsServer({ host: '127.0.0.1', port: 0, ...options })
    await once(wsServer, 'listening')
    onTestFinished(() => {
      for (const ws of wsServer.clients) ws.terminate()
      wsServer.close()
    })
    const peers = new Queue<Peer>()
    wsServer.on('connection', (ws) => {
      onPeer?.(ws)
      peers.push({ ws, closed: closeOf(ws) })
    })
    const { port } = wsServer.address() as { port: number }
    return { url: `ws://127.0.0.1:${port}`, peers }
  }

  async function openPair(
    onPeer?: (ws: WebSocket) => void,
    wsOptions?: ConstructorParameters<typeof WsServer>[0],
  ): Promise<Peer & { client: WebSocketConnection; messages: Queue<Message>; ended: Queue<CloseEvent> }> {
    const { url, peers } = await startWs(wsOptions, onPeer)
    const messages = new Queue<Message>()
    const ended = new Queue<CloseEvent>()
    const client = await openClient(url, {
      ...limits,
      message: (_, data) => messages.push(data),
      close: (_, event) => ended.push(event),
    })
    return { client, messages, ended, ...(await peers.next()) }
  }

  const echo = (ws: WebSocket): void => void ws.on('message', (data, binary) => ws.send(data, { binary }))

  it('echo text and binary of all sizes', async () => {
    const { client, messages } = await openPair(echo)
    for (const size of SIZES) {
      for (const text of ['a'.repeat(size), 'ü\u{1f600}'.repeat(size / 6)]) {
        expect(client.send(text)).toBe(true)
        expect((await messages.next()) === text).toBe(true)
      }
      client.send(bytesOf(size))
      expect(bytesOf(size).equals((await messages.next()) as Buffer)).toBe(true)
    }
  })

  it('put fragments together, with pings between them', async () => {
    const { ws, messages } = await openPair()
    const pong = once(ws, 'pong')
    ws.send('grü', { fin: false })
    ws.ping('between')
    ws.send('ße', { fin: false })
    ws.send('', { fin: true })
    expect(await messages.next()).toBe('grüße')
    expect(String((await pong)[0])).toBe('between')
  })

  it('answer pings both ways', async () => {
    const { client } = await openPair()
    await client.delivered()
    expect(client.latencyMs).toBeGreaterThanOrEqual(0)
  })

  it('agree on a subprotocol', async () => {
    const { url, peers } = await startWs({ handleProtocols: (offered) => [...offered].at(-1) ?? false })
    const client = await openClient(url, { subprotocols: ['v1.chat', 'v2.chat'] })
    expect(client.subprotocol).toBe('v2.chat')
    expect((await peers.next()).ws.protocol).toBe('v2.chat')
  })

  it('do without compression, which ours does not offer', async () => {
    const { ws, messages } = await openPair(undefined, { perMessageDeflate: { threshold: 0 } })
    expect(ws.extensions).toBe('')
    ws.send('x'.repeat(10_000))
    expect(await messages.next()).toBe('x'.repeat(10_000))
  })

  it.each<[string, number | undefined, string]>([
    ['a code and a reason', 4_000, 'genug für heute'],
    ['1000', 1000, ''],
    ['no code', undefined, ''],
  ])('close with %s, from either side', async (_, code, reason) => {
    const ours = await openPair()
    ours.client.close(code, ...(reason === '' ? [] : [reason]))
    expect(await ours.closed).toEqual({ code: code ?? 1005, reason, wasClean: true })
    expect(await ours.ended.next()).toMatchObject({ code: code ?? 1005, wasClean: true })

    const theirs = await openPair()
    theirs.ws.close(code, reason)
    expect(await theirs.ended.next()).toEqual({ code: code ?? 1005, reason, wasClean: true })
    expect((await theirs.closed).code).toBe(code ?? 1005)
  })

  it('see 1006 when the other end is cut', async () => {
    const ours = await openPair()
    ours.client.terminate()
    expect((await ours.closed).code).toBe(1006)
    const theirs = await openPair()
    theirs.ws.terminate()
    expect(await theirs.ended.next()).toMatchObject({ code: 1006, wasClean: false })
  })

  it('tell why a handshake was refused', async () => {
    const { url } = await startWs({ verifyClient: (_, answer) => answer(false, 403, 'not you') })
    await expect(openClient(url)).rejects.toMatchObject({ code: 'ERR_RESPONSE_STATUS', status: 403 })
  })

  it('fail for a message that is too big, by code 1009', async () => {
    const { client, ended } = await openPair((ws) => ws.on('error', () => {}), { maxPayload: 100 })
    client.send('x'.repeat(101))
    expect(await ended.next()).toMatchObject({ code: 1009 })
  })
})
