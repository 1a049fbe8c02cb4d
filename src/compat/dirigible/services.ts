import { UsageError } from '../../errors.ts'
import { isPromise } from '../../handlers.ts'
import type { Message } from '../../inbox.ts'
import { runCall } from './call.ts'
import type { Folder } from './folder.ts'
import type { Modules } from './modules.ts'
import { canonicalName, isPlainName } from './names.ts'
import { parseServiceRequest } from './service-request.ts'
import type { WebsocketSession } from './session.ts'

/** Where messages of version 2 go. */
export const SERVICE_PATH = '/service/js'

/** What services need of their server. */
export interface ServicesInit {
  readonly runtime: object
  readonly folder: Folder
  readonly modules: Modules
  /** The modules that clients may run, by their paths from the root. */
  readonly names: readonly string[]
  readonly maxRequestBytes: number
  report(error: unknown): void
}

/** The modules that clients may run, and nothing else: what a client says is compared with their names, and no path. */
export class Services {
  readonly #init: ServicesInit
  /** Names as they were listed, by their canonical names. */
  readonly #listed = new Map<string, string>()

  /** @throws UsageError `ERR_OPTION` for a name that is no plain path, or of which there is no CommonJS module. */
  constructor(init: ServicesInit) {
    this.#init = init
    if (!Array.isArray(init.names)) throw new UsageError('ERR_OPTION', 'the option services must be a list of names')
    for (const name of init.names as readonly unknown[]) {
      if (typeof name !== 'string' || !isPlainName(name)) {
        throw new UsageError('ERR_OPTION', `services: ${JSON.stringify(name)} is not the plain path of a module`)
      }
      init.modules.checkCommonJs(this.#find(name))
      this.#listed.set(canonicalName(name), name)
    }
  }

  /** Whether there are any. */
  get any(): boolean {
    return this.#listed.size > 0
  }

  /** Runs the module that a message names, or answers what is wrong with it. A promise that it exports is waited for. */
  receive(session: WebsocketSession, data: Message): void | Promise<void> {
    const request = parseServiceRequest(data, this.#init.maxRequestBytes)
    if ('problem' in request) {
      answer(session, request.problem)
      return
    }
    const name = this.#listed.get(canonicalName(request.module))
    if (name === undefined) {
      answer(session, 'There is no such module here.')
      return
    }
    const { runtime, modules, report } = this.#init
    const failed = (error: unknown): void => {
      answer(session, 'The module failed.')
      report(error)
    }
    try {
      const call = { runtime, session, params: request.params }
      // Found anew each time: the file may have gone, or become a link that leads out.
      const exported = runCall(call, () => modules.runAnew(this.#find(name)))
      if (isPromise(exported)) return exported.then(() => {}, failed) as Promise<void>
    } catch (error) {
      failed(error)
    }
  }

  #find(name: string): string {
    const file = this.#init.folder.find(canonicalPath(name))
    if (file === undefined) {
      throw new UsageError('ERR_OPTION', `services: there is no module ${name} in ${this.#init.folder.root}`)
    }
    return file
  }
}

/** A listed name as a path from the root. */
function canonicalPath(name: string): string {
  return name.startsWith('/') ? name.slice(1) : name
}

function answer(session: WebsocketSession, error: string): void {
  session.sendText(JSON.stringify({ error }))
}
