import { describe, expect, it } from 'vitest'
import {
  prepare,
  type WebSocketConnection,
  type WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { firstClient, nextTurn, openClient, startServer, until } from '../support/servers.ts'

interface Member {
  readonly client: WebSocketConnection
  readonly peer: WebSocketConnection<undefined>
  readonly received: Queue<string | Buffer>
}

async function startWithMembers(count: number, options: WebSocketServerOptions = {}) {
  const opened = new Queue<WebSocketConnection>()
  const { server, url } = await startServer({ ...options, open: (client) => opened.push(client) })
  const members: Member[] = []
  while (members.length < count) {
    const received = new Queue<string | Buffer>()
    const peer = await openClient(url, { message: (_, data) => received.push(data), compression: true })
    members.push({ client: await opened.next(), peer, received })
  }
  return { server, members: members as [Member, Member, Member], url, opened }
}

/** What the members have received by the time that something sent behind it has arrived. */
async function receivedBy(members: readonly Member[]): Promise<(string | Buffer)[][]> {
  return Promise.all(
    members.map(async ({ client, received }) => {
      client.send('the end')
      for (;;) if ((await received.next()) === 'the end') return received.all.slice(0, -1)
    }),
  )
}

describe('a topic', () => {
  it('reaches who has subscribed, and nobody else', async () => {
    const { server, members } = await startWithMembers(3)
    const [a, b] = members
    expect(a.client.subscribe('news')).toBe(true)
    expect(a.client.subscribe('news')).toBe(false)
    b.client.subscribe('news')
    expect(server.publish('news', 'one')).toEqual({ sent: 2, dropped: 0 })
    expect(server.publish('news', Buffer.of(1, 2), { except: a.client })).toEqual({ sent: 1, dropped: 0 })
    expect(server.publish('news', 'to A', { except: [b.client] })).toEqual({ sent: 1, dropped: 0 })
    expect(server.publish('news', 'to B', { filter: (client) => client === b.client })).toEqual({ sent: 1, dropped: 0 })
    expect(server.publish('other', 'nobody')).toEqual({ sent: 0, dropped: 0 })
    expect(await receivedBy(members)).toEqual([['one', 'to A'], ['one', Buffer.of(1, 2), 'to B'], []])
  })

  it('is published to by a client without coming back to it', async () => {
    const { members } = await startWithMembers(3)
    const [a, b, c] = members
    a.client.subscribe('news')
    b.client.subscribe('news')
    expect(a.client.publish('news', 'of A')).toEqual({ sent: 1, dropped: 0 })
    expect(c.client.publish('news', 'of C, who is no member')).toEqual({ sent: 2, dropped: 0 })
    expect(await receivedBy(members)).toEqual([['of C, who is no member'], ['of A', 'of C, who is no member'], []])
  })

  it('is left, and what was published before still arrives', async () => {
    const { server, members } = await startWithMembers(1)
    const [{ client }] = members
    expect(client.unsubscribe('news')).toBe(false)
    client.subscribe('news')
    server.publish('news', 'before')
    expect(client.unsubscribe('news')).toBe(true)
    expect(client.unsubscribe('news')).toBe(false)
    expect(server.publish('news', 'after')).toEqual({ sent: 0, dropped: 0 })
    expect(await receivedBy(members)).toEqual([['before']])
  })

  it('tells who is in it, and vanishes with its last member', async () => {
    const { server, members } = await startWithMembers(2)
    const [a, b] = members
    for (const topic of ['x', 'y', 'z']) a.client.subscribe(topic)
    b.client.subscribe('y')
    expect(a.client.topics).toEqual(new Set(['x', 'y', 'z']))
    expect(server.subscribers('y')).toEqual(new Set([a.client, b.client]))
    expect(server.subscribers('none')).toEqual(new Set())
    expect(server.topics).toEqual(new Set(['x', 'y', 'z']))
    a.client.unsubscribe('x')
    a.client.unsubscribe('y')
    expect(server.topics).toEqual(new Set(['y', 'z']))
    expect(server.subscribers('y')).toEqual(new Set([b.client]))
    b.client.unsubscribe('y')
    a.client.unsubscribe('z')
    expect(server.topics).toEqual(new Set())
    expect(a.client.topics).toEqual(new Set())
  })

  it('is left by a client that ends, before its close handler runs', async () => {
    const told = new Queue<unknown>()
    const started: { server?: WebSocketServer } = {}
    const { server, members } = await startWithMembers(2, {
      close: (client) => {
        told.push([[...client.topics], started.server!.subscribers('news').size, client.subscribe('news')])
      },
    })
    started.server = server
    const [a, b] = members
    for (const { client } of members) for (const topic of ['news', 'more']) client.subscribe(topic)
    a.peer.close()
    expect(await told.next()).toEqual([[], 1, false])
    b.peer.terminate()
    expect(await told.next()).toEqual([[], 0, false])
    expect(server.topics.size).toBe(0)
  })

  it('may be joined in a handler, and counts for the next message', async () => {
    const { server, url } = await startServer({
      open: (client) => {
        client.subscribe('all')
      },
      message: (client, data) => {
        client.subscribe(String(data))
        server.publish(String(data), 'you are in')
      },
    })
    const received = new Queue<string | Buffer>()
    const peer = await openClient(url, { message: (_, data) => received.push(data) })
    peer.send('room')
    expect(await received.next()).toBe('you are in')
    expect((await firstClient(server)).topics).toEqual(new Set(['all', 'room']))
  })

  it('is safe from changes while a message goes out', async () => {
    const { server, members } = await startWithMembers(3)
    const [a, b, c] = members
    a.client.subscribe('news')
    b.client.subscribe('news')
    const filter = (client: WebSocketConnection): boolean => {
      if (client === a.client) {
        b.client.unsubscribe('news')
        c.client.subscribe('news')
      }
      return true
    }
    server.publish('news', 'first', { filter })
    server.publish('news', 'second')
    const [ofA, ofB, ofC] = await receivedBy(members)
    expect(ofA).toEqual(['first', 'second'])
    expect(ofB).toEqual([])
    expect(ofC!.at(-1)).toBe('second')
  })

  it('keeps its messages in order, between those of others', async () => {
    const { server, members } = await startWithMembers(3)
    const [a, b] = members
    a.client.subscribe('even')
    a.client.subscribe('odd')
    b.client.subscribe('odd')
    const sent = Array.from({ length: 500 }, (_, index) => `${index}`.padStart(index % 7 === 0 ? 2_000 : 1))
    for (const [index, message] of sent.entries()) {
      server.publish(index % 2 === 0 ? 'even' : 'odd', message)
      if (index % 50 === 0) await nextTurn()
    }
    const odd = sent.filter((_, index) => index % 2 === 1)
    expect(await receivedBy(members)).toEqual([sent, odd, []])
  })

  it.each([
    ['compressed', true],
    ['as it is', false],
  ] as const)('may be large, and goes out %s', async (_, compression) => {
    const { server, members } = await startWithMembers(3, { compression })
    for (const { client } of members) client.subscribe('news')
    const message = 'a long story, '.repeat(10_000)
    expect(server.publish('news', message)).toEqual({ sent: 3, dropped: 0 })
    server.publish('news', 'short')
    expect(await receivedBy(members)).toEqual(members.map(() => [message, 'short']))
  })

  it.each<[string, unknown]>([
    ['is empty', ''],
    ['is no string', 7],
    ['is too long', 'é'.repeat(129)],
    ['has half a character', 'a\ud800'],
  ])('has no name that %s', async (_, name) => {
    const { server, members } = await startWithMembers(1)
    const [{ client }] = members
    const topic = name as string
    for (const action of [
      () => client.subscribe(topic),
      () => server.publish(topic, ''),
      () => client.publish(topic, ''),
    ]) {
      expect(action).toThrow(expect.objectContaining({ name: 'UsageError', code: 'ERR_TOPIC' }))
    }
    expect(client.unsubscribe(topic)).toBe(false)
    expect(client.subscribe('é'.repeat(128))).toBe(true)
  })

  it('has as many members as want it, and a client as many topics as it may', async () => {
    const { server, members } = await startWithMembers(1, { maxTopicsPerClient: 2, maxTopicBytes: 4 })
    const [{ client }] = members
    client.subscribe('a')
    client.subscribe('b')
    expect(() => client.subscribe('c')).toThrow('a client may be in 2 topics (maxTopicsPerClient)')
    expect(client.subscribe('b')).toBe(false)
    expect(() => client.subscribe('12345')).toThrow('the name of a topic may have 4 bytes at most')
    client.unsubscribe('a')
    expect(client.subscribe('c')).toBe(true)
    expect(server.topics).toEqual(new Set(['b', 'c']))
  })

  it('is for the clients of a server', async () => {
    const { members } = await startWithMembers(1)
    const [{ peer }] = members
    for (const action of [() => peer.subscribe('a'), () => peer.unsubscribe('a'), () => peer.publish('a', '')]) {
      expect(action).toThrow(expect.objectContaining({ code: 'ERR_SERVER_STATE' }))
    }
    expect(peer.topics).toEqual(new Set())
  })
})

describe('a slow member', () => {
  it.each(['drop', 'close'] as const)('is dealt with by its own rule (%s), and slows nobody', async (slowConsumer) => {
    const { server, members } = await startWithMembers(2, { slowConsumer, maxBufferedBytes: 200_000 })
    const [slow, quick] = members
    slow.peer.pause()
    for (const { client } of members) client.subscribe('news')
    const message = Buffer.alloc(100_000)
    let published = 0
    let dropped = 0
    while (dropped === 0) {
      const result = server.publish('news', message)
      expect(result.sent + result.dropped).toBe(2)
      published++
      dropped += result.dropped
      await quick.client.flushed()
    }
    expect(slow.client.state === 'open').toBe(slowConsumer === 'drop')
    expect(await quick.received.take(published)).toHaveLength(published)
    const next = server.publish('news', message)
    expect(next.sent).toBe(1)
  })
})

describe('a message that was prepared', () => {
  it('goes out by itself, to a topic and to everybody, in both roles', async () => {
    const said = new Queue<string | Buffer>()
    const { server, members } = await startWithMembers(2, { message: (_, data) => said.push(data), compression: true })
    const [a, b] = members
    a.client.subscribe('news')
    const [text, bytes, long] = [
      prepare('text'),
      prepare(Buffer.of(0, 1)),
      prepare('long '.repeat(1_000), { compress: true }),
    ]
    expect(a.client.send(text)).toBe(true)
    expect(server.publish('news', bytes)).toEqual({ sent: 1, dropped: 0 })
    expect(server.broadcast(long)).toEqual({ sent: 2, dropped: 0 })
    expect(server.broadcast(text, { except: a.client })).toEqual({ sent: 1, dropped: 0 })
    const story = 'long '.repeat(1_000)
    expect(await receivedBy(members)).toEqual([
      ['text', Buffer.of(0, 1), story],
      [story, 'text'],
    ])
    for (const message of [text, bytes, long]) expect(b.peer.send(message)).toBe(true)
    expect(await said.take(3)).toEqual(['text', Buffer.of(0, 1), story])
  })

  it('is of nothing but data', () => {
    expect(() => prepare(7 as never)).toThrow(expect.objectContaining({ code: 'ERR_DATA_TYPE' }))
  })
})

describe('a listener', () => {
  it('hears what is published to a topic, until it has enough', async () => {
    const errors = new Queue<Error>()
    const { server, members } = await startWithMembers(1, { error: (error) => errors.push(error) })
    const heard: unknown[] = []
    const end = server.listenTo('news', (data) => heard.push(data))
    const endOther = server.listenTo('news', () => {
      throw new Error('deaf')
    })
    expect(server.publish('news', 'one')).toEqual({ sent: 0, dropped: 0 })
    members[0].client.publish('news', Buffer.of(9))
    server.publish('other', 'no')
    end()
    end()
    server.publish('news', 'two')
    endOther()
    server.publish('news', 'three')
    expect(heard).toEqual(['one', Buffer.of(9)])
    expect((await errors.take(3)).map(({ message }) => message)).toEqual(['deaf', 'deaf', 'deaf'])
    expect(() => server.listenTo('', () => {})).toThrow(expect.objectContaining({ code: 'ERR_TOPIC' }))
  })
})

describe('options of a message for many', () => {
  it('are those that there are', async () => {
    const { server, members } = await startWithMembers(1)
    const wrong = [{ excpet: members[0].client }, { except: members[0].client.id }] as unknown as object[]
    for (const options of wrong) {
      expect(() => server.publish('news', 'x', options)).toThrow(/except/)
      expect(() => server.broadcast('x', options)).toThrow(/except/)
    }
  })
})

describe('what it costs', () => {
  it('does not depend on how many others there are: 100,000 topics come and go', async () => {
    const { server, members } = await startWithMembers(2)
    const [a, b] = members
    for (let index = 0; index < 100_000; index++) a.client.subscribe(`topic ${index}`)
    expect(server.topics.size).toBe(100_000)
    b.client.subscribe('topic 77777')
    expect(server.publish('topic 77777', 'both')).toEqual({ sent: 2, dropped: 0 })
    a.peer.close()
    await until(() => server.topics.size === 1)
    expect(server.subscribers('topic 77777')).toEqual(new Set([b.client]))
  })
})
