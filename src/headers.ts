import { HandshakeError, UsageError } from './errors.ts'

/*
 * The grammar of HTTP header fields as far as a WebSocket handshake needs it (RFC 9110 §5, RFC 6455 §9.1).
 * Hand-written and linear: no regular expression takes part in the parsing.
 */

/** RFC 9110 §5.6.2: letters, digits and !#$%&'*+-.^_`|~ */
const TOKEN_CHARS = new Uint8Array(128)
for (const char of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
  TOKEN_CHARS[char.charCodeAt(0)] = 1
}

const TAB = 0x09
const SPACE = 0x20
const QUOTE = 0x22
const COMMA = 0x2c
const SEMICOLON = 0x3b
const EQUALS = 0x3d
const BACKSLASH = 0x5c
const DELETE = 0x7f

function isTokenChar(code: number): boolean {
  return code < 128 && TOKEN_CHARS[code] === 1
}

/** A non-empty token (RFC 9110 §5.6.2). */
export function isToken(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (!isTokenChar(text.charCodeAt(at))) return false
  return text.length > 0
}

/** Field content (RFC 9110 §5.5): no control character but the tab; bytes above 0x7F are let through as latin1. */
export function isFieldValue(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if ((code < SPACE && code !== TAB) || code === DELETE || code > 0xff) return false
  }
  return true
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB
}

