import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from './program.ts'

/*
 * The package as users get it: built, packed and installed, all in a folder of its own; dist/ stays as it is.
 */

const WINDOWS = process.platform === 'win32'
/** Not part of what is built. */
const LEFT_OUT = new Set(['node_modules', 'dist', 'coverage', '.git', 'bench', 'examples', 'package-lock.json'])

const execute = promisify(execFile)

export interface RunOptions {
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a program to its end; rejects with what it wrote when it fails. */
export async function run(command: string, args: readonly string[], { cwd, env }: RunOptions): Promise<string> {
  try {
    const options = { cwd, env: { ...process.env, ...env }, shell: WINDOWS && command === 'npm', maxBuffer: 2 ** 26 }
    const { stdout } = await execute(command, args, options)
    return stdout
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    throw new Error(`${basename(command)} ${args.join(' ')} failed:\n${stdout}\n${stderr}`)
  }
}

/** Runs Node. */
export function runNode(args: readonly string[], options: RunOptions): Promise<string> {
  return run(process.execPath, args, options)
}

/** Runs the compiler. */
export function runCompiler(args: readonly string[], options: RunOptions): Promise<string> {
  return runNode([join(ROOT, 'node_modules/typescript/bin/tsc'), ...args], options)
}

export interface Packed {
  /** An empty project, for what a test wants to put there. */
  readonly project: string
  readonly tarball: string
  remove(): void
}

/** Builds and packs, by the scripts of package.json. */
export async function packProject(): Promise<Packed> {
  const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
  const staging = join(folder, 'staging')
  const project = join(folder, 'project')
  mkdirSync(staging)
  mkdirSync(project)
  for (const name of readdirSync(ROOT)) {
    if (!LEFT_OUT.has(name)) cpSync(join(ROOT, name), join(staging, name), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(staging, 'node_modules'), 'junction')
  await run('npm', ['pack', '--pack-destination', folder, '--loglevel=error'], { cwd: staging })
  const [tarball, ...others] = readdirSync(folder).filter((name) => name.endsWith('.tgz'))
  if (tarball === undefined || others.length > 0) throw new Error('npm pack did not make one tarball')
  writeFileSync(join(project, 'package.json'), '{ "name": "project", "version": "1.0.0", "type": "module" }\n')
  return {
    project,
    tarball: join(folder, tarball),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** Installs the tarball in the project; nothing is fetched, for nothing else is needed. */
export async function installPackage({ project, tarball }: Packed): Promise<void> {
  await run('npm', ['install', '--offline', '--loglevel=error', tarball], { cwd: project })
}

/** Gives the project the types of Node, and no others. */
export function linkNodeTypes({ project }: Packed): void {
  const types = join(project, 'node_modules/@types')
  mkdirSync(types, { recursive: true })
  symlinkSync(join(ROOT, 'node_modules/@types/node'), join(types, 'node'), 'junction')
}
