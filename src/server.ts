import type { TlsOptions } from 'node:tls'
import { checkAdmissionOptions } from './admission.ts'
import { type AttachableServer, attachTo } from './attach.ts'
import { checkCloseArguments } from './close-frame.ts'
import { type ConnectionOwner, type ConnectionSettings, WebSocketConnection } from './connection.ts'
import { CloseCode } from './constants.ts'
import type { Data } from './data.ts'
import { UsageError } from './errors.ts'
import { resolveCompression } from './extension.ts'
import { callHandler, reportError } from './handlers.ts'
import type { HttpRequest, PathRule } from './handshake.ts'
import { Hub, type TopicListener } from './hub.ts'
import { randomId } from './ids.ts'
import { type Listening, listen } from './listen.ts'
import { HELLO, parseResume, RESUME_PARAMETER } from './marks.ts'
import {
  CONNECTION_DEFAULTS,
  CompressedSettings,
  checkOptions,
  DEFAULT_MAX_TOPIC_BYTES,
  HEAD_DEFAULTS,
  resolveTiming,
  withDefaults,
} from './options.ts'
import type { PreparedMessage } from './prepared.ts'
import { APP_SUBPROTOCOL, checkAppName } from './probe.ts'
import type { PublishOptions, PublishResult } from './publishing.ts'
import { type Accepted, Reception } from './reception.ts'
import { checkServerOptions, type WebSocketServerOptions } from './server-options.ts'

export type { ServerHandlers, WebSocketServerOptions } from './server-options.ts'

const DEFAULT_MAX_CONNECTIONS = 65_536
const DEFAULT_MAX_TOPICS_PER_CLIENT = 100_000
/** Sockets beyond `maxConnections` that are answered with 503; further ones are closed without a word. */
const REFUSED_AT_A_TIME = 1_024

/** How a server closes. */
export interface ServerCloseOptions {
  /** Close code for the clients. Default 1001. */
  readonly code?: number | undefined
  /** Close reason for the clients. Default none. */
  readonly reason?: string | undefined
  /** How long clients may take to close before they are cut, in milliseconds. Default `closeTimeoutMs`. */
  readonly timeoutMs?: number | undefined
  /**
   * Gives the port up at once: newcomers come to whoever shares it (node:cluster), or takes it now. Default false: they
   * get 503 until everybody is gone. Servers that this one was attached to are their owner's.
   */
  readonly stopListening?: boolean | undefined
}

/**
 * A WebSocket server (RFC 6455) on its own port (`listen`), on http servers of yours (`attach`), or both.
 *
 * Errors: the constructor throws `UsageError` for options that cannot be.
 */
export class WebSocketServer<UserData = unknown> {
  readonly #options: WebSocketServerOptions<UserData>
  readonly #clients = new Map<string, WebSocketConnection<UserData>>()
  readonly #hub: Hub<UserData>
  readonly #reception: Reception<UserData>
  readonly #owner: ConnectionOwner<UserData>
  readonly #compressed: CompressedSettings | undefined
  readonly #sweepMs: number
  readonly #detachments = new Set<() => void>()
  #sweep: NodeJS.Timeout | undefined
  #listening: Listening | undefined
  #starting = false
  #closing: Promise<void> | undefined
  #lastGone: (() => void) | undefined

