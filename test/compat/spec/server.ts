import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { holdPort } from '../../support/ports.ts'
import { plainRequest, RawClient, upgradeRequest } from '../../support/raw-client.ts'
import { nextTurn, startHttpServer, until } from '../../support/servers.ts'
import type { Implementation, Ws, Wss } from './implementation.ts'
import { closeOf, failureOf } from './record.ts'
import { httpServerOf, type Loose, makeClient, makeServer, openClient, openPair, startServer } from './sockets.ts'

const ONE_OF = 'One and only one of the "port", "server", or "noServer" options must be specified'

/** Construction, address(), clients and close() of servers. */
export function serverSpec(implementation: Implementation): void {
  const { WebSocket, WebSocketServer } = implementation

  describe('the constructor of a server', () => {
    it.each<[string, unknown[]]>([
      ['nothing', []],
      ['undefined', [undefined]],
      ['an empty object', [{}]],
      ['port null', [{ port: null }]],
      ['noServer false', [{ noServer: false }]],
      ['port and noServer', [{ port: 0, noServer: true }]],
      ['port and server', [{ port: 0, server: createServer() }]],
      ['server and noServer', [{ server: createServer(), noServer: true }]],
      ['all three', [{ port: 0, server: createServer(), noServer: true }]],
    ])('wants exactly one way to get requests, and throws at %s', (_name, args) => {
      const make = (): unknown => new (WebSocketServer as unknown as new (...args: unknown[]) => unknown)(...args)
      expect(make).toThrow(new TypeError(ONE_OF))
      expect(make).toThrow(TypeError)
    })

    it('keeps the options over the defaults', () => {
      const given = { noServer: true, maxPayload: 7 }
      const wss = makeServer(implementation, given)
      expect(wss.options).toMatchObject({
        allowSynchronousEvents: true,
        autoPong: true,
        backlog: null,
        clientTracking: true,
        closeTimeout: 30_000,
        handleProtocols: null,
        host: null,
        maxBufferedChunks: 256 * 1024,
        maxFragments: 16 * 1024,
        maxPayload: 7,
        maxPendingAutoPongs: 60,
        noServer: true,
        path: null,
        perMessageDeflate: false,
        port: null,
        server: null,
        skipUTF8Validation: false,
        verifyClient: null,
        WebSocket,
      })
      expect(makeServer(implementation, { noServer: true }).options.maxPayload).toBe(100 * 1024 * 1024)
      expect(given).toEqual({ noServer: true, maxPayload: 7 })
    })

    it('keeps options that it does not know', () => {
      const wss = makeServer(implementation, { noServer: true, mine: 1 })
      expect(wss.options).toMatchObject({ mine: 1 })
    })

    it('makes an object of perMessageDeflate: true', () => {
      expect(makeServer(implementation, { noServer: true, perMessageDeflate: true }).options.perMessageDeflate).toEqual(
        {},
      )
    })

    it('listens on a port, and calls back and emits listening', async () => {
      const events: string[] = []
      await new Promise<void>((resolve) => {
        const wss = new WebSocketServer({ port: 0 }, () => events.push('callback'))
        onTestFinished(() => wss.close())
        wss.on('listening', () => {
          events.push('listening')
          resolve()
        })
      })
      await nextTurn()
      expect(events.sort()).toEqual(['callback', 'listening'])
    })

    it('listens on all addresses without a host', async () => {
      const wss = makeServer(implementation, { port: 0 })
      await once(wss, 'listening')
      expect(['::', '0.0.0.0']).toContain((wss.address() as AddressInfo).address)
    })

    it('listens on the host that is given', async () => {
      const { wss, port } = await startServer(implementation)
      expect(wss.address()).toEqual({ address: '127.0.0.1', family: 'IPv4', port })
    })

    it('emits the error of a port that is taken', async () => {
      const held = await holdPort(0)
      const { port } = held.address() as AddressInfo
      const wss = makeServer(implementation, { port, host: '127.0.0.1' })
      const [error] = (await once(wss, 'error')) as [NodeJS.ErrnoException]
      expect(error.code).toBe('EADDRINUSE')
    })

    it('forwards listening and error of a given server', async () => {
      const server = createServer()
      const wss = makeServer(implementation, { server })
      const events: unknown[] = []
      wss.on('listening', () => events.push('listening'))
      wss.on('error', (error) => events.push(error))
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const error = new Error('mine')
      server.emit('error', error)
      expect(events).toEqual(['listening', error])
      expect(wss.address()).toEqual(server.address())
      server.close()
    })

    it('puts its listeners on a given server, and no more than one each', () => {
      const server = createServer()
      const names = ['listening', 'error', 'upgrade']
      const before = names.map((name) => server.listenerCount(name))
      makeServer(implementation, { server })
      expect(names.map((name, index) => server.listenerCount(name) - before[index]!)).toEqual([1, 1, 1])
    })

    it('answers plain requests to its own server with 426', async () => {
      const { port } = await startServer(implementation)
      const answer = await RawClient.ask({ port }, plainRequest({ headers: { Connection: 'close' } }))
      expect(answer.text).toBe('HTTP/1.1 426 Upgrade Required')
      expect(answer.headers.get('content-type')).toBe('text/plain')
      expect(answer.headers.get('content-length')).toBe('16')
      expect(answer.body).toBe('Upgrade Required')
    })

    it('leaves plain requests to a given server alone', async () => {
      const { httpServer, port } = await startHttpServer()
      httpServer.on('request', (_request, response) => response.end('mine'))
      makeServer(implementation, { server: httpServer })
      expect((await RawClient.ask({ port }, plainRequest({ headers: { Connection: 'close' } }))).body).toBe('mine')
    })

    it('has the http server as _server', async () => {
      const { httpServer } = await startHttpServer()
      expect(httpServerOf(makeServer(implementation, { server: httpServer }))).toBe(httpServer)
      const { wss } = await startServer(implementation)
      expect(httpServerOf(wss)).toBeInstanceOf(createServer().constructor)
      expect(httpServerOf(makeServer(implementation, { noServer: true }))).toBeFalsy()
    })

    it('gives the request to connection', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { server: httpServer })
      const connected = once(wss, 'connection')
      await openClient(implementation, `ws://127.0.0.1:${port}/some/path?query=1`)
      const [, request] = (await connected) as [Ws, { url: string }]
      expect(request.url).toBe('/some/path?query=1')
    })
  })

  describe('address()', () => {
    it('throws without a server', () => {
      const wss = makeServer(implementation, { noServer: true })
      expect(() => wss.address()).toThrow(new Error('The server is operating in "noServer" mode'))
    })

    it('is null behind close()', async () => {
      const { wss } = await startServer(implementation)
      wss.close()
      expect(wss.address()).toBeNull()
      await once(wss, 'close')
      expect(wss.address()).toBeNull()
    })

    it('is null as long as a given server does not listen', () => {
      expect(makeServer(implementation, { server: createServer() }).address()).toBeNull()
    })
  })

  describe('clients', () => {
    it('is a set of the connections', async () => {
      const { wss, server, client } = await openPair(implementation)
      expect(wss.clients).toBeInstanceOf(Set)
      expect([...wss.clients]).toEqual([server])
      client.close()
      await closeOf(server)
      expect(wss.clients.size).toBe(0)
    })

    it('is undefined without tracking', async () => {
      const { wss, client } = await openPair(implementation, { server: { clientTracking: false } })
      expect(wss.clients).toBeUndefined()
      expect('clients' in wss).toBe(false)
      client.close()
      await closeOf(client)
    })

    it('has the connection when connection is emitted, and not when its listeners hear of the end', async () => {
      const { wss, url } = await startServer(implementation)
      const seen: boolean[] = []
      const ended = new Promise<void>((resolve) => {
        wss.on('connection', (ws) => {
          seen.push(wss.clients.has(ws))
          ws.on('close', () => {
            seen.push(wss.clients.has(ws))
            resolve()
          })
        })
      })
      const ws = await openClient(implementation, url)
      ws.close()
      await ended
      expect(seen).toEqual([true, false])
    })

    it('loses a connection that is terminated', async () => {
      const { wss, server } = await openPair(implementation)
      const closed = closeOf(server)
      server.terminate()
      expect(wss.clients.size).toBe(1)
      await closed
      expect(wss.clients.size).toBe(0)
    })
  })

  describe('close() of a server', () => {
    const stateOf = (wss: Wss): number => (wss as unknown as { _state: number })._state

    it('calls back without an argument, once close was emitted', async () => {
      const { wss } = await startServer(implementation)
      const events: string[] = []
      wss.on('close', () => events.push('close'))
      const args = await new Promise<unknown[]>((resolve) => wss.close((...values) => resolve(values)))
      expect(args).toEqual([])
      expect(events).toEqual(['close'])
    })

    it('goes through the states 0, 1 and 2', async () => {
      const { wss } = await startServer(implementation)
      expect(stateOf(wss)).toBe(0)
      wss.close()
      expect(stateOf(wss)).toBe(1)
      await once(wss, 'close')
      expect(stateOf(wss)).toBe(2)
    })

    it('closes its own http server', async () => {
      const { wss } = await startServer(implementation)
      const server = httpServerOf(wss)
      wss.close()
      await once(wss, 'close')
      expect(server.listening).toBe(false)
    })

    it('waits for the connections, and does not end them', async () => {
      const { wss, server, client } = await openPair(implementation)
      let isClosed = false
      const closed = new Promise<void>((resolve) =>
        wss.close(() => {
          isClosed = true
          resolve()
        }),
      )
      const pong = once(client, 'pong')
      client.ping()
      await pong
      expect([isClosed, server.readyState, client.readyState]).toEqual([false, 1, 1])
      client.close()
      await Promise.all([closed, closeOf(server)])
    })

    it.each<[string, Loose]>([
      ['with', {}],
      ['without', { clientTracking: false }],
    ])('leaves a given server running, %s tracking, and takes its listeners away', async (_name, options) => {
      const { httpServer } = await startHttpServer()
      const before = ['listening', 'error', 'upgrade'].map((name) => httpServer.listenerCount(name))
      const wss = makeServer(implementation, { server: httpServer, ...options })
      let isSynchronous = true
      const closed = new Promise<boolean>((resolve) => wss.close(() => resolve(isSynchronous)))
      isSynchronous = false
      expect(['listening', 'error', 'upgrade'].map((name) => httpServer.listenerCount(name))).toEqual(before)
      expect(await closed).toBe(false)
      expect(httpServer.listening).toBe(true)
    })

    it('waits for connections of a given server', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { server: httpServer })
      const connected = once(wss, 'connection')
      const client = await openClient(implementation, `ws://127.0.0.1:${port}`)
      const [server] = (await connected) as [Ws]
      const order: string[] = []
      const closed = new Promise<void>((resolve) =>
        wss.close(() => {
          order.push('server')
          resolve()
        }),
      )
      server.on('close', () => order.push('connection'))
      await nextTurn()
      expect(order).toEqual([])
      client.close()
      await closed
      expect(order).toEqual(['connection', 'server'])
    })

    it('does not wait for connections that it does not track', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { server: httpServer, clientTracking: false })
      const client = await openClient(implementation, `ws://127.0.0.1:${port}`)
      await new Promise<void>((resolve) => wss.close(() => resolve()))
      expect(client.readyState).toBe(WebSocket.OPEN)
    })

    it('works without a server', async () => {
      const wss = makeServer(implementation, { noServer: true })
      await new Promise<void>((resolve) => wss.close(() => resolve()))
      expect(stateOf(wss)).toBe(2)
    })

    it('calls all callbacks that were given before the end', async () => {
      const { wss } = await startServer(implementation)
      const results = await Promise.all([
        new Promise<unknown[]>((resolve) => wss.close((...values) => resolve(values))),
        new Promise<unknown[]>((resolve) => wss.close((...values) => resolve(values))),
      ])
      expect(results).toEqual([[], []])
    })

    it('calls back with an error behind the end, and emits close again', async () => {
      const { wss } = await startServer(implementation)
      wss.close()
      await once(wss, 'close')
      let count = 0
      wss.on('close', () => count++)
      const error = await new Promise<Error | undefined>((resolve) => wss.close((value) => resolve(value)))
      expect(error).toEqual(new Error('The server is not running'))
      expect(count).toBe(1)
    })

    it('can be called again behind the end without a callback', async () => {
      const wss = makeServer(implementation, { noServer: true })
      wss.close()
      await once(wss, 'close')
      wss.close()
      await once(wss, 'close')
    })

    it('answers a request that comes while it is closing with 503', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      httpServer.on('upgrade', (request, socket, head) => {
        wss.close()
        wss.handleUpgrade(request, socket, head, () => expect.unreachable())
      })
      const answer = await RawClient.ask({ port }, upgradeRequest())
      expect([answer.text, answer.body]).toEqual(['HTTP/1.1 503 Service Unavailable', 'Service Unavailable'])
    })

    it('answers a request behind its end with 503', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      wss.close()
      await once(wss, 'close')
      httpServer.on('upgrade', (request, socket, head) =>
        wss.handleUpgrade(request, socket, head, () => expect.unreachable()),
      )
      expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(503)
    })

    it('lets a client know by a refused connection', async () => {
      const { wss, url } = await startServer(implementation)
      wss.close()
      await once(wss, 'close')
      expect(await failureOf(makeClient(implementation, url))).toContain('ECONNREFUSED')
    })
  })

  describe('closing and connections in the making', () => {
    it('emits close when the last of several connections is gone', async () => {
      const { wss, url } = await startServer(implementation)
      const clients = await Promise.all([1, 2, 3].map(() => openClient(implementation, url)))
      await until(() => wss.clients.size === 3)
      const ended = [...wss.clients].map((server) => closeOf(server))
      const closed = once(wss, 'close')
      wss.close()
      for (const client of clients) client.close()
      await Promise.all([closed, ...ended])
      expect(wss.clients.size).toBe(0)
    })
  })
}
