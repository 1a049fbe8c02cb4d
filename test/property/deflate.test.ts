import { constants, deflateRawSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Role } from '../../src/constants.ts'
import {
  type DeflateProfile,
  deflateProfile,
  isCompressedAtOnce,
  MessageDeflate,
  maxCompressedBytes,
} from '../../src/deflate.ts'
import { ProtocolError } from '../../src/errors.ts'
import {
  acceptDeflateOffer,
  type Compression,
  type DeflateAgreement,
  formatDeflateOffer,
  readDeflateResponse,
} from '../../src/extension.ts'
import { chunksAt } from '../support/chunks.ts'
import { dissect } from '../support/deflate-blocks.ts'
import { DeflatePeer } from '../support/deflate-peer.ts'
import { Endpoint } from '../support/protocol-host.ts'
import { describeMessage } from '../support/wire.ts'

const bits = fc.integer({ min: 8, max: 15 })
const agreements: fc.Arbitrary<DeflateAgreement> = fc.record({
  serverNoContextTakeover: fc.boolean(),
  clientNoContextTakeover: fc.boolean(),
  serverMaxWindowBits: bits,
  clientMaxWindowBits: bits,
})
const wantings: fc.Arbitrary<Compression> = fc.record({
  serverNoContextTakeover: fc.boolean(),
  clientNoContextTakeover: fc.boolean(),
  serverMaxWindowBits: bits,
  clientMaxWindowBits: bits,
  threshold: fc.constantFrom(0, 1, 100, 1_024),
  level: fc.integer({ min: 0, max: 9 }),
  memLevel: fc.integer({ min: 1, max: 9 }),
})

/** Payloads in which something is repeated, at all distances, and some in which nothing is. */
const payloads: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 3, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.array(fc.uint8Array({ minLength: 1, maxLength: 400 }), { minLength: 1, maxLength: 4 }), fc.nat(40))
      .chain(([parts, count]) =>
        fc.array(fc.nat(parts.length - 1), { minLength: count, maxLength: count }).map((order) => {
          return Buffer.concat(order.map((index) => parts[index]!))
        }),
      ),
  },
  // In the pool, one way or the other.
  {
    weight: 1,
    arbitrary: fc.integer({ min: 65_530, max: 400_000 }).map((size) => Buffer.alloc(size, `${size} bytes, `)),
  },
)

async function compress(deflate: MessageDeflate, payload: Buffer): Promise<Buffer | undefined> {
  if (isCompressedAtOnce(payload)) return deflate.compress(payload)
  return new Promise((resolve) => deflate.compressLater(payload, resolve))
}

async function inflate(deflate: MessageDeflate, payload: Buffer, maxBytes = 1e9): Promise<Buffer> {
  const inflated = deflate.inflate(payload, maxBytes)
  if (inflated !== undefined) return inflated
  return new Promise((resolve, reject) => {
    deflate.inflateLater(payload, maxBytes, (error, later) => (error === undefined ? resolve(later) : reject(error)))
  })
}

