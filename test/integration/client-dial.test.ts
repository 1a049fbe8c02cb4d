import { getEventListeners, once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, request as httpRequest } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { connect as connectTcp, createServer as createTcpServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Duplex, duplexPair } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import {
  type CloseEvent,
  type ConnectionTarget,
  type ConnectOptions,
  connect,
  type HandshakeError,
  type Message,
  UsageError,
  type WebSocketConnection,
  WebSocketServer,
} from '../../src/index.ts'
import { startConnectProxy } from '../support/connect-proxy.ts'
import { whyNotListen } from '../support/ports.ts'
import { defer, Queue } from '../support/queue.ts'
import type { RawClient, RawHead } from '../support/raw-client.ts'
import {
  acceptance,
  certificate,
  closeBehindTest,
  nextTurn,
  openClient,
  portOf,
  startRawServer,
  startServer,
} from '../support/servers.ts'

/** The error that `connect` rejects with. */
async function failureOf(url: string | URL, options?: ConnectOptions): Promise<HandshakeError> {
  const [result] = await Promise.allSettled([connect(url, options)])
  if (result.status === 'rejected') return result.reason as HandshakeError
  result.value.terminate()
  throw new Error('it is open')
}

/** An answer to what is sent, over whatever way. */
async function echoOf(client: WebSocketConnection<undefined>): Promise<Message | undefined> {
  client.send('hello')
  for await (const message of client) return message
  return undefined
}

const echo = { message: (client: WebSocketConnection<unknown>, data: Message) => void client.send(data) }

function openSocket(port: number): Socket {
  const socket = connectTcp({ port, host: '127.0.0.1' })
  onTestFinished(() => void socket.destroy())
  return socket
}

describe.skipIf(process.platform === 'win32')('a Unix socket', () => {
  async function startUnixServer(name: string, secure = false): Promise<{ path: string; requests: Queue<string[]> }> {
    const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const path = join(folder, name)
    const requests = new Queue<string[]>()
    const httpServer = secure ? createHttpsServer(certificate) : createHttpServer()
    const server = new WebSocketServer({
      ...echo,
      authorize: (request) => {
        requests.push([request.url, request.host ?? ''])
        return { accept: true }
      },
    })
    closeBehindTest(server)
    server.attach(httpServer)
    httpServer.listen(path)
    await once(httpServer, 'listening')
    onTestFinished(() => {
      httpServer.closeAllConnections()
      httpServer.close()
    })
    return { path, requests }
  }

  it.each([
    ['ws+unix:', '/chat/room?a=b:c', '/chat/room?a=b:c'],
    ['ws+unix://', '/', '/'],
    ['ws+unix:', '', '/'],
    ['ws+unix:', '/a:b', '/a:b'],
    ['wss+unix:', '/secure', '/secure'],
  ])('is reached with %s…:%s', async (scheme, request, target) => {
    const { path, requests } = await startUnixServer('a.sock', scheme.startsWith('wss'))
    const client = await openClient(`${scheme}${path}${request === '' ? '' : `:${request}`}`)
    expect(await requests.next()).toEqual([target, 'localhost'])
    expect(client.path).toBe(target.split('?')[0])
    expect(client.remoteAddress).toBe('')
    expect(await echoOf(client)).toBe('hello')
  })

  it('may have any name, percent-encoded', async () => {
    const { path, requests } = await startUnixServer('a b:ü%.sock')
    const client = await openClient(`ws+unix:${encodeURIComponent(path)}:/x?y`)
    expect(await requests.next()).toEqual(['/x?y', 'localhost'])
    expect(await echoOf(client)).toBe('hello')
  })

  it('that is not there is an error of the system', async () => {
    expect(await failureOf('ws+unix:/nowhere/at/all.sock:/')).toMatchObject({ code: 'ENOENT' })
  })

  it('refuses redirects', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const server = createTcpServer((socket) => {
      socket.on('error', () => {}).end('HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n')
    })
    server.listen(join(folder, 'a.sock'))
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    expect(await failureOf(`ws+unix:${folder}/a.sock:/`, { maxRedirects: 5 })).toMatchObject({
      code: 'ERR_REDIRECT',
      status: 302,
    })
  })

  it.each([
    'ws+unix:',
    'ws+unix::/path',
    'ws+unix://host/a.sock:/',
    'ws+unix:/a.sock:path',
    'ws+unix:/%ff.sock',
    'ws+unix:/a.sock:/#fragment',
    'http+unix:/a.sock:/',
  ])('cannot be %s', async (url) => {
    expect(await failureOf(url)).toMatchObject({ name: 'UsageError', code: 'ERR_URL' })
  })
})

