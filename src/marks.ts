/*
 * What a server tells a client that wants to go on where it was (browser/resume.ts): texts between the messages, which
 * begin with U+0001. A message of anybody's that begins so is sent with one U+0001 more, so that nobody can make up a mark.
 *
 *   h                     the server knows of this; the first message of all
 *   s POSITION TOPIC      from here on the client gets what is published to the topic
 *   g POSITION TOPIC      the same, but something is missing before
 *   p POSITION TOPIC      the next message has this position in the topic
 *   u TOPIC               the client has left the topic
 *
 * The client says where it was in the query of its request: `resume=`, with pairs TOPIC=POSITION, encoded like a query.
 */

const MARK_CODE = 1
const MARK = String.fromCharCode(MARK_CODE)

/** The name in the query of a request. */
export const RESUME_PARAMETER = 'resume'

/** The place of a message in the history of a topic: numbers without a gap, which count in one epoch only. */
export interface Position {
  /** Another one after the history was lost. */
  readonly epoch: string
  /** The first message has 1. */
  readonly sequence: number
}

/** What a mark says of the topic: the client is in it, is in it and has missed something, or gets a message of it next. */
export type MarkType = 'subscribed' | 'gap' | 'position'

const LETTERS: Readonly<Record<MarkType, string>> = { subscribed: 's', gap: 'g', position: 'p' }

export const HELLO: string = `${MARK}h`

export function formatMark(type: MarkType, position: Position, topic: string): string {
  return `${MARK}${LETTERS[type]} ${formatPosition(position)} ${topic}`
}

export function formatUnsubscribed(topic: string): string {
  return `${MARK}u ${topic}`
}

/** Whether it could be taken for a mark. */
function isMarked(text: string): boolean {
  return text.charCodeAt(0) === MARK_CODE
}

/** The same for the bytes of a text. */
export function isMarkedPayload(payload: Uint8Array): boolean {
  return payload[0] === MARK_CODE
}

/** The text of a message, in a form that is no mark. */
export function escapeText(text: string): string {
  return isMarked(text) ? MARK + text : text
}

/** The same for bytes. */
export function escapePayload(payload: Uint8Array): Uint8Array {
  return isMarkedPayload(payload) ? Buffer.concat([Buffer.of(MARK_CODE), payload]) : payload
}

const POSITION = /^([A-Za-z0-9_-]{1,64})\.(0|[1-9]\d{0,15})$/

/** `EPOCH.SEQUENCE`; opaque to everybody else. */
export function formatPosition({ epoch, sequence }: Position): string {
  return `${epoch}.${sequence}`
}

/** Undefined for anything that is no position. */
export function parsePosition(text: string): Position | undefined {
  const [, epoch, digits] = POSITION.exec(text) ?? []
  const sequence = Number(digits)
  return epoch === undefined || !Number.isSafeInteger(sequence) ? undefined : { epoch, sequence }
}

/** A client of ours cannot name as many. */
const MAX_RESUMED = 256

/** Where a client was, by topic; from the value of `resume`. */
export function parseResume(value: string): Map<string, Position> {
  const positions = new Map<string, Position>()
  for (const [topic, text] of new URLSearchParams(value)) {
    const position = parsePosition(text)
    if (position !== undefined && positions.size < MAX_RESUMED) positions.set(topic, position)
  }
  return positions
}
