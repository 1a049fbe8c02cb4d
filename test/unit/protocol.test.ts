import { randomBytes } from 'node:crypto'
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { checkCloseArguments } from '../../src/close-frame.ts'
import { Opcode, type Role } from '../../src/constants.ts'
import { deflateProfile, maxCompressedBytes } from '../../src/deflate.ts'
import { ProtocolError, UsageError } from '../../src/errors.ts'
import { encodeText, PreparedMessage } from '../../src/prepared.ts'
import type { ProtocolOptions } from '../../src/protocol.ts'
import { chunksAt, chunksOf } from '../support/chunks.ts'
import { spoilFreedMemory } from '../support/freed-memory.ts'
import { Endpoint, ROLES } from '../support/protocol-host.ts'
import {
  binary,
  close,
  continuation,
  cut,
  describeFrame,
  type FrameSpec,
  formatFrame,
  fragments,
  parseFrames,
  ping,
  pong,
  text,
  unfinished,
} from '../support/wire.ts'

spoilFreedMemory()

const KEY = Buffer.of(0x12, 0x34, 0x56, 0x78)

/** Lengths around every change of the header (§5.2), and around those from which bytes are not copied. */
const LENGTHS = [0, 1, 125, 126, 127, 65_535, 65_536, 16_384, 16_385]

describe('masking (§5.1, §5.3)', () => {
  it('a server receives a masked frame', () => {
    const server = new Endpoint('server')
    server.protocol.receive(formatFrame(text('masked'), KEY))
    server.expectMessages('masked')
    server.expectOpen()
  })

  it('a client receives an unmasked frame', () => {
    const client = new Endpoint('client')
    client.protocol.receive(formatFrame(text('plain')))
    client.expectMessages('plain')
    client.expectOpen()
  })

  it('a server fails on an unmasked frame', () => {
    const server = new Endpoint('server')
    server.protocol.receive(formatFrame(text('plain')))
    server.expectMessages()
    server.expectFailedWith(1002, 'ERR_MASK_REQUIRED')
  })

  it('a client fails on a masked frame', () => {
    const client = new Endpoint('client')
    client.protocol.receive(formatFrame(text('masked'), KEY))
    client.expectMessages()
    client.expectFailedWith(1002, 'ERR_MASK_FORBIDDEN')
  })

  it('a client takes a new masking key for every frame', () => {
    const client = new Endpoint('client')
    for (let count = 0; count < 8; count++) {
      client.protocol.sendText('text')
      client.protocol.sendBinary(Buffer.from('binary'))
      client.protocol.sendPing(Buffer.from('ping'))
      client.protocol.sendBinary(Buffer.alloc(20_000))
    }
    const keys = client.takeSent().map((frame) => frame.maskingKey?.toString('hex'))
    expect(keys).toHaveLength(32)
    expect(new Set(keys)).toHaveLength(32)
    expect(keys).not.toContain(undefined)
  })

  it('a server masks nothing', () => {
    const server = new Endpoint('server')
    server.protocol.sendText('text')
    server.protocol.sendBinary(Buffer.from('binary'))
    server.protocol.sendPing(Buffer.from('ping'))
    server.protocol.close(1000)
    expect(server.takeSent().map((frame) => frame.maskingKey)).toEqual([undefined, undefined, undefined, undefined])
  })

  it('a client leaves what it was given to send as it is', () => {
    const client = new Endpoint('client')
    for (const length of [100, 20_000]) {
      const payload = Buffer.alloc(length, 'x')
      client.protocol.sendBinary(payload)
      expect(payload.equals(Buffer.alloc(length, 'x'))).toBe(true)
    }
  })
})

describe.each(ROLES)('messages in one frame: %s', (role) => {
  it.each(LENGTHS)('receives a text of %d bytes', (length) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(text('t'.repeat(length)))
    endpoint.expectMessages('t'.repeat(length))
    endpoint.expectOpen()
  })

  it.each(LENGTHS)('receives a binary message of %d bytes', (length) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(binary(Buffer.alloc(length, 0xfe)))
    endpoint.expectMessages(Buffer.alloc(length, 0xfe))
    endpoint.expectOpen()
  })

  it.each(LENGTHS)('sends a text of %d bytes', (length) => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.sendText('t'.repeat(length))
    endpoint.expectSent(text('t'.repeat(length)))
  })

  it.each(LENGTHS)('sends a binary message of %d bytes', (length) => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.sendBinary(new Uint8Array(length).fill(0xfe))
    endpoint.expectSent(binary(Buffer.alloc(length, 0xfe)))
  })

  it.each([42, 43, 100, 21_845, 40_000, 349_526])('sends a text of %d characters of three bytes', (length) => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.sendText('€'.repeat(length))
    endpoint.expectSent(text('€'.repeat(length)))
  })

  it('sends a text that is too long to be encoded in place', () => {
    const endpoint = new Endpoint(role)
    const ascii = 'long '.repeat(250_000)
    const mixed = `${ascii}€`
    endpoint.protocol.sendText(ascii)
    endpoint.protocol.sendText(mixed)
    endpoint.expectSent(text(ascii), text(mixed))
  })

  it('receives several in one chunk, in order', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(text('one'), binary('two'), text(''), text('four'))
    endpoint.expectMessages('one', Buffer.from('two'), '', 'four')
  })

  it('receives nothing before a frame is whole', () => {
    const endpoint = new Endpoint(role)
    const bytes = endpoint.encode(text('whole'))
    endpoint.receiveChunks(chunksOf(bytes.subarray(0, -1), 1))
    endpoint.expectMessages()
    endpoint.receiveChunks([Buffer.from(bytes.subarray(-1))])
    endpoint.expectMessages('whole')
  })

  it('gives binary that arrives in one chunk as a view of it', () => {
    const endpoint = new Endpoint(role)
    const chunk = endpoint.encode(binary('view'))
    endpoint.protocol.receive(chunk)
    const [message] = endpoint.host.messages as [Buffer]
    expect(message.buffer).toBe(chunk.buffer)
    endpoint.expectMessages(Buffer.from('view'))
  })

  it('tells text from binary with the same bytes', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(text('same'), binary('same'))
    expect(endpoint.host.messages).toEqual(['same', Buffer.from('same')])
  })
})

describe('binary without a copy', () => {
  it('a server sends long binary as it is', () => {
    const server = new Endpoint('server')
    const payload = new Uint8Array(20_000).subarray(100)
    server.protocol.sendBinary(payload)
    const [, appended] = server.host.pieces
    expect(appended!.buffer).toBe(payload.buffer)
    expect(appended!.byteOffset).toBe(100)
    expect(appended!.length).toBe(19_900)
  })

  it('a server copies short binary, which may be changed at once', () => {
    const server = new Endpoint('server')
    const payload = Buffer.from('before')
    server.protocol.sendBinary(payload)
    payload.fill('x')
    server.expectSent(binary('before'))
  })

  it('a client copies any binary, because it masks', () => {
    const client = new Endpoint('client')
    const payload = Buffer.alloc(20_000, 'b')
    client.protocol.sendBinary(payload)
    payload.fill('x')
    client.expectSent(binary(Buffer.alloc(20_000, 'b')))
  })
})

describe('messages that were prepared for several connections', () => {
  it.each(['one', Buffer.of(1, 2, 3), 'x'.repeat(200), 'x'.repeat(70_000)])('are sent without a copy', (data) => {
    const server = new Endpoint('server')
    const message = new PreparedMessage(data)
    server.protocol.sendPrepared(message)
    expect(server.host.pieces[0]).toBe(message.plain)
    expect(message.payload.equals(Buffer.from(data))).toBe(true)
    server.expectSent(typeof data === 'string' ? text(data) : binary(data))
  })

  it.each(['', 'ascii', 'µ', '𐍈', 'a'.repeat(126), '€'.repeat(42), '€'.repeat(21_846)])('encodeText: %s', (message) => {
    expect(encodeText(message).equals(formatFrame(text(message)))).toBe(true)
    expect(encodeText(message, KEY.readInt32LE()).equals(formatFrame(text(message), KEY))).toBe(true)
  })
})

