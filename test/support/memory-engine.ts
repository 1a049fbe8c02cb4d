import type { Backplane, BackplaneHost, LogFollower, TopicLog } from '../../src/index.ts'
import { MemoryLog } from '../../src/memory-log.ts'

/*
 * An engine for backplanes that a test holds in its hand: it can be away, slow, and fail.
 */

interface Node {
  readonly host: BackplaneHost
  readonly channels: Set<string>
}

interface Options {
  readonly maxMessageBytes?: number
  /** With a log, the one of the engine. */
  readonly keepsHistory?: boolean
  /** Hears of entries of the log when `deliverDelayed` is called. */
  readonly delayed?: boolean
}

export class MemoryEngine {
  readonly nodes = new Set<Node>()
  /** Calls, as they came. */
  readonly calls: string[] = []
  /** Every message that was published, by its channel. */
  readonly published: { readonly channel: string; readonly message: Buffer }[] = []
  /** What `subscribe` fails with. */
  subscribeError: Error | undefined
  /** What `publish` fails with. */
  publishError: Error | undefined
  /** Nothing is taken before this is. */
  gate: Promise<void> | undefined
  readonly log = new MemoryLog()
  readonly #followers = new Map<string, Set<LogFollower>>()
  readonly #delayed: (() => void)[] = []
  #isUp = true

  /** The backplane of one process. */
  backplane(options: Options = {}): Backplane {
    let node: Node | undefined
    const { maxMessageBytes, keepsHistory = false, delayed = false } = options
    return {
      maxMessageBytes,
      log: keepsHistory ? this.#sharedLog(delayed) : undefined,
      start: (host) => {
        node = { host, channels: new Set() }
        this.nodes.add(node)
        if (this.#isUp) host.up()
      },
      publish: async (channel, message) => {
        if (this.publishError !== undefined) throw this.publishError
        // What is given must not be written to again: a copy is taken late.
        await this.gate
        this.write(channel, message)
      },
      subscribe: async (channels) => {
        this.calls.push(`subscribe ${channels.join(' ')}`)
        if (this.subscribeError !== undefined) throw this.subscribeError
        await this.gate
        for (const channel of channels) node!.channels.add(channel)
      },
      unsubscribe: async (channels) => {
        this.calls.push(`unsubscribe ${channels.join(' ')}`)
        await this.gate
        for (const channel of channels) node!.channels.delete(channel)
      },
      close: async () => {
        this.calls.push('close')
        if (node !== undefined) this.nodes.delete(node)
      },
    }
  }

  /** Writes to a channel, as any program could. */
  write(channel: string, message: Uint8Array): void {
    this.published.push({ channel, message: Buffer.from(message) })
    for (const { host, channels } of this.nodes) if (channels.has(channel)) host.receive(channel, message)
  }

  /** What late processes have not heard of so far. */
  deliverDelayed(): void {
    for (const deliver of this.#delayed.splice(0)) deliver()
  }

  stop(): void {
    this.#isUp = false
    for (const { host } of this.nodes) {
      host.down(new Error('the engine is off'))
      host.down(new Error('and still is'))
    }
  }

  start(): void {
    this.#isUp = true
    for (const { host } of this.nodes) host.up()
  }

  /** The log, for any number of followers; it takes its time, as those do that are elsewhere. */
  #sharedLog(delayed: boolean): TopicLog {
    return {
      append: async (...given) => this.log.append(...given),
      read: async (...given) => this.log.read(...given),
      follow: async (topic, follower) => {
        const followers = this.#followers.get(topic) ?? new Set()
        const own: LogFollower = delayed
          ? { entry: (entry) => this.#delayed.push(() => follower.entry(entry)), reset: () => {} }
          : follower
        this.#followers.set(topic, followers.add(own))
        const { position } = this.log.follow(topic, {
          entry: (entry) => {
            for (const each of followers) each.entry(entry)
          },
          reset: () => {},
        })
        return { position, stop: () => void followers.delete(own) }
      },
    }
  }
}
