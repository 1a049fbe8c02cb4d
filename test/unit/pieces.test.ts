import { describe, expect, it } from 'vitest'
import { Opcode, type Role } from '../../src/constants.ts'
import { deflateProfile } from '../../src/deflate.ts'
import type { PieceHandler } from '../../src/pieces.ts'
import type { ProtocolOptions } from '../../src/protocol.ts'
import { chunksAt, chunksOf, randomChunks } from '../support/chunks.ts'
import { DeflatePeer } from '../support/deflate-peer.ts'
import { Endpoint, ROLES } from '../support/protocol-host.ts'
import { seededRandom } from '../support/random.ts'
import {
  binary,
  close,
  continuation,
  cut,
  describeMessage,
  type FrameSpec,
  fragments,
  ping,
  pong,
  text,
  unfinished,
} from '../support/wire.ts'

/*
 * Messages that are handed on piece by piece, out of the protocol.
 */

interface Received {
  readonly isBinary: boolean
  readonly pieces: (string | Buffer)[]
  isWhole: boolean
}

/** Keeps all that comes. */
class Recorder implements PieceHandler {
  full = false
  readonly messages: Received[] = []
  /** What is done with each call. */
  on: (what: 'start' | 'piece' | 'end') => void = () => {}

  onStart(isBinary: boolean): void {
    expect(this.messages.at(-1)?.isWhole ?? true).toBe(true)
    this.messages.push({ isBinary, pieces: [], isWhole: false })
    this.on('start')
  }

  onPiece(data: string | Buffer): void {
    const message = this.messages.at(-1)!
    expect(message.isWhole).toBe(false)
    expect(typeof data === 'string').toBe(!message.isBinary)
    expect(data.length).toBeGreaterThan(0)
    message.pieces.push(data)
    this.on('piece')
  }

  onEnd(): void {
    this.messages.at(-1)!.isWhole = true
    this.on('end')
  }

  /** The messages put together. */
  get whole(): (string | Buffer)[] {
    return this.messages.filter(({ isWhole }) => isWhole).map(joined)
  }

  expect(...messages: (string | Uint8Array)[]): void {
    expect(this.messages.map(({ isWhole }) => isWhole)).toEqual(messages.map(() => true))
    expect(this.whole.map(describeMessage)).toEqual(messages.map(describeMessage))
  }
}

function joined({ isBinary, pieces }: Received): string | Buffer {
  if (isBinary) return Buffer.concat(pieces as Buffer[])
  // Each for itself: a character that was cut would not survive it.
  return pieces.map((piece) => Buffer.from(piece as string).toString()).join('')
}

function open(role: Role, options: Partial<ProtocolOptions> = {}): { endpoint: Endpoint; recorder: Recorder } {
  const endpoint = new Endpoint(role, options)
  const recorder = new Recorder()
  endpoint.host.pieceHandler = recorder
  return { endpoint, recorder }
}

function openCompressed(role: Role, options: Partial<ProtocolOptions> = {}, takeover = false) {
  const windows = { serverMaxWindowBits: 15, clientMaxWindowBits: 15 }
  const agreement = { ...windows, serverNoContextTakeover: !takeover, clientNoContextTakeover: !takeover }
  const deflate = deflateProfile(agreement, { threshold: 0, level: 3, memLevel: 8 }, role)
  return open(role, { allowRsv1: true, deflate, ...options })
}

const MIXED = 'Grüße, 世界! 😀\uFEFF\u{10FFFF} ASCII at the end'
const BYTES = Buffer.from(Array.from({ length: 300 }, (_, index) => index % 256))

