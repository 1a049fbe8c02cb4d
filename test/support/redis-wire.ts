import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import type { RedisServer } from './redis-server.ts'
import { portOf } from './servers.ts'

/*
 * A way to Redis on which answers can get lost.
 */

/** One connection on it. */
class WireConnection {
  readonly #client: Socket
  readonly #redis: Socket
  /** Everything that the client has sent, as it was sent. */
  sent = ''
  #isDeaf = false

  constructor(client: Socket, redis: Socket) {
    this.#client = client
    this.#redis = redis
    client.on('data', (data) => {
      this.sent += data.toString('latin1')
      redis.write(data)
    })
    redis.on('data', (data) => {
      if (!this.#isDeaf) client.write(data)
    })
    for (const socket of [client, redis]) {
      socket.on('error', () => {})
      socket.on('close', () => this.cut())
    }
  }

  get isOpen(): boolean {
    return !this.#client.destroyed
  }

  /** From now on what Redis sends is lost. */
  deafen(): void {
    this.#isDeaf = true
  }

  cut(): void {
    this.#client.destroy()
    this.#redis.destroy()
  }
}

/** It ends with the test. */
export interface Wire {
  readonly url: string
  /** All that there ever were, in the order in which they came. */
  readonly connections: readonly WireConnection[]
  /** Cuts all connections, and lets nobody in. */
  close(): void
  /** Lets everybody in again. */
  open(): void
}

export async function startWire(redis: RedisServer): Promise<Wire> {
  const connections: WireConnection[] = []
  let isOpen = true
  const cutAll = (): void => {
    for (const connection of connections) connection.cut()
  }
  const server: Server = createServer((client) => {
    if (!isOpen) client.destroy()
    else connections.push(new WireConnection(client, connect(redis.port, '127.0.0.1')))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    cutAll()
  })
  return {
    url: `redis://127.0.0.1:${portOf(server)}`,
    connections,
    close: () => {
      isOpen = false
      cutAll()
    },
    open: () => {
      isOpen = true
    },
  }
}
