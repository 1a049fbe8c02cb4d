import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { encodeEnvelope } from '../../src/envelope.ts'
import {
  createPublisher,
  type Publisher,
  type PublisherOptions,
  prepare,
  reconnecting,
  type WebSocketConnection,
  WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { MemoryEngine } from '../support/memory-engine.ts'
import { defer, Queue } from '../support/queue.ts'
import { nextTurn, openClient, startServer, until } from '../support/servers.ts'

interface Node {
  readonly server: WebSocketServer
  readonly client: WebSocketConnection
  readonly received: Queue<string | Buffer>
  readonly errors: Queue<Error>
  readonly restored: Queue<undefined>
}

/** A process: a server with one client, which is in the topic `news`. */
async function startNode(engine: MemoryEngine, options: WebSocketServerOptions = {}): Promise<Node> {
  const opened = new Queue<WebSocketConnection>()
  const errors = new Queue<Error>()
  const restored = new Queue<undefined>()
  const { server, url } = await startServer({
    backplane: engine.backplane(),
    error: (error) => errors.push(error),
    backplaneRestored: () => restored.push(undefined),
    open: (client) => opened.push(client),
    ...options,
  })
  const received = new Queue<string | Buffer>()
  await openClient(url, { message: (_, data) => received.push(data) })
  const client = await opened.next()
  client.subscribe('news')
  await server.synced()
  return { server, client, received, errors, restored }
}

function startPublisher(options: PublisherOptions): Publisher {
  const publisher = createPublisher(options)
  onTestFinished(() => publisher.close())
  return publisher
}

const EVERYWHERE = { sent: 1, dropped: 0, reach: 'everywhere' }
const HERE = { sent: 1, dropped: 0, reach: 'process' }

describe('several processes', () => {
  it('share what is published and broadcast, without an echo', async () => {
    const engine = new MemoryEngine()
    const nodes = [await startNode(engine), await startNode(engine), await startNode(engine)] as const
    const [a, b, c] = nodes
    c.client.unsubscribe('news')
    expect(a.server.publish('news', 'text é')).toEqual(EVERYWHERE)
    expect(a.server.publish('news', Buffer.of(0, 255))).toEqual(EVERYWHERE)
    expect(b.client.publish('news', 'of B')).toEqual({ ...EVERYWHERE, sent: 0 })
    expect(c.server.broadcast('all')).toEqual(EVERYWHERE)
    expect(await a.received.take(4)).toEqual(['text é', Buffer.of(0, 255), 'of B', 'all'])
    expect(await b.received.take(3)).toEqual(['text é', Buffer.of(0, 255), 'all'])
    expect(await c.received.next()).toBe('all')
    for (const { received, client } of nodes) {
      client.send('end')
      expect(await received.next()).toBe('end')
    }
  })

  it('are told apart by what they want: only the topics of their own clients', async () => {
    const engine = new MemoryEngine()
    const { client, server } = await startNode(engine)
    expect(engine.calls).toEqual(['subscribe *', 'subscribe #news'])
    for (const topic of ['a', 'b', 'a']) client.subscribe(topic)
    client.unsubscribe('b')
    await server.synced()
    client.unsubscribe('news')
    client.subscribe('news')
    await server.synced()
    client.terminate()
    await until(() => server.clients.size === 0)
    await server.synced()
    expect(engine.calls.slice(2)).toEqual(['subscribe #a', 'unsubscribe #a #news'])
    await server.close()
    expect(engine.calls.slice(4)).toEqual(['close'])
    expect(engine.nodes.size).toBe(0)
  })

  it('keep the order of each publisher, also of messages that travel together', async () => {
    const engine = new MemoryEngine()
    const [a, b] = [await startNode(engine), await startNode(engine)]
    const sent = Array.from({ length: 1_000 }, (_, index) => `${index}`.padStart(index % 10 === 0 ? 60_000 : 1))
    for (const [index, message] of sent.entries()) {
      a.server.publish('news', message)
      if (index % 100 === 0) await nextTurn()
    }
    expect(await b.received.take(1_000)).toEqual(sent)
    expect(engine.published.length).toBeLessThan(100)
    for (const { message } of engine.published) expect(message.length).toBeLessThan(300_000)
  })

  it('compress for each client as it has agreed to', async () => {
    const engine = new MemoryEngine()
    const [a, b] = [await startNode(engine), await startNode(engine, { compression: true })]
    const message = prepare('a long story, '.repeat(1_000), { compress: true })
    a.server.publish('news', message)
    expect(await b.received.next()).toBe('a long story, '.repeat(1_000))
  })

  it('do not send on what only one of them can decide, or what is too long', async () => {
    const engine = new MemoryEngine()
    const options = { backplane: engine.backplane({ maxMessageBytes: 1_000 }) }
    const [a, b] = [await startNode(engine, options), await startNode(engine)]
    expect(a.server.broadcast('some', { filter: () => true })).toEqual(HERE)
    expect(a.server.publish('news', 'n'.repeat(990))).toEqual(HERE)
    expect(a.server.publish('news', 'n'.repeat(991))).toEqual(HERE)
    expect(a.server.publish('news', 'n'.repeat(900))).toEqual(EVERYWHERE)
    expect(a.server.publish('news', 'n'.repeat(800))).toEqual(EVERYWHERE)
    expect((await b.received.take(2)).map(({ length }) => length)).toEqual([900, 800])
    expect(a.errors.all.map(({ message }) => message)).toEqual([
      'a message of 990 bytes is longer than the backplane takes',
    ])
  })
})

describe('an engine that is away', () => {
  it('is reported once; what is published stays here, until it is back', async () => {
    const engine = new MemoryEngine()
    const [a, b] = [await startNode(engine), await startNode(engine)]
    engine.stop()
    expect(a.errors.all).toMatchObject([{ code: 'ERR_BACKPLANE', message: 'the backplane is away: the engine is off' }])
    expect(a.server.publish('news', 'here')).toEqual(HERE)
    expect(a.server.broadcast('here too')).toEqual(HERE)
    b.client.subscribe('more')
    await b.server.synced()
    expect(engine.calls).not.toContain('subscribe #more')
    engine.start()
    await b.server.synced()
    expect([a.restored.all.length, a.errors.all.length]).toEqual([1, 1])
    expect(a.server.publish('more', 'again')).toEqual({ ...EVERYWHERE, sent: 0 })
    expect(await b.received.next()).toBe('again')
    expect(await a.received.take(2)).toEqual(['here', 'here too'])
    engine.stop()
    expect(a.errors.all.length).toBe(2)
  })

  it('may not be there at first', async () => {
    const engine = new MemoryEngine()
    engine.stop()
    const node = await startNode(engine)
    const publisher = startPublisher({ backplane: engine.backplane() })
    expect(node.errors.all).toEqual([])
    expect(publisher.publish('news', 'nobody')).toEqual({ sent: 0, dropped: 0, reach: 'process' })
    const ready = Promise.all([publisher.ready(), node.server.ready()])
    engine.start()
    await ready
    await node.server.synced()
    expect(publisher.publish('news', 'hello')).toEqual({ sent: 0, dropped: 0, reach: 'everywhere' })
    expect(await node.received.next()).toBe('hello')
  })

  it('is noticed by what fails, and reported once until something works again', async () => {
    const engine = new MemoryEngine()
    const { server, errors, restored } = await startNode(engine)
    engine.publishError = new Error('no')
    server.publish('news', '1')
    await nextTurn()
    server.publish('news', '2')
    await nextTurn()
    expect(errors.all).toMatchObject([{ code: 'ERR_BACKPLANE', message: 'the backplane has not taken a message: no' }])
    engine.publishError = undefined
    server.publish('news', '3')
    await restored.next()
    engine.publishError = new Error('again')
    server.publish('news', '4')
    expect(await errors.take(2)).toHaveLength(2)
  })

  it('is asked again for a subscription that it has not taken', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const engine = new MemoryEngine()
    const options: WebSocketServerOptions = { backplane: engine.backplane(), error: (error) => errors.push(error) }
    const errors: Error[] = []
    const server = new WebSocketServer({ ...options, backplaneRestored: () => restored.push(1) })
    const restored: number[] = []
    await server.listen()
    await server.synced()
    const end = server.listenTo('a', () => {})
    engine.subscribeError = new Error('not now')
    await server.synced()
    const endOther = server.listenTo('b', () => {})
    await server.synced()
    expect(errors).toMatchObject([{ message: 'the backplane has not taken a subscription: not now' }])
    engine.subscribeError = undefined
    end()
    await vi.advanceTimersByTimeAsync(1_000)
    await server.synced()
    expect(restored).toEqual([1])
    expect([...engine.nodes].map(({ channels }) => [...channels])).toEqual([['*', '#b']])
    endOther()
    await server.close()
  })

  it('is given no more than it takes', async () => {
    const engine = new MemoryEngine()
    const { server, errors, received } = await startNode(engine)
    const gate = defer()
    engine.gate = gate.promise
    const message = prepare(Buffer.alloc(1_000_000))
    let count = 0
    while (server.publish('other', message).reach === 'everywhere') count++
    expect(count).toBe(67)
    expect(errors.all).toMatchObject([{ code: 'ERR_BACKPLANE' }])
    expect(server.publish('news', Buffer.alloc(200_000))).toEqual(HERE)
    expect(await received.next()).toHaveLength(200_000)
    engine.gate = undefined
    gate.resolve()
    await nextTurn()
    expect(server.publish('news', 'there').reach).toBe('everywhere')
  })
})

