import { HandshakeError } from '../../src/errors.ts'
import { HttpRequest } from '../../src/handshake.ts'
import { HeaderFields } from '../../src/headers.ts'
import type { HeadLimits, RequestHead, ResponseHead } from '../../src/http-head.ts'

/** Header lines in order; a list, so that one name can stand twice. */
export type Lines = ReadonlyArray<readonly [name: string, value: string]>

export const LIMITS: HeadLimits = { maxHeadBytes: 16_384, maxHeaders: 100 }

/** The key of RFC 6455 §1.3, and what answers it. */
export const SAMPLE_KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
export const SAMPLE_ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='

export function fieldsOf(lines: Lines): HeaderFields {
  const fields = new HeaderFields()
  for (const [name, value] of lines) fields.append(name, value)
  return fields
}

/** What a client asks for when it asks for a WebSocket (§4.1), with other lines instead of (undefined: without) some. */
export function upgradeLines(changes: Readonly<Record<string, string | undefined>> = {}): Lines {
  const lines = {
    Host: 'localhost:8080',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': SAMPLE_KEY,
    'Sec-WebSocket-Version': '13',
    ...changes,
  }
  return Object.entries(lines).filter((line): line is [string, string] => line[1] !== undefined)
}

export function requestHead(lines: Lines, more: Partial<Omit<RequestHead, 'headers'>> = {}): RequestHead {
  return { method: 'GET', target: '/', version: '1.1', ...more, headers: fieldsOf(lines) }
}

export function responseHead(status: number, lines: Lines): ResponseHead {
  return { status, statusText: '', headers: fieldsOf(lines) }
}

export function requestOf(lines: Lines, more: Partial<Omit<RequestHead, 'headers'>> = {}): HttpRequest {
  return new HttpRequest(requestHead(lines, more), { remoteAddress: '127.0.0.1', secure: false })
}

/** How a decision went: `accepted`, or the status and the code of the refusal. Other exceptions go through to the test. */
export function verdictOf(decide: () => unknown): string {
  try {
    decide()
    return 'accepted'
  } catch (error) {
    if (!(error instanceof HandshakeError)) throw error
    return `${error.status} ${error.code}`
  }
}
