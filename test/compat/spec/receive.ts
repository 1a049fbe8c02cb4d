import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { binary, closeFrame, frame, closeOf as meaningOf, ping, text } from '../../support/raw-client.ts'
import { nextTurn, until } from '../../support/servers.ts'
import { formatFrame } from '../../support/wire.ts'
import type { Implementation, Ws } from './implementation.ts'
import { describeError, nextMessage, record, recordToEnd, takeMessages } from './record.ts'
import { openPair, openToClient, openToServer } from './sockets.ts'

const MASK = Buffer.from([0, 0, 0, 0])
const INVALID = 'Invalid WebSocket frame: '

interface Violation {
  /** To a server, so masked if it shall be right. */
  readonly bytes: Buffer
  readonly error: string
  readonly code: number
}

const raw = (...bytes: number[]): Buffer => Buffer.from(bytes)
const masked = (first: number, payload: number[] = []): Buffer =>
  Buffer.concat([raw(first, 0x80 | payload.length), MASK, raw(...payload)])

const range = (code: string, message: string): string => `RangeError WS_ERR_${code}: ${message}`

/** Every error that a peer can cause, by the bytes that cause it. */
const VIOLATIONS: [name: string, violation: Violation][] = [
  [
    'RSV1 without an extension',
    { bytes: masked(0xc1), error: range('UNEXPECTED_RSV_1', `${INVALID}RSV1 must be clear`), code: 1002 },
  ],
  [
    'RSV1 of a ping',
    { bytes: masked(0xc9), error: range('UNEXPECTED_RSV_1', `${INVALID}RSV1 must be clear`), code: 1002 },
  ],
  [
    'RSV2',
    { bytes: masked(0xa1), error: range('UNEXPECTED_RSV_2_3', `${INVALID}RSV2 and RSV3 must be clear`), code: 1002 },
  ],
  [
    'RSV3',
    { bytes: masked(0x91), error: range('UNEXPECTED_RSV_2_3', `${INVALID}RSV2 and RSV3 must be clear`), code: 1002 },
  ],
  [
    'RSV2 before RSV1',
    { bytes: masked(0xe1), error: range('UNEXPECTED_RSV_2_3', `${INVALID}RSV2 and RSV3 must be clear`), code: 1002 },
  ],
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode): [string, Violation] => [
    `opcode ${opcode}`,
    { bytes: masked(0x80 | opcode), error: range('INVALID_OPCODE', `${INVALID}invalid opcode ${opcode}`), code: 1002 },
  ]),
  [
    'a continuation of nothing',
    { bytes: masked(0x80), error: range('INVALID_OPCODE', `${INVALID}invalid opcode 0`), code: 1002 },
  ],
  [
    'an unfinished continuation of nothing',
    { bytes: masked(0x00), error: range('INVALID_OPCODE', `${INVALID}invalid opcode 0`), code: 1002 },
  ],
  [
    'a text inside a message',
    {
      bytes: Buffer.concat([masked(0x01), masked(0x81)]),
      error: range('INVALID_OPCODE', `${INVALID}invalid opcode 1`),
      code: 1002,
    },
  ],
  [
    'a binary inside a message',
    {
      bytes: Buffer.concat([masked(0x01), masked(0x02)]),
      error: range('INVALID_OPCODE', `${INVALID}invalid opcode 2`),
      code: 1002,
    },
  ],
  [
    'an unfinished ping',
    { bytes: masked(0x09), error: range('EXPECTED_FIN', `${INVALID}FIN must be set`), code: 1002 },
  ],
  [
    'an unfinished close',
    { bytes: masked(0x08), error: range('EXPECTED_FIN', `${INVALID}FIN must be set`), code: 1002 },
  ],
  [
    'a long ping',
    {
      bytes: raw(0x89, 0xfe, 0, 126, 0, 0, 0, 0),
      error: range('INVALID_CONTROL_PAYLOAD_LENGTH', `${INVALID}invalid payload length 126`),
      code: 1002,
    },
  ],
  [
    'a longer pong',
    {
      bytes: raw(0x8a, 0xff),
      error: range('INVALID_CONTROL_PAYLOAD_LENGTH', `${INVALID}invalid payload length 127`),
      code: 1002,
    },
  ],
  [
    'a close of one byte',
    {
      bytes: masked(0x88, [3]),
      error: range('INVALID_CONTROL_PAYLOAD_LENGTH', `${INVALID}invalid payload length 1`),
      code: 1002,
    },
  ],
  [
    'a frame without mask',
    { bytes: raw(0x81, 0x00), error: range('EXPECTED_MASK', `${INVALID}MASK must be set`), code: 1002 },
  ],
  [
    'a bad opcode before a missing mask',
    { bytes: raw(0x83, 0x00), error: range('INVALID_OPCODE', `${INVALID}invalid opcode 3`), code: 1002 },
  ],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535].map((code): [string, Violation] => [
    `close code ${code}`,
    {
      bytes: masked(0x88, [code >> 8, code & 255]),
      error: range('INVALID_CLOSE_CODE', `${INVALID}invalid status code ${code}`),
      code: 1002,
    },
  ]),
  [
    'a reason that is not UTF-8',
    {
      bytes: masked(0x88, [3, 0xe8, 0xff]),
      error: `Error WS_ERR_INVALID_UTF8: ${INVALID}invalid UTF-8 sequence`,
      code: 1007,
    },
  ],
  [
    'a text that is not UTF-8',
    {
      bytes: masked(0x81, [0xce, 0xba, 0xe1, 0xbd]),
      error: `Error WS_ERR_INVALID_UTF8: ${INVALID}invalid UTF-8 sequence`,
      code: 1007,
    },
  ],
  [
    'a long text that is not UTF-8',
    {
      bytes: masked(0x81, [...new Array<number>(60).fill(0x61), 0xc0, 0x80]),
      error: `Error WS_ERR_INVALID_UTF8: ${INVALID}invalid UTF-8 sequence`,
      code: 1007,
    },
  ],
  [
    'a text with a surrogate',
    {
      bytes: masked(0x81, [0xed, 0xa0, 0x80]),
      error: `Error WS_ERR_INVALID_UTF8: ${INVALID}invalid UTF-8 sequence`,
      code: 1007,
    },
  ],
  [
    'a length of more than 2^53 - 1',
    {
      bytes: raw(0x82, 0xff, 0, 0x20, 0, 0, 0, 0, 0, 0),
      error: range('UNSUPPORTED_DATA_PAYLOAD_LENGTH', 'Unsupported WebSocket frame: payload length > 2^53 - 1'),
      code: 1009,
    },
  ],
  [
    'a length with the highest bit',
    {
      bytes: raw(0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
      error: range('UNSUPPORTED_DATA_PAYLOAD_LENGTH', 'Unsupported WebSocket frame: payload length > 2^53 - 1'),
      code: 1009,
    },
  ],
  [
    'a length over maxPayload',
    {
      bytes: raw(0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff),
      error: range('UNSUPPORTED_MESSAGE_LENGTH', 'Max payload size exceeded'),
      code: 1009,
    },
  ],
]

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

  describe('an error', () => {
    it.each(VIOLATIONS)('by %s', async (_name, { bytes, error, code }) => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.send(text('before'), bytes, text('behind'))
      expect(meaningOf(await peer.readFrame())).toEqual({ code, reason: '' })
      await peer.ended()
      peer.end()
      expect(await lines).toEqual(['text "before"', `error 2 ${error}`, 'close 3 1006 ""'])
    })

    it('of a client: a frame with a mask', async () => {
      const { ws, peer } = await openToClient(implementation)
      const lines = recordToEnd(ws)
      peer.send(text('masked'))
      expect(meaningOf(await peer.readFrame())).toEqual({ code: 1002, reason: '' })
      peer.end()
      expect(await lines).toEqual([
        `error 2 ${range('UNEXPECTED_MASK', `${INVALID}MASK must be clear`)}`,
        'close 3 1006 ""',
      ])
    })

    it('of a client: the same as those of a server', async () => {
      const { ws, peer } = await openToClient(implementation)
      const lines = recordToEnd(ws)
      peer.send(raw(0x85, 0))
      const close = await peer.readFrame()
      expect([close.masked, meaningOf(close).code]).toEqual([true, 1002])
      peer.end()
      expect((await lines)[0]).toBe(`error 2 ${range('INVALID_OPCODE', `${INVALID}invalid opcode 5`)}`)
    })

    it('is of the class that it says', async () => {
      for (const [bytes, type] of [
        [masked(0x85), RangeError],
        [masked(0x81, [0xff]), Error],
      ] as const) {
        const { ws, peer } = await openToServer(implementation)
        const error = once(ws, 'error')
        peer.send(bytes)
        const [value] = (await error) as [Error]
        expect(Object.getPrototypeOf(value)).toBe(type.prototype)
        peer.end()
      }
    })

    it('reaches the other side as a close', async () => {
      const { server, client } = await openPair(implementation)
      const lines = [recordToEnd(server), recordToEnd(client)]
      client.send(Buffer.from([0xff]), { binary: false })
      expect(await Promise.all(lines)).toEqual([
        [`error 2 Error WS_ERR_INVALID_UTF8: ${INVALID}invalid UTF-8 sequence`, 'close 3 1006 ""'],
        ['close 3 1007 ""'],
      ])
    })

    it('comes before close, when the state is CLOSING', async () => {
      const { ws, peer } = await openToServer(implementation)
      const states: unknown[] = []
      ws.on('error', () => states.push(['error', ws.readyState]))
      ws.on('close', () => states.push(['close', ws.readyState]))
      const closed = new Promise((resolve) => ws.on('close', resolve))
      peer.send(masked(0x85))
      peer.end()
      await closed
      expect(states).toEqual([
        ['error', 2],
        ['close', 3],
      ])
    })

    it('is one, whatever comes behind it', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.send(masked(0x85), masked(0x86))
      await peer.readFrame()
      peer.send(masked(0x87), closeFrame(1000))
      peer.end()
      expect(await lines).toEqual([expect.stringContaining('invalid opcode 5'), 'close 3 1006 ""'])
    })

    it('comes for what is wrong behind close() too', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      ws.close(1000)
      peer.send(masked(0x85))
      peer.end()
      expect((await lines)[0]).toContain('invalid opcode 5')
      expect((await peer.readFrames()).map((close) => meaningOf(close).code)).toEqual([1000])
    })
  })

  describe('skipUTF8Validation', () => {
    it('lets texts and reasons through as they are', async () => {
      const { ws, peer } = await openToServer(implementation, { skipUTF8Validation: true })
      const lines = recordToEnd(ws)
      peer.send(masked(0x81, [0xff]), masked(0x88, [3, 0xe8, 0xfe]))
      peer.end()
      expect(await lines).toEqual(['text "\u00ff"', 'close 3 1000 "\u00fe"'])
    })

    it('works on a client', async () => {
      const { ws, peer } = await openToClient(implementation, { skipUTF8Validation: true })
      const message = nextMessage(ws)
      peer.send(raw(0x81, 1, 0xff))
      expect(await message).toBe('text "\u00ff"')
    })
  })

  describe('maxPayload', () => {
    const TOO_LONG = 'error 2 RangeError WS_ERR_UNSUPPORTED_MESSAGE_LENGTH: Max payload size exceeded'

    it.each<[string, Buffer[], boolean]>([
      ['just as much', [text('x'.repeat(20))], true],
      ['one more', [text('x'.repeat(21))], false],
      ['just as much in fragments', [frame(1, 'x'.repeat(10), { fin: false }), frame(0, 'x'.repeat(10))], true],
      ['one more in fragments', [frame(1, 'x'.repeat(10), { fin: false }), frame(0, 'x'.repeat(11))], false],
      ['two messages of that size', [text('x'.repeat(20)), text('x'.repeat(20))], true],
      ['a header alone', [raw(0x82, 0x80 | 21)], false],
    ])('20 and %s', async (_name, frames, isRight) => {
      const { ws, peer } = await openToServer(implementation, { maxPayload: 20 })
      const lines = recordToEnd(ws)
      peer.send(...frames)
      if (isRight) peer.send(closeFrame(1000))
      const close = meaningOf(await peer.readFrame())
      expect(close.code).toBe(isRight ? 1000 : 1009)
      peer.end()
      const seen = await lines
      if (isRight) expect(seen.at(-1)).toBe('close 3 1000 ""')
      else expect(seen).toEqual([TOO_LONG, 'close 3 1006 ""'])
    })

    it('leaves control frames alone', async () => {
      const { ws, peer } = await openToServer(implementation, { maxPayload: 1 })
      const lines = recordToEnd(ws)
      peer.send(ping('long enough'), closeFrame(1000, 'long enough'))
      peer.end()
      expect(await lines).toEqual(['ping "long enough"', 'close 3 1000 "long enough"'])
    })

    it('works on a client', async () => {
      const { server, client } = await openPair(implementation, { client: { maxPayload: 5 } })
      const lines = [recordToEnd(server), recordToEnd(client)]
      server.send('123456')
      expect(await Promise.all(lines)).toEqual([['close 3 1009 ""'], [TOO_LONG, 'close 3 1006 ""']])
    })

    it.each([0, undefined, null])('%s is no limit', async (maxPayload) => {
      const { ws, peer } = await openToServer(implementation, { maxPayload })
      const message = nextMessage(ws)
      peer.send(binary(Buffer.alloc(200_000)))
      expect(await message).toBe('binary 200000 bytes')
    })
  })

  describe('maxFragments and maxBufferedChunks', () => {
    const fragment = (fin: boolean, opcode = 0): Buffer => frame(opcode, 'x', { fin })

    it('of fragments: as many as allowed', async () => {
      const { ws, peer } = await openToServer(implementation, { maxFragments: 3 })
      const messages = takeMessages(ws, 2)
      for (let count = 0; count < 2; count++) peer.send(fragment(false, 1), fragment(false), fragment(true))
      expect(await messages).toEqual(['text "xxx"', 'text "xxx"'])
    })

    it('of fragments: one more', async () => {
      const { ws, peer } = await openToServer(implementation, { maxFragments: 3 })
      const lines = recordToEnd(ws)
      peer.send(fragment(false, 1), fragment(false), fragment(false), fragment(true))
      expect(meaningOf(await peer.readFrame())).toEqual({ code: 1008, reason: '' })
      peer.end()
      expect(await lines).toEqual([
        'error 2 RangeError WS_ERR_TOO_MANY_BUFFERED_PARTS: Too many message fragments',
        'close 3 1006 ""',
      ])
    })

    it('of fragments: empty ones count, control frames do not', async () => {
      const { ws, peer } = await openToServer(implementation, { maxFragments: 2 })
      const lines = recordToEnd(ws)
      peer.send(frame(1, '', { fin: false }), ping(''), ping(''), frame(0, ''))
      peer.send(frame(1, '', { fin: false }), frame(0, '', { fin: false }), frame(0, ''))
      await peer.readFrame()
      peer.end()
      expect(await lines).toEqual([
        ...['ping ""', 'ping ""', 'text ""'],
        'error 2 RangeError WS_ERR_TOO_MANY_BUFFERED_PARTS: Too many message fragments',
        'close 3 1006 ""',
      ])
    })

    it('of chunks: as many as allowed, and one more', async () => {
      const { ws, peer } = await openToServer(implementation, { maxBufferedChunks: 3 })
      const lines = recordToEnd(ws)
      let came = 0
      const { _socket: socket } = ws as unknown as { _socket: NodeJS.EventEmitter }
      socket.on('data', () => came++)
      const sendInChunks = async (bytes: Buffer, size: number): Promise<void> => {
        for (let at = 0; at < bytes.length; at += size) {
          const before = came
          peer.send(bytes.subarray(at, at + size))
          await until(() => came > before)
        }
      }
      const message = text('123456789012')
      // The head is read as soon as it is there.
      await sendInChunks(message, 6)
      expect(lines).toBeDefined()
      await sendInChunks(message.subarray(0, 6), 6)
      for (const byte of message.subarray(6, 10)) {
        if ((ws.readyState as number) !== WebSocket.OPEN) break
        await sendInChunks(raw(byte), 1)
      }
      let close = await peer.readFrame()
      while (close.opcode !== 8) close = await peer.readFrame()
      expect(meaningOf(close).code).toBe(1008)
      peer.end()
      expect((await lines).slice(1)).toEqual([
        'error 2 RangeError WS_ERR_TOO_MANY_BUFFERED_PARTS: Too many buffered chunks',
        'close 3 1006 ""',
      ])
    })

    it('0 is no limit', async () => {
      const { ws, peer } = await openToServer(implementation, { maxFragments: 0, maxBufferedChunks: 0 })
      const message = nextMessage(ws)
      peer.send(fragment(false, 1), ...Array.from({ length: 20_000 }, () => fragment(false)), fragment(true))
      expect(await message).toBe('text 20002 bytes')
    })

    it('of fragments are 16384 when nothing is said', async () => {
      const { ws, peer } = await openToServer(implementation)
      const lines = recordToEnd(ws)
      peer.send(fragment(false, 1), ...Array.from({ length: 16_383 }, () => fragment(false)), fragment(true))
      await peer.readFrame()
      peer.end()
      expect((await lines)[0]).toContain('Too many message fragments')
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
