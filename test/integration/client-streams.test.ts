import { Duplex } from 'node:stream'
import { describe, expect, it } from 'vitest'
import {
  type CloseEvent,
  type ConnectOptions,
  type Data,
  toWebStreams,
  UsageError,
  type WebSocketConnection,
  type WebSocketServerOptions,
  type WebStreams,
} from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { closeOf, frame, type RawClient } from '../support/raw-client.ts'
import { acceptance, firstClient, openClient, startRawServer, startServer } from '../support/servers.ts'

async function allOf<T>(readable: ReadableStream<T>): Promise<T[]> {
  const all: T[] = []
  for await (const chunk of readable) all.push(chunk)
  return all
}

interface Opened extends WebStreams {
  readonly client: WebSocketConnection<undefined>
  readonly peer: WebSocketConnection<unknown>
  /** How it ended for the server. */
  readonly ends: Queue<CloseEvent>
  /** What the server got. */
  readonly received: Queue<Data>
}

async function open(serverOptions: WebSocketServerOptions = {}, options: ConnectOptions = {}): Promise<Opened> {
  const ends = new Queue<CloseEvent>()
  const received = new Queue<Data>()
  const { url, server } = await startServer({
    message: (_, data) => received.push(data),
    close: (_, event) => ends.push(event),
    ...serverOptions,
  })
  const client = await openClient(url, options)
  return { client, peer: await firstClient(server), ends, received, ...toWebStreams(client) }
}

/** A peer of raw bytes, with the handshake done. */
async function openRaw(
  options: ConnectOptions = {},
): Promise<WebStreams & { peer: RawClient; client: WebSocketConnection<undefined> }> {
  const peers = new Queue<RawClient>()
  const { url } = await startRawServer((peer, request) => {
    peer.send(acceptance(request))
    peer.stopReading()
    peers.push(peer)
  })
  const client = await openClient(url, options)
  return { client, peer: await peers.next(), ...toWebStreams(client) }
}

