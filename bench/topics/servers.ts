// The servers that can take part.
import { fileURLToPath } from 'node:url'
import { contestants } from '../contestants.ts'
import type { Program } from '../processes.ts'
import type { EngineName } from './engines.ts'
import type { DialectName } from './load/dialects.ts'
import { places } from './placement.ts'

export interface Server {
  name: string
  title: string
  /** What is measured for its own sake: its failures are failures of the benchmark. */
  own?: true
  /** Ratios are against the cheapest of these. */
  baseline?: true
  program: Program
}

/** A server of which there are several processes, with an engine between them. */
export interface ClusterServer extends Server {
  engine: EngineName
  dialect: DialectName
}

const path = (file: string) => fileURLToPath(new URL(`../servers/${file}`, import.meta.url))

const onNode = (node: string, file: string, env: NodeJS.ProcessEnv = {}): Program => ({
  command: node,
  args: ['--expose-gc', path(file)],
  env,
  core: places.first,
})

/** One process each. */
export function singleServers(node: string): Server[] {
  return [
    { name: 'fullduplex', title: 'fullduplex', own: true, program: onNode(node, 'topics-fullduplex.mjs') },
    { name: 'ws', title: 'ws, loop over a Set', baseline: true, program: onNode(node, 'topics-ws.mjs') },
    ...bun(node),
  ]
}

/** The same, and what rooms cost that can only be left by looking through all of them. */
export function servingMemory(node: string): Server[] {
  const names = onNode(node, 'topics-ws.mjs', { ROOMS: 'names' })
  return [
    { name: 'fullduplex', title: 'fullduplex', own: true, program: onNode(node, 'topics-fullduplex.mjs') },
    {
      name: 'ws',
      title: 'ws, Map of Sets, and a Set per client',
      baseline: true,
      program: onNode(node, 'topics-ws.mjs'),
    },
    { name: 'ws', title: 'ws, Map of Sets only', baseline: true, program: names },
    ...bun(node),
  ]
}

function bun(node: string): Server[] {
  const command = contestants(node, []).find(({ name }) => name === 'bun')?.program.command
  if (command === undefined) return []
  return [{ name: 'bun', title: 'Bun', program: { command, args: [path('topics-bun.mjs')], core: places.first } }]
}

export function clusterServers(node: string): ClusterServer[] {
  const ours = (client: string, engine: EngineName, name: string): ClusterServer => ({
    name,
    title: engine === 'redis' ? `fullduplex, Redis by ${client}` : 'fullduplex, NATS',
    own: true,
    engine,
    dialect: 'plain',
    program: onNode(node, 'topics-fullduplex.mjs', { ENGINE: client }),
  })
  const theirs = (client: string): ClusterServer => ({
    name: 'socket.io',
    title: `socket.io, Redis by ${client}`,
    baseline: true,
    engine: 'redis',
    dialect: 'socket.io',
    program: onNode(node, 'topics-socketio.mjs', { ENGINE: client }),
  })
  return [
    ours('node-redis', 'redis', 'fullduplex'),
    ours('ioredis', 'redis', 'fullduplex'),
    ours('nats', 'nats', 'fullduplex'),
    theirs('node-redis'),
    theirs('ioredis'),
  ]
}
