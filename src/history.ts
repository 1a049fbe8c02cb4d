import { UsageError } from './errors.ts'
import type { Position } from './marks.ts'
import type { PreparedMessage } from './prepared.ts'

/*
 * Histories of topics, as the server sees them: an append-only log per topic, of which the beginning goes away. The
 * entries of a log are numbered without a gap.
 */

/** How far the history of a topic reaches back. What is beyond any of these is gone. */
export interface HistoryLimits {
  /** Most messages. Default 1,000. */
  readonly maxMessages?: number | undefined
  /** Oldest message, in milliseconds. Default 300,000: five minutes. */
  readonly maxAgeMs?: number | undefined
  /** Most bytes of messages. Default 16 MiB. */
  readonly maxBytes?: number | undefined
}

/** The same, complete. */
export type ResolvedHistoryLimits = { readonly [Name in keyof HistoryLimits]-?: number }

/** The option `history`: limits by topic, or a function that gives those of a topic, undefined for one without a history. */
export type HistoryOption = Readonly<Record<string, HistoryLimits>> | ((topic: string) => HistoryLimits | undefined)

/** A message with its place in the log. One that another program has written, and that is none, has no message. */
export interface LogEntry {
  readonly sequence: number
  readonly message: PreparedMessage | undefined
}

/** A part of a log. */
export interface LogPage {
  readonly epoch: string
  /** The oldest entry that is still there, or the one that will be the next. */
  readonly first: number
  /** From the one asked for on, in order, without a gap; when that is gone, nothing. */
  readonly entries: readonly LogEntry[]
}

/** Who wants the entries of a log. */
export interface LogFollower {
  /** The next entry: they come in order, without a gap. */
  entry(entry: LogEntry): void
  /** The log is another one, or was cut before it could be read: nothing is said of what was in it up to here. */
  reset(position: Position): void
}

/** A log that is being followed. */
export interface LogSubscription {
  /** The last entry before the first that the follower gets. */
  readonly position: Position
  /** From now on the follower hears nothing. */
  stop(): void
}

/** Logs of topics, in this process or elsewhere: at once where it is called so, or later. */
export interface TopicLog {
  /** Adds a message, exactly once; rejects when that is not possible, or when it cannot be told. */
  append(topic: string, message: PreparedMessage, limits: ResolvedHistoryLimits): Position | Promise<Position>
  /** Entries behind `after`, as many as are convenient; none when there are no more. */
  read(topic: string, after: number): LogPage | Promise<LogPage>
  /** Tells of entries from now on. */
  follow(topic: string, follower: LogFollower): LogSubscription | Promise<LogSubscription>
}

const DEFAULTS: ResolvedHistoryLimits = Object.freeze({ maxMessages: 1_000, maxAgeMs: 300_000, maxBytes: 16_777_216 })

/** The function that gives the limits of a topic; undefined where no topic has a history. */
export function resolveHistory(
  option: HistoryOption | undefined,
): ((topic: string) => ResolvedHistoryLimits | undefined) | undefined {
  if (option === undefined) return undefined
  const resolved = new Map<string, ResolvedHistoryLimits>()
  if (typeof option !== 'function') {
    if (typeof option !== 'object' || option === null) {
      throw new UsageError('ERR_OPTION', 'the option history must be limits by topic, or a function')
    }
    for (const [topic, limits] of Object.entries(option)) resolved.set(topic, resolveLimits(limits))
    return (topic) => resolved.get(topic)
  }
  return (topic) => {
    const limits = option(topic)
    return limits === undefined ? undefined : resolveLimits(limits)
  }
}

function resolveLimits(limits: HistoryLimits): ResolvedHistoryLimits {
  if (typeof limits !== 'object' || limits === null) {
    throw new UsageError('ERR_OPTION', 'the limits of a history must be an object, such as { maxMessages: 100 }')
  }
  const complete: Record<string, number> = { ...DEFAULTS }
  for (const [name, value] of Object.entries(limits)) {
    if (!Object.hasOwn(DEFAULTS, name)) {
      throw new UsageError('ERR_OPTION', `a history has no ${name}; it has ${Object.keys(DEFAULTS).join(', ')}`)
    }
    if (value === undefined) continue
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new UsageError('ERR_OPTION', `${name} of a history must be a whole number from 1`)
    }
    complete[name] = value
  }
  return complete as unknown as ResolvedHistoryLimits
}
