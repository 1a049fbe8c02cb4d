import { readFileSync } from 'node:fs'
import type { BrowserContext, Frame, JSHandle, Page } from 'playwright-core'

/*
 * A WebSocket of a page in a browser, held from here.
 */

/** How the page sees the end. */
export interface PageCloseEvent {
  readonly code: number
  readonly reason: string
  readonly wasClean: boolean
}

/** `open`, with the subprotocol behind it if there is one; a message, bytes as numbers; the end. */
export type PageSocketEvent = string | number[] | PageCloseEvent

/** What page-socket.js gives, as far as it is used from here. */
interface PageSide {
  readonly socket: {
    send(data: string | Uint8Array): void
    close(code?: number, reason?: string): void
    readonly bufferedAmount: number
  }
  next(): Promise<PageSocketEvent>
}

const SCRIPT = readFileSync(new URL('page-socket.js', import.meta.url), 'utf8')

/** A handshake that failed, as every page sees it: JavaScript is not told why. */
export const REFUSED: PageCloseEvent = { code: 1006, reason: '', wasClean: false }

/** Lets the pages of a profile open sockets; call it before the first is opened. */
export async function allowSockets(context: BrowserContext): Promise<void> {
  await context.addInitScript(SCRIPT)
}

export class PageSocket {
  readonly handle: JSHandle<PageSide>

  private constructor(handle: JSHandle<PageSide>) {
    this.handle = handle
  }

  /** As `new WebSocket(url, protocols)`: it is not open yet. */
  static async open(page: Page | Frame, url: string | URL, protocols: readonly string[] = []): Promise<PageSocket> {
    const call = `openSocket(${JSON.stringify(url)}, ${JSON.stringify(protocols)})`
    return new PageSocket((await page.evaluateHandle(call)) as JSHandle<PageSide>)
  }

  /** The next event that nobody has taken. */
  next(): Promise<PageSocketEvent> {
    return this.handle.evaluate((side) => side.next())
  }

  async send(data: string | readonly number[]): Promise<void> {
    await this.handle.evaluate(
      ({ socket }, sent) => socket.send(typeof sent === 'string' ? sent : new Uint8Array(sent)),
      data,
    )
  }

  /** Says what the page would be told in an exception. */
  close(...args: [code?: number, reason?: string]): Promise<string> {
    return this.handle.evaluate(({ socket }, given) => {
      try {
        socket.close(...given)
        return ''
      } catch (error) {
        return (error as Error).name
      }
    }, args)
  }
}
