import { baseline, own } from '../contestants.ts'
import { unitOf, type Workload } from '../workloads.ts'
import { type Environment, type Figures, figuresOf, number, type Outcome, type Report, times } from './figures.ts'

export function markdown({ environment, outcomes }: Report): string {
  return [overview(outcomes), environmentLines(environment, outcomes), ...outcomes.map(details)].join('\n\n')
}

/** One line per workload, one column per server. */
function overview(outcomes: readonly Outcome[]): string {
  const titles = new Map(outcomes.flatMap(({ entries }) => entries.map(({ name, title }) => [name, title] as const)))
  const lines = outcomes.map((outcome) => {
    const figures = new Map(figuresOf(outcome).map((each) => [each.name, each]))
    const cells = [...titles.keys()].map((name) => overviewCell(figures.get(name)))
    return row([`${outcome.workload.title}, ${measure(outcome.workload)}`, ...cells])
  })
  return [row(['', ...titles.values()]), ruler(titles.size + 1), ...lines].join('\n')
}

function overviewCell(figures: Figures | undefined): string {
  if (!figures) return '–'
  const cost = number(figures.cost.median)
  if (figures.name === baseline || !figures.times) return cost
  const ratio = times(figures.times.median)
  return figures.name === own ? `${cost} (**${ratio}**)` : `${cost} (${ratio})`
}

const measure = ({ kind }: Workload): string => (kind === 'idle' ? 'bytes' : `µs/${unitOf[kind]}`)

/** Everything about one workload. */
export function details(outcome: Outcome): string {
  const { workload, entries } = outcome
  const figures = figuresOf(outcome)
  const several = figures.some(({ costs }) => costs)
  const header = [
    'Server',
    workload.kind === 'idle'
      ? 'Bytes each: median (best–worst)'
      : `CPU µs per ${unitOf[workload.kind]}: median (best–worst)`,
    `less than ${baseline}: medians`,
    'best rounds',
    'Rate /s',
    `× ${baseline}`,
    'RSS MiB',
    'Busy: server / load',
    ...(several ? ['At 1×, 2×, 4×, 8× the size'] : []),
  ]
  const lines = figures.map((each) =>
    row([
      each.title,
      `${number(each.cost.median)} (${number(each.cost.best)}–${number(each.cost.worst)})`,
      times(each.times?.median),
      times(each.times?.best),
      number(Math.round(each.rate.median)),
      times(each.rateTimes),
      number(each.rssBytes / 1024 / 1024),
      `${percent(each.serverBusy)} / ${percent(each.loadBusy)}`,
      ...(several ? [each.costs?.map(number).join(', ') ?? '–'] : []),
    ]),
  )
  const failures = entries.flatMap(({ title, failures, samples }) =>
    failures.length > 0
      ? [`- ${title}: ${failures.length} of ${failures.length + samples.length} rounds failed: ${failures[0]}`]
      : [],
  )
  const table = [row(header), ruler(header.length), ...lines].join('\n')
  return [
    `### ${workload.title} (\`${workload.name}\`)`,
    table,
    ...(failures.length > 0 ? [failures.join('\n')] : []),
  ].join('\n\n')
}

function environmentLines(environment: Environment, outcomes: readonly Outcome[]): string {
  const abouts = new Map(outcomes.flatMap(({ entries }) => entries.map(({ title, about }) => [title, about] as const)))
  return [
    `${environment.date.slice(0, 10)}, ${environment.machine}.`,
    `${[...abouts].map(([title, about]) => `${title}: ${about}`).join('; ')}.`,
    `Medians of ${environment.rounds} interleaved rounds of ${environment.seconds} s;`,
    environment.pinned ? 'server and load pinned to a core each.' : 'server and load NOT pinned to cores.',
    ...environment.notes,
  ].join(' ')
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
const ruler = (columns: number): string => `|${' --- |'.repeat(1)}${' --: |'.repeat(columns - 1)}`
const percent = (share: number): string => (Number.isFinite(share) ? `${Math.round(share * 100)} %` : '–')
