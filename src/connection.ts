import type { Duplex } from 'node:stream'
import { batch } from './batch.ts'
import { CloseCode } from './constants.ts'
import { type Data, toBytes } from './data.ts'
import { type ProtocolError, UsageError, WebSocketError } from './errors.ts'
import { callHandler, isPromise } from './handlers.ts'
import { Inbox, type Message } from './inbox.ts'
import { escapeText, type Position } from './marks.ts'
import {
  closedError,
  type IncomingMessage,
  MessageIntake,
  type MessageStream,
  type SendStreamOptions,
  writeMessage,
} from './message-streams.ts'
import { Output, UNFLUSHED_BYTES } from './output.ts'
import { PingLedger } from './pings.ts'
import { PreparedMessage } from './prepared.ts'
import { type CloseEvent, type ProtocolOptions, type ProtocolState, WebSocketProtocol } from './protocol.ts'
import type { ConnectionTopics, PublishResult, SendOptions, SubscribeOptions } from './publishing.ts'
import { findRepeated, forgetReceiver } from './repeats.ts'
import type { SocketOrigin } from './socket-origin.ts'
import { adopt, GONE, isAlone } from './socket-peer.ts'
import { type Few, namesOf, type Topic, type TopicMember } from './topics.ts'

export { type Data, toBytes } from './data.ts'

/** What happens to a client whose buffer is full. */
export type SlowConsumerPolicy = 'close' | 'drop'

/** Limits and times of a connection, complete and in the units of the sweep that calls `tick`. */
export interface ConnectionSettings extends ProtocolOptions {
  readonly maxBufferedBytes: number
  readonly slowConsumer: SlowConsumerPolicy
  /** Ticks of silence before a ping; 0 for no heartbeat. */
  readonly pingTicks: number
  /** Ticks of silence behind the ping before the peer counts as gone. */
  readonly pongTicks: number
  /** Ticks that the closing handshake may take. */
  readonly closeTicks: number
  readonly pongTimeoutMs: number
  readonly closeTimeoutMs: number
}

/** What the user wants to be told of a connection. One set serves all connections of a server. */
export interface ConnectionHandlers<UserData> {
  /**
   * A whole message: a text as string, binary as `Buffer`, which is yours; but other messages may be in the same memory,
   * so transfer a copy rather than its `buffer`. When it returns a promise, the next message of this client waits for it;
   * whatever else it returns has no meaning.
   */
  message?(client: WebSocketConnection<UserData>, data: Message): unknown
  /**
   * Instead of `message`: a message has begun, and is read piece by piece, so that it may have any length. It has to be
   * read or cancelled, or the peer is held back. When it returns a promise, the next message of this client waits for it.
   * Without `maxMessageBytes` and `maxFragments` there is no limit of their kind.
   */
  messageStream?(client: WebSocketConnection<UserData>, message: MessageStream): unknown
  /** What waited for a slow client has left; `bufferedBytes` is 0 again. */
  drain?(client: WebSocketConnection<UserData>): void
  /** The connection has ended; called once, behind its last message. */
  close?(client: WebSocketConnection<UserData>, event: CloseEvent): void
  /**
   * Something went wrong: an exception in a handler of yours (without this handler it becomes a process warning), or a
   * peer that broke the protocol (`ProtocolError`).
   */
  error?(error: Error, client?: WebSocketConnection<UserData>): void
}

/** The server or client that a connection belongs to. */
export interface ConnectionOwner<UserData> {
  readonly settings: ConnectionSettings
  readonly handlers: ConnectionHandlers<UserData>
  /** TCP is gone. */
  connectionEnded(connection: WebSocketConnection<UserData>): void
  /** The server is closing, and cuts by itself whoever does not close in time. */
  readonly closing?: boolean
  /** An exception in a handler. */
  report(error: unknown, connection: WebSocketConnection<UserData>): void
  /** Where topics are kept: at a server. */
  readonly topics?: ConnectionTopics<WebSocketConnection<UserData>>
}

/** What a connection is made from. */
export interface ConnectionInit<UserData> {
  readonly socket: Duplex
  readonly from: SocketOrigin
  readonly owner: ConnectionOwner<UserData>
  /** Default: the owner's settings. Others where compression was agreed on. */
  readonly protocol?: ProtocolOptions | undefined
  readonly id: string
  readonly data: UserData
  readonly path: string
  readonly subprotocol: string
}

