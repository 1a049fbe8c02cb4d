import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Opcode, type Role } from '../../src/constants.ts'
import type { ProtocolErrorCode } from '../../src/errors.ts'
import type { CloseEvent, ProtocolOptions, ProtocolState } from '../../src/protocol.ts'
import { chunksAt, chunksOf, copyOf } from '../support/chunks.ts'
import { copiedBytes } from '../support/copying.ts'
import { spoilFreedMemory } from '../support/freed-memory.ts'
import { usedBytes } from '../support/garbage.ts'
import { Endpoint, ROLES } from '../support/protocol-host.ts'
import {
  binary,
  close,
  describeFrame,
  describeMessage,
  type FrameSpec,
  formatFrame,
  fragments,
  ping,
  pong,
  text,
  unfinished,
} from '../support/wire.ts'

spoilFreedMemory()

/** Every violation there is, and the close code that goes with it. */
const VIOLATIONS: Readonly<Record<ProtocolErrorCode, number>> = {
  ERR_RESERVED_BITS: 1002,
  ERR_OPCODE: 1002,
  ERR_MASK_REQUIRED: 1002,
  ERR_MASK_FORBIDDEN: 1002,
  ERR_LENGTH_ENCODING: 1002,
  ERR_CONTROL_FRAGMENTED: 1002,
  ERR_CONTROL_TOO_LONG: 1002,
  ERR_UNEXPECTED_CONTINUATION: 1002,
  ERR_EXPECTED_CONTINUATION: 1002,
  ERR_TEXT_UTF8: 1007,
  ERR_COMPRESSED_DATA: 1007,
  ERR_CLOSE_PAYLOAD: 1002,
  ERR_CLOSE_CODE: 1002,
  ERR_CLOSE_REASON_UTF8: 1007,
  ERR_MESSAGE_TOO_BIG: 1009,
  ERR_TOO_MANY_FRAGMENTS: 1008,
  ERR_TOO_MANY_PINGS: 1008,
}

/** Small enough that a short stream goes over them. */
const TIGHT: Partial<ProtocolOptions> = {
  maxFrameBytes: 300,
  maxMessageBytes: 300,
  maxFragments: 5,
  maxPendingPongs: 4,
}

// ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const payloads = fc.oneof(
  { weight: 8, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 2, arbitrary: fc.uint8Array({ minLength: 100, maxLength: 400 }) },
)
const texts = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'binary-ascii', maxLength: 200 }),
)
const maskingKeys = fc.uint8Array({ minLength: 4, maxLength: 4 })
/** Places in a stream of any length. */
const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 })

/** A frame that may be anything: mostly right, so that the next one matters. */
const anyFrame = fc.record(
  {
    opcode: fc.oneof(
      { weight: 20, arbitrary: fc.constantFrom(0, 0, 1, 1, 2, 8, 9, 10) },
      { weight: 1, arbitrary: fc.nat(15) },
    ),
    fin: fc.boolean(),
    rsv: fc.oneof({ weight: 30, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(7) }),
    payload: fc.oneof(
      payloads,
      texts.map((message) => Buffer.from(message)),
      fc.nat(5_000).map((code) => close(code).payload!),
    ),
    lengthBytes: fc.constantFrom(2 as const, 8 as const),
    declaredLength: fc.oneof(fc.nat(400), fc.constantFrom(65_535, 65_536, 2 ** 32, 2 ** 53, 2 ** 63)),
  },
  { requiredKeys: ['opcode', 'payload'] },
)
const anyFrames = fc.array(
  fc.record({
    frame: fc.oneof(
      { weight: 6, arbitrary: anyFrame.map(({ lengthBytes, declaredLength, ...plain }) => plain) },
      { weight: 1, arbitrary: anyFrame },
    ),
    key: maskingKeys,
    isRightlyMasked: fc.integer({ min: 0, max: 30 }).map((chance) => chance > 0),
    /** What may come too often comes often. */
    times: fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.integer({ min: 5, max: 9 }) }),
  }),
  { maxLength: 12 },
)

type AnyFrames = typeof anyFrames extends fc.Arbitrary<infer Value> ? Value : never

