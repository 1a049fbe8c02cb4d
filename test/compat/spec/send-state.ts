import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { closeFrame, type RawFrame } from '../../support/raw-client.ts'
import { nextTurn, until } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, describeError, outcome, record, recordToEnd, thrownBy } from './record.ts'
import { construct, inside, openPair, openToServer } from './sockets.ts'

/** The methods as JavaScript calls them. */
interface Sending {
  send(...args: unknown[]): void
  ping(...args: unknown[]): void
  pong(...args: unknown[]): void
}
const loosely = (ws: Ws): Sending => ws as unknown as Sending

const TOO_LONG = 'RangeError: The data size must not be greater than 125 bytes'

function describeFrame({ opcode, fin, payload }: RawFrame): string {
  return `${opcode}${fin ? '' : '+'} "${payload.toString('latin1')}"`
}

/** Pings and pongs, what is sent behind close(), bufferedAmount, and blobs. */
export function sendStateSpec(implementation: Implementation): void {
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
