import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCompiler } from './package.ts'
import { ROOT } from './program.ts'

/*
 * The files for pages, as they are published.
 */

export interface BuiltClient {
  readonly path: string
  readonly code: string
  /** What goes on where it was, for topics with a history. */
  readonly resumeCode: string
  remove(): void
}

/** Compiles it, into a folder of its own. */
export async function buildBrowserClient(): Promise<BuiltClient> {
  const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
  await runCompiler(['-p', 'tsconfig.browser.json', '--outDir', folder], { cwd: ROOT })
  const path = join(folder, 'browser/client.js')
  const resumeCode = readFileSync(join(folder, 'browser/resume.js'), 'utf8')
  return {
    path,
    code: readFileSync(path, 'utf8'),
    resumeCode,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}
