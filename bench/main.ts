// npm run bench: fullduplex, ws and a bare node:net server under the same load, in turn. See README.md.
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { fileURLToPath } from 'node:url'
import { build, type Contestant, own, programFor, takesPart } from './contestants.ts'
import { needsBuild, type Options, readOptions } from './options.ts'
import { Child, cores, pinned } from './processes.ts'
import type { Entry, Environment, Outcome } from './report/figures.ts'
import { details, markdown, summary } from './report/markdown.ts'
import { svg } from './report/svg.ts'
import { round } from './rounds.ts'
import type { Workload } from './workloads.ts'

const WARM_UP_SECONDS = 1
const WARM_UP_OF_A_ROUND_SECONDS = 0.1
/** Rounds of the workloads that start a process each time, or take long. */
const FEW_ROUNDS = 3
/** Failures of a server in a workload. */
const GIVE_UP_AFTER = 2

interface Running {
  contestant: Contestant
  server: Child
  entry: Entry
}

const options = readOptions()
const environment = describeEnvironment(options)
if (needsBuild(options)) build()
const load = await Child.start({
  command: process.execPath,
  args: [...process.execArgv, fileURLToPath(new URL('./load/main.ts', import.meta.url))],
  core: cores.load,
})
const outcomes: Outcome[] = []
try {
  for (const workload of options.workloads) {
    const outcome = await measure(fitting(workload))
    outcomes.push(outcome)
    console.log(`\n${details(outcome)}`)
    write()
  }
} finally {
  await load.stop()
}
console.log(`\n${summary({ environment, outcomes })}`)

async function measure(workload: Workload): Promise<Outcome> {
  const wanted = options.contestants.filter((contestant) => takesPart(contestant, workload))
  const fresh = workload.kind === 'idle'
  const rounds = fresh || workload.kind === 'pieces' ? Math.min(options.rounds, FEW_ROUNDS) : options.rounds
  let running = await startAll(wanted, workload)
  const entries = running.map(({ entry }) => entry)
  try {
    // The first round warms up, and every byte of it is compared.
    if (!fresh) for (const each of running) await attempt(each, workload, true)
    for (let i = 0; i < rounds; i++) {
      for (const each of running) await attempt(each, workload, false)
      // Memory is that of a process which has not done anything before.
      if (fresh && i + 1 < rounds) running = await restart(running, workload)
    }
  } finally {
    await stopAll(running)
  }
  return { workload, entries }
}

async function attempt({ contestant, server, entry }: Running, workload: Workload, warmUp: boolean): Promise<void> {
  if (entry.failures.length === GIVE_UP_AFTER) return
  try {
    const sample = await round(workload, server, load, {
      seconds: warmUp ? WARM_UP_SECONDS : options.seconds,
      warmUpSeconds: WARM_UP_OF_A_ROUND_SECONDS,
      verify: (warmUp || options.verify) && !contestant.unverified,
    })
    if (!warmUp) entry.samples.push(sample)
  } catch (error) {
    entry.failures.push((error as Error).message)
    if (contestant.name === own) process.exitCode = 1
  }
}

async function startAll(contestants: readonly Contestant[], workload: Workload): Promise<Running[]> {
  const running: Running[] = []
  for (const contestant of contestants) {
    try {
      const server = await Child.start(programFor(contestant, workload))
      const { name, title } = contestant
      running.push({ contestant, server, entry: { name, title, about: server.about, samples: [], failures: [] } })
    } catch (error) {
      note(`${contestant.title} is left out: ${(error as Error).message}.`)
      if (contestant.name === own) process.exitCode = 1
    }
  }
  return running
}

async function restart(running: readonly Running[], workload: Workload): Promise<Running[]> {
  await stopAll(running)
  return Promise.all(
    running.map(async (each) => ({ ...each, server: await Child.start(programFor(each.contestant, workload)) })),
  )
}

async function stopAll(running: readonly Running[]): Promise<void> {
  await Promise.all(running.map(({ server }) => server.stop()))
}

/** As many connections as a process may have files open. */
function fitting(workload: Workload): Workload {
  if (workload.kind !== 'idle' || process.platform !== 'linux') return workload
  const limit = Number(/Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Infinity)
  const clients = Math.min(workload.clients, limit - 100)
  if (clients < workload.clients) note(`Idle connections: ${clients}, because no more files may be open.`)
  return { ...workload, clients }
}

function note(text: string): void {
  if (environment.notes.includes(text)) return
  environment.notes.push(text)
  console.error(text)
}

function describeEnvironment({ rounds, seconds }: Options): Environment {
  const [cpu] = cpus()
  const machine = `${cpus().length} × ${cpu?.model.trim() ?? 'unknown CPU'}, ${process.platform} ${release()}`
  if (!pinned) console.error('Server and load are not pinned to cores: the figures will vary more.')
  return { date: new Date().toISOString(), machine, pinned, rounds, seconds, notes: [] }
}

function write(): void {
  const report = { environment, outcomes }
  if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)
  if (options.markdown) writeFileSync(options.markdown, `${markdown(report)}\n`)
  if (options.svg) writeFileSync(options.svg, svg(report))
}