describe('what others write to our channels', () => {
  const origin = Buffer.alloc(16, 7)
  const message = prepare('hello')
  const envelope = encodeEnvelope(origin, 1, [message])
  const badText = encodeEnvelope(origin, 2, [prepare(Buffer.of(0xff))])
  badText[28] = 1

  it.each<[string, Uint8Array]>([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('{"event":"news"}')],
    ['another version', Buffer.concat([Buffer.from('fd\x02\0'), envelope.subarray(4)])],
    ['no message', envelope.subarray(0, 28)],
    ['less than a message', envelope.subarray(0, -1)],
    ['half a head', envelope.subarray(0, 30)],
    ['more than a message', Buffer.concat([envelope, Buffer.of(0)])],
    ['flags that there are not', Buffer.concat([envelope.subarray(0, 28), Buffer.of(9), envelope.subarray(29)])],
    ['a number that is none', Buffer.concat([envelope.subarray(0, 20), Buffer.alloc(8, 255), envelope.subarray(28)])],
    ['text that is none', badText],
    ['noise', Buffer.alloc(5_000, 0x66)],
  ])('is not delivered when it is %s, and complained of once', async (_, bytes) => {
    const engine = new MemoryEngine()
    const { received, errors } = await startNode(engine)
    engine.write('#news', bytes)
    engine.write('#news', bytes)
    engine.write('#other', envelope)
    engine.write('#news', envelope)
    expect(await received.next()).toBe('hello')
    expect(errors.all).toMatchObject([
      { code: 'ERR_BACKPLANE', message: 'something that is no message of ours was written to the channel "#news"' },
    ])
  })

  it('is not delivered when it is more messages than travel together', async () => {
    const engine = new MemoryEngine()
    const { received, errors } = await startNode(engine)
    const many = encodeEnvelope(
      origin,
      1,
      Array.from({ length: 60_000 }, () => prepare('')),
    )
    engine.write('#news', many)
    engine.write('#news', encodeEnvelope(origin, 2, [prepare('x'.repeat(300_000))]))
    expect(await received.next()).toHaveLength(300_000)
    expect(errors.all).toHaveLength(1)
  })

  it('is delivered once, in whatever order it comes', async () => {
    const engine = new MemoryEngine()
    const { received } = await startNode(engine)
    const order = [5, 3, 3, 5, 4, 200_000, 199_999, 4, 5, 199_999, 70_000, 200_001]
    for (const number of order) engine.write('#news', encodeEnvelope(origin, number, [prepare(`${number}`)]))
    engine.write('#news', encodeEnvelope(Buffer.alloc(16, 8), 5, [prepare('of another')]))
    expect(await received.take(8)).toEqual(['5', '3', '4', '200000', '199999', '70000', '200001', 'of another'])
  })
})

