import {
  type Answer,
  type AnyFunction,
  type BridgedNames,
  type BridgeOptions,
  checkBridgeOptions,
  checkNames,
  DEFAULT_CHANNEL,
  FACADE_NAMES,
  type FacadeFunctions,
  isEventName,
  type MainPort,
  partsOf,
} from './bridge-protocol.ts'
import { UsageError } from './errors.ts'
import { reportError } from './handlers.ts'

/** Options of `exposeApi`. */
export interface ExposeApiOptions<Call> extends BridgeOptions {
  /**
   * Whether a call, or a subscription, is let in; anything but true is a no, and so is an exception. Default: all are. In
   * Electron look at `call.senderFrame`, which is null when the page has gone on to another address.
   */
  readonly allow?: ((call: Call, name: string) => boolean) | undefined
  /**
   * How long a window may take for an event, in milliseconds, before the events behind it stop waiting for that window.
   * Default 20,000.
   */
  readonly answerTimeoutMs?: number | undefined
}

const DEFAULT_ANSWER_TIMEOUT_MS = 20_000

/**
 * Lets the pages at the other end of `port` call the functions of an api: those of the facade, or those that `names` lists,
 * and no others. Events go to the windows that have subscribed, until they unsubscribe or are gone; a listener in a page that
 * returns a promise counts for the api as one of its own. Returns the function that ends all of it.
 *
 * @throws UsageError `ERR_OPTION`, `ERR_OPTION_UNKNOWN` for options that cannot be, and names that are no functions of the
 *   api.
 */
export function exposeApi<Call>(
  api: FacadeFunctions,
  port: MainPort<Call>,
  options?: ExposeApiOptions<Call> & { readonly names?: undefined },
): () => void
export function exposeApi<Exposed extends object, Call>(
  api: Exposed,
  port: MainPort<Call>,
  options: ExposeApiOptions<Call> & BridgedNames<Exposed>,
): () => void
export function exposeApi<Call>(
  api: object,
  port: MainPort<Call>,
  options: ExposeApiOptions<Call> & { readonly names?: readonly string[] | undefined } = {},
): () => void {
  checkBridgeOptions(options, ['allow', 'answerTimeoutMs'])
  const functions = new Map<string, AnyFunction>()
  for (const name of checkNames(options.names ?? FACADE_NAMES)) {
    const own: unknown = Reflect.get(api, name)
    if (typeof own !== 'function') throw new UsageError('ERR_OPTION', `the api has no function ${name}`)
    functions.set(name, (...values) => Reflect.apply(own, api, values) as unknown)
  }
  const side = new MainSide(functions, port, options)
  return () => side.end()
}

class MainSide<Call> {
  readonly #functions: ReadonlyMap<string, AnyFunction>
  readonly #port: MainPort<Call>
  readonly #options: ExposeApiOptions<Call>
  readonly #channel: string
  readonly #endHandling: () => void
  /** Who listens, by what tells windows apart. */
  readonly #listeners = new Map<unknown, WindowListener>()
  /** Events of the api that are listened to, and what ends that; one of which nothing does stays. */
  readonly #subscriptions = new Map<string, unknown>()

  constructor(functions: ReadonlyMap<string, AnyFunction>, port: MainPort<Call>, options: ExposeApiOptions<Call>) {
    this.#functions = functions
    this.#port = port
    this.#options = options
    this.#channel = options.channel ?? DEFAULT_CHANNEL
    this.#endHandling = port.handle(this.#channel, (call, ...values) => this.#answer(call, values))
  }

  end(): void {
    this.#endHandling()
    for (const window of this.#listeners.keys()) this.#forget(window)
  }

  /** Runs without a pause up to the call of the function: what was asked first comes first. */
  async #answer(call: Call, [verb, page, ...values]: readonly unknown[]): Promise<Answer> {
    try {
      if (typeof page !== 'string') throw new Error('This is no call of a bridge.')
      if (verb === 'call') return { value: await this.#call(call, values) }
      if (verb === 'listen') this.#listen(call, page, values[0])
      else if (verb === 'done') this.#listenerOf(call, page)?.done(values[0])
      // A page that was loaded anew: whoever was in this window before has not said goodbye.
      else if (verb === 'connect' && !this.#listenerOf(call, page)) this.#forget(this.#windowOf(call))
      return { value: undefined }
    } catch (error) {
      return { error: partsOf(error) }
    }
  }

  #call(call: Call, [name, values]: readonly unknown[]): unknown {
    const own = this.#functionFor(call, name)
    if (isEventName(name as string)) throw new Error(`${name} is an event.`)
    return own(...(Array.isArray(values) ? (values as unknown[]) : []))
  }

  #functionFor(call: Call, name: unknown): AnyFunction {
    const own = this.#functions.get(name as string)
    if (own === undefined) throw new Error(`There is no function ${String(name)}.`)
    if (!this.#isAllowed(call, name as string)) throw new Error(`This page may not use ${name}.`)
    return own
  }

  #isAllowed(call: Call, name: string): boolean {
    const { allow } = this.#options
    try {
      return allow === undefined || allow(call, name) === true
    } catch (error) {
      this.#report(error)
      return false
    }
  }