describe.each(ROLES)('continuation (§5.4): %s', (role) => {
  it('joins the fragments of a text', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(...fragments(Opcode.TEXT, ['frag', '', 'men', 'ted']))
    endpoint.expectMessages('fragmented')
    endpoint.expectOpen()
  })

  it('joins the fragments of a binary message', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(...fragments(Opcode.BINARY, [Buffer.of(0xff), Buffer.of(0), Buffer.of(0xfe, 1)]))
    endpoint.expectMessages(Buffer.of(0xff, 0, 0xfe, 1))
  })

  it('joins fragments that come in chunks of their own', () => {
    const endpoint = new Endpoint(role)
    for (const fragment of fragments(Opcode.TEXT, ['a', 'b', 'c'])) endpoint.receive(fragment)
    for (const fragment of fragments(Opcode.BINARY, ['d', 'e'])) endpoint.receive(fragment)
    endpoint.expectMessages('abc', Buffer.from('de'))
  })

  it('joins fragments without any payload', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(...fragments(Opcode.TEXT, ['', '', '']), ...fragments(Opcode.BINARY, ['', '']))
    endpoint.expectMessages('', Buffer.alloc(0))
  })

  it('puts a long message together from chunks', () => {
    const endpoint = new Endpoint(role)
    const ascii = Buffer.alloc(300_000, 'ascii ')
    const mixed = Buffer.from('€uro µ '.repeat(20_000))
    const bytes = endpoint.encode(text(ascii), binary(ascii), text(mixed), text(ascii.subarray(0, 2_000)))
    endpoint.receiveChunks(chunksOf(bytes, 65_536))
    endpoint.expectMessages(ascii.toString(), ascii, mixed.toString(), ascii.toString('utf8', 0, 2_000))
  })

  it('starts a new message behind a fragmented one', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(...fragments(Opcode.TEXT, ['o', 'ne']), text('two'), ...fragments(Opcode.BINARY, ['th', 'ree']))
    endpoint.expectMessages('one', 'two', Buffer.from('three'))
  })

  it.each([
    ['last', continuation('x')],
    ['first', unfinished(continuation('x'))],
  ])('fails on a %s continuation of nothing', (_, frame) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(frame)
    endpoint.expectFailedWith(1002, 'ERR_UNEXPECTED_CONTINUATION')
  })

  it('fails on a continuation behind the last fragment', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(...fragments(Opcode.TEXT, ['a', 'b']), continuation('c'))
    endpoint.expectMessages('ab')
    endpoint.expectFailedWith(1002, 'ERR_UNEXPECTED_CONTINUATION')
  })

  it.each([
    ['text', text('new')],
    ['binary message', binary('new')],
    ['fragmented message', unfinished(text('new'))],
  ])('fails on a %s inside another message', (_, frame) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(unfinished(text('old')), frame)
    endpoint.expectMessages()
    endpoint.expectFailedWith(1002, 'ERR_EXPECTED_CONTINUATION')
  })

  it('fails on a wrong frame as soon as its header is there', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.receive(endpoint.encode(continuation('payload')).subarray(0, role === 'server' ? 6 : 2))
    endpoint.expectFailedWith(1002, 'ERR_UNEXPECTED_CONTINUATION')
  })
})

describe.each(ROLES)('control frames (§5.5): %s', (role) => {
  it('answers a ping with its payload', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(ping(), ping('hello'), ping(Buffer.alloc(125, 0xfe)))
    endpoint.expectSent(pong(), pong('hello'), pong(Buffer.alloc(125, 0xfe)))
    endpoint.expectOpen()
  })

  it('answers a ping that comes byte by byte', () => {
    const endpoint = new Endpoint(role)
    endpoint.receiveChunks(chunksOf(endpoint.encode(ping('in pieces'), text('behind')), 1))
    endpoint.expectSent(pong('in pieces'))
    endpoint.expectMessages('behind')
  })

  it('answers a ping between fragments, before the message is there', () => {
    const endpoint = new Endpoint(role).echo()
    endpoint.receive(unfinished(text('a')), ping('1'), unfinished(continuation('b')), ping('2'))
    endpoint.expectSent(pong('1'), pong('2'))
    endpoint.receive(continuation('c'))
    endpoint.expectSent(text('abc'))
  })

  it('hands a pong to the host', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(pong(), unfinished(text('a')), pong('inside'), continuation('b'))
    expect(endpoint.host.pongs.map(String)).toEqual(['', 'inside'])
    endpoint.expectMessages('ab')
    endpoint.expectNothingSent()
  })

  it('sends a ping', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.sendPing(Buffer.from('anybody there?'))
    endpoint.expectSent(ping('anybody there?'))
  })

  it.each([
    ['ping', ping('x')],
    ['pong', pong('x')],
    ['close', close(1000)],
  ])('fails on a fragmented %s', (_, frame) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(unfinished(frame))
    endpoint.expectFailedWith(1002, 'ERR_CONTROL_FRAGMENTED')
  })

  it.each([
    ['ping', ping(Buffer.alloc(126))],
    ['pong', pong(Buffer.alloc(126))],
    ['close', close(1000, Buffer.alloc(124, 'r'))],
  ])('fails on a %s of 126 bytes', (_, frame) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(frame)
    endpoint.expectFailedWith(1002, 'ERR_CONTROL_TOO_LONG')
  })
})

describe.each(ROLES)('too many pings: %s', (role) => {
  it('looks for room when as many pongs wait as may', () => {
    const endpoint = new Endpoint(role, { maxPendingPongs: 3 })
    for (let count = 0; count < 10; count++) endpoint.receive(ping())
    expect(endpoint.host.flushes).toBe(3)
    endpoint.expectOpen()
    expect(endpoint.takeSent()).toHaveLength(10)
  })

  it('fails when the pongs are not read', () => {
    const endpoint = new Endpoint(role, { maxPendingPongs: 3 })
    endpoint.host.blocked = true
    endpoint.receive(ping('1'), ping('2'), ping('3'))
    endpoint.expectSent(pong('1'), pong('2'), pong('3'))
    endpoint.expectOpen()
    endpoint.receive(ping('4'))
    endpoint.expectFailedWith(1008, 'ERR_TOO_MANY_PINGS')
  })

  it('counts from the start when the output has left', () => {
    const endpoint = new Endpoint(role, { maxPendingPongs: 3 })
    endpoint.host.blocked = true
    for (let count = 0; count < 5; count++) {
      endpoint.receive(ping(), ping(), ping())
      endpoint.protocol.outputFlushed()
    }
    endpoint.expectOpen()
    expect(endpoint.host.flushes).toBe(0)
  })
})

describe.each(ROLES)('header violations (§5.2): %s', (role) => {
  it.each([1, 2, 3, 4, 5, 6, 7])('fails on reserved bits %d', (rsv) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(text('before'), { ...text('bad'), rsv })
    endpoint.expectMessages('before')
    endpoint.expectFailedWith(1002, 'ERR_RESERVED_BITS')
  })

  it.each([3, 4, 5, 6, 7, 11, 12, 13, 14, 15])('fails on opcode %d', (opcode) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(text('before'), { opcode })
    endpoint.expectMessages('before')
    endpoint.expectFailedWith(1002, 'ERR_OPCODE')
  })

  it.each([
    ['125 in two bytes', { ...binary(Buffer.alloc(125)), lengthBytes: 2 }],
    ['65535 in eight bytes', { ...binary(Buffer.alloc(65_535)), lengthBytes: 8 }],
    ['2^63', { ...binary(''), lengthBytes: 8, declaredLength: 2 ** 63 }],
  ] as const)('fails on a length of %s', (_, frame) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(frame)
    endpoint.expectFailedWith(1002, 'ERR_LENGTH_ENCODING')
  })

  it('tells the peer and the host once, whatever else is in the chunk', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive({ opcode: 3 }, { opcode: 4 }, text('behind'), ping('behind'), close(1000))
    endpoint.expectMessages()
    endpoint.expectFailedWith(1002, 'ERR_OPCODE')
  })
})

