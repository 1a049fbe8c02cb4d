import { asError } from '../../handlers.ts'
import { ExchangeLog } from './exchange-log.ts'
import { Parcel, type Participant } from './participant.ts'
import type { MemberItem, Payload } from './wire.ts'

/** What a member that has joined can say. */
export type ParticipantItem = Exclude<MemberItem, readonly ['join' | 'leave', ...unknown[]]>
/** What is answered. */
type Question = Extract<ParticipantItem, readonly [string, request: number, ...unknown[]]>

/** Who gets what. */
export class Switchboard {
  /** By prefix and channel; see `keyOf`. */
  readonly #receivers = new Map<string, Set<Participant>>()
  /** By prefix. */
  readonly #logs = new Map<string, ExchangeLog>()

  /** How many channels somebody has subscribed to. */
  get channels(): number {
    return this.#receivers.size
  }

  /** Does what a member asks for. */
  take(participant: Participant, item: ParticipantItem): void {
    switch (item[0]) {
      case 'publish':
        this.#publish(participant, item[1], item[2])
        break
      case 'ping':
        participant.tell(['pong'])
        break
      case 'unfollow':
        participant.topics.delete(item[1])
        this.#logs.get(participant.prefix)?.unfollow(item[1], participant)
        break
      default:
        this.#answer(participant, item)
    }
  }

  subscribe(participant: Participant, channels: readonly string[]): void {
    for (const channel of channels) {
      const key = keyOf(participant.prefix, channel)
      const receivers = this.#receivers.get(key) ?? new Set()
      this.#receivers.set(key, receivers.add(participant))
      participant.channels.add(channel)
    }
  }

  #unsubscribe(participant: Participant, channels: Iterable<string>): void {
    for (const channel of channels) {
      const key = keyOf(participant.prefix, channel)
      const receivers = this.#receivers.get(key)
      if (receivers?.delete(participant) === true && receivers.size === 0) this.#receivers.delete(key)
      participant.channels.delete(channel)
    }
  }

  /** A member is gone. */
  forget(participant: Participant): void {
    this.#unsubscribe(participant, participant.channels)
    for (const topic of participant.topics) this.#logs.get(participant.prefix)?.unfollow(topic, participant)
    participant.end()
  }

  close(): void {
    for (const log of this.#logs.values()) log.close()
  }

  #publish(publisher: Participant, channel: string, payload: Payload): void {
    const receivers = this.#receivers.get(keyOf(publisher.prefix, channel))
    if (receivers === undefined) return
    const parcel = new Parcel(channel, payload)
    for (const receiver of receivers) if (receiver !== publisher) receiver.deliver(parcel)
  }

  #answer(participant: Participant, question: Question): void {
    const request = question[1]
    try {
      const { value, bytes } = this.#find(participant, question)
      participant.tell(['done', request, value], bytes)
    } catch (error) {
      participant.tell(['failed', request, asError(error).message])
    }
  }

  #find(participant: Participant, question: Question): { value?: unknown; bytes?: number } {
    switch (question[0]) {
      case 'subscribe':
        this.subscribe(participant, question[2])
        return {}
      case 'unsubscribe':
        this.#unsubscribe(participant, question[2])
        return {}
      case 'append':
        return { value: this.#logOf(participant).append(question[2], question[3], question[4]) }
      case 'follow':
        participant.topics.add(question[2])
        return { value: this.#logOf(participant).follow(question[2], participant) }
      case 'read': {
        const page = this.#logOf(participant).read(question[2], question[3])
        const bytes = page.entries.reduce((total, [, payload]) => total + payload.length, 0)
        const entries = page.entries.map(([sequence, payload]) => [sequence, participant.encode(payload)] as const)
        return { value: { ...page, entries }, bytes }
      }
    }
  }

  #logOf({ prefix }: Participant): ExchangeLog {
    let log = this.#logs.get(prefix)
    if (log === undefined) {
      log = new ExchangeLog()
      this.#logs.set(prefix, log)
    }
    return log
  }
}

/** No prefix has a U+0000 in it. */
function keyOf(prefix: string, channel: string): string {
  return `${prefix}\0${channel}`
}
