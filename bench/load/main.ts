// The load process: does one thing at a time for rounds.ts.
import type { Workload } from '../workloads.ts'
import { BroadcastDriver } from './broadcast.ts'
import type { Target } from './client.ts'
import { CompressedEchoDriver } from './compressed-echo.ts'
import { CompressedIdleDriver } from './compressed-idle.ts'
import { ConnectDriver } from './connect.ts'
import type { Driver, LoadRequest, RunResult } from './driver.ts'
import { EchoDriver } from './echo.ts'
import { IdleDriver } from './idle.ts'
import { PiecesDriver } from './pieces.ts'

/** How long the last answers may take after the time is up. */
const PATIENCE_SECONDS = 60

let driver: Driver | undefined
let failed: Promise<never>

async function open(request: LoadRequest & { ask: 'open' }): Promise<void> {
  let fail: (error: Error) => void = () => {}
  failed = new Promise((_, reject) => {
    fail = reject
  })
  failed.catch(() => {})
  driver = makeDriver(request.workload, request.verify, {
    port: request.port,
    path: request.workload.kind === 'broadcast' ? '/broadcast' : '/',
    offersDeflate: request.workload.compressed === true,
    fail,
    addresses: process.platform === 'linux' && ['connect', 'idle'].includes(request.workload.kind) ? 8 : 1,
    mayEnd: request.workload.kind === 'connect',
  })
  await Promise.race([driver.open(), failed])
}

function makeDriver(workload: Workload, verify: boolean, target: Target): Driver {
  switch (workload.kind) {
    case 'echo':
      return workload.compressed
        ? new CompressedEchoDriver(workload, target, verify)
        : new EchoDriver(workload, target, verify)
    case 'broadcast':
      return new BroadcastDriver(workload, target, verify)
    case 'connect':
      return new ConnectDriver(workload, target)
    case 'idle':
      return workload.before ? new CompressedIdleDriver(workload.before, target) : new IdleDriver(target)
    case 'pieces':
      return new PiecesDriver(workload, target, verify)
  }
}

async function run(seconds: number, amount?: number): Promise<RunResult> {
  if (!driver) throw new Error('nothing is open')
  let watchdog: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    watchdog = setTimeout(() => reject(new Error('answers are missing')), (seconds + PATIENCE_SECONDS) * 1000)
  })
  const cpu = process.cpuUsage()
  const start = performance.now()
  try {
    const units = await Promise.race([driver.run(seconds, amount), failed, late])
    const elapsed = (performance.now() - start) / 1000
    const { user, system } = process.cpuUsage(cpu)
    return { units, seconds: elapsed, cpuMicros: user + system, wire: driver.wire }
  } finally {
    clearTimeout(watchdog)
  }
}

function close(): void {
  driver?.close()
  driver = undefined
}

process.on('message', async (request: LoadRequest) => {
  try {
    if (request.ask === 'open') process.send?.({ result: await open(request) })
    else if (request.ask === 'run') process.send?.({ result: await run(request.seconds, request.amount) })
    else process.send?.({ result: close() })
  } catch (error) {
    process.send?.({ error: (error as Error).message })
  }
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })
