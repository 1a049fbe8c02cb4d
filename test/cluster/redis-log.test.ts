import { describe, expect, it } from 'vitest'
import { appendedKey, historyKeys } from '../../src/cluster/redis/names.ts'
import { APPEND } from '../../src/cluster/redis/scripts.ts'
import { encodeRecord } from '../../src/envelope.ts'
import { resolveHistory } from '../../src/history.ts'
import {
  type HistoryLimits,
  type LogEntry,
  type LogSubscription,
  type Position,
  prepare,
  reconnecting,
  type TopicLog,
} from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import {
  CLUSTER_LIBRARIES,
  LIBRARIES,
  type Library,
  type NodeOptions,
  type Plane,
  type RedisNode,
  startPlane,
  startRedisNode,
} from '../support/redis-node.ts'
import { describeWithRedis, type RedisServer, startRedis } from '../support/redis-server.ts'
import { startWire } from '../support/redis-wire.ts'
import { nextTurn, until } from '../support/servers.ts'

function limitsOf(limits: HistoryLimits = {}) {
  return resolveHistory(() => limits)!('')!
}

/** A backplane with its log. */
interface Logger extends Plane {
  readonly log: TopicLog
  append(topic: string, text: string | Uint8Array, limits?: HistoryLimits): Promise<Position>
}

async function startLogger(address: { url: string }, library: Library, options?: NodeOptions): Promise<Logger> {
  const plane = await startPlane(address, library, options)
  const log = plane.backplane.log!
  return {
    ...plane,
    log,
    append: async (topic, text, limits) => log.append(topic, prepare(text), limitsOf(limits)),
  }
}

/** Who follows a topic: what it is told, in order. */
interface Follower {
  readonly news: Queue<string>
  /** The epochs that it was told of. */
  readonly epochs: string[]
  readonly subscription: LogSubscription
}

function textOf({ sequence, message }: LogEntry): string {
  return `${sequence} ${message === undefined ? 'no message' : message.toData().toString().slice(0, 20)}`
}

async function follow({ log }: Logger, topic: string): Promise<Follower> {
  const news = new Queue<string>()
  const epochs: string[] = []
  const subscription = await log.follow(topic, {
    entry: (entry) => news.push(textOf(entry)),
    reset: ({ epoch, sequence }) => {
      epochs.push(epoch)
      news.push(`reset ${sequence}`)
    },
  })
  epochs.push(subscription.position.epoch)
  return { news, epochs, subscription }
}

async function readAll({ log }: Logger, topic: string, after = 0): Promise<string[]> {
  const texts: string[] = []
  for (;;) {
    const { entries } = await log.read(topic, after + texts.length)
    if (entries.length === 0) return texts
    texts.push(...entries.map(textOf))
  }
}

