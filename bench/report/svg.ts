// The chart of the README: how many times less each server needs than the baseline.
import { baseline, own } from '../contestants.ts'
import { type Environment, type Figures, figuresOf, number, type Outcome, type Report, times } from './figures.ts'

const WIDTH = 860
const LABELS = 218
const NUMBERS = 178
const SCALE = WIDTH - LABELS - NUMBERS
const TOP = 84
const BAR = 14
const THIN = 7
const THIN_PITCH = 11
const GAP = 15

const STYLE = `
    text { font: 13px -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-size: 17px; font-weight: 600 }
    .small { font-size: 11.5px; fill: #59636e }
    .tiny { font-size: 9.5px; fill: #59636e }
    .own { fill: #0969da }
    .bold { font-weight: 600 }
    .ours { fill: #80b4ec }
    .takeover { fill: #4fb3a5 }
    .other { fill: #afb8c1 }
    .bun { fill: #d4a72c }
    .floor { fill: none; stroke: #818b98 }
    .line { stroke: #818b98; stroke-dasharray: 3 3 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .small, .tiny { fill: #9198a1 }
      .own { fill: #4493f8 }
      .ours { fill: #2a5a94 }
      .takeover { fill: #2f7d72 }
      .other { fill: #545d68 }
      .bun { fill: #9e7c1f }
      .floor { stroke: #768390 }
      .line { stroke: #768390 }
    }`

/** A group of bars per workload: ours, then what it is compared to. */
export function svg({ environment, outcomes }: Report): string {
  const groups = outcomes
    // Next to nothing, measured with an uncertainty of its own size: no ratio that a chart could show.
    .filter(({ workload }) => workload.kind !== 'idle' || !workload.compressed)
    .map((outcome) => ({ workload: outcome.workload, figures: figuresOf(outcome).filter(shown) }))
    .filter(({ figures }) => figures.length > 0)
  const longest = Math.max(2, ...groups.flatMap(({ figures }) => figures.map((each) => each.times?.median ?? 0)))
  const x = (value: number) => LABELS + (value / longest) * SCALE
  let y = TOP
  const parts: string[] = []
  for (const { workload, figures } of groups) {
    const main = figures.find(({ name }) => name === own)
    const rest = figures.filter(({ name }) => name !== own)
    parts.push(text(LABELS - 10, y + 11, workload.title, 'end'))
    if (main) {
      const end = x(main.times!.median)
      parts.push(bar('own', y, end - LABELS, BAR))
      const unit = workload.kind === 'idle' ? 'bytes' : 'µs'
      parts.push(
        `<text x="${end + 6}" y="${y + 11.5}"><tspan class="bold">${times(main.times!.median)}</tspan>` +
          `<tspan class="small" dx="6">${number(main.cost.median)} ${unit}</tspan></text>`,
      )
    }
    for (const [index, each] of rest.entries()) {
      const top = y + BAR + 3 + index * THIN_PITCH
      const end = x(each.times!.median)
      parts.push(bar(styleOf(each.name), top, end - LABELS, THIN))
      parts.push(`<text class="tiny" x="${(end + 5).toFixed(1)}" y="${top + 7}">${times(each.times!.median)}</text>`)
    }
    y += BAR + 3 + rest.length * THIN_PITCH + GAP
  }

  const one = x(1)
  const height = y + 30
  const legend = legendOf(groups.flatMap(({ figures }) => figures))
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Benchmark: server CPU per message, compared with ${baseline}">
  <style>${STYLE}
  </style>
  <text class="title" x="16" y="26">Server CPU per message, memory per idle connection: how many times less than ${baseline}</text>
  ${legend}
  <line class="line" x1="${one}" x2="${one}" y1="${TOP - 6}" y2="${y - GAP + 6}"/>
  <text class="small" x="${one}" y="${TOP - 12}" text-anchor="middle">${baseline} = 1</text>
  ${parts.join('\n  ')}
  <text class="small" x="16" y="${height - 12}">${escaped(footer(environment, outcomes))}</text>
</svg>
`
}

function styleOf(name: string): string {
  if (name === own) return 'own'
  if (name === `${own}-takeover`) return 'takeover'
  if (name.startsWith(own)) return 'ours'
  return ['floor', 'bun'].includes(name) ? name : 'other'
}

const shown = (each: Figures): boolean => each.name !== baseline && each.times !== undefined

const bar = (style: string, y: number, width: number, height: number): string =>
  `<rect class="${style}" x="${LABELS}" y="${y}" width="${width.toFixed(1)}" height="${height}" rx="2"/>`

const text = (x: number, y: number, content: string, anchor: string): string =>
  `<text x="${x}" y="${y}" text-anchor="${anchor}">${escaped(content)}</text>`

function legendOf(figures: readonly Figures[]): string {
  const titles = new Map(figures.map(({ name, title }) => [name, title]))
  let x = 16
  return [...titles]
    .map(([name, title]) => {
      const label = name === 'floor' ? 'bare node:net, no WebSocket work' : title
      const part = `<rect class="${styleOf(name)}" x="${x}" y="37" width="12" height="10" rx="2"/><text class="small" x="${x + 17}" y="46">${escaped(label)}</text>`
      x += 17 + label.length * 6.3 + 20
      return part
    })
    .join('')
}

function footer(environment: Environment, outcomes: readonly Outcome[]): string {
  const abouts = new Set(outcomes.flatMap(({ entries }) => entries.map(({ about }) => about)))
  // "Node 24" alone says nothing where "ws 8, Node 24" is there as well.
  const versions = [...abouts].filter((about) => ![...abouts].some((other) => other !== about && other.endsWith(about)))
  return [
    'longer is better',
    ...versions,
    `medians of ${environment.rounds} interleaved rounds`,
    environment.date.slice(0, 10),
  ].join(' · ')
}

const escaped = (content: string): string =>
  content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
