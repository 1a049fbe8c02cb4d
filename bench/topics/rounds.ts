// Rounds in turn: what disturbs the machine for a while disturbs everybody.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Child } from '../processes.ts'
import type { Usage } from '../rounds.ts'
import type { LoadRequest, RunResult } from './load/requests.ts'
import type { Server } from './servers.ts'

/** Figures of a round, by name. */
export type Sample = Readonly<Record<string, number>>

/** The rounds of one server in one workload. */
export interface Entry {
  server: Server
  /** Versions. */
  about: string
  samples: Sample[]
  failures: string[]
}

export interface Contestant {
  entry: Entry
  round(seconds: number): Promise<Sample>
}

const WARM_UP_SECONDS = 1
const WARM_UP_OF_A_ROUND_SECONDS = 0.1
/** Failures of a server in a workload. */
const GIVE_UP_AFTER = 2

/** The first round warms up and is not counted. */
export async function compete(contestants: readonly Contestant[], rounds: number, seconds: number): Promise<void> {
  for (let i = 0; i <= rounds; i++) {
    for (const { entry, round } of contestants) {
      if (entry.failures.length >= GIVE_UP_AFTER) continue
      try {
        const sample = await round(i === 0 ? Math.min(WARM_UP_SECONDS, seconds * 2) : seconds)
        if (i > 0) entry.samples.push(sample)
      } catch (error) {
        failed(entry, error)
      }
    }
  }
}

export function failed(entry: Entry, error: unknown): void {
  entry.failures.push((error as Error).message)
  if (entry.server.own) process.exitCode = 1
}

/** Does something while the clients are there. */
export async function connected<T>(load: Child, opening: LoadRequest, act: () => Promise<T>): Promise<T> {
  const ask = (request: LoadRequest) => load.ask(request)
  try {
    await ask(opening)
    return await act()
  } finally {
    await ask({ ask: 'close' })
    await sleep(50)
  }
}

/** What is read before and after a run: nothing is under way then, so that divisions are exact. */
export interface Counted {
  run: RunResult
  /** CPU time of each server, and of what else was to be watched, in microseconds. */
  cpuMicros: number[]
  watchedMicros: number
}

export async function counted(
  load: Child,
  servers: readonly Child[],
  seconds: number,
  watched: () => number = () => 0,
): Promise<Counted> {
  const run = (length: number) => load.ask<RunResult>({ ask: 'run', seconds: length } satisfies LoadRequest)
  const usage = () => Promise.all(servers.map(cpuOf))
  // What the joining has left behind is not the publishing's to clean up.
  await Promise.all(servers.map((server) => server.ask({ ask: 'collect' })))
  await run(WARM_UP_OF_A_ROUND_SECONDS)
  const before = await usage()
  const watchedBefore = watched()
  const result = await run(seconds)
  const watchedMicros = watched() - watchedBefore
  const after = await usage()
  return { run: result, cpuMicros: after.map((micros, index) => micros - before[index]!), watchedMicros }
}

async function cpuOf(server: Child): Promise<number> {
  const { cpu } = await server.ask<Usage>({ ask: 'usage' })
  return cpu.user + cpu.system
}

export const busy = (micros: number, seconds: number): number => micros / 1e6 / seconds