/** Why a peer is not read for a while; any of them is enough. */
const Hold = { USER: 1, INBOX: 2, OUTPUT: 4, INFLATE: 8, READER: 16 } as const

/** A peer that leaves this much of its answers unread is not read either. */
const UNREAD_BYTES = 1_048_576
/** A slow peer shows progress in steps of the kernel's send buffer, a megabyte and more: it gets this many times as long. */
const BACKLOG_PATIENCE = 4

/**
 * One WebSocket connection: a client of a server, or what `connect` gives. It joins the protocol to a socket, and adds
 * what needs one: time, backpressure in both directions, delivery in order.
 */
export class WebSocketConnection<UserData = unknown> {
  /** Unique among the connections of this process and, being random, of others. */
  readonly id: string
  /** Yours: what `authorize` has given, or whatever you set. */
  data: UserData
  /** Path of the request that opened the connection, without its query. */
  readonly path: string
  /** The subprotocol that was agreed on (RFC 6455 §1.9), '' for none. */
  readonly subprotocol: string
  /** @internal */
  readonly from: SocketOrigin
  /** Round-trip time of the last ping that was answered, in milliseconds; undefined before the first. */
  latencyMs: number | undefined = undefined
  /** @internal Set where messages are handed on piece by piece. */
  readonly pieceHandler: MessageIntake | undefined

  #socket: Duplex
  readonly #output: Output
  readonly #owner: ConnectionOwner<UserData>
  readonly #protocol: WebSocketProtocol
  /** Set while messages cannot be handed on at once. */
  #inbox: Inbox<Message | IncomingMessage> | undefined = undefined
  #pings: PingLedger | undefined = undefined
  /** Bits of `Hold`. */
  #holds = 0
  /** @internal The topics that it is in; see topics.ts. */
  memberships: Few<Topic<TopicMember>> = undefined
  /** @internal Set for a client that wants to go on where it was: by topic, the last message that it has. */
  positions: Map<string, Position> | undefined = undefined
  /** While open: ticks since the peer last gave a sign of life. Later: ticks since closing began. */
  #ticks = 0

  /** @internal Connections are made by `WebSocketServer` and `connect`. */
  constructor(init: ConnectionInit<UserData>) {
    this.id = init.id
    this.data = init.data
    this.path = detach(init.path)
    this.subprotocol = init.subprotocol
    this.from = init.from
    this.#socket = init.socket
    this.#output = new Output(init.socket, this)
    this.#owner = init.owner
    this.pieceHandler = init.owner.handlers.messageStream === undefined ? undefined : new MessageIntake(this)
    this.#protocol = new WebSocketProtocol(init.protocol ?? init.owner.settings, this)
  }

  // ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Where the connection stands; messages can be sent while it is `open`. */
  get state(): ProtocolState {
    return this.#protocol.state
  }

  /**
   * Address of the peer; IPv4 also where it came as IPv4-mapped IPv6. Of a client of a loopback address that had
   * gone before anybody asked: the address that the server listens on.
   */
  get remoteAddress(): string {
    return this.from.remoteAddress
  }

  /**
   * Bytes, framing included, that were accepted and that the kernel has not taken yet. Up to 16 KiB of it may merely
   * wait for the end of the tick; from there on it is not 0 before `drain` has been called.
   */
  get bufferedBytes(): number {
    if (this.#output.unsentBytes >= UNFLUSHED_BYTES) this.#output.flush()
    return this.#unsentBytes
  }

  get #unsentBytes(): number {
    return this.#output.unsentBytes + this.#protocol.queuedBytes
  }

  /** Whether messages are compressed (RFC 7692): both sides have agreed on it. */
  get compressed(): boolean {
    return this.#protocol.compressed
  }

  // ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends a message: a string as text (lone surrogates become U+FFFD), bytes as binary. Never throws for a peer that is
   * gone. Binary above 16 KiB is not copied: do not change it before `flushed()` resolves.
   *
   * @returns false when the message was not accepted: the connection is not open, or `maxBufferedBytes` is reached
   *   (what follows then is the option `slowConsumer`).
   * @throws UsageError `ERR_DATA_TYPE` for anything but a string, a `Uint8Array`, an `ArrayBuffer`, or what `prepare` gives.
   */
  send(data: Data | PreparedMessage, options?: SendOptions): boolean {
    const compress = options?.compress
    if (data instanceof PreparedMessage) return this.sendPrepared(data)
    const message = typeof data === 'string' ? this.#escape(data) : toBytes(data)
    if (this.#protocol.state !== 'open' || !this.#hasRoom(message)) return false
    // An answer is none of many.
    const isAnswer = batch.receiver === this
    const repeated = isAnswer || !this.#sharesFrames ? undefined : findRepeated(message, this)
    if (repeated !== undefined) this.#protocol.sendPrepared(repeated)
    else if (typeof message === 'string') this.#protocol.sendText(message, compress)
    else this.#protocol.sendBinary(message, compress)
    return true
  }

  /** A message that goes to many connections can be one frame: it is neither masked nor compressed. */
  get #sharesFrames(): boolean {
    return this.#owner.settings.role === 'server' && !this.#protocol.compressed
  }

