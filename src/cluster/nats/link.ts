import { asError } from '../../handlers.ts'
import type { NatsClient, NatsStatus } from './client.ts'

/** What the link tells of the server. */
export interface LinkListener {
  /** It answers, and what was subscribed to is subscribed to. */
  up(): void
  /** It does not. */
  down(error: Error): void
  /** Before a ping while it is down: what the server has refused may be asked for again. */
  renew(): void
  /** Why something that was subscribed to is not, as far as it is not. */
  missing(): Error | undefined
}

/** What waits for an answer of the server. */
interface Batch {
  readonly answered: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

/**
 * Whether the server is there. NATS answers to pings alone, and in the order of what it gets: an answer tells that all
 * that was sent before has arrived. One ping at a time is on its way, for everything that was sent before it. One that
 * gets no answer in time is how a server is noticed to be cut off.
 */
export class NatsLink {
  readonly #connection: NatsClient
  readonly #pingIntervalMs: number
  readonly #pingTimeoutMs: number
  readonly #listener: LinkListener
  #isUp = false
  #isEnded = false
  /** Why it is not up. */
  #error = new Error('the connection has not been used yet')
  #statuses: AsyncIterable<NatsStatus> | undefined
  #interval: NodeJS.Timeout | undefined
  /** The ping that is on its way; another one is on its way where the number is another one. */
  #ping: { readonly number: number; readonly timer: NodeJS.Timeout; readonly batch: Batch | undefined } | undefined
  #pings = 0
  /** What the next ping is for. */
  #next: Batch | undefined
  #isScheduled = false
  /** Whom to tell when it goes down. */
  readonly #guarded = new Set<(error: Error) => void>()

  constructor(connection: NatsClient, pingIntervalMs: number, pingTimeoutMs: number, listener: LinkListener) {
    this.#connection = connection
    this.#pingIntervalMs = pingIntervalMs
    this.#pingTimeoutMs = pingTimeoutMs
    this.#listener = listener
  }

  get isUp(): boolean {
    return this.#isUp
  }

  /** Why it is not up. */
  get error(): Error {
    return this.#error
  }

  start(): void {
    void this.#watch()
    if (this.#connection.isClosed()) {
      this.#ended()
      return
    }
    if (this.#pingIntervalMs > 0) {
      this.#interval = setInterval(() => this.#sendPing(), this.#pingIntervalMs).unref()
    }
    // There is such information from the first connection on, except while there is none.
    if (this.#connection.info !== undefined) this.#setUp()
    this.#sendPing()
  }

  /**
   * Resolves when the server has got all that was given to the connection before the end of this step of the program.
   * Not to be called while it is down.
   */
  confirm(): Promise<void> {
    this.#next ??= newBatch()
    if (!this.#isScheduled) {
      this.#isScheduled = true
      // Before the client's own, which would send what was published without the ping.
      queueMicrotask(() => {
        this.#isScheduled = false
        if (this.#next !== undefined) this.#sendPing()
      })
    }
    return this.#next.answered
  }

  /** The same as what is asked for, but it does not outlast the server. */
  guard<T>(ask: () => Promise<T>): Promise<T> {
    if (!this.#isUp) return Promise.reject(this.#error)
    return new Promise<T>((resolve, reject) => {
      const answer = ask()
      this.#guarded.add(reject)
      answer.then(resolve, reject).finally(() => this.#guarded.delete(reject))
    })
  }

  /** Something was subscribed to, and is not any more. */
  lost(error: Error): void {
    this.#setDown(error)
  }

  close(): void {
    this.#isEnded = true
    clearInterval(this.#interval)
    this.#dropPing()
    this.#fail(new Error('the backplane is closed'))
    stop(this.#statuses)
  }

  // ── pings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #sendPing(): void {
    if (this.#ping !== undefined || this.#isEnded) return
    if (!this.#isUp) this.#listener.renew()
    const number = ++this.#pings
    const timer = setTimeout(() => {
      this.#setDown(new Error(`the server has not answered within ${this.#pingTimeoutMs} ms`))
    }, this.#pingTimeoutMs).unref()
    this.#ping = { number, timer, batch: this.#next }
    this.#next = undefined
    this.#connection.flush().then(
      // What the server has refused is told by another way, which takes a little longer.
      () => setImmediate(() => this.#answered(number)),
      (error: unknown) => this.#unanswered(number, asError(error)),
    )
  }

  #answered(number: number): void {
    const ping = this.#ping
    if (ping?.number !== number) return
    this.#dropPing()
    ping.batch?.resolve()
    const missing = this.#listener.missing()
    if (missing === undefined) this.#setUp()
    else this.#setDown(missing)
    if (this.#next !== undefined) this.#sendPing()
  }

  #unanswered(number: number, error: Error): void {
    const ping = this.#ping
    if (ping?.number !== number) return
    this.#dropPing()
    ping.batch?.reject(error)
    this.#setDown(error)
  }

  #dropPing(): void {
    if (this.#ping !== undefined) clearTimeout(this.#ping.timer)
    this.#ping = undefined
  }

  // ── the connection ────────────────────────────────────────────────────────────────────────────────────────────────

  async #watch(): Promise<void> {
    try {
      this.#statuses = this.#connection.status()
      for await (const status of this.#statuses) {
        if (this.#isEnded) return
        this.#take(status)
      }
    } catch (error) {
      if (!this.#isEnded) this.#setDown(asError(error))
    }
    // The connection is closed, or says so in a moment.
    this.#ended()
  }

  #take({ type, error }: NatsStatus): void {
    if (type === 'disconnect' || type === 'staleConnection') {
      this.#setDown(new Error('the connection to the server was lost'))
      // Its answer does not come any more, and the client does not always say so.
      this.#dropPing()
    } else if (type === 'reconnect') {
      this.#sendPing()
    } else if (type === 'error' && isRefusedPublish(error)) {
      // Which of the messages it was is not known.
      this.#reject(error)
    } else if (type === 'close') {
      this.#ended()
    }
  }

  #ended(): void {
    if (this.#isEnded) return
    clearInterval(this.#interval)
    this.#dropPing()
    this.#setDown(new Error('the connection is closed (give connect() the option maxReconnectAttempts: -1)'))
    this.#isEnded = true
    stop(this.#statuses)
  }

  #setUp(): void {
    if (this.#isUp || this.#isEnded) return
    this.#isUp = true
    this.#listener.up()
  }

  #setDown(error: Error): void {
    if (this.#isEnded) return
    this.#fail(error)
    this.#listener.down(error)
  }

  #fail(error: Error): void {
    this.#isUp = false
    this.#error = error
    this.#reject(error)
    for (const reject of this.#guarded) reject(error)
    this.#guarded.clear()
  }

  #reject(error: Error): void {
    this.#ping?.batch?.reject(error)
    this.#next?.reject(error)
    this.#next = undefined
  }
}

function newBatch(): Batch {
  let resolve!: () => void
  let reject!: (error: Error) => void
  const answered = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  // It may be that nobody asks.
  answered.catch(() => {})
  return { answered, resolve, reject }
}

function isRefusedPublish(error: Error | undefined): error is Error {
  return error !== undefined && (error as { operation?: unknown }).operation === 'publish'
}

/** The client's own way to end its iterator at once; else it would end with the next status. */
function stop(statuses: (AsyncIterable<NatsStatus> & { stop?(): void }) | undefined): void {
  if (typeof statuses?.stop === 'function') statuses.stop()
}
