// The clients of Redis with which servers are measured, and the versions of all clients of engines.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

/** `name` is node-redis or ioredis. Everything is as it comes. */
export async function connectRedis(name, port) {
  if (name === 'ioredis') {
    const { Redis } = await import('ioredis')
    return new Redis({ host: '127.0.0.1', port: Number(port) })
  }
  const { createClient } = await import('redis')
  const client = createClient({ socket: { host: '127.0.0.1', port: Number(port) } })
  client.on('error', (error) => console.error(error))
  await client.connect()
  return client
}

const PACKAGES = { 'node-redis': 'redis', ioredis: 'ioredis', nats: '@nats-io/transport-node' }

/** Of the client `name`: node-redis, ioredis, or nats. */
export function clientVersion(name) {
  return `${name} ${require(`${PACKAGES[name]}/package.json`).version}`
}