describe.each(ROLES)('close handshake begun by the peer (§5.5.1, §7.1): %s', (role) => {
  it('answers with the same code and without the reason', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(close(1000, 'bye'))
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000, 'bye')
  })

  it('answers an empty Close with an empty one, and reports 1005', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(close())
    endpoint.expectSent(close())
    endpoint.expectClosedWith(1005)
  })

  it.each([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])(
    'takes the code %d',
    (code) => {
      const endpoint = new Endpoint(role)
      endpoint.receive(close(code, 'reason'))
      endpoint.expectSent(close(code))
      endpoint.expectClosedWith(code, 'reason')
    },
  )

  it.each([0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])('fails on the code %d', (code) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(close(code))
    endpoint.expectFailedWith(1002, 'ERR_CLOSE_CODE')
  })

  it('fails on half a code', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive({ opcode: Opcode.CLOSE, payload: Buffer.of(3) })
    endpoint.expectFailedWith(1002, 'ERR_CLOSE_PAYLOAD')
  })

  it('takes a reason of 123 bytes of UTF-8', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(close(1000, '€'.repeat(41)))
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000, '€'.repeat(41))
  })

  it.each([
    ['an impossible byte', Buffer.of(0x61, 0xff)],
    ['half a character', Buffer.of(0x61, 0xe2, 0x82)],
    ['a surrogate', Buffer.of(0xed, 0xa0, 0x80)],
  ])('fails on a reason with %s', (_, reason) => {
    const endpoint = new Endpoint(role)
    endpoint.receive(close(1000, reason))
    endpoint.expectFailedWith(1007, 'ERR_CLOSE_REASON_UTF8')
  })

  it('delivers what came before, and drops what comes behind', () => {
    const endpoint = new Endpoint(role).echo()
    endpoint.receive(text('before'), close(1000), text('behind'), ping('behind'), close(1001))
    endpoint.receive(text('later'), { opcode: 3 })
    endpoint.expectMessages('before')
    endpoint.expectSent(text('before'), close(1000))
    endpoint.expectClosedWith(1000)
  })

  it('drops a message that was not whole', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(unfinished(text('half')), close(1000))
    endpoint.expectSent(close(1000))
    endpoint.expectMessages()
    endpoint.expectClosedWith(1000)
  })

  it('understands a Close that comes byte by byte', () => {
    const endpoint = new Endpoint(role)
    endpoint.receiveChunks(chunksOf(endpoint.encode(close(4000, 'slowly')), 1))
    endpoint.expectSent(close(4000))
    endpoint.expectClosedWith(4000, 'slowly')
  })
})

describe.each(ROLES)('close handshake begun here (§7.1.2): %s', (role) => {
  it('sends code and reason, and waits for the answer', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1001, 'going')
    endpoint.expectSent(close(1001, 'going'))
    expect(endpoint.protocol.state).toBe('close-sent')
    expect(endpoint.host.ended).toBe(0)
    endpoint.receive(close(1001))
    endpoint.expectNothingSent()
    endpoint.expectClosedWith(1001)
  })

  it('sends an empty Close without a code', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close()
    endpoint.expectSent(close())
    endpoint.receive(close())
    endpoint.expectClosedWith(1005)
  })

  it('reports the code of the peer, not its own', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000, 'mine')
    endpoint.receive(close(4001, 'theirs'))
    endpoint.expectSent(close(1000, 'mine'))
    endpoint.expectClosedWith(4001, 'theirs')
  })

  it('still delivers what the peer sends before its Close', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000)
    endpoint.expectSent(close(1000))
    endpoint.receive(text('late'), unfinished(text('la')), pong('late'), continuation('ter'))
    endpoint.expectMessages('late', 'later')
    expect(endpoint.host.pongs.map(String)).toEqual(['late'])
    expect(endpoint.protocol.state).toBe('close-sent')
  })

  it('still answers a ping, as §5.5.2 asks for until the peer has closed', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000)
    endpoint.receive(ping('late'))
    endpoint.expectSent(close(1000), pong('late'))
  })

  it('begins once', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000, 'first')
    endpoint.protocol.close(1001, 'second')
    endpoint.expectSent(close(1000, 'first'))
    endpoint.receive(close(1000))
    endpoint.protocol.close(1001)
    endpoint.expectNothingSent()
    endpoint.expectClosedWith(1000)
  })

  it('is fine with both ends beginning at the same time', () => {
    const client = new Endpoint('client')
    const server = new Endpoint('server')
    client.protocol.close(1000, 'from the client')
    server.protocol.close(1001, 'from the server')
    const [fromClient] = client.takeSent()
    const [fromServer] = server.takeSent()
    client.receive(fromServer!)
    server.receive(fromClient!)
    client.expectNothingSent()
    server.expectNothingSent()
    client.expectClosedWith(1001, 'from the server')
    server.expectClosedWith(1000, 'from the client')
  })

  it('takes a reason of 123 bytes, also when they are fewer characters', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000, '€'.repeat(41))
    endpoint.expectSent(close(1000, '€'.repeat(41)))
  })

  it.each([
    ['1005, which is never sent', 1005, undefined],
    ['1006, which is never sent', 1006, undefined],
    ['1015, which is never sent', 1015, undefined],
    ['999', 999, undefined],
    ['5000', 5000, undefined],
    ['a fraction', 1000.5, undefined],
    ['no number', Number.NaN, undefined],
    ['a reason without a code', undefined, 'reason'],
    ['a reason of 124 bytes', 1000, 'r'.repeat(124)],
    ['a reason of 42 characters of 3 bytes', 1000, '€'.repeat(42)],
  ])('refuses %s', (_, code, reason) => {
    const endpoint = new Endpoint(role)
    const refusal = expect.objectContaining({ code: 'ERR_CLOSE_ARGUMENT' })
    expect(() => endpoint.protocol.close(code, reason)).toThrow(refusal)
    expect(() => endpoint.protocol.close(code, reason)).toThrow(UsageError)
    endpoint.expectNothingSent()
    endpoint.expectOpen()
  })

  it('refuses a wrong argument also where it would do nothing', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000)
    expect(() => endpoint.protocol.close(1005)).toThrow(UsageError)
  })
})

describe('checkCloseArguments', () => {
  it.each([[undefined], [1000], [4999, 'reason'], [1001, '€'.repeat(41)]] as const)(
    'takes %j, %j',
    (code, reason?: string) => {
      expect(() => checkCloseArguments(code, reason)).not.toThrow()
    },
  )

  it.each([
    [1005, undefined],
    [999, undefined],
    [1000, 'r'.repeat(124)],
    [undefined, 'r'.repeat(124)],
  ])('refuses %j, %j', (code, reason) => {
    expect(() => checkCloseArguments(code, reason)).toThrow(expect.objectContaining({ code: 'ERR_CLOSE_ARGUMENT' }))
  })
})

describe('who ends TCP (§7.1.1)', () => {
  it('a server does, as soon as both Close frames are through', () => {
    const server = new Endpoint('server')
    server.protocol.close(1000)
    expect(server.host.ended).toBe(0)
    server.receive(close(1000))
    expect(server.host.ended).toBe(1)
  })

  it('a client leaves it to the server', () => {
    const client = new Endpoint('client')
    client.protocol.close(1000)
    client.receive(close(1000))
    expect(client.host.ended).toBe(0)
    expect(client.protocol.state).toBe('draining')
  })

  it.each(ROLES)('a %s that fails the connection does so at once', (role) => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.fail(1011, 'broken')
    expect(endpoint.host.ended).toBe(1)
  })
})

describe.each(ROLES)('fail (§7.1.7): %s', (role) => {
  it('tells the peer why, and ends TCP', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.fail(1011, 'internal error')
    endpoint.expectSent(close(1011, 'internal error'))
    endpoint.expectFinished()
    endpoint.expectEndsWith({ code: 1011, reason: 'internal error', wasClean: false })
  })

  it('sends no second Close', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000, 'bye')
    endpoint.protocol.fail(1011, 'internal error')
    endpoint.expectSent(close(1000, 'bye'))
    endpoint.expectFinished()
    endpoint.expectEndsWith({ code: 1011, reason: 'internal error', wasClean: false })
  })

  it('sends no second Close for a violation either', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000)
    endpoint.receive({ opcode: 3 })
    endpoint.expectSent(close(1000))
    endpoint.expectFinished()
    expect(endpoint.host.violations.map((error) => error.code)).toEqual(['ERR_OPCODE'])
    endpoint.expectEndsWith({ code: 1002, reason: 'opcode 3 is reserved', wasClean: false })
  })

  it('does nothing behind the close handshake', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(close(1000))
    endpoint.protocol.fail(1011, 'too late')
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000)
  })

  it('does nothing behind a first failure', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.fail(1011, 'first')
    endpoint.protocol.fail(1002, 'second')
    endpoint.expectSent(close(1011, 'first'))
    endpoint.expectFinished()
    endpoint.expectEndsWith({ code: 1011, reason: 'first', wasClean: false })
  })

  it('does nothing when TCP is gone', () => {
    const endpoint = new Endpoint(role)
    endpoint.expectEndsWith({ code: 1006, reason: '', wasClean: false })
    endpoint.protocol.fail(1011, 'too late')
    endpoint.expectNothingSent()
    expect(endpoint.host.ended).toBe(0)
  })

  it('stops in the middle of a chunk when a handler calls it', () => {
    const endpoint = new Endpoint(role)
    endpoint.host.handler = () => endpoint.protocol.fail(1011, 'handler failed')
    endpoint.receive(text('one'), text('two'), ping())
    endpoint.expectMessages('one')
    endpoint.expectSent(close(1011, 'handler failed'))
  })
})

