import type { Opcode, Role } from '../../src/constants.ts'
import { ProtocolError } from '../../src/errors.ts'
import { encodeFrame, type Frame, FrameDecoder, type FrameDecoderOptions, type Piece } from '../../src/framing.ts'

/** A piece with its bytes, copied: the one that the decoder gives changes with the next `read`. */
export interface CopiedPiece extends Readonly<Omit<Piece, 'bytes' | 'start' | 'end'>> {
  readonly payload: Buffer
}

/** A frame put together from its pieces. */
export interface DecodedFrame {
  readonly fin: boolean
  readonly rsv1: boolean
  readonly opcode: Opcode
  readonly payload: Buffer
}

/** How a stream of bytes ended: the frames that are whole, and the violation that stopped the decoder, if any. */
export interface Decoded {
  readonly pieces: CopiedPiece[]
  readonly frames: DecodedFrame[]
  readonly error: ProtocolError | undefined
}

export const NO_LIMIT: number = Number.POSITIVE_INFINITY

/** The role that reads what `role` writes. */
export function peerOf(role: Role): Role {
  return role === 'server' ? 'client' : 'server'
}

/** A frame as `role` sends it: a client masks (§5.1), by default with a key in which every byte differs. */
export function encodeAs(role: Role, frame: Frame, maskingKey = 0x7b5a1c93): Buffer {
  return encodeFrame(role === 'client' ? { ...frame, maskingKey } : frame)
}

/** Cuts `bytes` at the given places (any order, repetitions give empty chunks); every chunk has memory of its own. */
export function chunksOf(bytes: Uint8Array, cuts: readonly number[]): Buffer[] {
  const places = [...cuts].map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b)
  return [0, ...places].map((start, index) => Buffer.from(bytes.subarray(start, places[index] ?? bytes.length)))
}

/** Reads everything that the chunks hold. An exception that is not a `ProtocolError` goes through to the test. */
export function decode(options: FrameDecoderOptions, chunks: readonly Uint8Array[]): Decoded {
  const decoder = new FrameDecoder(options)
  const pieces: CopiedPiece[] = []
  let error: ProtocolError | undefined
  try {
    for (const chunk of chunks) {
      decoder.push(Buffer.from(chunk))
      for (const piece of readAll(decoder)) pieces.push(piece)
    }
  } catch (thrown) {
    if (!(thrown instanceof ProtocolError)) throw thrown
    error = thrown
  }
  return { pieces, frames: joinPieces(pieces), error }
}

/** What a decoder has, up to the end of its chunk. */
function* readAll(decoder: FrameDecoder): Iterable<CopiedPiece> {
  for (let piece = decoder.read(); piece !== undefined; piece = decoder.read()) yield copyOf(piece)
}

export function copyOf({ bytes, start, end, ...fields }: Piece): CopiedPiece {
  return { ...fields, payload: Buffer.from(bytes.subarray(start, end)) }
}

/** Pieces to frames; throws when they do not follow each other as the decoder promises. */
export function joinPieces(pieces: readonly CopiedPiece[]): DecodedFrame[] {
  const frames: DecodedFrame[] = []
  let open: CopiedPiece[] = []
  for (const piece of pieces) {
    if (piece.starts !== (open.length === 0))
      throw new Error('a piece starts a frame inside another one, or continues none')
    open.push(piece)
    const payload = Buffer.concat(open.map((part) => part.payload))
    if (piece.ends !== (payload.length === piece.payloadLength))
      throw new Error('`ends` and the payload length disagree')
    if (!piece.ends) continue
    open = []
    frames.push({ fin: piece.fin, rsv1: piece.rsv1, opcode: piece.opcode, payload })
  }
  return frames
}
