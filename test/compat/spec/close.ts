import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { closeFrame, frame, closeOf as meaningOf } from '../../support/raw-client.ts'
import { nextTurn, until } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, nextMessage, record, recordToEnd, takeMessages, thrownBy } from './record.ts'
import { inside, makeClient, openPair, openToClient, openToServer } from './sockets.ts'

const BAD_CODE = 'TypeError: First argument must be a valid error code number'
const TOO_LONG = 'RangeError: The message must not be greater than 123 bytes'

const loosely = (ws: Ws): { close(...args: unknown[]): void } => ws as unknown as { close(...args: unknown[]): void }

/** close(), terminate(), pause(), and every way in which a connection ends. */
export function closeSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

  describe('close()', () => {
    it.each<[string, unknown[], number, string]>([
      ['nothing', [], 1005, ''],
      ['undefined', [undefined], 1005, ''],
      ['a code', [1000], 1000, ''],
      ['a code and a reason', [1001, 'going'], 1001, 'going'],
      ['an empty reason', [1001, ''], 1001, ''],
      ['a reason that is not ASCII', [1000, '\u00f6\u{1f600}'], 1000, '\u00f6\u{1f600}'],
      ['a Buffer as reason', [3000, Buffer.from('bytes')], 3000, 'bytes'],
      ['a Uint8Array as reason', [4999, new Uint8Array([104, 105])], 4999, 'hi'],
      ['123 bytes', [1000, 'x'.repeat(123)], 1000, 'x'.repeat(123)],
      ['a reason without a code', [undefined, 'lost'], 1005, ''],
      ['a reason without length', [1000, 5], 1000, ''],
    ])('with %s reaches both sides', async (_name, args, code, reason) => {
      for (const side of ['server', 'client'] as const) {
        const pair = await openPair(implementation)
        const lines = [recordToEnd(pair.server), recordToEnd(pair.client)]
        loosely(pair[side]).close(...args)
        expect(pair[side].readyState).toBe(WebSocket.CLOSING)
        const text = JSON.stringify(Buffer.from(reason).toString('latin1'))
        const line = `close 3 ${code} ${reason.length > 64 ? `${reason.length} bytes` : text}`
        expect(await Promise.all(lines)).toEqual([[line], [line]])
      }
    })

    it.each([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])(
      'takes code %i',
      async (code) => {
        const { client, server } = await openPair(implementation)
        client.close(code)
        expect(await closeOf(server)).toEqual([code, ''])
      },
    )

    it.each<[unknown]>([
      [0],
      [999],
      [1004],
      [1005],
      [1006],
      [1015],
      [1016],
      [2000],
      [2999],
      [5000],
      [-1],
      ['1000'],
      [null],
      [Number.NaN],
      [{}],
      [true],
    ])('throws at code %s, and stays open', async (code) => {
      const { client } = await openPair(implementation)
      expect(thrownBy(() => loosely(client).close(code))).toBe(BAD_CODE)
      expect(client.readyState).toBe(WebSocket.OPEN)
    })

    it.each<[string, unknown]>([
      ['124 characters', 'x'.repeat(124)],
      ['62 characters of two bytes', '\u00f6'.repeat(62)],
      ['a Buffer of 124 bytes', Buffer.alloc(124)],
    ])('throws at %s, stays open and can be called again', async (_name, reason) => {
      const { client, server } = await openPair(implementation)
      expect(thrownBy(() => loosely(client).close(1000, reason))).toBe(TOO_LONG)
      expect(client.readyState).toBe(WebSocket.OPEN)
      const message = nextMessage(server)
      client.send('still here')
      expect(await message).toBe('text "still here"')
      client.close(1000, 'short')
      expect(await closeOf(server)).toEqual([1000, 'short'])
    })

    it('throws at a reason that is an array', async () => {
      const { client } = await openPair(implementation)
      expect(() => loosely(client).close(1000, ['a'])).toThrow(TypeError)
      expect(client.readyState).toBe(WebSocket.OPEN)
    })

    it('may be called again, without effect', async () => {
      const { client, server } = await openPair(implementation)
      const lines = recordToEnd(server)
      client.close(1000, 'first')
      client.close(1001, 'second')
      client.close()
      expect(await lines).toEqual(['close 3 1000 "first"'])
      await until(() => client.readyState === WebSocket.CLOSED)
      expect(() => loosely(client).close('bad')).not.toThrow()
    })

    it('sends what was sent before', async () => {
      const { client, server } = await openPair(implementation)
      const lines = recordToEnd(server)
      client.send('one')
      client.send(Buffer.alloc(100_000))
      client.close(1000)
      expect(await lines).toEqual(['text "one"', 'binary 100000 bytes', 'close 3 1000 ""'])
    })

    it('still takes messages up to the close of the other side', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      ws.close(1000)
      peer.send(frame(1, 'late'), frame(9, 'ping'), closeFrame(1001, 'mine'), frame(1, 'too late'))
      peer.end()
      expect(await lines).toEqual(['text "late"', 'ping "ping"', 'close 3 1001 "mine"'])
    })

    it('of both sides at once', async () => {
      const { client, server } = await openPair(implementation)
      const codes = [closeOf(client), closeOf(server)]
      client.close(3001, 'from the client')
      server.close(3002, 'from the server')
      expect(await Promise.all(codes)).toEqual([
        [3002, 'from the server'],
        [3001, 'from the client'],
      ])
    })

    it('in a listener of message', async () => {
      const { client, server } = await openPair(implementation)
      const lines = record(server)
      server.on('message', () => server.close(1000))
      client.send('one')
      client.send('two')
      await closeOf(server)
      expect(lines.at(0)).toBe('text "one"')
      expect(lines.at(-1)).toBe('close 3 1000 ""')
    })

    it('destroys the connection when the other side does not answer', async () => {
      const { ws, peer } = await openToServer(implementation, { closeTimeout: 50 })
      const lines = recordToEnd(ws)
      ws.close(1000)
      expect((await peer.readFrame()).opcode).toBe(8)
      expect(await lines).toEqual(['close 3 1006 ""'])
      await peer.ended()
    })

    it('of a client has a timeout too', async () => {
      const { ws, peer } = await openToClient(implementation, { closeTimeout: 50 })
      const lines = recordToEnd(ws)
      ws.close(1000)
      expect(meaningOf(await peer.readFrame())).toEqual({ code: 1000, reason: '' })
      expect(await lines).toEqual(['close 3 1006 ""'])
    })

    it('has a timeout for a peer that answers and does not end', async () => {
      const { ws, peer } = await openToServer(implementation, { closeTimeout: 50 })
      const closed = closeOf(ws)
      ws.close(1000)
      await peer.readFrame()
      peer.send(closeFrame(1000, 'answer'))
      expect(await closed).toEqual([1000, 'answer'])
    })
  })

  describe('a Close frame of the other side', () => {
    it.each<[string, Buffer, number, string]>([
      ['nothing', closeFrame(), 1005, ''],
      ['a code', closeFrame(1000), 1000, ''],
      ['a code and a reason', closeFrame(4000, 'because'), 4000, 'because'],
    ])('with %s is echoed, and the connection ended', async (_name, bytes, code, reason) => {
      const { ws, peer } = await openToServer(implementation)
      const closed = closeOf(ws)
      peer.send(bytes)
      expect(meaningOf(await peer.readFrame())).toEqual({ code, reason })
      await peer.ended()
      peer.end()
      expect(await closed).toEqual([code, reason])
    })

    it('is echoed by a client, which ends the connection as well', async () => {
      const { ws, peer } = await openToClient(implementation)
      const closed = closeOf(ws)
      peer.send(frame(8, Buffer.from([0x0f, 0xa0]), { masked: false }))
      const echo = await peer.readFrame()
      expect([echo.masked, meaningOf(echo)]).toEqual([true, { code: 4000, reason: '' }])
      await peer.ended()
      peer.end()
      expect(await closed).toEqual([4000, ''])
    })

    it('makes the state CLOSING', async () => {
      const { ws, peer } = await openToServer(implementation)
      peer.send(closeFrame(1000))
      await until(() => ws.readyState !== WebSocket.OPEN)
      expect(ws.readyState).toBe(WebSocket.CLOSING)
      peer.end()
      await closeOf(ws)
      expect(ws.readyState).toBe(WebSocket.CLOSED)
    })

    it('ends what is read', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.send(frame(1, 'before'), closeFrame(1000), frame(1, 'behind'), frame(15, 'nonsense'))
      peer.end()
      expect(await lines).toEqual(['text "before"', 'close 3 1000 ""'])
    })

    it('has a reason that is a Buffer', async () => {
      const { client, server } = await openPair(implementation)
      client.close(1000, 'why')
      const [, reason] = (await once(server, 'close')) as [number, Buffer]
      expect(Buffer.isBuffer(reason)).toBe(true)
    })
  })

  describe('terminate()', () => {
    it('ends both sides with 1006, and no error', async () => {
      const { client, server } = await openPair(implementation)
      const lines = [recordToEnd(client), recordToEnd(server)]
      server.terminate()
      expect(server.readyState).toBe(WebSocket.CLOSING)
      expect(await Promise.all(lines)).toEqual([['close 3 1006 ""'], ['close 3 1006 ""']])
    })

    it('emits close later', async () => {
      const { server } = await openPair(implementation)
      let isSynchronous = true
      const when = new Promise((resolve) => server.on('close', () => resolve(isSynchronous)))
      server.terminate()
      isSynchronous = false
      expect(await when).toBe(false)
    })

    it('may be called in every state', async () => {
      const { client, server } = await openPair(implementation)
      const closed = closeOf(client)
      client.close()
      client.terminate()
      client.terminate()
      expect(client.readyState).toBe(WebSocket.CLOSING)
      await closed
      client.terminate()
      expect(client.readyState).toBe(WebSocket.CLOSED)
      await until(() => server.readyState === WebSocket.CLOSED)
    })

    it('behind the Close frame of the other side keeps its code', async () => {
      const { ws, peer } = await openToServer(implementation)
      peer.send(closeFrame(4001, 'mine'))
      await until(() => ws.readyState === WebSocket.CLOSING)
      const closed = closeOf(ws)
      ws.terminate()
      expect(await closed).toEqual([4001, 'mine'])
    })
  })

  describe('the end of the connection', () => {
    it('by FIN without a Close frame is 1006', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.send(frame(1, 'last'))
      peer.end()
      expect(await lines).toEqual(['text "last"', 'close 3 1006 ""'])
      expect((await peer.readFrames()).length).toBe(0)
    })

    it('in the middle of a frame is 1006', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.send(frame(1, 'cut off').subarray(0, 8))
      peer.end()
      expect(await lines).toEqual(['close 3 1006 ""'])
    })

    it('by a reset is 1006, without an error', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.reset()
      expect(await lines).toEqual(['close 3 1006 ""'])
    })

    it('by a reset of a server is the same for a client', async () => {
      const { ws, peer } = await openToClient(implementation)
      const lines = recordToEnd(ws)
      peer.reset()
      expect(await lines).toEqual(['close 3 1006 ""'])
    })

    it('lets everything through that came before', async () => {
      const { ws, peer } = await openToServer(implementation)
      const count = 1000
      const messages = takeMessages(ws, count)
      const lines = recordToEnd(ws)
      peer.send(...Array.from({ length: count }, (_, index) => frame(1, String(index))))
      peer.end()
      expect(await messages).toHaveLength(count)
      expect((await lines).at(-1)).toBe('close 3 1006 ""')
    })
  })

  describe('pause() and resume()', () => {
    it('stop and start the messages', async () => {
      const { client, server } = await openPair(implementation)
      const lines = record(server)
      server.pause()
      expect(server.isPaused).toBe(true)
      await new Promise<void>((resolve) => client.send('waits', () => resolve()))
      const echo = once(client, 'message')
      server.send('answer')
      await echo
      await nextTurn()
      expect(lines).toEqual([])
      const message = nextMessage(server)
      server.resume()
      expect(server.isPaused).toBe(false)
      expect(await message).toBe('text "waits"')
    })

    it('work on a client', async () => {
      const { client, server } = await openPair(implementation)
      client.pause()
      expect(inside(client)._socket.isPaused()).toBe(true)
      server.send('waits')
      const message = nextMessage(client)
      client.resume()
      expect(await message).toBe('text "waits"')
    })

    it('pause TCP, so that the other side waits', async () => {
      const { ws, peer } = await openToServer(implementation)
      const messages: unknown[] = []
      ws.on('message', (data) => messages.push(data))
      ws.pause()
      const chunk = frame(2, Buffer.alloc(60_000))
      let sent = 0
      while (peer.send(chunk)) sent++
      while (peer.socket.writableLength < 2_000_000) {
        peer.send(chunk)
        sent++
      }
      await nextTurn()
      expect(peer.socket.writableLength).toBeGreaterThan(1_000_000)
      expect(messages).toEqual([])
      ws.resume()
      await until(() => messages.length > sent)
      expect(messages.length).toBe(sent + 1)
    })

    it('may be called in a listener of message', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = record(ws)
      ws.once('message', () => ws.pause())
      peer.send(frame(1, 'one'))
      await until(() => lines.length === 1)
      peer.send(frame(1, 'two'))
      await nextTurn()
      expect(lines).toEqual(['text "one"'])
      const message = nextMessage(ws)
      ws.resume()
      expect(await message).toBe('text "two"')
    })

    it('do nothing behind the end', async () => {
      const { client, server } = await openPair(implementation)
      client.close()
      await closeOf(server)
      server.pause()
      expect(server.isPaused).toBe(false)
      server.resume()
      expect(server.isPaused).toBe(false)
    })

    it('work while closing', async () => {
      const { server, client } = await openPair(implementation)
      const closed = closeOf(server)
      server.close()
      server.pause()
      expect(server.isPaused).toBe(true)
      server.resume()
      expect(server.isPaused).toBe(false)
      await Promise.all([closed, closeOf(client)])
    })

    it('a paused connection does not see the end until it is resumed', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      ws.pause()
      peer.send(frame(1, 'kept'), closeFrame(1000))
      peer.end()
      await nextTurn()
      await nextTurn()
      expect(ws.readyState).toBe(WebSocket.OPEN)
      ws.resume()
      expect(await lines).toEqual(['text "kept"', 'close 3 1000 ""'])
    })

    it('terminate() of a paused connection delivers what has come', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      ws.pause()
      peer.send(frame(1, 'one'), frame(1, 'two'))
      await until(() => inside(ws)._socket.readableLength > 0)
      ws.terminate()
      const seen = await lines
      expect(seen.at(-1)).toBe('close 3 1006 ""')
      expect(seen.slice(0, -1)).toEqual(['text "one"', 'text "two"'])
    })
  })

  describe('the state', () => {
    it('goes 0, 1, 2, 3 on a client', async () => {
      const { url } = await openPair(implementation)
      const ws = makeClient(implementation, url)
      const states = [ws.readyState]
      await once(ws, 'open')
      states.push(ws.readyState)
      const closed = closeOf(ws)
      ws.close()
      states.push(ws.readyState)
      await closed
      states.push(ws.readyState)
      expect(states).toEqual([0, 1, 2, 3])
    })
  })
}
