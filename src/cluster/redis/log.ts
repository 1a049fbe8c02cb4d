import { decodeRecord } from '../../envelope.ts'
import type { LogFollower, LogPage, LogSubscription, ResolvedHistoryLimits, TopicLog } from '../../history.ts'
import { randomId } from '../../ids.ts'
import type { Position } from '../../marks.ts'
import type { PreparedMessage } from '../../prepared.ts'
import { PageReads } from '../page-reads.ts'
import { Appending } from './appending.ts'
import { inTime, type RedisConnection } from './connection.ts'
import { Following, type Known, type StoredEntry, type StoredPage } from './following.ts'
import { appendedKey, historyKeys, liveChannel } from './names.ts'
import { APPEND, READ } from './scripts.ts'

/** Entries of a page, and bytes from which on it is enough. */
const PAGE_ENTRIES = 256
const PAGE_BYTES = 1_048_576
/** How long a page may take, in milliseconds. */
const READ_MS = 5_000
/** How long a history that is followed is kept in mind without an entry, and any beyond its last one, in milliseconds. */
const STAY_MS = 3_600_000
/** How often something that is followed is looked at, for what was announced and has not come, in milliseconds. */
const CHECK_MS = 5_000
/** So many at a time, or that part of all. */
const CHECKED_AT_ONCE = 1_000
const CHECKED_PART = 1 / 100
/** Requests at a time, while it is looked at many. */
const READERS = 32
/** How long is waited at the end for what is on its way, in milliseconds. */
const CLOSE_MS = 2_000
const HEAD = /^([A-Za-z0-9_-]{1,64}) (\d{1,16}) (\d{1,16})\n/
/** Longest head, in bytes. */
const HEAD_BYTES = 100

/** Histories as streams of Redis; see scripts.ts. */
export class RedisLog implements TopicLog {
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly #publish: 'PUBLISH' | 'SPUBLISH'
  readonly #maxMessageBytes: number
  /** This process, as the one that appends. */
  readonly #id = randomId()
  readonly #followings = new Map<string, Set<Following>>()
  readonly #appending: Appending
  /** What is being read, so that many clients that come back at once do not each read the same. */
  readonly #pages = new PageReads((topic, after) => this.#readPage(topic, after))
  #checks: NodeJS.Timeout | undefined
  #isChecking = false
  /** What is still to be looked at in this round. */
  #round: Following[] = []