describe('localhost', () => {
  it.each(['127.0.0.1', '::1'])('is found where only %s listens', async (host) => {
    if ((await whyNotListen(0, host)) !== undefined) return
    const httpServer = createHttpServer()
    const server = new WebSocketServer(echo)
    closeBehindTest(server)
    server.attach(httpServer)
    httpServer.listen(0, host)
    await once(httpServer, 'listening')
    onTestFinished(() => {
      httpServer.closeAllConnections()
      httpServer.close()
    })
    const client = await openClient(`ws://localhost:${portOf(httpServer)}`)
    expect(client.remoteAddress).toBe(host)
    expect(await echoOf(client)).toBe('hello')
  })
})

describe('the option socket', () => {
  it.each(['ws', 'wss'] as const)('is talked through with %s, whatever the URL says of the way', async (scheme) => {
    const { port, server } = await startServer({
      ...echo,
      ...(scheme === 'wss' ? { tls: certificate } : {}),
      hosts: ['localhost:1'],
    })
    const socket = openSocket(port)
    const client = await openClient(`${scheme}://localhost:1/path`, { socket })
    expect(await echoOf(client)).toBe('hello')
    expect([...server.clients.values()][0]?.path).toBe('/path')
    client.close(1000)
    await once(socket, 'close')
  })

  it('may be one that is stopped, or any other stream', async () => {
    for (const tls of [undefined, certificate]) {
      const { port } = await startServer({ ...echo, tls })
      const scheme = tls === undefined ? 'ws' : 'wss'
      const stopped = openSocket(port).pause()
      expect(await echoOf(await openClient(`${scheme}://localhost:${port}`, { socket: stopped }))).toBe('hello')
      const [near, far] = duplexPair()
      const socket = openSocket(port)
      far.pipe(socket).pipe(far)
      const events = new Queue<CloseEvent>()
      const messages = new Queue<Message>()
      const client = await openClient(`${scheme}://localhost:${port}`, {
        socket: near,
        message: (_, data) => messages.push(data),
        close: (_, event) => events.push(event),
      })
      client.send(Buffer.alloc(300_000, 7))
      expect(await messages.next()).toHaveLength(300_000)
      client.close(1000, 'done')
      expect(await events.next()).toEqual({ code: 1000, reason: '', wasClean: true })
      expect(near.destroyed).toBe(true)
    }
  })

  it('is destroyed when the handshake fails, is given up, or never begins', async () => {
    const { port } = await startServer({ token: 'secret' })
    const refused = openSocket(port)
    expect(await failureOf('ws://localhost', { socket: refused })).toMatchObject({ status: 401 })
    expect(refused.destroyed).toBe(true)

    const reason = new Error('changed my mind')
    const unused = openSocket(port)
    expect(await failureOf('ws://localhost', { socket: unused, signal: AbortSignal.abort(reason) })).toBe(reason)
    expect(unused.destroyed).toBe(true)

    const silent = await startRawServer(() => {})
    for (const url of ['ws://localhost', 'wss://localhost']) {
      const socket = openSocket(silent.port)
      expect(await failureOf(url, { socket, handshakeTimeoutMs: 50 })).toMatchObject({ code: 'ERR_HANDSHAKE_TIMEOUT' })
      await nextTurn()
      expect(socket.destroyed).toBe(true)
    }
  })

  it.each(['ws', 'wss'])('that is gone already is no connection: %s', async (scheme) => {
    const { port } = await startServer()
    const socket = openSocket(port)
    socket.destroy()
    await once(socket, 'close')
    expect(await failureOf(`${scheme}://localhost`, { socket })).toMatchObject({ code: 'ERR_RESPONSE_INCOMPLETE' })
  })

  it.each(['a stream', 'a socket'])('tells an error of what is below TLS: %s', async (what) => {
    const silent = await startRawServer(() => {})
    const below = what === 'a socket' ? openSocket(silent.port) : duplexPair()[0]
    const failure = failureOf('wss://localhost', { socket: below })
    await nextTurn()
    below.destroy(new Error('the tunnel is broken'))
    expect((await failure).message).toBe('the tunnel is broken')
  })

  it.each<[string, ConnectOptions]>([
    ['two ways', { socket: duplexPair()[0], createConnection: () => duplexPair()[0] }],
    ['redirects, which need another socket', { socket: duplexPair()[0], maxRedirects: 1 }],
    ['something that is no stream', { socket: {} as Duplex }],
    ['maxRedirects below 0', { maxRedirects: -1 }],
    ['maxRedirects that is no whole number', { maxRedirects: 0.5 }],
  ])('cannot go with %s', async (_, options) => {
    expect(await failureOf('ws://localhost', options)).toMatchObject({ name: 'UsageError', code: 'ERR_OPTION' })
  })
})