describe.each(ROLES)('messages in pieces: %s', (role) => {
  it('are not disturbed by another connection that is read within a handler', () => {
    const { endpoint, recorder } = open(role)
    const other = new Endpoint(role)
    recorder.on = () => other.receive(text('in between'))
    endpoint.receive(text('one'), binary('two'), ...fragments(Opcode.TEXT, ['thr', 'ee']))
    recorder.expect('one', Buffer.from('two'), 'three')
  })

  const STREAM: readonly FrameSpec[] = [
    text(MIXED),
    binary(BYTES),
    text(''),
    binary(''),
    ...fragments(Opcode.TEXT, cut(Buffer.from(MIXED), 5)),
    ...fragments(Opcode.TEXT, ['', MIXED, '', '']),
    unfinished(binary('one')),
    ping('between'),
    unfinished(continuation('')),
    pong('between'),
    continuation('two'),
  ]
  const MESSAGES = [MIXED, BYTES, '', Buffer.alloc(0), MIXED, MIXED, Buffer.from('onetwo')]

  it('are the same however they are cut', () => {
    const random = seededRandom(7)
    const bytes = open(role).endpoint.encode(...STREAM)
    const ways = [
      ...Array.from({ length: 40 }, (_, index) => chunksOf(bytes, index + 1)),
      ...Array.from({ length: bytes.length }, (_, at) => chunksAt(bytes, [at])),
      ...Array.from({ length: 60 }, () => randomChunks(bytes, 12, random)),
    ]
    for (const chunks of ways) {
      const { endpoint, recorder } = open(role)
      endpoint.receiveChunks(chunks)
      recorder.expect(...MESSAGES)
      endpoint.expectSent(pong('between'))
      expect(endpoint.host.pongs).toEqual([Buffer.from('between')])
      endpoint.expectMessages()
      endpoint.expectOpen()
    }
  })

  it('come as they arrive, before their end', () => {
    const { endpoint, recorder } = open(role)
    endpoint.receive(unfinished(text('one')))
    expect(recorder.messages).toEqual([{ isBinary: false, pieces: ['one'], isWhole: false }])
    endpoint.receive(unfinished(continuation('two')), ping(), unfinished(continuation('three')))
    expect(recorder.messages[0]!.pieces).toEqual(['one', 'two', 'three'])
    endpoint.expectSent(pong())
    endpoint.receive(continuation(''))
    recorder.expect('onetwothree')
  })

  it('nothing comes while it is held', () => {
    const { endpoint, recorder } = open(role)
    recorder.on = (what) => what === 'piece' && endpoint.protocol.hold()
    endpoint.receive(unfinished(text('one')), unfinished(continuation('two')), continuation('three'), text('four'))
    expect(recorder.messages[0]!.pieces).toEqual(['one'])
    // There is nothing to resume but what is read anyway.
    endpoint.protocol.resumePieces()
    endpoint.protocol.release()
    expect(recorder.messages[0]!.pieces).toEqual(['one', 'two'])
    endpoint.protocol.release()
    recorder.expect('onetwothree')
    endpoint.protocol.release()
    recorder.expect('onetwothree', 'four')
    endpoint.protocol.resumePieces()
  })

  it('short pieces do not hold on to the chunk that they came in, long ones are views', () => {
    const { endpoint, recorder } = open(role)
    endpoint.receive(binary(Buffer.alloc(100)), ...Array.from({ length: 500 }, () => pong(Buffer.alloc(100))))
    endpoint.receive(binary(Buffer.alloc(50_000)))
    const [short, long] = recorder.messages.map(({ pieces }) => pieces[0] as Buffer)
    expect(short!.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize)
    expect(long!.buffer.byteLength).toBeLessThan(50_100)
    expect(long!.byteOffset).toBeGreaterThan(0)
  })

  it('text fails at its first bad byte, wherever it is cut', () => {
    const bad = Buffer.concat([Buffer.from('fine €'), Buffer.of(0xed, 0xa0), Buffer.from('never seen')])
    const at = bad.indexOf(0xa0)
    const { endpoint, recorder } = open(role)
    const frames = [unfinished(text(bad.subarray(0, at))), unfinished(continuation(bad.subarray(at, at + 1)))]
    endpoint.receive(frames[0]!)
    endpoint.expectOpen()
    expect(recorder.messages.map(({ pieces }) => pieces)).toEqual([['fine €']])
    endpoint.receive(frames[1]!)
    endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
    expect(recorder.messages[0]!.isWhole).toBe(false)
  })

  it('text that ends inside a character fails', () => {
    for (const frames of [
      [text(Buffer.of(0x41, 0xe2, 0x82))],
      fragments(Opcode.TEXT, [Buffer.of(0xf0), Buffer.of(0x9f)]),
    ]) {
      const { endpoint, recorder } = open(role)
      endpoint.receive(...frames)
      endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
      expect(recorder.messages).toHaveLength(1)
      expect(recorder.whole).toEqual([])
    }
  })

  it('limits count where they are given', () => {
    const { endpoint, recorder } = open(role, { maxMessageBytes: 10 })
    endpoint.receive(binary(Buffer.alloc(10)), unfinished(text('12345')), unfinished(continuation('67890')))
    endpoint.expectOpen()
    endpoint.receive(unfinished(continuation('1')))
    endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
    expect(recorder.messages[1]!.pieces).toEqual(['12345', '67890'])

    const other = open(role, { maxFragments: 2 })
    other.endpoint.receive(...fragments(Opcode.TEXT, ['1', '2']), unfinished(text('1')), unfinished(continuation('2')))
    other.endpoint.expectOpen()
    other.endpoint.receive(continuation('3'))
    other.endpoint.expectFailedWith(1008, 'ERR_TOO_MANY_FRAGMENTS')

    const long = open(role, { maxMessageBytes: Number.POSITIVE_INFINITY, maxFrameBytes: Number.POSITIVE_INFINITY })
    long.endpoint.receive({ ...binary('begins'), declaredLength: 2 ** 40 })
    long.endpoint.expectOpen()
    expect(long.recorder.messages[0]!.pieces).toEqual([Buffer.from('begins')])
  })

  it('the order of frames counts as well', () => {
    const inside = open(role)
    inside.endpoint.receive(unfinished(text('one')), text('two'))
    inside.endpoint.expectFailedWith(1002, 'ERR_EXPECTED_CONTINUATION')
    const without = open(role)
    without.endpoint.receive(continuation('one'))
    without.endpoint.expectFailedWith(1002, 'ERR_UNEXPECTED_CONTINUATION')
    expect(without.recorder.messages).toEqual([])
  })

  it.each(['start', 'piece', 'end'] as const)('a handler may end it all: at the %s', (when) => {
    for (const end of ['fail', 'abandon'] as const) {
      const { endpoint, recorder } = open(role)
      recorder.on = (what) => {
        if (what === when) end === 'fail' ? endpoint.protocol.fail(1011, 'enough') : endpoint.protocol.abandon()
      }
      endpoint.receive(text('one'), text('two'))
      expect(recorder.messages).toEqual([
        { isBinary: false, pieces: when === 'start' ? [] : ['one'], isWhole: when === 'end' },
      ])
    }
  })

  it('a Close frame between two of them ends it', () => {
    const { endpoint, recorder } = open(role)
    endpoint.receive(unfinished(text('one')), close(1000), continuation('two'))
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000)
    expect(recorder.messages).toEqual([{ isBinary: false, pieces: ['one'], isWhole: false }])
  })
})

