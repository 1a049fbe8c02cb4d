import { CloseCode } from '../../constants.ts'
import { ProtocolError, type ProtocolErrorCode } from '../../errors.ts'

/*
 * What the engine finds wrong with a peer, in the words that programs written for ws compare.
 */

interface WsError {
  readonly code: string
  readonly message: string
  /** Default RangeError. */
  readonly type?: ErrorConstructor
  /** Where ws tells the peer another close code than the engine. */
  readonly closeCode?: number
}

type Translation = (error: ProtocolError) => WsError

function frame(code: string, message: string): WsError {
  return { code: `WS_ERR_${code}`, message: `Invalid WebSocket frame: ${message}` }
}

const invalidOpcode: Translation = ({ value }) => frame('INVALID_OPCODE', `invalid opcode ${value}`)
const invalidUtf8: Translation = () => ({ ...frame('INVALID_UTF8', 'invalid UTF-8 sequence'), type: Error })
const tooLong: WsError = {
  code: 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH',
  message: 'Unsupported WebSocket frame: payload length > 2^53 - 1',
  closeCode: 1009,
}

/** Reserved bits 2 and 3; a frame with any of them is told of those. */
const RSV2_RSV3 = 0x30

const TRANSLATIONS: Readonly<Partial<Record<ProtocolErrorCode, Translation>>> = {
  ERR_RESERVED_BITS: ({ value = 0 }) =>
    (value & RSV2_RSV3) === 0
      ? frame('UNEXPECTED_RSV_1', 'RSV1 must be clear')
      : frame('UNEXPECTED_RSV_2_3', 'RSV2 and RSV3 must be clear'),
  ERR_OPCODE: invalidOpcode,
  ERR_UNEXPECTED_CONTINUATION: invalidOpcode,
  ERR_EXPECTED_CONTINUATION: invalidOpcode,
  ERR_MASK_REQUIRED: () => frame('EXPECTED_MASK', 'MASK must be set'),
  ERR_MASK_FORBIDDEN: () => frame('UNEXPECTED_MASK', 'MASK must be clear'),
  ERR_CONTROL_FRAGMENTED: () => frame('EXPECTED_FIN', 'FIN must be set'),
  ERR_CONTROL_TOO_LONG: ({ value }) => frame('INVALID_CONTROL_PAYLOAD_LENGTH', `invalid payload length ${value}`),
  ERR_CLOSE_PAYLOAD: () => frame('INVALID_CONTROL_PAYLOAD_LENGTH', 'invalid payload length 1'),
  ERR_CLOSE_CODE: ({ value }) => frame('INVALID_CLOSE_CODE', `invalid status code ${value}`),
  ERR_CLOSE_REASON_UTF8: invalidUtf8,
  ERR_TEXT_UTF8: invalidUtf8,
  ERR_LENGTH_ENCODING: () => tooLong,
  ERR_MESSAGE_TOO_BIG: ({ value }) =>
    value === undefined ? { code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', message: 'Max payload size exceeded' } : tooLong,
  ERR_TOO_MANY_FRAGMENTS: ({ value }) => ({
    code: 'WS_ERR_TOO_MANY_BUFFERED_PARTS',
    message: value === undefined ? 'Too many message fragments' : 'Too many buffered chunks',
  }),
}

/** The error that `ws` would report for what the engine reports, and the close code that it would send. */
export function translateError(error: unknown): { error: unknown; closeCode: number | undefined } {
  if (!(error instanceof ProtocolError)) return { error, closeCode: undefined }
  const translation = TRANSLATIONS[error.code]
  // zlib's own error says what is wrong with compressed data.
  if (translation === undefined) return { error: error.cause ?? error, closeCode: error.closeCode }
  const { code, message, type = RangeError, closeCode = error.closeCode } = translation(error)
  return { error: withCode(new type(message), code), closeCode }
}

/** A frame has come in more pieces than are kept; how many is what tells it from too many fragments. */
export function tooManyChunks(count: number): ProtocolError {
  return new ProtocolError('ERR_TOO_MANY_FRAGMENTS', CloseCode.POLICY_VIOLATION, 'a frame came in too many chunks', {
    value: count,
  })
}

function withCode(error: Error, code: string): Error {
  return Object.assign(error, { code })
}
