import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { installPackage, packProject } from './package.ts'
import { ROOT } from './program.ts'

/*
 * Once for all tests of the examples: a project in which the packed library is installed, with copies of the examples,
 * and a folder for each of the two versions of ws whose programs are to get the library instead.
 */

/** What examples and documents need beside the library. */
const OTHERS = ['express', 'socket.io', 'socket.io-client', 'redis', '@nats-io/transport-node']
/** What `ws` is in a folder of the project. */
const ALIASES = { ws7: 'dist/compat/ws7.js', ws8: 'dist/compat/ws.js' }

declare module 'vitest' {
  interface ProvidedContext {
    /** The project: `chat`, `express` and so on are the examples; in `ws7` and `ws8` the name `ws` is the library. */
    examples: string
  }
}

export default async function setup(testProject: TestProject): Promise<() => void> {
  const packed = await packProject()
  await installPackage(packed)
  const { project } = packed
  const modules = join(project, 'node_modules')
  for (const name of OTHERS) {
    mkdirSync(dirname(join(modules, name)), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules', name), join(modules, name), 'junction')
  }
  // Here the library comes from the project around it, wherever the example's package.json takes it from.
  cpSync(join(ROOT, 'examples'), project, { recursive: true, filter: (path) => basename(path) !== 'node_modules' })
  for (const [folder, path] of Object.entries(ALIASES)) {
    const alias = join(project, folder, 'node_modules/ws')
    mkdirSync(alias, { recursive: true })
    symlinkSync(join(modules, 'fullduplex/dist'), join(alias, 'dist'), 'junction')
    writeFileSync(join(alias, 'package.json'), JSON.stringify({ name: 'ws', type: 'module', exports: `./${path}` }))
  }
  testProject.provide('examples', project)
  return () => packed.remove()
}
