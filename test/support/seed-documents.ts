import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './program.ts'

/*
 * The documents beside the repository that specify some of its parts. Their code is taken out of them when a test runs.
 */

const FOLDER = join(ROOT, '../shared/seeds')

/** Why a test of a document is skipped. */
export function missingSeed(number: string): string {
  return `there is no ${FOLDER}/${number}_*.txt`
}

/** A document by its number, undefined where it does not lie beside the repository. */
export function readSeed(number: string): string | undefined {
  const name = existsSync(FOLDER) ? readdirSync(FOLDER).find((file) => file.startsWith(`${number}_`)) : undefined
  return name === undefined ? undefined : readFileSync(join(FOLDER, name), 'utf8').replaceAll('\r\n', '\n')
}

/** The code of one language, in the order of the document. */
export function codeOf(document: string, language: string): string[] {
  return [...document.matchAll(/^```(\w+)\n(.*?)^```/gms)]
    .filter((match) => match[1] === language)
    .map(([, , code]) => code!)
}

/** What the first group stands for in some code. */
export function readIn(code: string, pattern: RegExp): string {
  const found = pattern.exec(code)?.[1]
  if (found === undefined) throw new Error(`nothing like ${pattern} is in:\n${code}`)
  return found
}
