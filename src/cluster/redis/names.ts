/*
 * Names in Redis. What belongs to one history has the same hash tag, which puts it on one node of a cluster.
 *
 *   PREFIX:CHANNEL               channel: messages
 *   PREFIX:~ID                   channel: on which a process hears itself
 *   {PREFIX:TOPIC}:log           stream: the history of a topic
 *   {PREFIX:TOPIC}:state         hash: which history it is, and how far it has come
 *   {PREFIX:TOPIC}:by:ID         string: what a process has appended last
 *   {PREFIX:TOPIC}:live          channel: what is appended
 */

/** Longest prefix, in characters. */
const MAX_PREFIX = 64
const PREFIX = /^[A-Za-z0-9_-]+([.:/][A-Za-z0-9_-]+)*$/

/** Whether names may begin with it: without braces, which would make another hash tag. */
export function isPrefix(prefix: string): boolean {
  return prefix.length <= MAX_PREFIX && PREFIX.test(prefix)
}

export function messageChannel(prefix: string, channel: string): string {
  return `${prefix}:${channel}`
}

/** No channel of the backplane begins with this sign. */
export function echoChannel(prefix: string, id: string): string {
  return `${prefix}:~${id}`
}

/** The keys of a history. */
export interface HistoryKeys {
  readonly log: string
  readonly state: string
}

export function historyKeys(prefix: string, topic: string): HistoryKeys {
  return { log: `{${prefix}:${topic}}:log`, state: `{${prefix}:${topic}}:state` }
}

export function appendedKey(prefix: string, topic: string, id: string): string {
  return `{${prefix}:${topic}}:by:${id}`
}

export function liveChannel(prefix: string, topic: string): string {
  return `{${prefix}:${topic}}:live`
}
