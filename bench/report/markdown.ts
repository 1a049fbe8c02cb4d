import { baseline, own } from '../contestants.ts'
import { unitOf, type Workload } from '../workloads.ts'
import { type Environment, type Figures, figuresOf, number, type Outcome, type Report, times } from './figures.ts'

export function markdown(report: Report): string {
  return [summary(report), ...report.outcomes.map(details)].join('\n\n')
}

/** The overviews: compression has servers of its own. */
export function summary({ environment, outcomes }: Report): string {
  const tables = [false, true].map((compressed) =>
    outcomes.filter(({ workload }) => (workload.compressed ?? false) === compressed),
  )
  const overviews = tables.filter(({ length }) => length > 0).map(overview)
  return [...overviews, environmentLines(environment, outcomes)].join('\n\n')
}

/** One line per workload (and one for what else is counted there), one column per server. */
function overview(outcomes: readonly Outcome[]): string {
  const titles = new Map(outcomes.flatMap(({ entries }) => entries.map(({ name, title }) => [name, title] as const)))
  const lines = outcomes.flatMap(({ workload, entries }) => {
    const figures = new Map(figuresOf({ workload, entries }).map((each) => [each.name, each]))
    const cells = (of: (figures: Figures | undefined) => string) =>
      [...titles.keys()].map((name) => of(figures.get(name)))
    const cost = row([`${workload.title}, ${measure(workload)}`, ...cells(overviewCell)])
    return workload.compressed ? [cost, row([`… ${besides(workload)}`, ...cells(besidesCell)])] : [cost]
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

/** What is counted besides the cost. */
const besides = ({ kind }: Workload): string =>
  kind === 'idle' ? 'of it V8 heap / external' : 'bytes on the wire: to / from the server'

function besidesCell(figures: Figures | undefined): string {
  if (figures?.wire) return `${number(figures.wire.to)} / ${number(figures.wire.from)}`
  const { heapBytes = Number.NaN, externalBytes = Number.NaN } = figures ?? {}
  const whole = (bytes: number) => number(Math.round(bytes) || (Number.isNaN(bytes) ? bytes : 0))
  return `${whole(heapBytes)} / ${whole(externalBytes)}`
}

const measure = ({ kind }: Workload): string => (kind === 'idle' ? 'bytes' : `µs/${unitOf[kind]}`)

/** Everything about one workload. */
export function details(outcome: Outcome): string {
  const { workload, entries } = outcome
  const figures = figuresOf(outcome)
  const several = figures.some(({ costs }) => costs)
  const more = workload.kind === 'idle' || workload.compressed === true
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
    ...(more ? [capitalized(besides(workload))] : []),
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
      ...(more ? [besidesCell(each)] : []),
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
const capitalized = (text: string): string => text[0]!.toUpperCase() + text.slice(1)
const percent = (share: number): string => (Number.isFinite(share) ? `${Math.round(share * 100)} %` : '–')
