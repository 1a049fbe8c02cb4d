/** Something that is to be done behind everything before it. */
export interface OutboxStep {
  /** Bytes of messages that wait with it. */
  readonly bytes: number
  /** Does it, and calls `done`, now or later. Not called at all when the outbox is given up before. */
  run(done: () => void): void
  /** The outbox was given up. */
  cancel?(): void
}

/** So many steps that are done are forgotten at once. */
const COMPACT_FROM = 64

/**
 * What waits to be sent because something before it is not ready: a long message that is being compressed, a message
 * that is written piece by piece. It exists only while something waits.
 */
export class Outbox {
  /** Bytes of messages that wait here. */
  bytes = 0
  /** So many waited at the most. */
  mostBytes = 0
  readonly #emptied: () => void
  /** From `#next` on; what is before is done. To shift a long array moves all of it. */
  #steps: (OutboxStep | undefined)[] = []
  #next = 0
  #running = false

  constructor(emptied: () => void) {
    this.#emptied = emptied
  }

  /** Adds a step behind the others; the first one begins at once. */
  push(step: OutboxStep): void {
    this.#steps.push(step)
    this.bytes += step.bytes
    this.mostBytes = Math.max(this.mostBytes, this.bytes)
    this.#run()
  }

  /** Gives up whatever is left; a step that is under way has no consequences any more. */
  clear(): void {
    const steps = this.#steps
    this.#steps = []
    this.#next = 0
    this.bytes = 0
    for (const step of steps) step?.cancel?.()
  }

  #advance(): void {
    this.#steps[this.#next++] = undefined
    if (this.#next < COMPACT_FROM || this.#next * 2 < this.#steps.length) return
    this.#steps = this.#steps.slice(this.#next)
    this.#next = 0
  }

  #run(): void {
    if (this.#running) return
    this.#running = true
    for (let step = this.#steps[this.#next]; step !== undefined; step = this.#steps[this.#next]) {
      const current = step
      let finished = false
      let waiting = false
      step.run(() => {
        if (finished || this.#steps[this.#next] !== current) return
        finished = true
        this.#advance()
        this.bytes -= current.bytes
        if (!waiting) return
        this.#running = false
        this.#run()
      })
      // Whatever it waits for goes on from here.
      if (!finished) {
        waiting = true
        return
      }
    }
    this.#running = false
    this.#emptied()
  }
}
