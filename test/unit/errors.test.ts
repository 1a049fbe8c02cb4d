import { describe, expect, it } from 'vitest'
import { HandshakeError, ProtocolError, UsageError, WebSocketError } from '../../src/errors.ts'

const cause = new Error('what the system said')

const errors = [
  {
    error: new WebSocketError('ERR_PORTS_TAKEN', 'no port', { cause }),
    kind: WebSocketError,
    expected: { name: 'WebSocketError', code: 'ERR_PORTS_TAKEN', message: 'no port', cause },
  },
  {
    error: new ProtocolError('ERR_OPCODE', 1002, 'opcode 3 is reserved'),
    kind: ProtocolError,
    expected: { name: 'ProtocolError', code: 'ERR_OPCODE', message: 'opcode 3 is reserved', closeCode: 1002 },
  },
  {
    error: new HandshakeError('ERR_ORIGIN', 403, 'not from there', { cause }),
    kind: HandshakeError,
    expected: { name: 'HandshakeError', code: 'ERR_ORIGIN', message: 'not from there', status: 403, cause },
  },
  {
    error: new UsageError('ERR_OPTION', 'no such port', { cause }),
    kind: UsageError,
    expected: { name: 'UsageError', code: 'ERR_OPTION', message: 'no such port', cause },
  },
]

describe.each(errors)('$expected.name', ({ error, kind, expected }) => {
  it('says what happened, in fields for programs and in a message for people', () => {
    expect(Object.fromEntries(Object.keys(expected).map((key) => [key, error[key as keyof Error]]))).toEqual(expected)
  })

  it('can be caught as itself, as a WebSocketError and as an Error', () => {
    expect(error).toBeInstanceOf(kind)
    expect(error).toBeInstanceOf(WebSocketError)
    expect(error).toBeInstanceOf(Error)
  })

  it('is not taken for one of the others', () => {
    const kinds = [ProtocolError, HandshakeError, UsageError]
    expect(kinds.filter((other) => error instanceof other)).toEqual(kinds.filter((other) => other === kind))
  })

  it('prints with its name', () => {
    expect(String(error)).toBe(`${expected.name}: ${expected.message}`)
  })
})

it('has no cause when none is given', () => {
  expect('cause' in new UsageError('ERR_URL', 'no URL')).toBe(false)
  expect('cause' in new HandshakeError('ERR_PATH', 404, 'no path')).toBe(false)
})
