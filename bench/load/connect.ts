import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { ConnectWorkload } from '../workloads.ts'
import { drop, openClient, type Target } from './client.ts'
import type { Driver } from './driver.ts'
import { frame } from './frames.ts'

/** Connections come and go, `clients` of them at a time. */
export class ConnectDriver implements Driver {
  readonly #workload: ConnectWorkload
  readonly #target: Target
  readonly #sockets = new Set<Socket>()

  constructor(workload: ConnectWorkload, target: Target) {
    this.#workload = workload
    this.#target = target
  }

  async open(): Promise<void> {}

  async run(seconds: number): Promise<number> {
    const { clients, polite } = this.#workload
    const end = performance.now() + seconds * 1000
    let units = 0
    const lane = async () => {
      while (performance.now() < end) {
        await (polite ? this.#visit() : this.#cut())
        units++
      }
    }
    await Promise.all(Array.from({ length: clients }, lane))
    return units
  }

  async #cut(): Promise<void> {
    drop(await openClient(this.#target, () => {}))
  }

  /** Says goodbye, and waits for the server's Close frame and for the end of the connection. */
  async #visit(): Promise<void> {
    let answer = -1
    const socket = await openClient(this.#target, (_, buffer) => {
      answer = buffer[0]!
    })
    this.#sockets.add(socket)
    socket.write(frame(8, Uint8Array.of(0x03, 0xe8), randomBytes(4)))
    await new Promise((resolve) => socket.once('close', resolve))
    this.#sockets.delete(socket)
    if (answer !== 0x88) this.#target.fail(new Error('the server did not answer the Close frame'))
  }

  close(): void {
    this.#sockets.forEach(drop)
  }
}
