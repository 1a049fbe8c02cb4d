import type { Line } from './lines.ts'
import { type ExchangeItem, formatMessage, type MemberItem } from './wire.ts'

/** Items of one step of the program travel together up to this, in bytes; a longer one goes alone. */
const BATCH_BYTES = 262_144
/** What an item takes beside its bytes, about. */
const ITEM_BYTES = 64

interface Batch<Item> {
  readonly items: Item[]
  bytes: number
  readonly sent: Promise<void>
  settle(error: Error | null): void
}

/** What one side has to say to the other: in order, and so that it is known how much of it is under way. */
export class Outgoing<Item extends MemberItem | ExchangeItem> {
  readonly #line: Line
  readonly #member: string
  readonly #drained: (() => void) | undefined
  #next: Batch<Item> | undefined
  readonly #sent = new Set<Batch<Item>>()
  #bytes = 0
  #isScheduled = false
  #error: Error | undefined

  /** `drained` is called whenever nothing is under way any more. */
  constructor(line: Line, member: string, drained?: () => void) {
    this.#line = line
    this.#member = member
    this.#drained = drained
  }

  /** What waits or is under way, in bytes. */
  get bytes(): number {
    return this.#bytes
  }

  /** Resolves when the other side, or the system, has the item. Nobody need ask. */
  add(item: Item, itemBytes = 0): Promise<void> {
    if (this.#error !== undefined) {
      const failed = Promise.reject(this.#error)
      failed.catch(() => {})
      return failed
    }
    const bytes = itemBytes + ITEM_BYTES
    if (this.#next !== undefined && this.#next.bytes + bytes > BATCH_BYTES) this.#send()
    this.#next ??= newBatch()
    this.#next.items.push(item)
    this.#next.bytes += bytes
    this.#bytes += bytes
    if (!this.#isScheduled) {
      this.#isScheduled = true
      process.nextTick(() => {
        this.#isScheduled = false
        this.#send()
      })
    }
    return this.#next.sent
  }

  /** Adds an item, and waits for it to be sent or to fail, but not for longer than this, in milliseconds. */
  async addLast(item: Item, timeMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeMs)
    })
    await Promise.race([this.add(item).catch(() => {}), late])
    clearTimeout(timer)
  }

  /** It is over: what is not known to have arrived fails, and so does what comes now. */
  end(error: Error): void {
    this.#error ??= error
    const batches = [...this.#sent]
    if (this.#next !== undefined) batches.push(this.#next)
    this.#next = undefined
    this.#sent.clear()
    this.#bytes = 0
    for (const { settle } of batches) settle(error)
  }

  #send(): void {
    const batch = this.#next
    if (batch === undefined) return
    this.#next = undefined
    this.#sent.add(batch)
    this.#line.send(formatMessage(this.#member, batch.items), (error) => {
      if (!this.#sent.delete(batch)) return
      this.#bytes -= batch.bytes
      batch.settle(error)
      if (this.#bytes === 0) this.#drained?.()
    })
  }
}

function newBatch<Item>(): Batch<Item> {
  let settle!: (error: Error | null) => void
  const sent = new Promise<void>((resolve, reject) => {
    settle = (error) => (error === null || error === undefined ? resolve() : reject(error))
  })
  sent.catch(() => {})
  return { items: [], bytes: 0, sent, settle }
}