describe('the readable stream', () => {
  it('gives the messages in order, and ends with a clean close', async () => {
    const { readable, peer } = await open()
    peer.send('text')
    peer.send(Uint8Array.of(1, 2, 3))
    peer.send('')
    peer.close(1000)
    expect(await allOf(readable)).toEqual(['text', Buffer.from([1, 2, 3]), ''])
  })

  it('fails when the connection is cut, behind what came before', async () => {
    const { readable, peer } = await open()
    peer.send('last')
    await peer.flushed()
    const reader = readable.getReader()
    expect(await reader.read()).toEqual({ done: false, value: 'last' })
    peer.terminate()
    await expect(reader.read()).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
  })

  it('holds the peer back while nobody reads', async () => {
    const { readable, peer } = await open({ maxBufferedBytes: Number.POSITIVE_INFINITY })
    const message = Buffer.alloc(100_000, 5)
    let sent = 0
    // The kernel takes some of it, and no more.
    while (sent < 1_000 && peer.bufferedBytes === 0) {
      peer.send(message)
      sent++
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(peer.bufferedBytes).toBeGreaterThan(0)
    peer.close(1000)
    let read = 0
    for await (const chunk of readable) read += chunk.length
    expect(read).toBe(sent * message.length)
  })

  it.each(['cancel', 'break'])('closes the connection when it is cancelled, whatever still comes: %s', async (how) => {
    const { readable, peer, ends } = await open()
    peer.send('first')
    for (let count = 0; count < 50; count++) peer.send(Buffer.alloc(10_000))
    if (how === 'cancel') await readable.cancel('enough')
    else for await (const _ of readable) break
    expect(await ends.next()).toEqual({ code: 1000, reason: '', wasClean: true })
  })

  it('is not given where messages go to a handler', async () => {
    const { url } = await startServer()
    const client = await openClient(url, { message() {} })
    expect(() => toWebStreams(client)).toThrow(UsageError)
  })
})

describe('the writable stream', () => {
  it('sends the chunks as messages, and closes behind them', async () => {
    const { writable, received, ends } = await open()
    const writer = writable.getWriter()
    void writer.write('text')
    void writer.write(Uint8Array.of(1, 2))
    void writer.write(Uint8Array.of(3).buffer)
    void writer.write(Buffer.alloc(100_000, 4))
    await writer.close()
    expect(await received.take(4)).toEqual(['text', Buffer.from([1, 2]), Buffer.from([3]), Buffer.alloc(100_000, 4)])
    expect(await ends.next()).toEqual({ code: 1000, reason: '', wasClean: true })
  })

  it('makes the writer wait for a peer that does not read, and goes on when it does', async () => {
    const { writable, peer, client } = await openRaw({ maxBufferedBytes: 2_000_000 })
    const writer = writable.getWriter()
    const message = Buffer.alloc(200_000, 6)
    let written = 0
    const writing = (async () => {
      for (let count = 0; count < 100; count++) {
        await writer.write(message)
        written++
      }
      await writer.close()
    })()
    while (client.bufferedBytes === 0) await new Promise((resolve) => setImmediate(resolve))
    expect(written).toBeLessThan(100)
    // Without backpressure this is where it would be closed with 1013.
    expect(client.bufferedBytes).toBeLessThanOrEqual(message.length * 2)
    peer.startReading()
    for (let count = 0; count < 100; count++) expect((await peer.readFrame()).payload).toHaveLength(message.length)
    expect(closeOf(await peer.readFrame()).code).toBe(1000)
    await writing
    expect(written).toBe(100)
  })

  it('cuts the connection when it is aborted, even in the middle of a write that waits', async () => {
    const { writable, client, readable } = await openRaw({ maxBufferedBytes: Number.POSITIVE_INFINITY })
    const writer = writable.getWriter()
    const writing = writer.write(Buffer.alloc(50_000_000))
    writing.catch(() => {})
    const closed = writer.closed.catch((error: unknown) => error)
    while (client.bufferedBytes === 0) await new Promise((resolve) => setImmediate(resolve))
    const reason = new Error('no more')
    await Promise.allSettled([writer.abort(reason)])
    expect(await closed).toBe(reason)
    await expect(writing).rejects.toThrow()
    await expect(readable.getReader().read()).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
    expect(client.state).toBe('closed')
  })

  it('fails when the connection ends, for whoever writes and for whoever waits', async () => {
    const { writable, readable, peer } = await open()
    const writer = writable.getWriter()
    peer.terminate()
    await expect(allOf(readable)).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
    await expect(writer.closed).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
    await expect(writer.write('too late')).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
  })

  it('fails when nobody reads, too', async () => {
    const { writable, client, peer } = await open()
    peer.terminate()
    while (client.state !== 'closed') await new Promise((resolve) => setImmediate(resolve))
    const writer = writable.getWriter()
    writer.closed.catch(() => {})
    await expect(writer.write('too late')).rejects.toMatchObject({ code: 'ERR_CONNECTION_CLOSED' })
  })

  it('does not close what is closed already', async () => {
    const { writable, peer, client } = await open()
    peer.terminate()
    while (client.state !== 'closed') await new Promise((resolve) => setImmediate(resolve))
    await writable.close()
  })

  it('fails with what cannot be sent', async () => {
    const { writable } = await open()
    const writer = writable.getWriter()
    writer.closed.catch(() => {})
    await expect(writer.write(7 as never)).rejects.toMatchObject({ code: 'ERR_DATA_TYPE' })
  })

  it('waits, rather than fails, where others fill the buffer of a connection that drops', async () => {
    const { writable, peer, client } = await openRaw({ maxBufferedBytes: 100_000, slowConsumer: 'drop' })
    while (client.send(Buffer.alloc(90_000, 1))) await new Promise((resolve) => setImmediate(resolve))
    const writer = writable.getWriter()
    const writing = writer.write('behind all that').then(() => writer.close())
    peer.startReading()
    let before = await peer.readFrame()
    for (let last = before; last.opcode !== 8; last = await peer.readFrame()) before = last
    expect(before.payload.toString()).toBe('behind all that')
    peer.end()
    await writing
  })
})

describe('both streams', () => {
  it('can be piped through', async () => {
    const { url } = await startServer({
      async open(client) {
        const { readable, writable } = toWebStreams(client)
        await readable
          .pipeThrough(
            new TransformStream({ transform: (data, controller) => controller.enqueue(String(data).toUpperCase()) }),
          )
          .pipeTo(writable)
      },
    })
    const { readable, writable } = toWebStreams(await openClient(url))
    const writer = writable.getWriter()
    const reader = readable.getReader()
    await writer.write('hello')
    expect((await reader.read()).value).toBe('HELLO')
    await writer.close()
    expect((await reader.read()).done).toBe(true)
  })

  it('make a Node stream', async () => {
    const { url } = await startServer({ message: (client, data) => void client.send(data) })
    const stream = Duplex.fromWeb(toWebStreams(await openClient(url)), { objectMode: true })
    stream.write('hello')
    stream.write(Buffer.from([1, 2]))
    const messages: unknown[] = []
    for await (const message of stream) {
      messages.push(message)
      if (messages.length === 2) break
    }
    expect(messages).toEqual(['hello', Buffer.from([1, 2])])
  })
})

it('a raw close ends the readable stream', async () => {
  const { readable, peer } = await openRaw()
  peer.send(frame(1, 'bye', { masked: false }), frame(8, Buffer.from([0x03, 0xe8]), { masked: false }))
  peer.startReading()
  const reader = readable.getReader()
  expect((await reader.read()).value).toBe('bye')
  peer.end()
  expect((await reader.read()).done).toBe(true)
})
