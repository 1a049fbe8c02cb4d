import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readDocument, readTableRows } from '../support/documents.ts'
import { ROOT } from '../support/program.ts'
import { missingSeed, readSeed } from '../support/seed-documents.ts'

/*
 * docs/SEEDS.md against the files: what it names is there, and it names what the documents name.
 */

interface Row {
  /** A function or an event of a document. */
  readonly what: string
  readonly files: readonly string[]
  readonly testFile: string
  readonly title: string
}

interface Section {
  readonly number: string
  readonly rows: readonly Row[]
}

const text = readDocument('docs/SEEDS.md')
const sections = text
  .split(/^## /m)
  .slice(1)
  .map(
    (section): Section => ({
      number: section.slice(0, 3),
      rows: readTableRows(section)
        .filter(([what]) => what !== 'in the document')
        .map(([what = '', file = '', test = '']) => {
          const [, testFile = '', title = ''] = /^`([^`]+)`: (.+)$/.exec(test) ?? []
          return { what, files: [...file.matchAll(/`([^`]+)`/g)].map((match) => match[1]!), testFile, title }
        }),
    }),
  )
const rows = sections.flatMap((section) => section.rows.map((row) => ({ ...row, number: section.number })))

/** Names that stand in the code of a document, and so have to stand in its table. */
const NAMES: Readonly<Record<string, RegExp>> = {
  '000': /\b(?:webSocket|socket)\.(\w+)/g,
  '001': /\b(?:wss?|client|WebSocket)\.(\w+)|\b(?:wss?)\.(?:on|addEventListener)\('(\w+)'/g,
  '002': /\*\*(\w+)\([^)]*\)\*\*/g,
  '003': /`plugins\.webSocketServer(?:\.(\w+))?/g,
  '004': /\b(?:socket|server)\.(\w+)|\bnew (?:\w+\.)?(\w+Server|WebSocket)\b/g,
}
/** Those that are no function or event of the server or its page. */
const COMMON = new Set(['on', 'addEventListener', 'js', 'webSocket'])

function namesIn(number: string, document: string): string[] {
  const found = [...document.matchAll(NAMES[number]!)].map((match) => match[1] ?? match[2])
  return [...new Set(found)].filter((name): name is string => name !== undefined && !COMMON.has(name))
}

/** Whether a test of this name stands in a file. */
function hasTest(file: string, title: string): boolean {
  const source = readFileSync(join(ROOT, file), 'utf8')
  return ["'", '"', '`'].some((quote) => source.includes(`${quote}${title}${quote},`))
}

it('docs/SEEDS.md has a section for each of the five documents', () => {
  expect(sections.map(({ number }) => number)).toEqual(['000', '001', '002', '003', '004'])
})

it('and rows of three cells: what, the file, the test', () => {
  const broken = rows.filter(({ files, title }) => files.length === 0 || title === '')
  expect(broken.map(({ what }) => what)).toEqual([])
})

describe.each(rows)('$number: $what', ({ files, testFile, title }) => {
  it('is where the table says', () => {
    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([])
  })

  it('is shown by the test that the table names', () => {
    expect(existsSync(join(ROOT, testFile)), testFile).toBe(true)
    expect(hasTest(testFile, title), `${testFile} has no test: ${title}`).toBe(true)
  })
})

describe.each(sections)('the table of $number', ({ number, rows: own }) => {
  const document = readSeed(number)
  it.skipIf(own.length === 0)('names what the document names', ({ skip }) => {
    if (document === undefined) return skip(missingSeed(number))
    const names = namesIn(number, document)
    expect(names.length).toBeGreaterThan(0)
    const words = own.map(({ what }) => what).join(' ')
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(words))).toEqual([])
  })
})
