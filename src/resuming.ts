import type { Message } from './inbox.ts'
import { HELLO, parseMark, RESUME_PARAMETER, unescapeText } from './marks.ts'

/*
 * The client's side of histories: it keeps in mind where it is in each topic, says so when it comes back, and takes the
 * server's marks out of what it hands on.
 */

/** So much of a URL may say where we are, in characters; topics that do not fit in are reported as gaps when it counts. */
const MAX_RESUME_LENGTH = 8_192

export class Resumption {
  /** The position of the last message of each topic that was handed on; the latest comes last. */
  readonly #positions = new Map<string, string>()
  readonly #onGap: (topic: string) => void
  #isFirst = true
  /** The server has said that it knows of this. */
  #isOn = false
  /** Where the next message stands. */
  #next: { readonly topic: string; readonly position: string } | undefined

  /** @param onGap something is missing in a topic. */
  constructor(onGap: (topic: string) => void) {
    this.#onGap = onGap
  }

  /** A new connection begins; returns its URL. */
  begin(url: string | URL): string {
    this.#isFirst = true
    this.#isOn = false
    this.#next = undefined
    const told = new URLSearchParams()
    let length = 0
    for (const [topic, position] of [...this.#positions].reverse()) {
      // Encoded twice, three characters can become of a byte, and five of each of those that are no letters.
      length += encodeURIComponent(encodeURIComponent(topic)).length + position.length + 8
      if (length > MAX_RESUME_LENGTH) break
      told.set(topic, position)
    }
    const resumed = new URL(url)
    resumed.searchParams.set(RESUME_PARAMETER, told.toString())
    return resumed.href
  }

  /** The message to hand on; undefined for what was meant for us. */
  receive(data: Message): Message | undefined {
    if (this.#isFirst) {
      this.#isFirst = false
      this.#isOn = data === HELLO
      if (this.#isOn) return undefined
      // Another server, or one that keeps no histories any more.
      for (const topic of this.#positions.keys()) this.#onGap(topic)
      this.#positions.clear()
    }
    if (!this.#isOn) return data
    const message = typeof data === 'string' ? unescapeText(data) : data
    if (message === undefined) this.#takeMark(data as string)
    else if (this.#next !== undefined) {
      this.#set(this.#next.topic, this.#next.position)
      this.#next = undefined
    }
    return message
  }

  #takeMark(text: string): void {
    const mark = parseMark(text)
    if (mark === undefined || mark.type === 'hello') return
    const { topic } = mark
    if (mark.type === 'unsubscribed') this.#positions.delete(topic)
    else if (mark.type === 'position') this.#next = mark
    else {
      const known = this.#positions.get(topic)
      this.#set(topic, mark.position)
      // Also when the server has not heard where we were.
      if (mark.type === 'gap' || (known !== undefined && known !== mark.position)) this.#onGap(topic)
    }
  }

  #set(topic: string, position: string): void {
    this.#positions.delete(topic)
    this.#positions.set(topic, position)
  }
}
