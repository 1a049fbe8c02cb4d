import { describe, expect, it } from 'vitest'
import {
  CloseCode,
  HANDSHAKE_GUID,
  isSendableCloseCode,
  MAX_CLOSE_REASON_BYTES,
  MAX_CONTROL_BYTES,
  Opcode,
  WEBSOCKET_VERSION,
} from '../../src/constants.ts'

describe('the words of RFC 6455', () => {
  it('has the six opcodes of §5.2', () => {
    expect(Opcode).toEqual({ CONTINUATION: 0x0, TEXT: 0x1, BINARY: 0x2, CLOSE: 0x8, PING: 0x9, PONG: 0xa })
  })

  it('has the close codes of §7.4.1 and of the IANA registry that it uses', () => {
    expect(CloseCode).toEqual({
      NORMAL: 1000,
      GOING_AWAY: 1001,
      PROTOCOL_ERROR: 1002,
      UNSUPPORTED_DATA: 1003,
      NO_STATUS: 1005,
      ABNORMAL: 1006,
      INVALID_PAYLOAD: 1007,
      POLICY_VIOLATION: 1008,
      MESSAGE_TOO_BIG: 1009,
      INTERNAL_ERROR: 1011,
      SERVICE_RESTART: 1012,
      TRY_AGAIN_LATER: 1013,
    })
  })

  it('has the GUID and the version of the handshake', () => {
    expect(HANDSHAKE_GUID).toBe('258EAFA5-E914-47DA-95CA-C5AB0DC85B11')
    expect(WEBSOCKET_VERSION).toBe('13')
  })

  it('leaves two bytes of a control frame to the close code', () => {
    expect(MAX_CONTROL_BYTES).toBe(125)
    expect(MAX_CLOSE_REASON_BYTES).toBe(123)
  })
})

describe('isSendableCloseCode', () => {
  it('is true for exactly the codes that may stand in a Close frame', () => {
    const sendable: number[] = []
    for (let code = -10; code <= 66_000; code++) if (isSendableCloseCode(code)) sendable.push(code)
    const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
    expect(sendable).toEqual([...range(1000, 1003), ...range(1007, 1014), ...range(3000, 4999)])
  })

  it.each([1000.5, 3000.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'is false for %d, which is not a whole number',
    (code) => {
      expect(isSendableCloseCode(code)).toBe(false)
    },
  )

  it('is false for text that looks like a code', () => {
    expect(isSendableCloseCode('1000' as unknown as number)).toBe(false)
  })
})
