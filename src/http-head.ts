import { HandshakeError } from './errors.ts'
import { HeaderFields, isFieldValue, isToken, trimBlanks } from './headers.ts'

/*
 * The head of an HTTP/1.1 message (RFC 9112 §2 to §5), strictly: lines end in CRLF, nothing is folded, nothing is
 * guessed. It accepts nothing that node:http refuses; docs/HANDSHAKE.md lists where it refuses more.
 */

/** How much of a head is read before the peer is refused. */
export interface HeadLimits {
  readonly maxHeadBytes: number
  readonly maxHeaders: number
}

export interface RequestHead {
  readonly method: string
  readonly target: string
  readonly version: '1.0' | '1.1'
  readonly headers: HeaderFields
}

export interface ResponseHead {
  readonly status: number
  readonly statusText: string
  readonly headers: HeaderFields
}

const END_OF_HEAD = '\r\n\r\n'
const EMPTY: Buffer = Buffer.alloc(0)

/** Collects the bytes of a head until it is whole. */
export class HeadReader {
  readonly #limits: HeadLimits
  #bytes: Buffer = EMPTY

  constructor(limits: HeadLimits) {
    this.#limits = limits
  }

  /**
   * Takes the next bytes. Returns the head as latin1 text without its empty line, and the bytes behind it (which
   * belong to the next protocol), or undefined while the head is not whole.
   */
  push(chunk: Buffer): { text: string; rest: Buffer } | undefined {
    const searched = Math.max(0, this.#bytes.length - END_OF_HEAD.length + 1)
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    const end = this.#bytes.indexOf(END_OF_HEAD, searched, 'latin1')
    // Up to three bytes may be the start of the empty line, which is no part of the head.
    if ((end === -1 ? this.#bytes.length - END_OF_HEAD.length + 1 : end) > this.#limits.maxHeadBytes)
      throw this.#tooLarge()
    if (end === -1) return undefined
    const next = end + END_OF_HEAD.length
    const rest = next === this.#bytes.length ? EMPTY : this.#bytes.subarray(next)
    return { text: this.#bytes.toString('latin1', 0, end), rest }
  }

  #tooLarge(): HandshakeError {
    const { maxHeadBytes } = this.#limits
    const lineEnd = this.#bytes.indexOf('\r\n', 0, 'latin1')
    return lineEnd === -1 || lineEnd > maxHeadBytes
      ? new HandshakeError(
          'ERR_TARGET_TOO_LONG',
          414,
          `The request line is over ${maxHeadBytes} bytes; shorten the URL.`,
        )
      : new HandshakeError(
          'ERR_HEAD_TOO_LARGE',
          431,
          `The head is over ${maxHeadBytes} bytes; send fewer or shorter headers.`,
        )
  }
}

/** Parses what `HeadReader` gave on the server side. */
export function parseRequestHead(text: string, limits: HeadLimits): RequestHead {
  const lineEnd = endOfLine(text, 0)
  const line = text.slice(0, lineEnd)
  const afterMethod = line.indexOf(' ')
  const afterTarget = line.indexOf(' ', afterMethod + 1)
  const method = line.slice(0, Math.max(0, afterMethod))
  const target = line.slice(afterMethod + 1, Math.max(0, afterTarget))
  if (!isToken(method) || !isRequestTarget(target)) {
    throw new HandshakeError('ERR_HEAD_SYNTAX', 400, 'The request line is not "METHOD target HTTP/1.1".')
  }
  const version = line.slice(afterTarget + 1)
  if (version !== 'HTTP/1.1' && version !== 'HTTP/1.0') {
    throw new HandshakeError('ERR_HTTP_VERSION', 505, 'Use HTTP/1.1.')
  }
  const headers = parseFields(text, lineEnd + 2, limits)
  return { method, target, version: version === 'HTTP/1.1' ? '1.1' : '1.0', headers }
}

/** Parses what `HeadReader` gave on the client side. */
export function parseResponseHead(text: string, limits: HeadLimits): ResponseHead {
  const lineEnd = endOfLine(text, 0)
  const line = text.slice(0, lineEnd)
  const digits = line.slice(9, 12)
  const status = Number(digits)
  const statusText = line.slice(13)
  const separated = line.length === 12 || line[12] === ' '
  if (
    !line.startsWith('HTTP/1.1 ') ||
    String(status) !== digits ||
    !(status >= 100) ||
    !separated ||
    !isFieldValue(statusText)
  ) {
    throw new HandshakeError('ERR_HEAD_SYNTAX', 0, 'The server did not answer with HTTP/1.1.')
  }
  return { status, statusText, headers: parseFields(text, lineEnd + 2, limits, status) }
}

/** Visible ASCII without a fragment (RFC 9112 §3.2, RFC 6455 §3): a path, or an absolute URI. */
function isRequestTarget(target: string): boolean {
  for (let at = 0; at < target.length; at++) {
    const code = target.charCodeAt(at)
    if (code <= 0x20 || code >= 0x7f || code === 0x23) return false
  }
  return target.startsWith('/') || target.startsWith('http://') || target.startsWith('https://')
}

function parseFields(text: string, start: number, limits: HeadLimits, receivedStatus?: number): HeaderFields {
  const headers = new HeaderFields()
  for (let at = start; at < text.length; ) {
    const lineEnd = endOfLine(text, at)
    const colon = text.indexOf(':', at)
    const name = text.slice(at, colon)
    const value = trimBlanks(text, colon + 1, lineEnd)
    // A name that is a token also means: no folded line, no blank before the colon (RFC 9112 §5.1, §5.2).
    if (colon === -1 || !isToken(name) || !isFieldValue(value)) {
      throw new HandshakeError('ERR_HEAD_SYNTAX', receivedStatus ?? 400, 'A header line is not "Name: value".')
    }
    headers.append(name, value)
    if (headers.size > limits.maxHeaders) {
      throw new HandshakeError(
        'ERR_HEAD_TOO_MANY_FIELDS',
        receivedStatus ?? 431,
        `More than ${limits.maxHeaders} headers; send fewer.`,
      )
    }
    at = lineEnd + 2
  }
  return headers
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf('\r\n', at)
  return end === -1 ? text.length : end
}
