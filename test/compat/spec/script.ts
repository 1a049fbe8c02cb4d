import { deflateRawSync, constants as zlibConstants } from 'node:zlib'
import type { Role } from '../../../src/constants.ts'
import { type Random, seededRandom, seedOf } from '../../support/random.ts'
import { type FrameSpec, formatFor } from '../../support/wire.ts'
import type { Loose } from './sockets.ts'

/*
 * Random conversations: what a peer sends, in which chunks, with which options. The same seed is the same conversation.
 */

export interface Script {
  readonly options: Loose
  /** Whether both ends agree on permessage-deflate. */
  readonly isDeflating: boolean
  readonly binaryType: string
  readonly chunks: readonly Buffer[]
  /** What the WebSocket does when it gets its nth message. */
  readonly reactions: readonly Reaction[]
}

export type Reaction = 'nothing' | 'echo' | 'ping' | 'fragments' | 'plain' | 'close'

const TEXTS = ['', 'a', 'hello', '\u00f6\u20ac\u{1f600}', 'x'.repeat(125), 'y'.repeat(126), 'z'.repeat(700)]
const BAD_TEXTS = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0x61, 0xe2, 0x82]]
const CODES = [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999]
const BAD_CODES = [0, 999, 1004, 1005, 1006, 1015, 2000, 5000, 65_535]

const deflated = (bytes: Uint8Array): Buffer => {
  const all = deflateRawSync(bytes, { finishFlush: zlibConstants.Z_SYNC_FLUSH })
  return all.subarray(0, all.length - 4)
}

/** Writes the frames of one conversation. */
class Writer {
  readonly frames: Buffer[] = []
  readonly #role: Role
  readonly #random: Random
  readonly #isDeflating: boolean
  /** Whether control frames may come between the fragments of a message. */
  readonly #interleaves: boolean

  readonly #hasLimit: boolean

  constructor(
    role: Role,
    random: Random,
    { isDeflating, interleaves, hasLimit }: { isDeflating: boolean; interleaves: boolean; hasLimit: boolean },
  ) {
    this.#interleaves = interleaves
    this.#hasLimit = hasLimit
    this.#role = role
    this.#random = random
    this.#isDeflating = isDeflating
  }

