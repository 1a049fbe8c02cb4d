import { describe, expect, it } from 'vitest'
import { appendedKey, historyKeys } from '../../src/cluster/redis/names.ts'
import { APPEND } from '../../src/cluster/redis/scripts.ts'
import { encodeRecord } from '../../src/envelope.ts'
import { prepare } from '../../src/index.ts'
import { type Plane, untilDown, untilUp } from '../support/planes.ts'
import { CLUSTER_LIBRARIES, LIBRARIES, type Library, type NodeOptions, startRedisPlane } from '../support/redis-node.ts'
import { describeWithRedis, type RedisServer, startRedis } from '../support/redis-server.ts'
import { startWire } from '../support/redis-wire.ts'
import { nextTurn, until } from '../support/servers.ts'
import { numbers } from './contract/engine.ts'
import { historySpec, storedHistorySpec } from './contract/history.ts'
import { contentSpec, lossSpec, orderSpec, storeSpec } from './contract/log.ts'
import { follow, type Logger, readAll, withLog } from './contract/logger.ts'
import { redisStore } from './contract/redis-engine.ts'

async function startLogger(address: { url: string }, library: Library, options?: NodeOptions): Promise<Plane & Logger> {
  return withLog(await startRedisPlane(address, library, options))
}

const { log: LOG_KEY, state: STATE_KEY } = historyKeys('fullduplex', 'news')
const LIVE_CHANNEL = '{fullduplex:news}:live'

let unheard = 0

/** Appends as another process would, of which nobody hears. */
async function appendUnheard(redis: RedisServer, text: string): Promise<void> {
  const keys = [LOG_KEY, STATE_KEY, appendedKey('fullduplex', 'news', 'stranger')]
  const numbersOf = [`${++unheard}`, '1000', '60000', '1000000', '60000']
  const rest = ['PUBLISH', 'nowhere', '', '0', '0']
  const record = encodeRecord(prepare(text))
  await redis.command('EVAL', APPEND.text, '3', ...keys, `epoch${unheard}`, ...numbersOf, ...rest, record)
}

