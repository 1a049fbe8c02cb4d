import type { Backplane, BackplaneHost } from '../backplane.ts'
import { UsageError } from '../errors.ts'
import type { TopicLog } from '../history.ts'
import { checkOptions } from '../options.ts'
import type { NatsClient, NatsJetStream, NatsMessage, NatsSubscription } from './nats/client.ts'
import { type LinkListener, NatsLink } from './nats/link.ts'
import { NatsLog } from './nats/log.ts'
import { channelSubject, isPrefix, MAX_PREFIX } from './nats/names.ts'
import { within } from './nats/patience.ts'

export type {
  NatsClient,
  NatsHeaders,
  NatsJetStream,
  NatsJetStreamManager,
  NatsMessage,
  NatsStatus,
  NatsStoredMessage,
  NatsStreamConfig,
  NatsStreamInfo,
  NatsStreamLimits,
  NatsStreams,
  NatsSubscribeOptions,
  NatsSubscription,
} from './nats/client.ts'

/** Options of `natsBackplane`. An unknown one is a `UsageError`. */
export interface NatsBackplaneOptions {
  /**
   * Your connection: what `connect()` of `@nats-io/transport-node` gives. It stays yours to close. Connect with
   * `maxReconnectAttempts: -1`, or the client gives up for good after some seconds of an outage.
   */
  readonly connection: NatsClient
  /** What `jetstream(connection)` of `@nats-io/jetstream` gives; needed for histories, and the server needs `-js`. */
  readonly jetstream?: NatsJetStream | undefined
  /**
   * What the names of subjects and streams begin with: letters, digits, hyphens and underscores, in parts with dots
   * between them, 40 characters at most. Processes with another prefix are not reached. Default `fullduplex`.
   */
  readonly prefix?: string | undefined
  /** How many servers of a cluster keep a history. Default 1. */
  readonly replicas?: number | undefined
  /**
   * A history's stream that has been empty for so long, and that no process follows, is deleted, in milliseconds; 0 for
   * never. Default 3,600,000: one hour.
   */
  readonly unusedStreamMs?: number | undefined
  /** How often the server is asked whether it is there, in milliseconds; 0 for only when something is sent. Default 5,000. */
  readonly pingIntervalMs?: number | undefined
  /** How long it may take to answer before it counts as away, in milliseconds. Default 5,000. */
  readonly pingTimeoutMs?: number | undefined
}

const OPTION_NAMES = [
  ...['connection', 'jetstream', 'prefix', 'replicas', 'unusedStreamMs', 'pingIntervalMs', 'pingTimeoutMs'],
]
const MAX_TIME_MS = 0x7fffffff

/** What a server takes by default; as long as it has not said what it takes. */
const DEFAULT_MAX_PAYLOAD = 1_048_576
/** How long the server may take, at the end, to forget what was subscribed to, in milliseconds. */
const CLOSE_MS = 1_000

/**
 * Joins servers and publishers by NATS: one object for each. Messages go by core NATS, histories by JetStream.
 *
 * @throws UsageError for options that cannot be.
 */
export function natsBackplane(options: NatsBackplaneOptions): Backplane {
  return new NatsBackplane(options)
}

/** A channel that is subscribed to. */
interface Channel {
  readonly subscription: NatsSubscription
  /** The server has not refused it. */
  isConfirmed: boolean
}

class NatsBackplane implements Backplane {
  readonly log: TopicLog | undefined
  readonly #connection: NatsClient
  readonly #prefix: string
  readonly #link: NatsLink
  readonly #log: NatsLog | undefined
  #host: BackplaneHost | undefined
  readonly #channels = new Map<string, Channel>()
  /** Channels that the server has refused, and why. */
  readonly #refused = new Map<string, Error>()
  /** Those of them that were subscribed to before. */
  readonly #missing = new Set<string>()
  #maxPayload = DEFAULT_MAX_PAYLOAD

