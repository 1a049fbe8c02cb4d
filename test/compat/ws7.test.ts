import { once } from 'node:events'
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import ours from '../../src/compat/ws7.ts'
import type { Implementation, Ws } from './spec/implementation.ts'
import { makeClient, openPair, startServer } from './spec/sockets.ts'

/*
 * What programs for ws 7 rely on and ws 8 gave up: texts and reasons are strings. Against ws 7 itself, and against ours.
 */

const require = createRequire(import.meta.url)

type Class = Implementation['WebSocket'] & Record<'Server' | 'createWebSocketStream', unknown>

function implementationOf(name: string, WebSocket: Class): Implementation {
  return {
    name,
    WebSocket,
    WebSocketServer: WebSocket.Server as Implementation['WebSocketServer'],
    createWebSocketStream: WebSocket.createWebSocketStream as Implementation['createWebSocketStream'],
  }
}

const implementations = [
  implementationOf('ws 7', require('ws7') as Class),
  implementationOf('fullduplex/ws7', ours as unknown as Class),
]

describe.each(implementations)('$name', (implementation) => {
  it('gives texts as strings, and bytes as Buffers', async () => {
    const { server, client } = await openPair(implementation)
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      for (const data of ['text', '', Buffer.from('bytes')]) {
        const message = once(to, 'message')
        from.send(data)
        expect((await message)[0]).toEqual(data)
      }
    }
  })

  it('gives reasons as strings', async () => {
    const { server, client } = await openPair(implementation)
    const closed = [once(server, 'close'), once(client, 'close')]
    client.close(4000, 'because')
    expect(await Promise.all(closed)).toEqual([
      [4000, 'because'],
      [4000, 'because'],
    ])
  })

  it('gives an empty string when there is no reason', async () => {
    const { server, client } = await openPair(implementation)
    const closed = once(server, 'close')
    client.terminate()
    expect(await closed).toEqual([1006, ''])
  })

  it('has the properties of browsers', async () => {
    const { wss, url } = await startServer(implementation)
    wss.on('connection', (ws: Ws) => {
      ws.onmessage = ({ data }) => ws.send(`echo ${String(data)}`)
    })
    const ws = makeClient(implementation, url)
    const seen: unknown[] = []
    await new Promise<void>((resolve) => {
      ws.onopen = () => ws.send('hello')
      ws.onmessage = ({ data }) => {
        seen.push(data)
        ws.close(1000, 'done')
      }
      ws.onclose = ({ code, reason, wasClean }) => {
        seen.push(code, reason, wasClean)
        resolve()
      }
    })
    expect(seen).toEqual(['echo hello', 1000, 'done', true])
  })

  it('gives bytes by binaryType', async () => {
    const { server, client } = await openPair(implementation)
    client.binaryType = 'arraybuffer'
    const message = once(client, 'message')
    server.send(Buffer.from([1, 2]))
    expect((await message)[0]).toEqual(new Uint8Array([1, 2]).buffer)
  })
})
