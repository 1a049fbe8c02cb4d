import type { MessagePort } from 'node:worker_threads'
import type { PagePort } from '../../src/bridge.ts'

/*
 * A page behind a MessagePort; message-ports.ts has the other side. It knows nothing of tests, and so can run in a thread.
 */

/** What the main side is asked. */
export interface Invocation {
  readonly id: number
  readonly url: string
  readonly channel: string
  readonly values: readonly unknown[]
}

/** An answer has an id, what is sent has a channel. */
type Message =
  | { readonly id: number; readonly value?: unknown; readonly error?: string }
  | { readonly channel: string; readonly values: readonly unknown[] }

/** The side of a page, on its end of the channel. */
export class PortPage implements PagePort {
  readonly #port: MessagePort
  readonly #url: string
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  readonly #listeners = new Map<string, Set<(...values: unknown[]) => void>>()
  #lastId = 0

  constructor(port: MessagePort, url = 'app://app/index.html') {
    this.#port = port
    this.#url = url
    port.on('message', (message: Message) => this.#receive(message))
  }

  #receive(message: Message): void {
    if ('channel' in message) {
      for (const listener of this.#listeners.get(message.channel) ?? []) listener(...message.values)
      return
    }
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if (message.error === undefined) waiting?.resolve(message.value)
    else waiting?.reject(new Error(message.error))
  }

  invoke(channel: string, ...values: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId
      this.#port.postMessage({ id, url: this.#url, channel, values } satisfies Invocation)
      this.#waiting.set(id, { resolve, reject })
    })
  }

  on(channel: string, listener: (...values: unknown[]) => void): () => void {
    const all = this.#listeners.get(channel) ?? new Set()
    this.#listeners.set(channel, all.add(listener))
    return () => void all.delete(listener)
  }

  /** How many listen to what is sent. */
  get listenerCount(): number {
    return [...this.#listeners.values()].reduce((count, { size }) => count + size, 0)
  }
}
