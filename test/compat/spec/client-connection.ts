import { once } from 'node:events'
import { Agent, type ClientRequest, createServer, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { connect as connectTcp, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { makeCertificate } from '../../support/certificate.ts'
import { Queue } from '../../support/queue.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, failureOf } from './record.ts'
import { type Loose, makeClient, makeServer, openClient, openToClient, startServer } from './sockets.ts'

/** An agent that remembers what it is asked, and connects nothing. */
class DeadAgent extends Agent {
  readonly asked: [request: ClientRequest, options: Record<string, unknown>][] = []
  addRequest(request: ClientRequest, options: Record<string, unknown>): void {
    this.asked.push([request, options])
  }
}

/** Options that reach the connection: agent, createConnection, masks, paths of the file system, TLS. */
export function clientConnectionSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

  /** What an agent is told. */
  function askedOf(address: string, options: Loose = {}): Record<string, unknown> {
    const agent = new DeadAgent()
    const ws = makeClient(implementation, address, { agent, ...options })
    ws.on('error', () => {})
    expect(agent.asked).toHaveLength(1)
    return agent.asked[0]![1]
  }

  describe('agent', () => {
    it('is asked in the constructor, once', () => {
      const agent = new DeadAgent()
      makeClient(implementation, 'ws://localhost:8080/path', { agent }).on('error', () => {})
      expect(agent.asked).toHaveLength(1)
      expect(agent.asked[0]![0].constructor.name).toBe('ClientRequest')
    })

    it.each<[string, Record<string, unknown>]>([
      ['ws://localhost', { host: 'localhost', port: 80, path: '/' }],
      ['ws://localhost:8080/a?b', { host: 'localhost', port: '8080', path: '/a?b' }],
      ['ws://[::1]', { host: '::1', port: 80 }],
      ['ws://[::1]:99', { host: '::1', port: '99' }],
      ['http://localhost', { host: 'localhost', port: 80 }],
    ])('is told about %s', (address, expected) => {
      expect(askedOf(address)).toMatchObject(expected)
    })

    it('is told the ports of wss too', () => {
      class Dead extends HttpsAgent {
        asked: Record<string, unknown>[] = []
        addRequest(_request: ClientRequest, options: Record<string, unknown>): void {
          this.asked.push(options)
        }
      }
      for (const [address, port] of [
        ['wss://localhost', 443],
        ['https://localhost:8443', '8443'],
      ] as const) {
        const agent = new Dead()
        makeClient(implementation, address, { agent }).on('error', () => {})
        expect(agent.asked[0]).toMatchObject({ host: 'localhost', port })
      }
    })

    it('is told options of the program', () => {
      expect(askedOf('ws://localhost', { ca: 'x', mine: 1, minVersion: 'TLSv1.2' })).toMatchObject({
        ca: 'x',
        mine: 1,
        minVersion: 'TLSv1.2',
      })
    })

    it('may be a real one', async () => {
      const { url } = await startServer(implementation)
      const ws = await openClient(implementation, url, { agent: new Agent({ keepAlive: true }) })
      expect(ws.readyState).toBe(WebSocket.OPEN)
    })

    it('gets no socket back when the client is closed while connecting', async () => {
      const agent = new DeadAgent()
      const ws = makeClient(implementation, 'ws://localhost', { agent })
      const failure = failureOf(ws)
      ws.close()
      expect(await failure).toBe('Error: WebSocket was closed before the connection was established / 1006 ""')
      expect(agent.asked[0]![0].destroyed).toBe(true)
    })
  })

  describe('createConnection and lookup', () => {
    it('makes the connection of the program', async () => {
      const { url, port } = await startServer(implementation)
      const seen: Loose[] = []
      const ws = await openClient(implementation, 'ws://example.invalid:81/', {
        createConnection(options: Loose) {
          seen.push(options)
          return connectTcp(port, '127.0.0.1')
        },
      })
      expect(url).toContain(String(port))
      expect(ws.readyState).toBe(WebSocket.OPEN)
      expect(seen).toHaveLength(1)
      expect(seen[0]).toMatchObject({ host: 'example.invalid', port: '81' })
    })

    it('lookup finds the address', async () => {
      const { port } = await startServer(implementation)
      const names: string[] = []
      const ws = await openClient(implementation, `ws://example.invalid:${port}/`, {
        lookup(name: string, options: { all?: boolean }, callback: (...values: unknown[]) => void) {
          names.push(name)
          if (options.all) callback(null, [{ address: '127.0.0.1', family: 4 }])
          else callback(null, '127.0.0.1', 4)
        },
      })
      expect(ws.readyState).toBe(WebSocket.OPEN)
      expect(names).toEqual(['example.invalid'])
    })

    it('lookup may fail', async () => {
      const ws = makeClient(implementation, 'ws://example.invalid/', {
        lookup(_name: string, _options: unknown, callback: (error: Error) => void) {
          callback(Object.assign(new Error('of a test'), { code: 'ENOTFOUND' }))
        },
      })
      expect(await failureOf(ws)).toBe('Error ENOTFOUND: of a test / 1006 ""')
    })

    it('localAddress is that of the connection', async () => {
      const { wss, url } = await startServer(implementation)
      const connected = once(wss, 'connection')
      await openClient(implementation, url, { localAddress: '127.0.0.2' })
      const [, request] = (await connected) as [Ws, IncomingMessage]
      expect(request.socket.remoteAddress).toBe('127.0.0.2')
    })
  })

  describe('generateMask', () => {
    it('fills four bytes for each frame', async () => {
      const sizes: number[] = []
      const { ws, peer } = await openToClient(implementation, {
        perMessageDeflate: false,
        generateMask(mask: Buffer) {
          sizes.push(mask.length)
          mask.set([1, 2, 3, 4])
        },
      })
      ws.send('abc')
      ws.ping('x')
      expect((await peer.read(9)).toString('hex')).toBe(`818301020304${'60'}${'60'}${'60'}`)
      expect((await peer.read(7)).toString('hex')).toBe(`89810102030479`)
      expect(sizes).toEqual([4, 4])
    })

    it('may do nothing: then the mask is zero', async () => {
      const { ws, peer } = await openToClient(implementation, { perMessageDeflate: false, generateMask() {} })
      ws.send('abc')
      ws.send(Buffer.from('def'))
      expect((await peer.read(18)).toString('latin1')).toBe('\x81\x83\0\0\0\0abc\x82\x83\0\0\0\0def')
    })
  })

  describe('ws+unix', () => {
    const isWindows = process.platform === 'win32'

    it.skipIf(isWindows).each([
      ['', '/'],
      [':/path?query', '/path?query'],
      [':/', '/'],
    ])('connects to a path of the file system, with %s behind it', async (suffix, target) => {
      const file = join(tmpdir(), `fullduplex-${process.pid}-${Math.random().toString(36).slice(2)}.sock`)
      const server = createServer()
      const wss = makeServer(implementation, { server })
      server.listen(file)
      await once(server, 'listening')
      onTestFinished(() => void server.close())
      expect(wss.address()).toBe(file)
      const connected = once(wss, 'connection')
      const ws = await openClient(implementation, `ws+unix:${file}${suffix}`)
      const [, request] = (await connected) as [Ws, IncomingMessage]
      expect(request.url).toBe(target)
      expect(request.headers.host).toBe('localhost')
      expect(ws.url).toBe(`ws+unix:${file}${suffix}`)
    })
  })

  describe('TLS', () => {
    const certificate = makeCertificate()

    async function startTls(options: tls.TlsOptions = {}): Promise<{ port: number; seen: Queue<IncomingMessage> }> {
      const { createServer: createHttpsServer } = await import('node:https')
      const server = createHttpsServer({ ...certificate, ...options })
      const sockets = new Set<Socket>()
      server.on('connection', (socket) => sockets.add(socket as Socket))
      server.on('tlsClientError', () => {})
      const seen = new Queue<IncomingMessage>()
      makeServer(implementation, { server }).on('connection', (_ws: Ws, request: IncomingMessage) => seen.push(request))
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      onTestFinished(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
      return { port: (server.address() as { port: number }).port, seen }
    }

    it('connects with a certificate that is trusted', async () => {
      const { port } = await startTls()
      const ws = await openClient(implementation, `wss://localhost:${port}`, { ca: certificate.cert })
      expect(ws.url).toBe(`wss://localhost:${port}/`)
    })

    it('does not connect with one that is not', async () => {
      const { port } = await startTls()
      expect(await failureOf(makeClient(implementation, `wss://localhost:${port}`))).toMatch(
        /(SELF_SIGNED|UNABLE_TO_VERIFY).* \/ 1006 ""$/,
      )
    })

    it('connects with rejectUnauthorized false', async () => {
      const { port } = await startTls()
      const ws = await openClient(implementation, `wss://localhost:${port}`, { rejectUnauthorized: false })
      expect(ws.readyState).toBe(WebSocket.OPEN)
    })

    it('shows the certificate of the client', async () => {
      const other = makeCertificate()
      const { port, seen } = await startTls({ requestCert: true, rejectUnauthorized: true, ca: other.cert })
      await openClient(implementation, `wss://localhost:${port}`, {
        ca: certificate.cert,
        cert: other.cert,
        key: other.key,
      })
      const socket = (await seen.next()).socket as tls.TLSSocket
      expect(socket.authorized).toBe(true)
      const failure = await failureOf(makeClient(implementation, `wss://localhost:${port}`, { ca: certificate.cert }))
      expect(failure).toContain('1006')
    })

    it.each<[string, Loose, string]>([
      ['localhost', {}, 'localhost'],
      ['127.0.0.1', {}, ''],
      ['localhost', { servername: '' }, ''],
      ['127.0.0.1', { servername: 'localhost' }, 'localhost'],
    ])('to %s with %o gives tls.connect a server name', async (host, options, expected) => {
      const { port } = await startTls()
      const spy = vi.spyOn(tls, 'connect')
      onTestFinished(() => spy.mockRestore())
      await openClient(implementation, `wss://${host}:${port}`, {
        ca: certificate.cert,
        checkServerIdentity: () => undefined,
        ...options,
      })
      expect(spy).toHaveBeenCalledTimes(1)
      expect((spy.mock.calls[0]![0] as { servername?: string }).servername).toBe(expected)
    })

    it('sends and receives megabytes', async () => {
      const { createServer: createHttpsServer } = await import('node:https')
      const server = createHttpsServer(certificate)
      makeServer(implementation, { server }).on('connection', (ws: Ws) => {
        ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }))
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      onTestFinished(() => void server.close())
      const { port } = server.address() as { port: number }
      const ws = await openClient(implementation, `wss://localhost:${port}`, { ca: certificate.cert })
      const message = Buffer.alloc(3_000_000, 'abcdefg')
      const echoed = once(ws, 'message')
      ws.send(message)
      const [data] = (await echoed) as [Buffer]
      expect(data.equals(message)).toBe(true)
      ws.close()
      await closeOf(ws)
    })
  })
}
