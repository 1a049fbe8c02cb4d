import { describe, expect, it } from 'vitest'
import { WebSocketServer } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { RawClient } from '../support/raw-client.ts'
import { certificate, closeBehindTest, startHttpServer } from '../support/servers.ts'

describe('a peer that ends TCP without a Close frame', () => {
  it.each(['http', 'https'] as const)('is gone at once on a node:%s server too', async (kind) => {
    const { httpServer, port } = await startHttpServer(kind)
    const events = new Queue<object>()
    // Not by the closing timeout.
    const server = new WebSocketServer({ closeTimeoutMs: 60_000, close: (_, event) => events.push(event) })
    closeBehindTest(server)
    server.attach(httpServer)
    const client = await RawClient.open({ port, ca: kind === 'https' ? certificate.cert : undefined })
    client.end()
    expect(await events.next()).toEqual({ code: 1006, reason: '', wasClean: false })
    await client.ended()
  })
})
