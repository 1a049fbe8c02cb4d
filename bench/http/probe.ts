// The probing process: WebSocket clients that send now and then, and watch how long the echo takes.
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { drop, openClient, openClients } from '../load/client.ts'
import { frame, payload } from '../load/frames.ts'

export type ProbeRequest =
  | { ask: 'open'; port: number; path: string }
  | { ask: 'watch'; seconds: number }
  | { ask: 'close' }

export interface Latency {
  echoes: number
  p50: number
  p99: number
}

const CLIENTS = 16
/** Between two messages of a client. */
const EVERY_MS = 20
const MESSAGE = frame(1, payload('ascii', 16), randomBytes(4))
/** Two bytes of header, no masking key. */
const ANSWER_BYTES = 18

let sockets: Socket[] = []
const sentAt: number[] = []
const missing: number[] = []
let latencies: number[] = []
let failure: Error | undefined

async function open(port: number, path: string): Promise<void> {
  failure = undefined
  const fail = (error: Error) => {
    failure ??= error
  }
  sockets = await openClients(CLIENTS, (index) => {
    missing[index] = 0
    return openClient({ port, path, fail, addresses: 1, mayEnd: false }, (bytes) => {
      missing[index]! -= bytes
      if (missing[index] === 0) latencies.push(performance.now() - sentAt[index]!)
    })
  })
}

/** A client that still waits sends nothing more: its one message is as late as it is. */
function send(index: number): void {
  if (missing[index]! > 0) return
  missing[index] = ANSWER_BYTES
  sentAt[index] = performance.now()
  sockets[index]?.write(MESSAGE)
}

async function watch(seconds: number): Promise<Latency> {
  latencies = []
  const turns = Math.round((seconds * 1000) / EVERY_MS)
  const start = performance.now()
  for (let turn = 0; turn < turns; turn++) {
    for (let index = 0; index < CLIENTS; index++) {
      // One after the other, so that none of them waits for its neighbours.
      const due = start + (turn + index / CLIENTS) * EVERY_MS
      const wait = due - performance.now()
      if (wait > 0.5) await sleep(wait)
      send(index)
    }
  }
  await sleep(50)
  if (failure) throw failure
  const sorted = latencies.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  return { echoes: sorted.length, p50: at(0.5), p99: at(0.99) }
}

process.on('message', async (request: ProbeRequest) => {
  try {
    if (request.ask === 'open') process.send?.({ result: await open(request.port, request.path) })
    else if (request.ask === 'watch') process.send?.({ result: await watch(request.seconds) })
    else process.send?.({ result: sockets.forEach(drop) })
  } catch (error) {
    process.send?.({ error: (error as Error).message })
  }
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: true })
