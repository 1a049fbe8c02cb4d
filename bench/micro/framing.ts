// node --import tsx bench/micro/framing.ts: what src/framing.ts needs per frame, without a socket.
import { randomBytes } from 'node:crypto'
import { Opcode } from '../../src/constants.ts'
import { encodeFrame, FrameDecoder, firstByte, writeFrame } from '../../src/framing.ts'
import { frame, payload } from '../load/frames.ts'
import { number } from '../report/figures.ts'
import { nanosecondsPerCall, table } from './time.ts'

const CHUNK_BYTES = 65_536

/** A chunk full of masked frames, and how many pieces it has for a decoder. */
function decode(size: number): number {
  const one = frame(Opcode.BINARY, payload('ascii', size), randomBytes(4))
  const count = Math.max(1, Math.floor(CHUNK_BYTES / one.length))
  const chunk = Buffer.concat(Array.from({ length: count }, () => one))
  const decoder = new FrameDecoder({ role: 'server', maxFrameBytes: 2 * size })
  let pieces = 0
  const perChunk = nanosecondsPerCall(() => {
    // Unmasked in place: what is decoded the next time is another payload of the same length.
    decoder.push(chunk)
    pieces = 0
    while (decoder.read()) pieces++
  })
  if (pieces !== count) throw new Error(`${pieces} pieces instead of ${count}`)
  return perChunk / count
}

const rows = [16, 128, 1024, 16_384].map((size) => {
  const bytes = payload('ascii', size)
  const target = Buffer.allocUnsafeSlow(size + 14)
  const first = firstByte(Opcode.BINARY, true, false)
  const inPlace = nanosecondsPerCall(() => {
    writeFrame(target, 0, first, bytes, undefined)
  })
  const encoded = nanosecondsPerCall(() => {
    encodeFrame({ opcode: Opcode.BINARY, payload: bytes })
  })
  const masked = nanosecondsPerCall(() => {
    encodeFrame({ opcode: Opcode.BINARY, payload: bytes, maskingKey: 0x7a3c_91e5 })
  })
  return [size.toLocaleString('en-US'), ...[decode(size), inPlace, encoded, masked].map(number)]
})
table(['Payload bytes', 'decode + unmask, ns', 'writeFrame, ns', 'encodeFrame, ns', 'encodeFrame masked, ns'], rows)
