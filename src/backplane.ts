import type { TopicLog } from './history.ts'

/*
 * What carries messages between processes. A backplane is one object per server or publisher, made around something that
 * exists: Redis, NATS, the channels of the operating system. Its channels are named by strings and carry bytes; what the
 * bytes are is envelope.ts's concern, and what is worth carrying is relay.ts's.
 */

/** What a backplane tells the server or publisher that it serves. */
export interface BackplaneHost {
  /** A message of a channel that was subscribed to. It may be of anybody, in any form. */
  receive(channel: string, message: Uint8Array): void
  /** The engine can be reached, at first or again; everything that was subscribed to is subscribed to. */
  up(): void
  /** The engine cannot be reached, and why. Called as often as there is news. */
  down(error: Error): void
}

/**
 * The way to the other processes. Implementations are made by `fullduplex/cluster/redis`, `.../nats` and `.../node`; one
 * of your own has to keep what is said here.
 */
export interface Backplane {
  /** Called once, before everything else. It may begin with `up` at once. */
  start(host: BackplaneHost): void
  /**
   * Sends bytes to all processes that have subscribed to the channel; this one may be among them. Messages of one
   * channel arrive in the order of the calls. Resolves when the engine has it, rejects when it may not have it; it is
   * not sent again later.
   */
  publish(channel: string, message: Uint8Array): Promise<void>
  /** Resolves when messages of these channels are sure to arrive. They are not subscribed to yet. */
  subscribe(channels: readonly string[]): Promise<void>
  /** Ends subscriptions. */
  unsubscribe(channels: readonly string[]): Promise<void>
  /** Ends everything; nothing of this process is left in the engine. Clients that the user has made are the user's to close. */
  close(): Promise<void>
  /** Longest message, in bytes. Default: no limit but the engine's own errors. */
  readonly maxMessageBytes?: number | undefined
  /** Where histories of topics are kept; undefined where that cannot be done. */
  readonly log?: TopicLog | undefined
}
