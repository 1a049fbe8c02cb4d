import { styleText } from 'node:util'
import type { Refusal } from '../index.ts'
import { printable } from './printable.ts'

type Style = Parameters<typeof styleText>[0]

/** What the terminal shows. Everything that came from outside goes through printable(). */
export class Report {
  readonly #output: NodeJS.WriteStream
  readonly #colored: boolean
  /** What happens before the address is printed, which comes first: a tab of an earlier run may wait at the door. */
  #early: string[] | undefined = []

  constructor(output: NodeJS.WriteStream) {
    this.#output = output
    this.#colored = output.isTTY === true && output.hasColors()
    // "… | head -1": the reader may go, the server stays.
    output.on('error', () => {})
  }

  ready(address: string): void {
    this.#output.write(`Open ${address}\n`)
    for (const text of this.#early ?? []) this.#output.write(text)
    this.#early = undefined
  }

  hint(text: string): void {
    this.#write(this.#paint('dim', text))
  }

  connected(who: string, remoteAddress: string): void {
    this.#line('green', who, `connected from ${printable(remoteAddress)}`)
  }

  left(who: string, code: number, reason: string): void {
    this.#line('dim', who, `left (${code}${reason && ` ${printable(reason)}`})`)
  }

  message(from: string, to: string, content: string | Buffer): void {
    const shown = typeof content === 'string' ? printable(content) : `<${content.length} bytes: ${hexStart(content)}>`
    this.#line('cyan', from, `${this.#paint('dim', `→ ${to}:`)} ${shown}`)
  }

  refused({ status, reason, message, remoteAddress, origin, path }: Refusal): void {
    const details = Object.entries({ from: remoteAddress, origin, path })
      .filter(([, value]) => value)
      .map(([name, value]) => `${name} ${printable(String(value), 80)}`)
    this.#line(
      'yellow',
      'refused',
      `${status} ${printable(reason)}: ${printable(message, 300)} (${details.join(', ')})`,
    )
  }

  error(error: Error, who = 'error'): void {
    this.#line('red', who, printable(error.message, 300))
  }

  #line(style: Style, who: string, text: string): void {
    const time = new Date().toTimeString().slice(0, 8)
    this.#write(`${this.#paint('dim', time)}  ${this.#paint(style, who.padEnd(8))}  ${text}`)
  }

  #write(line: string): void {
    if (this.#early) this.#early.push(`${line}\n`)
    else this.#output.write(`${line}\n`)
  }

  #paint(style: Style, text: string): string {
    return this.#colored ? styleText(style, text) : text
  }
}

function hexStart(bytes: Buffer): string {
  return bytes.length > 16 ? `${bytes.toString('hex', 0, 16)}…` : bytes.toString('hex')
}
