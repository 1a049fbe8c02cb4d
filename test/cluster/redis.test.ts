import { Redis } from 'ioredis'
import { createClient, createClientPool, createCluster } from 'redis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { isPrefix } from '../../src/cluster/redis/names.ts'
import { type RedisBackplaneOptions, type RedisClient, redisBackplane } from '../../src/cluster/redis.ts'
import { encodeEnvelope } from '../../src/envelope.ts'
import { createPublisher, prepare } from '../../src/index.ts'
import {
  CLUSTER_LIBRARIES,
  LIBRARIES,
  type NodeOptions,
  type RedisNode,
  startPlane,
  startRedisNode,
} from '../support/redis-node.ts'
import { describeWithRedis, startRedis } from '../support/redis-server.ts'
import { startWire } from '../support/redis-wire.ts'
import { nextTurn, until } from '../support/servers.ts'

const EVERYWHERE = { sent: 1, dropped: 0, reach: 'everywhere' }
const HERE = { sent: 1, dropped: 0, reach: 'process' }
/** For tests in which a server goes silent. */
const IMPATIENT = { pingIntervalMs: 50, pingTimeoutMs: 1_000 }

/** Nothing has come that was not taken: what is sent now comes next. */
async function expectNothingMore({ client, received }: RedisNode): Promise<void> {
  client.send('the end')
  expect(await received.next()).toBe('the end')
}

/** Channels without those on which processes hear themselves. */
function withoutEchoes(channels: readonly string[]): string[] {
  return channels.filter((channel) => !channel.includes(':~'))
}

it.each([
  ['fullduplex', true],
  ['My-app_2:blue.green/red', true],
  ['', false],
  ['a:', false],
  ['a::b', false],
  ['a b', false],
  ['{a}', false],
  ['a*', false],
  ['a'.repeat(64), true],
  ['a'.repeat(65), false],
])('the prefix %j', (prefix, isOne) => {
  expect(isPrefix(prefix)).toBe(isOne)
})

describe('options of redisBackplane', () => {
  const client = createClient()
  const prefixed = new Redis({ lazyConnect: true, keyPrefix: 'app:' })

  it.each<[string, object, string]>([
    ['no client', { client: undefined }, 'the option client must be a client of node-redis'],
    ['something else', { client: { publish: () => {} } }, 'the option client must be a client of node-redis'],
    ['a pool', { client: createClientPool() }, 'no pool'],
    ['a subscriber that is none', { subscriber: 'redis://localhost' }, 'the option subscriber'],
    ['a client with a prefix', { client: prefixed }, "client.duplicate({ keyPrefix: '' })"],
    ['a subscriber with a prefix', { subscriber: prefixed }, 'the option subscriber is a client with a keyPrefix'],
    ['a prefix with a space', { prefix: 'a b' }, 'the option prefix'],
    ['a prefix that is no text', { prefix: 1 }, 'the option prefix'],
    ['sharded', { sharded: 'yes' }, 'the option sharded'],
    ['an unknown one', { pingIntervallMs: 1 }, 'did you mean pingIntervalMs?'],
    ['a time', { pingTimeoutMs: 0 }, 'pingTimeoutMs'],
    ['another time', { pingIntervalMs: -1 }, 'pingIntervalMs'],
  ])('%s', (_, options, message) => {
    const all = { client, ...options } as RedisBackplaneOptions
    expect(() => redisBackplane(all)).toThrow(expect.objectContaining({ name: 'UsageError' }))
    expect(() => redisBackplane(all)).toThrow(message)
  })

  it('takes clients of both libraries by their form; a backplane is for one server', async () => {
    const clients: RedisClient[] = [
      client,
      createClient({ RESP: 2 }),
      createCluster({ rootNodes: [] }),
      new Redis({ lazyConnect: true, protocol: 3, replyMapping: 'resp3' }),
    ]
    for (const each of clients) expect(() => redisBackplane({ client: each, subscriber: each })).not.toThrow()
    const backplane = redisBackplane({ client })
    const host = { receive: () => {}, up: () => {}, down: () => {} }
    backplane.start(host)
    expect(() => backplane.start(host)).toThrow('make another')
    await backplane.close()
    await backplane.close()
    await redisBackplane({ client }).close()
  })
})

