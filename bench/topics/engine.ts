// What one engine carries, and how long a message takes by way of it.
import { type Context, isWanted } from './context.ts'
import type { Lane, LatencyResult, LoadRequest } from './load/requests.ts'
import { places } from './placement.ts'
import { type Cluster, startClusters } from './processes.ts'
import { column, percentages } from './report.ts'
import { busy, type Contestant, compete, connected, counted, type Sample } from './rounds.ts'

const SIZE = 64
const workloads = [1, 16, 256].map((batch) => ({ batch, name: batch === 1 ? 'engine' : `engine-x${batch}` }))
/** Clients that publish, of each process that does: so many ticks are under way. */
const PUBLISHERS = 4

const carrying = [
  column('Messages /s, each to two processes', 'rate'),
  column('CPU µs per message: engine', 'engineCost'),
  column('both publishers / both others', 'publishersCost', 'othersCost'),
  percentages('Busy: engine / all four / load', 'engineBusy', 'serverBusy', 'loadBusy'),
  column('Engine alone on a core: messages /s', 'engineRate'),
]

const latencies = [
  column('To a client of the same process: p50 / p99 ms', 'near50', 'near99'),
  column('To a client of another process: p50 / p99 ms', 'far50', 'far99'),
]

export async function engine(context: Context): Promise<void> {
  await carry(context)
  if (isWanted(context, 'latency')) await latency(context)
}

async function carry(context: Context): Promise<void> {
  const { options } = context
  const wanted = workloads.filter(({ name }) => isWanted(context, name))
  if (wanted.length === 0) return
  const clusters = await startClusters(context, [places.first, places.first, places.second, places.second])
  try {
    for (const { batch, name } of wanted) {
      const contestants = clusters.map((each) => carrier(each, batch, context))
      await compete(contestants, options.rounds, options.seconds)
      const what = batch === 1 ? 'one message' : `${batch} messages`
      context.report({
        name,
        title: `From two processes to two others: ${what} of ${SIZE} B in a tick`,
        columns: carrying,
        entries: contestants.map(({ entry }) => entry),
      })
    }
  } finally {
    await Promise.all(clusters.map((each) => each.stop()))
  }
}

/** Each client that publishes has a topic of its own, in which each of the other processes has a client. */
function carrier({ server, children, engine, entry }: Cluster, batch: number, { load }: Context): Contestant {
  const ports = children.map(({ port }) => port)
  const subscribers = ports.slice(2).map((port) => ({ port, count: 1 }))
  const lanes = Array.from({ length: 2 * PUBLISHERS }, (_, index): Lane => {
    const publisher = ports[index % 2]!
    return { publisher, subscribers, topics: 1, firstTopic: index, membersPerTopic: 2, batch, size: SIZE }
  })
  return {
    entry: { ...entry, samples: [], failures: [] },
    round: (seconds) =>
      connected(load, { ask: 'open', dialect: server.dialect, lanes }, async (): Promise<Sample> => {
        const { run, cpuMicros, watchedMicros } = await counted(load, children, seconds, () => engine.cpuMicros())
        const [a = 0, b = 0, c = 0, d = 0] = cpuMicros
        return {
          rate: run.messages / run.seconds,
          engineCost: watchedMicros / run.messages,
          publishersCost: (a + b) / run.messages,
          othersCost: (c + d) / run.messages,
          engineBusy: busy(watchedMicros, run.seconds),
          serverBusy: busy(a + b + c + d, run.seconds),
          loadBusy: busy(run.cpuMicros, run.seconds),
          engineRate: (1e6 * run.messages) / watchedMicros,
        }
      }),
  }
}

async function latency(context: Context): Promise<void> {
  const { options } = context
  const clusters = await startClusters(context, [places.first, places.second])
  try {
    const contestants = clusters.map((each) => messenger(each, context))
    await compete(contestants, options.rounds, options.seconds)
    context.report({
      name: 'latency',
      title: `One message of ${SIZE} B at a time, from the client that publishes to another client`,
      columns: latencies,
      entries: contestants.map(({ entry }) => entry),
    })
  } finally {
    await Promise.all(clusters.map((each) => each.stop()))
  }
}

function messenger({ server, children, entry }: Cluster, { load }: Context): Contestant {
  const ports = children.map(({ port }) => port)
  const lane: Lane = {
    publisher: ports[0]!,
    subscribers: ports.map((port) => ({ port, count: 1 })),
    ...{ topics: 1, firstTopic: 0, membersPerTopic: 2 },
    ...{ batch: 1, size: SIZE },
  }
  return {
    entry: { ...entry, samples: [], failures: [] },
    round: (seconds) =>
      connected(load, { ask: 'open', dialect: server.dialect, lanes: [lane] }, async (): Promise<Sample> => {
        const [near, far] = await load.ask<LatencyResult>({ ask: 'latency', seconds } satisfies LoadRequest)
        return { near50: near!.p50, near99: near!.p99, far50: far!.p50, far99: far!.p99 }
      }),
  }
}
