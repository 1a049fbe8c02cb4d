/** Bytes that are copied while `work` runs, by the two ways in which the source copies what arrives. */
export function copiedBytes(work: () => void): number {
  let copied = 0
  const { copy } = Buffer.prototype
  const { concat } = Buffer
  Buffer.prototype.copy = function (this: Buffer, ...range: Parameters<typeof copy>): number {
    const count = copy.apply(this, range)
    copied += count
    return count
  }
  Buffer.concat = (...list: Parameters<typeof concat>) => {
    const joined = concat(...list)
    copied += joined.length
    return joined
  }
  try {
    work()
  } finally {
    Buffer.prototype.copy = copy
    Buffer.concat = concat
  }
  return copied
}
