import { createHash, timingSafeEqual } from 'node:crypto'
import { HandshakeError, UsageError } from './errors.ts'
import type { HttpRequest } from './handshake.ts'
import { splitTarget } from './handshake.ts'
import { HeaderFields, trimBlanks } from './headers.ts'
import type { RequestHead } from './http-head.ts'

/*
 * Who may come in. Three rules, each a small function with one answer:
 *
 *   Host    which name the client called (against DNS rebinding)
 *   Origin  which page a browser calls for (against cross-site hijacking)
 *   token   whether the caller knows the secret
 */

/** The rules that a server has been given. */
export interface AdmissionOptions {
  readonly token?: string | undefined
  /** Exact origins (`https://app.example`), with `*` for one whole host label (`https://*.example`); `'*'` for all. */
  readonly origins?: readonly string[] | '*' | undefined
  /** Names (with or without port) under which the server may be called. */
  readonly hosts?: readonly string[] | undefined
  /** An `authorize` handler decides too. */
  readonly hasAuthorize: boolean
}

// ── names and addresses ─────────────────────────────────────────────────────────────────────────────────────────────

/** An IPv4-mapped IPv6 address (`::ffff:127.0.0.1`) as IPv4; anything else as it is. */
export function normalizeAddress(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}

/** A loopback address (127.0.0.0/8 or ::1), already normalized. */
export function isLoopbackAddress(address: string): boolean {
  return address === '::1' || isLoopbackIPv4(address)
}

function isLoopbackIPv4(address: string): boolean {
  const parts = address.split('.')
  return parts.length === 4 && parts[0] === '127' && parts.every((part) => String(Number(part) & 0xff) === part)
}

/** `hostname` as the URL parser gives it: lower case, IPv4 in four decimal parts, IPv6 in brackets. */
function isLoopbackHostname(hostname: string): boolean {
  if (hostname === 'localhost' || hostname === '[::1]' || isLoopbackIPv4(hostname)) return true
  // IPv4 in IPv6: the parser writes [::ffff:127.0.0.1] as [::ffff:7f00:1].
  if (!hostname.startsWith('[::ffff:')) return false
  const groups = hostname.slice('[::ffff:'.length, -1).split(':')
  return groups.length === 2 && groups[0]!.length === 4 && groups[0]!.startsWith('7f')
}