describe('messages of any kind, under any agreement', () => {
  it('come back, from ours to ours and to a peer with zlib streams, and stay within the window', async () => {
    await fc.assert(
      fc.asyncProperty(
        agreements,
        fc.record({
          level: fc.integer({ min: 0, max: 9 }),
          memLevel: fc.integer({ min: 1, max: 9 }),
          evenIfLarger: fc.boolean(),
        }),
        fc.constantFrom<Role>('server', 'client'),
        fc.array(payloads, { minLength: 1, maxLength: 6 }),
        async (agreement, wanted, role, messages) => {
          const isServer = role === 'server'
          const ownBits = isServer ? agreement.serverMaxWindowBits : agreement.clientMaxWindowBits
          const forgetful = isServer ? agreement.serverNoContextTakeover : agreement.clientNoContextTakeover
          const profiles = { threshold: 0, ...wanted }
          const sender = new MessageDeflate(deflateProfile(agreement, profiles, role))
          const receiver = new MessageDeflate(deflateProfile(agreement, profiles, isServer ? 'client' : 'server'))
          const peer = new DeflatePeer({ receivedWindowBits: ownBits, receivedNoContextTakeover: forgetful })
          try {
            for (const message of messages) {
              const compressed = await compress(sender, message)
              if (compressed === undefined) {
                expect(wanted.evenIfLarger).toBe(false)
                continue
              }
              if (!wanted.evenIfLarger) expect(compressed.length).toBeLessThan(message.length)
              expect(dissect(compressed).farthest).toBeLessThanOrEqual(2 ** ownBits)
              expect((await inflate(receiver, compressed)).equals(message)).toBe(true)
              expect((await peer.inflate(compressed)).equals(message)).toBe(true)
            }
          } finally {
            peer.end()
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  it('come from a peer with zlib streams', async () => {
    await fc.assert(
      fc.asyncProperty(
        agreements,
        fc.integer({ min: 0, max: 9 }),
        fc.array(payloads, { minLength: 1, maxLength: 6 }),
        async (agreement, level, messages) => {
          const server = new MessageDeflate(
            deflateProfile(agreement, { threshold: 0, level: 3, memLevel: 8 }, 'server'),
          )
          const { clientMaxWindowBits: windowBits, clientNoContextTakeover: noContextTakeover } = agreement
          const peer = new DeflatePeer({ windowBits, noContextTakeover, level })
          try {
            for (const message of messages) {
              expect((await inflate(server, await peer.compress(message))).equals(message)).toBe(true)
            }
          } finally {
            peer.end()
          }
        },
      ),
      { numRuns: 80 },
    )
  })
})

describe('what a peer may send instead of deflate data', () => {
  const limits = fc.constantFrom(1, 100, 5_000)

  async function judge(payload: Buffer, limit: number): Promise<Buffer | undefined> {
    const agreement = { serverMaxWindowBits: 15, clientMaxWindowBits: 15 }
    const takeover = { serverNoContextTakeover: false, clientNoContextTakeover: false }
    const profile = deflateProfile({ ...agreement, ...takeover }, { threshold: 0, level: 3, memLevel: 8 }, 'server')
    const deflate = new MessageDeflate(profile)
    let inflated: Buffer | undefined
    try {
      inflated = await inflate(deflate, payload, limit)
      expect(inflated.length).toBeLessThanOrEqual(limit)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      expect(['ERR_COMPRESSED_DATA', 'ERR_MESSAGE_TOO_BIG']).toContain(error.code)
    }
    // In the pool it is the same.
    const fresh = new MessageDeflate(profile)
    const later = await new Promise<Buffer | undefined>((resolve) => {
      fresh.inflateLater(payload, limit, (error, bytes) => resolve(error === undefined ? bytes : undefined))
    })
    expect(later).toEqual(inflated)
    return inflated
  }

  it('any bytes: a message within the limit, or a violation', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), limits, async (bytes, limit) => {
        await judge(Buffer.from(bytes), limit)
      }),
      { numRuns: 300 },
    )
  })

  it('blocks of all kinds, some of them last ones, one byte changed', async () => {
    const blocks = fc.array(
      fc.record({
        bytes: fc.uint8Array({ maxLength: 100 }),
        level: fc.constantFrom(0, 6),
        isLast: fc.boolean(),
      }),
      { minLength: 1, maxLength: 5 },
    )
    await fc.assert(
      fc.asyncProperty(blocks, fc.option(fc.tuple(fc.nat(), fc.nat(255))), limits, async (parts, change, limit) => {
        const flushed = { finishFlush: constants.Z_SYNC_FLUSH }
        const whole = parts.map(({ bytes, level, isLast }) =>
          deflateRawSync(bytes, { level, ...(isLast ? {} : flushed) }),
        )
        const payload = Buffer.concat(whole)
        const message = Buffer.concat(parts.map(({ bytes }) => bytes))
        // What is taken off is put back by the one who inflates it.
        const given = parts.at(-1)!.isLast ? payload : payload.subarray(0, -4)
        if (change !== null && given.length > 0) given[change[0] % given.length]! ^= change[1]
        const inflated = await judge(given, limit)
        if (change === null && message.length <= limit) expect(inflated?.equals(message)).toBe(true)
        if (change === null && message.length > limit) expect(inflated).toBeUndefined()
      }),
      { numRuns: 300 },
    )
  })
})

describe('negotiation', () => {
  it('ends in the same agreement on both sides, or in none', () => {
    fc.assert(
      fc.property(wantings, wantings, (client, server) => {
        const accepted = acceptDeflateOffer(formatDeflateOffer(client), server)
        expect(accepted).toBeDefined()
        expect(readDeflateResponse(accepted!.response, client)).toEqual(accepted!.agreement)
      }),
    )
  })

  it('makes something of any header, and throws nothing', () => {
    const words = fc.constantFrom(
      ...['permessage-deflate', 'server_max_window_bits', 'client_max_window_bits', 'server_no_context_takeover'],
      ...['client_no_context_takeover', '=', ';', ',', '; ', ', ', '"', '\\', ' ', '8', '9', '15', '16', 'x'],
    )
    fc.assert(
      fc.property(fc.array(words, { maxLength: 20 }), wantings, (parts, wanted) => {
        const header = parts.join('')
        const accepted = acceptDeflateOffer(header, wanted)
        if (accepted !== undefined) {
          // What was answered is what a client takes that has asked for nothing in particular.
          const open = { ...wanted, serverNoContextTakeover: false, clientNoContextTakeover: false }
          const any = { ...open, serverMaxWindowBits: 15, clientMaxWindowBits: 15 }
          expect(readDeflateResponse(accepted.response, any)).toEqual(accepted.agreement)
        }
        readDeflateResponse(header, wanted)
      }),
      { numRuns: 500 },
    )
  })
})

describe('two ends of ours', () => {
  it('understand each other, whatever they have agreed on and however TCP cuts it', async () => {
    const messages = fc.oneof(
      payloads,
      payloads.map((payload) => payload.toString('latin1')),
      fc.string({ unit: 'binary', maxLength: 2_000 }),
    )
    await fc.assert(
      fc.asyncProperty(
        agreements,
        fc.constantFrom(0, 1, 100),
        fc.constantFrom<Role>('server', 'client'),
        fc.array(fc.tuple(messages, fc.option(fc.boolean(), { nil: undefined })), { minLength: 1, maxLength: 8 }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }),
        async (agreement, threshold, role, sent, cuts) => {
          const profileOf = (side: Role): DeflateProfile => {
            return deflateProfile(agreement, { threshold, level: 3, memLevel: 8 }, side)
          }
          const peerRole = role === 'server' ? 'client' : 'server'
          const sender = new Endpoint(role, { allowRsv1: true, deflate: profileOf(role) })
          const maxFrameBytes = maxCompressedBytes(64 * 1024 * 1024)
          const receiver = new Endpoint(peerRole, { allowRsv1: true, deflate: profileOf(peerRole), maxFrameBytes })
          for (const [message, isCompressed] of sent) {
            if (typeof message === 'string') sender.protocol.sendText(message, isCompressed)
            else sender.protocol.sendBinary(message, isCompressed)
          }
          await new Promise<void>((resolve) => sender.protocol.whenSent(resolve))
          const wire = Buffer.concat(sender.host.pieces)
          const places = cuts.map((place) => Math.floor(place * wire.length))
          for (const chunk of chunksAt(wire, places)) {
            await receiver.host.idle()
            receiver.protocol.receive(chunk)
          }
          await receiver.host.idle()
          expect(receiver.host.messages.map(describeMessage)).toEqual(sent.map(([message]) => describeMessage(message)))
          receiver.expectOpen()
        },
      ),
      { numRuns: 60 },
    )
  })
})
