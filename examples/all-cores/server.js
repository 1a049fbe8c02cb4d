import cluster from 'node:cluster'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { startExchange } from 'fullduplex/cluster/node'

/*
 * The primary process. It has no clients: it hands connections over to the workers, one after the other, carries what
 * they publish from worker to worker, and sees to it that they are there.
 */

const { WORKERS = availableParallelism() } = process.env
/** Time until there is a worker for one that has died, so that one that dies at once does not keep the machine busy. */
const RESTART_MS = 500

// Workers tell each other bytes as they are; without this line it works, too, as base64.
cluster.setupPrimary({ exec: fileURLToPath(new URL('worker.js', import.meta.url)), serialization: 'advanced' })
startExchange({ error: (error) => console.error(error.message) })

let port
let isEnding = false
/** Workers that are told to go. */
const leaving = new Set()

cluster.on('listening', (_worker, address) => {
  if (port !== undefined) return
  port = address.port
  console.log(`Listening on ws://127.0.0.1:${port} with ${WORKERS} workers`)
})

cluster.on('exit', (worker, code, signal) => {
  if (leaving.delete(worker) || isEnding) return
  // It has said why.
  if (port === undefined) process.exit(1)
  console.log(`Worker ${worker.process.pid} has died (${signal ?? code})`)
  setTimeout(() => !isEnding && cluster.fork(), RESTART_MS)
})

for (let count = 0; count < Number(WORKERS); count++) cluster.fork()

/** Resolves when the worker has said goodbye to its clients, and is gone. */
async function drain(worker) {
  leaving.add(worker)
  worker.send({ type: 'drain' })
  await once(worker, 'exit')
}

// Ctrl-C: one after the other, so that the clients do not all come to the others at once. A second Ctrl-C does not wait.
process.once('SIGINT', async () => {
  isEnding = true
  for (const worker of Object.values(cluster.workers)) await drain(worker)
  process.exit()
})

// A deploy: kill -HUP. There is never a worker less than before.
process.on('SIGHUP', async () => {
  for (const worker of Object.values(cluster.workers)) {
    if (isEnding) return
    await once(cluster.fork(), 'listening')
    await drain(worker)
  }
  console.log('All workers are new')
})
