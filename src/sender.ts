import { MAX_CONTROL_BYTES, Opcode, type Role } from './constants.ts'
import { isCompressedAtOnce, type MessageDeflate } from './deflate.ts'
import {
  firstByte,
  headerSize,
  MAX_HEADER_BYTES,
  maxTextFrameSize,
  writeFrame,
  writeHeader,
  writeTextFrame,
} from './framing.ts'
import { randomMaskingKey } from './masking.ts'
import { Outbox } from './outbox.ts'
import { encodeText, type PreparedMessage } from './prepared.ts'

/** Where encoded bytes go: an area to write them into, and a queue for bytes that are not copied. */
export interface FrameSink {
  /** The memory that `reserve` gives room in; may be another one after each call of it. */
  readonly area: Buffer
  /** Makes room for `size` bytes behind all earlier output; returns their offset in `area`. */
  reserve(size: number): number
  /** The reserved room was used up to `end`. */
  commit(end: number): void
  /** Appends bytes as they are; they must not change any more. */
  append(bytes: Buffer): void
}

/** Who wants to know what becomes of the sender's queue. */
export interface SenderHost extends FrameSink {
  /** Messages had to wait for one before them, `bytes` of them at the most; now all are on their way to the socket. */
  onQueueEmpty(bytes: number): void
}

/** What the sender has to know about the connection. */
export interface SenderOptions {
  readonly role: Role
  /** Where the masking keys of a client come from; default randomness (RFC 6455 §5.3). */
  readonly nextMaskingKey?: (() => number) | undefined
  /** Calls back in a while: a message is not compressed before. Default at once. */
  readonly defer?: ((work: () => void) => void) | undefined
}

/** Gets a payload, and calls back with it. */
type Fetch = (done: (payload: Uint8Array) => void) => void

/** What a fragment of a message is to be. */
interface FragmentOptions {
  readonly isLast: boolean
  readonly compress?: boolean
  readonly masked?: boolean
}

/** A message that is sent in fragments has its turn. */
export interface FragmentWriter {
  /** Sends a fragment, and calls back when it is on its way to the socket, or cannot be sent. One at a time. */
  write(payload: Uint8Array, isLast: boolean, written: (error?: unknown) => void): void
  /** Gives the turn up; no fragment may have been sent. */
  leave(): void
}

/** Longest text, in UTF-16 units, that is encoded in the sink's area; longer ones get memory of their own. */
const ENCODED_IN_PLACE = 1_048_576
/** Messages that are compressed one after the other, where that is deferred, before it is deferred again. */
const COMPRESSED_IN_ONE_GO = 16
/** Longer payloads of binary messages are not copied when they need no mask. */
const COPIED_BYTES = 16_384

/** Messages to frames: encoded, compressed where that was agreed on, masked by a client, in the order they were given. */
export class MessageSender {
  readonly #options: SenderOptions
  readonly #host: SenderHost
  readonly #deflate: MessageDeflate | undefined
  /** Set while something waits. */
  #outbox: Outbox | undefined = undefined
  /** Messages since compression was last deferred. */
  #deferred = 0
  /** Set between the first and the last fragment of a message. */
  #fragmenting: 'plain' | 'compressed' | undefined = undefined

  constructor(options: SenderOptions, host: SenderHost, deflate: MessageDeflate | undefined) {
    this.#options = options
    this.#host = host
    this.#deflate = deflate
  }

  /** Something waits for what is before it, or has its turn and is not through. */
  get isWaiting(): boolean {
    return this.#outbox !== undefined
  }

  /** Bytes of messages that wait for one before them. */
  get queuedBytes(): number {
    return this.#outbox === undefined ? 0 : this.#outbox.bytes
  }

