import { Duplex } from 'node:stream'

/** One end: what is written to it comes out of the other, in order, with backpressure. */
class End extends Duplex {
  other!: End
  #written: (() => void) | undefined
  #isEnded = false

  override _read(): void {
    const written = this.#written
    this.#written = undefined
    if (written !== undefined) process.nextTick(written)
  }

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.other.accept(chunk, callback)
  }

  override _final(callback: () => void): void {
    this.other.finish()
    callback()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this._read()
    this.other.finish()
    callback(error)
  }

  accept(chunk: Buffer, callback: () => void): void {
    if (this.#isEnded || this.destroyed || chunk.length === 0) {
      process.nextTick(callback)
      return
    }
    this.#written = callback
    this.push(Buffer.from(chunk))
  }

  finish(): void {
    if (this.#isEnded || this.destroyed) return
    this.#isEnded = true
    this.push(null)
  }
}

/** Two ends of a pipe in memory; neither has setTimeout or setNoDelay. */
export function duplexPair(): [Duplex, Duplex] {
  const [a, b] = [new End(), new End()]
  a.other = b
  b.other = a
  return [a, b]
}
