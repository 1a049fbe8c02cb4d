import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { type Message, WebSocketServer } from '../../src/index.ts'
import { isAlone } from '../../src/socket-peer.ts'
import { onFreedMemory } from '../support/freed-memory.ts'
import { Queue } from '../support/queue.ts'
import { seededRandom } from '../support/random.ts'
import { certificate, closeBehindTest, openClient, startServer } from '../support/servers.ts'

/** Bytes of memory that were freed; whoever still looks at it does not see what was there. */
let freedBytes = 0
onFreedMemory((memory) => {
  freedBytes += memory.byteLength
  new Uint8Array(memory).fill(0xdd)
})
beforeEach(() => {
  freedBytes = 0
})

const limits = { maxMessageBytes: 4_000_000 }

/** What is sent is what is in it: its number, and a byte that goes with it. */
function newMessage(index: number, size: number, isText: boolean): Message {
  const letter = String.fromCharCode(0x61 + (index % 26))
  const text = `${index} ${isText && index % 3 === 0 ? 'ü'.repeat(size / 2) : letter.repeat(size)}`
  return isText ? text : Buffer.from(text)
}

function areEqual(a: Message | undefined, b: Message): boolean {
  if (typeof b === 'string' || typeof a !== 'object') return a === b
  return a.equals(b)
}

describe('memory of chunks', () => {
  it.each(['ws', 'wss'] as const)('is freed under no message that somebody has kept: %s', async (scheme) => {
    const random = seededRandom(7)
    const { url } = await startServer({
      ...limits,
      ...(scheme === 'wss' ? { tls: certificate } : {}),
      message: (client, data) => void client.send(data),
    })
    const kept: Message[] = []
    const arrived = new Queue<number>()
    const client = await openClient(url, { ...limits, message: (_, data) => arrived.push(kept.push(data)) })
    const sizes = [10, 200, 1_500, 20_000, 65_510, 70_000, 300_000, 1_100_000]
    const sent = Array.from({ length: 150 }, (_, index) =>
      newMessage(index, random(sizes[random(sizes.length)]!), random(2) === 0),
    )
    // Some at a time, so that chunks are full of short ones, and of parts of long ones.
    for (let at = 0; at < sent.length; at += 6) {
      const some = sent.slice(at, at + 6)
      for (const message of some) client.send(message)
      await arrived.take(some.length)
    }
    const wrong = sent.flatMap((message, index) => (areEqual(kept[index], message) ? [] : [index]))
    expect(wrong).toEqual([])
    expect(freedBytes).toBeGreaterThan(1_000_000)
  })

  it('is left to somebody else who listens to the socket', async () => {
    const httpServer = createServer()
    const seen: Buffer[] = []
    const server = new WebSocketServer(limits)
    closeBehindTest(server)
    server.attach(httpServer)
    httpServer.on('upgrade', (_, socket) => socket.on('data', (chunk: Buffer) => seen.push(chunk)))
    httpServer.listen(0, '127.0.0.1')
    onTestFinished(() => void httpServer.close())
    await once(httpServer, 'listening')
    const { port } = httpServer.address() as AddressInfo
    const client = await openClient(`ws://127.0.0.1:${port}`)
    client.send('a'.repeat(200_000))
    await client.delivered()
    expect(freedBytes).toBeLessThan(200_000)
    expect(seen.length).toBeGreaterThan(0)
    // Unmasked in place, but there.
    expect(Buffer.concat(seen).includes('a'.repeat(1_000))).toBe(true)
  })

  it('is left to somebody who has listened once, before us', async () => {
    const httpServer = createServer()
    const seen: Buffer[] = []
    httpServer.on('upgrade', (_, socket) => socket.once('data', (chunk: Buffer) => seen.push(chunk)))
    const arrived = new Queue<Message>()
    const server = new WebSocketServer({ ...limits, message: (_, message) => void arrived.push(message) })
    closeBehindTest(server)
    server.attach(httpServer)
    httpServer.listen(0, '127.0.0.1')
    onTestFinished(() => void httpServer.close())
    await once(httpServer, 'listening')
    const { port } = httpServer.address() as AddressInfo
    const client = await openClient(`ws://127.0.0.1:${port}`)
    client.send('a'.repeat(5_000))
    // No ping behind it: a chunk with one in it is not freed.
    await arrived.take(1)
    expect(seen).toHaveLength(1)
    expect(seen[0]!.includes('a'.repeat(1_000))).toBe(true)
  })
})

describe('a chunk is alone', () => {
  const chunk = Buffer.from(new ArrayBuffer(2_000))

  it('that a socket has made for us', () => {
    const socket = new Socket().on('data', () => {})
    expect(isAlone(chunk, socket)).toBe(true)
  })

  it('not if somebody else listens as well', () => {
    const socket = new Socket().on('data', () => {}).on('data', () => {})
    expect(isAlone(chunk, socket)).toBe(false)
  })

  it('not if somebody reads, and is given what we are given', () => {
    const socket = new Socket().on('data', () => {}).on('readable', () => {})
    expect(isAlone(chunk, socket)).toBe(false)
  })

  it('not if it is a part of some memory', () => {
    const socket = new Socket().on('data', () => {})
    expect(isAlone(chunk.subarray(0, 1_999), socket)).toBe(false)
    expect(isAlone(chunk.subarray(1), socket)).toBe(false)
  })

  it('not if it is of no account', () => {
    const socket = new Socket().on('data', () => {})
    expect(isAlone(Buffer.from(new ArrayBuffer(100)), socket)).toBe(false)
  })

  it('not if it comes from somebody’s stream', () => {
    const stream = new PassThrough().on('data', () => {})
    expect(isAlone(chunk, stream)).toBe(false)
  })
})
