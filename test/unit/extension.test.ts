import { describe, expect, it } from 'vitest'
import { UsageError } from '../../src/errors.ts'
import {
  acceptDeflateOffer,
  COMPRESSION_DEFAULTS,
  type Compression,
  type CompressionOptions,
  type DeflateAgreement,
  formatDeflateOffer,
  readDeflateResponse,
  resolveCompression,
} from '../../src/extension.ts'
import { parseExtensions } from '../../src/headers.ts'

/** Nothing that would have to be said: both windows as large as they can be, both kept. */
const OPEN: Compression = { ...COMPRESSION_DEFAULTS, serverNoContextTakeover: false, clientNoContextTakeover: false }

const open = (options: CompressionOptions = {}): Compression => ({ ...OPEN, ...options }) as Compression

/** `server bits, client bits`, with a `-` behind the bits of a side that forgets its messages. */
function short(agreement: DeflateAgreement | undefined): string | undefined {
  if (agreement === undefined) return undefined
  const { serverMaxWindowBits, clientMaxWindowBits, serverNoContextTakeover, clientNoContextTakeover } = agreement
  const server = `${serverMaxWindowBits}${serverNoContextTakeover ? '-' : ''}`
  return `${server}, ${clientMaxWindowBits}${clientNoContextTakeover ? '-' : ''}`
}

const D = 'permessage-deflate'

/** Parameters that no element may have, whoever sends it. */
const MALFORMED: readonly string[] = [
  'server_max_window_bits',
  'server_max_window_bits=7',
  'server_max_window_bits=16',
  'server_max_window_bits=0',
  'server_max_window_bits=08',
  'server_max_window_bits=010',
  'server_max_window_bits="08"',
  'server_max_window_bits=+9',
  'server_max_window_bits=-9',
  'server_max_window_bits=9.5',
  'server_max_window_bits=9.0',
  'server_max_window_bits=1e1',
  'server_max_window_bits=0x9',
  'server_max_window_bits=nine',
  'server_max_window_bits=NaN',
  'server_max_window_bits=99999999999999999999',
  'client_max_window_bits=7',
  'client_max_window_bits=16',
  'client_max_window_bits=08',
  'client_max_window_bits=true',
  'client_max_window_bits=1e1',
  'server_no_context_takeover=1',
  'server_no_context_takeover=true',
  'server_no_context_takeover="true"',
  'client_no_context_takeover=8',
  'client_no_context_takeover=false',
  'unknown',
  'unknown=1',
  'Server_No_Context_Takeover',
  'server_no_context_takeover; server_no_context_takeover',
  'client_no_context_takeover; server_no_context_takeover; client_no_context_takeover',
  'server_max_window_bits=9; server_max_window_bits=9',
  'server_max_window_bits=9; server_max_window_bits=10',
  'client_max_window_bits; client_max_window_bits=9',
  'client_max_window_bits; client_max_window_bits',
  'server_max_window_bits=10; unknown',
  '__proto__',
  'constructor=9',
]

