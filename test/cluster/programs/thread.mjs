import { parentPort, workerData } from 'node:worker_threads'
import { register } from 'tsx/esm/api'

/*
 * A thread.
 */

// What the process was started with does not reach into its threads in every Node.
register()
const { arrived, say, serve } = await import('./serving.mjs')

const { name, options, gate } = workerData
const foreign = []
const { server, port } = await serve(name, options, {
  foreign: () => ({ foreign }),
  send(_client, { messages }) {
    for (const message of messages) parentPort.postMessage(message)
  },
  /** Nothing goes on in this thread until the gate is opened. */
  block: () => void setImmediate(() => Atomics.wait(gate, 0, 0)),
})
parentPort.on('message', async (message) => {
  if (message?.type !== 'end') {
    foreign.push(message)
    return
  }
  await server.close()
  say({ closed: name, joined: arrived.joined })
  parentPort.close()
})
say({ listening: name, port, pid: process.pid })
