// Installs the development dependencies when they are missing or older than the lock file: a fresh clone needs no
// other command than `npm start` or `npm test`.
import { spawnSync } from 'node:child_process'
import { statSync, writeFileSync } from 'node:fs'

const modified = (path) => statSync(new URL(`../${path}`, import.meta.url), { throwIfNoEntry: false })?.mtimeMs ?? 0

if (modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
  console.log('Installing development dependencies (npm ci) ...')
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: new URL('..', import.meta.url),
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
  if (status !== 0) {
    console.error('npm ci failed; see above.')
    process.exit(1)
  }
}

// `npm start` is `exec node ...`, so that no shell stands between npm and the app and Ctrl-C reaches it. The shell of
// Windows has no exec and needs none: this one runs what it is given.
if (process.platform === 'win32') writeFileSync(new URL('../node_modules/.bin/exec.cmd', import.meta.url), '@%*\r\n')
