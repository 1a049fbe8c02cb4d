import { constants, deflateRawSync, inflateRawSync, type ZlibOptions } from 'node:zlib'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { type DeflateProfile, deflateProfile, isCompressedAtOnce, MessageDeflate } from '../../src/deflate.ts'
import { ProtocolError } from '../../src/errors.ts'
import type { DeflateAgreement } from '../../src/extension.ts'
import { dissect } from '../support/deflate-blocks.ts'
import { DeflatePeer, type DeflatePeerOptions } from '../support/deflate-peer.ts'
import { seededRandom } from '../support/random.ts'

/** What zlib should fail with, once; what it has under way in the pool, and had at the most. */
const zlib = vi.hoisted(() => ({ failure: undefined as Error | undefined, underWay: 0, most: 0 }))

vi.mock('node:zlib', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:zlib')>()
  /** The callback is the last argument. */
  const counted = <Args extends unknown[], Result>(call: (...args: Args) => Result, args: Args): Result => {
    const done = args.at(-1) as (...results: unknown[]) => void
    const through = (...results: unknown[]): void => {
      zlib.underWay--
      done(...results)
    }
    const result = call(...([...args.slice(0, -1), through] as Args))
    // Not when it refuses its options.
    zlib.underWay++
    zlib.most = Math.max(zlib.most, zlib.underWay)
    return result
  }
  const failing =
    <Args extends unknown[], Result>(call: (...args: Args) => Result, isLater: boolean) =>
    (...args: Args): Result => {
      const { failure } = zlib
      zlib.failure = undefined
      if (failure === undefined) return isLater ? counted(call, args) : call(...args)
      if (!isLater) throw failure
      setImmediate(args.at(-1) as (error: Error) => void, failure)
      return undefined as Result
    }
  return {
    ...original,
    deflateRaw: failing(original.deflateRaw, true),
    inflateRaw: failing(original.inflateRaw, true),
    inflateRawSync: failing(original.inflateRawSync, false),
  }
})

afterEach(() => {
  expect(zlib.failure).toBeUndefined()
  expect(zlib.underWay).toBe(0)
})

const KIB = 1_024
const MIB = 1_024 * KIB
const AT_ONCE = 64 * KIB
const BITS = [8, 9, 10, 11, 12, 13, 14, 15]

const AGREEMENT: DeflateAgreement = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  serverMaxWindowBits: 15,
  clientMaxWindowBits: 15,
}
const TAKEOVER = { serverNoContextTakeover: false, clientNoContextTakeover: false }
const WANTED = { threshold: 0, level: 6, memLevel: 8 }

/** The profile of a server. */
function profileOf(agreement: Partial<DeflateAgreement> = {}, wanted: object = {}): DeflateProfile {
  return deflateProfile({ ...AGREEMENT, ...agreement }, { ...WANTED, ...wanted }, 'server')
}

/** A server's end. */
function newDeflate(agreement: Partial<DeflateAgreement> = {}, wanted: object = {}): MessageDeflate {
  return new MessageDeflate(profileOf(agreement, wanted))
}

function newPeer(options: DeflatePeerOptions = {}): DeflatePeer {
  const peer = new DeflatePeer(options)
  onTestFinished(() => peer.end())
  return peer
}

/** A payload on its way out, as others make it. */
function deflated(payload: string | Uint8Array, options: ZlibOptions = {}): Buffer {
  return deflateRawSync(payload, { finishFlush: constants.Z_SYNC_FLUSH, ...options }).subarray(0, -4)
}

/** The same as blocks the last of which says so, with nothing behind it (§7.2.3.4). */
function finished(payload: string | Uint8Array, options: ZlibOptions = {}): Buffer {
  return deflateRawSync(payload, options)
}

/** Records, similar to each other and never the same: they refer back as far as they can. */
function records(size: number, seed = 1): Buffer {
  const random = seededRandom(seed)
  let text = ''
  while (text.length < size) text += `{"id":${random(100_000)},"name":"user ${random(50)}","at":${text.length}},`
  return Buffer.from(text.slice(0, size))
}

