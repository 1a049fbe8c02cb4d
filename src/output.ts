import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { Backlog, SLICE_BYTES } from './backlog.ts'
import { type BatchMember, batch, type Run } from './batch.ts'
import type { FrameSink } from './sender.ts'
import { GONE } from './socket-peer.ts'

/** What the output of a connection has to tell it. */
export interface OutputHost {
  /** The socket is given everything at once, and holds it. Default: what it does not take is held here. */
  readonly fillsSocket?: boolean
  /** So much waits that a peer which goes on sending should not be read, in bytes. */
  readonly unreadMark: number
  /** The mark is passed; `outputRead` follows. */
  outputUnread(): void
  /** Less than the mark waits again. */
  outputRead(): void
  /** A slow peer has taken something. */
  outputProgressed(): void
  /** Nothing waits any more. */
  outputFlushed(): void
  /** What the sender may have noticed of a slow peer is over. */
  outputDrained(): void
  /** The peer has ended TCP: what is sent from now on goes nowhere. */
  outputRefused(): void
}

/**
 * What the socket is. Plain TCP: the kernel has everything as soon as `writableLength` is 0, and the memory is free. TLS
 * finishes later. A stream of somebody's does what it likes.
 */
type Transport = 'tcp' | 'tls' | 'stream'

function transportOf(socket: Duplex): Transport {
  if (!(socket instanceof Socket)) return 'stream'
  return 'encrypted' in socket ? 'tls' : 'tcp'
}

/** Below this, what waits may merely wait for the end of the tick. */
export const UNFLUSHED_BYTES = 16_384
/** Output that is on its way over TLS is no sign of a peer that does not read, up to this. */
const UNDER_WAY_BYTES = 131_072

const NOTHING: Buffer = Buffer.alloc(0)

/**
 * The way of a connection's bytes to its socket: first the batch of the tick, then, while the socket does not take
 * everything at once, a backlog.
 */
export class Output implements BatchMember, FrameSink {
  /** What waits in the batch. */
  pendingRun: Run | null = null

  #socket: Duplex
  readonly #transport: Transport
  readonly #host: OutputHost
  /** Set while the socket has not taken everything. */
  #backlog: Backlog | undefined = undefined
  /** Bytes that the socket was given so far. */
  #given = 0
  /** Writes to the socket that will tell when they are through. */
  #awaited = 0
  #ending = false

  constructor(socket: Duplex, host: OutputHost) {
    this.#socket = socket
    this.#transport = transportOf(socket)
    this.#host = host
  }

  // ── for the protocol ──────────────────────────────────────────────────────────────────────────────────────────────

  get area(): Buffer {
    return batch.area
  }

  reserve(size: number): number {
    return batch.reserve(this, size)
  }

  commit(end: number): void {
    batch.commit(end)
  }

  append(bytes: Buffer): void {
    batch.append(this, bytes)
  }

  // ── for the connection ────────────────────────────────────────────────────────────────────────────────────────────

  /** The socket has not taken everything that it was given. */
  get congested(): boolean {
    return this.#backlog !== undefined
  }

  /** Bytes that were accepted and that the kernel has not taken. */
  get unsentBytes(): number {
    const waiting = this.#backlog === undefined ? 0 : this.#backlog.bytes
    return batch.pendingBytes(this) + waiting + this.#socket.writableLength
  }

  /** Bytes that were accepted since the beginning ... */
  get acceptedBytes(): number {
    return this.#given + batch.pendingBytes(this) + (this.#backlog === undefined ? 0 : this.#backlog.bytes)
  }

  /** ... and those of them that the kernel has taken, at least. */
  get takenBytes(): number {
    return this.#given - this.#socket.writableLength
  }

  /** Tries to write what waits for the end of the tick; true when the peer takes what it gets. */
  flush(): boolean {
    batch.flushMember(this)
    // A socket that finishes later never has nothing to send, here and now; what counts is that it gets ahead.
    return this.#backlog === undefined || (this.#transport !== 'tcp' && this.unsentBytes <= UNDER_WAY_BYTES)
  }