describe('a process without clients', () => {
  it('publishes, broadcasts and listens', async () => {
    const engine = new MemoryEngine()
    const { received, server } = await startNode(engine)
    const publisher = startPublisher({ backplane: engine.backplane() })
    await publisher.ready()
    expect(publisher.publish('news', 'job done')).toEqual({ sent: 0, dropped: 0, reach: 'everywhere' })
    publisher.broadcast(Buffer.of(1), { compress: true })
    expect(await received.take(2)).toEqual(['job done', Buffer.of(1)])
    const heard = new Queue<string | Buffer>()
    publisher.listenTo('jobs', heard.push)
    await publisher.synced()
    server.publish('jobs', 'a job')
    publisher.publish('jobs', 'mine')
    expect(await heard.take(2)).toEqual(['mine', 'a job'])
  })

  it('does not wait for a backplane that it has left', async () => {
    const engine = new MemoryEngine()
    engine.stop()
    const publisher = createPublisher({ backplane: engine.backplane() })
    const ready = publisher.ready()
    await publisher.close()
    await expect(ready).rejects.toMatchObject({ code: 'ERR_BACKPLANE' })
  })

  it('ends when what it has published is gone', async () => {
    const engine = new MemoryEngine()
    const { received } = await startNode(engine)
    const publisher = createPublisher({ backplane: engine.backplane() })
    const gate = defer()
    engine.gate = gate.promise
    publisher.publish('news', 'last words')
    const closed = publisher.close()
    await nextTurn()
    expect(engine.calls).not.toContain('close')
    gate.resolve()
    await closed
    expect(await received.next()).toBe('last words')
    expect(publisher.publish('news', 'too late').reach).toBe('process')
  })

  it('needs a backplane, and options that there are', () => {
    expect(() => createPublisher(undefined as never)).toThrow('the options must be an object, with backplane')
    for (const backplane of [{}, null, 7]) {
      expect(() => createPublisher({ backplane: backplane as never })).toThrow('the option backplane must be what')
      expect(() => new WebSocketServer({ backplane: backplane as never })).toThrow('the option backplane must be what')
    }
    expect(() => createPublisher({} as never)).toThrow('a publisher needs a backplane')
    expect(() => createPublisher({ backplan: 1 } as never)).toThrow('backplane')
  })
})

