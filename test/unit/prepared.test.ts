import { describe, expect, it, vi } from 'vitest'
import { type DeflateProfile, deflateProfile } from '../../src/deflate.ts'
import { encodeText, PreparedMessage } from '../../src/prepared.ts'
import { dissect } from '../support/deflate-blocks.ts'
import { DeflatePeer } from '../support/deflate-peer.ts'
import { seededRandom } from '../support/random.ts'
import { binary, describeFrame, formatFrame, parseFrames, text, type WireFrame } from '../support/wire.ts'

/** How often zlib has compressed something. */
const calls = vi.hoisted(() => ({ now: 0, later: 0, failure: undefined as Error | undefined }))

vi.mock('node:zlib', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:zlib')>()
  return {
    ...original,
    deflateRawSync: (...args: Parameters<typeof original.deflateRawSync>) => {
      calls.now++
      return original.deflateRawSync(...args)
    },
    deflateRaw: (...args: [...unknown[], (error: Error | null) => void]) => {
      calls.later++
      if (calls.failure !== undefined) setImmediate(args.at(-1) as (error: Error) => void, calls.failure)
      else (original.deflateRaw as (...given: unknown[]) => void)(...args)
    },
  }
})

function countCalls(): { now: number; later: number } {
  const { now, later } = calls
  calls.now = calls.later = 0
  return { now, later }
}

function profileOf(serverMaxWindowBits = 15, serverNoContextTakeover = true): DeflateProfile {
  const agreement = { serverMaxWindowBits, serverNoContextTakeover }
  return deflateProfile(
    { clientMaxWindowBits: 15, clientNoContextTakeover: true, ...agreement },
    { threshold: 0, level: 3, memLevel: 8 },
    'server',
  )
}

const LONG = 'Longer than what is compressed at once. '.repeat(5_000)
const SHORT = 'Short enough to be compressed at once. '.repeat(50)

/** One frame, inflated by somebody with nothing in his window. */
async function open(frame: Buffer): Promise<WireFrame> {
  const [only, ...others] = parseFrames(frame)
  expect(others).toEqual([])
  if (only!.rsv === 0) return only!
  expect(only!.rsv).toBe(4)
  const peer = new DeflatePeer()
  const payload = await peer.inflate(only!.payload)
  peer.end()
  return { ...only!, payload, rsv: 0 }
}

function noise(size: number): Buffer {
  const random = seededRandom(size)
  return Buffer.from(Array.from({ length: size }, () => random(256)))
}

describe('a text as a frame', () => {
  it.each(['', 'text', 'ü', '€'.repeat(42), 'a'.repeat(125), 'a'.repeat(126), 'a'.repeat(65_536), '€'.repeat(30_000)])(
    'is written as any other',
    (message) => {
      expect(encodeText(message).equals(formatFrame(text(message)))).toBe(true)
      expect(encodeText(message, 0x04030201).equals(formatFrame(text(message), Buffer.of(1, 2, 3, 4)))).toBe(true)
    },
  )
})

describe('a message that is prepared', () => {
  it.each([0, 1, 125, 126, 65_535, 65_536])('has a frame and its payload: %d bytes', (size) => {
    const payload = noise(size)
    const bytes = new PreparedMessage(payload)
    expect(bytes.plain.equals(formatFrame(binary(payload)))).toBe(true)
    expect(bytes.payload.equals(payload)).toBe(true)
    expect(bytes.compress).toBeUndefined()

    const letters = new PreparedMessage('x'.repeat(size), false)
    expect(letters.plain.equals(formatFrame(text('x'.repeat(size))))).toBe(true)
    expect(letters.payload.toString()).toBe('x'.repeat(size))
    expect(letters.compress).toBe(false)
  })

  it('compresses nothing before it is asked to', () => {
    countCalls()
    new PreparedMessage(SHORT, true)
    expect(countCalls()).toEqual({ now: 0, later: 0 })
  })

  it('is compressed once for each profile', async () => {
    countCalls()
    const message = new PreparedMessage(SHORT)
    const profiles = [profileOf(), profileOf(9), profileOf(15, false)]
    for (let round = 0; round < 3; round++) {
      for (const profile of profiles) {
        const compressed = message.compressedFor(profile)
        expect(compressed.ready).toBe(true)
        expect(compressed).toBe(message.compressedFor(profile))
        expect(compressed.frame.length).toBeLessThan(message.plain.length)
        expect(describeFrame(await open(compressed.frame))).toBe(describeFrame(text(SHORT)))
      }
    }
    expect(countCalls()).toEqual({ now: 3, later: 0 })
  })

  it('heeds the window of each', () => {
    const records = Array.from({ length: 2_000 }, (_, index) => `record ${(index * 7_919) % 4_001}`).join()
    const message = new PreparedMessage(records)
    const payloadOf = (profile: DeflateProfile): Buffer => parseFrames(message.compressedFor(profile).frame)[0]!.payload
    expect(dissect(payloadOf(profileOf(15))).farthest).toBeGreaterThan(512)
    expect(dissect(payloadOf(profileOf(9))).farthest).toBeLessThanOrEqual(512)
    expect(dissect(payloadOf(profileOf(8))).farthest).toBeLessThanOrEqual(256)
    expect(dissect(payloadOf(profileOf(15, false))).farthestBefore).toBe(0)
  })

  it('a long one is compressed in the pool, and tells all who wait for it, in order', async () => {
    countCalls()
    const message = new PreparedMessage(Buffer.from(LONG))
    const profile = profileOf()
    const compressed = message.compressedFor(profile)
    expect(compressed.ready).toBe(false)
    expect(compressed.frame).toBe(message.plain)
    const told: number[] = []
    const all = Promise.all(
      [1, 2, 3].map(
        (name) =>
          new Promise<void>((resolve) => {
            message.compressedFor(profile).whenReady(() => {
              told.push(name)
              resolve()
            })
          }),
      ),
    )
    expect(told).toEqual([])
    await all
    expect(told).toEqual([1, 2, 3])
    expect(compressed.ready).toBe(true)
    compressed.whenReady(() => told.push(4))
    expect(told).toEqual([1, 2, 3, 4])
    expect(describeFrame(await open(compressed.frame))).toBe(describeFrame(binary(LONG)))
    expect(countCalls()).toEqual({ now: 0, later: 1 })
  })

  it('goes out as it is when that is shorter', async () => {
    for (const size of [10, 1_000, 70_000]) {
      const message = new PreparedMessage(noise(size))
      const compressed = message.compressedFor(profileOf())
      await new Promise<void>((resolve) => compressed.whenReady(resolve))
      expect(compressed.frame).toBe(message.plain)
    }
  })

  it('goes out as it is when zlib fails', async () => {
    calls.failure = new Error('no memory')
    const message = new PreparedMessage(LONG)
    const compressed = message.compressedFor(profileOf())
    await new Promise<void>((resolve) => compressed.whenReady(resolve))
    calls.failure = undefined
    expect(compressed.frame).toBe(message.plain)
  })
})
