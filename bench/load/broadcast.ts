import type { Socket } from 'node:net'
import type { BroadcastWorkload } from '../workloads.ts'
import { drop, openClient, openClients, type Target } from './client.ts'
import type { Driver } from './driver.ts'
import { makeRing, type Ring, verify } from './frames.ts'

/** The first client publishes `inFlight` messages in one write, and again when everyone has received them all. */
export class BroadcastDriver implements Driver {
  readonly #workload: BroadcastWorkload
  readonly #target: Target
  readonly #verify: boolean
  readonly #ring: Ring
  #sockets: Socket[] = []
  #missingBytes = 0
  #delivered: () => void = () => {}

  constructor(workload: BroadcastWorkload, target: Target, verifyAnswers: boolean) {
    this.#workload = workload
    this.#target = target
    this.#verify = verifyAnswers
    this.#ring = makeRing(workload.content, workload.size, workload.inFlight * 4, 0)
  }

  async open(): Promise<void> {
    const { answers } = this.#ring
    this.#sockets = await openClients(this.#workload.clients, () => {
      if (!this.#verify) return openClient(this.#target, this.#receive)
      let position = 0
      return openClient(this.#target, (bytes, buffer) => {
        try {
          position = verify(answers, position, buffer, bytes)
        } catch (error) {
          this.#target.fail(error as Error)
        }
        this.#receive(bytes)
      })
    })
    // A server may learn of the last members a moment after their handshake.
    await new Promise((resolve) => setTimeout(resolve, 50))
  }

  readonly #receive = (bytes: number): void => {
    this.#missingBytes -= bytes
    if (this.#missingBytes === 0) this.#delivered()
    else if (this.#missingBytes < 0) this.#target.fail(new Error('more bytes came than were asked for'))
  }

  run(seconds: number): Promise<number> {
    const { requests, requestBytes, answerBytes, slots } = this.#ring
    const { clients, inFlight } = this.#workload
    const end = performance.now() + seconds * 1000
    let published = 0
    return new Promise((resolve) => {
      const publish = () => {
        // Whole turns of the ring, so that the next run begins where everybody expects it.
        if (performance.now() >= end && published % slots === 0) return resolve(published * clients)
        const start = (published % slots) * requestBytes
        published += inFlight
        this.#missingBytes = inFlight * clients * answerBytes
        this.#sockets[0]?.write(requests.subarray(start, start + inFlight * requestBytes))
      }
      this.#delivered = publish
      publish()
    })
  }

  close(): void {
    this.#sockets.forEach(drop)
  }
}
