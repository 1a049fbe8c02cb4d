import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { seededRandom } from '../../support/random.ts'
import { certificate, nextTurn, startHttpServer } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { describeError } from './record.ts'
import { inside, makeServer, openClient, openPair } from './sockets.ts'

/** Takes long to compress, and stays long. */
function slowText(): string {
  const random = seededRandom(11)
  return Array.from({ length: 200_000 }, () => random(1_000_000).toString(36)).join(' ')
}

/** What becomes of messages that are being compressed when the connection ends. */
export function endingsSpec(implementation: Implementation): void {
  const text = slowText()

  async function openTlsPair(options: object): Promise<{ server: Ws; client: Ws }> {
    const { httpServer } = await startHttpServer('https')
    const wss = makeServer(implementation, { server: httpServer, ...options })
    const connected = once(wss, 'connection')
    const { port } = httpServer.address() as AddressInfo
    const client = await openClient(implementation, `wss://127.0.0.1:${port}`, { ca: certificate.cert })
    const [server] = (await connected) as [Ws]
    return { server, client }
  }

  type End = (ws: Ws, peer: Ws) => void
  const ends: [how: string, End][] = [
    ['its peer ends', (_, peer) => inside(peer)._socket.end()],
    ['its peer terminates', (_, peer) => peer.terminate()],
    ['it terminates', (ws) => ws.terminate()],
    ['its socket is destroyed', (ws) => inside(ws)._socket.destroy()],
  ]
  const reset: [how: string, End] = ['its peer resets', (_, peer) => (inside(peer)._socket as Socket).resetAndDestroy()]

  describe.each([
    ['TCP', [...ends, reset]],
    ['TLS', ends],
  ] as const)('what is being compressed over %s', (transport, ways) => {
    describe.each(['server', 'client'] as const)('by a %s', (role) => {
      it.each(ways)('has its callbacks called once, in order, before close, when %s', async (_, end) => {
        const options = { perMessageDeflate: { zlibDeflateOptions: { level: 9 } } }
        const opened =
          transport === 'TLS' ? await openTlsPair(options) : await openPair(implementation, { server: options })
        const [ws, peer] = role === 'server' ? [opened.server, opened.client] : [opened.client, opened.server]
        peer.on('error', () => {})
        const called: string[] = []
        const closed = new Promise<void>((resolve) => {
          ws.on('error', (error) => called.push(describeError(error)))
          ws.on('close', () => {
            called.push(`close ${ws.readyState}`)
            resolve()
          })
        })
        const note =
          (name: string) =>
          (error?: Error | null): void =>
            void called.push(`${name} ${error ? `fails ${ws.readyState}` : 'is sent'}`)
        // The last ones wait for so much that they cannot have left when the end is there.
        const names = ['a', 'b', 'c', 'd', 'e', 'f']
        for (const name of names) ws.send(text, note(name))
        ws.ping('', undefined, note('ping'))
        ws.send('short', note('short'))
        end(ws, peer)
        await closed
        for (let turn = 0; turn < 10; turn++) await nextTurn()
        const all = [...names, 'ping', 'short']
        expect(called.map((line) => line.split(' ')[0])).toEqual([...all, 'close'])
        const failed = called.filter((line) => !line.endsWith('is sent'))
        expect(failed.length).toBeGreaterThan(4)
        expect(failed).toEqual([...all.slice(1 - failed.length).map((name) => `${name} fails 2`), 'close 3'])
      })
    })
  })
}
