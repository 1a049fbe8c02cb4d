import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import * as original from 'ws'
import * as ours from '../../src/compat/ws.ts'
import { Opcode } from '../../src/constants.ts'
import { seededRandom } from '../support/random.ts'
import { binary, close, formatFrame, fragments, ping, pong, text } from '../support/wire.ts'

/*
 * The parts of ws that it exports beside its documented API: what the original's do is what ours do.
 */

// biome-ignore lint/suspicious/noExplicitAny: @types/ws does not know them
type Parts = Record<'Receiver' | 'PerMessageDeflate' | 'extension' | 'subprotocol' | 'Sender', any>
const implementations: [string, Parts][] = [
  ['ws', original as unknown as Parts],
  ['fullduplex/ws', ours as unknown as Parts],
]
const theirs = implementations[0]![1]

function outcomeOf(action: () => unknown): unknown {
  try {
    return action()
  } catch (error) {
    return (error as Error).name
  }
}

describe.each(implementations)('%s', (_name, { Receiver, PerMessageDeflate, extension, subprotocol, Sender }) => {
  it.each([
    'permessage-deflate; client_max_window_bits, permessage-deflate',
    'a; b=1; b="2"; c, d',
    'a;;b',
    'a=1',
    'a; b="x y"',
    '',
  ])('extension.parse: %s', (header) => {
    const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
    expect(plain(outcomeOf(() => extension.parse(header)))).toEqual(
      plain(outcomeOf(() => theirs.extension.parse(header))),
    )
  })

  it('extension.format', () => {
    const value = { a: [{ b: [true, 1], c: 'x' }, {}], d: { e: true } }
    expect(extension.format(value)).toBe(theirs.extension.format(value))
  })

  it.each(['a', 'a, b', 'a,a', 'a b', ''])('subprotocol.parse: %s', (header) => {
    expect(outcomeOf(() => subprotocol.parse(header))).toEqual(outcomeOf(() => theirs.subprotocol.parse(header)))
  })

  it('PerMessageDeflate offers, accepts, compresses and inflates', async () => {
    expect(PerMessageDeflate.extensionName).toBe('permessage-deflate')
    const server = new PerMessageDeflate({ isServer: true, serverMaxWindowBits: 10 })
    const offer = new PerMessageDeflate({ serverNoContextTakeover: true }).offer()
    expect(offer).toEqual({ server_no_context_takeover: true, client_max_window_bits: true })
    const accepted = server.accept(
      extension.parse(extension.format({ 'permessage-deflate': offer }))['permessage-deflate'],
    )
    expect(accepted).toEqual({ server_no_context_takeover: true, server_max_window_bits: 10 })
    const data = Buffer.from('again and again and again')
    const compressed = await new Promise<Buffer>((resolve, reject) => {
      server.compress(data, true, (error: Error | null, result: Buffer) => (error ? reject(error) : resolve(result)))
    })
    const tail = Buffer.from([0, 0, 0xff, 0xff])
    expect(inflateRawSync(Buffer.concat([compressed, tail]), { finishFlush: 2 })).toEqual(data)
    const sent = deflateRawSync(data, { finishFlush: 2 }).subarray(0, -4)
    const inflated = await new Promise((resolve, reject) => {
      server.decompress(sent, true, (error: Error | null, result: Buffer) => (error ? reject(error) : resolve(result)))
    })
    expect(inflated).toEqual(data)
    server.cleanup()
  })

  it('Receiver reads frames in any chunks', async () => {
    const random = seededRandom(7)
    const frames = [
      text('one'),
      binary(Buffer.of(1, 2)),
      ping('p'),
      ...fragments(Opcode.TEXT, ['fr', 'ag']),
      pong('q'),
      close(1001, 'bye'),
    ]
    const bytes = Buffer.concat(frames.map((frame) => formatFrame(frame)))
    for (let round = 0; round < 10; round++) {
      const receiver = new Receiver({ isServer: false })
      const events: unknown[] = []
      for (const event of ['message', 'ping', 'pong', 'conclude']) {
        receiver.on(event, (...values: unknown[]) => events.push([event, ...values.map(String)]))
      }
      const finished = new Promise((resolve) => receiver.on('finish', resolve))
      for (let at = 0; at < bytes.length; ) {
        const end = at + 1 + random(8)
        receiver.write(Buffer.from(bytes.subarray(at, end)))
        at = end
      }
      await finished
      expect(events).toEqual([
        ['message', 'one', 'false'],
        ['message', '\u0001\u0002', 'true'],
        ['ping', 'p'],
        ['message', 'frag', 'false'],
        ['pong', 'q'],
        ['conclude', '1001', 'bye'],
      ])
    }
  })

  it('Receiver fails with the error of ws', async () => {
    const receiver = new Receiver({ isServer: true })
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => receiver.on('error', resolve))
    receiver.write(formatFrame(text('not masked')))
    expect(await failed).toMatchObject({ code: 'WS_ERR_EXPECTED_MASK', name: 'RangeError' })
  })

  it('Receiver inflates', async () => {
    const deflate = new PerMessageDeflate({ isServer: true })
    deflate.accept([{}])
    const receiver = new Receiver({ extensions: { 'permessage-deflate': deflate } })
    const message = new Promise((resolve) => receiver.on('message', (data: Buffer) => resolve(String(data))))
    const payload = deflateRawSync('compressed', { finishFlush: 2 }).subarray(0, -4)
    receiver.write(
      Buffer.concat(Sender.frame(payload, { fin: true, opcode: 1, rsv1: true, mask: false, readOnly: false })),
    )
    expect(await message).toBe('compressed')
  })
})
