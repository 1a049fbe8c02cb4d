import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Opcode, type Role } from '../../src/constants.ts'
import { type DeflateProfile, deflateProfile, MessageDeflate } from '../../src/deflate.ts'
import { PreparedMessage } from '../../src/prepared.ts'
import { MessageSender, type SenderOptions } from '../../src/sender.ts'
import { DeflatePeer } from '../support/deflate-peer.ts'
import { MemoryHost, ROLES } from '../support/protocol-host.ts'
import { Queue } from '../support/queue.ts'
import { seededRandom } from '../support/random.ts'
import {
  binary,
  continuation,
  describeFrame,
  type FrameSpec,
  parseFrames,
  ping,
  text,
  type WireFrame,
} from '../support/wire.ts'

/** Compressed in the pool, and much shorter then. */
const LONG = 'Compressed in the thread pool. '.repeat(4_000)
/** Compressed at once. */
const SHORT = 'Compressed at once. '.repeat(60)

function profileOf(role: Role, wanted: object = {}, takeover = false): DeflateProfile {
  const windows = { serverMaxWindowBits: 15, clientMaxWindowBits: 15 }
  const agreement = { ...windows, serverNoContextTakeover: !takeover, clientNoContextTakeover: !takeover }
  return deflateProfile(agreement, { threshold: 1_000, level: 3, memLevel: 8, ...wanted }, role)
}

interface SetupOptions extends Omit<Partial<SenderOptions>, 'role'> {
  /** False: no compression was agreed on. */
  readonly compression?: boolean
  readonly threshold?: number
  readonly evenIfLarger?: boolean
  readonly takeover?: boolean
}

/** A sender, and what comes out of it as its peer understands it. */
function setup(role: Role, options: SetupOptions = {}) {
  const { compression = true, threshold, evenIfLarger, takeover = false, ...senderOptions } = options
  const wanted = { ...(threshold === undefined ? {} : { threshold }), ...(evenIfLarger && { evenIfLarger }) }
  const profile = profileOf(role, wanted, takeover)
  const host = new MemoryHost()
  const emptied = new Queue<number>()
  host.onQueueEmpty = emptied.push
  const deflate = compression ? new MessageDeflate(profile) : undefined
  const sender = new MessageSender({ role, ...senderOptions }, host, deflate)
  const peer = new DeflatePeer({ receivedNoContextTakeover: !takeover })
  onTestFinished(() => peer.end())
  let taken = 0
  const takeFrames = (): WireFrame[] => {
    const pieces = host.pieces.slice(taken)
    taken = host.pieces.length
    return parseFrames(Buffer.concat(pieces))
  }
  /** Frames in one line each, those that were compressed with a `+`, what is in them inflated. */
  const takeSent = async (): Promise<string[]> => {
    const lines: string[] = []
    for (const frame of takeFrames()) {
      expect(frame.maskingKey !== undefined).toBe(role === 'client')
      const isCompressed = frame.rsv === 4
      const payload = isCompressed ? await peer.inflate(frame.payload) : frame.payload
      lines.push(sent({ ...frame, payload, rsv: isCompressed ? 0 : frame.rsv }, isCompressed))
    }
    return lines
  }
  const expectSent = async (...lines: string[]): Promise<void> => expect(await takeSent()).toEqual(lines)
  return { sender, host, emptied, profile, takeFrames, expectSent }
}

function sent(frame: FrameSpec, isCompressed = false): string {
  return `${isCompressed ? '+ ' : '  '}${describeFrame(frame)}`
}
const compressed = (frame: FrameSpec): string => sent(frame, true)

function noise(size: number): Buffer {
  const random = seededRandom(size)
  return Buffer.from(Array.from({ length: size }, () => random(256)))
}

