import type { ChildProcess } from 'node:child_process'
import type { MessagePort } from 'node:worker_threads'
import type { Encoding } from './wire.ts'

/*
 * Lines between a member and the exchange: the IPC channel of a process, which is not ours alone, or a port, which is.
 */

/** One end of a line. */
export interface Line {
  /** How bytes are sent; undefined where that has to be found out. */
  readonly encoding: Encoding | undefined
  /** Sends a message. `sent` is called when the other side, or the system, has it, in the order of the messages; or with an error. */
  send(message: object, sent: (error: Error | null) => void): void
  /** Lets go of it; nothing more is heard. */
  close(): void
}

/** Who listens at one end. */
export interface LineListener {
  /** Anything that arrives. */
  receive(message: unknown): void
  /** The other side is gone. */
  ended(): void
}

/** A port of our own. Its other end tells of each message that it has dealt with, so that it is known what waits there. */
export class PortLine implements Line {
  readonly encoding = 'own memory'
  readonly #port: MessagePort
  #isClosed = false
  /** One for each message that is under way. */
  readonly #sent: ((error: Error | null) => void)[] = []

  constructor(port: MessagePort, listener: LineListener) {
    this.#port = port
    port.on('message', (message: unknown) => {
      if (typeof message === 'number') {
        this.#sent.shift()?.(null)
        return
      }
      if (!this.#isClosed) listener.receive(message)
      port.postMessage(1)
    })
    port.once('close', () => {
      const isNews = !this.#isClosed
      this.#end()
      if (isNews) listener.ended()
    })
    // A listener on the port keeps the thread alive otherwise.
    port.unref()
  }

  send(message: object, sent: (error: Error | null) => void): void {
    if (this.#isClosed) {
      process.nextTick(sent, closedError())
      return
    }
    this.#sent.push(sent)
    this.#port.postMessage(message)
  }

  close(): void {
    this.#end()
    this.#port.close()
  }

  #end(): void {
    this.#isClosed = true
    for (const sent of this.#sent.splice(0)) sent(closedError())
  }
}

/** The channel of this process to the one that has started it. All members of the process share its listeners. */
export class ParentLine implements Line {
  static readonly #listeners = new Set<LineListener>()
  readonly encoding = undefined
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

function closedError(): Error {
  return new Error('the port is closed')
}
