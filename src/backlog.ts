/** Bytes given to a socket at once while its peer is slow: each slice that leaves shows that the peer lives. */
export const SLICE_BYTES: number = 1_114_112

/**
 * Output that a socket could not take at once. It is held here rather than in the socket, so that progress can be seen
 * (a slow peer is not a dead one) and whoever waits for the end can be told.
 */
export class Backlog {
  /** Bytes that wait here. */
  bytes = 0
  /** The sender may have seen it, in `bufferedBytes` or because a message was refused, and waits for `drain`. */
  noticed = false
  readonly #parts: Buffer[] = []
  #waiters: { resolve(): void; reject(error: Error): void }[] = []

  push(part: Buffer): void {
    this.#parts.push(part)
    this.bytes += part.length
  }

  /** The next bytes, at most one slice; empty when nothing waits. */
  takeSlice(): Buffer[] {
    const slice: Buffer[] = []
    let room = SLICE_BYTES
    let taken = 0
    for (; taken < this.#parts.length && room > 0; taken++) {
      const part = this.#parts[taken]!
      if (part.length > room) {
        slice.push(part.subarray(0, room))
        this.#parts[taken] = part.subarray(room)
        this.bytes -= room
        break
      }
      slice.push(part)
      room -= part.length
      this.bytes -= part.length
    }
    this.#parts.splice(0, taken)
    return slice
  }

  /** Resolves when everything has left, rejects when the connection ends before. */
  wait(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  settle(error?: Error): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const { resolve, reject } of waiters) error === undefined ? resolve() : reject(error)
  }
}
