import type { Opcode, Role } from '../../src/constants.ts'
import { ProtocolError } from '../../src/errors.ts'
import { encodeFrame, type Frame, FrameDecoder, type FrameDecoderOptions } from '../../src/framing.ts'

/** What one `read` has given, copied: the decoder's fields and its memory change with the next one. */
export interface Piece {
  readonly fin: boolean
  readonly rsv1: boolean
  readonly opcode: Opcode
  readonly payloadLength: number
  readonly payload: Buffer
  readonly starts: boolean
  readonly ends: boolean
  readonly ascii: boolean
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
  readonly pieces: Piece[]
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
  const pieces: Piece[] = []
  let error: ProtocolError | undefined
  try {
    for (const chunk of chunks) {
      decoder.push(Buffer.from(chunk))
      while (decoder.read()) pieces.push(pieceOf(decoder))
    }
  } catch (thrown) {
    if (!(thrown instanceof ProtocolError)) throw thrown
    error = thrown
  }
  return { pieces, frames: joinPieces(pieces), error }
}

export function pieceOf({
  fin,
  rsv1,
  opcode,
  payloadLength,
  bytes,
  start,
  end,
  starts,
  ends,
  ascii,
}: FrameDecoder): Piece {
  return { fin, rsv1, opcode, payloadLength, payload: Buffer.from(bytes.subarray(start, end)), starts, ends, ascii }
}

/** Pieces to frames; throws when they do not follow each other as the decoder promises. */
export function joinPieces(pieces: readonly Piece[]): DecodedFrame[] {
  const frames: DecodedFrame[] = []
  let open: Piece[] = []
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
