import { ChildProcess } from 'node:child_process'
import cluster, { type Worker as ClusterWorker } from 'node:cluster'
import { type BroadcastChannel, isMainThread, type Worker } from 'node:worker_threads'
import { UsageError } from '../../errors.ts'
import { reportError } from '../../handlers.ts'
import { checkOptions } from '../../options.ts'
import { ChildLine, type Line, type LineListener, openChannel, ThreadLine } from './lines.ts'
import { hasExchange, setExchange } from './local.ts'
import { Participant } from './participant.ts'
import { Switchboard } from './switchboard.ts'
import {
  CALLING_CHANNEL,
  type Call,
  formatMessage,
  type MemberItem,
  parseCall,
  parseMemberItem,
  parseMessage,
} from './wire.ts'

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

/** How often it is looked for threads that are not heard of any more, in milliseconds. */
const CHECK_MS = 2_000
/** A thread that has left out so many pings is not there any more. */
const MISSING_PINGS = 4

/** A process, or a line to a thread, with the members at the other end. */
interface Station {
  readonly name: string
  readonly line: Line
  readonly participants: Map<string, Participant>
}

/** The station of a member in a thread. */
interface ThreadStation extends Station {
  readonly call: Call
  heardAt: number
}

/**
 * Starts what the members of a backplane on one machine need: in the primary process of node:cluster, or in whatever
 * process starts the others or makes the threads; in its main thread. There is one exchange in a process. It has no
 * sockets, and does not keep the process alive.
 *
 * Threads and workers of node:cluster take part by themselves; for processes that are started with `fork` of
 * node:child_process see `Exchange.add`.
 *
 * @throws UsageError `ERR_SERVER_STATE` when there is one already, and in a thread; `ERR_OPTION` for options that cannot be.
 */
export function startExchange(options: ExchangeOptions = {}): Exchange {
  checkOptions(options, ['maxBacklogBytes', 'error'])
  const { maxBacklogBytes = DEFAULT_MAX_BACKLOG_BYTES } = options
  if (typeof maxBacklogBytes !== 'number' || !(maxBacklogBytes >= 1)) {
    throw new UsageError('ERR_OPTION', 'the option maxBacklogBytes must be a number from 1')
  }
  if (hasExchange()) throw new UsageError('ERR_SERVER_STATE', 'this process has an exchange already')
  if (!isMainThread) throw new UsageError('ERR_SERVER_STATE', 'the exchange must be started in the main thread')
  const exchange = new Exchange(options)
  setExchange(true)
  return exchange
}

/** What `startExchange` gives. */
export class Exchange {
  readonly #options: ExchangeOptions
  readonly #switchboard = new Switchboard()
  readonly #processes = new Map<ChildProcess, Station>()
  /** By member. */
  readonly #threads = new Map<string, ThreadStation>()
  /** Threads of which the end is heard, by their ids. */
  readonly #workers = new Map<number, { readonly worker: Worker; readonly ended: () => void }>()
  readonly #calls: BroadcastChannel
  readonly #check: NodeJS.Timeout
  #closing: Promise<void> | undefined
  readonly #forked = (worker: ClusterWorker): void => this.#addProcess(worker.process)
  readonly #threadMade = (worker: Worker): void => this.#watch(worker)

