// Bytes per subscription, in a process that has done nothing else.
import { setTimeout as sleep } from 'node:timers/promises'
import { Child } from '../processes.ts'
import type { Usage } from '../rounds.ts'
import { type Context, isWanted, selected } from './context.ts'
import type { LoadRequest, Membership } from './load/requests.ts'
import { fitting } from './options.ts'
import { type Column, middle } from './report.ts'
import { connected, type Entry, failed, type Sample } from './rounds.ts'
import { type Server, servingMemory } from './servers.ts'

/** Each has processes of its own. */
const MAX_ROUNDS = 5

interface Workload {
  name: string
  title: string
  membership: Membership
  clients: number
  subscriptions: number
}

const columns: readonly Column[] = [
  { header: 'V8 heap, bytes per subscription', cell: (entry) => bytes(middle(entry, 'heap')) },
  {
    header: 'less than the smallest Map of Sets',
    cell: (entry, base) => ratio(base, entry),
  },
  { header: 'RSS, bytes per subscription', cell: (entry) => bytes(middle(entry, 'rss')) },
]

export async function memory(context: Context): Promise<void> {
  const many = fitting(10_000)
  const workloads: readonly Workload[] = [
    {
      name: 'memory-one-client',
      title: 'One client in 100,000 topics',
      membership: 'all-in-one-client',
      clients: 1,
      subscriptions: 100_000,
    },
    {
      name: 'memory-spread',
      title: '1,000 clients in 100 topics each, 100,000 topics with one member',
      membership: 'spread',
      clients: 1000,
      subscriptions: 100_000,
    },
    {
      name: 'memory-one-topic',
      title: `${many.toLocaleString('en-US')} clients in one topic`,
      membership: 'one-topic',
      clients: many,
      subscriptions: many,
    },
  ]
  for (const workload of workloads) if (isWanted(context, workload.name)) await measure(context, workload)
}

async function measure(context: Context, workload: Workload): Promise<void> {
  const { options, load } = context
  const entries: Entry[] = selected(context, servingMemory(options.node)).map((server) => ({
    ...{ server, about: '', samples: [], failures: [] },
  }))
  for (let i = 0; i < Math.min(options.rounds, MAX_ROUNDS); i++) {
    for (const entry of entries) {
      try {
        const child = await Child.start(entry.server.program)
        entry.about = child.about
        try {
          entry.samples.push(await round(entry.server, child, load, workload))
        } finally {
          await child.stop()
        }
      } catch (error) {
        failed(entry, error)
      }
    }
  }
  const { name, title } = workload
  context.report({ name, title, columns, entries })
}

function round(server: Server, child: Child, load: Child, workload: Workload): Promise<Sample> {
  const { membership, subscriptions, clients } = workload
  return connected(load, { ask: 'gather', port: child.port, clients }, async () => {
    const before = await settled(child)
    await load.ask({ ask: 'join', membership, subscriptions } satisfies LoadRequest)
    const after = await settled(child)
    const each = (of: (usage: Usage) => number) => (of(after) - of(before)) / subscriptions
    const heap = each((usage) => usage.heap)
    // Bun keeps its topics outside of the heap that it knows of.
    return { cost: heap, heap: server.name === 'bun' ? Number.NaN : heap, rss: each((usage) => usage.rss) }
  })
}

/** Memory after three collections. */
async function settled(server: Child): Promise<Usage> {
  await sleep(300)
  for (let i = 0; i < 3; i++) {
    await server.ask({ ask: 'collect' })
    await sleep(100)
  }
  return server.ask<Usage>({ ask: 'usage' })
}

const bytes = (value: number): string => (Number.isFinite(value) ? Math.round(value).toLocaleString('en-US') : '–')

function ratio(base: Entry | undefined, entry: Entry): string {
  const value = base === undefined ? Number.NaN : middle(base, 'heap') / middle(entry, 'heap')
  return Number.isFinite(value) ? `${value.toFixed(2)}×` : '–'
}
