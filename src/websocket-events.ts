/*
 * The events of `WebSocket` that Node lacks, and the attributes (`onopen` and the like) that listeners can be set with.
 */

/** What a `WebSocketCloseEvent` is made from. */
export interface WebSocketCloseEventInit {
  readonly code?: number
  readonly reason?: string
  readonly wasClean?: boolean
}

/** How a `WebSocket` has closed: the standard's `CloseEvent`, which Node has from version 23 on only. */
export class WebSocketCloseEvent extends Event {
  /** Of the peer's Close frame; 1005 when it had none, 1006 when no Close frame came. */
  readonly code: number
  /** Of the peer's Close frame. */
  readonly reason: string
  /** Both Close frames were exchanged. */
  readonly wasClean: boolean

  constructor(type: string, init: WebSocketCloseEventInit = {}) {
    super(type)
    this.code = init.code ?? 0
    this.reason = init.reason ?? ''
    this.wasClean = init.wasClean ?? false
  }

  get [Symbol.toStringTag](): string {
    return 'CloseEvent'
  }
}

/** Why a `WebSocket` has failed. A browser keeps that to itself. */
export class WebSocketErrorEvent extends Event {
  /** What `connect` would have rejected with, a `ProtocolError`, or a plain error for a connection that was cut. */
  readonly error: unknown
  /** The message of the error. */
  readonly message: string

  constructor(type: string, error: unknown) {
    super(type)
    this.error = error
    this.message = error instanceof Error ? error.message : String(error)
  }

  get [Symbol.toStringTag](): string {
    return 'ErrorEvent'
  }
}

/** A listener that was set by an attribute. */
type Callback = (event: Event) => unknown

/**
 * The attributes of one target (HTML §8.1.8.1, "event handler IDL attributes"): the listener takes its place among the
 * others when it is set for the first time, keeps it when it is replaced, and loses it when it is set to null.
 */
export class EventAttributes {
  readonly #target: EventTarget
  readonly #set = new Map<string, { callback: unknown; readonly listener: Callback }>()

  constructor(target: EventTarget) {
    this.#target = target
  }

  get(type: string): unknown {
    return this.#set.get(type)?.callback ?? null
  }

  /** Whatever is no object counts as null. */
  set(type: string, callback: unknown): void {
    const current = this.#set.get(type)
    const isCallback = typeof callback === 'function' || (typeof callback === 'object' && callback !== null)
    if (!isCallback) {
      if (current !== undefined) this.#target.removeEventListener(type, current.listener)
      this.#set.delete(type)
    } else if (current !== undefined) current.callback = callback
    else this.#add(type, callback)
  }

  #add(type: string, callback: unknown): void {
    const entry = {
      callback,
      listener: (event: Event): unknown => {
        if (typeof entry.callback !== 'function') return undefined
        const result: unknown = entry.callback.call(this.#target, event)
        if (result === false) event.preventDefault()
        return result
      },
    }
    this.#set.set(type, entry)
    this.#target.addEventListener(type, entry.listener as (event: Event) => void)
  }
}
