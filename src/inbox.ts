import type { CloseEvent } from './protocol.ts'

/** Messages that wait before the peer is held back ... */
const MAX_WAITING_MESSAGES = 16
/** ... or bytes of them. */
const MAX_WAITING_BYTES = 65_536

/** A message: a text as string, or binary. */
export type Message = string | Buffer

interface Reader<Entry> {
  resolve(result: IteratorResult<Entry, undefined>): void
  reject(error: Error): void
}

/**
 * Messages of one connection that nobody takes right now: its handler is still at work on an earlier one, or there is
 * no handler and they are read by iteration. It exists only while it is needed.
 */
export class Inbox<Entry extends { readonly length: number } = Message> {
  /** A handler's promise is pending. */
  busy = false
  /** Messages are read by iteration and given to no handler. */
  iterated = false
  /** Somebody has begun to read them. */
  taken = false
  /** The connection has ended; to be told behind the last message. */
  closeEvent: CloseEvent | undefined = undefined

  #messages: Entry[] = []
  #bytes = 0
  #readers: Reader<Entry>[] = []
  #end: { error: Error | undefined } | undefined = undefined

  get empty(): boolean {
    return this.#messages.length === 0
  }

  /** The peer should wait. */
  get full(): boolean {
    return this.#messages.length >= MAX_WAITING_MESSAGES || this.#bytes >= MAX_WAITING_BYTES
  }

  push(message: Entry): void {
    const reader = this.#readers.shift()
    if (reader !== undefined) {
      reader.resolve({ done: false, value: message })
      return
    }
    this.#messages.push(message)
    this.#bytes += message.length
  }

  shift(): Entry | undefined {
    const message = this.#messages.shift()
    if (message !== undefined) this.#bytes -= message.length
    return message
  }

  clear(): void {
    this.#messages = []
    this.#bytes = 0
  }

  /** The next message, when there is one; the end of the iteration behind the last. */
  read(): Promise<IteratorResult<Entry, undefined>> {
    const message = this.shift()
    if (message !== undefined) return Promise.resolve({ done: false, value: message })
    if (this.#end === undefined) return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }))
    const { error } = this.#end
    this.#end.error = undefined
    return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error)
  }

  /** No message will come any more; an error is told once, to whoever reads next. */
  end(error: Error | undefined): void {
    const [first, ...others] = this.#readers
    this.#readers = []
    this.#end = { error: first === undefined ? error : undefined }
    if (first !== undefined && error !== undefined) first.reject(error)
    else first?.resolve({ done: true, value: undefined })
    for (const reader of others) reader.resolve({ done: true, value: undefined })
  }
}
