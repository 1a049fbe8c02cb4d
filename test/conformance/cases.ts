import { isUtf8 } from 'node:buffer'
import { Opcode } from '../../src/constants.ts'
import type { ProtocolErrorCode } from '../../src/errors.ts'
import {
  binary,
  close,
  continuation,
  cut,
  type FrameSpec,
  fragments,
  ping,
  pong,
  text,
  unfinished,
} from '../support/wire.ts'

/*
 * What the Autobahn test suite asks of an endpoint that echoes, by its numbers; groups 12 and 13 (compression) are in
 * compression-cases.ts. Where the suite takes several behaviours, the strictest is demanded here.
 *
 * Differences: the suite waits between frames in some cases, which means nothing to a protocol without time; its way of
 * chopping frames is one of those that all cases run in; the sizes of group 9 are smaller (see there).
 */

/** A violation that must be found. */
interface Violation {
  readonly closeCode: number
  readonly code: ProtocolErrorCode
  /** Index of the frame in which it is found ... */
  readonly frame: number
  /** ... and how many bytes of its payload must have arrived by then, not one more or less. */
  readonly payloadBytes?: number
}

/** One case. Unless it says otherwise the connection is open at its end, and closes normally. */
export interface Case {
  readonly number: string
  readonly description: string
  readonly sends: readonly FrameSpec[]
  /** Echoes and pongs, in order; and the Close, where it ends with one. */
  readonly answers: readonly FrameSpec[]
  readonly violation?: Violation
  /** Chunks of this size are a way in which the case must run. */
  readonly chops?: number
  /** The peer's Close, as it must be reported. */
  readonly closed?: { readonly code: number; readonly reason: string }
}

const HELLO = 'Hello, world!'

const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex')

function violation(closeCode: number, code: ProtocolErrorCode, frame: number, payloadBytes?: number): Violation {
  return { closeCode, code, frame, ...(payloadBytes === undefined ? {} : { payloadBytes }) }
}

// ── 1 framing ───────────────────────────────────────────────────────────────────────────────────────────────────────

const FRAMING_LENGTHS = [0, 125, 126, 127, 128, 65_535, 65_536, 65_536]

const framing: Case[] = FRAMING_LENGTHS.flatMap((length, index) => {
  const frames = [text('*'.repeat(length)), binary(Buffer.alloc(length, 0xfe))]
  return frames.map((frame, kind) => ({
    number: `1.${kind + 1}.${index + 1}`,
    description: `${kind === 0 ? 'text' : 'binary'} of ${length} bytes${index === 7 ? ', chopped' : ''}`,
    sends: [frame],
    answers: [frame],
  }))
})

// ── 2 pings and pongs ───────────────────────────────────────────────────────────────────────────────────────────────

const NOT_TEXT = bytes('00 ff fe fd fc fb 00 ff')
const TEN_PINGS = Array.from({ length: 10 }, (_, index) => `payload-${index}`)

const pings: Case[] = [
  { number: '2.1', description: 'ping without payload', sends: [ping()], answers: [pong()] },
  { number: '2.2', description: 'ping with text', sends: [ping(HELLO)], answers: [pong(HELLO)] },
  {
    number: '2.3',
    description: 'ping with bytes that are no text',
    sends: [ping(NOT_TEXT)],
    answers: [pong(NOT_TEXT)],
  },
  {
    number: '2.4',
    description: 'ping with 125 bytes',
    sends: [ping(Buffer.alloc(125, 0xfe))],
    answers: [pong(Buffer.alloc(125, 0xfe))],
  },
  {
    number: '2.5',
    description: 'ping with 126 bytes',
    sends: [ping(Buffer.alloc(126, 0xfe))],
    answers: [],
    violation: violation(1002, 'ERR_CONTROL_TOO_LONG', 0),
  },
  {
    number: '2.6',
    description: 'ping with 125 bytes, in octets',
    sends: [ping(Buffer.alloc(125, 0xfe))],
    answers: [pong(Buffer.alloc(125, 0xfe))],
  },
  { number: '2.7', description: 'pong that nobody asked for', sends: [pong()], answers: [] },
  { number: '2.8', description: 'pong with payload that nobody asked for', sends: [pong(HELLO)], answers: [] },
  {
    number: '2.9',
    description: 'pong that nobody asked for, then a ping',
    sends: [pong('unsolicited pong payload'), ping('ping payload')],
    answers: [pong('ping payload')],
  },
  {
    number: '2.10',
    description: 'ten pings',
    sends: TEN_PINGS.map((payload) => ping(payload)),
    answers: TEN_PINGS.map((payload) => pong(payload)),
  },
  {
    number: '2.11',
    description: 'ten pings, in octets',
    sends: TEN_PINGS.map((payload) => ping(payload)),
    answers: TEN_PINGS.map((payload) => pong(payload)),
  },
]