  /** As much waits that the sender will want to know when it is gone. */
  notice(): void {
    if (this.#backlog !== undefined) this.#backlog.noticed = true
  }

  /** Resolves when everything is in the kernel's hands; rejects with what `close` is given. */
  async wait(): Promise<void> {
    await this.#backlog?.wait()
  }

  /** Ends the socket behind everything that waits. */
  end(): void {
    batch.flushMember(this)
    this.#ending = true
    if (this.#backlog === undefined) this.#socket.end()
  }

  /** The socket is gone, and what waits with it. */
  close(error: () => Error): void {
    this.#backlog?.settle(error())
    this.#backlog = undefined
    this.pendingRun = null
    this.#socket = GONE
  }

  // ── for the batch ─────────────────────────────────────────────────────────────────────────────────────────────────

  transmit(bytes: Buffer): boolean {
    const socket = this.#socket
    if (this.#backlog !== undefined || this.#transport !== 'tcp' || bytes.length > SLICE_BYTES) {
      return this.transmitParts([bytes])
    }
    if (!socket.writable) return this.#refuse()
    this.#given += bytes.length
    socket.write(bytes)
    if (socket.writableLength === 0) {
      this.#host.outputFlushed()
      return true
    }
    this.#backlog = new Backlog()
    this.#awaitWritten()
    this.#checkUnread(this.#backlog)
    return false
  }

  transmitParts(parts: readonly Buffer[]): boolean {
    if (!this.#socket.writable) return this.#refuse()
    const isIdle = this.#backlog === undefined
    const backlog = (this.#backlog ??= new Backlog())
    for (const part of parts) backlog.push(part)
    if (this.#transport === 'stream') {
      // Somebody's stream may call back from within a write, and find us in the middle of something.
      if (isIdle || this.#host.fillsSocket === true) process.nextTick(() => this.writeWaiting())
    } else if ((isIdle || this.#host.fillsSocket === true) && this.#writeSlices(backlog)) {
      this.#backlog = undefined
      this.#host.outputFlushed()
      return true
    }
    this.#checkUnread(backlog)
    return false
  }

  #refuse(): true {
    this.#host.outputRefused()
    return true
  }

  /** Gives the socket what waits for the end of the tick, or for that of somebody's stream. */
  writeWaiting(): void {
    batch.flushMember(this)
    if (this.#backlog !== undefined && this.#backlog.bytes > 0) this.#writeSlices(this.#backlog)
  }

  /** Gives the socket slices as long as it takes them at once; true when all of them are gone. */
  #writeSlices(backlog: Backlog): boolean {
    const socket = this.#socket
    while (backlog.bytes > 0) {
      socket.cork()
      for (const part of backlog.takeSlice()) {
        this.#given += part.length
        socket.write(part)
      }
      if (this.#transport !== 'tcp') this.#awaitWritten()
      socket.uncork()
      if (this.#host.fillsSocket === true && backlog.bytes > 0) continue
      if (this.#transport !== 'tcp') return false
      if (socket.writableLength === 0) continue
      this.#awaitWritten()
      return false
    }
    return true
  }

  /** An empty write behind those under way tells when they are through; most writes need no callback. */
  #awaitWritten(): void {
    this.#awaited++
    this.#socket.write(NOTHING, (error) => this.#written(error))
  }

  /** The socket has handed over what it was given. */
  #written(error: Error | null | undefined): void {
    this.#awaited--
    const backlog = this.#backlog
    if (backlog === undefined || error) return
    this.#host.outputProgressed()
    // Another write of ours followed, and will be heard of. What somebody else has written is nobody's concern here.
    if (this.#host.fillsSocket === true && this.#awaited > 0) return
    if (!this.#writeSlices(backlog)) {
      if (this.unsentBytes <= this.#host.unreadMark) this.#host.outputRead()
      return
    }
    this.#backlog = undefined
    this.#host.outputFlushed()
    backlog.settle()
    if (this.#ending) this.#socket.end()
    this.#host.outputRead()
    if (backlog.noticed) this.#host.outputDrained()
  }

  #checkUnread(backlog: Backlog): void {
    const { unsentBytes } = this
    if (unsentBytes >= UNFLUSHED_BYTES) backlog.noticed = true
    if (unsentBytes > this.#host.unreadMark) this.#host.outputUnread()
  }
}
