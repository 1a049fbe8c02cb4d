// What every measured server does besides serving: it reports its CPU time and memory, and collects garbage, when the
// benchmark asks for it over IPC.

const collect = () => (process.versions.bun ? globalThis.Bun.gc(true) : globalThis.gc?.())

/** Tells the benchmark that the server listens, and `about` it. */
export function ready(port, about) {
  process.on('message', (request) => {
    if (request.ask === 'collect') collect()
    const { rss, heapUsed: heap, external } = process.memoryUsage()
    process.send({ result: { cpu: process.cpuUsage(), rss, heap, external } })
  })
  process.on('disconnect', () => process.exit())
  process.send({ ready: true, port, about })
}