function noise(size: number, seed = 1): Buffer {
  const random = seededRandom(seed)
  return Buffer.from(Array.from({ length: size }, () => random(256)))
}

function inflateNow(deflate: MessageDeflate, payload: Buffer, maxBytes = 64 * MIB): Buffer {
  const inflated = deflate.inflate(payload, maxBytes)
  if (inflated === undefined) throw new Error('it was too long to be inflated at once')
  return inflated
}

function inflateLater(deflate: MessageDeflate, payload: Buffer, maxBytes = 64 * MIB): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    deflate.inflateLater(payload, maxBytes, (error, inflated) =>
      error === undefined ? resolve(inflated) : reject(error),
    )
  })
}

/** At once where that is possible, else in the pool: as the protocol does it. */
async function inflate(deflate: MessageDeflate, payload: Buffer, maxBytes = 64 * MIB): Promise<Buffer> {
  return deflate.inflate(payload, maxBytes) ?? (await inflateLater(deflate, payload, maxBytes))
}

function compress(deflate: MessageDeflate, payload: Uint8Array): Promise<Buffer | undefined> {
  return isCompressedAtOnce(payload)
    ? Promise.resolve(deflate.compress(payload))
    : new Promise((resolve) => deflate.compressLater(payload, resolve))
}

/** Both ways of inflating, for what holds for both. */
const WAYS = [
  ['at once', async (...args: Parameters<typeof inflateNow>) => inflateNow(...args)],
  ['in the pool', inflateLater],
] as const

describe('what an agreement means for each side', () => {
  it.each<[agreed: Partial<DeflateAgreement>, server: Partial<DeflateProfile>, client: Partial<DeflateProfile>]>([
    [{}, { windowBits: 15, sentWindow: 0, receivedWindow: 0 }, { windowBits: 15, sentWindow: 0, receivedWindow: 0 }],
    [
      TAKEOVER,
      { windowBits: 15, sentWindow: 4_096, receivedWindow: 32_768 },
      { windowBits: 15, sentWindow: 4_096, receivedWindow: 32_768 },
    ],
    [
      { serverNoContextTakeover: false },
      { sentWindow: 4_096, receivedWindow: 0 },
      { sentWindow: 0, receivedWindow: 32_768 },
    ],
    [
      { clientNoContextTakeover: false },
      { sentWindow: 0, receivedWindow: 32_768 },
      { sentWindow: 4_096, receivedWindow: 0 },
    ],
    [
      { ...TAKEOVER, serverMaxWindowBits: 10, clientMaxWindowBits: 13 },
      { windowBits: 10, sentWindow: 1_024, receivedWindow: 8_192 },
      { windowBits: 13, sentWindow: 4_096, receivedWindow: 1_024 },
    ],
    [
      { ...TAKEOVER, serverMaxWindowBits: 8, clientMaxWindowBits: 9 },
      { windowBits: 9, sentWindow: 256, receivedWindow: 512 },
      { windowBits: 9, sentWindow: 512, receivedWindow: 256 },
    ],
  ])('%o', (agreed, server, client) => {
    const agreement = { ...AGREEMENT, ...agreed }
    expect(deflateProfile(agreement, WANTED, 'server')).toMatchObject(server)
    expect(deflateProfile(agreement, WANTED, 'client')).toMatchObject(client)
  })

  it('takes the rest from the options', () => {
    const wanted = { threshold: 7, level: 2, memLevel: 3 }
    expect(profileOf({}, wanted)).toMatchObject({ ...wanted, evenIfLarger: false })
    expect(profileOf({}, { ...wanted, evenIfLarger: true })).toMatchObject({ evenIfLarger: true })
    expect(Object.isFrozen(profileOf())).toBe(true)
  })
})