  constructor(options: WebSocketServerOptions<UserData> = {}) {
    checkServerOptions(options)
    const admission = {
      token: options.token,
      origins: options.origins,
      hosts: options.hosts,
      hasAuthorize: options.authorize !== undefined,
    }
    checkAdmissionOptions(admission)
    checkAppName(options.app)
    this.#options = options
    const { settings, sweepMs, handshakeTicks } = resolveTiming('server', options)
    this.#sweepMs = sweepMs
    this.#hub = new Hub<UserData>({
      clients: this.#clients,
      backplane: options.backplane,
      history: options.history,
      maxTopicsPerClient: options.maxTopicsPerClient ?? DEFAULT_MAX_TOPICS_PER_CLIENT,
      maxTopicBytes: options.maxTopicBytes ?? DEFAULT_MAX_TOPIC_BYTES,
      report: (error) => this.#report(error),
      restored: () =>
        callHandler(
          () => this.#options.backplaneRestored?.(),
          (error) => this.#report(error),
        ),
    })
    this.#owner = this.#newOwner(settings)
    const compression = resolveCompression(options.compression)
    this.#compressed = compression && new CompressedSettings(settings, compression)
    this.#reception = new Reception({
      admission,
      app: options.app,
      handlers: options,
      headLimits: withDefaults(HEAD_DEFAULTS, options),
      path: options.path,
      subprotocols: [...(options.subprotocols ?? []), ...(options.app === undefined ? [] : [APP_SUBPROTOCOL])],
      compression,
      maxConnections: options.maxConnections ?? DEFAULT_MAX_CONNECTIONS,
      maxConnectionsPerAddress: options.maxConnectionsPerAddress,
      handshakeTicks,
      closeTicks: settings.closeTicks,
      sweepMs,
      open: (accepted) => this.#open(accepted),
      report: (error) => this.#report(error),
    })
  }

  /** The clients by id, from the 101 answer until TCP is gone. */
  get clients(): ReadonlyMap<string, WebSocketConnection<UserData>> {
    return this.#clients
  }

  /** The port that the server listens on; null when it does not. */
  get port(): number | null {
    return this.#listening?.port ?? null
  }

  /**
   * Starts listening. Resolves with the port and the addresses.
   *
   * @throws WebSocketError `ERR_PORTS_TAKEN` when none of the ports is free, UsageError `ERR_SERVER_STATE` when the
   *   server listens already or was closed, or what the system says.
   */
  async listen(): Promise<{ port: number; addresses: readonly string[] }> {
    if (this.#listening !== undefined || this.#starting)
      throw new UsageError('ERR_SERVER_STATE', 'the server listens already')
    this.#checkOpen()
    const { port = 0, possiblePorts = [port], host, tls, handshakeTimeoutMs } = this.#options
    this.#starting = true
    try {
      const listening = await listen({
        ports: possiblePorts,
        host,
        tls,
        handshakeTimeoutMs: handshakeTimeoutMs ?? CONNECTION_DEFAULTS.handshakeTimeoutMs,
        maxSockets: (this.#options.maxConnections ?? DEFAULT_MAX_CONNECTIONS) + REFUSED_AT_A_TIME,
        onSocket: (socket, door, waitedMs) =>
          this.#reception.receiveSocket(socket, door, Math.round(waitedMs / this.#sweepMs)),
      })
      if (this.#closing !== undefined) {
        await listening.close()
        this.#checkOpen()
      }
      try {
        this.#begin()
      } catch (error) {
        await listening.close()
        throw error
      }
      this.#listening = listening
      return { port: listening.port, addresses: listening.addresses }
    } finally {
      this.#starting = false
    }
  }

  /**
   * Takes a renewed certificate without a restart: handshakes from now on get it, open connections go on. Without argument
   * the function `tls` is asked again; with one, what it does not name stays as it is.
   *
   * @throws UsageError `ERR_SERVER_STATE` when the server does not listen, or not with TLS; `ERR_OPTION` when certificate
   *   and key cannot be used, or for what a listening server cannot change (`requestCert`, ...); what the function `tls`
   *   throws. The old certificate stays.
   */
  async updateTls(tls?: TlsOptions): Promise<void> {
    if (this.#listening === undefined) throw new UsageError('ERR_SERVER_STATE', 'the server does not listen')
    await this.#listening.updateTls(tls)
  }

  /**
   * Takes WebSocket requests of a node:http or node:https server: all of them, or those for `path` (default: the option
   * `path`). Requests for other paths stay with their owners. Returns the function that detaches; `close` does it too.
   */
  attach(httpServer: AttachableServer, options: { readonly path?: PathRule } = {}): () => void {
    this.#checkOpen()
    const detach = attachTo(httpServer, {
      path: options.path ?? this.#options.path,
      receiveUpgrade: (...upgrade) => this.#reception.receiveUpgrade(...upgrade),
      report: (error) => this.#report(error),
    })
    this.#detachments.add(detach)
    this.#begin()
    return () => {
      detach()
      this.#detachments.delete(detach)
    }
  }

  // ── messages for many ─────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends a message to all clients, or to some of them; with a backplane also to those of the other processes. It is
   * encoded once, and compressed once for each way of doing so.
   *
   * @throws UsageError `ERR_DATA_TYPE` for anything but a string, a `Uint8Array`, an `ArrayBuffer`, or what `prepare` gives.
   */
  broadcast(data: Data | PreparedMessage, options?: PublishOptions<WebSocketConnection<UserData>>): PublishResult {
    return this.#hub.broadcast(data, options)
  }

  /**
   * Sends a message to all clients that have subscribed to a topic; with a backplane also to those of the other
   * processes. Its cost depends on how many these are, not on how many clients there are.
   *
   * A topic with a history (option `history`) knows no `except` and `filter`: everybody gets everything, in one order.
   *
   * @throws UsageError `ERR_TOPIC` for a name that cannot be one (empty, longer than `maxTopicBytes`), `ERR_DATA_TYPE` as
   *   `broadcast`, `ERR_OPTION` for `except` or `filter` where there is a history.
   */
  publish(
    topic: string,
    data: Data | PreparedMessage,
    options?: PublishOptions<WebSocketConnection<UserData>>,
  ): PublishResult {
    return this.#hub.publish(topic, data, options)
  }

  /** The clients of this process that have subscribed to a topic, as of now. */
  subscribers(topic: string): ReadonlySet<WebSocketConnection<UserData>> {
    return new Set(this.#hub.subscribers(topic))
  }

  /** The names of the topics that clients of this process have subscribed to, as of now. */
  get topics(): ReadonlySet<string> {
    return new Set(this.#hub.names())
  }

  /**
   * Tells a function of yours what is published to a topic, in this process or, with a backplane, in any. Returns the
   * function that ends it.
   *
   * @throws UsageError `ERR_TOPIC` for a name that cannot be one.
   */
  listenTo(topic: string, listener: TopicListener): () => void {
    return this.#hub.listenTo(topic, listener)
  }

  /**
   * Resolves when the backplane is there, at first or again; at once without one. `listen` does not wait for it. Rejects
   * with `WebSocketError` `ERR_BACKPLANE` when the server is closed before.
   */
  ready(): Promise<void> {
    return this.#hub.ready()
  }

  /**
   * Resolves when the backplane knows which topics the clients of this process are in: from then on nothing is missed
   * that other processes publish. At once without a backplane, and while it is away.
   */
  synced(): Promise<void> {
    return this.#hub.synced()
  }

  /**
   * Closes the server: newcomers get 503, clients a Close frame, and those who have not closed in time are cut. Resolves
   * when everybody is gone and the port is free. Further calls wait for the first.
   *
   * @throws UsageError `ERR_CLOSE_ARGUMENT` for a code or reason that may not be sent.
   */
  async close(options: ServerCloseOptions = {}): Promise<void> {
    checkOptions(options, ['code', 'reason', 'timeoutMs', 'stopListening'])
    checkCloseArguments(options.code, options.reason)
    this.#closing ??= this.#close(options)
    return this.#closing
  }

  async #close(options: ServerCloseOptions): Promise<void> {
    const {
      code = CloseCode.GOING_AWAY,
      reason,
      timeoutMs = this.#options.closeTimeoutMs ?? CONNECTION_DEFAULTS.closeTimeoutMs,
    } = options
    if (options.stopListening === true) this.#listening?.stop()
    this.#reception.closing = true
    this.#reception.refuseAll()
    for (const client of this.#clients.values()) client.close(code, reason)
    if (this.#clients.size > 0) await this.#clientsGone(timeoutMs)
    for (const detach of this.#detachments) detach()
    const closed = this.#listening?.close()
    this.#reception.destroyAll()
    await closed
    this.#listening = undefined
    clearInterval(this.#sweep)
    await this.#hub.close()
  }

  async #clientsGone(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        for (const client of this.#clients.values()) client.terminate()
      }, timeoutMs)
      this.#lastGone = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new UsageError('ERR_SERVER_STATE', 'the server was closed; make a new one')
  }

  #open({ socket, from, request, data, subprotocol, deflate, rest }: Accepted<UserData>): void {
    const client = new WebSocketConnection<UserData>({
      socket,
      from,
      owner: this.#owner,
      protocol: deflate && this.#compressed?.get(deflate),
      id: randomId(),
      data: data as UserData,
      path: request.path,
      subprotocol,
    })
    this.#clients.set(client.id, client)
    if (this.#options.history !== undefined) startResuming(client, request)
    const { open } = this.#options
    if (open !== undefined) client.runHandler(() => this.#options.open!(client, request))
    client.start(rest)
  }

  #newOwner(settings: ConnectionSettings): ConnectionOwner<UserData> {
    const reception = (): Reception<UserData> => this.#reception
    return {
      settings,
      handlers: this.#options,
      topics: this.#hub,
      get closing() {
        return reception().closing
      },
      connectionEnded: (client) => {
        this.#clients.delete(client.id)
        this.#hub.leave(client)
        this.#reception.left(client.from)
        if (this.#clients.size === 0) this.#lastGone?.()
      },
      report: (error, client) => this.#report(error, client),
    }
  }

  /** An exception in a handler of the user's. */
  #report(thrown: unknown, client?: WebSocketConnection<UserData>): void {
    const { error } = this.#options
    reportError(thrown, error && ((reported) => this.#options.error!(reported, client)))
  }

  /** From now on there are clients. One timer for all of them and everybody on the way in; it does not keep the process alive. */
  #begin(): void {
    if (this.#sweep !== undefined) return
    this.#hub.start(true)
    this.#sweep = setInterval(() => {
      this.#reception.tick()
      this.#clients.forEach(tick)
      this.#hub.tick()
    }, this.#sweepMs).unref()
  }
}

/** A client that says where it was is told where it is; see marks.ts. */
function startResuming<UserData>(client: WebSocketConnection<UserData>, request: HttpRequest): void {
  const resume = request.query.get(RESUME_PARAMETER)
  if (resume === null) return
  client.positions = parseResume(resume)
  client.sendMark(HELLO)
}

function tick(client: { tick(): void }): void {
  client.tick()
}
