/** Frame opcodes (RFC 6455 §5.2). Everything from 8 up is a control frame. */
export const Opcode = {
  CONTINUATION: 0,
  TEXT: 1,
  BINARY: 2,
  CLOSE: 8,
  PING: 9,
  PONG: 10,
} as const

/** One of the six opcodes that RFC 6455 defines. */
export type Opcode = (typeof Opcode)[keyof typeof Opcode]

/** Close codes (RFC 6455 §7.4.1 and the IANA registry). 3000 to 3999 are registered, 4000 to 4999 are free for applications. */
export const CloseCode = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  PROTOCOL_ERROR: 1002,
  UNSUPPORTED_DATA: 1003,
  /** Never on the wire: the Close frame had no code. */
  NO_STATUS: 1005,
  /** Never on the wire: the connection ended without a Close frame. */
  ABNORMAL: 1006,
  INVALID_PAYLOAD: 1007,
  POLICY_VIOLATION: 1008,
  MESSAGE_TOO_BIG: 1009,
  INTERNAL_ERROR: 1011,
  SERVICE_RESTART: 1012,
  TRY_AGAIN_LATER: 1013,
} as const

/** Which end of the connection this is; it decides who masks (§5.1) and who ends TCP first (§7.1.1). */
export type Role = 'client' | 'server'

/** Appended to the key before hashing (RFC 6455 §1.3). */
export const HANDSHAKE_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** The only version this library speaks (RFC 6455 §4.1). */
export const WEBSOCKET_VERSION = '13'

/** Longest payload of a control frame (§5.5). */
export const MAX_CONTROL_BYTES = 125

/** Longest reason of a Close frame: a control payload less the code (§5.5.1). */
export const MAX_CLOSE_REASON_BYTES: number = MAX_CONTROL_BYTES - 2

/** True for a code that may stand in a Close frame (§7.4.1, §7.4.2; 1012 to 1014 by the IANA registry). */
export function isSendableCloseCode(code: number): boolean {
  if (!Number.isInteger(code)) return false
  if (code >= 3000) return code <= 4999
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014)
}
