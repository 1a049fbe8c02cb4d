import type { IdleWorkload } from '../workloads.ts'
import { drop, openClients, type Target } from './client.ts'
import { CompressedPeer } from './compressed-peer.ts'
import { DeflateRing } from './deflate.ts'
import type { Driver } from './driver.ts'

const IN_FLIGHT = 8
const FIRST_TIMES = 5

/** Connections that have exchanged some compressed messages, and do nothing more. `run` brings their number up to `amount`. */
export class CompressedIdleDriver implements Driver {
  readonly #messages: number
  readonly #target: Target
  readonly #ring: DeflateRing
  readonly #peers: CompressedPeer[] = []

  constructor({ messages, size, content }: NonNullable<IdleWorkload['before']>, target: Target) {
    this.#messages = messages
    this.#target = target
    this.#ring = new DeflateRing(content, size, IN_FLIGHT)
  }

  async open(): Promise<void> {}

  async run(_seconds: number, amount = 0): Promise<number> {
    const missing = amount - this.#peers.length
    const isFirst = this.#peers.length === 0
    await openClients(missing, async (index) => {
      const peer = await CompressedPeer.open(this.#ring, index, this.#target, true)
      this.#peers.push(peer)
      // The first ones say more, so that what the server keeps because it was busy is there before memory is read.
      await peer.run(IN_FLIGHT, isFirst ? FIRST_TIMES * this.#messages : this.#messages)
      return peer.socket
    })
    return missing
  }

  close(): void {
    for (const { socket } of this.#peers) drop(socket)
  }
}
