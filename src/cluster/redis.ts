import type { Backplane, BackplaneHost } from '../backplane.ts'
import { UsageError } from '../errors.ts'
import type { TopicLog } from '../history.ts'
import { checkOptions } from '../options.ts'
import {
  type IoredisClient,
  type IoredisCluster,
  kindOf,
  type NodeRedisClient,
  type NodeRedisCluster,
  type RedisClient,
} from './redis/clients.ts'
import { RedisConnection } from './redis/connection.ts'
import { IoredisClusterLink, IoredisLink, IoredisSubscriber } from './redis/ioredis.ts'
import type { RedisLink, RedisSubscriber } from './redis/link.ts'
import { RedisLog } from './redis/log.ts'
import { isPrefix, messageChannel } from './redis/names.ts'
import {
  NodeRedisClusterLink,
  NodeRedisLink,
  nodeRedisClusterSubscriber,
  nodeRedisSubscriber,
} from './redis/node-redis.ts'

export type {
  IoredisClient,
  IoredisCluster,
  IoredisCommon,
  IoredisNode,
  NodeRedisClient,
  NodeRedisCluster,
  NodeRedisClusterSubscriptions,
  NodeRedisListener,
  NodeRedisNode,
  NodeRedisReplyOptions,
  NodeRedisSubscriptions,
  RedisClient,
  RedisEmitter,
} from './redis/clients.ts'

/** Options of `redisBackplane`. An unknown one is a `UsageError`. */
export interface RedisBackplaneOptions {
  /**
   * A client of node-redis (`createClient()`, `createCluster()`) or of ioredis (`new Redis()`, `new Cluster()`), connected
   * or connecting. It stays the user's: it can be used for other things, and is not closed.
   */
  readonly client: RedisClient
  /**
   * Another client of the same kind, for subscriptions. Default: a connection of our own with the options of `client`
   * (`client.duplicate()`), which is closed with the backplane.
   */
  readonly subscriber?: RedisClient | undefined
  /** What all names in Redis begin with: letters, digits, `_`, `-`, and `.`, `:` or `/` between them. Default `fullduplex`. */
  readonly prefix?: string | undefined
  /**
   * Uses sharded Pub/Sub (Redis 7), in which a node of a cluster gets the messages of its own channels only. All processes
   * have to be given the same. Default false.
   */
  readonly sharded?: boolean | undefined
  /** How often a message is sent to ourselves, to see whether Redis is there, in milliseconds; 0 for never. Default 5,000. */
  readonly pingIntervalMs?: number | undefined
  /** How long that message may take, and any other answer to us, in milliseconds. Default 5,000. */
  readonly pingTimeoutMs?: number | undefined
}

const OPTION_NAMES = ['client', 'subscriber', 'prefix', 'sharded', 'pingIntervalMs', 'pingTimeoutMs']
const DEFAULT_PREFIX = 'fullduplex'
const DEFAULT_PING_INTERVAL_MS = 5_000
const DEFAULT_PING_TIMEOUT_MS = 5_000
const MAX_TIME_MS = 0x7fffffff
/** Redis cuts off who has 32 MiB of Pub/Sub before it, unless it is told otherwise. */
const MAX_MESSAGE_BYTES = 16_777_216

/**
 * A backplane on Redis or Valkey, 6.2 or later: Pub/Sub for messages, streams for histories. One for each server or
 * publisher.
 *
 * @throws UsageError for options that cannot be, a client of another library among them.
 */
export function redisBackplane(options: RedisBackplaneOptions): Backplane {
  checkOptions(options, OPTION_NAMES)
  const { client, subscriber, prefix = DEFAULT_PREFIX, sharded = false } = options
  const { pingIntervalMs = DEFAULT_PING_INTERVAL_MS, pingTimeoutMs = DEFAULT_PING_TIMEOUT_MS } = options
  if (typeof prefix !== 'string' || !isPrefix(prefix)) {
    throw new UsageError(
      'ERR_OPTION',
      'the option prefix must be letters, digits, _ and -, with . : or / between them, 64 characters at most',
    )
  }
  if (typeof sharded !== 'boolean') throw new UsageError('ERR_OPTION', 'the option sharded must be true or false')
  if (!Number.isInteger(pingTimeoutMs) || pingTimeoutMs < 1 || pingTimeoutMs > MAX_TIME_MS) {
    throw new UsageError('ERR_OPTION', `the option pingTimeoutMs must be a whole number from 1 to ${MAX_TIME_MS}`)
  }
  const link = linkTo(client, sharded)
  const given = subscriber === undefined ? undefined : subscriberOf(subscriber, sharded)
  return new RedisBackplane({ link, subscriber: given, prefix, pingIntervalMs, pingTimeoutMs }, sharded)
}

