import { expect } from 'vitest'
import type { Role } from '../../src/constants.ts'
import type { ProtocolError, ProtocolErrorCode } from '../../src/errors.ts'
import type { PieceHandler } from '../../src/pieces.ts'
import { type CloseEvent, type ProtocolOptions, WebSocketProtocol } from '../../src/protocol.ts'
import type { ProtocolHost } from '../../src/protocol-host.ts'
import { copyOf } from './chunks.ts'
import { type Random, seededRandom } from './random.ts'
import {
  close,
  describeFrame,
  describeMessage,
  type FrameSpec,
  formatFor,
  parseFrames,
  type WireFrame,
} from './wire.ts'

/** Around the room that `reserve` gives, so that a byte written beside it is seen. */
const GUARD = Buffer.alloc(16, 0xa5)

/** A host in memory. Its output is the slow twin of the slab (batch.ts): each `reserve` gives memory of its own. */
export class MemoryHost implements ProtocolHost {
  area: Buffer = Buffer.alloc(0)
  /** What has been sent, piece by piece; appended pieces as they are. */
  readonly pieces: Buffer[] = []
  readonly messages: (string | Buffer)[] = []
  readonly pongs: Buffer[] = []
  readonly violations: ProtocolError[] = []
  /** How often TCP was to be ended. */
  ended = 0
  /** How often the output was to be sent at once. */
  flushes = 0
  /** A message is being inflated in the thread pool. */
  inflating = false
  /** Most bytes that waited, for each time that messages had to wait. */
  readonly queues: number[] = []
  /** Set where messages are taken piece by piece. */
  pieceHandler: PieceHandler | undefined = undefined
  /** Whose host this is. */
  protocol: WebSocketProtocol | undefined = undefined
  readonly #inflated: (() => void)[] = []
  /** The peer does not read: output waits. */
  blocked = false
  /** What the user does with a message, or with a pong. */
  handler: ((message: string | Buffer) => void) | undefined = undefined

  onMessage(data: string | Buffer): void {
    this.messages.push(data)
    this.handler?.(data)
  }

  onInflating(): void {
    this.inflating = true
    this.protocol?.hold()
  }

