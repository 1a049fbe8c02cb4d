import type { ChildProcess } from 'node:child_process'
import { BroadcastChannel } from 'node:worker_threads'
import type { Encoding } from './wire.ts'

/*
 * Lines between a member and the exchange: the IPC channel of a process, which is not ours alone, or a channel between
 * threads, which is.
 */

/** One end of a line. */
export interface Line {
  /** How bytes are sent; undefined where that has to be found out. */
  readonly encoding: Encoding | undefined
  /** Whether the listener is told when the other side is gone. */
  readonly tellsEnd: boolean
  /** Sends a message. `sent` is called when the other side, or the system, has it, in the order of the messages; or with an error. */
  send(message: object, sent: (error: Error | null) => void): void
  /** Lets go of it; nothing more is heard. */
  close(): void
}

/** Who listens at one end. */
export interface LineListener {
  /** Anything that arrives. */
  receive(message: unknown): void
  /** The other side is gone; see `tellsEnd`. */
  ended(): void
}

/** What goes over the line of a thread beside messages: its other end is there, and has got a message. */
const READY = 0
const RECEIVED = 1

/**
 * A line between two threads, or within one: a channel with a name that nobody else has. The member opens it, and calls;
 * the exchange opens the other end. What is sent before that waits. Each end tells of every message that it gets, so that it
 * is known what waits there.
 */
export class ThreadLine implements Line {
  readonly encoding = 'own memory'
  readonly tellsEnd = false
  readonly #channel: BroadcastChannel
  readonly #listener: Pick<LineListener, 'receive'>
  /** What waits for the other end; undefined when that is there. */
  #early: object[] | undefined
  /** One for each message that is under way. */
  readonly #sent: ((error: Error | null) => void)[] = []
  #isClosed = false

  constructor(side: 'member' | 'exchange', name: string, listener: Pick<LineListener, 'receive'>) {
    this.#listener = listener
    this.#channel = openChannel(name, (message) => this.#receive(message))
    if (side === 'member') this.#early = []
    else this.#channel.postMessage(READY)
  }

  send(message: object, sent: (error: Error | null) => void): void {
    if (this.#isClosed) {
      process.nextTick(sent, new Error('the line is closed'))
      return
    }
    this.#sent.push(sent)
    if (this.#early === undefined) this.#channel.postMessage(message)
    else this.#early.push(message)
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#channel.close()
    for (const sent of this.#sent.splice(0)) sent(new Error('the line is closed'))
  }

  #receive(message: unknown): void {
    if (this.#isClosed) return
    if (message === READY) {
      const early = this.#early ?? []
      this.#early = undefined
      for (const waiting of early) this.#channel.postMessage(waiting)
    } else if (message === RECEIVED) {
      this.#sent.shift()?.(null)
    } else {
      // Before, as it may be the last one.
      this.#channel.postMessage(RECEIVED)
      this.#listener.receive(message)
    }
  }
}

/** A channel to all threads of this process that have one with the same name; it does not keep the thread alive. */
export function openChannel(name: string, receive: (message: unknown) => void): BroadcastChannel {
  const channel = new BroadcastChannel(name)
  channel.onmessage = ({ data }: { readonly data: unknown }) => receive(data)
  channel.unref()
  return channel
}

/** The channel of this process to the one that has started it. All members of the process share its listeners. */
export class ParentLine implements Line {
  static readonly #listeners = new Set<LineListener>()
  readonly encoding = undefined
  readonly tellsEnd = true
  readonly #listener: LineListener

  constructor(listener: LineListener) {
    this.#listener = listener
    if (ParentLine.#listeners.size === 0) {
      process.on('message', ParentLine.#receive)
      process.on('disconnect', ParentLine.#end)
      // Two listeners that nobody waits for; Node counts them to know whether the channel keeps the process alive.
      for (let count = 0; count < 2; count++) listenerCounter()?.unrefCounted?.()
    }
    ParentLine.#listeners.add(listener)
  }

  static readonly #receive = (message: unknown): void => {
    for (const listener of [...ParentLine.#listeners]) listener.receive(message)
  }

  static readonly #end = (): void => {
    for (const listener of [...ParentLine.#listeners]) listener.ended()
  }

  send(message: object, sent: (error: Error | null) => void): void {
    sendByIpc(process, message, sent)
  }

  close(): void {
    if (!ParentLine.#listeners.delete(this.#listener) || ParentLine.#listeners.size > 0) return
    for (let count = 0; count < 2; count++) listenerCounter()?.refCounted?.()
    process.off('message', ParentLine.#receive)
    process.off('disconnect', ParentLine.#end)
  }
}

/** The channel of a process that this one has started. */
export class ChildLine implements Line {
  readonly encoding = undefined
  readonly tellsEnd = true
  readonly #child: ChildProcess
  readonly #receive: (message: unknown) => void
  readonly #end: () => void

  constructor(child: ChildProcess, listener: LineListener) {
    this.#child = child
    this.#receive = (message) => listener.receive(message)
    this.#end = () => {
      this.close()
      listener.ended()
    }
    child.on('message', this.#receive)
    child.on('disconnect', this.#end)
  }

  send(message: object, sent: (error: Error | null) => void): void {
    sendByIpc(this.#child, message, sent)
  }

  close(): void {
    this.#child.off('message', this.#receive)
    this.#child.off('disconnect', this.#end)
  }
}

/** What Node has beside `ref` and `unref`: those would decide for the listeners of others, too. */
function listenerCounter(): { refCounted?(): void; unrefCounted?(): void } | null | undefined {
  return process.channel as object | null | undefined
}

function sendByIpc(
  channel: Pick<NodeJS.Process, 'send'> | ChildProcess,
  message: object,
  sent: (error: Error | null) => void,
): void {
  try {
    // With a callback, errors come by it, and not as an event. What it returns says nothing that the callback does not.
    channel.send?.(message, undefined, undefined, sent)
  } catch (error) {
    process.nextTick(sent, error as Error)
  }
}
