import { describe, expect, it } from 'vitest'
import { Opcode, type Role } from '../../src/constants.ts'
import {
  encodeFrame,
  type Frame,
  FrameDecoder,
  firstByte,
  headerSize,
  MAX_HEADER_BYTES,
  maxTextFrameSize,
  type Piece,
  writeFrame,
  writeHeader,
  writeTextFrame,
} from '../../src/framing.ts'
import { copyOf as chunkOf } from '../support/chunks.ts'
import {
  type CopiedPiece,
  chunksOf,
  copyOf,
  decode,
  encodeAs,
  joinPieces,
  NO_LIMIT,
  peerOf,
} from '../support/frames.ts'
import { onFreedMemory } from '../support/freed-memory.ts'

const ROLES: readonly Role[] = ['client', 'server']

/** 37 fa 21 3d on the wire: the key of the examples of RFC 6455 §5.7. */
const KEY = 0x3d21fa37

function bytesOf(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex')
}

/** The examples of §5.7, and the pong that the example of a ping asks for. */
const EXAMPLES: ReadonlyArray<{ name: string; frame: Frame; hex: string; tail?: Buffer }> = [
  {
    name: 'a single-frame unmasked text message',
    frame: { opcode: Opcode.TEXT, payload: Buffer.from('Hello') },
    hex: '81 05 48 65 6c 6c 6f',
  },
  {
    name: 'a single-frame masked text message',
    frame: { opcode: Opcode.TEXT, payload: Buffer.from('Hello'), maskingKey: KEY },
    hex: '81 85 37 fa 21 3d 7f 9f 4d 51 58',
  },
  {
    name: 'the first fragment of an unmasked text message',
    frame: { opcode: Opcode.TEXT, payload: Buffer.from('Hel'), fin: false },
    hex: '01 03 48 65 6c',
  },
  {
    name: 'its last fragment',
    frame: { opcode: Opcode.CONTINUATION, payload: Buffer.from('lo') },
    hex: '80 02 6c 6f',
  },
  {
    name: 'an unmasked ping',
    frame: { opcode: Opcode.PING, payload: Buffer.from('Hello') },
    hex: '89 05 48 65 6c 6c 6f',
  },
  {
    name: 'the masked pong that answers it',
    frame: { opcode: Opcode.PONG, payload: Buffer.from('Hello'), maskingKey: KEY },
    hex: '8a 85 37 fa 21 3d 7f 9f 4d 51 58',
  },
  {
    name: '256 bytes of binary data',
    frame: { opcode: Opcode.BINARY, payload: Buffer.alloc(256, 7) },
    hex: '82 7e 01 00',
    tail: Buffer.alloc(256, 7),
  },
  {
    name: '64 KiB of binary data',
    frame: { opcode: Opcode.BINARY, payload: Buffer.alloc(65_536, 7) },
    hex: '82 7f 00 00 00 00 00 01 00 00',
    tail: Buffer.alloc(65_536, 7),
  },
  {
    name: 'the first frame of a compressed message (RFC 7692 §7.2.3.1)',
    frame: { opcode: Opcode.TEXT, payload: bytesOf('f2 48 cd c9 c9 07 00'), rsv1: true },
    hex: 'c1 07 f2 48 cd c9 c9 07 00',
  },
]

/** Lengths of all three encodings (§5.2), and how many bytes a header without a key then has. */
const LENGTHS = [
  [0, 2],
  [1, 2],
  [125, 2],
  [126, 4],
  [127, 4],
  [65_535, 4],
  [65_536, 10],
  [100_000, 10],
] as const

describe('the examples of RFC 6455 §5.7', () => {
  it.each(EXAMPLES)('encodes $name', ({ frame, hex, tail = Buffer.alloc(0) }) => {
    expect(encodeFrame(frame).equals(Buffer.concat([bytesOf(hex), tail]))).toBe(true)
  })

  it.each(EXAMPLES)('decodes $name', ({ frame, hex, tail = Buffer.alloc(0) }) => {
    const { fin = true, rsv1 = false, opcode, payload, maskingKey } = frame
    const role = maskingKey === undefined ? 'client' : 'server'
    const { frames, error } = decode({ role, maxFrameBytes: NO_LIMIT, allowRsv1: true }, [
      Buffer.concat([bytesOf(hex), tail]),
    ])
    expect(error).toBeUndefined()
    expect(frames).toEqual([{ fin, rsv1, opcode, payload }])
  })
})