describe('a server answers an offer (§5, §7.1)', () => {
  it.each<[offer: string, wanted: CompressionOptions, response: string, agreed: string]>([
    [D, {}, D, '15, 15'],
    // Context takeover: who asks for it gets it, and either side may.
    [`${D}; server_no_context_takeover`, {}, `${D}; server_no_context_takeover`, '15-, 15'],
    [`${D}; client_no_context_takeover`, {}, `${D}; client_no_context_takeover`, '15, 15-'],
    [D, { serverNoContextTakeover: true }, `${D}; server_no_context_takeover`, '15-, 15'],
    [D, { clientNoContextTakeover: true }, `${D}; client_no_context_takeover`, '15, 15-'],
    [
      `${D}; client_no_context_takeover; server_no_context_takeover`,
      { serverNoContextTakeover: true, clientNoContextTakeover: true },
      `${D}; server_no_context_takeover; client_no_context_takeover`,
      '15-, 15-',
    ],
    // The window of the server: the smaller one, said whenever it was asked for or is not the largest.
    [`${D}; server_max_window_bits=15`, {}, `${D}; server_max_window_bits=15`, '15, 15'],
    [`${D}; server_max_window_bits=9`, {}, `${D}; server_max_window_bits=9`, '9, 15'],
    [`${D}; server_max_window_bits=8`, {}, `${D}; server_max_window_bits=8`, '8, 15'],
    [`${D}; server_max_window_bits="10"`, {}, `${D}; server_max_window_bits=10`, '10, 15'],
    [`${D};server_max_window_bits="1\\0"`, {}, `${D}; server_max_window_bits=10`, '10, 15'],
    [`${D}; server_max_window_bits=12`, { serverMaxWindowBits: 9 }, `${D}; server_max_window_bits=9`, '9, 15'],
    [`${D}; server_max_window_bits=9`, { serverMaxWindowBits: 12 }, `${D}; server_max_window_bits=9`, '9, 15'],
    [D, { serverMaxWindowBits: 8 }, `${D}; server_max_window_bits=8`, '8, 15'],
    // The window of the client: only one that says that it can be told.
    [`${D}; client_max_window_bits`, {}, D, '15, 15'],
    [`${D}; client_max_window_bits=15`, {}, D, '15, 15'],
    [`${D}; client_max_window_bits=9`, {}, `${D}; client_max_window_bits=9`, '15, 9'],
    [`${D}; client_max_window_bits="8"`, {}, `${D}; client_max_window_bits=8`, '15, 8'],
    [`${D}; client_max_window_bits`, { clientMaxWindowBits: 10 }, `${D}; client_max_window_bits=10`, '15, 10'],
    [`${D}; client_max_window_bits=12`, { clientMaxWindowBits: 10 }, `${D}; client_max_window_bits=10`, '15, 10'],
    [`${D}; client_max_window_bits=9`, { clientMaxWindowBits: 10 }, `${D}; client_max_window_bits=9`, '15, 9'],
    // ... and one that cannot is told to forget.
    [D, { clientMaxWindowBits: 10 }, `${D}; client_no_context_takeover`, '15, 15-'],
    [
      `${D}; server_max_window_bits=14`,
      { clientMaxWindowBits: 8 },
      `${D}; client_no_context_takeover; server_max_window_bits=14`,
      '14, 15-',
    ],
    // All of it.
    [
      `${D}; client_max_window_bits; server_max_window_bits=11; client_no_context_takeover; server_no_context_takeover`,
      { clientMaxWindowBits: 13 },
      `${D}; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11; client_max_window_bits=13`,
      '11-, 13-',
    ],
    // Blanks.
    [` ${D} ;\tserver_max_window_bits = 9 `, {}, `${D}; server_max_window_bits=9`, '9, 15'],
    // Others before and behind it.
    [`x-webkit-deflate-frame, ${D}; server_no_context_takeover`, {}, `${D}; server_no_context_takeover`, '15-, 15'],
    [`${D}, permessage-bzip2; level=9`, {}, D, '15, 15'],
    // Fallbacks: the first that can be met.
    [`${D}; server_max_window_bits=10, ${D}`, {}, `${D}; server_max_window_bits=10`, '10, 15'],
    [`${D}; server_max_window_bits=10; future=1, ${D}`, {}, D, '15, 15'],
    [
      `${D}; server_max_window_bits=7, ${D}; server_max_window_bits=16, ${D}; server_max_window_bits=12, ${D}`,
      {},
      `${D}; server_max_window_bits=12`,
      '12, 15',
    ],
  ])('%s, %o', (offer, wanted, response, agreed) => {
    const accepted = acceptDeflateOffer(offer, open(wanted))
    expect(accepted?.response).toBe(response)
    expect(short(accepted?.agreement)).toBe(agreed)
  })

  it('by default forgets messages, in both directions, and leaves the windows as they are', () => {
    const accepted = acceptDeflateOffer(`${D}; client_max_window_bits`, COMPRESSION_DEFAULTS)
    expect(accepted?.response).toBe(`${D}; server_no_context_takeover; client_no_context_takeover`)
    expect(short(accepted?.agreement)).toBe('15-, 15-')
  })

  it.each(MALFORMED)('declines %s', (parameters) => {
    expect(acceptDeflateOffer(`${D}; ${parameters}`, OPEN)).toBeUndefined()
    // What can be met is the next one.
    expect(acceptDeflateOffer(`${D}; ${parameters}, ${D}`, OPEN)?.response).toBe(D)
  })

  it.each([
    undefined,
    '',
    'permessage-bzip2',
    'PERMESSAGE-DEFLATE',
    `${D}-2`,
    `x-${D}`,
    // Not in the grammar: nothing of it counts.
    `${D};`,
    `${D}; server_max_window_bits=`,
    `${D}; server_max_window_bits=""`,
    `${D}; server_max_window_bits="9`,
    `${D}; server_max_window_bits="9 "`,
    `${D}, `,
    `, ${D}`,
    `${D}; =9`,
  ])('declines %j', (offer) => {
    expect(acceptDeflateOffer(offer, OPEN)).toBeUndefined()
  })
})