describe.each(ROLES)('what a %s compresses', (role) => {
  it('messages from the threshold on', async () => {
    const { sender, expectSent } = setup(role)
    for (const size of [0, 1, 999, 1_000, 1_001]) {
      sender.sendText('t'.repeat(size), undefined)
      sender.sendPayload(Opcode.BINARY, Buffer.alloc(size), undefined)
    }
    await expectSent(
      ...[0, 1, 999].flatMap((size) => [sent(text('t'.repeat(size))), sent(binary(Buffer.alloc(size)))]),
      ...[1_000, 1_001].flatMap((size) => [compressed(text('t'.repeat(size))), compressed(binary(Buffer.alloc(size)))]),
    )
  })

  it('the threshold is in bytes', async () => {
    const { sender, expectSent } = setup(role)
    const texts = [
      '€'.repeat(333),
      '€'.repeat(334),
      'ü'.repeat(499),
      'ü'.repeat(500),
      '😀'.repeat(249),
      '😀'.repeat(250),
    ]
    for (const each of texts) sender.sendText(each, undefined)
    await expectSent(...texts.map((each) => sent(text(each), Buffer.byteLength(each) >= 1_000)))
  })

  it('what it is told to, and not what it is told not to', async () => {
    const { sender, expectSent } = setup(role)
    const few = 'a'.repeat(100)
    const many = 'a'.repeat(2_000)
    sender.sendText(few, true)
    sender.sendPayload(Opcode.BINARY, Buffer.from(few), true)
    sender.sendText(many, false)
    sender.sendPayload(Opcode.BINARY, Buffer.from(many), false)
    sender.sendText(LONG, false)
    await expectSent(
      ...[text(few), binary(few)].map(compressed),
      ...[text(many), binary(many), text(LONG)].map((frame) => sent(frame)),
    )
  })

  it('nothing that is empty, and nothing that would not become shorter', async () => {
    const { sender, expectSent } = setup(role)
    const frames = [text(''), text('x'), binary(noise(2_000)), binary(noise(20_000))]
    sender.sendText('', true)
    sender.sendText('x', true)
    sender.sendPayload(Opcode.BINARY, noise(2_000), undefined)
    sender.sendPayload(Opcode.BINARY, noise(20_000), undefined)
    await expectSent(...frames.map((frame) => sent(frame)))
  })

  it('also what becomes longer, where that is wanted', async () => {
    const { sender, expectSent } = setup(role, { threshold: 0, evenIfLarger: true })
    sender.sendText('x', undefined)
    sender.sendPayload(Opcode.BINARY, noise(2_000), undefined)
    sender.sendText('', undefined)
    await expectSent(compressed(text('x')), compressed(binary(noise(2_000))), compressed(text('')))
  })

  it('nothing where nothing was agreed on', async () => {
    const { sender, host, expectSent } = setup(role, { compression: false })
    sender.sendText(SHORT, true)
    sender.sendPayload(Opcode.BINARY, Buffer.from(LONG), true)
    expect(sender.queuedBytes).toBe(0)
    await expectSent(sent(text(SHORT)), sent(binary(LONG)))
    expect(host.queues).toEqual([])
  })
})

