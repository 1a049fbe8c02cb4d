import { expect, it } from 'vitest'
import { plainRequest, RawClient } from '../support/raw-client.ts'
import { startServer } from '../support/servers.ts'

it('answers a peer that has half-closed behind its request, also when the answer takes a while', async () => {
  const { port } = await startServer({
    respond: async () => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      return { body: 'hello' }
    },
  })
  const client = await RawClient.connect({ port })
  client.send(plainRequest())
  client.end()
  const { status, body } = await client.readAnswer()
  expect([status, body]).toEqual([200, 'hello'])
})

it('refuses a HEAD request without a body', async () => {
  const { port } = await startServer()
  const client = await RawClient.connect({ port })
  client.send(plainRequest({ method: 'HEAD' }))
  const { status, body } = await client.readAnswer()
  expect([status, body]).toEqual([426, ''])
})
