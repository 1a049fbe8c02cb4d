// dist/ from src/: the compiler and nothing else. The code goes without its comments, the types keep them.
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'

const root = new URL('..', import.meta.url)
rmSync(new URL('dist', root), { recursive: true, force: true })

const DECLARATIONS = ['--declaration', '--isolatedDeclarations', '--emitDeclarationOnly', '--removeComments', 'false']
const runs = ['tsconfig.build.json', 'tsconfig.browser.json'].flatMap((project) => [
  ['-p', project],
  ['-p', project, ...DECLARATIONS],
])
for (const args of runs) {
  const { status } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', ...args], {
    cwd: root,
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(status ?? 1)
}
