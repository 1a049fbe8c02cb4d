import { constants, createDeflateRaw, createInflateRaw, type DeflateRaw, type InflateRaw } from 'node:zlib'

/*
 * The other end of a compressed connection (RFC 7692 §7.2) as most implementations have it: one zlib stream per
 * direction that lives as long as the connection. The slow twin of src/deflate.ts, which keeps no such streams.
 */

const TAIL = Buffer.from([0x00, 0x00, 0xff, 0xff])

/** What has been agreed on, as this end sees it. */
export interface DeflatePeerOptions {
  /** Window of what it sends. Default 15. */
  readonly windowBits?: number
  /** It forgets its own messages. Default false. */
  readonly noContextTakeover?: boolean
  /** Window of what it receives; a message that refers to more fails. Default 15. */
  readonly receivedWindowBits?: number
  /** It forgets the messages that it receives; one that refers to another fails. Default false. */
  readonly receivedNoContextTakeover?: boolean
  /** Default 6. */
  readonly level?: number
  readonly memLevel?: number
}

export class DeflatePeer {
  readonly #options: DeflatePeerOptions
  #deflate: DeflateRaw | undefined
  #inflate: InflateRaw | undefined

  constructor(options: DeflatePeerOptions = {}) {
    this.#options = options
  }

  /** The payload, compressed. One message at a time. */
  async compress(payload: string | Uint8Array): Promise<Buffer> {
    const { windowBits = 15, noContextTakeover = false, level = 6, memLevel = 8 } = this.#options
    // zlib cannot do 8; its 9 refers to nothing that 8 would not reach.
    this.#deflate ??= createDeflateRaw({ windowBits: Math.max(windowBits, 9), level, memLevel })
    const bytes = await runThrough(this.#deflate, Buffer.from(payload as Uint8Array))
    if (noContextTakeover) this.#deflate = close(this.#deflate)
    return bytes.subarray(0, -TAIL.length)
  }

  /** The payload, inflated. One message at a time. */
  async inflate(payload: Uint8Array): Promise<Buffer> {
    const { receivedWindowBits = 15, receivedNoContextTakeover = false } = this.#options
    // Memory that is at hand for output makes zlib overlook references that are too far: there should be little.
    const chunkSize = Math.max(2 ** receivedWindowBits / 8, constants.Z_MIN_CHUNK)
    this.#inflate ??= createInflateRaw({ windowBits: receivedWindowBits, chunkSize })
    const bytes = await runThrough(this.#inflate, Buffer.concat([payload, TAIL]))
    if (receivedNoContextTakeover) this.#inflate = close(this.#inflate)
    return bytes
  }

  /** Frees what zlib holds. */
  end(): void {
    this.#deflate = this.#deflate && close(this.#deflate)
    this.#inflate = this.#inflate && close(this.#inflate)
  }
}

function close(stream: DeflateRaw | InflateRaw): undefined {
  stream.close()
}

/** What comes out up to the next flush. */
function runThrough(stream: DeflateRaw | InflateRaw, input: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const collect = (chunk: Buffer): number => chunks.push(chunk)
    stream.on('data', collect)
    stream.once('error', reject)
    stream.write(input)
    stream.flush(constants.Z_SYNC_FLUSH, () => {
      stream.off('data', collect)
      stream.off('error', reject)
      resolve(Buffer.concat(chunks))
    })
  })
}
