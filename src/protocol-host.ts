import type { ProtocolError } from './errors.ts'
import type { PieceHandler } from './pieces.ts'
import type { SenderHost } from './sender.ts'

/** Holds the conversation with the peer in the protocol's place: what is answered, and when the connection ends. */
export interface Conversation {
  /** A Ping frame; the payload is a view. */
  onPing(payload: Buffer): void
  /** The peer's Close frame; nothing is read behind it. The reason is a view. */
  onClose(code: number, reason: Buffer): void
  /** The peer broke the protocol or a limit, or reading has failed; nothing is read any more. */
  onFailed(error: unknown): void
}

/** The other side of the protocol: the socket and the user. */
export interface ProtocolHost extends SenderHost {
  /** Set where the host answers for itself; else the protocol does. */
  readonly conversation?: Conversation | undefined
  /** Set where the host takes messages piece by piece, and no `onMessage` follows. */
  readonly pieceHandler?: PieceHandler | undefined
  /** A whole message: a text as string (or bytes, by `rawText`), or binary. */
  onMessage(data: string | Buffer, isBinary: boolean, fragmentEnds: readonly number[] | undefined): void
  /** A message is being inflated elsewhere: `hold` until `onInflated`. */
  onInflating(): void
  onInflated(): void
  /** A Pong frame; the payload is a view and only valid now. */
  onPong(payload: Buffer): void
  /** Everything that is to be sent has been; end TCP behind it (§7.1.1). */
  onEnd(): void
  /** The peer broke the protocol or a limit (§7.1.7). */
  onViolation(error: ProtocolError): void
  /** Something else has failed while its bytes were read: a text longer than a string can be, memory that was taken away. */
  onFailure(error: unknown): void
  /** Tries to send what waits; true when nothing waits any more. */
  flushNow(): boolean
}