describe.each(ROLES)('text and UTF-8 (§8.1): %s', (role) => {
  it.each(['ascii', 'µ', 'κόσμε', '€uro', '𐍈', '\u{10ffff}', '\0', '\ufeffwith a byte order mark', '\uffff'])(
    'takes and sends %j',
    (message) => {
      const endpoint = new Endpoint(role)
      endpoint.receive(text(message))
      endpoint.receiveChunks(chunksOf(endpoint.encode(text(message)), 1))
      endpoint.receive(
        ...fragments(
          Opcode.TEXT,
          [...Buffer.from(message)].map((byte) => Buffer.of(byte)),
        ),
      )
      endpoint.expectMessages(message, message, message)
      endpoint.protocol.sendText(message)
      endpoint.expectSent(text(message))
    },
  )

  it('takes text that is not ASCII at every length, whatever the masking key', () => {
    const endpoint = new Endpoint(role)
    const messages = Array.from({ length: 1_100 }, (_, length) => `${'a'.repeat(length % 7)}${'µ'.repeat(length >> 1)}`)
    for (const message of messages) endpoint.receive(text(message))
    expect(endpoint.host.messages).toEqual(messages)
    endpoint.expectOpen()
  })

  it('finds one bad byte anywhere in a text of any length', () => {
    for (const length of [1, 47, 48, 64, 100, 1_023, 1_024, 2_000]) {
      for (const at of [0, 1, 2, 3, length >> 1, length - 4, length - 3, length - 2, length - 1]) {
        const payload = Buffer.alloc(length, 'a')
        payload[Math.min(Math.max(at, 0), length - 1)] = 0xff
        const endpoint = new Endpoint(role, {}, length + at)
        endpoint.receive(text(payload))
        endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
      }
    }
  })

  it('sends a lone surrogate as U+FFFD', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.sendText('a\ud800b')
    endpoint.protocol.sendText('\udc00')
    endpoint.expectSent(text('a\ufffdb'), text('\ufffd'))
  })

  it('fails on bytes that are no text, in one frame', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(text('before'), text(Buffer.of(0x61, 0xff, 0x62)))
    endpoint.expectMessages('before')
    endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
  })

  it('fails on a character that the end of the message cuts', () => {
    for (const parts of [[Buffer.of(0xe2, 0x82)], [Buffer.of(0xe2), Buffer.of(0x82)], [Buffer.of(0xe2), '']]) {
      const endpoint = new Endpoint(role)
      endpoint.receive(...fragments(Opcode.TEXT, parts))
      endpoint.expectMessages()
      endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
    }
  })

  it('fails on ASCII where the rest of a character is due', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(unfinished(text(Buffer.of(0xe2))), continuation('a'))
    endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
  })

  it('takes a character that fragments cut in three', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(...fragments(Opcode.TEXT, [Buffer.of(0x61, 0xe2), Buffer.of(0x82), '', Buffer.of(0xac, 0x62)]))
    endpoint.expectMessages('a€b')
  })

  it('fails at the first bad byte, long before the message is whole', () => {
    const endpoint = new Endpoint(role)
    const bytes = endpoint.encode(
      text(Buffer.concat([Buffer.alloc(1_000, 'a'), Buffer.of(0xe2, 0x28), Buffer.alloc(1_000)])),
    )
    const badAt = bytes.length - 1_001
    endpoint.receiveChunks(chunksAt(bytes.subarray(0, badAt), [3, 500, badAt - 1]))
    endpoint.expectOpen()
    endpoint.protocol.receive(Buffer.from(bytes.subarray(badAt, badAt + 1)))
    endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
  })

  it('does not look at binary', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(binary(Buffer.of(0xff)), ...fragments(Opcode.BINARY, [Buffer.of(0xe2), Buffer.of(0xff)]))
    endpoint.expectMessages(Buffer.of(0xff), Buffer.of(0xe2, 0xff))
    endpoint.expectOpen()
  })
})

describe.each(ROLES)('limits: %s', (role) => {
  const limits = { maxFrameBytes: 100, maxMessageBytes: 100, maxFragments: 4 }

  it('takes what is just within them', () => {
    const endpoint = new Endpoint(role, limits)
    endpoint.receive(
      binary(Buffer.alloc(100)),
      ...fragments(Opcode.BINARY, ['', Buffer.alloc(60), '', Buffer.alloc(40)]),
    )
    endpoint.expectMessages(Buffer.alloc(100), Buffer.alloc(100))
    endpoint.expectOpen()
  })

  it('fails on a longer frame, before any of its payload', () => {
    const endpoint = new Endpoint(role, limits)
    endpoint.receive({ ...binary(''), declaredLength: 101 })
    endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
  })

  it.each([2 ** 32, 2 ** 53, 2 ** 62])('fails on a frame of %d bytes', (declaredLength) => {
    const endpoint = new Endpoint(role)
    endpoint.receive({ ...text(''), lengthBytes: 8, declaredLength })
    endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
  })

  it('fails on a fragment too much for the message, before any of its payload', () => {
    const endpoint = new Endpoint(role, limits)
    endpoint.receive(unfinished(binary(Buffer.alloc(60))), { ...unfinished(continuation('')), declaredLength: 41 })
    endpoint.expectMessages()
    endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
  })

  it('holds a message in one frame to the length of a message too', () => {
    const endpoint = new Endpoint(role, { maxFrameBytes: 200, maxMessageBytes: 100 })
    endpoint.receive(binary(Buffer.alloc(101)))
    endpoint.expectMessages()
    endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
  })

  it('fails on a fragment too many, empty or not', () => {
    const endpoint = new Endpoint(role, limits)
    endpoint.receive(...fragments(Opcode.BINARY, ['', '', '', '', '']))
    endpoint.expectMessages()
    endpoint.expectFailedWith(1008, 'ERR_TOO_MANY_FRAGMENTS')
  })

  it('does not count frames that chunks have cut as fragments', () => {
    const endpoint = new Endpoint(role, limits)
    endpoint.receiveChunks(chunksOf(endpoint.encode(binary(Buffer.alloc(100))), 1))
    endpoint.expectMessages(Buffer.alloc(100))
  })

  it('counts each message for itself', () => {
    const endpoint = new Endpoint(role, limits)
    for (let count = 0; count < 10; count++) endpoint.receive(...fragments(Opcode.BINARY, ['a', 'b', 'c', 'd']))
    expect(endpoint.host.messages).toHaveLength(10)
    endpoint.expectOpen()
  })

  it('does not count control frames', () => {
    const endpoint = new Endpoint(role, limits)
    const pings = Array.from({ length: 10 }, () => ping(Buffer.alloc(50)))
    endpoint.receive(unfinished(binary('a')), ...pings, continuation('b'))
    endpoint.expectMessages(Buffer.from('ab'))
    endpoint.expectOpen()
  })
})

describe.each(ROLES)('hold and release: %s', (role) => {
  it('stops between two frames of a chunk and goes on there', () => {
    const endpoint = new Endpoint(role)
    endpoint.host.handler = () => endpoint.protocol.hold()
    endpoint.receive(text('one'), text('two'), ping('three'), text('four'))
    endpoint.expectMessages('one')
    endpoint.protocol.release()
    endpoint.expectMessages('one', 'two')
    endpoint.expectNothingSent()
    endpoint.protocol.release()
    endpoint.expectMessages('one', 'two', 'four')
    endpoint.expectSent(pong('three'))
  })

  it('goes on in the middle of a frame that the chunk has cut', () => {
    const endpoint = new Endpoint(role)
    endpoint.host.handler = () => endpoint.protocol.hold()
    const bytes = endpoint.encode(text('one'), text('two two'))
    const [start, rest] = chunksAt(bytes, [bytes.length - 3])
    endpoint.protocol.receive(start!)
    endpoint.protocol.release()
    endpoint.protocol.receive(rest!)
    endpoint.expectMessages('one', 'two two')
  })

  it('does not read at all while held', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.hold()
    endpoint.receive(text('waits'))
    endpoint.expectMessages()
    endpoint.protocol.release()
    endpoint.expectMessages('waits')
  })

  it('can be released from the handler that held', () => {
    const endpoint = new Endpoint(role)
    endpoint.host.handler = (message) => {
      // A second loop inside the first would deliver "three" before "two" is through.
      endpoint.protocol.hold()
      endpoint.protocol.release()
      endpoint.protocol.sendText(`echo of ${message}`)
    }
    endpoint.receive(text('one'), text('two'), text('three'))
    endpoint.expectMessages('one', 'two', 'three')
    endpoint.expectSent(text('echo of one'), text('echo of two'), text('echo of three'))
  })

  it('keeps what is held while our Close is out', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.hold()
    endpoint.receive(text('waits'), close(1000))
    endpoint.protocol.close(1000)
    endpoint.protocol.release()
    endpoint.expectMessages('waits')
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000)
  })

  it('drops what is held when the connection fails', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.hold()
    endpoint.receive(text('dropped'))
    endpoint.protocol.fail(1011, 'failed')
    endpoint.protocol.release()
    endpoint.expectMessages()
  })

  it('drops what is held when TCP is gone', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.hold()
    endpoint.receive(text('dropped'))
    endpoint.protocol.receiveEnd()
    endpoint.protocol.release()
    endpoint.expectMessages()
  })
})

