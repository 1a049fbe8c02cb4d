import type { RedisEmitter } from './clients.ts'

/*
 * What is needed of a client, whichever library it is of, and whether it is for one server or for a cluster.
 */

/** Gets the messages of all channels. */
export type Receive = (channel: string, message: Buffer) => void

/** Hears that something has happened to a connection; the error, if there is one. */
export type Watcher = (error: Error | undefined) => void

/** What can be watched. */
interface Watched {
  /** Commands can be sent. */
  readonly isReady: boolean
  /** Tells of everything that may have changed `isReady`. Returns the function that ends it. */
  watch(watcher: Watcher): () => void
}

/** The connection on which commands are sent. */
export interface RedisLink extends Watched {
  /** Messages for one channel arrive in the order of the calls. */
  publish(channel: string, message: Buffer): Promise<unknown>
  /** Runs a script on the node that has the keys. Texts in the reply are bytes. */
  run(command: 'EVALSHA' | 'EVAL', script: string, keys: readonly string[], values: readonly Value[]): Promise<unknown>
  /** A new connection for subscriptions, which is to be connected and ended. */
  makeSubscriber(): RedisSubscriber
}

export type Value = string | Buffer

/** The connection on which messages come. */
export interface RedisSubscriber extends Watched {
  connect(): Promise<void>
  /** Where messages go from now on. Returns the function that ends it. */
  listen(receive: Receive): () => void
  subscribe(channels: readonly string[]): Promise<void>
  unsubscribe(channels: readonly string[]): Promise<void>
  /** Disconnects, at once and for good. */
  end(): void
}

/** Listens to events that tell of a connection. */
export function watchEvents(emitter: RedisEmitter, events: readonly string[], watcher: Watcher): () => void {
  const listener = (value: unknown): void => watcher(value instanceof Error ? value : undefined)
  for (const event of events) emitter.on(event, listener)
  return () => {
    for (const event of events) emitter.off(event, listener)
  }
}

/** A number for a name: always the same one, from 0 up to, not including, `below`. */
export function pick(name: string, below: number): number {
  let hash = 7
  for (let at = 0; at < name.length; at++) hash = (Math.imul(hash, 31) + name.charCodeAt(at)) >>> 0
  return hash % below
}

/** A listener for errors of a connection that is not used any more: without one they would be thrown. */
export function ignore(): void {}