describe('a client offers (§7.1)', () => {
  it.each<[wanted: CompressionOptions, offer: string]>([
    [{}, `${D}; client_max_window_bits`],
    [{ serverNoContextTakeover: true }, `${D}; server_no_context_takeover; client_max_window_bits`],
    [{ clientNoContextTakeover: true }, `${D}; client_no_context_takeover; client_max_window_bits`],
    [{ serverMaxWindowBits: 14 }, `${D}; server_max_window_bits=14; client_max_window_bits`],
    [{ serverMaxWindowBits: 8 }, `${D}; server_max_window_bits=8; client_max_window_bits`],
    [{ clientMaxWindowBits: 8 }, `${D}; client_max_window_bits=8`],
    [{ serverMaxWindowBits: 9, clientMaxWindowBits: 10 }, `${D}; server_max_window_bits=9; client_max_window_bits=10`],
  ])('%o', (wanted, offer) => {
    expect(formatDeflateOffer(open(wanted))).toBe(offer)
    expect(parseExtensions(offer)).toHaveLength(1)
  })

  it('by default that messages are forgotten in both directions', () => {
    expect(formatDeflateOffer(COMPRESSION_DEFAULTS)).toBe(
      `${D}; server_no_context_takeover; client_no_context_takeover; client_max_window_bits`,
    )
  })
})

describe('a client reads the answer (§5.1, §7.1)', () => {
  it.each<[response: string, wanted: CompressionOptions, agreed: string]>([
    [D, {}, '15, 15'],
    // What was not asked for, the server may do of itself.
    [`${D}; server_no_context_takeover`, {}, '15-, 15'],
    [`${D}; client_no_context_takeover`, {}, '15, 15-'],
    [`${D}; server_max_window_bits=9`, {}, '9, 15'],
    [`${D}; server_max_window_bits="9"`, {}, '9, 15'],
    [`${D}; server_max_window_bits=15`, {}, '15, 15'],
    [`${D}; server_max_window_bits=8`, { serverMaxWindowBits: 12 }, '8, 15'],
    [`${D}; server_max_window_bits=12`, { serverMaxWindowBits: 12 }, '12, 15'],
    // The offer has always said that the server may limit the client.
    [`${D}; client_max_window_bits=8`, {}, '15, 8'],
    [`${D}; client_max_window_bits=10`, { clientMaxWindowBits: 10 }, '15, 10'],
    [`${D}; client_max_window_bits=9`, { clientMaxWindowBits: 10 }, '15, 9'],
    // A hint that the server ignores still holds here.
    [D, { clientMaxWindowBits: 10 }, '15, 10'],
    [D, { clientNoContextTakeover: true }, '15, 15-'],
    [`${D}; server_no_context_takeover`, { serverNoContextTakeover: true }, '15-, 15'],
    [
      `${D}; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=11`,
      { serverNoContextTakeover: true, serverMaxWindowBits: 10, clientMaxWindowBits: 12 },
      '10-, 11-',
    ],
  ])('%s, to %o', (response, wanted, agreed) => {
    expect(short(readDeflateResponse(response, open(wanted)))).toBe(agreed)
  })

  it.each<[response: string, wanted: CompressionOptions, why: string]>([
    [D, { serverNoContextTakeover: true }, 'it does not say what was asked for'],
    [D, { serverMaxWindowBits: 14 }, 'the window is larger than the one asked for'],
    [`${D}; server_max_window_bits=13`, { serverMaxWindowBits: 12 }, 'the window is larger than the one asked for'],
    [`${D}; client_max_window_bits=11`, { clientMaxWindowBits: 10 }, 'the window is larger than the one offered'],
    [`${D}; client_max_window_bits`, {}, 'an answer needs a value there'],
    [`${D}, ${D}`, {}, 'one is chosen, not two'],
    [`${D}, permessage-bzip2`, {}, 'the other one was not offered'],
    ['permessage-bzip2', {}, 'it was not offered'],
    ['Permessage-Deflate', {}, 'names are told apart by case'],
    ['', {}, 'there is nothing in it'],
    [`${D};`, {}, 'it does not fit the grammar'],
    [`${D}; server_max_window_bits="9`, {}, 'it does not fit the grammar'],
  ])('refuses %s, to %o: %s', (response, wanted) => {
    expect(readDeflateResponse(response, open(wanted))).toBeUndefined()
  })

  it.each(MALFORMED)('refuses %s', (parameters) => {
    expect(readDeflateResponse(`${D}; ${parameters}`, OPEN)).toBeUndefined()
  })
})

describe('both sides', () => {
  const TAKEOVERS = [true, false]
  const BITS = [8, 9, 14, 15]

  function* wantings(): Generator<Compression> {
    for (const serverNoContextTakeover of TAKEOVERS)
      for (const clientNoContextTakeover of TAKEOVERS)
        for (const serverMaxWindowBits of BITS)
          for (const clientMaxWindowBits of BITS)
            yield open({ serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits })
  }

  it('agree on the same, whatever each of them wants, and neither gets less than it wants', () => {
    for (const client of wantings()) {
      for (const server of wantings()) {
        const accepted = acceptDeflateOffer(formatDeflateOffer(client), server)!
        expect(readDeflateResponse(accepted.response, client)).toEqual(accepted.agreement)
        for (const wanted of [client, server]) {
          const { agreement } = accepted
          expect(agreement.serverMaxWindowBits).toBeLessThanOrEqual(wanted.serverMaxWindowBits)
          expect(agreement.clientMaxWindowBits).toBeLessThanOrEqual(wanted.clientMaxWindowBits)
          if (wanted.serverNoContextTakeover) expect(agreement.serverNoContextTakeover).toBe(true)
          if (wanted.clientNoContextTakeover) expect(agreement.clientNoContextTakeover).toBe(true)
        }
      }
    }
  })
})