describeWithRedis('a history in Redis', () => {
  describe.each(LIBRARIES)('with $name', (library) => {
    const start = (address: { url: string }, options?: NodeOptions) => startLogger(address, library, options)

    orderSpec(redisStore(library))
    contentSpec(redisStore(library))
    lossSpec(redisStore(library))
    storeSpec(redisStore(library))

    it('counts the bytes of messages, and not what comes around them', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news } = await follow(logger, 'news')
      for (const index of numbers(10)) await logger.append('news', `${index}`, { maxMessages: 3 })
      expect(await redis.command('XLEN', LOG_KEY)).toBe(3)
      for (const index of numbers(4)) await logger.append('news', Buffer.alloc(100, `${index}`), { maxBytes: 300 })
      expect(await logger.log.read('news', 11)).toMatchObject({ first: 12, entries: [{}, {}, {}] })
      await logger.append('news', Buffer.alloc(200), { maxBytes: 300 })
      expect(await logger.log.read('news', 13)).toMatchObject({ first: 14, entries: [{}, {}] })
      // One that is longer than everything comes, and is not kept.
      await logger.append('news', Buffer.alloc(301), { maxBytes: 300 })
      expect(await logger.log.read('news', 15)).toMatchObject({ first: 17, entries: [] })
      expect(await news.take(16)).toHaveLength(16)
      expect(await redis.command('HGET', STATE_KEY, 'bytes')).toBe('0')
    })

    it('tells who was away when a message was deleted by hand meanwhile', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [logger, away] = [await start(redis), await start(wire)]
      const { news } = await follow(away, 'news')
      for (const index of numbers(3)) await logger.append('news', `${index}`)
      await news.take(3)
      wire.close()
      await untilDown(away)
      for (const index of numbers(3, 4)) await logger.append('news', `${index}`)
      for (const number of [2, 5]) {
        const [[id]] = (await redis.command('XRANGE', LOG_KEY, `${number}`, `${number}`)) as [[string]]
        await redis.command('XDEL', LOG_KEY, id)
      }
      expect(await logger.log.read('news', 0)).toMatchObject({ entries: [{ sequence: 1 }] })
      expect(await logger.log.read('news', 1)).toMatchObject({ first: 3, entries: [] })
      expect(await logger.log.read('news', 2)).toMatchObject({ entries: [{ sequence: 3 }, { sequence: 4 }] })
      wire.open()
      expect(await news.take(3)).toEqual(['4 4', 'reset 5', '6 6'])
    })

    it('is the same one without its entries, and another one without everything', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news } = await follow(logger, 'news')
      await logger.append('news', 'one')
      await redis.command('DEL', STATE_KEY)
      expect(await logger.append('news', 'two')).toMatchObject({ sequence: 1 })
      expect(await news.take(3)).toEqual(['1 one', 'reset 0', '1 two'])
      // Nothing is left of it.
      await redis.command('DEL', LOG_KEY)
      expect(await logger.log.read('news', 1)).toMatchObject({ first: 2, entries: [] })
      await logger.append('news', 'three')
      expect(await news.next()).toBe('2 three')
      await redis.command('FLUSHALL')
      await redis.command('SCRIPT', 'FLUSH')
      await logger.append('news', 'four')
      expect(await news.take(2)).toEqual(['reset 0', '1 four'])
    })

    it('stores once what is sent again because an answer was lost', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [a, b] = [await start(wire), await start(redis)]
      const { news } = await follow(b, 'news')
      await a.append('news', 'one')
      wire.connections[0]!.deafen()
      const appended = ['two', 'three', 'four'].map((text) => a.append('news', text))
      // It is there, and the answer is not.
      expect(await news.take(2)).toEqual(['1 one', '2 two'])
      wire.connections[0]!.cut()
      // Sent again, the first ones have the place that they had; what had to wait for them was not sent at all.
      const [two, ...others] = await Promise.allSettled(appended)
      expect(two).toMatchObject({ status: 'fulfilled', value: { sequence: 2 } })
      await untilUp(a)
      for (const { status } of others) expect(['fulfilled', 'rejected']).toContain(status)
      const { sequence } = await a.append('news', 'on')
      const all = await readAll(b, 'news')
      expect(all.filter((text) => text.endsWith('two'))).toEqual(['2 two'])
      expect(all.at(-1)).toBe(`${sequence} on`)
      expect(new Set(all).size).toBe(all.length)
    })

    it('does not store again what comes once more, or too late', async () => {
      const redis = await startRedis()
      const keys = [LOG_KEY, STATE_KEY, appendedKey('fullduplex', 'news', 'somebody')]
      const append = (number: number, ...texts: string[]): Promise<unknown> => {
        const rest = [
          `epoch${number}`,
          `${number}`,
          '100',
          '60000',
          '1000',
          '60000',
          'PUBLISH',
          LIVE_CHANNEL,
          '',
          '0',
          '0',
        ]
        return redis.command(
          'EVAL',
          APPEND.text,
          '3',
          ...keys,
          ...rest,
          ...texts.map((text) => encodeRecord(prepare(text))),
        )
      }
      expect(await append(1, 'a', 'b')).toEqual(['epoch1', '1'])
      expect(await append(1, 'a', 'b')).toEqual(['epoch1', '1'])
      expect(await append(7, 'c')).toEqual(['epoch1', '3'])
      expect(await append(7, 'c')).toEqual(['epoch1', '3'])
      await expect(append(1, 'a', 'b')).rejects.toThrow('STALE')
      expect(await readAll(await start(redis), 'news')).toEqual(['1 a', '2 b', '3 c'])
    })

    it('stores once, in order, what was on its way when Redis went away for a moment', async () => {
      const redis = await startRedis({ appendonly: true, settings: { appendfsync: 'always' } })
      const [a, b] = [await start(redis), await start(redis)]
      const follower = await follow(b, 'news')
      await a.append('news', 'first')
      redis.pause()
      const one = a.append('news', 'one')
      await nextTurn()
      const two = a.append('news', 'two')
      const settled = Promise.allSettled([one, two])
      await nextTurn()
      await redis.stop('SIGKILL')
      await redis.start()
      const [first, second] = await settled
      // The first one may have been stored, and so it was found out; the second one was not sent yet.
      expect(first).toMatchObject({ status: 'fulfilled', value: { sequence: 2 } })
      expect(second!.status).toBe('rejected')
      await untilUp(a, b)
      await a.append('news', 'three')
      expect(await follower.news.take(3)).toEqual(['1 first', '2 one', '3 three'])
      expect(await readAll(a, 'news')).toEqual(['1 first', '2 one', '3 three'])
    })

    it('says after a while that it cannot be told', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      await logger.append('news', 'one')
      redis.pause()
      const lost = logger.append('news', 'two')
      await expect(lost).rejects.toThrow('cannot be told whether it was stored')
      redis.resume()
      await untilUp(logger)
      // It was.
      expect(await logger.append('news', 'three')).toMatchObject({ sequence: 3 })
      expect(await readAll(logger, 'news')).toEqual(['1 one', '2 two', '3 three'])
    })

    it('forgets what is old, and in the end that there was something', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { epoch } = await logger.append('news', 'one', { maxAgeMs: 300 })
      await logger.append('news', 'two', { maxAgeMs: 60_000 })
      const ttl = async (key: string): Promise<number> => Number(await redis.command('PTTL', key))
      expect(await ttl(LOG_KEY)).toBeGreaterThan(59_000)
      expect(await ttl(LOG_KEY)).toBeLessThanOrEqual(60_000)
      expect(await ttl(STATE_KEY)).toBeGreaterThan(60_000)
      await logger.append('news', 'three', { maxAgeMs: 300 })
      // By itself, without anybody who appends.
      while (Number(await redis.command('EXISTS', LOG_KEY)) > 0) await nextTurn()
      expect(await logger.log.read('news', 3)).toEqual({ epoch, first: 4, entries: [] })
      expect(await logger.log.read('news', 0)).toEqual({ epoch, first: 4, entries: [] })
      expect(await logger.append('news', 'four', { maxAgeMs: 50 })).toEqual({ epoch, sequence: 4 })
      await logger.append('news', 'five', { maxAgeMs: 60_000 })
      // One that is too old goes when somebody reads, too.
      await logger.append('news', 'six', { maxAgeMs: 200 })
      while ((await logger.log.read('news', 6)).first < 7) await nextTurn()
      for (const key of (await redis.command('KEYS', '*')) as string[]) {
        // -1 would be one that stays.
        expect(await ttl(key)).not.toBe(-1)
        expect(await ttl(key)).toBeLessThanOrEqual(3_600_000 + 60_000)
      }
    })

    it('is kept with sharded Pub/Sub, too', async () => {
      const redis = await startRedis()
      const logger = await start(redis, { redis: { sharded: true } })
      const { news } = await follow(logger, 'news')
      await logger.append('news', 'hello')
      expect(await news.next()).toBe('1 hello')
      expect(await redis.command('PUBSUB', 'SHARDCHANNELS')).toContain(LIVE_CHANNEL)
    })

    it('tells when Redis has no memory left', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news } = await follow(logger, 'news')
      await logger.append('news', 'one')
      await redis.command('CONFIG', 'SET', 'maxmemory', '1')
      await expect(logger.append('news', 'no')).rejects.toThrow('OOM')
      await redis.command('CONFIG', 'SET', 'maxmemory', '0')
      expect(await logger.append('news', 'two')).toMatchObject({ sequence: 2 })
      expect(await news.take(2)).toEqual(['1 one', '2 two'])
    })

    it('takes what other programs write for what it is', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news, epochs } = await follow(logger, 'news')
      const { epoch } = await logger.append('news', 'one')
      for (const message of ['', 'hello', '\n', 'x 1 1\nhello', `${epoch} x 1\nhello`, `${epoch} 9 9\nhello`]) {
        await redis.command('PUBLISH', LIVE_CHANNEL, message)
      }
      await redis.command('XADD', LOG_KEY, '2-1', 'hello', 'world')
      await logger.append('news', 'two')
      // One that looks like ours, but is none.
      await redis.command('XADD', LOG_KEY, '3-1', 'm', 'hello')
      await redis.command('HSET', STATE_KEY, 'last', '3')
      await logger.append('news', 'four')
      expect(await news.take(4)).toEqual(['1 one', '2 two', '3 no message', '4 four'])
      expect(await readAll(logger, 'news')).toEqual(['1 one', '2 two', '3 no message', '4 four'])
      // Behind this one nothing can be appended.
      await redis.command('XADD', LOG_KEY, '*', 'hello', 'world')
      expect(await readAll(logger, 'news')).toHaveLength(4)
      expect(epochs).toEqual([epoch])
      const anew = await logger.append('news', 'anew')
      expect(anew.sequence).toBe(1)
      expect(await news.take(2)).toEqual(['reset 0', '1 anew'])
      expect(epochs).toEqual([epoch, anew.epoch])
      // Something else has its name.
      await redis.command('DEL', STATE_KEY)
      await redis.command('SET', STATE_KEY, 'hello')
      await expect(logger.append('news', 'no')).rejects.toThrow('WRONGTYPE')
      await expect(logger.log.read('news', 0)).rejects.toThrow('WRONGTYPE')
      await redis.command('DEL', STATE_KEY, LOG_KEY)
      await redis.command('SET', LOG_KEY, 'hello')
      expect(await logger.append('news', 'yes')).toMatchObject({ sequence: 1 })
    })

    it('reads what it was not told of', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news } = await follow(logger, 'news')
      await logger.append('news', 'one')
      await appendUnheard(redis, 'two')
      await appendUnheard(redis, 'three')
      await logger.append('news', 'four')
      expect(await news.take(4)).toEqual(['1 one', '2 two', '3 three', '4 four'])
      // Also when nobody says anything behind it, and nothing is being read any more.
      await logger.log.read('news', 4)
      await logger.log.read('news', 4)
      await appendUnheard(redis, 'five')
      expect(await news.next()).toBe('5 five')
    })

    it('is another one when Redis has lost the end of it', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [a, b] = [await start(redis), await start(wire)]
      const [own, other] = [await follow(a, 'news'), await follow(b, 'news')]
      for (const index of numbers(3)) await a.append('news', `${index}`)
      await redis.command('SAVE')
      for (const index of numbers(2, 4)) await a.append('news', `${index}`)
      await own.news.take(5)
      await other.news.take(5)
      wire.close()
      await redis.stop('SIGKILL')
      await untilDown(a)
      await redis.start()
      await untilUp(a)
      // Somebody who has heard nothing of the last two goes first, and fills their places.
      const stranger = await start(redis)
      for (const index of numbers(3, 6)) await stranger.append('news', `${index}`)
      wire.open()
      const { epoch, sequence } = await a.append('news', 'on')
      await until(() => own.news.all.at(-1) === `${sequence} on` && other.news.all.at(-1) === `${sequence} on`)
      for (const { news, epochs } of [own, other]) {
        expect(epochs.at(-1)).toBe(epoch)
        expect(epochs.at(0)).not.toBe(epoch)
        // All that is new, and nothing of what was known.
        const texts = news.all.slice(5)
        expect(texts.filter((text) => !text.startsWith('reset'))).toEqual(['4 6', '5 7', '6 8', '7 on'])
        expect(texts[0]).toBe('reset 3')
      }
    })

    it('is another one when somebody appends who knows of what is lost', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news, epochs } = await follow(logger, 'news')
      await logger.append('news', 'one')
      await redis.command('SAVE')
      const { epoch } = await logger.append('news', 'two')
      await news.take(2)
      // As after a restart with the snapshot, of which nobody has noticed anything.
      const [[id]] = (await redis.command('XREVRANGE', LOG_KEY, '+', '-', 'COUNT', '1')) as [[string]]
      const [[, before]] = [(await redis.command('XRANGE', LOG_KEY, '-', '+', 'COUNT', '1')) as [[string]]].map(
        ([[first]]) => first.split('-'),
      ) as [[string, string]]
      await redis.command('XDEL', LOG_KEY, id)
      await redis.command('XSETID', LOG_KEY, `1-${before}`)
      await redis.command('HSET', STATE_KEY, 'last', '1', 'time', before)
      const appended = await logger.append('news', 'three')
      expect(appended.sequence).toBe(2)
      expect(appended.epoch).not.toBe(epoch)
      expect(await news.take(2)).toEqual(['reset 1', '2 three'])
      expect(epochs).toEqual([epoch, appended.epoch])
    })

    it('is reset when it was cut before it could be read', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [a, b] = [await start(redis), await start(wire)]
      const { news, epochs } = await follow(b, 'news')
      const { epoch } = await a.append('news', '1')
      await news.next()
      wire.close()
      await untilDown(b)
      for (const index of numbers(9, 2)) await a.append('news', `${index}`, { maxMessages: 4 })
      wire.open()
      expect(await news.take(5)).toEqual(['reset 6', '7 7', '8 8', '9 9', '10 10'])
      expect(epochs).toEqual([epoch, epoch])
    })
  })

  describe.each(CLUSTER_LIBRARIES)('with $name', (library) => {
    it.each([false, true])('is the same in a cluster (sharded: %s)', async (sharded) => {
      const redis = await startRedis({ cluster: true, appendonly: true })
      const options: NodeOptions = { redis: { sharded, pingIntervalMs: 100 } }
      const [a, b] = [await startLogger(redis, library, options), await startLogger(redis, library, options)]
      const topics = ['news', '}', '{a}b', 'é']
      const followers = await Promise.all(topics.map((topic) => follow(b, topic)))
      for (const topic of topics) {
        await Promise.all(numbers(50).map((index) => a.append(topic, `${index}`)))
      }
      for (const { news } of followers) {
        expect(await news.take(50)).toEqual(numbers(50).map((index) => `${index} ${index}`))
      }
      await redis.stop()
      await untilDown(a, b)
      await redis.start()
      await untilUp(a, b)
      for (const topic of topics) expect(await a.append(topic, 'again')).toMatchObject({ sequence: 51 })
      for (const { news } of followers) expect(await news.next()).toBe('51 again')
      expect(await readAll(b, 'news', 49)).toEqual(['50 50', '51 again'])
    })
  })
})

describeWithRedis('clients of servers with a history in Redis', () => {
  describe.each(LIBRARIES)('with $name', (library) => {
    historySpec(redisStore(library))
    storedHistorySpec(redisStore(library))
  })
})