describe('compressing', () => {
  it('payloads up to 64 KiB at once', () => {
    expect(isCompressedAtOnce(Buffer.alloc(AT_ONCE))).toBe(true)
    expect(isCompressedAtOnce(Buffer.alloc(AT_ONCE + 1))).toBe(false)
  })

  it.each([1, 5, 100, 1_000, 16_384, AT_ONCE, AT_ONCE + 1, 300 * KIB])('%d bytes come back', async (size) => {
    const deflate = newDeflate({}, { evenIfLarger: true })
    for (const payload of [records(size), noise(size), Buffer.alloc(size)]) {
      const compressed = (await compress(deflate, payload))!
      expect((await newPeer().inflate(compressed)).equals(payload)).toBe(true)
    }
  })

  it('the same in the pool as at once', async () => {
    for (const size of [1, 1_000, AT_ONCE]) {
      const now = newDeflate().compress(records(size))
      const later = await new Promise((resolve) => newDeflate().compressLater(records(size), resolve))
      expect(later).toEqual(now)
    }
  })

  it('leaves out the tail (§7.2.1): the example of the RFC (§7.2.3.1)', () => {
    const compressed = newDeflate({}, { evenIfLarger: true }).compress(Buffer.from('Hello'))
    expect(compressed?.toString('hex')).toBe('f248cdc9c90700')
  })

  it('with context takeover: the example of the RFC (§7.2.3.2)', () => {
    const deflate = newDeflate(TAKEOVER, { evenIfLarger: true })
    expect(deflate.compress(Buffer.from('Hello'))?.toString('hex')).toBe('f248cdc9c90700')
    expect(deflate.compress(Buffer.from('Hello'))?.toString('hex')).toBe('f200110000')
  })

  it('is given up when it makes nothing smaller', async () => {
    const deflate = newDeflate()
    expect(deflate.compress(Buffer.from('Hello'))).toBeUndefined()
    expect(deflate.compress(noise(1_000))).toBeUndefined()
    expect(await compress(deflate, noise(AT_ONCE + 1))).toBeUndefined()
    expect(deflate.compress(Buffer.from('Hello Hello Hello'))).toBeDefined()
  })

  it('a message that goes out as it is is none that another can refer to', async () => {
    const deflate = newDeflate({ serverNoContextTakeover: false })
    const peer = newPeer()
    const plain = noise(600)
    expect(deflate.compress(plain)).toBeUndefined()
    const payload = Buffer.concat([plain, records(600)])
    const compressed = deflate.compress(payload)!
    expect(dissect(compressed).farthestBefore).toBe(0)
    expect((await peer.inflate(compressed)).equals(payload)).toBe(true)
  })

  it('a message that somebody else has compressed is one that the next refers to', async () => {
    const deflate = newDeflate({ serverNoContextTakeover: false })
    const peer = newPeer()
    const payload = records(600)
    await peer.inflate(deflated(payload))
    deflate.noteSent(payload)
    const compressed = deflate.compress(payload)!
    expect(dissect(compressed).farthestBefore).toBeGreaterThan(500)
    expect((await peer.inflate(compressed)).equals(payload)).toBe(true)

    const forgetful = newDeflate()
    forgetful.noteSent(payload)
    expect(dissect(forgetful.compress(payload)!).farthestBefore).toBe(0)
  })

  it('a message of which zlib fails goes out as it is', async () => {
    const deflate = newDeflate()
    zlib.failure = Object.assign(new Error('no memory'), { code: 'Z_MEM_ERROR' })
    expect(await compress(deflate, records(AT_ONCE + 1))).toBeUndefined()
    expect(await compress(deflate, records(AT_ONCE + 1))).toBeDefined()
  })

  it.each(['level', 'memLevel'])('heeds the option %s', async (option) => {
    const payload = records(20_000)
    const lengths = [1, 9].map((value) => newDeflate({}, { [option]: value }).compress(payload)!.length)
    expect(lengths[1]).toBeLessThan(lengths[0]!)
    expect(newDeflate({}, { level: 0 }).compress(payload)).toBeUndefined()
  })
})

