import { decodeRecord, encodeRecord } from '../../envelope.ts'
import type { LogFollower, LogPage, LogSubscription, ResolvedHistoryLimits, TopicLog } from '../../history.ts'
import { randomId } from '../../ids.ts'
import type { Position } from '../../marks.ts'
import type { PreparedMessage } from '../../prepared.ts'
import { PageReads } from '../page-reads.ts'
import type { NatsClient, NatsJetStream, NatsJetStreamManager } from './client.ts'
import { TopicFollower } from './follower.ts'
import type { NatsLink } from './link.ts'
import { within } from './patience.ts'
import { type StreamContext, TopicStream } from './stream.ts'
import { UnusedStreams } from './unused-streams.ts'
import { TopicWriter } from './writer.ts'

/** What a message has on top in NATS, in bytes: its id, and what comes around it. */
const OVERHEAD_BYTES = 256
/** So much may wait to be stored, in messages and in bytes; what comes on top is refused. */
const MAX_WAITING = 100_000
const MAX_WAITING_BYTES = 67_108_864
/** Topics of which is kept in mind what their streams are like. */
const MAX_TOPICS = 10_000
/** How often it is looked whether something was missed that nobody knows of, in milliseconds. */
const CHECK_MS = 30_000
/** Streams that are looked at at a time. */
const CHECKS_AT_ONCE = 64
/** How long the server may take, at the end, for what is on its way to it, in milliseconds. */
const CLOSE_MS = 2_000

/** What the log needs. */
export interface NatsLogOptions {
  readonly connection: NatsClient
  readonly jetstream: NatsJetStream
  readonly link: NatsLink
  readonly prefix: string
  readonly replicas: number
  readonly unusedStreamMs: number
  /** Longest message that the server takes now, in bytes. */
  maxPayload(): number
}

/** What this process has to do with one topic. */
interface Topic {
  readonly stream: TopicStream
  readonly writer: TopicWriter
}

/** Histories in JetStream: a stream for each topic. */
export class NatsLog implements TopicLog {
  readonly #options: NatsLogOptions
  readonly #context: StreamContext
  readonly #unusedStreams: UnusedStreams
  /** The one that was used last comes last. */
  readonly #topics = new Map<string, Topic>()
  readonly #followers = new Set<TopicFollower>()
  /** What is being read, so that many clients that come back at once do not each read the same. */
  readonly #pages = new PageReads((topic, after) => this.#readPage(topic, after))
  readonly #idPrefix = randomId()
  #ids = 0
  #waiting = 0
  #waitingBytes = 0
  #isClosed = false
  #drained: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined
  #manager: Promise<NatsJetStreamManager> | undefined

  constructor(options: NatsLogOptions) {
    const { connection, jetstream, link, prefix, replicas } = options
    this.#options = options
    this.#context = { connection, jetstream, link, prefix, replicas, manager: () => this.#getManager() }
    this.#unusedStreams = new UnusedStreams(options, () => this.#getManager())
  }

  start(): void {
    this.#timer = setInterval(() => {
      const quietSince = performance.now() - CHECK_MS
      void this.#read(Array.from(this.#followers).filter(({ heardAt }) => heardAt < quietSince))
    }, CHECK_MS).unref()
    this.#unusedStreams.start()
  }

  /** Waits for what is on its way, but not for long. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#timer)
    this.#unusedStreams.stop()
    if (this.#waiting > 0 && this.#options.link.isUp)
      await within(CLOSE_MS, new Promise<void>((resolve) => (this.#drained = resolve)))
    const error = new Error('the backplane is closed')
    for (const { writer } of this.#topics.values()) writer.close(error)
    for (const follower of this.#followers) follower.stop()
  }

  /** The server is away. */
  doubt(): void {
    for (const follower of this.#followers) follower.doubt()
  }

  /** It is there again: everybody reads what was missed. */
  catchUp(): void {
    void this.#read(Array.from(this.#followers))
  }

  async append(topic: string, message: PreparedMessage, limits: ResolvedHistoryLimits): Promise<Position> {
    const { maxPayload } = this.#options
    this.#checkUse()
    const record = encodeRecord(message)
    if (record.length + OVERHEAD_BYTES > maxPayload()) {
      throw new Error(`a message of ${message.payload.length} bytes is longer than the server takes`)
    }
    if (this.#waiting >= MAX_WAITING || this.#waitingBytes + record.length > MAX_WAITING_BYTES) {
      throw new Error('the server stores messages more slowly than they are published')
    }
    this.#waiting++
    this.#waitingBytes += record.length
    try {
      return await this.#topic(topic).writer.append(record, limits)
    } finally {
      this.#waiting--
      this.#waitingBytes -= record.length
      if (this.#waiting === 0) this.#drained?.()
    }
  }

  read(topic: string, after: number): Promise<LogPage> {
    return this.#pages.read(topic, after)
  }

  async follow(topic: string, follower: LogFollower): Promise<LogSubscription> {
    const { connection } = this.#options
    this.#checkUse()
    const subscription = new TopicFollower(connection, this.#topic(topic).stream, follower, () =>
      this.#followers.delete(subscription),
    )
    this.#followers.add(subscription)
    await subscription.begin()
    return subscription
  }

  async #readPage(topic: string, after: number): Promise<LogPage> {
    const { epoch, first, messages } = await this.#topic(topic).stream.page(after)
    const entries = messages.map(({ data }, index) => ({
      sequence: after + 1 + index,
      message: decodeRecord(Buffer.from(data.buffer, data.byteOffset, data.byteLength)),
    }))
    return { epoch, first, entries }
  }

  async #read(followers: TopicFollower[]): Promise<void> {
    const rest = followers.values()
    const readSome = async (): Promise<void> => {
      for (const follower of rest) await follower.read()
    }
    await Promise.all(Array.from({ length: CHECKS_AT_ONCE }, readSome))
  }

  #topic(name: string): Topic {
    let topic = this.#topics.get(name)
    if (topic === undefined) {
      const stream = new TopicStream(this.#context, name)
      topic = { stream, writer: new TopicWriter(stream, this.#context, () => `${this.#idPrefix}-${this.#ids++}`) }
    } else this.#topics.delete(name)
    this.#topics.set(name, topic)
    if (this.#topics.size > MAX_TOPICS) this.#forgetOne()
    return topic
  }

  /** The topic that was not used for longest, unless something of it is on its way. */
  #forgetOne(): void {
    for (const [name, topic] of this.#topics) {
      this.#topics.delete(name)
      if (!topic.writer.isIdle) this.#topics.set(name, topic)
      return
    }
  }

  #checkUse(): void {
    if (this.#isClosed) throw new Error('the backplane is closed')
    const { link } = this.#options
    if (!link.isUp) throw link.error
  }

  #getManager(): Promise<NatsJetStreamManager> {
    this.#manager ??= this.#options.jetstream.jetstreamManager(false)
    return this.#manager
  }
}
