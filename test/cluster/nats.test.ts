import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { jetstream } from '@nats-io/jetstream'
import { describe, expect, it } from 'vitest'
import { partFor } from '../../src/cluster/nats/names.ts'
import { type NatsBackplaneOptions, natsBackplane } from '../../src/cluster/nats.ts'
import { encodeEnvelope } from '../../src/envelope.ts'
import { createPublisher, prepare } from '../../src/index.ts'
import { type NatsNode, startNatsNode, startPlane } from '../support/nats-node.ts'
import { describeWithNats, startNats } from '../support/nats-server.ts'
import { openClient, until } from '../support/servers.ts'

const EVERYWHERE = { sent: 1, dropped: 0, reach: 'everywhere' }
const HERE = { sent: 1, dropped: 0, reach: 'process' }
/** For tests in which a server goes silent. */
const IMPATIENT = { pingIntervalMs: 50, pingTimeoutMs: 500 }

/** Nothing has come that was not taken: what is sent now comes next. */
async function expectNothingMore({ client, received }: NatsNode): Promise<void> {
  client.send('the end')
  expect(await received.next()).toBe('the end')
}

describe('names in NATS', () => {
  it('are made of letters, digits, hyphens and underscores, and differ where the names do', () => {
    const names = [
      ...['*', '#', '#*', '#>', '#.', '#a.b', '#a b', '#a_b', '#a_2eb', '#A', '#a', '#é', '#😀', '#\u0000', '#\r\n'],
      ...['_', '__', '_h', '', '-', `#${'x'.repeat(118)}`, `#${'x'.repeat(119)}`, `#${'x'.repeat(255)}`],
      ...[`#${'x'.repeat(254)}y`, `#${'é'.repeat(128)}`, '#\uffff', '#$JS.API', `_h${'0'.repeat(64)}`],
    ]
    const parts = names.map(partFor)
    expect(new Set(parts).size).toBe(names.length)
    for (const [index, part] of parts.entries()) {
      if (names[index] !== '') expect(part).toMatch(/^[a-z0-9_-]{1,120}$/)
    }
    expect(partFor('room-1:blue')).toBe('room-1_3ablue')
  })
})

describe('options of natsBackplane', () => {
  const client = {
    isClosed: () => false,
    publish: () => {},
    subscribe: () => ({ unsubscribe: () => {} }),
    request: async () => {},
    flush: async () => {},
    status: () => (async function* () {})(),
  }

  it.each<[string, object, string]>([
    ['no connection', { connection: undefined }, 'connect() of @nats-io/transport-node'],
    ['something else', { connection: { publish: () => {} } }, 'connect() of @nats-io/transport-node'],
    ['no JetStream', { jetstream: {} }, 'jetstream() of @nats-io/jetstream'],
    ['a prefix with a wildcard', { prefix: 'a.*' }, 'the option prefix'],
    ['a prefix with an empty part', { prefix: 'a..b' }, 'the option prefix'],
    ['a long prefix', { prefix: 'a'.repeat(41) }, 'the option prefix'],
    ['an unknown one', { pingIntervallMs: 1 }, 'did you mean pingIntervalMs?'],
    ['a time', { pingTimeoutMs: 0 }, 'pingTimeoutMs'],
    ['replicas', { replicas: 1.5 }, 'replicas'],
    ['another time', { unusedStreamMs: -1 }, 'unusedStreamMs'],
    ['a third one', { pingIntervalMs: -1 }, 'pingIntervalMs'],
  ])('%s', (_, options, message) => {
    const all = { connection: client, ...options } as NatsBackplaneOptions
    expect(() => natsBackplane(all)).toThrow(expect.objectContaining({ name: 'UsageError' }))
    expect(() => natsBackplane(all)).toThrow(message)
  })

  it('may be those of any client of this form; a backplane is for one server', () => {
    const backplane = natsBackplane({ connection: client, prefix: 'My-app_2.blue' })
    const host = { receive: () => {}, up: () => {}, down: () => {} }
    backplane.start(host)
    expect(() => backplane.start(host)).toThrow('make another one')
    expect(backplane.log).toBeUndefined()
    expect(() => createPublisher({ backplane, history: { news: {} } })).toThrow('keeps no history')
  })
})

