/** A timer that is later than this has not been late by chance: the process was stopped, or very busy. */
const LATE_MS = 1_000

/** What a pulse does. */
export interface PulseListener {
  /** Asks the other side for a sign of life. */
  ask(): void
  /** There was none in time. */
  silent(): void
}

/** Notices that the other side does not answer any more, although the line to it is there. */
export class Pulse {
  readonly #intervalMs: number
  readonly #timeoutMs: number
  readonly #listener: PulseListener
  #interval: NodeJS.Timeout | undefined
  #timeout: NodeJS.Timeout | undefined
  #isAwaiting = false

  constructor(intervalMs: number, timeoutMs: number, listener: PulseListener) {
    this.#intervalMs = intervalMs
    this.#timeoutMs = timeoutMs
    this.#listener = listener
  }

  start(): void {
    this.stop()
    if (this.#intervalMs === 0) return
    this.#interval = setInterval(() => {
      if (this.#isAwaiting) return
      this.#isAwaiting = true
      this.#listener.ask()
      this.#await()
    }, this.#intervalMs).unref()
  }

  stop(): void {
    clearInterval(this.#interval)
    this.heard()
  }

  /** A sign of life. */
  heard(): void {
    this.#isAwaiting = false
    clearTimeout(this.#timeout)
  }

  #await(): void {
    const due = performance.now() + this.#timeoutMs
    this.#timeout = setTimeout(() => {
      // Who was not there can have missed the answer: it may lie there, unread.
      if (performance.now() - due > LATE_MS) this.#await()
      else this.#listener.silent()
    }, this.#timeoutMs).unref()
  }
}
