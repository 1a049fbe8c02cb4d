import { decodeRecord } from '../../envelope.ts'
import type { LogFollower, LogSubscription } from '../../history.ts'
import type { Position } from '../../marks.ts'
import type { NatsClient, NatsHeaders, NatsMessage, NatsSubscription } from './client.ts'
import { birthOf, type StreamState, type TopicStream } from './stream.ts'

/** Entries that are kept while older ones are read. */
const MAX_EARLY = 1_024
/** How long to wait after something has failed, in milliseconds. */
const RETRY_MS = 1_000

const SEQUENCE = /^[1-9]\d{0,15}$/

/** An entry as it comes from the server. */
interface RawEntry {
  /** Of the stream that it is in. */
  readonly birth: string
  readonly sequence: number
  /** Undefined when another program has written it. */
  readonly id: string | undefined
  readonly data: Uint8Array
}

/**
 * Follows one history. The server publishes what it has stored, with its number: as long as the numbers go on by one
 * that is all. When one is missing, and after each outage, what is missing is read from the stream.
 */
export class TopicFollower implements LogSubscription {
  /** Where it has begun. */
  position: Position = { epoch: '', sequence: 0 }
  /** When something was heard from the server last. */
  heardAt: number = performance.now()

  readonly #connection: NatsClient
  readonly #stream: TopicStream
  readonly #host: LogFollower
  readonly #stopped: () => void
  #subscription: NatsSubscription | undefined
  #refused: Error | undefined
  /** The last entry that was told of. */
  #current: Position = this.position
  /** Its id: a server that was cut off hard may have lost the last entries, and given their numbers to others. */
  #currentId: string | undefined
  /** While the stream is read: what comes meanwhile. */
  #early: RawEntry[] | undefined = []
  #hasBegun = false
  #isReading = false
  /** There was an outage, and it was not seen yet whether the stream is what it was. */
  #isDoubtful = false
  #isStopped = false
  #timer: NodeJS.Timeout | undefined

  constructor(connection: NatsClient, stream: TopicStream, host: LogFollower, stopped: () => void) {
    this.#connection = connection
    this.#stream = stream
    this.#host = host
    this.#stopped = stopped
  }

