import type { IoredisClient, IoredisCluster, IoredisCommon, IoredisNode } from './clients.ts'
import {
  ignore,
  pick,
  type Receive,
  type RedisLink,
  type RedisSubscriber,
  type Value,
  type Watcher,
  watchEvents,
} from './link.ts'

const EVENTS = ['connect', 'ready', 'error', 'close', 'reconnecting', 'end']

/** Options of a connection that is thrown away when it breaks. */
const ONCE = {
  lazyConnect: true,
  retryStrategy: null,
  enableOfflineQueue: false,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  keyPrefix: '',
}

abstract class IoredisCommonLink {
  readonly #client: IoredisCommon

  constructor(client: IoredisCommon) {
    this.#client = client
  }

  get isReady(): boolean {
    return this.#client.status === 'ready'
  }

  watch(watcher: Watcher): () => void {
    return watchClient(this.#client, watcher)
  }

  run(
    command: 'EVALSHA' | 'EVAL',
    script: string,
    keys: readonly string[],
    values: readonly Value[],
  ): Promise<unknown> {
    const rest = [...keys, ...values]
    return command === 'EVAL'
      ? this.#client.evalBuffer!(script, keys.length, ...rest)
      : this.#client.evalshaBuffer!(script, keys.length, ...rest)
  }
}

/** A client for one server. */
export class IoredisLink extends IoredisCommonLink implements RedisLink {
  readonly #client: IoredisClient
  readonly #isSharded: boolean

  constructor(client: IoredisClient, isSharded: boolean) {
    super(client)
    this.#client = client
    this.#isSharded = isSharded
  }

  publish(channel: string, message: Buffer): Promise<unknown> {
    return this.#isSharded ? this.#client.spublish(channel, message) : this.#client.publish(channel, message)
  }

  makeSubscriber(): RedisSubscriber {
    const client = this.#client.duplicate(ONCE)
    client.on('error', ignore)
    return new IoredisSubscriber(client, this.#isSharded)
  }
}

/** A client for a cluster. */
export class IoredisClusterLink extends IoredisCommonLink implements RedisLink {
  readonly #client: IoredisCluster
  readonly #isSharded: boolean

  constructor(client: IoredisCluster, isSharded: boolean) {
    super(client)
    this.#client = client
    this.#isSharded = isSharded
  }

  publish(channel: string, message: Buffer): Promise<unknown> {
    if (this.#isSharded) return this.#client.spublish(channel, message)
    // By itself it takes another node each time, and then messages overtake each other.
    const nodes = this.#client.nodes('master').sort((one, other) => (addressOf(one) < addressOf(other) ? -1 : 1))
    const node = nodes[pick(channel, nodes.length)]
    return node?.publish(channel, message) ?? Promise.reject(new Error('no node of the cluster can be reached'))
  }

  makeSubscriber(): RedisSubscriber {
    const options = {
      lazyConnect: true,
      clusterRetryStrategy: null,
      shardedSubscribers: this.#isSharded,
      keyPrefix: '',
    }
    const client = this.#client.duplicate([], options)
    client.on('error', ignore)
    return new IoredisSubscriber(client, this.#isSharded)
  }
}

function addressOf({ options }: IoredisNode): string {
  return `${options.host}:${options.port}`
}

/** Subscriptions, of a client for one server or of one for a cluster. */
export class IoredisSubscriber implements RedisSubscriber {
  readonly #client: IoredisCommon
  readonly #isSharded: boolean

  constructor(client: IoredisCommon, isSharded: boolean) {
    this.#client = client
    this.#isSharded = isSharded
  }

  get isReady(): boolean {
    return this.#client.status === 'ready'
  }

  async connect(): Promise<void> {
    await this.#client.connect()
  }

  watch(watcher: Watcher): () => void {
    return watchClient(this.#client, watcher)
  }

  listen(receive: Receive): () => void {
    const event = this.#isSharded ? 'smessageBuffer' : 'messageBuffer'
    const listener = (channel: unknown, message: unknown): void => receive(String(channel), message as Buffer)
    this.#client.on(event, listener)
    return () => this.#client.off(event, listener)
  }

  async subscribe(channels: readonly string[]): Promise<void> {
    // Those of one command would have to be of one slot.
    if (this.#isSharded) await Promise.all(channels.map((channel) => this.#client.ssubscribe(channel)))
    else await this.#client.subscribe(...channels)
  }

  async unsubscribe(channels: readonly string[]): Promise<void> {
    if (this.#isSharded) await Promise.all(channels.map((channel) => this.#client.sunsubscribe(channel)))
    else await this.#client.unsubscribe(...channels)
  }

  end(): void {
    this.#client.disconnect()
  }
}

function watchClient(client: IoredisCommon, watcher: Watcher): () => void {
  // With lazyConnect it waits for a first command, which would wait for it.
  if (client.status === 'wait') client.connect().catch(ignore)
  return watchEvents(client, EVENTS, watcher)
}
