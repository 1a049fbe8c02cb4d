/** Numbers from 0 up to, not including, `below`: the same ones for the same seed. */
export type Random = (below: number) => number

export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    // The low bits of such a generator repeat soon.
    return Math.floor(((state >>> 8) / 0x1000000) * below)
  }
}

/** A seed that is always the same for the same name. */
export function seedOf(name: string): number {
  let seed = 7
  for (const character of name) seed = (Math.imul(seed, 31) + character.charCodeAt(0)) >>> 0
  return seed
}
