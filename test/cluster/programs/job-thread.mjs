import { workerData } from 'node:worker_threads'
import { register } from 'tsx/esm/api'

/*
 * The same in a thread.
 */

register()
const { doJob } = await import('./job.mjs')
await doJob(workerData.name, workerData.isClosed)