// ── 3 reserved bits ─────────────────────────────────────────────────────────────────────────────────────────────────

function reservedBits(number: string, description: string, rsv: number, frame: FrameSpec, around: FrameSpec[]): Case {
  const [before, ...behind] = around
  const sends = [...(before === undefined ? [] : [before]), { ...frame, rsv }, ...behind]
  return {
    number,
    description: `${description} with RSV ${rsv}`,
    sends,
    answers: before === undefined ? [] : [before],
    violation: violation(1002, 'ERR_RESERVED_BITS', before === undefined ? 0 : 1),
  }
}

const reserved: Case[] = [
  reservedBits('3.1', 'text', 1, text(HELLO), []),
  reservedBits('3.2', 'text, then text', 2, text(HELLO), [text(HELLO), ping()]),
  reservedBits('3.3', 'text, then text, in frames', 3, text(HELLO), [text(HELLO), ping()]),
  reservedBits('3.4', 'text, then text, in octets', 4, text(HELLO), [text(HELLO), ping()]),
  reservedBits('3.5', 'binary', 5, binary(Buffer.from('00fffefdfcfb00ff', 'hex')), []),
  reservedBits('3.6', 'ping', 6, ping(HELLO), []),
  reservedBits('3.7', 'close', 7, close(1000), []),
]

// ── 4 reserved opcodes ──────────────────────────────────────────────────────────────────────────────────────────────

const opcodes: Case[] = [
  [3, 4, 5, 6, 7],
  [11, 12, 13, 14, 15],
].flatMap((group, kind) =>
  group.map((opcode, index) => {
    const frame: FrameSpec =
      index % 2 === 1 || index === 4 ? { opcode, payload: Buffer.from('reserved opcode') } : { opcode }
    const isAlone = index < 2
    return {
      number: `4.${kind + 1}.${index + 1}`,
      description: `${isAlone ? '' : 'text, then '}opcode ${opcode}`,
      sends: isAlone ? [frame] : [text(HELLO), frame, ping()],
      answers: isAlone ? [] : [text(HELLO)],
      violation: violation(1002, 'ERR_OPCODE', isAlone ? 0 : 1),
    }
  }),
)

// ── 5 fragmentation ─────────────────────────────────────────────────────────────────────────────────────────────────

const TWO = fragments(Opcode.TEXT, ['fragment1', 'fragment2'])
const TWO_JOINED = text('fragment1fragment2')
const TWO_WITH_PING = [TWO[0]!, ping('ping payload'), TWO[1]!]
const NO_MESSAGE = violation(1002, 'ERR_UNEXPECTED_CONTINUATION', 0)
const LOST_LAST = continuation('non-continuation payload')
const LOST = unfinished(LOST_LAST)

const LEGAL_MIX = [
  ...fragments(Opcode.TEXT, ['fragment1', 'fragment2', '']).slice(0, 2),
  ping('pongme 1!'),
  unfinished(continuation('fragment3')),
  unfinished(continuation('fragment4')),
  ping('pongme 2!'),
  continuation('fragment5'),
]
const LEGAL_ANSWERS = [pong('pongme 1!'), pong('pongme 2!'), text('fragment1fragment2fragment3fragment4fragment5')]

/** The same case in the three ways of chopping that the suite has. */
function threeWays(first: number, description: string, rest: Omit<Case, 'number' | 'description'>): Case[] {
  return ['', ', in frames', ', in octets'].map((chopping, index) => ({
    number: `5.${first + index}`,
    description: description + chopping,
    ...rest,
  }))
}

