import { expect } from 'vitest'
import { redisBackplane } from '../../../src/cluster/redis.ts'
import type { Library } from '../../support/redis-node.ts'
import { type RedisServer, startRedis } from '../../support/redis-server.ts'
import { startWire } from '../../support/redis-wire.ts'
import { nextTurn } from '../../support/servers.ts'
import type { Broker, OwnedAccess, RunningBroker } from './driver.ts'
import type { AccessOptions, EngineOptions } from './engine.ts'
import type { RunningStore, Store } from './log.ts'

/*
 * Redis, as the tests that are for every engine see it.
 */

/** Options of a client. */
type Connect = NonNullable<Parameters<Library['make']>[1]>

/** Channels without those on which processes hear themselves. */
export function withoutEchoes(channels: readonly string[]): string[] {
  return channels.filter((channel) => !isEcho(channel))
}

function isEcho(channel: string): boolean {
  return channel.includes(':~')
}

class OwnClient implements OwnedAccess {
  readonly backplane: OwnedAccess['backplane']
  readonly #redis: RedisServer
  readonly #user: ReturnType<Library['make']>

  constructor(
    redis: RedisServer,
    user: ReturnType<Library['make']>,
    options: Omit<AccessOptions, 'noEcho' | 'neverResends'>,
  ) {
    this.#redis = redis
    this.#user = user
    this.backplane = redisBackplane({ client: user.client, ...options })
  }

  end(): void {
    this.#user.end()
  }

  async expectUntouched(): Promise<void> {
    const { emitter, isReady } = this.#user
    while ((await this.#redis.countClients()) > 1) await nextTurn()
    expect(await this.#redis.channels()).toEqual([])
    expect(await this.#redis.command('DBSIZE')).toBe(0)
    expect(isReady()).toBe(true)
    // The user's listener for errors is the only one that is left.
    expect(emitter.eventNames()).toEqual(['error'])
    expect(emitter.listenerCount('error')).toBe(1)
  }
}

class RunningRedis implements RunningBroker, RunningStore {
  readonly #redis: RedisServer
  readonly #library: Library
  readonly #connect: Connect

  constructor(redis: RedisServer, library: Library, connect: Connect) {
    this.#redis = redis
    this.#library = library
    this.#connect = connect
  }

  async access(options: AccessOptions = {}): Promise<OwnClient> {
    return this.#accessAt(this.#redis.url, options)
  }

  #accessAt(url: string, { noEcho: _, neverResends = false, ...options }: AccessOptions = {}): OwnClient {
    const ioredis = { ...this.#connect.ioredis, ...(neverResends && { autoResendUnfulfilledCommands: false }) }
    return new OwnClient(this.#redis, this.#library.make({ url }, { ...this.#connect, ioredis }), options)
  }

  start(): Promise<void> {
    return this.#redis.start()
  }

  stop(signal?: NodeJS.Signals): Promise<void> {
    return this.#redis.stop(signal)
  }

  hold(): void {
    this.#redis.pause()
  }

  goOn(): void {
    this.#redis.resume()
  }

  async subscriptions(): Promise<string[]> {
    return withoutEchoes(await this.#redis.channels())
  }

  /** Each has a connection for commands, one for subscriptions, and a channel on which it hears itself. */
  async expectBackplanes(count: number): Promise<void> {
    while (count === 0 && (await this.#redis.countClients()) > 0) await nextTurn()
    expect(await this.#redis.countClients()).toBe(2 * count)
    expect((await this.#redis.channels()).filter(isEcho)).toHaveLength(count)
  }

  async hasEnded(left: number): Promise<void> {
    while ((await this.subscriptions()).length > left) await nextTurn()
  }

  async write(channel: string, message: string | Uint8Array): Promise<void> {
    await this.#redis.command('PUBLISH', `fullduplex:${channel}`, Buffer.from(message))
  }

  async disturb(channel: string, message: Uint8Array): Promise<void> {
    const all = await this.#redis.channels()
    for (const name of withoutEchoes(all)) await this.#redis.command('PUBLISH', name, 'hello')
    const echo = all.find(isEcho)!
    for (const text of ['0', '1', '99999', 'hello', '']) await this.#redis.command('PUBLISH', echo, text)
    await this.write(channel, message)
  }

  async logs(): Promise<number> {
    return ((await this.#redis.command('KEYS', '*:log')) as string[]).length
  }

  /** What is known of it; its entries stay. */
  async deleteLog(topic: string): Promise<void> {
    await this.#redis.command('DEL', `{fullduplex:${topic}}:state`)
  }

  async deleteEntry(topic: string, sequence: number): Promise<void> {
    const log = `{fullduplex:${topic}}:log`
    const [[id]] = (await this.#redis.command('XRANGE', log, `${sequence}`, `${sequence}`)) as [[string]]
    await this.#redis.command('XDEL', log, id)
  }

  async unsteady(): Promise<{ way: OwnClient; cut(): void }> {
    const wire = await startWire(this.#redis)
    const cut = (): void => {
      for (const connection of wire.connections) connection.cut()
    }
    return { way: this.#accessAt(wire.url), cut }
  }
}

/** Redis, with clients of a library that have these options. */
export function redisBroker(library: Library, connect: Connect = {}): Broker {
  return {
    prefix: 'app:blue',
    name: (prefix, channel) => `${prefix}:${channel}`,
    impatience: { pingIntervalMs: 50, pingTimeoutMs: 1_000 },
    silence: 'Redis has not answered within 1000 ms',
    deliversLate: 'surely',
    closedError: 'Redis',
    start: async (options) => new RunningRedis(await startRedis(settingsFor(options)), library, connect),
  }
}

/** The same, with histories. */
export function redisStore(library: Library): Store {
  return {
    prefix: 'my:App',
    sharesPages: true,
    longMessagesPerPage: 16,
    longest: { bytes: 16_777_216, tooLong: 16_777_217, error: '16777216' },
    liveName: '{fullduplex:news}:live',
    manyTopics: 2_000,
    start: async (options) => new RunningRedis(await startRedis(settingsFor(options)), library, {}),
  }
}

function settingsFor({ keeps }: EngineOptions = {}): Parameters<typeof startRedis>[0] {
  if (keeps === undefined) return {}
  return { appendonly: true, settings: keeps === 'always' ? { appendfsync: 'always' } : {} }
}
