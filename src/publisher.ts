import type { Backplane } from './backplane.ts'
import type { Data } from './data.ts'
import { UsageError } from './errors.ts'
import { callHandler, reportError } from './handlers.ts'
import type { HistoryOption } from './history.ts'
import { Hub, type TopicListener } from './hub.ts'
import { checkOptions, DEFAULT_MAX_TOPIC_BYTES } from './options.ts'
import type { PreparedMessage } from './prepared.ts'
import type { PublishResult, SendOptions } from './publishing.ts'

/** Options of `createPublisher`. An unknown one is a `UsageError`. */
export interface PublisherOptions {
  /** The way to the servers: the same engine, with the same prefix. */
  readonly backplane: Backplane
  /** Topics with a history, as at the servers. */
  readonly history?: HistoryOption | undefined
  /** Longest name of a topic, in bytes of UTF-8. Default 256. */
  readonly maxTopicBytes?: number | undefined
  /** The backplane does not work (`ERR_BACKPLANE`, `ERR_HISTORY`), or a listener has thrown. Default: a process warning. */
  error?(error: Error): void
  /** The backplane works again. */
  backplaneRestored?(): void
}

const OPTION_NAMES = ['backplane', 'history', 'maxTopicBytes', 'error', 'backplaneRestored']

/**
 * Publishes to the clients of other processes, from one that has none: a job worker, say.
 *
 * @throws UsageError for options that cannot be.
 */
export function createPublisher(options: PublisherOptions): Publisher {
  return new Publisher(options)
}

/** What `createPublisher` gives. */
export class Publisher {
  readonly #hub: Hub<unknown>

  /** @internal Made by `createPublisher`. */
  constructor(options: PublisherOptions) {
    checkOptions(options, OPTION_NAMES)
    if (options.backplane === undefined) {
      throw new UsageError('ERR_OPTION', 'a publisher needs a backplane: it has no clients of its own')
    }
    const report = (thrown: unknown): void => reportError(thrown, options.error && ((error) => options.error?.(error)))
    this.#hub = new Hub<unknown>({
      clients: new Map(),
      backplane: options.backplane,
      history: options.history,
      maxTopicsPerClient: 0,
      maxTopicBytes: options.maxTopicBytes ?? DEFAULT_MAX_TOPIC_BYTES,
      report,
      restored: () => callHandler(() => options.backplaneRestored?.(), report),
    })
    this.#hub.start(false)
  }

  /**
   * Sends a message to all clients, anywhere, that have subscribed to a topic. `sent` and `dropped` are 0: they count
   * clients of this process. `reach` is `process` when the backplane is away, and then nobody gets it.
   *
   * @throws UsageError as `WebSocketServer.publish`.
   */
  publish(topic: string, data: Data | PreparedMessage, options: SendOptions = {}): PublishResult {
    return this.#hub.publish(topic, data, { compress: options.compress })
  }

  /** The same for all clients of all servers. */
  broadcast(data: Data | PreparedMessage, options: SendOptions = {}): PublishResult {
    return this.#hub.broadcast(data, { compress: options.compress })
  }

  /** Tells a function of yours what is published to a topic, in any process. Returns the function that ends it. */
  listenTo(topic: string, listener: TopicListener): () => void {
    return this.#hub.listenTo(topic, listener)
  }

  /** Resolves when the backplane is there, at first or again; rejects with `ERR_BACKPLANE` when it is closed before. */
  ready(): Promise<void> {
    return this.#hub.ready()
  }

  /** Resolves when the backplane knows what this process listens to. */
  synced(): Promise<void> {
    return this.#hub.synced()
  }

  /** Hands over what is on its way, and leaves the backplane. The clients that the user has made stay open. */
  close(): Promise<void> {
    return this.#hub.close()
  }
}