describeWithNats('NATS as a backplane', () => {
  it('carries any bytes in the order of the calls, on channels of any name', async () => {
    const nats = await startNats({ jetstream: false })
    const [a, b] = [await startPlane(nats), await startPlane(nats)]
    expect([a.news.all, b.news.all]).toEqual([['up'], ['up']])
    const channels = ['*', '#*', '#>', '#a.b', '#a b', '#A', '#a', '#😀', '#\r\nPUB', `#${'é'.repeat(128)}`]
    await b.backplane.subscribe(channels)
    const sent: [string, Buffer][] = []
    for (let round = 0; round < 200; round++) {
      for (const channel of channels) {
        const size = round === 100 ? 70_000 : round % 7
        sent.push([channel, Buffer.alloc(size, `\r\nMSG \0${round}`)])
      }
    }
    await Promise.all(sent.map(([channel, message]) => a.backplane.publish(channel, message)))
    expect(await b.received.take(sent.length)).toEqual(sent)
    expect(a.received.all).toEqual([])
  })

  it('joins servers and publishers, without an echo, without a duplicate', async () => {
    const nats = await startNats({ jetstream: false })
    const [a, b] = [await startNatsNode(nats), await startNatsNode(nats)]
    // It hears what it publishes itself, or it does not; and another prefix is another world.
    const c = await startNatsNode(nats, { connect: { noEcho: true } })
    const other = await startNatsNode(nats, { nats: { prefix: 'other' } })
    const publisher = createPublisher({ backplane: natsBackplane({ connection: await nats.connect() }) })
    const all = [a, b, c, other]
    for (const { client } of all) client.subscribe('news')
    await Promise.all([...all.map(({ server }) => server.synced()), publisher.ready()])
    expect(a.server.publish('news', 'text é')).toEqual(EVERYWHERE)
    expect(await b.received.next()).toBe('text é')
    expect(b.client.publish('news', Buffer.of(0, 255))).toEqual({ ...EVERYWHERE, sent: 0 })
    expect(await c.received.take(2)).toEqual(['text é', Buffer.of(0, 255)])
    expect(publisher.publish('news', 'of a worker')).toEqual({ ...EVERYWHERE, sent: 0 })
    expect(await a.received.take(3)).toEqual(['text é', Buffer.of(0, 255), 'of a worker'])
    expect(c.server.broadcast('all')).toEqual(EVERYWHERE)
    expect(await a.received.next()).toBe('all')
    expect(await b.received.take(2)).toEqual(['of a worker', 'all'])
    expect(await c.received.take(2)).toEqual(['of a worker', 'all'])
    await publisher.close()
    for (const node of all) await expectNothingMore(node)
    for (const { errors } of all) expect(errors.all).toEqual([])
  })

  it('keeps the order of each publisher while many publish', async () => {
    const nats = await startNats({ jetstream: false })
    const nodes = [await startNatsNode(nats), await startNatsNode(nats), await startNatsNode(nats)] as const
    for (const { client } of nodes) client.subscribe('news')
    await Promise.all(nodes.map(({ server }) => server.synced()))
    const count = 2_000
    for (let index = 0; index < count; index++) {
      for (const [name, { server }] of nodes.entries()) server.publish('news', `${name} ${index}`)
      if (index % 100 === 0) await new Promise(setImmediate)
    }
    for (const { received } of nodes) {
      const messages = (await received.take(count * nodes.length)) as string[]
      for (const name of nodes.keys()) {
        const own = messages.filter((message) => message.startsWith(`${name} `))
        expect(own).toEqual(Array.from({ length: count }, (_, index) => `${name} ${index}`))
      }
    }
  })

  it('subscribes to the topics of its clients, to no others, and leaves nothing', async () => {
    const nats = await startNats({ jetstream: false })
    const { server, client, connection } = await startNatsNode(nats, { nats: { prefix: 'app.blue' } })
    client.subscribe('b')
    client.subscribe('a')
    client.unsubscribe('b')
    client.subscribe('c d')
    await server.synced()
    await connection.flush()
    expect((await nats.subjects()).sort()).toEqual(['app.blue.msg._23a', 'app.blue.msg._23c_20d', 'app.blue.msg._2a'])
    client.terminate()
    await until(() => server.clients.size === 0)
    await server.synced()
    await connection.flush()
    expect(await nats.subjects()).toEqual(['app.blue.msg._2a'])
    await server.close()
    expect(await nats.subjects()).toEqual([])
    expect(connection.isClosed()).toBe(false)
    // The status of the connection is not listened to any more.
    const { protocol } = connection as unknown as { protocol: { listeners: unknown[] } }
    await until(() => protocol.listeners.length === 0)
  })

  it('takes what other programs write for what it is', async () => {
    const nats = await startNats({ jetstream: false })
    const [a, b] = [await startNatsNode(nats), await startNatsNode(nats)]
    b.client.subscribe('news')
    await b.server.synced()
    const stranger = await nats.connect()
    const subject = 'fullduplex.msg._23news'
    const ours = encodeEnvelope(Buffer.alloc(16, 1), 0, [prepare('from another origin')])
    const garbage = ['', 'hello', ours.subarray(0, -1), Buffer.concat([ours, Buffer.of(0)]), Buffer.alloc(100_000, 1)]
    for (const message of garbage) stranger.publish(subject, message)
    stranger.publish(subject, ours)
    stranger.publish(subject, ours, { reply: 'somewhere' })
    expect(await b.received.next()).toBe('from another origin')
    a.server.publish('news', 'hello')
    expect(await b.received.next()).toBe('hello')
    await expectNothingMore(b)
    expect(b.errors.all).toMatchObject([{ code: 'ERR_BACKPLANE' }])
    expect(b.errors.all[0]!.message).toContain('"#news"')
    expect(a.errors.all).toEqual([])
  })

  it('keeps here what is longer than the server takes', async () => {
    const nats = await startNats({ jetstream: false })
    const [a, b] = [await startNatsNode(nats), await startNatsNode(nats)]
    for (const { client } of [a, b]) client.subscribe('news')
    await Promise.all([a.server.synced(), b.server.synced()])
    const most = 1_048_576 - 28 - 5
    expect(a.server.publish('news', Buffer.alloc(most + 1))).toEqual(HERE)
    expect(a.server.publish('news', Buffer.alloc(most))).toEqual(EVERYWHERE)
    expect(((await b.received.next()) as Buffer).length).toBe(most)
    expect(a.errors.all).toMatchObject([{ code: 'ERR_BACKPLANE' }])
    expect(a.errors.all[0]!.message).toContain('longer than the backplane takes')
  })

  it('goes on in the process while the server is away, and with all when it is back', async () => {
    const nats = await startNats({ jetstream: false })
    const [a, b] = [await startNatsNode(nats), await startNatsNode(nats)]
    for (const { client } of [a, b]) client.subscribe('news')
    await Promise.all([a.server.synced(), b.server.synced()])
    await nats.stop()
    const errors = await Promise.all([a.errors.next(), b.errors.next()])
    for (const error of errors) expect(error).toMatchObject({ code: 'ERR_BACKPLANE' })
    expect(a.server.publish('news', 'here')).toEqual(HERE)
    expect(a.server.broadcast('here, too')).toEqual(HERE)
    a.client.subscribe('later')
    b.client.unsubscribe('news')
    b.client.subscribe('news')
    expect(await a.received.take(2)).toEqual(['here', 'here, too'])
    await nats.start()
    await Promise.all([a.restored.next(), b.restored.next()])
    await Promise.all([a.server.synced(), b.server.synced()])
    expect(b.server.publish('later', 'again')).toEqual({ ...EVERYWHERE, sent: 0 })
    expect(a.server.publish('news', 'again')).toEqual(EVERYWHERE)
    expect(await a.received.take(2)).toEqual(expect.arrayContaining(['again', 'again']))
    // What was published meanwhile does not come afterwards.
    expect(await b.received.next()).toBe('again')
    for (const node of [a, b]) {
      await expectNothingMore(node)
      expect([node.errors.all.length, node.restored.all.length]).toEqual([1, 1])
    }
  })

  it('notices a server that is silent, and gives it nothing meanwhile', async () => {
    const nats = await startNats({ jetstream: false })
    const [a, b] = [await startPlane(nats, { nats: IMPATIENT }), await startPlane(nats, { nats: IMPATIENT })]
    await b.backplane.subscribe(['#news'])
    await a.news.next()
    await nats.hold()
    const inFlight = a.backplane.publish('#news', Buffer.from('in flight'))
    await expect(inFlight).rejects.toThrow('has not answered within 500 ms')
    expect(await a.news.next()).toBe('the server has not answered within 500 ms')
    await expect(a.backplane.publish('#news', Buffer.from('not sent'))).rejects.toThrow('has not answered')
    await expect(a.backplane.subscribe(['#more'])).rejects.toThrow('has not answered')
    nats.goOn()
    expect(await a.news.next()).toBe('up')
    await a.backplane.publish('#news', Buffer.from('again'))
    // What was on its way may arrive after all; what was published later may not.
    await until(() => b.received.all.some(([, message]) => message.toString() === 'again'))
    expect(b.received.all.map(([, message]) => message.toString()).filter((text) => text !== 'in flight')).toEqual([
      'again',
    ])
    expect(await nats.subjects()).toEqual(['fullduplex.msg._23news'])
  })

  it('rejects what is on its way when the connection breaks, and does not send it later', async () => {
    const nats = await startNats({ jetstream: false })
    const [a, b] = [await startPlane(nats), await startPlane(nats)]
    await b.backplane.subscribe(['#news'])
    await nats.hold()
    const inFlight = Array.from({ length: 100 }, (_, index) => a.backplane.publish('#news', Buffer.from(`${index}`)))
    const settled = Promise.allSettled(inFlight)
    await new Promise(setImmediate)
    await nats.stop('SIGKILL')
    expect(new Set((await settled).map(({ status }) => status))).toEqual(new Set(['rejected']))
    await until(() => a.news.all.length > 1 && b.news.all.length > 1)
    await expect(a.backplane.publish('#news', Buffer.from('away'))).rejects.toThrow()
    await nats.start()
    await until(() => a.news.all.at(-1) === 'up' && b.news.all.at(-1) === 'up')
    await a.backplane.publish('#news', Buffer.from('again'))
    expect(await b.received.next()).toEqual(['#news', Buffer.from('again')])
    expect(b.received.all).toHaveLength(1)
  })

  it('is down for good when the connection is closed', async () => {
    const nats = await startNats({ jetstream: false })
    const { connection, client, server, errors, received } = await startNatsNode(nats)
    client.subscribe('news')
    await server.synced()
    await connection.close()
    expect(await errors.next()).toMatchObject({ code: 'ERR_BACKPLANE' })
    expect(errors.all[0]!.message).toContain('maxReconnectAttempts: -1')
    expect(server.publish('news', 'here')).toEqual(HERE)
    expect(await received.next()).toBe('here')
    await server.close()
    const late = natsBackplane({ connection })
    const news: string[] = []
    late.start({ receive: () => {}, up: () => news.push('up'), down: ({ message }) => news.push(message) })
    expect(news).toEqual([expect.stringContaining('the connection is closed')])
    await late.close()
  })

  it('has 10,000 topics, also after a restart', async () => {
    const nats = await startNats({ jetstream: false })
    const maxTopicsPerClient = 20_000
    const a = await startNatsNode(nats, { server: { maxTopicsPerClient } })
    const b = await startNatsNode(nats)
    for (let index = 0; index < 10_000; index++) a.client.subscribe(`topic ${index}`)
    await a.server.synced()
    const round = async (text: string): Promise<void> => {
      for (let index = 0; index < 10_000; index++) b.server.publish(`topic ${index}`, `${text} ${index}`)
      const received = new Set(await a.received.take(10_000))
      expect(received).toEqual(new Set(Array.from({ length: 10_000 }, (_, index) => `${text} ${index}`)))
    }
    await round('one')
    await nats.restart()
    await Promise.all([a.restored.next(), b.restored.next()])
    await round('two')
    await a.server.close()
    expect(await nats.subjects()).toEqual(['fullduplex.msg._2a'])
  })

  it('tells of what the server does not allow', async () => {
    const nats = await startNats({ jetstream: false })
    const config = (denied: string): string => `
      authorization { users = [
        { user: a, password: a, permissions: { publish: { deny: ["fullduplex.msg._23secret"] } } }
        { user: b, password: b, permissions: { subscribe: { deny: ${denied} } } }
      ] }`
    const file = join(nats.folder, 'nats.conf')
    writeFileSync(file, config('["fullduplex.msg._23secret"]'))
    await nats.stop()
    nats.arguments.push('--config', file)
    await nats.start()
    const a = await startPlane(nats, { connect: { user: 'a', pass: 'a' } })
    const b = await startPlane(nats, { connect: { user: 'b', pass: 'b' }, nats: IMPATIENT })
    await expect(a.backplane.publish('#secret', Buffer.from('no'))).rejects.toThrow('Permissions Violation')
    await a.backplane.publish('#news', Buffer.from('yes'))
    await expect(b.backplane.subscribe(['#open', '#secret'])).rejects.toThrow('Permissions Violation')
    await b.connection.flush()
    expect(await nats.subjects()).toEqual([])
    await b.backplane.subscribe(['#news'])
    expect(b.news.all).toEqual(['up'])
    // What was allowed once is not any more, and then is again.
    writeFileSync(file, config('["fullduplex.>"]'))
    nats.reload()
    await until(() => b.news.all.length > 1)
    expect(b.news.all[1]).toContain('Permissions Violation')
    writeFileSync(file, config('["other"]'))
    nats.reload()
    await until(() => b.news.all.at(-1) === 'up')
    await a.backplane.publish('#news', Buffer.from('again'))
    expect(await b.received.next()).toEqual(['#news', Buffer.from('again')])
  })

  it('does not mind what else the connection is used for', async () => {
    const nats = await startNats()
    const node = await startNatsNode(nats, { nats: (connection) => ({ jetstream: jetstream(connection) }) })
    node.client.subscribe('news')
    await node.server.synced()
    node.connection.subscribe('question', { callback: (_, message) => void message.respond('answer') })
    const answer = await node.connection.request('question')
    expect(answer.string()).toBe('answer')
    const other = await openClient(node.url)
    node.server.broadcast('all')
    expect(await node.received.next()).toBe('all')
    other.terminate()
    await node.server.close()
    expect((await node.connection.request('question')).string()).toBe('answer')
  })
})
