/*
 * The parts of nats.js 3 that are used, by their form alone: the connection of `@nats-io/transport-node` (or of another
 * transport) and the client of `@nats-io/jetstream` fit, and nothing of theirs is imported.
 */

/** A connection to NATS, as `connect()` gives it. */
export interface NatsClient {
  /** What the server has said of itself; undefined while there is none. */
  readonly info?: { readonly max_payload: number } | undefined
  /** The connection has ended, and does not come back. */
  isClosed(): boolean
  /** Sends a message. It is put into a buffer first, which is kept while the client connects again. */
  publish(subject: string, payload?: Uint8Array): void
  /** Listens to a subject; the client renews it after each reconnect. */
  subscribe(subject: string, options: NatsSubscribeOptions): NatsSubscription
  /** Sends a message and waits for one answer. */
  request(subject: string, payload: Uint8Array, options: { timeout: number }): Promise<unknown>
  /** Resolves when the server has answered to a ping behind everything that was sent before. */
  flush(): Promise<void>
  /** What happens to the connection. */
  status(): AsyncIterable<NatsStatus>
}

/** How a subscription tells of its messages. */
export interface NatsSubscribeOptions {
  /** Called for each message, or with an error when the server does not allow the subscription. */
  callback(error: Error | null, message: NatsMessage): void
}

/** A subscription. */
export interface NatsSubscription {
  /** Ends it. */
  unsubscribe(): void
}

/** A message that has come. */
export interface NatsMessage {
  /** The subject that it was sent to. */
  readonly subject: string
  /** What it says. */
  readonly data: Uint8Array
  /** Its headers, if it has any. */
  readonly headers?: NatsHeaders | undefined
  /** Answers to it; false when nobody waits for an answer. */
  respond(): boolean
}

/** Headers of a message. */
export interface NatsHeaders {
  /** The value of one; empty when there is none. */
  get(name: string): string
}

/** Something that has happened to a connection. */
export interface NatsStatus {
  /** `disconnect`, `reconnect`, `staleConnection`, `error`, `close` and others. */
  readonly type: string
  /** With `error`: what the server complains of. */
  readonly error?: Error | undefined
}

/** A client for JetStream, as `jetstream(connection)` gives it. */
export interface NatsJetStream {
  /** Appends a message to the stream of its subject. */
  publish(
    subject: string,
    payload: Uint8Array,
    options: { msgID: string; timeout: number; expect?: { lastSequence: number } },
  ): Promise<{ readonly seq: number }>
  /** The client that makes and reads streams. */
  jetstreamManager(checkAPI?: boolean): Promise<NatsJetStreamManager>
}

/** A client that makes and reads streams. */
export interface NatsJetStreamManager {
  /** Streams, by their names. */
  readonly streams: NatsStreams
}

/** Streams, by their names. */
export interface NatsStreams {
  /** What a stream is like, and what is in it. */
  info(name: string): Promise<NatsStreamInfo>
  /** Makes a stream. */
  add(config: NatsStreamConfig): Promise<NatsStreamInfo>
  /** Changes a stream. */
  update(name: string, changes: Partial<NatsStreamLimits> & { description?: string }): Promise<NatsStreamInfo>
  /** Deletes a stream with everything in it. */
  delete(name: string): Promise<boolean>
  /** One message; null when it is not there. */
  getMessage(name: string, query: { seq: number }): Promise<NatsStoredMessage | null>
  /** The streams that have such subjects. */
  list(subject: string): AsyncIterable<NatsStreamInfo>
}

/** How far a stream reaches back. -1 is no limit; for times, which are in nanoseconds, 0 is. */
export interface NatsStreamLimits {
  max_msgs: number
  max_age: number
  max_bytes: number
  /** How long the ids of messages are kept, so that none is stored twice. */
  duplicate_window: number
}

/** What a stream is made with. */
export interface NatsStreamConfig extends NatsStreamLimits {
  name: string
  subjects: string[]
  storage: 'file'
  retention: 'limits'
  discard: 'old'
  num_replicas: number
  /** Where what was stored is published, with its number. */
  republish: { src: string; dest: string }
}

/** A stream, as the server describes it. */
export interface NatsStreamInfo {
  readonly config: NatsStreamLimits & {
    readonly name: string
    readonly subjects?: readonly string[]
    readonly description?: string | undefined
  }
  readonly state: {
    readonly messages: number
    readonly first_seq: number
    readonly last_seq: number
    /** When the last message was stored. */
    readonly last_ts: string
  }
  /** When the stream was made. */
  readonly created: string
}

/** A message that was read from a stream. */
export interface NatsStoredMessage {
  readonly subject: string
  readonly data: Uint8Array
  readonly header: NatsHeaders
}
