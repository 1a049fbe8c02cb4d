import type { EventEmitter } from 'node:events'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import * as net from 'node:net'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import type { DeflateProfile } from '../../deflate.ts'
import { acceptFor, randomKey } from '../../handshake.ts'
import { isToken } from '../../headers.ts'
import { acceptAnswer, formatOffer, type PerMessageDeflateOptions } from './extension.ts'
import { http, https } from './node-http.ts'
import type { ClientOptions } from './options.ts'

/*
 * The opening handshake of a client, on node:http: agents, `createConnection`, redirects and the events on the way are
 * those of an http request, because programs see it.
 */

const PROTOCOL_VERSIONS: readonly unknown[] = [8, 13]
const DEFAULT_MAX_REDIRECTS = 10

/** The WebSocket that is being opened, as an emitter of events. */
type Emitter = EventEmitter & { readonly url: string }

/** What the handshake may do with its WebSocket. */
export interface Dialer {
  setUrl(url: string): void
  isConnecting(): boolean
  setClosing(): void
  /** The handshake has failed: `error`, then `close`. */
  fail(error: unknown): void
  /** The same in a later turn, for a socket that has to go. */
  failLater(socket: Duplex, error: unknown): void
  open(socket: Duplex, head: Buffer, protocol: string, deflate: DeflateProfile | undefined): void
}

type Options = RequestOptions & ClientOptions & { servername?: string | undefined }

/** Where a request goes, and whether its secrets may follow it. */
interface Origin {
  readonly host: string
  readonly isUnixSocket: boolean
  readonly isSecure: boolean
}

/** One opening handshake, redirects included. */
export class Dialing {
  readonly #websocket: Emitter
  readonly #dialer: Dialer
  readonly #options: ClientOptions
  readonly #subprotocols: readonly string[]
  readonly #url: URL
  #request: ClientRequest | undefined
  #aborted = false
  #redirects = 0
  /** Where the first request went. */
  #first: Origin | undefined
  #headers: Record<string, unknown>