function numbers(count: number, from = 1): number[] {
  return Array.from({ length: count }, (_, index) => from + index)
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

    it('has numbers without a gap, and one order for all, while many publish', async () => {
      const redis = await startRedis()
      const loggers = [await start(redis), await start(redis), await start(redis)]
      const followers = await Promise.all(loggers.map((logger) => follow(logger, 'news')))
      const count = 300
      const stored = await Promise.all(
        loggers.map((logger, name) =>
          Promise.all(
            numbers(count).map(async (index) => {
              if (index % 10 === name) await nextTurn()
              return logger.append('news', `${name}/${index}`)
            }),
          ),
        ),
      )
      const positions = stored.flat()
      expect(new Set(positions.map(({ epoch }) => epoch)).size).toBe(1)
      expect(positions.map(({ sequence }) => sequence).sort((one, other) => one - other)).toEqual(numbers(count * 3))
      const entries = await followers[0]!.news.take(count * 3)
      expect(entries.map((text) => Number.parseInt(text, 10))).toEqual(numbers(count * 3))
      for (const follower of followers.slice(1)) expect(await follower.news.take(count * 3)).toEqual(entries)
      expect(await readAll(loggers[0]!, 'news')).toEqual(entries)
      for (const [name, own] of stored.entries()) {
        for (const [index, { sequence }] of own.entries()) {
          expect(entries[sequence - 1]).toBe(`${sequence} ${name}/${index + 1}`)
        }
      }
    })

    it('keeps the order of each who publishes', async () => {
      const redis = await startRedis()
      const loggers = [await start(redis), await start(redis)]
      const { news } = await follow(loggers[0]!, 'news')
      for (const index of numbers(200)) {
        for (const [name, logger] of loggers.entries()) void logger.append('news', `${name} ${index}`)
        if (index % 7 === 0) await nextTurn()
      }
      const texts = (await news.take(400)).map((text) => text.replace(/^\d+ /, ''))
      for (const name of ['0', '1']) {
        const own = texts.filter((text) => text.startsWith(name))
        expect(own).toEqual(numbers(200).map((index) => `${name} ${index}`))
      }
    })

    it('keeps topics of any name apart, and any bytes', async () => {
      const redis = await startRedis()
      const logger = await start(redis, { redis: { prefix: 'my:App' } })
      const topics = [
        'a',
        'A',
        'a}b',
        'a b',
        '{}',
        '}',
        '}:log',
        'a}:state',
        '*',
        'é',
        '😀'.repeat(64),
        'x'.repeat(256),
      ]
      const followers = await Promise.all(topics.map((topic) => follow(logger, topic)))
      const bytes = Buffer.from(numbers(256, 0))
      const read = await Promise.all(
        topics.map(async (topic, index) => {
          const message = Buffer.concat([bytes, Buffer.of(index)])
          expect(await logger.append(topic, message)).toMatchObject({ sequence: 1 })
          expect(await followers[index]!.news.next()).toMatch(/^1 /)
          const { entries } = await logger.log.read(topic, 0)
          expect(entries.map((entry) => entry.message?.toData())).toEqual([message])
          return (await logger.append(topic, 'é')).sequence
        }),
      )
      expect(read).toEqual(topics.map(() => 2))
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
      await until(() => a.news.all.at(-1) === 'up')
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
      await until(() => a.news.all.at(-1) === 'up' && b.news.all.at(-1) === 'up')
      await a.append('news', 'three')
      expect(await follower.news.take(3)).toEqual(['1 first', '2 one', '3 three'])
      expect(await readAll(a, 'news')).toEqual(['1 first', '2 one', '3 three'])
    })

    it('says soon that Redis is away', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      await redis.stop()
      await until(() => logger.news.all.at(-1) !== 'up')
      await expect(logger.append('news', 'no')).rejects.toThrow()
      await expect(logger.log.read('news', 0)).rejects.toThrow()
      await expect(follow(logger, 'news')).rejects.toThrow()
      await redis.start()
      await until(() => logger.news.all.at(-1) === 'up')
      expect(await logger.append('news', 'yes')).toMatchObject({ sequence: 1 })
    })

    it('says after a while that it cannot be told', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      await logger.append('news', 'one')
      redis.pause()
      const lost = logger.append('news', 'two')
      await expect(lost).rejects.toThrow('cannot be told whether it was stored')
      redis.resume()
      await until(() => logger.news.all.at(-1) === 'up')
      // It was.
      expect(await logger.append('news', 'three')).toMatchObject({ sequence: 3 })
      expect(await readAll(logger, 'news')).toEqual(['1 one', '2 two', '3 three'])
    })

    it('goes back as far as its limits say', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news } = await follow(logger, 'news')
      for (const index of numbers(10)) await logger.append('news', `${index}`, { maxMessages: 3 })
      expect(await logger.log.read('news', 6)).toMatchObject({ first: 8, entries: [] })
      expect(await readAll(logger, 'news', 7)).toEqual(['8 8', '9 9', '10 10'])
      expect(await redis.command('XLEN', LOG_KEY)).toBe(3)
      // Bytes of messages, not of what comes around them.
      for (const index of numbers(4)) await logger.append('news', Buffer.alloc(100, `${index}`), { maxBytes: 300 })
      expect(await logger.log.read('news', 11)).toMatchObject({ first: 12, entries: [{}, {}, {}] })
      await logger.append('news', Buffer.alloc(200), { maxBytes: 300 })
      expect(await logger.log.read('news', 13)).toMatchObject({ first: 14, entries: [{}, {}] })
      // One that is longer than everything comes, and is not kept.
      await logger.append('news', Buffer.alloc(301), { maxBytes: 300 })
      expect(await logger.log.read('news', 15)).toMatchObject({ first: 17, entries: [] })
      expect(await news.take(16)).toHaveLength(16)
      expect(await redis.command('HGET', STATE_KEY, 'bytes')).toBe('0')
      // Many at once, of which most go at once.
      await Promise.all(numbers(300).map((index) => logger.append('news', `${index}`, { maxMessages: 70 })))
      expect(await logger.log.read('news', 246)).toMatchObject({
        first: 247,
        entries: numbers(70, 247).map((sequence) => ({ sequence })),
      })
      expect(await news.take(300)).toHaveLength(300)
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

    it('is read in pages', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      await Promise.all(numbers(700).map((index) => logger.append('news', `${index}`)))
      const page = await logger.log.read('news', 0)
      expect(page.entries.length).toBeGreaterThan(200)
      expect(page.entries.length).toBeLessThan(300)
      expect(await readAll(logger, 'news')).toEqual(numbers(700).map((index) => `${index} ${index}`))
      expect(await readAll(logger, 'news', 699)).toEqual(['700 700'])
      expect(await readAll(logger, 'news', 700)).toEqual([])
      // The same page for all who ask at the same time.
      const [one, other] = await Promise.all([logger.log.read('news', 3), logger.log.read('news', 3)])
      expect(one).toBe(other)
      for (const index of numbers(30)) await logger.append('big', Buffer.alloc(200_000, index))
      expect((await logger.log.read('big', 0)).entries.length).toBeLessThan(30)
      expect(await readAll(logger, 'big')).toHaveLength(30)
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

    it('refuses what is too long', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      await expect(logger.append('news', Buffer.alloc(16_777_217))).rejects.toThrow('16777216')
      await logger.append('news', Buffer.alloc(16_777_216), { maxBytes: 100_000_000 })
      expect((await logger.log.read('news', 0)).entries).toHaveLength(1)
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

    it('says that it begins later when a message was deleted by hand', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [logger, away] = [await start(redis), await start(wire)]
      const { news } = await follow(away, 'news')
      for (const index of numbers(3)) await logger.append('news', `${index}`)
      await news.take(3)
      wire.close()
      await until(() => away.news.all.at(-1) !== 'up')
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

    it('is followed over a connection that comes and goes while many publish', async () => {
      const redis = await startRedis()
      const wire = await startWire(redis)
      const [a, b] = [await start(redis), await start(wire)]
      const { news } = await follow(b, 'news')
      const appended: Promise<Position>[] = []
      for (let round = 0; round < 5; round++) {
        for (const index of numbers(200)) {
          appended.push(a.append('news', `${round} ${index}`))
          if (index % 20 === 0) await nextTurn()
          if (index === 100) for (const connection of wire.connections) connection.cut()
        }
        await until(() => b.news.all.at(-1) === 'up')
      }
      const sequences = (await Promise.all(appended)).map(({ sequence }) => sequence)
      expect(sequences).toEqual(numbers(1_000))
      const expected = numbers(1_000).map((number, at) => `${number} ${Math.floor(at / 200)} ${(at % 200) + 1}`)
      expect(await news.take(1_000)).toEqual(expected)
    })

    it.each(['SIGTERM', 'SIGKILL'] as const)('is followed over a restart of Redis (%s)', async (signal) => {
      const redis = await startRedis({ appendonly: true })
      const [a, b] = [await start(redis), await start(redis)]
      const { news, epochs } = await follow(b, 'news')
      const before = await a.append('news', 'before')
      await redis.stop(signal)
      await until(() => a.news.all.at(-1) !== 'up')
      await redis.start()
      await until(() => a.news.all.at(-1) === 'up')
      expect(await a.append('news', 'after')).toEqual({ epoch: before.epoch, sequence: 2 })
      expect(await news.take(2)).toEqual(['1 before', '2 after'])
      expect(epochs).toEqual([before.epoch])
    })

    it('is another one when Redis has kept nothing', async () => {
      const redis = await startRedis()
      const [a, b] = [await start(redis), await start(redis)]
      const { news, epochs } = await follow(b, 'news')
      for (const index of numbers(3)) await a.append('news', `${index}`)
      await news.take(3)
      await redis.stop()
      await until(() => a.news.all.at(-1) !== 'up' && b.news.all.at(-1) !== 'up')
      await redis.start()
      await until(() => a.news.all.at(-1) === 'up' && b.news.all.at(-1) === 'up')
      const { epoch, sequence } = await a.append('news', 'again')
      expect(sequence).toBe(1)
      expect(epochs[0]).not.toBe(epoch)
      expect(await news.take(2)).toEqual(['reset 0', '1 again'])
      expect(epochs.at(-1)).toBe(epoch)
      // Nobody is told twice.
      await a.append('news', 'on')
      expect(await news.next()).toBe('2 on')
    })

    it('is another one when it was deleted', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const { news } = await follow(logger, 'news')
      await logger.append('news', 'one')
      await redis.command('DEL', STATE_KEY)
      expect(await logger.append('news', 'two')).toMatchObject({ sequence: 1 })
      expect(await news.take(3)).toEqual(['1 one', 'reset 0', '1 two'])
      // Without its entries it is the same one, of which nothing is left.
      await redis.command('DEL', LOG_KEY)
      expect(await logger.log.read('news', 1)).toMatchObject({ first: 2, entries: [] })
      await logger.append('news', 'three')
      expect(await news.next()).toBe('2 three')
      await redis.command('FLUSHALL')
      await redis.command('SCRIPT', 'FLUSH')
      await logger.append('news', 'four')
      expect(await news.take(2)).toEqual(['reset 0', '1 four'])
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
      await until(() => a.news.all.at(-1) !== 'up')
      await redis.start()
      await until(() => a.news.all.at(-1) === 'up')
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
      await until(() => b.news.all.at(-1) !== 'up')
      for (const index of numbers(9, 2)) await a.append('news', `${index}`, { maxMessages: 4 })
      wire.open()
      expect(await news.take(5)).toEqual(['reset 6', '7 7', '8 8', '9 9', '10 10'])
      expect(epochs).toEqual([epoch, epoch])
    })

    it('has followers of many topics, also after a restart', async () => {
      const redis = await startRedis({ appendonly: true })
      const [a, b] = [await start(redis), await start(redis)]
      const topics = numbers(2_000).map((index) => `topic ${index}`)
      const followers = await Promise.all(topics.map((topic) => follow(b, topic)))
      await Promise.all(topics.map((topic) => a.append(topic, 'one')))
      await redis.stop()
      await until(() => a.news.all.at(-1) !== 'up' && b.news.all.at(-1) !== 'up')
      await redis.start()
      await until(() => a.news.all.at(-1) === 'up')
      await Promise.all(topics.map((topic) => a.append(topic, 'two')))
      for (const { news } of followers) expect(await news.take(2)).toEqual(['1 one', '2 two'])
    })

    it('leaves no subscriptions', async () => {
      const redis = await startRedis()
      const logger = await start(redis)
      const [one, other] = [await follow(logger, 'news'), await follow(logger, 'news')]
      expect(await redis.channels()).toContain(LIVE_CHANNEL)
      one.subscription.stop()
      one.subscription.stop()
      await logger.append('news', 'hello')
      expect(await other.news.next()).toBe('1 hello')
      expect(one.news.all).toEqual([])
      other.subscription.stop()
      while ((await redis.channels()).includes(LIVE_CHANNEL)) await nextTurn()
      const again = await follow(logger, 'news')
      await logger.append('news', 'again')
      expect(await again.news.next()).toBe('2 again')
      await logger.backplane.close()
      await expect(logger.append('news', 'late')).rejects.toThrow('the backplane is closed')
      while ((await redis.channels()).length > 0) await nextTurn()
    })

    it('stores at the end what is on its way', async () => {
      const redis = await startRedis()
      const [logger, other] = [await start(redis), await start(redis)]
      const appended = numbers(500).map((index) => logger.append('news', `${index}`))
      await logger.backplane.close()
      expect((await Promise.all(appended)).map(({ sequence }) => sequence)).toEqual(numbers(500))
      expect(await readAll(other, 'news')).toHaveLength(500)
    })

    it('is followed from the start of a connection on', async () => {
      const redis = await startRedis()
      const { client } = library.make(redis)
      const { redisBackplane } = await import('../../src/cluster/redis.ts')
      const backplane = redisBackplane({ client })
      backplane.start({ receive: () => {}, up: () => {}, down: () => {} })
      const logger = { log: backplane.log! } as Logger
      const [{ news }] = await Promise.all([
        follow(logger, 'news'),
        logger.log.append('other', prepare('early'), limitsOf()),
      ])
      await logger.log.append('news', prepare('hello'), limitsOf())
      expect(await news.next()).toBe('1 hello')
      await backplane.close()
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
      await until(() => a.news.all.at(-1) !== 'up' && b.news.all.at(-1) !== 'up')
      await redis.start()
      await until(() => a.news.all.at(-1) === 'up' && b.news.all.at(-1) === 'up')
      for (const topic of topics) expect(await a.append(topic, 'again')).toMatchObject({ sequence: 51 })
      for (const { news } of followers) expect(await news.next()).toBe('51 again')
      expect(await readAll(b, 'news', 49)).toEqual(['50 50', '51 again'])
    })
  })
})

