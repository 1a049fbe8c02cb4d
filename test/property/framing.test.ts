import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Opcode, type Role } from '../../src/constants.ts'
import { type Frame, firstByte, maxTextFrameSize, writeTextFrame } from '../../src/framing.ts'
import { chunksOf, type Decoded, type DecodedFrame, decode, encodeAs, NO_LIMIT, peerOf } from '../support/frames.ts'

const ROLES: readonly Role[] = ['client', 'server']

/** What the decoder may fail with, and the close code of each. */
const DOCUMENTED: Readonly<Record<string, number>> = {
  ERR_RESERVED_BITS: 1002,
  ERR_OPCODE: 1002,
  ERR_MASK_REQUIRED: 1002,
  ERR_MASK_FORBIDDEN: 1002,
  ERR_LENGTH_ENCODING: 1002,
  ERR_CONTROL_FRAGMENTED: 1002,
  ERR_CONTROL_TOO_LONG: 1002,
  ERR_MESSAGE_TOO_BIG: 1009,
}

// ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const anyKey = fc.integer({ min: -0x80000000, max: 0xffffffff })
const shortPayload = fc.uint8Array({ maxLength: 140 })
/** Around the borders of the three length encodings (§5.2); longer ones are the same few bytes again and again. */
const longPayload = fc
  .tuple(fc.constantFrom(125, 126, 127, 1_500, 65_535, 65_536, 70_001), fc.uint8Array({ minLength: 1, maxLength: 9 }))
  .map(([length, pattern]) => Uint8Array.from({ length }, (_, at) => pattern[at % pattern.length]!))
const asciiPayload = fc.string({ maxLength: 140 }).map((text) => new Uint8Array(Buffer.from(text)))

const payloadOfData = fc.oneof(
  { weight: 4, arbitrary: shortPayload },
  { weight: 2, arbitrary: asciiPayload },
  { weight: 1, arbitrary: longPayload },
)
const dataFrame: fc.Arbitrary<Required<Omit<Frame, 'maskingKey'>>> = fc
  .record({
    opcode: fc.constantFrom(Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY),
    payload: payloadOfData,
    fin: fc.boolean(),
    rsv1: fc.boolean(),
  })
  .map((frame) => ({ ...frame, rsv1: frame.rsv1 && frame.opcode !== Opcode.CONTINUATION }))
const controlFrame: fc.Arbitrary<Required<Omit<Frame, 'maskingKey'>>> = fc.record({
  opcode: fc.constantFrom(Opcode.CLOSE, Opcode.PING, Opcode.PONG),
  payload: fc.uint8Array({ maxLength: 125, size: 'max' }),
  fin: fc.constant(true),
  rsv1: fc.constant(false),
})
const anyFrame = fc.oneof({ weight: 2, arbitrary: dataFrame }, { weight: 1, arbitrary: controlFrame })
const frames = fc.array(fc.tuple(anyFrame, anyKey), { minLength: 1, maxLength: 6 })
/** Places to cut at, many of them among the first bytes, where headers are. */
const cuts = fc.array(fc.oneof(fc.nat(20), fc.nat(300), fc.nat(150_000)), { maxLength: 12 })

function encodeAll(role: Role, given: ReadonlyArray<readonly [frame: Frame, maskingKey: number]>): Buffer {
  return Buffer.concat(given.map(([frame, maskingKey]) => encodeAs(role, frame, maskingKey)))
}

/** Compared by bytes: a failure shows lengths, not 65,536 numbers. */
function expectFrames(decoded: readonly DecodedFrame[], given: readonly Frame[]): void {
  const shape = ({ opcode, fin, rsv1, payload }: Frame | DecodedFrame) => [opcode, fin, rsv1, payload.length]
  expect(decoded.map(shape)).toEqual(given.map(shape))
  for (const [index, { payload }] of decoded.entries()) {
    if (!payload.equals(given[index]!.payload)) expect(payload).toEqual(Buffer.from(given[index]!.payload))
  }
}

