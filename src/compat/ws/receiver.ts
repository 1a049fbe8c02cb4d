import { Writable } from 'node:stream'
import type { DeflateProfile } from '../../deflate.ts'
import { maxCompressedBytes } from '../../deflate.ts'
import { type Conversation, type ProtocolHost, WebSocketProtocol } from '../../protocol.ts'
import { asBinaryType } from './data.ts'
import { translateError } from './errors.ts'
import type { BinaryType } from './options.ts'

/** Options of a `Receiver`, as far as they mean something here. */
export interface ReceiverOptions {
  readonly allowSynchronousEvents?: boolean | undefined
  readonly binaryType?: BinaryType | undefined
  /** What was agreed on: `{ 'permessage-deflate': PerMessageDeflate }`. */
  readonly extensions?: Readonly<Record<string, { readonly profile: DeflateProfile | undefined }>> | undefined
  readonly isServer?: boolean | undefined
  readonly maxFragments?: number | undefined
  readonly maxPayload?: number | undefined
  readonly skipUTF8Validation?: boolean | undefined
}

function limit(value: number | undefined): number {
  return value !== undefined && value > 0 ? value : Number.POSITIVE_INFINITY
}

const NOTHING: Buffer = Buffer.alloc(0)

/**
 * A stream that frames are written to, for programs that read them themselves: `message`, `ping`, `pong`, and `conclude`
 * for a Close frame.
 */
export class Receiver extends Writable {
  readonly #protocol: WebSocketProtocol
  /** The rest of the chunk waits for a message that is being inflated. */
  #goOn: (() => void) | undefined
  #inflating = false
  #failure: unknown

  constructor(options: ReceiverOptions = {}) {
    super()
    const maxMessageBytes = limit(options.maxPayload)
    const deflate = options.extensions?.['permessage-deflate']?.profile
    this.#protocol = new WebSocketProtocol(
      {
        role: options.isServer === true ? 'server' : 'client',
        maxMessageBytes,
        maxFrameBytes: deflate === undefined ? maxMessageBytes : maxCompressedBytes(maxMessageBytes),
        maxFragments: limit(options.maxFragments),
        maxPendingPongs: Number.POSITIVE_INFINITY,
        allowRsv1: deflate !== undefined,
        allowLongLengths: true,
        deflate,
        rawText: true,
        skipUtf8Check: options.skipUTF8Validation,
        keepFragments: true,
      },
      this.#host(options.binaryType ?? 'nodebuffer'),
    )
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#protocol.receive(chunk)
    if (this.#inflating) this.#goOn = () => callback(this.#failure as Error | undefined)
    else callback(this.#failure as Error | undefined)
  }

  #host(binaryType: BinaryType): ProtocolHost {
    const conversation: Conversation = {
      onPing: (payload) => void this.emit('ping', Buffer.from(payload)),
      onClose: (code, reason) => {
        this.emit('conclude', code, Buffer.from(reason))
        this.end()
      },
      onFailed: (error) => {
        this.#failure = translateError(error).error
      },
    }
    return {
      conversation,
      onMessage: (data, isBinary, ends) => {
        this.emit('message', isBinary ? asBinaryType(data as Buffer, binaryType, ends) : data, isBinary)
      },
      onPong: (payload) => void this.emit('pong', Buffer.from(payload)),
      onInflating: () => {
        this.#inflating = true
        this.#protocol.hold()
      },
      onInflated: () => {
        this.#inflating = false
        this.#protocol.release()
        if (this.#inflating) return
        const goOn = this.#goOn
        this.#goOn = undefined
        goOn?.()
      },
      // Nothing is sent from here, and the connection is somebody else's.
      area: NOTHING,
      reserve: () => 0,
      commit() {},
      append() {},
      onQueueEmpty() {},
      onEnd() {},
      onViolation() {},
      onFailure() {},
      flushNow: () => true,
    }
  }
}
