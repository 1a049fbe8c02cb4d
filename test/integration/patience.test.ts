import { describe, expect, it, onTestFinished } from 'vitest'
import type { CloseEvent } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { closeFrame, plainRequest, RawClient } from '../support/raw-client.ts'
import { firstClient, openClient, startServer, until } from '../support/servers.ts'

describe('how long a peer may take', () => {
  it('to close is what server.close says, also when connections by themselves get less', async () => {
    const ended = new Queue<CloseEvent>()
    const { server, port } = await startServer({ closeTimeoutMs: 20, close: (_, event) => ended.push(event) })
    const raw = await RawClient.open({ port })
    const closed = server.close({ timeoutMs: 60_000 })
    expect((await raw.readFrame()).opcode).toBe(8)
    // Many sweeps later it is still there, and may answer.
    await new Promise((resolve) => setTimeout(resolve, 200))
    raw.send(closeFrame(1001))
    expect(await ended.next()).toMatchObject({ code: 1001, wasClean: true })
    raw.end()
    await closed
  })

  it('to read a long answer depends on its length', async () => {
    const body = Buffer.alloc(20_000_000, 'x')
    const { port } = await startServer({ closeTimeoutMs: 20, respond: () => ({ body }) })
    const raw = await RawClient.connect({ port, paused: true })
    raw.send(plainRequest())
    await new Promise((resolve) => setTimeout(resolve, 200))
    raw.startReading()
    expect((await raw.readAnswer()).body).toHaveLength(body.length)
  })

  it('to read a refusal is granted to sixteen sockets of an address at a time', async () => {
    const { port } = await startServer({ token: 'secret', closeTimeoutMs: 60_000 })
    const refused = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const raw = await RawClient.connect({ port })
        raw.send('GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n')
        expect((await raw.readHead()).status).toBe(400)
        return raw
      }),
    )
    // Who is not cut can still send; the others are reset or closed when they do.
    const gone = (): number => refused.filter(({ socket }) => socket.destroyed).length
    const chatter = setInterval(() => {
      for (const raw of refused) if (!raw.socket.destroyed) raw.send('x')
    }, 5)
    onTestFinished(() => clearInterval(chatter))
    await until(() => gone() === 4)
    expect(gone()).toBe(4)
  })
})

describe('a client whose messages nobody ever reads', () => {
  it('is not taken for alive for ever', async () => {
    const { server, url } = await startServer({ pingIntervalMs: 0 })
    const client = await openClient(url, { pingIntervalMs: 50, pongTimeoutMs: 50 })
    const peer = await firstClient(server)
    for (let count = 0; count < 100; count++) peer.send('nobody reads this')
    await until(() => client.state === 'closed')
    expect(client.send('anything')).toBe(false)
    await expect(client.flushed()).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
  })

  it('but may be read late', async () => {
    const { server, url } = await startServer()
    const client = await openClient(url)
    const peer = await firstClient(server)
    for (let count = 0; count < 100; count++) peer.send(String(count))
    await peer.flushed()
    let expected = 0
    for await (const message of client) {
      expect(message).toBe(String(expected++))
      if (expected === 100) break
    }
  })
})
