// What a delivery costs the server, where one process has all clients.
import { fileURLToPath } from 'node:url'
import type { LoadRequest as OtherLoadRequest } from '../load/driver.ts'
import { Child } from '../processes.ts'
import { type Context, isWanted, selected } from './context.ts'
import type { Lane } from './load/requests.ts'
import { fitting } from './options.ts'
import { places } from './placement.ts'
import { costs, percentages, rates } from './report.ts'
import { busy, type Contestant, compete, connected, counted, type Sample } from './rounds.ts'
import { type Server, singleServers } from './servers.ts'

const SUBSCRIBERS = 1000
const SIZE = 64

interface Workload {
  name: string
  title: string
  topics: number
  membersPerTopic: number
  /** With clients that are in no topic. */
  hasOthers?: true
  batch: number
}

const workloads: readonly Workload[] = [1, 16].flatMap((batch) => {
  const what = batch === 1 ? `${SIZE} B` : `${batch} × ${SIZE} B`
  const name = (base: string) => (batch === 1 ? base : `${base}-x${batch}`)
  const one = { topics: 1, membersPerTopic: SUBSCRIBERS, batch }
  return [
    { ...one, name: name('publish-1000'), title: `Publish ${what} to 1,000` },
    { ...one, name: name('publish-others'), title: `Publish ${what} to 1,000`, hasOthers: true as const },
    {
      name: name('publish-random'),
      title: `Publish ${what} to random ones of 10,000 topics, with 10 of 1,000 clients in each`,
      topics: 10_000,
      membersPerTopic: 10,
      batch,
    },
  ]
})

const columns = [
  ...costs('CPU µs per delivery', 'ws'),
  ...rates('Deliveries /s', 'ws'),
  percentages('Busy: server / load', 'serverBusy', 'loadBusy'),
]

export async function publish(context: Context): Promise<void> {
  for (const workload of workloads.filter(({ name }) => isWanted(context, name))) {
    // One more: who publishes. And the servers have a few files of their own.
    const others = workload.hasOthers ? fitting(context.options.others + SUBSCRIBERS + 1) - SUBSCRIBERS - 1 : 0
    await measure(context, workload, others)
  }
}

async function measure(context: Context, workload: Workload, others: number): Promise<void> {
  const { options, load } = context
  const children: Child[] = []
  const contestants: Contestant[] = []
  try {
    for (const server of selected(context, singleServers(options.node))) {
      try {
        const child = await Child.start(server.program)
        children.push(child)
        if (others > 0) children.push(await bystanders(child.port, others))
        contestants.push(contestant(server, child, workload, load))
      } catch (error) {
        context.note(`${server.title} is left out: ${(error as Error).message}.`)
        if (server.own) process.exitCode = 1
      }
    }
    await compete(contestants, options.rounds, options.seconds)
  } finally {
    await Promise.all(children.map((child) => child.stop()))
  }
  const { name, title } = workload
  const addition = others > 0 ? ` of ${(SUBSCRIBERS + others).toLocaleString('en-US')} clients` : ''
  context.report({ name, title: title + addition, columns, entries: contestants.map(({ entry }) => entry) })
}

function contestant(server: Server, child: Child, workload: Workload, load: Child): Contestant {
  const { topics, membersPerTopic, batch } = workload
  const subscribers = [{ port: child.port, count: SUBSCRIBERS }]
  const lane: Lane = {
    ...{ publisher: child.port, subscribers, topics, firstTopic: 0, membersPerTopic },
    ...{ batch, size: SIZE },
  }
  return {
    entry: { server, about: child.about, samples: [], failures: [] },
    round: (seconds) =>
      connected(load, { ask: 'open', dialect: 'plain', lanes: [lane] }, async (): Promise<Sample> => {
        const { run, cpuMicros } = await counted(load, [child], seconds)
        return {
          cost: cpuMicros[0]! / run.deliveries,
          rate: run.deliveries / run.seconds,
          serverBusy: busy(cpuMicros[0]!, run.seconds),
          loadBusy: busy(run.cpuMicros, run.seconds),
        }
      }),
  }
}

/** A process whose clients are connected and do nothing but answer Pings. */
async function bystanders(port: number, clients: number): Promise<Child> {
  const child = await Child.start({
    command: process.execPath,
    args: [...process.execArgv, fileURLToPath(new URL('../load/main.ts', import.meta.url))],
    core: places.load,
  })
  const ask = (request: OtherLoadRequest) => child.ask(request)
  const workload = { kind: 'idle', name: 'others', title: 'Others', clients } as const
  try {
    await ask({ ask: 'open', port, workload, verify: false })
    await ask({ ask: 'run', seconds: 0, amount: clients })
  } catch (error) {
    await child.stop()
    throw error
  }
  return child
}
