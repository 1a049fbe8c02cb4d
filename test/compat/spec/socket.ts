import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import { frame } from '../../support/raw-client.ts'
import { nextTurn, until } from '../../support/servers.ts'
import { duplexPair } from './duplex-pair.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, nextMessage, recordToEnd, takeMessages } from './record.ts'
import { construct, inside, openClient, openPair, startServer } from './sockets.ts'

/** Connections without a handshake, and the socket below. */
export function socketSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

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
}
