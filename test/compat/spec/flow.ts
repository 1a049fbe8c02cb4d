import type { IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { defer } from '../../support/queue.ts'
import { seededRandom } from '../../support/random.ts'
import { frame, KEY } from '../../support/raw-client.ts'
import type { Implementation, Ws } from './implementation.ts'
import { inside, type Loose, makeServer, openPair } from './sockets.ts'

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
  /** A server's end on such a stream. */
  function openSlow(options: Loose = {}): { stream: SlowStream; ws: Ws } {
    const stream = new SlowStream()
    const wss = makeServer(implementation, { noServer: true, ...options })
    const request = {
      ...{ method: 'GET', url: '/', socket: stream },
      headers: { upgrade: 'websocket', 'sec-websocket-key': KEY, 'sec-websocket-version': '13' },
    } as unknown as IncomingMessage
    let opened: Ws | undefined
    wss.handleUpgrade(request, stream, Buffer.alloc(0), (ws) => {
      opened = ws
    })
    onTestFinished(() => void stream.destroy())
    return { stream, ws: opened! }
  }

  async function goOn(stream: SlowStream, isOver: () => boolean): Promise<void> {
    for (let turn = 0; turn < 20 && !isOver(); turn++) {
      // What was sent is to be written while the answer is still under way.
      await nextTurn()
      stream.goOn()
    }
    await nextTurn()
  }

  /** What was written behind the answer to the handshake. */
  const written = (stream: SlowStream): string =>
    Buffer.concat(stream.taken).toString('latin1').split('\r\n\r\n')[1] ?? ''

  describe('a stream that is slow to write', () => {
    it.each([
      ['one message', ['one'], '\x81\x03one'],
      ['several messages', ['one', 'two'], '\x81\x03one\x81\x03two'],
    ])('gets %s sent while it wrote', async (_, messages, expected) => {
      const { stream, ws } = openSlow()
      const sent: string[] = []
      for (const message of messages) ws.send(message, () => sent.push(message))
      await goOn(stream, () => sent.length === messages.length)
      expect(sent).toEqual(messages)
      expect(written(stream)).toBe(expected)
    })

    it('gets a Close frame sent while it wrote', async () => {
      const { stream, ws } = openSlow()
      ws.close(1000)
      await goOn(stream, () => written(stream).length === 4)
      expect(written(stream)).toBe('\x88\x02\x03\xe8')
    })

    it('gets what a program writes by itself behind a message', async () => {
      const { stream, ws } = openSlow()
      let isSent = false
      ws.send('one', () => {
        isSent = true
      })
      inside(ws)._socket.write(Buffer.from('\x81\x03two', 'latin1'))
      await goOn(stream, () => isSent && written(stream).length === 10)
      expect(isSent).toBe(true)
      expect(written(stream)).toBe('\x81\x03one\x81\x03two')
    })
  })

  describe('a feed that never pauses', () => {
    it('has its callbacks called on the way, in order', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: false } })
      client.on('message', () => {})
      const block = Buffer.alloc(1_000_000)
      const called: number[] = []
      let sent = 0
      const send = (count: number): void => {
        for (let more = 0; more < count; more++) {
          const number = sent++
          server.send(block, () => called.push(number))
        }
      }
      send(25)
      let fewestWaiting = Number.POSITIVE_INFINITY
      // The client reads less in a turn than comes.
      while (called.length < 20 && sent < 400) {
        await nextTurn()
        fewestWaiting = Math.min(fewestWaiting, server.bufferedAmount)
        send(3)
      }
      expect(called.length).toBeGreaterThan(19)
      expect(called).toEqual(called.map((_, index) => index))
      expect(fewestWaiting).toBeGreaterThan(0)
    })

    it('the same on a stream, and answers every ping', async () => {
      const { stream, ws } = openSlow({ maxPendingAutoPongs: 5 })
      let pings = 0
      ws.on('ping', () => pings++)
      const called: number[] = []
      const message = 'x'.repeat(100)
      for (let sent = 0; sent < 100; sent++) {
        ws.send(message, () => called.push(sent))
        stream.push(frame(9, ''))
        await nextTurn()
        // The latest message stays under way until the next one is.
        while (inside(ws)._socket.writableLength > message.length + 50) {
          stream.goOn()
          await nextTurn()
        }
        expect(stream.writableLength).toBeGreaterThan(0)
      }
      expect([ws.readyState, pings]).toEqual([1, 100])
      expect(called.length).toBeGreaterThan(95)
      expect(called).toEqual(called.map((_, index) => index))
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
