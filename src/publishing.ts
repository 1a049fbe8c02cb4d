import type { Data } from './data.ts'
import type { PreparedMessage } from './prepared.ts'

/** How a message is sent. */
export interface SendOptions {
  /**
   * Whether it is compressed, where the connection has agreed on compression. Default: when it has at least
   * `threshold` bytes.
   */
  readonly compress?: boolean | undefined
}

/** What a connection asks of the topics of its server. */
export interface ConnectionTopics<Client> {
  subscribe(connection: Client, topic: string, options: SubscribeOptions | undefined): boolean
  unsubscribe(connection: Client, topic: string): boolean
  publishFrom(
    connection: Client,
    topic: string,
    data: Data | PreparedMessage,
    options: SendOptions | undefined,
  ): PublishResult
}

/** How a client joins a topic. */
export interface SubscribeOptions {
  /**
   * For a topic with a history: the position of the last message that the client has, as `publish` gives it. What came
   * later is sent first. Default: what the client has said itself when it came back (see `reconnecting`), else nothing.
   */
  readonly after?: string | undefined
  /**
   * The history does not reach back to there, or a client that reads slowly has missed what the history has no more. A
   * client that has come back with `resume` is told by itself.
   */
  readonly gap?: (() => void) | undefined
}

/** Whom a message reaches that goes to many. */
export interface PublishOptions<Client> {
  /** Not these clients. */
  readonly except?: Client | Iterable<Client> | undefined
  /** Only clients for which it says true. It is asked in this process only: with it, a message stays in this process. */
  filter?(client: Client): boolean
  /** Whether it is compressed for clients that have agreed on it. Default: from `threshold` bytes on. */
  readonly compress?: boolean | undefined
}

/** What became of a message that goes to many. */
export interface PublishResult {
  /** Clients of this process for which the message was accepted. */
  sent: number
  /** Clients of this process that did not get it because their buffer is full (see `slowConsumer`). */
  dropped: number
  /**
   * With a backplane, for a topic without a history: whether the message was handed on to the other processes, or stays
   * in this one, because the backplane is away or the message is not for it.
   */
  reach?: 'everywhere' | 'process'
  /**
   * For a topic with a history: resolves with the position of the message once the history has it; rejects with
   * `WebSocketError` `ERR_HISTORY` when it could not be kept, and then nobody gets it, unless the engine has gone in the
   * very moment. Without a backplane it is there at once. With one, `sent` and `dropped` are 0: the message comes back
   * from there, in one order for everybody.
   */
  stored?: Promise<string>
}
