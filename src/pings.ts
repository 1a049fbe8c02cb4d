import { WebSocketError } from './errors.ts'

const COUNTER_BYTES = 4
/** More pings than that without a pong are not remembered one by one. */
const MAX_REMEMBERED = 64

interface Ping {
  readonly counter: number
  readonly sentAtMs: number
  settle: ((error?: WebSocketError) => void) | undefined
}

/**
 * The pings of one connection that have no pong yet. Each carries a counter, because a peer may answer the latest ping
 * only (RFC 6455 §5.5.3): its pong then stands for all before it.
 */
export class PingLedger {
  #sent: Ping[] = []
  #counter = 0

  /** Notes a new ping and returns its payload; `settle` is called when its pong, or a later one, is there. */
  add(nowMs: number, settle?: (error?: WebSocketError) => void): Buffer {
    this.#counter = (this.#counter + 1) >>> 0
    if (this.#sent.length >= MAX_REMEMBERED) {
      this.#sent = this.#sent.filter((ping) => ping.settle !== undefined)
    }
    this.#sent.push({ counter: this.#counter, sentAtMs: nowMs, settle })
    const payload = Buffer.allocUnsafe(COUNTER_BYTES)
    payload.writeUInt32BE(this.#counter)
    return payload
  }

  /** Nobody waits for this ping's pong any more. */
  forget(settle: (error?: WebSocketError) => void): void {
    const ping = this.#sent.find((candidate) => candidate.settle === settle)
    if (ping !== undefined) ping.settle = undefined
  }

  /** Takes a pong; returns the round-trip time, or undefined for one that answers nothing of ours (§5.5.3). */
  answer(payload: Buffer, nowMs: number): number | undefined {
    if (payload.length !== COUNTER_BYTES) return undefined
    const counter = payload.readUInt32BE(0)
    const index = this.#sent.findIndex((ping) => ping.counter === counter)
    if (index === -1) return undefined
    const answered = this.#sent.splice(0, index + 1)
    for (const ping of answered) ping.settle?.()
    return nowMs - answered[index]!.sentAtMs
  }

  /** The connection has ended: no pong will come. */
  fail(): void {
    const error = new WebSocketError('ERR_CONNECTION_CLOSED', 'the connection closed before the peer answered')
    for (const ping of this.#sent.splice(0)) ping.settle?.(error)
  }
}
