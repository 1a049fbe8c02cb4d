import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { onTestFinished } from 'vitest'

/*
 * Ports that somebody else has, and ports that nobody has.
 */

/** Listens on a port as another program would, until it is released or the test ends. */
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

/** What the system says when a program wants to listen there; undefined when it may. */
export async function whyNotListen(port: number, host: string): Promise<string | undefined> {
  const server = createServer()
  try {
    server.listen({ port, host })
    await once(server, 'listening')
    await releasePort(server)
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
}

/** Whether both loopback addresses can be listened on; a machine may have no IPv6. */
export async function isFree(port: number): Promise<boolean> {
  const reasons = [await whyNotListen(port, '127.0.0.1'), await whyNotListen(port, '::1')]
  return reasons.every((reason) => reason === undefined || reason === 'EADDRNOTAVAIL' || reason === 'EAFNOSUPPORT')
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

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}
