import type { EventEmitter } from 'node:events'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { createClient, createCluster, type RedisClientOptions } from 'redis'
import { onTestFinished } from 'vitest'
import type { Backplane } from '../../src/backplane.ts'
import { type RedisBackplaneOptions, type RedisClient, redisBackplane } from '../../src/cluster/redis.ts'
import type { WebSocketConnection, WebSocketServer, WebSocketServerOptions } from '../../src/index.ts'
import { Queue } from './queue.ts'
import { openClient, startServer, until } from './servers.ts'

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
export interface NodeOptions {
  readonly connect?: ClientOptions
  /** Options of the backplane, beside the client. */
  readonly redis?: Omit<RedisBackplaneOptions, 'client'>
  readonly server?: WebSocketServerOptions
  /** Wait until Redis is there. Default true. */
  readonly awaitUp?: boolean
}

/** A server with one client. */
export interface RedisNode {
  readonly user: UserClient
  readonly server: WebSocketServer
  readonly url: string
  /** The server's side of its client. */
  readonly client: WebSocketConnection
  /** What the client has received. */
  readonly received: Queue<string | Buffer>
  readonly errors: Queue<Error>
  readonly restored: Queue<undefined>
}

export async function startRedisNode(
  redis: Address,
  library: Library,
  { connect, redis: more, server: serverOptions, awaitUp = true }: NodeOptions = {},
): Promise<RedisNode> {
  const user = library.make(redis, connect)
  const opened = new Queue<WebSocketConnection>()
  const errors = new Queue<Error>()
  const restored = new Queue<undefined>()
  const { server, url } = await startServer({
    backplane: redisBackplane({ client: user.client, ...more }),
    error: (error) => errors.push(error),
    backplaneRestored: () => restored.push(undefined),
    open: (client) => opened.push(client),
    ...serverOptions,
  })
  const received = new Queue<string | Buffer>()
  await openClient(url, { message: (_, data) => received.push(data) })
  const client = await opened.next()
  if (awaitUp) await server.ready()
  return { user, server, url, client, received, errors, restored }
}

/** The backplane alone, and what it tells. */
export interface Plane {
  readonly backplane: Backplane
  readonly user: UserClient
  readonly received: Queue<[channel: string, message: Buffer]>
  /** `up`, or why it is down. */
  readonly news: Queue<string>
}

/** One that is up. */
export async function startPlane(
  redis: Address,
  library: Library,
  { connect, redis: more, awaitUp = true }: NodeOptions = {},
): Promise<Plane> {
  const user = library.make(redis, connect)
  const backplane = redisBackplane({ client: user.client, ...more })
  const received = new Queue<[string, Buffer]>()
  const news = new Queue<string>()
  onTestFinished(() => backplane.close())
  backplane.start({
    receive: (channel, message) => received.push([channel, Buffer.from(message)]),
    up: () => news.push('up'),
    down: ({ message }) => news.push(message),
  })
  if (awaitUp) {
    await until(() => news.all.at(-1) === 'up')
    await news.take(news.all.length)
  }
  return { backplane, user, received, news }
}