/** Whichever of the four kinds it is. */
function linkTo(client: unknown, isSharded: boolean): RedisLink {
  switch (checkKind('client', client)) {
    case 'node-redis':
      return new NodeRedisLink(client as NodeRedisClient, isSharded)
    case 'node-redis cluster':
      return new NodeRedisClusterLink(client as NodeRedisCluster, isSharded)
    case 'ioredis':
      return new IoredisLink(client as IoredisClient, isSharded)
    case 'ioredis cluster':
      return new IoredisClusterLink(client as IoredisCluster, isSharded)
  }
}

function subscriberOf(client: unknown, isSharded: boolean): RedisSubscriber {
  switch (checkKind('subscriber', client)) {
    case 'node-redis':
      return nodeRedisSubscriber(client as NodeRedisClient, isSharded)
    case 'node-redis cluster':
      return nodeRedisClusterSubscriber(client as NodeRedisCluster, isSharded)
    case 'ioredis':
    case 'ioredis cluster':
      return new IoredisSubscriber(client as IoredisClient, isSharded)
  }
}

function checkKind(name: string, client: unknown): NonNullable<ReturnType<typeof kindOf>> {
  const kind = kindOf(client)
  if (kind === undefined) {
    throw new UsageError(
      'ERR_OPTION',
      `the option ${name} must be a client of node-redis (createClient() or createCluster(), no pool) or of ioredis`,
    )
  }
  const { keyPrefix } = (client as Partial<IoredisClient>).options ?? {}
  if (kind.startsWith('ioredis') && keyPrefix) {
    throw new UsageError(
      'ERR_OPTION',
      `the option ${name} is a client with a keyPrefix, which other processes would not find: ` +
        "give client.duplicate({ keyPrefix: '' }) and the option prefix",
    )
  }
  return kind
}

class RedisBackplane implements Backplane {
  readonly maxMessageBytes: number = MAX_MESSAGE_BYTES
  readonly #connection: RedisConnection
  readonly #log: RedisLog
  readonly #prefix: string
  #host: BackplaneHost | undefined

  constructor(options: ConstructorParameters<typeof RedisConnection>[0], isSharded: boolean) {
    this.#prefix = options.prefix
    this.#connection = new RedisConnection(options, {
      up: () => {
        this.#host?.up()
        this.#log.up()
      },
      down: (error) => {
        this.#log.down(error)
        this.#host?.down(error)
      },
    })
    this.#log = new RedisLog(this.#connection, options.prefix, isSharded, MAX_MESSAGE_BYTES)
  }

  get log(): TopicLog {
    return this.#log
  }

  start(host: BackplaneHost): void {
    if (this.#host !== undefined)
      throw new UsageError('ERR_SERVER_STATE', 'a backplane is for one server: make another')
    this.#host = host
    this.#log.start()
    this.#connection.start()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength)
    return this.#connection.publish(messageChannel(this.#prefix, channel), bytes)
  }

  subscribe(channels: readonly string[]): Promise<void> {
    const listeners = channels.map((channel): [string, (message: Buffer) => void] => [
      messageChannel(this.#prefix, channel),
      (message) => this.#host?.receive(channel, message),
    ])
    return this.#connection.subscribe(new Map(listeners))
  }

  unsubscribe(channels: readonly string[]): Promise<void> {
    return this.#connection.unsubscribe(channels.map((channel) => messageChannel(this.#prefix, channel)))
  }

  async close(): Promise<void> {
    await this.#log.close()
    await this.#connection.close()
  }
}