  constructor(options: NatsBackplaneOptions) {
    checkNatsOptions(options)
    const { connection, jetstream, prefix = 'fullduplex', replicas = 1, unusedStreamMs = 3_600_000 } = options
    this.#connection = connection
    this.#prefix = prefix
    this.#link = new NatsLink(
      connection,
      options.pingIntervalMs ?? 5_000,
      options.pingTimeoutMs ?? 5_000,
      this.#events(),
    )
    if (jetstream === undefined) return
    this.#log = new NatsLog({
      connection,
      jetstream,
      link: this.#link,
      prefix,
      replicas,
      unusedStreamMs,
      maxPayload: () => this.maxMessageBytes,
    })
    this.log = this.#log
  }

  get maxMessageBytes(): number {
    this.#maxPayload = this.#connection.info?.max_payload ?? this.#maxPayload
    return this.#maxPayload
  }

  start(host: BackplaneHost): void {
    if (this.#host !== undefined) {
      throw new UsageError('ERR_OPTION', 'a backplane is for one server or publisher; make another one')
    }
    this.#host = host
    this.#log?.start()
    this.#link.start()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    if (!this.#link.isUp) return Promise.reject(this.#link.error)
    const confirmed = this.#link.confirm()
    try {
      this.#connection.publish(channelSubject(this.#prefix, channel), message)
    } catch (error) {
      return Promise.reject(error)
    }
    return confirmed
  }

  async subscribe(channels: readonly string[]): Promise<void> {
    if (!this.#link.isUp) throw this.#link.error
    try {
      for (const channel of channels) this.#subscribe(channel)
      await this.#link.confirm()
      const refused = channels.find((channel) => this.#refused.has(channel))
      if (refused !== undefined) throw this.#refused.get(refused)
    } catch (error) {
      // All or nothing: what is half done would be left over.
      await this.unsubscribe(channels.filter((channel) => this.#channels.get(channel)?.isConfirmed !== true))
      throw error
    }
    for (const channel of channels) {
      const subscribed = this.#channels.get(channel)
      if (subscribed !== undefined) subscribed.isConfirmed = true
    }
  }

  async unsubscribe(channels: readonly string[]): Promise<void> {
    for (const channel of channels) {
      this.#channels.get(channel)?.subscription.unsubscribe()
      this.#channels.delete(channel)
      this.#refused.delete(channel)
      this.#missing.delete(channel)
    }
  }

  async close(): Promise<void> {
    await this.#log?.close()
    for (const { subscription } of this.#channels.values()) subscription.unsubscribe()
    this.#channels.clear()
    if (this.#link.isUp) await within(CLOSE_MS, this.#link.confirm())
    this.#link.close()
  }

  #events(): LinkListener {
    return {
      up: (): void => {
        this.#host!.up()
        this.#log?.catchUp()
      },
      down: (error: Error): void => {
        this.#log?.doubt()
        this.#host!.down(error)
      },
      renew: (): void => {
        for (const channel of this.#missing) this.#subscribe(channel)
      },
      missing: (): Error | undefined => {
        for (const channel of this.#missing) {
          const refused = this.#refused.get(channel)
          if (refused !== undefined) return refused
        }
        this.#missing.clear()
        return undefined
      },
    }
  }

  #subscribe(channel: string): void {
    if (this.#channels.has(channel)) return
    this.#refused.delete(channel)
    const subscription = this.#connection.subscribe(channelSubject(this.#prefix, channel), {
      callback: (error: Error | null, message: NatsMessage): void => {
        if (error === null) this.#host!.receive(channel, message.data)
        else this.#refuse(channel, error)
      },
    })
    this.#channels.set(channel, { subscription, isConfirmed: this.#missing.has(channel) })
  }

  #refuse(channel: string, error: Error): void {
    const subscribed = this.#channels.get(channel)
    if (subscribed === undefined) return
    this.#channels.delete(channel)
    this.#refused.set(channel, error)
    if (!subscribed.isConfirmed) return
    this.#missing.add(channel)
    this.#link.lost(error)
  }
}

function checkNatsOptions(options: NatsBackplaneOptions): void {
  checkOptions(options, OPTION_NAMES)
  const { connection, jetstream, prefix, replicas, unusedStreamMs, pingTimeoutMs } = options
  if (!hasMethods(connection, ['publish', 'subscribe', 'request', 'flush', 'status', 'isClosed'])) {
    throw new UsageError('ERR_OPTION', 'the option connection must be what connect() of @nats-io/transport-node gives')
  }
  if (jetstream !== undefined && !hasMethods(jetstream, ['publish', 'jetstreamManager'])) {
    throw new UsageError('ERR_OPTION', 'the option jetstream must be what jetstream() of @nats-io/jetstream gives')
  }
  if (prefix !== undefined && (typeof prefix !== 'string' || !isPrefix(prefix))) {
    throw new UsageError(
      'ERR_OPTION',
      `the option prefix must be ${MAX_PREFIX} characters at most: letters, digits, hyphens, underscores, dots inside`,
    )
  }
  checkRange('replicas', replicas, 1, 5)
  checkRange('unusedStreamMs', unusedStreamMs, 0, MAX_TIME_MS)
  checkRange('pingTimeoutMs', pingTimeoutMs, 1, MAX_TIME_MS)
}

function hasMethods(client: unknown, methods: readonly string[]): boolean {
  if (typeof client !== 'object' || client === null) return false
  return methods.every((method) => typeof (client as Record<string, unknown>)[method] === 'function')
}

function checkRange(name: string, value: number | undefined, from: number, to: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= from && value <= to)) return
  throw new UsageError('ERR_OPTION', `the option ${name} must be a whole number from ${from} to ${to}`)
}