const fragmentation: Case[] = [
  {
    number: '5.1',
    description: 'ping in two fragments',
    sends: [unfinished(ping('fragment1')), continuation('fragment2')],
    answers: [],
    violation: violation(1002, 'ERR_CONTROL_FRAGMENTED', 0),
  },
  {
    number: '5.2',
    description: 'pong in two fragments',
    sends: [unfinished(pong('fragment1')), continuation('fragment2')],
    answers: [],
    violation: violation(1002, 'ERR_CONTROL_FRAGMENTED', 0),
  },
  ...threeWays(3, 'text in two fragments', { sends: TWO, answers: [TWO_JOINED] }),
  ...threeWays(6, 'text in two fragments with a ping between', {
    sends: TWO_WITH_PING,
    answers: [pong('ping payload'), TWO_JOINED],
  }),
  ...threeWays(9, 'last continuation of nothing, then text', {
    sends: [LOST_LAST, text(HELLO)],
    answers: [],
    violation: NO_MESSAGE,
  }),
  ...threeWays(12, 'continuation of nothing, then text', {
    sends: [LOST, text(HELLO)],
    answers: [],
    violation: NO_MESSAGE,
  }),
  {
    number: '5.15',
    description: 'text in two fragments, then a continuation of nothing, then text',
    sends: [...TWO, LOST, text(HELLO)],
    answers: [TWO_JOINED],
    violation: violation(1002, 'ERR_UNEXPECTED_CONTINUATION', 2),
  },
  {
    number: '5.16',
    description: 'twice: continuation of nothing, then text in two fragments',
    sends: [LOST, ...TWO, LOST, ...TWO],
    answers: [],
    violation: NO_MESSAGE,
  },
  {
    number: '5.17',
    description: 'twice: last continuation of nothing, then text in two fragments',
    sends: [LOST_LAST, ...TWO, LOST_LAST, ...TWO],
    answers: [],
    violation: NO_MESSAGE,
  },
  {
    number: '5.18',
    description: 'text in two fragments, both with the opcode of text',
    sends: [unfinished(text('fragment1')), text('fragment2')],
    answers: [],
    violation: violation(1002, 'ERR_EXPECTED_CONTINUATION', 1),
  },
  { number: '5.19', description: 'text in five fragments with two pings', sends: LEGAL_MIX, answers: LEGAL_ANSWERS },
  { number: '5.20', description: 'the same, frame by frame', sends: LEGAL_MIX, answers: LEGAL_ANSWERS },
]

// ── 6 UTF-8 ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const KOSME = bytes('ce ba e1 bd b9 cf 83 ce bc ce b5')
const EDITED = Buffer.from('edited')
const MIXED = Buffer.from('Hello-µ@ßöäüàá-UTF-8!!')
const BEYOND_UNICODE = bytes('f4 90 80 80')

const octets = (payload: Buffer): FrameSpec[] => fragments(Opcode.TEXT, cut(payload, 1))

/** True when more bytes can make a text of these. */
function canBecomeText(prefix: Uint8Array): boolean {
  // Behind any lead byte one of these is possible, whatever is forbidden there.
  const ends = ['', '80', '90', 'a0', '8080', '9080', 'a080', '808080', '908080']
  return ends.some((end) => isUtf8(Buffer.concat([prefix, bytes(end)])))
}

/** Length up to and with the first byte behind which nothing can make it a text; the whole when only an end is missing. */
function badLength(payload: Buffer): number {
  for (let length = 1; length <= payload.length; length++) {
    if (!canBecomeText(payload.subarray(0, length))) return length
  }
  return payload.length
}

function badText(number: string, description: string, sends: FrameSpec[], frame: number, payloadBytes: number): Case {
  return { number, description, sends, answers: [], violation: violation(1007, 'ERR_TEXT_UTF8', frame, payloadBytes) }
}

