/*
 * What a client may say: a text with a JSON object, {"type": "say", "room": "garden", "text": "Hello"} for instance.
 */

export const MAX_TEXT_LENGTH = 1_000

const TYPES = ['join', 'leave', 'say', 'who']
const NAME = /^[\p{L}\p{N}][\p{L}\p{N}_-]{0,31}$/u

/** Of people and of rooms: letters, digits, _ and -, at most 32. */
export function isName(value) {
  return typeof value === 'string' && NAME.test(value)
}

/** `{ type, room, text }`, or `{ problem }` with a sentence for whoever has sent it. */
export function parseCommand(data) {
  if (typeof data !== 'string') return { problem: 'Send text, not bytes.' }
  let command
  try {
    command = JSON.parse(data)
  } catch {
    return { problem: 'That is not JSON.' }
  }
  const { type, room, text } = command ?? {}
  if (!TYPES.includes(type)) return { problem: `"type" has to be one of ${TYPES.join(', ')}.` }
  if (!isName(room)) return { problem: '"room" has to be a name: up to 32 letters, digits, _ and -.' }
  if (type !== 'say') return { type, room }
  if (typeof text !== 'string' || text.trim() === '') return { problem: '"text" has to say something.' }
  if (text.length > MAX_TEXT_LENGTH) return { problem: `"text" is longer than ${MAX_TEXT_LENGTH} characters.` }
  return { type, room, text }
}
