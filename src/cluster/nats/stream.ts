import { WebSocketError } from '../../errors.ts'
import { type ResolvedHistoryLimits, resolveHistory } from '../../history.ts'
import { randomId } from '../../ids.ts'
import type {
  NatsClient,
  NatsJetStream,
  NatsJetStreamManager,
  NatsStoredMessage,
  NatsStreamConfig,
  NatsStreamInfo,
  NatsStreamLimits,
} from './client.ts'
import { ApiCode, apiCode } from './failures.ts'
import type { NatsLink } from './link.ts'
import { HistoryNames } from './names.ts'

/** What a page may have, in messages and in bytes. */
const PAGE_MESSAGES = 256
const PAGE_BYTES = 1_048_576
/** So many messages are asked for at a time: at first, and at the most. */
const FIRST_WAVE = 8
const MAX_WAVE = 128
/** What the server keeps with each message, in bytes: subject, id, time, sums. */
const BYTES_PER_MESSAGE = 256
/** How long the ids of messages are kept, at the most, in nanoseconds. */
const MAX_DUPLICATE_WINDOW = 30_000_000_000
/** Shortest time that a stream can be told, in nanoseconds. */
const MIN_TIME = 100_000_000
/** Longest time, in nanoseconds: 292 years; what is longer is for ever. */
const MAX_TIME = 9.2e18
const NANOSECONDS = 1_000_000
const BIRTH_CHARACTERS = 16
const RENEWAL_CHARACTERS = 8
/** How often something is tried again that others have changed at the same time. */
const ATTEMPTS = 5
/** Answers to the wish for a new stream that may be other ones a little later. */
const OF_THE_MOMENT: readonly (number | undefined)[] = [
  ApiCode.STREAM_CREATE,
  ApiCode.STREAM_NAME_IN_USE,
  ApiCode.STREAM_CONFIG,
]
/** How long to wait for that, in milliseconds. */
const PAUSE_MS = 50
/**
 * How long a server may take to delete a stream, in milliseconds. One that is made of the same name before it has done
 * so may be damaged.
 */
const DELETION_MS = 500
const NOTHING = new Uint8Array(0)

/** Of a stream that is made before its limits are known here. */
const DEFAULT_LIMITS = resolveHistory(() => ({}))!('')!

/** What the streams of a log have in common. */
export interface StreamContext {
  readonly connection: NatsClient
  readonly jetstream: NatsJetStream
  readonly link: NatsLink
  readonly prefix: string
  readonly replicas: number
  /** Made when it is needed for the first time. */
  manager(): Promise<NatsJetStreamManager>
}

/** Where a stream begins and ends. */
export interface StreamState {
  readonly epoch: string
  /** The oldest message, or the next one when there is none. */
  readonly first: number
  readonly last: number
}

/** Messages of a stream, from the one asked for on. */
export interface StreamPage extends StreamState {
  readonly messages: readonly NatsStoredMessage[]
}

/**
 * The stream of one topic. Its numbers are those of the history. The epoch is the birth of the stream, which its subject
 * ends in; when the server has lost the end of a stream, and so gives numbers for the second time, another part is added
 * to the epoch, in the description of the stream.
 */
export class TopicStream {
  readonly names: HistoryNames
  readonly #context: StreamContext
  /** With which it is made when it is not there. */
  #limits = DEFAULT_LIMITS
  /** Those that it is known to have. */
  #applied: ResolvedHistoryLimits | undefined
  /** As far as it is known. */
  #epoch: string | undefined
  /** The birth of the stream that was there last. */
  #birth: string | undefined
  #making: Promise<NatsStreamInfo> | undefined

  constructor(context: StreamContext, topic: string) {
    this.#context = context
    this.names = new HistoryNames(context.prefix, topic)
  }