function encode(role: Role, frames: AnyFrames): Buffer {
  return Buffer.concat(
    frames.flatMap(({ frame, key, isRightlyMasked, times }) => {
      const bytes = formatFrame(frame, (role === 'server') === isRightlyMasked ? key : undefined)
      return Array.from({ length: times }, () => bytes)
    }),
  )
}

/** A conversation as it should be: what is said, and the frames that say it. */
const conversation = fc.array(
  fc.record({
    message: fc.oneof(
      texts,
      payloads,
      fc.tuple(texts, fc.nat(2_000)).map(([message, count]) => message.repeat(count)),
    ),
    cuts: places,
    /** Between the fragments. */
    controls: fc.array(fc.record({ isPing: fc.boolean(), payload: fc.uint8Array({ maxLength: 125 }) }), {
      maxLength: 4,
    }),
  }),
  { maxLength: 6 },
)
type Conversation = typeof conversation extends fc.Arbitrary<infer Value> ? Value : never

function framesOf(said: Conversation): FrameSpec[] {
  return said.flatMap(({ message, cuts, controls }) => {
    const payload = Buffer.from(message as string)
    const opcode = typeof message === 'string' ? Opcode.TEXT : Opcode.BINARY
    const parts = fragments(opcode, payload.length === 0 ? [payload] : chunksAt(payload, placesIn(payload, cuts)))
    const between = controls.map((control) => (control.isPing ? ping(control.payload) : pong(control.payload)))
    return [...parts.slice(0, 1), ...between, ...parts.slice(1)]
  })
}

function placesIn(bytes: Uint8Array, cuts: readonly number[]): number[] {
  return cuts.map((place) => Math.floor(place * bytes.length))
}

// ── what came of a stream ───────────────────────────────────────────────────────────────────────────────────────────

interface Outcome {
  readonly messages: string[]
  readonly pongs: string[]
  readonly sent: string[]
  readonly violations: ProtocolErrorCode[]
  readonly ended: number
  readonly state: ProtocolState
  readonly event: CloseEvent
}

/** Anything but a `ProtocolError` that the host is told of would come out here, and fail the test. */
function outcomeOf(
  role: Role,
  chunks: readonly Buffer[],
  limits: Partial<ProtocolOptions>,
  isBlocked = false,
): Outcome {
  const endpoint = new Endpoint(role, limits)
  endpoint.host.blocked = isBlocked
  endpoint.receiveChunks(chunks)
  const { host, protocol } = endpoint
  return {
    messages: host.messages.map(describeMessage),
    pongs: host.pongs.map(String),
    sent: endpoint.takeSent().map(describeFrame),
    violations: host.violations.map(({ code, closeCode }) => {
      expect(closeCode).toBe(VIOLATIONS[code])
      return code
    }),
    ended: host.ended,
    state: protocol.state,
    event: protocol.receiveEnd(),
  }
}

/** The promises that hold for any stream whatever. */
function expectSound(role: Role, { sent, violations, ended, state, event }: Outcome): void {
  const closes = sent.filter((frame) => frame.startsWith('CLOSE'))
  expect(violations.length).toBeLessThanOrEqual(1)
  if (state === 'open') {
    expect([violations, closes, ended]).toEqual([[], [], 0])
    expect(event).toEqual({ code: 1006, reason: '', wasClean: false })
    return
  }
  expect(state).toBe('draining')
  expect(closes).toEqual(sent.slice(-1))
  const [violation] = violations
  expect(event.wasClean).toBe(violation === undefined)
  expect(ended).toBe(violation !== undefined || role === 'server' ? 1 : 0)
  if (violation !== undefined) {
    expect(event.code).toBe(VIOLATIONS[violation])
    expect(closes[0]).toBe(describeFrame(close(event.code, event.reason)))
  }
}

