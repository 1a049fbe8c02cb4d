import type { Backplane } from './backplane.ts'
import { WebSocketConnection } from './connection.ts'
import { type Data, toBytes } from './data.ts'
import { UsageError, type WebSocketError } from './errors.ts'
import { Feeds } from './feeds.ts'
import { callHandler } from './handlers.ts'
import { type HistoryOption, resolveHistory } from './history.ts'
import type { Message } from './inbox.ts'
import { formatUnsubscribed } from './marks.ts'
import { unknownOption } from './nearest.ts'
import { PreparedMessage } from './prepared.ts'
import type { ConnectionTopics, PublishOptions, PublishResult, SendOptions, SubscribeOptions } from './publishing.ts'
import { Relay } from './relay.ts'
import { countTopics, isMember, TopicTable } from './topics.ts'

/** Hears what is published to a topic; see `WebSocketServer.listenTo`. */
export type TopicListener = (data: Message) => void

/** What the hub needs of its server, or of its publisher. */
export interface HubOptions<UserData> {
  /** The topic of everyone. */
  readonly clients: ReadonlyMap<string, WebSocketConnection<UserData>>
  readonly backplane: Backplane | undefined
  readonly history: HistoryOption | undefined
  readonly maxTopicsPerClient: number
  readonly maxTopicBytes: number
  /** Trouble with the backplane, and exceptions of listeners. */
  report(error: unknown): void
  /** The trouble is over. */
  restored(): void
}

/** Channels of the backplane: that of everyone, and those of topics. */
const EVERYONE = '*'
const TOPIC_PREFIX = '#'

/**
 * Messages that go to many: to everyone, or to the members of a topic; in this process, and in others by way of a
 * backplane. What a message costs depends on who gets it, and not on how many clients and topics there are.
 */
export class Hub<UserData> implements ConnectionTopics<WebSocketConnection<UserData>> {
  readonly #options: HubOptions<UserData>
  readonly #topics = new TopicTable<WebSocketConnection<UserData>>()
  readonly #listeners = new Map<string, Set<TopicListener>>()
  readonly #relay: Relay | undefined
  readonly #feeds: Feeds<UserData> | undefined