describe.each(BITS)('a window of %d bits', (bits) => {
  const size = 2 ** bits
  const messages = [10, 200, 5, 40_000, 255, 256, 257, 5_000, 1, AT_ONCE + 1, 300, 300].map(records)

  it.each([true, false])('is not left by what is sent (no context takeover: %s)', async (serverNoContextTakeover) => {
    const deflate = newDeflate({ serverMaxWindowBits: bits, serverNoContextTakeover }, { evenIfLarger: true })
    const peer = newPeer({ receivedWindowBits: bits, receivedNoContextTakeover: serverNoContextTakeover })
    const farthest: number[] = []
    const farthestBefore: number[] = []
    for (const payload of messages) {
      const compressed = (await compress(deflate, payload))!
      const anatomy = dissect(compressed)
      expect(anatomy.length).toBe(payload.length)
      farthest.push(anatomy.farthest)
      farthestBefore.push(anatomy.farthestBefore)
      // A peer with no more than this window understands it.
      expect((await peer.inflate(compressed)).equals(payload)).toBe(true)
    }
    expect(Math.max(...farthest)).toBeLessThanOrEqual(size)
    // It is used, too: else the bound would hold for nothing.
    expect(Math.max(...farthest)).toBeGreaterThan(size / 3)
    if (serverNoContextTakeover) expect(Math.max(...farthestBefore)).toBe(0)
    else {
      expect(Math.max(...farthestBefore)).toBeLessThanOrEqual(Math.min(size, 4_096))
      expect(Math.max(...farthestBefore)).toBeGreaterThan(Math.min(size, 4_096) / 3)
    }
  })

  it('is known of what is received', async () => {
    const deflate = newDeflate({ ...TAKEOVER, clientMaxWindowBits: bits })
    const peer = newPeer({ windowBits: bits })
    let farthestBefore = 0
    for (const payload of messages) {
      const compressed = await peer.compress(payload)
      farthestBefore = Math.max(farthestBefore, dissect(compressed).farthestBefore)
      expect((await inflate(deflate, compressed)).equals(payload)).toBe(true)
    }
    expect(farthestBefore).toBeGreaterThan(size / 3)
  })
})