/** The same outcome for every way in which TCP may cut the stream; returns it. */
function expectSameInPieces(
  role: Role,
  stream: Buffer,
  cuts: readonly number[],
  limits: Partial<ProtocolOptions>,
  isBlocked = false,
): Outcome {
  const whole = outcomeOf(role, [copyOf(stream)], limits, isBlocked)
  expectSound(role, whole)
  expect(outcomeOf(role, chunksAt(stream, placesIn(stream, cuts)), limits, isBlocked)).toEqual(whole)
  if (stream.length < 2_000) expect(outcomeOf(role, chunksOf(stream, 1), limits, isBlocked)).toEqual(whole)
  return whole
}

describe.each(ROLES)('any stream, to a %s', (role) => {
  it('that is as it should be gives its messages, however it is cut', () => {
    fc.assert(
      fc.property(conversation, places, (said, cuts) => {
        const stream = new Endpoint(role).encode(...framesOf(said))
        const outcome = expectSameInPieces(role, stream, cuts, {})
        const controls = said.flatMap((each) => each.controls)
        expect(outcome.messages).toEqual(said.map(({ message }) => describeMessage(message)))
        expect(outcome.sent).toEqual(
          controls.filter(({ isPing }) => isPing).map(({ payload }) => describeFrame(pong(payload))),
        )
        expect(outcome.pongs).toEqual(
          controls.filter(({ isPing }) => !isPing).map(({ payload }) => Buffer.from(payload).toString()),
        )
        expect(outcome.state).toBe('open')
      }),
      { numRuns: 200 },
    )
  })

  it('of long fragments gives its messages, whether chunks end with them or near them', () => {
    const lengths = fc.oneof(
      fc.nat(20),
      fc.integer({ min: 4_000, max: 5_000 }),
      fc.integer({ min: 30_000, max: 70_000 }),
    )
    const long = fc.record({
      isText: fc.boolean(),
      fragments: fc.array(fc.record({ length: lengths, isPinged: fc.boolean() }), { minLength: 1, maxLength: 5 }),
    })
    /** Where a chunk ends: so far from the end of a frame, if it does. */
    const distances = fc.array(fc.option(fc.constantFrom(0, 0, 0, -1, 1, 3, 9, -5_000)), {
      minLength: 30,
      maxLength: 30,
    })
    fc.assert(
      fc.property(fc.array(long, { minLength: 1, maxLength: 4 }), distances, (said, distances) => {
        const endpoint = new Endpoint(role)
        const messages = said.map(({ isText, fragments }, index) => {
          const bytes = fragments.map(({ length }, part) => Buffer.alloc(length, 0x61 + ((index * 5 + part) % 26)))
          return { isText, bytes, isPinged: fragments.map(({ isPinged }) => isPinged) }
        })
        const frames = messages.flatMap(({ isText, bytes, isPinged }) =>
          fragments(isText ? Opcode.TEXT : Opcode.BINARY, bytes).flatMap((frame, part) =>
            isPinged[part] ? [ping('between'), frame] : [frame],
          ),
        )
        const encoded = frames.map((frame) => endpoint.encode(frame))
        let end = 0
        const cuts = encoded.flatMap((bytes, index) => {
          end += bytes.length
          const distance = distances[index]
          return typeof distance === 'number' ? [end + distance] : []
        })
        endpoint.receiveChunks(chunksAt(Buffer.concat(encoded), cuts))
        endpoint.expectMessages(
          ...messages.map(({ isText, bytes }) => (isText ? Buffer.concat(bytes).toString() : Buffer.concat(bytes))),
        )
        expect(endpoint.host.violations).toEqual([])
        expect(endpoint.protocol.state).toBe('open')
      }),
      { numRuns: 100 },
    )
  })

  it('of random bytes ends in messages or in one violation', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), places, fc.boolean(), (bytes, cuts, isBlocked) => {
        expectSameInPieces(role, Buffer.from(bytes), cuts, TIGHT, isBlocked)
      }),
      { numRuns: 500 },
    )
  })

  it('of frames with faults ends in messages or in one violation, and every violation is met', () => {
    const met = new Set<string>()
    fc.assert(
      fc.property(anyFrames, places, fc.boolean(), (frames, cuts, isBlocked) => {
        const outcome = expectSameInPieces(role, encode(role, frames), cuts, TIGHT, isBlocked)
        for (const code of outcome.violations) met.add(code)
      }),
      // With a seed of its own, because what it meets is looked at.
      { numRuns: 1_500, seed: 42 },
    )
    const wrongMask = role === 'server' ? 'ERR_MASK_FORBIDDEN' : 'ERR_MASK_REQUIRED'
    // Nothing is compressed here; see deflate.test.ts.
    expect([...met, wrongMask, 'ERR_COMPRESSED_DATA'].sort()).toEqual(Object.keys(VIOLATIONS).sort())
  })

  it('that was right until some bytes were changed, added, left out or repeated does so too', () => {
    const change = fc.record({
      how: fc.constantFrom('change', 'add', 'leave out', 'repeat'),
      place: fc.double({ min: 0, max: 1, noNaN: true }),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
    })
    fc.assert(
      fc.property(conversation, fc.array(change, { minLength: 1, maxLength: 4 }), places, (said, changes, cuts) => {
        let stream = new Endpoint(role).encode(...framesOf(said), close(1000, 'bye'))
        for (const { how, place, bytes } of changes) {
          const at = Math.floor(place * stream.length)
          const until = at + bytes.length
          const added = how === 'leave out' ? [] : [how === 'repeat' ? stream.subarray(at, until) : bytes]
          stream = Buffer.concat([
            stream.subarray(0, at),
            ...added,
            stream.subarray(how === 'add' || how === 'repeat' ? at : until),
          ])
        }
        expectSameInPieces(role, stream, cuts, {})
      }),
      { numRuns: 200 },
    )
  })

  it('that follows a violation changes nothing', () => {
    fc.assert(
      fc.property(anyFrames, places, (frames, cuts) => {
        const stream = Buffer.concat([new Endpoint(role).encode({ opcode: 3 }), encode(role, frames)])
        const outcome = outcomeOf(role, chunksAt(stream, placesIn(stream, cuts)), {})
        expect(outcome).toMatchObject({ messages: [], pongs: [], violations: ['ERR_OPCODE'], ended: 1 })
        expect(outcome.sent).toHaveLength(1)
      }),
      { numRuns: 100 },
    )
  })
})

// ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Bytes of this process that live as long as what `fill` returns: buffers, and the objects that manage them. */
function heldBytes<Kept>(fill: () => Kept): number {
  const before = usedBytes()
  const kept = fill()
  const after = usedBytes()
  expect(kept).toBeDefined()
  return after - before
}

describe.each(ROLES)('memory that an unfinished message takes, at a %s', (role) => {
  /** What the test itself, and the runner, may need meanwhile. */
  const NOISE = 300_000

  /** Each yields chunks; in the end `payload` bytes of an unfinished message are there. */
  const streams: readonly (readonly [string, payload: number, (endpoint: Endpoint) => Iterable<Buffer>])[] = [
    [
      'one frame in segments of one byte',
      100_000,
      (endpoint) => chunksOf(endpoint.encode({ ...binary(Buffer.alloc(100_000)), declaredLength: 10_000_000 }), 1),
    ],
    [
      'one frame in segments of ten bytes',
      200_000,
      (endpoint) => chunksOf(endpoint.encode({ ...text(Buffer.alloc(200_000)), declaredLength: 10_000_000 }), 10),
    ],
    [
      'one frame in segments of 1,000 bytes',
      1_000_000,
      (endpoint) => chunksOf(endpoint.encode({ ...text(Buffer.alloc(1_000_000)), declaredLength: 10_000_000 }), 1_000),
    ],
    [
      'fragments of one byte in segments of their own',
      20_000,
      function* (endpoint) {
        yield copyOf(endpoint.encode(unfinished(binary(''))))
        for (let count = 0; count < 20_000; count++) yield copyOf(endpoint.encode(fragment(1)))
      },
    ],
    [
      'fragments of one byte, a thousand in a segment',
      100_000,
      function* (endpoint) {
        yield copyOf(endpoint.encode(unfinished(text(''))))
        const frames = Array.from({ length: 1_000 }, () => fragment(1))
        for (let count = 0; count < 100; count++) yield copyOf(endpoint.encode(...frames))
      },
    ],
    [
      'fragments without payload',
      0,
      function* (endpoint) {
        yield copyOf(endpoint.encode(unfinished(text(''))))
        for (let count = 0; count < 20_000; count++) yield copyOf(endpoint.encode(fragment(0)))
      },
    ],
    [
      'short fragments in long segments of pongs',
      500,
      function* (endpoint) {
        yield copyOf(endpoint.encode(unfinished(binary(''))))
        const filling = Array.from({ length: 100 }, () => pong(Buffer.alloc(125)))
        for (let count = 0; count < 500; count++) yield copyOf(endpoint.encode(fragment(1), ...filling))
        // Pongs are kept by the host in memory; here only the message counts.
        endpoint.host.pongs.length = 0
      },
    ],
    ['nothing but an announcement', 0, (endpoint) => [endpoint.encode({ ...binary(''), declaredLength: 50_000_000 })]],
    ['half a header', 0, (endpoint) => chunksOf(endpoint.encode(binary(Buffer.alloc(70_000))).subarray(0, 9), 3)],
  ]

  function fragment(length: number): FrameSpec {
    return { opcode: Opcode.CONTINUATION, payload: Buffer.alloc(length), fin: false }
  }

  it.each(streams)('is a few times what has arrived: %s', (_, payload, stream) => {
    const held = heldBytes(() => {
      const endpoint = new Endpoint(role)
      endpoint.receiveChunks(stream(endpoint))
      endpoint.expectOpen()
      return endpoint
    })
    expect(held).toBeLessThan(4 * payload + 65_536 + NOISE)
  })

  it('is given back when the connection fails, is cut or ends', () => {
    const ways: ((endpoint: Endpoint) => void)[] = [
      ({ protocol }) => protocol.fail(1011, 'failed'),
      ({ protocol }) => protocol.abandon(),
      ({ protocol }) => protocol.receiveEnd(),
    ]
    for (const end of ways) {
      const held = heldBytes(() => {
        const endpoint = new Endpoint(role)
        endpoint.receiveChunks(chunksOf(endpoint.encode(unfinished(binary(Buffer.alloc(4_000_000)))), 65_536))
        end(endpoint)
        return endpoint
      })
      expect(held).toBeLessThan(NOISE)
    }
  })
})