describe('the option createConnection', () => {
  it.each(['ws', 'wss'] as const)('opens the way for %s, at once or later', async (scheme) => {
    const { port } = await startServer({ ...echo, ...(scheme === 'wss' ? { tls: certificate } : {}) })
    const targets: ConnectionTarget[] = []
    for (const isLate of [false, true]) {
      const client = await openClient(`${scheme}://localhost:${port}/path`, {
        createConnection: (target) => {
          targets.push(target)
          const socket = openSocket(port)
          return isLate ? once(socket, 'connect').then(() => socket) : socket
        },
      })
      expect(await echoOf(client)).toBe('hello')
    }
    const target = { hostname: 'localhost', port, secure: scheme === 'wss', socketPath: undefined }
    expect(targets).toEqual([target, target].map((each) => ({ ...each, signal: expect.any(AbortSignal) })))
  })

  it('fails with what it throws, or rejects with', async () => {
    const reason = new Error('no way')
    const ways: ConnectOptions['createConnection'][] = [
      () => {
        throw reason
      },
      () => Promise.reject(reason),
      async () => {
        await nextTurn()
        throw reason
      },
    ]
    for (const createConnection of ways) {
      expect(await failureOf('ws://localhost', { createConnection })).toBe(reason)
    }
    for (const given of [undefined, Promise.resolve({})]) {
      expect(await failureOf('ws://localhost', { createConnection: () => given as never })).toBeInstanceOf(UsageError)
    }
  })

  it.each(['aborted', 'timed out'])(
    'is told by its signal, and what it gives too late is destroyed: %s',
    async (how) => {
      const { port } = await startServer()
      const late = defer<Duplex>()
      const signals = new Queue<AbortSignal>()
      const controller = new AbortController()
      const failure = failureOf(`ws://127.0.0.1:${port}`, {
        signal: controller.signal,
        handshakeTimeoutMs: how === 'aborted' ? 10_000 : 30,
        createConnection: ({ signal }) => {
          signals.push(signal)
          return late.promise
        },
      })
      const signal = await signals.next()
      expect(signal.aborted).toBe(false)
      const reason = new Error('changed my mind')
      if (how === 'aborted') controller.abort(reason)
      expect(await failure).toMatchObject(
        how === 'aborted' ? { message: reason.message } : { code: 'ERR_HANDSHAKE_TIMEOUT' },
      )
      expect(signal.aborted).toBe(true)
      const socket = openSocket(port)
      late.resolve(socket)
      await once(socket, 'close')
    },
  )
})

