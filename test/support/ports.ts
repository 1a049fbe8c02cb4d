import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { onTestFinished } from 'vitest'

/*
 * Ports to be had, and ports that somebody else has.
 */

/** Listens on a port as another program would, until `close` or the end of the test. */
export async function holdPort(port: number, host = '127.0.0.1'): Promise<Server> {
  const server = createServer((socket) => socket.destroy())
  server.listen({ port, host })
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return server
}

/** Lets go of a port again. */
export async function releasePort(server: Server): Promise<void> {
  server.close()
  await once(server, 'close')
}

/** Whether this machine has ::1. */
export async function hasIPv6(): Promise<boolean> {
  const server = createServer()
  try {
    server.listen({ port: 0, host: '::1' })
    await once(server, 'listening')
    await releasePort(server)
    return true
  } catch {
    return false
  }
}

/** Whether a program may listen on this port now, on 127.0.0.1 and, where there is one, on ::1. */
export async function isFree(port: number): Promise<boolean> {
  for (const host of (await hasIPv6()) ? ['127.0.0.1', '::1'] : ['127.0.0.1']) {
    const server = createServer()
    try {
      server.listen({ port, host })
      await once(server, 'listening')
      await releasePort(server)
    } catch {
      return false
    }
  }
  return true
}

/** Free ports below those that the system hands out, so that nobody comes in between by chance. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    if (!ports.includes(port) && (await isFree(port))) ports.push(port)
  }
  return ports
}

/** One of them. */
export async function freePort(): Promise<number> {
  return (await freePorts(1))[0] as number
}
