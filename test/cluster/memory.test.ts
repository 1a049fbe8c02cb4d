import { describe } from 'vitest'
import { MemoryEngine } from '../support/memory-engine.ts'
import { bytesSpec, outageSpec, sharingSpec } from './contract/driver.ts'
import type { Engine } from './contract/engine.ts'
import { orderSpec } from './contract/log.ts'

/*
 * The engine that other tests hold in their hand does what the real ones do. Its log is that of a server alone, which has
 * no pages, and outlasts what this engine calls an end.
 */

const memory: Engine = {
  start: async () => {
    const engine = new MemoryEngine()
    // It has no prefixes: what is another world is another one.
    const elsewhere = new MemoryEngine()
    return {
      access: async ({ prefix } = {}) => ({
        backplane: (prefix === undefined ? engine : elsewhere).backplane({ keepsHistory: true }),
      }),
      start: async () => engine.start(),
      stop: async () => engine.stop(),
    }
  },
}

describe('a backplane in memory', () => {
  bytesSpec(memory, { text: '\0' })
  sharingSpec(memory)
  outageSpec(memory)
})

describe('a history in memory', () => {
  orderSpec(memory)
})
