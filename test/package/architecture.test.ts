import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT } from '../support/program.ts'
import { readSources } from '../support/sources.ts'

/*
 * The rooms of the house, from the cellar up; docs/ARCHITECTURE.md has the plan. A file imports from its own room, or
 * from those below it.
 */

interface Layer {
  readonly name: string
  readonly files: readonly string[]
  /** What it may have of Node. */
  readonly modules: readonly string[]
  /** What it may have of Node as types alone. */
  readonly types?: readonly string[]
  /** It may look at the clock, set timers, wait for promises and touch the process. */
  readonly hasTime?: boolean
}

const LAYERS: readonly Layer[] = [
  { name: 'both sides', files: ['browser/resume.ts'], modules: [], hasTime: true },
  { name: 'words', files: ['constants.ts', 'errors.ts'], modules: [] },
  {
    name: 'codecs',
    files: [
      'disposal.ts',
      'masking.ts',
      'utf8.ts',
      'framing.ts',
      'headers.ts',
      'http-head.ts',
      'handshake.ts',
      'admission.ts',
      'probe.ts',
      'target.ts',
      'nearest.ts',
      'extension.ts',
      'deflate.ts',
      'inflation.ts',
      'marks.ts',
    ],
    modules: ['node:buffer', 'node:crypto', 'node:zlib'],
  },
  {
    name: 'protocol',
    files: [
      ...['text.ts', 'assembly.ts', 'pieces.ts', 'close-frame.ts', 'outbox.ts', 'prepared.ts', 'sender.ts'],
      ...['protocol-host.ts', 'protocol.ts'],
      ...['topics.ts', 'sequences.ts', 'envelope.ts'],
    ],
    modules: ['node:buffer'],
  },
  {
    name: 'I/O',
    files: [
      ...[
        'handlers.ts',
        'options.ts',
        'batch.ts',
        'backlog.ts',
        'inbox.ts',
        'pings.ts',
        'repeats.ts',
        'socket-peer.ts',
        'socket-origin.ts',
        'data.ts',
        'message-streams.ts',
      ],
      ...[
        'ids.ts',
        'output.ts',
        'connection.ts',
        'listen.ts',
        'attach.ts',
        'refusal.ts',
        'reception.ts',
        'server-options.ts',
        'server.ts',
        'client.ts',
      ],
      ...[
        'backplane.ts',
        'history.ts',
        'memory-log.ts',
        'feeds.ts',
        'relay.ts',
        'hub.ts',
        'publisher.ts',
        'publishing.ts',
        'losses.ts',
      ],
      ...['dial.ts', 'streams.ts', 'websocket.ts', 'websocket-events.ts', 'reconnecting.ts'],
    ],
    modules: [
      'node:buffer',
      'node:crypto',
      'node:net',
      'node:tls',
      'node:timers',
      'node:events',
      'node:diagnostics_channel',
    ],
    types: ['node:http', 'node:https', 'node:stream'],
    hasTime: true,
  },
  {
    name: 'facade',
    files: ['api.ts', 'bridge-protocol.ts', 'bridge-main.ts', 'bridge-page.ts', 'bridge-electron.ts', 'bridge.ts'],
    modules: ['node:events'],
    hasTime: true,
  },
  { name: 'index', files: ['index.ts'], modules: [] },
]

/** Folders at the edge: they may do anything, know the library by its front door, and nobody knows them. */
const EDGES = ['browser/', 'cli/', 'cluster/', 'compat/']
/** Those that are made of the parts of the engine, and so may know them. */
const ADAPTERS = ['cluster/', 'compat/']

/** Where a reader starts to get lost. */
const MAX_LINES = 460
/** Longer ones, each with its reason. */
const LONG_FILES: Readonly<Record<string, string>> = {
  'connection.ts':
    'sending, receiving, holding back and closing share the state of one socket; a third is documentation',
  'compat/ws/websocket.ts': 'one class with the members that programs see on it; a quarter is typed events',
}

/** Names by which a file has time, or a process. */
const NAMES_OF_TIME = [
  ...['process', 'performance', 'Date', 'Promise', 'async', 'await', 'queueMicrotask'],
  ...['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval', 'clearImmediate'],
]
/** Names that nobody needs. */
const FORBIDDEN_NAMES = [
  'eval',
  'Function',
  'require',
  'globalThis',
  'global',
  '__dirname',
  '__filename',
  'any',
  'console',
]

const sources = readSources()
const edgeSources = sources.filter(({ path }) => layerOf(path) === -1 && EDGES.some((edge) => path.startsWith(edge)))
const inner = sources.filter((source) => !edgeSources.includes(source))

function layerOf(path: string): number {
  return LAYERS.findIndex(({ files }) => files.includes(path))
}

