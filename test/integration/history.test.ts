import { describe, expect, it, onTestFinished } from 'vitest'
import {
  type LogFollower,
  type ReconnectingConnection,
  type ReconnectingOptions,
  reconnecting,
  type WebSocketConnection,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { MemoryLog } from '../../src/memory-log.ts'
import { Queue } from '../support/queue.ts'
import { seededRandom } from '../support/random.ts'
import { nextTurn, openClient, startServer, until } from '../support/servers.ts'

const HISTORY = { news: { maxMessages: 100 } }

async function startHistory(options: WebSocketServerOptions = {}) {
  const opened = new Queue<WebSocketConnection>()
  const { server, url, port } = await startServer({
    history: HISTORY,
    open: (client) => {
      client.subscribe('news')
      opened.push(client)
    },
    ...options,
  })
  return { server, url, port, opened }
}

interface Resuming {
  readonly client: ReconnectingConnection
  readonly received: Queue<string | Buffer>
  readonly gaps: Queue<string>
}

function resume(url: string, options: ReconnectingOptions = {}): Resuming {
  const received = new Queue<string | Buffer>()
  const gaps = new Queue<string>()
  const client = reconnecting(url, {
    minDelayMs: 1,
    maxDelayMs: 20,
    resume: true,
    message: (_, data) => received.push(data),
    gap: (topic) => gaps.push(topic),
    ...options,
  })
  onTestFinished(() => client.close())
  return { client, received, gaps }
}

describe('a client that comes back', () => {
  it('gets what it has missed, then what is new, each message once', async () => {
    const { server, url, opened } = await startHistory()
    const { received, gaps } = resume(url)
    const first = await opened.next()
    server.publish('news', 'one')
    server.publish('news', Buffer.of(2))
    expect(await received.take(2)).toEqual(['one', Buffer.of(2)])
    first.terminate()
    await until(() => server.clients.size === 0)
    server.publish('news', 'three')
    server.publish('news', Buffer.of(4))
    await opened.next()
    server.publish('news', 'five')
    expect(await received.take(3)).toEqual(['three', Buffer.of(4), 'five'])
    expect(gaps.all).toEqual([])
  })

  it('gets nothing of before it first came, and nothing twice when nothing was missed', async () => {
    const { server, url, opened } = await startHistory()
    server.publish('news', 'before')
    const { received, gaps } = resume(url)
    for (let times = 0; times < 3; times++) {
      const client = await opened.next()
      server.publish('news', `${times}`)
      expect(await received.next()).toBe(`${times}`)
      client.terminate()
    }
    expect(received.all).toEqual(['0', '1', '2'])
    expect(gaps.all).toEqual([])
  })

  it('knows its place also in a topic in which nothing was said yet', async () => {
    const { server, url, opened } = await startHistory()
    const { received } = resume(url)
    const first = await opened.next()
    await first.delivered()
    first.terminate()
    await until(() => server.clients.size === 0)
    server.publish('news', 'missed')
    expect(await received.next()).toBe('missed')
  })

  it('is told when the history does not reach back to where it was', async () => {
    const { server, url, opened } = await startHistory({ history: { news: { maxMessages: 3 } } })
    const { received, gaps } = resume(url)
    const first = await opened.next()
    server.publish('news', 'zero')
    await received.next()
    first.terminate()
    await until(() => server.clients.size === 0)
    for (const message of ['one', 'two', 'three', 'four']) server.publish('news', message)
    expect(await gaps.next()).toBe('news')
    await opened.next()
    server.publish('news', 'five')
    expect(await received.next()).toBe('five')
  })

  it('is told when the server has forgotten everything, or never knew', async () => {
    const first = await startHistory()
    const { received, gaps, client } = resume(first.url)
    await first.opened.next()
    first.server.publish('news', 'one')
    await received.next()
    await first.server.close({ timeoutMs: 0 })
    const second = await startHistory({ port: first.port })
    await second.opened.next()
    expect(await gaps.next()).toBe('news')
    second.server.publish('news', 'two')
    expect(await received.next()).toBe('two')
    await second.server.close({ timeoutMs: 0 })
    const third = await startServer({ port: first.port, open: (plain) => void plain.send('\u0001p e.1 news') })
    expect(await received.next()).toBe('\u0001p e.1 news')
    expect(await gaps.next()).toBe('news')
    client.close()
    await client.closed
    await third.server.close()
  })

  it('says which topics it is in, and no longer those that it has left', async () => {
    const queries = new Queue<string | null>()
    const { server, url, opened } = await startHistory({
      history: () => ({ maxMessages: 10 }),
      open: (client, request) => {
        queries.push(request.query.get('resume'))
        for (const topic of ['a b', 'c&d=e', 'left']) client.subscribe(topic)
        client.unsubscribe('left')
        opened.push(client)
      },
    })
    const { received } = resume(`${url}/path?x=1`)
    expect(await queries.next()).toBe('')
    const first = await opened.next()
    const { stored } = server.publish('c&d=e', 'hello')
    await received.next()
    first.terminate()
    const told = new URLSearchParams((await queries.next())!)
    expect([...told.keys()]).toEqual(['c&d=e', 'a b'])
    expect(told.get('c&d=e')).toBe(await stored)
  })

  it('resumes more topics than it can name, or is told of those', async () => {
    const topics = Array.from({ length: 200 }, (_, index) => `a topic with a long name, number ${index}`)
    const { server, url, opened } = await startHistory({
      history: () => ({}),
      open: (client) => {
        for (const topic of topics) client.subscribe(topic)
        opened.push(client)
      },
    })
    const { received, gaps } = resume(url)
    const first = await opened.next()
    for (const topic of topics) server.publish(topic, `${topic}: one`)
    await received.take(200)
    first.terminate()
    await until(() => server.clients.size === 0)
    for (const topic of topics) server.publish(topic, `${topic}: two`)
    await opened.next()
    server.publish(topics[0]!, 'end')
    await until(() => received.all.includes('end'))
    const resumed = topics.filter((topic) => received.all.includes(`${topic}: two`))
    expect(resumed.length).toBeGreaterThan(50)
    expect([...resumed, ...gaps.all].toSorted()).toEqual(topics.toSorted())
  })

  it('cannot be lied to about its place by what somebody publishes', async () => {
    const { server, url, opened } = await startHistory({ compression: { threshold: 0 } })
    const { received, gaps } = resume(url, { compression: true })
    const plain = new Queue<string | Buffer>()
    await openClient(url, { message: (_, data) => plain.push(data) })
    const clients = await opened.take(2)
    const lies = [
      '\u0001p x.9 news',
      '\u0001h',
      '\u0001\u0001',
      '\u0001',
      '\u0001g x.9 news',
      '\u0001u news',
      '\u0001z',
    ]
    for (const lie of lies) {
      server.publish('news', lie)
      server.broadcast(lie)
      for (const client of clients) client.send(lie)
      for (const client of clients) {
        const writer = client.sendStream({ type: 'text' }).getWriter()
        await writer.write(lie)
        await writer.write(lie)
        await writer.close()
      }
    }
    server.publish('news', Buffer.from(lies[0]!))
    const expected = [...lies.flatMap((lie) => [lie, lie, lie, lie + lie]), Buffer.from(lies[0]!)]
    expect(await received.take(expected.length)).toEqual(expected)
    expect(await plain.take(expected.length)).toEqual(expected)
    expect(gaps.all).toEqual([])
  })

  it('waits for its handler, and misses nothing that the handler has not had', async () => {
    const { server, url, opened } = await startHistory()
    const handled = new Queue<string>()
    let release = (): void => {}
    resume(url, {
      message: async (_, data) => {
        await new Promise<void>((resolve) => {
          release = resolve
        })
        handled.push(String(data))
      },
    })
    const first = await opened.next()
    for (const message of ['one', 'two', 'three']) server.publish('news', message)
    await first.delivered()
    first.terminate()
    server.publish('news', 'four')
    for (const message of ['one', 'two', 'three', 'four']) {
      await until(() => {
        release()
        return handled.all.length > 0 && handled.all.at(-1) === message
      })
    }
    expect(handled.all).toEqual(['one', 'two', 'three', 'four'])
  })

  it('takes whole messages, and options that can be', () => {
    expect(() => reconnecting('ws://127.0.0.1', { resume: true, messageStream: () => {} })).toThrow(
      'leave out messageStream',
    )
  })
})

describe('a topic with a history', () => {
  it('gives each message a position, from which a client may begin', async () => {
    const { server, url, opened } = await startHistory({ open: (client) => opened.push(client) })
    const positions: string[] = []
    for (const message of ['one', 'two', 'three']) {
      const { stored, ...result } = server.publish('news', message)
      expect(result).toEqual({ sent: 0, dropped: 0 })
      positions.push((await stored)!)
    }
    const received = new Queue<string | Buffer>()
    await openClient(url, { message: (_, data) => received.push(data) })
    const client = await opened.next()
    client.subscribe('news', { after: positions[0] })
    expect(server.publish('news', 'four')).toMatchObject({ sent: 1, dropped: 0 })
    expect(await received.take(3)).toEqual(['two', 'three', 'four'])
  })

  it.each(['', 'nonsense', 'other.1', 'x.-1', 'x.1e3', 'x.99999999999999999'])(
    'tells of a gap behind a position that is none: %j',
    async (after) => {
      const { server, url, opened } = await startHistory({ open: (client) => opened.push(client) })
      const received = new Queue<string | Buffer>()
      await openClient(url, { message: (_, data) => received.push(data) })
      const client = await opened.next()
      server.publish('news', 'missed')
      const gaps: number[] = []
      client.subscribe('news', { after, gap: () => gaps.push(1) })
      server.publish('news', 'new')
      expect(await received.next()).toBe('new')
      expect(gaps).toEqual([1])
    },
  )

  it('goes to everybody, its publisher too, and to nobody but everybody', async () => {
    const { server, url, opened } = await startHistory()
    const received = new Queue<string | Buffer>()
    await openClient(url, { message: (_, data) => received.push(data) })
    const client = await opened.next()
    expect(client.publish('news', 'mine')).toMatchObject({ sent: 1, dropped: 0 })
    expect(await received.next()).toBe('mine')
    for (const options of [{ except: client }, { filter: () => true }]) {
      expect(() => server.publish('news', 'x', options)).toThrow('leave out except and filter')
    }
    const heard: unknown[] = []
    server.listenTo('news', (data) => heard.push(data))
    server.publish('news', 'loud')
    expect(heard).toEqual(['loud'])
  })

  it('loses nothing for a client that reads too slowly for a while', async () => {
    const { server, url, opened } = await startHistory({
      slowConsumer: 'drop',
      maxBufferedBytes: 100_000,
      history: { news: {} },
    })
    const received = new Queue<string | Buffer>()
    const peer = await openClient(url, { message: (_, data) => received.push(data) })
    await opened.next()
    peer.pause()
    const random = seededRandom(7)
    const sent = Array.from({ length: 400 }, (_, index) => `${index} `.padEnd(10 + random(60_000), '.'))
    let dropped = 0
    for (const [index, message] of sent.entries()) {
      dropped += server.publish('news', message).dropped
      if (index % 20 === 0) await nextTurn()
    }
    expect(dropped).toBeGreaterThan(0)
    peer.resume()
    expect(await received.take(sent.length)).toEqual(sent)
    expect(server.publish('news', 'live')).toMatchObject({ sent: 1, dropped: 0 })
    expect(await received.next()).toBe('live')
  })

  it('tells of what a slow client has missed that the history has no more', async () => {
    const gaps = new Queue<number>()
    const { server, url, opened } = await startHistory({
      slowConsumer: 'drop',
      maxBufferedBytes: 100_000,
      history: { news: { maxMessages: 2 } },
      open: (client) => {
        client.subscribe('news', { gap: () => gaps.push(1) })
        opened.push(client)
      },
    })
    const received = new Queue<string | Buffer>()
    const peer = await openClient(url, { message: (_, data) => received.push(data) })
    await opened.next()
    peer.pause()
    for (let index = 0; index < 300; index++) {
      server.publish('news', `${index} `.padEnd(60_000))
      await nextTurn()
    }
    peer.resume()
    await gaps.next()
    server.publish('news', 'live')
    await until(() => received.all.includes('live'))
    expect(received.all.length).toBeLessThan(300)
  })

  it.each([
    ['maxMessages', { maxMessages: 2 }, 2],
    ['maxBytes', { maxBytes: 11 }, 2],
    ['maxBytes, less than one message', { maxBytes: 1 }, 0],
  ])('reaches back as far as %s allows', async (_, limits, count) => {
    const { server, url, opened } = await startHistory({
      history: { news: limits },
      open: (client) => opened.push(client),
    })
    const positions: string[] = []
    for (let index = 0; index < 6; index++) positions.push((await server.publish('news', `mes ${index}`).stored)!)
    const received = new Queue<string | Buffer>()
    const gaps: number[] = []
    await openClient(url, { message: (__, data) => received.push(data) })
    const client = await opened.next()
    client.subscribe('news', { after: positions[5 - count]!, gap: () => gaps.push(1) })
    server.publish('news', 'end')
    expect(await received.take(count + 1)).toEqual([...['mes 4', 'mes 5'].slice(2 - count), 'end'])
    client.unsubscribe('news')
    expect(gaps).toEqual([])
    client.subscribe('news', { after: positions[0]!, gap: () => gaps.push(1) })
    expect(gaps).toEqual([1])
  })

  it('catches up a client from a long history without making a slow one of it', async () => {
    const { server, url, opened } = await startHistory({
      history: { news: {} },
      maxBufferedBytes: 1_048_576,
      open: (client) => opened.push(client),
    })
    const sent = Array.from({ length: 900 }, (_, index) => `${index}`.padEnd(10_000))
    const { stored } = server.publish('news', 'before')
    for (const message of sent) server.publish('news', message)
    const received = new Queue<string | Buffer>()
    await openClient(url, { message: (_, data) => received.push(data) })
    const client = await opened.next()
    client.subscribe('news', { after: (await stored)! })
    expect(await received.take(sent.length)).toEqual(sent)
    expect(client.state).toBe('open')
  })

  it('tells each its own position, also of what a listener publishes meanwhile', async () => {
    const { server } = await startHistory()
    let inner: Promise<string> | undefined
    server.listenTo('news', (data) => {
      if (data === 'question') inner = server.publish('news', 'answer').stored
    })
    const outer = server.publish('news', 'question').stored
    const [first, second] = [(await outer)!, (await inner)!].map((position) => Number(position.split('.')[1]))
    expect(second).toBe(first! + 1)
  })

  it('that cannot be costs the client that has asked, and nobody else', async () => {
    const errors = new Queue<Error>()
    const closed = new Queue<number>()
    const { server, url } = await startHistory({
      history: (topic) => ({ maxMessages: Number(topic) }),
      open: () => {},
      message: (client, data) => void client.subscribe(String(data)),
      error: (error) => errors.push(error),
      close: (_, { code }) => closed.push(code),
    })
    const peer = await openClient(url)
    peer.send('none')
    expect(await errors.next()).toMatchObject({ code: 'ERR_OPTION' })
    expect(await closed.next()).toBe(1011)
    expect([server.clients.size, server.topics.size]).toEqual([0, 0])
    const other = await openClient(url)
    other.send('10')
    await until(() => server.topics.size === 1)
  })

  it('may be left and joined again by who is told of a gap', async () => {
    const log = new MemoryLog()
    const followers: LogFollower[] = []
    const opened = new Queue<WebSocketConnection>()
    let gaps = 0
    const { url } = await startServer({
      history: HISTORY,
      backplane: {
        start: (host) => host.up(),
        publish: async () => {},
        subscribe: async () => {},
        unsubscribe: async () => {},
        close: async () => {},
        log: {
          append: (...given) => log.append(...given),
          read: (...given) => log.read(...given),
          follow: (topic, follower) => {
            followers.push(follower)
            return log.follow(topic, follower)
          },
        },
      },
      open: (client) => {
        const join = (): void => {
          client.unsubscribe('news')
          client.subscribe('news', {
            gap: () => {
              gaps++
              if (gaps < 1_000) join()
            },
          })
        }
        join()
        opened.push(client)
      },
    })
    for (let index = 0; index < 3; index++) await openClient(url)
    await opened.take(3)
    followers.at(-1)!.reset({ epoch: 'another', sequence: 7 })
    expect(gaps).toBe(3)
  })

  it('costs nothing when nothing was ever said in it', () => {
    const log = new MemoryLog()
    const { position } = log.follow('quiet', { entry: () => {}, reset: () => {} })
    for (let index = 0; index < 100; index++) log.follow(`${index}`, { entry: () => {}, reset: () => {} }).stop()
    expect(log.read('quiet', position.sequence)).toEqual({
      epoch: position.epoch,
      first: position.sequence + 1,
      entries: [],
    })
    expect(log.size).toBe(1)
  })

  it.each<[string, unknown]>([
    ['the limits of a history must be an object', { news: 100 }],
    ['the limits of a history must be an object', { news: null }],
    ['history has no maxMessage', { news: { maxMessage: 1 } }],
    ['maxAgeMs of a history must be a whole number', { news: { maxAgeMs: 0 } }],
    ['must be limits by topic, or a function', 7],
  ])('is not described like this: %s', async (message, history) => {
    await expect(startHistory({ history: history as never })).rejects.toThrow(message)
  })
})

describe('any schedule of disconnects', () => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  it(`gives every client exactly what was published (seed ${seed})`, async () => {
    const random = seededRandom(seed)
    const { server, url, opened } = await startHistory({
      history: { news: { maxMessages: 10_000 } },
      slowConsumer: 'drop',
      maxBufferedBytes: 50_000,
    })
    const clients = Array.from({ length: 5 }, () => resume(url))
    await opened.take(5)
    for (const client of server.clients.values()) await client.delivered()
    const sent: (string | Buffer)[] = []
    for (let index = 0; index < 600; index++) {
      const text = `${index} `.padEnd(random(3_000), '~')
      sent.push(random(100) < 30 ? Buffer.from(text) : text)
      server.publish('news', sent.at(-1)!)
      const [victim] = [...server.clients.values()].filter(() => random(100) < 30)
      const choice = random(100)
      if (choice < 5) victim?.terminate()
      else if (choice < 8) victim?.close(1001)
      else if (choice < 10) for (const { client } of clients) client.connection?.pause()
      else if (choice < 14) for (const { client } of clients) client.connection?.resume()
      else if (choice < 30) await new Promise((resolve) => setTimeout(resolve, random(5)))
    }
    for (const { client, received, gaps } of clients) {
      await until(() => {
        client.connection?.resume()
        return received.all.length >= sent.length
      })
      expect(received.all).toEqual(sent)
      expect(gaps.all).toEqual([])
    }
  })
})