  add(frame: FrameSpec): void {
    this.frames.push(formatFor(this.#role, frame, this.#random))
  }

  control(): void {
    const payload = Buffer.from(this.#pick(['', 'p', 'q'.repeat(125)]))
    this.add({ opcode: 9 + this.#random(2), payload })
  }

  /** A message, perhaps in fragments, perhaps with control frames between them, perhaps compressed. */
  message(bytes: Uint8Array, opcode = 1, interleaves = this.#interleaves): void {
    const isCompressed = this.#isDeflating && this.#random(2) === 0
    let rest = isCompressed ? deflated(bytes) : Buffer.from(bytes)
    const count = 1 + this.#random(4)
    for (let index = 0; index < count; index++) {
      const size = index === count - 1 ? rest.length : this.#random(rest.length + 1)
      this.add({
        opcode: index === 0 ? opcode : 0,
        fin: index === count - 1,
        rsv: index === 0 && isCompressed ? 4 : 0,
        payload: rest.subarray(0, size),
        ...(this.#random(8) === 0 && size < 126 ? { lengthBytes: this.#pick([2, 8] as const) } : {}),
      })
      rest = rest.subarray(size)
      if (index < count - 1 && this.#random(3) === 0 && interleaves) this.control()
    }
  }

  randomMessage(): void {
    if (this.#random(2) === 0) this.message(Buffer.from(this.#pick(TEXTS)))
    else this.message(Buffer.alloc([0, 1, 30, 125, 126, 600][this.#random(6)]!, this.#random(256)), 2)
  }

  close(): void {
    const reason = Buffer.from(this.#pick(['', 'bye', '\u00f6', 'r'.repeat(123)]))
    const code = this.#pick(CODES)
    const payload = this.#random(4) === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.of(code >> 8, code & 255), reason])
    this.add({ opcode: 8, payload })
  }

  /** Something that no peer may send. */
  violation(): void {
    const code = this.#pick(BAD_CODES)
    const kinds: (() => void)[] = [
      () => this.add({ opcode: this.#pick([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) }),
      () => this.add({ opcode: 1, rsv: 1 + this.#random(3), payload: Buffer.from('x') }),
      () => this.add({ opcode: 9, rsv: 4 }),
      () => this.add({ opcode: 0, payload: Buffer.from('x') }),
      () => {
        this.add({ opcode: 1, fin: false, payload: Buffer.from('x') })
        this.add({ opcode: 1 + this.#random(2), payload: Buffer.from('y') })
      },
      () => this.add({ opcode: 8 + this.#random(3), fin: false }),
      () => this.add({ opcode: 9 + this.#random(2), payload: Buffer.alloc(126) }),
      () => this.add({ opcode: 8, payload: Buffer.of(3) }),
      () => this.add({ opcode: 8, payload: Buffer.of(code >> 8, code & 255) }),
      () => this.add({ opcode: 8, payload: Buffer.of(3, 0xe8, 0xff) }),
      // It may be noticed at the fragment that has it, or at the end.
      () => this.message(Buffer.from(this.#pick(BAD_TEXTS)), 1, false),
      () => this.add({ opcode: 2, declaredLength: 2 ** 53, lengthBytes: 8 }),
      // Without a limit nobody would complain.
      () => this.add({ opcode: 2, declaredLength: this.#hasLimit ? 2 ** 40 : 2 ** 60, lengthBytes: 8 }),
      () => this.message(Buffer.alloc(3000, 1), 2),
      () => this.add({ opcode: 1, rsv: 4, payload: Buffer.from('not deflated at all') }),
      () => {
        // The mask of the other role.
        this.frames.push(
          formatFor(
            this.#role === 'server' ? 'client' : 'server',
            { opcode: 1, payload: Buffer.from('x') },
            this.#random,
          ),
        )
      },
    ]
    this.#pick(kinds)()
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#random(values.length)]!
  }
}

/** @param role whose peer the script is for. */
export function makeScript(role: Role, seed: number): Script {
  const random = seededRandom(seedOf(`${role} ${seed}`))
  for (let skipped = 0; skipped < 5; skipped++) random(2)
  const isDeflating = random(3) === 0
  const limits = { maxPayload: [0, 2000, 650, 100][random(4)]!, maxFragments: [0, 16_384, 3][random(3)]! }
  const isTight = isDeflating && limits.maxPayload > 0
  // Whether a compressed message that is too long is noticed at the fragment that makes it so or at its end does not
  // matter to a program; so nothing else may happen in between.
  if (isTight && limits.maxFragments === 3) limits.maxFragments = 0
  const writer = new Writer(role, random, { isDeflating, interleaves: !isTight, hasLimit: limits.maxPayload > 0 })
  const violationAt = random(3) === 0 ? random(12) : -1
  const count = 1 + random(12)
  for (let index = 0; index < count; index++) {
    if (index === violationAt) writer.violation()
    else if (random(3) === 0) writer.control()
    else writer.randomMessage()
  }
  writer.close()
  const bytes = Buffer.concat(writer.frames)
  const chunks: Buffer[] = []
  const canFail = violationAt >= 0 || (limits.maxPayload > 0 && limits.maxPayload < 2000) || limits.maxFragments === 3
  // The original throws at a chunk that waits behind one with an error when both wait for an inflation.
  const style = isDeflating && canFail ? 0 : random(3)
  for (let at = 0; at < bytes.length; ) {
    const size = style === 0 ? bytes.length : style === 1 ? 1 + random(40) : 1 + random(900)
    chunks.push(bytes.subarray(at, at + size))
    at += size
  }
  const all: Reaction[] = ['nothing', 'echo', 'echo', 'ping', 'fragments', 'plain']
  const reactions = Array.from({ length: 20 }, () => (random(25) === 0 ? 'close' : all[random(all.length)]!))
  return {
    isDeflating,
    chunks,
    reactions,
    // Where an inflated message is cut into fragments is nobody's business.
    binaryType: ['nodebuffer', 'nodebuffer', 'arraybuffer', 'fragments'][random(isDeflating ? 3 : 4)]!,
    options: {
      ...limits,
      skipUTF8Validation: random(4) === 0,
      allowSynchronousEvents: random(3) !== 0,
      autoPong: random(4) !== 0,
      closeTimeout: 10_000,
    },
  }
}
