import { WebSocketError } from '../../errors.ts'

/*
 * Why a request to NATS or to JetStream has failed, by the form of the error: the classes are the client's.
 */

/** Numbers of JetStream's own. */
export const ApiCode = {
  /** A stream could not be made, for any reason. */
  STREAM_CREATE: 10_049,
  /** It would have to be another one; clusters say so where one server says that the name is in use. */
  STREAM_CONFIG: 10_052,
  /** There is a stream of that name, made otherwise. */
  STREAM_NAME_IN_USE: 10_058,
  STREAM_NOT_FOUND: 10_059,
  /** A number was expected that is not the last. */
  WRONG_LAST_SEQUENCE: 10_071,
} as const

/** Status numbers of answers that may be other ones a little later. */
const TEMPORARY = [429, 503]

/** JetStream's number for what it has answered; undefined when the error is none of its answers. */
export function apiCode(error: unknown): number | undefined {
  const code = statusOf(error) === undefined ? undefined : (error as { code?: unknown }).code
  return typeof code === 'number' ? code : undefined
}

function statusOf(error: unknown): number | undefined {
  const status = (error as { status?: unknown } | undefined)?.status
  return typeof status === 'number' ? status : undefined
}

/** Nobody has got the request: there is no such stream at the moment, or no JetStream. */
export function reachedNobody(error: unknown): boolean {
  return [error, (error as Error | undefined)?.cause].some((found) => {
    const failure = found as { isNoResponders?: unknown } | undefined
    return typeof failure?.isNoResponders === 'function' && failure.isNoResponders() === true
  })
}

/** The answer was no, and will be so again. */
export function isFinal(error: unknown): boolean {
  if (error instanceof WebSocketError) return true
  const status = statusOf(error)
  return status !== undefined && !TEMPORARY.includes(status) && apiCode(error) !== ApiCode.STREAM_NOT_FOUND
}