describe('8 and 9 bits, of which zlib has no raw window or keeps half for itself', () => {
  it.each([
    [8, 256],
    [9, 512],
  ])('with %d nothing is farther away than %d, at any level and with any history', (bits, size) => {
    for (const level of [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
      for (const memLevel of [1, 5, 9]) {
        const wanted = { level, memLevel, evenIfLarger: true }
        const deflate = newDeflate({ serverMaxWindowBits: bits, serverNoContextTakeover: false }, wanted)
        let history = Buffer.alloc(0)
        for (const payload of [records(600), records(90), noise(300), records(90), Buffer.alloc(700), records(3_000)]) {
          const compressed = deflate.compress(payload)!
          expect(dissect(compressed).farthest).toBeLessThanOrEqual(size)
          // zlib with that window, and little room for output beside it.
          const whole = Buffer.concat([compressed, Buffer.of(0, 0, 0xff, 0xff)])
          const options = { windowBits: bits, chunkSize: 64, finishFlush: constants.Z_SYNC_FLUSH }
          const dictionary = history.length === 0 ? {} : { dictionary: history }
          expect(inflateRawSync(whole, { ...options, ...dictionary }).equals(payload)).toBe(true)
          history = Buffer.concat([history, payload]).subarray(-size)
        }
      }
    }
  })

  it('zlib would refuse what is farther away', () => {
    const compressed = newDeflate({ serverMaxWindowBits: 11 }).compress(records(3_000))!
    expect(dissect(compressed).farthest).toBeGreaterThan(1_024)
    const whole = Buffer.concat([compressed, Buffer.of(0, 0, 0xff, 0xff)])
    const options = { windowBits: 9, chunkSize: 64, finishFlush: constants.Z_SYNC_FLUSH }
    expect(() => inflateRawSync(whole, options)).toThrow('too far back')
  })
})

describe.each(WAYS)('inflating %s', (_, inflateIt) => {
  const deflate = (): MessageDeflate => newDeflate()

  it.each([0, 1, 100, 1_000, 16_384, AT_ONCE])('%d bytes', async (size) => {
    for (const payload of [records(size), Buffer.alloc(size), noise(size).subarray(0, 60_000)]) {
      expect((await inflateIt(deflate(), deflated(payload))).equals(payload)).toBe(true)
    }
  })

  it.each(['f248cdc9c90700', 'f348cdc9c9070000', '000500faff48656c6c6f00', 'f248050000 00ffffcac9c90700'])(
    'an example of the RFC (§7.2.3): %s',
    async (hex) => {
      const payload = Buffer.from(hex.replaceAll(' ', ''), 'hex')
      expect((await inflateIt(deflate(), payload)).toString()).toBe('Hello')
    },
  )

  it('an empty message (§7.2.3.6), also one of no bytes at all', async () => {
    expect(await inflateIt(deflate(), Buffer.of(0))).toHaveLength(0)
    expect(await inflateIt(deflate(), Buffer.of(2, 0))).toHaveLength(0)
    expect(await inflateIt(deflate(), Buffer.of(3, 0))).toHaveLength(0)
    expect(await inflateIt(deflate(), Buffer.alloc(0))).toHaveLength(0)
  })

  it('a last block in the middle (§7.2.3.4, §7.2.3.5)', async () => {
    const cases: [Buffer[], string][] = [
      [[finished('one')], 'one'],
      [[finished('one'), Buffer.of(0)], 'one'],
      [[finished('one'), deflated('two')], 'onetwo'],
      [[finished('one'), finished('two')], 'onetwo'],
      [[finished('one'), finished(''), finished('two'), deflated('three')], 'onetwothree'],
      [[deflated('one'), Buffer.of(0, 0, 0xff, 0xff), finished('two')], 'onetwo'],
      [[finished('one', { level: 0 }), finished('two', { level: 0 })], 'onetwo'],
    ]
    for (const [parts, message] of cases) {
      expect((await inflateIt(deflate(), Buffer.concat(parts))).toString()).toBe(message)
    }
  })

  it('what begins anew may refer to what was before', async () => {
    const first = records(20_000)
    const second = records(20_000, 2)
    const dictionary = Buffer.concat([first, second])
    const third = Buffer.concat([first, second]).subarray(9_000, 29_000)
    const payload = Buffer.concat([
      finished(first),
      finished(second, { dictionary: first }),
      deflated(third, { dictionary }),
    ])
    expect((await inflateIt(deflate(), payload)).equals(Buffer.concat([first, second, third]))).toBe(true)
  })

  it('up to 256 beginnings', async () => {
    const part = finished('x')
    const most = Buffer.concat(Array.from({ length: 256 }, () => part))
    expect((await inflateIt(deflate(), most)).toString()).toBe('x'.repeat(256))
    const error = inflateIt(deflate(), Buffer.concat([most, part]))
    await expect(error).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA', closeCode: 1007 })
    // Empty ones count as well.
    const empty = Buffer.concat(Array.from({ length: 257 }, () => finished('')))
    await expect(inflateIt(deflate(), empty)).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
  })

  it('what is not deflate data fails', async () => {
    for (const hex of ['07', 'ff', 'feffffff', '00010000', 'f248cdc9c90706', 'ed00']) {
      const payload = Buffer.from(hex, 'hex')
      const error = await inflateIt(deflate(), payload).catch((thrown: unknown) => thrown)
      expect(error, hex).toBeInstanceOf(ProtocolError)
      expect(error).toMatchObject({ code: 'ERR_COMPRESSED_DATA', closeCode: 1007 })
    }
  })

  it('fails behind a last block as well', async () => {
    const payload = Buffer.concat([finished('one'), Buffer.of(0xff)])
    await expect(inflateIt(deflate(), payload)).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
  })

  it.each([
    ['Huffman codes', deflated(records(500)), [] as number[]],
    ['fixed codes', deflated('Hello Hello Hello World', { strategy: constants.Z_FIXED }), [] as number[]],
    // Its first byte is a message, an empty one; and where just the length of the tail is missing, the tail fits in.
    ['a stored block', Buffer.from('000500faff48656c6c6f00', 'hex'), [1, 6]],
  ])('data that is cut short fails, and never becomes a message: %s', async (__, payload, whole) => {
    for (let end = 1; end < payload.length; end++) {
      if (whole.includes(end)) continue
      const error = await inflateIt(deflate(), payload.subarray(0, end)).catch((thrown: unknown) => thrown)
      expect(error, `cut behind ${end} bytes`).toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
    }
  })

  it('a last block that is cut short fails', async () => {
    for (const missing of [1, 4, 5, 8, 10]) {
      const payload = Buffer.concat([Buffer.of(1, missing, 0, 255 - missing, 255)])
      await expect(inflateIt(deflate(), payload)).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
    }
  })

  it('a reference to what was never there fails', async () => {
    const dictionary = records(1_000)
    const payload = deflated(dictionary, { dictionary })
    await expect(inflateIt(deflate(), payload)).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
    // Nor is anything remembered that was not agreed on.
    const forgetful = deflate()
    await inflateIt(forgetful, deflated(dictionary))
    await expect(inflateIt(forgetful, payload)).rejects.toMatchObject({ code: 'ERR_COMPRESSED_DATA' })
    const keeping = newDeflate(TAKEOVER)
    await inflateIt(keeping, deflated(dictionary))
    expect((await inflateIt(keeping, payload)).equals(dictionary)).toBe(true)
  })

  it('a limit may be met, not exceeded', async () => {
    for (const size of [1, 1_000, 1_023, 1_024, 1_025, 65_536, 65_537, 200_000]) {
      const payload = records(size)
      const compressed = deflated(payload).subarray(0, AT_ONCE)
      expect((await inflateIt(deflate(), compressed, size)).length).toBe(size)
      const error = inflateIt(deflate(), compressed, size - 1)
      await expect(error).rejects.toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG', closeCode: 1009 })
      await expect(error).rejects.toThrow(`${size - 1} bytes`)
    }
  })

  it('a limit counts all that comes out, whatever begins anew', async () => {
    const parts = Buffer.concat([finished('12345'), finished(''), finished('67890')])
    expect(await inflateIt(deflate(), parts, 10)).toHaveLength(10)
    expect(await inflateIt(deflate(), Buffer.concat([parts, finished('')]), 10)).toHaveLength(10)
    for (const more of ['1', '12', '123456']) {
      const error = inflateIt(deflate(), Buffer.concat([parts, finished(more)]), 10)
      await expect(error).rejects.toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG' })
    }
    await expect(inflateIt(deflate(), parts, 9)).rejects.toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG' })
  })

  it('there may be no limit', async () => {
    expect(await inflateIt(deflate(), deflated('text'), Number.POSITIVE_INFINITY)).toHaveLength(4)
  })

  it('what zlib fails with otherwise is not the peer’s fault', async () => {
    const failure = Object.assign(new Error('no memory'), { code: 'ERR_MEMORY_ALLOCATION_FAILED' })
    zlib.failure = failure
    await expect(inflateIt(deflate(), deflated('text'))).rejects.toBe(failure)
  })

  it('a short message does not hold the memory of a long one', async () => {
    const nothing = Buffer.alloc(20_000, '\0\0\0\xff\xff', 'latin1')
    const short = await inflateIt(deflate(), Buffer.concat([nothing, deflated('short')]))
    expect(short.toString()).toBe('short')
    expect(short.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize)
  })
})

describe('what is inflated at once', () => {
  it('takes up to 64 KiB', () => {
    const blocks = Buffer.alloc(AT_ONCE, '\0\0\0\xff\xff', 'latin1')
    const payload = Buffer.concat([blocks.subarray(0, AT_ONCE - 1), Buffer.of(0)])
    expect(newDeflate().inflate(payload.subarray(0, AT_ONCE), MIB)).toHaveLength(0)
    expect(newDeflate().inflate(Buffer.concat([payload, Buffer.of(0)]), MIB)).toBeUndefined()
  })

  it('and gives up to 256 KiB; longer ones begin again in the pool', async () => {
    const deflate = newDeflate(TAKEOVER)
    const peer = newPeer()
    for (const size of [262_143, 262_144, 262_145, MIB]) {
      const payload = records(size)
      const compressed = await peer.compress(payload)
      expect(compressed.length).toBeLessThan(size <= 262_145 ? AT_ONCE : MIB)
      const now = deflate.inflate(compressed, 2 * MIB)
      if (size <= 262_144) expect(now?.equals(payload)).toBe(true)
      else {
        expect(now).toBeUndefined()
        // The first try has left no trace in the window.
        expect((await inflateLater(deflate, compressed, 2 * MIB)).equals(payload)).toBe(true)
      }
    }
  })

  it('a limit below that is found at once', () => {
    const bomb = deflated(Buffer.alloc(262_145))
    expect(() => newDeflate().inflate(bomb, 262_144)).toThrow(expect.objectContaining({ code: 'ERR_MESSAGE_TOO_BIG' }))
    expect(newDeflate().inflate(bomb, 262_145)).toBeUndefined()
  })
})

describe('a fragment that is compressed in the pool', () => {
  const run = (deflate: MessageDeflate, part: Buffer, isFirst: boolean, isLast: boolean): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      deflate.compressFragmentLater(part, isFirst, isLast, (error, bytes) => (error ? reject(error) : resolve(bytes)))
    })

  it('is what it is when it is compressed at once', async () => {
    for (const takeover of [{}, TAKEOVER]) {
      const [one, other] = [newDeflate(takeover), newDeflate(takeover)]
      for (let message = 0; message < 2; message++) {
        for (let part = 0; part < 3; part++) {
          const payload = records(30_000, part)
          const later = await run(one, payload, part === 0, part === 2)
          expect(later.equals(other.compressFragment(payload, part === 0, part === 2))).toBe(true)
        }
      }
    }
  })

  it('fails with what zlib fails with', async () => {
    zlib.failure = Object.assign(new Error('no memory'), { code: 'Z_MEM_ERROR' })
    await expect(run(newDeflate(), records(100), true, false)).rejects.toThrow('no memory')
  })
})

