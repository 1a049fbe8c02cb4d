import type { ConnectionSettings, SlowConsumerPolicy } from './connection.ts'
import { deflateProfile, maxCompressedBytes } from './deflate.ts'
import { UsageError } from './errors.ts'
import type { Compression, DeflateAgreement } from './extension.ts'
import { unknownOption } from './nearest.ts'
import type { ProtocolOptions } from './protocol.ts'

/** Options with all of them set. */
export type Defaults<Options> = { readonly [Name in keyof Options]-?: NonNullable<Options[Name]> }

/** Limits and times of a connection. All are on by default; see docs/LIMITS.md for why they are what they are. */
export interface ConnectionLimits {
  /** Longest message that is received, after assembly, in bytes; beyond it 1009. Default 1 MiB; none with `messageStream`. */
  readonly maxMessageBytes?: number | undefined
  /** Most fragments of one message that is received; beyond it 1008. Default 1,024; none with `messageStream`. */
  readonly maxFragments?: number | undefined
  /** Most pongs that wait for a peer that pings and does not read; beyond it 1008. Default 1,024. */
  readonly maxPendingPongs?: number | undefined
  /** Most bytes that wait for one peer; beyond it see `slowConsumer`. Default 16 MiB. */
  readonly maxBufferedBytes?: number | undefined
  /** What happens to a peer whose buffer is full: `close` (1013), or `drop` the message. `send` says false in both cases. Default `close`. */
  readonly slowConsumer?: SlowConsumerPolicy | undefined
  /** How long the opening handshake may take, from accept to 101, in milliseconds. Default 10,000. */
  readonly handshakeTimeoutMs?: number | undefined
  /** How long the closing handshake may take before the connection is cut, in milliseconds. Default 5,000. */
  readonly closeTimeoutMs?: number | undefined
  /** Silence after which a ping is sent, in milliseconds; 0 for never. Default 25,000. */
  readonly pingIntervalMs?: number | undefined
  /** How long the peer may stay silent behind that ping before the connection is cut, in milliseconds. Default 20,000. */
  readonly pongTimeoutMs?: number | undefined
}

/** Defaults of `ConnectionLimits`. */
export const CONNECTION_DEFAULTS: Defaults<ConnectionLimits> = Object.freeze({
  maxMessageBytes: 1_048_576,
  maxFragments: 1_024,
  maxPendingPongs: 1_024,
  maxBufferedBytes: 16_777_216,
  slowConsumer: 'close',
  handshakeTimeoutMs: 10_000,
  closeTimeoutMs: 5_000,
  pingIntervalMs: 25_000,
  pongTimeoutMs: 20_000,
})

/** The same where messages are read piece by piece: nothing is held, however long they are. */
const STREAM_DEFAULTS: Defaults<ConnectionLimits> = Object.freeze({
  ...CONNECTION_DEFAULTS,
  maxMessageBytes: Number.POSITIVE_INFINITY,
  maxFragments: Number.POSITIVE_INFINITY,
})

/** Limits on the head of an HTTP message. */
export interface HeadLimitOptions {
  /** Longest head of the opening handshake, in bytes; beyond it 414 or 431. Default 16 KiB. */
  readonly maxHeadBytes?: number | undefined
  /** Most header lines of the opening handshake; beyond it 431. Default 100. */
  readonly maxHeaders?: number | undefined
}

/** Defaults of `HeadLimitOptions`. */
export const HEAD_DEFAULTS: Defaults<HeadLimitOptions> = Object.freeze({ maxHeadBytes: 16_384, maxHeaders: 100 })

export const DEFAULT_MAX_TOPIC_BYTES = 256

/** A number that an option must have. */
interface Range {
  readonly from: number
  readonly to?: number
}

const TIME: Range = { from: 1, to: 0x7fffffff }
const TIME_OR_OFF: Range = { from: 0, to: 0x7fffffff }
const COUNT: Range = { from: 1 }

/** What the numeric options must be. Limits may be `Infinity`, times may not. */
const RANGES: Readonly<Record<string, Range>> = {
  port: { from: 0, to: 65_535 },
  maxMessageBytes: COUNT,
  maxFragments: COUNT,
  maxPendingPongs: COUNT,
  maxBufferedBytes: COUNT,
  maxHeadBytes: COUNT,
  maxHeaders: COUNT,
  maxConnections: COUNT,
  maxConnectionsPerAddress: COUNT,
  maxTopicsPerClient: COUNT,
  maxTopicBytes: COUNT,
  handshakeTimeoutMs: TIME,
  closeTimeoutMs: TIME,
  pingIntervalMs: TIME_OR_OFF,
  pongTimeoutMs: TIME,
  timeoutMs: TIME_OR_OFF,
}

