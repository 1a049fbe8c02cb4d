import { asError } from '../../handlers.ts'
import { randomId } from '../../ids.ts'
import type { RedisLink, RedisSubscriber, Value } from './link.ts'
import { echoChannel } from './names.ts'
import type { Script } from './scripts.ts'

/** Names in one request. */
const CHANNELS_AT_ONCE = 1_000
/** How long to wait before a connection is made again that could not be made, in milliseconds. */
const RETRY_MS = 1_000
/** How often it is looked after, without messages to ourselves, in milliseconds. */
const BEAT_MS = 5_000

/** What the connection tells of Redis. */
export interface ConnectionListener {
  /** It is there, and everything that was subscribed to is subscribed to. */
  up(): void
  /** It is not. */
  down(error: Error): void
}

export interface ConnectionOptions {
  readonly link: RedisLink
  /** A client of the user's for subscriptions; one of our own otherwise. */
  readonly subscriber: RedisSubscriber | undefined
  readonly prefix: string
  readonly pingIntervalMs: number
  readonly pingTimeoutMs: number
}

/** Gets the messages of a channel. */
type ChannelListener = (message: Buffer) => void

/** A message to ourselves that has not come yet. */
interface Echo {
  readonly number: number
  readonly heard: () => void
}

/**
 * Whether Redis is there, and what we have subscribed to. A client's own idea of being connected does not tell whether a
 * server answers, and that of one connection nothing of the other. So a message to ourselves is sent now and then: when
 * it does not come in time, the way is cut.
 *
 * A connection for subscriptions that is our own is thrown away when it breaks, and another one is made: what it is
 * subscribed to then does not depend on what the library does by itself.
 */
