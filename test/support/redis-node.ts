import type { EventEmitter } from 'node:events'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { createClient, createCluster, type RedisClientOptions } from 'redis'
import { onTestFinished } from 'vitest'
import { type RedisBackplaneOptions, type RedisClient, redisBackplane } from '../../src/cluster/redis.ts'
import { openNode, openPlane, type Plane, type PlaneNode, type PlaneOptions } from './planes.ts'

/*
 * Processes that are joined by Redis, as far as one process can be several: each has a client of its own.
 */

/** Something that Redis is at. */
interface Address {
  readonly url: string
}

/** A user's client. */
interface UserClient {
  readonly client: RedisClient
  /** The same, for what a test wants to know of it. */
  readonly emitter: EventEmitter
  readonly isReady: () => boolean
  /** Sends a command that has nothing to do with us. */
  readonly command: (...command: string[]) => Promise<unknown>
  end(): void
}

/** Options of either library that mean the same. */
interface ClientOptions {
  /** Version of the protocol. Default 3, as both have it. */
  readonly protocol?: 2 | 3
  readonly username?: string
  readonly password?: string
  /** Without a listener for errors. */
  readonly isSilent?: boolean
  /** More for one of them. */
  readonly nodeRedis?: RedisClientOptions
  readonly ioredis?: Omit<RedisOptions, 'replyMapping'>
}

/** A way to make a client. It ends with the test. */
export interface Library {
  readonly name: string
  readonly isCluster: boolean
  /** Makes it, connecting; it may not be ready yet. */
  make(address: Address, options?: ClientOptions): UserClient
}

const nodeRedis: Library = {
  name: 'node-redis',
  isCluster: false,
  make({ url }, { protocol = 3, isSilent = false, nodeRedis: more, ioredis: _, ...both } = {}) {
    const client = createClient({ url, RESP: protocol, ...both, ...more })
    if (!isSilent) client.on('error', () => {})
    client.connect().catch(() => {})
    onTestFinished(() => client.destroy())
    return {
      client,
      emitter: client,
      isReady: () => client.isReady,
      command: (...command) => client.sendCommand(command),
      end: () => client.destroy(),
    }
  },
}

const ioredis: Library = {
  name: 'ioredis',
  isCluster: false,
  make({ url }, { protocol = 3, isSilent = false, nodeRedis: _, ioredis: more, ...both } = {}) {
    const client = new Redis(url, { protocol, ...both, ...more })
    if (!isSilent) client.on('error', () => {})
    onTestFinished(() => client.disconnect())
    return {
      client,
      emitter: client,
      isReady: () => client.status === 'ready',
      command: (name, ...rest) => client.call(name!, ...rest),
      end: () => client.disconnect(),
    }
  },
}

const nodeRedisCluster: Library = {
  name: 'node-redis, cluster',
  isCluster: true,
  make({ url }) {
    const client = createCluster({ rootNodes: [{ url }] })
    client.on('error', () => {})
    client.connect().catch(() => {})
    onTestFinished(() => client.destroy())
    return {
      client,
      emitter: client,
      isReady: () => client.isReady,
      command: (...command) => client.sendCommand(command[1], false, command),
      end: () => client.destroy(),
    }
  },
}

const ioredisCluster: Library = {
  name: 'ioredis, cluster',
  isCluster: true,
  make({ url }) {
    const client = new Cluster([url])
    client.on('error', () => {})
    onTestFinished(() => client.disconnect())
    return {
      client,
      emitter: client,
      isReady: () => client.status === 'ready',
      command: (name, ...rest) => client.call(name!, ...rest),
      end: () => client.disconnect(),
    }
  },
}

/** Clients for one server. */
export const LIBRARIES: readonly Library[] = [nodeRedis, ioredis]
/** Clients for a cluster. */
export const CLUSTER_LIBRARIES: readonly Library[] = [nodeRedisCluster, ioredisCluster]

/** What is not as usual. */
export interface NodeOptions extends PlaneOptions {
  readonly connect?: ClientOptions
  /** Options of the backplane, beside the client. */
  readonly redis?: Omit<RedisBackplaneOptions, 'client'>
}

interface OwnClient {
  readonly user: UserClient
}

export async function startRedisNode(
  redis: Address,
  library: Library,
  options: NodeOptions = {},
): Promise<PlaneNode & OwnClient> {
  const user = library.make(redis, options.connect)
  return { user, ...(await openNode(redisBackplane({ client: user.client, ...options.redis }), options)) }
}

/** The backplane alone. */
export async function startRedisPlane(
  redis: Address,
  library: Library,
  options: NodeOptions = {},
): Promise<Plane & OwnClient> {
  const user = library.make(redis, options.connect)
  return { user, ...(await openPlane(redisBackplane({ client: user.client, ...options.redis }), options)) }
}