/** Refuses unknown options and values that cannot be; an unset option is one that is undefined. */
export function checkOptions(options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) {
    throw new UsageError('ERR_OPTION', `the options must be an object, with ${known.join(', ')}`)
  }
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name)) throw unknownOption(name, known)
    const range = RANGES[name]
    if (range !== undefined && value !== undefined) checkNumber(name, value, range)
  }
  const { slowConsumer, message, messageStream } = options as Record<string, unknown>
  if (message !== undefined && messageStream !== undefined) {
    throw new UsageError('ERR_OPTION', 'give either message or messageStream')
  }
  if (slowConsumer !== undefined && slowConsumer !== 'close' && slowConsumer !== 'drop') {
    throw new UsageError('ERR_OPTION', "the option slowConsumer must be 'close' or 'drop'")
  }
}

function checkNumber(name: string, value: unknown, { from, to = Number.POSITIVE_INFINITY }: Range): void {
  const valid = typeof value === 'number' && value >= from && value <= to && (Number.isInteger(value) || value === to)
  if (valid) return
  const bounds = to === Number.POSITIVE_INFINITY ? `from ${from}, or Infinity` : `from ${from} to ${to}`
  throw new UsageError('ERR_OPTION', `the option ${name} must be a whole number ${bounds}`)
}

/** `defaults` with what `options` sets; an option that is undefined is not set. */
export function withDefaults<Options extends object>(
  defaults: Defaults<Options>,
  options: NoInfer<Options>,
): Defaults<Options> {
  const resolved = { ...defaults } as Record<string, unknown>
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && name in defaults) resolved[name] = value
  }
  return resolved as Defaults<Options>
}

/** Most often and least often that a sweep runs. */
const MIN_SWEEP_MS = 5
const MAX_SWEEP_MS = 1_000

/** What a server or a client derives from its limits: settings for connections, and the period of the sweep. */
export interface Timing {
  readonly settings: ConnectionSettings
  readonly sweepMs: number
  readonly handshakeTicks: number
}

/** Times become ticks of one sweep, which is fine enough for the shortest of them. */
export function resolveTiming(
  role: 'client' | 'server',
  options: ConnectionLimits & { readonly messageStream?: unknown },
): Timing {
  const limits = withDefaults(options.messageStream === undefined ? CONNECTION_DEFAULTS : STREAM_DEFAULTS, options)
  const { handshakeTimeoutMs, closeTimeoutMs, pingIntervalMs, pongTimeoutMs } = limits
  const shortest = Math.min(handshakeTimeoutMs, closeTimeoutMs, pongTimeoutMs, pingIntervalMs || MAX_SWEEP_MS)
  const sweepMs = Math.min(Math.max(Math.floor(shortest / 10), MIN_SWEEP_MS), MAX_SWEEP_MS)
  const ticks = (timeMs: number): number => Math.ceil(timeMs / sweepMs)
  return {
    sweepMs,
    handshakeTicks: ticks(handshakeTimeoutMs),
    settings: Object.freeze({
      role,
      maxFrameBytes: limits.maxMessageBytes,
      maxMessageBytes: limits.maxMessageBytes,
      maxFragments: limits.maxFragments,
      maxPendingPongs: limits.maxPendingPongs,
      maxBufferedBytes: limits.maxBufferedBytes,
      slowConsumer: limits.slowConsumer,
      pingTicks: ticks(pingIntervalMs),
      pongTicks: ticks(pongTimeoutMs),
      closeTicks: ticks(closeTimeoutMs),
      pongTimeoutMs,
      closeTimeoutMs,
    }),
  }
}

/**
 * The settings of connections that have agreed on compression: the same for all of them that have agreed on the same,
 * so that they share what depends on it.
 */
export class CompressedSettings {
  readonly #plain: ConnectionSettings
  readonly #compression: Compression
  readonly #known = new Map<string, ProtocolOptions>()

  constructor(plain: ConnectionSettings, compression: Compression) {
    this.#plain = plain
    this.#compression = compression
  }

  get(agreement: DeflateAgreement): ProtocolOptions {
    const key = Object.values(agreement).join()
    let options = this.#known.get(key)
    if (options === undefined) {
      options = Object.freeze({
        ...this.#plain,
        allowRsv1: true,
        maxFrameBytes: maxCompressedBytes(this.#plain.maxMessageBytes),
        deflate: deflateProfile(agreement, this.#compression, this.#plain.role),
      })
      this.#known.set(key, options)
    }
    return options
  }
}
