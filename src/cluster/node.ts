import type { Backplane } from '../backplane.ts'
import { UsageError } from '../errors.ts'
import { checkOptions } from '../options.ts'
import { Member } from './node/member.ts'

export { type Exchange, type ExchangeOptions, startExchange } from './node/exchange.ts'

/** Options of `nodeBackplane`. An unknown one is a `UsageError`. */
export interface NodeBackplaneOptions {
  /** Members with another prefix are not reached: a string that is not empty, without U+0000. Default `fullduplex`. */
  readonly prefix?: string | undefined
  /** How often the exchange is asked whether it is there, in milliseconds; 0 for never. Default 5,000. */
  readonly pingIntervalMs?: number | undefined
  /** How long it may take to answer before it counts as away, in milliseconds. Default 5,000. */
  readonly pingTimeoutMs?: number | undefined
}

const OPTION_NAMES = ['prefix', 'pingIntervalMs', 'pingTimeoutMs']
const MAX_TIME_MS = 0x7fffffff

/**
 * Joins servers and publishers of one machine without an engine: those in the process in which `startExchange` was
 * called and in its threads, and those in the workers of node:cluster and other processes that it has started. One object
 * for each server or publisher.
 *
 * @throws UsageError `ERR_OPTION`, `ERR_OPTION_UNKNOWN` for options that cannot be.
 */
export function nodeBackplane(options: NodeBackplaneOptions = {}): Backplane {
  checkOptions(options, OPTION_NAMES)
  const { prefix = 'fullduplex', pingIntervalMs = 5_000, pingTimeoutMs = 5_000 } = options
  if (typeof prefix !== 'string' || prefix === '' || prefix.includes('\0')) {
    throw new UsageError('ERR_OPTION', 'the option prefix must be a string that is not empty, without U+0000')
  }
  if (!Number.isInteger(pingTimeoutMs) || pingTimeoutMs < 1 || pingTimeoutMs > MAX_TIME_MS) {
    throw new UsageError('ERR_OPTION', `the option pingTimeoutMs must be a whole number from 1 to ${MAX_TIME_MS}`)
  }
  return new Member({ prefix, pingIntervalMs, pingTimeoutMs })
}
