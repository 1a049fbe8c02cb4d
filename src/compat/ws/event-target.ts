import type { EventEmitter } from 'node:events'

/*
 * The part of EventTarget that `ws` has: four types of events, listeners as functions or objects, `once`. Listeners are
 * kept as those of the emitter, which is what makes them run in the order in which all of them were added.
 */

type Target = EventEmitter

/** Base of the events that listeners are given. */
class Event<T extends Target> {
  readonly #type: string
  readonly #target: T

  constructor(type: string, target: T) {
    this.#type = type
    this.#target = target
  }

  get type(): string {
    return this.#type
  }

  get target(): T {
    return this.#target
  }
}

class MessageEvent<T extends Target> extends Event<T> {
  readonly #data: unknown

  constructor(target: T, data: unknown) {
    super('message', target)
    this.#data = data
  }

  /** Text as string, binary by `binaryType`. */
  get data(): unknown {
    return this.#data
  }
}

class CloseEvent<T extends Target> extends Event<T> {
  readonly #code: number
  readonly #reason: string
  readonly #wasClean: boolean

  constructor(target: T, code: number, reason: string, wasClean: boolean) {
    super('close', target)
    this.#code = code
    this.#reason = reason
    this.#wasClean = wasClean
  }

  get code(): number {
    return this.#code
  }

  get reason(): string {
    return this.#reason
  }

  get wasClean(): boolean {
    return this.#wasClean
  }
}

class ErrorEvent<T extends Target> extends Event<T> {
  readonly #error: unknown

  constructor(target: T, error: unknown) {
    super('error', target)
    this.#error = error
  }

  get error(): unknown {
    return this.#error
  }

  get message(): string {
    const { message } = (this.#error ?? {}) as { message?: unknown }
    return typeof message === 'string' ? message : ''
  }
}

for (const [event, names] of [
  [Event, ['type', 'target']],
  [MessageEvent, ['data']],
  [CloseEvent, ['code', 'reason', 'wasClean']],
  [ErrorEvent, ['error', 'message']],
] as const) {
  for (const name of names) Object.defineProperty(event.prototype, name, { enumerable: true })
}

/** The types of events that there are. */
const TYPES = ['open', 'message', 'close', 'error'] as const
export type EventType = (typeof TYPES)[number]

export type Handler = ((event: never) => void) | { handleEvent(event: never): void }

const kHandler = Symbol('handler')
const kIsAttribute = Symbol('isAttribute')

interface Wrapper {
  (...args: unknown[]): void
  [kHandler]?: Handler
  [kIsAttribute]?: boolean
}

function call(handler: Handler, target: Target, event: object): void {
  if (typeof handler === 'object') handler.handleEvent(event as never)
  else handler.call(target, event as never)
}

function wrap(type: EventType, target: Target, handler: Handler, wasClean: () => boolean): Wrapper {
  switch (type) {
    case 'open':
      return () => call(handler, target, new Event('open', target))
    case 'message':
      return (data, isBinary) => {
        const text = isBinary === true || typeof data === 'string' ? data : String(data)
        call(handler, target, new MessageEvent(target, text))
      }
    case 'close':
      return (code, reason) => {
        call(handler, target, new CloseEvent(target, code as number, String(reason), wasClean()))
      }
    case 'error':
      return (error) => call(handler, target, new ErrorEvent(target, error))
  }
}

function wrappersOf(target: Target, type: EventType): Wrapper[] {
  // An emitter takes a `once` wrapper apart by itself.
  return (target.listeners(type) as Wrapper[]).filter((listener) => listener[kHandler] !== undefined)
}

function isType(type: string): type is EventType {
  return TYPES.includes(type as EventType)
}

/** Adds a listener as `addEventListener` does: once only, however often it is added. */
export function addHandler(
  target: Target,
  type: string,
  handler: Handler,
  { once = false, isAttribute = false }: { once?: boolean; isAttribute?: boolean },
  wasClean: () => boolean,
): void {
  if (!isType(type)) return
  const known = wrappersOf(target, type)
  if (!isAttribute && known.some((known) => known[kHandler] === handler && known[kIsAttribute] !== true)) return
  const wrapper = wrap(type, target, handler, wasClean)
  wrapper[kHandler] = handler
  wrapper[kIsAttribute] = isAttribute
  if (once) target.once(type, wrapper)
  else target.on(type, wrapper)
}

/** Takes away what `addEventListener` has added. */
export function removeHandler(target: Target, type: string, handler: Handler): void {
  if (!isType(type)) return
  const wrapper = wrappersOf(target, type).find((known) => known[kHandler] === handler && known[kIsAttribute] !== true)
  if (wrapper !== undefined) target.removeListener(type, wrapper)
}

/** What `onopen` and the others hold. */
export function attributeHandler(target: Target, type: EventType): Handler | null {
  return wrappersOf(target, type).find((known) => known[kIsAttribute] === true)?.[kHandler] ?? null
}

/** Sets `onopen` and the others; anything but a function clears it. */
export function setAttributeHandler(target: Target, type: EventType, handler: unknown, wasClean: () => boolean): void {
  const wrapper = wrappersOf(target, type).find((known) => known[kIsAttribute] === true)
  if (wrapper !== undefined) target.removeListener(type, wrapper)
  if (typeof handler === 'function') addHandler(target, type, handler as Handler, { isAttribute: true }, wasClean)
}
