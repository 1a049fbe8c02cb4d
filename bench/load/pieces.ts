import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import type { PiecesWorkload } from '../workloads.ts'
import { drop, openClient, type Target } from './client.ts'
import type { Driver } from './driver.ts'
import { frame, opcodeOf, payload, verify } from './frames.ts'

/** One client sends one message in many pieces and waits until it has come back; `amount` is the number of pieces. */
export class PiecesDriver implements Driver {
  readonly #workload: PiecesWorkload
  readonly #target: Target
  readonly #verify: boolean
  #socket: Socket | undefined
  #answer: Buffer = Buffer.alloc(0)
  #received = 0
  #done: () => void = () => {}

  constructor(workload: PiecesWorkload, target: Target, verifyAnswers: boolean) {
    this.#workload = workload
    this.#target = target
    this.#verify = verifyAnswers
  }

  async open(): Promise<void> {
    this.#socket = await openClient(this.#target, (bytes, buffer) => {
      try {
        if (this.#verify) verify(this.#answer, this.#received, buffer, bytes)
      } catch (error) {
        this.#target.fail(error as Error)
      }
      this.#received += bytes
      if (this.#received === this.#answer.length) this.#done()
    })
  }

  async run(_seconds: number, amount = this.#workload.pieces): Promise<number> {
    const { by, atLeast } = this.#workload
    const text = payload('ascii', amount)
    this.#answer = frame(opcodeOf('ascii'), text)
    const messages = Math.ceil(atLeast / amount)
    const message = by === 'segment' ? frame(opcodeOf('ascii'), text, randomBytes(4)) : fragments(text)
    for (let i = 0; i < messages; i++) {
      this.#received = 0
      const done = new Promise<void>((resolve) => {
        this.#done = resolve
      })
      if (by === 'segment') await this.#sendByBytes(message)
      else this.#socket?.write(message)
      await done
    }
    return messages * amount
  }

  /** One write per byte, and a turn of the event loop after each: the server should see them one by one. */
  async #sendByBytes(message: Buffer): Promise<void> {
    for (let i = 0; i < message.length; i++) {
      this.#socket?.write(message.subarray(i, i + 1))
      await setImmediate()
    }
  }

  close(): void {
    if (this.#socket) drop(this.#socket)
  }
}

function fragments(text: Buffer): Buffer {
  const last = text.length - 1
  const frames: Buffer[] = []
  for (let i = 0; i <= last; i++) {
    frames.push(frame(i === 0 ? opcodeOf('ascii') : 0, text.subarray(i, i + 1), randomBytes(4), i === last))
  }
  return Buffer.concat(frames)
}
