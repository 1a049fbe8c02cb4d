import { nodeBackplane } from '../../../src/cluster/node.ts'
import { createPublisher } from '../../../src/index.ts'
import { say } from './serving.mjs'

/*
 * Publishes something, from a process or a thread that does nothing else, and ends: behind `close`, or just so.
 */

export async function doJob(name, isClosed) {
  const listeners = () => [process.listenerCount('message'), process.listenerCount('disconnect')]
  const before = listeners()
  const publisher = createPublisher({ backplane: nodeBackplane(), error: (error) => say({ error: error.message }) })
  publisher.listenTo('nothing', () => {})
  await publisher.ready()
  await publisher.synced()
  const { reach } = publisher.publish('jobs', name)
  if (isClosed) await publisher.close()
  say({ job: name, reach, hasRestored: isClosed ? listeners().join() === before.join() : undefined })
}

if (process.env.JOB !== undefined) {
  const { name, isClosed } = JSON.parse(process.env.JOB)
  await doJob(name, isClosed)
}