describe('a backplane of somebody else', () => {
  it('is refused with the port free, and is not closed by who was refused', async () => {
    const engine = new MemoryEngine()
    const used = {
      ...engine.backplane(),
      start: () => {
        throw new Error('in use')
      },
    }
    const server = new WebSocketServer({ backplane: used })
    await expect(server.listen()).rejects.toThrow('in use')
    expect(server.port).toBe(null)
    await server.close()
    expect(engine.calls).toEqual([])
    await expect(server.ready()).rejects.toMatchObject({ code: 'ERR_BACKPLANE' })
  })
})

describe('histories of several processes', () => {
  const history = { news: {} }

  it('give everybody the same order, here and there', async () => {
    const engine = new MemoryEngine()
    const [a, b] = [
      await startNode(engine, { backplane: engine.backplane({ keepsHistory: true }), history }),
      await startNode(engine, { backplane: engine.backplane({ keepsHistory: true }), history }),
    ]
    const publisher = startPublisher({ backplane: engine.backplane({ keepsHistory: true }), history })
    const results = ['1', '2', '3', '4', '5', '6'].map((message, index) =>
      [a.server, b.client, publisher][index % 3]!.publish('news', message),
    )
    expect(results[0]).toEqual({ sent: 0, dropped: 0, stored: expect.any(Promise) })
    const positions = await Promise.all(results.map(({ stored }) => stored))
    expect(new Set(positions).size).toBe(6)
    expect(await a.received.take(6)).toEqual(['1', '2', '3', '4', '5', '6'])
    expect(await b.received.take(6)).toEqual(['1', '2', '3', '4', '5', '6'])
    expect(engine.published).toEqual([])
    a.client.unsubscribe('news')
    a.client.subscribe('news', { after: positions[3] })
    expect(await a.received.take(2)).toEqual(['5', '6'])
  })

  it('say so when a message could not be kept', async () => {
    const engine = new MemoryEngine()
    const { server, errors } = await startNode(engine, { backplane: engine.backplane({ keepsHistory: true }), history })
    vi.spyOn(engine.log, 'append').mockImplementation(() => {
      throw new Error('full')
    })
    for (const message of ['1', '2']) {
      await expect(server.publish('news', message).stored).rejects.toMatchObject({
        code: 'ERR_HISTORY',
        message: 'the message could not be kept: full',
      })
    }
    expect(errors.all).toHaveLength(1)
  })

  it('follow a client to a process that does not know yet what the client has had', async () => {
    const engine = new MemoryEngine()
    const url: Record<string, string> = {}
    const started = async (delayed: boolean) => {
      const { server, url: own } = await startServer({
        backplane: engine.backplane({ keepsHistory: true, delayed }),
        history,
        open: (client) => void client.subscribe('news'),
      })
      server.listenTo('news', () => {})
      await server.synced()
      url[delayed ? 'late' : 'soon'] = own
      return server
    }
    const [soon, late] = [await started(false), await started(true)]
    let target = url['soon']!
    const received = new Queue<string | Buffer>()
    const gaps: string[] = []
    const client = reconnecting(() => target, {
      resume: true,
      minDelayMs: 1,
      maxDelayMs: 5,
      message: (_, data) => received.push(data),
      gap: (topic) => gaps.push(topic),
    })
    onTestFinished(() => client.close())
    await until(() => soon.subscribers('news').size === 1)
    await soon.synced()
    for (const message of ['1', '2', '3']) await soon.publish('news', message).stored
    expect(await received.take(3)).toEqual(['1', '2', '3'])
    target = url['late']!
    for (const each of soon.clients.values()) each.terminate()
    await until(() => late.subscribers('news').size === 1)
    await nextTurn()
    await soon.publish('news', '4').stored
    engine.deliverDelayed()
    expect(await received.next()).toBe('4')
    await soon.publish('news', '5').stored
    engine.deliverDelayed()
    expect(await received.next()).toBe('5')
    expect([received.all, gaps]).toEqual([['1', '2', '3', '4', '5'], []])
  })

  it('complain once of a log that cannot be followed, however many topics there are', async () => {
    const engine = new MemoryEngine()
    vi.spyOn(engine.log, 'follow').mockImplementation(() => {
      throw new Error('gone')
    })
    const { errors, client, server } = await startNode(engine, {
      backplane: engine.backplane({ keepsHistory: true }),
      history: () => ({}),
    })
    for (let index = 0; index < 50; index++) client.subscribe(`topic ${index}`)
    await server.synced()
    await nextTurn()
    expect(errors.all).toMatchObject([{ code: 'ERR_HISTORY', message: 'a history cannot be read: gone' }])
  })

  it('are not for every backplane', () => {
    const backplane = new MemoryEngine().backplane()
    expect(() => new WebSocketServer({ backplane, history })).toThrow('this backplane keeps no history')
  })
})