describe.each(ROLES)('the end of TCP (§7.1.4, §7.1.5): %s', (role) => {
  it('is 1006 without a Close frame', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(text('before'), unfinished(text('half')))
    endpoint.expectEndsWith({ code: 1006, reason: '', wasClean: false })
    endpoint.expectMessages('before')
  })

  it('is 1006 when our Close was not answered', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000, 'bye')
    endpoint.expectEndsWith({ code: 1006, reason: '', wasClean: false })
  })

  it('lets nothing in or out any more', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.receiveEnd()
    endpoint.receive(text('late'), ping(), { opcode: 3 })
    endpoint.protocol.close(1000)
    endpoint.expectNothingSent()
    endpoint.expectMessages()
    expect(endpoint.host.violations).toEqual([])
    expect(endpoint.protocol.state).toBe('closed')
  })
})

describe.each(ROLES)('abandon: %s', (role) => {
  it('reads and sends nothing any more, and keeps its reason', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(unfinished(text('half')))
    endpoint.protocol.abandon('the peer did not answer a ping')
    endpoint.receive(continuation('whole'), ping())
    endpoint.protocol.close(1000)
    endpoint.expectMessages()
    endpoint.expectNothingSent()
    expect(endpoint.host.ended).toBe(0)
    expect(endpoint.protocol.state).toBe('draining')
    endpoint.expectEndsWith({ code: 1006, reason: 'the peer did not answer a ping', wasClean: false })
  })

  it('has no reason of its own', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.abandon()
    endpoint.expectEndsWith({ code: 1006, reason: '', wasClean: false })
  })

  it('keeps the first reason', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.abandon('first')
    endpoint.protocol.abandon('second')
    endpoint.expectEndsWith({ code: 1006, reason: 'first', wasClean: false })
  })

  it('gives up a close handshake', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.close(1000)
    endpoint.protocol.abandon('no answer')
    endpoint.receive(close(1000))
    endpoint.expectEndsWith({ code: 1006, reason: 'no answer', wasClean: false })
  })

  it('changes nothing behind a close handshake', () => {
    const endpoint = new Endpoint(role)
    endpoint.receive(close(1001, 'bye'))
    endpoint.protocol.abandon('too late')
    endpoint.expectClosedWith(1001, 'bye')
  })

  it('changes nothing when TCP is gone', () => {
    const endpoint = new Endpoint(role)
    endpoint.protocol.receiveEnd()
    endpoint.protocol.abandon('too late')
    expect(endpoint.protocol.state).toBe('closed')
  })

  it('stops in the middle of a chunk when a handler calls it', () => {
    const endpoint = new Endpoint(role)
    endpoint.host.handler = () => endpoint.protocol.abandon()
    endpoint.receive(text('one'), text('two'))
    endpoint.expectMessages('one')
  })
})

describe.each(ROLES)('closing from a handler: %s', (role) => {
  it('delivers the rest of the chunk up to the Close of the peer', () => {
    const endpoint = new Endpoint(role)
    endpoint.host.handler = () => endpoint.protocol.close(1000)
    endpoint.receive(text('one'), text('two'), close(1000), text('three'))
    endpoint.expectMessages('one', 'two')
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000)
  })
})

describe.each(ROLES)('exceptions that are not the peer’s: %s', (role) => {
  it('go through, and the next chunk is read as ever', () => {
    const endpoint = new Endpoint(role)
    const exception = new Error('a bug of the host')
    endpoint.host.handler = () => {
      throw exception
    }
    expect(() => endpoint.receive(text('one'))).toThrow(exception)
    expect(endpoint.host.violations).toEqual([])
    endpoint.host.handler = undefined
    endpoint.receive(text('two'))
    endpoint.protocol.hold()
    endpoint.receive(text('three'))
    endpoint.protocol.release()
    endpoint.expectMessages('one', 'two', 'three')
    endpoint.expectOpen()
  })
})

describe('what a violation is', () => {
  it('a ProtocolError with the code that the peer is told', () => {
    const server = new Endpoint('server')
    server.receive(text(Buffer.of(0xff)))
    const [violation] = server.host.violations
    expect(violation).toBeInstanceOf(ProtocolError)
    expect(violation).toMatchObject({ code: 'ERR_TEXT_UTF8', closeCode: 1007 })
    const [closeFrame] = parseFrames(Buffer.concat(server.host.pieces))
    expect(closeFrame!.payload.readUInt16BE()).toBe(1007)
    expect(closeFrame!.payload.toString('utf8', 2)).toBe(violation!.message)
  })
})

describe('two endpoints, one for each end', () => {
  it('understand each other', () => {
    const client = new Endpoint('client')
    const server = new Endpoint('server').echo()
    const deliver = (from: Endpoint, to: Endpoint): void => {
      for (const piece of from.host.pieces.splice(0)) to.protocol.receive(Buffer.from(piece))
    }
    const messages = ['text', '', 'κόσμε', Buffer.alloc(70_000, 0xfe), '€'.repeat(30_000), Buffer.alloc(0)]
    for (const message of messages) {
      if (typeof message === 'string') client.protocol.sendText(message)
      else client.protocol.sendBinary(message)
    }
    deliver(client, server)
    server.expectMessages(...messages)
    deliver(server, client)
    client.expectMessages(...messages)
    client.protocol.close(4000, 'enough')
    deliver(client, server)
    deliver(server, client)
    server.expectClosedWith(4000, 'enough')
    client.expectClosedWith(4000)
  })
})

describe('something that fails while bytes are read, and is no fault of the peer', () => {
  it.each(['server', 'client'] as const)('goes to the host and not to whoever hands over the bytes: %s', (role) => {
    const endpoint = new Endpoint(role)
    const failures: unknown[] = []
    const error = new RangeError('Cannot create a string longer than that')
    endpoint.host.onFailure = (failure) => void failures.push(failure)
    endpoint.host.onMessage = () => {
      throw error
    }
    const other = new Endpoint(role === 'server' ? 'client' : 'server')
    other.protocol.sendText('text')
    for (const piece of other.host.pieces) endpoint.protocol.receive(Buffer.from(piece))
    expect(failures).toEqual([error])
    expect(endpoint.host.violations).toEqual([])
  })
})

describe.each(ROLES)('memory of a chunk that goes while the chunk is read: %s', (role) => {
  it.each([Opcode.TEXT, Opcode.BINARY])('freed with the parts of a message, of which it was the last: %s', (opcode) => {
    const endpoint = new Endpoint(role)
    const parts = ['a', 'b', 'c'].map((letter) => letter.repeat(10_000))
    for (const frame of fragments(opcode, parts)) endpoint.receive(frame)
    endpoint.receive(text('goes on'))
    const whole = parts.join('')
    endpoint.expectMessages(opcode === Opcode.TEXT ? whole : Buffer.from(whole), 'goes on')
    endpoint.expectOpen()
  })

  it('taken by whoever was given the last message in it', () => {
    const endpoint = new Endpoint(role)
    const lengths: number[] = []
    endpoint.host.onMessage = (message) => {
      lengths.push(message.length)
      const { buffer } = message as Buffer
      structuredClone(buffer, { transfer: [buffer as ArrayBuffer] })
    }
    for (let count = 0; count < 2; count++) endpoint.receive(binary(Buffer.alloc(5_000)))
    expect(lengths).toEqual([5_000, 5_000])
    endpoint.expectOpen()
  })

  it('taken while other messages are in it: the connection fails, by no fault of the peer', () => {
    const endpoint = new Endpoint(role)
    const failures: unknown[] = []
    endpoint.host.onFailure = (failure) => void failures.push(failure)
    endpoint.host.onMessage = (message) => {
      const { buffer } = message as Buffer
      structuredClone(buffer, { transfer: [buffer as ArrayBuffer] })
    }
    endpoint.receive(binary(Buffer.alloc(5_000)), text('lost'))
    expect(String(failures)).toContain('transfer a copy')
    expect(endpoint.host.violations).toEqual([])
  })
})

