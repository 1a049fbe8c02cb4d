/** Nanoseconds per call, of the best of nine runs of about 40 ms: whatever disturbs a run only makes it longer. */
export function nanosecondsPerCall(act: () => void): number {
  let calls = 1
  while (run(act, calls) < 40e6) calls *= 2
  return Math.min(...Array.from({ length: 9 }, () => run(act, calls))) / calls
}

function run(act: () => void, calls: number): number {
  const start = process.hrtime.bigint()
  for (let i = 0; i < calls; i++) act()
  return Number(process.hrtime.bigint() - start)
}

export function table(header: readonly string[], rows: readonly (readonly string[])[]): void {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  console.log([line(header), line(header.map((_, i) => (i === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n'))
}
