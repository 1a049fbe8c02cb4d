// What is published, over and over, and what each subscriber gets of it: all of it made before the clock starts.
import { randomBytes } from 'node:crypto'
import { frame } from '../../load/frames.ts'
import type { Dialect } from './dialects.ts'
import type { Lane } from './requests.ts'

const TEXT = 1
/** Different messages, at least. */
const SLOTS_OF_ONE_TOPIC = 256
const SLOTS_OF_SEVERAL_TOPICS = 4096

/** Eight characters, with which messages begin. */
export const topicName = (number: number): string => `t${String(number).padStart(7, '0')}`

export class Schedule {
  readonly slots: number
  /** Bytes of the frame that a member gets. */
  readonly frameBytes: number
  /** Of each subscriber, by number. */
  readonly topicsOf: readonly number[][]
  /** Of each subscriber: everything it gets until the schedule begins again. */
  readonly expected: readonly Buffer[]
  /** Members of the topic of each slot. */
  readonly #members: readonly (readonly number[])[]
  /** Masked frames. The first ones follow again after the last: any run of up to a batch is one slice. */
  readonly #requests: Buffer
  readonly #requestBytes: number

  constructor(lane: Lane, dialect: Dialect) {
    const { batch, firstTopic, size, topics } = lane
    const subscribers = lane.subscribers.reduce((sum, { count }) => sum + count, 0)
    const random = makeRandom()
    const everybody = Array.from({ length: subscribers }, (_, index) => index)
    const members = Array.from({ length: topics }, () =>
      topics === 1 ? everybody : draw(lane.membersPerTopic, subscribers, random),
    )
    this.topicsOf = everybody.map(() => [])
    members.forEach((each, topic) => {
      for (const index of each) this.topicsOf[index]!.push(firstTopic + topic)
    })

    const atLeast = topics === 1 ? SLOTS_OF_ONE_TOPIC : SLOTS_OF_SEVERAL_TOPICS
    this.slots = Math.ceil(atLeast / batch) * batch
    const chosen = Array.from({ length: this.slots }, () => random(topics))
    const messages = chosen.map((topic, slot) => makeMessage(topicName(firstTopic + topic), slot, size))
    const requests = messages.map((text) => frame(TEXT, Buffer.from(dialect.publish(text)), randomBytes(4)))
    const frames = messages.map((text) => frame(TEXT, Buffer.from(dialect.delivered(text))))
    this.frameBytes = frames[0]!.length
    this.#members = chosen.map((topic) => members[topic]!)
    this.#requestBytes = requests[0]!.length
    this.#requests = Buffer.concat([...requests, ...requests.slice(0, batch)])
    const all = Buffer.concat(frames)
    this.expected = topics === 1 ? everybody.map(() => all) : this.#expectedOf(frames, subscribers)
  }

  #expectedOf(frames: readonly Buffer[], subscribers: number): Buffer[] {
    const lists: Buffer[][] = Array.from({ length: subscribers }, () => [])
    this.#members.forEach((members, slot) => {
      for (const index of members) lists[index]!.push(frames[slot]!)
    })
    return lists.map((list) => Buffer.concat(list))
  }

  /** The frames that publish so many messages, the `from`th and what follows. */
  requests(from: number, count: number): Buffer {
    const start = (from % this.slots) * this.#requestBytes
    return this.#requests.subarray(start, start + count * this.#requestBytes)
  }

  /** To how many they go. */
  deliveries(from: number, count: number): number {
    let sum = 0
    for (let i = from; i < from + count; i++) sum += this.#members[i % this.slots]!.length
    return sum
  }

  /** Bytes that each subscriber has to have when so many messages were published since the beginning. */
  bytesAfter(published: number): number[] {
    const bytes = this.topicsOf.map(() => 0)
    this.#members.forEach((members, slot) => {
      const times = Math.ceil((published - slot) / this.slots)
      for (const index of members) bytes[index]! += times * this.frameBytes
    })
    return bytes
  }
}

/** The topic, a number, and letters that are different in every message; nothing that JSON would escape. */
function makeMessage(topic: string, number: number, size: number): string {
  const start = `${topic} ${String(number).padStart(6, '0')} `
  return (
    start +
    randomBytes(size)
      .toString('base64url')
      .slice(0, size - start.length)
  )
}

function draw(count: number, from: number, random: (below: number) => number): number[] {
  const drawn = new Set<number>()
  while (drawn.size < Math.min(count, from)) drawn.add(random(from))
  return [...drawn].sort((a, b) => a - b)
}

/** The same numbers for everybody: a linear congruential generator. */
function makeRandom(): (below: number) => number {
  let state = 1
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
