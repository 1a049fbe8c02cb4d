import type { Opcode } from '../../constants.ts'
import { encodeFrame, headerSize } from '../../framing.ts'
import { randomMaskingKey } from '../../masking.ts'
import type { Link, SendCallback } from './link.ts'

/** What a frame is made of, in ws's words. */
interface FrameOptions {
  readonly opcode: number
  readonly fin?: boolean
  readonly rsv1?: boolean
  readonly mask?: boolean
  readonly [option: string]: unknown
}

/** The part of ws's sender that programs use: a message is framed once, and written to many. */
export class Sender {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  /** A frame as the list of buffers that `sendFrame` takes: its header and its payload. */
  static frame(data: Buffer | string, options: FrameOptions): Buffer[] {
    const payload = typeof data === 'string' ? Buffer.from(data) : data
    const masked = options.mask === true
    const bytes = encodeFrame({
      opcode: options.opcode as Opcode,
      payload,
      fin: options.fin === true,
      rsv1: options.rsv1 === true,
      maskingKey: masked ? randomMaskingKey() : undefined,
    })
    const size = headerSize(payload.length, masked)
    return [bytes.subarray(0, size), bytes.subarray(size)]
  }

  /** Writes frames as they are, behind what was sent before. */
  sendFrame(list: readonly Buffer[], callback?: SendCallback): void {
    this.#link.protocol.sender.whenSent(() => {
      for (const bytes of list) this.#link.output.append(bytes)
    })
    if (callback !== undefined) this.#link.whenFlushed(callback, () => new Error('The socket was closed'))
  }
}
