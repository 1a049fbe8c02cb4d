import { onTestFinished } from 'vitest'
import { type Exchange, nodeBackplane, startExchange } from '../../../src/cluster/node.ts'
import type { Access, AccessOptions, RunningEngine } from './engine.ts'
import type { LogEngine } from './log.ts'

/*
 * The exchange of one machine, as the tests that are for every engine see it: its members are all in this process. Those
 * in others are the concern of node.test.ts and node-history.test.ts.
 */

class RunningExchange implements RunningEngine {
  #exchange: Exchange | undefined

  async access({ noEcho: _, neverResends: __, ...options }: AccessOptions = {}): Promise<Access> {
    return { backplane: nodeBackplane(options) }
  }

  async start(): Promise<void> {
    this.#exchange = startExchange()
  }

  /** By whatever signal: there is no process of its own. */
  async stop(): Promise<void> {
    await this.#exchange?.close()
  }
}

/** It keeps nothing over its end. */
export const exchange: LogEngine = {
  prefix: 'my.App',
  sharesPages: false,
  longMessagesPerPage: 9,
  start: async () => {
    const running = new RunningExchange()
    await running.start()
    onTestFinished(() => running.stop())
    return running
  },
}