describe('encoding', () => {
  it.each([
    [Opcode.CONTINUATION, false, false, 0x00],
    [Opcode.TEXT, true, false, 0x81],
    [Opcode.BINARY, false, true, 0x42],
    [Opcode.CLOSE, true, false, 0x88],
    [Opcode.TEXT, true, true, 0xc1],
  ] as const)('puts opcode %i, fin %s and rsv1 %s into the first byte', (opcode, fin, rsv1, expected) => {
    expect(firstByte(opcode, fin, rsv1)).toBe(expected)
  })

  it.each(LENGTHS)('has for %i bytes a header of %i, and four more with a key', (length, size) => {
    expect(headerSize(length, false)).toBe(size)
    expect(headerSize(length, true)).toBe(size + 4)
  })

  it.each(LENGTHS)('writes for %i bytes the header whose size it has told', (length, size) => {
    const target = Buffer.alloc(MAX_HEADER_BYTES + 3, 0xee)
    expect(writeHeader(target, 1, 0x82, length, undefined)).toBe(1 + size)
    expect(target.subarray(1 + size).every((byte) => byte === 0xee)).toBe(true)
    expect(writeHeader(target, 1, 0x82, length, KEY)).toBe(1 + size + 4)
    expect(target.toString('hex', 1 + size, 1 + size + 4)).toBe('37fa213d')
    expect([target[0], target[1]! & 0x7f, target[2]! & 0x80]).toEqual([0xee, 0x02, 0x80])
  })

  it('writes a length beyond 32 bits', () => {
    const target = Buffer.alloc(MAX_HEADER_BYTES)
    writeHeader(target, 0, 0x82, 2 ** 53 - 1, undefined)
    expect(target.toString('hex', 0, 10)).toBe('827f001fffffffffffff')
  })

  it.each([0, -1, 0x80000000, 0xffffffff, -0x80000000])('takes %d as a masking key, signed or not', (maskingKey) => {
    const payload = Buffer.from('payload')
    const bytes = encodeFrame({ opcode: Opcode.BINARY, payload, maskingKey })
    expect(bytes[1]).toBe(0x80 | payload.length)
    expect(bytes.readUInt32LE(2)).toBe(maskingKey >>> 0)
    expect(decode({ role: 'server', maxFrameBytes: NO_LIMIT }, [bytes]).frames[0]?.payload).toEqual(payload)
  })

  it.each(ROLES)('leaves the payload of a %s as it is', (role) => {
    const payload = Buffer.from('mine')
    encodeAs(role, { opcode: Opcode.TEXT, payload })
    expect(payload.toString()).toBe('mine')
  })

  it('writes a frame between others and says where it ends', () => {
    const target = Buffer.alloc(20, 0xee)
    const end = writeFrame(target, 4, 0x81, Buffer.from('Hello'), KEY)
    expect(end).toBe(15)
    expect(target.toString('hex')).toBe('eeeeeeee818537fa213d7f9f4d5158eeeeeeeeee')
  })
})

describe.each(ROLES)('text written by a %s', (role) => {
  const maskingKey = role === 'client' ? KEY : undefined

  // Texts whose bytes need a longer header than their number of characters lets expect, and such that do not.
  it.each([
    ['nothing', ''],
    ['ASCII', 'Hello'],
    ['125 characters', 'a'.repeat(125)],
    ['126 characters', 'a'.repeat(126)],
    ['125 bytes in 124 characters', `${'a'.repeat(123)}é`],
    ['126 bytes in 125 characters', `${'a'.repeat(124)}é`],
    ['375 bytes in 125 characters', '€'.repeat(125)],
    ['65,535 characters', 'a'.repeat(65_535)],
    ['65,536 characters', 'a'.repeat(65_536)],
    ['65,536 bytes in 65,535 characters', `${'a'.repeat(65_534)}é`],
    ['emoji', '😀'.repeat(40)],
    ['a lone surrogate, which becomes U+FFFD', 'a\ud800b'],
  ])('is the frame of its UTF-8: %s', (_, text) => {
    const target = Buffer.alloc(maxTextFrameSize(text) + 8, 0xee)
    const end = writeTextFrame(target, 4, firstByte(Opcode.TEXT, true, false), text, maskingKey)
    const expected = encodeFrame({ opcode: Opcode.TEXT, payload: Buffer.from(text), maskingKey })
    expect(target.subarray(4, end).equals(expected)).toBe(true)
    expect(target.readUInt32BE(0)).toBe(0xeeeeeeee)
  })

  it.each([
    ['nothing', ''],
    ['1,000 characters of three bytes', '€'.repeat(1_000)],
    ['30,000 characters of two bytes', 'é'.repeat(30_000)],
    ['30,000 pairs of surrogates', '😀'.repeat(30_000)],
  ])('fits into the room that is kept for it: %s', (_, text) => {
    const target = Buffer.alloc(maxTextFrameSize(text))
    const end = writeTextFrame(target, 0, firstByte(Opcode.TEXT, true, false), text, maskingKey)
    expect(end).toBe(encodeFrame({ opcode: Opcode.TEXT, payload: Buffer.from(text), maskingKey }).length)
  })
})

