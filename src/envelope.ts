import { isUtf8 } from 'node:buffer'
import { Opcode } from './constants.ts'
import { PreparedMessage } from './prepared.ts'

/*
 * Messages on their way from process to process. Other programs may write to the same engine, so nothing is believed:
 * what is not to the letter is not delivered.
 *
 *   envelope   "fd" 1 0    origin (16)   number (8)   record ...
 *   record     flags (1)   length (4)    payload
 *
 * Numbers are big-endian. Flags: bit 0 text; bits 1 and 2 compression: 0 by the threshold, 1 always, 2 never. The number
 * counts the envelopes of their origin.
 */

/** Messages of one tick go together up to this, in bytes; a longer one goes alone. */
export const MAX_JOINED_BYTES = 262_144
const MAGIC = 0x66640100
export const ORIGIN_BYTES = 16
const ENVELOPE_BYTES = 4 + ORIGIN_BYTES + 8
const RECORD_BYTES = 5

const TEXT = 1
const COMPRESS = [undefined, true, false] as const

/** Bytes that a message takes in an envelope. */
export function recordSize(message: PreparedMessage): number {
  return RECORD_BYTES + message.payload.length
}

/** Bytes of an envelope without its messages. */
export const EMPTY_ENVELOPE_BYTES: number = ENVELOPE_BYTES

/** An envelope, read. */
export interface Envelope {
  readonly origin: string
  readonly number: number
  readonly messages: readonly PreparedMessage[]
}

/** Messages for one channel, in their order. */
export function encodeEnvelope(origin: Buffer, number: number, messages: readonly PreparedMessage[]): Buffer {
  const size = messages.reduce((total, message) => total + recordSize(message), ENVELOPE_BYTES)
  const bytes = Buffer.allocUnsafe(size)
  bytes.writeUInt32BE(MAGIC)
  origin.copy(bytes, 4)
  bytes.writeBigUInt64BE(BigInt(number), 4 + ORIGIN_BYTES)
  let at = ENVELOPE_BYTES
  for (const message of messages) at = writeRecord(bytes, at, message)
  return bytes
}

/** Undefined for anything that is no envelope. */
export function decodeEnvelope(bytes: Buffer): Envelope | undefined {
  if (bytes.length <= ENVELOPE_BYTES || bytes.readUInt32BE() !== MAGIC) return undefined
  const number = bytes.readBigUInt64BE(4 + ORIGIN_BYTES)
  if (number > Number.MAX_SAFE_INTEGER) return undefined
  // Several go together up to a size; what is longer is one message.
  if (bytes.length > MAX_JOINED_BYTES && endOfRecord(bytes, ENVELOPE_BYTES) !== bytes.length) return undefined
  const messages: PreparedMessage[] = []
  for (let at = ENVELOPE_BYTES; at < bytes.length; ) {
    const end = endOfRecord(bytes, at)
    const message = end === undefined ? undefined : readRecord(bytes, at, end)
    if (message === undefined) return undefined
    messages.push(message)
    at = end!
  }
  return { origin: bytes.toString('latin1', 4, 4 + ORIGIN_BYTES), number: Number(number), messages }
}

/** One message by itself, as histories keep it. */
export function encodeRecord(message: PreparedMessage): Buffer {
  const bytes = Buffer.allocUnsafe(recordSize(message))
  writeRecord(bytes, 0, message)
  return bytes
}

/** Undefined for anything that is no record. */
export function decodeRecord(bytes: Buffer): PreparedMessage | undefined {
  return endOfRecord(bytes, 0) === bytes.length ? readRecord(bytes, 0, bytes.length) : undefined
}

function writeRecord(bytes: Buffer, at: number, { opcode, payload, compress }: PreparedMessage): number {
  bytes[at] = (opcode === Opcode.TEXT ? TEXT : 0) | (COMPRESS.indexOf(compress) << 1)
  bytes.writeUInt32BE(payload.length, at + 1)
  return at + RECORD_BYTES + payload.copy(bytes, at + RECORD_BYTES)
}

/** Where the record ends that begins here; undefined when it is cut short. */
function endOfRecord(bytes: Buffer, at: number): number | undefined {
  if (at + RECORD_BYTES > bytes.length) return undefined
  const end = at + RECORD_BYTES + bytes.readUInt32BE(at + 1)
  return end > bytes.length ? undefined : end
}

function readRecord(bytes: Buffer, at: number, end: number): PreparedMessage | undefined {
  const flags = bytes[at]!
  const compression = flags >> 1
  if (compression >= COMPRESS.length) return undefined
  const payload = bytes.subarray(at + RECORD_BYTES, end)
  const isText = (flags & TEXT) !== 0
  if (isText && !isUtf8(payload)) return undefined
  return new PreparedMessage(payload, COMPRESS[compression], isText ? Opcode.TEXT : Opcode.BINARY)
}