// ── compression (RFC 7692) ──────────────────────────────────────────────────────────────────────────────────────────

/** An endpoint that has agreed on permessage-deflate, each message on its own. */
function deflating(role: Role, limits: Partial<ProtocolOptions> = {}, threshold = 100): Endpoint {
  const agreement = { serverMaxWindowBits: 15, clientMaxWindowBits: 15 }
  const takeover = { serverNoContextTakeover: true, clientNoContextTakeover: true }
  const profile = deflateProfile({ ...agreement, ...takeover }, { threshold, level: 3, memLevel: 8 }, role)
  return new Endpoint(role, { allowRsv1: true, deflate: profile, ...limits })
}

function deflated(payload: string | Uint8Array): Buffer {
  return deflateRawSync(payload, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
}

/** The frame, compressed. */
function compressed(frame: FrameSpec): FrameSpec {
  return { ...frame, payload: deflated(frame.payload!), rsv: 4 }
}

/** The same in fragments of `size` bytes; RSV1 stands on the first. */
function compressedFragments(frame: FrameSpec, size: number): FrameSpec[] {
  const [first, ...others] = fragments(frame.opcode, cut(deflated(frame.payload!), size))
  return [{ ...first!, rsv: 4 }, ...others]
}

/** What was sent since the last look, those that were compressed with a `+`, inflated. */
function sentBy(endpoint: Endpoint): string[] {
  return endpoint.takeSent().map((frame) => {
    if (frame.rsv !== 4) return describeFrame(frame)
    const payload = inflateRawSync(Buffer.concat([frame.payload, Buffer.of(0, 0, 0xff, 0xff)]), {
      finishFlush: constants.Z_SYNC_FLUSH,
    })
    return `+ ${describeFrame({ ...frame, rsv: 0, payload })}`
  })
}
const shown = (frame: FrameSpec): string => describeFrame(frame)
const shownCompressed = (frame: FrameSpec): string => `+ ${describeFrame(frame)}`

/** Inflated in the pool: more than 256 KiB. */
const INFLATED_LATER = 'Inflated in the thread pool. '.repeat(10_000)
/** Compressed in the pool: more than 64 KiB. */
const COMPRESSED_LATER = 'Compressed in the thread pool. '.repeat(4_000)
const AT_ONCE = 'At once. '.repeat(50)

/** Everything that waits is on its way. */
function allSent(endpoint: Endpoint): Promise<void> {
  return new Promise((resolve, reject) => endpoint.protocol.whenSent(resolve, () => reject(new Error('given up'))))
}

describe.each(ROLES)('compressed messages come to a %s', (role) => {
  it('in one frame, text and binary, beside those that are not compressed', () => {
    const endpoint = deflating(role)
    const sent = [text(AT_ONCE), binary(AT_ONCE), text(''), binary(''), text('ü€😀')]
    endpoint.receive(...sent.flatMap((frame) => [compressed(frame), frame]))
    endpoint.expectMessages(
      ...[AT_ONCE, AT_ONCE, Buffer.from(AT_ONCE), Buffer.from(AT_ONCE), '', '', Buffer.alloc(0), Buffer.alloc(0)],
      ...['ü€😀', 'ü€😀'],
    )
    endpoint.expectOpen()
    expect(endpoint.protocol.compressed).toBe(true)
  })

  it('in chunks of any size', () => {
    for (const size of [1, 2, 3, 7, 20, 1_000]) {
      const endpoint = deflating(role)
      const bytes = endpoint.encode(compressed(text(AT_ONCE)), text('plain'), compressed(binary(AT_ONCE)))
      endpoint.receiveChunks(chunksOf(bytes, size))
      endpoint.expectMessages(AT_ONCE, 'plain', Buffer.from(AT_ONCE))
    }
  })

  it('in fragments, with control frames between them (§6.2)', () => {
    for (const size of [1, 2, 5, 1_000]) {
      const endpoint = deflating(role)
      const frames = compressedFragments(text(`${AT_ONCE}€`), size)
      endpoint.receive(...frames.flatMap((frame, index) => [frame, ping(`${index}`), pong()]))
      endpoint.expectMessages(`${AT_ONCE}€`)
      endpoint.expectSent(...frames.map((_, index) => pong(`${index}`)))
      endpoint.expectOpen()
    }
  })

  it('in fragments of which some are empty', () => {
    const endpoint = deflating(role)
    const [first, ...others] = compressedFragments(binary(AT_ONCE), 5)
    const nothing = unfinished(continuation(''))
    endpoint.receive({ ...first!, payload: Buffer.alloc(0) }, nothing, unfinished(continuation(first!.payload!)))
    endpoint.receive(...others.flatMap((frame) => [nothing, frame]))
    endpoint.expectMessages(Buffer.from(AT_ONCE))
    // All of them may be.
    endpoint.receive({ ...unfinished(text('')), rsv: 4 }, nothing, continuation(''))
    endpoint.expectMessages(Buffer.from(AT_ONCE), '')
  })

  it('in blocks the last of which says so (§7.2.3.4)', () => {
    const endpoint = deflating(role)
    const payload = Buffer.concat([deflateRawSync('one '), deflateRawSync('two '), deflated('three')])
    endpoint.receive({ ...text(payload), rsv: 4 }, { ...text(deflateRawSync('last')), rsv: 4 })
    endpoint.expectMessages('one two three', 'last')
  })

  it('RSV1 where it means nothing (§6.1)', () => {
    const wrong: [string, FrameSpec[]][] = [
      ['on a continuation', [unfinished(compressed(text(AT_ONCE))), { ...continuation(''), rsv: 4 }]],
      ['on a ping', [{ ...ping(), rsv: 4 }]],
      ['on a pong', [{ ...pong(), rsv: 4 }]],
      ['on a Close frame', [{ ...close(1000), rsv: 4 }]],
      ['with RSV2', [{ ...compressed(text(AT_ONCE)), rsv: 6 }]],
      ['with RSV3', [{ ...compressed(text(AT_ONCE)), rsv: 5 }]],
    ]
    for (const [, frames] of wrong) {
      const endpoint = deflating(role)
      endpoint.receive(...frames)
      endpoint.expectMessages()
      endpoint.expectFailedWith(1002, 'ERR_RESERVED_BITS')
    }
  })

  it('RSV1 where nothing was agreed on', () => {
    const endpoint = new Endpoint(role)
    expect(endpoint.protocol.compressed).toBe(false)
    endpoint.receive(compressed(text(AT_ONCE)))
    endpoint.expectMessages()
    endpoint.expectFailedWith(1002, 'ERR_RESERVED_BITS')
  })

  it('what is no deflate data fails with 1007', () => {
    for (const payload of [Buffer.of(0x07), Buffer.from('no deflate data'), deflated(AT_ONCE).subarray(0, -3)]) {
      const endpoint = deflating(role)
      endpoint.receive(compressed(text('before')), { ...text(payload), rsv: 4 }, text('behind'))
      endpoint.expectMessages('before')
      endpoint.expectFailedWith(1007, 'ERR_COMPRESSED_DATA')
    }
  })

  it('a text that is not UTF-8 once it is inflated fails with 1007', () => {
    for (const bytes of [Buffer.of(0xff), Buffer.from('€').subarray(0, 2), Buffer.of(0x61, 0xed, 0xa0, 0x80)]) {
      for (const size of [1, 1_000]) {
        const endpoint = deflating(role)
        endpoint.receive(...compressedFragments(text(bytes), size))
        endpoint.expectMessages()
        endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
      }
      // Bytes may be any.
      const endpoint = deflating(role)
      endpoint.receive(compressed(binary(bytes)))
      endpoint.expectMessages(bytes)
    }
  })
})

describe.each(ROLES)('limits on compressed messages: %s', (role) => {
  it('count what comes out', () => {
    for (const size of [500, 501]) {
      for (const fragment of [1, 1_000]) {
        const endpoint = deflating(role, { maxMessageBytes: 500, maxFrameBytes: maxCompressedBytes(500) })
        endpoint.receive(...compressedFragments(text('a'.repeat(size)), fragment))
        if (size === 500) endpoint.expectMessages('a'.repeat(500))
        else endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
      }
    }
  })

  it('count in the pool as well', async () => {
    const { length } = INFLATED_LATER
    for (const maxMessageBytes of [length, length - 1]) {
      const endpoint = deflating(role, { maxMessageBytes, maxFrameBytes: maxCompressedBytes(maxMessageBytes) })
      endpoint.receive(compressed(text(INFLATED_LATER)))
      await endpoint.host.idle()
      if (maxMessageBytes === length) endpoint.expectMessages(INFLATED_LATER)
      else endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
    }
  })

  it('leave room for what deflate adds to what it cannot make smaller', () => {
    const noise = randomBytes(20_000)
    for (const level of [0, 1]) {
      const payload = deflateRawSync(noise, { level, memLevel: 1, finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
      expect(payload.length).toBeLessThanOrEqual(maxCompressedBytes(noise.length))
      const endpoint = deflating(role, { maxMessageBytes: 20_000, maxFrameBytes: maxCompressedBytes(20_000) })
      endpoint.receive({ ...binary(payload), rsv: 4 })
      endpoint.expectMessages(noise)
    }
  })

  it('are on what comes in, too: before any of it is kept', () => {
    const most = maxCompressedBytes(500)
    expect(most).toBe(627)
    const limits = { maxMessageBytes: 500, maxFrameBytes: most }
    const frame = { opcode: Opcode.TEXT, rsv: 4, payload: Buffer.alloc(0), declaredLength: most + 1 }
    const single = deflating(role, limits)
    single.receive(frame)
    single.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')

    const several = deflating(role, limits)
    several.receive(unfinished({ ...binary(Buffer.alloc(most)), rsv: 4 }))
    several.expectOpen()
    several.receive(unfinished(continuation('')))
    several.expectOpen()
    several.receive(continuation('x'))
    several.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
  })

  it('are not larger for a message that is not compressed', () => {
    const limits = { maxMessageBytes: 500, maxFrameBytes: maxCompressedBytes(500) }
    for (const frames of [[text('a'.repeat(501))], fragments(Opcode.TEXT, ['a'.repeat(250), 'a'.repeat(251)])]) {
      const endpoint = deflating(role, limits)
      endpoint.receive(...frames)
      endpoint.expectFailedWith(1009, 'ERR_MESSAGE_TOO_BIG')
    }
    const endpoint = deflating(role, limits)
    endpoint.receive(text('a'.repeat(500)))
    endpoint.expectMessages('a'.repeat(500))
  })

  it('are on fragments as on those of any message', () => {
    const endpoint = deflating(role, { maxFragments: 5 })
    endpoint.receive(...compressedFragments(text(AT_ONCE), 2))
    endpoint.expectFailedWith(1008, 'ERR_TOO_MANY_FRAGMENTS')
  })
})

describe.each(ROLES)('a message that is inflated in the pool: %s', (role) => {
  it('nothing that came behind it overtakes it, in one chunk or in many', async () => {
    for (const size of [1_000_000, 100]) {
      const endpoint = deflating(role)
      const frames = [
        text('before'),
        compressed(text(INFLATED_LATER)),
        text('behind it'),
        ping('a ping'),
        compressed(text(AT_ONCE)),
        ...compressedFragments(binary(INFLATED_LATER), 300),
        binary('last'),
      ]
      for (const chunk of chunksOf(endpoint.encode(...frames), size)) {
        // A socket that is paused gives nothing.
        await endpoint.host.idle()
        endpoint.protocol.receive(chunk)
      }
      if (size === 1_000_000) {
        expect(endpoint.host.inflating).toBe(true)
        endpoint.expectMessages('before')
        endpoint.expectNothingSent()
      }
      await endpoint.host.idle()
      endpoint.expectMessages(
        ...['before', INFLATED_LATER, 'behind it', AT_ONCE],
        ...[Buffer.from(INFLATED_LATER), Buffer.from('last')],
      )
      endpoint.expectSent(pong('a ping'))
      endpoint.expectOpen()
    }
  })

  it('a long payload goes there at once', async () => {
    const noise = randomBytes(70_000)
    const endpoint = deflating(role)
    const frame = compressed(binary(noise))
    expect(frame.payload!.length).toBeGreaterThan(65_536)
    endpoint.receive(frame)
    expect(endpoint.host.inflating).toBe(true)
    await endpoint.host.idle()
    endpoint.expectMessages(noise)
  })

  it('the peer’s Close waits behind it', async () => {
    const endpoint = deflating(role)
    endpoint.receive(compressed(text(INFLATED_LATER)), close(1000, 'Done'))
    endpoint.expectOpen()
    await endpoint.host.idle()
    endpoint.expectMessages(INFLATED_LATER)
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000, 'Done')
  })

  it('is still delivered when closing has begun from here', async () => {
    const endpoint = deflating(role)
    endpoint.receive(compressed(text(INFLATED_LATER)), text('behind it'))
    endpoint.protocol.close(1000)
    endpoint.expectSent(close(1000))
    await endpoint.host.idle()
    endpoint.expectMessages(INFLATED_LATER, 'behind it')
    endpoint.receive(close(1000))
    endpoint.expectClosedWith(1000)
  })

  it('is not delivered any more when the connection was given up, or has failed', async () => {
    for (const end of [
      ({ protocol }: Endpoint) => protocol.abandon(),
      ({ protocol }: Endpoint) => void protocol.receiveEnd(),
      ({ protocol }: Endpoint) => protocol.fail(1011, ''),
    ]) {
      const endpoint = deflating(role)
      endpoint.receive(compressed(text(INFLATED_LATER)), text('behind it'))
      end(endpoint)
      await endpoint.host.idle()
      endpoint.expectMessages()
      expect(endpoint.host.violations).toEqual([])
    }
  })

  it('fails as one that is inflated at once', async () => {
    const notText = Buffer.concat([Buffer.from(INFLATED_LATER), Buffer.of(0xff)])
    const long = deflated(Buffer.concat([Buffer.from(INFLATED_LATER)]))
    for (const [frame, closeCode, code] of [
      [compressed(text(notText)), 1007, 'ERR_TEXT_UTF8'],
      [{ ...binary(long.subarray(0, -2)), rsv: 4 }, 1007, 'ERR_COMPRESSED_DATA'],
      [{ ...binary(Buffer.alloc(70_000, 0xff)), rsv: 4 }, 1007, 'ERR_COMPRESSED_DATA'],
    ] as const) {
      const endpoint = deflating(role)
      endpoint.receive(frame, text('behind it'))
      expect(endpoint.host.inflating).toBe(true)
      await endpoint.host.idle()
      endpoint.expectMessages()
      endpoint.expectFailedWith(closeCode, code)
    }
  })
})

describe.each(ROLES)('a message that is compressed in the pool: %s', (role) => {
  it('what is sent behind it waits, pings and pongs do not', async () => {
    const endpoint = deflating(role)
    endpoint.protocol.sendText(COMPRESSED_LATER)
    endpoint.protocol.sendText('plain')
    endpoint.protocol.sendBinary(Buffer.from(AT_ONCE))
    endpoint.protocol.sendPing(Buffer.from('ping'))
    endpoint.receive(ping('answered'))
    expect(sentBy(endpoint)).toEqual([ping('ping'), pong('answered')].map(shown))
    expect(endpoint.protocol.queuedBytes).toBe(COMPRESSED_LATER.length + 5 + AT_ONCE.length)
    await allSent(endpoint)
    expect(sentBy(endpoint)).toEqual([
      shownCompressed(text(COMPRESSED_LATER)),
      shown(text('plain')),
      shownCompressed(binary(AT_ONCE)),
    ])
    expect(endpoint.protocol.queuedBytes).toBe(0)
    endpoint.expectOpen()
  })

  it('what this side closes with waits behind it', async () => {
    const endpoint = deflating(role)
    endpoint.protocol.sendText(COMPRESSED_LATER)
    endpoint.protocol.close(1000, 'Done')
    expect(endpoint.protocol.state).toBe('close-sent')
    endpoint.expectNothingSent()
    await allSent(endpoint)
    expect(sentBy(endpoint)).toEqual([shownCompressed(text(COMPRESSED_LATER)), shown(close(1000, 'Done'))])
    endpoint.receive(close(1000, 'Done'))
    endpoint.expectClosedWith(1000, 'Done')
  })

  it('the answer to a Close waits behind it, and TCP does not end before', async () => {
    for (const isMutual of [false, true]) {
      const endpoint = deflating(role)
      endpoint.protocol.sendText(COMPRESSED_LATER)
      if (isMutual) endpoint.protocol.close(1001)
      endpoint.receive(close(1000))
      expect(endpoint.protocol.state).toBe('draining')
      expect(endpoint.host.ended).toBe(0)
      endpoint.expectNothingSent()
      await allSent(endpoint)
      expect(sentBy(endpoint)).toEqual([shownCompressed(text(COMPRESSED_LATER)), shown(close(isMutual ? 1001 : 1000))])
      endpoint.expectClosedWith(1000)
    }
  })

  it('is given up by a failure, which says so at once', async () => {
    for (const isClosing of [false, true]) {
      const endpoint = deflating(role)
      endpoint.protocol.sendText(COMPRESSED_LATER)
      if (isClosing) endpoint.protocol.close(1000)
      endpoint.receive({ opcode: 3 })
      endpoint.expectFailedWith(1002, 'ERR_OPCODE')
      // Nothing comes behind the Close frame when the pool is ready.
      const other = deflating(role)
      other.protocol.sendText(COMPRESSED_LATER)
      await allSent(other)
      endpoint.expectNothingSent()
    }
  })

  it('a failure behind our Close frame sends no second one', async () => {
    const endpoint = deflating(role)
    endpoint.protocol.sendText(COMPRESSED_LATER)
    endpoint.protocol.close(1000)
    await allSent(endpoint)
    endpoint.takeSent()
    endpoint.receive({ opcode: 3 })
    endpoint.expectNothingSent()
    endpoint.expectFinished()
  })

  it('is given up when the connection is', async () => {
    for (const end of [
      ({ protocol }: Endpoint) => protocol.abandon(),
      ({ protocol }: Endpoint) => void protocol.receiveEnd(),
    ]) {
      const endpoint = deflating(role)
      let cancelled = 0
      endpoint.protocol.sendText(COMPRESSED_LATER)
      endpoint.protocol.close(1000)
      endpoint.protocol.whenSent(
        () => expect.unreachable(),
        () => cancelled++,
      )
      end(endpoint)
      expect(cancelled).toBe(1)
      const other = deflating(role)
      other.protocol.sendText(COMPRESSED_LATER)
      await allSent(other)
      endpoint.expectNothingSent()
      expect(endpoint.host.queues).toEqual([])
    }
  })

  it('can be one that was prepared', async () => {
    if (role === 'client') return
    const endpoint = deflating(role)
    endpoint.protocol.sendPrepared(new PreparedMessage(COMPRESSED_LATER))
    endpoint.protocol.sendPrepared(new PreparedMessage('plain'))
    endpoint.protocol.sendText(AT_ONCE)
    expect(endpoint.protocol.queuedBytes).toBeGreaterThan(COMPRESSED_LATER.length)
    await allSent(endpoint)
    expect(sentBy(endpoint)).toEqual([
      shownCompressed(text(COMPRESSED_LATER)),
      shown(text('plain')),
      shownCompressed(text(AT_ONCE)),
    ])
  })

  it('compresses or not as it is told', () => {
    const endpoint = deflating(role, {}, 100)
    endpoint.protocol.sendText('a'.repeat(50), true)
    endpoint.protocol.sendBinary(Buffer.alloc(50, 'a'), true)
    endpoint.protocol.sendText(AT_ONCE, false)
    endpoint.protocol.sendBinary(Buffer.from(AT_ONCE), false)
    expect(sentBy(endpoint)).toEqual([
      shownCompressed(text('a'.repeat(50))),
      shownCompressed(binary('a'.repeat(50))),
      shown(text(AT_ONCE)),
      shown(binary(AT_ONCE)),
    ])
  })
})

// ── for hosts that want it otherwise ────────────────────────────────────────────────────────────────────────────────

describe.each(ROLES)('what a host may ask for: %s', (role) => {
  /** Collects what is given beside the messages. */
  function listening(options: Partial<ProtocolOptions>) {
    const endpoint = new Endpoint(role, options)
    const given: [message: string | Buffer, isBinary: boolean, ends: readonly number[] | undefined][] = []
    endpoint.host.onMessage = (message: string | Buffer, isBinary?: boolean, ends?: readonly number[]) => {
      given.push([message, isBinary!, ends])
    }
    return { endpoint, given }
  }

  it('says of every message whether it is binary', () => {
    const { endpoint, given } = listening({})
    endpoint.receive(text('ü'), binary('b'), ...fragments(Opcode.TEXT, ['a', 'b']), ...fragments(Opcode.BINARY, ['c']))
    expect(given).toEqual([
      ['ü', false, undefined],
      [Buffer.from('b'), true, undefined],
      ['ab', false, undefined],
      [Buffer.from('c'), true, undefined],
    ])
  })

  it('texts as bytes, which are checked all the same', () => {
    const { endpoint, given } = listening({ rawText: true })
    endpoint.receive(text('ascii'), text('ü€'), ...fragments(Opcode.TEXT, ['a', 'ü']))
    expect(given).toEqual(['ascii', 'ü€', 'aü'].map((message) => [Buffer.from(message), false, undefined]))
    endpoint.receive(text(Buffer.of(0xff)))
    endpoint.expectFailedWith(1007, 'ERR_TEXT_UTF8')
  })

  it('texts as they are', () => {
    const { endpoint, given } = listening({ rawText: true, skipUtf8Check: true })
    const bad = Buffer.of(0x61, 0xff)
    endpoint.receive(text(bad), ...fragments(Opcode.TEXT, [bad, bad]))
    expect(given).toEqual([bad, Buffer.concat([bad, bad])].map((message) => [message, false, undefined]))
    endpoint.expectOpen()
  })

  it('where the fragments of a message have ended', () => {
    const { endpoint, given } = listening({ keepFragments: true })
    const frames = [...fragments(Opcode.TEXT, ['a', '', 'bcd']), ...fragments(Opcode.BINARY, ['e', 'f'])]
    for (const size of [1, 1_000]) endpoint.receiveChunks(chunksOf(endpoint.encode(...frames), size))
    const expected = [
      ['abcd', [1, 1, 4]],
      ['ef', [1, 2]],
    ]
    expect(given.map(([message, , ends]) => [message.toString(), ends])).toEqual([...expected, ...expected])
  })

  it('how much of a frame is there', () => {
    const endpoint = new Endpoint(role)
    expect(endpoint.protocol.partialBytes).toBe(0)
    const bytes = endpoint.encode(text('text'))
    const header = bytes.length - 4
    const seen = chunksOf(bytes, 1).map((chunk) => {
      endpoint.protocol.receive(chunk)
      return endpoint.protocol.partialBytes
    })
    const inHeader = Array.from({ length: header - 1 }, (_, index) => index + 1)
    expect(seen).toEqual([...inHeader, 0, 1, 2, 3, 0])
    // Whole frames that are kept back are no part of one.
    endpoint.host.handler = () => endpoint.protocol.hold()
    endpoint.receive(text('read'), text('kept back'))
    expect(endpoint.protocol.partialBytes).toBe(0)
    endpoint.expectMessages('text', 'read')
  })

  it('to hold the conversation itself', () => {
    const events: unknown[] = []
    const begin = (): Endpoint => {
      const endpoint = new Endpoint(role)
      Object.assign(endpoint.host, {
        conversation: {
          onPing: (payload: Buffer) => events.push(['ping', String(payload)]),
          onClose: (code: number, reason: Buffer) => events.push(['close', code, String(reason)]),
          onFailed: (error: ProtocolError) => events.push(['failed', error.code]),
        },
      })
      return endpoint
    }
    const closing = begin()
    closing.receive(ping('a ping'), pong('a pong'), text('a text'), close(1000, 'Done'), text('never'))
    closing.expectMessages('a text')
    const failing = begin()
    failing.receive(unfinished(text('begun')), text('again'), ping())
    const failingText = begin()
    failingText.receive(text(Buffer.of(0xff)))
    const empty = begin()
    empty.receive(close())
    expect(events).toEqual([
      ['ping', 'a ping'],
      ['close', 1000, 'Done'],
      ['failed', 'ERR_EXPECTED_CONTINUATION'],
      ['failed', 'ERR_TEXT_UTF8'],
      ['close', 1005, ''],
    ])
    // What is answered is for the host to say.
    for (const endpoint of [closing, failing, failingText, empty]) {
      endpoint.expectNothingSent()
      expect(endpoint.protocol.state).toBe('draining')
      expect(endpoint.host.ended).toBe(0)
      expect(endpoint.host.violations).toEqual([])
    }
    const own = begin()
    own.protocol.sender.sendText('of the host', undefined)
    own.expectSent(text('of the host'))
  })
})