describeWithRedis('clients of servers with a history in Redis', () => {
  describe.each(LIBRARIES)('with $name', (library) => {
    const OPTIONS: NodeOptions = { server: { history: { news: { maxMessages: 100 }, all: { maxMessages: 100_000 } } } }

    async function startNodes(redis: RedisServer): Promise<[RedisNode, RedisNode]> {
      return [await startRedisNode(redis, library, OPTIONS), await startRedisNode(redis, library, OPTIONS)]
    }

    it('get everything that was published, wherever it was, in one order', async () => {
      const redis = await startRedis()
      const nodes = await startNodes(redis)
      for (const { client, server } of nodes) {
        client.subscribe('news')
        await server.synced()
      }
      const results = numbers(50).flatMap((index) =>
        nodes.map(({ server }, name) => server.publish('news', `${name} ${index}`)),
      )
      const positions = await Promise.all(results.map(({ stored }) => stored!))
      expect(new Set(positions).size).toBe(100)
      const [one, other] = await Promise.all(nodes.map(({ received }) => received.take(100)))
      expect(one).toEqual(other)
      for (const [index, position] of positions.entries()) {
        expect(one![Number(position.split('.')[1]) - 1]).toBe(`${index % 2} ${Math.floor(index / 2) + 1}`)
      }
    })

    it('get what they have missed, from any server', async () => {
      const redis = await startRedis()
      const [a, b] = await startNodes(redis)
      a.client.subscribe('news')
      await a.server.synced()
      const positions: string[] = []
      for (const index of numbers(30)) positions.push(await a.server.publish('news', `${index}`).stored!)
      expect(b.client.subscribe('news', { after: positions[9]! })).toBe(true)
      expect(await b.received.take(20)).toEqual(numbers(20, 11).map(String))
      a.server.publish('news', 'live')
      expect(await b.received.next()).toBe('live')
      // The history ends behind them.
      for (const index of numbers(150)) a.server.publish('news', `more ${index}`)
      await b.received.take(150)
      await new Promise<void>((resolve) => {
        b.client.unsubscribe('news')
        b.client.subscribe('news', { after: positions[9]!, gap: resolve })
      })
      a.server.publish('news', 'on')
      expect(await b.received.next()).toBe('on')
      expect([...a.errors.all, ...b.errors.all]).toEqual([])
    })

    it('come back by themselves, to another server, and miss nothing', async () => {
      const redis = await startRedis()
      const [a, b] = await startNodes(redis)
      const received: string[] = []
      const gaps: string[] = []
      for (const { server } of [a, b]) server.listenTo('news', () => {})
      const client = reconnecting([a.url, b.url], {
        minDelayMs: 1,
        maxDelayMs: 20,
        resume: true,
        message: (_, data) => void received.push(String(data)),
        gap: (topic) => void gaps.push(topic),
      })
      const everybody = (): Iterable<{ terminate(): void; subscribe(topic: string): boolean }> => [
        ...a.server.clients.values(),
        ...b.server.clients.values(),
      ]
      const subscribeAll = async (): Promise<void> => {
        await until(() => [...everybody()].length === 3)
        for (const each of everybody()) each.subscribe('news')
        await Promise.all([a.server.synced(), b.server.synced()])
      }
      for (let round = 0; round < 5; round++) {
        await subscribeAll()
        for (const index of numbers(20)) await a.server.publish('news', `${round} ${index}`).stored
        for (const each of everybody()) if (each !== a.client && each !== b.client) each.terminate()
        await b.server.publish('news', `${round} while nobody was there`).stored
      }
      await subscribeAll()
      await until(() => received.at(-1) === '4 while nobody was there')
      client.close()
      const expected = numbers(5, 0).flatMap((round) => [
        ...numbers(20).map((index) => `${round} ${index}`),
        `${round} while nobody was there`,
      ])
      expect(received).toEqual(expected)
      expect(gaps).toEqual([])
    })

    it('miss nothing while Redis is restarted and the publisher tries again', async () => {
      const redis = await startRedis({ appendonly: true, settings: { appendfsync: 'always' } })
      const [a, b] = await startNodes(redis)
      b.client.subscribe('all')
      await b.server.synced()
      let isOver = false
      const publish = async (text: string): Promise<void> => {
        // What is not known to be stored may be stored all the same.
        while (!(await a.server.publish('all', text).stored!.then(Boolean, () => false))) await nextTurn()
      }
      const published = (async (): Promise<number> => {
        let index = 0
        while (!isOver) await publish(`${++index}`)
        return index
      })()
      for (let round = 0; round < 4; round++) {
        const { length } = b.received.all
        await until(() => b.received.all.length >= length + 20)
        await redis.stop(round % 2 === 0 ? 'SIGKILL' : 'SIGTERM')
        await redis.start()
      }
      isOver = true
      const count = await published
      await until(() => b.received.all.at(-1) === `${count}`)
      expect([...new Set(b.received.all)]).toEqual(numbers(count).map(String))
    })

    it('are told that something is missing when Redis has kept nothing', async () => {
      const redis = await startRedis()
      const [a, b] = await startNodes(redis)
      const gaps = new Queue<string>()
      b.client.subscribe('news', { gap: () => gaps.push('gap') })
      await b.server.synced()
      const position = await a.server.publish('news', 'old').stored!
      expect(await b.received.next()).toBe('old')
      await redis.stop()
      await Promise.all([a.errors.next(), b.errors.next()])
      await redis.start()
      await Promise.all([a.restored.next(), b.restored.next()])
      await a.server.publish('news', 'new').stored
      expect(await b.received.next()).toBe('new')
      expect(await gaps.next()).toBe('gap')
      b.client.unsubscribe('news')
      b.client.subscribe('news', { after: position, gap: () => gaps.push('old position') })
      expect(await gaps.next()).toBe('old position')
      expect(gaps.all).toHaveLength(2)
    })
  })
})