describe('the thread pool', () => {
  const MOST_AT_ONCE = 8
  const settle = async (work: Promise<unknown>[]): Promise<(string | Buffer)[]> => {
    const results = await Promise.allSettled(work)
    return results.map((result) =>
      result.status === 'fulfilled' ? (result.value as Buffer) : String((result.reason as ProtocolError).code),
    )
  }

  it('is given a few messages at once, however many come together, and all have their turn', async () => {
    const payload = records(300 * KIB)
    const compressed = deflated(payload)
    // Several runs of zlib each.
    const several = Buffer.concat([finished(payload), finished('two'), finished('three')])
    for (let round = 0; round < 2; round++) {
      zlib.most = 0
      const work = Array.from({ length: 50 }, (_, index) =>
        inflateLater(newDeflate(), index % 3 === 0 ? several : compressed),
      )
      expect(zlib.underWay).toBe(MOST_AT_ONCE)
      const results = await settle(work)
      for (const [index, result] of results.entries()) {
        expect(result.length).toBe(payload.length + (index % 3 === 0 ? 8 : 0))
      }
      expect(zlib.most).toBe(MOST_AT_ONCE)
    }
  })

  it('goes on when some of them fail', async () => {
    const whole = deflated(records(1_000))
    const kinds: [payload: Buffer, maxBytes: number, outcome: unknown][] = [
      [Buffer.from('not deflate data'), MIB, 'ERR_COMPRESSED_DATA'],
      [deflated(Buffer.alloc(MIB)), 1_000, 'ERR_MESSAGE_TOO_BIG'],
      [Buffer.concat([finished('one'), finished('two'), Buffer.of(0xff)]), MIB, 'ERR_COMPRESSED_DATA'],
      [whole, MIB, records(1_000)],
    ]
    const all = Array.from({ length: 60 }, (_, index) => kinds[index % kinds.length]!)
    const work = all.map(([payload, maxBytes]) => inflateLater(newDeflate(), payload, maxBytes))
    expect(zlib.underWay).toBe(MOST_AT_ONCE)
    expect(await settle(work)).toEqual(all.map(([, , outcome]) => outcome))
  })

  it('is shared by both directions, and by fragments', async () => {
    zlib.most = 0
    const payload = records(100 * KIB)
    const compressed = deflated(payload)
    const fragment = (): Promise<Buffer> =>
      new Promise((resolve, reject) => {
        const take = (error: Error | null, bytes: Buffer): void => (error ? reject(error) : resolve(bytes))
        newDeflate().compressFragmentLater(payload, true, true, take)
      })
    const ways = [
      () => inflateLater(newDeflate(), compressed),
      () => compress(newDeflate(), payload) as Promise<Buffer>,
      fragment,
    ]
    const work = Array.from({ length: 30 }, (_, index) => ways[index % ways.length]!())
    expect(zlib.underWay).toBe(MOST_AT_ONCE)
    expect((await settle(work)).map((bytes) => bytes.length)).toEqual(
      work.map((_, index) => (index % ways.length === 0 ? payload.length : expect.any(Number))),
    )
    expect(zlib.most).toBe(MOST_AT_ONCE)
  })

  it('gets a place back from what zlib refuses', async () => {
    const payload = records(AT_ONCE + 1)
    for (let count = 0; count < 2 * MOST_AT_ONCE; count++) {
      const refused = newDeflate({}, { level: 99 })
      expect(() => refused.compressLater(payload, () => expect.unreachable())).toThrow(RangeError)
      expect(() => refused.compressFragmentLater(payload, true, true, () => expect.unreachable())).toThrow(RangeError)
    }
    const work = Array.from({ length: 20 }, () => compress(newDeflate(), payload) as Promise<Buffer>)
    expect(zlib.underWay).toBe(MOST_AT_ONCE)
    for (const bytes of await settle(work)) expect(bytes).toBeInstanceOf(Buffer)
  })
})

