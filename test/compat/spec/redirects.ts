import { once } from 'node:events'
import { type ClientRequest, createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { makeCertificate } from '../../support/certificate.ts'
import { portOf } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { failureOf, record } from './record.ts'
import { inside, type Loose, makeClient, makeServer } from './sockets.ts'

const EARLY = 'WebSocket was closed before the connection was established'

/** followRedirects, and which secrets go along. */
export function redirectSpec(implementation: Implementation): void {
  /** A server that notes what it is asked, and redirects everything but /end. */
  async function startHop(
    locate: (request: IncomingMessage) => string | undefined,
    { server = createServer(), listenOn, status = 302 }: { server?: Server; listenOn?: string; status?: number } = {},
  ): Promise<{ port: number; seen: IncomingMessage[] }> {
    const wss = makeServer(implementation, { noServer: true })
    const seen: IncomingMessage[] = []
    const sockets = new Set<Socket>()
    server.on('connection', (socket) => sockets.add(socket))
    server.on('upgrade', (request: IncomingMessage, socket, head) => {
      seen.push(request)
      const location = locate(request)
      if (location === undefined) wss.handleUpgrade(request, socket, head, () => {})
      else socket.end(`HTTP/1.1 ${status} Found\r\nLocation: ${location}\r\nContent-Length: 0\r\n\r\n`)
    })
    if (listenOn === undefined) server.listen(0, '127.0.0.1')
    else server.listen(listenOn)
    await once(server, 'listening')
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      server.close()
    })
    return { port: listenOn === undefined ? portOf(server) : 0, seen }
  }

  const SECRETS = { headers: { Authorization: 'Basic Zm9v', Cookie: 'foo=bar', Host: 'foo', 'X-Mine': '1' } }
  const secretsOf = ({ headers }: IncomingMessage): string =>
    ['authorization', 'cookie', 'host', 'x-mine']
      .filter((name) => name in headers && (name !== 'host' || headers.host === 'foo'))
      .join()
  const basic = (userinfo: string): string => `Basic ${Buffer.from(userinfo).toString('base64')}`

  async function open(address: string, options: Loose = {}): Promise<Ws> {
    const ws = makeClient(implementation, address, { followRedirects: true, ...options })
    await once(ws, 'open')
    return ws
  }

  describe('followRedirects', () => {
    it('is off', async () => {
      const { port } = await startHop(() => '/end')
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}`)
      expect(await failureOf(ws)).toBe('Error: Unexpected server response: 302 / 1006 ""')
      expect(ws.url).toBe(`ws://127.0.0.1:${port}/`)
    })

    it.each([300, 301, 302, 303, 307, 308])('follows %i', async (status) => {
      const { port } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'), { status })
      const ws = await open(`ws://127.0.0.1:${port}/start`)
      expect(ws.url).toBe(`ws://127.0.0.1:${port}/end`)
    })

    it.each([200, 400, 299])('does not follow %i', async (status) => {
      const { port } = await startHop(() => '/end', { status })
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}`, { followRedirects: true })
      expect(await failureOf(ws)).toContain(`Unexpected server response: ${status}`)
    })

    it('resolves relative addresses, and turns http to ws', async () => {
      const { port, seen } = await startHop(({ url }) => {
        if (url === '/a/start') return 'b?query'
        if (url === '/a/b?query') return `http://127.0.0.1:${port}/c`
        if (url === '/c') return `//127.0.0.1:${port}/end`
        return undefined
      })
      const ws = await open(`ws://127.0.0.1:${port}/a/start`)
      expect(seen.map(({ url }) => url)).toEqual(['/a/start', '/a/b?query', '/c', '/end'])
      expect(ws.url).toBe(`ws://127.0.0.1:${port}/end`)
    })

    it('makes a new key, and the same headers again', async () => {
      const { port, seen } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'))
      await open(`ws://127.0.0.1:${port}/`, { headers: { 'X-Mine': 'yes' }, origin: 'http://here' })
      expect(seen.map(({ headers }) => [headers['x-mine'], headers.origin])).toEqual([
        ['yes', 'http://here'],
        ['yes', 'http://here'],
      ])
      expect(seen[0]?.headers['sec-websocket-key']).not.toBe(seen[1]?.headers['sec-websocket-key'])
    })

    it('gives up at ten', async () => {
      const { port, seen } = await startHop(() => '/')
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true })
      expect(await failureOf(ws)).toBe('Error: Maximum redirects exceeded / 1006 ""')
      expect(seen).toHaveLength(11)
    })

    it.each([0, 1, 3])('gives up at maxRedirects %i', async (maxRedirects) => {
      const { port, seen } = await startHop(() => '/')
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true, maxRedirects })
      expect(await failureOf(ws)).toBe('Error: Maximum redirects exceeded / 1006 ""')
      expect(seen).toHaveLength(maxRedirects + 1)
    })

    it.each([
      ['ws://', 'SyntaxError: Invalid URL: ws://'],
      ['http://', 'SyntaxError: Invalid URL: http://'],
      ['ws://127.0.0.1/#fragment', 'SyntaxError: The URL contains a fragment identifier'],
      [
        'bad-scheme://localhost',
        'SyntaxError: The URL\'s protocol must be one of "ws:", "wss:", "http:", "https:", or "ws+unix:"',
      ],
    ])('fails by an event at %s', async (location, expected) => {
      const { port } = await startHop(() => location)
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true })
      expect(await failureOf(ws)).toBe(`${expected} / 1006 ""`)
    })

    it('calls finishRequest each time', async () => {
      const { port } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'))
      const paths: string[] = []
      await open(`ws://127.0.0.1:${port}/`, {
        finishRequest(request: ClientRequest) {
          paths.push(request.path)
          request.end()
        },
      })
      expect(paths).toEqual(['/', '/end'])
    })

    it('does not change the options that are given', async () => {
      const { port } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'))
      const headers = Object.freeze({ Authorization: 'Basic Zm9v' })
      await open(`ws://127.0.0.1:${port}/`, { headers, auth: 'a:b' })
      expect(headers).toEqual({ Authorization: 'Basic Zm9v' })
    })

    it('refuses in the end what an answer without redirects would', async () => {
      const { port } = await startHop(({ url }) => (url === '/a' ? '/b' : undefined))
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/a`, ['mine'], { followRedirects: true })
      ws.on('error', () => {})
      await once(ws, 'open')
      expect(ws.protocol).toBe('mine')
    })
  })

  describe('the event redirect', () => {
    it('has the url and the request, before that is sent', async () => {
      const { port, seen } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'))
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true })
      const events: unknown[] = []
      ws.on('redirect', (url, request) => {
        events.push([url, ws.url, request.path, request.writableEnded])
        request.setHeader('X-Added', 'here')
      })
      await once(ws, 'open')
      const end = `ws://127.0.0.1:${port}/end`
      expect(events).toEqual([[end, end, '/end', false]])
      expect(seen.map(({ headers }) => headers['x-added'])).toEqual([undefined, 'here'])
    })

    it.each(['close', 'terminate'] as const)('may be answered by %s()', async (method) => {
      const { port } = await startHop(() => '/end')
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true })
      ws.on('redirect', () => ws[method]())
      expect(await failureOf(ws)).toBe(`Error: ${EARLY} / 1006 ""`)
    })

    it('may be answered by destroying the request', async () => {
      const { port } = await startHop(() => '/end')
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true })
      ws.on('redirect', (_url, request) => {
        request.destroy(new Error('of a test'))
      })
      expect(await failureOf(ws)).toBe('Error: of a test / 1006 ""')
    })

    it('leaves no socket of the first hop', async () => {
      const { port } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'))
      const ws = await open(`ws://127.0.0.1:${port}/`)
      const lines = record(ws)
      expect(inside(ws)._socket.destroyed).toBe(false)
      expect(lines).toEqual([])
    })
  })

  describe('secrets', () => {
    it('go along to the same host', async () => {
      const { port, seen } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'))
      await open(`ws://127.0.0.1:${port}/`, SECRETS)
      expect(seen.map(secretsOf)).toEqual(['authorization,cookie,host,x-mine', 'authorization,cookie,host,x-mine'])
    })

    it('do not go to another port', async () => {
      const end = await startHop(() => undefined)
      const { port, seen } = await startHop(() => `ws://127.0.0.1:${end.port}/`)
      await open(`ws://127.0.0.1:${port}/`, SECRETS)
      expect(seen.map(secretsOf)).toEqual(['authorization,cookie,host,x-mine'])
      expect(end.seen.map(secretsOf)).toEqual(['x-mine'])
      expect(end.seen[0]?.headers.host).toBe(`127.0.0.1:${end.port}`)
    })

    it('do not go to another name of the same machine', async () => {
      const { port, seen } = await startHop(({ url }) => (url === '/end' ? undefined : `ws://localhost:${port}/end`))
      await open(`ws://127.0.0.1:${port}/`, { ...SECRETS, family: 4 })
      expect(seen.map(secretsOf)).toEqual(['authorization,cookie,host,x-mine', 'x-mine'])
    })

    it('come back when a redirect leads to the first host again', async () => {
      const other = await startHop(() => `ws://127.0.0.1:${port}/end`)
      const { port, seen } = await startHop(({ url }) => (url === '/end' ? undefined : `ws://127.0.0.1:${other.port}/`))
      await open(`ws://127.0.0.1:${port}/`, SECRETS)
      expect(other.seen.map(secretsOf)).toEqual(['x-mine'])
      expect(seen.map(secretsOf)).toEqual(['authorization,cookie,host,x-mine', 'authorization,cookie,host,x-mine'])
    })

    it('go along everywhere when the program listens to redirect', async () => {
      const end = await startHop(() => undefined)
      const { port } = await startHop(() => `ws://127.0.0.1:${end.port}/`)
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true, ...SECRETS })
      ws.on('redirect', () => {})
      await once(ws, 'open')
      expect(end.seen.map(secretsOf)).toEqual(['authorization,cookie,host,x-mine'])
    })

    it('can be taken away by the listener', async () => {
      const { port, seen } = await startHop(({ url }) => (url === '/end' ? undefined : '/end'))
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/`, { followRedirects: true, ...SECRETS })
      ws.on('redirect', (_url, request) => request.removeHeader('cookie'))
      await once(ws, 'open')
      expect(seen.map(secretsOf)).toEqual(['authorization,cookie,host,x-mine', 'authorization,host,x-mine'])
    })

    it('of the option auth go along to the same host only', async () => {
      const end = await startHop(() => undefined)
      const { port, seen } = await startHop(({ url }) => (url === '/' ? '/2' : `ws://127.0.0.1:${end.port}/`))
      await open(`ws://127.0.0.1:${port}/`, { auth: 'foo:bar' })
      expect(seen.map(({ headers }) => headers.authorization)).toEqual([basic('foo:bar'), basic('foo:bar')])
      expect(end.seen[0]?.headers.authorization).toBeUndefined()
    })

    it('of the first address win over those of the next', async () => {
      const { port, seen } = await startHop(({ url }) =>
        url === '/end' ? undefined : `ws://baz:qux@127.0.0.1:${port}/end`,
      )
      await open(`ws://foo:bar@127.0.0.1:${port}/`)
      expect(seen.map(({ headers }) => headers.authorization)).toEqual([basic('foo:bar'), basic('foo:bar')])
    })

    it('of the next address are used when there were none', async () => {
      const { port, seen } = await startHop(({ url }) => {
        if (url === '/') return `ws://foo:bar@127.0.0.1:${port}/2`
        return url === '/2' ? '/end' : undefined
      })
      await open(`ws://127.0.0.1:${port}/`)
      expect(seen.map(({ headers }) => headers.authorization)).toEqual([undefined, basic('foo:bar'), basic('foo:bar')])
    })

    it('of the next address do not go to another host by themselves', async () => {
      const end = await startHop(() => undefined)
      const { port } = await startHop(() => `ws://foo:bar@127.0.0.1:${end.port}/`)
      await open(`ws://127.0.0.1:${port}/`)
      expect(end.seen[0]?.headers.authorization).toBeUndefined()
    })

    it('do not go from wss to ws', async () => {
      const certificate = makeCertificate()
      const end = await startHop(() => undefined)
      const first = await startHop(() => `ws://localhost:${end.port}/`, { server: createHttpsServer(certificate) })
      const options = { ...SECRETS, auth: 'foo:bar', ca: certificate.cert, family: 4 }
      await open(`wss://localhost:${first.port}/`, options)
      expect(end.seen.map(secretsOf)).toEqual(['x-mine'])
    })

    it.skipIf(process.platform === 'win32')(
      'do not go from a path of the file system to TCP, or to another',
      async () => {
        const paths = [1, 2].map((index) =>
          join(tmpdir(), `fullduplex-${process.pid}-${Math.random().toString(36).slice(2)}-${index}.sock`),
        )
        const end = await startHop(() => undefined)
        const first = await startHop(
          ({ url }) =>
            url === '/tcp'
              ? `ws://127.0.0.1:${end.port}/`
              : url === '/same'
                ? `ws+unix:${paths[0]}:/end`
                : url === '/end'
                  ? undefined
                  : `ws+unix:${paths[1]}:/`,
          { listenOn: paths[0]! },
        )
        const second = await startHop(() => undefined, { listenOn: paths[1]! })
        await open(`ws+unix:${paths[0]}:/same`, SECRETS)
        await open(`ws+unix:${paths[0]}:/tcp`, SECRETS)
        await open(`ws+unix:${paths[0]}:/other`, SECRETS)
        expect(first.seen.map(secretsOf)).toEqual(new Array(4).fill('authorization,cookie,host,x-mine'))
        expect(end.seen.map(secretsOf)).toEqual(['x-mine'])
        expect(second.seen.map(secretsOf)).toEqual(['x-mine'])
      },
    )
  })
}
