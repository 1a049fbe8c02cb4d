import type { LogReader } from './exchange-log.ts'
import type { Line } from './lines.ts'
import { Outgoing } from './outgoing.ts'
import { type Encoding, type ExchangeItem, encodePayload, encodingOf, type Payload, PROBE } from './wire.ts'

/** A message, in the forms that have been asked for. */
export class Parcel {
  readonly channel: string
  readonly bytes: number
  readonly #payload: Payload
  readonly #encoded = new Map<Encoding, Payload>()

  constructor(channel: string, payload: Payload) {
    this.channel = channel
    this.bytes = channel.length + payload.length
    this.#payload = payload
  }

  encoded(encoding: Encoding): Payload {
    let payload = this.#encoded.get(encoding)
    if (payload === undefined) {
      payload = encodePayload(this.#payload, encoding)
      this.#encoded.set(encoding, payload)
    }
    return payload
  }
}

export interface ParticipantOptions {
  readonly line: Line
  readonly id: string
  readonly prefix: string
  /** As it has arrived. */
  readonly probe: unknown
  readonly maxBacklogBytes: number
  /** It has begun to lose messages. */
  lagging(): void
}

/** A member, as the exchange sees it. */
export class Participant implements LogReader {
  readonly prefix: string
  /** The channels that it has subscribed to, and the topics whose logs it follows. */
  readonly channels: Set<string> = new Set<string>()
  readonly topics: Set<string> = new Set<string>()
  readonly #encoding: Encoding
  readonly #outgoing: Outgoing<ExchangeItem>
  readonly #maxBacklogBytes: number
  readonly #lagging: () => void
  /** Messages that were dropped, and of which it has not been told yet. */
  #lost = 0

  constructor({ line, id, prefix, probe, maxBacklogBytes, lagging }: ParticipantOptions) {
    this.prefix = prefix
    this.#encoding = line.encoding ?? encodingOf(probe)
    this.#outgoing = new Outgoing(line, id, () => this.#drained())
    this.#maxBacklogBytes = maxBacklogBytes
    this.#lagging = lagging
    this.tell(['joined', PROBE])
  }

  /** Says something that must not be left out. */
  tell(item: ExchangeItem, bytes = 0): void {
    void this.#outgoing.add(item, bytes)
  }

  /** The same for bytes in an answer. */
  encode(payload: Payload): Payload {
    return encodePayload(payload, this.#encoding)
  }

  deliver(parcel: Parcel): void {
    if (this.#hasRoom(parcel.bytes))
      this.tell(['message', parcel.channel, parcel.encoded(this.#encoding)], parcel.bytes)
  }

  entry(topic: string, sequence: number, payload: Uint8Array): void {
    if (this.#hasRoom(payload.length)) this.tell(['entry', topic, sequence, this.encode(payload)], payload.length)
  }

  /** Says goodbye. */
  async dismiss(timeMs: number): Promise<void> {
    await this.#outgoing.addLast(['gone'], timeMs)
  }

  /** It is not there any more. */
  end(): void {
    this.#outgoing.end(new Error('the member is gone'))
  }

  /** Who does not read is let wait; when it reads again, it is told before it gets anything new. */
  #hasRoom(bytes: number): boolean {
    const { bytes: waiting } = this.#outgoing
    if (this.#lost === 0 && (waiting === 0 || waiting + bytes <= this.#maxBacklogBytes)) return true
    if (this.#lost++ === 0) this.#lagging()
    return false
  }

  #drained(): void {
    if (this.#lost === 0) return
    this.tell(['lost', this.#lost])
    this.#lost = 0
  }
}
