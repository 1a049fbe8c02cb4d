import { MessageChannel, type MessagePort } from 'node:worker_threads'
import { onTestFinished } from 'vitest'
import type { MainPort } from '../../src/bridge.ts'
import { type Invocation, PortPage } from './port-page.ts'

/*
 * MessagePorts in place of Electron's IPC: real messages, cloned on the way, between a main side and any number of windows.
 */

/** What the main side is told of a call. */
export interface PortCall {
  readonly port: MessagePort
  /** Where the page says it is. */
  readonly url: string
}

/** The main side. */
export class PortHub implements MainPort<PortCall> {
  readonly #answers = new Map<string, (call: PortCall, ...values: unknown[]) => Promise<unknown>>()

  /** Serves the windows behind a port. */
  add(port: MessagePort): void {
    port.on('message', async ({ id, url, channel, values }: Invocation) => {
      try {
        const answer = this.#answers.get(channel)
        if (answer === undefined) throw new Error(`nobody answers on ${channel}`)
        port.postMessage({ id, value: await answer({ port, url }, ...values) })
      } catch (error) {
        port.postMessage({ id, error: (error as Error).message })
      }
    })
  }

  handle(channel: string, answer: (call: PortCall, ...values: unknown[]) => Promise<unknown>): () => void {
    if (this.#answers.has(channel)) throw new Error(`somebody answers on ${channel} already`)
    this.#answers.set(channel, answer)
    return () => void this.#answers.delete(channel)
  }

  /** Channels that are answered. */
  get channels(): string[] {
    return [...this.#answers.keys()]
  }

  send({ port }: PortCall, channel: string, ...values: unknown[]): void {
    port.postMessage({ channel, values })
  }

  windowOf({ port }: PortCall): MessagePort {
    return port
  }

  onGone({ port }: PortCall, gone: () => void): () => void {
    port.on('close', gone)
    return () => void port.off('close', gone)
  }
}

/** A window that a test opens, and closes behind itself if nobody has done so before. */
export interface TestWindow {
  readonly page: PortPage
  /** What the main side knows the window by. */
  readonly port: MessagePort
  /** Loads another page into the same window; the one before says nothing and hears nothing. */
  load(url?: string): PortPage
  close(): void
}

export function openWindow(hub: PortHub, url?: string): TestWindow {
  const { port1, port2 } = new MessageChannel()
  hub.add(port1)
  onTestFinished(() => port2.close())
  return {
    page: new PortPage(port2, url),
    port: port1,
    load: (next) => {
      port2.removeAllListeners('message')
      return new PortPage(port2, next)
    },
    close: () => port2.close(),
  }
}
