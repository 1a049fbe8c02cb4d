import { MessagePort } from 'node:worker_threads'
import type { Backplane } from '../backplane.ts'
import { UsageError } from '../errors.ts'
import { checkOptions } from '../options.ts'
import { Member } from './node/member.ts'

export { type Exchange, type ExchangeOptions, startExchange } from './node/exchange.ts'

/** Options of `nodeBackplane`. An unknown one is a `UsageError`. */
export interface NodeBackplaneOptions {
  /** Members with another prefix are not reached: a string that is not empty, without U+0000. Default `fullduplex`. */
  readonly prefix?: string | undefined
  /**
   * In a thread: a port that `Exchange.openPort` has given. Without it the thread calls the exchange by one message over its
   * `parentPort`, which the listeners of the other side see, too.
   */
  readonly exchangePort?: MessagePort | undefined
  /** How often the exchange is asked whether it is there, in milliseconds; 0 for never. Default 5,000. */
  readonly pingIntervalMs?: number | undefined
  /** How long it may take to answer before it counts as away, in milliseconds. Default 5,000. */
  readonly pingTimeoutMs?: number | undefined
}

const OPTION_NAMES = ['prefix', 'exchangePort', 'pingIntervalMs', 'pingTimeoutMs']
const MAX_TIME_MS = 0x7fffffff

/**
 * Joins servers and publishers of one machine without an engine: workers of node:cluster, other processes with an IPC
 * channel, and threads, by the exchange that `startExchange` starts in the process or thread that makes them; that one
 * may have servers and publishers, too. One object for each.
 *
 * @throws UsageError `ERR_OPTION`, `ERR_OPTION_UNKNOWN` for options that cannot be.
 */
export function nodeBackplane(options: NodeBackplaneOptions = {}): Backplane {
  checkOptions(options, OPTION_NAMES)
  const { prefix = 'fullduplex', exchangePort, pingIntervalMs = 5_000, pingTimeoutMs = 5_000 } = options
  if (typeof prefix !== 'string' || prefix === '' || prefix.includes('\0')) {
    throw new UsageError('ERR_OPTION', 'the option prefix must be a string that is not empty, without U+0000')
  }
  if (exchangePort !== undefined && !(exchangePort instanceof MessagePort)) {
    throw new UsageError('ERR_OPTION', 'the option exchangePort must be what openPort() of the exchange has given')
  }
  if (!Number.isInteger(pingTimeoutMs) || pingTimeoutMs < 1 || pingTimeoutMs > MAX_TIME_MS) {
    throw new UsageError('ERR_OPTION', `the option pingTimeoutMs must be a whole number from 1 to ${MAX_TIME_MS}`)
  }
  return new Member({ prefix, exchangePort, pingIntervalMs, pingTimeoutMs })
}
