import type { MessagePort } from 'node:worker_threads'

/*
 * The exchange of this thread, for the members in it.
 */

/** What members need of it. */
interface LocalExchange {
  openPort(): MessagePort
}

let current: LocalExchange | undefined
const waiting = new Set<() => void>()

/** The exchange that runs in this thread, if one does. */
export function localExchange(): LocalExchange | undefined {
  return current
}

export function setLocalExchange(exchange: LocalExchange | undefined): void {
  current = exchange
  if (exchange === undefined) return
  const callbacks = [...waiting]
  waiting.clear()
  for (const callback of callbacks) callback()
}

/** Calls back, once, when an exchange is started in this thread. Returns the function that ends it. */
export function onLocalExchange(callback: () => void): () => void {
  waiting.add(callback)
  return () => void waiting.delete(callback)
}
