import type { IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { defer } from '../../support/queue.ts'
import { seededRandom } from '../../support/random.ts'
import { KEY } from '../../support/raw-client.ts'
import type { Implementation, Ws } from './implementation.ts'
import { inside, makeServer, openClient, openPair, startServer } from './sockets.ts'

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
  describe('a program that pauses and resumes the socket itself', () => {
    /** Much shorter when it is compressed: many of them come in one chunk, and each takes a while to be inflated. */
    const long = (index: number): string => `${index} `.repeat(100_000)
    const random = seededRandom(7)
    const noise = Buffer.from(Array.from({ length: 60_000 }, () => random(256))).toString('latin1')

    it.each([
      ['client', 'long ones, compressed', true, [long]],
      ['server', 'long ones, compressed', true, [long]],
      ['server', 'some that become no shorter between them', true, [long, (index: number) => `${index}${noise}`]],
      ['server', 'all of them as they are', false, [(index: number) => `${index}${noise}`, String]],
    ] as const)('a %s misses no message, and has them in order: %s', async (role, _, perMessageDeflate, kinds) => {
      for (const allowSynchronousEvents of [true, false]) {
        const options = { perMessageDeflate, allowSynchronousEvents }
        const pair = await openPair(implementation, { server: options, client: options })
        const [from, to] = role === 'server' ? [pair.client, pair.server] : [pair.server, pair.client]
        const expected = Array.from({ length: 24 }, (__, index) => kinds[index % kinds.length]!(index))
        const came: string[] = []
        const over = defer()
        to.on('message', (data) => {
          came.push(String(data))
          if (came.length === expected.length) over.resolve()
        })
        to.on('error', over.reject)
        let isOver = false
        const touchSocket = (): void => {
          if (isOver) return
          inside(to)._socket.pause()
          inside(to)._socket.resume()
          setImmediate(touchSocket)
        }
        touchSocket()
        for (const message of expected) from.send(message)
        await over.promise.finally(() => {
          isOver = true
        })
        // Not with toEqual: it would print all of it.
        expect(came.map((message, index) => message === expected[index])).toEqual(expected.map(() => true))
        expect([from.readyState, to.readyState]).toEqual([1, 1])
      }
    })
  })

  describe('a burst of messages that are compressed', () => {
    it('lets others have their turns before it is through', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      client.on('message', () => {})
      const socket = inside(server)._socket
      for (let number = 0; number < 8_000; number++) server.send(`message number ${number}`)
      let turns = 0
      // What waits to be compressed; what waits for the peer is in the socket.
      while (server.bufferedAmount > socket.writableLength) {
        await nextTurn()
        turns++
      }
      expect(turns).toBeGreaterThan(4)
    })
  })
}
