import { setTimeout as sleep } from 'node:timers/promises'
import { verify } from '../../load/frames.ts'
import { Client, forEach } from './client.ts'
import type { Dialect } from './dialects.ts'
import type { Lane, LatencyResult } from './requests.ts'
import { Schedule, topicName } from './schedule.ts'

/** Topics in one request to join. */
const TOPICS_AT_ONCE = 100
/** Between two messages whose latency is measured: nothing is busy with the last one any more. */
const PAUSE_MS = 2

/** A publisher and its subscribers. Every byte that comes is compared with what has to come next. */
export class LaneDriver {
  readonly #lane: Lane
  readonly #dialect: Dialect
  readonly #schedule: Schedule
  readonly #fail: (error: Error) => void
  #publisher: Client | undefined
  readonly #subscribers: Client[] = []
  /** Of each subscriber: where in what it has to get it is, and how much it has got. */
  readonly #positions: number[] = []
  readonly #received: number[] = []
  /** Since the beginning. */
  #published = 0
  /** Bytes that are under way to subscribers. */
  #missingBytes = 0
  #arrived: (index: number) => void = () => {}

  constructor(lane: Lane, dialect: Dialect, fail: (error: Error) => void) {
    this.#lane = lane
    this.#dialect = dialect
    this.#schedule = new Schedule(lane, dialect)
    this.#fail = fail
  }

  async open(): Promise<void> {
    const ports = this.#lane.subscribers.flatMap(({ port, count }) => Array.from({ length: count }, () => port))
    await forEach(ports.length, async (index) => {
      const client = await this.#connect(ports[index]!)
      this.#subscribers[index] = client
      const topics = this.#schedule.topicsOf[index]!.map(topicName)
      await join(client, this.#dialect, topics)
      this.#positions[index] = 0
      this.#received[index] = 0
      client.stream((bytes, buffer) => this.#receive(index, bytes, buffer))
    })
    this.#publisher = await this.#connect(this.#lane.publisher)
  }

  async #connect(port: number): Promise<Client> {
    const client = await Client.open(port, this.#dialect.path, this.#fail)
    await this.#dialect.enter(client)
    return client
  }

  #receive(index: number, bytes: number, buffer: Buffer): void {
    const expected = this.#schedule.expected[index]!
    try {
      if (expected.length === 0) throw new Error('nothing was to come')
      this.#positions[index] = verify(expected, this.#positions[index]!, buffer, bytes)
    } catch {
      this.#fail(new Error(`subscriber ${index} got something that was not to come next`))
    }
    this.#received[index]! += bytes
    this.#missingBytes -= bytes
    if (this.#missingBytes < 0) this.#fail(new Error('more came than was published'))
    this.#arrived(index)
  }

  #publish(): number {
    const { batch } = this.#lane
    const deliveries = this.#schedule.deliveries(this.#published, batch)
    this.#missingBytes += deliveries * this.#schedule.frameBytes
    this.#publisher?.write(this.#schedule.requests(this.#published, batch))
    this.#published += batch
    return deliveries
  }

  /** Publishes until then, and waits until everything has arrived. */
  run(end: number): Promise<{ messages: number; deliveries: number }> {
    const before = this.#published
    let deliveries = 0
    return new Promise((resolve) => {
      const next = () => {
        if (this.#missingBytes > 0) return
        if (performance.now() < end) {
          deliveries += this.#publish()
          return
        }
        this.#arrived = () => {}
        this.#check()
        resolve({ messages: this.#published - before, deliveries })
      }
      this.#arrived = next
      next()
    })
  }

  /** One message at a time, with a pause behind each. */
  async latency(end: number): Promise<LatencyResult> {
    const times: number[][] = this.#subscribers.map(() => [])
    while (performance.now() < end) {
      let start = 0
      await new Promise<void>((resolve) => {
        this.#arrived = (index) => {
          times[index]!.push(performance.now() - start)
          if (this.#missingBytes === 0) resolve()
        }
        start = performance.now()
        this.#publish()
      })
      await sleep(PAUSE_MS)
    }
    this.#arrived = () => {}
    this.#check()
    return times.map((each) => {
      const sorted = each.toSorted((a, b) => a - b)
      const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
      return { messages: sorted.length, p50: at(0.5), p99: at(0.99) }
    })
  }

  /** Everybody has got exactly what was for them. */
  #check(): void {
    const due = this.#schedule.bytesAfter(this.#published)
    const wrong = due.findIndex((bytes, index) => bytes !== this.#received[index])
    if (wrong >= 0) {
      this.#fail(new Error(`subscriber ${wrong} has got ${this.#received[wrong]} bytes instead of ${due[wrong]}`))
    }
  }

  close(): void {
    this.#publisher?.close()
    for (const client of this.#subscribers) client?.close()
  }
}

/** Resolves when the server has taken all of them. */
export async function join(client: Client, dialect: Dialect, topics: readonly string[]): Promise<void> {
  for (let at = 0; at < topics.length; at += TOPICS_AT_ONCE) {
    await dialect.change(client, '+', topics.slice(at, at + TOPICS_AT_ONCE))
  }
}
