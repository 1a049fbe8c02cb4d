import { describe, expect, it } from 'vitest'
import { closeFrame, type RawFrame } from '../../support/raw-client.ts'
import { nextTurn } from '../../support/servers.ts'
import { parseFrames } from '../../support/wire.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, outcome, takeMessages } from './record.ts'
import { inside, openPair, openToClient, openToServer } from './sockets.ts'

type Callback = (error?: Error | null) => void
/** The methods as JavaScript calls them. */
interface Sending {
  send(...args: unknown[]): void
  ping(...args: unknown[]): void
  pong(...args: unknown[]): void
}
const loosely = (ws: Ws): Sending => ws as unknown as Sending

const BYTES = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])

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
}
