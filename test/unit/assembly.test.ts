import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MessageAssembly } from '../../src/assembly.ts'
import { Opcode } from '../../src/constants.ts'
import { dispose } from '../../src/disposal.ts'
import { copiedBytes } from '../support/copying.ts'
import { onFreedMemory, spoilFreedMemory } from '../support/freed-memory.ts'

spoilFreedMemory()

afterEach(() => {
  vi.restoreAllMocks()
})

/** A piece of `size` bytes in memory of `memory` bytes: what a chunk from a socket, or a part of one, looks like. */
function piece(size: number, memory = size, fill = 0x61): Buffer {
  return Buffer.from(new ArrayBuffer(memory), memory - size, size).fill(fill)
}

/** How the pieces are framed: all in one frame, each in a frame of its own, or no frame says anything. */
const FRAMINGS = ['one frame', 'a frame each', 'unannounced'] as const
type Framing = (typeof FRAMINGS)[number]

function assemble(
  pieces: readonly Buffer[],
  opcode: Opcode = Opcode.BINARY,
  framing: Framing = 'unannounced',
): MessageAssembly {
  const assembly = new MessageAssembly(opcode)
  if (framing === 'one frame') assembly.startFrame(pieces.reduce((sum, bytes) => sum + bytes.length, 0))
  for (const bytes of pieces) {
    if (framing === 'a frame each') assembly.startFrame(bytes.length)
    assembly.append(bytes, 0, bytes.length)
  }
  return assembly
}

/** The payload, and the parts that it was put together from. */
function takeWithParts(assembly: MessageAssembly): { payload: Buffer; parts: readonly Uint8Array[] } {
  const concat = vi.spyOn(Buffer, 'concat')
  const payload = assembly.takeBytes()
  const parts = concat.mock.lastCall?.[0] ?? [payload]
  concat.mockRestore()
  return { payload, parts }
}

/** Bytes of memory that the parts hold on to. */
function memoryOf(parts: readonly Uint8Array[]): number {
  let bytes = 0
  for (const memory of new Set(parts.map((part) => part.buffer))) bytes += memory.byteLength
  return bytes
}

describe('a new assembly', () => {
  it('has the opcode of its message and nothing else', () => {
    const assembly = new MessageAssembly(Opcode.TEXT)
    expect(assembly).toMatchObject({ opcode: Opcode.TEXT, length: 0, fragments: 0, utf8: 0, ascii: true })
  })

  it('is an empty message', () => {
    expect(new MessageAssembly(Opcode.BINARY).takeBytes()).toEqual(Buffer.alloc(0))
    expect(new MessageAssembly(Opcode.TEXT).takeText()).toBe('')
  })
})

describe('startFrame', () => {
  it('counts the fragments', () => {
    const assembly = new MessageAssembly(Opcode.BINARY)
    for (let count = 0; count < 3; count++) assembly.startFrame(count)
    expect(assembly).toMatchObject({ fragments: 3, length: 0 })
  })

  it('takes no memory for what is only announced', () => {
    const assembly = new MessageAssembly(Opcode.BINARY)
    const allocate = vi.spyOn(Buffer, 'allocUnsafeSlow')
    assembly.startFrame(1_000_000)
    for (let count = 0; count < 10; count++) assembly.append(piece(1_000, 65_536), 0, 1_000)
    expect(allocate.mock.calls.every(([size]) => size <= 65_536)).toBe(true)
  })
})

