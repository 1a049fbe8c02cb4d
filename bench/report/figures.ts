// From rounds to figures.
import { baseline } from '../contestants.ts'
import type { Wire } from '../load/driver.ts'
import type { Sample } from '../rounds.ts'
import type { Workload } from '../workloads.ts'

/** The rounds of one server in one workload. */
export interface Entry {
  name: string
  title: string
  /** Versions. */
  about: string
  samples: Sample[]
  failures: string[]
}

export interface Outcome {
  workload: Workload
  entries: Entry[]
}

export interface Environment {
  date: string
  machine: string
  pinned: boolean
  rounds: number
  seconds: number
  notes: string[]
}

export interface Report {
  environment: Environment
  outcomes: Outcome[]
}

export interface Figures extends Entry {
  /** The middle one of the rounds, and the cheapest one: a busy machine only ever adds. */
  cost: Spread
  rate: Spread
  rssBytes: number
  serverBusy: number
  loadBusy: number
  /** Cost at each size, cheapest round. */
  costs: number[] | undefined
  /** Where they are counted. */
  wire: Wire | undefined
  heapBytes: number | undefined
  externalBytes: number | undefined
  /** How many times less than the baseline it costs: the ratio of the medians and that of the best rounds. */
  times: { median: number; best: number } | undefined
  rateTimes: number | undefined
}

interface Spread {
  median: number
  best: number
  worst: number
}

/** In the order of the entries; a server without a single good round is left out. */
export function figuresOf({ entries }: Outcome): Figures[] {
  const all = entries.filter(({ samples }) => samples.length > 0).map(summarize)
  const base = all.find(({ name }) => name === baseline)
  if (!base) return all
  return all.map((figures) => ({
    ...figures,
    times: { median: base.cost.median / figures.cost.median, best: base.cost.best / figures.cost.best },
    rateTimes: figures.rate.median / base.rate.median,
  }))
}

function summarize(entry: Entry): Figures {
  const { samples } = entry
  const column = <T>(of: (sample: Sample) => T) => samples.map(of)
  const costs = column(({ cost }) => cost)
  const rates = column(({ rate }) => rate)
  return {
    ...entry,
    cost: { median: median(costs), best: Math.min(...costs), worst: Math.max(...costs) },
    rate: { median: median(rates), best: Math.max(...rates), worst: Math.min(...rates) },
    rssBytes: median(column(({ rssBytes }) => rssBytes)),
    serverBusy: median(column(({ serverBusy }) => serverBusy)),
    loadBusy: median(column(({ loadBusy }) => loadBusy)),
    costs: samples[0]?.costs?.map((_, size) => Math.min(...samples.map((sample) => sample.costs?.[size] ?? Infinity))),
    wire: samples[0]!.wire && {
      to: median(column(({ wire }) => wire!.to)),
      from: median(column(({ wire }) => wire!.from)),
    },
    heapBytes: medianIfAny(column(({ heapBytes }) => heapBytes)),
    externalBytes: medianIfAny(column(({ externalBytes }) => externalBytes)),
    times: undefined,
    rateTimes: undefined,
  }
}

function medianIfAny(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined)
  return known.length > 0 ? median(known) : undefined
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Three significant digits: 0.0831, 13.5, 3,580. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return '–'
  return value.toLocaleString('en-US', { maximumSignificantDigits: Math.abs(value) < 1000 ? 3 : 4 })
}

/** 1.3×, 24×. */
export function times(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return '–'
  return `${value < 10 ? value.toFixed(2) : value.toFixed(1)}×`
}