/** Every way from a file back to itself, as far as there is one. */
function findCycle(): string[] | undefined {
  const importsOf = new Map(sources.map(({ path, imports }) => [path, imports.map(({ target }) => target)]))
  const done = new Set<string>()
  const visit = (path: string, way: readonly string[]): string[] | undefined => {
    const at = way.indexOf(path)
    if (at !== -1) return [...way.slice(at), path]
    if (done.has(path)) return undefined
    for (const target of importsOf.get(path) ?? []) {
      const cycle = visit(target, [...way, path])
      if (cycle !== undefined) return cycle
    }
    done.add(path)
    return undefined
  }
  for (const { path } of sources) {
    const cycle = visit(path, [])
    if (cycle !== undefined) return cycle
  }
  return undefined
}

describe('the layers', () => {
  it('have every file in one of them, and no other', () => {
    expect(LAYERS.flatMap(({ files }) => files).sort()).toEqual(inner.map(({ path }) => path))
  })

  it('have no cycles, not even of types', () => {
    expect(findCycle()).toBeUndefined()
  })

  describe.each(inner)('$path', ({ path, imports, names }) => {
    const layer = LAYERS[layerOf(path)]

    it('imports what is below it or beside it', () => {
      for (const { target } of imports) {
        if (target.startsWith('node:')) continue
        expect(layerOf(target), `${target} is in no layer`).toBeGreaterThanOrEqual(0)
        expect(layerOf(target), `${target} is above ${path}`).toBeLessThanOrEqual(layerOf(path))
      }
    })

    it('has of Node what its layer may have', () => {
      for (const { target, typeOnly } of imports) {
        if (!target.startsWith('node:')) continue
        const allowed = [...(layer?.modules ?? []), ...(typeOnly ? (layer?.types ?? []) : [])]
        expect(allowed, `${path} imports ${target}`).toContain(target)
      }
    })

    it('has time only where its layer has', () => {
      if (layer?.hasTime === true) return
      expect(NAMES_OF_TIME.filter((name) => names.has(name))).toEqual([])
    })

    it('has nothing that nobody needs', () => {
      expect(FORBIDDEN_NAMES.filter((name) => names.has(name))).toEqual([])
    })
  })

  it('the facade has values from I/O alone, and types from below', () => {
    const io = LAYERS.find(({ name }) => name === 'I/O')
    const facade = inner.find(({ path }) => path === 'api.ts')
    const values = facade?.imports.filter(({ target, typeOnly }) => !typeOnly && !target.startsWith('node:')) ?? []
    for (const { target } of values) expect(io?.files).toContain(target)
  })

  it('the index re-exports and does nothing else', () => {
    const text = readFileSync(join(ROOT, 'src/index.ts'), 'utf8')
    expect(text.replaceAll(/^export (type )?\{[^}]*\} from '\.\/[\w-]+\.ts'\n/gm, '')).toBe('')
  })
})

describe('the edges', () => {
  it.each(edgeSources)('$path knows the library by its front door, or its engine', ({ path, imports }) => {
    const edge = EDGES.find((folder) => path.startsWith(folder)) as string
    const engine = LAYERS.slice(
      0,
      LAYERS.findIndex(({ name }) => name === 'facade'),
    ).flatMap(({ files }) => files)
    const known = ADAPTERS.includes(edge) ? engine : ['index.ts']
    for (const { target } of imports) {
      const own = target.startsWith(edge)
      expect(own || known.includes(target) || target.startsWith('node:'), `${path} imports ${target}`).toBe(true)
    }
  })
})

it('what pages load is files that need no other', () => {
  const files = sources.filter(({ path }) => path.startsWith('browser/'))
  expect(files.map(({ path, imports }) => [path, imports])).toEqual([
    ['browser/client.ts', []],
    ['browser/resume.ts', []],
  ])
})

describe('the files', () => {
  it('are not longer than a reader can take, or have a reason', () => {
    const long = sources.filter(({ lineCount }) => lineCount > MAX_LINES).map(({ path }) => path)
    expect(long.sort()).toEqual(Object.keys(LONG_FILES).sort())
  })

  it('have no names that say nothing', () => {
    const poor = /(^|\/)(utils?|helpers?|types|common|misc|shared)\.ts$/
    expect(sources.filter(({ path }) => poor.test(path))).toEqual([])
  })
})

it('there is no dependency at run time', () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<string, unknown>
  for (const kind of ['dependencies', 'peerDependencies', 'optionalDependencies', 'bundleDependencies']) {
    expect(manifest, kind).not.toHaveProperty(kind)
  }
  for (const { path, imports } of sources) {
    const foreign = imports.filter(({ target }) => !target.endsWith('.ts') && !target.startsWith('node:'))
    expect(foreign, path).toEqual([])
  }
})