/** `text`, or a part of it, without spaces and tabs at both ends. */
export function trimBlanks(text: string, start = 0, end: number = text.length): string {
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

/** The elements of a comma-separated list, trimmed; empty ones are passed over (RFC 9110 §5.6.1). */
export function parseList(value: string): string[] {
  const elements: string[] = []
  for (const part of value.split(',')) {
    const element = trimBlanks(part)
    if (element !== '') elements.push(element)
  }
  return elements
}

/** Whether a list such as `Connection` names this (lower-case) element, in any case. */
export function listIncludes(value: string | undefined, element: string): boolean {
  if (value?.toLowerCase() === element) return true
  return value !== undefined && parseList(value).some((candidate) => candidate.toLowerCase() === element)
}

/** A list of tokens, none twice (RFC 6455 §4.1, `Sec-WebSocket-Protocol`); undefined when it is anything else. */
export function parseSubprotocols(value: string): string[] | undefined {
  const subprotocols = value.split(',').map((element) => trimBlanks(element))
  const valid = subprotocols.every(isToken) && new Set(subprotocols).size === subprotocols.length
  return valid ? subprotocols : undefined
}

/** One element of `Sec-WebSocket-Extensions`: a name and its parameters in order, `true` for one without a value. */
export interface Extension {
  readonly name: string
  readonly parameters: ReadonlyArray<readonly [name: string, value: string | true]>
}

/**
 * `Sec-WebSocket-Extensions` (RFC 6455 §9.1): `name; parameter; parameter=value; parameter="value", name ...`.
 * A quoted value must be a token once its quotes are gone. Undefined when the text does not fit the grammar.
 */
export function parseExtensions(value: string): Extension[] | undefined {
  const extensions: Extension[] = []
  const scan = new Scanner(value)
  do {
    const name = scan.token()
    if (name === '') return undefined
    const parameters: [string, string | true][] = []
    while (scan.accept(SEMICOLON)) {
      const parameter = scan.token()
      if (parameter === '') return undefined
      const given = scan.accept(EQUALS) ? scan.tokenOrQuoted() : true
      if (given === '') return undefined
      parameters.push([parameter, given])
    }
    extensions.push({ name, parameters })
  } while (scan.accept(COMMA))
  return scan.atEnd() ? extensions : undefined
}

/** A cursor over a header value that passes over blanks around what it reads. */
class Scanner {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  atEnd(): boolean {
    return this.#at === this.#text.length
  }

  accept(code: number): boolean {
    if (this.#text.charCodeAt(this.#at) !== code) return false
    this.#at++
    this.#skipBlanks()
    return true
  }

  /** The token at the cursor, '' when there is none. */
  token(): string {
    this.#skipBlanks()
    const start = this.#at
    while (!this.atEnd() && isTokenChar(this.#text.charCodeAt(this.#at))) this.#at++
    const token = this.#text.slice(start, this.#at)
    this.#skipBlanks()
    return token
  }

  tokenOrQuoted(): string {
    if (this.#text.charCodeAt(this.#at) !== QUOTE) return this.token()
    let unquoted = ''
    for (this.#at++; !this.atEnd(); this.#at++) {
      let code = this.#text.charCodeAt(this.#at)
      if (code === QUOTE) {
        this.#at++
        this.#skipBlanks()
        return unquoted
      }
      if (code === BACKSLASH) code = this.#text.charCodeAt(++this.#at)
      if (!isTokenChar(code)) return ''
      unquoted += String.fromCharCode(code)
    }
    return ''
  }

  #skipBlanks(): void {
    while (!this.atEnd() && isBlank(this.#text.charCodeAt(this.#at))) this.#at++
  }
}

/** The header fields of a message, in order; names are compared without case. */
export class HeaderFields {
  /** Name (lower case) and value by turns. */
  readonly #lines: string[] = []

  /** Adds one field line; the name is kept in lower case. */
  append(name: string, value: string): void {
    this.#lines.push(name.toLowerCase(), value)
  }

  /** Number of field lines. */
  get size(): number {
    return this.#lines.length / 2
  }

  /** The value of a field; several lines of one name are joined with `, ` (RFC 9110 §5.2). */
  get(name: string): string | undefined {
    const wanted = name.toLowerCase()
    const first = this.#find(wanted, 0)
    if (first === -1) return undefined
    return this.#find(wanted, first + 2) === -1 ? this.#lines[first + 1] : this.getAll(wanted).join(', ')
  }

  /** The values of all lines of one name. */
  getAll(name: string): string[] {
    const wanted = name.toLowerCase()
    return this.#lines.filter((_, index) => index % 2 === 1 && this.#lines[index - 1] === wanted)
  }

  /** The value of a field that may stand once only; throws 400 when it is repeated. */
  getSingle(name: string): string | undefined {
    const wanted = name.toLowerCase()
    const first = this.#find(wanted, 0)
    if (first === -1) return undefined
    if (this.#find(wanted, first + 2) === -1) return this.#lines[first + 1]
    throw new HandshakeError('ERR_HEAD_SYNTAX', 400, `The header ${name} may not be repeated.`)
  }

  has(name: string): boolean {
    return this.#find(name.toLowerCase(), 0) !== -1
  }

  *[Symbol.iterator](): IterableIterator<[name: string, value: string]> {
    for (let index = 0; index < this.#lines.length; index += 2) yield [this.#lines[index]!, this.#lines[index + 1]!]
  }

  #find(wanted: string, from: number): number {
    for (let index = from; index < this.#lines.length; index += 2) if (this.#lines[index] === wanted) return index
    return -1
  }
}

/** Header lines that we write, each with its CRLF; throws `UsageError` for what would break out of its line. */
export function formatFields(fields: Iterable<readonly [name: string, value: string | number]>): string {
  let text = ''
  for (const [name, value] of fields) {
    if (!isToken(name)) throw new UsageError('ERR_HEADER_VALUE', `"${printable(name)}" is not a header name`)
    const content = String(value)
    if (!isFieldValue(content)) {
      throw new UsageError('ERR_HEADER_VALUE', `the value of the header ${name} has a character that may not be sent`)
    }
    text += `${name}: ${content}\r\n`
  }
  return text
}

/** `own` fields and `given` ones; of a name that both have, in whatever case, the given one. */
export function mergeFields(
  own: Readonly<Record<string, string>>,
  given: Readonly<Record<string, string>>,
): Record<string, string> {
  const names = new Set(Object.keys(given).map((name) => name.toLowerCase()))
  return { ...Object.fromEntries(Object.entries(own).filter(([name]) => !names.has(name.toLowerCase()))), ...given }
}

/** Text of unknown origin, fit for a message: control characters escaped, shortened. */
export function printable(text: string): string {
  const short = text.length > 100 ? `${text.slice(0, 100)}...` : text
  // JSON leaves DEL and the C1 controls as they are.
  return JSON.stringify(short)
    .slice(1, -1)
    .replaceAll(/[\u007f-\u009f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`)
}
