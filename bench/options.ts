import { parseArgs } from 'node:util'
import { type Contestant, contestants, own } from './contestants.ts'
import { type Workload, workloads } from './workloads.ts'

export interface Options {
  workloads: readonly Workload[]
  contestants: readonly Contestant[]
  rounds: number
  seconds: number
  verify: boolean
  json: string | undefined
  svg: string | undefined
  markdown: string | undefined
}

const help = `npm run bench -- [options]

  --workloads a,b    of: ${workloads.map(({ name, extra }) => (extra ? `(${name})` : name)).join(' ')}
                     (in brackets: only when named)
  --servers a,b      of: fullduplex fullduplex-takeover fullduplex-ws ws ws-bufferutil floor
                     bun (when it is found in PATH or as $BUN)
  --rounds N         counted rounds per server and workload [7]; memory and pieces: at most 3
  --seconds S        length of a round [0.5]
  --json F           write every round to F
  --markdown F       write the tables to F
  --svg F            write the chart to F
  --node PATH        the Node that runs the servers [this one]
  --build NAME=DIR   another build of fullduplex (its dist folder) to compare; may be repeated
  --heap-objects N   objects that live in each server's process on Node beside it [0]
  --verify           compare every byte in the counted rounds too (the load gets slower)
`

export function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      workloads: { type: 'string' },
      servers: { type: 'string' },
      rounds: { type: 'string', default: '7' },
      seconds: { type: 'string', default: '0.5' },
      json: { type: 'string' },
      markdown: { type: 'string' },
      svg: { type: 'string' },
      node: { type: 'string', default: process.execPath },
      build: { type: 'string', multiple: true, default: [] },
      'heap-objects': { type: 'string' },
      verify: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    console.log(help)
    process.exit()
  }
  const heapObjects = values['heap-objects']
  const known = contestants(
    values.node,
    values.build,
    heapObjects === undefined ? 0 : positive('--heap-objects', heapObjects),
  )
  const selected = values.servers ? pick(known, 'server', values.servers) : known
  return {
    workloads: values.workloads
      ? pick(workloads, 'workload', values.workloads)
      : workloads.filter(({ extra }) => !extra),
    // Extra builds are there because someone asked for them.
    contestants: known.filter(
      (each) => selected.includes(each) || values.build.some((b) => b.startsWith(`${each.name}=`)),
    ),
    rounds: positive('--rounds', values.rounds),
    seconds: positive('--seconds', values.seconds),
    verify: values.verify,
    json: values.json,
    svg: values.svg,
    markdown: values.markdown,
  }
}

export const needsBuild = ({ contestants }: Options): boolean => contestants.some(({ name }) => name.startsWith(own))

function pick<T extends { name: string }>(all: readonly T[], what: string, names: string): T[] {
  return names.split(',').map((name) => {
    const found = all.find((each) => each.name === name)
    if (!found) fail(`there is no ${what} ${name}; there are ${all.map((each) => each.name).join(', ')}`)
    return found
  })
}

function positive(option: string, value: string): number {
  const number = Number(value)
  if (!(number > 0)) fail(`${option} must be a number above 0`)
  return number
}

function fail(message: string): never {
  console.error(message)
  process.exit(2)
}