  constructor(
    websocket: Emitter,
    dialer: Dialer,
    address: string | URL,
    subprotocols: readonly string[],
    options: ClientOptions,
  ) {
    this.#websocket = websocket
    this.#dialer = dialer
    this.#options = options
    this.#headers = { ...options.headers }
    const { protocolVersion = 13 } = options
    if (!PROTOCOL_VERSIONS.includes(protocolVersion)) {
      throw new RangeError(
        `Unsupported protocol version: ${protocolVersion} (supported versions: ${PROTOCOL_VERSIONS.join(', ')})`,
      )
    }
    this.#url = parseAddress(address)
    dialer.setUrl(this.#url.href)
    checkSubprotocols(subprotocols)
    this.#subprotocols = subprotocols
  }

  start(): void {
    this.#dial(this.#url)
  }

  /** Gives up: the WebSocket is closed already. */
  abort(): void {
    this.#aborted = true
    const request = this.#request
    if (request === undefined) return
    // In the middle of an answer, the request alone would wait for its end.
    request.destroy()
    request.socket?.destroy()
  }

  #dial(url: URL): void {
    const isSecure = url.protocol === 'wss:'
    const isUnixSocket = url.protocol === 'ws+unix:'
    const key = randomKey()
    const deflateOffer = this.#deflateOffer
    const options = this.#requestOptions(url, isSecure, isUnixSocket, key, deflateOffer)
    const request = (isSecure ? https : http).request(options)
    this.#request = request
    if (this.#redirects > 0) this.#websocket.emit('redirect', this.#websocket.url, request)
    if (options.timeout !== undefined && options.timeout > 0) {
      request.on('timeout', () => this.#failRequest(request, new Error('Opening handshake has timed out')))
    }
    request.on('error', (error) => {
      if (this.#request !== request || this.#aborted) return
      this.#request = undefined
      this.#dialer.fail(error)
    })
    request.on('response', (response) => this.#receiveResponse(request, response, url))
    request.on('upgrade', (response, socket, head) => this.#receiveUpgrade(response, socket, head, key, deflateOffer))
    const { finishRequest } = this.#options
    if (finishRequest !== undefined && finishRequest !== null) finishRequest(request, this.#websocket as never)
    else request.end()
  }

  /** What is offered of compression; undefined for nothing. */
  get #deflateOffer(): PerMessageDeflateOptions | undefined {
    const { perMessageDeflate } = this.#options
    if (!perMessageDeflate) return undefined
    return perMessageDeflate === true ? {} : perMessageDeflate
  }

  #requestOptions(
    url: URL,
    isSecure: boolean,
    isUnixSocket: boolean,
    key: string,
    deflate: PerMessageDeflateOptions | undefined,
  ): Options {
    const { protocolVersion = 13, origin, handshakeTimeout } = this.#options
    const options = {
      ...this.#options,
      ...{ socketPath: undefined, hostname: undefined, protocol: undefined, method: 'GET', host: undefined },
      ...{ path: undefined, port: undefined, timeout: handshakeTimeout },
    } as unknown as Options
    options.createConnection = (this.#options.createConnection ?? (isSecure ? connectTls : connectTcp)) as never
    options.defaultPort ??= isSecure ? 443 : 80
    options.port = url.port === '' ? options.defaultPort : url.port
    options.host = url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname
    options.headers = {
      ...this.#headers,
      'Sec-WebSocket-Version': protocolVersion,
      'Sec-WebSocket-Key': key,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
    } as never
    const headers = options.headers as unknown as Record<string, unknown>
    if (deflate !== undefined) headers['Sec-WebSocket-Extensions'] = formatOffer(deflate)
    if (this.#subprotocols.length > 0) headers['Sec-WebSocket-Protocol'] = this.#subprotocols.join(',')
    if (origin) headers[protocolVersion < 13 ? 'Sec-WebSocket-Origin' : 'Origin'] = origin
    options.path = url.pathname + url.search
    if (url.username !== '' || url.password !== '') {
      options.auth = `${decodeUserinfo(url.username)}:${decodeUserinfo(url.password)}`
    }
    if (isUnixSocket) {
      const [socketPath, path] = splitAt(options.path, ':')
      options.socketPath = socketPath
      options.path = path
    }
    if (this.#options.followRedirects === true) this.#guardSecrets(url, options, isSecure, isUnixSocket)
    return options
  }

  /**
   * On its way elsewhere, a request goes without what was meant for the first server, unless a listener says otherwise.
   * The first credentials that there are stay those of the first server.
   */
  #guardSecrets(url: URL, options: Options, isSecure: boolean, isUnixSocket: boolean): void {
    const host = isUnixSocket ? String(options.socketPath) : url.host
    if (this.#first === undefined) {
      this.#first = { host, isUnixSocket, isSecure }
      this.#headers = Object.fromEntries(
        Object.entries(this.#headers).map(([name, value]) => [name.toLowerCase(), value]),
      )
    } else if (this.#websocket.listenerCount('redirect') === 0) {
      const first = this.#first
      const isSameHost = first.isUnixSocket === isUnixSocket && first.host === host
      if (!isSameHost || (first.isSecure && !isSecure)) {
        dropHeaders(options, isSameHost ? ['authorization', 'cookie'] : ['authorization', 'cookie', 'host'])
        options.auth = undefined as never
      }
    }
    if (options.auth && !this.#headers['authorization']) {
      this.#headers['authorization'] = `Basic ${Buffer.from(options.auth).toString('base64')}`
    }
  }

  #failRequest(request: ClientRequest, error: Error): void {
    this.#aborted = true
    this.#request = undefined
    this.#dialer.setClosing()
    request.destroy()
    request.socket?.destroy()
    process.nextTick(() => this.#dialer.fail(error))
  }

  #receiveResponse(request: ClientRequest, response: IncomingMessage, url: URL): void {
    const { location } = response.headers
    const { statusCode = 0 } = response
    const { followRedirects, maxRedirects = DEFAULT_MAX_REDIRECTS } = this.#options
    if (location !== undefined && followRedirects === true && statusCode >= 300 && statusCode < 400) {
      if (++this.#redirects > maxRedirects) {
        this.#failRequest(request, new Error('Maximum redirects exceeded'))
        return
      }
      this.#request = undefined
      request.on('error', () => {})
      request.destroy()
      this.#follow(location, url)
    } else if (!this.#websocket.emit('unexpected-response', request, response)) {
      this.#failRequest(request, new Error(`Unexpected server response: ${statusCode}`))
    }
  }

  #follow(location: string, from: URL): void {
    let url: URL
    try {
      url = parseAddress(resolve(location, from))
    } catch (error) {
      this.#dialer.fail(error)
      return
    }
    this.#dialer.setUrl(url.href)
    this.#dial(url)
  }

  #receiveUpgrade(
    response: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    key: string,
    deflate: PerMessageDeflateOptions | undefined,
  ): void {
    this.#websocket.emit('upgrade', response)
    // A listener may have closed it.
    if (!this.#dialer.isConnecting()) return
    this.#request = undefined
    let profile: DeflateProfile | undefined
    try {
      checkAnswer(response, key, this.#subprotocols)
      profile = agreeOnExtensions(response.headers['sec-websocket-extensions'], deflate)
    } catch (error) {
      this.#dialer.failLater(socket, error)
      return
    }
    this.#dialer.open(socket, head, response.headers['sec-websocket-protocol'] ?? '', profile)
  }
}

function dropHeaders({ headers = {} }: Options, names: readonly string[]): void {
  for (const name of Object.keys(headers)) {
    if (names.includes(name.toLowerCase())) delete (headers as Record<string, unknown>)[name]
  }
}

/** A URL as the options of the request want it; throws SyntaxError for what is not an address of a WebSocket. */
function parseAddress(address: string | URL): URL {
  let url: URL
  try {
    url = new URL(address)
  } catch {
    throw new SyntaxError(`Invalid URL: ${address}`)
  }
  if (url.protocol === 'http:') url.protocol = 'ws:'
  else if (url.protocol === 'https:') url.protocol = 'wss:'
  const isUnixSocket = url.protocol === 'ws+unix:'
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:' && !isUnixSocket) {
    throw new SyntaxError('The URL\'s protocol must be one of "ws:", "wss:", "http:", "https:", or "ws+unix:"')
  }
  if (isUnixSocket && url.pathname === '') throw new SyntaxError("The URL's pathname is empty")
  if (url.hash !== '') throw new SyntaxError('The URL contains a fragment identifier')
  return url
}

function resolve(location: string, from: URL): URL {
  try {
    return new URL(location, from)
  } catch {
    throw new SyntaxError(`Invalid URL: ${location}`)
  }
}

function checkSubprotocols(subprotocols: readonly unknown[]): void {
  const valid = subprotocols.every((subprotocol) => typeof subprotocol === 'string' && isToken(subprotocol))
  if (valid && new Set(subprotocols).size === subprotocols.length) return
  throw new SyntaxError('An invalid or duplicated subprotocol was specified')
}

function decodeUserinfo(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** The text before a separator and behind it; without one, nothing is behind. */
function splitAt(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator)
  return at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
}

function connectTcp(options: net.NetConnectOpts & { path?: string; socketPath?: string }): net.Socket {
  // http leaves the path of the request in; that of the socket is the one that counts.
  return net.connect({ ...options, path: options.socketPath } as net.NetConnectOpts)
}

function connectTls(options: tls.ConnectionOptions): tls.TLSSocket {
  const servername = options.servername ?? (net.isIP(options.host ?? '') === 0 ? options.host : '')
  return tls.connect({ ...options, path: undefined, servername } as tls.ConnectionOptions)
}

function checkAnswer(response: IncomingMessage, key: string, subprotocols: readonly string[]): void {
  const { headers } = response
  if (headers.upgrade === undefined || headers.upgrade.toLowerCase() !== 'websocket') {
    throw new Error('Invalid Upgrade header')
  }
  if (headers['sec-websocket-accept'] !== acceptFor(key)) throw new Error('Invalid Sec-WebSocket-Accept header')
  const chosen = headers['sec-websocket-protocol']
  if (chosen === undefined) {
    if (subprotocols.length > 0) throw new Error('Server sent no subprotocol')
  } else if (subprotocols.length === 0) throw new Error('Server sent a subprotocol but none was requested')
  else if (!subprotocols.includes(chosen)) throw new Error('Server sent an invalid subprotocol')
}

function agreeOnExtensions(
  header: string | undefined,
  offered: PerMessageDeflateOptions | undefined,
): DeflateProfile | undefined {
  if (header === undefined) return undefined
  if (offered === undefined) {
    throw new Error('Server sent a Sec-WebSocket-Extensions header but no extension was requested')
  }
  return acceptAnswer(header, offered)
}