describe.each(ROLES)('the order of what a %s sends', (role) => {
  it('nothing overtakes a message that is being compressed, but control frames do', async () => {
    const { sender, emptied, expectSent } = setup(role)
    sender.sendText('first', undefined)
    sender.sendText(LONG, undefined)
    sender.sendText('plain', undefined)
    sender.sendText(SHORT, undefined)
    sender.sendPayload(Opcode.BINARY, Buffer.from(LONG), undefined)
    sender.sendPayload(Opcode.BINARY, Buffer.alloc(30_000), false)
    sender.sendText(LONG, false)
    sender.sendControl(Opcode.PING, Buffer.from('overtakes'))
    await expectSent(sent(text('first')), sent(ping('overtakes')))
    await emptied.next()
    await expectSent(
      compressed(text(LONG)),
      sent(text('plain')),
      compressed(text(SHORT)),
      compressed(binary(LONG)),
      sent(binary(Buffer.alloc(30_000))),
      sent(text(LONG)),
    )
    expect(emptied.all).toHaveLength(1)
  })

  it('with context takeover each message refers to the one before it on the wire', async () => {
    const { sender, emptied, expectSent } = setup(role, { takeover: true, threshold: 1 })
    const texts = [SHORT, LONG, `${SHORT}, again`, 'plain', LONG, LONG, SHORT]
    for (const each of texts) sender.sendText(each, each !== 'plain')
    await emptied.next()
    await expectSent(...texts.map((each) => sent(text(each), each !== 'plain')))
  })

  it('what waits is counted', async () => {
    const { sender, emptied } = setup(role)
    expect(sender.queuedBytes).toBe(0)
    sender.sendText(SHORT, undefined)
    expect(sender.queuedBytes).toBe(0)
    sender.sendText(LONG, undefined)
    expect(sender.queuedBytes).toBe(LONG.length)
    sender.sendText('€', undefined)
    sender.sendPayload(Opcode.BINARY, Buffer.alloc(7), undefined)
    expect(sender.queuedBytes).toBe(LONG.length + 10)
    expect(await emptied.next()).toBe(LONG.length + 10)
    expect(sender.queuedBytes).toBe(0)
    sender.sendText(LONG, undefined)
    expect(await emptied.next()).toBe(LONG.length)
  })

  it('short bytes that wait are copied', async () => {
    const { sender, emptied, expectSent } = setup(role)
    sender.sendText(LONG, undefined)
    const payloads = [Buffer.alloc(10, 'a'), Buffer.alloc(16_384, 'a')]
    for (const payload of payloads) {
      sender.sendPayload(Opcode.BINARY, payload, undefined)
      payload.fill('b')
    }
    await emptied.next()
    await expectSent(compressed(text(LONG)), sent(binary('a'.repeat(10))), compressed(binary('a'.repeat(16_384))))
  })

  it('whenSent calls back behind what waits, at once when nothing does', async () => {
    const { sender, emptied, expectSent } = setup(role)
    const events: string[] = []
    sender.whenSent(() => events.push('nothing waits'))
    expect(events).toEqual(['nothing waits'])
    sender.sendText(LONG, undefined)
    sender.whenSent(() => {
      events.push('behind the long one')
      sender.sendControl(Opcode.PING, Buffer.from('in between'))
    })
    sender.sendText('next', undefined)
    sender.whenSent(() => events.push('behind the next'))
    expect(events).toHaveLength(1)
    await emptied.next()
    expect(events).toEqual(['nothing waits', 'behind the long one', 'behind the next'])
    await expectSent(compressed(text(LONG)), sent(ping('in between')), sent(text('next')))
  })

  it('what is given up is not sent, nor is what was being compressed', async () => {
    const { sender, host, emptied, expectSent } = setup(role)
    const events: string[] = []
    sender.cancel()
    sender.sendText(LONG, undefined)
    sender.sendText('never', undefined)
    sender.whenSent(
      () => events.push('sent'),
      () => events.push('given up'),
    )
    sender.cancel()
    expect(events).toEqual(['given up'])
    expect(sender.queuedBytes).toBe(0)
    // What comes behind it has an outbox of its own, and is behind it in the pool as well.
    sender.sendText(`${LONG}!`, undefined)
    await emptied.next()
    await expectSent(compressed(text(`${LONG}!`)))
    expect(emptied.all).toEqual([LONG.length + 1])
    expect(host.ended).toBe(0)
    expect(events).toEqual(['given up'])
  })

  it('may be given up in the middle, by what is done on the way', async () => {
    const { sender, emptied, expectSent } = setup(role)
    const cancelled = new Queue<string>()
    sender.sendText(LONG, undefined)
    sender.whenSent(() => sender.cancel())
    sender.whenSent(
      () => cancelled.push('never'),
      () => cancelled.push('given up'),
    )
    sender.sendText('never', undefined)
    expect(await cancelled.next()).toBe('given up')
    await expectSent(compressed(text(LONG)))
    expect(emptied.all).toEqual([])
  })

  it('compression may be put off', async () => {
    const work: (() => void)[] = []
    const { sender, emptied, expectSent } = setup(role, { defer: (later) => work.push(later) })
    sender.sendText(SHORT, undefined)
    sender.sendText('plain', undefined)
    sender.sendText(SHORT, undefined)
    expect(sender.queuedBytes).toBe(2 * SHORT.length + 5)
    await expectSent()
    work.shift()!()
    // Once is enough for all that wait.
    await expectSent(compressed(text(SHORT)), sent(text('plain')), compressed(text(SHORT)))
    expect(work).toEqual([])
    expect(await emptied.next()).toBe(2 * SHORT.length + 5)
  })

  it('is put off again and again when many wait', async () => {
    const work: (() => void)[] = []
    const { sender, emptied, takeFrames } = setup(role, { defer: (later) => work.push(later) })
    const count = 200
    for (let message = 0; message < count; message++) sender.sendText(SHORT, undefined)
    const parts: number[] = []
    while (sender.isWaiting) {
      // One at a time: nothing is put off that waits for another.
      expect(work).toHaveLength(1)
      work.shift()!()
      parts.push(takeFrames().length)
    }
    expect(parts.reduce((sum, part) => sum + part, 0)).toBe(count)
    expect(Math.max(...parts)).toBeLessThanOrEqual(20)
    expect(await emptied.next()).toBe(count * SHORT.length)
  })
})

