import { describe, expect, it } from 'vitest'
import { connect, type Message } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { acceptOf } from '../support/raw-client.ts'
import { certificate, openClient, startServer, startTcpServer } from '../support/servers.ts'

/** The 101 answer that belongs to a request. */
function acceptance(request: string): string {
  const key = /^Sec-WebSocket-Key: (.*)$/m.exec(request)?.[1]?.trim() ?? ''
  return [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${acceptOf(key)}`,
    '\r\n',
  ].join('\r\n')
}

describe('what the server sends at once', () => {
  const sent = Array.from({ length: 20 }, (_, index) => Buffer.alloc(50_000, index))

  it.each(['ws', 'wss'] as const)('arrives whole over %s, however many reads it takes', async (scheme) => {
    const { url } = await startServer({
      ...(scheme === 'wss' ? { tls: certificate } : {}),
      open: (client) => {
        for (const message of sent) client.send(message)
      },
    })
    const messages = new Queue<Message>()
    await openClient(url, { message: (_, data) => messages.push(data) })
    const received = (await messages.take(sent.length)) as Buffer[]
    for (const [index, message] of sent.entries()) expect(message.equals(received[index]!)).toBe(true)
  })

  it('arrives over wss when each message is a record of its own', async () => {
    const { url } = await startServer({
      tls: certificate,
      open: (client) => {
        client.send('first')
        process.nextTick(() => client.send('second'))
      },
    })
    const messages = new Queue<Message>()
    await openClient(url, { message: (_, data) => messages.push(data) })
    expect(await messages.take(2)).toEqual(['first', 'second'])
  })
})

describe('a refusal', () => {
  it('is told with its status when the server keeps the connection open behind it', async () => {
    const { port } = await startTcpServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n')
        socket.write('9\r\nno token.\r\n0\r\n\r\n')
      })
    })
    await expect(connect(`ws://127.0.0.1:${port}`, { handshakeTimeoutMs: 200 })).rejects.toMatchObject({
      code: 'ERR_RESPONSE_STATUS',
      status: 401,
    })
  })
})

describe('an error handler that throws', () => {
  it('becomes a process warning', async () => {
    const { port } = await startTcpServer((socket) => {
      socket.once('data', (request) => {
        socket.write(acceptance(request.toString('latin1')))
        // Reserved bits.
        socket.write(Buffer.from([0xff, 0]))
      })
    })
    const warnings = new Queue<Error>()
    process.once('warning', warnings.push)
    const events = new Queue<{ code: number }>()
    await openClient(`ws://127.0.0.1:${port}`, {
      error: () => {
        throw new Error('thrown by the error handler')
      },
      close: (_, event) => events.push(event),
    })
    expect((await warnings.next()).message).toBe('thrown by the error handler')
    expect((await events.next()).code).toBe(1002)
  })
})
