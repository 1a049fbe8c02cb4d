import { isMainThread, threadId } from 'node:worker_threads'
import { randomId } from '../../ids.ts'
import { type Line, type LineListener, openChannel, ParentLine, ThreadLine } from './lines.ts'
import { hasExchange, onExchange } from './local.ts'
import { Outgoing } from './outgoing.ts'
import { Pulse } from './pulse.ts'
import {
  CALLING_CHANNEL,
  type Call,
  type Encoding,
  type ExchangeItem,
  encodePayload,
  encodingOf,
  type MemberItem,
  type Payload,
  PROBE,
  parseExchangeItem,
  parseMessage,
} from './wire.ts'

/** Time until the exchange is called again that has not answered, in milliseconds: at first, and at the most. */
const FIRST_RETRY_MS = 500
const MAX_RETRY_MS = 8_000
/** Calls without an answer behind which the exchange counts as away. */
const CALLS_UNTIL_AWAY = 2
/** How long the exchange may take, at the end, to be told, in milliseconds. */
const CLOSE_MS = 1_000
/** So much may wait for the exchange, in bytes; questions on top of it fail. */
const MAX_WAITING_BYTES = 67_108_864
/** Longest time of a timer. */
const FOREVER_MS = 0x7fffffff

/** What `nodeBackplane` has resolved its options to. */
export interface LinkOptions {
  readonly prefix: string
  readonly pingIntervalMs: number
  readonly pingTimeoutMs: number
}

/** What the link tells. */
export interface LinkListener {
  /** The exchange is there, at first or again, and knows of the channels. It may be another one. */
  up(): void
  down(error: Error): void
  /** What is not an answer. */
  take(item: ExchangeItem): void
}

interface Question {
  answered(value: unknown): void
  failed(error: Error): void
}

/** A line, as long as it lasts. */
interface Connection {
  readonly line: Line
  readonly outgoing: Outgoing<MemberItem>
  encoding: Encoding
}

/** A member's link to the exchange: finds it, joins it, notices that it is away, and finds it again. */
export class Link {
  /** What the exchange is to know whenever the member joins. */
  readonly channels: Set<string> = new Set<string>()
  readonly #id = randomId()
  readonly #options: LinkOptions
  readonly #listener: LinkListener
  readonly #pulse: Pulse
  #connection: Connection | undefined
  /** The exchange knows the member. */
  #hasJoined = false
  #isUp = false
  #error = new Error('the exchange has not answered yet')
  #isClosed = false

  /** Who has asked before it was known whether there is an exchange. */
  #early: (() => void)[] | undefined = []
  readonly #questions = new Map<number, Question>()
  #questionCount = 0

  #calls = 0
  #nextCall: NodeJS.Timeout | undefined
  #stopAwaiting: (() => void) | undefined
  /** Is there while something is waited for that comes soon: no channel keeps the process alive. */
  #wakefulness: NodeJS.Timeout | undefined

