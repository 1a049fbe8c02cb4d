import { fork } from 'node:child_process'
import cluster from 'node:cluster'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { nodeBackplane, startExchange } from '../../../src/cluster/node.ts'
import { createPublisher } from '../../../src/index.ts'
import { say, serve } from './serving.mjs'

/*
 * A primary process. The argument says which workers there are, and how it is set up; then each line of its input is a
 * command, and answered with a line that has the command's number.
 */

const given = JSON.parse(process.argv[2])
const { serialization, workers = [], children = [], exchange: exchangeOptions, options } = given
/** Threads: `early` ones are there before the exchange. */
const { threads = [], earlyThreads = [], serves } = given
const exec = fileURLToPath(new URL('worker.mjs', import.meta.url))
cluster.setupPrimary({ exec, ...(serialization && { serialization }) })

const start = () =>
  startExchange({ error: (error) => say({ error: error.message, at: 'exchange' }), ...exchangeOptions })
const foreign = []
const started = new Map()
const gate = new Int32Array(new SharedArrayBuffer(4))
for (const name of earlyThreads) makeThread(name)
if (earlyThreads.length > 0) await new Promise((resolve) => setImmediate(resolve))
let exchange = exchangeOptions === null ? undefined : start()

function add(name, child) {
  started.set(name, child)
  child.on('message', (message) => {
    if (message?.type !== 'fullduplex') foreign.push(message)
  })
  child.on('exit', (code, signal) => {
    started.delete(name)
    say({ exit: name, code, signal })
  })
}

const envOf = (name) => ({ WORKER: JSON.stringify({ name, options }) })
const forkWorker = (name) => add(name, cluster.fork(envOf(name)))
for (const name of workers) forkWorker(name)
for (const name of children) {
  const child = fork(exec, { env: { ...process.env, ...envOf(name) }, serialization: serialization ?? 'json' })
  add(name, child)
  exchange.add(child)
}

function makeThread(name) {
  add(name, new Worker(new URL('thread.mjs', import.meta.url), { workerData: { name, options, gate } }))
}
for (const name of threads) makeThread(name)

const own = serves === undefined ? undefined : await serve(serves, options)
if (own !== undefined) say({ listening: serves, port: own.port, pid: process.pid })

let publisher
const sendTo = (child, message) => (child.postMessage === undefined ? child.send(message) : child.postMessage(message))
const actions = {
  thread: ({ name }) => makeThread(name),
  terminate: ({ name }) => void started.get(name).terminate(),
  unblock() {
    Atomics.store(gate, 0, 1)
    Atomics.notify(gate, 0)
  },
  fork: ({ name }) => forkWorker(name),
  async publish({ topic, data }) {
    publisher ??= createPublisher({ backplane: nodeBackplane() })
    await publisher.ready()
    return publisher.publish(topic, data)
  },
  send({ messages }) {
    for (const child of started.values()) for (const message of messages) sendTo(child, message)
  },
  foreign: () => ({ foreign }),
  async stats() {
    globalThis.gc?.()
    const { rss } = process.memoryUsage()
    return { members: exchange?.members, channels: exchange?.channels, rss }
  },
  async closeExchange() {
    await exchange.close()
    exchange = undefined
  },
  startExchange() {
    exchange = start()
  },
  async end() {
    const exits = [...started.values()].map((child) => new Promise((resolve) => child.once('exit', resolve)))
    for (const child of started.values()) sendTo(child, { type: 'end' })
    await Promise.all(exits)
    await publisher?.close()
    await own?.server.close()
    input.close()
    return { members: exchange?.members, channels: exchange?.channels }
  },
}

const input = createInterface({ input: process.stdin })
input.on('line', async (line) => {
  const { number, ...command } = JSON.parse(line)
  say({ number, ...(await actions[command.do](command)) })
})