/** Sequences as in Markus Kuhn's decoder stress test: group, what they are, and the payloads. */
const SEQUENCES: readonly (readonly [group: number, description: string, payloads: readonly Buffer[]])[] = [
  [
    5,
    'valid text',
    [
      Buffer.from('hello$world'),
      Buffer.from('hello\u00a2world'),
      Buffer.from('hello\u20acworld'),
      Buffer.from('hello\u{24b62}world'),
      KOSME,
    ],
  ],
  [6, 'prefix of a valid text', Array.from({ length: 11 }, (_, index) => KOSME.subarray(0, index + 1))],
  [7, 'first sequence of its length', ['00', 'c2 80', 'e0 a0 80', 'f0 90 80 80'].map(bytes)],
  [8, 'first sequence of 5 or 6 bytes', ['f8 88 80 80 80', 'fc 84 80 80 80 80'].map(bytes)],
  [9, 'last sequence of its length', ['7f', 'df bf', 'ef bf bf', 'f4 8f bf bf'].map(bytes)],
  [10, 'last sequence of 4, 5 or 6 bytes', ['f7 bf bf bf', 'fb bf bf bf bf', 'fd bf bf bf bf bf'].map(bytes)],
  [11, 'boundary', ['ed 9f bf', 'ee 80 80', 'ef bf bd', 'f4 8f bf bf', 'f4 90 80 80'].map(bytes)],
  [
    12,
    'unexpected continuation bytes',
    [
      ...['80', 'bf', '80 bf', '80 bf 80', '80 bf 80 bf', '80 bf 80 bf 80', '80 bf 80 bf 80 bf'].map(bytes),
      Buffer.from(Array.from({ length: 64 }, (_, index) => 0x80 + index)),
    ],
  ],
  [
    13,
    'lead bytes, each before a space',
    (
      [
        [0xc0, 32],
        [0xe0, 16],
        [0xf0, 8],
        [0xf8, 4],
        [0xfc, 2],
      ] as const
    ).map(([first, count]) => Buffer.from(Array.from({ length: count }, (_, index) => [first + index, 0x20]).flat())),
  ],
  [
    14,
    'last continuation byte missing',
    [
      ...['c0', 'e0 80', 'f0 80 80', 'f8 80 80 80', 'fc 80 80 80 80'],
      ...['df', 'ef bf', 'f7 bf bf', 'fb bf bf bf', 'fd bf bf bf bf'],
    ].map(bytes),
  ],
  [
    15,
    'incomplete sequences in a row',
    [bytes('c0 e0 80 f0 80 80 f8 80 80 80 fc 80 80 80 80 df ef bf f7 bf bf fb bf bf bf fd bf bf bf bf')],
  ],
  [16, 'impossible bytes', ['fe', 'ff', 'fe fe ff ff'].map(bytes)],
  [
    17,
    'overlong form of ASCII',
    ['c0 af', 'e0 80 af', 'f0 80 80 af', 'f8 80 80 80 af', 'fc 80 80 80 80 af'].map(bytes),
  ],
  [18, 'longest overlong form', ['c1 bf', 'e0 9f bf', 'f0 8f bf bf', 'f8 87 bf bf bf', 'fc 83 bf bf bf bf'].map(bytes)],
  [19, 'overlong form of NUL', ['c0 80', 'e0 80 80', 'f0 80 80 80', 'f8 80 80 80 80', 'fc 80 80 80 80 80'].map(bytes)],
  [
    20,
    'single surrogate',
    ['ed a0 80', 'ed ad bf', 'ed ae 80', 'ed af bf', 'ed b0 80', 'ed be 80', 'ed bf bf'].map(bytes),
  ],
  [
    21,
    'pair of surrogates',
    [
      ...['ed a0 80 ed b0 80', 'ed a0 80 ed bf bf', 'ed ad bf ed b0 80', 'ed ad bf ed bf bf'],
      ...['ed ae 80 ed b0 80', 'ed ae 80 ed bf bf', 'ed af bf ed b0 80', 'ed af bf ed bf bf'],
    ].map(bytes),
  ],
  [
    22,
    'code point that is no character',
    Array.from({ length: 17 }, (_, plane) =>
      [0xfffe, 0xffff].map((low) => Buffer.from(String.fromCodePoint(plane * 0x10000 + low))),
    ).flat(),
  ],
  [
    23,
    'special character',
    [0xfff9, 0xfffa, 0xfffb, 0xfffc, 0xfffd, 0xfffe, 0xffff].map((code) => Buffer.from(String.fromCodePoint(code))),
  ],
]

const sequences: Case[] = SEQUENCES.flatMap(([group, description, payloads]) =>
  payloads.map((payload, index) => {
    const number = `6.${group}.${index + 1}`
    return isUtf8(payload)
      ? { number, description, sends: [text(payload)], answers: [text(payload)] }
      : badText(number, description, [text(payload)], 0, badLength(payload))
  }),
)

