import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './program.ts'

/*
 * The documents and the code in them. The word behind the language says what is done with a block:
 *
 *   js run        a whole program: it is run. Of the next block, if that is `text output`, every line must come out of
 *                 it, in that order; an … in a line stands for anything.
 *   js fragment   a part of a program: only its syntax is checked
 *   js browser    for a browser: only its syntax is checked
 *
 * The same goes for mjs, cjs, ts and mts; other languages are left alone.
 */

/** A block of code in a document. */
export interface CodeBlock {
  /** The document and the line, as an editor takes them. */
  readonly place: string
  readonly language: string
  /** The words behind the language. */
  readonly words: readonly string[]
  readonly code: string
  /** Lines of the `text output` block behind it. */
  readonly output: readonly string[]
}

const FILE_EXTENSIONS: Readonly<Record<string, string>> = {
  js: 'mjs',
  mjs: 'mjs',
  javascript: 'mjs',
  cjs: 'cjs',
  ts: 'mts',
  mts: 'mts',
  typescript: 'mts',
}

/** What a file with such code ends with; undefined for a language that is left alone. */
export function extensionOf(language: string): string | undefined {
  return FILE_EXTENSIONS[language]
}

/** README.md and the documents in docs/, by their paths. */
export function listDocuments(): string[] {
  const names = existsSync(join(ROOT, 'docs')) ? readdirSync(join(ROOT, 'docs')) : []
  return ['README.md', ...names.filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)]
}

/** The text of a document, '' when there is none. */
export function readDocument(path: string): string {
  return existsSync(join(ROOT, path)) ? readFileSync(join(ROOT, path), 'utf8') : ''
}

const FENCED = /^( *)```(\S*)([^\n]*)\n(.*?)^\1```$/gms

/** The code blocks of all documents. */
export function readCodeBlocks(): CodeBlock[] {
  return listDocuments().flatMap((path) => {
    const text = readDocument(path)
    const blocks = [...text.matchAll(FENCED)].map(
      ({ 1: indent = '', 2: language = '', 3: info = '', 4: code = '', index }) => ({
        place: `${path}:${text.slice(0, index).split('\n').length}`,
        language,
        words: info.split(' ').filter((word) => word !== ''),
        code: code.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      }),
    )
    return blocks.map((block, at) => ({ ...block, output: outputOf(blocks[at + 1]) }))
  })
}

function outputOf(block: Omit<CodeBlock, 'output'> | undefined): string[] {
  if (block?.language !== 'text' || block.words[0] !== 'output') return []
  return block.code.split('\n').filter((line) => line.trim() !== '')
}

/** Whether these lines are among those, in this order. */
export function hasLines(all: readonly string[], wanted: readonly string[]): boolean {
  let at = 0
  for (const line of all) if (at < wanted.length && matches(line, wanted[at]!)) at++
  return at === wanted.length
}

function matches(line: string, wanted: string): boolean {
  const parts = wanted.trimEnd().split('…')
  const pattern = parts.map((part) => part.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&')).join('.*')
  return new RegExp(`^${pattern}$`).test(line.trimEnd())
}

/** The cells of all rows of all tables. */
export function readTableRows(text: string): string[][] {
  const lines = text.split('\n').filter((line) => /^\|.*\|$/.test(line) && !/^\|[\s:|-]+$/.test(line))
  return lines.map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  )
}
