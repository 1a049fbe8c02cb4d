/*
 * The client's side of topics with a history, in pages and in Node: it keeps in mind where it is in each topic, says so
 * when it comes back, and takes the server's marks out of what it hands on. One file without imports.
 */

/** So much of a URL may say where we are, in characters; topics that do not fit in are reported as gaps when it counts. */
const MAX_RESUME_LENGTH = 8_192

/** Positions of one client, over all its connections. What the marks are is said in the server's marks.ts. */
export class Resumption {
  /** The position of the last message of each topic that was handed on; the latest comes last. */
  readonly #positions = new Map<string, string>()
  readonly #onGap: (topic: string) => void
  #isFirst = true
  /** The server has said that it knows of this. */
  #isOn = false
  /** Topic and position of the next message. */
  #next: readonly [string, string] | undefined

  /** @param onGap something is missing in a topic. */
  constructor(onGap: (topic: string) => void) {
    this.#onGap = onGap
  }

  /** A new connection begins; returns its URL, or whatever part of that it is given: with a query at the end. */
  begin(url: string): string {
    this.#isFirst = true
    this.#isOn = false
    this.#next = undefined
    let told = ''
    for (const [topic, position] of [...this.#positions].reverse()) {
      const more = encodeURIComponent(`${encodeURIComponent(topic)}=${position}&`)
      if (told.length + more.length > MAX_RESUME_LENGTH) break
      told += more
    }
    return `${url}${url.includes('?') ? '&' : '?'}resume=${told}`
  }

  /** The message to hand on; undefined for what was meant for us. */
  receive<Data>(data: Data | string): Data | string | undefined {
    if (this.#isFirst) {
      this.#isFirst = false
      this.#isOn = data === '\u0001h'
      if (this.#isOn) return undefined
      // Another server, or one that keeps no histories any more.
      for (const topic of this.#positions.keys()) this.#onGap(topic)
      this.#positions.clear()
    }
    if (this.#isOn && typeof data === 'string' && data[0] === '\u0001') {
      if (data[1] !== '\u0001') {
        this.#takeMark(data)
        return undefined
      }
      data = data.slice(1)
    }
    if (this.#next !== undefined) this.#set(...this.#next)
    this.#next = undefined
    return data
  }

  #takeMark(mark: string): void {
    const type = mark[1]
    const rest = mark.slice(3)
    const space = rest.indexOf(' ')
    const position = rest.slice(0, space)
    const topic = rest.slice(space + 1)
    if (type === 'u') this.#positions.delete(rest)
    else if (type === 'p') this.#next = [topic, position]
    else if (type === 's' || type === 'g') {
      const known = this.#positions.get(topic)
      this.#set(topic, position)
      // Also when the server has not heard where we were.
      if (type === 'g' || (known !== undefined && known !== position)) this.#onGap(topic)
    }
  }

  #set(topic: string, position: string): void {
    this.#positions.delete(topic)
    this.#positions.set(topic, position)
  }
}

/** What `resuming` adds to the options of `connectToApp`. */
export interface ResumingOptions {
  /** Path of the WebSocket, with a query if there is one. Default `/`. */
  readonly path?: string | (() => string) | undefined
  /** A message. */
  message?(data: string | Uint8Array): void
  /** Something is missing in a topic, as its history does not reach back far enough, or is another one. */
  gap?(topic: string): void
}

/** Options for `connectToApp`. */
export type Resumed<Options> = Omit<Options, keyof ResumingOptions> & {
  path(): string
  message(data: string | Uint8Array): void
}

/**
 * Options for `connectToApp` with which it goes on where it was: what was published to topics with a history while the
 * page was not connected arrives first, in order, each message once. Of what it is given it adds `gap`.
 *
 *     connectToApp(resuming({ possiblePorts, token, message, gap }))
 */
export function resuming<Options extends ResumingOptions>(options: Options): Resumed<Options> {
  const { path = '/', gap, message, ...others } = options
  // What a handler throws goes to the page's error events, and not into the bookkeeping.
  const resumption = new Resumption((topic) => queueMicrotask(() => gap?.call(options, topic)))
  return {
    ...others,
    path: () => resumption.begin(typeof path === 'function' ? path() : path),
    message(data: string | Uint8Array) {
      const received = resumption.receive(data)
      if (received !== undefined) message?.call(options, received)
    },
  }
}
