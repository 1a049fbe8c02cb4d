import { hash, randomBytes } from 'node:crypto'
import { HANDSHAKE_GUID, WEBSOCKET_VERSION } from './constants.ts'
import { HandshakeError, UsageError } from './errors.ts'
import {
  formatFields,
  type HeaderFields,
  isToken,
  listIncludes,
  mergeFields,
  parseExtensions,
  parseSubprotocols,
} from './headers.ts'
import type { RequestHead, ResponseHead } from './http-head.ts'

/*
 * The opening handshake (RFC 6455 §4), both sides, as text: what a request must say, what is answered, how an answer is
 * checked. Who may come in is decided in admission.ts.
 */

/** `Sec-WebSocket-Accept` for a key (§4.2.2, item 5.4). */
export function acceptFor(key: string): string {
  return hash('sha1', key + HANDSHAKE_GUID, 'base64')
}

/** Base64 of exactly 16 bytes (§4.2.1, item 5): 22 digits, of which the last has 2 bits only, and two `=`. */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/

/** The one path at which a WebSocket can be opened, or a function that knows: it is asked with the path, without the query. */
export type PathRule = string | ((path: string) => boolean)

/** Whether a path is one of those; without a rule any is. */
export function isServed(path: string, rule: PathRule | undefined): boolean {
  if (rule === undefined) return true
  return typeof rule === 'function' ? rule(path) : rule === path
}

/** The path of a target, and its query with the `?`, as they were sent. */
export function splitTarget(target: string): { path: string; search: string } {
  const query = target.indexOf('?')
  return query === -1 ? { path: target, search: '' } : { path: target.slice(0, query), search: target.slice(query) }
}

/** Where a request came from. */
export interface RequestOrigin {
  /** Address of the peer, IPv4-mapped IPv6 as IPv4. */
  readonly remoteAddress: string
  /** Port of the peer; undefined where its stream has none, or is gone. */
  readonly remotePort?: number | undefined
  /** It came over TLS. */
  readonly secure: boolean
}

/** A request as handlers see it: the opening handshake of a WebSocket, or a plain HTTP GET. The token is not in it. */
export class HttpRequest {
  readonly method: string
  /** The target as sent, `/path?query`. */
  readonly url: string
  /** The target without its query; not decoded. */
  readonly path: string
  readonly headers: HeaderFields
  readonly secure: boolean
  /** It came with the right token; false where the server has none. */
  authenticated = false
  readonly #from: RequestOrigin
  #query: URLSearchParams | undefined

  constructor(head: RequestHead, from: RequestOrigin) {
    this.method = head.method
    this.url = head.target
    this.path = splitTarget(head.target).path
    this.headers = head.headers
    this.secure = from.secure
    this.#from = from
  }

  /**
   * Address of the peer, IPv4-mapped IPv6 as IPv4. Of a client of a loopback address that had gone before anybody
   * asked: the address that the server listens on.
   */
  get remoteAddress(): string {
    return this.#from.remoteAddress
  }

  /** Port of the peer; undefined where its stream has none, or is gone. */
  get remotePort(): number | undefined {
    return this.#from.remotePort
  }

  /** The decoded query. */
  get query(): URLSearchParams {
    this.#query ??= new URLSearchParams(splitTarget(this.url).search)
    return this.#query
  }

  /** `Host`: which name the client called. */
  get host(): string | undefined {
    return this.headers.get('host')
  }

  /** `Origin`: the page that a browser sends this for (§4.1, item 8); programs send none. */
  get origin(): string | undefined {
    return this.headers.get('origin')
  }

  /** Offered subprotocols, in the client's order. */
  get subprotocols(): string[] {
    const offered = this.headers.get('sec-websocket-protocol')
    return offered === undefined ? [] : (parseSubprotocols(offered) ?? [])
  }

  /** Whether this asks for a WebSocket rather than for a plain answer. */
  get isUpgrade(): boolean {
    return listIncludes(this.headers.get('upgrade'), 'websocket')
  }
}

/**
 * Turns an absolute-form target (RFC 9112 §3.2.2) into its path, and refuses what no request may have, WebSocket or
 * not: another method than those (by default GET and HEAD), a body, no `Host`.
 */
export function checkRequest(head: RequestHead, methods: readonly string[] = ['GET', 'HEAD']): RequestHead {
  const { headers } = head
  if (!methods.includes(head.method)) {
    throw new HandshakeError('ERR_METHOD', 405, 'Use GET.')
  }
  const length = headers.getSingle('content-length')
  if (headers.has('transfer-encoding') || (length !== undefined && length !== '0')) {
    throw new HandshakeError('ERR_REQUEST_BODY', 413, 'Send the request without a body.')
  }
  if (headers.has('expect')) {
    throw new HandshakeError('ERR_HEAD_SYNTAX', 417, 'Send the request without an Expect header.')
  }
  const host = headers.getSingle('host')
  if (host === undefined && head.version === '1.1') {
    throw new HandshakeError('ERR_HOST_HEADER', 400, 'Send a Host header.')
  }
  headers.getSingle('origin')
  if (head.target.startsWith('/')) return head
  const authorityStart = head.target.indexOf('//') + 2
  const pathStart = head.target.indexOf('/', authorityStart)
  const authority = pathStart === -1 ? '' : head.target.slice(authorityStart, pathStart)
  if (pathStart === -1 || !isAuthority(authority) || authority.toLowerCase() !== host?.toLowerCase()) {
    throw new HandshakeError(
      'ERR_HOST_HEADER',
      400,
      'An absolute URI must have a path and the authority that Host has.',
    )
  }
  return { ...head, target: head.target.slice(pathStart) }
}