  /** The epoch when it is known and the stream has these limits; undefined when `locate` has to find out. */
  known(limits: ResolvedHistoryLimits): string | undefined {
    return this.#applied !== undefined && areSame(this.#applied, limits) ? this.#epoch : undefined
  }

  /** Makes sure that the stream is there, and has these limits. */
  async locate(limits: ResolvedHistoryLimits): Promise<void> {
    this.#limits = limits
    this.#describe(await this.#ensure(limits))
    this.#applied = limits
  }

  /** It may be that the stream is not there any more. */
  forget(): void {
    this.#epoch = undefined
  }

  /** Makes the stream when it is not there. */
  async state(): Promise<StreamState> {
    return this.#describe(await this.#ensure(undefined))
  }

  /** One message; undefined when it is not there. */
  async message(sequence: number): Promise<NatsStoredMessage | undefined> {
    const { streams } = await this.#manager()
    const found = await this.#context.link.guard(() => streams.getMessage(this.names.stream, { seq: sequence }))
    return found ?? undefined
  }

  /** What is behind a number: as much as is convenient, in order, without a gap. */
  async page(after: number): Promise<StreamPage> {
    for (let attempt = 0; ; attempt++) {
      const state = await this.state()
      const messages = await this.#messages(state, after)
      const isReplaced = messages.some(({ subject }) => subject !== this.names.logSubject(birthOf(state.epoch)))
      // It may be as well that the server has put messages of the old stream into the new one.
      if (isReplaced && (await this.state()).epoch !== state.epoch) continue
      const isThere = after < state.last && state.first <= after + 1
      if (messages.length > 0 || !isThere) return { ...state, messages }
      // It was cut in between; or somebody has deleted this one message.
      if (attempt >= ATTEMPTS) return { ...state, first: after + 2, messages }
    }
  }

  /** Gives it another epoch, if it still has this one: its numbers are not what they were. */
  async renew(epoch: string): Promise<StreamState> {
    const state = await this.state()
    if (state.epoch !== epoch) return state
    const { connection, link } = this.#context
    const { streams } = await this.#manager()
    const description = randomId().slice(0, RENEWAL_CHARACTERS)
    const renewed = this.#describe(await link.guard(() => streams.update(this.names.stream, { description })))
    // Who hears something that is no entry looks at the stream.
    connection.publish(this.names.liveSubject(birthOf(epoch)), NOTHING)
    return renewed
  }

  // ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** As far as they are there. */
  async #messages({ first, last }: StreamState, after: number): Promise<NatsStoredMessage[]> {
    const messages: NatsStoredMessage[] = []
    if (after + 1 < first) return messages
    const end = Math.min(last, after + PAGE_MESSAGES)
    let bytes = 0
    for (let wave = FIRST_WAVE; after + messages.length < end && bytes < PAGE_BYTES; ) {
      const from = after + messages.length + 1
      const count = Math.min(wave, end - from + 1)
      const read = await Promise.all(Array.from({ length: count }, (_, index) => this.message(from + index)))
      for (const message of read) {
        if (message === undefined) return messages
        messages.push(message)
        bytes += message.data.length
      }
      const average = Math.max(1, bytes / messages.length)
      wave = Math.max(1, Math.min(wave * 2, MAX_WAVE, Math.floor((PAGE_BYTES - bytes) / average)))
    }
    return messages
  }

  // ── making ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #manager(): Promise<NatsJetStreamManager> {
    return this.#context.manager()
  }

  /** The stream as it is, with the limits if some are given; one that is not there is made. */
  async #ensure(limits: ResolvedHistoryLimits | undefined): Promise<NatsStreamInfo> {
    const found = (await this.#find()) ?? (await this.#make())
    if (limits === undefined || hasLimits(found, streamLimits(limits))) return found
    const { streams } = await this.#manager()
    return this.#context.link.guard(() => streams.update(this.names.stream, streamLimits(limits)))
  }

  async #find(): Promise<NatsStreamInfo | undefined> {
    const { streams } = await this.#manager()
    try {
      return await this.#context.link.guard(() => streams.info(this.names.stream))
    } catch (error) {
      if (apiCode(error) === ApiCode.STREAM_NOT_FOUND) return undefined
      throw error
    }
  }

  #make(): Promise<NatsStreamInfo> {
    this.#making ??= this.#makeAnew().finally(() => {
      this.#making = undefined
    })
    return this.#making
  }

  async #makeAnew(): Promise<NatsStreamInfo> {
    const { streams } = await this.#manager()
    if (this.#birth !== undefined) await new Promise((resolve) => setTimeout(resolve, DELETION_MS).unref())
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#context.link.guard(() => streams.add(this.#newConfig()))
      } catch (error) {
        // Somebody else was faster, with another birth; or one of this name is just being deleted.
        if (!OF_THE_MOMENT.includes(apiCode(error)) || attempt >= ATTEMPTS) throw error
      }
      const found = await this.#find()
      if (found !== undefined) return found
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS).unref())
    }
  }

  #newConfig(): NatsStreamConfig {
    const birth = randomId().slice(0, BIRTH_CHARACTERS)
    const subject = this.names.logSubject(birth)
    return {
      ...streamLimits(this.#limits),
      name: this.names.stream,
      subjects: [subject],
      storage: 'file',
      retention: 'limits',
      discard: 'old',
      num_replicas: this.#context.replicas,
      republish: { src: subject, dest: this.names.liveSubject(birth) },
    }
  }

  #describe({ config, state }: NatsStreamInfo): StreamState {
    const birth = this.names.birthOf(config.subjects?.[0])
    const renewal = config.description ?? ''
    if (birth === undefined || !PART_OF_EPOCH.test(birth) || (renewal !== '' && !PART_OF_EPOCH.test(renewal))) {
      throw new WebSocketError('ERR_HISTORY', `the stream ${config.name} is not one of ours`)
    }
    this.#epoch = renewal === '' ? birth : `${birth}-${renewal}`
    if (this.#birth !== birth) this.#applied = undefined
    this.#birth = birth
    // One that was never written to says 0.
    return { epoch: this.#epoch, first: Math.max(state.first_seq, 1), last: state.last_seq }
  }
}

const PART_OF_EPOCH = /^[0-9a-f]{8,16}$/

/** The birth of the stream that has this epoch. */
export function birthOf(epoch: string): string {
  return epoch.slice(0, BIRTH_CHARACTERS)
}

function areSame(one: ResolvedHistoryLimits, other: ResolvedHistoryLimits): boolean {
  return one.maxMessages === other.maxMessages && one.maxAgeMs === other.maxAgeMs && one.maxBytes === other.maxBytes
}

/** The ids of messages are known for so long, in milliseconds: sent again within this time, they are stored once. */
export function duplicateWindowMs({ maxAgeMs }: ResolvedHistoryLimits): number {
  return Math.min(MAX_DUPLICATE_WINDOW, Math.max(maxAgeMs * NANOSECONDS, MIN_TIME)) / NANOSECONDS
}

function streamLimits(limits: ResolvedHistoryLimits): NatsStreamLimits {
  const { maxMessages, maxAgeMs, maxBytes } = limits
  const age = Math.max(maxAgeMs * NANOSECONDS, MIN_TIME)
  const bytes = maxBytes + maxMessages * BYTES_PER_MESSAGE
  return {
    max_msgs: maxMessages,
    max_age: age > MAX_TIME ? 0 : age,
    max_bytes: Number.isSafeInteger(bytes) ? bytes : -1,
    duplicate_window: duplicateWindowMs(limits) * NANOSECONDS,
  }
}

function hasLimits({ config }: NatsStreamInfo, limits: NatsStreamLimits): boolean {
  return Object.entries(limits).every(([name, value]) => config[name as keyof NatsStreamLimits] === value)
}
