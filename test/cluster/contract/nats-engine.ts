import { rmSync } from 'node:fs'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { expect } from 'vitest'
import { type NatsBackplaneOptions, natsBackplane } from '../../../src/cluster/nats.ts'
import { type NatsServer, startNats } from '../../support/nats-server.ts'
import { until } from '../../support/servers.ts'
import type { Broker, OwnedAccess, RunningBroker } from './driver.ts'
import type { AccessOptions } from './engine.ts'
import type { RunningStore, Store } from './log.ts'

/*
 * NATS, as the tests that are for every engine see it.
 */

/** What channels are called, written out. */
const PARTS: Readonly<Record<string, string>> = {
  '*': '_2a',
  '#a': '_23a',
  '#c d': '_23c_20d',
  '#news': '_23news',
  '#later': '_23later',
}

class OwnConnection implements OwnedAccess {
  readonly backplane: OwnedAccess['backplane']
  readonly connection: NatsConnection

  constructor(connection: NatsConnection, options: Omit<NatsBackplaneOptions, 'connection'>) {
    this.connection = connection
    this.backplane = natsBackplane({ connection, ...options })
  }

  end(): Promise<void> {
    return this.connection.close()
  }

  async expectUntouched(): Promise<void> {
    expect(this.connection.isClosed()).toBe(false)
    // The status of the connection is not listened to any more.
    const { protocol } = this.connection as unknown as { protocol: { listeners: unknown[] } }
    await until(() => protocol.listeners.length === 0)
  }
}

interface Setup {
  readonly keepsHistory: boolean
  /** At each end it loses everything. */
  readonly forgets: boolean
}

class RunningNats implements RunningBroker, RunningStore {
  readonly #nats: NatsServer
  readonly #setup: Setup
  readonly #connections: NatsConnection[] = []

  constructor(nats: NatsServer, setup: Setup) {
    this.#nats = nats
    this.#setup = setup
  }

  async access({ noEcho = false, neverResends: _, ...options }: AccessOptions = {}): Promise<OwnConnection> {
    const connection = await this.#nats.connect({ noEcho })
    this.#connections.push(connection)
    return new OwnConnection(
      connection,
      this.#setup.keepsHistory ? { ...options, jetstream: jetstream(connection) } : options,
    )
  }

  start(): Promise<void> {
    return this.#nats.start()
  }

  async stop(signal?: NodeJS.Signals): Promise<void> {
    await this.#nats.stop(signal)
    if (this.#setup.forgets) rmSync(this.#nats.folder, { recursive: true })
  }

  hold(): Promise<void> {
    return this.#nats.hold()
  }

  goOn(): void {
    this.#nats.goOn()
  }

  /** Those that clients have for answers left out. */
  async subscriptions(): Promise<string[]> {
    for (const connection of this.#connections) if (!connection.isClosed()) await connection.flush()
    const { connections } = await this.#nats.monitor<{ connections: { subscriptions_list?: string[] }[] }>(
      'connz?subs=1&limit=10000',
    )
    const all = new Set<string>()
    for (const { subscriptions_list: own = [] } of connections) {
      const channels = own.filter((subject) => subject.includes('.msg.'))
      expect(new Set(channels).size).toBe(channels.length)
      for (const subject of own) if (!subject.startsWith('_INBOX.')) all.add(subject)
    }
    return [...all].sort()
  }

  /** Their connections are those of their owners. */
  async expectBackplanes(): Promise<void> {}

  /** It is told of each. */
  async hasEnded(): Promise<void> {}

  async write(channel: string, message: string | Uint8Array, reply?: string): Promise<void> {
    const stranger = await this.#nats.connect()
    stranger.publish(`fullduplex.msg.${PARTS[channel]}`, message, reply === undefined ? {} : { reply })
    await stranger.flush()
  }

  disturb(channel: string, message: Uint8Array): Promise<void> {
    return this.write(channel, message, 'somewhere')
  }

  async logs(): Promise<number> {
    return (await this.#nats.monitor<{ streams: number }>('jsz')).streams
  }

  async deleteLog(topic: string): Promise<void> {
    const { streams } = await jetstreamManager(await this.#nats.connect())
    await streams.delete(`fullduplex__${topic}`)
  }

  async deleteEntry(topic: string, sequence: number): Promise<void> {
    const { streams } = await jetstreamManager(await this.#nats.connect())
    await streams.deleteMessage(`fullduplex__${topic}`, sequence)
  }

  async unsteady(): Promise<{ way: OwnConnection; cut(): Promise<void> }> {
    const way = await this.access()
    return { way, cut: () => way.connection.reconnect() }
  }
}

/** Without JetStream. */
export const natsBroker: Broker = {
  prefix: 'app.blue',
  name: (prefix, channel) => `${prefix}.msg.${PARTS[channel]}`,
  impatience: { pingIntervalMs: 50, pingTimeoutMs: 500 },
  silence: 'the server has not answered within 500 ms',
  deliversLate: 'perhaps',
  closedError: 'maxReconnectAttempts: -1',
  start: async () => new RunningNats(await startNats({ jetstream: false }), { keepsHistory: false, forgets: false }),
}

/** With JetStream. */
export const natsStore: Store = {
  prefix: 'my.App',
  awayError: 'lost',
  sharesPages: true,
  longMessagesPerPage: 9,
  longest: { bytes: 1_048_000, tooLong: 1_048_576, error: 'longer than the server takes' },
  liveName: 'fullduplex.live.news.*',
  manyTopics: 200,
  start: async ({ keeps } = {}) =>
    new RunningNats(await startNats(), { keepsHistory: true, forgets: keeps === undefined }),
}
