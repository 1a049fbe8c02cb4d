import { createHash, randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { Duplex, finished, PassThrough, Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { describe, expect, it } from 'vitest'
import { closeFrame, frame, closeOf as meaningOf, RawClient } from '../../support/raw-client.ts'
import { nextTurn, startHttpServer, until } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, describeError, nextMessage, record } from './record.ts'
import { construct, type Loose, makeClient, openPair, openToServer, startServer } from './sockets.ts'

/** createWebSocketStream(). */
export function streamSpec(implementation: Implementation): void {
  const { createWebSocketStream, WebSocket } = implementation
  const streamOf = (ws: unknown, options?: Loose): Duplex => createWebSocketStream(ws as Ws, options as never)

  describe('createWebSocketStream()', () => {
    it('returns a Duplex', async () => {
      const { client } = await openPair(implementation)
      const stream = streamOf(client)
      expect(stream).toBeInstanceOf(Duplex)
      stream.destroy()
      await once(stream, 'close')
    })

    it('gives options to the Duplex', async () => {
      const { client } = await openPair(implementation)
      const stream = streamOf(client, {
        allowHalfOpen: false,
        encoding: 'utf8',
        readableHighWaterMark: 5,
        writableHighWaterMark: 6,
        decodeStrings: false,
      })
      expect([stream.allowHalfOpen, stream.readableHighWaterMark, stream.writableHighWaterMark]).toEqual([false, 5, 6])
      expect(stream.readableEncoding).toBe('utf8')
      stream.destroy()
      await once(stream, 'close')
    })

    it('does not let object mode through, but readableObjectMode', async () => {
      const { client } = await openPair(implementation)
      const stream = streamOf(client, { objectMode: true, writableObjectMode: true })
      expect([stream.readableObjectMode, stream.writableObjectMode]).toEqual([false, false])
      const other = streamOf(client, { readableObjectMode: true })
      expect(other.readableObjectMode).toBe(true)
      stream.destroy()
      await once(stream, 'close')
    })

    it('works on any event emitter', () => {
      const emitter = new EventEmitter()
      const stream = streamOf(emitter)
      expect(stream).toBeInstanceOf(Duplex)
      expect([
        emitter.listenerCount('message'),
        emitter.listenerCount('error'),
        emitter.listenerCount('close'),
      ]).toEqual([1, 1, 1])
    })
  })

  describe('writing', () => {
    it('sends binary messages, one per chunk', async () => {
      const { server, client } = await openPair(implementation)
      const lines = record(server)
      const stream = streamOf(client)
      stream.resume()
      stream.write('text')
      stream.write(Buffer.from('bytes'))
      stream.end('last')
      await closeOf(server)
      expect(lines).toEqual(['binary "text"', 'binary "bytes"', 'binary "last"', 'close 3 1005 ""'])
    })

    it('sends text with decodeStrings false', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client, { decodeStrings: false })
      const message = nextMessage(server)
      stream.write('text')
      expect(await message).toBe('text "text"')
      const other = nextMessage(server)
      stream.write(Buffer.from('bytes'))
      expect(await other).toBe('binary "bytes"')
    })

    it('waits until the connection is open', async () => {
      const { wss, url } = await startServer(implementation)
      const connected = once(wss, 'connection')
      const stream = streamOf(makeClient(implementation, url))
      stream.resume()
      stream.write('early')
      stream.write('too')
      stream.end()
      const [server] = (await connected) as [Ws]
      const lines = record(server)
      await closeOf(server)
      expect(lines).toEqual(['binary "early"', 'binary "too"', 'close 3 1005 ""'])
    })

    it('end() before the connection is open closes it when it is', async () => {
      const { wss, url } = await startServer(implementation)
      const connected = once(wss, 'connection')
      const stream = streamOf(makeClient(implementation, url))
      stream.resume()
      stream.end()
      const [server] = (await connected) as [Ws]
      expect(await closeOf(server)).toEqual([1005, ''])
      if (!stream.closed && !stream.destroyed) await once(stream, 'close')
    })

    it('calls the callback of write when it is sent', async () => {
      const { client } = await openPair(implementation)
      const stream = streamOf(client)
      expect(await new Promise((resolve) => stream.write('x', resolve))).toBeFalsy()
    })

    it('feels the backpressure of the socket', async () => {
      const { ws, peer } = await openToServer(implementation)
      peer.stopReading()
      const stream = streamOf(ws)
      const chunk = Buffer.alloc(1_000_000)
      let writes = 0
      let isFull = false
      while (!isFull) {
        isFull = !stream.write(chunk)
        writes++
        if (writes > 100) break
        await nextTurn()
      }
      for (let count = 0; count < 10; count++) stream.write(chunk)
      await nextTurn()
      expect(stream.writableLength).toBeGreaterThan(1_000_000)
      const drained = once(stream, 'drain')
      peer.startReading()
      await drained
    })

    it('emits finish when the socket has finished', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client)
      const order: string[] = []
      for (const name of ['prefinish', 'finish', 'end', 'close']) stream.on(name, () => order.push(name))
      client.on('close', () => order.push('WebSocket'))
      stream.resume()
      stream.end()
      await once(stream, 'close')
      expect(order.filter((name) => name !== 'prefinish')).toEqual(['finish', 'WebSocket', 'end', 'close'])
      expect(server.readyState).not.toBe(WebSocket.OPEN)
      expect(stream.destroyed).toBe(true)
    })

    it('end() sends a close without a code', async () => {
      const { ws, peer } = await openToServer(implementation)
      const stream = streamOf(ws)
      stream.resume()
      stream.end('last')
      expect(String((await peer.readFrame()).payload)).toBe('last')
      expect(meaningOf(await peer.readFrame()).code).toBe(1005)
      peer.send(closeFrame())
      peer.end()
      await once(stream, 'close')
    })
  })

  describe('reading', () => {
    it('gives bytes', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client)
      server.send('one')
      server.send(Buffer.from('two'))
      server.close()
      const chunks: Buffer[] = []
      for await (const chunk of stream) chunks.push(chunk as Buffer)
      expect(Buffer.concat(chunks).toString()).toBe('onetwo')
    })

    it('gives strings with an encoding', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client, { encoding: 'utf8' })
      const [data] = (await Promise.all([once(stream, 'data'), server.send(Buffer.from('\u00f6'))]))[0]
      expect(data).toBe('\u00f6')
    })

    it('gives messages as they are with readableObjectMode', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client, { readableObjectMode: true })
      const chunks: unknown[] = []
      stream.on('data', (chunk) => chunks.push(chunk))
      server.send('one')
      server.send(Buffer.from('two'))
      server.send('')
      server.close()
      await once(stream, 'end')
      expect(chunks).toEqual(['one', Buffer.from('two'), ''])
    })

    it('pauses the WebSocket when nobody reads', async () => {
      const { ws, peer } = await openToServer(implementation)
      const stream = streamOf(ws, { readableHighWaterMark: 4 })
      peer.send(frame(2, 'more than four'))
      await until(() => ws.isPaused)
      expect(stream.readableLength).toBe('more than four'.length)
      stream.resume()
      await until(() => !ws.isPaused)
      stream.destroy()
      await once(stream, 'close')
    })

    it('pauses TCP, and loses nothing', async () => {
      const { ws, peer } = await openToServer(implementation)
      const stream = streamOf(ws)
      const bytes = randomBytes(4_000_000)
      for (let at = 0; at < bytes.length; at += 100_000) peer.send(frame(2, bytes.subarray(at, at + 100_000)))
      peer.send(closeFrame(1000))
      await until(() => ws.isPaused)
      expect(stream.readableLength).toBeLessThan(1_000_000)
      const hash = createHash('sha1')
      for await (const chunk of stream) {
        hash.update(chunk as Buffer)
        if (Math.random() < 0.1) await nextTurn()
        peer.end()
      }
      expect(hash.digest('hex')).toBe(createHash('sha1').update(bytes).digest('hex'))
    })

    it('ends when the WebSocket closes', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client)
      const order: string[] = []
      for (const name of ['finish', 'end', 'close', 'error']) stream.on(name, () => order.push(name))
      client.on('close', () => order.push('WebSocket'))
      stream.resume()
      server.close(1001)
      await once(stream, 'end')
      stream.end()
      await once(stream, 'close')
      expect(order).toContain('end')
      expect(order).not.toContain('error')
      expect(order.at(-1)).toBe('close')
    })

    it('ends without an error when the connection is cut', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client)
      stream.on('error', () => expect.unreachable())
      const ended = once(stream, 'end')
      stream.resume()
      server.terminate()
      await ended
    })
  })

  describe('destroy()', () => {
    it('terminates the WebSocket, and emits close behind it', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client)
      const order: string[] = []
      stream.on('close', () => order.push('stream'))
      client.on('close', () => order.push('WebSocket'))
      stream.destroy()
      expect(client.readyState).toBe(WebSocket.CLOSING)
      expect(await closeOf(server)).toEqual([1006, ''])
      await until(() => order.length === 2)
      expect(order).toEqual(['WebSocket', 'stream'])
    })

    it('with an error emits it', async () => {
      const { client } = await openPair(implementation)
      const stream = streamOf(client)
      const error = new Error('of a test')
      const seen: unknown[] = []
      stream.on('error', (value) => seen.push(value))
      const closed = new Promise((resolve) => stream.on('close', resolve))
      stream.destroy(error)
      await closed
      expect(seen).toEqual([error])
      await until(() => client.readyState === WebSocket.CLOSED)
    })

    it('while connecting reports that', async () => {
      const { url } = await startServer(implementation)
      const ws = makeClient(implementation, url)
      const stream = streamOf(ws)
      const failure = once(stream, 'error')
      const closed = new Promise((resolve) => stream.on('close', resolve))
      stream.destroy()
      const [error] = (await failure) as [Error]
      expect(error.message).toBe('WebSocket was closed before the connection was established')
      await closed
      expect(ws.readyState).toBe(WebSocket.CLOSED)
    })

    it('behind the end only emits close', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client)
      server.close()
      await closeOf(client)
      const closed = once(stream, 'close')
      stream.destroy()
      await closed
      expect(stream.destroyed).toBe(true)
    })

    it('of finished() and pipeline() works', async () => {
      const { client, server } = await openPair(implementation)
      const stream = streamOf(client)
      const result = new Promise((resolve) => finished(stream, resolve))
      stream.on('error', () => {})
      stream.destroy(new Error('of a test'))
      expect(describeError(await result)).toBe('Error: of a test')
      await until(() => server.readyState === WebSocket.CLOSED)
    })
  })

  describe('errors of the WebSocket', () => {
    it('of the handshake are those of the stream', async () => {
      const { httpServer, port } = await startHttpServer()
      httpServer.on('upgrade', (_request, socket) => socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n'))
      const stream = streamOf(makeClient(implementation, `ws://127.0.0.1:${port}`))
      const closed = new Promise((resolve) => stream.on('close', resolve))
      const [error] = (await once(stream, 'error')) as [Error]
      expect(error.message).toBe('Unexpected server response: 401')
      expect(stream.destroyed).toBe(true)
      await closed
    })

    it('are those of the stream, and the other side is told why', async () => {
      const { ws, peer } = await openToServer(implementation)
      const stream = streamOf(ws)
      const closed = new Promise((resolve) => stream.on('close', resolve))
      const failure = once(stream, 'error')
      stream.resume()
      peer.send(Buffer.from([0x85, 0x80]))
      expect(meaningOf(await peer.readFrame()).code).toBe(1002)
      peer.end()
      const [error] = (await failure) as [NodeJS.ErrnoException]
      expect(error.code).toBe('WS_ERR_INVALID_OPCODE')
      await closed
    })

    it('of the handshake reach pipeline()', async () => {
      const { httpServer, port } = await startHttpServer()
      httpServer.on('upgrade', (_request, socket) => socket.destroy())
      const stream = streamOf(makeClient(implementation, `ws://127.0.0.1:${port}`))
      await expect(pipeline(Readable.from(['x']), stream, new PassThrough().resume())).rejects.toThrow('socket hang up')
    })

    it('without a listener are thrown to the process', async () => {
      const { ws, peer } = await openToServer(implementation)
      streamOf(ws)
      const listeners = process.listeners('uncaughtException')
      process.removeAllListeners('uncaughtException')
      const caught = new Promise<Error>((resolve) => process.once('uncaughtException', resolve))
      peer.send(Buffer.from([0x85, 0x80]))
      peer.end()
      const error = await caught
      for (const listener of listeners) process.on('uncaughtException', listener)
      expect(error.message).toBe('Invalid WebSocket frame: invalid opcode 5')
    })

    it('of a write behind close() are those of the stream', async () => {
      const { client } = await openPair(implementation)
      const stream = streamOf(client)
      const failure = once(stream, 'error')
      client.close()
      stream.write('late')
      const [error] = (await failure) as [Error]
      expect(error.message).toBe('WebSocket is not open: readyState 2 (CLOSING)')
    })
  })

  describe('as part of a pipeline', () => {
    it('carries megabytes there and back', async () => {
      const { wss, url } = await startServer(implementation, { perMessageDeflate: true })
      wss.on('connection', (ws) => {
        const stream = streamOf(ws)
        stream.on('error', () => {})
        stream.pipe(stream)
      })
      const stream = streamOf(makeClient(implementation, url))
      const bytes = randomBytes(2_000_000)
      const hash = createHash('sha1')
      let received = 0
      const sink = new Writable({
        write(chunk: Buffer, _encoding, callback) {
          hash.update(chunk)
          received += chunk.length
          callback()
        },
      })
      stream.pipe(sink)
      for (let at = 0; at < bytes.length; at += 50_000) {
        if (!stream.write(bytes.subarray(at, at + 50_000))) await once(stream, 'drain')
      }
      await until(() => received === bytes.length)
      expect(hash.digest('hex')).toBe(createHash('sha1').update(bytes).digest('hex'))
      stream.end()
      await once(stream, 'close')
    })

    it('from a server to a client, ended by the source', async () => {
      const { server, client } = await openPair(implementation)
      const from = streamOf(server)
      from.resume()
      const to = streamOf(client, { encoding: 'utf8' })
      let text = ''
      to.on('data', (chunk: string) => {
        text += chunk
      })
      const ended = once(to, 'end')
      Readable.from(['a', 'b', 'c'].map((part) => Buffer.from(part))).pipe(from)
      await ended
      expect(text).toBe('abc')
    })
  })

  describe('allowHalfOpen', () => {
    it('false ends the writing side with the reading side', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client, { allowHalfOpen: false })
      const closed = once(stream, 'close')
      stream.resume()
      server.close()
      await closed
      expect(stream.destroyed).toBe(true)
    })

    it('true leaves it to the program', async () => {
      const { server, client } = await openPair(implementation)
      const stream = streamOf(client)
      stream.resume()
      const ended = once(stream, 'end')
      server.close()
      await ended
      await nextTurn()
      expect(stream.writableEnded).toBe(false)
      const closed = once(stream, 'close')
      stream.end()
      await closed
    })
  })

  describe('on a raw peer', () => {
    it('two streams on one object both get the messages', async () => {
      const { ws, peer } = await openToServer(implementation)
      expect(peer).toBeInstanceOf(RawClient)
      const streams = [streamOf(ws), streamOf(ws)]
      const data = streams.map((stream) => once(stream, 'data'))
      peer.send(frame(1, 'both'))
      expect((await Promise.all(data)).map(([chunk]) => String(chunk))).toEqual(['both', 'both'])
      const closed = streams.map((stream) => once(stream, 'close'))
      for (const stream of streams) stream.destroy()
      await Promise.all(closed)
    })

    it('an object that never connects can be destroyed', async () => {
      const ws = construct(implementation, 'ws://localhost', { lookup() {} })
      const stream = streamOf(ws)
      stream.on('error', () => {})
      const closed = new Promise((resolve) => stream.on('close', resolve))
      stream.destroy()
      await closed
    })
  })
}
