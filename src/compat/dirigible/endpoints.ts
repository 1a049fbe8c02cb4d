import { UsageError } from '../../errors.ts'
import { asError } from '../../handlers.ts'
import { type Descriptor, readDescriptors } from './descriptors.ts'
import type { Folder } from './folder.ts'
import { checkHandler, type WebsocketHandler } from './handler.ts'
import type { Modules } from './modules.ts'

/** Where the endpoints of descriptors are. */
const ENDPOINT_PREFIX = '/websockets/v4/service/'

/** One endpoint; its connections keep it, and so get its next handler when the files change. */
export interface Endpoint {
  handler: WebsocketHandler
}

/** The endpoints that the files of a folder describe. */
export class Endpoints {
  readonly #folder: Folder
  readonly #modules: Modules
  #byPath = new Map<string, Endpoint>()

  constructor(folder: Folder, modules: Modules) {
    this.#folder = folder
    this.#modules = modules
  }

  /** The endpoint at the path of a request, which is compared as it was sent. */
  get(path: string): Endpoint | undefined {
    return this.#byPath.get(path)
  }

  /**
   * Reads descriptors and handlers. All of them are right, or nothing changes.
   *
   * @throws UsageError `ERR_OPTION` that names the descriptor; what a handler module throws is its cause.
   */
  async load(): Promise<void> {
    const loaded = new Map<string, WebsocketHandler>()
    for (const descriptor of readDescriptors(this.#folder)) {
      loaded.set(ENDPOINT_PREFIX + descriptor.endpoint, await this.#loadHandler(descriptor))
    }
    const endpoints = new Map<string, Endpoint>()
    for (const [path, handler] of loaded) {
      const endpoint = this.#byPath.get(path) ?? { handler }
      endpoint.handler = handler
      endpoints.set(path, endpoint)
    }
    this.#byPath = endpoints
  }

  async #loadHandler({ path, file, handler }: Descriptor): Promise<WebsocketHandler> {
    try {
      return checkHandler(await this.#modules.load(handler, file), `the module ${handler}`)
    } catch (cause) {
      throw new UsageError('ERR_OPTION', `${path}: handler: ${asError(cause).message}`, { cause })
    }
  }
}
