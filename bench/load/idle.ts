import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { drop, openClient, openClients, type Target } from './client.ts'
import type { Driver } from './driver.ts'
import { frame } from './frames.ts'

/** Connections that say nothing of their own accord. `run` brings their number up to `amount`. */
export class IdleDriver implements Driver {
  readonly #target: Target
  readonly #sockets: Socket[] = []

  constructor(target: Target) {
    this.#target = target
  }

  async open(): Promise<void> {}

  async run(_seconds: number, amount = 0): Promise<number> {
    const missing = amount - this.#sockets.length
    this.#sockets.push(...(await openClients(missing, () => openClient(this.#target, answerPing))))
    return missing
  }

  close(): void {
    this.#sockets.forEach(drop)
  }
}

/** The only frame an idle connection gets is a Ping, small enough to come in one piece. */
function answerPing(bytes: number, buffer: Buffer, socket: Socket): void {
  if (buffer[0] === 0x89) socket.write(frame(10, buffer.subarray(2, bytes), randomBytes(4)))
}
