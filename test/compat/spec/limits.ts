import { describe, expect, it } from 'vitest'
import { binary, closeFrame, frame, closeOf as meaningOf, ping, text } from '../../support/raw-client.ts'
import { until } from '../../support/servers.ts'
import type { Implementation } from './implementation.ts'
import { nextMessage, recordToEnd, takeMessages } from './record.ts'
import { inside, openPair, openToServer } from './sockets.ts'

const raw = (...bytes: number[]): Buffer => Buffer.from(bytes)

/** Limits of what is received. */
export function limitSpec(implementation: Implementation): void {
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
      let chunks = 0
      inside(ws)._socket.on('data', () => chunks++)
      const message = text('123456789012')
      const headLength = message.length - 12
      const send = async (...parts: Buffer[]): Promise<void> => {
        for (const part of parts) {
          const before = chunks
          peer.send(part)
          await until(() => chunks > before)
        }
      }
      const [head, rest] = [message.subarray(0, headLength), message.subarray(headLength)]
      // The head is read as soon as it is there; the payload waits in one chunk, two, three.
      await send(head, rest.subarray(0, 1), rest.subarray(1, 2), rest.subarray(2))
      await send(head, rest.subarray(0, 1), rest.subarray(1, 2), rest.subarray(2, 3), rest.subarray(3, 4))
      expect(meaningOf(await peer.readFrame())).toEqual({ code: 1008, reason: '' })
      peer.end()
      expect(await lines).toEqual([
        'text "123456789012"',
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
}
