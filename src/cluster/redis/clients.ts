/*
 * The clients of node-redis and of ioredis, by their form alone: nothing of theirs is imported.
 */

/** Listens to events. */
export interface RedisEmitter {
  /** Adds a listener. */
  on(event: string, listener: (...values: unknown[]) => void): unknown
  /** Removes it. */
  off(event: string, listener: (...values: unknown[]) => void): unknown
  /** The events that somebody listens to. */
  eventNames(): readonly unknown[]
  /** The listeners of an event. */
  listeners(event: string): readonly unknown[]
}

/** Gets a message of node-redis, with its channel: bytes, when it was subscribed to them. */
export type NodeRedisListener = (message: string | Buffer, channel: string | Buffer) => unknown

/** What node-redis makes of a reply: kinds of values, by the code of their first character. */
export interface NodeRedisReplyOptions {
  /** `Buffer` for texts that are to stay bytes. */
  readonly typeMapping?: object
}

/** Subscriptions of node-redis. */
export interface NodeRedisSubscriptions extends RedisEmitter {
  /** Whether commands can be sent. */
  readonly isReady: boolean
  /** Connects. */
  connect(): Promise<unknown>
  /** Disconnects, at once and for good. */
  destroy(): void
  /** Subscribes to channels. */
  subscribe(channels: string[], listener: NodeRedisListener, isBinary: true): Promise<void>
  /** Ends that. */
  unsubscribe(channels: string[], listener: NodeRedisListener, isBinary: true): Promise<void>
  /** Subscribes to channels of sharded Pub/Sub, of one slot. */
  sSubscribe(channels: string[], listener: NodeRedisListener, isBinary: true): Promise<void>
  /** Ends that. */
  sUnsubscribe(channels: string[], listener: NodeRedisListener, isBinary: true): Promise<void>
}

/** A client of node-redis: `createClient()`. */
export interface NodeRedisClient extends NodeRedisSubscriptions {
  /** What it was made with. */
  readonly options?: { readonly socket?: object | undefined } | undefined
  /** Sends a command. */
  sendCommand(command: readonly (string | Buffer)[], options?: NodeRedisReplyOptions): Promise<unknown>
  /** Another client with the same options and some others. */
  duplicate(overrides?: object): NodeRedisSubscriptions
}

/** A node of a cluster, as node-redis knows it. */
export interface NodeRedisNode {
  /** `host:port`. */
  readonly address: string
  /** The connection to it, if there is one. */
  readonly client?: Pick<NodeRedisClient, 'isReady' | 'sendCommand'> | undefined
  /** The connection for sharded Pub/Sub, if there is one. */
  readonly pubSub?: { readonly client: { readonly isReady: boolean } } | undefined
}

/** A client of node-redis for a cluster: `createCluster()`. */
export interface NodeRedisCluster extends NodeRedisSubscriptions {
  /** The nodes that own slots. */
  readonly masters: readonly NodeRedisNode[]
  /** The node of the subscriptions, if there are any. */
  readonly pubSubNode: { readonly client: { readonly isReady: boolean } } | undefined
  /** Sends a command to the node that has a key. */
  sendCommand(
    key: string | undefined,
    isReadonly: boolean | undefined,
    command: (string | Buffer)[],
    options?: NodeRedisReplyOptions,
  ): Promise<unknown>
  /** Another client with the same options and some others. */
  duplicate(overrides?: object): NodeRedisClusterSubscriptions
}

/** A client for a cluster, as far as it subscribes. */
export type NodeRedisClusterSubscriptions = NodeRedisSubscriptions & Pick<NodeRedisCluster, 'masters' | 'pubSubNode'>

/** What client and cluster of ioredis have in common. */
export interface IoredisCommon extends RedisEmitter {
  /** `wait`, `connecting`, `connect`, `ready`, `close`, `reconnecting`, `end`. */
  readonly status: string
  /** Whether it is a client for a cluster. */
  readonly isCluster: boolean
  /** What it was made with. */
  readonly options: { readonly keyPrefix?: string | undefined }
  /** Connects; done by itself except with `lazyConnect`. */
  connect(): Promise<unknown>
  /** Disconnects, at once and for good. */
  disconnect(): void
  /** Publishes to a channel of sharded Pub/Sub. */
  spublish(channel: string, message: Buffer): Promise<unknown>
  /** Runs a script that the server knows; the types of ioredis do not have it. */
  evalshaBuffer?(digest: string, keyCount: number, ...rest: (string | Buffer)[]): Promise<unknown>
  /** Runs a script; the types of ioredis do not have it. */
  evalBuffer?(script: string, keyCount: number, ...rest: (string | Buffer)[]): Promise<unknown>
  /** Subscribes to channels. */
  subscribe(...channels: string[]): Promise<unknown>
  /** Ends that. */
  unsubscribe(...channels: string[]): Promise<unknown>
  /** Subscribes to channels of sharded Pub/Sub, of one slot. */
  ssubscribe(...channels: string[]): Promise<unknown>
  /** Ends that. */
  sunsubscribe(...channels: string[]): Promise<unknown>
}

/** A client of ioredis: `new Redis()`. */
export interface IoredisClient extends IoredisCommon {
  /** Publishes to a channel. */
  publish(channel: string, message: Buffer): Promise<unknown>
  /** Another client with the same options and some others. */
  duplicate(overrides?: object): IoredisCommon
}

/** A client of ioredis for a cluster: `new Cluster()`. */
export interface IoredisCluster extends IoredisCommon {
  /** The connections to the nodes that own slots. */
  nodes(role: 'master'): IoredisNode[]
  /** Another client with the same options and some others. */
  duplicate(nodes?: never[], overrides?: object): IoredisCommon
}

/** A node of a cluster, as ioredis knows it. */
export interface IoredisNode {
  /** Where it is. */
  readonly options: { readonly host?: string | undefined; readonly port?: number | undefined }
  /** Publishes to a channel. */
  publish(channel: string, message: Buffer): Promise<unknown>
}

/** A client that can be given to `redisBackplane`. */
export type RedisClient = NodeRedisClient | NodeRedisCluster | IoredisClient | IoredisCluster

/** What a client is, by what it can do; undefined when it is none of these. */
export function kindOf(
  client: unknown,
): 'node-redis' | 'node-redis cluster' | 'ioredis' | 'ioredis cluster' | undefined {
  if (typeof client !== 'object' || client === null) return undefined
  const can = (...names: string[]): boolean =>
    names.every((name) => typeof (client as Record<string, unknown>)[name] === 'function')
  if (!can('on', 'off', 'connect', 'duplicate', 'subscribe', 'unsubscribe')) return undefined
  if (can('evalshaBuffer', 'disconnect') && 'status' in client) {
    return (client as { isCluster?: unknown }).isCluster === true ? 'ioredis cluster' : 'ioredis'
  }
  // A pool has several connections, on which messages overtake each other; a sentinel's client sends in another way.
  if (!can('sendCommand', 'sSubscribe', 'destroy') || can('acquire')) return undefined
  return 'masters' in client ? 'node-redis cluster' : 'node-redis'
}
