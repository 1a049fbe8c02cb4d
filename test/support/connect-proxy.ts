import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect as connectTcp } from 'node:net'
import { onTestFinished } from 'vitest'
import { portOf } from './servers.ts'

/** An HTTP proxy that knows CONNECT alone; it ends with its test. `asked` has the targets that it was asked for. */
export async function startConnectProxy(): Promise<{ port: number; asked: string[] }> {
  const asked: string[] = []
  const ends = new Set<{ destroy(): void }>()
  const proxy = createServer()
  proxy.on('connect', (request, client) => {
    asked.push(request.url ?? '')
    const { hostname, port } = new URL(`http://${request.url}`)
    const server = connectTcp(Number(port), hostname, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      server.pipe(client).pipe(server)
    })
    for (const end of [client, server]) {
      ends.add(end)
      end.on('error', () => end.destroy())
    }
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  onTestFinished(() => {
    for (const end of ends) end.destroy()
    proxy.close()
  })
  return { port: portOf(proxy), asked }
}
