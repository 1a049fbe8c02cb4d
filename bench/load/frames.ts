// Frames for the load: encoded and masked once, before the clock starts.
import { randomBytes, randomInt } from 'node:crypto'
import type { Content } from '../workloads.ts'

const TEXT = 1
const BINARY = 2

/** One frame. With a masking key it is a client's, without one a server's. */
export function frame(opcode: number, payload: Uint8Array, maskingKey?: Uint8Array, fin = true, rsv1 = false): Buffer {
  const size = payload.length
  const extended = size < 126 ? 0 : size < 65_536 ? 2 : 8
  const start = 2 + extended + (maskingKey ? 4 : 0)
  const bytes = Buffer.allocUnsafeSlow(start + size)
  bytes[0] = (fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0) | opcode
  bytes[1] = (maskingKey ? 0x80 : 0) | (extended === 0 ? size : extended === 2 ? 126 : 127)
  if (extended === 2) bytes.writeUInt16BE(size, 2)
  if (extended === 8) bytes.writeBigUInt64BE(BigInt(size), 2)
  bytes.set(payload, start)
  if (maskingKey) {
    bytes.set(maskingKey, start - 4)
    for (let i = 0; i < size; i++) bytes[start + i] = payload[i]! ^ maskingKey[i & 3]!
  }
  return bytes
}

export const opcodeOf = (content: Content): number => (content === 'binary' ? BINARY : TEXT)

/** `size` bytes; as text they are valid UTF-8. Random, but for `json`. */
export function payload(content: Content, size: number): Buffer {
  if (content === 'json') return records(size)
  const bytes = randomBytes(size)
  if (content === 'ascii') for (let i = 0; i < size; i++) bytes[i] = 0x30 + (bytes[i]! & 0x3f)
  if (content === 'mixed') {
    const letters = ['a', 'e', ' ', 'é', 'ß', 'ж', '語', '字', '😀'].map((letter) => Buffer.from(letter))
    let at = 0
    while (at + 4 <= size) at += letters[randomInt(letters.length)]!.copy(bytes, at)
    bytes.fill('x', at)
  }
  return bytes
}

const NAMES = ['ann', 'bob', 'carla', 'dmitri', 'elena', 'fatima', 'george', 'hiroshi', 'ines', 'jamal']
const ACTIONS = ['created', 'updated', 'deleted', 'moved', 'renamed']
const KINDS = ['order', 'invoice', 'shipment', 'customer']

/** What an application might send: the same keys again and again, other values. The last record is cut off. */
function records(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at < size; ) {
    const record = {
      id: randomInt(1_000_000),
      at: new Date(1.7e12 + randomInt(2 ** 36)).toISOString(),
      user: NAMES[randomInt(NAMES.length)],
      action: ACTIONS[randomInt(ACTIONS.length)],
      kind: KINDS[randomInt(KINDS.length)],
      total: randomInt(100_000) / 100,
      open: randomInt(2) === 1,
    }
    at += bytes.write(`${JSON.stringify(record)},`, at)
  }
  return bytes
}

/**
 * The messages of a run, in the order in which every client sends them, over and over. All have the same length, so
 * answers can be counted by bytes; each has bytes of its own, so a wrong answer is noticed when they are compared.
 */
export interface Ring {
  slots: number
  /** Masked frames. The first ones follow again after the last: any run of up to `run` frames is one slice. */
  requests: Buffer
  requestBytes: number
  /** What comes back for them. */
  answers: Buffer
  answerBytes: number
}

export function makeRing(content: Content, size: number, slots: number, run: number): Ring {
  const payloads = Array.from({ length: slots }, () => payload(content, size))
  const requests = payloads.map((bytes) => frame(opcodeOf(content), bytes, randomBytes(4)))
  const answers = payloads.map((bytes) => frame(opcodeOf(content), bytes))
  return {
    slots,
    requests: Buffer.concat([...requests, ...Array.from({ length: run }, (_, i) => requests[i % slots]!)]),
    requestBytes: requests[0]!.length,
    answers: Buffer.concat(answers),
    answerBytes: answers[0]!.length,
  }
}

/** Compares what came with what should: the answers, over and over, from a position on. Gives the next position. */
export function verify(answers: Buffer, position: number, buffer: Buffer, bytes: number): number {
  for (let at = 0; at < bytes; ) {
    const length = Math.min(bytes - at, answers.length - position)
    if (buffer.compare(answers, position, position + length, at, at + length) !== 0) {
      throw new Error('the answer is not what was sent')
    }
    at += length
    position = (position + length) % answers.length
  }
  return position
}
