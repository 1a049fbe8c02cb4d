import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createRequire } from 'node:module'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import { makeCertificate } from '../../support/certificate.ts'
import { Queue } from '../../support/queue.ts'
import { acceptOf, frame, KEY, RawClient, upgradeRequest } from '../../support/raw-client.ts'
import { nextTurn, startHttpServer, until } from '../../support/servers.ts'
import { duplexPair } from './duplex-pair.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, nextMessage, recordToEnd, takeMessages } from './record.ts'
import { construct, inside, makeClient, makeServer, openClient, openPair, startServer } from './sockets.ts'

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

  describe('setSocket()', () => {
    const options = { maxPayload: 0, skipUTF8Validation: false, allowSynchronousEvents: true }

    it('opens a server without a handshake', async () => {
      const [near, far] = duplexPair()
      const ws = construct(implementation, null, undefined, {})
      const opened = once(ws, 'open')
      inside(ws).setSocket(near, Buffer.alloc(0), options)
      await opened
      expect(ws.readyState).toBe(WebSocket.OPEN)
      const message = nextMessage(ws)
      far.write(frame(1, 'hello'))
      expect(await message).toBe('text "hello"')
    })

    it('emits open at once', () => {
      const [near] = duplexPair()
      const ws = construct(implementation, null, undefined, {})
      const events: number[] = []
      ws.on('open', () => events.push(ws.readyState))
      inside(ws).setSocket(near, Buffer.alloc(0), options)
      expect(events).toEqual([1])
      expect(inside(ws)._socket).toBe(near)
    })

    it('joins a server and a client, made by _isServer', async () => {
      const [near, far] = duplexPair()
      const server = construct(implementation, null, undefined, { isServer: true })
      const client = construct(implementation, null, undefined, { isServer: false })
      expect([inside(server)._isServer, inside(client)._isServer]).toEqual([true, true])
      inside(client)._isServer = false
      inside(server).setSocket(near, Buffer.alloc(0), options)
      inside(client).setSocket(far, Buffer.alloc(0), options)
      const there = nextMessage(server)
      client.send('there')
      expect(await there).toBe('text "there"')
      const back = nextMessage(client)
      server.send(Buffer.from('back'))
      expect(await back).toBe('binary "back"')
      const lines = [recordToEnd(server), recordToEnd(client)]
      client.close(1000, 'bye')
      expect(await Promise.all(lines)).toEqual([['close 3 1000 "bye"'], ['close 3 1000 "bye"']])
    })

    it('takes bytes that have come already', async () => {
      const [near] = duplexPair()
      const ws = construct(implementation, null, undefined, {})
      inside(ws).setSocket(near, frame(1, 'early'), options)
      expect(await nextMessage(ws)).toBe('text "early"')
    })

    it('has the limit that is given', async () => {
      const [near, far] = duplexPair()
      const ws = construct(implementation, null, undefined, {})
      inside(ws).setSocket(near, Buffer.alloc(0), { ...options, maxPayload: 3 })
      const error = once(ws, 'error')
      far.write(frame(1, 'long'))
      expect(((await error) as [Error])[0].message).toBe('Max payload size exceeded')
      far.resume()
    })
  })

  describe('_socket', () => {
    it('is the socket of the http request, on both ends', async () => {
      const { wss, url } = await startServer(implementation)
      const connected = once(wss, 'connection')
      const client = await openClient(implementation, url)
      const [server, request] = (await connected) as [Ws, IncomingMessage]
      expect(inside(server)._socket).toBe(request.socket)
      expect(inside(server)._socket.remoteAddress).toBe('127.0.0.1')
      expect(inside(server)._socket.remotePort).toBe(inside(client)._socket.localPort)
    })

    it('can be unreferenced and referenced', async () => {
      const { client } = await openPair(implementation)
      expect(inside(client)._socket.unref()).toBe(inside(client)._socket)
      inside(client)._socket.ref()
    })

    it('is null before', () => {
      const ws = construct(implementation, null, undefined, {})
      expect(inside(ws)._socket).toBeNull()
    })

    it('tells every byte that comes to a listener of data', async () => {
      const { server, client } = await openPair(implementation)
      const chunks: Buffer[] = []
      inside(server)._socket.on('data', (chunk: Buffer) => chunks.push(chunk))
      const message = nextMessage(server)
      client.send('hello', { mask: true })
      expect(await message).toBe('text "hello"')
      expect(Buffer.concat(chunks).length).toBe(2 + 4 + 5)
    })

    it('when destroyed ends the connection with 1006 and no error', async () => {
      const { server, client } = await openPair(implementation)
      const lines = [recordToEnd(server), recordToEnd(client)]
      inside(server)._socket.destroy(new Error('of a test'))
      expect(await Promise.all(lines)).toEqual([['close 3 1006 ""'], ['close 3 1006 ""']])
    })

    it('when ended by the program ends the connection with 1006', async () => {
      const { server, client } = await openPair(implementation)
      const lines = [recordToEnd(server), recordToEnd(client)]
      inside(server)._socket.end()
      expect(await Promise.all(lines)).toEqual([['close 3 1006 ""'], ['close 3 1006 ""']])
    })

    it('emits close before the WebSocket does', async () => {
      const { server, client } = await openPair(implementation)
      const order: string[] = []
      inside(server)._socket.on('close', () => order.push('socket'))
      server.on('close', () => order.push('WebSocket'))
      client.close()
      await closeOf(server)
      await nextTurn()
      expect(order.sort()).toEqual(['WebSocket', 'socket'])
    })
  })

  describe('_sender', () => {
    interface Sender {
      frame(data: Buffer, options: object): (Buffer | string)[]
    }
    // That of the original, whatever the server is: it is what a program finds that does both.
    const { Sender } = createRequire(import.meta.url)('ws') as { Sender: Sender }

    it('sends a frame that was made once to many connections', async () => {
      const { wss, url } = await startServer(implementation)
      const clients = await Promise.all([1, 2, 3].map(() => openClient(implementation, url)))
      await until(() => wss.clients.size === 3)
      const options = { readOnly: false, mask: false, rsv1: false, opcode: 1, fin: true }
      for (const text of ['short', 'x'.repeat(1000)]) {
        const list = Sender.frame(Buffer.from(text), options)
        const heard = clients.map((client) => once(client, 'message'))
        const sent = [...wss.clients].map(
          (ws) => new Promise((resolve) => inside(ws)._sender.sendFrame(list, (error) => resolve(error ?? 'sent'))),
        )
        expect((await Promise.all(heard)).map(([data]) => String(data))).toEqual([text, text, text])
        expect(await Promise.all(sent)).toEqual(['sent', 'sent', 'sent'])
      }
    })

    it('sends without a callback, in order with send()', async () => {
      const { server, client } = await openPair(implementation)
      const messages = takeMessages(client, 3)
      server.send('one')
      inside(server)._sender.sendFrame(Sender.frame(Buffer.from('two'), { opcode: 1, fin: true }))
      server.send('three')
      expect(await messages).toEqual(['text "one"', 'text "two"', 'text "three"'])
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
