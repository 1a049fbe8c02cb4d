import { batch } from './batch.ts'
import { Opcode } from './constants.ts'
import { PreparedMessage } from './prepared.ts'

/*
 * A loop of `send` over many connections is a broadcast that nobody has called so. It is noticed here: the second time
 * in one turn that the same message goes to another connection it is encoded once for all that follow, which share the
 * one frame.
 */

/** Longer messages are not copied for this; they are not copied into the batch either. */
const MAX_BYTES = 16_384

let turn = 0
let latest: string | Uint8Array | undefined
let latestOpcode: Opcode | undefined
let receiver: object | undefined
let prepared: PreparedMessage | undefined

/**
 * The message, prepared for several connections, if it is the one that was last given here for another receiver in this
 * turn. Bytes that have changed since are another message.
 */
export function findRepeated(
  data: string | Uint8Array,
  to: object,
  opcode: Opcode = typeof data === 'string' ? Opcode.TEXT : Opcode.BINARY,
): PreparedMessage | undefined {
  if (data.length > MAX_BYTES) return undefined
  if (turn !== batch.turn || receiver === to || opcode !== latestOpcode || data !== latest) {
    turn = batch.turn
    latest = data
    latestOpcode = opcode
    receiver = to
    prepared = undefined
    return undefined
  }
  receiver = to
  if (prepared === undefined || !isUnchanged(prepared, data)) prepared = new PreparedMessage(data, undefined, opcode)
  return prepared
}

/** A connection is gone: what was sent last must not hold on to it. */
export function forgetReceiver(gone: object): void {
  if (receiver === gone) receiver = undefined
}

function isUnchanged(message: PreparedMessage, data: string | Uint8Array): boolean {
  return typeof data === 'string' || message.payload.equals(data)
}