/** What an authority without a user may consist of (RFC 3986 §3.2), a little too much of it. */
function isAuthority(authority: string): boolean {
  return !/["<>@\\^`{|}]/.test(authority)
}

/** What RFC 6455 §4.2.1 demands of a client that asks for an upgrade to WebSocket; returns its key. */
export function checkUpgrade(head: RequestHead): string {
  const { headers } = head
  if (head.method !== 'GET') throw new HandshakeError('ERR_METHOD', 405, 'Use GET.')
  if (head.version !== '1.1') throw new HandshakeError('ERR_HTTP_VERSION', 505, 'Use HTTP/1.1.')
  if (!listIncludes(headers.get('connection'), 'upgrade')) {
    throw new HandshakeError('ERR_UPGRADE_HEADERS', 400, 'The header Connection must name Upgrade.')
  }
  const version = headers.getSingle('sec-websocket-version')
  if (version !== WEBSOCKET_VERSION) {
    throw new HandshakeError('ERR_WEBSOCKET_VERSION', 426, 'Use Sec-WebSocket-Version: 13.')
  }
  const key = headers.getSingle('sec-websocket-key')
  if (key === undefined || !KEY.test(key)) {
    throw new HandshakeError('ERR_WEBSOCKET_KEY', 400, 'The header Sec-WebSocket-Key must be 16 bytes in base64.')
  }
  const offered = headers.get('sec-websocket-protocol')
  if (offered !== undefined && parseSubprotocols(offered) === undefined) {
    throw new HandshakeError(
      'ERR_SUBPROTOCOL_HEADER',
      400,
      'The header Sec-WebSocket-Protocol must list tokens, none twice.',
    )
  }
  const extensions = headers.get('sec-websocket-extensions')
  if (extensions !== undefined && parseExtensions(extensions) === undefined) {
    throw new HandshakeError('ERR_EXTENSION_HEADER', 400, 'The header Sec-WebSocket-Extensions is malformed.')
  }
  return key
}

/** The first of ours that the client offered (§4.2.2, item 5.5: none that it did not offer); '' when there is none. */
export function selectSubprotocol(supported: readonly string[], offered: readonly string[]): string {
  return supported.find((subprotocol) => offered.includes(subprotocol)) ?? ''
}

/** Fields of the handshake that are not the user's to set. */
const OWN_FIELDS = [
  'host',
  'upgrade',
  'connection',
  'sec-websocket-key',
  'sec-websocket-accept',
  'sec-websocket-version',
  'sec-websocket-protocol',
  'sec-websocket-extensions',
]

function checkOwnFields(headers: Readonly<Record<string, string>>): void {
  const own = Object.keys(headers).find((name) => OWN_FIELDS.includes(name.toLowerCase()))
  if (own !== undefined) throw new UsageError('ERR_HEADER_VALUE', `the header ${own} is set by the handshake`)
}

/** What the 101 answer says beside the fixed lines. */
export interface Acceptance {
  readonly key: string
  readonly subprotocol: string
  /** `Sec-WebSocket-Extensions`; default none. */
  readonly extensions?: string | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** The answer that opens the connection (§4.2.2). */
export function formatAcceptance({ key, subprotocol, extensions, headers }: Acceptance): string {
  let text = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptFor(key)}\r\n`
  if (subprotocol !== '') text += formatFields([['Sec-WebSocket-Protocol', subprotocol]])
  if (extensions !== undefined) text += `Sec-WebSocket-Extensions: ${extensions}\r\n`
  if (headers !== undefined) {
    checkOwnFields(headers)
    text += formatFields(Object.entries(headers))
  }
  return `${text}\r\n`
}

/** A plain HTTP answer. */
export interface HttpAnswer {
  /** Default 200. */
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  /** Text is sent as UTF-8. Default empty. */
  readonly body?: string | Uint8Array
}

const REASON_PHRASES: Readonly<Record<number, string>> = {
  200: 'OK',
  204: 'No Content',
  301: 'Moved Permanently',
  302: 'Found',
  304: 'Not Modified',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  426: 'Upgrade Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
  505: 'HTTP Version Not Supported',
}

/** The bytes of a plain HTTP answer, after which the connection closes. A HEAD request gets the head alone. */
export function formatAnswer(answer: HttpAnswer, method = 'GET'): Buffer {
  const { status = 200, headers = {}, body = '' } = answer
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new UsageError('ERR_HEADER_VALUE', `${status} is not the status of an HTTP answer; use 200 to 599`)
  }
  const content = typeof body === 'string' ? Buffer.from(body) : body
  const named = new Set(Object.keys(headers).map((name) => name.toLowerCase()))
  let head = `HTTP/1.1 ${status} ${REASON_PHRASES[status] ?? 'Status'}\r\nConnection: close\r\n`
  if (!named.has('content-type')) head += 'Content-Type: text/plain; charset=utf-8\r\n'
  // RFC 9110 §8.6: no Content-Length with 204, and one of ours only.
  if (status !== 204) head += `Content-Length: ${content.byteLength}\r\n`
  head += formatFields(Object.entries(headers).filter(([name]) => !isFramingField(name)))
  const bytes = Buffer.from(`${head}\r\n`, 'latin1')
  return method === 'HEAD' || status === 204 || status === 304 ? bytes : Buffer.concat([bytes, content])
}

function isFramingField(name: string): boolean {
  return ['content-length', 'connection', 'transfer-encoding'].includes(name.toLowerCase())
}

/** Seconds after which a peer that came at a bad time may try again. */
const RETRY_AFTER_SECONDS = 5

/** The answer that refuses a request: its status, what the status demands, and one line that says what to do. */
export function formatRefusal(
  error: HandshakeError,
  headers: Readonly<Record<string, string>> = {},
  method?: string,
): Buffer {
  return formatAnswer(
    {
      status: error.status,
      headers: mergeFields(demandedBy(error), headers),
      body: `${error.message}\n`,
    },
    method,
  )
}

function demandedBy(error: HandshakeError): Record<string, string> {
  switch (error.status) {
    case 401:
      return { 'WWW-Authenticate': 'Bearer' }
    case 405:
      return { Allow: 'GET, HEAD' }
    case 426:
      // §4.4: "indicating the version(s) the server is capable of understanding"
      return { Upgrade: 'websocket', 'Sec-WebSocket-Version': WEBSOCKET_VERSION }
    case 429:
    case 503:
      return { 'Retry-After': String(RETRY_AFTER_SECONDS) }
    default:
      return {}
  }
}

/** The client's side of a handshake. */
export interface ClientRequest {
  readonly target: string
  readonly host: string
  readonly key: string
  readonly subprotocols: readonly string[]
  /** Offered extensions; default none. */
  readonly extensions?: string | undefined
  readonly headers: Readonly<Record<string, string>>
}

/** A fresh key (§4.1, item 7). */
export function randomKey(): string {
  return randomBytes(16).toString('base64')
}

/** The request that opens a connection (§4.1). */
export function formatRequest({ target, host, key, subprotocols, extensions, headers }: ClientRequest): string {
  if (!subprotocols.every(isToken) || new Set(subprotocols).size !== subprotocols.length) {
    throw new UsageError('ERR_OPTION', 'subprotocols must be tokens, none twice')
  }
  checkOwnFields(headers)
  let text = `GET ${target} HTTP/1.1\r\n`
  text += formatFields([['Host', host]])
  text += `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: ${WEBSOCKET_VERSION}\r\n`
  if (subprotocols.length > 0) text += `Sec-WebSocket-Protocol: ${subprotocols.join(', ')}\r\n`
  if (extensions !== undefined) text += `Sec-WebSocket-Extensions: ${extensions}\r\n`
  return `${text + formatFields(Object.entries(headers))}\r\n`
}

/** What the server has chosen of the offers. */
export interface Choice {
  /** '' for none. */
  readonly subprotocol: string
  /** `Sec-WebSocket-Extensions`, where some were offered; undefined for none. */
  readonly extensions: string | undefined
}

/** What §4.1 demands of the server's answer; what it says of offered extensions is for others to read. */
export function checkResponse(head: ResponseHead, request: ClientRequest): Choice {
  const { status, headers } = head
  if (status !== 101) {
    throw new HandshakeError('ERR_RESPONSE_STATUS', status, `The server refused the WebSocket with status ${status}.`)
  }
  if (headers.get('upgrade')?.toLowerCase() !== 'websocket' || !listIncludes(headers.get('connection'), 'upgrade')) {
    throw new HandshakeError(
      'ERR_RESPONSE_UPGRADE',
      status,
      'The answer lacks Upgrade: websocket or Connection: Upgrade.',
    )
  }
  if (headers.get('sec-websocket-accept') !== acceptFor(request.key)) {
    throw new HandshakeError('ERR_RESPONSE_ACCEPT', status, 'The answer has a wrong Sec-WebSocket-Accept.')
  }
  const extensions = headers.get('sec-websocket-extensions')
  if (extensions !== undefined && request.extensions === undefined) {
    throw new HandshakeError('ERR_RESPONSE_EXTENSION', status, 'The server chose an extension that was not offered.')
  }
  const chosen = headers.get('sec-websocket-protocol')
  if (chosen !== undefined && !request.subprotocols.includes(chosen)) {
    throw new HandshakeError('ERR_RESPONSE_SUBPROTOCOL', status, 'The server chose a subprotocol that was not offered.')
  }
  return { subprotocol: chosen ?? '', extensions }
}
