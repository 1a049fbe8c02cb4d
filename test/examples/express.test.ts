import { describe, expect, it } from 'vitest'
import { connect, type HandshakeError } from '../../src/index.ts'
import { addressIn, startExample } from '../support/example.ts'

function post(address: URL, body: unknown): Promise<Response> {
  const headers = { 'Content-Type': 'application/json' }
  return fetch(address, { method: 'POST', headers, body: JSON.stringify(body) })
}

describe('examples/express', () => {
  it('answers REST and WebSocket requests on one port', async () => {
    const address = await addressIn(startExample('express'))
    expect(await (await fetch(address)).json()).toEqual([])
    expect((await post(address, { text: 'Before' })).status).toBe(201)

    const live = `ws://${address.host}/live`
    const watcher = startExample('express', { script: 'watch', args: [live] })
    await watcher.line(`Watching ${live}`)
    await watcher.line('1: Before')
    const answer = await post(address, { text: 'Meanwhile' })
    expect([answer.status, await answer.json()]).toEqual([201, { id: 2, text: 'Meanwhile' }])
    await watcher.line('2: Meanwhile')
    expect(await (await fetch(address)).json()).toEqual([
      { id: 1, text: 'Before' },
      { id: 2, text: 'Meanwhile' },
    ])
  })

  it('refuses a note that says nothing, and a WebSocket elsewhere', async () => {
    const address = await addressIn(startExample('express'))
    const answer = await post(address, { text: ' ' })
    expect([answer.status, await answer.json()]).toEqual([400, { error: expect.stringContaining('text') }])
    const refusal = await connect(`ws://${address.host}/notes`).catch((error: HandshakeError) => error)
    expect(refusal).toMatchObject({ status: 400 })
    expect(await (await fetch(address)).json()).toEqual([])
  })

  it('has a watcher that ends when the server does', async () => {
    const server = startExample('express')
    const { host } = await addressIn(server)
    const watcher = startExample('express', { script: 'watch', args: [`ws://${host}/live`] })
    await watcher.line('Watching')
    await server.stop()
    await watcher.line('Closed (1006).')
    expect(await watcher.closed()).toBe(0)
  })
})