describe('a message that was prepared', () => {
  it('goes to each receiver as that has agreed on', async () => {
    const message = new PreparedMessage(SHORT)
    const plain = setup('server', { compression: false })
    const forgetful = setup('server')
    const keeping = setup('server', { takeover: true })
    const demanding = setup('server', { threshold: 100_000 })
    for (const { sender } of [plain, forgetful, keeping, demanding]) sender.sendPrepared(message)
    for (const { expectSent } of [plain, demanding]) await expectSent(sent(text(SHORT)))
    for (const { expectSent } of [forgetful, keeping]) await expectSent(compressed(text(SHORT)))
  })

  it('the same bytes go to all who have agreed on the same', async () => {
    for (const data of [SHORT, LONG]) {
      const first = setup('server')
      const message = new PreparedMessage(data)
      first.sender.sendPrepared(message)
      const frame = message.compressedFor(first.profile)
      await new Promise<void>((resolve) => frame.whenReady(resolve))
      expect(first.host.pieces).toHaveLength(1)
      expect(first.host.pieces[0]).toBe(frame.frame)
    }
  })

  it('is compressed or not as it says itself', async () => {
    const { sender, expectSent } = setup('server')
    sender.sendPrepared(new PreparedMessage('a'.repeat(100), true))
    sender.sendPrepared(new PreparedMessage('a'.repeat(5_000), false))
    sender.sendPrepared(new PreparedMessage('', true))
    await expectSent(compressed(text('a'.repeat(100))), sent(text('a'.repeat(5_000))), sent(text('')))
  })

  it('keeps its place among the others', async () => {
    const { sender, emptied, expectSent } = setup('server', { takeover: true })
    const messages = [LONG, 'plain', SHORT, noise(70_000), LONG]
    sender.sendText(LONG, undefined)
    for (const message of messages) {
      sender.sendPrepared(new PreparedMessage(message))
      sender.sendText(`behind it, ${SHORT}`, undefined)
    }
    await expectSent()
    await emptied.next()
    await expectSent(
      compressed(text(LONG)),
      ...messages.flatMap((message) => {
        const frame = typeof message === 'string' ? text(message) : binary(message)
        return [sent(frame, message === LONG || message === SHORT), compressed(text(`behind it, ${SHORT}`))]
      }),
    )
  })

  it('one that is ready needs nobody to wait', async () => {
    const { sender, profile, expectSent } = setup('server')
    const message = new PreparedMessage(LONG)
    const frame = message.compressedFor(profile)
    await new Promise<void>((resolve) => frame.whenReady(resolve))
    // Another profile, another frame: what counts is the object.
    const other = new MessageSender({ role: 'server' }, new MemoryHost(), new MessageDeflate(profile))
    other.sendPrepared(message)
    expect(other.queuedBytes).toBe(0)
    sender.sendPrepared(new PreparedMessage('behind nothing'))
    await expectSent(sent(text('behind nothing')))
  })

  it('is not sent to who has given up', async () => {
    const { sender, profile, emptied, expectSent } = setup('server')
    const message = new PreparedMessage(LONG)
    sender.sendPrepared(message)
    sender.cancel()
    await new Promise<void>((resolve) => message.compressedFor(profile).whenReady(resolve))
    await expectSent()
    expect(emptied.all).toEqual([])
  })
})