describeWithRedis('Redis as a backplane', () => {
  describe.each(LIBRARIES)('with $name', (library) => {
    const start = (redis: { url: string }, options?: NodeOptions) => startRedisNode(redis, library, options)

    it.each([2, 3] as const)(
      'carries any bytes in the order of the calls, in version %i of the protocol',
      async (protocol) => {
        const redis = await startRedis()
        const [a, b] = [
          await startPlane(redis, library, { connect: { protocol } }),
          await startPlane(redis, library, { connect: { protocol } }),
        ]
        expect([a.news.all, b.news.all]).toEqual([['up'], ['up']])
        const channels = [
          '*',
          '#*',
          '#[a]',
          '#a.b',
          '#a b',
          '#A',
          '#a',
          '#{a}',
          '#😀',
          '#\r\n\0',
          '#__proto__',
          `#${'é'.repeat(128)}`,
        ]
        await b.backplane.subscribe(channels)
        const sent: [string, Buffer][] = []
        for (let round = 0; round < 200; round++) {
          for (const channel of channels) {
            const bytes = round === 0 ? Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)) : undefined
            const size = round === 100 && channel === '*' ? 70_000 : round % 7
            sent.push([channel, bytes ?? Buffer.alloc(size, `\r\n$1\0${round}`)])
          }
        }
        await Promise.all(sent.map(([channel, message]) => a.backplane.publish(channel, message)))
        expect(await b.received.take(sent.length)).toEqual(sent)
        expect(a.received.all).toEqual([])
      },
    )

    it('joins servers and publishers, without an echo, without a duplicate', async () => {
      const redis = await startRedis()
      const [a, b, c] = [await start(redis), await start(redis), await start(redis)]
      const other = await start(redis, { redis: { prefix: 'other' } })
      const publisher = createPublisher({ backplane: redisBackplane({ client: library.make(redis).client }) })
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
      const redis = await startRedis()
      const nodes = [await start(redis), await start(redis), await start(redis)]
      for (const { client } of nodes) client.subscribe('news')
      await Promise.all(nodes.map(({ server }) => server.synced()))
      const count = 2_000
      for (let index = 0; index < count; index++) {
        for (const [name, { server }] of nodes.entries()) server.publish('news', `${name} ${index}`)
        if (index % 100 === 0) await nextTurn()
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
      const redis = await startRedis()
      const { server, client, user } = await start(redis, { redis: { prefix: 'app:blue' } })
      client.subscribe('b')
      client.subscribe('a')
      client.unsubscribe('b')
      client.subscribe('c d')
      await server.synced()
      const all = await redis.channels()
      expect(withoutEchoes(all)).toEqual(['app:blue:#a', 'app:blue:#c d', 'app:blue:*'])
      expect(all).toHaveLength(4)
      client.terminate()
      await until(() => server.clients.size === 0)
      await server.synced()
      expect(withoutEchoes(await redis.channels())).toEqual(['app:blue:*'])
      expect(await redis.countClients()).toBe(2)
      await server.close()
      while ((await redis.countClients()) > 1) await nextTurn()
      expect(await redis.channels()).toEqual([])
      expect(await redis.command('DBSIZE')).toBe(0)
      expect(user.isReady()).toBe(true)
      // The user's listener for errors is the only one that is left.
      expect(user.emitter.eventNames()).toEqual(['error'])
      expect(user.emitter.listenerCount('error')).toBe(1)
    })

    it('leaves a client that had no listeners as one that can be listened to', async () => {
      const redis = await startRedis()
      const { emitter, client, command } = library.make(redis, { isSilent: true })
      const backplane = redisBackplane({ client })
      await new Promise<void>((resolve) => backplane.start({ receive: () => {}, up: resolve, down: () => {} }))
      await backplane.close()
      const heard = new Promise((resolve) => emitter.on('reconnecting', resolve))
      emitter.on('error', () => {})
      await command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'no').catch(() => {})
      await heard
    })

    it('takes what other programs write for what it is', async () => {
      const redis = await startRedis()
      const [a, b] = [await start(redis), await start(redis)]
      b.client.subscribe('news')
      await b.server.synced()
      const ours = encodeEnvelope(Buffer.alloc(16, 1), 0, [prepare('from another origin')])
      const garbage = ['', 'hello', ours.subarray(0, -1), Buffer.concat([ours, Buffer.of(0)]), Buffer.alloc(100_000, 1)]
      for (const message of garbage) await redis.command('PUBLISH', 'fullduplex:#news', message)
      for (const channel of withoutEchoes(await redis.channels())) await redis.command('PUBLISH', channel, 'hello')
      const [echo] = (await redis.channels()).filter((channel) => channel.includes(':~'))
      for (const message of ['0', '1', '99999', 'hello', '']) await redis.command('PUBLISH', echo!, message)
      await redis.command('PUBLISH', 'fullduplex:#news', ours)
      await redis.command('PUBLISH', 'fullduplex:#news', ours)
      expect(await b.received.next()).toBe('from another origin')
      a.server.publish('news', 'hello')
      expect(await b.received.next()).toBe('hello')
      await expectNothingMore(b)
      expect(b.errors.all).toMatchObject([{ code: 'ERR_BACKPLANE' }])
      expect(b.errors.all[0]!.message).toContain('"#news"')
    })

    it('takes messages of 16 MiB', async () => {
      const redis = await startRedis()
      const [a, b] = [await startPlane(redis, library), await startPlane(redis, library)]
      expect(a.backplane.maxMessageBytes).toBe(16_777_216)
      await b.backplane.subscribe(['#big'])
      const message = Buffer.alloc(16_777_216, 'big')
      await a.backplane.publish('#big', message)
      const [, arrived] = await b.received.next()
      expect(arrived.equals(message)).toBe(true)
    })

    it.each(['SIGTERM', 'SIGKILL'] as const)(
      'goes on in the process without Redis, and with all when it is back (%s)',
      async (signal) => {
        const redis = await startRedis()
        const [a, b] = [await start(redis), await start(redis)]
        for (const { client } of [a, b]) client.subscribe('news')
        await Promise.all([a.server.synced(), b.server.synced()])
        await redis.stop(signal)
        const errors = await Promise.all([a.errors.next(), b.errors.next()])
        for (const error of errors) expect(error).toMatchObject({ code: 'ERR_BACKPLANE' })
        expect(a.server.publish('news', 'here')).toEqual(HERE)
        expect(a.server.broadcast('here, too')).toEqual(HERE)
        a.client.subscribe('later')
        b.client.unsubscribe('news')
        b.client.subscribe('news')
        expect(await a.received.take(2)).toEqual(['here', 'here, too'])
        await redis.start()
        await Promise.all([a.restored.next(), b.restored.next()])
        await Promise.all([a.server.synced(), b.server.synced()])
        expect(withoutEchoes(await redis.channels())).toEqual(['fullduplex:#later', 'fullduplex:#news', 'fullduplex:*'])
        expect(b.server.publish('later', 'again')).toEqual({ ...EVERYWHERE, sent: 0 })
        expect(a.server.publish('news', 'again')).toEqual(EVERYWHERE)
        expect(await a.received.take(2)).toEqual(['again', 'again'])
        // What was published meanwhile does not come afterwards.
        expect(await b.received.next()).toBe('again')
        for (const node of [a, b]) {
          await expectNothingMore(node)
          expect([node.errors.all.length, node.restored.all.length]).toEqual([1, 1])
        }
        expect(await redis.countClients()).toBe(4)
      },
    )

    it('notices a server that is silent, and gives it nothing meanwhile', async () => {
      const redis = await startRedis()
      const [a, b] = [
        await startPlane(redis, library, { redis: IMPATIENT }),
        await startPlane(redis, library, { redis: IMPATIENT }),
      ]
      await b.backplane.subscribe(['#news'])
      redis.pause()
      const inFlight = a.backplane.publish('#news', Buffer.from('in flight'))
      await expect(inFlight).rejects.toThrow('has not answered within 1000 ms')
      expect(await a.news.next()).toBe('Redis has not answered within 1000 ms')
      await expect(a.backplane.publish('#news', Buffer.from('not sent'))).rejects.toThrow('has not answered')
      await expect(a.backplane.subscribe(['#more'])).rejects.toThrow('has not answered')
      expect(await b.news.next()).toBe('Redis has not answered within 1000 ms')
      redis.resume()
      expect(await a.news.next()).toBe('up')
      expect(await b.news.next()).toBe('up')
      await a.backplane.publish('#news', Buffer.from('again'))
      // What was on its way arrives after all; what was published later does not.
      await until(() => b.received.all.some(([, message]) => message.toString() === 'again'))
      expect(b.received.all.map(([, message]) => message.toString())).toEqual(['in flight', 'again'])
      expect(withoutEchoes(await redis.channels())).toEqual(['fullduplex:#news'])
      expect(await redis.countClients()).toBe(4)
    })

    it('does not wait for an answer that was never given', async () => {
      const redis = await startRedis()
      const connect = { ioredis: { autoResendUnfulfilledCommands: false } }
      const { backplane, news, received } = await startPlane(redis, library, { connect, redis: IMPATIENT })
      redis.pause()
      expect(await news.next()).toBe('Redis has not answered within 1000 ms')
      // It is asked again, and dies before it answers.
      await nextTurn()
      await redis.stop('SIGKILL')
      await redis.start()
      await until(() => news.all.at(-1) === 'up')
      await backplane.subscribe(['#news'])
      await backplane.publish('#news', Buffer.from('again'))
      expect(await received.next()).toEqual(['#news', Buffer.from('again')])
    })

    it('rejects what is on its way when the connection breaks', async () => {
      const redis = await startRedis()
      const connect = { ioredis: { autoResendUnfulfilledCommands: false } }
      const [a, b] = [await startPlane(redis, library, { connect }), await startPlane(redis, library)]
      await b.backplane.subscribe(['#news'])
      redis.pause()
      const inFlight = Array.from({ length: 100 }, (_, index) => a.backplane.publish('#news', Buffer.from(`${index}`)))
      const settled = Promise.allSettled(inFlight)
      // node-redis sends in the next turn, and keeps what it could not send.
      await nextTurn()
      await nextTurn()
      await redis.stop('SIGKILL')
      expect(new Set((await settled).map(({ status }) => status))).toEqual(new Set(['rejected']))
      await expect(a.backplane.publish('#news', Buffer.from('away'))).rejects.toThrow()
      await until(() => b.news.all.at(-1) !== 'up')
      await redis.start()
      await until(() => a.news.all.at(-1) === 'up' && b.news.all.at(-1) === 'up')
      await a.backplane.publish('#news', Buffer.from('again'))
      expect(await b.received.next()).toEqual(['#news', Buffer.from('again')])
      expect(b.received.all).toHaveLength(1)
    })

    it('makes its connection for subscriptions anew when it has gone deaf', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [a, b] = [await startPlane(redis, library), await startPlane(wire, library, { redis: IMPATIENT })]
      await b.backplane.subscribe(['#news'])
      const deaf = wire.connections.find(({ sent }) => /\bsubscribe\b/i.test(sent))!
      deaf.deafen()
      await a.backplane.publish('#news', Buffer.from('not heard'))
      expect(await b.news.next()).toBe('Redis has not answered within 1000 ms')
      expect(await b.news.next()).toBe('up')
      expect(deaf.isOpen).toBe(false)
      await a.backplane.publish('#news', Buffer.from('heard'))
      expect(await b.received.next()).toEqual(['#news', Buffer.from('heard')])
      expect(await redis.countClients()).toBe(4)
    })

    it('comes up when Redis does, at first, too', async () => {
      const redis = await startRedis()
      await redis.stop()
      const node = await start(redis, { awaitUp: false })
      node.client.subscribe('news')
      expect(await node.errors.next()).toMatchObject({ code: 'ERR_BACKPLANE' })
      expect(node.server.publish('news', 'here')).toEqual(HERE)
      await redis.start()
      await node.restored.next()
      await node.server.synced()
      expect(node.server.publish('news', 'everywhere')).toEqual(EVERYWHERE)
      expect(withoutEchoes(await redis.channels())).toEqual(['fullduplex:#news', 'fullduplex:*'])
      expect(node.errors.all).toHaveLength(1)
      await redis.stop()
      await node.errors.next()
      await node.server.close()
    })

    it('is down when the client was closed, and is closed then without it', async () => {
      const redis = await startRedis()
      const { user, server, client, errors, received } = await start(redis)
      client.subscribe('news')
      await server.synced()
      user.end()
      expect(await errors.next()).toMatchObject({ code: 'ERR_BACKPLANE' })
      expect(server.publish('news', 'here')).toEqual(HERE)
      expect(await received.next()).toBe('here')
      await server.close()
      while ((await redis.countClients()) > 0) await nextTurn()
    })

    it('tells of what Redis does not allow', async () => {
      const redis = await startRedis()
      await redis.command('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '+@all', 'resetchannels')
      const connect = { username: 'app', password: 'secret' }
      const plane = await startPlane(redis, library, { connect, awaitUp: false })
      expect(await plane.news.next()).toContain('NOPERM')
      await redis.command('ACL', 'SETUSER', 'app', '&fullduplex:~*', '&fullduplex:[*]', '&fullduplex:#news')
      await until(() => plane.news.all.at(-1) === 'up')
      await plane.backplane.subscribe(['#news'])
      await expect(plane.backplane.subscribe(['#other'])).rejects.toThrow('NOPERM')
      await expect(plane.backplane.publish('#other', Buffer.of(1))).rejects.toThrow('NOPERM')
      await plane.backplane.publish('#news', Buffer.of(1))
      expect(await plane.received.next()).toEqual(['#news', Buffer.of(1)])
    })

    it('does not mind what else the client is used for', async () => {
      const redis = await startRedis()
      const node = await start(redis, { connect: { ioredis: { enableAutoPipelining: true } } })
      const other = await start(redis)
      node.client.subscribe('news')
      await node.server.synced()
      expect(await node.user.command('SET', 'mine', 'value')).toBe('OK')
      for (let index = 0; index < 100; index++) {
        node.server.publish('news', `${index}`)
        void node.user.command('INCR', 'count')
      }
      other.server.publish('news', 'from there')
      await until(() => node.received.all.length === 101)
      expect(String(await node.user.command('GET', 'count'))).toBe('100')
      await node.server.close()
      expect(String(await node.user.command('GET', 'mine'))).toBe('value')
    })

    it('has 10,000 topics, also after a restart', async () => {
      const redis = await startRedis()
      const a = await start(redis, { server: { maxTopicsPerClient: 20_000 } })
      const b = await start(redis)
      for (let index = 0; index < 10_000; index++) a.client.subscribe(`topic ${index}`)
      await a.server.synced()
      const round = async (text: string): Promise<void> => {
        for (let index = 0; index < 10_000; index++) b.server.publish(`topic ${index}`, `${text} ${index}`)
        const received = new Set(await a.received.take(10_000))
        expect(received).toEqual(new Set(Array.from({ length: 10_000 }, (_, index) => `${text} ${index}`)))
      }
      await round('one')
      await redis.stop()
      await Promise.all([a.errors.next(), b.errors.next()])
      await redis.start()
      await Promise.all([a.restored.next(), b.restored.next()])
      await round('two')
      await a.server.close()
      while (withoutEchoes(await redis.channels()).length > 1) await nextTurn()
      expect(withoutEchoes(await redis.channels())).toEqual(['fullduplex:*'])
    })

    describe('and a client for subscriptions', () => {
      it('renews what it was subscribed to, and leaves it as it was', async () => {
        const redis = await startRedis()
        const a = await startPlane(redis, library)
        const subscriber = library.make(redis, { ioredis: { autoResubscribe: false } })
        const { backplane, news, received } = await startPlane(redis, library, {
          redis: { ...IMPATIENT, subscriber: subscriber.client },
        })
        expect(await redis.countClients()).toBe(4)
        await backplane.subscribe(['#a', '#b'])
        await backplane.unsubscribe(['#b'])
        await redis.stop()
        await until(() => news.all.at(-1) !== 'up')
        await backplane.unsubscribe(['#a']).catch(() => {})
        await redis.start()
        await until(() => news.all.at(-1) === 'up' && a.news.all.at(-1) === 'up')
        expect(withoutEchoes(await redis.channels())).toEqual([])
        await backplane.subscribe(['#c'])
        await a.backplane.publish('#c', Buffer.from('c'))
        expect(await received.next()).toEqual(['#c', Buffer.from('c')])
        await redis.stop()
        await until(() => news.all.at(-1) !== 'up' && a.news.all.at(-1) !== 'up')
        await redis.start()
        await until(() => news.all.at(-1) === 'up' && a.news.all.at(-1) === 'up')
        await a.backplane.publish('#c', Buffer.from('once'))
        await a.backplane.publish('#c', Buffer.from('each'))
        expect(await received.take(2)).toEqual([
          ['#c', Buffer.from('once')],
          ['#c', Buffer.from('each')],
        ])
        await backplane.close()
        await a.backplane.close()
        expect(subscriber.isReady()).toBe(true)
        while ((await redis.channels()).length > 0) await nextTurn()
        expect(subscriber.emitter.eventNames()).toEqual(['error'])
        expect(subscriber.emitter.listenerCount('error')).toBe(1)
      })

      it('notices that it has gone deaf, and waits for it', async () => {
        const redis = await startRedis()
        const wire = await startWire(redis)
        const subscriber = library.make(wire)
        const { news } = await startPlane(redis, library, { redis: { ...IMPATIENT, subscriber: subscriber.client } })
        wire.connections[0]!.deafen()
        expect(await news.next()).toBe('Redis has not answered within 1000 ms')
        wire.connections[0]!.cut()
        await until(() => news.all.at(-1) === 'up')
      })
    })

    describe('and sharded Pub/Sub', () => {
      const options: NodeOptions = { redis: { sharded: true } }

      it('does the same', async () => {
        const redis = await startRedis()
        const [a, b] = [await start(redis, options), await start(redis, options)]
        const plain = await start(redis)
        for (const { client } of [a, b, plain]) client.subscribe('news {1} ☃')
        await Promise.all([a, b, plain].map(({ server }) => server.synced()))
        expect(withoutEchoes((await redis.command('PUBSUB', 'SHARDCHANNELS')) as string[]).sort()).toEqual([
          'fullduplex:#news {1} ☃',
          'fullduplex:*',
        ])
        expect(a.server.publish('news {1} ☃', 'one')).toEqual(EVERYWHERE)
        expect(await b.received.next()).toBe('one')
        await redis.stop()
        await Promise.all([a.errors.next(), b.errors.next()])
        await redis.start()
        await Promise.all([a.restored.next(), b.restored.next()])
        await Promise.all([a.server.synced(), b.server.synced()])
        expect(b.server.publish('news {1} ☃', 'two')).toEqual(EVERYWHERE)
        expect(await a.received.take(2)).toEqual(['one', 'two'])
        await expectNothingMore(plain)
        await Promise.all([a.server.close(), b.server.close(), plain.server.close()])
        while ((await redis.channels()).length > 0) await nextTurn()
      })
    })
  })

  it('delivers once what ioredis sends again after a reconnect', async () => {
    const redis = await startRedis()
    const wire = await startWire(redis)
    const ioredis = LIBRARIES[1]!
    const a = await startRedisNode(wire, ioredis)
    const [b, raw] = [await startRedisNode(redis, ioredis), await startPlane(redis, ioredis)]
    b.client.subscribe('news')
    await raw.backplane.subscribe(['#news'])
    await b.server.synced()
    const commands = wire.connections[0]!
    commands.deafen()
    for (let index = 0; index < 100; index++) {
      a.server.publish('news', `${index}`)
      await nextTurn()
    }
    expect(await b.received.take(100)).toEqual(Array.from({ length: 100 }, (_, index) => `${index}`))
    const before = raw.received.all.length
    commands.cut()
    expect(await a.errors.next()).toMatchObject({ code: 'ERR_BACKPLANE' })
    await a.restored.next()
    a.server.publish('news', 'on')
    expect(await b.received.next()).toBe('on')
    await expectNothingMore(b)
    // All of them have come again, to those who do not look at their numbers.
    expect(raw.received.all.length).toBeGreaterThan(before + 50)
  })

  describe.each(CLUSTER_LIBRARIES)('with $name', (library) => {
    it.each([false, true])('carries messages in order, also after a restart (sharded: %s)', async (sharded) => {
      const redis = await startRedis({ cluster: true })
      const options: NodeOptions = { redis: { sharded, pingIntervalMs: 100 } }
      const [a, b] = [await startRedisNode(redis, library, options), await startRedisNode(redis, library, options)]
      const topics = Array.from({ length: 20 }, (_, index) => `topic ${index}`)
      for (const topic of topics) b.client.subscribe(topic)
      await b.server.synced()
      const round = async (text: string): Promise<void> => {
        const sent = Array.from({ length: 50 }, (_, index) => topics.map((topic) => `${text} ${topic} ${index}`))
        for (const messages of sent) {
          for (const [index, message] of messages.entries()) a.server.publish(topics[index]!, message)
          await nextTurn()
        }
        const received = (await b.received.take(1_000)) as string[]
        for (const [index, topic] of topics.entries()) {
          const own = received.filter((message) => message.startsWith(`${text} ${topic} `))
          expect(own).toEqual(sent.map((messages) => messages[index]))
        }
      }
      await round('one')
      await redis.stop()
      for (const { server } of [a, b]) await until(() => server.publish('nobody', 'away').reach === 'process')
      await redis.start()
      await Promise.all([a.server.ready(), b.server.ready()])
      await round('two')
      await Promise.all([a.server.close(), b.server.close()])
      while ((await redis.channels()).length > 0) await nextTurn()
      expect([a.user.isReady(), b.user.isReady()]).toEqual([true, true])
    })
  })

  it('needs somebody to connect the client', async () => {
    const redis = await startRedis()
    const client = createClient({ url: redis.url })
    const backplane = redisBackplane({ client, pingIntervalMs: 20 })
    const errors: string[] = []
    let isUp = false
    backplane.start({
      receive: () => {},
      up: () => {
        isUp = true
      },
      down: ({ message }) => errors.push(message),
    })
    await until(() => errors.length > 0)
    expect(errors[0]).toBe('there is no connection to Redis')
    await client.connect()
    onTestFinished(() => client.destroy())
    await until(() => isUp)
    await backplane.close()
  })

  it('connects a client of ioredis that waits to be used', async () => {
    const redis = await startRedis()
    const { news } = await startPlane(redis, LIBRARIES[1]!, { connect: { ioredis: { lazyConnect: true } } })
    expect(news.all).toEqual(['up'])
  })
})
