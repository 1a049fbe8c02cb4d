/*
 * Who is in which topic. Joining and leaving take the same time however many topics and members there are, and a topic
 * with one member costs little more than its name: one alone stands for a set of its own.
 */

/** A set that mostly has one element, or none. */
export type Few<Element extends object> = undefined | Element | Set<Element>

function added<Element extends object>(few: Few<Element>, element: Element): Few<Element> {
  if (few === undefined) return element
  if (few instanceof Set) return few.add(element)
  return new Set([few, element])
}

/** The element is in it. */
function without<Element extends object>(few: Few<Element>, element: Element): Few<Element> {
  if (!(few instanceof Set)) return undefined
  few.delete(element)
  return few.size === 0 ? undefined : few
}

function has<Element extends object>(few: Few<Element>, element: Element): boolean {
  return few instanceof Set ? few.has(element) : few === element
}

function each<Element extends object>(few: Few<Element>): Iterable<Element> {
  if (few === undefined) return []
  return few instanceof Set ? few : [few]
}

function sizeOf<Element extends object>(few: Few<Element>): number {
  if (few === undefined) return 0
  return few instanceof Set ? few.size : 1
}

/** Who can be in topics: it keeps in which ones it is. */
export interface TopicMember {
  memberships: Few<Topic<TopicMember>>
}

/** A name, and who has subscribed to it. */
export class Topic<Member extends TopicMember> {
  readonly name: string
  /** @internal */
  few: Few<Member> = undefined

  constructor(name: string) {
    this.name = name
  }

  get members(): Iterable<Member> {
    return each(this.few)
  }

  get size(): number {
    return sizeOf(this.few)
  }
}

/** The topics that have members; one that has none is gone. */
export class TopicTable<Member extends TopicMember> {
  readonly #topics = new Map<string, Topic<Member>>()

  get(name: string): Topic<Member> | undefined {
    return this.#topics.get(name)
  }

  get size(): number {
    return this.#topics.size
  }

  names(): IterableIterator<string> {
    return this.#topics.keys()
  }

  /** Returns false when it is a member already. */
  add(name: string, member: Member): boolean {
    let topic = this.#topics.get(name)
    if (topic === undefined) {
      // A string that was cut out of a message would hold on to all of it.
      topic = new Topic(Buffer.from(name).toString())
      this.#topics.set(topic.name, topic)
    }
    if (has(topic.few, member)) return false
    topic.few = added(topic.few, member)
    member.memberships = added(member.memberships, topic)
    return true
  }

  /** Returns false when it is no member. */
  delete(name: string, member: Member): boolean {
    const topic = this.#topics.get(name)
    if (topic === undefined || !has(topic.few, member)) return false
    member.memberships = without(member.memberships, topic)
    this.#leave(topic, member)
    return true
  }

  /** Takes it out of all its topics. */
  deleteMember(member: Member): void {
    const { memberships } = member
    member.memberships = undefined
    for (const topic of each(memberships)) this.#leave(topic as Topic<Member>, member)
  }

  #leave(topic: Topic<Member>, member: Member): void {
    topic.few = without(topic.few, member)
    if (topic.few === undefined) this.#topics.delete(topic.name)
  }
}

/** Whether it is in the topic of this name. */
export function isMember<Member extends TopicMember>(member: Member, topic: Topic<Member> | undefined): boolean {
  return topic !== undefined && has(topic.few, member)
}

/** How many topics it is in. */
export function countTopics(member: TopicMember): number {
  return sizeOf(member.memberships)
}

/** The names of the topics that it is in. */
export function namesOf(member: TopicMember): Set<string> {
  return new Set(Array.from(each(member.memberships), (topic) => topic.name))
}
