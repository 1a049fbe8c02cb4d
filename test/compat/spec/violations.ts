import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { closeFrame, closeOf as meaningOf, text } from '../../support/raw-client.ts'
import type { Implementation } from './implementation.ts'
import { nextMessage, recordToEnd } from './record.ts'
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

/** What a peer may not send, and what it is told. */
export function violationSpec(implementation: Implementation): void {
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
}
