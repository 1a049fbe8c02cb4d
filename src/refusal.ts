import { channel } from 'node:diagnostics_channel'
import type { HandshakeError, HandshakeErrorCode } from './errors.ts'
import { callHandler } from './handlers.ts'
import type { HttpRequest, RequestOrigin } from './handshake.ts'

/** Why somebody was not let in, for operators. Also published on the diagnostics channel `fullduplex:refused`. */
export interface Refusal {
  /** HTTP status that was sent. */
  readonly status: number
  /** Machine-readable; a paragraph each in docs/ERRORS.md. */
  readonly reason: HandshakeErrorCode
  /** One sentence: what is wrong and what to do. */
  readonly message: string
  readonly remoteAddress: string
  /** `Origin` of the request, when it got that far and had one. */
  readonly origin: string | undefined
  /** Path of the request without its query, when it got that far. */
  readonly path: string | undefined
}

const refusedChannel = channel('fullduplex:refused')

/** Tells whoever wants to know. `request` is undefined for somebody who did not get that far. */
export function tellRefusal(
  { status, code, message }: HandshakeError,
  { remoteAddress }: RequestOrigin,
  request: HttpRequest | undefined,
  handlers: { refused?(refusal: Refusal): void },
  report: (error: unknown) => void,
): void {
  if (handlers.refused === undefined && !refusedChannel.hasSubscribers) return
  const { origin, path } = request ?? {}
  const refusal: Refusal = { status, reason: code, message, remoteAddress, origin, path }
  refusedChannel.publish(refusal)
  callHandler(() => handlers.refused?.(refusal), report)
}
