/** Bytes given to a socket at once while its peer is slow: each slice that leaves shows that the peer lives. */
export const SLICE_BYTES: number = 1_114_112

/** Smaller parts are copied: they may be a few bytes of memory that is much larger, and there may be many. */
const COPIED_BYTES = 16_384
const FIRST_BLOCK_BYTES = 1_024
const LAST_BLOCK_BYTES = 65_536

const EMPTY: Buffer = Buffer.alloc(0)

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
  /** The last part may have room left: `#block[..#filled)` is part of `#parts`. */
  #block: Buffer = EMPTY
  #filled = 0
  #waiters: { resolve(): void; reject(error: Error): void }[] = []

  /** Adds bytes; up to 16 KiB they are copied. */
  push(part: Buffer): void {
    this.bytes += part.length
    if (part.length >= COPIED_BYTES) {
      this.#block = EMPTY
      this.#parts.push(part)
      return
    }
    if (part.length > this.#block.length - this.#filled) {
      const doubled = Math.min(Math.max(this.#block.length * 2, FIRST_BLOCK_BYTES), LAST_BLOCK_BYTES)
      this.#block = Buffer.allocUnsafeSlow(Math.max(doubled, part.length))
      this.#filled = 0
      this.#parts.push(EMPTY)
    } else if (this.#block === EMPTY) this.#parts.push(EMPTY)
    this.#filled += part.copy(this.#block, this.#filled)
    this.#parts[this.#parts.length - 1] = this.#block.subarray(0, this.#filled)
  }

  /** The next bytes, at most one slice; empty when nothing waits. */
  takeSlice(): Buffer[] {
    // What was taken must not grow any more.
    this.#block = EMPTY
    this.#filled = 0
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
