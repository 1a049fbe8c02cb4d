import { createHash } from 'node:crypto'
import { Opcode, type Role } from '../../src/constants.ts'
import type { Random } from './random.ts'

/*
 * RFC 6455 §5.2 by the book, one byte after the other: the slow twin of src/framing.ts. It can also say what is
 * forbidden, and does not judge what it reads.
 */

/** A frame to put on the wire; whatever is left out is as it should be. */
export interface FrameSpec {
  readonly opcode: number
  readonly payload?: Uint8Array
  readonly fin?: boolean
  /** The three reserved bits as a number; RSV1 is 4. */
  readonly rsv?: number
  /** Bytes behind the 7-bit length: 0, 2 or 8. Default the fewest that do. */
  readonly lengthBytes?: 0 | 2 | 8
  /** Default the length of the payload. */
  readonly declaredLength?: number
}

/** A frame as it was found on the wire, its payload unmasked. */
export interface WireFrame {
  readonly opcode: number
  readonly payload: Buffer
  readonly fin: boolean
  readonly rsv: number
  /** The four bytes of the key, if there was one. */
  readonly maskingKey: Buffer | undefined
}

const NOTHING: Buffer = Buffer.alloc(0)

function toBuffer(payload: string | Uint8Array): Buffer {
  return typeof payload === 'string' ? Buffer.from(payload) : Buffer.from(payload)
}

export const text = (payload: string | Uint8Array): FrameSpec => ({ opcode: Opcode.TEXT, payload: toBuffer(payload) })
export const binary = (payload: string | Uint8Array): FrameSpec => ({
  opcode: Opcode.BINARY,
  payload: toBuffer(payload),
})
export const continuation = (payload: string | Uint8Array): FrameSpec => ({
  opcode: Opcode.CONTINUATION,
  payload: toBuffer(payload),
})
export const ping = (payload: string | Uint8Array = NOTHING): FrameSpec => ({
  opcode: Opcode.PING,
  payload: toBuffer(payload),
})
export const pong = (payload: string | Uint8Array = NOTHING): FrameSpec => ({
  opcode: Opcode.PONG,
  payload: toBuffer(payload),
})
/** A Close frame; without a code an empty one. */
export const close = (code?: number, reason: string | Uint8Array = NOTHING): FrameSpec => ({
  opcode: Opcode.CLOSE,
  payload: code === undefined ? NOTHING : Buffer.concat([Buffer.of(code >> 8, code & 0xff), toBuffer(reason)]),
})

/** The frame as one that is not the last of its message. */
export const unfinished = (frame: FrameSpec): FrameSpec => ({ ...frame, fin: false })

/** A message in one frame per part. */
export function fragments(opcode: number, parts: readonly (string | Uint8Array)[]): FrameSpec[] {
  return parts.map((part, index) => ({
    opcode: index === 0 ? opcode : Opcode.CONTINUATION,
    payload: toBuffer(part),
    fin: index === parts.length - 1,
  }))
}

/** `bytes` in parts of `size`; one empty part for nothing. */
export function cut(bytes: Uint8Array, size: number): Buffer[] {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length || at === 0; at += size) parts.push(Buffer.from(bytes.subarray(at, at + size)))
  return parts
}

export function formatFrame(frame: FrameSpec, maskingKey?: Uint8Array): Buffer {
  const { opcode, payload = NOTHING, fin = true, rsv = 0, declaredLength = payload.length } = frame
  const lengthBytes = frame.lengthBytes ?? (declaredLength < 126 ? 0 : declaredLength < 65_536 ? 2 : 8)
  const length = lengthBytes === 0 ? declaredLength : lengthBytes === 2 ? 126 : 127
  const header = [(fin ? 128 : 0) + rsv * 16 + opcode, (maskingKey === undefined ? 0 : 128) + length]
  for (let shift = lengthBytes - 1; shift >= 0; shift--) header.push(Math.floor(declaredLength / 256 ** shift) % 256)
  if (maskingKey === undefined) return Buffer.concat([Buffer.from(header), payload])
  return Buffer.concat([Buffer.from(header), maskingKey, masked(payload, maskingKey)])
}

function masked(payload: Uint8Array, maskingKey: Uint8Array): Buffer {
  const result = Buffer.from(payload)
  for (let index = 0; index < result.length; index++) result[index]! ^= maskingKey[index % 4]!
  return result
}

/** As the peer of an endpoint of this role sends it: masked to a server, unmasked to a client. */
export function formatFor(role: Role, frame: FrameSpec, random: Random): Buffer {
  if (role === 'client') return formatFrame(frame)
  return formatFrame(frame, Buffer.of(random(256), random(256), random(256), random(256)))
}

/** Bytes in front of the payload, as `formatFor` writes them. */
export function headerLength(role: Role, frame: FrameSpec): number {
  const length = frame.declaredLength ?? frame.payload?.length ?? 0
  const lengthBytes = frame.lengthBytes ?? (length < 126 ? 0 : length < 65_536 ? 2 : 8)
  return 2 + lengthBytes + (role === 'server' ? 4 : 0)
}

/** All frames in `bytes`, which must end with a frame. */
export function parseFrames(bytes: Buffer): WireFrame[] {
  const frames: WireFrame[] = []
  let at = 0
  const take = (count: number): Buffer => {
    if (at + count > bytes.length) throw new Error('the bytes end in the middle of a frame')
    return bytes.subarray(at, (at += count))
  }
  while (at < bytes.length) {
    const [first, second] = take(2) as unknown as [number, number]
    let length = second % 128
    if (length === 126) length = take(2).readUInt16BE()
    else if (length === 127) length = Number(take(8).readBigUInt64BE())
    const maskingKey = second >= 128 ? Buffer.from(take(4)) : undefined
    const payload = take(length)
    frames.push({
      opcode: first % 16,
      payload: maskingKey === undefined ? Buffer.from(payload) : masked(payload, maskingKey),
      fin: first >= 128,
      rsv: (first >> 4) % 8,
      maskingKey,
    })
  }
  return frames
}

const NAMES = new Map<number, string>(Object.entries(Opcode).map(([name, opcode]) => [opcode, name]))

/** A frame in one line, for comparisons whose failures a person can read. */
export function describeFrame({ opcode, payload = NOTHING, fin = true, rsv = 0 }: FrameSpec): string {
  const name = NAMES.get(opcode) ?? `opcode ${opcode}`
  const flags = `${fin ? '' : ' unfinished'}${rsv === 0 ? '' : ` rsv=${rsv}`}`
  if (opcode === Opcode.CLOSE && payload.length >= 2) {
    const code = payload[0]! * 256 + payload[1]!
    return `${name}${flags} ${code} ${describeBytes(payload.subarray(2))}`
  }
  return `${name}${flags} ${describeBytes(payload)}`
}

/** Short bytes as they are, long ones by length and digest: a diff of megabytes helps nobody. */
function describeBytes(bytes: Uint8Array): string {
  if (bytes.length > 200) return `${bytes.length} bytes ${createHash('sha1').update(bytes).digest('hex')}`
  const isPrintable = bytes.every((byte) => byte >= 0x20 && byte < 0x7f)
  return isPrintable ? JSON.stringify(Buffer.from(bytes).toString('latin1')) : `<${Buffer.from(bytes).toString('hex')}>`
}

export function describeMessage(message: string | Uint8Array): string {
  return typeof message === 'string'
    ? `text ${describeBytes(Buffer.from(message))}`
    : `binary ${describeBytes(message)}`
}
