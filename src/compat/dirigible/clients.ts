import { CONNECT_OPTION_NAMES, type ConnectOptions, checkConnectOptions, connect } from '../../client.ts'
import { type Data, toBytes, type WebSocketConnection } from '../../connection.ts'
import { CloseCode } from '../../constants.ts'
import { ProtocolError, UsageError } from '../../errors.ts'
import { callHandler } from '../../handlers.ts'
import { randomId } from '../../ids.ts'
import { CONNECTION_DEFAULTS } from '../../options.ts'
import { parseUrl } from '../../target.ts'
import { runCall } from './call.ts'
import { checkHandler, HandlerCalls, lossOf, type WebsocketHandler } from './handler.ts'
import type { Modules } from './modules.ts'
import { canonicalName } from './names.ts'

/** Options of `connect` that hold for all clients of a runtime: `tls`, `headers`, limits and the like. */
export type ClientConnectOptions = Omit<
  ConnectOptions,
  'message' | 'messageStream' | 'drain' | 'close' | 'error' | 'signal' | 'socket'
>

const OWN_OPTIONS = ['message', 'messageStream', 'drain', 'close', 'error', 'signal', 'socket']

/** What is known of a client, as `getClients` lists it. */
export interface WebsocketClientMetadata {
  readonly id: string
  readonly uri: string
  /** The name of its handler as it was given; null for one that was given as an object. */
  readonly handler: string | null
  /** The engine that was asked for; null for none. There is only one. */
  readonly engine: string | null
}

/** What clients need of their runtime. */
interface ClientsInit {
  readonly runtime: object
  /** Given late: its modules are provided with the clients. */
  modules(): Modules
  readonly connect: ClientConnectOptions | undefined
  report(error: unknown): void
}

/** The clients of a runtime. */
export class Clients {
  readonly #init: ClientsInit
  /** Whose end has not been told yet. */
  readonly #running = new Set<WebsocketClient>()
  #closed = false

  constructor(init: ClientsInit) {
    this.#init = init
    checkConnectOptions(
      init.connect ?? {},
      CONNECT_OPTION_NAMES.filter((name) => !OWN_OPTIONS.includes(name)),
    )
  }

  // Functions of their own, so that modules can take them apart.

  readonly createWebsocket = (
    uri: string | URL,
    handler: string | WebsocketHandler,
    engine?: string,
  ): WebsocketClient => {
    if (this.#closed) throw new UsageError('ERR_SERVER_STATE', 'the runtime was closed; make a new one')
    parseUrl(uri)
    const client = new WebsocketClient({
      runtime: this.#init.runtime,
      uri: String(uri),
      handler,
      engine,
      loaded: this.#loadHandler(handler),
      connect: this.#init.connect ?? {},
      report: (error) => this.#init.report(error),
      ended: () => this.#running.delete(client),
    })
    this.#running.add(client)
    return client
  }

  readonly getClients = (): WebsocketClientMetadata[] => this.#listed.map((client) => client.metadata)

  readonly getClient = (id: string): WebsocketClient | null =>
    this.#listed.find((client) => client.getId() === id) ?? null

  readonly getClientByHandler = (handler: string | WebsocketHandler): WebsocketClient | null =>
    this.#listed.find((client) => client.isHandledBy(handler)) ?? null

  /** Ends all of them; resolves when each `onClose` has been called. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#running].map((client) => client.leave()))
  }

  /** Those that can still be used. */
  get #listed(): WebsocketClient[] {
    return [...this.#running].filter((client) => !client.isClosing)
  }

  #loadHandler(handler: string | WebsocketHandler): WebsocketHandler | Promise<WebsocketHandler> {
    if (typeof handler !== 'string') return checkHandler(handler, 'the handler')
    const loaded = this.#init.modules().load(handler)
    const owner = `the module ${handler}`
    return loaded instanceof Promise
      ? loaded.then((exported) => checkHandler(exported, owner))
      : checkHandler(loaded, owner)
  }
}

/** What a client is made from. */
interface ClientInit {
  readonly runtime: object
  readonly uri: string
  readonly handler: string | WebsocketHandler
  readonly engine: string | undefined
  readonly loaded: WebsocketHandler | Promise<WebsocketHandler>
  readonly connect: ClientConnectOptions
  report(error: unknown): void
  ended(): void
}

/** A client of version 4. It is there at once, and opens by itself. */
export class WebsocketClient {
  readonly #id = randomId()
  readonly #init: ClientInit
  readonly #abort = new AbortController()
  readonly #ended: Promise<void>
  #connection: WebSocketConnection<undefined> | undefined
  /** Sent before the opening. */
  #waiting: Data[] = []
  #waitingBytes = 0
  #isClosing = false

