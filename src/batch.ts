/*
 * Output of one tick, for all connections of the thread. A write to a socket costs the same whether it carries one
 * frame or a thousand, so frames are collected and leave together: at the end of an incoming chunk, else when the
 * current callback and its promises are through.
 *
 * Island. Frames are written straight into one area of memory, the slab, which is used again and again without an
 * allocation as long as the kernel takes all of it at once. Two rules keep that safe:
 *
 *   - the open region of the slab has one owner; another connection that wants to write closes it first;
 *   - memory that a socket did not take at once is left to it and never written again.
 *
 * What waits for a connection is a run: an immutable list that ends in its latest bytes. Appending the same broadcast
 * frame to the same run gives the same run, so a thousand subscribers share one list, and it is joined once.
 */

const SLAB_BYTES = 65_536
/** A connection with more than this waiting is written to at once. */
const FLUSH_AT_BYTES = 65_536
/** Runs above this are not joined by copying: their parts go out in one vectored write. */
const JOINED_BYTES = 65_536

/** What waits for a connection: `previous`, then `bytes`. */
export class Run {
  readonly previous: Run | null
  readonly bytes: Buffer
  /** Bytes of the whole run. */
  readonly total: number
  /** The run that was made last by appending to this one. */
  next: Run | null = null
  #joined: Buffer | undefined = undefined

  constructor(previous: Run | null, bytes: Buffer) {
    this.previous = previous
    this.bytes = bytes
    this.total = bytes.length + (previous === null ? 0 : previous.total)
  }

  /** The parts in order. */
  parts(): Buffer[] {
    const parts: Buffer[] = []
    for (let run: Run | null = this; run !== null; run = run.previous) parts.push(run.bytes)
    return parts.reverse()
  }

  /** All parts in one buffer; the work is done once, however many connections share the run. */
  joined(): Buffer {
    this.#joined ??= Buffer.concat(this.parts(), this.total)
    return this.#joined
  }
}

/** A connection, as the batch sees it. */
export interface BatchMember {
  /** What waits for it; kept here so that a connection with nothing to send costs one field. */
  pendingRun: Run | null
  /** Hands bytes to the socket; true when the kernel has taken all of them and the memory is free again. */
  transmit(bytes: Buffer): boolean
  /** The same for several buffers, in one write. */
  transmitParts(parts: readonly Buffer[]): boolean
}

