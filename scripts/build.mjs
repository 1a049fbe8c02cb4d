// dist/ from src/: the compiler and nothing else.
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'

const root = new URL('..', import.meta.url)
rmSync(new URL('dist', root), { recursive: true, force: true })

const DECLARATIONS = ['--declaration', '--isolatedDeclarations', '--emitDeclarationOnly', '--removeComments', 'false']
const runs = [
  ['-p', 'tsconfig.build.json'],
  // Pages load this file as it is, without comments; its types have them.
  ['-p', 'tsconfig.browser.json'],
  ['-p', 'tsconfig.browser.json', ...DECLARATIONS],
]
for (const args of runs) {
  const { status } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', ...args], {
    cwd: root,
    stdio: 'inherit',
  })
  if (status !== 0) process.exit(status ?? 1)
}