  /** @internal Sends a message that was prepared for several connections, and a mark before it. */
  sendPrepared(given: PreparedMessage, mark?: PreparedMessage): boolean {
    if (this.#protocol.state !== 'open' || !this.#hasRoom(given.plain)) return false
    const message = this.positions === undefined ? given : given.escaped
    if (mark !== undefined && this.positions !== undefined) this.#protocol.sendPrepared(mark)
    if (this.#owner.settings.role === 'server') this.#protocol.sendPrepared(message)
    else this.#protocol.sender.sendPayload(message.opcode, message.payload, message.compress)
    return true
  }

  /** @internal Sends a mark by itself. */
  sendMark(mark: string): void {
    if (this.positions !== undefined && this.#protocol.state === 'open') this.#protocol.sendText(mark)
  }

  #escape(text: string): string {
    return this.positions === undefined ? text : escapeText(text)
  }

  /** Whether this may be buffered as well; if not, the policy for slow consumers has been applied. */
  #hasRoom(data: string | Uint8Array): boolean {
    // While the socket takes everything, what waits is bounded by the batch.
    const output = this.#output
    if (!output.congested && data.length <= UNFLUSHED_BYTES && this.#protocol.queuedBytes === 0) return true
    const { maxBufferedBytes, slowConsumer } = this.#owner.settings
    // To count the bytes of a text takes as long as to encode it, and three for each unit mostly fit as well.
    const most = typeof data === 'string' ? data.length * 3 : data.length
    if (this.#unsentBytes + most <= maxBufferedBytes) return true
    const size = typeof data === 'string' ? Buffer.byteLength(data) : data.length
    output.flush()
    const unsent = this.#unsentBytes
    // A message of any size may go to a peer that keeps up: what bounds it is the sender.
    if (unsent === 0 || unsent + size <= maxBufferedBytes) return true
    output.notice()
    if (slowConsumer === 'close') {
      // Closing means that nothing follows the gap.
      this.#protocol.fail(CloseCode.TRY_AGAIN_LATER, 'the client reads too slowly')
    }
    return false
  }

  /**
   * Sends one message piece by piece: each chunk that is written goes out as a fragment (RFC 6455 §5.4), to close it ends
   * the message. A write takes as long as the peer makes it wait; its bytes must not change before. Text takes strings,
   * or bytes that are valid UTF-8; binary takes bytes. Whatever is sent from now on waits behind this message, and counts
   * in `bufferedBytes`.
   *
   * A message that has begun cannot be taken back: to abort it, or a chunk that cannot be sent (`UsageError`
   * `ERR_DATA_TYPE`), fails the connection with 1011. The stream fails with `WebSocketError` `ERR_CONNECTION_CLOSED` when
   * the connection is not open, or ends before.
   *
   * @throws UsageError `ERR_OPTION` when the type is neither `text` nor `binary`.
   */
  sendStream(options: SendStreamOptions): WritableStream<Data> {
    return writeMessage(this.#protocol, this.#output, options, this.positions !== undefined)
  }

  /**
   * Resolves when everything accepted so far is in the kernel's hands.
   *
   * @throws WebSocketError `ERR_CONNECTION_CLOSED` when the connection ends before.
   */
  async flushed(): Promise<void> {
    if (this.#protocol.sender.isWaiting) await this.#sent()
    this.#output.flush()
    if (this.#output.congested) return this.#output.wait()
    if (!this.#socket.writable) throw closedError()
  }

  /** Resolves when everything accepted so far is on its way to the socket. */
  #sent(): Promise<void> {
    return new Promise((resolve, reject) => this.#protocol.whenSent(resolve, () => reject(closedError())))
  }

  /**
   * Resolves when the peer's WebSocket implementation has received everything accepted so far: a ping behind it was
   * answered (RFC 6455 §5.5.2). That the application has handled it is for the application to say.
   *
   * @param options.timeoutMs how long to wait; default `pongTimeoutMs`.
   * @throws WebSocketError `ERR_DELIVERY_TIMEOUT`, or `ERR_CONNECTION_CLOSED` when the connection is not open or ends before.
   */
  delivered(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    if (this.state !== 'open') return Promise.reject(closedError())
    const timeoutMs = options.timeoutMs ?? this.#owner.settings.pongTimeoutMs
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pings?.forget(settle)
        reject(new WebSocketError('ERR_DELIVERY_TIMEOUT', `the peer did not answer within ${timeoutMs} ms`))
      }, timeoutMs)
      const settle = (error?: WebSocketError): void => {
        clearTimeout(timer)
        error === undefined ? resolve() : reject(error)
      }
      // Behind messages that wait, though a ping could overtake them.
      this.#protocol.whenSent(
        () => this.#ping(settle),
        () => settle(closedError()),
      )
    })
  }

  /** Sends a Ping; its pong updates `latencyMs`. Returns false when the connection is not open. */
  ping(): boolean {
    if (this.state !== 'open') return false
    this.#ping()
    return true
  }

  #ping(settle?: (error?: WebSocketError) => void): void {
    this.#pings ??= new PingLedger()
    this.#protocol.sendPing(this.#pings.add(performance.now(), settle))
  }

  // ── topics ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Joins a topic: from now on this client gets what is published to it. A client of a server only; with its end it
   * leaves all its topics, before the `close` handler is called.
   *
   * @returns false when it is in the topic already, or not open.
   * @throws UsageError `ERR_TOPIC` for a name that cannot be one, or beyond `maxTopicsPerClient`; `ERR_SERVER_STATE` for a
   *   connection that is no client of a server.
   */
  subscribe(topic: string, options?: SubscribeOptions): boolean {
    return this.#topics.subscribe(this, topic, options)
  }

  /** Leaves a topic; what was published to it before still arrives. Returns false when it is not in the topic. */
  unsubscribe(topic: string): boolean {
    return this.#topics.unsubscribe(this, topic)
  }

  /** The names of the topics that it is in, as of now. */
  get topics(): ReadonlySet<string> {
    return namesOf(this)
  }

  /**
   * Publishes a message to a topic, as `server.publish` does, except to this client itself; it need not be in the topic.
   * Where there is a history everybody gets everything, this client too.
   *
   * @throws UsageError as `server.publish` does.
   */
  publish(topic: string, data: Data | PreparedMessage, options?: SendOptions): PublishResult {
    return this.#topics.publishFrom(this, topic, data, options)
  }

  get #topics(): ConnectionTopics<WebSocketConnection<UserData>> {
    const { topics } = this.#owner
    if (topics === undefined) throw new UsageError('ERR_SERVER_STATE', 'topics are for the clients of a server')
    return topics
  }

  // ── receiving ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Stops reading: no message is delivered, and TCP holds the peer back once the kernel's buffers are full. */
  pause(): void {
    this.#hold(Hold.USER)
  }

