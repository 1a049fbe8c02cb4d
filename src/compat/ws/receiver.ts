import { Writable } from 'node:stream'
import type { DeflateProfile } from '../../deflate.ts'
import { WebSocketProtocol } from '../../protocol.ts'
import type { Conversation, ProtocolHost } from '../../protocol-host.ts'
import { asBinaryType } from './data.ts'
import { translateError } from './errors.ts'
import { type LinkSettings, newProtocolOptions } from './link.ts'
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
    const settings: LinkSettings = {
      isServer: options.isServer === true,
      textAsString: false,
      allowSynchronousEvents: true,
      maxPayload: options.maxPayload ?? 0,
      maxFragments: options.maxFragments ?? 0,
      maxBufferedChunks: 0,
      skipUTF8Validation: options.skipUTF8Validation === true,
      generateMask: undefined,
      deflate: options.extensions?.['permessage-deflate']?.profile,
    }
    this.#protocol = new WebSocketProtocol(newProtocolOptions(settings), this.#host(options.binaryType ?? 'nodebuffer'))
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