describe('append', () => {
  it('takes a range of the given bytes', () => {
    const assembly = new MessageAssembly(Opcode.BINARY)
    assembly.append(Buffer.from('..one..'), 2, 5)
    assembly.append(Buffer.from('two..'), 0, 3)
    assembly.append(Buffer.from('nothing'), 4, 4)
    expect(assembly.length).toBe(6)
    expect(assembly.takeBytes().toString()).toBe('onetwo')
  })

  it('keeps the order of pieces that are copied and pieces that are kept', () => {
    const sizes = [1, 300, 70_000, 1, 1, 20_000, 65_536, 5, 200_000, 0, 1_000]
    const pieces = sizes.map((size, index) => piece(size, index % 2 === 0 ? size : size * 8 + 8, index + 1))
    for (const framing of FRAMINGS) {
      const payload = assemble(pieces, Opcode.BINARY, framing).takeBytes()
      expect(payload.equals(Buffer.concat(pieces))).toBe(true)
    }
  })

  it('copies a piece that is a small part of its memory, and lets the memory go', () => {
    const chunk = piece(100, 65_536)
    const payload = assemble([chunk]).takeBytes()
    expect(payload.buffer).not.toBe(chunk.buffer)
    expect(payload.equals(chunk)).toBe(true)
  })

  it('keeps a piece that is most of its memory, without a copy', () => {
    const chunk = piece(60_000, 65_536)
    expect(assemble([chunk]).takeBytes().buffer).toBe(chunk.buffer)
  })
})

describe('taking the message', () => {
  it('gives a text in the encoding that its bytes have', () => {
    const ascii = assemble([piece(10), piece(300)], Opcode.TEXT)
    expect(ascii.takeText()).toBe('a'.repeat(310))
    const mixed = assemble([Buffer.from('κόσμε').subarray(0, 3), Buffer.from('κόσμε').subarray(3)], Opcode.TEXT)
    mixed.ascii = false
    expect(mixed.takeText()).toBe('κόσμε')
  })

  it('gives a text of one part', () => {
    expect(assemble([piece(5_000)], Opcode.TEXT).takeText()).toBe('a'.repeat(5_000))
    const mixed = assemble([Buffer.from('µ'.repeat(5_000))], Opcode.TEXT)
    mixed.ascii = false
    expect(mixed.takeText()).toBe('µ'.repeat(5_000))
  })

  describe.each(FRAMINGS)('text in two parts: %s', (framing) => {
    it.each([2, 60_000, 65_537, 200_000, 1_000_000, 1_048_576, 1_048_577, 3_000_000])('%d bytes', (length) => {
      const halves = [piece(length >> 1, length, 0x62), piece(length - (length >> 1))]
      expect(assemble(halves, Opcode.TEXT, framing).takeText() === Buffer.concat(halves).toString()).toBe(true)
    })

    it('is not changed by later texts', () => {
      const lengths = [1_048_576, 500, 1_040_000, 70_000, 900_000, 100_000, 80_000, 600_000, 1_048_576]
      const texts = lengths.map((length, index) => {
        const half = piece(length >> 1, length, 0x61 + index)
        return { given: assemble([half, half], Opcode.TEXT, framing).takeText(), expected: half.toString().repeat(2) }
      })
      for (const { given, expected } of texts) expect(given === expected).toBe(true)
    })
  })

  it('gives binary that later messages do not change', () => {
    const fills = [0x61, 0x62, 0x63, 0x64]
    const payloads = fills.map((fill) => {
      const pieces = [piece(40_000, 90_000, fill), piece(60_000, 150_000, fill)]
      const payload = assemble(pieces, Opcode.BINARY, 'one frame').takeBytes()
      assemble([...pieces].reverse(), Opcode.TEXT, 'one frame').takeText()
      return payload
    })
    for (const [index, payload] of payloads.entries())
      expect(payload.equals(Buffer.alloc(100_000, fills[index]!))).toBe(true)
  })
})

