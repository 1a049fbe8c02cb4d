/*
 * Whether the exchange runs in this thread, for the members in it.
 */

let isHere = false
const waiting = new Set<() => void>()

export function hasExchange(): boolean {
  return isHere
}

export function setExchange(exchangeIsHere: boolean): void {
  isHere = exchangeIsHere
  if (!isHere) return
  const callbacks = [...waiting]
  waiting.clear()
  for (const callback of callbacks) callback()
}

/** Calls back, once, when the exchange is started in this thread. Returns the function that ends it. */
export function onExchange(callback: () => void): () => void {
  waiting.add(callback)
  return () => void waiting.delete(callback)
}