/** A `Host` header as a URL; undefined when it is more or less than `name` or `name:port`. */
function parseHost(host: string, scheme: string): URL | undefined {
  const url = URL.canParse(`${scheme}//${host}`) ? new URL(`${scheme}//${host}`) : undefined
  const plain =
    url !== undefined && url.username === '' && url.password === '' && url.pathname === '/' && url.search === ''
  return plain && !/[\\/?#@\s]/.test(host) ? url : undefined
}

/** An `Origin` header as a URL; undefined for `null` and for what no browser sends (userinfo, a path, a query). */
function parseOrigin(origin: string): URL | undefined {
  const url = URL.canParse(origin) ? new URL(origin) : undefined
  const scheme = origin.indexOf('://')
  const authority = origin.slice(scheme + 3)
  const plain = scheme !== -1 && !/[\\/?#@]/.test(authority) && !/\s/.test(origin)
  return url !== undefined && url.host !== '' && plain ? url : undefined
}

// ── Host ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * DNS rebinding: a page of evil.example whose name suddenly resolves to 127.0.0.1 is same-host for the browser, but
 * `Host` still says evil.example. Listed hosts bind always; loopback alone, where nothing else protects the server.
 */
export function checkHost(request: HttpRequest, options: AdmissionOptions): void {
  const open = options.token === undefined && !options.hasAuthorize
  if (options.hosts === undefined && !open) return
  const host = request.host ?? ''
  if (options.hosts === undefined && isPlainLoopback(host)) return
  const url = parseHost(host, 'http:')
  if (url !== undefined && (isLoopbackHostname(url.hostname) || isListedHost(url, options.hosts))) return
  throw new HandshakeError('ERR_HOST', 403, 'This server is not called by that name; add it to the option hosts.')
}

/** The common names, told without a parser: one of them alone, or with a port. */
function isPlainLoopback(host: string): boolean {
  const colon = host.lastIndexOf(':')
  const name = colon === -1 || host.endsWith(']') ? host : host.slice(0, colon)
  const port = host.slice(name.length + 1)
  return (
    (name === '127.0.0.1' || name === 'localhost' || name === '[::1]') &&
    (port === '' || String(Number(port) & 0xffff) === port)
  )
}

function isListedHost(url: URL, hosts: readonly string[] = []): boolean {
  return hosts.some((listed) => {
    const allowed = parseHost(listed, 'http:')
    if (allowed === undefined) return false
    // A URL leaves its default port out; the list means it where it says it.
    const anyPort = allowed.port === '' && !listed.endsWith(':80')
    return anyPort ? allowed.hostname === url.hostname : allowed.host === url.host
  })
}

// ── Origin ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Cross-site hijacking: a browser lets any page open a WebSocket to anywhere, and sends cookies along. A token is not
 * sent by itself, so it may come from any page unless `origins` says otherwise; without one, only pages of this very
 * host, listed ones and, where nobody looks at cookies, those of the own machine. Programs send no Origin.
 */
export function checkOrigin(request: HttpRequest, options: AdmissionOptions): void {
  const { origin } = request
  const { token, origins, hasAuthorize } = options
  if (origin === undefined || origins === '*' || origins?.includes('*')) return
  if (token !== undefined && origins === undefined) return
  if (origins?.includes(origin)) return
  const url = parseOrigin(origin)
  if (url !== undefined) {
    if (origins?.some((pattern) => matchesOrigin(url, pattern))) return
    if (token === undefined && isSameHost(url, request.host)) return
    if (token === undefined && !hasAuthorize && isWeb(url) && isLoopbackHostname(url.hostname)) return
  }
  throw new HandshakeError('ERR_ORIGIN', 403, 'Pages of that Origin may not connect; add it to the option origins.')
}

function isWeb(url: URL): boolean {
  return url.protocol === 'http:' || url.protocol === 'https:'
}

function isSameHost(origin: URL, host: string | undefined): boolean {
  return isWeb(origin) && host !== undefined && parseHost(host, origin.protocol)?.host === origin.host
}

/** `https://*.example.com`: a `*` stands for exactly one whole label. */
function matchesOrigin(origin: URL, pattern: string): boolean {
  const allowed = parseOrigin(pattern)
  if (allowed === undefined || allowed.protocol !== origin.protocol) return false
  const allowedLabels = allowed.host.toLowerCase().split('.')
  const labels = origin.host.toLowerCase().split('.')
  return (
    labels.length === allowedLabels.length &&
    labels.every((label, index) => label === allowedLabels[index] || (allowedLabels[index] === '*' && label !== ''))
  )
}

/** Refuses options that could never match, when the server is made and not when the first page is turned away. */
export function checkAdmissionOptions({ token, origins, hosts }: AdmissionOptions): void {
  if (token !== undefined && (typeof token !== 'string' || token === '')) {
    throw new UsageError('ERR_OPTION', 'the option token must be a string that is not empty')
  }
  for (const pattern of origins === '*' ? [] : (origins ?? [])) {
    const wildcard = pattern.replaceAll(/(\/\/|\.)\*(?=\.)/g, '$1a')
    if (pattern === '*' || pattern === 'null' || (!wildcard.includes('*') && parseOrigin(wildcard) !== undefined))
      continue
    throw new UsageError('ERR_OPTION', `"${pattern}" in the option origins is not an origin like https://app.example`)
  }
  for (const host of hosts ?? []) {
    if (host.includes('*') || parseHost(host, 'http:') === undefined) {
      throw new UsageError(
        'ERR_OPTION',
        `"${host}" in the option hosts is not a name like app.example or app.example:8080`,
      )
    }
  }
}

// ── token ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const BEARER_SUBPROTOCOL = 'bearer.'

/**
 * Takes the tokens that a request presents (`?token=`, `Authorization: Bearer`, the subprotocol `bearer.<base64url>`)
 * out of it: what goes on to handlers, logs and answers no longer has them.
 */
export function takeTokens(head: RequestHead): { tokens: string[]; head: RequestHead } {
  const tokens: string[] = []
  const { path, search } = splitTarget(head.target)
  const kept = search
    .slice(1)
    .split('&')
    .filter((pair) => {
      const token = new URLSearchParams(pair).get('token')
      if (token !== null) tokens.push(token)
      return token === null
    })
  const headers = new HeaderFields()
  for (const [name, value] of head.headers) {
    if (name === 'authorization' && value.slice(0, 7).toLowerCase() === 'bearer ') {
      tokens.push(value.slice(7).trim())
    } else if (name === 'sec-websocket-protocol') {
      const others = value.split(',').filter((element) => {
        const subprotocol = trimBlanks(element)
        if (!subprotocol.startsWith(BEARER_SUBPROTOCOL)) return true
        tokens.push(Buffer.from(subprotocol.slice(BEARER_SUBPROTOCOL.length), 'base64url').toString())
        return false
      })
      if (others.length > 0) headers.append(name, others.map((other) => trimBlanks(other)).join(', '))
    } else if (name === 'referer') {
      // The page's own address may have the token in its query.
      headers.append(name, splitTarget(value).path)
    } else headers.append(name, value)
  }
  const query = kept.join('&')
  return { tokens, head: { ...head, target: query === '' ? path : `${path}?${query}`, headers } }
}

/** Wrong tokens of one address within this time ... */
const FAILURE_WINDOW_MS = 60_000
/** ... beyond which further wrong ones get 429. */
const MAX_FAILURES = 5
/** Tokens that one request may present: one in each way. */
const MAX_PRESENTED = 3
/** Addresses that are remembered; the oldest is forgotten first. */
const MAX_ADDRESSES = 10_000

/** Holds presented tokens against the right one, and counts failures per address. */
export class TokenGate {
  readonly #digest: Buffer
  readonly #failures = new Map<string, { count: number; since: number }>()

  constructor(token: string) {
    this.#digest = digest(token)
  }

  /**
   * Passes a right token, whatever happened before: all programs of a machine share one address, and a page with an
   * old token must not lock out the others. Throws 401, or 429 after repeated failures, for anything else.
   */
  check(tokens: readonly string[], from: { readonly remoteAddress: string }, nowMs: number): void {
    // All are compared, in constant time over digests: nothing tells how much of which was right.
    const right = tokens
      .slice(0, MAX_PRESENTED)
      .flatMap(readings)
      .map((token) => timingSafeEqual(digest(token), this.#digest))
    if (right.includes(true)) return
    if (this.#countFailure(from.remoteAddress, nowMs) > MAX_FAILURES) {
      throw new HandshakeError(
        'ERR_TOKEN_ATTEMPTS',
        429,
        'Too many attempts without the right token from this address; use the right one or wait a minute.',
      )
    }
    throw tokens.length === 0
      ? new HandshakeError(
          'ERR_TOKEN_MISSING',
          401,
          'Send the token: ?token=, Authorization: Bearer, or the subprotocol bearer.<base64url>.',
        )
      : new HandshakeError(
          'ERR_TOKEN_WRONG',
          401,
          'The token is wrong; take the one that the running app has printed or handed out.',
        )
  }

  #countFailure(address: string, nowMs: number): number {
    const known = this.#failures.get(address)
    const failures = known !== undefined && nowMs - known.since < FAILURE_WINDOW_MS ? known : { count: 0, since: nowMs }
    failures.count++
    // Put at the end, so that the first entry is the one that has been quiet for longest.
    this.#failures.delete(address)
    this.#failures.set(address, failures)
    if (this.#failures.size > MAX_ADDRESSES) this.#failures.delete(this.#failures.keys().next().value!)
    return failures.count
  }
}

/** In a query that was not escaped, the `+` of a base64 token reads as a space. */
function readings(token: string): string[] {
  return token.includes(' ') ? [token, token.replaceAll(' ', '+')] : [token]
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
