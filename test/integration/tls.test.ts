import { expect, it } from 'vitest'
import { ping, RawClient } from '../support/raw-client.ts'
import { certificate, startServer } from '../support/servers.ts'

it('server.close does not wait for a peer that never begins its TLS handshake', async () => {
  const { server, port } = await startServer({ tls: certificate, handshakeTimeoutMs: 60_000 })
  const silent = await RawClient.connect({ port })
  // The server has accepted in order: when a later one is in, so is the silent one.
  await RawClient.open({ port, ca: certificate.cert })
  await server.close({ timeoutMs: 100 })
  await silent.ended()
})

it('a burst of pings from a peer that reads is answered ping by ping', async () => {
  const { port } = await startServer({ tls: certificate })
  const client = await RawClient.open({ port, ca: certificate.cert })
  const count = 3_000
  client.send(...Array.from({ length: count }, (_, index) => ping(String(index))))
  for (let index = 0; index < count; index++) {
    const { opcode, payload } = await client.readFrame()
    expect([opcode, payload.toString()]).toEqual([10, String(index)])
  }
})
