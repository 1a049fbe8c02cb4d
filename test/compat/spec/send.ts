import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { closeFrame, type RawFrame } from '../../support/raw-client.ts'
import { nextTurn, until } from '../../support/servers.ts'
import { parseFrames } from '../../support/wire.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, describeError, outcome, record, recordToEnd, takeMessages, thrownBy } from './record.ts'
import { construct, inside, openPair, openToClient, openToServer } from './sockets.ts'

type Callback = (error?: Error | null) => void
/** The methods as JavaScript calls them. */
interface Sending {
  send(...args: unknown[]): void
  ping(...args: unknown[]): void
  pong(...args: unknown[]): void
}
const loosely = (ws: Ws): Sending => ws as unknown as Sending

const BYTES = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])
const TOO_LONG = 'RangeError: The data size must not be greater than 125 bytes'

function describeFrame({ opcode, fin, payload }: RawFrame): string {
  return `${opcode}${fin ? '' : '+'} "${payload.toString('latin1')}"`
}

/** send(), ping(), pong(), their callbacks, and bufferedAmount. */
export function sendSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

  /** The frames that these calls make, as a raw client sees them. */
  async function framesOf(calls: (ws: Sending) => unknown): Promise<string[]> {
    const { ws, peer } = await openToServer(implementation)
    await calls(loosely(ws))
    ws.close()
    const frames: string[] = []
    for (;;) {
      const frame = await peer.readFrame()
      if (frame.opcode === 8) break
      expect(frame.masked).toBe(false)
      frames.push(describeFrame(frame))
    }
    peer.send(closeFrame())
    return frames
  }

  describe('send()', () => {
    const array = new Uint8Array(BYTES)
    it.each<[string, unknown, string]>([
      ['a string', 'hi', '1 "hi"'],
      ['a string that is not ASCII', '\u00f6\u{1f600}', '1 "\u00c3\u00b6\u00f0\u009f\u0098\u0080"'],
      ['an empty string', '', '1 ""'],
      ['a lone surrogate', '\ud800', '1 "\u00ef\u00bf\u00bd"'],
      ['a number', 42, '1 "42"'],
      ['zero', 0, '1 "0"'],
      ['NaN', Number.NaN, '1 "NaN"'],
      ['a Buffer', Buffer.from('hi'), '2 "hi"'],
      ['an empty Buffer', Buffer.alloc(0), '2 ""'],
      ['a Uint8Array', array.subarray(2, 4), '2 "\u0003\u0004"'],
      ['a Uint16Array', new Uint16Array(array.buffer, 2, 1), '2 "\u0003\u0004"'],
      ['a Float32Array', new Float32Array(array.buffer, 0, 1), '2 "\u0001\u0002\u0003\u0004"'],
      ['a DataView', new DataView(array.buffer, 6), '2 "\u0007\b"'],
      ['an ArrayBuffer', array.slice(0, 2).buffer, '2 "\u0001\u0002"'],
      ['an array of bytes', [1, 2, 255, 256], '2 "\u0001\u0002\u00ff\u0000"'],
      ['a Blob', new Blob(['hi', new Uint8Array([0])]), '2 "hi\u0000"'],
      ['a File', new File(['hi'], 'name'), '2 "hi"'],
      ['an empty Blob', new Blob([]), '2 ""'],
      ['undefined', undefined, '2 ""'],
      ['null', null, '2 ""'],
      ['false', false, '2 ""'],
      ['an object with valueOf', { valueOf: () => 'hi' }, '2 "hi"'],
      ['a String object', new String('hi'), '2 "hi"'],
      ['an object with length', { length: 1, 0: 5 }, '2 "\u0005"'],
    ])('of %s', async (_name, data, expected) => {
      expect(await framesOf((ws) => ws.send(data))).toEqual([expected])
    })

    it.each<[string, unknown]>([
      ['an object', {}],
      ['true', true],
      ['a function', Object],
      ['a symbol', Symbol('s')],
      ['a bigint', 1n],
    ])('of %s throws', async (_name, data) => {
      const { server } = await openPair(implementation)
      expect(() => loosely(server).send(data, () => expect.unreachable())).toThrow(TypeError)
      expect(server.readyState).toBe(WebSocket.OPEN)
      expect(server.bufferedAmount).toBe(0)
    })

    it.each<[string, unknown[], string[]]>([
      ['binary true for a string', ['hi', { binary: true }], ['2 "hi"']],
      ['binary false for a Buffer', [Buffer.from('hi'), { binary: false }], ['1 "hi"']],
      ['binary false for a Blob', [new Blob(['hi']), { binary: false }], ['1 "hi"']],
      ['binary undefined', [Buffer.from('hi'), { binary: undefined }], ['1 "hi"']],
      ['options undefined', ['hi', undefined], ['1 "hi"']],
      ['options null', ['hi', null], ['1 "hi"']],
      ['compress without an extension', ['hi', { compress: true }], ['1 "hi"']],
    ])('with %s', async (_name, args, expected) => {
      expect(await framesOf((ws) => ws.send(...args))).toEqual(expected)
    })

    it('sends fragments', async () => {
      expect(
        await framesOf((ws) => {
          ws.send('a', { fin: false })
          ws.send(Buffer.from('b'), { fin: false })
          ws.ping('between')
          ws.send('', { fin: false })
          ws.send('c', { fin: true })
          ws.send(Buffer.from('d'), { fin: false })
          ws.send('e')
          ws.send('f')
        }),
      ).toEqual(['1+ "a"', '0+ "b"', '9 "between"', '0+ ""', '0 "c"', '2+ "d"', '0 "e"', '1 "f"'])
    })

    it('keeps the order across blobs', async () => {
      expect(
        await framesOf((ws) => {
          ws.send('one')
          ws.send(new Blob(['two']))
          ws.send('three')
          ws.ping('four')
          ws.send(new Blob(['five']), { binary: false })
          ws.pong(new Blob(['six']))
          ws.ping(new Blob(['seven']))
          ws.send('eight')
        }),
      ).toEqual([...['1 "one"', '2 "two"', '1 "three"', '9 "four"', '1 "five"', '10 "six"', '9 "seven"', '1 "eight"']])
    })

    it.each([125, 126, 65_535, 65_536, 200_000])('uses the shortest length for %i bytes', async (size) => {
      const { ws, peer } = await openToServer(implementation)
      ws.send(Buffer.alloc(size, 'x'))
      const head = await peer.read(size < 126 ? 2 : size < 65_536 ? 4 : 10)
      expect(head[0]).toBe(0x82)
      expect(head[1]).toBe(size < 126 ? size : size < 65_536 ? 126 : 127)
      expect((await peer.read(size)).equals(Buffer.alloc(size, 'x'))).toBe(true)
    })

    it('masks as a client, with a new key each time, and leaves the data alone', async () => {
      const { ws, peer } = await openToClient(implementation, { perMessageDeflate: false })
      const data = Buffer.from('some data')
      for (let count = 0; count < 3; count++) ws.send(data)
      ws.send('text')
      const bytes = await peer.read(3 * (2 + 4 + 9) + 2 + 4 + 4)
      const frames = parseFrames(bytes)
      expect(frames.map(({ opcode, payload }) => `${opcode} ${payload}`)).toEqual([
        ...['2 some data', '2 some data', '2 some data', '1 text'],
      ])
      const keys = new Set(frames.map(({ maskingKey }) => maskingKey?.toString('hex')))
      expect(keys.has(undefined)).toBe(false)
      expect(keys.size).toBe(4)
      expect(data.toString()).toBe('some data')
    })

    it.each([
      ['client', false],
      ['server', true],
    ] as const)('of a %s may be told mask: %s', async (role, mask) => {
      const opened = role === 'client' ? await openToClient(implementation) : await openToServer(implementation)
      loosely(opened.ws).send('hi', { mask })
      loosely(opened.ws).ping('hi', mask)
      expect((await opened.peer.readFrame()).masked).toBe(mask)
      expect((await opened.peer.readFrame()).masked).toBe(mask)
    })

    it('keeps what it was given until it is written, when the client has masked it', async () => {
      const { server, client } = await openPair(implementation)
      const messages = takeMessages(server, 2)
      const data = Buffer.alloc(30, 'a')
      client.send(data)
      data.fill('b')
      client.send(data)
      expect(await messages).toEqual([`binary "${'a'.repeat(30)}"`, `binary "${'b'.repeat(30)}"`])
    })

    it('sends many messages in order', async () => {
      const { server, client } = await openPair(implementation)
      const count = 5_000
      const messages = takeMessages(server, count)
      for (let index = 0; index < count; index++) client.send(index % 3 === 0 ? String(index) : Buffer.from(`${index}`))
      expect(await messages).toEqual(
        Array.from({ length: count }, (_, index) => `${index % 3 === 0 ? 'text' : 'binary'} "${index}"`),
      )
    })

    it('returns nothing', async () => {
      const { server } = await openPair(implementation)
      const results: unknown[] = [server.send('x'), server.ping(), server.pong(), server.close()]
      expect(results).toEqual([undefined, undefined, undefined, undefined])
    })
  })

  describe('callbacks', () => {
    it.each<[string, (ws: Sending, callback: Callback) => void]>([
      ['send(data, callback)', (ws, callback) => ws.send('x', callback)],
      ['send(data, options, callback)', (ws, callback) => ws.send('x', {}, callback)],
      ['send(data, undefined, callback)', (ws, callback) => ws.send('x', undefined, callback)],
      ['send(blob, callback)', (ws, callback) => ws.send(new Blob(['x']), callback)],
      ['send of nothing', (ws, callback) => ws.send('', callback)],
      ['ping(callback)', (ws, callback) => ws.ping(callback)],
      ['ping(data, callback)', (ws, callback) => ws.ping('x', callback)],
      ['ping(data, mask, callback)', (ws, callback) => ws.ping('x', false, callback)],
      ['pong(callback)', (ws, callback) => ws.pong(callback)],
      ['pong(data, callback)', (ws, callback) => ws.pong('x', callback)],
      ['pong(data, mask, callback)', (ws, callback) => ws.pong('x', false, callback)],
    ])('of %s are called without an error, later', async (_name, call) => {
      const { server } = await openPair(implementation)
      let isSynchronous = true
      const result = new Promise((resolve) => {
        call(loosely(server), (error) => resolve([isSynchronous, error ?? undefined]))
      })
      isSynchronous = false
      expect(await result).toEqual([false, undefined])
    })

    it('come in the order of the calls', async () => {
      const { client } = await openPair(implementation)
      const order: number[] = []
      await Promise.all(
        ['a', Buffer.from('b'), new Blob(['c']), 'd', ''].map(
          (data, index) =>
            new Promise<void>((resolve) =>
              loosely(client).send(data, () => {
                order.push(index)
                resolve()
              }),
            ),
        ),
      )
      expect(order).toEqual([0, 1, 2, 3, 4])
    })

    it('may be missing everywhere', async () => {
      const { server, client } = await openPair(implementation)
      const messages = takeMessages(server, 2)
      loosely(client).send('a', undefined, undefined)
      loosely(client).send('b', {})
      loosely(client).ping()
      loosely(client).pong(undefined, undefined, undefined)
      expect(await messages).toEqual(['text "a"', 'text "b"'])
    })

    it('have an error when the socket is gone', async () => {
      const { server } = await openPair(implementation)
      const results: Promise<string>[] = []
      const closed = closeOf(server)
      inside(server)._socket.destroy()
      for (const data of ['x', Buffer.from('y'), '']) {
        results.push(outcome((callback) => server.send(data, callback)))
      }
      for (const line of await Promise.all(results)) expect(line).not.toBe('sent')
      await closed
    })

    it('have an error when the connection ends before all is written', async () => {
      const { ws, peer } = await openToServer(implementation)
      peer.stopReading()
      const results = Array.from({ length: 50 }, () =>
        outcome((callback) => ws.send(Buffer.alloc(1_000_000), callback)),
      )
      const closed = closeOf(ws)
      await nextTurn()
      ws.terminate()
      const lines = await Promise.all(results)
      expect(lines.at(-1)).not.toBe('sent')
      await closed
    })
  })

  describe('ping() and pong()', () => {
    it.each<[string, unknown, string]>([
      ['nothing', undefined, ''],
      ['a string', 'hi', 'hi'],
      ['a number', 200, '200'],
      ['zero', 0, '0'],
      ['a Buffer', Buffer.from('hi'), 'hi'],
      ['an ArrayBuffer', new Uint8Array([104, 105]).buffer, 'hi'],
      ['an array', [104, 105], 'hi'],
      ['a Blob', new Blob(['hi']), 'hi'],
      ['null', null, ''],
      ['125 bytes', 'x'.repeat(125), 'x'.repeat(125)],
    ])('of %s', async (_name, data, payload) => {
      expect(
        await framesOf(async (ws) => {
          ws.ping(data)
          ws.pong(data)
        }),
      ).toEqual([`9 "${payload}"`, `10 "${payload}"`])
    })

    it.each<[string, unknown]>([
      ['a string', 'x'.repeat(126)],
      ['characters of two bytes', '\u00f6'.repeat(63)],
      ['a Buffer', Buffer.alloc(126)],
      ['a Blob', new Blob([Buffer.alloc(126)])],
    ])('of more than 125 bytes in %s throw', async (_name, data) => {
      const { server } = await openPair(implementation)
      expect(thrownBy(() => loosely(server).ping(data))).toBe(TOO_LONG)
      expect(thrownBy(() => loosely(server).pong(data))).toBe(TOO_LONG)
      expect(server.readyState).toBe(WebSocket.OPEN)
      expect(server.bufferedAmount).toBe(0)
    })

    it('of an object throw', async () => {
      const { server } = await openPair(implementation)
      expect(() => loosely(server).ping({})).toThrow(TypeError)
      expect(() => loosely(server).pong(true)).toThrow(TypeError)
    })

    it('are answered and reported', async () => {
      const { server, client } = await openPair(implementation)
      const [ping, pong] = [once(server, 'ping'), once(client, 'pong')]
      client.ping('abc')
      const [[pinged], [ponged]] = (await Promise.all([ping, pong])) as [[Buffer], [Buffer]]
      expect([Buffer.isBuffer(pinged), String(pinged), Buffer.isBuffer(ponged), String(ponged)]).toEqual([
        ...[true, 'abc', true, 'abc'],
      ])
    })
  })

  describe('autoPong', () => {
    it('false: nothing is answered', async () => {
      const { ws, peer } = await openToServer(implementation, { autoPong: false })
      const ping = once(ws, 'ping')
      peer.send(Buffer.from([0x89, 0x80, 0, 0, 0, 0]))
      await ping
      ws.send('next')
      expect((await peer.readFrame()).opcode).toBe(1)
    })

    it('false on a client: nothing is answered', async () => {
      const { server, client } = await openPair(implementation, { client: { autoPong: false } })
      server.on('pong', () => expect.unreachable())
      const ping = once(client, 'ping')
      server.ping('x')
      await ping
      const message = once(server, 'message')
      client.send('next')
      await message
    })

    it('comes before what the listener of ping sends', async () => {
      const { ws, peer } = await openToServer(implementation)
      ws.on('ping', () => ws.send('from the listener'))
      peer.send(Buffer.from([0x89, 0x81, 0, 0, 0, 0, 0x61]))
      expect([describeFrame(await peer.readFrame()), describeFrame(await peer.readFrame())]).toEqual([
        '10 "a"',
        '1 "from the listener"',
      ])
    })

    it('is not sent when the connection is closing', async () => {
      const { ws, peer } = await openToServer(implementation)
      const ping = once(ws, 'ping')
      ws.close(1000)
      peer.send(Buffer.from([0x89, 0x80, 0, 0, 0, 0]))
      await ping
      peer.send(closeFrame(1000))
      peer.end()
      expect((await peer.readFrames()).map(describeFrame)).toEqual(['8 "\u0003\u00e8"'])
    })

    it('ends a peer that pings and does not read', async () => {
      const { ws, peer } = await openToServer(implementation, { maxPendingAutoPongs: 5 })
      const lines = recordToEnd(ws)
      // All of them come in one turn, in which no pong can leave.
      peer.send(...Array.from({ length: 20 }, () => Buffer.from([0x89, 0x80, 0, 0, 0, 0])))
      expect((await lines).at(-1)).toBe('close 3 1006 ""')
    })

    it('without a limit answers all', async () => {
      const { peer } = await openToServer(implementation, { maxPendingAutoPongs: 0 })
      peer.send(...Array.from({ length: 200 }, () => Buffer.from([0x89, 0x80, 0, 0, 0, 0])))
      for (let count = 0; count < 200; count++) expect((await peer.readFrame()).opcode).toBe(10)
    })
  })

  describe('behind close()', () => {
    it.each(['send', 'ping', 'pong'] as const)('%s() calls back with an error, on a later tick', async (method) => {
      const { server, client } = await openPair(implementation)
      server.close()
      let isSynchronous = true
      const result = new Promise((resolve) =>
        loosely(server)[method]('x', (error: Error) => resolve([isSynchronous, describeError(error)])),
      )
      isSynchronous = false
      expect(await result).toEqual([false, 'Error: WebSocket is not open: readyState 2 (CLOSING)'])
      await closeOf(server)
      expect(await outcome((callback) => loosely(server)[method]('x', {}, callback))).toBe(
        'Error: WebSocket is not open: readyState 3 (CLOSED)',
      )
      expect(() => loosely(server)[method]('x')).not.toThrow()
      await until(() => client.readyState === WebSocket.CLOSED)
    })

    it('bufferedAmount grows by the data', async () => {
      const { server } = await openPair(implementation)
      server.close()
      const before = server.bufferedAmount
      server.send('hello')
      server.send('\u00f6')
      loosely(server).send(new Blob(['abc']))
      loosely(server).send([1, 2])
      loosely(server).send(12)
      loosely(server).send(undefined)
      server.ping('ping')
      expect(server.bufferedAmount - before).toBe(5 + 2 + 3 + 2 + 2 + 4)
      await closeOf(server)
      const closed = server.bufferedAmount
      server.send(Buffer.alloc(1000))
      expect(server.bufferedAmount - closed).toBe(1000)
    })

    it('data of a wrong kind still throws', async () => {
      const { server } = await openPair(implementation)
      server.close()
      expect(() => loosely(server).send({})).toThrow(TypeError)
      await closeOf(server)
    })
  })

  describe('bufferedAmount', () => {
    it('is 0 without a socket', () => {
      expect(construct(implementation, 'ws://localhost', { lookup() {} }).bufferedAmount).toBe(0)
    })

    it('is what the socket holds, with framing', async () => {
      const { ws, peer } = await openToServer(implementation)
      peer.stopReading()
      const message = Buffer.alloc(1_000_000)
      while (ws.bufferedAmount === 0) {
        ws.send(message)
        await nextTurn()
      }
      const before = ws.bufferedAmount
      ws.send(message)
      expect(ws.bufferedAmount).toBe(before + message.length + 10)
      expect(ws.bufferedAmount).toBe(inside(ws)._socket.writableLength)
      peer.startReading()
      await until(() => ws.bufferedAmount === 0)
    })

    it('counts a blob that is being read, and what waits behind it', async () => {
      const { server } = await openPair(implementation)
      const sent = outcome((callback) => {
        loosely(server).send(new Blob(['x'.repeat(100)]))
        expect(server.bufferedAmount).toBe(100)
        server.send('12345')
        server.ping('1')
        expect(server.bufferedAmount).toBe(106)
        server.send('', callback)
      })
      expect(await sent).toBe('sent')
      expect(server.bufferedAmount).toBe(0)
    })

    it('is 0 when the callback is called', async () => {
      const { client } = await openPair(implementation)
      const amount = await new Promise((resolve) => client.send('x'.repeat(1000), () => resolve(client.bufferedAmount)))
      expect(amount).toBe(0)
    })
  })

  describe('a blob', () => {
    /** Cannot be read; the kind that the original takes for a Blob. */
    class Unreadable extends Blob {
      override arrayBuffer(): Promise<ArrayBuffer> {
        return Promise.reject(new DOMException('The blob could not be read', 'NotReadableError'))
      }
    }

    it('that cannot be read ends the connection with its error', async () => {
      const { server, client } = await openPair(implementation)
      const lines = recordToEnd(client)
      const order: string[] = []
      const callbacks = [1, 2, 3].map((index) =>
        outcome((callback) =>
          loosely(client).send(index === 1 ? new Unreadable(['x']) : 'y', (error: Error) => {
            order.push(`callback ${index}`)
            callback(error)
          }),
        ),
      )
      client.on('error', () => order.push('error'))
      const expected = 'NotReadableError 0: The blob could not be read'
      expect(await Promise.all(callbacks)).toEqual([expected, expected, expected])
      expect(await lines).toEqual([`error 2 ${expected}`, 'close 3 1006 ""'])
      expect(order).toEqual(['callback 1', 'callback 2', 'callback 3', 'error'])
      await until(() => server.readyState === WebSocket.CLOSED)
    })

    it('whose connection is gone meanwhile calls back with an error, in order', async () => {
      const { server } = await openPair(implementation)
      const order: string[] = []
      const results = [1, 2].map((index) =>
        outcome((callback) =>
          loosely(server).send(new Blob(['x']), (error: Error) => {
            order.push(`callback ${index}`)
            callback(error)
          }),
        ),
      )
      server.terminate()
      const text = 'Error: The socket was closed while the blob was being read'
      expect(await Promise.all(results)).toEqual([text, text])
      expect(order).toEqual(['callback 1', 'callback 2'])
    })

    it('is sent before a close() behind it', async () => {
      const { server, client } = await openPair(implementation)
      const lines = record(client)
      loosely(server).send(new Blob(['before']))
      server.close(1000, 'behind')
      await closeOf(client)
      expect(lines).toEqual(['binary "before"', 'close 3 1000 "behind"'])
    })
  })
}