  sendText(text: string, compress: boolean | undefined): void {
    if (this.#outbox !== undefined || (this.#deflate !== undefined && this.#isTextWorthIt(text, compress))) {
      this.#sendMessage(Opcode.TEXT, Buffer.from(text), compress)
    } else if (text.length <= ENCODED_IN_PLACE) {
      const sink = this.#host
      const at = sink.reserve(maxTextFrameSize(text))
      sink.commit(writeTextFrame(sink.area, at, firstByte(Opcode.TEXT, true, false), text, this.#nextMaskingKey()))
    } else {
      this.#host.append(encodeText(text, this.#nextMaskingKey()))
    }
  }

  /** A message of which the payload is there as bytes. */
  sendPayload(opcode: Opcode, payload: Uint8Array, compress: boolean | undefined): void {
    if (this.#outbox !== undefined || (this.#deflate !== undefined && this.#isWorthIt(payload.length, compress))) {
      // What waits must not change; a long payload is the sender's to leave alone.
      const kept = this.#outbox !== undefined && payload.length <= COPIED_BYTES ? Buffer.from(payload) : payload
      this.#sendMessage(opcode, kept, compress)
    } else this.#writeFrame(firstByte(opcode, true, false), payload)
  }

  /** A message that several connections are sent; only a server, which does not mask, can do that. */
  sendPrepared(message: PreparedMessage): void {
    const deflate = this.#deflate
    if (deflate === undefined || !this.#isWorthIt(message.payload.length, message.compress)) {
      if (this.#outbox === undefined) this.#host.append(message.plain)
      else this.#inOrder(message.plain.length, () => this.#host.append(message.plain))
      return
    }
    const compressed = message.compressedFor(deflate.profile)
    if (compressed.ready) {
      this.#inOrder(compressed.frame.length, () => this.#appendPrepared(message, compressed.frame, deflate))
      return
    }
    this.#queue(message.plain.length, (done) => {
      compressed.whenReady(() => done(() => this.#appendPrepared(message, compressed.frame, deflate)))
    })
  }

  /**
   * A fragment of a message (§5.4). `compress` counts with the first of them; `masked` is for those who do not want what
   * the role demands.
   */
  sendFragment(opcode: Opcode, payload: Uint8Array, options: FragmentOptions): void {
    const write = this.#planFragment(opcode, options)
    const kept = this.#outbox !== undefined ? Buffer.from(payload) : payload
    this.#inOrder(payload.length, () => write(kept))
  }

  /** The same for a payload that is fetched when it is its turn; what is sent after it waits. */
  sendFetchedFragment(opcode: Opcode, size: number, fetch: Fetch, options: FragmentOptions): void {
    this.doFetched(size, fetch, this.#planFragment(opcode, options))
  }

  /** What a fragment is depends on those that were given before it, not on when it leaves. */
  #planFragment(opcode: Opcode, { isLast, compress, masked }: FragmentOptions): (payload: Uint8Array) => void {
    const isFirst = this.#fragmenting === undefined
    const deflate = this.#deflate
    const compresses = isFirst ? deflate !== undefined && compress === true : this.#fragmenting === 'compressed'
    this.#fragmenting = isLast ? undefined : compresses ? 'compressed' : 'plain'
    const first = firstByte(isFirst ? opcode : Opcode.CONTINUATION, isLast, compresses && isFirst)
    return (payload) => {
      const bytes = compresses ? deflate!.compressFragment(payload, isFirst, isLast) : payload
      this.#writeFrame(first, bytes, masked)
    }
  }

  /**
   * A message in fragments that are given one by one from `begin` on; it is in nobody's way before its turn, and in
   * everybody's until its last fragment. `cancelled` when it is given up before that.
   */
  sendInFragments(
    opcode: Opcode,
    compress: boolean,
    begin: (fragments: FragmentWriter) => void,
    cancelled: () => void,
  ): void {
    const deflate = compress ? this.#deflate : undefined
    let isCompressed: boolean | undefined
    this.#queue(
      0,
      (done, isCurrent) => {
        begin({
          write: (payload, isLast, written) => {
            const isFirst = isCompressed === undefined
            // A message without content would not become shorter.
            isCompressed ??= deflate !== undefined && !(isLast && payload.length === 0)
            const first = firstByte(isFirst ? opcode : Opcode.CONTINUATION, isLast, isCompressed && isFirst)
            const send = (bytes: Uint8Array): void => {
              if (isLast) done(() => this.#writeFrame(first, bytes))
              else if (isCurrent()) this.#writeFrame(first, bytes)
              written()
            }
            if (!isCompressed) send(payload)
            else if (isCompressedAtOnce(payload)) send(deflate!.compressFragment(payload, isFirst, isLast))
            else {
              deflate!.compressFragmentLater(payload, isFirst, isLast, (error, bytes) => {
                if (error === null) send(bytes)
                else written(error)
              })
            }
          },
          leave: () => done(() => {}),
        })
      },
      cancelled,
    )
  }

  /** A message is being sent in fragments: no other may begin. */
  get isFragmenting(): boolean {
    return this.#fragmenting !== undefined
  }

  /** A control frame; it overtakes messages that wait (§5.4: "control frames MAY be injected"). */
  sendControl(opcode: Opcode, payload: Uint8Array, masked?: boolean): void {
    const sink = this.#host
    const at = sink.reserve(MAX_HEADER_BYTES + MAX_CONTROL_BYTES)
    sink.commit(writeFrame(sink.area, at, firstByte(opcode, true, false), payload, this.#nextMaskingKey(masked)))
  }

  /** Calls back behind everything that was sent so far; at once when nothing waits. Not when the rest was given up. */
  whenSent(action: () => void, cancelled?: () => void, bytes = 0): void {
    if (this.#outbox === undefined) action()
    else this.#queue(bytes, (done) => done(action), cancelled)
  }

  /** Fetches a payload when it is its turn, and does something with it; what is sent after it waits. */
  doFetched(size: number, fetch: Fetch, action: (payload: Uint8Array) => void): void {
    this.#queue(size, (done) => fetch((payload) => done(() => action(payload))))
  }

  /** A message of which the payload is fetched when it is its turn; what is sent after it waits. */
  sendFetched(opcode: Opcode, size: number, fetch: Fetch, compress: boolean | undefined): void {
    const deflate = this.#deflate
    this.#queue(size, (done) =>
      fetch((payload) => {
        if (deflate === undefined || !this.#isWorthIt(payload.length, compress)) {
          done(() => this.#writeMessage(opcode, payload, undefined))
        } else {
          deflate.compressLater(payload, (compressed) => done(() => this.#writeMessage(opcode, payload, compressed)))
        }
      }),
    )
  }

  /** Gives up what waits. */
  cancel(): void {
    const outbox = this.#outbox
    this.#outbox = undefined
    outbox?.clear()
  }

  #isWorthIt(length: number, compress: boolean | undefined): boolean {
    const { threshold, evenIfLarger } = this.#deflate!.profile
    return (length > 0 || evenIfLarger) && (compress ?? length >= threshold)
  }

  /** The threshold is in bytes, which a text has up to three times as many of. */
  #isTextWorthIt(text: string, compress: boolean | undefined): boolean {
    if (this.#isWorthIt(text.length, compress)) return true
    return this.#isWorthIt(text.length * 3, compress) && this.#isWorthIt(Buffer.byteLength(text), compress)
  }

  #sendMessage(opcode: Opcode, payload: Uint8Array, compress: boolean | undefined): void {
    const deflate = this.#deflate
    if (deflate === undefined || !this.#isWorthIt(payload.length, compress)) {
      this.#inOrder(payload.length, () => this.#writeFrame(firstByte(opcode, true, false), payload))
    } else if (isCompressedAtOnce(payload)) {
      const write = (): void => this.#writeMessage(opcode, payload, deflate.compress(payload))
      const { defer } = this.#options
      // What waits for a message before it comes in a later turn as it is; together they leave in one write.
      const isLater = this.#outbox !== undefined && ++this.#deferred < COMPRESSED_IN_ONE_GO
      if (defer === undefined || isLater) this.#inOrder(payload.length, write)
      else {
        this.#deferred = 0
        this.#queue(payload.length, (done) => defer(() => done(write)))
      }
    } else {
      this.#queue(payload.length, (done) => {
        deflate.compressLater(payload, (compressed) => done(() => this.#writeMessage(opcode, payload, compressed)))
      })
    }
  }

  #writeMessage(opcode: Opcode, payload: Uint8Array, compressed: Buffer | undefined): void {
    this.#writeFrame(firstByte(opcode, true, compressed !== undefined), compressed ?? payload)
  }

  #appendPrepared(message: PreparedMessage, frame: Buffer, deflate: MessageDeflate): void {
    if (frame !== message.plain) deflate.noteSent(message.payload)
    this.#host.append(frame)
  }

  /** Now, or behind what waits. */
  #inOrder(bytes: number, action: () => void): void {
    if (this.#outbox === undefined) action()
    else this.#queue(bytes, (done) => done(action))
  }

  /** Begins `work` when everything before it is out; its result is sent unless the rest was given up meanwhile. */
  #queue(
    bytes: number,
    work: (done: (action: () => void) => void, isCurrent: () => boolean) => void,
    cancel?: () => void,
  ): void {
    const outbox = (this.#outbox ??= new Outbox(() => this.#emptied()))
    outbox.push({
      bytes,
      run: (done) => {
        const isCurrent = (): boolean => this.#outbox === outbox
        work((action) => {
          if (!isCurrent()) return
          action()
          done()
        }, isCurrent)
      },
      ...(cancel === undefined ? {} : { cancel }),
    })
  }

  #emptied(): void {
    const { mostBytes } = this.#outbox!
    this.#outbox = undefined
    this.#host.onQueueEmpty(mostBytes)
  }

  #writeFrame(first: number, payload: Uint8Array, masked?: boolean): void {
    const sink = this.#host
    const maskingKey = this.#nextMaskingKey(masked)
    if (payload.byteLength <= COPIED_BYTES) {
      const at = sink.reserve(MAX_HEADER_BYTES + payload.byteLength)
      sink.commit(writeFrame(sink.area, at, first, payload, maskingKey))
    } else if (maskingKey === undefined) {
      const at = sink.reserve(MAX_HEADER_BYTES)
      sink.commit(writeHeader(sink.area, at, first, payload.byteLength, undefined))
      sink.append(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength))
    } else {
      const bytes = Buffer.allocUnsafe(headerSize(payload.byteLength, true) + payload.byteLength)
      writeFrame(bytes, 0, first, payload, maskingKey)
      sink.append(bytes)
    }
  }

  /** §5.3: "a client MUST mask all frames that it sends", each with a fresh key. */
  #nextMaskingKey(masked?: boolean): number | undefined {
    const options = this.#options
    if (!(masked ?? options.role === 'client')) return undefined
    return options.nextMaskingKey === undefined ? randomMaskingKey() : options.nextMaskingKey()
  }
}
