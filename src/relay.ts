import { randomBytes } from 'node:crypto'
import type { Backplane } from './backplane.ts'
import {
  decodeEnvelope,
  EMPTY_ENVELOPE_BYTES,
  encodeEnvelope,
  MAX_JOINED_BYTES,
  ORIGIN_BYTES,
  recordSize,
} from './envelope.ts'
import { WebSocketError } from './errors.ts'
import type { PreparedMessage } from './prepared.ts'
import { Sequences } from './sequences.ts'

/** So much may be on its way to the engine, in bytes and in envelopes; what comes on top stays in this process. */
const MAX_UNDER_WAY_BYTES = 67_108_864
const MAX_UNDER_WAY = 100_000
/** Names in one request to the engine. */
const CHANNELS_AT_ONCE = 1_000
/** Shortest time between two complaints about what others write to our channels, in milliseconds. */
const COMPLAINT_MS = 60_000
/** How long to wait before subscriptions that have failed are tried again, in milliseconds. */
const RETRY_MS = 1_000

/** How long the engine may take, at the end, for what is on its way to it, in milliseconds. */
const CLOSE_MS = 2_000

/** What the relay tells the hub. */
export interface RelayHost {
  /** Another process has published this. */
  receive(channel: string, message: PreparedMessage): void
  /** Something is wrong; told once for each time that something begins to be wrong. */
  trouble(error: WebSocketError): void
  /** It is over. */
  restored(): void
}

/**
 * One process's part in a backplane: which channels it is subscribed to, what waits to be sent, and whether the engine
 * is there. Messages that are published in one tick to one channel travel together.
 */
export class Relay {
  readonly #backplane: Backplane
  readonly #host: RelayHost
  readonly #origin = randomBytes(ORIGIN_BYTES)
  readonly #originName = this.#origin.toString('latin1')
  readonly #sequences = new Sequences()
  #isStarted = false
  #isUp = false
  readonly #awaitingUp: { resolve(): void; reject(error: WebSocketError): void }[] = []
  #hasTrouble = false
  #isClosed = false
  #complainedAt = Number.NEGATIVE_INFINITY

  /** What was published in this tick. */
  readonly #outgoing = new Map<string, PreparedMessage[]>()
  #isScheduled = false
  #number = 0
  #underWay = 0
  #underWayBytes = 0
  #allSent: (() => void) | undefined

  /** The channels that are wanted, and those that the engine knows of. */
  readonly #wanted = new Set<string>()
  readonly #subscribed = new Set<string>()
  /** Channels of which one of these may be behind the other. */
  readonly #changed = new Set<string>()
  #update: Promise<void> | undefined
  #retry: NodeJS.Timeout | undefined

  constructor(backplane: Backplane, host: RelayHost) {
    this.#backplane = backplane
    this.#host = host
  }

