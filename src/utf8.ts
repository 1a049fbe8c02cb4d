import { isUtf8 } from 'node:buffer'

/*
 * UTF-8 validation of text that arrives in pieces (RFC 6455 §8.1, RFC 3629). Island: whole stretches are given to
 * node:buffer's native check; only the up to three bytes around a cut go through the state machine below.
 *
 * A state is one integer: 0 between characters, else `missing << 16 | lowest << 8 | highest`, the number of
 * continuation bytes still missing and the range in which the next one must lie. The range is narrower than 80..BF
 * behind four lead bytes only (overlong forms, surrogates, beyond U+10FFFF), so a bad sequence is seen at its first
 * bad byte, not at its end.
 */

/** The state at the start of a text and between two characters. */
export const UTF8_START = 0
/** The state behind a byte that cannot be. */
export const UTF8_INVALID = -1

const CONTINUATION = (0x80 << 8) | 0xbf

function afterLeadByte(byte: number): number {
  if (byte < 0xc2) return UTF8_INVALID
  if (byte < 0xe0) return (1 << 16) | CONTINUATION
  if (byte === 0xe0) return (2 << 16) | (0xa0 << 8) | 0xbf
  if (byte === 0xed) return (2 << 16) | (0x80 << 8) | 0x9f
  if (byte < 0xf0) return (2 << 16) | CONTINUATION
  if (byte === 0xf0) return (3 << 16) | (0x90 << 8) | 0xbf
  if (byte === 0xf4) return (3 << 16) | (0x80 << 8) | 0x8f
  return byte < 0xf4 ? (3 << 16) | CONTINUATION : UTF8_INVALID
}

function afterByte(state: number, byte: number): number {
  if (state === UTF8_START) return afterLeadByte(byte)
  if (byte < ((state >> 8) & 0xff) || byte > (state & 0xff)) return UTF8_INVALID
  const missing = (state >> 16) - 1
  return missing === 0 ? UTF8_START : (missing << 16) | CONTINUATION
}

/** Where the character that the end of `bytes[start..end)` may have cut begins; `end` when none is cut. */
function lastBoundary(bytes: Uint8Array, start: number, end: number): number {
  const furthest = Math.max(start, end - 3)
  for (let at = end - 1; at >= furthest; at--) {
    const byte = bytes[at]!
    if (byte < 0x80) return end
    if (byte >= 0xc0) return at
  }
  return end
}

/** The state after `bytes[start..end)`, coming from `state`; `UTF8_INVALID` as soon as any byte cannot be. */
export function advanceUtf8(state: number, bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (state !== UTF8_START && at < end) {
    state = afterByte(state, bytes[at++]!)
    if (state === UTF8_INVALID) return UTF8_INVALID
  }
  if (at === end) return state
  const boundary = lastBoundary(bytes, at, end)
  if (boundary > at && !isUtf8(bytes.subarray(at, boundary))) return UTF8_INVALID
  for (at = boundary; at < end && state !== UTF8_INVALID; at++) state = afterByte(state, bytes[at]!)
  return state
}