  onInflated(): void {
    this.inflating = false
    this.protocol?.release()
    for (const action of this.#inflated.splice(0)) action()
  }

  /** Resolves when no message is being inflated. */
  async idle(): Promise<void> {
    while (this.inflating) await new Promise<void>((resolve) => this.#inflated.push(resolve))
  }

  onQueueEmpty(bytes: number): void {
    this.queues.push(bytes)
  }

  onPong(payload: Buffer): void {
    this.pongs.push(Buffer.from(payload))
  }

  onEnd(): void {
    this.ended++
  }

  onFailure(error: unknown): void {
    throw error
  }

  onViolation(error: ProtocolError): void {
    this.violations.push(error)
  }

  flushNow(): boolean {
    this.flushes++
    return !this.blocked
  }

  reserve(size: number): number {
    this.area = Buffer.concat([GUARD, Buffer.alloc(size), GUARD])
    return GUARD.length
  }

  commit(end: number): void {
    const last = this.area.length - GUARD.length
    const isInside = end >= GUARD.length && end <= last
    const isIntact = GUARD.equals(this.area.subarray(0, GUARD.length)) && GUARD.equals(this.area.subarray(last))
    if (!isInside || !isIntact) throw new Error('bytes were written beside the reserved room')
    this.pieces.push(this.area.subarray(GUARD.length, end))
  }

  append(bytes: Buffer): void {
    this.pieces.push(bytes)
  }
}

/** Limits that no test meets by accident. */
const WIDE: Omit<ProtocolOptions, 'role'> = {
  maxFrameBytes: 64 * 1024 * 1024,
  maxMessageBytes: 64 * 1024 * 1024,
  maxFragments: 1_000_000,
  maxPendingPongs: 1_000_000,
}

/** The protocol under test with a host in memory, and its peer: what the peer sends is `receive`d here. */
export class Endpoint {
  readonly role: Role
  readonly host: MemoryHost = new MemoryHost()
  readonly protocol: WebSocketProtocol
  /** Makes the masking keys of the peer. */
  readonly #random: Random
  #taken = 0

  constructor(role: Role, limits: Partial<ProtocolOptions> = {}, seed = 1) {
    this.role = role
    this.protocol = new WebSocketProtocol({ ...WIDE, ...limits, role }, this.host)
    this.host.protocol = this.protocol
    this.#random = seededRandom(seed)
  }

  /** What the peer puts on the wire for these frames. */
  encode(...frames: FrameSpec[]): Buffer {
    return Buffer.concat(frames.map((frame) => formatFor(this.role, frame, this.#random)))
  }

  /** The frames arrive, all in one chunk. */
  receive(...frames: FrameSpec[]): void {
    this.receiveChunks([copyOf(this.encode(...frames))])
  }

  /** The chunks arrive one after the other; those with memory of their own may do with it what they like. */
  receiveChunks(chunks: Iterable<Buffer>): void {
    for (const chunk of chunks) this.protocol.receive(chunk, chunk.length === chunk.buffer.byteLength)
  }

  /** From now on messages go back to where they came from. */
  echo(): this {
    this.host.handler = (message) => {
      if (this.protocol.state !== 'open') return
      if (typeof message === 'string') this.protocol.sendText(message)
      else this.protocol.sendBinary(message)
    }
    return this
  }

  /** The frames that were sent since the last look. */
  takeSent(): WireFrame[] {
    const pieces = this.host.pieces.slice(this.#taken)
    this.#taken = this.host.pieces.length
    return parseFrames(Buffer.concat(pieces))
  }

  /** Exactly these frames were sent since the last look, masked as the role demands (§5.1). */
  expectSent(...frames: FrameSpec[]): void {
    const sent = this.takeSent()
    expect(sent.map(describeFrame)).toEqual(frames.map(describeFrame))
    for (const { maskingKey } of sent) expect(maskingKey !== undefined).toBe(this.role === 'client')
  }

  expectNothingSent(): void {
    this.expectSent()
  }

  /** Exactly these messages have arrived, since the beginning. */
  expectMessages(...messages: (string | Uint8Array)[]): void {
    expect(this.host.messages.map(describeMessage)).toEqual(messages.map(describeMessage))
  }

  expectOpen(): void {
    expect(this.host.violations).toEqual([])
    expect(this.protocol.state).toBe('open')
    expect(this.host.ended).toBe(0)
  }

  /** The connection was failed (§7.1.7): one violation; behind these answers one Close frame and the end of TCP. */
  expectFailedWith(closeCode: number, code: ProtocolErrorCode, answers: readonly FrameSpec[] = []): void {
    expect(this.host.violations.map((error) => error.code)).toEqual([code])
    const reason = this.host.violations[0]!.message
    this.expectSent(...answers, close(closeCode, reason))
    this.expectFinished()
    this.expectEndsWith({ code: closeCode, reason, wasClean: false })
  }

  /** Both Close frames are through (§7.1.4), with this code and reason of the peer. */
  expectClosedWith(code: number, reason = ''): void {
    expect(this.host.violations).toEqual([])
    expect(this.protocol.state).toBe('draining')
    // §7.1.1: the server ends TCP, the client waits for it.
    expect(this.host.ended).toBe(this.role === 'server' ? 1 : 0)
    this.expectEndsWith({ code, reason, wasClean: true })
  }

  /** Nothing is read or sent any more, and TCP was ended from here. */
  expectFinished(): void {
    expect(this.protocol.state).toBe('draining')
    expect(this.host.ended).toBe(1)
  }

  /** TCP ends now, and the connection turns out to have closed like that. */
  expectEndsWith(event: CloseEvent): void {
    expect(this.protocol.receiveEnd()).toEqual(event)
    expect(this.protocol.state).toBe('closed')
  }
}

/** The two ends, for tests that hold for both. */
export const ROLES: readonly Role[] = ['server', 'client']
