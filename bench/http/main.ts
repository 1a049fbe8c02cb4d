// npm run bench:http: what refusals and plain HTTP requests cost, and what the WebSocket clients notice of them.
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build } from '../contestants.ts'
import { Child, cores, pinned } from '../processes.ts'
import { median, number } from '../report/figures.ts'
import type { Usage } from '../rounds.ts'
import type { AttackRequest, AttackResult } from './attack.ts'
import type { Latency, ProbeRequest } from './probe.ts'

const { values } = parseArgs({
  options: {
    servers: { type: 'string', default: 'fullduplex,node' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    connections: { type: 'string', default: '64' },
    node: { type: 'string', default: process.execPath },
  },
})
const token = randomBytes(16).toString('hex')
const seconds = Math.max(1, Math.round(Number(values.seconds)))

interface Scenario {
  title: string
  path: string
  headers: Record<string, string>
  keepAlive: boolean
  /** The answers that are right: who has guessed tokens too often may be sent away with 429. */
  statuses: readonly number[]
  servers: readonly string[]
}

const upgrade = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
}
const both = ['fullduplex', 'node']
const scenarios: readonly Scenario[] = [
  {
    title: 'Wrong token',
    path: '/?token=wrong',
    headers: upgrade,
    keepAlive: false,
    statuses: [401, 429],
    servers: both,
  },
  { title: 'GET, a connection each', path: '/', headers: {}, keepAlive: false, statuses: [200], servers: both },
  { title: 'GET, connections kept', path: '/', headers: {}, keepAlive: true, statuses: [200], servers: ['node'] },
]

interface Round {
  rate: number
  cost: number
  statuses: AttackResult['statuses']
  before: Latency
  during: Latency
}

interface Row {
  scenario: Scenario
  name: string
  server: Child
  rounds: Round[]
  problems: string[]
}

const start = (file: string, core: number) =>
  Child.start({
    command: process.execPath,
    args: [...process.execArgv, fileURLToPath(new URL(file, import.meta.url))],
    core,
  })

const names = values.servers.split(',')
if (names.includes('fullduplex')) build()
const attacker = await start('./attack.ts', cores.load)
const probe = await start('./probe.ts', cores.load)
const servers = new Map<string, Child>()
for (const name of names) {
  const file = fileURLToPath(new URL(`../servers/http-${name}.mjs`, import.meta.url))
  const args = ['--expose-gc', file]
  servers.set(name, await Child.start({ command: values.node, args, env: { TOKEN: token }, core: cores.server }))
}
try {
  for (const scenario of scenarios) await measure(scenario)
} finally {
  await Promise.all([attacker, probe, ...servers.values()].map((child) => child.stop()))
}
if (!pinned) console.log('\nServer and load are not pinned to cores: the figures will vary more.')

async function measure(scenario: Scenario): Promise<void> {
  const rows: Row[] = [...servers]
    .filter(([name]) => scenario.servers.includes(name))
    .map(([name, server]) => ({ scenario, name, server, rounds: [], problems: [] }))
  for (let i = 0; i <= Number(values.rounds); i++) {
    for (const row of rows) {
      const result = await round(row)
      // The first one warms up.
      if (i > 0) row.rounds.push(result)
    }
  }
  print(scenario, rows)
}

async function round({ scenario, server, problems }: Row): Promise<Round> {
  const ask = <Result>(request: ProbeRequest) => probe.ask<Result>(request)
  const usage = async () => {
    const { cpu } = await server.ask<Usage>({ ask: 'usage' })
    return cpu.user + cpu.system
  }
  await ask({ ask: 'open', port: server.port, path: `/?token=${token}` })
  try {
    const before = await ask<Latency>({ ask: 'watch', seconds })
    const watching = ask<Latency>({ ask: 'watch', seconds })
    const cpu = await usage()
    const attack: AttackRequest = {
      url: `http://127.0.0.1:${server.port}${scenario.path}`,
      headers: scenario.headers,
      connections: Number(values.connections),
      seconds,
      keepAlive: scenario.keepAlive,
    }
    const result = await attacker.ask<AttackResult>(attack)
    const cost = ((await usage()) - cpu) / result.answers
    const during = await watching
    const others = Object.keys(result.statuses).filter((status) => !scenario.statuses.includes(Number(status)))
    if (others.length > 0) problems.push(`status ${others.join(', ')} came as well`)
    if (result.errors > 0) problems.push(`${result.errors} connections failed`)
    return { rate: result.answers / result.seconds, cost, statuses: result.statuses, before, during }
  } finally {
    await ask({ ask: 'close' })
  }
}

function print(scenario: Scenario, rows: readonly Row[]): void {
  console.log(`\n### ${scenario.title}, ${values.connections} connections\n`)
  console.log(
    '| Server | Statuses | Answers /s | CPU µs per answer | Echo before: p50 / p99 ms | during: p50 / p99 ms |',
  )
  console.log('| --- | --- | --: | --: | --: | --: |')
  for (const { server, rounds, problems } of rows) {
    const middle = (of: (round: Round) => number) => number(median(rounds.map(of)))
    const cells = [
      server.about,
      [...new Set(rounds.flatMap(({ statuses }) => Object.keys(statuses)))].join(', '),
      number(Math.round(median(rounds.map(({ rate }) => rate)))),
      middle(({ cost }) => cost),
      `${middle(({ before }) => before.p50)} / ${middle(({ before }) => before.p99)}`,
      `${middle(({ during }) => during.p50)} / ${middle(({ during }) => during.p99)}`,
    ]
    console.log(`| ${cells.join(' | ')} |`)
    for (const problem of new Set(problems)) console.log(`- ${server.about}: ${problem}`)
  }
}