  /** @internal Clients are made by `createWebsocket`. */
  constructor(init: ClientInit) {
    this.#init = init
    // Nothing of the call that makes it stays with its connection.
    this.#ended = runCall({ runtime: init.runtime }, () => this.#open())
  }

  /**
   * Sends a string as text, or bytes as a binary message. What is sent before the opening leaves with it; when that is
   * more than `maxBufferedBytes` (16 MiB), the client fails. What is sent behind `close` goes nowhere.
   *
   * @throws UsageError `ERR_DATA_TYPE` for anything else.
   */
  send(message: Data): void {
    const data = typeof message === 'string' ? message : toBytes(message)
    if (this.#isClosing) return
    if (this.#connection === undefined) this.#keep(data)
    else this.#connection.send(data)
  }

  /** Closes the connection with 1000, behind what was sent; one that is not open yet is opened for that. */
  close(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    this.#connection?.close(CloseCode.NORMAL)
  }

  /** Its id in `getClients`. */
  getId(): string {
    return this.#id
  }

  /** @internal It can no longer be used. */
  get isClosing(): boolean {
    return this.#isClosing || (this.#connection !== undefined && this.#connection.state !== 'open')
  }

  /** @internal */
  get metadata(): WebsocketClientMetadata {
    const { uri, handler, engine = null } = this.#init
    return { id: this.#id, uri, handler: typeof handler === 'string' ? handler : null, engine }
  }

  /** @internal Whether this is its handler, however it is spelt. */
  isHandledBy(handler: string | WebsocketHandler): boolean {
    const own = this.#init.handler
    if (typeof own !== 'string' || typeof handler !== 'string') return own === handler
    return canonicalName(own) === canonicalName(handler)
  }

  /** @internal Its runtime closes. Resolves when the end has been told. */
  leave(): Promise<void> {
    this.#isClosing = true
    this.#abort.abort(new Error('the runtime was closed'))
    this.#connection?.close(CloseCode.GOING_AWAY)
    return this.#ended
  }

  #keep(data: string | Uint8Array): void {
    // Bytes may be changed by their owner until then.
    const kept = typeof data === 'string' ? data : Buffer.from(data)
    this.#waiting.push(kept)
    this.#waitingBytes += Buffer.byteLength(kept)
    const most = this.#init.connect.maxBufferedBytes ?? CONNECTION_DEFAULTS.maxBufferedBytes
    if (this.#waitingBytes <= most) return
    this.#waiting = []
    this.#isClosing = true
    this.#abort.abort(new Error(`more than ${most} bytes wait for the opening`))
  }

  /** The whole life of the connection. Never rejects. */
  async #open(): Promise<void> {
    const { loaded, report, ended, uri, connect: options } = this.#init
    let calls: HandlerCalls | undefined
    try {
      const handler = await loaded
      calls = new HandlerCalls(this.#init.runtime, this, () => handler)
    } catch (error) {
      report(error)
    }
    if (calls !== undefined) await this.#connect(uri, options, calls)
    this.#isClosing = true
    this.#waiting = []
    ended()
    callHandler(() => calls?.close(), report)
  }

  /** Opens the connection; resolves when it has ended, or could not be opened. */
  async #connect(uri: string, options: ClientConnectOptions, calls: HandlerCalls): Promise<void> {
    const { report } = this.#init
    const fail = (error: unknown): void => callHandler(() => calls.error(error), report)
    let told!: () => void
    const end = new Promise<void>((resolve) => {
      told = resolve
    })
    try {
      const connection = await connect(uri, {
        ...options,
        signal: this.#abort.signal,
        message: (_connection, data) => calls.message(data),
        // Of exceptions in the handler's functions, too.
        error: (error) => (error instanceof ProtocolError ? fail(error) : report(error)),
        close: (_connection, event) => {
          const loss = lossOf(event)
          if (loss !== undefined) fail(loss)
          told()
        },
      })
      this.#opened(connection, calls)
    } catch (error) {
      // It is in no list any more.
      this.#isClosing = true
      fail(error)
      told()
    }
    return end
  }

  #opened(connection: WebSocketConnection<undefined>, calls: HandlerCalls): void {
    this.#connection = connection
    for (const data of this.#waiting) connection.send(data)
    this.#waiting = []
    connection.runHandler(() => calls.open())
    if (this.#isClosing) connection.close(CloseCode.NORMAL)
  }
}
