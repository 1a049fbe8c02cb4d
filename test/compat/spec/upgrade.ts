import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import { makeCertificate } from '../../support/certificate.ts'
import { Queue } from '../../support/queue.ts'
import { acceptOf, frame, KEY, RawClient, upgradeRequest } from '../../support/raw-client.ts'
import { startHttpServer } from '../../support/servers.ts'
import { duplexPair } from './duplex-pair.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, nextMessage, recordToEnd } from './record.ts'
import { makeClient, makeServer, openClient, startServer } from './sockets.ts'

function fakeRequest(socket: Duplex, headers: Record<string, string> = {}): IncomingMessage {
  return {
    method: 'GET',
    url: '/',
    socket,
    headers: {
      upgrade: 'websocket',
      connection: 'Upgrade',
      'sec-websocket-key': KEY,
      'sec-websocket-version': '13',
      ...headers,
    },
  } as unknown as IncomingMessage
}

/** handleUpgrade() on every kind of socket, noServer mode, and connections without a handshake. */
export function upgradeSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

  describe('handleUpgrade()', () => {
    it('works on an http server that the program owns', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      httpServer.on('upgrade', (request, socket, head) => {
        wss.handleUpgrade(request, socket, head, (ws, given) => {
          expect(given).toBe(request)
          ws.send(`hello ${request.url}`)
        })
      })
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}/there`)
      expect(await nextMessage(ws)).toBe('text "hello /there"')
    })

    it('does not emit connection itself', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      const events: string[] = []
      wss.on('connection', (_ws: Ws, ...rest: unknown[]) => events.push(`connection ${rest.slice(1).join()}`))
      httpServer.on('upgrade', (request, socket, head) => {
        wss.handleUpgrade(request, socket, head, (ws) => {
          events.push('callback')
          wss.emit('connection', ws, request, 'somebody')
        })
        events.push('returned')
      })
      await openClient(implementation, `ws://127.0.0.1:${port}`)
      expect(events).toEqual(['callback', 'connection somebody', 'returned'])
    })

    it('calls back at once, with an open connection and the answer on its way', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      const seen = new Queue<unknown>()
      httpServer.on('upgrade', (request, socket, head) => {
        const written: string[] = []
        const write = socket.write.bind(socket)
        socket.write = ((chunk: string, ...rest: []) => {
          written.push(String(chunk))
          return write(chunk, ...rest)
        }) as typeof socket.write
        let isInside = true
        wss.handleUpgrade(request, socket, head, (ws) => {
          seen.push([isInside, ws.readyState, written.join('').startsWith('HTTP/1.1 101'), wss.clients.has(ws)])
        })
        isInside = false
      })
      await openClient(implementation, `ws://127.0.0.1:${port}`)
      expect(await seen.next()).toEqual([true, WebSocket.OPEN, true, true])
    })

    it('throws when it is called twice with one socket', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      const errors = new Queue<unknown>()
      httpServer.on('upgrade', (request, socket, head) => {
        wss.handleUpgrade(request, socket, head, () => {})
        try {
          wss.handleUpgrade(request, socket, head, () => {})
        } catch (error) {
          errors.push(error)
        }
      })
      await openClient(implementation, `ws://127.0.0.1:${port}`)
      const text = 'server.handleUpgrade() was called more than once with the same socket'
      expect(await errors.next()).toEqual(new Error(`${text}, possibly due to a misconfiguration`))
    })

    it('throws when a second server takes the same socket', async () => {
      const { httpServer, port } = await startHttpServer()
      const servers = [makeServer(implementation, { noServer: true }), makeServer(implementation, { noServer: true })]
      const errors = new Queue<Error>()
      httpServer.on('upgrade', (request, socket, head) => {
        for (const wss of servers) {
          try {
            wss.handleUpgrade(request, socket, head, () => {})
          } catch (error) {
            errors.push(error as Error)
          }
        }
      })
      await openClient(implementation, `ws://127.0.0.1:${port}`)
      expect((await errors.next()).message).toContain('more than once')
    })

    it('destroys a socket whose other end has ended, and does not call back', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      const destroyed = new Queue<boolean>()
      httpServer.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
        socket.resume()
        socket.once('end', () => {
          wss.handleUpgrade(request, socket, head, () => expect.unreachable())
          destroyed.push(socket.destroyed)
        })
      })
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest())
      client.end()
      expect(await destroyed.next()).toBe(true)
      expect((await client.readToEnd()).length).toBe(0)
    })

    it('uses the head that is given', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      const lines = new Queue<string>()
      httpServer.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
        const head = Buffer.concat([frame(1, 'one'), frame(1, 'two').subarray(0, 3)])
        wss.handleUpgrade(request, socket, head, (ws) => {
          ws.on('message', (data) => lines.push(String(data)))
          lines.push('called back')
        })
      })
      const client = await RawClient.open({ port })
      client.send(frame(1, 'two').subarray(3))
      expect(await lines.take(3)).toEqual(['called back', 'one', 'two'])
    })

    it('works on https', async () => {
      const certificate = makeCertificate()
      const server = createHttpsServer(certificate)
      const infos = new Queue<boolean>()
      const wss = makeServer(implementation, {
        server,
        verifyClient: ({ secure }: { secure: boolean }) => {
          infos.push(secure)
          return true
        },
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      onTestFinished(() => void server.close())
      wss.on('connection', (ws) => ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary })))
      const { port } = server.address() as AddressInfo
      const ws = await openClient(implementation, `wss://localhost:${port}`, { ca: certificate.cert })
      const echo = nextMessage(ws)
      ws.send('over TLS')
      expect(await echo).toBe('text "over TLS"')
      expect(infos.all).toEqual([true])
      ws.close()
      await closeOf(ws)
    })

    it('works on a pair of streams in memory', async () => {
      const [near, far] = duplexPair()
      const wss = makeServer(implementation, { noServer: true })
      const peer = new RawClient(far as Socket)
      const { ws } = await new Promise<{ ws: Ws }>((resolve) =>
        wss.handleUpgrade(fakeRequest(near), near, Buffer.alloc(0), (socket) => resolve({ ws: socket })),
      )
      const { text, lines } = await peer.readHead()
      expect([text, ...lines]).toEqual([
        'HTTP/1.1 101 Switching Protocols',
        'Upgrade: websocket',
        'Connection: Upgrade',
        `Sec-WebSocket-Accept: ${acceptOf(KEY)}`,
      ])
      const message = nextMessage(ws)
      far.write(frame(1, 'in memory'))
      expect(await message).toBe('text "in memory"')
      ws.send('back')
      expect((await peer.read(6)).toString('latin1')).toBe('\x81\x04back')
      const events = recordToEnd(ws)
      far.end(frame(8, Buffer.from([0x03, 0xe8])))
      expect(await events).toEqual(['close 3 1000 ""'])
      expect(wss.clients.size).toBe(0)
    })

    it('refuses on a stream in memory', async () => {
      const [near, far] = duplexPair()
      const wss = makeServer(implementation, { noServer: true })
      const chunks: Buffer[] = []
      far.on('data', (chunk: Buffer) => chunks.push(chunk))
      const ended = once(far, 'end')
      wss.handleUpgrade(fakeRequest(near, { upgrade: 'foo' }), near, Buffer.alloc(0), () => expect.unreachable())
      await ended
      expect(Buffer.concat(chunks).toString()).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/)
      expect(near.destroyed).toBe(true)
    })

    it('speaks through a pair of streams put before a real socket', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      httpServer.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
        const [near, far] = duplexPair()
        far.pipe(socket).pipe(far)
        wss.handleUpgrade(request, near, head, (ws) => {
          ws.on('message', (data) => ws.send(`echo ${String(data)}`))
        })
      })
      const ws = await openClient(implementation, `ws://127.0.0.1:${port}`)
      const echo = nextMessage(ws)
      ws.send('hello')
      expect(await echo).toBe('text "echo hello"')
      ws.close(1000, 'done')
      expect(await closeOf(ws)).toEqual([1000, 'done'])
    })

    it('returns nothing', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, { noServer: true })
      const values = new Queue<unknown>()
      httpServer.on('upgrade', (request, socket, head) =>
        values.push(wss.handleUpgrade(request, socket, head, () => {})),
      )
      await openClient(implementation, `ws://127.0.0.1:${port}`)
      expect(await values.next()).toBeUndefined()
    })

    it('destroys the socket when it fails in the handshake', async () => {
      const { httpServer, port } = await startHttpServer()
      const wss = makeServer(implementation, {
        noServer: true,
        verifyClient: (_info: unknown, _callback: unknown) => {},
      })
      const destroyed = new Queue<void>()
      httpServer.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
        wss.handleUpgrade(request, socket, head, () => expect.unreachable())
        socket.on('close', () => destroyed.push())
        socket.emit('error', new Error('of a test'))
      })
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest())
      await destroyed.next()
      await client.ended()
    })
  })

  describe('several servers on one http server', () => {
    it('are told apart by the path', async () => {
      const { httpServer, port } = await startHttpServer()
      const servers = new Map(
        ['/a', '/b'].map((path) => [path, makeServer(implementation, { noServer: true, path })] as const),
      )
      httpServer.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
        for (const wss of servers.values()) {
          if (wss.shouldHandle(request)) {
            wss.handleUpgrade(request, socket, head, (ws) => ws.send(wss.options.path!))
            return
          }
        }
        socket.destroy()
      })
      for (const path of servers.keys()) {
        expect(await nextMessage(makeClient(implementation, `ws://127.0.0.1:${port}${path}`))).toBe(`text "${path}"`)
      }
    })
  })

  describe('options', () => {
    it('are read at each handshake', async () => {
      const { wss, port } = await startServer(implementation)
      const ask = async (): Promise<string | undefined> => {
        const client = await RawClient.connect({ port })
        client.send(upgradeRequest({ headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } }))
        return (await client.readHead()).headers.get('sec-websocket-extensions')
      }
      expect(await ask()).toBeUndefined()
      wss.options.perMessageDeflate = { serverNoContextTakeover: true }
      expect(await ask()).toBe('permessage-deflate; server_no_context_takeover')
      wss.options.perMessageDeflate = false
      expect(await ask()).toBeUndefined()
    })

    it('such as maxPayload, path and verifyClient too', async () => {
      const { wss, port } = await startServer(implementation)
      const connections = new Queue<Ws>()
      wss.on('connection', connections.push)
      wss.options.maxPayload = 4
      const client = await RawClient.open({ port })
      const lines = recordToEnd(await connections.next())
      client.send(frame(1, 'hello'))
      client.end()
      expect((await lines)[0]).toContain('WS_ERR_UNSUPPORTED_MESSAGE_LENGTH')
      wss.options.path = '/elsewhere'
      const refused = await RawClient.ask({ port }, upgradeRequest())
      expect(refused.status).toBe(400)
      wss.options.verifyClient = () => false
      expect((await RawClient.ask({ port }, upgradeRequest({ target: '/elsewhere' }))).status).toBe(401)
    })

    it('such as the class too', async () => {
      class Special extends WebSocket {}
      const { wss, url } = await startServer(implementation)
      const connections = new Queue<Ws>()
      wss.on('connection', connections.push)
      wss.options.WebSocket = Special
      await openClient(implementation, url)
      expect(await connections.next()).toBeInstanceOf(Special)
    })
  })

  describe('a request that is not the first on its connection', () => {
    it('is upgraded too', async () => {
      const server = createServer((_request, response) => response.end('plain'))
      makeServer(implementation, { server })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      onTestFinished(() => void server.close())
      const { port } = server.address() as AddressInfo
      const client = await RawClient.connect({ port })
      client.send('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
      await client.readHead()
      await client.read('plain'.length)
      client.send(upgradeRequest())
      expect((await client.readHead()).status).toBe(101)
    })
  })
}
