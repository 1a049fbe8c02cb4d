import { HandshakeError, UsageError } from './errors.ts'

/*
 * Where a client goes: URLs (RFC 6455 §3) turned into addresses, and what of a request may follow a redirect.
 */

/** The other end of a connection, and how to reach it. */
export interface Target {
  readonly protocol: 'ws:' | 'wss:'
  /** A name or an address; IPv6 without brackets. `localhost` for a Unix socket. */
  readonly hostname: string
  readonly port: number
  /** Path of a Unix socket, or name of a Windows pipe, where the URL names one. */
  readonly socketPath: string | undefined
  /** As `Host` has it: with the port, unless that is the default. */
  readonly host: string
  /** Path and query of the request. */
  readonly path: string
  /** The URL, without user and password. */
  readonly href: string
}

/** A target, and the `Authorization` that its URL asks for. */
export interface ParsedUrl {
  readonly target: Target
  readonly credentials: Readonly<Record<string, string>>
}

/** Ports that a URL leaves out. */
const DEFAULT_PORTS = { 'ws:': 80, 'wss:': 443 } as const

/** `http:` is as good as `ws:`; a page's address can be given as it is. */
const PROTOCOLS: Readonly<Record<string, 'ws:' | 'wss:'>> = {
  'ws:': 'ws:',
  'wss:': 'wss:',
  'http:': 'ws:',
  'https:': 'wss:',
}

const UNIX_PROTOCOLS: Readonly<Record<string, 'ws:' | 'wss:'>> = { 'ws+unix:': 'ws:', 'wss+unix:': 'wss:' }

/** Parses what the user has given; throws `UsageError` `ERR_URL` for what cannot be. */
export function parseUrl(given: string | URL): ParsedUrl {
  const text = String(given)
  if (!URL.canParse(text)) throw new UsageError('ERR_URL', 'this is not a URL')
  const url = new URL(text)
  // §3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used".
  if (text.includes('#')) throw new UsageError('ERR_URL', 'the URL may not have a fragment')
  const unixProtocol = UNIX_PROTOCOLS[url.protocol]
  if (unixProtocol !== undefined) return { target: parseUnixUrl(url, unixProtocol), credentials: {} }
  const protocol = PROTOCOLS[url.protocol]
  if (protocol === undefined)
    throw new UsageError('ERR_URL', 'the URL must begin with ws://, wss://, http://, https:// or ws+unix:')
  return { target: toTarget(url, protocol), credentials: basicCredentials(url) }
}

function toTarget(url: URL, protocol: 'ws:' | 'wss:', socketPath?: string): Target {
  const { host, hostname, port, pathname, search } = url
  return {
    protocol,
    hostname: hostname.startsWith('[') ? hostname.slice(1, -1) : hostname,
    port: port === '' ? DEFAULT_PORTS[protocol] : Number(port),
    socketPath,
    host,
    path: pathname + search,
    href: `${protocol}//${host}${pathname}${search}`,
  }
}

/** `ws+unix:/path/to.sock:/request/path?query`: the first colon ends the path of the socket. */
function parseUnixUrl(url: URL, protocol: 'ws:' | 'wss:'): Target {
  if (url.host !== '') throw new UsageError('ERR_URL', 'a ws+unix: URL has no host; write ws+unix:/path/to.sock:/path')
  const { pathname, search } = url
  const colon = pathname.indexOf(':')
  const socketPath = decode(colon === -1 ? pathname : pathname.slice(0, colon), 'the path of the socket')
  const requestPath = colon === -1 ? '' : pathname.slice(colon + 1)
  if (socketPath === '') throw new UsageError('ERR_URL', 'a ws+unix: URL must name a socket')
  if (requestPath !== '' && !requestPath.startsWith('/'))
    throw new UsageError('ERR_URL', 'what follows the socket in a ws+unix: URL must begin with /')
  const request = toTarget(new URL(`${protocol}//localhost${requestPath}${search}`), protocol, socketPath)
  return { ...request, href: `${protocol.slice(0, -1)}+unix:${pathname}${search}` }
}

function basicCredentials({ username, password }: URL): Record<string, string> {
  if (username === '' && password === '') return {}
  const pair = `${decode(username, 'the user')}:${decode(password, 'the password')}`
  return { Authorization: `Basic ${Buffer.from(pair).toString('base64')}` }
}

function decode(encoded: string, what: string): string {
  try {
    return decodeURIComponent(encoded)
  } catch {
    throw new UsageError('ERR_URL', `${what} in the URL is not percent-encoded UTF-8`)
  }
}

/** Answers that send the client elsewhere with the same request (RFC 9110 §15.4). */
export function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308
}

/**
 * Where a redirect leads. A user and password in `location` are ignored: they are the server's, not the user's. Throws
 * `HandshakeError` `ERR_REDIRECT` for what is not followed.
 */
export function redirectTarget(from: Target, status: number, location: string | undefined): Target {
  const refuse = (why: string): HandshakeError =>
    new HandshakeError('ERR_REDIRECT', status, `The redirect (${status}) is not followed: ${why}.`)
  if (from.socketPath !== undefined) throw refuse('it comes from a Unix socket')
  if (location === undefined || !URL.canParse(location, from.href)) throw refuse('its Location is missing or no URL')
  const url = new URL(location, from.href)
  const protocol = PROTOCOLS[url.protocol]
  if (protocol === undefined) throw refuse('it leads to another scheme')
  if (from.protocol === 'wss:' && protocol === 'ws:') throw refuse('it leads from wss: to ws:')
  return toTarget(url, protocol)
}

/** Whether what is secret to one may be told the other (RFC 6454 §4). */
export function isSameOrigin(a: Target, b: Target): boolean {
  return a.protocol === b.protocol && a.hostname === b.hostname && a.port === b.port && a.socketPath === b.socketPath
}

const SECRET_FIELDS = ['authorization', 'cookie', 'cookie2', 'proxy-authorization']

/** The headers that may go to another origin. */
export function withoutSecrets(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !SECRET_FIELDS.includes(name.toLowerCase())))
}

/** The subprotocols that may go to another origin: a token can stand among them, because pages cannot set headers. */
export function withoutTokens(subprotocols: readonly string[]): string[] {
  return subprotocols.filter((subprotocol) => !subprotocol.startsWith('bearer.'))
}