  constructor(connection: RedisConnection, prefix: string, isSharded: boolean, maxMessageBytes: number) {
    this.#connection = connection
    this.#prefix = prefix
    this.#publish = isSharded ? 'SPUBLISH' : 'PUBLISH'
    this.#maxMessageBytes = maxMessageBytes
    this.#appending = new Appending({
      unavailable: () => (connection.isUp ? undefined : connection.error),
      store: (topic, number, records, limits) => this.#store(topic, number, records, limits),
    })
  }

  async append(topic: string, message: PreparedMessage, limits: ResolvedHistoryLimits): Promise<Position> {
    const { length } = message.payload
    if (length > this.#maxMessageBytes) {
      throw new Error(`a message of ${length} bytes is longer than the ${this.#maxMessageBytes} that may be published`)
    }
    if (this.#connection.starting !== undefined) await this.#connection.starting
    return this.#appending.append(topic, message, limits)
  }

  read(topic: string, after: number): Promise<LogPage> {
    return this.#pages.read(topic, after)
  }

  async #readPage(topic: string, after: number): Promise<LogPage> {
    const { epoch, first, entries } = await this.#read(topic, after)
    // Where one is missing the page ends; the next one begins behind what is missing, and so tells of it.
    const whole = entries.findIndex(({ sequence }, index) => sequence !== after + 1 + index)
    if (whole === 0) return { epoch, first: entries[0]!.sequence, entries: [] }
    const read = whole === -1 ? entries : entries.slice(0, whole)
    return { epoch, first, entries: read.map(({ sequence, record }) => ({ sequence, message: decodeRecord(record) })) }
  }

  async follow(topic: string, follower: LogFollower): Promise<LogSubscription> {
    const following = new Following(
      follower,
      (after, known) => this.#read(topic, after, known),
      () => this.#unfollow(topic, following),
    )
    const followings = this.#followings.get(topic) ?? new Set()
    this.#followings.set(topic, followings.add(following))
    try {
      await this.#connection.starting
      const channel = liveChannel(this.#prefix, topic)
      await this.#connection.subscribe(new Map([[channel, (message) => this.#announced(topic, message)]]))
      following.start(await this.#read(topic, -1))
      return following
    } catch (error) {
      following.stop()
      throw error
    }
  }

  #unfollow(topic: string, following: Following): void {
    const followings = this.#followings.get(topic)
    followings?.delete(following)
    if (followings?.size !== 0) return
    this.#followings.delete(topic)
    this.#connection.unsubscribe([liveChannel(this.#prefix, topic)]).catch(() => {})
  }

  #announced(topic: string, message: Buffer): void {
    const [head, epoch, sequence, time] = HEAD.exec(message.toString('latin1', 0, HEAD_BYTES)) ?? []
    if (head === undefined) return
    const record = message.subarray(head.length)
    const entry: StoredEntry = { sequence: Number(sequence), time: Number(time), record }
    for (const following of this.#followings.get(topic) ?? []) following.announce(epoch!, entry)
  }

  // ── the connection ────────────────────────────────────────────────────────────────────────────────────────────────

  start(): void {
    this.#checks = setInterval(() => void this.#checkSome(), CHECK_MS).unref()
  }

  /** What was missed is read. */
  up(): void {
    this.#round = []
    void catchUpAll(this.#all())
  }

  down(error: Error): void {
    this.#appending.dropWaiting(error)
  }

  /** Waits for what is on its way, but not for long. */
  async close(): Promise<void> {
    clearInterval(this.#checks)
    if (this.#connection.isUp) await inTime(CLOSE_MS, this.#appending.done()).catch(() => {})
    this.#appending.end(new Error('the backplane is closed'))
  }

  #all(): Following[] {
    return [...this.#followings.values()].flatMap((followings) => [...followings])
  }

  /** An announcement may be lost without anybody noticing, in a cluster; and what is followed is to stay. */
  async #checkSome(): Promise<void> {
    if (this.#isChecking || !this.#connection.isUp) return
    this.#isChecking = true
    if (this.#round.length === 0) this.#round = this.#all()
    await catchUpAll(this.#round.splice(0, Math.max(CHECKED_AT_ONCE, this.#followings.size * CHECKED_PART)))
    this.#isChecking = false
  }

  // ── scripts ───────────────────────────────────────────────────────────────────────────────────────────────────────

  async #store(
    topic: string,
    number: number,
    records: readonly Buffer[],
    { maxMessages, maxAgeMs, maxBytes }: ResolvedHistoryLimits,
  ): Promise<{ epoch: string; first: number }> {
    const { log, state } = historyKeys(this.#prefix, topic)
    const keys = [log, state, appendedKey(this.#prefix, topic, this.#id)]
    const numbers = [number, maxMessages, maxAgeMs, maxBytes, STAY_MS].map(String)
    const [following] = this.#followings.get(topic) ?? []
    const known = following?.known ?? { epoch: '', sequence: 0, time: 0 }
    const channel = liveChannel(this.#prefix, topic)
    const reply = await this.#connection.run(APPEND, keys, [
      ...[randomId(), ...numbers, this.#publish, channel],
      ...[known.epoch, `${known.sequence}`, `${known.time}`],
      ...records,
    ])
    const [epoch, first] = reply as [Buffer, Buffer]
    return { epoch: String(epoch), first: Number(first) }
  }

  async #read(topic: string, after: number, known?: Known): Promise<StoredPage> {
    const { log, state } = historyKeys(this.#prefix, topic)
    const what = [randomId(), after, known?.epoch ?? '', known?.time ?? 0, STAY_MS, PAGE_ENTRIES, PAGE_BYTES]
    const reply = await inTime(READ_MS, this.#connection.run(READ, [log, state], what.map(String)))
    const [epoch, last, time, first, ...rest] = reply as Buffer[]
    const entries: StoredEntry[] = []
    for (let at = 0; at < rest.length; at += 3) {
      entries.push({ sequence: Number(rest[at]), time: Number(rest[at + 1]), record: rest[at + 2]! })
    }
    return { epoch: String(epoch), last: Number(last), time: Number(time), first: Number(first), entries }
  }
}

/** Lets all of them read what they have missed, some at a time. */
async function catchUpAll(followings: readonly Following[]): Promise<void> {
  let next = 0
  const reader = async (): Promise<void> => {
    while (next < followings.length) await followings[next++]!.catchUp()
  }
  await Promise.all(Array.from({ length: READERS }, reader))
}
