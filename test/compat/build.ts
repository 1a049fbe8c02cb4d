import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runNode } from '../support/package.ts'
import { ROOT } from '../support/program.ts'

/** What the build reads. */
const NEEDED = /^(src|scripts|package\.json|tsconfig.*\.json)$/

/** A folder with the project and its dist/, made by the build script; the project's own dist/ stays as it is. */
export async function buildApart(): Promise<{ folder: string; remove(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'fullduplex-compat-'))
  for (const name of readdirSync(ROOT)) {
    if (NEEDED.test(name)) cpSync(join(ROOT, name), join(folder, name), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'junction')
  await runNode([join(folder, 'scripts/build.mjs')], { cwd: folder })
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}