describe('frames of a client', () => {
  it('have the keys that they are given, compressed ones too', () => {
    let key = 0
    const { sender, takeFrames } = setup('client', { nextMaskingKey: () => ++key })
    sender.sendText(SHORT, undefined)
    sender.sendPayload(Opcode.BINARY, noise(20_000), undefined)
    sender.sendControl(Opcode.PONG, Buffer.alloc(0))
    expect(takeFrames().map(({ maskingKey }) => maskingKey!.readInt32LE())).toEqual([1, 2, 3])
  })

  it('leave the bytes of the user as they are', async () => {
    const { sender, emptied } = setup('client')
    const payloads = [Buffer.from(SHORT), noise(20_000), Buffer.from(LONG), noise(70_000)]
    const copies = payloads.map((payload) => Buffer.from(payload))
    for (const payload of payloads) sender.sendPayload(Opcode.BINARY, payload, undefined)
    await emptied.next()
    for (const [index, payload] of payloads.entries()) expect(payload.equals(copies[index]!)).toBe(true)
  })
})

describe.each(ROLES)('a message that a %s sends in fragments', (role) => {
  it('is plain unless its first fragment says otherwise', () => {
    const { sender, takeFrames } = setup(role)
    expect(sender.isFragmenting).toBe(false)
    sender.sendFragment(Opcode.TEXT, Buffer.from('one '), { isLast: false })
    expect(sender.isFragmenting).toBe(true)
    sender.sendControl(Opcode.PING, Buffer.alloc(0))
    sender.sendFragment(Opcode.TEXT, Buffer.from('two '), { isLast: false, compress: true })
    sender.sendFragment(Opcode.TEXT, Buffer.from('three'), { isLast: true })
    expect(sender.isFragmenting).toBe(false)
    sender.sendFragment(Opcode.BINARY, Buffer.from('whole'), { isLast: true })
    expect(takeFrames().map((frame) => describeFrame(frame))).toEqual(
      [
        { ...text('one '), fin: false },
        ping(),
        { ...continuation('two '), fin: false },
        continuation('three'),
        binary('whole'),
      ].map(describeFrame),
    )
  })

  it.each([true, false])(
    'is compressed piece by piece, each may refer to those before (takeover: %s)',
    async (takeover) => {
      const { sender, takeFrames } = setup(role, { takeover, threshold: 1_000_000 })
      const peer = new DeflatePeer({ receivedNoContextTakeover: !takeover })
      onTestFinished(() => peer.end())
      for (const message of ['first', 'second']) {
        const parts = [`${message}, ${SHORT}`, SHORT, '', SHORT]
        for (const [index, part] of parts.entries()) {
          sender.sendFragment(Opcode.TEXT, Buffer.from(part), { isLast: index === 3, compress: true })
        }
        const frames = takeFrames()
        expect(frames.map(({ opcode, rsv, fin }) => [opcode, rsv, fin])).toEqual([
          [Opcode.TEXT, 4, false],
          [Opcode.CONTINUATION, 0, false],
          [Opcode.CONTINUATION, 0, false],
          [Opcode.CONTINUATION, 0, true],
        ])
        expect(frames[1]!.payload.length).toBeLessThan(SHORT.length / 20)
        const whole = await peer.inflate(Buffer.concat(frames.map(({ payload }) => payload)))
        expect(whole.toString()).toBe(parts.join(''))
      }
    },
  )

  it('waits like any other message, and its fragments are copied then', async () => {
    const { sender, emptied, expectSent } = setup(role)
    sender.sendText(LONG, undefined)
    const part = Buffer.from('part')
    sender.sendFragment(Opcode.BINARY, part, { isLast: false })
    part.fill('x')
    sender.sendFragment(Opcode.BINARY, part, { isLast: true })
    expect(sender.queuedBytes).toBe(LONG.length + 8)
    await emptied.next()
    await expectSent(compressed(text(LONG)), sent({ ...binary('part'), fin: false }), sent(continuation('xxxx')))
  })
})