  /** Ends `pause`. */
  resume(): void {
    this.#release(Hold.USER)
    if (this.#inbox !== undefined) this.#deliverWaiting()
  }

  /**
   * The messages, where no `message` handler is given; the peer is held back while they are not read. The iteration
   * ends when the connection closes, with a `WebSocketError` `ERR_CONNECTION_CLOSED` if it did not close cleanly.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message, undefined> {
    if (this.#owner.handlers.message !== undefined || this.pieceHandler !== undefined) {
      throw new UsageError('ERR_ITERATION', 'messages go to the message handler; leave it out to iterate over them')
    }
    const inbox = this.queueMessages()
    inbox.taken = true
    const iterator: AsyncIterableIterator<Message, undefined> = {
      next: async () => {
        const result = inbox.read()
        if (inbox.empty) this.#release(Hold.INBOX)
        return result
      },
      return: () => Promise.resolve({ done: true, value: undefined }),
      [Symbol.asyncIterator]: () => iterator,
    }
    return iterator
  }

  // ── closing ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Starts the closing handshake (RFC 6455 §7.1.2); what was accepted before is still sent. If the peer does not answer
   * within `closeTimeoutMs`, the connection is cut. Does nothing when the connection is closing already.
   *
   * @param code 1000 to 1003, 1007 to 1014 or 3000 to 4999; without one the Close frame is empty and the peer sees 1005.
   * @param reason at most 123 bytes of UTF-8.
   * @throws UsageError `ERR_CLOSE_ARGUMENT` for any other code, or a longer reason.
   */
  close(code?: number, reason?: string): void {
    const wasOpen = this.state === 'open'
    this.#protocol.close(code, reason)
    if (wasOpen) this.#ticks = 0
    this.#releaseAll()
  }

  /** Cuts the connection at once: nothing more is sent or delivered. The peer sees 1006. */
  terminate(): void {
    this.#protocol.abandon()
    this.#inbox?.clear()
    this.#socket.destroy()
  }

  // ── for the server, the client and the batch ──────────────────────────────────────────────────────────────────────

  /** @internal Takes over the socket, whose handshake is done; `rest` came behind it in the same packet. */
  start(rest: Buffer): void {
    adopt(this.#socket, this)
    // A peer that ends TCP without a Close frame has no use for what is left.
    this.#socket.allowHalfOpen = false
    // From an http server, which may be anybody's event: it is not ours to free.
    if (rest.length > 0) this.receive(rest, false)
    if (this.#holds === 0) this.#socket.resume()
  }

  /** @internal Runs a handler that may return a promise; messages wait for it. */
  runHandler(handler: () => unknown): void {
    try {
      const result = handler()
      if (isPromise(result)) this.#waitFor(result)
    } catch (error) {
      this.#handlerFailed(error)
    }
  }

  /** @internal From now on messages are kept until they are read. */
  queueMessages(): Inbox {
    this.#inbox ??= new Inbox()
    this.#inbox.iterated = true
    // Nothing else gets into one that is iterated over.
    return this.#inbox as Inbox<never>
  }

  /** @internal Bytes from the socket. */
  receive(chunk: Buffer, isOurs: boolean = isAlone(chunk, this.#socket)): void {
    if (this.#protocol.state === 'open') this.#ticks = 0
    batch.beginChunk(this)
    try {
      this.#protocol.receive(chunk, isOurs)
    } finally {
      batch.endChunk()
    }
  }

  /** @internal TCP is gone. */
  socketClosed(): void {
    if (this.#protocol.state === 'closed') return
    // What was received before is still delivered.
    if ((this.#holds & Hold.INFLATE) !== 0 && this.state !== 'draining') {
      // One that is read piece by piece may be read slowly, or not at all.
      if (this.pieceHandler !== undefined) setTimeout(() => this.#protocol.abandon(), this.#closeTimeoutMs).unref()
      return
    }
    const event = this.#protocol.receiveEnd()
    this.#output.close(closedError)
    this.#socket = GONE
    this.from.settle()
    forgetReceiver(this)
    this.#pings?.fail()
    this.#owner.connectionEnded(this)
    // Who reads a message that ends here is told so before the `close` handler is.
    if (this.pieceHandler?.end() === true && this.#inbox?.busy !== true) this.#waitFor(nextTurn())
    const inbox = this.#inbox
    if (inbox === undefined) {
      this.#tellClose(event)
      return
    }
    inbox.closeEvent = event
    // A handler that never ends must not keep the end of the connection from being told.
    if (inbox.busy) setTimeout(() => this.#giveUpWaiting(inbox), this.#closeTimeoutMs).unref()
    inbox.end(event.wasClean ? undefined : closedError())
    this.#deliverWaiting()
  }

  get #closeTimeoutMs(): number {
    return this.#owner.settings.closeTimeoutMs
  }

  /** @internal One step of the sweep: heartbeat and closing timeout. */
  tick(): void {
    const { pingTicks, pongTicks, closeTicks } = this.#owner.settings
    this.#ticks++
    if (this.state !== 'open') {
      const isWaitedFor = this.state === 'close-sent' && this.#owner.closing === true
      if (this.#ticks > closeTicks && !isWaitedFor) this.#socket.destroy()
      return
    }
    if (pingTicks === 0 || this.#isUnread()) this.#ticks = 0
    else if (this.#ticks === pingTicks) this.#ping()
    else if (this.#ticks > (pingTicks + pongTicks) * (this.#output.congested ? BACKLOG_PATIENCE : 1)) {
      this.#protocol.abandon('the peer did not answer a ping')
      this.terminate()
    }
  }

  /**
   * A peer that we do not read cannot give a sign of life. But one that does not read us could, and messages that nobody
   * has ever begun to read are no reason to wait.
   */
  #isUnread(): boolean {
    if (this.#output.congested) return false
    const ignored = this.#inbox?.iterated === true && !this.#inbox.taken
    return (this.#holds & (Hold.USER | Hold.READER)) !== 0 || ((this.#holds & Hold.INBOX) !== 0 && !ignored)
  }

  /** @internal A whole message, from the protocol; or one that has begun, where they are handed on piece by piece. */
  onMessage(message: Message | IncomingMessage): void {
    const inbox = this.#inbox
    if (inbox === undefined) {
      this.#deliver(message)
      return
    }
    inbox.push(message)
    if (inbox.full) this.#hold(Hold.INBOX)
  }

  /** @internal */
  onIntakeFull(): void {
    this.#hold(Hold.READER)
  }

  /** @internal */
  onIntakeRead(): void {
    this.#protocol.resumePieces()
    this.#release(Hold.READER)
  }

  /** @internal A message is being inflated elsewhere; those behind it wait. */
  onInflating(): void {
    this.#hold(Hold.INFLATE)
  }

  /** @internal */
  onInflated(): void {
    this.#release(Hold.INFLATE)
    if (this.#socket.closed) this.socketClosed()
  }

  /** @internal What had to wait for its compression has left: for whoever has seen it in `bufferedBytes`. */
  onQueueEmpty(bytes: number): void {
    if (bytes < UNFLUSHED_BYTES) return
    this.#output.flush()
    if (this.#output.congested) this.#output.notice()
    else this.outputDrained()
  }

  /** @internal */
  onPong(payload: Buffer): void {
    this.latencyMs = this.#pings?.answer(payload, performance.now()) ?? this.latencyMs
  }

  /** @internal */
  onViolation(error: ProtocolError): void {
    this.pieceHandler?.noteViolation(error)
    callHandler(
      () => this.#owner.handlers.error?.(error, this),
      (thrown) => this.#owner.report(thrown, this),
    )
  }

  /** @internal */
  onFailure(error: unknown): void {
    this.#handlerFailed(error)
  }

  /** @internal The protocol is through: TCP ends behind what is still to be sent. */
  onEnd(): void {
    this.#ticks = 0
    this.#output.end()
    this.pieceHandler?.end()
    this.#releaseAll()
    this.#release(Hold.READER)
  }

  /** @internal */
  flushNow(): boolean {
    return this.#output.flush()
  }

  /** @internal */
  get area(): Buffer {
    return this.#output.area
  }

  /** @internal */
  reserve(size: number): number {
    return this.#output.reserve(size)
  }

  /** @internal */
  commit(end: number): void {
    this.#output.commit(end)
  }

  /** @internal */
  append(bytes: Buffer): void {
    this.#output.append(bytes)
  }

  /** @internal A peer is held back well before its own unread answers would make a slow consumer of it. */
  get unreadMark(): number {
    return Math.min(UNREAD_BYTES, this.#owner.settings.maxBufferedBytes / 2)
  }

  /** @internal Only one end may wait for the other, or both would for ever. */
  outputUnread(): void {
    if (this.#owner.settings.role === 'server') this.#hold(Hold.OUTPUT)
  }

  /** @internal */
  outputRead(): void {
    this.#release(Hold.OUTPUT)
  }

  /** @internal A peer that takes what it is sent is alive. */
  outputProgressed(): void {
    if (this.state === 'open') this.#ticks = 0
  }

  /** @internal */
  outputFlushed(): void {
    this.#protocol.outputFlushed()
  }

  /** @internal */
  outputDrained(): void {
    if (this.state === 'draining') return
    callHandler(
      () => this.#owner.handlers.drain?.(this),
      (error) => this.#handlerFailed(error),
    )
  }

  /** @internal The peer has ended TCP, and `close` is about to come: nothing is accepted any more. */
  outputRefused(): void {
    // What was received before is still delivered.
    if ((this.#holds & Hold.INFLATE) === 0) this.#protocol.abandon()
  }

  // ── holding the peer back ─────────────────────────────────────────────────────────────────────────────────────────

  #hold(reason: number): void {
    if (this.state === 'draining' || this.state === 'closed') return
    if (this.#holds === 0) {
      this.#protocol.hold()
      this.#socket.pause()
    }
    this.#holds |= reason
  }

  #release(reason: number): void {
    if ((this.#holds & reason) === 0) return
    this.#holds &= ~reason
    if (this.#holds !== 0) return
    batch.beginChunk(this)
    try {
      this.#protocol.release()
    } finally {
      batch.endChunk()
    }
    if (this.#holds === 0) this.#socket.resume()
  }

  /** A connection that is ending must be read, or its end would never be seen. */
  #releaseAll(): void {
    this.#release(Hold.USER | Hold.INBOX | Hold.OUTPUT)
  }

  // ── delivery ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Returns whether the handler is still at work. */
  #deliver(message: Message | IncomingMessage): boolean {
    const handlers = this.#owner.handlers
    try {
      const result =
        this.pieceHandler === undefined
          ? handlers.message?.(this, message as Message)
          : handlers.messageStream!(this, (message as IncomingMessage).stream)
      if (!isPromise(result)) return false
      this.#waitFor(result)
      return true
    } catch (error) {
      this.#handlerFailed(error)
      return false
    }
  }

  #waitFor(promise: PromiseLike<unknown>): void {
    this.#inbox ??= new Inbox()
    this.#inbox.busy = true
    promise.then(
      () => this.#handlerDone(),
      (error) => {
        // That its message has failed is no failure of a handler that passes it on.
        if (this.pieceHandler?.isFailure(error) !== true) this.#handlerFailed(error)
        this.#handlerDone()
      },
    )
  }

  #handlerDone(): void {
    const inbox = this.#inbox!
    inbox.busy = false
    this.#deliverWaiting()
  }

  /** Hands on what waits, until a handler is busy again or nothing is left. */
  #deliverWaiting(): void {
    const inbox = this.#inbox!
    while (!inbox.busy && !inbox.iterated && (this.#holds & Hold.USER) === 0) {
      const message = inbox.shift()
      if (message === undefined) {
        this.#inbox = undefined
        this.#release(Hold.INBOX)
        break
      }
      // Busy also while the handler runs: one that calls resume() comes by here.
      inbox.busy = true
      inbox.busy = this.#deliver(message)
      // One that is handed on piece by piece: its handler may wait for what is yet to come of it.
      if (this.pieceHandler !== undefined && inbox.empty) this.#release(Hold.INBOX)
    }
    // Behind the last message, and behind what its handler does with it.
    if (!inbox.busy && (inbox.empty || inbox.iterated)) this.#tellWaitingClose(inbox)
  }

  /** The handler has had its time; what still waits for it is not delivered behind the close. */
  #giveUpWaiting(inbox: Inbox<Message | IncomingMessage>): void {
    if (inbox.closeEvent === undefined) return
    inbox.clear()
    this.#tellWaitingClose(inbox)
  }

  #tellWaitingClose(inbox: Inbox<Message | IncomingMessage>): void {
    const event = inbox.closeEvent
    if (event === undefined) return
    inbox.closeEvent = undefined
    this.#tellClose(event)
  }

  #handlerFailed(error: unknown): void {
    this.#protocol.fail(CloseCode.INTERNAL_ERROR, 'internal error')
    this.#inbox?.clear()
    this.#owner.report(error, this)
  }

  #tellClose(event: CloseEvent): void {
    callHandler(
      () => this.#owner.handlers.close?.(this, event),
      (error) => this.#owner.report(error, this),
    )
  }
}

/** A string that was cut out of a longer one holds on to it, unless it is too short for that to be worth while. */
function detach(text: string): string {
  return text.length < 13 ? text : Buffer.from(text, 'latin1').toString('latin1')
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
