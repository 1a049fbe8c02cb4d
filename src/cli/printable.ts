// What a stranger sends must not move the cursor, change colours, set the window's title or reverse the reading order
// of the terminal: controls (C0, DEL, C1), bidirectional and other invisible formatting (Cf), line separators, lone
// surrogates.
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

// Emoji are sequences: the joiner inside them is harmless.
const ZERO_WIDTH_JOINER = '\u200d'

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\x1b': '\\e' }

function escapeControls(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    if (character === ZERO_WIDTH_JOINER) return character
    const code = character.codePointAt(0)!.toString(16)
    return SHORT[character] ?? (code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u{${code}}`)
  })
}

/** One safe line of at most about `maxCharacters`; tells how much is missing. */
export function printable(text: string, maxCharacters = 160): string {
  // Cut before anything walks over it: a message may have a million characters.
  const head = text.slice(0, maxCharacters)
  const whole = head.length === text.length
  const end = !whole && /[\ud800-\udbff]$/.test(head) ? -1 : undefined // not through the middle of a surrogate pair
  return escapeControls(head.slice(0, end)) + (whole ? '' : `… (${text.length} characters)`)
}
