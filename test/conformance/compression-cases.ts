import { seededRandom } from '../support/random.ts'

/*
 * Groups 12 and 13 of the Autobahn test suite: messages that are compressed (RFC 7692) and echoed, in 18 sizes and
 * fragmentations, of five kinds of data with the default offer (12), and with seven offers (13).
 *
 * Differences: the data are made here, of the same kinds; instead of 1,000 messages per case there are 50, and of long
 * ones as many as make 192 KiB, but at least 3.
 */

/** One case. */
export interface CompressionCase {
  readonly number: string
  readonly description: string
  /** `Sec-WebSocket-Extensions` as the suite sends it when it is the client ... */
  readonly offer: string
  /** ... and as it answers when it is the server. */
  readonly response: string
  readonly isBinary: boolean
  readonly messages: readonly Buffer[]
  /** Frames have as many bytes of compressed payload at most; 0 for whole messages. */
  readonly fragmentBytes: number
}

const MAX_MESSAGES = 50
const MIN_MESSAGES = 3
const ENOUGH_BYTES = 196_608

/** Size of the messages, and of their fragments. */
const SIZES: readonly (readonly [bytes: number, fragmentBytes: number])[] = [
  ...[16, 64, 256, 1_024, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072].map((bytes) => [bytes, 0] as const),
  ...[8_192, 16_384, 32_768, 65_536, 131_072].map((bytes) => [bytes, 256] as const),
  ...[1_024, 4_096, 32_768].map((fragmentBytes) => [131_072, fragmentBytes] as const),
]

// ── data ────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface TestData {
  readonly description: string
  readonly isBinary: boolean
  readonly bytes: Buffer
}

const DATA_BYTES = 200_000
const WORDS =
  'das und der die ein ist nicht wer immer strebend sich bemüht den können wir erlösen alles nur gleichnis es irrt'.split(
    ' ',
  )

function makeText(seed: number, next: (random: (below: number) => number, index: number) => string): Buffer {
  const random = seededRandom(seed)
  const parts: string[] = []
  for (let length = 0; length < DATA_BYTES; length += parts.at(-1)!.length) parts.push(next(random, parts.length))
  return Buffer.from(parts.join(''))
}

/** Brightness that changes slowly, with some noise. */
function makePicture(): Buffer {
  const random = seededRandom(2)
  const width = 512
  const pixel = (_: unknown, at: number): number => {
    const brightness = 128 + 90 * Math.sin((at % width) / 60) * Math.cos(at / width / 50)
    return Math.floor(brightness) + random(6)
  }
  return Buffer.from(Array.from({ length: width * width }, pixel))
}

/** Mostly compressed already, with words between. */
function makeDocument(): Buffer {
  const random = seededRandom(5)
  const parts: Buffer[] = []
  for (let length = 0; length < DATA_BYTES; length += parts.at(-1)!.length) {
    const stream = Buffer.from(Array.from({ length: 2_000 }, () => random(256)))
    parts.push(Buffer.concat([Buffer.from(`${parts.length} 0 obj << /Filter /FlateDecode >> stream\n`), stream]))
  }
  return Buffer.concat(parts)
}

const JSON_DATA: TestData = {
  description: 'JSON',
  isBinary: false,
  bytes: makeText(1, (random, index) => {
    const item = { id: index, guid: random(1e9).toString(16), balance: random(1e6) / 100, tags: ['a', 'b', 'c'] }
    return `${JSON.stringify(item, null, 2)},\n`
  }),
}

const TEST_DATA: readonly TestData[] = [
  JSON_DATA,
  { description: 'a picture', isBinary: true, bytes: makePicture() },
  {
    description: 'prose',
    isBinary: true,
    bytes: makeText(3, (random) => `${WORDS[random(WORDS.length)]}${random(8) === 0 ? '\r\n' : ' '}`),
  },
  {
    description: 'HTML',
    isBinary: false,
    bytes: makeText(
      4,
      (random, index) => `<li class="item item-${index % 9}"><a href="/page/${random(1e6)}">Go</a></li>\n`,
    ),
  },
  { description: 'a document', isBinary: true, bytes: makeDocument() },
]

/** Messages that follow each other in the data, which begin again at their end. */
function takeMessages(data: Buffer, size: number): Buffer[] {
  const count = Math.max(MIN_MESSAGES, Math.min(MAX_MESSAGES, Math.floor(ENOUGH_BYTES / size)))
  const endless = Buffer.concat([data, data])
  return Array.from({ length: count }, (_, index) => {
    const at = (index * size) % data.length
    return endless.subarray(at, at + size)
  })
}

// ── offers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const NAME = 'permessage-deflate'
/** What the suite's client can do, and says in every offer. */
const CLIENT = `${NAME}; client_no_context_takeover; client_max_window_bits`

/** What the suite offers as a client, and answers as a server. */
const OFFERS: readonly (readonly [offer: string, response: string])[] = [
  [CLIENT, NAME],
  [`${CLIENT}; server_no_context_takeover`, `${NAME}; client_no_context_takeover`],
  [`${CLIENT}; server_max_window_bits=9`, `${NAME}; client_max_window_bits=9`],
  [`${CLIENT}; server_max_window_bits=15`, `${NAME}; client_max_window_bits=15`],
  [
    `${CLIENT}; server_no_context_takeover; server_max_window_bits=9`,
    `${NAME}; client_no_context_takeover; client_max_window_bits=9`,
  ],
  [
    `${CLIENT}; server_no_context_takeover; server_max_window_bits=15`,
    `${NAME}; client_no_context_takeover; client_max_window_bits=15`,
  ],
  [
    `${CLIENT}; server_no_context_takeover; server_max_window_bits=9, ${CLIENT}; server_no_context_takeover, ${CLIENT}`,
    `${NAME}; client_no_context_takeover; client_max_window_bits=9`,
  ],
]

/** The 18 cases of a subgroup. */
function casesOf(subgroup: string, data: TestData, [offer, response]: readonly [string, string]): CompressionCase[] {
  return SIZES.map(([size, fragmentBytes], index) => ({
    number: `${subgroup}.${index + 1}`,
    description: `${data.description}, ${size} bytes each${fragmentBytes > 0 ? ` in fragments of ${fragmentBytes}` : ''}`,
    offer,
    response,
    isBinary: data.isBinary,
    messages: takeMessages(data.bytes, size),
    fragmentBytes,
  }))
}

/** In the order of their numbers. */
export const COMPRESSION_CASES: readonly CompressionCase[] = [
  ...TEST_DATA.flatMap((data, index) => casesOf(`12.${index + 1}`, data, OFFERS[0]!)),
  ...OFFERS.flatMap((offer, index) => casesOf(`13.${index + 1}`, JSON_DATA, offer)),
]
