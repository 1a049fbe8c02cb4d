/*
 * What joins several processes of this server, by the environment variable BACKPLANE: nothing, `workers` for those of one
 * machine, `redis://...` or `nats://...` for any that reach the same engine.
 */

const { BACKPLANE = '' } = process.env

/** The backplane for the server, undefined without one, and a function that ends its connection behind the server. */
export async function openBackplane() {
  if (BACKPLANE === '') return { backplane: undefined, closeBackplane() {} }
  if (BACKPLANE === 'workers') {
    const { nodeBackplane } = await import('fullduplex/cluster/node')
    return { backplane: nodeBackplane(), closeBackplane() {} }
  }
  const { protocol, host } = new URL(BACKPLANE)
  if (protocol === 'redis:') {
    const { createClient } = await import('redis')
    const { redisBackplane } = await import('fullduplex/cluster/redis')
    const client = createClient({ url: BACKPLANE })
    client.on('error', () => {}) // the server's `error` handler is told
    await client.connect()
    return { backplane: redisBackplane({ client }), closeBackplane: () => client.close() }
  }
  if (protocol === 'nats:') {
    const { connect } = await import('@nats-io/transport-node')
    const { natsBackplane } = await import('fullduplex/cluster/nats')
    const connection = await connect({ servers: host, maxReconnectAttempts: -1 })
    return { backplane: natsBackplane({ connection }), closeBackplane: () => connection.close() }
  }
  throw new Error('BACKPLANE has to be workers, redis://HOST:PORT or nats://HOST:PORT')
}
