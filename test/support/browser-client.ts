import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCompiler } from './package.ts'
import { ROOT } from './program.ts'

/*
 * The client for pages, as it is published.
 */

export interface BuiltClient {
  readonly path: string
  readonly code: string
  remove(): void
}

/** Compiles it, into a folder of its own. */
export async function buildBrowserClient(): Promise<BuiltClient> {
  const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
  await runCompiler(['-p', 'tsconfig.browser.json', '--outDir', folder], { cwd: ROOT })
  const path = join(folder, 'browser/client.js')
  return { path, code: readFileSync(path, 'utf8'), remove: () => rmSync(folder, { recursive: true, force: true }) }
}