// ── work ────────────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(ROLES)('bytes that are copied for a message, at a %s', (role) => {
  const one = (opcode: Opcode, length: number): FrameSpec[] => [{ opcode, payload: Buffer.alloc(length, 'a') }]
  const many = (opcode: Opcode, length: number): FrameSpec[] =>
    fragments(
      opcode,
      Array.from({ length: length / 10 }, () => 'abcdefghij'),
    )

  it.each([
    ['one frame in segments of one byte', one, 1],
    ['one frame in segments of 100 bytes', one, 100],
    ['one frame in segments of 64 KiB', one, 65_536],
    ['thousands of fragments in segments of one byte', many, 1],
    ['thousands of fragments in segments of 15 bytes', many, 15],
    ['thousands of fragments in one segment', many, 10_000_000],
  ])('are few, and grow with its length only: %s', (_, frames, segment) => {
    for (const opcode of [Opcode.TEXT, Opcode.BINARY]) {
      for (const length of [10_000, 100_000]) {
        const endpoint = new Endpoint(role)
        const stream = endpoint.encode(...frames(opcode, length))
        const chunks = chunksOf(stream, segment)
        const copied = copiedBytes(() => endpoint.receiveChunks(chunks))
        expect(endpoint.host.messages).toHaveLength(1)
        // A header that is cut is put together as well.
        expect(copied).toBeLessThanOrEqual(3 * length + 2 * (stream.length - length))
      }
    }
  })

  it('are none for a message in one segment', () => {
    const endpoint = new Endpoint(role)
    const chunk = copyOf(endpoint.encode(text('text'), binary(Buffer.alloc(100_000))))
    expect(copiedBytes(() => endpoint.protocol.receive(chunk))).toBe(0)
    expect(endpoint.host.messages).toHaveLength(2)
  })
})
