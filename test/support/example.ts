import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inject } from 'vitest'
import { type Program, startProgram } from './program.ts'

/*
 * Examples as their readers start them; examples.ts has put them into a project.
 */

export interface ExampleOptions {
  /** The script in the example's package.json; default `start`. */
  readonly script?: string
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Modules that are loaded first. */
  readonly imports?: readonly string[]
}

/** A path in the project. */
export function inProject(...names: string[]): string {
  return join(inject('examples'), ...names)
}

/** Starts what `npm run SCRIPT` starts; npm itself would stand between the test and the program. */
export function startExample(name: string, options: ExampleOptions = {}): Program {
  const { script = 'start', args = [], env, imports = [] } = options
  const folder = inProject(name)
  const { scripts } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    scripts: Readonly<Record<string, string>>
  }
  const [command, ...words] = (scripts[script] ?? '').split(' ')
  if (command !== 'node') throw new Error(`${name}: the script ${script} is not a program of Node`)
  const nodeArgs = imports.flatMap((path) => ['--import', path])
  return startProgram(process.execPath, [...nodeArgs, ...words, ...args], {
    cwd: folder,
    env: { ...process.env, PORT: '0', ...env },
  })
}

/** The first address in the first line that a server prints. */
export async function addressIn(program: Program): Promise<URL> {
  const line = await program.line('://')
  return new URL(line.match(/\w+:\/\/[^\s,]+/)![0])
}
