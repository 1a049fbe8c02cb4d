import type { ConnectionOptions, NatsConnection } from '@nats-io/transport-node'
import { onTestFinished } from 'vitest'
import type { Backplane } from '../../src/backplane.ts'
import { type NatsBackplaneOptions, natsBackplane } from '../../src/cluster/nats.ts'
import type { WebSocketConnection, WebSocketServer, WebSocketServerOptions } from '../../src/index.ts'
import type { NatsServer } from './nats-server.ts'
import { Queue } from './queue.ts'
import { openClient, startServer } from './servers.ts'

/*
 * Processes that are joined by NATS, as far as one process can be several: each has a connection of its own.
 */

type MoreOptions = Omit<NatsBackplaneOptions, 'connection'>

/** What is not as usual. */
export interface NatsNodeOptions {
  readonly connect?: ConnectionOptions
  /** Options of the backplane; those that need the connection are made for it. */
  readonly nats?: MoreOptions | ((connection: NatsConnection) => MoreOptions)
  readonly server?: WebSocketServerOptions
}

/** A server with one client. */
export interface NatsNode {
  readonly connection: NatsConnection
  readonly server: WebSocketServer
  readonly url: string
  /** The server's side of its client. */
  readonly client: WebSocketConnection
  /** What the client has received. */
  readonly received: Queue<string | Buffer>
  readonly errors: Queue<Error>
  readonly restored: Queue<undefined>
}

export async function startNatsNode(nats: NatsServer, options: NatsNodeOptions = {}): Promise<NatsNode> {
  const connection = await nats.connect(options.connect)
  const more = typeof options.nats === 'function' ? options.nats(connection) : options.nats
  const opened = new Queue<WebSocketConnection>()
  const errors = new Queue<Error>()
  const restored = new Queue<undefined>()
  const { server, url } = await startServer({
    backplane: natsBackplane({ connection, ...more }),
    error: (error) => errors.push(error),
    backplaneRestored: () => restored.push(undefined),
    open: (client) => opened.push(client),
    ...options.server,
  })
  const received = new Queue<string | Buffer>()
  await openClient(url, { message: (_, data) => received.push(data) })
  return { connection, server, url, client: await opened.next(), received, errors, restored }
}

/** The backplane alone, and what it tells. */
export interface Plane {
  readonly backplane: Backplane
  readonly connection: NatsConnection
  readonly received: Queue<[channel: string, message: Buffer]>
  /** `up`, or why it is down. */
  readonly news: Queue<string>
}

export async function startPlane(nats: NatsServer, options: NatsNodeOptions = {}): Promise<Plane> {
  const connection = await nats.connect(options.connect)
  const more = typeof options.nats === 'function' ? options.nats(connection) : options.nats
  const backplane = natsBackplane({ connection, ...more })
  const received = new Queue<[string, Buffer]>()
  const news = new Queue<string>()
  onTestFinished(() => backplane.close())
  backplane.start({
    receive: (channel, message) => received.push([channel, Buffer.from(message)]),
    up: () => news.push('up'),
    down: ({ message }) => news.push(message),
  })
  return { backplane, connection, received, news }
}
