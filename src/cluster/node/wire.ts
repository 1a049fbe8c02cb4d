import type { ResolvedHistoryLimits } from '../../history.ts'
import type { Position } from '../../marks.ts'

/*
 * What members (the backplanes of servers and publishers) and the exchange between them say to each other. It may go over
 * a channel that carries other things, too, so a message can be told from those, and nothing is believed:
 *
 *   { type: 'fullduplex', version: 1, member: ID, items: [[NAME, ...], ...] }
 *
 *   from a member                           from the exchange
 *   join prefix probe channels              joined probe
 *   leave                                   gone
 *   ping                                    pong
 *   publish channel payload                 message channel payload
 *   subscribe request channels              done request value
 *   unsubscribe request channels            failed request reason
 *   append request topic payload limits     entry topic sequence payload
 *   read request topic after                lost count
 *   follow request topic
 *   unfollow topic
 *
 * The probe is bytes: how it arrives tells how bytes arrive.
 */

const TYPE = 'fullduplex'
/** Both sides must have the same: a primary process outlives workers that are started anew with other code. */
const VERSION = 1

/** Bytes, or their base64. */
export type Payload = Uint8Array | string

/**
 * How bytes are put into a message: as they are; as base64, where the channel knows JSON alone; in memory of their own,
 * where the whole memory around them would be copied.
 */
export type Encoding = 'plain' | 'base64' | 'own memory'

export type MemberItem =
  | readonly ['join', prefix: string, probe: unknown, channels: readonly string[]]
  | readonly ['leave']
  | readonly ['ping']
  | readonly ['publish', channel: string, payload: Payload]
  | readonly ['subscribe' | 'unsubscribe', request: number, channels: readonly string[]]
  | readonly ['append', request: number, topic: string, payload: Payload, limits: ResolvedHistoryLimits]
  | readonly ['read', request: number, topic: string, after: number]
  | readonly ['follow', request: number, topic: string]
  | readonly ['unfollow', topic: string]

export type ExchangeItem =
  | readonly ['joined', probe: unknown]
  | readonly ['gone']
  | readonly ['pong']
  | readonly ['message', channel: string, payload: Payload]
  | readonly ['done', request: number, value: unknown]
  | readonly ['failed', request: number, reason: string]
  | readonly ['entry', topic: string, sequence: number, payload: Payload]
  | readonly ['lost', count: number]

/** A message, of which the items are still to be looked at. */
export interface WireMessage {
  readonly member: string
  readonly items: readonly unknown[]
}

export const PROBE: Uint8Array = Uint8Array.of(1)

export function formatMessage(member: string, items: readonly (MemberItem | ExchangeItem)[]): object {
  return { type: TYPE, version: VERSION, member, items }
}

/** Undefined for anything else that goes over the same channel. */
export function parseMessage(value: unknown): WireMessage | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { type, version, member, items } = value as Record<string, unknown>
  if (type !== TYPE || version !== VERSION || typeof member !== 'string' || !Array.isArray(items)) return undefined
  return { member, items }
}

/** The channel on which threads of the same process call the exchange. */
export const CALLING_CHANNEL: string = `${TYPE} ${VERSION}`

/** The call of a member: what is said between it and the exchange goes over a channel with this name. */
export interface Call {
  readonly member: string
  readonly line: string
  readonly threadId: number
  /** How often the member says something, at least; 0 for never. */
  readonly pingIntervalMs: number
}

/** Undefined for anything else. */
export function parseCall(value: unknown): Call | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { member, line, threadId, pingIntervalMs } = value as Record<string, unknown>
  const valid = isString(member) && isString(line) && isCount(threadId) && isCount(pingIntervalMs)
  return valid ? (value as Call) : undefined
}

// ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How bytes arrive over a channel, and are to be sent, by what has become of the probe. */
export function encodingOf(probe: unknown): Encoding {
  return probe instanceof Uint8Array ? 'plain' : 'base64'
}

export function encodePayload(payload: Payload, encoding: Encoding): Payload {
  if (encoding === 'base64') {
    if (typeof payload === 'string') return payload
    return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('base64')
  }
  const bytes = decodePayload(payload)
  if (encoding === 'plain' || bytes.buffer.byteLength === bytes.byteLength) return bytes
  return new Uint8Array(bytes)
}

export function decodePayload(payload: Payload): Uint8Array {
  return typeof payload === 'string' ? Buffer.from(payload, 'base64') : payload
}

// ── items ───────────────────────────────────────────────────────────────────────────────────────────────────────────

type Check = (value: unknown) => boolean

const isAnything: Check = () => true
const isString: Check = (value) => typeof value === 'string'
const isStrings: Check = (value) => Array.isArray(value) && value.every(isString)
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0
const isPayload: Check = (value) => typeof value === 'string' || value instanceof Uint8Array
const isLimits: Check = (value) => {
  const { maxMessages, maxAgeMs, maxBytes } = (value ?? {}) as Record<string, unknown>
  return [maxMessages, maxAgeMs, maxBytes].every(isCount)
}

const MEMBER_ITEMS = new Map<unknown, readonly Check[]>([
  ['join', [isString, isAnything, isStrings]],
  ['leave', []],
  ['ping', []],
  ['publish', [isString, isPayload]],
  ['subscribe', [isCount, isStrings]],
  ['unsubscribe', [isCount, isStrings]],
  ['append', [isCount, isString, isPayload, isLimits]],
  ['read', [isCount, isString, isCount]],
  ['follow', [isCount, isString]],
  ['unfollow', [isString]],
])

const EXCHANGE_ITEMS = new Map<unknown, readonly Check[]>([
  ['joined', [isAnything]],
  ['gone', []],
  ['pong', []],
  ['message', [isString, isPayload]],
  ['done', [isCount, isAnything]],
  ['failed', [isCount, isString]],
  ['entry', [isString, isCount, isPayload]],
  ['lost', [isCount]],
])

function hasForm(item: unknown, forms: ReadonlyMap<unknown, readonly Check[]>): boolean {
  if (!Array.isArray(item)) return false
  const checks = forms.get(item[0])
  return checks?.length === item.length - 1 && checks.every((check, index) => check(item[index + 1]))
}

/** What a member has said; undefined for anything else. */
export function parseMemberItem(item: unknown): MemberItem | undefined {
  return hasForm(item, MEMBER_ITEMS) ? (item as MemberItem) : undefined
}

/** What the exchange has said; undefined for anything else. */
export function parseExchangeItem(item: unknown): ExchangeItem | undefined {
  return hasForm(item, EXCHANGE_ITEMS) ? (item as ExchangeItem) : undefined
}

// ── values of answers ───────────────────────────────────────────────────────────────────────────────────────────────

/** A part of a log, as it travels. */
export interface WirePage {
  readonly epoch: string
  readonly first: number
  readonly entries: readonly (readonly [sequence: number, payload: Payload])[]
}

/** The position in an answer; throws when there is none. */
export function readPosition(value: unknown): Position {
  const { epoch, sequence } = (value ?? {}) as Record<string, unknown>
  if (!isString(epoch) || !isCount(sequence)) throw new Error('the exchange has given no position')
  return { epoch: epoch as string, sequence: sequence as number }
}

/** The page in an answer; throws when there is none. */
export function readPage(value: unknown): WirePage {
  const { epoch, first, entries } = (value ?? {}) as Record<string, unknown>
  const isPage = isString(epoch) && isCount(first) && Array.isArray(entries)
  if (!isPage || !entries.every((entry) => Array.isArray(entry) && isCount(entry[0]) && isPayload(entry[1]))) {
    throw new Error('the exchange has given no page')
  }
  return value as WirePage
}
