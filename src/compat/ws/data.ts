import { isSendableCloseCode, MAX_CLOSE_REASON_BYTES } from '../../constants.ts'
import type { BinaryType } from './options.ts'

/*
 * What programs hand in and get, as ws converts it.
 */

const EMPTY: Buffer = Buffer.alloc(0)

export function isBlob(data: unknown): data is Blob {
  return data instanceof Blob
}

/** Why what was sent did not leave. */
export function closedWhile(readsBlob: boolean): Error {
  const what = readsBlob ? 'the blob was being read' : 'data was being compressed'
  return new Error(`The socket was closed while ${what}`)
}

/** Bytes of whatever `Buffer.from` takes; views are taken as they are. */
export function toBuffer(data: unknown): Uint8Array {
  if (data instanceof Uint8Array) return data
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return Buffer.from(data as string)
}

/** The reason as bytes; throws for what cannot stand in a Close frame. */
export function checkClose(code: number | undefined, reason: string | Uint8Array | undefined): Uint8Array {
  if (code === undefined) return EMPTY
  if (typeof code !== 'number' || !isSendableCloseCode(code)) {
    throw new TypeError('First argument must be a valid error code number')
  }
  if (reason === undefined || reason === null || !reason.length) return EMPTY
  if (typeof reason !== 'string' && !(reason instanceof Uint8Array)) {
    Buffer.byteLength(reason as string)
    throw new TypeError('Second argument must be a string or a Uint8Array')
  }
  const bytes = typeof reason === 'string' ? Buffer.from(reason) : reason
  if (bytes.byteLength > MAX_CLOSE_REASON_BYTES) {
    throw new RangeError(`The message must not be greater than ${MAX_CLOSE_REASON_BYTES} bytes`)
  }
  return bytes
}

/** A binary message as `binaryType` has it. */
export function asBinaryType(data: Buffer, type: BinaryType, ends: readonly number[] | undefined): unknown {
  switch (type) {
    case 'nodebuffer':
      return data
    case 'arraybuffer':
      return data.byteLength === data.buffer.byteLength
        ? data.buffer
        : data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)
    case 'fragments':
      return fragmentsOf(data, ends)
    case 'blob':
      return new Blob([data as Uint8Array<ArrayBuffer>])
  }
}

/** The message as it was sent, without the fragments that are empty. */
function fragmentsOf(data: Buffer, ends: readonly number[] = [data.length]): Buffer[] {
  return ends.map((end, index) => data.subarray(ends[index - 1] ?? 0, end)).filter(({ length }) => length > 0)
}