const utf8: Case[] = [
  { number: '6.1.1', description: 'text without payload', sends: [text('')], answers: [text('')] },
  {
    number: '6.1.2',
    description: 'text in three fragments without payload',
    sends: fragments(Opcode.TEXT, ['', '', '']),
    answers: [text('')],
  },
  {
    number: '6.1.3',
    description: 'text in three fragments, of which the second has payload',
    sends: fragments(Opcode.TEXT, ['', 'middle frame payload', '']),
    answers: [text('middle frame payload')],
  },
  { number: '6.2.1', description: 'valid text', sends: [text(MIXED)], answers: [text(MIXED)] },
  {
    number: '6.2.2',
    description: 'valid text, cut between characters',
    sends: fragments(Opcode.TEXT, ['Hello-µ@ßöä', 'üàá-UTF-8!!']),
    answers: [text(MIXED)],
  },
  { number: '6.2.3', description: 'valid text in fragments of an octet', sends: octets(MIXED), answers: [text(MIXED)] },
  { number: '6.2.4', description: 'valid text in fragments of an octet', sends: octets(KOSME), answers: [text(KOSME)] },
  badText('6.3.1', 'invalid text', [text(Buffer.concat([KOSME, bytes('ed a0 80'), EDITED]))], 0, KOSME.length + 2),
  badText(
    '6.3.2',
    'invalid text in fragments of an octet',
    octets(Buffer.concat([KOSME, bytes('ed a0 80'), EDITED])),
    KOSME.length + 1,
    1,
  ),
  badText(
    '6.4.1',
    'invalid text in three fragments: valid, bad, rest',
    fragments(Opcode.TEXT, [KOSME, BEYOND_UNICODE, EDITED]),
    1,
    2,
  ),
  badText(
    '6.4.2',
    'invalid text in three fragments, the second of which is the bad byte',
    fragments(Opcode.TEXT, [Buffer.concat([KOSME, bytes('f4')]), bytes('90'), Buffer.concat([bytes('80 80'), EDITED])]),
    1,
    1,
  ),
  badText(
    '6.4.3',
    'invalid text in three chops: valid, bad, rest',
    [text(Buffer.concat([KOSME, BEYOND_UNICODE, EDITED]))],
    0,
    KOSME.length + 2,
  ),
  badText(
    '6.4.4',
    'invalid text in three chops, the second of which is the bad byte',
    [text(Buffer.concat([KOSME, BEYOND_UNICODE, EDITED]))],
    0,
    KOSME.length + 2,
  ),
  ...sequences,
]

// ── 7 close ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function closing(number: string, description: string, frames: FrameSpec[], code: number, reason = ''): Case {
  const answer = code === 1005 ? close() : close(code)
  return { number, description, sends: frames, answers: [answer], closed: { code, reason } }
}

const LONGEST_REASON = '*'.repeat(123)
const VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
const INVALID_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]
const LONG_TEXT = text('BAsd7&jh23'.repeat(26_214))

const closes: Case[] = [
  {
    ...closing('7.1.1', 'text, then close', [text('Hello World!'), close(1000)], 1000),
    answers: [text('Hello World!'), close(1000)],
  },
  closing('7.1.2', 'two closes', [close(1000), close(1000)], 1000),
  closing('7.1.3', 'ping behind close', [close(1000), ping()], 1000),
  closing('7.1.4', 'text behind close', [close(1000), text('Hello World!')], 1000),
  closing(
    '7.1.5',
    'close between two fragments',
    [unfinished(text('fragment1')), close(1000), continuation('fragment2')],
    1000,
  ),
  {
    ...closing('7.1.6', 'long text, then close, then ping', [LONG_TEXT, close(1000), ping()], 1000),
    answers: [LONG_TEXT, close(1000)],
  },
  closing('7.3.1', 'close without payload', [close()], 1005),
  {
    number: '7.3.2',
    description: 'close with one byte',
    sends: [{ opcode: Opcode.CLOSE, payload: Buffer.from('a') }],
    answers: [],
    violation: violation(1002, 'ERR_CLOSE_PAYLOAD', 0, 1),
  },
  closing('7.3.3', 'close with a code', [close(1000)], 1000),
  closing('7.3.4', 'close with a reason', [close(1000, HELLO)], 1000, HELLO),
  closing('7.3.5', 'close with a reason of 123 bytes', [close(1000, LONGEST_REASON)], 1000, LONGEST_REASON),
  {
    number: '7.3.6',
    description: 'close with a reason of 124 bytes',
    sends: [close(1000, `${LONGEST_REASON}*`)],
    answers: [],
    violation: violation(1002, 'ERR_CONTROL_TOO_LONG', 0),
  },
  {
    number: '7.5.1',
    description: 'close with a reason that is no text',
    sends: [close(1000, Buffer.concat([KOSME, bytes('ed a0 80'), EDITED]))],
    answers: [],
    violation: violation(1007, 'ERR_CLOSE_REASON_UTF8', 0),
  },
  ...VALID_CODES.map((code, index) => closing(`7.7.${index + 1}`, `close with ${code}`, [close(code)], code)),
  ...[...INVALID_CODES.map((code, index) => [`7.9.${index + 1}`, code] as const), ['7.13.1', 5000] as const].map(
    ([number, code]) => ({
      number,
      description: `close with ${code}`,
      sends: [close(code)],
      answers: [],
      violation: violation(1002, 'ERR_CLOSE_CODE', 0, 2),
    }),
  ),
  {
    number: '7.13.2',
    description: 'close with 65535',
    sends: [close(65_535)],
    answers: [],
    violation: violation(1002, 'ERR_CLOSE_CODE', 0, 2),
  },
]

