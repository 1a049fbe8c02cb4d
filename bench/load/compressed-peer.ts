import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { openClient, type Target } from './client.ts'
import { type Agreement, type Answer, AnswerReader, type DeflateRing, readAgreement } from './deflate.ts'
import type { Wire } from './driver.ts'
import { frame } from './frames.ts'

const PING = 9
const PONG = 10

/** A client with permessage-deflate: for each answer that is complete it sends the next message, as long as it may. */
export class CompressedPeer {
  answered = 0
  wire: Wire = { to: 0, from: 0 }
  socket!: Socket
  readonly #ring: DeflateRing
  readonly #target: Target
  readonly #verify: boolean
  readonly #reader = new AnswerReader()
  #agreement!: Agreement
  /** Messages refer to earlier ones, which the server has. */
  #refers = false
  /** The message to send next, and the one that comes back next. */
  #slot: number
  #answerSlot: number
  #underWay = 0
  /** Messages that may still be sent. */
  #left = 0
  #primed: (() => void) | undefined
  #idle: () => void = () => {}

  private constructor(ring: DeflateRing, index: number, target: Target, verify: boolean) {
    this.#ring = ring
    this.#target = target
    this.#verify = verify
    this.#slot = this.#answerSlot = index % ring.slots
  }

  static async open(ring: DeflateRing, index: number, target: Target, verify: boolean): Promise<CompressedPeer> {
    const peer = new CompressedPeer(ring, index, target, verify)
    peer.socket = await openClient(
      target,
      (bytes, buffer) => peer.#receive(bytes, buffer),
      (head) => peer.#agree(head),
    )
    return peer
  }

  #agree(head: string): void {
    try {
      this.#agreement = readAgreement(head)
    } catch (error) {
      this.#agreement = { clientTakeover: false, serverTakeover: false }
      this.#target.fail(error as Error)
    }
  }

  /** Fills the windows, where messages may refer to earlier ones. */
  prime(): Promise<void> {
    const { clientTakeover, serverTakeover } = this.#agreement
    if (!clientTakeover && !serverTakeover) return Promise.resolve()
    this.#refers = clientTakeover
    return new Promise((resolve) => {
      this.#primed = resolve
      this.socket.write(this.#ring.primer(this.#slot))
    })
  }

  /** Sends up to `messages`, `inFlight` of them at a time; then, or after `stop`, resolves when all have come back. */
  run(inFlight: number, messages: number): Promise<void> {
    this.answered = 0
    this.wire = { to: 0, from: 0 }
    this.#left = messages
    return new Promise((resolve) => {
      this.#idle = resolve
      this.#send(inFlight)
    })
  }

  stop(): void {
    this.#left = 0
  }

  #receive(bytes: number, buffer: Buffer): void {
    let complete = 0
    try {
      this.#reader.read(bytes, buffer, (answer, frameBytes) => {
        if (answer.opcode === PING) this.socket.write(frame(PONG, answer.payload, randomBytes(4)))
        if (answer.opcode > 7) return
        if (this.#primed) {
          this.#ring.verifyPrimer(this.#slot, answer)
          this.#primed()
          this.#primed = undefined
          return
        }
        if (this.#verify) this.#check(answer)
        this.wire.from += frameBytes
        complete++
      })
    } catch (error) {
      this.#target.fail(error as Error)
    }
    if (complete === 0) return
    this.answered += complete
    this.#underWay -= complete
    if (this.#underWay < 0) this.#target.fail(new Error('more messages came than were asked for'))
    else if (this.#left > 0) this.#send(complete)
    else if (this.#underWay === 0) this.#idle()
  }

  #check(answer: Answer): void {
    this.#ring.verify(this.#answerSlot, answer, this.#agreement.serverTakeover)
    this.#answerSlot = (this.#answerSlot + 1) % this.#ring.slots
  }

  #send(most: number): void {
    const count = Math.min(most, this.#left)
    const bytes = this.#ring.requests(this.#slot, count, this.#refers)
    this.#slot = (this.#slot + count) % this.#ring.slots
    this.#left -= count
    this.#underWay += count
    this.wire.to += bytes.length
    this.socket.write(bytes)
  }
}
