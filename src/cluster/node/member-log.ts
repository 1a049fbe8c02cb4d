import { decodeRecord, encodeRecord } from '../../envelope.ts'
import type { LogEntry, LogFollower, LogPage, LogSubscription, ResolvedHistoryLimits, TopicLog } from '../../history.ts'
import type { Position } from '../../marks.ts'
import type { PreparedMessage } from '../../prepared.ts'
import type { Link } from './link.ts'
import { decodePayload, type MemberItem, type Payload, readPage, readPosition } from './wire.ts'

/** Time until an entry is read again that could not be read, in milliseconds. */
const RETRY_MS = 1_000

/** The histories that the exchange keeps, for one member. */
export class MemberLog implements TopicLog {
  readonly #link: Link
  readonly #followed = new Map<string, Set<Followed>>()

  constructor(link: Link) {
    this.#link = link
  }

  append(topic: string, message: PreparedMessage, limits: ResolvedHistoryLimits): Promise<Position> {
    const record = encodeRecord(message)
    const question = (request: number): MemberItem => ['append', request, topic, this.#link.encode(record), limits]
    return this.#link.ask(question, readPosition, record.length)
  }

  read(topic: string, after: number): Promise<LogPage> {
    return this.#read(topic, after, (page) => page)
  }

  async follow(topic: string, follower: LogFollower): Promise<LogSubscription> {
    const followed = new Followed(follower, (after, take) => this.#read(topic, after, take))
    const all = this.#followed.get(topic) ?? new Set()
    this.#followed.set(topic, all.add(followed))
    const stop = (): void => {
      followed.end()
      if (all.delete(followed) && all.size === 0) {
        this.#followed.delete(topic)
        this.#unfollow(topic)
      }
    }
    try {
      const position = await this.#follow(topic, (value) => followed.begin(value))
      return { position, stop }
    } catch (error) {
      stop()
      throw error
    }
  }

  /** The exchange tells of an entry. */
  entry(topic: string, sequence: number, payload: Payload): void {
    const all = this.#followed.get(topic)
    if (all === undefined) this.#unfollow(topic)
    else for (const followed of all) followed.take({ sequence, message: messageOf(payload) })
  }

  /** The exchange may be another one. */
  rejoined(): void {
    for (const [topic, all] of this.#followed) {
      // Who has not begun asks by itself.
      if ([...all].some(({ hasBegun }) => hasBegun)) this.#follow(topic, () => this.#catchUp(topic)).catch(() => {})
    }
  }

  /** The exchange has not told of everything. */
  missed(): void {
    for (const topic of this.#followed.keys()) this.#catchUp(topic)
  }

  close(): void {
    for (const all of this.#followed.values()) for (const followed of all) followed.end()
    this.#followed.clear()
  }

  #catchUp(topic: string): void {
    for (const followed of this.#followed.get(topic) ?? []) followed.catchUp()
  }

  #follow(topic: string, taken: (position: Position) => void): Promise<Position> {
    const read = (value: unknown): Position => {
      const position = readPosition(value)
      taken(position)
      return position
    }
    return this.#link.ask((request) => ['follow', request, topic], read)
  }

  #unfollow(topic: string): void {
    // An exchange that is away has nobody who follows.
    this.#link.send(['unfollow', topic]).catch(() => {})
  }

  #read<T>(topic: string, after: number, take: (page: LogPage) => T): Promise<T> {
    const read = (value: unknown): T => {
      const { epoch, first, entries } = readPage(value)
      const read = entries.map(([sequence, payload]) => ({ sequence, message: messageOf(payload) }))
      return take({ epoch, first, entries: read })
    }
    return this.#link.ask((request) => ['read', request, topic, after], read)
  }
}

/** Who follows a log, and how far. */
class Followed {
  readonly #follower: LogFollower
  readonly #read: <T>(after: number, take: (page: LogPage) => T) => Promise<T>
  /** The last entry that the follower has, or has no claim to. */
  #position: Position | undefined
  #isReading = false
  #isEnded = false
  #retry: NodeJS.Timeout | undefined

  constructor(follower: LogFollower, read: <T>(after: number, take: (page: LogPage) => T) => Promise<T>) {
    this.#follower = follower
    this.#read = read
  }

  get hasBegun(): boolean {
    return this.#position !== undefined
  }

  begin(position: Position): void {
    this.#position = position
  }

  end(): void {
    this.#isEnded = true
    clearTimeout(this.#retry)
  }

  /** An entry that has just come into the log; what is read meanwhile comes by reading. */
  take(entry: LogEntry): void {
    if (this.#position === undefined || this.#isReading || this.#isEnded) return
    if (entry.sequence === this.#position.sequence + 1) this.#pass(entry)
    else if (entry.sequence > this.#position.sequence) this.catchUp()
  }

  /** Reads on until there is nothing more: behind that answer the next entry is told of. */
  catchUp(): void {
    if (this.#position === undefined || this.#isReading || this.#isEnded) return
    this.#isReading = true
    clearTimeout(this.#retry)
    this.#read(this.#position.sequence, (page) => {
      this.#isReading = false
      return this.#takePage(page)
    }).then(
      (isEnd) => {
        if (!isEnd) this.catchUp()
      },
      () => {
        this.#isReading = false
        if (!this.#isEnded) this.#retry = setTimeout(() => this.catchUp(), RETRY_MS).unref()
      },
    )
  }

  /** Whether that was all there is. */
  #takePage({ epoch, first, entries }: LogPage): boolean {
    if (this.#isEnded) return true
    const { epoch: known, sequence } = this.#position!
    if (epoch !== known || first > sequence + 1) {
      this.#position = { epoch, sequence: first - 1 }
      this.#follower.reset(this.#position)
      return false
    }
    for (const entry of entries) this.#pass(entry)
    return entries.length === 0
  }

  #pass(entry: LogEntry): void {
    this.#position = { epoch: this.#position!.epoch, sequence: entry.sequence }
    this.#follower.entry(entry)
  }
}

function messageOf(payload: Payload): PreparedMessage | undefined {
  const bytes = decodePayload(payload)
  return decodeRecord(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
}