describe('a bomb', () => {
  it('costs no more than the limit allows', async () => {
    const bomb = deflated(Buffer.alloc(80 * MIB))
    for (const [payload, limit] of [
      [bomb, MIB],
      [deflated(Buffer.alloc(32 * MIB)), 100_000],
    ] as const) {
      const before = process.memoryUsage().arrayBuffers
      let most = 0
      const watch = (): void => {
        most = Math.max(most, process.memoryUsage().arrayBuffers - before)
      }
      const sampling = setInterval(watch, 1)
      const error = await inflate(newDeflate(), payload, limit).catch((thrown: unknown) => thrown)
      watch()
      clearInterval(sampling)
      expect(error).toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG', closeCode: 1009 })
      // The payload with its ending, what has come out, and a part of it that is put together.
      expect(most).toBeLessThan(payload.length + 4 * MIB)
    }
  })
})

describe.each([
  ['with context takeover', false],
  ['without', true],
])('many messages in both directions, %s', (_, forgetful) => {
  it.each([
    [15, 15],
    [9, 9],
    [8, 12],
    [15, 10],
  ])('windows of %d and %d bits', async (serverMaxWindowBits, clientMaxWindowBits) => {
    const agreement = {
      serverMaxWindowBits,
      clientMaxWindowBits,
      serverNoContextTakeover: forgetful,
      clientNoContextTakeover: forgetful,
    }
    const server = newDeflate(agreement)
    const peer = newPeer({
      windowBits: clientMaxWindowBits,
      noContextTakeover: forgetful,
      receivedWindowBits: serverMaxWindowBits,
      receivedNoContextTakeover: forgetful,
    })
    const random = seededRandom(serverMaxWindowBits)
    let smaller = 0
    for (let count = 0; count < 150; count++) {
      const size = random(10) === 0 ? random(100_000) : random(3_000)
      const payload = random(8) === 0 ? noise(Math.min(size, 3_000), count) : records(size, random(4))
      const sent = await compress(server, payload)
      if (sent !== undefined) {
        smaller++
        expect((await peer.inflate(sent)).equals(payload)).toBe(true)
      }
      expect((await inflate(server, await peer.compress(payload))).equals(payload)).toBe(true)
    }
    expect(smaller).toBeGreaterThan(100)
  })
})
