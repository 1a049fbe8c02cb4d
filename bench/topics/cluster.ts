// What a delivery costs where there are two processes, and half of the subscribers are with the one that does not publish.
import { type Context, isWanted } from './context.ts'
import type { Lane } from './load/requests.ts'
import { places } from './placement.ts'
import { type Cluster, startClusters } from './processes.ts'
import { column, costs, percentages, rates } from './report.ts'
import { busy, type Contestant, compete, connected, counted, type Sample } from './rounds.ts'

/** Of each process. */
const SUBSCRIBERS = 250
const SIZE = 64
const workloads = [1, 16, 64].map((batch) => ({ batch, name: batch === 1 ? 'cluster' : `cluster-x${batch}` }))

const columns = [
  ...costs('CPU µs per delivery, both processes', 'socket.io'),
  column('of the one that publishes / of the other', 'firstCost', 'secondCost'),
  ...rates('Deliveries /s', 'socket.io'),
  column('Engine, CPU µs per message', 'engineCost'),
  percentages('Busy: servers / load', 'serverBusy', 'loadBusy'),
]

export async function cluster(context: Context): Promise<void> {
  const { options } = context
  const wanted = workloads.filter(({ name }) => isWanted(context, name))
  if (wanted.length === 0) return
  const clusters = await startClusters(context, [places.first, places.second])
  try {
    for (const { batch, name } of wanted) {
      const contestants = clusters.map((each) => contestant(each, batch, context))
      await compete(contestants, options.rounds, options.seconds)
      const what = batch === 1 ? `${SIZE} B` : `${batch} × ${SIZE} B`
      context.report({
        name,
        title: `Publish ${what} to ${SUBSCRIBERS} clients in this process and ${SUBSCRIBERS} in another`,
        columns,
        entries: contestants.map(({ entry }) => entry),
      })
    }
  } finally {
    await Promise.all(clusters.map((each) => each.stop()))
  }
}

function contestant({ server, children, engine, entry }: Cluster, batch: number, { load }: Context): Contestant {
  const ports = children.map(({ port }) => port)
  const lane: Lane = {
    publisher: ports[0]!,
    subscribers: ports.map((port) => ({ port, count: SUBSCRIBERS })),
    ...{ topics: 1, firstTopic: 0, membersPerTopic: 2 * SUBSCRIBERS },
    ...{ batch, size: SIZE },
  }
  return {
    entry: { ...entry, samples: [], failures: [] },
    round: (seconds) =>
      connected(load, { ask: 'open', dialect: server.dialect, lanes: [lane] }, async (): Promise<Sample> => {
        const { run, cpuMicros, watchedMicros } = await counted(load, children, seconds, () => engine.cpuMicros())
        const [first = 0, second = 0] = cpuMicros
        return {
          cost: (first + second) / run.deliveries,
          firstCost: first / (run.deliveries / 2),
          secondCost: second / (run.deliveries / 2),
          rate: run.deliveries / run.seconds,
          engineCost: watchedMicros / run.messages,
          serverBusy: busy(first + second, run.seconds),
          loadBusy: busy(run.cpuMicros, run.seconds),
        }
      }),
  }
}
