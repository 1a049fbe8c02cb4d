import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

const collectGarbage = runInNewContext('gc') as () => void

/** Bytes that this process holds, in its heap and beside it; garbage does not count. */
export function usedBytes(): number {
  // What the first round finishes, the others free.
  for (let round = 0; round < 3; round++) collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Resolves whether nobody holds on to what the reference refers to. */
export async function isCollected(reference: WeakRef<object>): Promise<boolean> {
  for (let round = 0; round < 10; round++) {
    // A reference that was looked at is kept until the end of the turn.
    await new Promise((resolve) => setImmediate(resolve))
    collectGarbage()
    if (reference.deref() === undefined) return true
  }
  return false
}
