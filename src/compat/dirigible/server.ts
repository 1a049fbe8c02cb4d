import type { WebSocketConnection } from '../../connection.ts'
import { CloseCode } from '../../constants.ts'
import { ProtocolError, UsageError } from '../../errors.ts'
import { callHandler, reportError } from '../../handlers.ts'
import type { Message } from '../../inbox.ts'
import type { CloseEvent } from '../../protocol.ts'
import { type ServerCloseOptions, WebSocketServer, type WebSocketServerOptions } from '../../server.ts'
import { runCall } from './call.ts'
import { Endpoints } from './endpoints.ts'
import type { Folder } from './folder.ts'
import { HandlerCalls, lossOf } from './handler.ts'
import type { Modules } from './modules.ts'
import { SERVICE_PATH, Services } from './services.ts'
import { WebsocketSession } from './session.ts'
import { FolderWatch } from './watch.ts'

/** What modules do themselves. */
const OWN_OPTIONS = ['path', 'open', 'message', 'messageStream', 'close'] as const

/** Options of `serve`: its own, and those of `WebSocketServer` but for what the modules of the folder do. */
export interface ServeOptions extends Omit<WebSocketServerOptions, (typeof OWN_OPTIONS)[number]> {
  /**
   * The modules that clients may run by messages at `/service/js`, by their paths from the root. Default none, and then
   * there is nothing at that path.
   */
  readonly services?: readonly string[] | undefined
  /** Longest message at `/service/js`, in bytes of UTF-8; a longer one is answered with an error. Default 65,536. */
  readonly maxRequestBytes?: number | undefined
  /**
   * Reads descriptors and handlers again when something in the folder changes. Open connections go on with the new
   * handlers. What is wrong then is reported, and everything stays as it was. Default false.
   */
  readonly watch?: boolean | undefined
}

/** A server that is running. */
export interface RunningServer {
  readonly port: number
  /** Closes the clients and frees the port; see `WebSocketServer.close`. */
  close(options?: ServerCloseOptions): Promise<void>
}

/** What a server needs of its runtime. */
export interface ServerInit {
  readonly runtime: object
  readonly folder: Folder
  readonly modules: Modules
  /** The sessions of version 2, of all servers. */
  readonly sessions: Set<WebsocketSession>
}

/** Who is connected. */
interface Guest {
  readonly session: WebsocketSession
  /** Undefined for a session of version 2. */
  readonly calls: HandlerCalls | undefined
}

const DEFAULT_MAX_REQUEST_BYTES = 65_536

/** Serves a folder: one engine server, whose paths are the endpoints of the folder and that of its services. */
export class FolderServer {
  readonly #init: ServerInit
  readonly #options: ServeOptions
  readonly #endpoints: Endpoints
  readonly #services: Services
  readonly #guests = new Map<WebSocketConnection, Guest>()
  readonly #server: WebSocketServer
  readonly #watches: boolean
  #watch: FolderWatch | undefined
  #reloading: Promise<void> = Promise.resolve()

  /** @throws UsageError for options that cannot be. */
  constructor(init: ServerInit, options: ServeOptions) {
    const { services = [], maxRequestBytes = DEFAULT_MAX_REQUEST_BYTES, watch = false, ...engineOptions } = options
    for (const name of OWN_OPTIONS) {
      if (name in engineOptions) throw new UsageError('ERR_OPTION', `serve has no option ${name}: the modules do that`)
    }
    if (!Number.isInteger(maxRequestBytes) || maxRequestBytes < 1) {
      throw new UsageError('ERR_OPTION', 'the option maxRequestBytes must be a whole number from 1')
    }
    this.#init = init
    this.#options = options
    this.#watches = watch
    this.#endpoints = new Endpoints(init.folder, init.modules)
    this.#server = this.#newEngine(engineOptions)
    this.#services = new Services({
      ...init,
      names: services,
      maxRequestBytes,
      report: (error) => this.#report(error),
    })
  }

  /** Loads the endpoints and listens. Throws what is wrong with either. */
  async start(): Promise<RunningServer> {
    try {
      // What changes from here on is not missed.
      if (this.#watches) this.#watch = new FolderWatch(this.#init.folder, () => this.#reload())
      await this.#endpoints.load()
      const { port } = await this.#server.listen()
      return { port, close: (options) => this.close(options) }
    } catch (error) {
      await this.close()
      throw error
    }
  }

  async close(options?: ServerCloseOptions): Promise<void> {
    this.#watch?.close()
    this.#watch = undefined
    await this.#server.close(options)
  }

  #newEngine(options: Omit<WebSocketServerOptions, 'path'>): WebSocketServer {
    return new WebSocketServer({
      ...options,
      path: (path) => this.#isServed(path),
      open: (client) => this.#open(client),
      message: (client, data) => this.#message(client, data),
      close: (client, event) => this.#close(client, event),
      error: (error, client) => this.#error(error, client),
    })
  }

  #isServed(path: string): boolean {
    return path === SERVICE_PATH ? this.#services.any : this.#endpoints.get(path) !== undefined
  }

  #open(client: WebSocketConnection): void | Promise<void> {
    const session = new WebsocketSession(client)
    if (client.path === SERVICE_PATH) {
      this.#guests.set(client, { session, calls: undefined })
      this.#init.sessions.add(session)
      return
    }
    const endpoint = this.#endpoints.get(client.path)
    if (endpoint === undefined) {
      // It was there when the client asked.
      client.close(CloseCode.GOING_AWAY, 'the endpoint is gone')
      return
    }
    const calls = new HandlerCalls(this.#init.runtime, session, () => endpoint.handler)
    this.#guests.set(client, { session, calls })
    return calls.open()
  }

  #message(client: WebSocketConnection, data: Message): void | Promise<void> {
    const guest = this.#guests.get(client)
    if (guest === undefined) return
    return guest.calls === undefined ? this.#services.receive(guest.session, data) : guest.calls.message(data)
  }

  #close(client: WebSocketConnection, event: CloseEvent): void | Promise<void> {
    const guest = this.#guests.get(client)
    if (guest === undefined) return
    this.#guests.delete(client)
    this.#init.sessions.delete(guest.session)
    const loss = lossOf(event)
    if (loss !== undefined) this.#tellError(guest, loss)
    return guest.calls?.close()
  }

  /** From the engine: a peer that broke the protocol, or an exception of a module. */
  #error(error: Error, client: WebSocketConnection | undefined): void {
    const isViolation = error instanceof ProtocolError
    const guest = client && this.#guests.get(client)
    if (isViolation && guest !== undefined) this.#tellError(guest, error)
    if (this.#options.error !== undefined) this.#options.error(error, client)
    else if (!isViolation) this.#report(error)
  }

  #tellError({ calls }: Guest, error: unknown): void {
    callHandler(
      () => calls?.error(error),
      (thrown) => this.#report(thrown),
    )
  }

  #report(thrown: unknown): void {
    const { error } = this.#options
    reportError(thrown, error && ((reported) => this.#options.error!(reported)))
  }

  /** One after the other, so that the last one has the last word. */
  #reload(): void {
    this.#reloading = this.#reloading.then(async () => {
      if (this.#watch === undefined) return
      try {
        this.#watch.update()
        this.#init.modules.dropChanged()
        await runCall({ runtime: this.#init.runtime }, () => this.#endpoints.load())
      } catch (error) {
        this.#report(error)
      }
    })
  }
}
