import { describe, expect, it } from 'vitest'
import { defer } from '../../support/queue.ts'
import { closeFrame, type RawFrame } from '../../support/raw-client.ts'
import { nextTurn } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { record, takeMessages } from './record.ts'
import { inside, openPair, openToServer } from './sockets.ts'

/** The method as JavaScript calls it. */
interface Sending {
  send(...args: unknown[]): void
}
const loosely = (ws: Ws): Sending => ws as unknown as Sending

/** A blob whose content is there when the test says so. */
class LaterBlob extends Blob {
  readonly content = defer<ArrayBuffer>()

  override arrayBuffer(): Promise<ArrayBuffer> {
    return this.content.promise
  }
}

function describeFrame({ opcode, fin, masked, payload }: RawFrame): string {
  return `${opcode}${fin ? '' : '+'}${masked ? ' masked' : ''} "${payload.toString('latin1')}"`
}

/** Blobs that cannot be read in time, that are fragments, and that are large. */
export function blobsSpec(implementation: Implementation): void {
  describe('a blob that turns out to be unreadable behind close', () => {
    it.each(['server', 'client'] as const)('changes nothing any more for a %s', async (role) => {
      const pair = await openPair(implementation)
      const [ws, peer] = role === 'server' ? [pair.server, pair.client] : [pair.client, pair.server]
      const lines = record(ws)
      const called: unknown[] = []
      const blob = new LaterBlob(['x'])
      loosely(ws).send(blob, (error: Error) => called.push(error))
      const closed = new Promise((resolve) => ws.once('close', resolve))
      peer.terminate()
      await closed
      blob.content.reject(new DOMException('The blob could not be read', 'NotReadableError'))
      for (let turn = 0; turn < 5; turn++) await nextTurn()
      expect(lines).toEqual(['close 3 1006 ""'])
      expect(ws.readyState).toBe(3)
      expect((ws as unknown as { _closeTimer: unknown })._closeTimer).toBeNull()
      expect(called).toEqual([expect.objectContaining({ message: expect.any(String) })])
    })
  })

  describe('a blob as a fragment', () => {
    type Calls = (ws: Sending) => void
    const cases: [name: string, calls: Calls, frames: string[], messages: string[]][] = [
      [
        'is the first one',
        (ws) => {
          ws.send(new Blob(['ab']), { fin: false })
          ws.send('cd')
        },
        ['2+ "ab"', '0 "cd"'],
        ['binary "abcd"'],
      ],
      [
        'is the last one',
        (ws) => {
          ws.send('ef', { fin: false })
          ws.send(new Blob(['gh']))
        },
        ['1+ "ef"', '0 "gh"'],
        ['text "efgh"'],
      ],
      [
        'is each of them, in a text',
        (ws) => {
          ws.send(new Blob(['i']), { fin: false, binary: false })
          ws.send(new Blob(['j']), { fin: false })
          ws.send(new Blob(['k']), { fin: true })
          ws.send('behind it')
          ws.send(new Blob(['l']))
        },
        ['1+ "i"', '0+ "j"', '0 "k"', '1 "behind it"', '2 "l"'],
        ['text "ijk"', 'text "behind it"', 'binary "l"'],
      ],
      [
        'is one of many',
        (ws) => {
          ws.send('m', { fin: false })
          ws.send(new Blob(['n']), { fin: false })
          ws.send(Buffer.from('o'), { fin: false })
          ws.send(new Blob([]), { fin: true })
          ws.send(new Blob(['p']))
        },
        ['1+ "m"', '0+ "n"', '0+ "o"', '0 ""', '2 "p"'],
        ['text "mno"', 'binary "p"'],
      ],
    ]

    it.each(cases)('%s', async (_name, calls, expected) => {
      const { ws, peer } = await openToServer(implementation)
      calls(loosely(ws))
      ws.close()
      const frames: string[] = []
      for (;;) {
        const frame = await peer.readFrame()
        if (frame.opcode === 8) break
        frames.push(describeFrame(frame))
      }
      peer.send(closeFrame())
      expect(frames).toEqual(expected)
    })

    it.each(cases)('%s, compressed, in both directions', async (_name, calls, _frames, messages) => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      const received = [server, client].map((ws) => takeMessages(ws, messages.length))
      calls(loosely(client))
      calls(loosely(server))
      expect(await Promise.all(received)).toEqual([messages, messages])
    })

    it('is masked when that is wanted', async () => {
      const { ws, peer } = await openToServer(implementation)
      loosely(ws).send(new Blob(['whole']), { mask: true })
      loosely(ws).send(new Blob(['part']), { mask: true, fin: false })
      loosely(ws).send(new Blob(['rest']))
      const frames = [await peer.readFrame(), await peer.readFrame(), await peer.readFrame()]
      expect(frames.map(describeFrame)).toEqual(['2 masked "whole"', '2+ masked "part"', '0 "rest"'])
    })
  })

  describe('a large blob', () => {
    it('is compressed while others have their turn', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      const size = 16_000_000
      const blob = new LaterBlob([Buffer.alloc(size)])
      const order: string[] = []
      const sent = new Promise<void>((resolve) => {
        loosely(server).send(blob, (error?: Error) => {
          order.push(error === undefined || error === null ? 'sent' : error.message)
          resolve()
        })
      })
      const message = takeMessages(client, 1)
      blob.content.promise.then(() => {
        order.push('read')
        setImmediate(() => order.push('turn of somebody'))
      })
      blob.content.resolve(new ArrayBuffer(size))
      await sent
      expect(order).toEqual(['read', 'turn of somebody', 'sent'])
      expect(await message).toEqual([`binary ${size} bytes`])
      // It has left compressed.
      expect(inside(server)._socket.bytesWritten).toBeLessThan(size / 100)
    })
  })
}
