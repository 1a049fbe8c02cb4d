/*
 * Calling what the user has given us. Whatever it throws, now or later, is reported; nothing of it reaches the event loop.
 */

/** Anything that can be thrown, as an `Error`. */
export function asError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown
  try {
    return new Error(String(thrown))
  } catch {
    // An object that cannot be a string, say.
    return new Error('something was thrown that is no Error')
  }
}

/** A process warning: for exceptions of handlers that nobody else wants to hear of. */
export function warn(thrown: unknown): void {
  process.emitWarning(asError(thrown))
}

export function isPromise<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | undefined | null)?.then === 'function'
}

/** Calls a handler that nothing waits for; one that is async may fail later. */
export function callHandler(handler: () => unknown, failed: (thrown: unknown) => void): void {
  try {
    const result = handler()
    if (isPromise(result)) result.then(undefined, failed)
  } catch (error) {
    failed(error)
  }
}

/** Tells the `error` handler of an exception in another handler; without one, or when it fails itself, it is a warning. */
export function reportError(thrown: unknown, handler: ((error: Error) => unknown) | undefined): void {
  if (handler === undefined) warn(thrown)
  else callHandler(() => handler(asError(thrown)), warn)
}