// ── compressed ──────────────────────────────────────────────────────────────────────────────────────────────────────

const KIB = 1_024
const RSV1 = 4

function records(size: number): string {
  let all = ''
  for (let index = 0; all.length < size; index++) all += `{"id":${index},"name":"Zoë ${(index * 7_919) % 10_007}"},`
  return all.slice(0, size)
}

/** A message that was compressed, in fragments of this size. */
function compressedFrames(opcode: Opcode, payload: Buffer, size: number): FrameSpec[] {
  const [first, ...others] = fragments(opcode, cut(payload, size))
  return [{ ...first!, rsv: RSV1 }, ...others]
}

/** Each chunk as soon as nothing is being inflated. */
async function receiveAll(endpoint: Endpoint, chunks: Iterable<Buffer>): Promise<void> {
  for (const chunk of chunks) {
    await endpoint.host.idle()
    endpoint.protocol.receive(chunk)
  }
  await endpoint.host.idle()
}

describe.each(ROLES)('compressed messages in pieces: %s', (role) => {
  it.each([false, true])('are the same however they are cut; context takeover: %s', async (takeover) => {
    const random = seededRandom(3)
    const messages = [records(100), records(90_000), '', records(500_000), 'short', records(90_000), records(600)]
    for (const size of [3, 900, 1_000_000]) {
      const peer = new DeflatePeer({ noContextTakeover: !takeover })
      const { endpoint, recorder } = openCompressed(role, {}, takeover)
      for (const [index, message] of messages.entries()) {
        const compressed = await peer.compress(message)
        const opcode = index % 2 === 0 ? Opcode.TEXT : Opcode.BINARY
        const bytes = endpoint.encode(...compressedFrames(opcode, compressed, size), text('plain'))
        await receiveAll(endpoint, randomChunks(bytes, 8, random))
      }
      endpoint.expectOpen()
      recorder.expect(
        ...messages.flatMap((message, index) => [index % 2 === 0 ? message : Buffer.from(message), 'plain']),
      )
      // None was held as a whole, but for those that are short.
      expect(recorder.messages[6]!.pieces.length).toBeGreaterThan(1)
      peer.end()
    }
  })

  it('come as they arrive, before their end', async () => {
    const peer = new DeflatePeer()
    const { endpoint, recorder } = openCompressed(role)
    const payload = await peer.compress(records(400_000))
    const [first, ...others] = compressedFrames(Opcode.TEXT, payload, 10_000)
    endpoint.receive(first!)
    expect(endpoint.host.inflating).toBe(false)
    while (recorder.messages[0]!.pieces.length === 0) await new Promise((resolve) => setImmediate(resolve))
    endpoint.receive(...others)
    await endpoint.host.idle()
    recorder.expect(records(400_000))
    peer.end()
  })

  it('what comes out stops while as much waits as may, inside of one piece too', async () => {
    const peer = new DeflatePeer()
    const { endpoint, recorder } = openCompressed(role)
    const size = 16 * KIB * KIB
    const bomb = await peer.compress(Buffer.alloc(size))
    let bytes = 0
    recorder.full = true
    recorder.on = (what) => {
      if (what === 'piece') bytes += recorder.messages[0]!.pieces.pop()!.length
    }
    endpoint.receive(...compressedFrames(Opcode.BINARY, bomb, 1_000_000))
    let most = 0
    while (recorder.messages[0]?.isWhole !== true) {
      const before = bytes
      endpoint.protocol.resumePieces()
      await new Promise((resolve) => setImmediate(resolve))
      most = Math.max(most, bytes - before)
    }
    await endpoint.host.idle()
    expect(bytes).toBe(size)
    expect(most).toBeLessThanOrEqual(64 * KIB)
    endpoint.expectOpen()
    peer.end()
  })

  it('text that is not valid fails, at once or later', async () => {
    for (const size of [100, 200_000]) {
      for (const [bad, expected] of [
        [Buffer.of(0xff), 0],
        [Buffer.of(0xe2, 0x82), 0],
      ] as const) {
        const peer = new DeflatePeer()
        const { endpoint, recorder } = openCompressed(role)
        const payload = await peer.compress(Buffer.concat([Buffer.from('x'.repeat(size)), bad]))
        endpoint.receive(...compressedFrames(Opcode.TEXT, payload, size === 100 ? 1_000_000 : 100), text('never'))
        await endpoint.host.idle()
        endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
        expect(recorder.whole).toHaveLength(expected)
        peer.end()
      }
    }
  })

  it('the limit is on what comes out', async () => {
    const peer = new DeflatePeer({ noContextTakeover: true })
    const { endpoint, recorder } = openCompressed(role, { maxMessageBytes: 300_000 })
    endpoint.receive(...compressedFrames(Opcode.BINARY, await peer.compress(Buffer.alloc(300_000)), 100))
    await endpoint.host.idle()
    recorder.expect(Buffer.alloc(300_000))
    endpoint.receive(...compressedFrames(Opcode.BINARY, await peer.compress(Buffer.alloc(300_001)), 100))
    await endpoint.host.idle()
    endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
    peer.end()
  })

  it('the connection may end while one is inflated; nothing more comes then', async () => {
    const peer = new DeflatePeer({ noContextTakeover: true })
    const payload = await peer.compress(records(500_000))
    for (const end of ['fail', 'abandon', 'receiveEnd'] as const) {
      for (const sooner of [true, false]) {
        const { endpoint, recorder } = openCompressed(role)
        const finish = (): unknown => (end === 'fail' ? endpoint.protocol.fail(1011, '') : endpoint.protocol[end]())
        recorder.on = (what) => what === 'piece' && finish()
        endpoint.receive(...compressedFrames(Opcode.TEXT, payload, 1_000_000))
        expect(endpoint.host.inflating).toBe(true)
        if (sooner) finish()
        await endpoint.host.idle()
        expect(recorder.messages[0]!.pieces).toHaveLength(sooner ? 0 : 1)
        expect(recorder.whole).toEqual([])
        expect(endpoint.host.inflating).toBe(false)
      }
    }
    peer.end()
  })

  it('many short fragments are inflated together', async () => {
    const peer = new DeflatePeer()
    const { endpoint, recorder } = openCompressed(role)
    const payload = await peer.compress(records(20_000))
    endpoint.receive(...compressedFrames(Opcode.BINARY, payload, 1))
    await endpoint.host.idle()
    recorder.expect(Buffer.from(records(20_000)))
    expect(recorder.messages[0]!.pieces.length).toBeLessThan(payload.length / 10)
    peer.end()
  })
})
