// npm run bench:topics: what topics cost, in one process and in several. See ../README.md.
import { writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { fileURLToPath } from 'node:url'
import { build } from '../contestants.ts'
import { Child } from '../processes.ts'
import { cluster } from './cluster.ts'
import type { Context } from './context.ts'
import { engine } from './engine.ts'
import { memory } from './memory.ts'
import { type Part, readOptions } from './options.ts'
import { placement, places } from './placement.ts'
import { publish } from './publish.ts'
import { type Outcome, table, versions } from './report.ts'

const run: Record<Part, (context: Context) => Promise<void>> = { publish, memory, cluster, engine }

const options = readOptions()
build()
const notes: string[] = []
const outcomes: Outcome[] = []
const load = await Child.start({
  command: process.execPath,
  args: [...process.execArgv, fileURLToPath(new URL('./load/main.ts', import.meta.url))],
  core: places.load,
})
const context: Context = {
  options,
  load,
  note(sentence) {
    if (notes.includes(sentence)) return
    notes.push(sentence)
    console.error(sentence)
  },
  report(outcome) {
    outcomes.push(outcome)
    console.log(`\n${table(outcome)}`)
    write()
  },
}
try {
  for (const part of options.parts) await run[part](context)
} finally {
  await load.stop()
}
if (outcomes.length > 0) {
  console.log(`\n${environment()}`)
} else {
  console.error('There was nothing to measure: the parts have no such workload.')
  process.exitCode = 2
}

function environment(): string {
  const [cpu] = cpus()
  return [
    `${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpu?.model.trim() ?? 'unknown CPU'},`,
    `${process.platform} ${release()}. ${versions(outcomes)}`,
    `Medians of ${options.rounds} interleaved rounds of ${options.seconds} s (memory: of at most 5 processes).`,
    placement,
    ...notes,
  ].join(' ')
}

function write(): void {
  if (options.markdown) writeFileSync(options.markdown, `${[...outcomes.map(table), environment()].join('\n\n')}\n`)
  const report = { environment: environment(), outcomes }
  if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)
}
