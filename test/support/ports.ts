import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { onTestFinished } from 'vitest'

/*
 * Ports that somebody else has.
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
