import { ChildProcess } from 'node:child_process'
import cluster, { type Worker as ClusterWorker } from 'node:cluster'
import { MessageChannel, MessagePort, Worker } from 'node:worker_threads'
import { UsageError } from '../../errors.ts'
import { reportError } from '../../handlers.ts'
import { checkOptions } from '../../options.ts'
import { ChildLine, type Line, type LineListener, PortLine } from './lines.ts'
import { localExchange, setLocalExchange } from './local.ts'
import { Participant } from './participant.ts'
import { Switchboard } from './switchboard.ts'
import { formatMessage, type MemberItem, parseCall, parseMemberItem, parseMessage } from './wire.ts'

/** Options of `startExchange`. An unknown one is a `UsageError`. */
export interface ExchangeOptions {
  /**
   * Most bytes of messages that wait in this process for one member that does not read, such as a worker that is stopped.
   * What comes on top is dropped for that member, which is told so when it reads again. Default 64 MiB.
   */
  readonly maxBacklogBytes?: number | undefined
  /** A member has begun to miss messages. Default: a process warning. */
  error?(error: Error): void
}

const DEFAULT_MAX_BACKLOG_BYTES = 67_108_864
/** How long members may take to be told that it is over, in milliseconds. */
const CLOSE_MS = 1_000

/** A process, or a port, with the members at the other end. */
interface Station {
  readonly name: string
  readonly line: Line
  readonly participants: Map<string, Participant>
}

/**
 * Starts what the members of a backplane need that are processes and threads of this machine: in the primary process of
 * node:cluster, or in the thread that makes the others. There is one in a thread, and it does not keep the process alive.
 *
 * Workers of node:cluster take part whenever they were forked; threads when they were made behind this call. For others
 * see `Exchange.add`.
 *
 * @throws UsageError `ERR_SERVER_STATE` when there is one already, `ERR_OPTION` for options that cannot be.
 */
export function startExchange(options: ExchangeOptions = {}): Exchange {
  checkOptions(options, ['maxBacklogBytes', 'error'])
  const { maxBacklogBytes = DEFAULT_MAX_BACKLOG_BYTES } = options
  if (typeof maxBacklogBytes !== 'number' || !(maxBacklogBytes >= 1)) {
    throw new UsageError('ERR_OPTION', 'the option maxBacklogBytes must be a number from 1')
  }
  if (localExchange() !== undefined) throw new UsageError('ERR_SERVER_STATE', 'this thread has an exchange already')
  const exchange = new Exchange(options)
  setLocalExchange(exchange)
  return exchange
}

/** What `startExchange` gives. */
export class Exchange {
  readonly #options: ExchangeOptions
  readonly #switchboard = new Switchboard()
  readonly #stations = new Map<ChildProcess | MessagePort, Station>()
  /** Threads, each with the function that ends listening to it. */
  readonly #threads = new Map<Worker, () => void>()
  #closing: Promise<void> | undefined
  readonly #forked = (worker: ClusterWorker): void => this.#addChild(worker.process)
  readonly #threadMade = (worker: Worker): void => this.#addThread(worker)

