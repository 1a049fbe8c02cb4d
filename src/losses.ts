import { CloseCode } from './constants.ts'
import { HandshakeError, UsageError } from './errors.ts'
import type { CloseEvent } from './protocol.ts'

/*
 * What a client that comes back makes of having no connection: whether it is for good, and how long to wait.
 */

/** Why there is no connection. */
export interface ConnectionLoss {
  /** How the connection ended; undefined when none came about. */
  readonly event: CloseEvent | undefined
  /** Why none came about: what `connect` has rejected with. Of several URLs the first one that may yet work. */
  readonly error: Error | undefined
  /** Losses in a row, this one included; a connection that was stable begins a new row. */
  readonly losses: number
}

/** "Do not come back": 1008 is the standard's, the others are 401 and 403 as many servers say them. */
const FINAL_CLOSE_CODES: readonly number[] = [CloseCode.POLICY_VIOLATION, 4401, 4403]
/** Refusals of a client that may be right the next time. */
const PASSING_STATUSES: readonly number[] = [408, 425, 429]
/** A server that restarts or has too much to do is given more time: as if it were this often that we come. */
const BUSY_LOSSES = 4
/** Longest time that a server can make us wait. */
const MAX_RETRY_AFTER_MS = 3_600_000

/** Whether the next attempt may succeed: the server has not said "do not come back". */
export function isPassing({ event, error }: ConnectionLoss): boolean {
  return event === undefined ? isPassingError(error) : !FINAL_CLOSE_CODES.includes(event.code)
}

/** Whether another token may help. */
export function isForToken({ event, error }: ConnectionLoss): boolean {
  return event?.code === 4401 || isForTokenError(error)
}

export function isPassingError(error: Error | undefined): boolean {
  if (error instanceof UsageError) return false
  if (!(error instanceof HandshakeError) || error.code !== 'ERR_RESPONSE_STATUS') return true
  return error.status < 400 || error.status > 499 || PASSING_STATUSES.includes(error.status)
}

export function isForTokenError(error: Error | undefined): boolean {
  return error instanceof HandshakeError && error.status === 401
}

/** Shortest and longest delay, in milliseconds. */
interface DelayLimits {
  readonly minDelayMs: number
  readonly maxDelayMs: number
}

/** Exponential, with jitter: clients that have lost the same server do not come back all at once. In milliseconds. */
export function delayBehind(
  { event, error, losses }: ConnectionLoss,
  { minDelayMs, maxDelayMs }: DelayLimits,
  random: () => number = Math.random,
): number {
  const isBusy = event?.code === CloseCode.SERVICE_RESTART || event?.code === CloseCode.TRY_AGAIN_LATER
  const most = Math.min(maxDelayMs, minDelayMs * 2 ** (isBusy ? Math.max(losses, BUSY_LOSSES) : losses))
  const delayMs = minDelayMs + random() * (most - minDelayMs)
  const isAsked = error instanceof HandshakeError && (error.status === 429 || error.status === 503)
  const askedMs = Math.min((isAsked && error.retryAfterMs) || 0, MAX_RETRY_AFTER_MS)
  return Math.round(askedMs === 0 ? delayMs : Math.max(delayMs, askedMs + random() * minDelayMs))
}
