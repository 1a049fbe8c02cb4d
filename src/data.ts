import { UsageError } from './errors.ts'

/** What can be sent. Text goes out as a text message, bytes as a binary one. */
export type Data = string | Uint8Array | ArrayBuffer

/** Bytes to send as a `Uint8Array`. */
export function toBytes(data: Uint8Array | ArrayBuffer): Uint8Array {
  if (data instanceof Uint8Array) return data
  // `instanceof` knows only the classes of this realm.
  const tag = Object.prototype.toString.call(data)
  if (tag === '[object Uint8Array]') return data as never
  if (tag === '[object ArrayBuffer]') return new Uint8Array(data)
  throw new UsageError('ERR_DATA_TYPE', 'only a string, a Uint8Array or an ArrayBuffer can be sent')
}