  start(): void {
    this.#backplane.start({
      receive: (channel, message) => this.#receive(channel, message),
      up: () => this.#setUp(),
      down: (error) => this.#setDown(error),
    })
    // One that belongs to somebody else has thrown, and is not ours to close.
    this.#isStarted = true
  }

  /** Resolves when the engine is there; rejects when it is over before. */
  async ready(): Promise<void> {
    if (this.#isClosed) throw closedEarly()
    if (!this.#isUp) await new Promise<void>((resolve, reject) => this.#awaitingUp.push({ resolve, reject }))
  }

  // ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends a message to the other processes; false when it stays in this one. */
  publish(channel: string, message: PreparedMessage): boolean {
    if (!this.#isUp || this.#isClosed) return false
    const size = recordSize(message)
    const { maxMessageBytes = Number.POSITIVE_INFINITY } = this.#backplane
    if (size + EMPTY_ENVELOPE_BYTES > maxMessageBytes) {
      this.#complain(`a message of ${message.payload.length} bytes is longer than the backplane takes`)
      return false
    }
    if (this.#underWayBytes + size > MAX_UNDER_WAY_BYTES || this.#underWay >= MAX_UNDER_WAY) {
      this.#setTrouble(backplaneError('the backplane takes messages more slowly than they are published'))
      return false
    }
    this.#underWayBytes += size
    const waiting = this.#outgoing.get(channel)
    if (waiting === undefined) {
      this.#outgoing.set(channel, [message])
      this.#underWay++
    } else waiting.push(message)
    if (!this.#isScheduled) {
      this.#isScheduled = true
      // Behind the promises that are ready, as the output of the tick.
      process.nextTick(() => this.#flush())
    }
    return true
  }

  #flush(): void {
    this.#isScheduled = false
    const most = Math.min(MAX_JOINED_BYTES, this.#backplane.maxMessageBytes ?? MAX_JOINED_BYTES)
    for (const [channel, messages] of this.#outgoing) {
      this.#underWay--
      let first = 0
      let size = EMPTY_ENVELOPE_BYTES
      for (let index = 0; index < messages.length; index++) {
        const next = recordSize(messages[index]!)
        if (index > first && size + next > most) {
          this.#send(channel, messages.slice(first, index), size)
          first = index
          size = EMPTY_ENVELOPE_BYTES
        }
        size += next
      }
      this.#send(channel, first === 0 ? messages : messages.slice(first), size)
    }
    this.#outgoing.clear()
  }

  #send(channel: string, messages: readonly PreparedMessage[], size: number): void {
    this.#underWay++
    const done = (): void => {
      this.#underWay--
      this.#underWayBytes -= size - EMPTY_ENVELOPE_BYTES
      if (this.#underWay === 0) this.#allSent?.()
    }
    let sent: Promise<void>
    try {
      sent = this.#backplane.publish(channel, encodeEnvelope(this.#origin, this.#number++, messages))
    } catch (error) {
      sent = Promise.reject(error)
    }
    sent.then(
      () => {
        done()
        if (this.#isUp) this.#endTrouble()
      },
      (error: unknown) => {
        done()
        if (!this.#isClosed) this.#setTrouble(backplaneError('the backplane has not taken a message', error))
      },
    )
  }

  // ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #receive(channel: string, bytes: Uint8Array): void {
    if (this.#isClosed || !this.#wanted.has(channel)) return
    const envelope = decodeEnvelope(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    if (envelope === undefined) {
      this.#complain(`something that is no message of ours was written to the channel ${JSON.stringify(channel)}`)
      return
    }
    if (envelope.origin === this.#originName || !this.#sequences.isNew(envelope.origin, envelope.number)) return
    for (const message of envelope.messages) this.#host.receive(channel, message)
  }

  // ── subscriptions ─────────────────────────────────────────────────────────────────────────────────────────────────

  subscribe(channel: string): void {
    this.#wanted.add(channel)
    this.#change(channel)
  }

  unsubscribe(channel: string): void {
    this.#wanted.delete(channel)
    this.#change(channel)
  }

  /** Resolves when the engine knows what this process has subscribed to; at once while it is away. */
  async synced(): Promise<void> {
    while (this.#isUp && this.#update !== undefined) await this.#update
  }

  #change(channel: string): void {
    this.#changed.add(channel)
    this.#update ??= this.#runUpdates()
  }

  /** Brings the engine's knowledge up to what is wanted; what changes meanwhile is dealt with in the next round. */
  async #runUpdates(): Promise<void> {
    // What follows in this tick comes along.
    await Promise.resolve()
    while (this.#isUp && this.#changed.size > 0) {
      const added: string[] = []
      const removed: string[] = []
      for (const channel of this.#changed) {
        const isWanted = this.#wanted.has(channel)
        if (isWanted !== this.#subscribed.has(channel)) (isWanted ? added : removed).push(channel)
      }
      this.#changed.clear()
      try {
        for (const channels of inParts(removed)) {
          await this.#backplane.unsubscribe(channels)
          for (const channel of channels) this.#subscribed.delete(channel)
        }
        for (const channels of inParts(added)) {
          await this.#backplane.subscribe(channels)
          for (const channel of channels) this.#subscribed.add(channel)
        }
        if (this.#isUp) this.#endTrouble()
      } catch (error) {
        for (const channel of [...added, ...removed]) this.#changed.add(channel)
        if (!this.#isClosed) this.#setTrouble(backplaneError('the backplane has not taken a subscription', error))
        this.#retry ??= setTimeout(() => {
          this.#retry = undefined
          this.#update ??= this.#runUpdates()
        }, RETRY_MS).unref()
        break
      }
    }
    this.#update = undefined
  }

  // ── the engine ────────────────────────────────────────────────────────────────────────────────────────────────────

  #setUp(): void {
    this.#isUp = true
    for (const { resolve } of this.#awaitingUp.splice(0)) resolve()
    this.#endTrouble()
    if (this.#changed.size > 0) this.#update ??= this.#runUpdates()
  }

  #setDown(error: Error): void {
    this.#isUp = false
    if (!this.#isClosed) this.#setTrouble(backplaneError('the backplane is away', error))
  }

  #setTrouble(error: WebSocketError): void {
    if (this.#hasTrouble) return
    this.#hasTrouble = true
    this.#host.trouble(error)
  }

  #endTrouble(): void {
    if (!this.#hasTrouble) return
    this.#hasTrouble = false
    this.#host.restored()
  }

  /** For what has no end of which could be told. */
  #complain(message: string): void {
    const now = performance.now()
    if (now - this.#complainedAt < COMPLAINT_MS) return
    this.#complainedAt = now
    this.#host.trouble(backplaneError(message))
  }

  /** Sends what waits, and leaves. */
  async close(): Promise<void> {
    if (this.#isScheduled) this.#flush()
    this.#isClosed = true
    clearTimeout(this.#retry)
    for (const { reject } of this.#awaitingUp.splice(0)) reject(closedEarly())
    if (this.#isUp && this.#underWay > 0) await this.#sent()
    if (this.#isStarted) await this.#backplane.close()
  }

  /** What is on its way has arrived; an engine that does not answer is not waited for. */
  #sent(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, CLOSE_MS)
      this.#allSent = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

function backplaneError(message: string, cause?: unknown): WebSocketError {
  const reason = cause instanceof Error ? `: ${cause.message}` : ''
  return new WebSocketError('ERR_BACKPLANE', `${message}${reason}`, { cause })
}

function closedEarly(): WebSocketError {
  return backplaneError('closed before the backplane was there')
}

function inParts(channels: readonly string[]): string[][] {
  const parts: string[][] = []
  for (let at = 0; at < channels.length; at += CHANNELS_AT_ONCE) parts.push(channels.slice(at, at + CHANNELS_AT_ONCE))
  return parts
}
