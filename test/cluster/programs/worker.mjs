import { arrived, countArrivals, say, serve } from './serving.mjs'

/*
 * A worker of node:cluster, or a process that was started with fork.
 */

const { name, options } = JSON.parse(process.env.WORKER)

// A process that outlives its parent goes when the test does.
process.on('disconnect', () => setInterval(() => server.clients.size === 0 && process.exit(), 50))

const foreign = []
process.on('message', async (message) => {
  countArrivals(message)
  if (message?.type === 'end') await end()
  else if (message?.type !== 'fullduplex') foreign.push(message)
})

const started = serve(name, options, {
  foreign: () => ({ foreign }),
  /** Anything to the primary process. */
  send(_client, { messages }) {
    for (const message of messages) process.send(message)
  },
  leave: () => void setImmediate(end),
})
let server
try {
  const { port } = ({ server } = await started)
  say({ listening: name, port, pid: process.pid })
} catch ({ code, message, cause }) {
  say({ refused: name, code, message, cause: cause?.code })
  process.disconnect()
}

async function end() {
  await server.close()
  say({ closed: name, joined: arrived.joined })
  process.disconnect()
}
