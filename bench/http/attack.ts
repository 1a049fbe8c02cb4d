// The attacking process: autocannon, for a while, when main.ts asks for it.
import { setPriority } from 'node:os'
import autocannon from 'autocannon'

export interface AttackRequest {
  url: string
  headers: Record<string, string>
  connections: number
  /** Whole seconds: autocannon counts in them. */
  seconds: number
  keepAlive: boolean
}

export interface AttackResult {
  answers: number
  seconds: number
  /** How often each status code came. */
  statuses: Record<number, number>
  errors: number
}

// The probe shares the core: it must not have to wait for this process, only for the server.
setPriority(19)

async function attack({ url, headers, connections, seconds, keepAlive }: AttackRequest): Promise<AttackResult> {
  const statuses: Record<number, number> = {}
  let errors = 0
  let answers = 0
  const start = performance.now()
  await autocannon({
    url,
    headers,
    connections,
    duration: seconds,
    // It neither counts nor notices by itself that a server has ended the connection with its answer: so it gets a new
    // connection for each request, and the answers are counted here.
    ...(!keepAlive && { reconnectRate: 1 }),
    setupClient(client) {
      client.on('headers', ({ statusCode }: { statusCode: number }) => {
        answers++
        statuses[statusCode] = (statuses[statusCode] ?? 0) + 1
      })
      client.on('connError', () => errors++)
    },
  })
  return { answers, seconds: (performance.now() - start) / 1000, statuses, errors }
}

process.on('message', async (request: AttackRequest) => {
  try {
    process.send?.({ result: await attack(request) })
  } catch (error) {
    process.send?.({ error: (error as Error).message })
  }
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })
