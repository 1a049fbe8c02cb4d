import { once } from 'node:events'
import type { Ws } from './implementation.ts'

/*
 * What a WebSocket reports, one line per event, so that whole histories can be compared.
 */

function describeBytes(bytes: Uint8Array): string {
  return bytes.length > 64 ? `${bytes.length} bytes` : JSON.stringify(Buffer.from(bytes).toString('latin1'))
}

function describeData(data: unknown, isBinary: boolean): string {
  const kind = isBinary ? 'binary' : 'text'
  if (Array.isArray(data)) return `${kind} [${data.map((part) => describeBytes(part)).join(', ')}]`
  if (Buffer.isBuffer(data)) return `${kind} ${describeBytes(data)}`
  if (data instanceof ArrayBuffer) return `${kind} ArrayBuffer ${describeBytes(new Uint8Array(data))}`
  return `${kind} ${Object.prototype.toString.call(data)}`
}

export function describeError(error: unknown): string {
  const { name, message, code } = error as NodeJS.ErrnoException
  return code === undefined ? `${name}: ${message}` : `${name} ${code}: ${message}`
}

/** Everything from here on; grows as it comes. */
export function record(ws: Ws): string[] {
  const lines: string[] = []
  ws.on('open', () => lines.push(`open ${ws.readyState}`))
  ws.on('message', (data, isBinary) => lines.push(describeData(data, isBinary)))
  ws.on('ping', (data) => lines.push(`ping ${describeBytes(data)}`))
  ws.on('pong', (data) => lines.push(`pong ${describeBytes(data)}`))
  ws.on('error', (error) => lines.push(`error ${ws.readyState} ${describeError(error)}`))
  ws.on('close', (code, reason) => lines.push(`close ${ws.readyState} ${code} ${describeBytes(reason)}`))
  return lines
}

/** Everything up to the end. */
export async function recordToEnd(ws: Ws): Promise<string[]> {
  const lines = record(ws)
  await new Promise((resolve) => ws.once('close', resolve))
  return lines
}

/** Code and reason of the end; `error` events on the way are allowed. */
export async function closeOf(ws: Ws): Promise<[code: number, reason: string]> {
  ws.on('error', () => {})
  const [code, reason] = (await new Promise<unknown[]>((resolve) =>
    ws.once('close', (...values) => resolve(values)),
  )) as [number, Buffer]
  return [code, reason.toString()]
}

/** The next error; the `close` behind it is awaited too. */
export async function failureOf(ws: Ws): Promise<string> {
  const closed = new Promise<unknown[]>((resolve) => ws.once('close', (...values) => resolve(values)))
  const [error] = (await once(ws, 'error')) as [Error]
  const [code, reason] = (await closed) as [number, Buffer]
  return `${describeError(error)} / ${code} ${JSON.stringify(reason.toString())}`
}

/** The next message, as text. */
export async function nextMessage(ws: Ws): Promise<string> {
  const [data, isBinary] = (await once(ws, 'message')) as [unknown, boolean]
  return describeData(data, isBinary)
}

/** The next `count` messages. */
export function takeMessages(ws: Ws, count: number): Promise<string[]> {
  const lines: string[] = []
  return new Promise((resolve) => {
    const take = (data: unknown, isBinary: boolean): void => {
      lines.push(describeData(data, isBinary))
      if (lines.length < count) return
      ws.off('message', take)
      resolve(lines)
    }
    ws.on('message', take)
  })
}

/** What is thrown, as a line. */
export function thrownBy(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    return describeError(error)
  }
  return 'nothing'
}

/** An error given to a callback, as a line. */
export function outcome(start: (callback: (error?: Error | null) => void) => void): Promise<string> {
  return new Promise((resolve) =>
    start((error) => resolve(error === undefined || error === null ? 'sent' : describeError(error))),
  )
}
