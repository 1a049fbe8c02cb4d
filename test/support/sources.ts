import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { ROOT } from './program.ts'

/*
 * The sources of the library as text: who imports whom, and which words they use.
 */

/** One import, or re-export. */
interface Import {
  /** A path below src/, or a module name. */
  readonly target: string
  /** Nothing of it is left at run time. */
  readonly typeOnly: boolean
}

export interface SourceFile {
  /** Path below src/, with slashes. */
  readonly path: string
  readonly lineCount: number
  readonly imports: readonly Import[]
  /** Names that stand in the code; those in comments and strings do not count, nor do properties. */
  readonly names: ReadonlySet<string>
}

const IMPORT = /^(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'/gm
const COMMENT_OR_STRING = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/g

function parseSource(path: string, text: string): SourceFile {
  const imports = [...text.matchAll(IMPORT)].map(([, type, target, dynamic]) => ({
    target: resolveImport(path, (target ?? dynamic)!),
    typeOnly: type !== undefined,
  }))
  const code = text.replaceAll(COMMENT_OR_STRING, (found) => (found.startsWith('/') ? '' : "''"))
  const names = new Set([...code.matchAll(/(?<![.\w$#])[A-Za-z_$][\w$]*(?![\w$]|\s*\??:)/g)].map(([name]) => name))
  return { path, lineCount: text.split('\n').length - 1, imports, names }
}

function resolveImport(from: string, target: string): string {
  return target.startsWith('.') ? posix.join(posix.dirname(from), target) : target
}

/** All of src/. */
export function readSources(): SourceFile[] {
  const folder = join(ROOT, 'src')
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((path) => path.replaceAll('\\', '/'))
  return paths
    .filter((path) => path.endsWith('.ts'))
    .sort()
    .map((path) => parseSource(path, readFileSync(join(folder, path), 'utf8')))
}
