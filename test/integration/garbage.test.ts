import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { expect, it } from 'vitest'
import { connect, type WebSocketConnection, WebSocketServer } from '../../src/index.ts'
import { isCollected } from '../support/garbage.ts'

it('a connection that has ended, and that somebody holds on to, does not hold on to its socket', async () => {
  const sockets: WeakRef<object>[] = []
  const note = (message: unknown): void => {
    sockets.push(new WeakRef((message as { socket: object }).socket))
  }
  subscribe('net.server.socket', note)
  const ended: WebSocketConnection[] = []
  let tellEnded = (): void => {}
  const server = new WebSocketServer({
    close: (client) => {
      ended.push(client)
      tellEnded()
    },
  })
  try {
    const { port } = await server.listen()
    const isEnded = new Promise<void>((resolve) => {
      tellEnded = resolve
    })
    const client = await connect(`ws://127.0.0.1:${port}`)
    client.close(1000)
    await isEnded
    expect(sockets.length).toBe(1)
    expect(await isCollected(sockets[0]!)).toBe(true)
    const [connection] = ended
    expect([connection?.state, connection?.bufferedBytes, connection?.send('late')]).toEqual(['closed', 0, false])
    connection?.terminate()
    connection?.pause()
    connection?.resume()
    await expect(connection?.flushed()).rejects.toThrow('closed')
  } finally {
    unsubscribe('net.server.socket', note)
    await server.close()
  }
})
