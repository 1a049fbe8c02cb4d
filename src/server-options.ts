import type { Backplane } from './backplane.ts'
import type { ConnectionHandlers, WebSocketConnection } from './connection.ts'
import { UsageError } from './errors.ts'
import type { CompressionOptions } from './extension.ts'
import type { HttpRequest, PathRule } from './handshake.ts'
import { isToken } from './headers.ts'
import type { HistoryOption } from './history.ts'
import { isLoopbackHost, type TlsSource } from './listen.ts'
import {
  CONNECTION_DEFAULTS,
  type ConnectionLimits,
  checkOptions,
  HEAD_DEFAULTS,
  type HeadLimitOptions,
} from './options.ts'
import type { ReceptionHandlers } from './reception.ts'

/** What a server tells its user; all handlers are optional, and one set serves all clients. */
export interface ServerHandlers<UserData> extends ConnectionHandlers<UserData>, ReceptionHandlers<UserData> {
  /** A client is in. When it returns a promise, the client's first message waits for it. */
  open?(client: WebSocketConnection<UserData>, request: HttpRequest): unknown
  /** The backplane works again, of which the handler `error` has been told that it does not. */
  backplaneRestored?(): void
}

/** Options of `WebSocketServer`. An unknown one is a `UsageError` that names the nearest known one. */
export interface WebSocketServerOptions<UserData = unknown>
  extends ServerHandlers<UserData>,
    ConnectionLimits,
    HeadLimitOptions {
  /** Port to listen on; 0 (the default) for any free one. */
  readonly port?: number | undefined
  /** Ports to try in order, passing over those that are taken or forbidden. Instead of `port`. */
  readonly possiblePorts?: readonly number[] | undefined
  /**
   * Address to listen on. Default: 127.0.0.1 and ::1, on the same port; a port of which another program holds one counts
   * as taken. Any address that others can reach needs a `token` or `authorize`.
   */
  readonly host?: string | undefined
  /**
   * Options of node:tls (`key`, `cert`, ...), or a function that gets them: the server speaks wss:// and https://. The
   * function is called by `listen`, and again by `updateTls`; it may be async.
   */
  readonly tls?: TlsSource | undefined
  /**
   * Name of the app, such as `my-app`. With it, a page whose Origin may connect can find the app on one of several ports
   * and be told why it was refused, as the client of `fullduplex/browser` does; see docs/HANDSHAKE.md. It is no secret.
   */
  readonly app?: string | undefined
  /** The only path at which a WebSocket can be opened, or a function that knows; others get 404. Default: any. */
  readonly path?: PathRule | undefined
  /**
   * The secret that a client must present: `?token=`, `Authorization: Bearer`, or the subprotocol
   * `bearer.<base64url of the token>` offered beside a real one. Without it 401.
   */
  readonly token?: string | undefined
  /**
   * Origins whose pages may connect: exact (`https://app.example`), with `*` for one whole host label, or `'*'` for all.
   * Default: with a token any; with `authorize` alone those of the same host; with neither also those of this machine.
   */
  readonly origins?: readonly string[] | '*' | undefined
  /** Names under which the server may be called, beside loopback ones. Default: with a token or `authorize` any. */
  readonly hosts?: readonly string[] | undefined
  /**
   * Subprotocols in the server's order of preference; the first that the client offers is chosen. With `app` also
   * `fullduplex`, behind all others.
   */
  readonly subprotocols?: readonly string[] | undefined
  /**
   * Compresses messages (permessage-deflate, RFC 7692) for clients that offer it; `true` for its defaults. Default false:
   * it saves bytes and costs time, and on one machine bytes cost nothing. See docs/COMPRESSION.md.
   */
  readonly compression?: boolean | CompressionOptions | undefined
  /** Most sockets at a time, those in the handshake included; beyond it 503. Default 65,536. */
  readonly maxConnections?: number | undefined
  /**
   * Most sockets of one address at a time; beyond it 429. Default 256, except for loopback addresses: all programs of
   * the machine share them, and so does every client behind a proxy on it.
   */
  readonly maxConnectionsPerAddress?: number | undefined
  /** Most topics that one client may be in. Default 100,000. */
  readonly maxTopicsPerClient?: number | undefined
  /** Longest name of a topic, in bytes of UTF-8. Default 256. */
  readonly maxTopicBytes?: number | undefined
  /**
   * Carries what is published and broadcast to other processes, and back; see docs/SCALING.md. One object per server, made
   * by `fullduplex/cluster/redis`, `.../nats` or `.../node`. Default: none, one process.
   */
  readonly backplane?: Backplane | undefined
  /**
   * Topics with a history, by name, or a function that gives the limits of a topic's history and undefined for a topic
   * without one. A client that comes back (`reconnecting` with `resume`) is sent what it has missed. With a backplane all
   * processes have to be given the same, and the backplane keeps it; else it is kept in memory. See docs/TOPICS.md.
   */
  readonly history?: HistoryOption | undefined
}

const OPTION_NAMES: readonly string[] = [
  ...Object.keys(CONNECTION_DEFAULTS),
  ...Object.keys(HEAD_DEFAULTS),
  ...['port', 'possiblePorts', 'host', 'tls', 'app', 'path', 'token', 'origins', 'hosts', 'subprotocols'],
  'compression',
  ...['maxConnections', 'maxConnectionsPerAddress', 'maxTopicsPerClient', 'maxTopicBytes', 'backplane', 'history'],
  ...['backplaneRestored'],
  ...['authorize', 'respond', 'refused', 'open', 'message', 'messageStream', 'drain', 'close', 'error'],
]

/** Throws `UsageError` for options that cannot be, as far as they can be judged one by one. */
export function checkServerOptions<UserData>(options: WebSocketServerOptions<UserData>): void {
  checkOptions(options, OPTION_NAMES)
  const { port, possiblePorts, host, path, subprotocols, token, authorize } = options
  if (port !== undefined && possiblePorts !== undefined) {
    throw new UsageError('ERR_OPTION', 'give either port or possiblePorts')
  }
  if (possiblePorts !== undefined) {
    const valid = Array.isArray(possiblePorts) && possiblePorts.length > 0
    if (!valid || ![...possiblePorts].every((port) => Number.isInteger(port) && port >= 0 && port <= 65_535)) {
      throw new UsageError('ERR_OPTION', 'the option possiblePorts must be a list of port numbers, 0 to 65535')
    }
  }
  if (path !== undefined && typeof path !== 'function' && !path.startsWith('/')) {
    throw new UsageError('ERR_OPTION', 'the option path must begin with /, or be a function')
  }
  if (!(subprotocols ?? []).every(isToken)) {
    throw new UsageError('ERR_OPTION', 'the option subprotocols must be a list of tokens')
  }
  if (!isLoopbackHost(host) && token === undefined && authorize === undefined) {
    throw new UsageError('ERR_OPTION', `others can reach ${host}: give a token or an authorize handler too`)
  }
}