  async begin(): Promise<void> {
    this.#subscription = this.#connection.subscribe(this.#stream.names.liveSubjects, {
      callback: (error: Error | null, message: NatsMessage): void => {
        if (error === null) this.#hear(message)
        else this.#refused = error
      },
    })
    try {
      // Behind the subscription: what comes later than this answer is heard.
      const { epoch, last } = await this.#stream.state()
      if (this.#refused !== undefined) throw this.#refused
      this.position = { epoch, sequence: last }
      this.#current = this.position
      this.#hasBegun = true
    } catch (error) {
      this.stop()
      throw error
    }
    if (!this.#takeEarly()) void this.read()
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#subscription?.unsubscribe()
    this.#stopped()
  }

  /** The server is away: what it says after that is not believed before it is known what it has. */
  doubt(): void {
    this.#isDoubtful = true
    this.#early ??= []
  }

  /** Reads what is missing. It resolves when nothing is, or when it has failed, to be tried again later. */
  async read(): Promise<void> {
    if (!this.#hasBegun || this.#isReading || this.#isStopped) return
    this.#isReading = true
    clearTimeout(this.#timer)
    try {
      await this.#readAll()
      this.heardAt = performance.now()
    } catch {
      if (!this.#isStopped) this.#timer = setTimeout(() => void this.read(), RETRY_MS).unref()
    } finally {
      this.#isReading = false
    }
  }

  // ── live ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #hear(message: NatsMessage): void {
    const entry = this.#parse(message)
    if (entry === undefined) {
      // Somebody asks whether the topic is followed, or tells that the stream has changed; or it is garbage.
      answer(message)
      void this.read()
      return
    }
    this.heardAt = performance.now()
    if (this.#early === undefined && !this.#take(entry)) {
      this.#early = []
      void this.read()
    }
    if (this.#early === undefined) return
    if (this.#early.length === MAX_EARLY) this.#early = []
    this.#early.push(entry)
  }

  #parse({ subject, headers, data }: NatsMessage): RawEntry | undefined {
    const sequence = headers?.get('Nats-Sequence') ?? ''
    if (!SEQUENCE.test(sequence) || headers!.get('Nats-Stream') !== this.#stream.names.stream) return undefined
    const birth = this.#stream.names.birthOfLive(subject)
    return { birth, sequence: Number(sequence), id: idOf(headers!), data }
  }

  /** False when something is missing before it. */
  #take(entry: RawEntry): boolean {
    const { epoch, sequence } = this.#current
    if (entry.birth !== birthOf(epoch) || entry.sequence > sequence + 1) return false
    if (entry.sequence === sequence + 1) this.#tell(entry.sequence, entry.id, entry.data)
    return true
  }

  /** What has come while the stream was read; false when something is missing in between. */
  #takeEarly(): boolean {
    for (const entry of this.#early ?? []) {
      if (!this.#take(entry)) return false
    }
    this.#early = undefined
    return true
  }

  #tell(sequence: number, id: string | undefined, data: Uint8Array): void {
    if (this.#isStopped) return
    this.#current = { epoch: this.#current.epoch, sequence }
    this.#currentId = id
    const record = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    this.#host.entry({ sequence, message: decodeRecord(record) })
  }

  // ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

  async #readAll(): Promise<void> {
    while (!this.#isStopped) {
      if (this.#isDoubtful) await this.#resolveDoubt()
      // What has come so far is in the stream.
      this.#early = []
      const isAtEnd = await this.#readPage()
      if (isAtEnd && !this.#isDoubtful && this.#takeEarly()) return
    }
  }

  async #resolveDoubt(): Promise<void> {
    // There may be new doubts meanwhile.
    this.#isDoubtful = false
    try {
      const state = await this.#stream.state()
      const isSameStream = birthOf(state.epoch) === birthOf(this.#current.epoch)
      if (isSameStream && !(await this.#isIntact(state))) await this.#renew(state)
    } catch (error) {
      this.#isDoubtful = true
      throw error
    }
  }

  /** Whether the last entry is what it was, as far as can be told. */
  async #isIntact({ first, last }: StreamState): Promise<boolean> {
    const { sequence } = this.#current
    if (sequence < first) return true
    if (sequence > last) return false
    if (this.#currentId === undefined) return true
    const message = await this.#stream.message(sequence)
    return message === undefined || idOf(message.header) === this.#currentId
  }

  /** The stream gets another epoch, so that everybody knows, unless it has one already. */
  async #renew(state: StreamState): Promise<void> {
    const { epoch } = this.#current
    const renewed = state.epoch === epoch ? await this.#stream.renew(epoch) : state
    this.#reset({ epoch: renewed.epoch, sequence: renewed.last })
  }

  /** False when there is more. */
  async #readPage(): Promise<boolean> {
    const page = await this.#stream.page(this.#current.sequence)
    const { epoch, first, last, messages } = page
    if (this.#isStopped) return true
    const { sequence } = this.#current
    if (epoch !== this.#current.epoch) {
      const isSameStream = birthOf(epoch) === birthOf(this.#current.epoch)
      this.#reset({ epoch, sequence: isSameStream ? Math.min(sequence, last) : first - 1 })
      return false
    }
    if (first > sequence + 1) {
      this.#reset({ epoch, sequence: first - 1 })
      return false
    }
    if (last < sequence) {
      // The server has lost the end of it.
      await this.#renew(page)
      return false
    }
    messages.forEach((message, index) => {
      this.#tell(sequence + 1 + index, idOf(message.header), message.data)
    })
    return this.#current.sequence >= last
  }

  #reset(position: Position): void {
    if (this.#isStopped) return
    this.#current = position
    this.#currentId = undefined
    this.#host.reset(position)
  }
}

/** The client would stop to read if this function threw; and it throws while it is being closed. */
function answer(message: NatsMessage): void {
  try {
    message.respond()
  } catch {
    // Nobody needs the answer then.
  }
}

function idOf(headers: NatsHeaders): string | undefined {
  return headers.get('Nats-Msg-Id') || undefined
}