/** What a decoder refuses, by the first bytes of the frame, written as a server sends them: unmasked. */
const VIOLATIONS: ReadonlyArray<{ name: string; hex: string; code: string; closeCode?: number }> = [
  { name: 'RSV1 where no extension defines it', hex: 'c1 00', code: 'ERR_RESERVED_BITS' },
  { name: 'RSV2', hex: 'a1 00', code: 'ERR_RESERVED_BITS' },
  { name: 'RSV3', hex: '91 00', code: 'ERR_RESERVED_BITS' },
  { name: 'all reserved bits', hex: 'f2 00', code: 'ERR_RESERVED_BITS' },
  { name: 'RSV1 on a control frame', hex: 'c9 00', code: 'ERR_RESERVED_BITS' },
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => ({
    name: `the reserved opcode ${opcode}`,
    hex: `8${opcode.toString(16)} 00`,
    code: 'ERR_OPCODE',
  })),
  { name: 'a fragmented Close', hex: '08 00', code: 'ERR_CONTROL_FRAGMENTED' },
  { name: 'a fragmented Ping', hex: '09 00', code: 'ERR_CONTROL_FRAGMENTED' },
  { name: 'a fragmented Pong', hex: '0a 00', code: 'ERR_CONTROL_FRAGMENTED' },
  { name: 'a Close of 126 bytes', hex: '88 7e', code: 'ERR_CONTROL_TOO_LONG' },
  { name: 'a Ping with a 64-bit length', hex: '89 7f', code: 'ERR_CONTROL_TOO_LONG' },
  { name: '0 bytes in 16 bits', hex: '81 7e 00 00', code: 'ERR_LENGTH_ENCODING' },
  { name: '125 bytes in 16 bits', hex: '81 7e 00 7d', code: 'ERR_LENGTH_ENCODING' },
  { name: '125 bytes in 64 bits', hex: '81 7f 00 00 00 00 00 00 00 7d', code: 'ERR_LENGTH_ENCODING' },
  { name: '65,535 bytes in 64 bits', hex: '81 7f 00 00 00 00 00 00 ff ff', code: 'ERR_LENGTH_ENCODING' },
  { name: 'the top bit of a 64-bit length', hex: '81 7f 80 00 00 00 00 01 00 00', code: 'ERR_LENGTH_ENCODING' },
  {
    name: '2^53 bytes, where numbers end to be exact',
    hex: '81 7f 00 20 00 00 00 00 00 00',
    code: 'ERR_MESSAGE_TOO_BIG',
    closeCode: 1009,
  },
  {
    name: '2^63 - 1 bytes',
    hex: '81 7f 7f ff ff ff ff ff ff ff',
    code: 'ERR_MESSAGE_TOO_BIG',
    closeCode: 1009,
  },
]

/** A header as the peer of `role` sends it: that of a client has the mask bit and a key. */
function headerFor(role: Role, hex: string): Buffer {
  const header = bytesOf(hex)
  if (role === 'client') return header
  header[1]! |= 0x80
  return header.length === 2 ? header : Buffer.concat([header, bytesOf('37 fa 21 3d')])
}

