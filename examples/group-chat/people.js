import { randomUUID } from 'node:crypto'

/*
 * Who is there, in all processes. Each process tells the others about its own people whenever something changes, and now
 * and then in between; of a process that is not heard of any more nobody is left.
 */

const TOPIC = 'people'
const TELL_MS = 5_000
const FORGET_MS = 16_000

export class People {
  #server
  #process = randomUUID()
  /** The people of this process: rooms by name. */
  #here = new Map()
  /** Those of the others, by process. */
  #elsewhere = new Map()
  #timer

  constructor(server) {
    this.#server = server
    server.listenTo(TOPIC, (data) => this.#hear(JSON.parse(data)))
    this.#timer = setInterval(() => this.#tell(), TELL_MS).unref()
  }

  /** Resolves when this process knows of the others. */
  async begin() {
    await this.#server.synced()
    this.#server.publish(TOPIC, JSON.stringify({ process: this.#process, question: true }))
  }

  has(name) {
    return [...this.#all()].some(([other]) => other === name)
  }

  /** Names of those who are in a room, in alphabetical order. */
  inRoom(room) {
    return [...this.#all()]
      .filter(([, rooms]) => rooms.has(room))
      .map(([name]) => name)
      .sort()
  }

  /** Somebody is in these rooms now, a set that is watched from here on. */
  enter(name, rooms) {
    this.#here.set(name, rooms)
    this.#tell()
  }

  changed() {
    this.#tell()
  }

  leave(name) {
    this.#here.delete(name)
    this.#tell()
  }

  end() {
    clearInterval(this.#timer)
  }

  *#all() {
    yield* this.#here
    for (const { people } of this.#elsewhere.values()) yield* people
  }

  #tell() {
    const people = [...this.#here].map(([name, rooms]) => [name, [...rooms]])
    this.#server.publish(TOPIC, JSON.stringify({ process: this.#process, people }))
    const now = performance.now()
    for (const [process, { heardAt }] of this.#elsewhere) {
      if (now - heardAt > FORGET_MS) this.#elsewhere.delete(process)
    }
  }

  #hear({ process, people, question }) {
    if (process === this.#process) return
    if (question) this.#tell()
    else
      this.#elsewhere.set(process, {
        people: people.map(([name, rooms]) => [name, new Set(rooms)]),
        heardAt: performance.now(),
      })
  }
}
