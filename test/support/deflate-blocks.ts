/*
 * RFC 1951 by the book, one bit after the other: the slow twin of zlib, for what zlib does not tell.
 */

const LENGTH_BASES = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163,
]
LENGTH_BASES.push(195, 227, 258)
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0]
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

/** The block types of §3.2.3. */
type BlockType = 'stored' | 'fixed' | 'dynamic'

/** What is in deflate data. */
export interface DeflateAnatomy {
  readonly blocks: readonly { readonly type: BlockType; readonly final: boolean }[]
  /** The farthest reference back, in bytes; 0 when there is none. */
  readonly farthest: number
  /** The farthest reference to what was before these data, in bytes from their beginning. */
  readonly farthestBefore: number
  /** Bytes that come out. */
  readonly length: number
}

/** Takes a compressed payload (RFC 7692 §7.2.1) apart, up to the end of its last whole block. */
export function dissect(payload: Uint8Array): DeflateAnatomy {
  return new Dissection(Buffer.concat([payload, Buffer.from([0x00, 0x00, 0xff, 0xff])])).run()
}

/** Symbols by code, a code being its bits with a 1 in front. */
type Codes = ReadonlyMap<number, number>

class Dissection {
  readonly #bytes: Buffer
  #bit = 0
  #length = 0
  #farthest = 0
  #farthestBefore = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  run(): DeflateAnatomy {
    const blocks: { type: BlockType; final: boolean }[] = []
    while (this.#bit <= this.#bytes.length * 8 - 8) {
      const final = this.#bits(1) === 1
      const type = (['stored', 'fixed', 'dynamic'] as const)[this.#bits(2)]
      if (type === undefined) throw new Error('there is no such type of block')
      blocks.push({ type, final })
      if (type === 'stored') this.#readStored()
      else if (type === 'fixed') this.#readCompressed(codesOf(fixedLengths()), codesOf(new Array(30).fill(5)))
      else this.#readDynamic()
      // What follows a last block begins with a new byte.
      if (final) this.#align()
    }
    return { blocks, farthest: this.#farthest, farthestBefore: this.#farthestBefore, length: this.#length }
  }

  #bits(count: number): number {
    let value = 0
    for (let index = 0; index < count; index++, this.#bit++) {
      const byte = this.#bytes[this.#bit >> 3]
      if (byte === undefined) throw new Error('the data end in the middle of a block')
      value += ((byte >> (this.#bit & 7)) & 1) * 2 ** index
    }
    return value
  }

  #align(): void {
    this.#bit = Math.ceil(this.#bit / 8) * 8
  }

  #symbol(codes: Codes): number {
    for (let code = 1, length = 0; length < 16; length++) {
      code = code * 2 + this.#bits(1)
      const symbol = codes.get(code)
      if (symbol !== undefined) return symbol
    }
    throw new Error('there is no such code')
  }

  #readStored(): void {
    this.#align()
    const length = this.#bits(16)
    if (this.#bits(16) !== 0xffff - length) throw new Error('the length of a stored block is wrong')
    this.#bits(8 * length)
    this.#length += length
  }

  #readDynamic(): void {
    const literals = this.#bits(5) + 257
    const distances = this.#bits(5) + 1
    const orders = CODE_ORDER.slice(0, this.#bits(4) + 4)
    const orderLengths: number[] = new Array(19).fill(0)
    for (const order of orders) orderLengths[order] = this.#bits(3)
    const orderCodes = codesOf(orderLengths)
    const lengths: number[] = []
    while (lengths.length < literals + distances) {
      const symbol = this.#symbol(orderCodes)
      if (symbol < 16) lengths.push(symbol)
      else if (symbol === 16) lengths.push(...new Array(this.#bits(2) + 3).fill(lengths.at(-1)))
      else lengths.push(...new Array(symbol === 17 ? this.#bits(3) + 3 : this.#bits(7) + 11).fill(0))
    }
    this.#readCompressed(codesOf(lengths.slice(0, literals)), codesOf(lengths.slice(literals)))
  }

  #readCompressed(literals: Codes, distances: Codes): void {
    for (let symbol = this.#symbol(literals); symbol !== 256; symbol = this.#symbol(literals)) {
      if (symbol < 256) {
        this.#length++
        continue
      }
      const length = LENGTH_BASES[symbol - 257]! + this.#bits(LENGTH_BITS[symbol - 257]!)
      const code = this.#symbol(distances)
      const extra = Math.max(0, (code >> 1) - 1)
      const distance = (code < 2 ? code : (2 + (code & 1)) * 2 ** extra) + 1 + this.#bits(extra)
      this.#farthest = Math.max(this.#farthest, distance)
      this.#farthestBefore = Math.max(this.#farthestBefore, distance - this.#length)
      this.#length += length
    }
  }
}

function fixedLengths(): number[] {
  return Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8))
}

/** §3.2.2 */
function codesOf(lengths: readonly number[]): Codes {
  const codes = new Map<number, number>()
  let code = 0
  for (let length = 1; length < 16; length++) {
    code *= 2
    for (const [symbol, itsLength] of lengths.entries())
      if (itsLength === length) codes.set(2 ** length + code++, symbol)
  }
  return codes
}