describe.each(ROLES)('frames of a %s', (role) => {
  const options = { role: peerOf(role), maxFrameBytes: NO_LIMIT, allowRsv1: true }

  it('are decoded to what was encoded', () => {
    fc.assert(
      fc.property(anyFrame, anyKey, (frame, maskingKey) => {
        const { frames, error } = decode(options, [encodeAs(role, frame, maskingKey)])
        expect(error).toBeUndefined()
        expectFrames(frames, [frame])
      }),
      { numRuns: 300 },
    )
  })

  it('are the same in any chunking', () => {
    fc.assert(
      fc.property(frames, cuts, (given, places) => {
        const { frames, error } = decode(options, chunksOf(encodeAll(role, given), places))
        expect(error).toBeUndefined()
        expectFrames(
          frames,
          given.map(([frame]) => frame),
        )
      }),
      { numRuns: 300 },
    )
  })

  it('are the same byte by byte', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(controlFrame, anyKey), { maxLength: 3 }),
        dataFrame,
        anyKey,
        (before, frame, key) => {
          fc.pre(frame.payload.length <= 200)
          const given = [...before, [frame, key] as const]
          const bytes = encodeAll(role, given)
          const { frames } = decode(options, chunksOf(bytes, [...bytes.keys()]))
          expectFrames(
            frames,
            given.map(([frame]) => frame),
          )
        },
      ),
    )
  })

  it('come as one piece when they are control frames, as few as there are chunks otherwise', () => {
    fc.assert(
      fc.property(frames, cuts, (given, places) => {
        const chunks = chunksOf(encodeAll(role, given), places)
        const { pieces } = decode(options, chunks)
        for (const { opcode, starts, ends, payload, payloadLength } of pieces) {
          if (opcode >= Opcode.CLOSE) expect([starts, ends, payload.length]).toEqual([true, true, payloadLength])
          // A piece without bytes begins a frame whose payload is still to come, or is an empty frame.
          if (payload.length === 0) expect(starts).toBe(true)
        }
        expect(pieces.length).toBeLessThan(given.length + chunks.length)
      }),
    )
  })

  it('are text straight from a string', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300, size: 'max' }), fc.nat(9), anyKey, (text, at, key) => {
        const target = Buffer.alloc(at + maxTextFrameSize(text))
        const maskingKey = role === 'client' ? key : undefined
        const end = writeTextFrame(target, at, firstByte(Opcode.TEXT, true, false), text, maskingKey)
        const payload = Buffer.from(text)
        expect(target.subarray(at, end).equals(encodeAs(role, { opcode: Opcode.TEXT, payload }, key))).toBe(true)
      }),
    )
  })
})

it('the hint `ascii` of a server is true exactly for pieces of ASCII, however a frame is cut', () => {
  fc.assert(
    fc.property(payloadOfData, anyKey, cuts, (payload, maskingKey, places) => {
      const bytes = encodeAs('client', { opcode: Opcode.TEXT, payload }, maskingKey)
      const { pieces } = decode({ role: 'server', maxFrameBytes: NO_LIMIT }, chunksOf(bytes, places))
      const hints = pieces.map(({ ascii }) => ascii)
      expect(hints).toEqual(pieces.map(({ payload }) => payload.every((byte) => byte < 0x80)))
    }),
    { numRuns: 300 },
  )
})

// ── bytes of an enemy ───────────────────────────────────────────────────────────────────────────────────────────────