// ── 9 sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/*
 * The suite measures time here; this is about correctness, so sizes are a sixteenth of the suite's (which are in the
 * descriptions), but for 16 MiB in 9.2.6. Rounds of 1,000 messages are rounds of 100.
 */
const KIB = 1024
const MIB = 1024 * KIB
const SCALE = 16

const filled = (size: number): Buffer => Buffer.alloc(size, 'BAsd7&jh23')

/** A case for text and one for binary; `9.group` and `9.(group + 1)`. */
function sizeCases(
  group: number,
  index: number,
  description: string,
  frames: (opcode: number) => FrameSpec[],
  answers: (opcode: number) => FrameSpec[],
): Case[] {
  return [Opcode.TEXT, Opcode.BINARY].map((opcode, kind) => ({
    number: `9.${group + kind}.${index + 1}`,
    description: `${kind === 0 ? 'text' : 'binary'} ${description}`,
    sends: frames(opcode),
    answers: answers(opcode),
  }))
}

const sizes: Case[] = [
  ...[64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB].flatMap((size, index) => {
    const frame = (opcode: number): FrameSpec[] => {
      const isFull = opcode === Opcode.BINARY && size === 16 * MIB
      return [{ opcode, payload: filled(isFull ? size : size / SCALE) }]
    }
    return sizeCases(1, index, `of ${size / KIB} KiB`, frame, frame)
  }),
  ...[64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB].flatMap((size, index) => {
    const payload = filled((4 * MIB) / SCALE)
    return sizeCases(
      3,
      index,
      `of 4 MiB in fragments of ${size} bytes`,
      (opcode) => fragments(opcode, cut(payload, Math.max(size / SCALE, 32))),
      (opcode) => [{ opcode, payload }],
    )
  }),
  ...[64, 128, 256, 512, 1024, 2048].flatMap((size, index) => {
    const frame = (opcode: number): FrameSpec[] => [{ opcode, payload: filled(MIB / SCALE) }]
    const cases = sizeCases(5, index, `of 1 MiB in chops of ${size} bytes`, frame, frame)
    return cases.map((each) => ({ ...each, chops: size }))
  }),
  ...[0, 16, 64, 256, 1024, 4096].flatMap((size, index) => {
    const frames = (opcode: number): FrameSpec[] =>
      Array.from({ length: 100 }, () => ({ opcode, payload: filled(size) }))
    return sizeCases(7, index, `of ${size} bytes, 1,000 times`, frames, frames)
  }),
]

// ── 10 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const others: Case[] = [
  {
    number: '10.1.1',
    description: 'text of 65536 bytes in fragments of 1300',
    sends: fragments(Opcode.TEXT, cut(Buffer.alloc(65_536, '*'), 1300)),
    answers: [text('*'.repeat(65_536))],
  },
]

/** In the order of their numbers. */
export const CASES: readonly Case[] = [
  ...framing,
  ...pings,
  ...reserved,
  ...opcodes,
  ...fragmentation,
  ...utf8,
  ...closes,
  ...sizes,
  ...others,
].sort((a, b) => a.number.localeCompare(b.number, 'en', { numeric: true }))