/** See the head of the file. One instance serves the thread. */
export class Batch {
  /** The memory in which `reserve` gives room. */
  area: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES)

  /** Counts the times that everything was written. */
  turn = 0

  /** The open region, `area[#start..#end)`, belongs to `#owner`; below it nothing is free. */
  #start = 0
  #end = 0
  #owner: BatchMember | undefined = undefined
  /** A socket still needs a part of this area: it is used up to its end and then left behind. */
  #stuck = false
  /** Connections with something waiting; one that has been flushed in between may still stand here. */
  readonly #waiting: BatchMember[] = []
  /** The run that was made last from nothing. */
  #first: Run | null = null
  #scheduled = false
  /** The process is ending: no tick comes to its end any more. */
  #exiting = false
  /** Whose chunk is being read: what is sent meanwhile waits for its end. */
  receiver: object | undefined = undefined
  #flushing = false
  /** Sockets that are being written to, and have not said yet what they keep. */
  #writing = 0
  readonly #flush = (): void => this.flush()

  /** Bytes of this connection that its socket has not been given yet. */
  pendingBytes(member: BatchMember): number {
    const open = this.#owner === member ? this.#end - this.#start : 0
    return open + (member.pendingRun === null ? 0 : member.pendingRun.total)
  }

  /** Room for `size` bytes behind the member's output; returns its offset in `area`, which may be another one now. */
  reserve(member: BatchMember, size: number): number {
    if (this.#owner !== member) this.#open(member)
    if (this.#end + size > this.area.length) {
      // For everybody: what waits for others would hold on to one area after the other.
      this.flush()
      this.flushMember(member)
      if (this.#end + size > this.area.length) this.#leaveArea(size)
      this.#open(member)
    }
    return this.#end
  }

  /** The reserved room was used up to `end`. */
  commit(end: number): void {
    this.#end = end
    if (end - this.#start > FLUSH_AT_BYTES) this.flushMember(this.#owner!)
    this.#schedule()
  }

  /** Adds bytes that are not copied and may be shared between members. */
  append(member: BatchMember, bytes: Buffer): void {
    if (this.#owner === member) this.#closeRegion()
    if (member.pendingRun === null) this.#waiting.push(member)
    member.pendingRun = this.#extend(member.pendingRun, bytes)
    if (member.pendingRun.total > FLUSH_AT_BYTES) this.flushMember(member)
    this.#schedule()
  }

  /** What is sent until `endChunk` waits for it. Both are called in one go. */
  beginChunk(receiver: object): void {
    this.receiver = receiver
  }

  endChunk(): void {
    this.receiver = undefined
    this.flush()
  }

  /** Writes what waits, and from now on waits for nothing: a socket still takes what it is given while a process exits. */
  exit(): void {
    this.#exiting = true
    this.flush()
  }

  /** Writes what waits for anybody. */
  flush(): void {
    this.#scheduled = false
    this.turn++
    const waiting = this.#waiting
    // A socket that calls back while it is written to: the loop under way comes to what that has added.
    if (this.#flushing || waiting.length === 0) return
    this.#flushing = true
    try {
      // Mostly it is one, and an array that is popped keeps its memory.
      if (waiting.length === 1) this.flushMember(waiting.pop()!)
      for (let index = 0; index < waiting.length; index++) this.flushMember(waiting[index]!)
      if (waiting.length > 0) waiting.length = 0
    } finally {
      this.#flushing = false
    }
    this.#first = null
    if (!this.#stuck && this.#writing === 0) this.#start = this.#end = 0
  }

  /** Writes what waits for one connection. */
  flushMember(member: BatchMember): void {
    if (this.#owner === member) {
      if (member.pendingRun === null) {
        this.#transmitRegion(member)
        return
      }
      this.#closeRegion()
    }
    const run = member.pendingRun
    if (run === null) return
    member.pendingRun = null
    if (run.previous === null) this.#transmit(member, run.bytes)
    else if (run.total <= JOINED_BYTES) member.transmit(run.joined())
    else this.#transmit(member, run.parts())
  }

  #schedule(): void {
    if (this.#exiting) {
      this.flush()
      return
    }
    if (this.#scheduled || this.receiver !== undefined) return
    this.#scheduled = true
    // Called from a promise, it comes behind all others that are ready: what their handlers send leaves in one write.
    process.nextTick(this.#flush)
  }

  #open(member: BatchMember): void {
    this.#closeRegion()
    this.#owner = member
    if (member.pendingRun === null) this.#waiting.push(member)
  }

  /** The owner's region goes to the end of its run. */
  #closeRegion(): void {
    const owner = this.#owner
    this.#owner = undefined
    if (owner === undefined || this.#end === this.#start) return
    owner.pendingRun = new Run(owner.pendingRun, this.area.subarray(this.#start, this.#end))
    this.#start = this.#end
  }

  #transmitRegion(member: BatchMember): void {
    this.#owner = undefined
    const { area } = this
    const start = this.#start
    const end = this.#end
    if (end === start) return
    this.#start = end
    const taken = this.#transmit(member, area.subarray(start, end))
    if (taken && this.#owner === undefined && this.#end === end && this.area === area) this.#start = this.#end = start
  }

  /** Hands over memory of the area, perhaps. Whatever comes of it, the area is only free when the socket says so. */
  #transmit(member: BatchMember, output: Buffer | Buffer[]): boolean {
    let taken = false
    this.#writing++
    try {
      taken = Array.isArray(output) ? member.transmitParts(output) : member.transmit(output)
    } finally {
      this.#writing--
      if (!taken) this.#stuck = true
    }
    return taken
  }

  /** Once a large message has come by, the area stays large enough for the next. */
  #leaveArea(size: number): void {
    this.#closeRegion()
    this.area = Buffer.allocUnsafeSlow(Math.max(size, this.#stuck ? SLAB_BYTES : this.area.length))
    this.#start = this.#end = 0
    this.#stuck = false
  }

  #extend(previous: Run | null, bytes: Buffer): Run {
    const latest = previous === null ? this.#first : previous.next
    if (latest !== null && latest.bytes === bytes) return latest
    const run = new Run(previous, bytes)
    if (previous === null) this.#first = run
    else previous.next = run
    return run
  }
}

/** The batch of this thread. */
export const batch: Batch = new Batch()

// Who sends and calls process.exit() has sent, as with a write to a socket.
process.once('exit', () => batch.exit())
