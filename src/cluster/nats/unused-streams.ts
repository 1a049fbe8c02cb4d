import type { NatsClient, NatsJetStreamManager, NatsStreamInfo } from './client.ts'
import { reachedNobody } from './failures.ts'
import type { NatsLink } from './link.ts'
import { allLogSubjects, liveSubjectOf } from './names.ts'

/** How long followers may take to say that they are there, in milliseconds. */
const ANSWER_MS = 2_000
const NOTHING = new Uint8Array(0)

interface UnusedStreamsOptions {
  readonly connection: NatsClient
  readonly link: NatsLink
  readonly prefix: string
  /** 0 for never. */
  readonly unusedStreamMs: number
}

/**
 * Deletes streams that nobody needs any more: the server removes old messages by itself, but not the stream that they
 * were in. One goes that has been empty for long, and that nobody follows, in any process.
 */
export class UnusedStreams {
  readonly #options: UnusedStreamsOptions
  readonly #manager: () => Promise<NatsJetStreamManager>
  #timer: NodeJS.Timeout | undefined
  #isRunning = false

  constructor(options: UnusedStreamsOptions, manager: () => Promise<NatsJetStreamManager>) {
    this.#options = options
    this.#manager = manager
  }

  start(): void {
    const { unusedStreamMs } = this.#options
    if (unusedStreamMs === 0) return
    // Processes that were started together need not all do it at the same time.
    const firstMs = Math.ceil(unusedStreamMs * (0.5 + Math.random() / 2))
    this.#timer = setTimeout(() => {
      this.#timer = setInterval(() => void this.#run(), unusedStreamMs).unref()
      void this.#run()
    }, firstMs).unref()
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  async #run(): Promise<void> {
    const { link, prefix } = this.#options
    if (this.#isRunning || !link.isUp) return
    this.#isRunning = true
    try {
      const { streams } = await this.#manager()
      for await (const info of streams.list(allLogSubjects(prefix))) {
        if (this.#isOld(info) && (await this.#isUnfollowed(info)))
          await link.guard(() => streams.delete(info.config.name))
      }
    } catch {
      // There is a next time.
    } finally {
      this.#isRunning = false
    }
  }

  #isOld({ created, state }: NatsStreamInfo): boolean {
    // One that was never written to was written to in the year 1.
    const usedAt = Math.max(Date.parse(created), Date.parse(state.last_ts))
    return state.messages === 0 && Date.now() - usedAt > this.#options.unusedStreamMs
  }

  /** Followers answer; where there are none the server says so. */
  async #isUnfollowed({ config }: NatsStreamInfo): Promise<boolean> {
    const { connection, link, prefix } = this.#options
    const subject = config.subjects?.[0]
    if (subject === undefined) return false
    try {
      await link.guard(() => connection.request(liveSubjectOf(prefix, subject), NOTHING, { timeout: ANSWER_MS }))
      return false
    } catch (error) {
      return reachedNobody(error)
    }
  }
}
