import type { IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { KEY } from '../../support/raw-client.ts'
import type { Implementation, Ws } from './implementation.ts'
import { makeServer, openClient, startServer } from './sockets.ts'

/** A stream that has taken what it was given only when it is told to go on. */
class SlowStream extends Duplex {
  readonly taken: Buffer[] = []
  #next: (() => void) | undefined

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.taken.push(chunk)
    this.#next = callback
  }

  goOn(): boolean {
    const next = this.#next
    this.#next = undefined
    next?.()
    return next !== undefined
  }
}

/** Output that never comes to rest, and streams that take their time. */
export function flowSpec(implementation: Implementation): void {
  describe('a stream that is slow to write', () => {
    it('gets the messages that were sent while it wrote', async () => {
      const stream = new SlowStream()
      const wss = makeServer(implementation, { noServer: true })
      const request = {
        ...{ method: 'GET', url: '/', socket: stream },
        headers: { upgrade: 'websocket', 'sec-websocket-key': KEY, 'sec-websocket-version': '13' },
      } as unknown as IncomingMessage
      const sent: string[] = []
      wss.handleUpgrade(request, stream, Buffer.alloc(0), (ws) => {
        ws.send('one', () => sent.push('one'))
        ws.send('two', () => sent.push('two'))
      })
      for (let turn = 0; turn < 20 && sent.length < 2; turn++) {
        stream.goOn()
        await nextTurn()
      }
      expect(sent).toEqual(['one', 'two'])
      expect(Buffer.concat(stream.taken).toString('latin1').split('\r\n\r\n')[1]).toBe('\x81\x03one\x81\x03two')
    })

    it('gets what a program writes by itself behind a message', async () => {
      const stream = new SlowStream()
      const wss = makeServer(implementation, { noServer: true })
      const request = {
        ...{ method: 'GET', url: '/', socket: stream },
        headers: { upgrade: 'websocket', 'sec-websocket-key': KEY, 'sec-websocket-version': '13' },
      } as unknown as IncomingMessage
      let isSent = false
      wss.handleUpgrade(request, stream, Buffer.alloc(0), (ws) => {
        ws.send('one', () => {
          isSent = true
        })
        const { _socket: socket } = ws as unknown as { _socket: Duplex }
        socket.write(Buffer.from('\x81\x03two', 'latin1'))
      })
      for (let turn = 0; turn < 20; turn++) {
        stream.goOn()
        await nextTurn()
      }
      expect(isSent).toBe(true)
      expect(Buffer.concat(stream.taken).toString('latin1').split('\r\n\r\n')[1]).toBe('\x81\x03one\x81\x03two')
    })
  })

  describe('a feed that never pauses', () => {
    it('has its callbacks called on the way, in order, and answers every ping', async () => {
      const { wss, url } = await startServer(implementation, { maxPendingAutoPongs: 5 })
      const connected = new Promise<Ws>((resolve) => wss.on('connection', resolve))
      const client = await openClient(implementation, url)
      const server = await connected
      let pings = 0
      let pongs = 0
      client.on('pong', () => pongs++)
      client.on('message', () => {})
      const block = Buffer.alloc(256 * 1024)
      const called: number[] = []
      let sent = 0
      let fewestWaiting = Number.POSITIVE_INFINITY
      // There is always more under way than the last callback has told.
      while (called.length < 200) {
        while (server.bufferedAmount < 4 * block.length) {
          const number = sent++
          server.send(block, () => called.push(number))
        }
        fewestWaiting = Math.min(fewestWaiting, server.bufferedAmount)
        if (pings === pongs && pings < called.length / 10) {
          pings++
          client.ping('')
        }
        await nextTurn()
      }
      expect(fewestWaiting).toBeGreaterThan(0)
      expect(called).toEqual(called.map((_, index) => index))
      expect(server.readyState).toBe(1)
      expect(pongs).toBeGreaterThan(5)
      client.terminate()
    })
  })
}
