import type { WebSocketConnection } from './connection.ts'
import { WebSocketError } from './errors.ts'
import { callHandler, isPromise } from './handlers.ts'
import type { LogEntry, LogFollower, LogPage, LogSubscription, ResolvedHistoryLimits, TopicLog } from './history.ts'
import { formatMark, formatPosition, type MarkType, type Position, parsePosition } from './marks.ts'
import { MemoryLog } from './memory-log.ts'
import { PreparedMessage } from './prepared.ts'
import type { PublishResult, SubscribeOptions } from './publishing.ts'

/*
 * Topics with a history. Everybody gets the entries of a topic's log in their order, each exactly once: who is up to
 * date gets them as they come, who is behind reads them from the log until it is up to date. A client is behind when it
 * comes back, and when it has read too slowly. What it has missed and the log has no more it is told of.
 */

/** Beyond this much of unsent data a client that catches up is given time, in bytes. */
const SEND_AHEAD_BYTES = 262_144
/** How long to wait before something is tried again that has failed, in milliseconds. */
const RETRY_MS = 1_000

/** How long a log may take, at the end, for what it was given, in milliseconds. */
const CLOSE_MS = 5_000

/** What the feeds need of their hub. */
export interface FeedsHost<UserData> {
  limitsOf(topic: string): ResolvedHistoryLimits | undefined
  /** Default: one in memory. */
  readonly log: TopicLog | undefined
  membersOf(topic: string): Iterable<WebSocketConnection<UserData>>
  /** For those of this process who listen to the topic. */
  hear(topic: string, message: PreparedMessage): void
  report(error: unknown): void
}

/** What a feed needs. */
interface FeedHost<UserData> extends FeedsHost<UserData> {
  /** The log does not work. */
  trouble(cause: unknown): void
}

/** The topics of this process that have a history, and somebody who wants to hear of it. */
export class Feeds<UserData> {
  readonly #host: FeedsHost<UserData>
  readonly #log: TopicLog
  readonly #memory: MemoryLog | undefined
  readonly #feeds = new Map<string, Feed<UserData>>()
  /** A message could not be kept, and none since. */
  #hasTrouble = false
  /** Messages of which it is not known yet whether they are kept. */
  readonly #pending = new Set<Promise<unknown>>()

  constructor(host: FeedsHost<UserData>) {
    this.#host = host
    this.#memory = host.log === undefined ? new MemoryLog() : undefined
    this.#log = host.log ?? this.#memory!
  }

  /** Whether a topic has a history. */
  has(topic: string): boolean {
    return this.#host.limitsOf(topic) !== undefined
  }

  /** Whether somebody in this process wants a topic, and it has a history. */
  isOpen(topic: string): boolean {
    return this.#feeds.has(topic)
  }

  publish(topic: string, message: PreparedMessage): PublishResult {
    const result: PublishResult = { sent: 0, dropped: 0 }
    // Elsewhere it takes its time; what comes from there in the meantime is something else.
    const feed = this.#memory === undefined ? undefined : this.#feeds.get(topic)
    if (feed !== undefined) feed.counted = result
    let position: Position | Promise<Position>
    try {
      position = this.#log.append(topic, message, this.#host.limitsOf(topic)!)
    } catch (error) {
      position = Promise.reject(error)
    } finally {
      if (feed !== undefined) feed.counted = undefined
    }
    if (isPromise(position)) {
      const stored = this.#stored(position)
      result.stored = stored
      this.#pending.add(stored)
      const forget = (): void => void this.#pending.delete(stored)
      // Who does not ask has been told by the error handler.
      stored.then(forget, forget)
    } else result.stored = Promise.resolve(formatPosition(position))
    return result
  }

