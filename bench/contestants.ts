// The servers that can take part.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { cores, type Program } from './processes.ts'
import type { Workload } from './workloads.ts'

export interface Contestant {
  name: string
  title: string
  /** Its answers have the right size only. */
  unverified?: true
  /** What its program is told to compress with, where a workload compresses; without it, it takes no part in those. */
  compression?: 'default' | 'takeover'
  /** It takes part in nothing else. */
  compressesOnly?: true
  program: Program
}

/** Ratios are against this one. */
export const baseline = 'ws'
/** The one in bold. */
export const own = 'fullduplex'

/** Whether it takes part in a workload. */
export function takesPart({ name, compression, compressesOnly }: Contestant, workload: Workload): boolean {
  if (workload.without?.includes(name)) return false
  return workload.compressed ? compression !== undefined : compressesOnly !== true
}

/** Its program for a workload. */
export function programFor({ program, compression = 'default' }: Contestant, { compressed }: Workload): Program {
  return compressed ? { ...program, env: { ...program.env, COMPRESSION: compression } } : program
}

const root = new URL('..', import.meta.url)
const path = (file: string) => fileURLToPath(new URL(file, import.meta.url))

/** `builds` are further builds of fullduplex to compare: name=folder. Servers on Node hold `heapObjects` beside them. */
export function contestants(node: string, builds: readonly string[], heapObjects = 0): Contestant[] {
  const heap = heapObjects > 0 ? ['--import', pathToFileURL(path('servers/heap.mjs')).href] : []
  const onNode = (file: string, env: NodeJS.ProcessEnv = {}): Program => ({
    command: node,
    args: ['--expose-gc', ...heap, path(file)],
    env: { ...env, HEAP_OBJECTS: String(heapObjects) },
    core: cores.server,
  })
  const bun = findBun()
  return [
    { name: own, title: 'fullduplex', compression: 'default', program: onNode('servers/fullduplex.mjs') },
    {
      name: 'fullduplex-takeover',
      title: 'fullduplex, context takeover',
      compression: 'takeover',
      compressesOnly: true,
      program: onNode('servers/fullduplex.mjs'),
    },
    {
      name: 'fullduplex-ws',
      title: 'fullduplex/ws',
      compression: 'default',
      program: onNode('servers/ws.mjs', { WS_DROP_IN: '1' }),
    },
    ...builds.map((build) => {
      const [name = '', folder = ''] = build.split('=')
      const program = onNode('servers/fullduplex.mjs', { FULLDUPLEX_DIST: folder })
      return { name, title: name, compression: 'default' as const, program }
    }),
    {
      name: 'ws',
      title: 'ws',
      compression: 'default',
      program: onNode('servers/ws.mjs', { WS_NO_BUFFER_UTIL: '1' }),
    },
    { name: 'ws-bufferutil', title: 'ws + bufferutil', program: onNode('servers/ws.mjs') },
    { name: 'floor', title: 'node:net floor', unverified: true, program: onNode('servers/floor.mjs') },
    ...(bun
      ? [{ name: 'bun', title: 'Bun', program: { command: bun, args: [path('servers/bun.mjs')], core: cores.server } }]
      : []),
  ]
}

function findBun(): string | undefined {
  const places = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'bun'))
  return [process.env['BUN'] ?? '', ...places].find((file) => file !== '' && existsSync(file))
}

/** What is measured is what is published: dist/, built from the present sources (or what FULLDUPLEX_DIST names). */
export function build(): void {
  if (process.env['FULLDUPLEX_DIST']) return
  const sources = readdirSync(new URL('src', root), { recursive: true, withFileTypes: true })
  const newest = Math.max(...sources.filter((e) => e.isFile()).map((e) => modified(join(e.parentPath, e.name))))
  if (modified(new URL('dist/index.js', root)) >= newest) return
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL('scripts/build.mjs', root))], {
    stdio: 'inherit',
  })
  if (status !== 0) throw new Error('the build failed')
}

const modified = (file: string | URL): number => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
