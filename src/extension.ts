import { UsageError } from './errors.ts'
import { type Extension, parseExtensions } from './headers.ts'
import { unknownOption } from './nearest.ts'

/*
 * The negotiation of permessage-deflate (RFC 7692 §5, §7.1), both sides. What it agrees on is done in deflate.ts.
 */

/** What messages are compressed, and how (RFC 7692). Context takeover costs memory for each connection; see docs/COMPRESSION.md. */
export interface CompressionOptions {
  /** Messages of fewer bytes are not compressed. Default 1,024. */
  readonly threshold?: number | undefined
  /** The server's messages are each compressed on their own (§7.1.1.1). Default true. */
  readonly serverNoContextTakeover?: boolean | undefined
  /** The client's messages are each compressed on their own (§7.1.1.2). Default true. */
  readonly clientNoContextTakeover?: boolean | undefined
  /** Window of the server's messages as a power of two, 8 to 15 (§7.1.2.1). Default 15. */
  readonly serverMaxWindowBits?: number | undefined
  /** Window of the client's messages as a power of two, 8 to 15 (§7.1.2.2). Default 15. */
  readonly clientMaxWindowBits?: number | undefined
  /** zlib's level for what we send, 0 to 9. Default 1: those above it cost more than they save. */
  readonly level?: number | undefined
  /** zlib's memory level for what we send, 1 to 9. Default 8. */
  readonly memLevel?: number | undefined
}

/** The options with all of them set. */
export type Compression = { readonly [Name in keyof CompressionOptions]-?: NonNullable<CompressionOptions[Name]> }

/** Defaults of `CompressionOptions`. */
export const COMPRESSION_DEFAULTS: Compression = Object.freeze({
  threshold: 1_024,
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  serverMaxWindowBits: 15,
  clientMaxWindowBits: 15,
  level: 1,
  memLevel: 8,
})

/** The four parameters, as both sides have agreed on them. */
export interface DeflateAgreement {
  readonly serverNoContextTakeover: boolean
  readonly clientNoContextTakeover: boolean
  readonly serverMaxWindowBits: number
  readonly clientMaxWindowBits: number
}

const NAME = 'permessage-deflate'
const MIN_WINDOW_BITS = 8
const MAX_WINDOW_BITS = 15

/** What one element of the header says; an absent window is undefined, one without a value `true`. */
export interface DeflateParameters {
  serverNoContextTakeover: boolean
  clientNoContextTakeover: boolean
  serverMaxWindowBits: number | undefined
  clientMaxWindowBits: number | true | undefined
}

/** Reads the parameters; undefined when one is unknown, stands twice or has a value that it must not have (§7.1). */
export function readDeflateParameters({ parameters }: Extension): DeflateParameters | undefined {
  const read: DeflateParameters = {
    serverNoContextTakeover: false,
    clientNoContextTakeover: false,
    serverMaxWindowBits: undefined,
    clientMaxWindowBits: undefined,
  }
  const seen = new Set<string>()
  for (const [name, value] of parameters) {
    if (seen.has(name)) return undefined
    seen.add(name)
    const bits = windowBits(value)
    if (name === 'server_no_context_takeover' && value === true) read.serverNoContextTakeover = true
    else if (name === 'client_no_context_takeover' && value === true) read.clientNoContextTakeover = true
    else if (name === 'server_max_window_bits' && bits !== undefined) read.serverMaxWindowBits = bits
    else if (name === 'client_max_window_bits' && (bits !== undefined || value === true)) {
      read.clientMaxWindowBits = bits ?? true
    } else return undefined
  }
  return read
}

/** §7.1.2: "a decimal integer value without leading zeroes between 8 to 15 inclusive". */
function windowBits(value: string | true): number | undefined {
  const bits = Number(value)
  return String(bits) === value && bits >= MIN_WINDOW_BITS && bits <= MAX_WINDOW_BITS && Number.isInteger(bits)
    ? bits
    : undefined
}

/** The value of `Sec-WebSocket-Extensions` that says this. */
export function formatDeflateParameters(parameters: DeflateParameters): string {
  let text = NAME
  if (parameters.serverNoContextTakeover) text += '; server_no_context_takeover'
  if (parameters.clientNoContextTakeover) text += '; client_no_context_takeover'
  const { serverMaxWindowBits, clientMaxWindowBits } = parameters
  if (serverMaxWindowBits !== undefined) text += `; server_max_window_bits=${serverMaxWindowBits}`
  if (clientMaxWindowBits === true) text += '; client_max_window_bits'
  else if (clientMaxWindowBits !== undefined) text += `; client_max_window_bits=${clientMaxWindowBits}`
  return text
}

/** What a server agrees to, and the header value that says so. */
export interface DeflateAcceptance {
  readonly agreement: DeflateAgreement
  readonly response: string
}

/**
 * The server's part: the first offer that can be met (§5: a client lists what it prefers first, with fallbacks behind
 * it). One that is malformed is declined, as §7.1 demands; undefined means no compression.
 */
export function acceptDeflateOffer(header: string | undefined, wanted: Compression): DeflateAcceptance | undefined {
  for (const offer of (header === undefined ? undefined : parseExtensions(header)) ?? []) {
    const offered = offer.name === NAME ? readDeflateParameters(offer) : undefined
    if (offered !== undefined) return answerOffer(offered, wanted)
  }
  return undefined
}