  constructor(options: HubOptions<UserData>) {
    this.#options = options
    const { backplane } = options
    if (backplane !== undefined) checkBackplane(backplane)
    const limitsOf = resolveHistory(options.history)
    if (limitsOf !== undefined) {
      if (backplane !== undefined && backplane.log === undefined) {
        throw new UsageError('ERR_OPTION', 'this backplane keeps no history: leave out the option history')
      }
      this.#feeds = new Feeds({
        limitsOf,
        log: backplane?.log,
        membersOf: (topic) => this.#topics.get(topic)?.members ?? [],
        hear: (topic, message) => this.#hear(topic, message),
        report: (error) => options.report(error),
      })
    }
    if (backplane === undefined) return
    this.#relay = new Relay(backplane, {
      receive: (channel, message) => this.#receive(channel, message),
      trouble: (error: WebSocketError) => options.report(error),
      restored: () => {
        this.#feeds?.retry()
        options.restored()
      },
    })
  }

  /** Begins to listen to the other processes. `hasClients`: this process has some to whom a broadcast may come. */
  start(hasClients: boolean): void {
    if (this.#relay === undefined) return
    this.#relay.start()
    if (hasClients) this.#relay.subscribe(EVERYONE)
  }

  // ── members ───────────────────────────────────────────────────────────────────────────────────────────────────────

  subscribe(client: WebSocketConnection<UserData>, name: string, options: SubscribeOptions | undefined): boolean {
    this.#checkName(name)
    const { maxTopicsPerClient } = this.#options
    if (client.state !== 'open' || isMember(client, this.#topics.get(name))) return false
    if (countTopics(client) >= maxTopicsPerClient) {
      throw new UsageError('ERR_TOPIC', `a client may be in ${maxTopicsPerClient} topics (maxTopicsPerClient)`)
    }
    // First what may throw: a function `history` of the user's.
    this.#want(name)
    this.#topics.add(name, client)
    if (this.#feeds?.isOpen(name) === true) this.#feeds.join(name, client, options)
    return true
  }

  unsubscribe(client: WebSocketConnection<UserData>, name: string): boolean {
    const hasHistory = this.#feeds?.isOpen(name) === true
    if (!this.#topics.delete(name, client)) return false
    this.#left(name, client)
    if (hasHistory) client.sendMark(formatUnsubscribed(name))
    return true
  }

  /** A client is gone: it leaves everything. */
  leave(client: WebSocketConnection<UserData>): void {
    if (client.memberships === undefined) return
    const names = this.#relay === undefined && this.#feeds === undefined ? [] : client.topics
    this.#topics.deleteMember(client)
    for (const name of names) this.#left(name, client)
  }

  /** How many members a topic has in this process. */
  countSubscribers(name: string): number {
    return this.#topics.get(name)?.size ?? 0
  }

  /** The members of a topic in this process. */
  subscribers(name: string): Iterable<WebSocketConnection<UserData>> {
    return this.#topics.get(name)?.members ?? []
  }

  /** The names of the topics that have members in this process. */
  names(): IterableIterator<string> {
    return this.#topics.names()
  }

  listenTo(name: string, listener: TopicListener): () => void {
    this.#checkName(name)
    this.#want(name)
    const listeners = this.#listeners.get(name) ?? new Set()
    // A function of its own per subscription: the same listener may be there twice.
    const own: TopicListener = (data) => listener(data)
    listeners.add(own)
    this.#listeners.set(name, listeners)
    return () => {
      if (!listeners.delete(own) || listeners.size > 0) return
      this.#listeners.delete(name)
      this.#left(name)
    }
  }

  /** A topic has a member, or a listener, in this process. */
  #want(name: string): void {
    // A history comes by its own way.
    if (this.#feeds?.has(name) === true) this.#feeds.open(name)
    else this.#relay?.subscribe(TOPIC_PREFIX + name)
  }

  #left(name: string, client?: WebSocketConnection<UserData>): void {
    const hasHistory = this.#feeds?.isOpen(name) === true
    if (hasHistory && client !== undefined) this.#feeds!.leave(name, client)
    if (this.#topics.get(name) !== undefined || this.#listeners.has(name)) return
    if (hasHistory) this.#feeds!.close(name)
    else this.#relay?.unsubscribe(TOPIC_PREFIX + name)
  }

  // ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────

  publish(
    name: string,
    data: Data | PreparedMessage,
    options: PublishOptions<WebSocketConnection<UserData>> = {},
  ): PublishResult {
    this.#checkName(name)
    const message = prepareFor(data, options)
    if (this.#feeds?.has(name) === true) {
      if (options.except !== undefined || options.filter !== undefined) {
        throw new UsageError('ERR_OPTION', 'what has a history goes to everybody: leave out except and filter')
      }
      return this.#feeds.publish(name, message)
    }
    const result = deliver(this.subscribers(name), message, options)
    this.#hear(name, message)
    return this.#share(TOPIC_PREFIX + name, message, options, result)
  }

  publishFrom(
    client: WebSocketConnection<UserData>,
    name: string,
    data: Data | PreparedMessage,
    { compress }: SendOptions = {},
  ): PublishResult {
    return this.publish(name, data, this.#feeds?.has(name) === true ? { compress } : { compress, except: client })
  }

  broadcast(data: Data | PreparedMessage, options: PublishOptions<WebSocketConnection<UserData>> = {}): PublishResult {
    const message = prepareFor(data, options)
    return this.#share(EVERYONE, message, options, deliver(this.#options.clients.values(), message, options))
  }

  #share(
    channel: string,
    message: PreparedMessage,
    { filter }: PublishOptions<WebSocketConnection<UserData>>,
    result: PublishResult,
  ): PublishResult {
    if (this.#relay === undefined) return result
    result.reach = filter === undefined && this.#relay.publish(channel, message) ? 'everywhere' : 'process'
    return result
  }

  #receive(channel: string, message: PreparedMessage): void {
    if (channel === EVERYONE) {
      deliver(this.#options.clients.values(), message, {})
      return
    }
    const name = channel.slice(TOPIC_PREFIX.length)
    deliver(this.subscribers(name), message, {})
    this.#hear(name, message)
  }

  #hear(name: string, message: PreparedMessage): void {
    const listeners = this.#listeners.get(name)
    if (listeners === undefined) return
    for (const listener of listeners) {
      callHandler(
        () => listener(message.toData()),
        (error) => this.#options.report(error),
      )
    }
  }

  // ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Resolves when the backplane knows the topics that this process wants; at once without one, or while it is away. */
  async synced(): Promise<void> {
    await this.#relay?.synced()
    await this.#feeds?.synced()
  }

  tick(): void {
    this.#feeds?.tick()
  }

  /** Resolves when the backplane is there, at first or again; rejects with `ERR_BACKPLANE` when it is over before. */
  async ready(): Promise<void> {
    await this.#relay?.ready()
  }

  async close(): Promise<void> {
    await this.#feeds?.end()
    await this.#relay?.close()
  }

  #checkName(name: string): void {
    const { maxTopicBytes } = this.#options
    const valid = typeof name === 'string' && name !== '' && !LONE_SURROGATE.test(name)
    if (valid && (name.length * 3 <= maxTopicBytes || Buffer.byteLength(name) <= maxTopicBytes)) return
    const reason = valid ? `may have ${maxTopicBytes} bytes at most` : 'must be a string of whole characters, not empty'
    throw new UsageError('ERR_TOPIC', `the name of a topic ${reason}`)
  }
}

const BACKPLANE_METHODS = ['start', 'publish', 'subscribe', 'unsubscribe', 'close'] as const

function checkBackplane(backplane: Backplane): void {
  if (BACKPLANE_METHODS.every((name) => typeof backplane?.[name] === 'function')) return
  throw new UsageError(
    'ERR_OPTION',
    'the option backplane must be what redisBackplane(), natsBackplane() or nodeBackplane() gives',
  )
}

const LONE_SURROGATE = /\p{Surrogate}/u

/**
 * Encodes a message that is sent often: it is framed once, and compressed once for each way of doing so. For `send`,
 * `publish` and `broadcast`.
 *
 * @param options.compress whether it is compressed for clients that have agreed on it; default from `threshold` bytes on.
 * @throws UsageError `ERR_DATA_TYPE` for anything but a string, a `Uint8Array` or an `ArrayBuffer`.
 */
export function prepare(data: Data, options: { readonly compress?: boolean | undefined } = {}): PreparedMessage {
  return new PreparedMessage(typeof data === 'string' ? data : toBytes(data), options.compress)
}

const PUBLISH_OPTIONS = ['except', 'filter', 'compress']

function prepareFor(
  data: Data | PreparedMessage,
  options: object & { readonly compress?: boolean | undefined },
): PreparedMessage {
  for (const name in options) if (!PUBLISH_OPTIONS.includes(name)) throw unknownOption(name, PUBLISH_OPTIONS)
  const { compress } = options
  return data instanceof PreparedMessage ? data : prepare(data, { compress })
}

/** Sends a message to some clients of this process. */
function deliver<UserData>(
  clients: Iterable<WebSocketConnection<UserData>>,
  message: PreparedMessage,
  options: PublishOptions<WebSocketConnection<UserData>>,
): PublishResult {
  const { except } = options
  if (typeof except === 'string') throw new UsageError('ERR_OPTION', 'the option except takes clients, and no ids')
  const single = except instanceof WebSocketConnection ? except : undefined
  const several =
    except === undefined || single !== undefined
      ? undefined
      : new Set(except as Iterable<WebSocketConnection<UserData>>)
  const result: PublishResult = { sent: 0, dropped: 0 }
  for (const client of clients) {
    if (client.state !== 'open' || client === single || several?.has(client)) continue
    if (options.filter !== undefined && !options.filter(client)) continue
    if (client.sendPrepared(message)) result.sent++
    else result.dropped++
  }
  return result
}
