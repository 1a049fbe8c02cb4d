import type { Socket } from 'node:net'
import type { EchoWorkload } from '../workloads.ts'
import { drop, openClient, openClients, type Target } from './client.ts'
import type { Driver } from './driver.ts'
import { makeRing, type Ring, verify } from './frames.ts'

/** Every client keeps `inFlight` messages under way: for each answer that is complete it sends the next one. */
export class EchoDriver implements Driver {
  readonly #workload: EchoWorkload
  readonly #target: Target
  readonly #verify: boolean
  readonly #ring: Ring
  #peers: EchoPeer[] = []

  constructor(workload: EchoWorkload, target: Target, verifyAnswers: boolean) {
    this.#workload = workload
    this.#target = target
    this.#verify = verifyAnswers
    // Some more messages than are under way, so that neighbours never send the same at the same time.
    const slots = Math.max(workload.inFlight, workload.size > 65_536 ? 4 : 16)
    this.#ring = makeRing(workload.content, workload.size, slots, workload.inFlight)
  }

  async open(): Promise<void> {
    const peers = Array.from({ length: this.#workload.clients }, (_, i) => new EchoPeer(this.#ring, i, this.#target))
    this.#peers = peers
    await openClients(peers.length, async (index) => {
      const peer = peers[index]!
      const receive = this.#verify
        ? (bytes: number, buffer: Buffer) => peer.receiveAndVerify(bytes, buffer)
        : (bytes: number) => peer.receive(bytes)
      peer.socket = await openClient(this.#target, receive)
      return peer.socket
    })
  }

  run(seconds: number): Promise<number> {
    const peers = this.#peers
    let left = peers.length
    return new Promise((resolve) => {
      for (const peer of peers) {
        peer.start(this.#workload.inFlight, () => {
          if (--left === 0) resolve(peers.reduce((units, { answered }) => units + answered, 0))
        })
      }
      setTimeout(() => {
        for (const peer of peers) peer.running = false
      }, seconds * 1000)
    })
  }

  close(): void {
    for (const { socket } of this.#peers) if (socket) drop(socket)
  }
}

class EchoPeer {
  socket: Socket | undefined
  answered = 0
  running = false
  readonly #ring: Ring
  readonly #target: Target
  /** The message to send next. */
  #slot: number
  /** Answer bytes that do not make a whole answer yet. */
  #partial = 0
  #underWay = 0
  /** Where in the answers the next byte should be found. */
  #position: number
  #idle: () => void = () => {}

  constructor(ring: Ring, index: number, target: Target) {
    this.#ring = ring
    this.#target = target
    this.#slot = index % ring.slots
    this.#position = this.#slot * ring.answerBytes
  }

  start(inFlight: number, idle: () => void): void {
    this.#idle = idle
    this.answered = 0
    this.running = true
    this.#underWay = inFlight
    this.#send(inFlight)
  }

  receiveAndVerify(bytes: number, buffer: Buffer): void {
    try {
      this.#position = verify(this.#ring.answers, this.#position, buffer, bytes)
    } catch (error) {
      this.#target.fail(error as Error)
    }
    this.receive(bytes)
  }

  receive(bytes: number): void {
    const have = this.#partial + bytes
    const { answerBytes } = this.#ring
    if (have < answerBytes) {
      this.#partial = have
      return
    }
    const complete = Math.floor(have / answerBytes)
    this.#partial = have - complete * answerBytes
    this.answered += complete
    if (this.running) {
      this.#send(complete)
    } else {
      this.#underWay -= complete
      if (this.#underWay < 0 || (this.#underWay === 0 && this.#partial > 0)) {
        this.#target.fail(new Error('more bytes came than were asked for'))
      } else if (this.#underWay === 0) this.#idle()
    }
  }

  #send(count: number): void {
    const { requests, requestBytes, slots } = this.#ring
    const start = this.#slot * requestBytes
    this.#slot = (this.#slot + count) % slots
    this.socket?.write(requests.subarray(start, start + count * requestBytes))
  }
}
