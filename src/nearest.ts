import { UsageError } from './errors.ts'

/** The error for a name that no option has; it tells the one that was probably meant. `owner` is what has no such option. */
export function unknownOption(name: string, known: readonly string[], owner?: string): UsageError {
  const nearest = nearestName(name, known)
  const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`
  const statement = owner === undefined ? `there is no option ${name}` : `the option ${owner} has no ${name}`
  return new UsageError('ERR_OPTION_UNKNOWN', `${statement}${hint}`)
}

/** The known name that is fewest edits away, if it is near enough to have been meant. */
function nearestName(name: string, known: readonly string[]): string | undefined {
  let nearest: string | undefined
  let fewest = Math.max(2, Math.ceil(name.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase())
    if (distance < fewest) {
      fewest = distance
      nearest = candidate
    }
  }
  return nearest
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}
