import type { LogFollower, LogPage, LogSubscription, ResolvedHistoryLimits, TopicLog } from './history.ts'
import { randomId } from './ids.ts'
import type { Position } from './marks.ts'
import type { PreparedMessage } from './prepared.ts'

/** How often messages are looked for that are too old, at the most, in milliseconds. */
const EXPIRY_MS = 1_000
/** Longest time that the number of a last message is kept which nobody asks for, in milliseconds. */
const MAX_IDLE_MS = 3_600_000

/** Histories in the memory of this process. They end with it. */
export class MemoryLog implements TopicLog {
  readonly #epoch = randomId()
  readonly #rings = new Map<string, Ring>()
  /** The numbers of topics whose rings are gone go on behind all that there were. */
  #highest = 0
  #expiredAt = 0

  /** How many topics it knows of. */
  get size(): number {
    return this.#rings.size
  }

  append(topic: string, message: PreparedMessage, limits: ResolvedHistoryLimits): Position {
    return { epoch: this.#epoch, sequence: this.#ring(topic).append(message, limits) }
  }

  read(topic: string, after: number): LogPage {
    const ring = this.#rings.get(topic)
    ring?.expire()
    if (ring === undefined) return { epoch: this.#epoch, first: this.#highest + 1, entries: [] }
    return { epoch: this.#epoch, first: ring.first, entries: ring.entriesAfter(after) }
  }

  follow(topic: string, follower: LogFollower): LogSubscription {
    const ring = this.#ring(topic)
    ring.follower = follower
    return {
      position: { epoch: this.#epoch, sequence: ring.last },
      stop: () => {
        ring.follower = undefined
        ring.usedAt = performance.now()
        // Nothing was ever in it: who comes back to it has missed nothing, whatever number is its first then.
        if (ring.isUnused) this.#rings.delete(topic)
      },
    }
  }

  /** Lets go of what is too old; to be called now and then. */
  tick(): void {
    const now = performance.now()
    if (now - this.#expiredAt < EXPIRY_MS) return
    this.#expiredAt = now
    for (const [topic, ring] of this.#rings) {
      ring.expire()
      if (ring.isIdle(now)) this.#drop(topic, ring)
    }
  }

  #ring(topic: string): Ring {
    let ring = this.#rings.get(topic)
    if (ring === undefined) {
      ring = new Ring(this.#highest + 1)
      this.#rings.set(topic, ring)
    }
    return ring
  }

  /** Who comes back to it now cannot be told whether something was in it. */
  #drop(topic: string, ring: Ring): void {
    this.#highest = Math.max(this.#highest, ring.last + 1)
    this.#rings.delete(topic)
  }
}

interface Kept {
  readonly message: PreparedMessage
  readonly at: number
}

/** The history of one topic. */
class Ring {
  follower: LogFollower | undefined = undefined
  /** When it was last written to or followed. */
  usedAt: number = performance.now()
  /** Number of the oldest entry that is there, or of the next one. */
  first: number
  /** What is before `#start` is gone; the array is cut now and then. */
  #kept: (Kept | undefined)[] = []
  #start = 0
  #bytes = 0
  #maxAgeMs = Number.POSITIVE_INFINITY

  constructor(first: number) {
    this.first = first
  }

  get isUnused(): boolean {
    return this.#maxAgeMs === Number.POSITIVE_INFINITY && this.#kept.length === 0
  }

  get size(): number {
    return this.#kept.length - this.#start
  }

  get last(): number {
    return this.first + this.size - 1
  }

  append(message: PreparedMessage, { maxMessages, maxAgeMs, maxBytes }: ResolvedHistoryLimits): number {
    this.#maxAgeMs = maxAgeMs
    this.usedAt = performance.now()
    this.#kept.push({ message, at: this.usedAt })
    this.#bytes += message.payload.length
    while (this.size > maxMessages || this.#bytes > maxBytes) this.#shift()
    this.expire()
    const sequence = this.last
    // A listener may append as well.
    this.follower?.entry({ sequence, message })
    return sequence
  }

  expire(): void {
    const oldest = performance.now() - this.#maxAgeMs
    while (this.size > 0 && this.#kept[this.#start]!.at < oldest) this.#shift()
  }

  /** Nobody follows it, and nothing is in it, for as long as messages are kept. */
  isIdle(now: number): boolean {
    if (this.follower !== undefined || this.size > 0) return false
    return now - this.usedAt > Math.min(this.#maxAgeMs, MAX_IDLE_MS)
  }

  entriesAfter(sequence: number): { sequence: number; message: PreparedMessage }[] {
    const from = sequence + 1 - this.first
    if (from < 0) return []
    return this.#kept.slice(this.#start + from).map((kept, index) => ({
      sequence: sequence + 1 + index,
      message: kept!.message,
    }))
  }

  #shift(): void {
    this.#bytes -= this.#kept[this.#start]!.message.payload.length
    this.#kept[this.#start] = undefined
    this.#start++
    this.first++
    if (this.#start * 2 <= this.#kept.length) return
    this.#kept.splice(0, this.#start)
    this.#start = 0
  }
}
