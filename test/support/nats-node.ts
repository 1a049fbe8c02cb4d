import type { ConnectionOptions, NatsConnection } from '@nats-io/transport-node'
import type { Backplane } from '../../src/backplane.ts'
import { type NatsBackplaneOptions, natsBackplane } from '../../src/cluster/nats.ts'
import type { WebSocketServerOptions } from '../../src/index.ts'
import type { NatsServer } from './nats-server.ts'
import { openNode, openPlane, type Plane, type PlaneNode } from './planes.ts'

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

interface OwnConnection {
  readonly connection: NatsConnection
}

/** A backplane that was not started yet. */
async function connectNats(
  nats: NatsServer,
  { connect, nats: more }: NatsNodeOptions = {},
): Promise<OwnConnection & { readonly backplane: Backplane }> {
  const connection = await nats.connect(connect)
  const options = typeof more === 'function' ? more(connection) : more
  return { connection, backplane: natsBackplane({ connection, ...options }) }
}

export async function startNatsNode(
  nats: NatsServer,
  options: NatsNodeOptions = {},
): Promise<PlaneNode & OwnConnection> {
  const { connection, backplane } = await connectNats(nats, options)
  return { connection, ...(await openNode(backplane, options)) }
}

/** The backplane alone. */
export async function startNatsPlane(nats: NatsServer, options: NatsNodeOptions = {}): Promise<Plane & OwnConnection> {
  const { connection, backplane } = await connectNats(nats, options)
  return { connection, ...(await openPlane(backplane, options)) }
}