describe.each(ROLES)('a message whose fragments a %s is given one by one', (role) => {
  interface Turn {
    readonly write: (payload: string, isLast: boolean) => Promise<void>
    readonly leave: () => void
  }

  /** Begins a message; its turn comes into the queue. */
  function begin(sender: MessageSender, compress: boolean, events: string[] = []): Queue<Turn> {
    const turns = new Queue<Turn>()
    sender.sendInFragments(
      Opcode.TEXT,
      compress,
      ({ write, leave }) => {
        events.push('turn')
        turns.push({
          write: (payload, isLast) =>
            new Promise((resolve, reject) => {
              write(Buffer.from(payload), isLast, (error) => (error === undefined ? resolve() : reject(error)))
            }),
          leave,
        })
      },
      () => events.push('cancelled'),
    )
    return turns
  }

  it('has its turn at once, and everything else waits until it is through', async () => {
    const { sender, host, expectSent } = setup(role)
    expect(sender.isWaiting).toBe(false)
    const turn = begin(sender, false).all[0]!
    expect(sender.isWaiting).toBe(true)
    await turn.write('one', false)
    sender.sendText('behind it', undefined)
    sender.sendText(SHORT, undefined)
    const next = begin(sender, false)
    sender.sendText('behind both', undefined)
    sender.sendControl(Opcode.PING, Buffer.from('between'))
    await turn.write('two', false)
    expect(sender.queuedBytes).toBe(9 + SHORT.length + 11)
    await expectSent(
      sent({ ...text('one'), fin: false }),
      sent(ping('between')),
      sent({ ...continuation('two'), fin: false }),
    )
    await turn.write('', true)
    await expectSent(sent(continuation('')), sent(text('behind it')), compressed(text(SHORT)))
    expect(host.queues).toEqual([])
    await next.all[0]!.write('at once the last', true)
    await expectSent(sent(text('at once the last')), sent(text('behind both')))
    expect(sender.isWaiting).toBe(false)
  })

  it('waits for what was sent before', async () => {
    const { sender, emptied, expectSent } = setup(role)
    sender.sendText(LONG, undefined)
    const turns = begin(sender, false)
    sender.sendText('behind it', undefined)
    expect(turns.all).toEqual([])
    const turn = await turns.next()
    await expectSent(compressed(text(LONG)))
    await turn.write('message', true)
    await emptied.next()
    await expectSent(sent(text('message')), sent(text('behind it')))
  })

  it('may leave its place to the next', async () => {
    const { sender, expectSent } = setup(role)
    const turn = begin(sender, false).all[0]!
    sender.sendText('behind it', undefined)
    turn.leave()
    await expectSent(sent(text('behind it')))
    expect(sender.isWaiting).toBe(false)
  })

  it.each([true, false])('is compressed piece by piece, the long ones in the pool (takeover: %s)', async (takeover) => {
    const { sender, takeFrames, expectSent } = setup(role, { takeover, threshold: 1_000_000 })
    const peer = new DeflatePeer({ receivedNoContextTakeover: !takeover })
    onTestFinished(() => peer.end())
    for (const message of ['first', 'second']) {
      const turn = begin(sender, true).all[0]!
      const parts = [`${message}, ${SHORT}`, LONG, SHORT, LONG, '']
      for (const [index, part] of parts.entries()) await turn.write(part, index === 4)
      const frames = takeFrames()
      expect(frames.map(({ opcode, rsv, fin }) => [opcode, rsv, fin])).toEqual([
        [Opcode.TEXT, 4, false],
        ...[false, false, false, true].map((fin) => [Opcode.CONTINUATION, 0, fin]),
      ])
      const whole = await peer.inflate(Buffer.concat(frames.map(({ payload }) => payload)))
      expect(whole.toString()).toBe(parts.join(''))
      expect(frames.reduce((sum, { payload }) => sum + payload.length, 0)).toBeLessThan(LONG.length / 20)
    }
    // Without content it would not become shorter; nor does it without an agreement.
    await begin(sender, true).all[0]!.write('', true)
    await expectSent(sent(text('')))
    const plain = setup(role, { compression: false })
    await begin(plain.sender, true).all[0]!.write(SHORT, true)
    await plain.expectSent(sent(text(SHORT)))
  })

  it('is told when it is given up, and sends nothing more', async () => {
    for (const compress of [true, false]) {
      const { sender, host, expectSent } = setup(role)
      const events: string[] = []
      const turn = begin(sender, compress, events).all[0]!
      begin(sender, false, events)
      const isLate = turn.write(compress ? LONG : 'late', !compress)
      if (!compress) await expectSent(sent(text('late')))
      sender.cancel()
      expect(events).toEqual(['turn', ...(compress ? ['cancelled', 'cancelled'] : ['turn', 'cancelled'])])
      const count = host.pieces.length
      await isLate
      await turn.write('never', false)
      await turn.write('never', true)
      turn.leave()
      expect(host.pieces).toHaveLength(count)
    }
  })

  it('fails when zlib does', async () => {
    const { sender, expectSent } = setup(role)
    const failure = new Error('no memory')
    const spy = vi.spyOn(MessageDeflate.prototype, 'compressFragmentLater')
    onTestFinished(() => spy.mockRestore())
    spy.mockImplementationOnce((_payload, _isFirst, _isLast, done) => done(failure, Buffer.alloc(0)))
    await expect(begin(sender, true).all[0]!.write(LONG, false)).rejects.toBe(failure)
    await expectSent()
  })
})

