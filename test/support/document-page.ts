import type { LookupFunction } from 'node:net'
import { onTestFinished } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import { certificate } from './servers.ts'

/*
 * The page of the document that specifies the facade: its code is run as it is written there.
 */

const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor as new (
  ...namesAndCode: string[]
) => (...values: unknown[]) => Promise<unknown>

/** Runs code of the document as the body of an async function; `returned` is an expression for its result. */
export function runOnPage(
  code: string,
  webSocket: object,
  log: (...values: unknown[]) => void = () => {},
  returned = 'undefined',
): Promise<unknown> {
  const body = new AsyncFunction('window', 'WebSocket', 'console', `${code}\nreturn ${returned}`)
  return body({ deskifier: { webSocket } }, BrowserWebSocket, { log })
}

/** A browser's name resolution says that the document's name is this machine; and there the certificate is trusted. */
const options: ClientOptions & { servername: string; lookup: LookupFunction } = {
  ca: certificate.cert,
  servername: 'localhost',
  lookup: (_host, { all }, found) =>
    all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4),
}

/**
 * As in a browser; except that a message may be sent at once. The document's page does that, and a browser would throw
 * an InvalidStateError at it.
 */
class BrowserWebSocket extends WebSocket {
  constructor(url: string) {
    super(url, options)
    onTestFinished(() => this.terminate())
  }

  override send(data: string): void {
    if (this.readyState === WebSocket.CONNECTING) this.once('open', () => super.send(data))
    else super.send(data)
  }
}
