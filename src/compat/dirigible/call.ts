import { AsyncLocalStorage } from 'node:async_hooks'
import type { Message } from '../../inbox.ts'
import type { WebsocketSession } from './session.ts'

/*
 * The context of a call: which event is being handled, by whom, for whom. It follows the code of a handler through its
 * awaits, timers and callbacks, and ends where the next event begins.
 */

/** The event that is being handled. */
export type Method = 'onopen' | 'onmessage' | 'onerror' | 'onclose'

/** What is going on while code of a folder runs. */
export interface Call {
  /** The runtime whose folder the code is in. */
  readonly runtime: object
  readonly method?: Method
  /** With the method `onmessage`. */
  readonly message?: Message
  /** With the method `onerror`. */
  readonly error?: string
  /** For a module that a message of version 2 runs: whose message it is. */
  readonly session?: WebsocketSession
  /** For such a module: what the message gives it. */
  readonly params?: Readonly<Record<string, unknown>>
}

const calls = new AsyncLocalStorage<Call>()

/** Runs a function, and whatever it starts, in this context and no other. */
export function runCall<T>(call: Call, run: () => T): T {
  return calls.run(call, run)
}

/** Runs a function as code of this runtime's folder, unless that is what is running. */
export function runInside<T>(runtime: object, run: () => T): T {
  return calls.getStore()?.runtime === runtime ? run() : calls.run({ runtime }, run)
}

/** The context of the code that asks; undefined outside of all folders. */
export function currentCall(): Call | undefined {
  return calls.getStore()
}

/** The message that is being handled: a text, or bytes where the peer has sent such. Null outside of `onMessage`. */
export function getMessage(): Message | null {
  return currentCall()?.message ?? null
}

/** The error that is being handled, as a sentence. Null outside of `onError`. */
export function getError(): string | null {
  return currentCall()?.error ?? null
}

/** The event that is being handled. Null outside of a handler. */
export function getMethod(): Method | null {
  return currentCall()?.method ?? null
}

/** Whether `onOpen` is running. */
export function isOnOpen(): boolean {
  return getMethod() === 'onopen'
}

/** Whether `onMessage` is running. */
export function isOnMessage(): boolean {
  return getMethod() === 'onmessage'
}

/** Whether `onError` is running. */
export function isOnError(): boolean {
  return getMethod() === 'onerror'
}

/** Whether `onClose` is running. */
export function isOnClose(): boolean {
  return getMethod() === 'onclose'
}