  /** What may be listened to is, also when it comes with something that may not. */
  #listen(call: Call, page: string, given: unknown): void {
    const names = new Set<string>()
    let refused: unknown
    for (const name of Array.isArray(given) ? (given as unknown[]) : []) {
      try {
        this.#functionFor(call, name)
        if (!isEventName(name as string)) throw new Error(`${name} is no event.`)
        names.add(name as string)
      } catch (error) {
        refused ??= error
      }
    }
    const thrown = this.#setNames(call, page, names)
    if ((refused ?? thrown) !== undefined) throw refused ?? thrown
  }

  #setNames(call: Call, page: string, names: ReadonlySet<string>): unknown {
    const window = this.#windowOf(call)
    const known = this.#listenerOf(call, page)
    if (names.size === 0) {
      // Of a page that another one has followed, it changes nothing any more.
      if (known !== undefined) this.#forget(window)
      return undefined
    }
    if (known === undefined) {
      this.#forget(window)
      const endWatching = this.#port.onGone?.(call, () => this.#forget(window))
      const send = (...values: unknown[]): void => this.#port.send(call, `${this.#channel}:event`, page, ...values)
      const { answerTimeoutMs = DEFAULT_ANSWER_TIMEOUT_MS } = this.#options
      this.#listeners.set(window, new WindowListener({ page, names, send, endWatching, answerTimeoutMs }))
    } else {
      known.names = names
    }
    return this.#adjustSubscriptions()
  }

  #windowOf(call: Call): unknown {
    return this.#port.windowOf?.(call)
  }

  #listenerOf(call: Call, page: string): WindowListener | undefined {
    const listener = this.#listeners.get(this.#windowOf(call))
    return listener?.page === page ? listener : undefined
  }

  #forget(window: unknown): void {
    this.#listeners.get(window)?.end()
    if (this.#listeners.delete(window)) this.#adjustSubscriptions()
  }

  /** The api is listened to where at least one window listens. Returns what its functions have thrown at that. */
  #adjustSubscriptions(): unknown {
    let thrown: unknown
    const wanted = new Set([...this.#listeners.values()].flatMap(({ names }) => [...names]))
    for (const [name, unsubscribe] of this.#subscriptions) {
      if (wanted.has(name) || typeof unsubscribe !== 'function') continue
      this.#subscriptions.delete(name)
      unsubscribe()
    }
    for (const name of wanted) {
      if (this.#subscriptions.has(name)) continue
      try {
        this.#subscriptions.set(
          name,
          this.#functions.get(name)!((...values: unknown[]) => this.#tell(name, values)),
        )
      } catch (error) {
        thrown ??= error
      }
    }
    return thrown
  }

  /** The promise is settled when all windows have done with it. */
  #tell(name: string, values: readonly unknown[]): Promise<void> | undefined {
    const waits: Promise<void>[] = []
    for (const listener of this.#listeners.values()) {
      if (!listener.names.has(name)) continue
      try {
        const wait = listener.tell(name, values)
        if (wait !== undefined) waits.push(wait)
      } catch (error) {
        this.#report(error)
      }
    }
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => {})
  }

  #report(error: unknown): void {
    reportError(error, this.#options.error)
  }
}

/** A page that listens, as the main side has it. */
interface WindowListenerOptions {
  readonly page: string
  readonly names: ReadonlySet<string>
  readonly send: (...values: unknown[]) => void
  readonly endWatching: (() => void) | undefined
  readonly answerTimeoutMs: number
}

class WindowListener {
  readonly page: string
  names: ReadonlySet<string>
  readonly #options: WindowListenerOptions
  /** Events that the page has not done with, by their numbers. */
  readonly #pending = new Map<unknown, () => void>()
  #sequence = 0
  #timer: NodeJS.Timeout | undefined
  /** It has not answered in time, and is not waited for until it does. */
  #isSilent = false

  constructor(options: WindowListenerOptions) {
    this.#options = options
    this.page = options.page
    this.names = options.names
  }

  tell(name: string, values: readonly unknown[]): Promise<void> | undefined {
    const sequence = ++this.#sequence
    this.#options.send(sequence, name, values)
    if (this.#isSilent) return undefined
    return new Promise((resolve) => {
      this.#pending.set(sequence, resolve)
      this.#timer ??= this.#startTimer()
    })
  }

  done(sequence: unknown): void {
    this.#isSilent = false
    this.#pending.get(sequence)?.()
    this.#pending.delete(sequence)
    clearTimeout(this.#timer)
    this.#timer = this.#pending.size === 0 ? undefined : this.#startTimer()
  }

  end(): void {
    clearTimeout(this.#timer)
    this.#options.endWatching?.()
    this.#letGo()
  }

  #startTimer(): NodeJS.Timeout {
    return setTimeout(() => {
      this.#timer = undefined
      this.#isSilent = true
      this.#letGo()
    }, this.#options.answerTimeoutMs).unref()
  }

  #letGo(): void {
    for (const resolve of this.#pending.values()) resolve()
    this.#pending.clear()
  }
}
