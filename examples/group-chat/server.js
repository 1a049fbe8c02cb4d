import cluster from 'node:cluster'
import { startExchange } from 'fullduplex/cluster/node'

const { BACKPLANE, WORKERS = 4 } = process.env

if (BACKPLANE === 'workers' && cluster.isPrimary) {
  startExchange()
  for (let count = 0; count < Number(WORKERS); count++) cluster.fork()
  // One that dies is replaced.
  const replace = () => cluster.fork()
  cluster.on('exit', replace)
  process.once('SIGINT', () => {
    cluster.off('exit', replace)
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGINT')
  })
} else {
  await import('./chat.js')
}