describe.each(ROLES)('a %s refuses', (role) => {
  const options = { role, maxFrameBytes: NO_LIMIT }

  it.each(VIOLATIONS)('$name', ({ hex, code, closeCode = 1002 }) => {
    const { frames, error } = decode(options, [headerFor(role, hex)])
    expect(frames).toEqual([])
    expect(error).toMatchObject({ name: 'ProtocolError', code, closeCode })
    expect(error?.message).not.toBe('')
  })

  it.each(VIOLATIONS)('$name, byte by byte', ({ hex, code }) => {
    const chunks = [...headerFor(role, hex)].map((byte) => Buffer.of(byte))
    expect(decode(options, chunks).error?.code).toBe(code)
  })

  it('lengths that are not minimal, unless they are allowed', () => {
    for (const hex of ['81 7e 00 00', '81 7f 00 00 00 00 00 00 00 00']) {
      const { frames, error } = decode({ ...options, allowLongLengths: true }, [headerFor(role, hex)])
      expect(error).toBeUndefined()
      expect(frames).toMatchObject([{ opcode: Opcode.TEXT, fin: true }])
    }
  })

  it('what it must not do behind a good frame, which is there', () => {
    const good = encodeAs(peerOf(role), { opcode: Opcode.TEXT, payload: Buffer.from('good') })
    const { frames, error } = decode(options, [Buffer.concat([good, headerFor(role, 'b1 00')])])
    expect(frames.map(({ payload }) => payload.toString())).toEqual(['good'])
    expect(error?.code).toBe('ERR_RESERVED_BITS')
  })

  it.each([
    [100, 101],
    [125, 126],
    [1_000, 1_001],
    [65_535, 65_536],
    [100_000, 2 ** 40],
  ])('beyond a limit of %d bytes a frame that declares %d, by its header alone', (maxFrameBytes, length) => {
    const header = Buffer.alloc(MAX_HEADER_BYTES)
    const end = writeHeader(header, 0, 0x82, length, role === 'server' ? KEY : undefined)
    const { pieces, error } = decode({ role, maxFrameBytes }, [header.subarray(0, end)])
    expect(pieces).toEqual([])
    expect(error).toMatchObject({ code: 'ERR_MESSAGE_TOO_BIG', closeCode: 1009 })
    expect(error?.message).toContain(String(maxFrameBytes))
  })
})

describe.each(ROLES)('a %s takes', (role) => {
  const peer = peerOf(role)

  it.each([0, 1, 100, 125, 126, 65_535, 65_536])('a frame of %d bytes when that is its limit', (length) => {
    const payload = Buffer.alloc(length, 0x61)
    const { frames, error } = decode({ role, maxFrameBytes: length }, [
      encodeAs(peer, { opcode: Opcode.BINARY, payload }),
    ])
    expect(error).toBeUndefined()
    expect(frames[0]?.payload.equals(payload)).toBe(true)
  })

  it.each([Opcode.CLOSE, Opcode.PING, Opcode.PONG])(
    'a control frame with opcode %d of 125 bytes whatever the limit on messages',
    (opcode) => {
      const payload = Buffer.alloc(125, 0x61)
      const { frames, error } = decode({ role, maxFrameBytes: 10 }, [encodeAs(peer, { opcode, payload })])
      expect(error).toBeUndefined()
      expect(frames).toEqual([{ fin: true, rsv1: false, opcode, payload }])
    },
  )

  it('the header of 2^53 - 1 bytes when there is no limit, and waits for them', () => {
    const header = Buffer.alloc(MAX_HEADER_BYTES)
    const end = writeHeader(header, 0, 0x82, Number.MAX_SAFE_INTEGER, role === 'server' ? KEY : undefined)
    const { pieces, error } = decode({ role, maxFrameBytes: NO_LIMIT }, [header.subarray(0, end), Buffer.alloc(7)])
    expect(error).toBeUndefined()
    expect(pieces.map(({ payload, starts, ends }) => [payload.length, starts, ends])).toEqual([
      [0, true, false],
      [7, false, false],
    ])
    expect(pieces[0]?.payloadLength).toBe(Number.MAX_SAFE_INTEGER)
  })

  it.each([
    [Opcode.TEXT, undefined],
    [Opcode.BINARY, undefined],
    [Opcode.CONTINUATION, 'ERR_RESERVED_BITS'],
    [Opcode.PING, 'ERR_RESERVED_BITS'],
  ])('RSV1 with an extension only where a message starts: opcode %d', (opcode, code) => {
    const bytes = encodeAs(peer, { opcode, payload: Buffer.from('x'), rsv1: true })
    const { frames, error } = decode({ role, maxFrameBytes: NO_LIMIT, allowRsv1: true }, [bytes])
    expect(error?.code).toBe(code)
    expect(frames.map(({ rsv1 }) => rsv1)).toEqual(code === undefined ? [true] : [])
  })

  it('RSV2 not even with an extension', () => {
    const { error } = decode({ role, maxFrameBytes: NO_LIMIT, allowRsv1: true }, [headerFor(role, 'e1 00')])
    expect(error?.code).toBe('ERR_RESERVED_BITS')
  })
})