describe('what is masked', () => {
  it('can be said for each frame', () => {
    for (const role of ROLES) {
      const { sender, takeFrames } = setup(role)
      for (const masked of [true, false, undefined]) {
        sender.sendFragment(Opcode.TEXT, Buffer.from('text'), { isLast: true, ...(masked !== undefined && { masked }) })
        sender.sendControl(Opcode.PING, Buffer.from('ping'), masked)
        const frames = takeFrames()
        expect(frames.map(({ payload }) => payload.toString())).toEqual(['text', 'ping'])
        for (const { maskingKey } of frames) expect(maskingKey !== undefined).toBe(masked ?? role === 'client')
      }
    }
  })
})

describe('a payload that has to be fetched', () => {
  it('may be a fragment, and keeps its place', async () => {
    const { sender, emptied, expectSent } = setup('server')
    const fetches: ((payload: Uint8Array) => void)[] = []
    sender.sendFetchedFragment(Opcode.BINARY, 3, (done) => fetches.push(done), { isLast: false })
    expect(sender.isFragmenting).toBe(true)
    sender.sendFragment(Opcode.BINARY, Buffer.from('two'), { isLast: true })
    expect(sender.queuedBytes).toBe(6)
    await expectSent()
    fetches[0]!(Buffer.from('one'))
    await emptied.next()
    await expectSent(sent({ ...binary('one'), fin: false }), sent(continuation('two')))
  })

  it('keeps its place, and is compressed like any other', async () => {
    for (const compression of [true, false]) {
      const { sender, emptied, expectSent } = setup('server', { compression })
      const fetches: ((payload: Uint8Array) => void)[] = []
      for (const compress of [undefined, false]) {
        sender.sendFetched(Opcode.BINARY, SHORT.length, (done) => fetches.push(done), compress)
      }
      sender.sendText('behind them', undefined)
      expect(sender.queuedBytes).toBe(2 * SHORT.length + 11)
      // One after the other.
      expect(fetches).toHaveLength(1)
      fetches[0]!(Buffer.from(SHORT))
      while (fetches.length < 2) await new Promise((resolve) => setImmediate(resolve))
      fetches[1]!(Buffer.from(SHORT))
      await emptied.next()
      await expectSent(sent(binary(SHORT), compression), sent(binary(SHORT)), sent(text('behind them')))
    }
  })

  it('is compressed in the pool when it is long, and keeps its place', async () => {
    const { sender, emptied, expectSent } = setup('server')
    const atOnce = vi.spyOn(MessageDeflate.prototype, 'compress')
    onTestFinished(() => atOnce.mockRestore())
    for (const compress of [undefined, false]) {
      sender.sendFetched(Opcode.BINARY, LONG.length, (done) => done(Buffer.from(LONG)), compress)
    }
    sender.sendText('behind them', undefined)
    expect(sender.queuedBytes).toBe(2 * LONG.length + 11)
    await expectSent()
    await emptied.next()
    expect(atOnce).not.toHaveBeenCalled()
    await expectSent(compressed(binary(LONG)), sent(binary(LONG)), sent(text('behind them')))
  })

  it.each([true, false])('may be a fragment like any other (compression: %s)', async (compression) => {
    const { sender, takeFrames } = setup('server', { compression })
    const fetches: ((payload: Uint8Array) => void)[] = []
    const fetchLater = (done: (payload: Uint8Array) => void): void => void fetches.push(done)
    const fragment = (isLast: boolean, masked?: boolean) => ({
      ...{ isLast, compress: true },
      ...(masked !== undefined && { masked }),
    })
    sender.sendFetchedFragment(Opcode.TEXT, 3, fetchLater, fragment(false, true))
    sender.sendFragment(Opcode.TEXT, Buffer.from('two'), fragment(false))
    expect(sender.isFragmenting).toBe(true)
    sender.sendFetchedFragment(Opcode.BINARY, 5, fetchLater, fragment(true))
    expect(sender.isFragmenting).toBe(false)
    sender.sendText('behind it', undefined)
    expect(sender.queuedBytes).toBe(3 + 3 + 5 + 9)
    expect(fetches).toHaveLength(1)
    fetches[0]!(Buffer.from('one'))
    expect(fetches).toHaveLength(2)
    fetches[1]!(Buffer.from('three'))
    expect(sender.queuedBytes).toBe(0)
    const frames = takeFrames()
    const rsv = compression ? 4 : 0
    expect(frames.map((frame) => [frame.opcode, frame.fin, frame.rsv, frame.maskingKey !== undefined])).toEqual([
      [Opcode.TEXT, false, rsv, true],
      [Opcode.CONTINUATION, false, 0, false],
      [Opcode.CONTINUATION, true, 0, false],
      [Opcode.TEXT, true, 0, false],
    ])
    const whole = Buffer.concat(frames.slice(0, 3).map(({ payload }) => payload))
    const peer = new DeflatePeer({ receivedNoContextTakeover: true })
    onTestFinished(() => peer.end())
    expect(String(compression ? await peer.inflate(whole) : whole)).toBe('onetwothree')
  })

  it('is not asked for any more when it was given up, and ignored when it comes late', async () => {
    const { sender, emptied, expectSent } = setup('server')
    const fetches: ((payload: Uint8Array) => void)[] = []
    for (let count = 0; count < 2; count++) {
      sender.doFetched(
        1,
        (done) => fetches.push(done),
        () => expect.unreachable(),
      )
    }
    sender.cancel()
    fetches[0]!(Buffer.from('late'))
    expect(fetches).toHaveLength(1)
    await expectSent()
    expect(emptied.all).toEqual([])
  })
})
