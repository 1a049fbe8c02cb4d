// The load process: does one thing at a time for ../main.ts.
import { dialects } from './dialects.ts'
import { Gathering } from './gathering.ts'
import { LaneDriver } from './lane.ts'
import type { LatencyResult, LoadRequest, RunResult } from './requests.ts'

/** How long the last messages may take after the time is up. */
const PATIENCE_SECONDS = 60

let lanes: LaneDriver[] = []
let gathering: Gathering | undefined
let failed: Promise<never>
let fail: (error: Error) => void

function reset(): void {
  failed = new Promise((_, reject) => {
    fail = reject
  })
  failed.catch(() => {})
}

async function answer(request: LoadRequest): Promise<unknown> {
  switch (request.ask) {
    case 'open': {
      reset()
      lanes = request.lanes.map((lane) => new LaneDriver(lane, dialects[request.dialect], fail))
      return inTime(0, Promise.all(lanes.map((lane) => lane.open())))
    }
    case 'run':
      return run(request.seconds)
    case 'latency': {
      const { seconds } = request
      return inTime<LatencyResult>(seconds, lanes[0]!.latency(performance.now() + seconds * 1000))
    }
    case 'gather':
      reset()
      gathering = new Gathering()
      return inTime(0, gathering.open(request.port, request.clients, fail))
    case 'join':
      return inTime(0, gathering!.join(request.membership, request.subscriptions))
    case 'close':
      for (const lane of lanes) lane.close()
      gathering?.close()
      lanes = []
      gathering = undefined
      return undefined
  }
}

async function run(seconds: number): Promise<RunResult> {
  const cpu = process.cpuUsage()
  const start = performance.now()
  const results = await inTime(seconds, Promise.all(lanes.map((lane) => lane.run(start + seconds * 1000))))
  const elapsed = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return {
    messages: results.reduce((sum, { messages }) => sum + messages, 0),
    deliveries: results.reduce((sum, { deliveries }) => sum + deliveries, 0),
    seconds: elapsed,
    cpuMicros: user + system,
  }
}

/** What it gives, unless something goes wrong or is missing. */
async function inTime<T>(seconds: number, work: Promise<T>): Promise<T> {
  let watchdog: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    watchdog = setTimeout(() => reject(new Error('something did not arrive')), (seconds + PATIENCE_SECONDS) * 1000)
  })
  try {
    return await Promise.race([work, failed, late])
  } finally {
    clearTimeout(watchdog)
  }
}

process.on('message', async (request: LoadRequest) => {
  try {
    process.send?.({ result: await answer(request) })
  } catch (error) {
    process.send?.({ error: (error as Error).message })
  }
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })
