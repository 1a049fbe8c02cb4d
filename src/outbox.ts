/** Something that is to be done behind everything before it. */
export interface OutboxStep {
  /** Bytes of messages that wait with it. */
  readonly bytes: number
  /** Does it, and calls `done`, now or later. Not called at all when the outbox is given up before. */
  run(done: () => void): void
  /** The outbox was given up. */
  cancel?(): void
}

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
  #steps: OutboxStep[] = []
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
    this.bytes = 0
    for (const step of steps) step.cancel?.()
  }

  #run(): void {
    if (this.#running) return
    this.#running = true
    for (let step = this.#steps[0]; step !== undefined; step = this.#steps[0]) {
      const current = step
      let finished = false
      let waiting = false
      step.run(() => {
        if (finished || this.#steps[0] !== current) return
        finished = true
        this.#steps.shift()
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
