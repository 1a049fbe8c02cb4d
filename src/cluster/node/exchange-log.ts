import { decodeRecord, encodeRecord } from '../../envelope.ts'
import type { LogEntry, LogFollower, LogSubscription, ResolvedHistoryLimits } from '../../history.ts'
import type { Position } from '../../marks.ts'
import { MemoryLog } from '../../memory-log.ts'
import { decodePayload, type Payload, type WirePage } from './wire.ts'

/** How often messages are looked for that are too old, in milliseconds. */
const TICK_MS = 1_000
/** What is read at once, at the most. */
const PAGE_ENTRIES = 256
const PAGE_BYTES = 1_048_576

/** Who is told of entries. */
export interface LogReader {
  entry(topic: string, sequence: number, payload: Uint8Array): void
}

/** A topic that is followed. */
class FollowedTopic implements LogFollower {
  readonly readers = new Set<LogReader>()
  readonly #topic: string
  readonly #subscription: LogSubscription
  #position: Position

  constructor(topic: string, log: MemoryLog) {
    this.#topic = topic
    this.#subscription = log.follow(topic, this)
    this.#position = this.#subscription.position
  }

  get position(): Position {
    return this.#position
  }

  entry(entry: LogEntry): void {
    const { sequence } = entry
    this.#position = { epoch: this.#position.epoch, sequence }
    const payload = recordOf(entry)
    for (const reader of this.readers) reader.entry(this.#topic, sequence, payload)
  }

  /** Nothing is lost in memory that is followed. */
  reset(): void {}

  stop(): void {
    this.#subscription.stop()
  }
}

/** The histories of the members of one exchange that have the same prefix. */
export class ExchangeLog {
  readonly #log = new MemoryLog()
  readonly #topics = new Map<string, FollowedTopic>()
  readonly #timer = setInterval(() => this.#log.tick(), TICK_MS).unref()

  append(topic: string, payload: Payload, limits: ResolvedHistoryLimits): Position {
    // In memory of its own: what it came in is larger, and would be kept along with it.
    const message = decodeRecord(Buffer.from(decodePayload(payload)))
    if (message === undefined) throw new Error('that is no message')
    return this.#log.append(topic, message, limits)
  }

  read(topic: string, after: number): WirePage {
    const { epoch, first, entries } = this.#log.read(topic, after)
    const page: [number, Uint8Array][] = []
    let bytes = 0
    for (const entry of entries) {
      const payload = recordOf(entry)
      bytes += payload.length
      if (page.length > 0 && (page.length === PAGE_ENTRIES || bytes > PAGE_BYTES)) break
      page.push([entry.sequence, payload])
    }
    return { epoch, first, entries: page }
  }

  /** Tells of entries from now on; once per reader. */
  follow(topic: string, reader: LogReader): Position {
    const followed = this.#topics.get(topic) ?? new FollowedTopic(topic, this.#log)
    this.#topics.set(topic, followed)
    followed.readers.add(reader)
    return followed.position
  }

  unfollow(topic: string, reader: LogReader): void {
    const followed = this.#topics.get(topic)
    if (followed === undefined) return
    followed.readers.delete(reader)
    if (followed.readers.size > 0) return
    followed.stop()
    this.#topics.delete(topic)
  }

  close(): void {
    clearInterval(this.#timer)
  }
}

function recordOf({ message }: LogEntry): Uint8Array {
  return encodeRecord(message!)
}
