// What main.ts asks of the load process, one thing at a time.
import type { DialectName } from './dialects.ts'

/** A publisher and those who hear it. */
export interface Lane {
  /** Port of the publisher's server. */
  publisher: number
  subscribers: readonly { port: number; count: number }[]
  /** One: every subscriber is in it. Several: each message is for a random one of them. */
  topics: number
  /** Number of the first topic: those of two lanes differ. */
  firstTopic: number
  /** Members of each topic, drawn from the subscribers; where there are several topics. */
  membersPerTopic: number
  /** Messages published in one write; the next are when the last one has arrived everywhere. */
  batch: number
  /** Bytes of a message. */
  size: number
}

/** Who is in which topics, where their memory is measured. */
export type Membership = 'all-in-one-client' | 'spread' | 'one-topic'

export type LoadRequest =
  | { ask: 'open'; dialect: DialectName; lanes: readonly Lane[] }
  | { ask: 'run'; seconds: number }
  | { ask: 'latency'; seconds: number }
  | { ask: 'gather'; port: number; clients: number }
  | { ask: 'join'; membership: Membership; subscriptions: number }
  | { ask: 'close' }

export interface RunResult {
  messages: number
  deliveries: number
  seconds: number
  /** CPU time of the load process. */
  cpuMicros: number
}

/** In milliseconds, of each subscriber of the first lane. */
export type LatencyResult = { messages: number; p50: number; p99: number }[]
