import { describe, expect, it } from 'vitest'
import type { WebSocketServerOptions } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { closeOf, plainRequest, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import { openClient, startServer } from '../support/servers.ts'

describe('a handler that is async and fails', () => {
  const failing = async (): Promise<never> => {
    throw new Error('rejected')
  }

  it('close: reaches the error handler', async () => {
    const errors = new Queue<Error>()
    const { port } = await startServer({ close: failing, error: errors.push })
    const client = await RawClient.open({ port })
    client.reset()
    expect((await errors.next()).message).toBe('rejected')
  })

  it('refused: reaches the error handler', async () => {
    const errors = new Queue<Error>()
    const { port } = await startServer({ refused: failing, error: errors.push })
    const client = await RawClient.connect({ port })
    client.send(plainRequest())
    expect((await client.readAnswer()).status).toBe(426)
    expect((await errors.next()).message).toBe('rejected')
  })

  it('drain: reaches the error handler, and closes that client with 1011', async () => {
    const errors = new Queue<Error>()
    const events = new Queue<{ code: number }>()
    const { port } = await startServer({
      drain: failing,
      error: errors.push,
      close: (_, event) => events.push(event),
      open: (client) => {
        // More than the kernel takes at once.
        for (let sent = 0; sent < 12; sent++) client.send(Buffer.alloc(1_000_000))
      },
    })
    const client = await RawClient.open({ port })
    expect((await errors.next()).message).toBe('rejected')
    const frames = await client.readFrames()
    expect(closeOf(frames.at(-1)!).code).toBe(1011)
    client.end()
    expect((await events.next()).code).toBe(1011)
  })

  it('error: becomes a process warning', async () => {
    const warnings = new Queue<Error>()
    process.once('warning', warnings.push)
    const { port } = await startServer({
      error: failing,
      message: () => {
        throw new Error('thrown')
      },
    })
    const client = await RawClient.open({ port })
    client.send(text('hello'))
    expect((await warnings.next()).message).toBe('rejected')
  })

  it.each(['open', 'message'] as const)('%s: what waits behind it is not delivered any more', async (name) => {
    const delivered: unknown[] = []
    const errors = new Queue<Error>()
    const handlers: WebSocketServerOptions = {
      open: name === 'open' ? failing : () => {},
      message: (_, data) => {
        delivered.push(data)
        return name === 'message' ? failing() : undefined
      },
    }
    const events = new Queue<{ code: number }>()
    const { port } = await startServer({ ...handlers, error: errors.push, close: (_, event) => events.push(event) })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest(), text('one'), text('two'), text('three'))
    expect((await client.readHead()).status).toBe(101)
    expect(closeOf(await client.readFrame()).code).toBe(1011)
    client.end()
    expect((await events.next()).code).toBe(1011)
    expect(delivered).toEqual(name === 'open' ? [] : ['one'])
    expect(errors.all.map((error) => error.message)).toEqual(['rejected'])
  })
})

describe('server.close', () => {
  it('with a code that may not be sent rejects, and the server goes on', async () => {
    const { server, url } = await startServer({ message: (client, data) => void client.send(data) })
    const answers = new Queue<unknown>()
    const client = await openClient(url, { message: (_, data) => answers.push(data) })
    await expect(server.close({ code: 1005 })).rejects.toMatchObject({ code: 'ERR_CLOSE_ARGUMENT' })
    client.send('still here')
    expect(await answers.next()).toBe('still here')
    await server.close()
    expect(server.port).toBeNull()
  })

  it('with a code that may not be sent rejects also without clients', async () => {
    const { server } = await startServer()
    await expect(server.close({ code: 1005 })).rejects.toMatchObject({ code: 'ERR_CLOSE_ARGUMENT' })
  })
})