  /** @internal Made by `startExchange`. */
  constructor(options: ExchangeOptions) {
    this.#options = options
    for (const worker of Object.values(cluster.workers ?? {})) if (worker !== undefined) this.#forked(worker)
    cluster.on('fork', this.#forked)
    process.on('worker', this.#threadMade)
  }

  /** How many servers and publishers have joined, in all processes and threads. */
  get members(): number {
    let count = 0
    for (const { participants } of this.#stations.values()) count += participants.size
    return count
  }

  /** How many channels somebody has subscribed to: the topics, and one for everything that is broadcast. */
  get channels(): number {
    return this.#switchboard.channels
  }

  /**
   * Lets a process or a thread take part that does not do so by itself: what `fork` of node:child_process gives, or a
   * `Worker` that was made before the exchange.
   *
   * @throws UsageError `ERR_OPTION` for anything else.
   */
  add(worker: ChildProcess | Worker): void {
    if (this.#closing !== undefined) return
    if (worker instanceof Worker) this.#addThread(worker)
    else if (worker instanceof ChildProcess && typeof worker.send === 'function') this.#addChild(worker)
    else throw new UsageError('ERR_OPTION', 'what is added must be a Worker, or a process with an IPC channel')
  }

  /**
   * A port to the exchange, for a thread that should send nothing over `parentPort`: hand it over in `workerData` and
   * `transferList`, and there give it to `nodeBackplane` as `exchangePort`.
   */
  openPort(): MessagePort {
    const { port1, port2 } = new MessageChannel()
    this.#addPort(port1, 'a thread')
    return port2
  }

  /** Ends it. The members are told, and are by themselves until there is another exchange. */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    setLocalExchange(undefined)
    cluster.off('fork', this.#forked)
    process.off('worker', this.#threadMade)
    for (const stopListening of this.#threads.values()) stopListening()
    this.#threads.clear()
    const stations = [...this.#stations.values()]
    const participants = stations.flatMap((station) => [...station.participants.values()])
    await Promise.all(participants.map((participant) => participant.dismiss(CLOSE_MS)))
    for (const station of stations) {
      station.line.close()
      this.#leaveAll(station)
    }
    this.#stations.clear()
    this.#switchboard.close()
  }

  // ── lines ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #addChild(child: ChildProcess): void {
    if (!this.#stations.has(child) && child.connected) {
      this.#open(child, `the process ${child.pid}`, (listener) => new ChildLine(child, listener))
    }
  }

  #addPort(port: MessagePort, name: string): void {
    this.#open(port, name, (listener) => new PortLine(port, listener))
  }

  /** A thread calls by its `parentPort`, and everything else goes over the port that comes with the call. */
  #addThread(worker: Worker): void {
    if (this.#threads.has(worker)) return
    const name = `the thread ${worker.threadId}`
    const receive = (message: unknown): void => {
      const port = parseCall(message)
      if (port instanceof MessagePort) this.#addPort(port, name)
    }
    const stopListening = (): void => {
      worker.off('message', receive)
      worker.off('exit', ended)
    }
    const ended = (): void => {
      stopListening()
      this.#threads.delete(worker)
    }
    worker.on('message', receive)
    worker.on('exit', ended)
    this.#threads.set(worker, stopListening)
  }

  #open(key: ChildProcess | MessagePort, name: string, openLine: (listener: LineListener) => Line): void {
    const station: Station = {
      name,
      line: openLine({
        receive: (message) => this.#receive(station, message),
        ended: () => {
          this.#leaveAll(station)
          this.#stations.delete(key)
        },
      }),
      participants: new Map(),
    }
    this.#stations.set(key, station)
  }

  // ── members ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #receive(station: Station, message: unknown): void {
    const parsed = parseMessage(message)
    if (parsed === undefined || this.#closing !== undefined) return
    const { member: id, items } = parsed
    for (const unknownItem of items) {
      const item = parseMemberItem(unknownItem)
      if (item === undefined) continue
      if (item[0] === 'join') this.#join(station, id, item)
      else if (item[0] === 'leave') this.#leave(station, id)
      else {
        const participant = station.participants.get(id)
        if (participant !== undefined) this.#switchboard.take(participant, item)
        // It has joined an exchange that was here before.
        else station.line.send(formatMessage(id, [['gone']]), () => {})
      }
    }
  }

  #join(station: Station, id: string, item: Extract<MemberItem, readonly ['join', ...unknown[]]>): void {
    const [, prefix, probe, channels] = item
    this.#leave(station, id)
    const { name, line } = station
    const { maxBacklogBytes = DEFAULT_MAX_BACKLOG_BYTES } = this.#options
    const lagging = (): void =>
      this.#report(new Error(`${name} does not read what it has subscribed to, and misses some`))
    const participant = new Participant({ line, id, prefix, probe, maxBacklogBytes, lagging })
    station.participants.set(id, participant)
    this.#switchboard.subscribe(participant, channels)
  }

  #leave(station: Station, id: string): void {
    const participant = station.participants.get(id)
    if (participant === undefined) return
    station.participants.delete(id)
    this.#switchboard.forget(participant)
  }

  #leaveAll(station: Station): void {
    for (const id of [...station.participants.keys()]) this.#leave(station, id)
  }

  #report(error: Error): void {
    const { error: handler } = this.#options
    reportError(error, handler && ((reported) => this.#options.error?.(reported)))
  }
}
