import { createHash } from 'node:crypto'

/*
 * Names in NATS. The parts of a subject may not have dots, spaces and wildcards; the name of a stream is the name of a
 * folder, on systems, too, where two names that differ in capitals are the same. So a part is made of small letters,
 * digits and hyphens, everything else being an underscore with two hexadecimal digits per byte.
 *
 *   PREFIX.msg.CHANNEL          messages
 *   PREFIX.log.TOPIC.BIRTH      what is to be stored in the history of a topic
 *   PREFIX.live.TOPIC.BIRTH     what was stored there
 *   PREFIX__TOPIC               the stream of a history
 *
 * The birth tells apart streams that have had the same name: what is sent to one that was deleted reaches nobody.
 */

/** Longest part, in characters: with the longest prefix the name of a stream has 242, of the 255 that it may have. */
const MAX_PART = 120
/** Longest prefix, in characters; each may become three. */
export const MAX_PREFIX = 40

const PREFIX = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/

/** Whether subjects may begin with it. */
export function isPrefix(prefix: string): boolean {
  return prefix.length <= MAX_PREFIX && PREFIX.test(prefix)
}

/** One part of a subject for any string; no two strings have the same. */
export function partFor(name: string): string {
  const part = name.replaceAll(/[^a-z0-9-]+/gu, (characters) =>
    Buffer.from(characters).toString('hex').replaceAll(/../g, '_$&'),
  )
  // No name is encoded to an underscore with an "h" behind it.
  return part.length <= MAX_PART ? part : `_h${createHash('sha256').update(name).digest('hex')}`
}

/** The subject of a channel of the backplane. */
export function channelSubject(prefix: string, channel: string): string {
  return `${prefix}.msg.${partFor(channel)}`
}

/** The names that belong to the history of a topic. */
export class HistoryNames {
  readonly stream: string
  /** Everything that is stored, in whichever stream. */
  readonly liveSubjects: string
  readonly #log: string
  readonly #live: string

  constructor(prefix: string, topic: string) {
    const part = partFor(topic)
    this.stream = `${partFor(prefix)}__${part}`
    this.#log = `${prefix}.log.${part}.`
    this.#live = `${prefix}.live.${part}.`
    this.liveSubjects = `${this.#live}*`
  }

  logSubject(birth: string): string {
    return this.#log + birth
  }

  liveSubject(birth: string): string {
    return this.#live + birth
  }

  /** The birth of the stream that has this subject; undefined when it is none of ours. */
  birthOf(subject: string | undefined): string | undefined {
    return subject?.startsWith(this.#log) === true ? subject.slice(this.#log.length) : undefined
  }

  /** The same for the subject of a message that was stored. */
  birthOfLive(subject: string): string {
    return subject.slice(this.#live.length)
  }
}

/** All subjects of histories. */
export function allLogSubjects(prefix: string): string {
  return `${prefix}.log.>`
}

/** The subject of what is stored by way of this one. */
export function liveSubjectOf(prefix: string, logSubject: string): string {
  return `${prefix}.live.${logSubject.slice(`${prefix}.log.`.length)}`
}