  async #stored(position: Promise<Position>): Promise<string> {
    try {
      const stored = await position
      this.#hasTrouble = false
      return formatPosition(stored)
    } catch (cause) {
      throw this.#setTrouble('the message could not be kept', cause)
    }
  }

  /** Told once, until something is kept again. */
  #setTrouble(message: string, cause: unknown): WebSocketError {
    const reason = cause instanceof Error ? `: ${cause.message}` : ''
    const error = new WebSocketError('ERR_HISTORY', `${message}${reason}`, { cause })
    if (!this.#hasTrouble) {
      this.#hasTrouble = true
      this.#host.report(error)
    }
    return error
  }

  /** Somebody in this process wants the topic. */
  open(topic: string): void {
    if (this.#feeds.has(topic)) return
    const feed = new Feed(topic, this.#log, {
      ...this.#host,
      trouble: (cause) => void this.#setTrouble('a history cannot be read', cause),
    })
    this.#feeds.set(topic, feed)
    feed.start()
  }

  /** Nobody does any more. */
  close(topic: string): void {
    this.#feeds.get(topic)?.end()
    this.#feeds.delete(topic)
  }

  join(topic: string, client: WebSocketConnection<UserData>, options: SubscribeOptions | undefined): void {
    this.#feeds.get(topic)!.join(client, options)
  }

  leave(topic: string, client: WebSocketConnection<UserData>): void {
    this.#feeds.get(topic)?.leave(client)
  }

  /** Resolves when every log is followed that is wanted, or cannot be. */
  async synced(): Promise<void> {
    await Promise.all(Array.from(this.#feeds.values(), (feed) => feed.started))
  }

  /** What has failed may work now. */
  retry(): void {
    this.#hasTrouble = false
    for (const feed of this.#feeds.values()) feed.start()
  }

  tick(): void {
    this.#memory?.tick()
  }

  /** Ends, behind what is still being kept. */
  async end(): Promise<void> {
    for (const feed of this.#feeds.values()) feed.end()
    this.#feeds.clear()
    if (this.#pending.size === 0) return
    let timer: NodeJS.Timeout | undefined
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, CLOSE_MS)
    })
    await Promise.race([Promise.allSettled(this.#pending), late])
    clearTimeout(timer)
  }
}

/** A client that is behind. */
interface Cursor {
  /** The last entry that it has; undefined before it is known. */
  sequence: number | undefined
  readonly after: string | undefined
  /** It waits for something: its peer, the log, a timer. */
  isWaiting: boolean
}

/** One topic. */
class Feed<UserData> implements LogFollower {
  /** Where the deliveries of the entry at hand are counted. */
  counted: PublishResult | undefined = undefined
  /** Settles when the log is followed, or cannot be. */
  started: Promise<void> | undefined = undefined

  readonly #topic: string
  readonly #log: TopicLog
  readonly #host: FeedHost<UserData>
  #subscription: LogSubscription | undefined
  /** The last entry that everybody who is not behind has. */
  #position: Position | undefined
  /** Entries that came before we knew where we are. */
  #early: LogEntry[] = []
  readonly #behind = new Map<WebSocketConnection<UserData>, Cursor>()
  /** Whom to tell, beside the client, that something is missing. */
  readonly #gapHandlers = new Map<WebSocketConnection<UserData>, () => void>()
  #isEnded = false
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(topic: string, log: TopicLog, host: FeedHost<UserData>) {
    this.#topic = topic
    this.#log = log
    this.#host = host
  }

  start(): void {
    if (this.#isEnded || this.#position !== undefined || this.started !== undefined) return
    try {
      const subscription = this.#log.follow(this.#topic, this)
      if (isPromise(subscription)) this.started = this.#startLater(subscription)
      else this.#begin(subscription)
    } catch (error) {
      this.#startFailed(error)
    }
  }

  async #startLater(subscription: Promise<LogSubscription>): Promise<void> {
    try {
      this.#begin(await subscription)
    } catch (error) {
      this.started = undefined
      this.#startFailed(error)
    }
  }

  #startFailed(error: unknown): void {
    this.#host.trouble(error)
    this.#later(() => this.start())
  }

  #begin(subscription: LogSubscription): void {
    if (this.#isEnded) {
      subscription.stop()
      return
    }
    this.#subscription = subscription
    this.#position = subscription.position
    for (const entry of this.#early.splice(0)) this.entry(entry)
    for (const [client, cursor] of this.#behind) this.#place(client, cursor)
  }

  end(): void {
    this.#isEnded = true
    this.#behind.clear()
    for (const timer of this.#timers) clearTimeout(timer)
    this.#subscription?.stop()
  }

  // ── members ───────────────────────────────────────────────────────────────────────────────────────────────────────

  join(client: WebSocketConnection<UserData>, options: SubscribeOptions | undefined): void {
    const cursor: Cursor = { sequence: undefined, after: options?.after, isWaiting: false }
    this.#behind.set(client, cursor)
    if (options?.gap !== undefined) this.#gapHandlers.set(client, options.gap)
    if (this.#position !== undefined) this.#place(client, cursor)
  }

  leave(client: WebSocketConnection<UserData>): void {
    this.#behind.delete(client)
    this.#gapHandlers.delete(client)
  }

  /** Finds out where a client that has joined was. */
  #place(client: WebSocketConnection<UserData>, cursor: Cursor): void {
    if (cursor.sequence !== undefined) return
    const current = this.#position!
    const said = client.positions?.get(this.#topic)
    // Said of the connection before this one; who leaves and joins again begins anew.
    client.positions?.delete(this.#topic)
    const position = cursor.after === undefined ? said : parsePosition(cursor.after)
    if (position === undefined && cursor.after === undefined) {
      this.#behind.delete(client)
      this.#mark(client, 'subscribed', current)
    } else if (position?.epoch !== current.epoch) {
      this.#miss(client)
    } else if (position.sequence > current.sequence) {
      this.#check(client, cursor, position)
    } else {
      this.#mark(client, 'subscribed', position)
      cursor.sequence = position.sequence
      this.#advance(client, cursor)
    }
  }

  /** It comes from a process that was told more than this one so far; or says what is not so: the log knows. */
  async #check(client: WebSocketConnection<UserData>, cursor: Cursor, { epoch, sequence }: Position): Promise<void> {
    try {
      const page = await this.#log.read(this.#topic, sequence - 1)
      if (!this.#isCurrent(client, cursor)) return
      if (page.epoch !== epoch || page.entries[0]?.sequence !== sequence) {
        this.#miss(client)
        return
      }
      this.#mark(client, 'subscribed', { epoch, sequence })
      cursor.sequence = sequence
      if (sequence <= this.#position!.sequence) this.#advance(client, cursor)
    } catch (error) {
      if (!this.#isCurrent(client, cursor)) return
      this.#host.trouble(error)
      this.#later(() => void this.#check(client, cursor, { epoch, sequence }))
    }
  }

  #mark(client: WebSocketConnection<UserData>, type: MarkType, position: Position): void {
    if (client.positions !== undefined) client.sendMark(formatMark(type, position, this.#topic))
  }

  /** Something is missing: the client goes on from here, and knows. */
  #miss(client: WebSocketConnection<UserData>): void {
    this.#behind.delete(client)
    this.#mark(client, 'gap', this.#position!)
    const tell = this.#gapHandlers.get(client)
    if (tell !== undefined) callHandler(tell, (error) => this.#host.report(error))
  }

  // ── entries ───────────────────────────────────────────────────────────────────────────────────────────────────────

  entry(entry: LogEntry): void {
    const position = this.#position
    if (position === undefined) {
      this.#early.push(entry)
      return
    }
    const { sequence, message } = entry
    if (sequence <= position.sequence || this.#isEnded) return
    this.#position = { epoch: position.epoch, sequence }
    const mark = this.#markOf(sequence)
    for (const client of this.#host.membersOf(this.#topic)) {
      const cursor = this.#behind.get(client)
      if (cursor !== undefined) {
        // One that was ahead of us.
        if (cursor.sequence === sequence) this.#behind.delete(client)
        continue
      }
      if (message === undefined) continue
      if (client.sendPrepared(message, mark(client))) {
        if (this.counted !== undefined) this.counted.sent++
      } else if (client.state === 'open') {
        if (this.counted !== undefined) this.counted.dropped++
        this.#fallBehind(client, sequence - 1)
      }
    }
    if (message !== undefined) this.#host.hear(this.#topic, message)
  }

  reset(position: Position): void {
    this.#position = position
    // Who is told may leave and join.
    for (const client of [...this.#host.membersOf(this.#topic)]) this.#miss(client)
  }

  /** The mark before an entry: made once, and only when somebody wants it. */
  #markOf(sequence: number): (client: WebSocketConnection<UserData>) => PreparedMessage | undefined {
    const { epoch } = this.#position!
    let mark: PreparedMessage | undefined
    return (client) => {
      if (client.positions === undefined) return undefined
      mark ??= new PreparedMessage(formatMark('position', { epoch, sequence }, this.#topic), false)
      return mark
    }
  }

  // ── catching up ───────────────────────────────────────────────────────────────────────────────────────────────────

  #fallBehind(client: WebSocketConnection<UserData>, sequence: number): void {
    const cursor: Cursor = { sequence, after: undefined, isWaiting: false }
    this.#behind.set(client, cursor)
    this.#awaitPeer(client, cursor)
  }

  #isCurrent(client: WebSocketConnection<UserData>, cursor: Cursor): boolean {
    return this.#behind.get(client) === cursor && client.state === 'open'
  }

  /** Sends what the client has missed, as far as it goes without waiting. */
  #advance(client: WebSocketConnection<UserData>, cursor: Cursor): void {
    while (this.#isCurrent(client, cursor)) {
      if (cursor.sequence === this.#position!.sequence) {
        this.#behind.delete(client)
        return
      }
      if (client.bufferedBytes > SEND_AHEAD_BYTES) {
        this.#awaitPeer(client, cursor)
        return
      }
      let page: LogPage | Promise<LogPage>
      try {
        page = this.#log.read(this.#topic, cursor.sequence!)
      } catch (error) {
        page = Promise.reject(error)
      }
      if (isPromise(page)) {
        page.then(
          (read) => {
            if (this.#take(client, cursor, read)) this.#advance(client, cursor)
          },
          (error: unknown) => {
            if (!this.#isCurrent(client, cursor)) return
            this.#host.trouble(error)
            this.#later(() => this.#advance(client, cursor))
          },
        )
        return
      }
      if (!this.#take(client, cursor, page)) return
    }
  }

  /** Sends a page; false when the client cannot take all of it now. */
  #take(client: WebSocketConnection<UserData>, cursor: Cursor, { epoch, first, entries }: LogPage): boolean {
    if (!this.#isCurrent(client, cursor)) return false
    const position = this.#position!
    if (epoch !== position.epoch || first > cursor.sequence! + 1) {
      this.#miss(client)
      return false
    }
    const mark = (sequence: number): PreparedMessage | undefined => this.#markOf(sequence)(client)
    // Well below what would make a slow consumer of it.
    const most = Math.min(SEND_AHEAD_BYTES, client.unreadMark)
    for (const { sequence, message } of entries) {
      // What the feed has not come to yet comes by it.
      if (sequence > position.sequence) break
      const ahead = client.bufferedBytes
      if (message !== undefined && ahead > 0 && ahead + message.plain.length > most) {
        this.#awaitPeer(client, cursor)
        return false
      }
      if (message !== undefined && !client.sendPrepared(message, mark(sequence))) {
        this.#awaitPeer(client, cursor)
        return false
      }
      cursor.sequence = sequence
    }
    if (entries.length > 0) return true
    // The log does not know yet what it has told us of.
    this.#later(() => this.#advance(client, cursor))
    return false
  }

  #awaitPeer(client: WebSocketConnection<UserData>, cursor: Cursor): void {
    if (cursor.isWaiting) return
    cursor.isWaiting = true
    const goOn = (): void => {
      cursor.isWaiting = false
      this.#advance(client, cursor)
    }
    // When the client is gone it leaves the topic by itself.
    client.flushed().then(goOn, () => {})
  }

  #later(action: () => void): void {
    if (this.#isEnded) return
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      action()
    }, RETRY_MS).unref()
    this.#timers.add(timer)
  }
}
