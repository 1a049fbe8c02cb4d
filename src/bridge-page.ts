import {
  type Answer,
  type AnyFunction,
  type Bridged,
  type BridgedNames,
  type BridgeOptions,
  checkBridgeOptions,
  checkNames,
  DEFAULT_CHANNEL,
  errorOf,
  FACADE_NAMES,
  type FacadeFunctions,
  isEventName,
  type PagePort,
} from './bridge-protocol.ts'
import { asError, isPromise } from './handlers.ts'

/** Options of `connectApi`. */
export interface ConnectApiOptions extends BridgeOptions {
  /** What a call that did not get through resolves with. Default: it rejects, but for the facade; see `facadeFailure`. */
  readonly failure?: ((error: Error, name: string) => unknown) | undefined
  /** Ends the connection: subscriptions are over, calls fail. */
  readonly signal?: AbortSignal | undefined
}

/**
 * The api that the main side has exposed, as a plain object of plain functions, which `contextBridge.exposeInMainWorld` takes
 * as it is. Of one window only one connection per channel is served; a page that is loaded anew takes the place of the one
 * before. What is called behind `on...` is called when the subscription is in place.
 *
 * A call that does not get through (the main side is not there or says no, a value cannot be cloned) rejects, but those of
 * the facade: see `facadeFailure`.
 *
 * @throws UsageError `ERR_OPTION`, `ERR_OPTION_UNKNOWN` for options that cannot be.
 */
export function connectApi(
  port: PagePort,
  options?: ConnectApiOptions & { readonly names?: undefined },
): Bridged<FacadeFunctions>
export function connectApi<Exposed extends object>(
  port: PagePort,
  options: ConnectApiOptions & BridgedNames<Exposed>,
): Bridged<Exposed>
export function connectApi(
  port: PagePort,
  options: ConnectApiOptions & { readonly names?: readonly string[] | undefined } = {},
): object {
  checkBridgeOptions(options, ['failure', 'signal'])
  const names = checkNames(options.names ?? FACADE_NAMES)
  const { channel = DEFAULT_CHANNEL, failure = options.names ? undefined : facadeFailure, signal } = options
  const page = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`
  const listeners = new Map<string, Set<AnyFunction>>()
  /** What the main side was told last. */
  let told = ''
  let telling: Promise<void> | undefined
  let hasEnded = false

  function report(error: unknown): void {
    // Without a handler it is for the console, as an exception in a listener of the page's own would be.
    if (options.error === undefined) void Promise.reject(asError(error))
    else options.error(asError(error))
  }

  async function ask(verb: string, ...values: unknown[]): Promise<unknown> {
    const answer = (await port.invoke(channel, verb, page, ...values)) as Answer | undefined
    if (answer !== undefined && 'error' in answer) throw errorOf(answer.error)
    return answer?.value
  }

  /** One change after the other, for a transport may answer two of them in any order. */
  function tellSubscriptions(): Promise<void> {
    telling ??= (async () => {
      try {
        // Several subscriptions in a row are one message.
        await undefined
        for (let wanted = [...listeners.keys()]; told !== wanted.join(); wanted = [...listeners.keys()]) {
          const answer = (await port.invoke(channel, 'listen', page, wanted)) as Answer | undefined
          told = wanted.join()
          if (answer !== undefined && 'error' in answer) report(errorOf(answer.error))
        }
      } catch (error) {
        report(error)
      } finally {
        telling = undefined
      }
    })()
    return telling
  }

  async function call(name: string, values: readonly unknown[]): Promise<unknown> {
    try {
      if (hasEnded) throw new Error('The connection to the app was ended.')
      if (told !== [...listeners.keys()].join()) await tellSubscriptions()
      return await ask('call', name, values)
    } catch (error) {
      if (failure === undefined) throw error
      return failure(asError(error), name)
    }
  }

  function subscribe(name: string, listener: unknown): () => void {
    if (hasEnded) return () => {}
    if (typeof listener !== 'function') {
      report(new TypeError(`${name} takes a function.`))
      return () => {}
    }
    // A function of its own per subscription: the same listener may be there twice, and leaves once for each.
    const own: AnyFunction = (...values) => listener(...values) as unknown
    const all = listeners.get(name) ?? new Set()
    listeners.set(name, all.add(own))
    void tellSubscriptions()
    return () => {
      if (!all.delete(own) || all.size > 0 || hasEnded) return
      listeners.delete(name)
      void tellSubscriptions()
    }
  }

  async function hear(sequence: unknown, name: string, values: readonly unknown[]): Promise<void> {
    const pending: PromiseLike<unknown>[] = []
    for (const listener of [...(listeners.get(name) ?? [])]) {
      try {
        const result = listener(...values)
        if (isPromise(result)) pending.push(result.then(undefined, report))
      } catch (error) {
        report(error)
      }
    }
    if (pending.length > 0) await Promise.all(pending)
    // If it does not arrive, nobody is there who would wait for it.
    await ask('done', sequence).catch(() => {})
  }

  const stopHearing = port.on(`${channel}:event`, (to, sequence, name, values) => {
    if (to === page) void hear(sequence, name as string, values as unknown[])
  })

  function end(): void {
    hasEnded = true
    stopHearing()
    listeners.clear()
    ask('listen', []).catch(() => {})
  }

  ask('connect').catch(() => {})
  if (signal?.aborted) end()
  else signal?.addEventListener('abort', end, { once: true })
  return Object.fromEntries(
    names.map((name) => [
      name,
      isEventName(name)
        ? (listener: unknown) => subscribe(name, listener)
        : (...values: unknown[]) => call(name, values),
    ]),
  )
}

/** What results of the facade have beside `success` and `message` when they are failures. */
const MORE_OF_FAILURES: Readonly<Record<string, object>> = {
  startServer: { port: null },
  broadcast: { sent: 0, dropped: 0 },
  getRooms: { rooms: [] },
}

/**
 * A `failure` for functions of the facade, which do not reject: `{ success: false, message }` and what else the result has.
 * It is the default where `names` is not given; give it along with names of the facade.
 *
 * @throws the error itself for `getServer`, which has no such result.
 */
export function facadeFailure(error: Error, name: string): object {
  if (name === 'getServer') throw error
  return { success: false, ...MORE_OF_FAILURES[name], message: error.message }
}