describe('the option compression', () => {
  it('is off unless it is switched on', () => {
    expect(resolveCompression(undefined)).toBeUndefined()
    expect(resolveCompression(false)).toBeUndefined()
  })

  it('has defaults', () => {
    expect(resolveCompression(true)).toEqual(COMPRESSION_DEFAULTS)
    expect(resolveCompression({})).toEqual(COMPRESSION_DEFAULTS)
    expect(resolveCompression({ level: undefined, threshold: undefined })).toEqual(COMPRESSION_DEFAULTS)
  })

  it('takes what is set, and cannot be changed later', () => {
    const options = { threshold: 0, level: 9, memLevel: 1, serverMaxWindowBits: 8, clientNoContextTakeover: false }
    const resolved = resolveCompression(options)!
    expect(resolved).toEqual({ ...COMPRESSION_DEFAULTS, ...options })
    expect(Object.isFrozen(resolved)).toBe(true)
  })

  it.each<CompressionOptions>([
    { threshold: Number.POSITIVE_INFINITY },
    { threshold: 0 },
    { serverMaxWindowBits: 15, clientMaxWindowBits: 8 },
    { level: 0 },
    { level: 9, memLevel: 9 },
    { serverNoContextTakeover: false, clientNoContextTakeover: true },
  ])('may be %o', (options) => {
    expect(resolveCompression(options)).toEqual({ ...COMPRESSION_DEFAULTS, ...options })
  })

  it.each<[options: unknown, code: string, name: string]>([
    [{ windowBits: 9 }, 'ERR_OPTION_UNKNOWN', 'windowBits'],
    [{ treshold: undefined }, 'ERR_OPTION_UNKNOWN', 'treshold'],
    [{ threshold: -1 }, 'ERR_OPTION', 'threshold'],
    [{ threshold: 0.5 }, 'ERR_OPTION', 'threshold'],
    [{ threshold: '1024' }, 'ERR_OPTION', 'threshold'],
    [{ threshold: Number.NaN }, 'ERR_OPTION', 'threshold'],
    [{ threshold: null }, 'ERR_OPTION', 'threshold'],
    [{ level: 10 }, 'ERR_OPTION', 'level'],
    [{ level: -1 }, 'ERR_OPTION', 'level'],
    [{ level: Number.POSITIVE_INFINITY }, 'ERR_OPTION', 'level'],
    [{ memLevel: 0 }, 'ERR_OPTION', 'memLevel'],
    [{ memLevel: 10 }, 'ERR_OPTION', 'memLevel'],
    [{ serverMaxWindowBits: 7 }, 'ERR_OPTION', 'serverMaxWindowBits'],
    [{ serverMaxWindowBits: 16 }, 'ERR_OPTION', 'serverMaxWindowBits'],
    [{ clientMaxWindowBits: '9' }, 'ERR_OPTION', 'clientMaxWindowBits'],
    [{ clientMaxWindowBits: true }, 'ERR_OPTION', 'clientMaxWindowBits'],
    [{ serverNoContextTakeover: 1 }, 'ERR_OPTION', 'serverNoContextTakeover'],
    [{ clientNoContextTakeover: 'no' }, 'ERR_OPTION', 'clientNoContextTakeover'],
    [{ toString: 1 }, 'ERR_OPTION_UNKNOWN', 'toString'],
    [null, 'ERR_OPTION', 'compression'],
    [1, 'ERR_OPTION', 'compression'],
    [0, 'ERR_OPTION', 'compression'],
    ['on', 'ERR_OPTION', 'compression'],
    [[], 'ERR_OPTION', 'compression'],
    [() => true, 'ERR_OPTION', 'compression'],
  ])('may not be %o', (options, code, name) => {
    const resolve = (): unknown => resolveCompression(options as CompressionOptions)
    expect(resolve).toThrow(UsageError)
    expect(resolve).toThrow(expect.objectContaining({ code, message: expect.stringContaining(name) }))
  })
})

describe('a misspelt name in compression', () => {
  it.each([
    ['treshold', 'the option compression has no treshold; did you mean threshold?'],
    ['zzzzzzzzzz', 'the option compression has no zzzzzzzzzz'],
  ])('%s', (name, message) => {
    expect(() => resolveCompression({ [name]: 1 } as never)).toThrow(expect.objectContaining({ message }))
  })
})
