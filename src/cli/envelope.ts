// What the page and the app say to each other: one JSON object per text message. assets/page.html is the other side.

/** A client that offers this subprotocol speaks in envelopes; every other client gets and gives bare text. */
export const PAGE_SUBPROTOCOL = 'fullduplex.page'

export type ToPage =
  | { type: 'welcome'; you: string; tabs: number; run: string; maxMessageBytes: number }
  | { type: 'joined' | 'left'; who: string; tabs: number }
  | { type: 'message'; from: string; text: string }
  | { type: 'received'; id: number }
  | { type: 'relayed'; id: number; others: number }

export interface FromPage {
  readonly type: 'send' | 'broadcast'
  readonly id: number
  readonly text: string
}

export function formatEnvelope(envelope: ToPage): string {
  return JSON.stringify(envelope)
}

/** undefined: this is not a message of the page. */
export function parseEnvelope(content: string | Buffer): FromPage | undefined {
  if (typeof content !== 'string') return undefined
  let value: unknown
  try {
    value = JSON.parse(content)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { type, id, text } = value as Record<string, unknown>
  if ((type !== 'send' && type !== 'broadcast') || typeof id !== 'number' || typeof text !== 'string') return undefined
  return { type, id, text }
}
