import { callHandler, isPromise, warn } from '../../handlers.ts'

/*
 * How results and events get to their user: always later, and never so that an exception of a callback gets further than
 * a process warning.
 */

/** Is told the result of a call; later, never inside the call. */
export type OnSuccess<Result> = ((result: Result) => unknown) | null | undefined
/** Is told why a call has failed, as a sentence; later, never inside the call. */
export type OnFailure = ((failure: string) => unknown) | null | undefined

/**
 * Is told of events. When it returns a promise, the client's next event waits for it. What it throws becomes a process
 * warning, and harms neither the client nor the server.
 */
export type OnEvent<Event> = ((event: Event) => unknown) | null | undefined

/** Tells a result to callbacks, or gives it back where there are none. A failure that nobody is told of is a warning. */
export function report<Result>(
  result: Promise<Result>,
  onSuccess: OnSuccess<Result>,
  onFailure: OnFailure,
): Promise<Result> | undefined {
  if (isUnset(onSuccess) && isUnset(onFailure)) return result
  result.then(
    (value) => callHandler(() => onSuccess?.(value), warn),
    (error: Error) => (isUnset(onFailure) ? warn(error) : callHandler(() => onFailure(error.message), warn)),
  )
  return undefined
}

/** Tells an event. Resolves when the handler is done with it, in whatever way. */
export function tell(handler: () => unknown): Promise<void> | undefined {
  try {
    const result = handler()
    return isPromise(result) ? Promise.resolve(result).then(nothing, warn) : undefined
  } catch (error) {
    warn(error)
    return undefined
  }
}

/** For a promise of which only the end counts. */
export function nothing(): void {}

function isUnset(value: unknown): value is null | undefined {
  return value === null || value === undefined
}
