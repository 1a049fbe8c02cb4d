import { once } from 'node:events'
import { deflateRawSync, inflateRawSync, constants as zlibConstants } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { closeFrame, closeOf as meaningOf, type RawClient } from '../../support/raw-client.ts'
import { until } from '../../support/servers.ts'
import { formatFrame, parseFrames, type WireFrame } from '../../support/wire.ts'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf, nextMessage, outcome, record, recordToEnd, takeMessages } from './record.ts'
import { inside, type Loose, openPair, openToClient, openToServer } from './sockets.ts'

const MASK = Buffer.from([1, 2, 3, 4])
const TAIL = Buffer.from([0, 0, 0xff, 0xff])
const OFFER = 'permessage-deflate'

/** As a peer compresses a message that stands alone. */
function deflate(data: string | Buffer): Buffer {
  const bytes = deflateRawSync(data, { finishFlush: zlibConstants.Z_SYNC_FLUSH })
  return bytes.subarray(0, bytes.length - 4)
}

function inflate(data: Buffer): Buffer {
  return inflateRawSync(Buffer.concat([data, TAIL]), { finishFlush: zlibConstants.Z_SYNC_FLUSH })
}

function compressed(data: string | Buffer, { opcode = 1, fin = true, rsv = 4 } = {}): Buffer {
  return formatFrame({ opcode, fin, rsv, payload: deflate(data) }, MASK)
}

const plain = (payload: string): Buffer => formatFrame({ opcode: 1, payload: Buffer.from(payload) }, MASK)

/** Reads one frame, with its RSV1. */
async function readFrame(peer: RawClient): Promise<WireFrame> {
  const head = await peer.read(2)
  const length = head[1]! & 0x7f
  const more = await peer.read((length === 126 ? 2 : length === 127 ? 8 : 0) + (head[1]! & 0x80 ? 4 : 0))
  const size = length === 126 ? more.readUInt16BE(0) : length === 127 ? Number(more.readBigUInt64BE(0)) : length
  return parseFrames(Buffer.concat([head, more, await peer.read(size)]))[0]!
}