export class RedisConnection {
  readonly #link: RedisLink
  readonly #given: RedisSubscriber | undefined
  readonly #pingIntervalMs: number
  readonly #pingTimeoutMs: number
  readonly #echoChannel: string
  readonly #listener: ConnectionListener
  #isUp = false
  #isClosed = false
  /** Why it is not up. */
  #error = new Error('there is no connection to Redis')
  /** Another one each time that a connection is found broken. */
  #breaks = 0
  #broken: (() => void) | undefined
  #isRising = false
  #started: (() => void) | undefined
  #starting: Promise<void> | undefined = new Promise((resolve) => {
    this.#started = resolve
  })
  #interval: NodeJS.Timeout | undefined
  #wake: (() => void) | undefined
  #unwatchLink: (() => void) | undefined
  /** The connection for subscriptions, if there is one at the moment, and how to stop listening to it. */
  #subscriber: RedisSubscriber | undefined
  #leaveSubscriber: (() => void) | undefined
  readonly #channels = new Map<string, ChannelListener>()
  /** What was not unsubscribed from, as far as is known. */
  readonly #stale = new Set<string>()
  /** Whom to tell of messages on their way that the connection has gone. */
  readonly #underWay = new Set<(error: Error) => void>()
  /** Messages that have come, so that one who is busy is not taken for deaf. */
  #received = 0
  #echo: Echo | undefined
  #echoes = 0
  #isChecking = false

  constructor(options: ConnectionOptions, listener: ConnectionListener) {
    this.#link = options.link
    this.#given = options.subscriber
    this.#pingIntervalMs = options.pingIntervalMs
    this.#pingTimeoutMs = options.pingTimeoutMs
    this.#echoChannel = echoChannel(options.prefix, randomId())
    this.#listener = listener
    this.#channels.set(this.#echoChannel, (message) => this.#hear(message))
  }

  get isUp(): boolean {
    return this.#isUp && this.#link.isReady
  }

  /** Why it is not up. */
  get error(): Error {
    return this.#error
  }

  /** Resolves when it is known, for the first time, whether Redis is there; undefined once it is. */
  get starting(): Promise<void> | undefined {
    return this.#starting
  }

  start(): void {
    this.#unwatchLink = this.#link.watch((error) => this.#changed(error))
    if (this.#given !== undefined) this.#useSubscriber(this.#given)
    this.#interval = setInterval(() => this.#beat(), this.#pingIntervalMs || BEAT_MS).unref()
    this.#changed(undefined)
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#isUp = false
    this.#error = new Error('the backplane is closed')
    clearInterval(this.#interval)
    this.#endStart()
    this.#wake?.()
    this.#unwatchLink?.()
    const subscriber = this.#subscriber
    if (subscriber?.isReady === true && subscriber === this.#given) {
      const names = [...this.#channels.keys(), ...this.#stale]
      await inTime(
        this.#pingTimeoutMs,
        inParts(names, (part) => subscriber.unsubscribe(part)),
      ).catch(() => {})
    }
    this.#dropSubscriber()
  }

  // ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Rejects when the connection breaks, also where the client would send it again when it is back. */
  publish(channel: string, message: Buffer): Promise<void> {
    if (!this.isUp) return Promise.reject(this.#error)
    return new Promise((resolve, reject) => {
      this.#underWay.add(reject)
      this.#link
        .publish(channel, message)
        .then(() => resolve(), reject)
        .finally(() => this.#underWay.delete(reject))
    })
  }

  /** Runs a script; the server is told its text when it does not know it. */
  async run({ text, digest }: Script, keys: readonly string[], values: readonly Value[]): Promise<unknown> {
    if (!this.isUp) throw this.#error
    try {
      return await this.#link.run('EVALSHA', digest, keys, values)
    } catch (error) {
      if (!asError(error).message.startsWith('NOSCRIPT')) throw error
      return await this.#link.run('EVAL', text, keys, values)
    }
  }

  // ── subscriptions ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Resolves when messages of these channels are sure to arrive. */
  async subscribe(channels: ReadonlyMap<string, ChannelListener>): Promise<void> {
    const subscriber = this.#subscriber
    if (!this.isUp || subscriber === undefined) throw this.#error
    for (const [channel, listener] of channels) {
      this.#channels.set(channel, listener)
      this.#stale.delete(channel)
    }
    try {
      await inParts([...channels.keys()], (part) => inTime(this.#pingTimeoutMs, subscriber.subscribe(part)))
    } catch (error) {
      this.#forget(channels.keys())
      throw error
    }
  }

  async unsubscribe(channels: readonly string[]): Promise<void> {
    const subscriber = this.#subscriber
    this.#forget(channels)
    // Otherwise it is done when the connection is there again.
    if (subscriber?.isReady !== true) return
    await inParts(channels, (part) => inTime(this.#pingTimeoutMs, subscriber.unsubscribe(part)))
    for (const channel of channels) this.#stale.delete(channel)
  }

  #forget(channels: Iterable<string>): void {
    for (const channel of channels) {
      this.#channels.delete(channel)
      this.#stale.add(channel)
    }
  }

  #receive(channel: string, message: Buffer): void {
    this.#received++
    this.#channels.get(channel)?.(message)
  }

  #useSubscriber(subscriber: RedisSubscriber): void {
    const unlisten = subscriber.listen((channel, message) => this.#receive(channel, message))
    const unwatch = subscriber.watch((error) => this.#changed(error))
    this.#subscriber = subscriber
    this.#leaveSubscriber = () => {
      unwatch()
      unlisten()
    }
  }

  /** Lets go of the connection for subscriptions; ends it when it is our own. */
  #dropSubscriber(): void {
    const subscriber = this.#subscriber
    if (subscriber === undefined) return
    this.#leaveSubscriber?.()
    this.#subscriber = undefined
    if (subscriber !== this.#given) subscriber.end()
  }

  /** The connection for subscriptions, subscribed to everything; undefined while the user's is not there. */
  async #renew(): Promise<RedisSubscriber | undefined> {
    if (this.#given === undefined && this.#subscriber?.isReady !== true) await this.#replaceSubscriber()
    const subscriber = this.#subscriber
    if (subscriber?.isReady !== true) return undefined
    await inParts([...this.#stale], (part) => inTime(this.#pingTimeoutMs, subscriber.unsubscribe(part)))
    this.#stale.clear()
    await inParts([...this.#channels.keys()], (part) => inTime(this.#pingTimeoutMs, subscriber.subscribe(part)))
    return subscriber
  }

  async #replaceSubscriber(): Promise<void> {
    this.#dropSubscriber()
    const subscriber = this.#link.makeSubscriber()
    try {
      await inTime(this.#pingTimeoutMs, subscriber.connect())
    } catch (error) {
      subscriber.end()
      throw error
    }
    if (this.#isClosed) {
      subscriber.end()
      return
    }
    this.#stale.clear()
    this.#useSubscriber(subscriber)
  }

  // ── up and down ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Something has happened to a connection. */
  #changed(error: Error | undefined): void {
    if (this.#isClosed) return
    if (!this.#link.isReady || this.#subscriber?.isReady === false) {
      this.#breaks++
      this.#broken?.()
      if (this.#isUp || error !== undefined) this.#setDown(error ?? new Error('the connection to Redis was lost'))
    }
    void this.#rise()
  }

  /** Brings everything up, for as long as the user's client says that it can send. */
  async #rise(): Promise<void> {
    if (this.#isRising) return
    this.#isRising = true
    while (!this.#isClosed && !this.#isUp && this.#link.isReady) {
      const breaks = this.#breaks
      try {
        await this.#answered()
        if (this.#isClosed || breaks !== this.#breaks) continue
        const subscriber = await this.#renew()
        if (subscriber === undefined) break
        await inTime(this.#pingTimeoutMs, this.#sendEcho())
        if (!this.#isClosed && breaks === this.#breaks && subscriber.isReady) this.#setUp()
      } catch (error) {
        if (this.#isClosed) break
        this.#setDown(asError(error))
        if (this.#given === undefined) this.#dropSubscriber()
        await this.#pause()
      }
    }
    this.#isRising = false
  }

  /** However long it takes: a server that has stopped answers when it goes on. A connection that is gone does not. */
  async #answered(): Promise<void> {
    const broken = new Promise<void>((resolve) => {
      this.#broken = resolve
    })
    await Promise.race([this.#link.publish(this.#echoChannel, Buffer.alloc(0)), broken])
  }

  #setUp(): void {
    this.#isUp = true
    this.#endStart()
    this.#listener.up()
  }

  #setDown(error: Error): void {
    this.#isUp = false
    this.#error = error
    this.#endStart()
    for (const reject of this.#underWay) reject(error)
    this.#underWay.clear()
    this.#listener.down(error)
  }

  #endStart(): void {
    this.#starting = undefined
    this.#started?.()
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS).unref()
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  // ── messages to ourselves ─────────────────────────────────────────────────────────────────────────────────────────

  #beat(): void {
    if (this.#isUp) {
      if (this.#pingIntervalMs > 0 && !this.#isChecking) void this.#check()
    } else if (this.#link.isReady) void this.#rise()
    else this.#setDown(this.#error)
  }

  async #check(): Promise<void> {
    this.#isChecking = true
    let isSent = false
    const echo = this.#sendEcho(() => {
      isSent = true
    })
    for (;;) {
      const received = this.#received
      try {
        await inTime(this.#pingTimeoutMs, echo)
        break
      } catch (error) {
        // It was noticed in another way.
        if (this.#isClosed || !this.#isUp) break
        // It is behind others that have come.
        if (isSent && this.#received !== received) continue
        this.#breaks++
        this.#setDown(asError(error))
        // Redis has it, and we have not.
        if (isSent && this.#given === undefined) this.#dropSubscriber()
        void this.#rise()
        break
      }
    }
    this.#isChecking = false
  }

  /** Resolves when a message to ourselves has come. */
  async #sendEcho(sent?: () => void): Promise<void> {
    const number = ++this.#echoes
    const heard = new Promise<void>((resolve) => {
      this.#echo = { number, heard: resolve }
    })
    await this.#link.publish(this.#echoChannel, Buffer.from(`${number}`))
    sent?.()
    await heard
  }

  #hear(message: Buffer): void {
    if (this.#echo === undefined || message.toString('latin1') !== `${this.#echo.number}`) return
    this.#echo.heard()
    this.#echo = undefined
  }
}

/** Fails when it takes too long. */
export function inTime<T>(timeMs: number, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      // What has come while we were busy is read first.
      setImmediate(() => reject(new Error(`Redis has not answered within ${timeMs} ms`)))
    }, timeMs)
    timer.unref()
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

async function inParts(names: readonly string[], action: (part: string[]) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < names.length; at += CHANNELS_AT_ONCE) await action(names.slice(at, at + CHANNELS_AT_ONCE))
}