  /** @internal Made by `startExchange`. */
  constructor(options: ExchangeOptions) {
    this.#options = options
    for (const worker of Object.values(cluster.workers ?? {})) if (worker !== undefined) this.#forked(worker)
    cluster.on('fork', this.#forked)
    process.on('worker', this.#threadMade)
    this.#calls = openChannel(CALLING_CHANNEL, (call) => this.#answerCall(call))
    this.#check = setInterval(() => this.#dropSilentThreads(), CHECK_MS).unref()
  }

  /** How many servers and publishers have joined, in all processes and threads. */
  get members(): number {
    let count = 0
    for (const { participants } of this.#stations()) count += participants.size
    return count
  }

  /** How many channels somebody has subscribed to: the topics, and one for everything that is broadcast. */
  get channels(): number {
    return this.#switchboard.channels
  }

  /**
   * Lets a process take part that `fork` of node:child_process has started, until it ends.
   *
   * @throws UsageError `ERR_OPTION` for anything else.
   */
  add(child: ChildProcess): void {
    if (!(child instanceof ChildProcess) || typeof child.send !== 'function') {
      throw new UsageError('ERR_OPTION', 'what is added must be a process that was started with fork')
    }
    if (this.#closing === undefined) this.#addProcess(child)
  }

  /** Ends it. The members are told, and are by themselves until there is another exchange. */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    setExchange(false)
    cluster.off('fork', this.#forked)
    process.off('worker', this.#threadMade)
    this.#calls.close()
    clearInterval(this.#check)
    for (const { worker, ended } of this.#workers.values()) worker.off('exit', ended)
    this.#workers.clear()
    const stations = [...this.#stations()]
    const participants = stations.flatMap((station) => [...station.participants.values()])
    await Promise.all(participants.map((participant) => participant.dismiss(CLOSE_MS)))
    for (const station of stations) this.#end(station)
    this.#processes.clear()
    this.#threads.clear()
    this.#switchboard.close()
  }

  *#stations(): Iterable<Station> {
    yield* this.#processes.values()
    yield* this.#threads.values()
  }

  #end(station: Station): void {
    for (const id of [...station.participants.keys()]) this.#leave(station, id)
    station.line.close()
  }

  // ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #addProcess(child: ChildProcess): void {
    if (this.#processes.has(child) || !child.connected) return
    const listener: LineListener = {
      receive: (message) => this.#receive(station, message),
      ended: () => {
        this.#end(station)
        this.#processes.delete(child)
      },
    }
    const line = new ChildLine(child, listener)
    const station: Station = { name: `the process ${child.pid}`, line, participants: new Map() }
    this.#processes.set(child, station)
  }

  // ── threads ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #answerCall(message: unknown): void {
    const call = parseCall(message)
    if (call === undefined) return
    const { member, threadId } = call
    this.#endThread(this.#threads.get(member))
    const receive = (message: unknown): void => {
      station.heardAt = performance.now()
      this.#receive(station, message)
      if (station.participants.size === 0) this.#endThread(station)
    }
    const station: ThreadStation = {
      name: `the thread ${threadId}`,
      line: new ThreadLine('exchange', call.line, { receive }),
      participants: new Map(),
      call,
      heardAt: performance.now(),
    }
    this.#threads.set(member, station)
  }

  #endThread(station: ThreadStation | undefined): void {
    if (station === undefined) return
    this.#end(station)
    const { member } = station.call
    if (this.#threads.get(member) === station) this.#threads.delete(member)
  }

  /** Its end is the end of its members. A listener for anything else would keep a thread alive that is not to be. */
  #watch(worker: Worker): void {
    const { threadId } = worker
    const ended = (): void => {
      this.#workers.delete(threadId)
      // What it has sent before may still be there to be read.
      setImmediate(() => {
        for (const station of this.#threads.values()) if (station.call.threadId === threadId) this.#endThread(station)
      })
    }
    worker.once('exit', ended)
    this.#workers.set(threadId, { worker, ended })
  }

  /** Of other threads the end is not heard: those that were there before, and those that other threads have made. */
  #dropSilentThreads(): void {
    const now = performance.now()
    for (const station of this.#threads.values()) {
      const { threadId, pingIntervalMs } = station.call
      const isWatched = threadId === 0 || this.#workers.has(threadId)
      const patienceMs = Math.max(pingIntervalMs * MISSING_PINGS, CHECK_MS)
      if (!isWatched && pingIntervalMs > 0 && now - station.heardAt > patienceMs) this.#endThread(station)
    }
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

  #report(error: Error): void {
    const { error: handler } = this.#options
    reportError(error, handler && ((reported) => this.#options.error?.(reported)))
  }
}
