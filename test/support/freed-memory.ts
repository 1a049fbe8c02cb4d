import { afterAll, beforeAll } from 'vitest'

type Transfer = (this: ArrayBuffer, length: number) => ArrayBuffer

/** In this file, or group of tests, memory that the library frees goes to `take` instead. */
export function onFreedMemory(take: (memory: ArrayBuffer) => void): void {
  const prototype: { transfer?: Transfer } = ArrayBuffer.prototype as object
  const { transfer } = prototype
  beforeAll(() => {
    prototype.transfer = function () {
      take(this)
      // It is really gone: whoever still has it sees a length of 0, as with `transfer` itself.
      structuredClone(this, { transfer: [this] })
      return new ArrayBuffer(0)
    }
  })
  afterAll(() => {
    if (transfer === undefined) delete prototype.transfer
    else prototype.transfer = transfer
  })
}

/** Memory that the library frees is filled with one byte: whoever still looks at it does not see what was there. */
export function spoilFreedMemory(): void {
  onFreedMemory((memory) => new Uint8Array(memory).fill(0xdd))
}
