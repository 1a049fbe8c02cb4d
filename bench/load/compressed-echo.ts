import type { EchoWorkload } from '../workloads.ts'
import { drop, openClients, type Target } from './client.ts'
import { CompressedPeer } from './compressed-peer.ts'
import { DeflateRing } from './deflate.ts'
import type { Driver, Wire } from './driver.ts'

/** As EchoDriver, with permessage-deflate. */
export class CompressedEchoDriver implements Driver {
  readonly #workload: EchoWorkload
  readonly #target: Target
  readonly #verify: boolean
  readonly #ring: DeflateRing
  readonly #peers: CompressedPeer[] = []

  constructor(workload: EchoWorkload, target: Target, verify: boolean) {
    this.#workload = workload
    this.#target = target
    this.#verify = verify
    this.#ring = new DeflateRing(workload.content, workload.size, workload.inFlight)
  }

  async open(): Promise<void> {
    await openClients(this.#workload.clients, async (index) => {
      const peer = await CompressedPeer.open(this.#ring, index, this.#target, this.#verify)
      this.#peers.push(peer)
      await peer.prime()
      return peer.socket
    })
  }

  async run(seconds: number): Promise<number> {
    setTimeout(() => {
      for (const peer of this.#peers) peer.stop()
    }, seconds * 1000)
    await Promise.all(this.#peers.map((peer) => peer.run(this.#workload.inFlight, Infinity)))
    return this.#peers.reduce((units, { answered }) => units + answered, 0)
  }

  get wire(): Wire {
    const total = (of: (wire: Wire) => number) => this.#peers.reduce((sum, { wire }) => sum + of(wire), 0)
    return { to: total(({ to }) => to), from: total(({ from }) => from) }
  }

  close(): void {
    for (const { socket } of this.#peers) drop(socket)
  }
}
