import { encodeRecord } from '../../envelope.ts'
import { asError } from '../../handlers.ts'
import type { ResolvedHistoryLimits } from '../../history.ts'
import type { Position } from '../../marks.ts'
import type { PreparedMessage } from '../../prepared.ts'
import { inTime } from './connection.ts'

/** Messages that are appended together: so many, and so many bytes of them. */
const MAX_BATCH = 256
const MAX_BATCH_BYTES = 1_048_576
/** How long to try to find out whether something was appended, in milliseconds. */
const APPEND_MS = 5_000
/** How long to wait before Redis is asked again, in milliseconds. */
const RETRY_MS = 50
/** What may wait to be appended, in bytes. */
const MAX_WAITING_BYTES = 67_108_864

/** Answers of a server that say that another one, or it a little later, may answer otherwise. */
const PASSING = /^(LOADING|BUSY|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|READONLY|MOVED|ASK) /
/** An answer of a server: what it says no to was not done. */
const REFUSAL = /^[A-Z]{2,} /

/** Where the first of some messages came to be. */
export interface Appended {
  readonly epoch: string
  readonly first: number
}

/** What is needed to append. */
export interface AppendingHost {
  /** Why Redis cannot be asked; undefined when it can. */
  unavailable(): Error | undefined
  /** Appends, or gives what it gave before for this number. */
  store(topic: string, number: number, records: readonly Buffer[], limits: ResolvedHistoryLimits): Promise<Appended>
}

interface Waiting {
  readonly record: Buffer
  readonly limits: ResolvedHistoryLimits
  /** Until when it may be tried. */
  readonly end: number
  readonly resolve: (position: Position) => void
  readonly reject: (error: Error) => void
}

/**
 * What this process appends to histories: one request per topic at a time, with everything that has come meanwhile. So
 * the last number tells which request was carried out, and the order is kept also when one has to be sent again.
 */
export class Appending {
  readonly #host: AppendingHost
  readonly #topics = new Map<string, Waiting[]>()
  #waitingBytes = 0
  #number = 0
  #idle: (() => void) | undefined
  #isEnded = false

  constructor(host: AppendingHost) {
    this.#host = host
  }

  append(topic: string, message: PreparedMessage, limits: ResolvedHistoryLimits): Promise<Position> {
    const error = this.#host.unavailable()
    if (error !== undefined) return Promise.reject(error)
    const record = encodeRecord(message)
    if (this.#waitingBytes + record.length > MAX_WAITING_BYTES) {
      return Promise.reject(new Error('Redis takes messages more slowly than they are published'))
    }
    this.#waitingBytes += record.length
    return new Promise((resolve, reject) => {
      const waiting = this.#topics.get(topic)
      const entry = { record, limits, end: performance.now() + APPEND_MS, resolve, reject }
      if (waiting !== undefined) waiting.push(entry)
      else {
        this.#topics.set(topic, [entry])
        void this.#send(topic)
      }
    })
  }

  /** What is on its way is not waited for any longer. */
  end(error: Error): void {
    this.#isEnded = true
    this.dropWaiting(error)
  }

  /** What was not sent yet is not sent any more. */
  dropWaiting(error: Error): void {
    for (const waiting of this.#topics.values()) {
      for (const entry of waiting.splice(0)) this.#settle(entry, () => entry.reject(error))
    }
  }

  /** Resolves when nothing is on its way. */
  async done(): Promise<void> {
    if (this.#topics.size === 0) return
    await new Promise<void>((resolve) => {
      this.#idle = resolve
    })
  }

  async #send(topic: string): Promise<void> {
    const waiting = this.#topics.get(topic)!
    // What follows in this tick comes along.
    await Promise.resolve()
    while (waiting.length > 0) {
      const first = waiting[0]!
      if (first.end < performance.now()) {
        waiting.shift()
        this.#settle(first, () => first.reject(new Error(`it could not be sent to Redis within ${APPEND_MS} ms`)))
        continue
      }
      const batch = waiting.splice(0, batchSize(waiting))
      try {
        const { epoch, first } = await this.#store(topic, batch)
        batch.forEach((entry, index) => {
          this.#settle(entry, () => entry.resolve({ epoch, sequence: first + index }))
        })
      } catch (error) {
        for (const entry of batch) this.#settle(entry, () => entry.reject(asError(error)))
      }
    }
    this.#topics.delete(topic)
    if (this.#topics.size === 0) this.#idle?.()
  }

  #settle({ record }: Waiting, how: () => void): void {
    this.#waitingBytes -= record.length
    how()
  }

  /** Appends once, however often it has to ask for it. */
  async #store(topic: string, batch: readonly Waiting[]): Promise<Appended> {
    const number = ++this.#number
    const records = batch.map(({ record }) => record)
    const { limits, end } = batch.at(-1)!
    let isUnknown = false
    for (;;) {
      const left = end - performance.now()
      let error = this.#host.unavailable()
      if (error === undefined) {
        try {
          return await inTime(Math.max(1, left), this.#host.store(topic, number, records, limits))
        } catch (thrown) {
          error = asError(thrown)
          if (!REFUSAL.test(error.message)) isUnknown = true
          else if (!PASSING.test(error.message)) throw error
        }
      } else if (!isUnknown) throw error
      if (left <= RETRY_MS || this.#isEnded) {
        throw isUnknown
          ? new Error(`it cannot be told whether it was stored: ${error.message}`, { cause: error })
          : error
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref())
    }
  }
}

/** How many of them go together. */
function batchSize(waiting: readonly Waiting[]): number {
  let bytes = 0
  let count = 0
  for (const { record } of waiting) {
    bytes += record.length
    if (count > 0 && (bytes > MAX_BATCH_BYTES || count === MAX_BATCH)) break
    count++
  }
  return count
}