  constructor(options: LinkOptions, listener: LinkListener) {
    this.#options = options
    this.#listener = listener
    this.#pulse = new Pulse(options.pingIntervalMs, options.pingTimeoutMs, {
      ask: () => void this.#connection?.outgoing.add(['ping']),
      silent: () => this.#silent(),
    })
  }

  get isUp(): boolean {
    return this.#isUp
  }

  start(): void {
    this.#call()
    this.#rest()
  }

  // ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Bytes in the form in which they are sent. */
  encode(bytes: Uint8Array): Payload {
    return encodePayload(bytes, this.#connection?.encoding ?? 'plain')
  }

  /** Resolves when the exchange, or the system, has the item. */
  send(item: MemberItem, bytes = 0): Promise<void> {
    return this.#isUp ? this.#connection!.outgoing.add(item, bytes) : Promise.reject(this.#error)
  }

  /**
   * Gives what is made of the answer, before anything is heard that comes behind it. Who asks at the very beginning waits
   * for the exchange; later, without one, it fails.
   */
  async ask<T>(question: (request: number) => MemberItem, read: (value: unknown) => T, bytes = 0): Promise<T> {
    if (this.#early !== undefined) await new Promise<void>((resolve) => this.#early!.push(resolve))
    if (!this.#isUp) throw this.#error
    const { outgoing } = this.#connection!
    if (outgoing.bytes > MAX_WAITING_BYTES) throw new Error('the exchange does not keep up')
    const request = ++this.#questionCount
    return new Promise((resolve, reject) => {
      const answered = (value: unknown): void => {
        try {
          resolve(read(value))
        } catch (error) {
          reject(error)
        }
      }
      this.#questions.set(request, { answered, failed: reject })
      void outgoing.add(question(request), bytes)
      this.#rest()
    })
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stopCalling()
    this.#pulse.stop()
    await this.#connection?.outgoing.addLast(['leave'], CLOSE_MS)
    this.#fail(new Error('the backplane is closed'))
    this.#hangUp()
  }

  // ── calling the exchange ──────────────────────────────────────────────────────────────────────────────────────────

  #call(): void {
    this.#calls++
    this.#stopCalling()
    this.#join()
    this.#callLater()
  }

  #callLater(): void {
    const delay = Math.min(FIRST_RETRY_MS * 2 ** Math.max(this.#calls - 1, 0), MAX_RETRY_MS)
    this.#nextCall = setTimeout(() => {
      if (this.#calls >= CALLS_UNTIL_AWAY) this.#setDown(this.#error)
      this.#call()
    }, delay).unref()
    this.#stopAwaiting = onExchange(() => this.#call())
    this.#rest()
  }

  #join(): void {
    this.#hangUp()
    const listener = { receive: (message: unknown) => this.#receive(message), ended: () => this.#lineEnded() }
    const line = this.#openLine(listener)
    if (line === undefined) {
      this.#error = new Error('there is no exchange: call startExchange() in the main thread, or the primary process')
      return
    }
    const outgoing = new Outgoing<MemberItem>(line, this.#id)
    this.#connection = { line, outgoing, encoding: line.encoding ?? 'plain' }
    void outgoing.add(['join', this.#options.prefix, PROBE, [...this.channels]])
  }

  /** To where the exchange may be: in this process, or in the one that has started it. */
  #openLine(listener: LineListener): Line | undefined {
    if (!hasExchange() && isMainThread) return process.connected === true ? new ParentLine(listener) : undefined
    const name = `${CALLING_CHANNEL} ${randomId()}`
    const line = new ThreadLine('member', name, listener)
    const { pingIntervalMs } = this.#options
    const call: Call = { member: this.#id, line: name, threadId, pingIntervalMs }
    const calling = openChannel(CALLING_CHANNEL, () => {})
    calling.postMessage(call)
    calling.close()
    return line
  }

  #stopCalling(): void {
    clearTimeout(this.#nextCall)
    this.#stopAwaiting?.()
  }

  #hangUp(): void {
    this.#connection?.outgoing.end(this.#error)
    this.#connection?.line.close()
    this.#connection = undefined
  }

  // ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #receive(message: unknown): void {
    const parsed = parseMessage(message)
    if (parsed?.member !== this.#id || this.#isClosed) return
    this.#pulse.heard()
    if (this.#hasJoined && !this.#isUp) this.#setUp()
    for (const unknownItem of parsed.items) {
      const item = parseExchangeItem(unknownItem)
      if (item !== undefined) this.#take(item)
    }
  }

  #take(item: ExchangeItem): void {
    if (item[0] === 'joined') this.#joined(item[1])
    // What else comes before that is for who was here before.
    else if (!this.#hasJoined) return
    else if (item[0] === 'gone') this.#lost(new Error('the exchange was closed'))
    else if (item[0] === 'done') this.#settle(item[1], ({ answered }) => answered(item[2]))
    else if (item[0] === 'failed') this.#settle(item[1], ({ failed }) => failed(new Error(item[2])))
    else if (item[0] !== 'pong') this.#listener.take(item)
  }

  #settle(request: number, settle: (question: Question) => void): void {
    const question = this.#questions.get(request)
    // It was given up.
    if (question === undefined) return
    this.#questions.delete(request)
    this.#rest()
    settle(question)
  }

  #joined(probe: unknown): void {
    const connection = this.#connection
    if (this.#hasJoined || connection === undefined) return
    this.#hasJoined = true
    this.#calls = 0
    this.#stopCalling()
    connection.encoding = connection.line.encoding ?? encodingOf(probe)
    this.#pulse.start()
    this.#setUp()
    this.#rest()
  }

  // ── up and down ───────────────────────────────────────────────────────────────────────────────────────────────────

  #silent(): void {
    const error = new Error(`the exchange has not answered within ${this.#options.pingTimeoutMs} ms`)
    if (this.#connection?.line.tellsEnd === true) this.#setDown(error)
    // Perhaps nobody is there any more who could.
    else this.#lost(error)
  }

  #lineEnded(): void {
    if (this.#hasJoined) this.#lost(new Error('the channel to the exchange was closed'))
    // Nobody has wanted to hear of it: the next call is due anyway.
    else this.#hangUp()
  }

  /** The member has to join again. */
  #lost(error: Error): void {
    this.#hasJoined = false
    this.#pulse.stop()
    this.#setDown(error)
    this.#hangUp()
    this.#calls = 0
    if (!this.#isClosed) this.#callLater()
  }

  #setUp(): void {
    this.#isUp = true
    this.#listener.up()
    this.#tellEarly()
  }

  #setDown(error: Error): void {
    this.#fail(error)
    if (!this.#isClosed) this.#listener.down(error)
  }

  #fail(error: Error): void {
    this.#error = error
    this.#isUp = false
    const questions = [...this.#questions.values()]
    this.#questions.clear()
    this.#rest()
    for (const { failed } of questions) failed(error)
    this.#tellEarly()
  }

  #tellEarly(): void {
    const early = this.#early ?? []
    this.#early = undefined
    for (const tell of early) tell()
  }

  /** Keeps the process alive while an answer is awaited, and not longer. */
  #rest(): void {
    const isCalling = !this.#hasJoined && this.#calls > 0 && this.#calls <= CALLS_UNTIL_AWAY
    const isAwake = !this.#isClosed && (isCalling || this.#questions.size > 0)
    if (isAwake) this.#wakefulness ??= setInterval(() => {}, FOREVER_MS)
    else {
      clearInterval(this.#wakefulness)
      this.#wakefulness = undefined
    }
  }
}
