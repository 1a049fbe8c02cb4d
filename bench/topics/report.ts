// Tables.
import { median, number, times } from '../report/figures.ts'
import type { Entry } from './rounds.ts'

export interface Outcome {
  name: string
  title: string
  columns: readonly Column[]
  entries: readonly Entry[]
}

export interface Column {
  header: string
  /** `base` is the cheapest of those that ratios are against. */
  cell(entry: Entry, base: Entry | undefined): string
}

export const middle = ({ samples }: Entry, name: string): number => median(samples.map((sample) => sample[name]!))
const best = ({ samples }: Entry, name: string): number => Math.min(...samples.map((sample) => sample[name]!))
const worst = ({ samples }: Entry, name: string): number => Math.max(...samples.map((sample) => sample[name]!))

/** Medians of one figure or several. */
export const column = (header: string, ...names: readonly string[]): Column => ({
  header,
  cell: (entry) => names.map((name) => number(middle(entry, name))).join(' / '),
})

export const percentages = (header: string, ...names: readonly string[]): Column => ({
  header,
  cell: (entry) => names.map((name) => percent(middle(entry, name))).join(' / '),
})

/** What a unit costs, and how many times less than with those that it is compared with. */
export const costs = (header: string, than: string): Column[] => [
  {
    header: `${header}: median (best–worst)`,
    cell: (entry) =>
      `${number(middle(entry, 'cost'))} (${number(best(entry, 'cost'))}–${number(worst(entry, 'cost'))})`,
  },
  {
    header: `less than ${than}: medians`,
    cell: (entry, base) => times(base && middle(base, 'cost') / middle(entry, 'cost')),
  },
  { header: 'best rounds', cell: (entry, base) => times(base && best(base, 'cost') / best(entry, 'cost')) },
]

export const rates = (header: string, than: string): Column[] => [
  { header, cell: (entry) => number(Math.round(middle(entry, 'rate'))) },
  { header: `× ${than}`, cell: (entry, base) => times(base && middle(entry, 'rate') / middle(base, 'rate')) },
]

export function table({ name, title, columns, entries }: Outcome): string {
  const good = entries.filter(({ samples }) => samples.length > 0)
  const bases = good.filter(({ server, samples }) => server.baseline && samples.every(({ cost }) => cost !== undefined))
  const base = bases.toSorted((a, b) => middle(a, 'cost') - middle(b, 'cost'))[0]
  const lines = good.map((entry) => row([entry.server.title, ...columns.map(({ cell }) => cell(entry, base))]))
  const failures = entries.flatMap(({ server, failures, samples }) =>
    failures.length > 0
      ? [`- ${server.title}: ${failures.length} of ${failures.length + samples.length} rounds failed: ${failures[0]}`]
      : [],
  )
  return [
    `### ${title} (\`${name}\`)`,
    [row(['Server', ...columns.map(({ header }) => header)]), ruler(columns.length), ...lines].join('\n'),
    ...(failures.length > 0 ? [failures.join('\n')] : []),
  ].join('\n\n')
}

/** Versions, each once. */
export function versions(outcomes: readonly Outcome[]): string {
  const abouts = outcomes.flatMap(({ entries }) => entries.map(({ server, about }) => `${server.title}: ${about}`))
  return `${[...new Set(abouts)].join('; ')}.`
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
const ruler = (columns: number): string => `| --- |${' --: |'.repeat(columns)}`
const percent = (share: number): string => (Number.isFinite(share) ? `${Math.round(share * 100)} %` : '–')
