// One round of one workload against one server.
import { setTimeout as sleep } from 'node:timers/promises'
import type { LoadRequest, RunResult, Wire } from './load/driver.ts'
import type { Child } from './processes.ts'
import { growth, type IdleWorkload, type PiecesWorkload, type Workload } from './workloads.ts'

export interface Sample {
  /** Server CPU per unit in microseconds; for idle connections, bytes of memory each. Less is better. */
  cost: number
  /** Units per second of wall time. */
  rate: number
  /** Memory of the server process right after the round. */
  rssBytes: number
  /** Share of the time in which the process was on its core. */
  serverBusy: number
  loadBusy: number
  /** The cost at each size, where a workload has several. */
  costs?: number[]
  /** Bytes on the wire per unit, where they are counted. */
  wire?: Wire
  /** What a connection takes of V8's heap and of the memory outside that V8 knows of; for idle connections. */
  heapBytes?: number
  externalBytes?: number
}

export interface Plan {
  seconds: number
  /** Uncounted seconds at the beginning of the round. */
  warmUpSeconds: number
  /** Compare every byte that comes back. */
  verify: boolean
}

export interface Usage {
  cpu: NodeJS.CpuUsage
  rss: number
  heap: number
  external: number
}

/** Connections that are there before memory is first read, so that what a server needs once is not counted. */
const FIRST_CONNECTIONS = 200

export async function round(workload: Workload, server: Child, load: Child, plan: Plan): Promise<Sample> {
  if (workload.kind === 'pieces') return pieces(workload, server, load, plan.verify)
  return connected(workload, server, load, plan.verify, async () => {
    if (workload.kind === 'idle') return memory(workload, server, load)
    await load.ask<RunResult>(running(plan.warmUpSeconds))
    return counted(server, load, running(plan.seconds))
  })
}

const running = (seconds: number, amount?: number): LoadRequest => ({
  ask: 'run',
  seconds,
  ...(amount !== undefined && { amount }),
})

/** Does something while the clients of a workload are there. */
async function connected<T>(workload: Workload, server: Child, load: Child, verify: boolean, act: () => Promise<T>) {
  const opening: LoadRequest = { ask: 'open', port: server.port, workload, verify }
  try {
    await load.ask(opening)
    return await act()
  } finally {
    const closing: LoadRequest = { ask: 'close' }
    await load.ask(closing)
    await sleep(50)
  }
}

/** Nothing is under way when the server's clock is read, before or after: the division is exact. */
async function counted(server: Child, load: Child, request: LoadRequest): Promise<Sample> {
  const before = await server.ask<Usage>({ ask: 'usage' })
  const run = await load.ask<RunResult>(request)
  const after = await server.ask<Usage>({ ask: 'usage' })
  const cpuMicros = after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system
  return {
    cost: cpuMicros / run.units,
    rate: run.units / run.seconds,
    rssBytes: after.rss,
    serverBusy: cpuMicros / 1e6 / run.seconds,
    loadBusy: run.cpuMicros / 1e6 / run.seconds,
    ...(run.wire && { wire: { to: run.wire.to / run.units, from: run.wire.from / run.units } }),
  }
}

/** A connection for each size. */
async function pieces(workload: PiecesWorkload, server: Child, load: Child, verify: boolean): Promise<Sample> {
  const samples: Sample[] = []
  for (const times of growth) {
    const request = running(0, workload.pieces * times)
    samples.push(await connected(workload, server, load, verify, () => counted(server, load, request)))
  }
  return { ...samples.at(-1)!, costs: samples.map(({ cost }) => cost) }
}

async function memory(workload: IdleWorkload, server: Child, load: Child): Promise<Sample> {
  await load.ask<RunResult>(running(0, FIRST_CONNECTIONS))
  const before = await settled(server)
  const run = await load.ask<RunResult>(running(0, workload.clients))
  const after = await settled(server)
  return {
    cost: (after.rss - before.rss) / run.units,
    heapBytes: (after.heap - before.heap) / run.units,
    externalBytes: (after.external - before.external) / run.units,
    rate: run.units / run.seconds,
    rssBytes: after.rss,
    serverBusy: Number.NaN,
    loadBusy: run.cpuMicros / 1e6 / run.seconds,
  }
}

/** Memory after three collections. */
async function settled(server: Child): Promise<Usage> {
  await sleep(500)
  for (let i = 0; i < 3; i++) {
    await server.ask({ ask: 'collect' })
    await sleep(300)
  }
  return server.ask<Usage>({ ask: 'usage' })
}
