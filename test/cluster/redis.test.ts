import { Redis } from 'ioredis'
import { createClient, createClientPool, createCluster } from 'redis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { isPrefix } from '../../src/cluster/redis/names.ts'
import { type RedisBackplaneOptions, type RedisClient, redisBackplane } from '../../src/cluster/redis.ts'
import {
  CLUSTER_LIBRARIES,
  LIBRARIES,
  type NodeOptions,
  startRedisNode,
  startRedisPlane,
} from '../support/redis-node.ts'
import { describeWithRedis, startRedis } from '../support/redis-server.ts'
import { startWire } from '../support/redis-wire.ts'
import { nextTurn, until } from '../support/servers.ts'
import { brokerSpec, bytesSpec, EVERYWHERE, expectNothingMore, HERE, sharingSpec } from './contract/driver.ts'
import { redisBroker, withoutEchoes } from './contract/redis-engine.ts'

/** For tests in which a server goes silent. */
const IMPATIENT = { pingIntervalMs: 50, pingTimeoutMs: 1_000 }

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

    for (const protocol of [2, 3] as const) {
      const engine = redisBroker(library, { protocol })
      bytesSpec(engine, { text: '\r\n$1', title: `, in version ${protocol} of the protocol` })
    }
    sharingSpec(redisBroker(library))
    brokerSpec(redisBroker(library))

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

    it('takes messages of 16 MiB', async () => {
      const redis = await startRedis()
      const [a, b] = [await startRedisPlane(redis, library), await startRedisPlane(redis, library)]
      expect(a.backplane.maxMessageBytes).toBe(16_777_216)
      await b.backplane.subscribe(['#big'])
      const message = Buffer.alloc(16_777_216, 'big')
      await a.backplane.publish('#big', message)
      const [, arrived] = await b.received.next()
      expect(arrived.equals(message)).toBe(true)
    })

    it('does not wait for an answer that was never given', async () => {
      const redis = await startRedis()
      const connect = { ioredis: { autoResendUnfulfilledCommands: false } }
      const { backplane, news, received } = await startRedisPlane(redis, library, { connect, redis: IMPATIENT })
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

    it('makes its connection for subscriptions anew when it has gone deaf', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [a, b] = [await startRedisPlane(redis, library), await startRedisPlane(wire, library, { redis: IMPATIENT })]
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

    it('tells of what Redis does not allow', async () => {
      const redis = await startRedis()
      await redis.command('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '+@all', 'resetchannels')
      const connect = { username: 'app', password: 'secret' }
      const plane = await startRedisPlane(redis, library, { connect, awaitUp: false })
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

    describe('and a client for subscriptions', () => {
      it('renews what it was subscribed to, and leaves it as it was', async () => {
        const redis = await startRedis()
        const a = await startRedisPlane(redis, library)
        const subscriber = library.make(redis, { ioredis: { autoResubscribe: false } })
        const { backplane, news, received } = await startRedisPlane(redis, library, {
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
        const { news } = await startRedisPlane(redis, library, {
          redis: { ...IMPATIENT, subscriber: subscriber.client },
        })
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
    const [b, raw] = [await startRedisNode(redis, ioredis), await startRedisPlane(redis, ioredis)]
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
    const { news } = await startRedisPlane(redis, LIBRARIES[1]!, { connect: { ioredis: { lazyConnect: true } } })
    expect(news.all).toEqual(['up'])
  })
})