describe('an HTTP proxy', () => {
  /** As docs/CLIENT.md has it. */
  function through(proxyPort: number): NonNullable<ConnectOptions['createConnection']> {
    return ({ hostname, port, signal }) =>
      new Promise((resolve, reject) => {
        const host = hostname.includes(':') ? `[${hostname}]` : hostname
        const path = `${host}:${port}`
        const request = httpRequest({ host: '127.0.0.1', port: proxyPort, method: 'CONNECT', path, signal })
        request.once('error', reject)
        request.once('connect', (response, socket, head) => {
          if (response.statusCode !== 200) reject(new Error(`the proxy says ${response.statusCode}`))
          if (head.length > 0) socket.unshift(head)
          resolve(socket)
        })
        request.end()
      })
  }

  it.each(['ws', 'wss'] as const)('is passed by CONNECT with %s', async (scheme) => {
    const { port } = await startServer({ ...echo, ...(scheme === 'wss' ? { tls: certificate } : {}) })
    const proxy = await startConnectProxy()
    const client = await openClient(`${scheme}://localhost:${port}`, { createConnection: through(proxy.port) })
    expect(proxy.asked).toEqual([`localhost:${port}`])
    expect(await echoOf(client)).toBe('hello')
  })
})

describe('the option signal', () => {
  it('is listened to no longer than the handshake lasts, however it ends', async () => {
    const { url } = await startServer({ token: 'secret' })
    const { signal } = new AbortController()
    await failureOf(url, { signal })
    await failureOf(url, { signal, createConnection: () => Promise.reject(new Error('no way')) })
    await openClient(`${url}/?token=secret`, { signal })
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('gives up in the middle of a TLS handshake', async () => {
    const sockets = new Queue<Socket>()
    const server = createTcpServer((socket) => sockets.push(socket.on('error', () => {}).resume()))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const controller = new AbortController()
    const failure = failureOf(`wss://127.0.0.1:${portOf(server)}`, { signal: controller.signal })
    const socket = await sockets.next()
    const reason = new Error('changed my mind')
    controller.abort(reason)
    expect(await failure).toBe(reason)
    await once(socket, 'close')
  })
})

describe('a connection that ends before it has begun', () => {
  it('tells its close handler, when it is terminated at once', async () => {
    const { url } = await startServer()
    const events = new Queue<CloseEvent>()
    const client = await connect(url, { close: (_, event) => events.push(event) })
    client.terminate()
    expect(await events.next()).toMatchObject({ code: 1006, wasClean: false })
    expect(client.state).toBe('closed')
  })

  it('tells its close handler, when the stream below is gone at once', async () => {
    const { port } = await startServer()
    const [near, far] = duplexPair()
    far.pipe(openSocket(port)).pipe(far)
    const events = new Queue<CloseEvent>()
    const client = await connect(`ws://127.0.0.1:${port}`, { socket: near, close: (_, event) => events.push(event) })
    near.destroy()
    expect(await events.next()).toMatchObject({ code: 1006, wasClean: false })
    expect(client.state).toBe('closed')
  })

  it('tells its close handler, when it is closed at once', async () => {
    const { url } = await startServer()
    const events = new Queue<CloseEvent>()
    const client = await connect(url, { close: (_, event) => events.push(event) })
    client.close(1000)
    expect(await events.next()).toMatchObject({ code: 1000, wasClean: true })
  })

  it('tells its close handler, when the server resets it behind its answer', async () => {
    const requests = new Queue<[RawClient, RawHead]>()
    const { url } = await startRawServer((peer, request) => requests.push([peer, request]))
    const events = new Queue<CloseEvent>()
    const opening = connect(url, { close: (_, event) => events.push(event) })
    const [peer, request] = await requests.next()
    peer.send(acceptance(request))
    const client = await opening
    peer.reset()
    expect(await events.next()).toMatchObject({ code: 1006 })
    expect(client.state).toBe('closed')
  })
})
