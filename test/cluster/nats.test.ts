import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { jetstream } from '@nats-io/jetstream'
import { describe, expect, it } from 'vitest'
import { partFor } from '../../src/cluster/nats/names.ts'
import { type NatsBackplaneOptions, natsBackplane } from '../../src/cluster/nats.ts'
import { createPublisher } from '../../src/index.ts'
import { startNatsNode, startNatsPlane } from '../support/nats-node.ts'
import { describeWithNats, startNats } from '../support/nats-server.ts'
import { openClient, until } from '../support/servers.ts'
import { brokerSpec, bytesSpec, EVERYWHERE, HERE, sharingSpec } from './contract/driver.ts'
import { natsBroker } from './contract/nats-engine.ts'

/** For tests in which a server goes silent. */
const IMPATIENT = { pingIntervalMs: 50, pingTimeoutMs: 500 }

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
  bytesSpec(natsBroker, { text: '\r\nMSG ' })
  sharingSpec(natsBroker)
  brokerSpec(natsBroker)

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

  it('is down at once, and for good, on a connection that is closed', async () => {
    const nats = await startNats({ jetstream: false })
    const connection = await nats.connect()
    await connection.close()
    const backplane = natsBackplane({ connection })
    const news: string[] = []
    backplane.start({ receive: () => {}, up: () => news.push('up'), down: ({ message }) => news.push(message) })
    expect(news).toEqual([expect.stringContaining('the connection is closed')])
    await backplane.close()
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
    const a = await startNatsPlane(nats, { connect: { user: 'a', pass: 'a' } })
    const b = await startNatsPlane(nats, { connect: { user: 'b', pass: 'b' }, nats: IMPATIENT })
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
