import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { COMPRESSION_DEFAULTS } from '../../src/extension.ts'
import { CONNECTION_DEFAULTS, HEAD_DEFAULTS } from '../../src/options.ts'
import {
  extensionOf,
  hasLines,
  listDocuments,
  readCodeBlocks,
  readDocument,
  readTableRows,
} from '../support/documents.ts'
import { installPackage, linkNodeTypes, type Packed, packProject, runCompiler } from '../support/package.ts'
import { ROOT, startProgram } from '../support/program.ts'

const USES = ['run', 'fragment', 'browser']

/** How long a program that says nothing more, and does not end, is left to itself before it is stopped. */
const QUIET_MS = 1_500

const blocks = readCodeBlocks()
  .filter(({ language }) => extensionOf(language) !== undefined)
  .map((block, index) => ({
    ...block,
    name: `example-${index}.${extensionOf(block.language)}`,
    use: block.words[0] ?? '',
  }))
const programs = blocks.filter(({ use }) => use === 'run')

it.each(['README.md', 'docs/ERRORS.md', 'docs/LIMITS.md', 'docs/ARCHITECTURE.md'])('there is %s', (path) => {
  expect(listDocuments()).toContain(path)
  expect(readDocument(path)).not.toBe('')
})

describe('the examples in the documents', () => {
  let packed: Packed
  beforeAll(async () => {
    packed = await packProject()
    await installPackage(packed)
    linkNodeTypes(packed)
  })
  afterAll(() => packed?.remove())

  /** Complains in the places of the documents. */
  async function compile(options: readonly string[], examples: typeof blocks): Promise<void> {
    try {
      await runCompiler([...options, ...examples.map(({ name }) => name)], { cwd: packed.project })
    } catch (error) {
      const { message } = error as Error
      throw new Error(examples.reduce((text, { name, place }) => text.replaceAll(`${name}(`, `${place} (`), message))
    }
  }

  it('say what they are for', () => {
    expect(programs.length).toBeGreaterThan(0)
    const unclear = blocks.filter(({ words }) => words.length !== 1 || !USES.includes(words[0]!))
    expect(unclear.map(({ place }) => place)).toEqual([])
  })

  it('are right in their syntax', async () => {
    const { project } = packed
    for (const { name, code, place } of blocks) writeFileSync(join(project, name), `${code}// ${place}\n`)
    const options = ['--noCheck', '--noEmit', '--allowJs', '--module', 'nodenext', '--target', 'es2023']
    await compile([...options, '--types', ''], blocks)
  })

  const typed = programs.filter(({ name }) => name.endsWith('.mts'))
  it.runIf(typed.length > 0)('are right in their types, where they have some', async () => {
    const { project } = packed
    for (const { name, code } of typed) writeFileSync(join(project, name), code)
    const options = [
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2023',
      '--types',
      'node',
      '--skipLibCheck',
      'false',
    ]
    await compile(options, typed)
  })

  // Several may want the same port: the one that comes too late has another try.
  it.each(programs)('$place runs', { retry: 2, timeout: 20_000 }, async ({ name, code, output }) => {
    const { project } = packed
    const file = name.replace(/\.mts$/, '.mjs')
    if (file === name) writeFileSync(join(project, name), code)
    const program = startProgram(process.execPath, [file], { cwd: project })
    let quietSince = performance.now()
    let lines = 0
    let running = true
    void program.closed().then(() => (running = false))
    while (
      running &&
      (output.length > 0 ? !hasLines(program.lines, output) : performance.now() - quietSince < QUIET_MS)
    ) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (program.lines.length > lines) quietSince = performance.now()
      lines = program.lines.length
      if (performance.now() - quietSince > 10_000) break
    }
    const exit = running ? await program.stop('SIGINT') : await program.closed()
    expect(program.errorOutput).toBe('')
    expect([0, 'SIGINT']).toContain(exit)
    expect(hasLines(program.lines, output), program.output).toBe(true)
  })
})

describe('docs/ERRORS.md', () => {
  it('has a heading for every code of an error, and for no other', () => {
    const source = readFileSync(join(ROOT, 'src/errors.ts'), 'utf8')
    const codes = [...source.matchAll(/'(ERR_[A-Z0-9_]+)'/g)].map((match) => match[1])
    const headings = [...readDocument('docs/ERRORS.md').matchAll(/^#+ +`?(ERR_[A-Z0-9_]+)`?/gm)].map(
      (match) => match[1],
    )
    expect(headings.sort()).toEqual(codes.sort())
  })
})

describe('docs/LIMITS.md', () => {
  const UNITS: Readonly<Record<string, number>> = { '': 1, KiB: 1_024, MiB: 1_048_576, s: 1_000, ms: 1 }

  /** `1 MiB`, `16 KiB`, `1,024`, `10 s`, `close` as the value that the option has. */
  function parseDefault(cell: string): number | string {
    const [, digits, unit = ''] = /^([\d,]+) ?([A-Za-z]*)/.exec(cell.replaceAll('`', '')) ?? []
    if (digits === undefined) return cell.replaceAll('`', '')
    return Number(digits.replaceAll(',', '')) * (UNITS[unit] ?? Number.NaN)
  }

  it.each(Object.entries({ ...CONNECTION_DEFAULTS, ...HEAD_DEFAULTS }))('has the default of %s: %s', (name, value) => {
    const rows = readTableRows(readDocument('docs/LIMITS.md')).filter(([option]) => option === `\`${name}\``)
    expect(rows.length, `rows of ${name}`).toBeGreaterThan(0)
    for (const [, cell = ''] of rows) expect(parseDefault(cell), cell).toBe(value)
  })
})

describe('docs/COMPRESSION.md', () => {
  it('has all options, with their defaults, and no others', () => {
    const rows = readTableRows(readDocument('docs/COMPRESSION.md')).filter(([option]) => /^`\w+`$/.test(option ?? ''))
    const defaults = rows.map(([option = '', value = '']) => [option.slice(1, -1), value.slice(1, -1)])
    expect(Object.fromEntries(defaults)).toEqual(
      Object.fromEntries(Object.entries(COMPRESSION_DEFAULTS).map(([name, value]) => [name, String(value)])),
    )
  })
})