describe('memory', () => {
  /** As a socket gives them: at most 64 KiB at once, of which a frame may be any part. */
  const chunks = fc.record({
    memory: fc.integer({ min: 1, max: 65_536 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  })

  it('is at most twice the message and a block more, for pieces of any size', () => {
    const shapes = fc.array(
      fc.oneof(
        chunks,
        chunks.map(({ share }) => ({ memory: 40, share })),
      ),
      { maxLength: 60 },
    )
    fc.assert(
      fc.property(shapes, fc.constantFrom(...FRAMINGS), (shapes, framing) => {
        const pieces = shapes.map(({ memory, share }) => piece(Math.ceil(memory * share), memory))
        const { payload, parts } = takeWithParts(assemble(pieces, Opcode.BINARY, framing))
        expect(payload.equals(Buffer.concat(pieces))).toBe(true)
        expect(memoryOf(parts)).toBeLessThanOrEqual(2 * payload.length + 65_536)
      }),
    )
  })

  it('follows what has arrived: a few bytes take no large block', () => {
    for (const size of [1, 10, 200, 1_000]) {
      const { parts } = takeWithParts(assemble([piece(size, 65_536), piece(size, 65_536)]))
      expect(memoryOf(parts)).toBeLessThanOrEqual(Math.max(256, 4 * size))
    }
  })

  it('of a long text does not go to a shorter binary message, which would hold all of it', () => {
    const half = piece(500_000)
    assemble([half, half], Opcode.TEXT, 'one frame').takeText()
    const { payload, parts } = takeWithParts(assemble([piece(40_000), piece(40_000)], Opcode.BINARY, 'one frame'))
    expect(memoryOf(parts)).toBeLessThanOrEqual(2 * payload.length)
  })

  describe.each([
    ['a byte', [1]],
    ['a few bytes', [1, 7, 60, 2, 33]],
    ['a few hundred bytes', [200, 500, 300]],
  ])('is not held in thousands of parts when %s come in memory of their own', (_, sizes) => {
    // That is how a socket hands over small segments; a part costs some hundred bytes beside what it holds.
    it.each(FRAMINGS)('%s', (framing) => {
      const pieces = Array.from({ length: 5_000 }, (_, index) => piece(sizes[index % sizes.length]!))
      const { payload, parts } = takeWithParts(assemble(pieces, Opcode.BINARY, framing))
      expect(parts.length).toBeLessThanOrEqual(20 + payload.length / 1_024)
    })
  })
})

describe('memory that is ours', () => {
  const freed = new Set<ArrayBufferLike>()
  onFreedMemory((memory) => {
    expect(freed.has(memory)).toBe(false)
    freed.add(memory)
    new Uint8Array(memory).fill(0xdd)
  })
  beforeEach(() => freed.clear())

  /** One frame of a message, in chunks of a socket: the header stands before the first piece. */
  function append(
    opcode: Opcode,
    sizes: readonly number[],
  ): { assembly: MessageAssembly; chunks: Buffer[]; payload: Buffer } {
    const assembly = new MessageAssembly(opcode)
    assembly.startFrame(sizes.reduce((sum, size) => sum + size, 0))
    const chunks = sizes.map((size, index) => piece(size, index === 0 ? size + 14 : size, 0x61 + index))
    const payload = Buffer.concat(chunks)
    for (const bytes of chunks) {
      const start = bytes.byteOffset
      const chunk = Buffer.from(bytes.buffer)
      // What was copied its reader may free.
      if (assembly.append(chunk, start, chunk.length, true)) dispose(chunk)
    }
    return { assembly, chunks, payload }
  }

  it.each([
    ['a frame that its chunk has room for', [65_522, 14]],
    ['a frame in two halves', [30_000, 30_000]],
    ['a frame in many chunks', [65_522, ...Array<number>(15).fill(65_536), 14]],
    ['a frame of which the beginning is small', [2_000, 65_536, 65_536, 65_536]],
    ['a frame in small pieces', Array<number>(300).fill(1_500)],
  ])('becomes the message, or is freed: %s', (_, sizes) => {
    const { assembly, chunks, payload } = append(Opcode.BINARY, sizes)
    const taken = assembly.takeBytes()
    expect(taken.equals(payload)).toBe(true)
    expect(freed.has(taken.buffer)).toBe(false)
    for (const chunk of chunks) expect(freed.has(chunk.buffer) || chunk.buffer === taken.buffer).toBe(true)
  })

  it('holds the rest of a frame as well, without a copy, if there is room for it', () => {
    const { assembly, chunks } = append(Opcode.BINARY, [65_522, 14])
    expect(assembly.takeBytes().buffer).toBe(chunks[0]!.buffer)
  })

  it('is freed when a text is a string, but for a few long ones', () => {
    const { assembly, chunks, payload } = append(Opcode.TEXT, [65_522, 14])
    expect(assembly.takeText()).toBe(payload.toString())
    expect(freed).toEqual(new Set(chunks.map(({ buffer }) => buffer)))
    for (let count = 0; count < 10; count++) {
      const long = append(Opcode.TEXT, [65_522, ...Array<number>(10).fill(65_536)])
      expect(long.assembly.takeText() === long.payload.toString()).toBe(true)
      for (const { buffer } of long.chunks) expect(freed.has(buffer)).toBe(true)
    }
  })

  it('is not kept for long texts and then given to a short one, which would hold on to it', () => {
    const long = append(Opcode.TEXT, [65_522, ...Array<number>(10).fill(65_536)])
    long.assembly.takeText()
    const short = new MessageAssembly(Opcode.TEXT)
    short.startFrame(100)
    short.append(piece(40, 40), 0, 40)
    short.append(piece(60, 60), 0, 60)
    expect(short.takeBytes().buffer.byteLength).toBe(100)
  })

  it('is a matter of each chunk: those of others are left alone', () => {
    const assembly = new MessageAssembly(Opcode.BINARY)
    assembly.startFrame(200_000)
    const theirs = piece(60_000, 60_000, 0x62)
    const ours = piece(40_000, 40_000, 0x63)
    expect(assembly.append(theirs, 0, 60_000)).toBe(true)
    expect(assembly.append(ours, 0, 40_000, true)).toBe(true)
    expect(assembly.append(piece(100_000, 100_000, 0x64), 0, 100_000)).toBe(true)
    expect(assembly.takeBytes()).toHaveLength(200_000)
    expect(freed.has(theirs.buffer)).toBe(false)
    expect(theirs.equals(Buffer.alloc(60_000, 0x62))).toBe(true)
  })

  it('may come in any pieces, in any frames', () => {
    const shapes = fc.array(fc.record({ size: fc.integer({ min: 1, max: 70_000 }), isOurs: fc.boolean() }), {
      maxLength: 12,
    })
    fc.assert(
      fc.property(shapes, fc.constantFrom(...FRAMINGS), fc.boolean(), (shapes, framing, isText) => {
        freed.clear()
        const assembly = new MessageAssembly(isText ? Opcode.TEXT : Opcode.BINARY)
        const pieces = shapes.map(({ size }, index) => piece(size, size, 0x61 + index))
        const payload = Buffer.concat(pieces)
        if (framing === 'one frame') assembly.startFrame(payload.length)
        for (const [index, bytes] of pieces.entries()) {
          if (framing === 'a frame each') assembly.startFrame(bytes.length)
          const isCopied = assembly.append(bytes, 0, bytes.length, shapes[index]!.isOurs)
          if (isCopied && shapes[index]!.isOurs) dispose(bytes)
        }
        if (isText) expect(assembly.takeText() === payload.toString()).toBe(true)
        else expect(assembly.takeBytes().equals(payload)).toBe(true)
        for (const [index, bytes] of pieces.entries()) {
          if (!shapes[index]!.isOurs) expect(freed.has(bytes.buffer)).toBe(false)
        }
      }),
    )
  })
})

describe('copying', () => {
  describe.each([
    ['bytes one by one', 100_000, 1, 65_536],
    ['thousands of fragments in a chunk', 20_000, 10, 65_536],
    ['chunks that are full', 20, 65_536, 65_536],
    ['chunks of which half is used', 20, 32_768, 65_536],
    ['chunks of which less than half is used', 20, 30_000, 65_536],
  ])('happens to each byte a few times at most: %s', (_, count, size, memory) => {
    it.each(FRAMINGS)('%s', (framing) => {
      const one = piece(size, memory)
      const pieces = Array.from({ length: count }, () => one)
      const copied = copiedBytes(() => assemble(pieces, Opcode.BINARY, framing).takeBytes())
      expect(copied).toBeLessThanOrEqual(3 * count * size)
    })
  })
})