function answerOffer(offered: DeflateParameters, wanted: Compression): DeflateAcceptance {
  const serverBits = Math.min(offered.serverMaxWindowBits ?? MAX_WINDOW_BITS, wanted.serverMaxWindowBits)
  const clientBits = limitClientWindow(offered.clientMaxWindowBits, wanted.clientMaxWindowBits)
  const agreement: DeflateAgreement = {
    serverNoContextTakeover: offered.serverNoContextTakeover || wanted.serverNoContextTakeover,
    // A client that cannot be told to use a smaller window can be told to forget it.
    clientNoContextTakeover:
      offered.clientNoContextTakeover || wanted.clientNoContextTakeover || clientBits > wanted.clientMaxWindowBits,
    serverMaxWindowBits: serverBits,
    clientMaxWindowBits: clientBits,
  }
  const saysServerBits = offered.serverMaxWindowBits !== undefined || serverBits < MAX_WINDOW_BITS
  const response = formatDeflateParameters({
    ...agreement,
    serverMaxWindowBits: saysServerBits ? serverBits : undefined,
    clientMaxWindowBits: clientBits < MAX_WINDOW_BITS ? clientBits : undefined,
  })
  return { agreement, response }
}

/** §7.1.2.2: only a client that offers it may be told the size of its window. */
function limitClientWindow(offered: number | true | undefined, wanted: number): number {
  if (offered === undefined) return MAX_WINDOW_BITS
  return offered === true ? wanted : Math.min(offered, wanted)
}

/** The client's part: the offer. */
export function formatDeflateOffer(wanted: Compression): string {
  const limit = (bits: number): number | undefined => (bits < MAX_WINDOW_BITS ? bits : undefined)
  return formatDeflateParameters({
    ...wanted,
    serverMaxWindowBits: limit(wanted.serverMaxWindowBits),
    clientMaxWindowBits: limit(wanted.clientMaxWindowBits) ?? true,
  })
}

/**
 * The client's part: what the server has made of the offer. Undefined when the answer is not one to it (§7.1: "the
 * client MUST _Fail the WebSocket Connection_").
 */
export function readDeflateResponse(header: string, wanted: Compression): DeflateAgreement | undefined {
  const [chosen, ...others] = parseExtensions(header) ?? []
  if (chosen?.name !== NAME || others.length > 0) return undefined
  const said = readDeflateParameters(chosen)
  if (said === undefined || said.clientMaxWindowBits === true) return undefined
  const serverBits = said.serverMaxWindowBits ?? MAX_WINDOW_BITS
  const clientBits = said.clientMaxWindowBits ?? wanted.clientMaxWindowBits
  // What was asked for must be in the answer (§7.1.1.1, §7.1.2.1); a window may be smaller, not larger.
  const met =
    (said.serverNoContextTakeover || !wanted.serverNoContextTakeover) &&
    serverBits <= wanted.serverMaxWindowBits &&
    clientBits <= wanted.clientMaxWindowBits
  if (!met) return undefined
  return {
    serverNoContextTakeover: said.serverNoContextTakeover,
    // What a client offers here it does (§7.1.1.2), whether the server repeats it or not.
    clientNoContextTakeover: said.clientNoContextTakeover || wanted.clientNoContextTakeover,
    serverMaxWindowBits: serverBits,
    clientMaxWindowBits: clientBits,
  }
}

interface Range {
  readonly from: number
  readonly to: number
}

const RANGES: Readonly<Record<string, Range>> = {
  threshold: { from: 0, to: Number.POSITIVE_INFINITY },
  serverMaxWindowBits: { from: MIN_WINDOW_BITS, to: MAX_WINDOW_BITS },
  clientMaxWindowBits: { from: MIN_WINDOW_BITS, to: MAX_WINDOW_BITS },
  level: { from: 0, to: 9 },
  memLevel: { from: 1, to: 9 },
}

/**
 * The option `compression` with its defaults; undefined when it is off.
 *
 * @throws UsageError for a name or a value that cannot be.
 */
export function resolveCompression(option: boolean | CompressionOptions | undefined): Compression | undefined {
  if (option === undefined || option === false) return undefined
  if (option === true) return COMPRESSION_DEFAULTS
  if (typeof option !== 'object' || option === null || Array.isArray(option)) {
    throw new UsageError('ERR_OPTION', 'the option compression must be true, false or an object')
  }
  const resolved: Record<string, unknown> = { ...COMPRESSION_DEFAULTS }
  for (const [name, value] of Object.entries(option)) {
    const known = Object.keys(COMPRESSION_DEFAULTS)
    if (!known.includes(name)) throw unknownOption(name, known, 'compression')
    if (value === undefined) continue
    checkValue(name, value)
    resolved[name] = value
  }
  return Object.freeze(resolved) as unknown as Compression
}

function checkValue(name: string, value: unknown): void {
  const range = RANGES[name]
  if (range === undefined) {
    if (typeof value === 'boolean') return
    throw new UsageError('ERR_OPTION', `the option compression.${name} must be true or false`)
  }
  const { from, to } = range
  const whole = Number.isInteger(value) || value === Number.POSITIVE_INFINITY
  if (typeof value === 'number' && whole && value >= from && value <= to) return
  throw new UsageError('ERR_OPTION', `the option compression.${name} must be a whole number from ${from} to ${to}`)
}