describe('the mask bit (§5.1)', () => {
  it('is demanded by a server', () => {
    const { error } = decode({ role: 'server', maxFrameBytes: NO_LIMIT }, [bytesOf('81 05')])
    expect(error).toMatchObject({ code: 'ERR_MASK_REQUIRED', closeCode: 1002 })
  })

  it('is refused by a client', () => {
    const { error } = decode({ role: 'client', maxFrameBytes: NO_LIMIT }, [bytesOf('81 85')])
    expect(error).toMatchObject({ code: 'ERR_MASK_FORBIDDEN', closeCode: 1002 })
  })
})

describe.each(ROLES)('pieces, as a %s reads them', (role) => {
  const options = { role, maxFrameBytes: NO_LIMIT }
  const peer = peerOf(role)
  const text = encodeAs(peer, { opcode: Opcode.TEXT, payload: Buffer.from('Hello, you there') })
  const ping = encodeAs(peer, { opcode: Opcode.PING, payload: Buffer.from('are you there?') })
  const headerBytes = headerSize(0, peer === 'client')

  it('gives one piece for a frame that is whole in its chunk', () => {
    const { pieces } = decode(options, [text])
    expect(pieces).toHaveLength(1)
    expect(pieces[0]).toMatchObject({ starts: true, ends: true, fin: true, payloadLength: 16 })
  })

  it('gives a piece of a data frame for each chunk, and one that ends it', () => {
    const { pieces } = decode(options, chunksOf(text, [headerBytes + 5, headerBytes + 11]))
    expect(pieces.map(({ payload, starts, ends }) => [payload.toString(), starts, ends])).toEqual([
      ['Hello', true, false],
      [', you ', false, false],
      ['there', false, true],
    ])
  })

  it('gives an empty piece when a chunk ends behind the header', () => {
    const { pieces } = decode(options, chunksOf(text, [headerBytes]))
    expect(pieces.map(({ payload, starts, ends }) => [payload.length, starts, ends])).toEqual([
      [0, true, false],
      [16, false, true],
    ])
  })

  it('gives one piece for an empty frame', () => {
    const empty = encodeAs(peer, { opcode: Opcode.TEXT, payload: Buffer.alloc(0), fin: false })
    expect(decode(options, [empty, empty]).pieces.map(({ starts, ends, fin }) => [starts, ends, fin])).toEqual([
      [true, true, false],
      [true, true, false],
    ])
  })

  it('gives a control frame in one piece wherever it is cut', () => {
    for (let cut = 0; cut <= ping.length; cut++) {
      const { pieces } = decode(options, chunksOf(Buffer.concat([ping, text]), [cut, cut + 1]))
      expect(pieces[0]).toMatchObject({ opcode: Opcode.PING, starts: true, ends: true })
      expect(pieces[0]?.payload.toString()).toBe('are you there?')
    }
  })

  it('gives the same frames wherever a longer header is cut', () => {
    for (const length of [126, 65_536]) {
      const payload = Buffer.alloc(length, 0x61)
      const bytes = encodeAs(peer, { opcode: Opcode.BINARY, payload })
      for (let cut = 0; cut <= MAX_HEADER_BYTES + 1; cut++) {
        const { frames } = decode(options, chunksOf(bytes, [cut]))
        expect(frames).toHaveLength(1)
        expect(frames[0]?.payload.equals(payload)).toBe(true)
      }
    }
  })

  it('gives a control frame between two pieces of a message its own payload', () => {
    const first = encodeAs(peer, { opcode: Opcode.TEXT, payload: Buffer.from('a'), fin: false })
    const last = encodeAs(peer, { opcode: Opcode.CONTINUATION, payload: Buffer.from('b') })
    const { frames } = decode(options, [Buffer.concat([first, ping, last])])
    expect(frames.map(({ opcode, fin, payload }) => [opcode, fin, payload.toString()])).toEqual([
      [Opcode.TEXT, false, 'a'],
      [Opcode.PING, true, 'are you there?'],
      [Opcode.CONTINUATION, true, 'b'],
    ])
  })

  it('gives nothing for nothing', () => {
    expect(decode(options, []).pieces).toEqual([])
    expect(decode(options, [Buffer.alloc(0), Buffer.alloc(0)]).pieces).toEqual([])
    expect(new FrameDecoder(options).read()).toBeUndefined()
  })

  it('gives nothing new for an empty chunk in the middle of a header or a payload', () => {
    const { frames } = decode(options, chunksOf(text, [1, 1, headerBytes + 3, headerBytes + 3]))
    expect(frames.map(({ payload }) => payload.toString())).toEqual(['Hello, you there'])
  })
})

describe('the memory of a decoder', () => {
  it.each(ROLES)('is the chunk: a %s gets a view of it', (role) => {
    const chunk = encodeAs(peerOf(role), { opcode: Opcode.TEXT, payload: Buffer.from('Hello') })
    const decoder = new FrameDecoder({ role, maxFrameBytes: NO_LIMIT })
    decoder.push(chunk)
    const piece = decoder.read()!
    expect(piece.bytes).toBe(chunk)
    expect(chunk.toString('latin1', piece.start, piece.end)).toBe('Hello')
  })

  it.each(ROLES)('lets go of the chunk of a %s once it is read', (role) => {
    const bytes = encodeAs(peerOf(role), { opcode: Opcode.BINARY, payload: Buffer.alloc(1_000) })
    for (const cut of [0, 1, 3, 200, bytes.length]) {
      const decoder = new FrameDecoder({ role, maxFrameBytes: NO_LIMIT })
      for (const chunk of chunksOf(bytes, [cut])) {
        decoder.push(chunk)
        let last: Piece | undefined
        for (let piece = decoder.read(); piece !== undefined; piece = decoder.read()) {
          expect(piece.bytes).toBe(chunk)
          last = piece
        }
        if (last !== undefined) expect(last.bytes).toHaveLength(0)
      }
    }
  })

  it.each(ROLES)('is its own: two decoders of a %s take turns without getting mixed up', (role) => {
    const messages = ['first', 'second'].map((text, index) => [
      encodeAs(
        peerOf(role),
        { opcode: Opcode.TEXT, payload: Buffer.from(`the ${text} message`), fin: false },
        0x01020304,
      ),
      encodeAs(peerOf(role), { opcode: Opcode.PING, payload: Buffer.from(`the ${text} ping`) }, 0x05060708 << index),
      encodeAs(
        peerOf(role),
        { opcode: Opcode.CONTINUATION, payload: Buffer.from('!'.repeat(200 + index)) },
        -1 - index,
      ),
    ])
    const streams = messages.map((frames) => {
      const bytes = Buffer.concat(frames)
      return { bytes, decoder: new FrameDecoder({ role, maxFrameBytes: NO_LIMIT }), pieces: [] as CopiedPiece[] }
    })
    for (let at = 0; at < 300; at++) {
      for (const { bytes, decoder, pieces } of streams) {
        decoder.push(Buffer.from(bytes.subarray(at, at + 1)))
        for (let piece = decoder.read(); piece !== undefined; piece = decoder.read()) pieces.push(copyOf(piece))
      }
    }
    expect(streams.map(({ pieces }) => joinPieces(pieces).map(({ payload }) => payload.toString()))).toEqual([
      ['the first message', 'the first ping', '!'.repeat(200)],
      ['the second message', 'the second ping', '!'.repeat(201)],
    ])
  })
})

