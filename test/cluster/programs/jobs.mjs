import { fork } from 'node:child_process'
import cluster from 'node:cluster'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { nodeBackplane, startExchange } from '../../../src/cluster/node.ts'
import { createPublisher } from '../../../src/index.ts'
import { doJob } from './job.mjs'
import { say } from './serving.mjs'

/*
 * Jobs in this process, in another one and in a thread; what they publish is said. With `close` everybody closes what
 * they have opened, and nothing may be left; else the processes just end.
 */

const isClosed = process.argv[2] === 'close'
const listeners = () => [
  cluster.listenerCount('fork'),
  process.listenerCount('worker'),
  process.listenerCount('message'),
]

const before = listeners()
const exchange = startExchange()
const listener = createPublisher({ backplane: nodeBackplane() })
listener.listenTo('jobs', (data) => say({ heard: data }))
await listener.ready()
await listener.synced()

await doJob('here', isClosed)

const file = (name) => new URL(name, import.meta.url)
const child = fork(file('job.mjs'), { env: { ...process.env, JOB: JSON.stringify({ name: 'process', isClosed }) } })
exchange.add(child)
const [processCode] = await once(child, 'exit')
// A thread that somebody else has, and that does not keep the process alive, does not do so now.
new Worker('setInterval(() => {}, 1_000)', { eval: true }).unref()
const thread = new Worker(file('job-thread.mjs'), { workerData: { name: 'thread', isClosed } })
const [threadCode] = await once(thread, 'exit')
say({ codes: [processCode, threadCode], members: exchange.members, channels: exchange.channels })

if (isClosed) {
  await listener.close()
  say({ left: [exchange.members, exchange.channels] })
  await exchange.close()
  const events = ['message', 'disconnect', 'exit'].map((event) =>
    [child, thread].map((one) => one.listenerCount(event)),
  )
  say({ hasRestored: listeners().join() === before.join(), events })
}
