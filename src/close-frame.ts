import { CloseCode, isSendableCloseCode, MAX_CLOSE_REASON_BYTES, MAX_CONTROL_BYTES } from './constants.ts'
import { ProtocolError, UsageError } from './errors.ts'
import { advanceUtf8, UTF8_START } from './utf8.ts'

/*
 * The payload of a Close frame (RFC 6455 §5.5.1): nothing at all, or a code and a reason.
 */

const NO_PAYLOAD: Buffer = Buffer.alloc(0)

/**
 * The code that a Close frame has, 1005 for an empty one (§7.1.5); the reason begins behind its two bytes.
 *
 * @throws ProtocolError when the payload says what may not be said.
 */
export function readCloseCode(payload: Buffer, skipUtf8Check: boolean): number {
  if (payload.length === 0) return CloseCode.NO_STATUS
  if (payload.length === 1) {
    throw new ProtocolError('ERR_CLOSE_PAYLOAD', CloseCode.PROTOCOL_ERROR, 'a Close frame has half a code')
  }
  const code = payload.readUInt16BE(0)
  if (!isSendableCloseCode(code)) {
    throw new ProtocolError('ERR_CLOSE_CODE', CloseCode.PROTOCOL_ERROR, `the close code ${code} may not be sent`, {
      value: code,
    })
  }
  if (!skipUtf8Check && advanceUtf8(UTF8_START, payload, 2, payload.length) !== UTF8_START) {
    throw new ProtocolError('ERR_CLOSE_REASON_UTF8', CloseCode.INVALID_PAYLOAD, 'a close reason is not valid UTF-8')
  }
  return code
}

/** Throws `UsageError` for a code or a reason that may not be sent. */
export function checkCloseArguments(code: number | undefined, reason = ''): void {
  formatClose(code ?? CloseCode.NORMAL, reason)
}

/** The payload of a Close frame; throws `UsageError` for a code or a reason that may not be sent (§5.5.1, §7.4). */
export function formatClose(code: number | undefined, reason: string): Buffer {
  if (code === undefined) {
    if (reason !== '') throw new UsageError('ERR_CLOSE_ARGUMENT', 'a close reason needs a close code')
    return NO_PAYLOAD
  }
  if (!isSendableCloseCode(code)) {
    throw new UsageError('ERR_CLOSE_ARGUMENT', `${code} may not be sent; use 1000 or 3000 to 4999`)
  }
  const payload = Buffer.allocUnsafe(2 + Buffer.byteLength(reason))
  if (payload.length > MAX_CONTROL_BYTES) {
    throw new UsageError('ERR_CLOSE_ARGUMENT', `a close reason has ${MAX_CLOSE_REASON_BYTES} bytes at most`)
  }
  payload.writeUInt16BE(code, 0)
  payload.write(reason, 2)
  return payload
}
