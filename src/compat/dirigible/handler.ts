import type { Data } from '../../connection.ts'
import { CloseCode } from '../../constants.ts'
import { UsageError } from '../../errors.ts'
import { asError } from '../../handlers.ts'
import type { Message } from '../../inbox.ts'
import type { CloseEvent } from '../../protocol.ts'
import { type Method, runCall } from './call.ts'

/** Whom a handler can answer: the server's `WebsocketSession`, or the `WebsocketClient`. */
export interface Answerable {
  /** Sends a string as text, bytes as a binary message. */
  send(message: Data): void
  /** Closes the connection behind what was sent. */
  close(): unknown
  /** Tells the connection from others. */
  getId(): string
}

/**
 * The functions of a handler module, all optional. A message waits for what the functions before it return, if that is a
 * promise. What they throw closes the connection with 1011 and is reported.
 */
export interface WebsocketHandler {
  /** The connection is open. */
  onOpen?(session: Answerable): unknown
  /** A message has come: a text, or bytes where the peer sends such. */
  onMessage?(message: Message, session: Answerable): unknown
  /** The connection failed; the error is a sentence. `onClose` follows. */
  onError?(error: string, session: Answerable): unknown
  /** The connection has ended; called once. */
  onClose?(session: Answerable): unknown
}

const FUNCTIONS = { onopen: 'onOpen', onmessage: 'onMessage', onerror: 'onError', onclose: 'onClose' } as const

/** Refuses what cannot be a handler; `owner` is what it was given for. */
export function checkHandler(exported: unknown, owner: string): WebsocketHandler {
  if (typeof exported !== 'function' && (typeof exported !== 'object' || exported === null)) {
    throw new UsageError('ERR_OPTION', `${owner} exports no functions`)
  }
  const handler = exported as WebsocketHandler
  for (const name of Object.values(FUNCTIONS)) {
    const type = typeof handler[name]
    if (type !== 'function' && type !== 'undefined') {
      throw new UsageError('ERR_OPTION', `${owner} exports ${name}, which is no function`)
    }
  }
  return handler
}

/** One connection on its way through its handler's functions, each called in a context that tells its event. */
export class HandlerCalls {
  readonly #runtime: object
  readonly #session: Answerable
  /** Asked each time: the handler may be another by then. */
  readonly #handler: () => WebsocketHandler

  constructor(runtime: object, session: Answerable, handler: () => WebsocketHandler) {
    this.#runtime = runtime
    this.#session = session
    this.#handler = handler
  }

  open(): void | Promise<void> {
    return this.#call('onopen', {})
  }

  message(message: Message): void | Promise<void> {
    return this.#call('onmessage', { message }, message)
  }

  error(thrown: unknown): void | Promise<void> {
    const error = sentenceOf(thrown)
    return this.#call('onerror', { error }, error)
  }

  close(): void | Promise<void> {
    return this.#call('onclose', {})
  }

  #call(method: Method, event: { message?: Message; error?: string }, ...args: unknown[]): void | Promise<void> {
    const handler = this.#handler()
    const call = handler[FUNCTIONS[method]] as ((...args: unknown[]) => void | Promise<void>) | undefined
    if (call === undefined) return
    return runCall({ runtime: this.#runtime, method, ...event }, () => call.call(handler, ...args, this.#session))
  }
}

/** Why a connection ended without a closing handshake; undefined when there was one, or a failure that was told before. */
export function lossOf({ code, reason }: CloseEvent): string | undefined {
  if (code !== CloseCode.ABNORMAL) return undefined
  return reason === '' ? 'the connection was lost' : reason
}

/** What there is to say of an error. That of several attempts to connect has no words of its own. */
function sentenceOf(thrown: unknown): string {
  const error = asError(thrown)
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(sentenceOf).join('; ')
  return error.message === '' ? error.name : error.message
}
