/** The peer broke RFC 6455 or went over a limit; each has a paragraph in docs/ERRORS.md. */
export type ProtocolErrorCode =
  | 'ERR_RESERVED_BITS'
  | 'ERR_OPCODE'
  | 'ERR_MASK_REQUIRED'
  | 'ERR_MASK_FORBIDDEN'
  | 'ERR_LENGTH_ENCODING'
  | 'ERR_CONTROL_FRAGMENTED'
  | 'ERR_CONTROL_TOO_LONG'
  | 'ERR_UNEXPECTED_CONTINUATION'
  | 'ERR_EXPECTED_CONTINUATION'
  | 'ERR_TEXT_UTF8'
  | 'ERR_COMPRESSED_DATA'
  | 'ERR_CLOSE_PAYLOAD'
  | 'ERR_CLOSE_CODE'
  | 'ERR_CLOSE_REASON_UTF8'
  | 'ERR_MESSAGE_TOO_BIG'
  | 'ERR_TOO_MANY_FRAGMENTS'
  | 'ERR_TOO_MANY_PINGS'

/** The opening handshake was refused, by us or by the server that we called. */
export type HandshakeErrorCode =
  | 'ERR_HEAD_SYNTAX'
  | 'ERR_HEAD_TOO_LARGE'
  | 'ERR_HEAD_TOO_MANY_FIELDS'
  | 'ERR_TARGET_TOO_LONG'
  | 'ERR_HTTP_VERSION'
  | 'ERR_METHOD'
  | 'ERR_REQUEST_BODY'
  | 'ERR_HOST_HEADER'
  | 'ERR_UPGRADE_REQUIRED'
  | 'ERR_UPGRADE_HEADERS'
  | 'ERR_WEBSOCKET_KEY'
  | 'ERR_WEBSOCKET_VERSION'
  | 'ERR_SUBPROTOCOL_HEADER'
  | 'ERR_EXTENSION_HEADER'
  | 'ERR_PATH'
  | 'ERR_HOST'
  | 'ERR_ORIGIN'
  | 'ERR_TOKEN_MISSING'
  | 'ERR_TOKEN_WRONG'
  | 'ERR_TOKEN_ATTEMPTS'
  | 'ERR_NOT_AUTHORIZED'
  | 'ERR_AUTHORIZE_FAILED'
  | 'ERR_RESPOND_FAILED'
  | 'ERR_HANDSHAKE_TIMEOUT'
  | 'ERR_TOO_MANY_CONNECTIONS'
  | 'ERR_TOO_MANY_CONNECTIONS_OF_ADDRESS'
  | 'ERR_SERVER_CLOSING'
  | 'ERR_RESPONSE_STATUS'
  | 'ERR_RESPONSE_UPGRADE'
  | 'ERR_RESPONSE_ACCEPT'
  | 'ERR_RESPONSE_SUBPROTOCOL'
  | 'ERR_RESPONSE_EXTENSION'
  | 'ERR_RESPONSE_INCOMPLETE'
  | 'ERR_REDIRECT'
  | 'ERR_TOO_MANY_REDIRECTS'

/** The caller asked for something that cannot be. */
export type UsageErrorCode =
  | 'ERR_OPTION'
  | 'ERR_OPTION_UNKNOWN'
  | 'ERR_DATA_TYPE'
  | 'ERR_CLOSE_ARGUMENT'
  | 'ERR_HEADER_VALUE'
  | 'ERR_ITERATION'
  | 'ERR_URL'
  | 'ERR_SERVER_STATE'
  | 'ERR_TOPIC'

/** A connection ended, or did not answer, before what was awaited came true. */
export type ConnectionErrorCode = 'ERR_CONNECTION_CLOSED' | 'ERR_DELIVERY_TIMEOUT' | 'ERR_PORTS_TAKEN'

/** The way to other processes is not as it should be. */
export type BackplaneErrorCode = 'ERR_BACKPLANE' | 'ERR_HISTORY'

/** Every `code` that an error of this library can have. */
export type WebSocketErrorCode =
  | ProtocolErrorCode
  | HandshakeErrorCode
  | UsageErrorCode
  | ConnectionErrorCode
  | BackplaneErrorCode

/** Base of all errors of this library. `code` is part of the API, `message` is for people and may change. */
export class WebSocketError extends Error {
  override readonly name: string = 'WebSocketError'
  readonly code: WebSocketErrorCode

  constructor(code: WebSocketErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** What there is to say of a peer's fault beside its code. */
interface ProtocolErrorDetails extends ErrorOptions {
  readonly value?: number
}

/** The peer's fault. `closeCode` is what it is told in the Close frame (RFC 6455 §7.4.1). */
export class ProtocolError extends WebSocketError {
  override readonly name = 'ProtocolError'
  declare readonly code: ProtocolErrorCode
  readonly closeCode: number
  /** What was wrong, where it is a number: the reserved bits, the opcode, the length, the close code. */
  readonly value: number | undefined

  constructor(code: ProtocolErrorCode, closeCode: number, message: string, details: ProtocolErrorDetails = {}) {
    super(code, message, 'cause' in details ? { cause: details.cause } : undefined)
    this.closeCode = closeCode
    this.value = details.value
  }
}

/** The opening handshake failed. `status` is the HTTP status that was sent, or received (0 when none was). */
export class HandshakeError extends WebSocketError {
  override readonly name = 'HandshakeError'
  declare readonly code: HandshakeErrorCode
  readonly status: number
  /** How long the server has asked to stay away, by `Retry-After`, in milliseconds; undefined when it has not. */
  readonly retryAfterMs: number | undefined

  constructor(
    code: HandshakeErrorCode,
    status: number,
    message: string,
    options?: ErrorOptions & { readonly retryAfterMs?: number | undefined },
  ) {
    super(code, message, options)
    this.status = status
    this.retryAfterMs = options?.retryAfterMs
  }
}

/** The caller's fault: a wrong option, a wrong argument, a call at the wrong time. */
export class UsageError extends WebSocketError {
  override readonly name = 'UsageError'
  declare readonly code: UsageErrorCode

  constructor(code: UsageErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options)
  }
}