describe('the hint `ascii`', () => {
  const lengths = [1, 10, 47, 48, 60, 1_023, 1_024, 5_000]

  it.each(lengths)('is set by a server for %d bytes of ASCII', (length) => {
    const bytes = encodeAs('client', { opcode: Opcode.TEXT, payload: Buffer.alloc(length, 0x7f) })
    expect(decode({ role: 'server', maxFrameBytes: NO_LIMIT }, [bytes]).pieces.map(({ ascii }) => ascii)).toEqual([
      true,
    ])
  })

  it.each(lengths)('is never set by a server for %d bytes of which one is above 0x7F, wherever it stands', (length) => {
    for (let at = 0; at < Math.min(length, 80); at++) {
      const payload = Buffer.alloc(length, 0x41)
      payload[at] = 0x80
      const bytes = encodeAs('client', { opcode: Opcode.TEXT, payload })
      const { pieces } = decode({ role: 'server', maxFrameBytes: NO_LIMIT }, [bytes])
      expect({ at, ascii: pieces[0]?.ascii }).toEqual({ at, ascii: false })
    }
  })

  it('is a matter of the piece, not of the frame', () => {
    const bytes = encodeAs('client', { opcode: Opcode.TEXT, payload: Buffer.from('aé') })
    const { pieces } = decode({ role: 'server', maxFrameBytes: NO_LIMIT }, chunksOf(bytes, [7]))
    expect(pieces.map(({ ascii }) => ascii)).toEqual([true, false])
  })

  it('is never set by a client, which does not look at the bytes', () => {
    const bytes = encodeAs('server', { opcode: Opcode.TEXT, payload: Buffer.from('ASCII') })
    expect(decode({ role: 'client', maxFrameBytes: NO_LIMIT }, [bytes]).pieces.map(({ ascii }) => ascii)).toEqual([
      false,
    ])
  })
})

describe('the memory of a chunk that is ours', () => {
  /** Chunks that were freed. */
  const freed: ArrayBufferLike[] = []
  onFreedMemory((memory) => freed.push(memory))

  /** Reads a chunk to its end, with somebody who keeps the pieces that `keeps` says. */
  function read(
    chunk: Buffer,
    isOurs: boolean,
    keeps: (piece: Piece) => boolean,
  ): { soles: boolean[]; freed: boolean } {
    const decoder = new FrameDecoder({ role: 'server', maxFrameBytes: NO_LIMIT })
    const soles: boolean[] = []
    freed.length = 0
    decoder.push(chunk, isOurs)
    for (let piece = decoder.read(); piece !== undefined; piece = decoder.read()) {
      soles.push(piece.sole)
      if (!keeps(piece)) decoder.spend()
      expect(freed).toEqual([])
    }
    return { soles, freed: freed.length > 0 && freed.every((memory) => memory === chunk.buffer) }
  }

  const one = encodeAs('client', { opcode: Opcode.BINARY, payload: Buffer.alloc(500) })
  const cut = chunkOf(one.subarray(0, 300))
  const two = Buffer.concat([one, one])

  it('is freed when it has been read, if all of its pieces are spent', () => {
    for (const chunk of [one, cut, two]) expect(read(chunkOf(chunk), true, () => false).freed).toBe(true)
  })

  it('is not freed when anybody has kept a piece of it', () => {
    for (const chunk of [one, cut, two]) expect(read(chunkOf(chunk), true, () => true).freed).toBe(false)
    let count = 0
    expect(read(chunkOf(two), true, () => count++ === 0).freed).toBe(false)
  })

  it('is not freed when it is not ours', () => {
    for (const chunk of [one, cut, two]) expect(read(chunkOf(chunk), false, () => false).freed).toBe(false)
  })

  it('is freed behind a header that it cuts, which is kept elsewhere', () => {
    expect(read(chunkOf(two.subarray(0, one.length + 5)), true, () => false).freed).toBe(true)
  })

  it('belongs to a piece that has it for itself', () => {
    expect(read(chunkOf(one), true, () => true).soles).toEqual([true])
    expect(read(chunkOf(cut), true, () => true).soles).toEqual([true])
    expect(read(chunkOf(two), true, () => true).soles).toEqual([false, false])
    expect(read(chunkOf(two.subarray(0, one.length + 100)), true, () => true).soles).toEqual([false, false])
    expect(read(chunkOf(one), false, () => true).soles).toEqual([false])
  })

  it('does not belong to a control frame that is put together from two', () => {
    const ping = encodeAs('client', { opcode: Opcode.PING, payload: Buffer.alloc(100) })
    const decoder = new FrameDecoder({ role: 'server', maxFrameBytes: NO_LIMIT })
    decoder.push(chunkOf(ping.subarray(0, 50)), true)
    expect(decoder.read()).toBeUndefined()
    decoder.push(chunkOf(ping.subarray(50)), true)
    expect(decoder.read()?.sole).toBe(false)
  })
})
