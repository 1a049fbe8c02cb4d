/** Values as they come, to be awaited one after the other. */
export class Queue<T> {
  /** All that ever came. */
  readonly all: T[] = []
  #taken = 0
  #readers: ((value: T) => void)[] = []

  /** A function of its own, so that it can be given away as a handler. */
  readonly push = (value: T): void => {
    this.all.push(value)
    const reader = this.#readers.shift()
    if (reader === undefined) return
    this.#taken++
    reader(value)
  }

  /** The next one that nobody has taken. */
  next(): Promise<T> {
    if (this.#taken < this.all.length) return Promise.resolve(this.all[this.#taken++] as T)
    return new Promise((resolve) => this.#readers.push(resolve))
  }

  /** The next ones. */
  async take(count: number): Promise<T[]> {
    const taken: T[] = []
    while (taken.length < count) taken.push(await this.next())
    return taken
  }
}

/** A promise and the functions that settle it. */
export interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (error: unknown) => void
}

export function defer<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
