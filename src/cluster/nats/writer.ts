import { asError } from '../../handlers.ts'
import type { ResolvedHistoryLimits } from '../../history.ts'
import type { Position } from '../../marks.ts'
import { ApiCode, apiCode, isFinal, reachedNobody } from './failures.ts'
import { birthOf, duplicateWindowMs, type StreamContext, type TopicStream } from './stream.ts'

/** How long it is tried to store a message, in milliseconds. */
const TRY_MS = 5_000
/** How long one answer is waited for, in milliseconds. */
const ANSWER_MS = 2_000
/** How long to wait before it is tried again, in milliseconds. */
const PAUSE_MS = 100
/** So many messages of one topic may be on their way. */
const WINDOW = 256
/** No stream has so many messages: what expects this to be the last one is not stored, but told of if it was before. */
const NO_SEQUENCE = Number.MAX_SAFE_INTEGER

/** A message that is to be stored. */
interface Entry {
  readonly order: number
  readonly id: string
  readonly record: Buffer
  /** When to give up. */
  readonly until: number
  /** Until when it may be sent again: the server knows its id. Undefined before it was sent. */
  repeatableUntil: number | undefined
  /** The birth of the stream in which it may be stored, without our knowing it. */
  maybeIn: string | undefined
  error: Error | undefined
  readonly resolve: (position: Position) => void
  readonly reject: (error: Error) => void
}

/**
 * Stores the messages of one topic, in the order in which they were given, each once. Many are on their way at a time.
 * When something goes wrong nothing more is sent before all answers are there or have failed to come. Then the server is
 * asked for those whose fate is not known, by their ids; and what was not stored is sent again, in order, unless
 * something behind it was.
 */
export class TopicWriter {
  readonly #stream: TopicStream
  readonly #context: StreamContext
  readonly #nextId: () => string
  #limits: ResolvedHistoryLimits | undefined
  /** Waiting, in order. */
  #queue: Entry[] = []
  #underWay = 0
  #order = 0
  /** The latest message that was stored. */
  #stored = -1
  /** Those that have failed while others are still under way. */
  #failed: Entry[] = []
  /** Nothing is sent: something has failed. */
  #isHalted = false
  /** Nothing is sent: the stream is being looked for. */
  #isLocating = false
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(stream: TopicStream, context: StreamContext, nextId: () => string) {
    this.#stream = stream
    this.#context = context
    this.#nextId = nextId
  }

  /** Whether nothing is to be done. */
  get isIdle(): boolean {
    return this.#queue.length === 0 && this.#underWay === 0 && this.#failed.length === 0
  }

  append(record: Buffer, limits: ResolvedHistoryLimits): Promise<Position> {
    this.#limits = limits
    return new Promise((resolve, reject) => {
      this.#queue.push({
        order: this.#order++,
        id: this.#nextId(),
        record,
        until: performance.now() + TRY_MS,
        repeatableUntil: undefined,
        maybeIn: undefined,
        error: undefined,
        resolve,
        reject,
      })
      this.#send()
    })
  }

  close(error: Error): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    for (const entry of [...this.#queue.splice(0), ...this.#failed.splice(0)]) entry.reject(error)
  }

  // ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #send(): void {
    if (this.#isHalted || this.#isLocating || this.#queue.length === 0) return
    const epoch = this.#stream.known(this.#limits!)
    if (epoch === undefined) {
      this.#locate(this.#limits!)
      return
    }
    while (this.#queue.length > 0 && this.#underWay < WINDOW) this.#sendOne(this.#queue.shift()!, epoch)
  }

  #locate(limits: ResolvedHistoryLimits): void {
    this.#isLocating = true
    this.#stream.locate(limits).then(
      () => {
        this.#isLocating = false
        if (this.#isHalted) this.#resume()
        else this.#send()
      },
      (error: unknown) => {
        this.#isLocating = false
        if (isFinal(error)) for (const entry of this.#queue.splice(0)) entry.reject(asError(error))
        for (const entry of this.#queue) entry.error ??= asError(error)
        this.#halt()
      },
    )
  }

  /** Sends it to be stored, or to find out whether it was. */
  #sendOne(entry: Entry, epoch: string, purpose: 'store' | 'ask' = 'store'): void {
    const birth = birthOf(epoch)
    if (entry.maybeIn !== undefined && entry.maybeIn !== birth) {
      entry.reject(new Error('the history was lost while the message was on its way', { cause: entry.error }))
      return
    }
    const { id, record, until } = entry
    const now = performance.now()
    entry.repeatableUntil ??= now + duplicateWindowMs(this.#limits!) / 2
    const timeout = Math.max(PAUSE_MS, Math.min(ANSWER_MS, until - now))
    const expect = purpose === 'ask' ? { expect: { lastSequence: NO_SEQUENCE } } : {}
    const { jetstream, link } = this.#context
    const subject = this.#stream.names.logSubject(birth)
    this.#underWay++
    link
      .guard(() => jetstream.publish(subject, record, { msgID: id, timeout, ...expect }))
      .then(
        ({ seq }) => {
          this.#stored = Math.max(this.#stored, entry.order)
          entry.resolve({ epoch, sequence: seq })
        },
        (error: unknown) => this.#fail(entry, birth, asError(error)),
      )
      .finally(() => {
        this.#underWay--
        if (this.#isHalted) this.#halt()
        else this.#send()
      })
  }

  #fail(entry: Entry, birth: string, error: Error): void {
    const wasNotStored = apiCode(error) === ApiCode.WRONG_LAST_SEQUENCE
    if (this.#isClosed || (isFinal(error) && !wasNotStored)) {
      entry.reject(error)
      return
    }
    if (wasNotStored) {
      entry.maybeIn = undefined
    } else {
      entry.error = error
      if (reachedNobody(error)) this.#stream.forget()
      else entry.maybeIn = birth
    }
    this.#failed.push(entry)
    this.#isHalted = true
  }

  // ── trying again ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** When everything that was under way is back, what has failed goes before what waits. */
  #halt(): void {
    this.#isHalted = true
    if (this.#underWay > 0) return
    for (const entry of this.#failed.splice(0).sort((one, other) => other.order - one.order)) {
      if (entry.maybeIn !== undefined || entry.order > this.#stored) this.#queue.unshift(entry)
      else entry.reject(new Error('the message was lost, and one behind it was stored', { cause: entry.error }))
    }
    this.#pause()
  }

  #pause(): void {
    if (this.#isClosed) return
    const now = performance.now()
    this.#queue = this.#queue.filter((entry) => {
      const isOver = now >= Math.min(entry.until, entry.repeatableUntil ?? entry.until)
      if (isOver) entry.reject(entry.error ?? new Error('the server has not taken the message in time'))
      return !isOver
    })
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#resume(), PAUSE_MS).unref()
  }

  #resume(): void {
    if (this.#isLocating || this.#underWay > 0) return
    if (this.#queue.length > 0 && !this.#context.link.isUp) {
      this.#pause()
      return
    }
    const doubtful = this.#queue.filter(({ maybeIn }) => maybeIn !== undefined)
    if (doubtful.length === 0) {
      this.#isHalted = false
      this.#send()
      return
    }
    const epoch = this.#stream.known(this.#limits!)
    if (epoch === undefined) {
      this.#locate(this.#limits!)
      return
    }
    this.#queue = this.#queue.filter(({ maybeIn }) => maybeIn === undefined)
    for (const entry of doubtful) this.#sendOne(entry, epoch, 'ask')
    if (this.#underWay === 0) this.#halt()
  }
}