/** First two bytes that are mostly plausible, a length that may be anything, and some bytes behind them. */
const hostileFrame = fc
  .tuple(
    fc.oneof(fc.constantFrom(0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1), fc.nat(255)),
    fc.oneof(fc.constantFrom(0x00, 0x05, 0x7d, 0x7e, 0x7f, 0x80, 0x85, 0xfd, 0xfe, 0xff), fc.nat(255)),
    fc.oneof(
      fc.constantFrom(
        '007d',
        '007e',
        'ffff',
        '000000000000ffff',
        '0000000000010000',
        '0020000000000000',
        '8000000000000000',
      ),
      fc.constantFrom('', '00', '0000000000000100', '001fffffffffffff', '7fffffffffffffff'),
    ),
    fc.uint8Array({ maxLength: 140 }),
  )
  .map(([first, second, length, rest]) => Buffer.concat([Buffer.of(first, second), Buffer.from(length, 'hex'), rest]))

/** A good stream in which some bytes were changed. */
const damaged = (role: Role) =>
  fc
    .tuple(
      fc.array(fc.tuple(anyFrame, anyKey), { minLength: 1, maxLength: 4 }),
      fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 3 }),
    )
    .map(([given, changes]) => {
      const bytes = encodeAll(peerOf(role), given)
      for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte
      return bytes
    })

const hostile = (role: Role): fc.Arbitrary<Buffer> =>
  fc.oneof(
    fc.array(hostileFrame, { minLength: 1, maxLength: 4 }).map((parts) => Buffer.concat(parts)),
    damaged(role),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  )

describe.each(ROLES)('a hostile stream, read by a %s', (role) => {
  const bytesOf = ({ pieces }: Decoded) => Buffer.concat(pieces.map(({ payload }) => payload))

  it('ends in frames, or in one documented violation', () => {
    fc.assert(
      // Whatever else is thrown goes through `decode` and fails the property.
      fc.property(hostile(role), cuts, fc.boolean(), (bytes, places, allowRsv1) => {
        const { error } = decode({ role, maxFrameBytes: NO_LIMIT, allowRsv1 }, chunksOf(bytes, places))
        if (error !== undefined) expect(DOCUMENTED[error.code]).toBe(error.closeCode)
      }),
      { numRuns: 2_000 },
    )
  })

  it('ends in the same frames and the same violation in any chunking', () => {
    fc.assert(
      fc.property(hostile(role), cuts, (bytes, places) => {
        const options = { role, maxFrameBytes: 70_000 }
        const whole = decode(options, [bytes])
        const cut = decode(options, chunksOf(bytes, places))
        expect(cut.error?.code).toBe(whole.error?.code)
        expectFrames(cut.frames, whole.frames)
        expect(bytesOf(cut).equals(bytesOf(whole))).toBe(true)
      }),
      { numRuns: 1_000 },
    )
  })

  it('gives no data frame beyond the limit, and not a byte of one', () => {
    fc.assert(
      fc.property(hostile(role), cuts, fc.nat(200), (bytes, places, maxFrameBytes) => {
        const { pieces } = decode({ role, maxFrameBytes, allowRsv1: true }, chunksOf(bytes, places))
        for (const { opcode, payload, payloadLength } of pieces) {
          expect(payloadLength).toBeLessThanOrEqual(opcode < Opcode.CLOSE ? maxFrameBytes : 125)
          expect(payload.length).toBeLessThanOrEqual(payloadLength)
        }
      }),
      { numRuns: 1_000 },
    )
  })

  it('gives frames that would be sent in no other way, as long as it gives any', () => {
    fc.assert(
      fc.property(hostile(role), (bytes) => {
        const { frames } = decode({ role, maxFrameBytes: NO_LIMIT, allowRsv1: true }, [bytes])
        // Without the keys, which the decoder does not tell: the same header bytes, at the same places.
        let at = 0
        for (const frame of frames) {
          const again = encodeAs(peerOf(role), frame, 0)
          const payloadAt = again.length - frame.payload.length
          const headerEnd = payloadAt - (role === 'server' ? 4 : 0)
          expect(bytes.toString('hex', at, at + headerEnd)).toBe(again.toString('hex', 0, headerEnd))
          at += again.length
        }
      }),
      { numRuns: 1_000 },
    )
  })
})
