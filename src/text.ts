import { CloseCode } from './constants.ts'
import { ProtocolError } from './errors.ts'
import { advanceUtf8, UTF8_START } from './utf8.ts'

/** A whole text as string. `ascii` says that it is known to be so. */
export function decodeText(bytes: Buffer, start: number, end: number, ascii: boolean): string {
  if (ascii) return bytes.toString('latin1', start, end)
  checkUtf8(bytes, start, end)
  return bytes.toString('utf8', start, end)
}

export function checkUtf8(bytes: Buffer, start: number, end: number): void {
  if (advanceUtf8(UTF8_START, bytes, start, end) !== UTF8_START) throw invalidText()
}

export function invalidText(): ProtocolError {
  return new ProtocolError('ERR_TEXT_UTF8', CloseCode.INVALID_PAYLOAD, 'a text message is not valid UTF-8')
}
