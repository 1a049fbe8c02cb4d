import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { binary, closeFrame, frame, ping, text } from '../../support/raw-client.ts'
import { nextTurn, until } from '../../support/servers.ts'
import { formatFrame } from '../../support/wire.ts'
import type { Implementation, Ws } from './implementation.ts'
import { describeError, nextMessage, record, recordToEnd, takeMessages } from './record.ts'
import { openPair, openToServer } from './sockets.ts'

const MASK = Buffer.from([0, 0, 0, 0])

const raw = (...bytes: number[]): Buffer => Buffer.from(bytes)
const masked = (first: number, payload: number[] = []): Buffer =>
  Buffer.concat([raw(first, 0x80 | payload.length), MASK, raw(...payload)])

/** Messages as they come in, and what is wrong with them. */
export function receiveSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

  describe('message', () => {
    it.each<[string, Buffer[], string]>([
      ['a text', [text('hi')], 'text "hi"'],
      ['an empty text', [text('')], 'text ""'],
      ['a binary', [binary(raw(1, 2))], 'binary "\\u0001\\u0002"'],
      ['an empty binary', [binary(raw())], 'binary ""'],
      ['fragments', [frame(1, 'a', { fin: false }), frame(0, 'b', { fin: false }), frame(0, 'c')], 'text "abc"'],
      ['empty fragments', [frame(2, '', { fin: false }), frame(0, '', { fin: false }), frame(0, '')], 'binary ""'],
      [
        'a character over two fragments',
        [frame(1, raw(0xc3), { fin: false }), frame(0, raw(0xb6))],
        'text "\u00c3\u00b6"',
      ],
      [
        'control frames between fragments',
        [frame(1, 'a', { fin: false }), ping('x'), frame(10, 'y'), frame(0, 'b')],
        'text "ab"',
      ],
      [
        'a length in two bytes that fits in one',
        [formatFrame({ opcode: 1, payload: Buffer.from('hi'), lengthBytes: 2 }, MASK)],
        'text "hi"',
      ],
      [
        'a length in eight bytes that fits in one',
        [formatFrame({ opcode: 1, payload: Buffer.from('hi'), lengthBytes: 8 }, MASK)],
        'text "hi"',
      ],
      ['a zero mask', [masked(0x81, [104, 105])], 'text "hi"'],
    ])('of %s', async (_name, frames, expected) => {
      const { ws, peer } = await openToServer(implementation)
      const message = nextMessage(ws)
      peer.send(...frames)
      expect(await message).toBe(expected)
    })

    it('has a Buffer and false for text, a Buffer and true for binary', async () => {
      const { server, client } = await openPair(implementation)
      for (const [data, isBinary] of [
        ['text', false],
        [Buffer.from('binary'), true],
      ] as const) {
        const message = once(server, 'message')
        client.send(data)
        const args = (await message) as unknown[]
        expect(args).toHaveLength(2)
        expect(Buffer.isBuffer(args[0])).toBe(true)
        expect(args[1]).toBe(isBinary)
      }
    })

    it('comes byte by byte too', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = record(ws)
      for (const byte of Buffer.concat([text('slow'), ping('p'), binary(Buffer.alloc(130, 'x')), text('end')])) {
        peer.send(raw(byte))
        await nextTurn()
      }
      await until(() => lines.length === 4)
      expect(lines).toEqual(['text "slow"', 'ping "p"', 'binary 130 bytes', 'text "end"'])
    })

    it('comes in order with pings and pongs', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.send(ping('1'), text('2'), frame(10, '3'), binary(raw(52)), ping('5'), closeFrame(1000, '6'))
      peer.end()
      expect(await lines).toEqual(['ping "1"', 'text "2"', 'pong "3"', 'binary "4"', 'ping "5"', 'close 3 1000 "6"'])
    })

    it('of eight megabytes', async () => {
      const { server, client } = await openPair(implementation)
      const data = Buffer.alloc(8_000_000, 'abcdefghi')
      const message = once(server, 'message')
      client.send(data)
      expect(((await message) as [Buffer])[0].equals(data)).toBe(true)
    })
  })

  describe('binaryType', () => {
    it('is nodebuffer', async () => {
      const { server, client } = await openPair(implementation)
      expect([server.binaryType, client.binaryType]).toEqual(['nodebuffer', 'nodebuffer'])
    })

    it.each(['nodebuffer', 'arraybuffer', 'fragments', 'blob'])('may be %s', async (type) => {
      const { server } = await openPair(implementation)
      Object.assign(server, { binaryType: type })
      expect(server.binaryType).toBe(type)
    })

    it.each(['', 'foo', 'Blob', null, undefined, 1])('ignores %s', async (type) => {
      const { server } = await openPair(implementation)
      server.binaryType = 'arraybuffer'
      expect(() => Object.assign(server, { binaryType: type })).not.toThrow()
      expect(server.binaryType).toBe('arraybuffer')
    })

    it('arraybuffer gives an ArrayBuffer of exactly the bytes', async () => {
      const { ws, peer } = await openToServer(implementation)
      ws.binaryType = 'arraybuffer'
      const messages = takeMessages(ws, 3)
      peer.send(binary(Buffer.from('one')), frame(2, 'a', { fin: false }), frame(0, 'b'), binary(raw()))
      expect(await messages).toEqual(['binary ArrayBuffer "one"', 'binary ArrayBuffer "ab"', 'binary ArrayBuffer ""'])
    })

    it('fragments gives the parts as they were sent', async () => {
      const { ws, peer } = await openToServer(implementation)
      ws.binaryType = 'fragments'
      const messages = takeMessages(ws, 4)
      peer.send(binary(Buffer.from('one')), frame(2, 'a', { fin: false }), frame(0, '', { fin: false }), frame(0, 'bc'))
      peer.send(binary(raw()), text('text'))
      expect(await messages).toEqual(['binary ["one"]', 'binary ["a", "bc"]', 'binary []', 'text "text"'])
    })

    it('blob gives a Blob', async () => {
      const { ws, peer } = await openToServer(implementation)
      Object.assign(ws, { binaryType: 'blob' })
      const message = once(ws, 'message')
      peer.send(frame(2, 'a', { fin: false }), frame(0, 'b'))
      const [data, isBinary] = (await message) as unknown as [Blob, boolean]
      expect([data instanceof Blob, await data.text(), isBinary]).toEqual([true, 'ab', true])
    })

    it.each(['arraybuffer', 'fragments', 'blob'])('%s leaves texts, pings and reasons alone', async (type) => {
      const { ws, peer } = await openToServer(implementation)
      Object.assign(ws, { binaryType: type })
      const lines = recordToEnd(ws)
      peer.send(text('text'), ping('ping'), frame(10, 'pong'), closeFrame(1000, 'reason'))
      peer.end()
      expect(await lines).toEqual(['text "text"', 'ping "ping"', 'pong "pong"', 'close 3 1000 "reason"'])
    })

    it('may change between two messages of one chunk', async () => {
      const { ws, peer } = await openToServer(implementation)
      const messages = takeMessages(ws, 2)
      ws.once('message', () => {
        ws.binaryType = 'arraybuffer'
      })
      peer.send(binary(raw(97)), binary(raw(98)))
      expect(await messages).toEqual(['binary "a"', 'binary ArrayBuffer "b"'])
    })

    it('may be set before the connection is open', async () => {
      const { url, wss } = await openPair(implementation)
      wss.on('connection', (ws: Ws) => ws.send(raw(97)))
      const ws = new WebSocket(url)
      ws.binaryType = 'arraybuffer'
      expect(await nextMessage(ws)).toBe('binary ArrayBuffer "a"')
      ws.terminate()
    })
  })

  describe('allowSynchronousEvents', () => {
    /** What happens between the messages of one chunk. */
    async function turnsOf(options: object): Promise<string[]> {
      const { ws, peer } = await openToServer(implementation, options as Record<string, unknown>)
      const order: string[] = []
      const done = new Promise<void>((resolve) => {
        for (const name of ['message', 'ping', 'pong'] as const) {
          ws.on(name, (data: unknown) => {
            order.push(String(data))
            queueMicrotask(() => {
              order.push(`micro ${String(data)}`)
              if (String(data) === 'd') resolve()
            })
          })
        }
      })
      peer.send(text('a'), ping('b'), frame(10, 'c'), binary(raw(100)))
      await done
      return order
    }

    it('true: all come in one turn', async () => {
      expect(await turnsOf({})).toEqual(['a', 'b', 'c', 'd', 'micro a', 'micro b', 'micro c', 'micro d'])
    })

    it('false: microtasks run between them', async () => {
      const expected = ['a', 'micro a', 'b', 'micro b', 'c', 'micro c', 'd', 'micro d']
      expect(await turnsOf({ allowSynchronousEvents: false })).toEqual(expected)
    })

    it('false on a client, and the end comes behind all of it', async () => {
      const { server, client } = await openPair(implementation, { client: { allowSynchronousEvents: false } })
      const lines = recordToEnd(client)
      for (let index = 0; index < 20; index++) server.send(String(index))
      server.close(1000)
      expect(await lines).toEqual([...Array.from({ length: 20 }, (_, index) => `text "${index}"`), 'close 3 1000 ""'])
    })

    it('false, and the connection is cut: all that came is delivered before close', async () => {
      const { ws, peer } = await openToServer(implementation, { allowSynchronousEvents: false })
      const lines = recordToEnd(ws)
      peer.send(...Array.from({ length: 20 }, (_, index) => text(String(index))))
      peer.end()
      expect(await lines).toEqual([...Array.from({ length: 20 }, (_, index) => `text "${index}"`), 'close 3 1006 ""'])
    })
  })

  describe('an exception', () => {
    it('in a listener of message is thrown to the process, and does not become an error event', async () => {
      const { ws, peer } = await openToServer(implementation)
      ws.on('error', () => expect.unreachable())
      ws.once('message', () => {
        throw new Error('of a test')
      })
      const listeners = process.listeners('uncaughtException')
      process.removeAllListeners('uncaughtException')
      const caught = new Promise((resolve) => process.once('uncaughtException', resolve))
      peer.send(text('x'))
      const error = await caught
      for (const listener of listeners) process.on('uncaughtException', listener)
      expect(describeError(error)).toBe('Error: of a test')
    })
  })
}
