import { resolveHistory } from '../../../src/history.ts'
import {
  type HistoryLimits,
  type LogEntry,
  type LogSubscription,
  type Position,
  prepare,
  type ResolvedHistoryLimits,
  type TopicLog,
} from '../../../src/index.ts'
import type { Plane } from '../../support/planes.ts'
import { Queue } from '../../support/queue.ts'
import { type AccessOptions, type RunningEngine, startPlane } from './engine.ts'

/*
 * Logs behind histories, as tests use them: texts go in, and come out with their numbers.
 */

/** A log, as one process has it. */
export interface Logger {
  readonly log: TopicLog
  append(topic: string, text: string | Uint8Array, limits?: HistoryLimits): Promise<Position>
}

export function loggerOf(log: TopicLog): Logger {
  return { log, append: async (topic, text, limits) => log.append(topic, prepare(text), limitsOf(limits)) }
}

/** A backplane that has one. */
export function withLog<P extends Plane>(plane: P): P & Logger {
  return { ...plane, ...loggerOf(plane.backplane.log!) }
}

export async function startLogger(
  running: Pick<RunningEngine, 'access'>,
  options?: AccessOptions,
): Promise<Plane & Logger> {
  return withLog(await startPlane(running, options))
}

function limitsOf(limits: HistoryLimits = {}): ResolvedHistoryLimits {
  return resolveHistory(() => limits)!('')!
}

/** Who follows a topic: what it is told, in order. */
export interface Follower {
  readonly news: Queue<string>
  /** The epochs that it was told of, the one in which it began first. */
  readonly epochs: string[]
  readonly subscription: LogSubscription
}

export async function follow({ log }: Logger, topic: string): Promise<Follower> {
  const news = new Queue<string>()
  const epochs: string[] = []
  const subscription = await log.follow(topic, {
    entry: (entry) => news.push(textOf(entry)),
    reset: ({ epoch, sequence }) => {
      epochs.push(epoch)
      news.push(`reset ${sequence}`)
    },
  })
  epochs.unshift(subscription.position.epoch)
  return { news, epochs, subscription }
}

/** Everything behind `after`, page by page. */
export async function readAll({ log }: Logger, topic: string, after = 0): Promise<string[]> {
  const texts: string[] = []
  for (;;) {
    const { entries } = await log.read(topic, after + texts.length)
    if (entries.length === 0) return texts
    texts.push(...entries.map(textOf))
  }
}

/** The number, and how the message begins. */
export function textOf({ sequence, message }: LogEntry): string {
  return `${sequence} ${message === undefined ? 'no message' : message.toData().toString().slice(0, 20)}`
}
