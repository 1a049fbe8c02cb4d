/*
 * Which of the numbered messages of others have been here already. An engine's client may send again, after an outage,
 * what it does not know to have arrived.
 */

/** Numbers behind the highest that are told apart; what is older is taken for a repetition. */
const WINDOW = 131_072
/** Most origins that are kept in mind; the one that was silent for longest is forgotten first. */
const MAX_ORIGINS = 256

export class Sequences {
  readonly #origins = new Map<string, Seen>()

  /** Whether this is the first time; from now on it is not. */
  isNew(origin: string, number: number): boolean {
    let seen = this.#origins.get(origin)
    if (seen === undefined) seen = new Seen()
    else this.#origins.delete(origin)
    this.#origins.set(origin, seen)
    if (this.#origins.size > MAX_ORIGINS) this.#origins.delete(this.#origins.keys().next().value!)
    return seen.add(number)
  }
}

/** One bit for each of the latest numbers, in a ring. */
class Seen {
  #highest = -1
  readonly #bits = new Uint8Array(WINDOW / 8)

  add(number: number): boolean {
    if (number <= this.#highest - WINDOW) return false
    if (number > this.#highest) {
      if (number - this.#highest >= WINDOW) this.#bits.fill(0)
      else for (let passed = this.#highest + 1; passed < number; passed++) this.#clear(passed)
      this.#clear(number)
      this.#highest = number
    }
    const index = (number % WINDOW) >> 3
    const bit = 1 << (number & 7)
    if ((this.#bits[index]! & bit) !== 0) return false
    this.#bits[index]! |= bit
    return true
  }

  #clear(number: number): void {
    this.#bits[(number % WINDOW) >> 3]! &= ~(1 << (number & 7))
  }
}
