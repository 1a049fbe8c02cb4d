import { constants, inflateRawSync } from 'node:zlib'
import type { WireFrame } from '../../support/wire.ts'

const TAIL = Buffer.from([0, 0, 0xff, 0xff])

/**
 * Takes the frames of one sender and gives them as if they had not been compressed; the fragments of a compressed message
 * become one frame with its whole content, and those of any other too, so that two senders can be compared.
 */
export function inflater(): (frame: WireFrame) => WireFrame {
  /** All that was inflated before: the context. */
  let history: Buffer = Buffer.alloc(0)
  let isCompressed = false
  let parts: Buffer[] = []
  return (frame) => {
    if (frame.opcode >= 8) return frame
    if (frame.opcode !== 0) isCompressed = frame.rsv === 4
    parts.push(frame.payload)
    if (!frame.fin) return { ...frame, rsv: 0, payload: Buffer.alloc(0) }
    const whole = Buffer.concat(parts)
    parts = []
    if (!isCompressed) return { ...frame, rsv: 0, payload: whole }
    const payload = inflateRawSync(Buffer.concat([whole, TAIL]), {
      finishFlush: constants.Z_SYNC_FLUSH,
      ...(history.length > 0 ? { dictionary: history } : {}),
    })
    history = Buffer.concat([history, payload]).subarray(-32_768)
    return { ...frame, rsv: 0, payload }
  }
}