/** permessage-deflate: negotiation in both roles, and messages. */
export function deflateSpec(implementation: Implementation): void {
  const openDeflating = (options: Loose = {}, offer = OFFER, more: Loose = {}): ReturnType<typeof openToServer> =>
    openToServer(
      implementation,
      { perMessageDeflate: options, ...more },
      { headers: { 'Sec-WebSocket-Extensions': offer } },
    )

  describe('what is sent', () => {
    it('is compressed at any size with context takeover', async () => {
      const { ws, peer } = await openDeflating()
      ws.send('a')
      ws.send('')
      ws.send(Buffer.from('b'))
      const frames = [await readFrame(peer), await readFrame(peer), await readFrame(peer)]
      expect(frames.map(({ opcode, rsv, fin }) => [opcode, rsv, fin])).toEqual([
        [1, 4, true],
        [1, 4, true],
        [2, 4, true],
      ])
    })

    it('uses the context', async () => {
      const { ws, peer } = await openDeflating()
      const text = 'something that does not repeat itself: 0123456789 abcdefghijklmnopqrstuvwxyz'
      ws.send(text)
      ws.send(text)
      const [first, second] = [await readFrame(peer), await readFrame(peer)]
      expect(inflate(first.payload).toString()).toBe(text)
      expect(second.payload.length).toBeLessThan(first.payload.length / 2)
    })

    it('does not use it when the server gives it up', async () => {
      const { ws, peer } = await openDeflating({ serverNoContextTakeover: true, threshold: 0 })
      for (const text of ['one and one', 'one and one']) {
        ws.send(text)
        expect(inflate((await readFrame(peer)).payload).toString()).toBe(text)
      }
    })

    it.each<[number, number, boolean]>([
      [1024, 1023, false],
      [1024, 1024, true],
      [10, 9, false],
      [10, 10, true],
      [0, 0, true],
    ])('without context: threshold %i and %i bytes', async (threshold, size, isCompressed) => {
      const { ws, peer } = await openDeflating({
        serverNoContextTakeover: true,
        ...(threshold === 1024 ? {} : { threshold }),
      })
      ws.send('x'.repeat(size))
      const frame = await readFrame(peer)
      expect(frame.rsv).toBe(isCompressed ? 4 : 0)
      expect((isCompressed ? inflate(frame.payload) : frame.payload).toString()).toBe('x'.repeat(size))
    })

    it('counts bytes, not characters, for the threshold', async () => {
      const { ws, peer } = await openDeflating({ serverNoContextTakeover: true, threshold: 4 })
      ws.send('\u00f6\u00f6')
      expect((await readFrame(peer)).rsv).toBe(4)
    })

    it('is not compressed with compress false', async () => {
      const { ws, peer } = await openDeflating()
      ws.send('x'.repeat(2000), { compress: false })
      const frame = await readFrame(peer)
      expect([frame.rsv, frame.payload.toString()]).toEqual([0, 'x'.repeat(2000)])
    })

    it('in fragments has RSV1 on the first alone', async () => {
      const { ws, peer } = await openDeflating()
      ws.send('first', { fin: false })
      ws.send('second', { fin: false, compress: false })
      ws.send('third')
      const frames = [await readFrame(peer), await readFrame(peer), await readFrame(peer)]
      expect(frames.map(({ opcode, rsv, fin }) => [opcode, rsv, fin])).toEqual([
        [1, 4, false],
        [0, 0, false],
        [0, 0, true],
      ])
      expect(inflate(Buffer.concat(frames.map(({ payload }) => payload))).toString()).toBe('firstsecondthird')
    })

    it('of control frames is never compressed', async () => {
      const { ws, peer } = await openDeflating()
      ws.ping('x'.repeat(125))
      ws.pong('y'.repeat(125))
      ws.close(1000, 'z'.repeat(123))
      for (let count = 0; count < 3; count++) expect((await readFrame(peer)).rsv).toBe(0)
    })

    it('by a client is masked', async () => {
      const { ws, peer } = await openToClient(implementation, {}, ['Sec-WebSocket-Extensions: permessage-deflate'])
      const text = 'masked and compressed '.repeat(20)
      ws.send(text)
      const frame = await readFrame(peer)
      expect([frame.rsv, frame.maskingKey?.length, inflate(frame.payload).toString()]).toEqual([4, 4, text])
    })

    it('by a client has its own threshold without context', async () => {
      const { ws, peer } = await openToClient(implementation, { perMessageDeflate: { threshold: 5 } }, [
        'Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover',
      ])
      ws.send('1234')
      ws.send('12345')
      expect([(await readFrame(peer)).rsv, (await readFrame(peer)).rsv]).toEqual([0, 4])
    })

    it('leaves the data of the program alone', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: { threshold: 0 } } })
      const data = Buffer.from('left alone')
      const message = nextMessage(server)
      client.send(data)
      expect(await message).toBe('binary "left alone"')
      expect(data.toString()).toBe('left alone')
    })
  })

  describe('what comes', () => {
    it.each<[string, Buffer[], string]>([
      ['compressed', [compressed('hello')], 'text "hello"'],
      ['not compressed', [plain('hello')], 'text "hello"'],
      ['empty', [compressed('')], 'text ""'],
      [
        'in fragments',
        (() => {
          const bytes = deflate('hello fragments')
          return [
            formatFrame({ opcode: 1, fin: false, rsv: 4, payload: bytes.subarray(0, 4) }, MASK),
            formatFrame({ opcode: 9, payload: Buffer.from('between') }, MASK),
            formatFrame({ opcode: 0, fin: false, payload: Buffer.alloc(0) }, MASK),
            formatFrame({ opcode: 0, payload: bytes.subarray(4) }, MASK),
          ]
        })(),
        'text "hello fragments"',
      ],
      [
        'with a final block',
        [formatFrame({ opcode: 1, rsv: 4, payload: Buffer.concat([deflateRawSync('final'), Buffer.alloc(1)]) }, MASK)],
        'text "final"',
      ],
    ])('%s is a message', async (_name, frames, expected) => {
      const { ws, peer } = await openDeflating()
      const message = nextMessage(ws)
      peer.send(...frames)
      expect(await message).toBe(expected)
    })

    it('in order with what is not compressed', async () => {
      const { ws, peer } = await openDeflating()
      const lines = recordToEnd(ws)
      peer.send(
        compressed('one'),
        plain('two'),
        formatFrame({ opcode: 9, payload: Buffer.from('three') }, MASK),
        compressed('four', { opcode: 2 }),
        closeFrame(1000, 'five'),
      )
      peer.end()
      expect(await lines).toEqual(['text "one"', 'text "two"', 'ping "three"', 'binary "four"', 'close 3 1000 "five"'])
    })

    it('before FIN is delivered, inflated', async () => {
      const { ws, peer } = await openDeflating()
      const lines = recordToEnd(ws)
      peer.send(...Array.from({ length: 20 }, (_, index) => compressed(`${index} ${'x'.repeat(100)}`)))
      peer.end()
      expect(await lines).toEqual([
        ...Array.from({ length: 20 }, (_, index) => `text ${102 + (index > 9 ? 1 : 0)} bytes`),
        'close 3 1006 ""',
      ])
    })

    it('before terminate() is delivered, inflated', async () => {
      const { ws, peer } = await openDeflating()
      const lines = record(ws)
      const closed = closeOf(ws)
      ws.once('message', () => ws.terminate())
      peer.send(...Array.from({ length: 5 }, (_, index) => compressed(`${index}`)))
      await closed
      expect(lines).toEqual(['text "0"', 'text "1"', 'text "2"', 'text "3"', 'text "4"', 'close 3 1006 ""'])
    })

    it('broken is an error of zlib, and 1007', async () => {
      const { ws, peer } = await openDeflating()
      const error = once(ws, 'error')
      const closed = closeOf(ws)
      peer.send(formatFrame({ opcode: 1, rsv: 4, payload: Buffer.from('not deflated') }, MASK))
      const [value] = (await error) as [NodeJS.ErrnoException]
      expect([value.code, value.errno, value.constructor]).toEqual(['Z_DATA_ERROR', -3, Error])
      expect(meaningOf(await peer.readFrame())).toEqual({ code: 1007, reason: '' })
      peer.end()
      expect(await closed).toEqual([1006, ''])
    })

    it('broken UTF-8 behind inflation is 1007', async () => {
      const { ws, peer } = await openDeflating()
      const lines = recordToEnd(ws)
      peer.send(compressed(Buffer.from([0xff, 0xfe])))
      expect(meaningOf(await peer.readFrame()).code).toBe(1007)
      peer.end()
      expect(await lines).toEqual([
        'error 2 Error WS_ERR_INVALID_UTF8: Invalid WebSocket frame: invalid UTF-8 sequence',
        'close 3 1006 ""',
      ])
    })

    it.each<[string, (peer: RawClient) => void]>([
      ['at once', (peer) => void peer.send(compressed('x'.repeat(1001)))],
      ['by far', (peer) => void peer.send(compressed(Buffer.alloc(5_000_000), { opcode: 2 }))],
      [
        'in fragments',
        (peer) => {
          const bytes = deflate('x'.repeat(300_000))
          peer.send(
            formatFrame({ opcode: 1, fin: false, rsv: 4, payload: bytes.subarray(0, 100) }, MASK),
            formatFrame({ opcode: 0, payload: bytes.subarray(100) }, MASK),
          )
        },
      ],
    ])('and is larger than maxPayload %s is 1009', async (_name, sendTo) => {
      const { ws, peer } = await openDeflating({}, OFFER, { maxPayload: 1000 })
      const lines = recordToEnd(ws)
      sendTo(peer)
      expect(meaningOf(await peer.readFrame())).toEqual({ code: 1009, reason: '' })
      peer.end()
      expect(await lines).toEqual([
        'error 2 RangeError WS_ERR_UNSUPPORTED_MESSAGE_LENGTH: Max payload size exceeded',
        'close 3 1006 ""',
      ])
    })

    it('and is just as large as maxPayload is a message', async () => {
      const { ws, peer } = await openDeflating({}, OFFER, { maxPayload: 1000 })
      const messages = takeMessages(ws, 2)
      peer.send(compressed('x'.repeat(1000)), compressed('y'.repeat(1000)))
      expect(await messages).toEqual(['text 1000 bytes', 'text 1000 bytes'])
    })

    it.each([0x40 | 0, 0x40 | 0x80])('with RSV1 on a continuation is an error', async (first) => {
      const { ws, peer } = await openDeflating()
      const lines = recordToEnd(ws)
      const start = formatFrame({ opcode: 1, fin: false, rsv: 4, payload: deflate('x') }, MASK)
      peer.send(start, Buffer.from([first, 0x80, 1, 2, 3, 4]))
      expect(meaningOf(await peer.readFrame()).code).toBe(1002)
      peer.end()
      expect((await lines)[0]).toContain('WS_ERR_UNEXPECTED_RSV_1')
    })

    it.each([0xc8, 0xc9, 0xca])('with RSV1 on a control frame %i is an error', async (first) => {
      const { ws, peer } = await openDeflating()
      const lines = recordToEnd(ws)
      peer.send(Buffer.from([first, 0x80, 1, 2, 3, 4]))
      expect(meaningOf(await peer.readFrame()).code).toBe(1002)
      peer.end()
      expect((await lines)[0]).toContain('RSV1 must be clear')
    })
  })

  describe('the end while compressing', () => {
    it('calls back with an error, in order, before close', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      const order: string[] = []
      const results = ['a', 'b', 'c'].map((name) =>
        outcome((callback) =>
          server.send(name.repeat(1000), (error) => {
            order.push(`${name} ${server.readyState}`)
            callback(error)
          }),
        ),
      )
      server.on('close', () => order.push('close'))
      server.terminate()
      const text = 'Error: The socket was closed while data was being compressed'
      expect(await Promise.all(results)).toEqual([text, text, text])
      await until(() => client.readyState === 3 && order.length === 4)
      expect(order.slice(0, 3)).toEqual(['a 2', 'b 2', 'c 2'])
      expect(order.at(-1)).toBe('close')
    })

    it('close() waits for what is being compressed', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      const lines = recordToEnd(client)
      for (let index = 0; index < 10; index++) server.send(`${index}`.repeat(5000))
      server.close(1000)
      expect(await lines).toEqual([...new Array(10).fill('text 5000 bytes'), 'close 3 1000 ""'])
    })

    it('bufferedAmount counts what is being compressed', async () => {
      const { server } = await openPair(implementation, { server: { perMessageDeflate: true } })
      const sent = outcome((callback) => {
        server.send('x'.repeat(1000))
        server.send('y'.repeat(500), callback)
        expect(server.bufferedAmount).toBe(1500)
      })
      expect(await sent).toBe('sent')
      expect(server.bufferedAmount).toBe(0)
    })

    it('a callback of each message, in order', async () => {
      const { server } = await openPair(implementation, { server: { perMessageDeflate: true } })
      const order: number[] = []
      await Promise.all(
        [5000, 1, 0, 3000].map(
          (size, index) =>
            new Promise<void>((resolve) =>
              server.send('x'.repeat(size), { compress: index !== 1 }, () => {
                order.push(index)
                resolve()
              }),
            ),
        ),
      )
      expect(order).toEqual([0, 1, 2, 3])
    })
  })

  describe('_socket and deflate', () => {
    it('the bytes of a listener of data are the compressed ones', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      let count = 0
      inside(server as Ws)._socket.on('data', (chunk: Buffer) => {
        count += chunk.length
      })
      const message = nextMessage(server)
      client.send('x'.repeat(10_000))
      expect(await message).toBe('text 10000 bytes')
      expect(count).toBeLessThan(200)
    })
  })
}
