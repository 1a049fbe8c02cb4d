import { UsageError } from '../../errors.ts'
import { reportError } from '../../handlers.ts'
import { unknownOption } from '../../nearest.ts'
import { provideModules } from './api-modules.ts'
import { currentCall } from './call.ts'
import { type ClientConnectOptions, Clients } from './clients.ts'
import { Folder } from './folder.ts'
import { Modules } from './modules.ts'
import { FolderServer, type RunningServer, type ServeOptions } from './server.ts'
import type { WebsocketSession } from './session.ts'

/** Options of `createRuntime`. */
export interface RuntimeOptions {
  /** The folder whose modules run here: a path, or a `file:` URL. */
  readonly root: string | URL
  /** Options of `connect` for all clients that `createWebsocket` makes. */
  readonly connect?: ClientConnectOptions | undefined
  /** An exception in the handler of a client. Without this it is a process warning; servers have a handler of their own. */
  error?(error: Error): void
}

const OPTION_NAMES = ['root', 'connect', 'error']

/** A folder of modules that runs. */
export interface Runtime {
  /** Its folder, without links in the path. */
  readonly root: string
  /**
   * Serves the endpoints that the `*.websocket` files of the folder describe at `/websockets/v4/service/<endpoint>`, and
   * the modules of `services` at `/service/js`.
   *
   * @throws UsageError `ERR_OPTION` for an option, a descriptor, a handler or a service that cannot be; what
   *   `WebSocketServer.listen` throws.
   */
  serve(options?: ServeOptions): Promise<RunningServer>
  /**
   * What a CommonJS module of the folder exports; it runs when it is named for the first time.
   *
   * @throws UsageError `ERR_OPTION` when there is none, or it lies outside of the folder; what the module throws.
   */
  require(name: string): unknown
  /** The namespace of an ES module of the folder; of a CommonJS module what `require` gives. Rejects as that throws. */
  import(name: string): Promise<unknown>
  /** Closes its servers and clients; resolves when they are gone. Nothing can be served or connected any more. */
  close(): Promise<void>
}

/** Those that are not closed, in the order of their making. */
const runtimes = new Set<FolderRuntime>()

/**
 * Makes a runtime over a folder of modules.
 *
 * @throws UsageError `ERR_OPTION` when there is no such folder, `ERR_OPTION_UNKNOWN` for an option that there is not.
 */
export function createRuntime(options: RuntimeOptions): Runtime {
  return new FolderRuntime(options)
}

/**
 * The clients of the runtime whose module is running, or of the one that was made last.
 *
 * @throws UsageError `ERR_SERVER_STATE` when there is none.
 */
export function currentClients(): Clients {
  const running = currentCall()?.runtime
  const runtime = running instanceof FolderRuntime ? running : [...runtimes].at(-1)
  if (runtime !== undefined) return runtime.clients
  throw new UsageError('ERR_SERVER_STATE', 'there is no runtime: call createRuntime({ root }) first')
}

class FolderRuntime implements Runtime {
  readonly clients: Clients
  readonly #folder: Folder
  readonly #modules: Modules
  readonly #sessions = new Set<WebsocketSession>()
  readonly #servers = new Set<FolderServer>()
  #closing: Promise<void> | undefined

  constructor(options: RuntimeOptions) {
    for (const name of Object.keys(options)) {
      if (!OPTION_NAMES.includes(name)) throw unknownOption(name, OPTION_NAMES)
    }
    this.#folder = new Folder(options.root)
    this.clients = new Clients({
      runtime: this,
      modules: () => this.#modules,
      connect: options.connect,
      report: (thrown) => reportError(thrown, options.error && ((error) => options.error!(error))),
    })
    this.#modules = new Modules(this, this.#folder, provideModules(this.clients, this.#sessions))
    runtimes.add(this)
  }

  get root(): string {
    return this.#folder.root
  }

  async serve(options: ServeOptions = {}): Promise<RunningServer> {
    if (this.#closing !== undefined) throw new UsageError('ERR_SERVER_STATE', 'the runtime was closed; make a new one')
    const init = { runtime: this, folder: this.#folder, modules: this.#modules, sessions: this.#sessions }
    const server = new FolderServer(init, options)
    this.#servers.add(server)
    try {
      const { port } = await server.start()
      const close: RunningServer['close'] = async (closeOptions) => {
        await server.close(closeOptions)
        this.#servers.delete(server)
      }
      return { port, close }
    } catch (error) {
      this.#servers.delete(server)
      throw error
    }
  }

  require(name: string): unknown {
    return this.#modules.require(name)
  }

  async import(name: string): Promise<unknown> {
    return this.#modules.load(name)
  }

  close(): Promise<void> {
    runtimes.delete(this)
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const servers = [...this.#servers].map((server) => server.close())
    await Promise.all([...servers, this.clients.close()])
  }
}
