import { decodeRecord } from '../../envelope.ts'
import type { LogFollower, LogSubscription } from '../../history.ts'
import type { Position } from '../../marks.ts'

/** An entry of a history, with the time by which it is told from another one with its number, in microseconds. */
export interface StoredEntry {
  readonly sequence: number
  readonly time: number
  readonly record: Buffer
}

/** A part of a history, as it was at one moment. */
export interface StoredPage {
  readonly epoch: string
  readonly last: number
  readonly time: number
  readonly first: number
  readonly entries: readonly StoredEntry[]
}

/** What somebody knows of a history. */
export interface Known {
  readonly epoch: string
  readonly time: number
}

/** Reads the entries behind a number; who says what it knows of that one is told of another history if it is not there. */
export type ReadPage = (after: number, known?: Known) => Promise<StoredPage>

/**
 * Somebody who gets the entries of a history, in order and without a gap. They are announced as they come; what is not
 * announced is read: after an outage, and whenever a number is missing.
 */
export class Following implements LogSubscription {
  readonly #follower: LogFollower
  readonly #read: ReadPage
  readonly #ended: (following: Following) => void
  #epoch = ''
  #sequence = 0
  #time = 0
  #isStarted = false
  #isEnded = false
  #isReading = false
  /** What has come meanwhile has to be read, too. */
  #isBehind = false

  constructor(follower: LogFollower, read: ReadPage, ended: (following: Following) => void) {
    this.#follower = follower
    this.#read = read
    this.#ended = ended
  }

  get position(): Position {
    return { epoch: this.#epoch, sequence: this.#sequence }
  }

  /** The last entry that it has. */
  get known(): Known & { readonly sequence: number } {
    return { epoch: this.#epoch, sequence: this.#sequence, time: this.#time }
  }

  /** From here on. What was announced before is not lost: it is read. */
  start({ epoch, last, time }: StoredPage): void {
    this.#moveTo(epoch, last, time)
    this.#isStarted = true
    if (this.#isBehind) void this.catchUp()
  }

  stop(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#ended(this)
  }

  /** An entry that was just stored. */
  announce(epoch: string, entry: StoredEntry): void {
    if (!this.#isStarted) this.#isBehind = true
    else if (epoch === this.#epoch && entry.sequence <= this.#sequence) return
    else if (epoch === this.#epoch && entry.sequence === this.#sequence + 1) this.#take(entry)
    else void this.catchUp()
  }

  /** Reads what is missing, if anything is. Never fails: what could not be read is read at the next occasion. */
  async catchUp(): Promise<void> {
    this.#isBehind = true
    if (this.#isReading || !this.#isStarted) return
    this.#isReading = true
    try {
      while (this.#isBehind && !this.#isEnded) {
        this.#isBehind = false
        const page = await this.#read(this.#sequence, { epoch: this.#epoch, time: this.#time })
        if (page.epoch !== this.#epoch) await this.#beginAnew()
        else this.#takePage(page)
        if (page.entries.length > 0) this.#isBehind = true
      }
    } catch {
      // Redis is away, or will be asked again before long.
    }
    this.#isReading = false
  }

  #takePage({ epoch, first, entries }: StoredPage): void {
    if (entries.length === 0 && first > this.#sequence + 1) this.#reset(epoch, first - 1, this.#time)
    for (const entry of entries) {
      if (entry.sequence <= this.#sequence) continue
      // What is between is gone.
      if (entry.sequence > this.#sequence + 1) this.#reset(epoch, entry.sequence - 1, this.#time)
      this.#take(entry)
    }
  }

  /** The history is another one. What is newer in it than anything that we had is not lost. */
  async #beginAnew(): Promise<void> {
    const since = this.#time
    let after = 0
    for (;;) {
      const page = await this.#read(after)
      if (this.#isEnded) return
      const at = page.entries.findIndex(({ time }) => time > since)
      const next = page.entries[at]
      if (next !== undefined) {
        this.#reset(page.epoch, next.sequence - 1, since)
        this.#takePage({ ...page, entries: page.entries.slice(at) })
        return
      }
      const end = page.entries.at(-1)
      if (end === undefined) {
        this.#reset(page.epoch, page.last, page.time)
        return
      }
      after = end.sequence
    }
  }

  #reset(epoch: string, sequence: number, time: number): void {
    this.#moveTo(epoch, sequence, time)
    if (!this.#isEnded) this.#follower.reset({ epoch, sequence })
  }

  #take({ sequence, time, record }: StoredEntry): void {
    if (this.#isEnded) return
    this.#moveTo(this.#epoch, sequence, time)
    this.#follower.entry({ sequence, message: decodeRecord(record) })
  }

  #moveTo(epoch: string, sequence: number, time: number): void {
    this.#epoch = epoch
    this.#sequence = sequence
    this.#time = time
  }
}
