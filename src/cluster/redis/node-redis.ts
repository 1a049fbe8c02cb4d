import type {
  NodeRedisClient,
  NodeRedisCluster,
  NodeRedisClusterSubscriptions,
  NodeRedisListener,
  NodeRedisNode,
  NodeRedisSubscriptions,
  RedisEmitter,
} from './clients.ts'
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

const CLIENT_EVENTS = ['ready', 'error', 'reconnecting', 'end', 'terminated']
const CLUSTER_EVENTS = ['connect', 'disconnect', 'error', 'node-ready', 'node-error', 'node-disconnect']

/** Texts, of either kind, as bytes: the codes are `$` and `+`. */
const BYTES = { typeMapping: { 36: Buffer, 43: Buffer } }

/** A client for one server. */
export class NodeRedisLink implements RedisLink {
  readonly #client: NodeRedisClient
  readonly #isSharded: boolean

  constructor(client: NodeRedisClient, isSharded: boolean) {
    this.#client = client
    this.#isSharded = isSharded
  }

  get isReady(): boolean {
    return this.#client.isReady
  }

  watch(watcher: Watcher): () => void {
    return watchClient(this.#client, CLIENT_EVENTS, watcher)
  }

  publish(channel: string, message: Buffer): Promise<unknown> {
    return this.#client.sendCommand([this.#isSharded ? 'SPUBLISH' : 'PUBLISH', channel, message])
  }

  run(command: string, script: string, keys: readonly string[], values: readonly Value[]): Promise<unknown> {
    return this.#client.sendCommand([command, script, `${keys.length}`, ...keys, ...values], BYTES)
  }

  makeSubscriber(): RedisSubscriber {
    const socket = { ...this.#client.options?.socket, reconnectStrategy: false }
    const client = this.#client.duplicate({ socket, disableOfflineQueue: true, clientSideCache: undefined })
    client.on('error', ignore)
    return new NodeRedisSubscriber(client, this.#isSharded, CLIENT_EVENTS, () => client.isReady)
  }
}

/** A client for a cluster. */
export class NodeRedisClusterLink implements RedisLink {
  readonly #client: NodeRedisCluster
  readonly #isSharded: boolean

  constructor(client: NodeRedisCluster, isSharded: boolean) {
    this.#client = client
    this.#isSharded = isSharded
  }

  get isReady(): boolean {
    // One that has died is replaced by the cluster, of which its client hears when it sends commands.
    return this.#client.isReady && this.#client.masters.some(({ client }) => client?.isReady !== false)
  }

  watch(watcher: Watcher): () => void {
    return watchClient(this.#client, CLUSTER_EVENTS, watcher)
  }

  publish(channel: string, message: Buffer): Promise<unknown> {
    if (this.#isSharded) return this.#client.sendCommand(channel, false, ['SPUBLISH', channel, message])
    // By itself it takes another node each time, and then messages overtake each other.
    const nodes = this.#client.masters.filter(isReady).sort((one, other) => (one.address < other.address ? -1 : 1))
    const node = nodes[pick(channel, nodes.length)]
    const command = ['PUBLISH', channel, message]
    return node === undefined ? this.#client.sendCommand(undefined, false, command) : node.client.sendCommand(command)
  }

  run(command: string, script: string, keys: readonly string[], values: readonly Value[]): Promise<unknown> {
    const whole = [command, script, `${keys.length}`, ...keys, ...values]
    return this.#client.sendCommand(keys[0], false, whole, BYTES)
  }

  makeSubscriber(): RedisSubscriber {
    const client = this.#client.duplicate({ minimizeConnections: true, clientSideCache: undefined })
    client.on('error', ignore)
    return new NodeRedisSubscriber(client, this.#isSharded, CLUSTER_EVENTS, () => isClusterReady(client))
  }
}

/** The subscriptions of a client of the user's. */
export function nodeRedisSubscriber(client: NodeRedisSubscriptions, isSharded: boolean): RedisSubscriber {
  return new NodeRedisSubscriber(client, isSharded, CLIENT_EVENTS, () => client.isReady)
}

export function nodeRedisClusterSubscriber(client: NodeRedisCluster, isSharded: boolean): RedisSubscriber {
  return new NodeRedisSubscriber(client, isSharded, CLUSTER_EVENTS, () => isClusterReady(client))
}

function isReady(node: NodeRedisNode): node is NodeRedisNode & { client: NonNullable<NodeRedisNode['client']> } {
  return node.client?.isReady === true
}

function isClusterReady({ isReady, masters, pubSubNode }: NodeRedisClusterSubscriptions): boolean {
  const shards = masters.every(({ pubSub }) => pubSub?.client.isReady !== false)
  return isReady && shards && pubSubNode?.client.isReady !== false
}

class NodeRedisSubscriber implements RedisSubscriber {
  readonly #client: NodeRedisSubscriptions
  readonly #isSharded: boolean
  readonly #events: readonly string[]
  readonly #isReady: () => boolean
  #receive: Receive | undefined
  #isEnded = false
  /** One for everything: what is subscribed to twice is heard once. */
  readonly #listener: NodeRedisListener = (message, channel) => this.#receive?.(String(channel), message as Buffer)

  constructor(client: NodeRedisSubscriptions, isSharded: boolean, events: readonly string[], isReady: () => boolean) {
    this.#client = client
    this.#isSharded = isSharded
    this.#events = events
    this.#isReady = isReady
  }

  get isReady(): boolean {
    return this.#isReady()
  }

  async connect(): Promise<void> {
    await this.#client.connect()
    // What was ended while it was connecting is connected all the same.
    if (this.#isEnded) this.#client.destroy()
  }

  watch(watcher: Watcher): () => void {
    return watchClient(this.#client, this.#events, watcher)
  }

  listen(receive: Receive): () => void {
    this.#receive = receive
    return () => {
      this.#receive = undefined
    }
  }

  async subscribe(channels: readonly string[]): Promise<void> {
    // Those of one command would have to be of one slot.
    if (this.#isSharded)
      await Promise.all(channels.map((name) => this.#client.sSubscribe([name], this.#listener, true)))
    else await this.#client.subscribe([...channels], this.#listener, true)
  }

  async unsubscribe(channels: readonly string[]): Promise<void> {
    if (this.#isSharded) {
      await Promise.all(channels.map((name) => this.#client.sUnsubscribe([name], this.#listener, true)))
    } else await this.#client.unsubscribe([...channels], this.#listener, true)
  }

  end(): void {
    this.#isEnded = true
    this.#client.destroy()
  }
}

/**
 * Listens to a client. It is an object whose prototype has the events, and who takes the last listener away from it
 * parts the two: whoever listened later would hear nothing. So one listener stays where there is no other.
 */
function watchClient(client: RedisEmitter, events: readonly string[], watcher: Watcher): () => void {
  const unwatch = watchEvents(client, events, watcher)
  return () => {
    if (!client.listeners('error').includes(ignore)) client.on('error', ignore)
    unwatch()
    const isAlone = client.eventNames().length === 1 && client.listeners('error').length === 1
    if (!isAlone) client.off('error', ignore)
  }
}
