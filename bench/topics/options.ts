import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

const parts = ['publish', 'memory', 'cluster', 'engine'] as const
export type Part = (typeof parts)[number]

export interface Options {
  parts: readonly Part[]
  /** Names of servers; undefined for all. */
  servers: readonly string[] | undefined
  /** Names of workloads; undefined for all. */
  workloads: readonly string[] | undefined
  rounds: number
  seconds: number
  others: number
  node: string
  json: string | undefined
  markdown: string | undefined
}

/** Servers send a Ping after 25 s, which no subscriber expects. */
const MAX_SECONDS = 15
/** Files of a process that are no connections of this benchmark. */
const OTHER_FILES = 200

const help = `npm run bench:topics -- [options]

  --parts a,b      of: ${parts.join(' ')} [all]
                   publish  to 1,000 subscribers in one process, and to random ones of 10,000 topics
                   memory   bytes per subscription
                   cluster  deliveries with two processes and an engine between them
                   engine   messages that an engine carries, and how long they take
  --workloads a,b  of those of the parts, by the names in the tables [all]
  --servers a,b    of: fullduplex ws bun socket.io [all]; Bun when it is found in PATH or as $BUN
  --rounds N       counted rounds per server and workload [7]; memory: at most 5
  --seconds S      length of a round, ${MAX_SECONDS} at most [0.5]
  --others N       clients that are connected and in no topic [9000, or as many as files may be open]
  --node PATH      the Node that runs the servers [this one]
  --json F         write every round to F
  --markdown F     write the tables to F
`

export function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      parts: { type: 'string', default: parts.join(',') },
      servers: { type: 'string' },
      workloads: { type: 'string' },
      rounds: { type: 'string', default: '7' },
      seconds: { type: 'string', default: '0.5' },
      others: { type: 'string', default: '9000' },
      node: { type: 'string', default: process.execPath },
      json: { type: 'string' },
      markdown: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    console.log(help)
    process.exit()
  }
  const seconds = positive('--seconds', values.seconds)
  if (seconds > MAX_SECONDS) fail(`--seconds may be ${MAX_SECONDS} at most`)
  return {
    parts: values.parts.split(',').map((name) => {
      const part = parts.find((each) => each === name)
      return part ?? fail(`there is no part ${name}; there are ${parts.join(', ')}`)
    }),
    servers: values.servers?.split(','),
    workloads: values.workloads?.split(','),
    rounds: positive('--rounds', values.rounds),
    seconds,
    others: positive('--others', values.others),
    node: values.node,
    json: values.json,
    markdown: values.markdown,
  }
}

/** So many connections, or as many as one process may have. */
export function fitting(connections: number): number {
  if (process.platform !== 'linux') return connections
  const limit = Number(/Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Infinity)
  return Math.min(connections, limit - OTHER_FILES)
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
