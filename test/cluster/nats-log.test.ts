import { cpSync, rmSync } from 'node:fs'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { expect, it, onTestFinished, vi } from 'vitest'
import type { NatsBackplaneOptions, NatsJetStream } from '../../src/cluster/nats.ts'
import { resolveHistory } from '../../src/history.ts'
import {
  type HistoryLimits,
  type LogEntry,
  type LogSubscription,
  type Position,
  prepare,
  type TopicLog,
  type WebSocketConnection,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { formatPosition } from '../../src/marks.ts'
import { type NatsNode, type NatsNodeOptions, type Plane, startNatsNode, startPlane } from '../support/nats-node.ts'
import { describeWithNats, type NatsServer, startNats } from '../support/nats-server.ts'
import { defer, Queue } from '../support/queue.ts'
import { nextTurn, openClient, until } from '../support/servers.ts'

function limitsOf(limits: HistoryLimits = {}) {
  return resolveHistory(() => limits)!('')!
}

/** A backplane with its log. */
interface Logger extends Plane {
  readonly log: TopicLog
  append(topic: string, text: string | Uint8Array, limits?: HistoryLimits): Promise<Position>
}

type MakeJetStream = (connection: NatsConnection) => NatsJetStream

async function startLogger(
  nats: NatsServer,
  options: Omit<NatsBackplaneOptions, 'connection' | 'jetstream'> & { jetstream?: MakeJetStream } = {},
): Promise<Logger> {
  const { jetstream: make = jetstream, ...more } = options
  const plane = await startPlane(nats, { nats: (connection) => ({ ...more, jetstream: make(connection) }) })
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
  readonly subscription: LogSubscription
}

function textOf({ sequence, message }: LogEntry): string {
  return `${sequence} ${message === undefined ? 'no message' : message.toData().toString().slice(0, 20)}`
}

async function follow({ log }: Logger, topic: string): Promise<Follower> {
  const news = new Queue<string>()
  const subscription = await log.follow(topic, {
    entry: (entry) => news.push(textOf(entry)),
    reset: ({ sequence }) => news.push(`reset ${sequence}`),
  })
  return { news, subscription }
}

async function readAll({ log }: Logger, topic: string, after: number): Promise<string[]> {
  const texts: string[] = []
  for (;;) {
    const { entries } = await log.read(topic, after + texts.length)
    if (entries.length === 0) return texts
    texts.push(...entries.map(textOf))
  }
}

/** The numbers of entries of which the server tells in vain. */
function loseEntries(connection: NatsConnection): Set<number> {
  const lost = new Set<number>()
  const subscribe = connection.subscribe.bind(connection)
  connection.subscribe = (subject, options = {}) => {
    const { callback } = options
    if (callback === undefined) return subscribe(subject, options)
    return subscribe(subject, {
      ...options,
      callback: (error, message) => {
        if (!lost.delete(Number(message.headers?.get('Nats-Sequence')))) void callback(error, message)
      },
    })
  }
  return lost
}

function numbers(count: number, from = 1): number[] {
  return Array.from({ length: count }, (_, index) => from + index)
}

describeWithNats('a history in JetStream', () => {
  it('has numbers without a gap, and one order for all, while many publish', async () => {
    const nats = await startNats()
    const loggers = [await startLogger(nats), await startLogger(nats), await startLogger(nats)]
    // All at once, so that all of them try to make the stream.
    const followers = await Promise.all(loggers.map((logger) => follow(logger, 'news')))
    const count = 300
    const stored = await Promise.all(
      loggers.map((logger, name) =>
        Promise.all(numbers(count).map((index) => logger.append('news', `${name}/${index}`))),
      ),
    )
    const positions = stored.flat()
    expect(new Set(positions.map(({ epoch }) => epoch)).size).toBe(1)
    expect(positions.map(({ sequence }) => sequence).sort((one, other) => one - other)).toEqual(numbers(count * 3))
    // In the order in which each has published.
    for (const own of stored) {
      const sequences = own.map(({ sequence }) => sequence)
      expect(sequences).toEqual([...sequences].sort((one, other) => one - other))
    }
    const entries = await followers[0]!.news.take(count * 3)
    expect(entries.map((text) => Number.parseInt(text, 10))).toEqual(numbers(count * 3))
    for (const follower of followers.slice(1)) expect(await follower.news.take(count * 3)).toEqual(entries)
    expect(await readAll(loggers[0]!, 'news', 0)).toEqual(entries)
    for (const [name, own] of stored.entries()) {
      for (const [index, { sequence }] of own.entries()) {
        expect(entries[sequence - 1]).toBe(`${sequence} ${name}/${index + 1}`)
      }
    }
  })

  it('keeps topics of any name apart, and any bytes', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats, { prefix: 'my.App' })
    const topics = ['a', 'A', 'a.b', 'a b', '*', '>', 'é', '😀'.repeat(64), `${'x'.repeat(255)}y`, 'x'.repeat(256)]
    const bytes = Buffer.of(0, 13, 10, 255)
    for (const [index, topic] of topics.entries()) {
      await logger.append(topic, Buffer.concat([bytes, Buffer.of(index)]))
    }
    for (const [index, topic] of topics.entries()) {
      const { first, entries } = await logger.log.read(topic, 0)
      expect([first, entries.length]).toEqual([1, 1])
      expect(entries[0]!.message!.toData()).toEqual(Buffer.concat([bytes, Buffer.of(index)]))
    }
    const manager = await jetstreamManager(logger.connection)
    const names: string[] = []
    for await (const { config } of manager.streams.list('my.App.log.>')) names.push(config.name)
    expect(names).toHaveLength(topics.length)
    expect(names).toContain('my_2e_41pp__a')
  })

  it('stores once what is sent again because an answer was lost', async () => {
    const nats = await startNats()
    const lost = new Set(['a', 'c'])
    const sent: string[] = []
    const logger = await startLogger(nats, {
      jetstream: (connection) => {
        const real = jetstream(connection)
        return {
          jetstreamManager: (check) => real.jetstreamManager(check),
          publish: async (subject, record, options) => {
            const text = Buffer.from(record).toString('utf8', 5)
            sent.push(text)
            const answer = await real.publish(subject, record, options)
            if (lost.delete(text)) throw new Error('the answer was lost')
            return answer
          },
        }
      },
    })
    const { news } = await follow(logger, 'news')
    const stored = await Promise.all(['a', 'b', 'c', 'd'].map((text) => logger.append('news', text)))
    expect(stored.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4])
    expect(await news.take(4)).toEqual(['1 a', '2 b', '3 c', '4 d'])
    expect(sent.filter((text) => text === 'a')).toHaveLength(2)
    expect(await readAll(logger, 'news', 0)).toEqual(news.all)
  })

  it('does not store behind a later message what was lost before it', async () => {
    const nats = await startNats()
    const lost = new Set(['b'])
    const logger = await startLogger(nats, {
      jetstream: (connection) => {
        const real = jetstream(connection)
        return {
          jetstreamManager: (check) => real.jetstreamManager(check),
          publish: async (subject, record, options) => {
            if (lost.delete(Buffer.from(record).toString('utf8', 5))) throw new Error('it was lost')
            return real.publish(subject, record, options)
          },
        }
      },
    })
    const { news } = await follow(logger, 'news')
    const [a, b, c] = await Promise.allSettled(['a', 'b', 'c'].map((text) => logger.append('news', text)))
    expect([a!.status, c!.status]).toEqual(['fulfilled', 'fulfilled'])
    expect(b).toMatchObject({ reason: { message: expect.stringContaining('one behind it was stored') } })
    expect((await logger.append('news', 'd')).sequence).toBe(3)
    expect(await news.take(3)).toEqual(['1 a', '2 c', '3 d'])
  })

  it('keeps the order of what is sent again, in whatever order it has failed', async () => {
    const nats = await startNats()
    const lost = new Set(['a', 'b'])
    const failed = defer()
    const logger = await startLogger(nats, {
      jetstream: (connection) => {
        const real = jetstream(connection)
        return {
          jetstreamManager: (check) => real.jetstreamManager(check),
          publish: async (subject, record, options) => {
            const text = Buffer.from(record).toString('utf8', 5)
            if (!lost.delete(text)) return real.publish(subject, record, options)
            if (text === 'b') failed.resolve()
            else await failed.promise.then(nextTurn)
            throw new Error('it was lost')
          },
        }
      },
    })
    const { news } = await follow(logger, 'news')
    await Promise.all(['a', 'b'].map((text) => logger.append('news', text)))
    expect(await news.take(2)).toEqual(['1 a', '2 b'])
  })

  it('stores once, in order, what was on its way when the server went away for a moment', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    const { news } = await follow(logger, 'news')
    await logger.append('news', '0')
    await nats.hold()
    const stored = Promise.all(numbers(50).map((index) => logger.append('news', `${index}`)))
    await new Promise(setImmediate)
    await nats.restart('SIGKILL')
    expect((await stored).map(({ sequence }) => sequence)).toEqual(numbers(50, 2))
    expect(await news.take(51)).toEqual(numbers(51, 0).map((index) => `${index + 1} ${index}`))
    expect(await readAll(logger, 'news', 0)).toEqual(news.all)
  })

  it('says soon that the server is away, and later that it has not come back', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    await logger.append('news', 'a')
    await nats.hold()
    const inFlight = logger.append('news', 'b')
    await new Promise(setImmediate)
    await nats.stop('SIGKILL')
    await until(() => logger.news.all.length > 1)
    await expect(logger.append('news', 'c')).rejects.toThrow('lost')
    await expect(logger.log.read('news', 0)).rejects.toThrow('lost')
    await expect(follow(logger, 'news')).rejects.toThrow('lost')
    await expect(inFlight).rejects.toThrow()
  })

  it('refuses what the server would not take', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    await expect(logger.append('news', Buffer.alloc(1_048_576))).rejects.toThrow('longer than the server takes')
    await logger.append('news', Buffer.alloc(1_048_000, 'x'))
    const { entries } = await logger.log.read('news', 0)
    expect(entries[0]!.message!.payload.length).toBe(1_048_000)
  })

  it('does not take messages without end from those who do not wait', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    await logger.append('news', 'a')
    await nats.hold()
    const message = Buffer.alloc(1_000_000)
    const stored = numbers(70).map(() => logger.append('news', message))
    await expect(stored.at(-1)).rejects.toThrow('more slowly than they are published')
    await nats.goOn()
    const fulfilled = (await Promise.allSettled(stored)).filter(({ status }) => status === 'fulfilled')
    expect(fulfilled).toHaveLength(67)
  })

  it('goes back as far as its limits say', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    const { news } = await follow(logger, 'few')
    for (const index of numbers(20)) await logger.append('few', `${index}`, { maxMessages: 5 })
    expect(await logger.log.read('few', 0)).toMatchObject({ first: 16, entries: [] })
    expect(await readAll(logger, 'few', 15)).toEqual(numbers(5, 16).map((index) => `${index} ${index}`))
    expect(await logger.log.read('few', 20)).toMatchObject({ first: 16, entries: [] })
    await news.take(20)
    // Another process is given more.
    const other = await startLogger(nats)
    for (const index of numbers(5)) await other.append('few', `${index}`, { maxMessages: 8 })
    expect(await logger.log.read('few', 0)).toMatchObject({ first: 18 })

    for (const _ of numbers(10))
      await logger.append('small', Buffer.alloc(10_000), { maxMessages: 6, maxBytes: 40_000 })
    expect((await logger.log.read('small', 0)).first).toBe(7)

    const followed = await follow(logger, 'short')
    for (const index of numbers(3)) await logger.append('short', `${index}`, { maxAgeMs: 300 })
    expect(await followed.news.take(3)).toEqual(['1 1', '2 2', '3 3'])
    while ((await logger.log.read('short', 0)).first < 4);
    expect(await logger.log.read('short', 3)).toMatchObject({ first: 4, entries: [] })
    expect((await logger.append('short', '4', { maxAgeMs: 300 })).sequence).toBe(4)
    expect(await followed.news.next()).toBe('4 4')
  })

  it('is read in pages', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    await Promise.all(numbers(600).map((index) => logger.append('many', `${index}`)))
    const page = await logger.log.read('many', 10)
    expect([page.first, page.entries.length, page.entries[0]!.sequence]).toEqual([1, 256, 11])
    expect(await readAll(logger, 'many', 10)).toEqual(numbers(590, 11).map((index) => `${index} ${index}`))
    // The same page for all who ask for it at a time.
    const [one, other] = await Promise.all([logger.log.read('many', 500), logger.log.read('many', 500)])
    expect(one.entries).toHaveLength(100)
    expect(one.entries[0]!.message).toBe(other.entries[0]!.message)

    await Promise.all(numbers(20).map(() => logger.append('big', Buffer.alloc(300_000))))
    expect((await logger.log.read('big', 0)).entries.length).toBeLessThan(10)
    expect(await readAll(logger, 'big', 0)).toHaveLength(20)
  })

  it('takes what other programs write for what it is', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    const { news, subscription } = await follow(logger, 'news')
    const stranger = await nats.connect()
    const { epoch } = subscription.position
    stranger.publish(`fullduplex.log.news.${epoch}`, 'garbage')
    stranger.publish(`fullduplex.log.news.another`, 'garbage')
    stranger.publish(`fullduplex.live.news.${epoch}`, 'garbage')
    stranger.publish('fullduplex.live.news.another', Buffer.of(0, 1))
    await stranger.flush()
    await logger.append('news', 'hello')
    expect(await news.take(2)).toEqual(['1 no message', '2 hello'])
    expect(await readAll(logger, 'news', 0)).toEqual(['1 no message', '2 hello'])
  })

  it('says that it begins later when a message was deleted by hand', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    await Promise.all(numbers(5).map((index) => logger.append('news', `${index}`)))
    const manager = await jetstreamManager(logger.connection)
    await manager.streams.deleteMessage('fullduplex__news', 3)
    expect((await logger.log.read('news', 0)).entries.map(textOf)).toEqual(['1 1', '2 2'])
    expect(await logger.log.read('news', 2)).toMatchObject({ first: 4, entries: [] })
    expect(await readAll(logger, 'news', 3)).toEqual(['4 4', '5 5'])
  })

  it('does not take a stream of somebody else for its own', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    const manager = await jetstreamManager(logger.connection)
    await manager.streams.add({ name: 'fullduplex__news', subjects: ['orders.*'] })
    await expect(logger.append('news', 'a')).rejects.toThrow()
    await expect(follow(logger, 'news')).rejects.toThrow('not one of ours')
    expect((await manager.streams.info('fullduplex__news')).config.subjects).toEqual(['orders.*'])
  })

  it('needs JetStream in the server', async () => {
    const nats = await startNats({ jetstream: false })
    const logger = await startLogger(nats)
    await expect(follow(logger, 'news')).rejects.toThrow('jetstream is not enabled')
    await expect(logger.append('news', 'a')).rejects.toThrow('jetstream is not enabled')
  })

  it('reads what it was not told of', async () => {
    const nats = await startNats()
    const [a, b] = [await startLogger(nats), await startLogger(nats)]
    const lost = loseEntries(a.connection)
    for (const sequence of [2, 5, 6]) lost.add(sequence)
    const { news } = await follow(a, 'news')
    for (const index of numbers(10)) await b.append('news', `${index}`)
    expect(await news.take(10)).toEqual(numbers(10).map((index) => `${index} ${index}`))
    expect(lost.size).toBe(0)
  })

  it('looks now and then for what it was not told of', async () => {
    const nats = await startNats()
    vi.useFakeTimers({ toFake: ['setInterval', 'performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const [a, b] = [await startLogger(nats), await startLogger(nats)]
    const lost = loseEntries(a.connection)
    const { news } = await follow(a, 'news')
    await b.append('news', '1')
    expect(await news.next()).toBe('1 1')
    lost.add(2)
    await b.append('news', '2')
    await until(() => lost.size === 0)
    vi.advanceTimersByTime(60_000)
    expect(await news.next()).toBe('2 2')
  })

  it('is reset when it was cut before it could be read', async () => {
    const nats = await startNats()
    const [a, b] = [await startLogger(nats), await startLogger(nats)]
    const lost = loseEntries(a.connection)
    for (const sequence of numbers(8, 2)) lost.add(sequence)
    const { news } = await follow(a, 'news')
    for (const index of numbers(10)) await b.append('news', `${index}`, { maxMessages: 3 })
    expect(await news.take(5)).toEqual(['1 1', 'reset 7', '8 8', '9 9', '10 10'])
  })

  it('is followed over a connection that comes and goes while many publish', async () => {
    const nats = await startNats()
    const [a, b] = [await startLogger(nats), await startLogger(nats)]
    const { news } = await follow(a, 'news')
    const count = 3_000
    const publish = async (): Promise<void> => {
      for (let index = 1; index <= count; index += 20) {
        await Promise.all(numbers(20, index).map((number) => b.append('news', `${number}`)))
      }
    }
    const published = publish()
    for (let round = 0; round < 5; round++) {
      const { length } = news.all
      await until(() => news.all.length >= length + 50)
      await a.connection.reconnect()
    }
    await published
    expect(await news.take(count)).toEqual(numbers(count).map((index) => `${index} ${index}`))
  })

  it('is followed over a restart of the server', async () => {
    const nats = await startNats()
    const [a, b] = [await startLogger(nats), await startLogger(nats)]
    const { news } = await follow(a, 'news')
    await a.append('news', '1')
    await nats.restart()
    await until(() => b.news.all.at(-1) === 'up')
    const { sequence } = await b.append('news', '2')
    expect(sequence).toBe(2)
    await nats.restart('SIGKILL')
    await until(() => b.news.all.filter((text) => text === 'up').length === 3)
    await b.append('news', '3')
    expect(await news.take(3)).toEqual(['1 1', '2 2', '3 3'])
  })

  it('has another epoch when it was deleted', async () => {
    const nats = await startNats()
    const [a, b] = [await startLogger(nats), await startLogger(nats)]
    const { news, subscription } = await follow(a, 'news')
    const before = await b.append('news', 'old')
    expect(before.epoch).toBe(subscription.position.epoch)
    const manager = await jetstreamManager(a.connection)
    await manager.streams.delete('fullduplex__news')
    const after = await b.append('news', 'new')
    expect(after.sequence).toBe(1)
    expect(after.epoch).not.toBe(before.epoch)
    expect(await news.take(3)).toEqual(['1 old', 'reset 0', '1 new'])
    expect(await a.log.read('news', 1)).toEqual({ epoch: after.epoch, first: 1, entries: [] })
  })

  it('is reset when it was lost while the server was away', async () => {
    const nats = await startNats()
    const a = await startLogger(nats)
    const { news } = await follow(a, 'news')
    await a.append('news', 'old')
    await news.next()
    await nats.stop()
    rmSync(nats.folder, { recursive: true })
    await nats.start()
    expect(await news.next()).toBe('reset 0')
    await a.append('news', 'new')
    expect(await news.next()).toBe('1 new')
  })

  it('is reset when the server has lost the end of it, and has given its numbers to others', async () => {
    const nats = await startNats()
    const a = await startLogger(nats)
    const { news } = await follow(a, 'news')
    const { epoch } = await a.append('news', '1')
    await nats.stop()
    const copy = `${nats.folder}-copy`
    cpSync(nats.folder, copy, { recursive: true })
    await nats.start()
    await until(() => a.news.all.at(-1) === 'up')
    for (const text of ['2', '3']) await a.append('news', text)
    expect(await news.take(3)).toEqual(['1 1', '2 2', '3 3'])
    await nats.stop()
    rmSync(nats.folder, { recursive: true })
    cpSync(copy, nats.folder, { recursive: true })
    rmSync(copy, { recursive: true })
    // Others find the server sooner.
    const elsewhere = await startNats({ args: ['--store_dir', nats.folder] })
    const b = await startLogger(elsewhere)
    for (const text of ['two', 'three', 'four']) await b.append('news', text)
    await elsewhere.stop()
    await nats.start()
    expect(await news.next()).toBe('reset 4')
    const stored = await a.append('news', 'five')
    expect([stored.sequence, stored.epoch === epoch]).toEqual([5, false])
    expect(await news.next()).toBe('5 five')
  })

  it('is not read half from one stream and half from the next', async () => {
    const nats = await startNats()
    const b = await startLogger(nats)
    let isFirst = true
    const a = await startLogger(nats, {
      jetstream: (connection) => {
        const real = jetstream(connection)
        return {
          publish: (subject, record, options) => real.publish(subject, record, options),
          jetstreamManager: async () => {
            const { streams } = await real.jetstreamManager(false)
            const getMessage = async (name: string, query: { seq: number }) => {
              if (isFirst) {
                isFirst = false
                await streams.delete(name)
                for (const index of numbers(3)) await b.append('news', `new ${index}`)
              }
              return streams.getMessage(name, query)
            }
            return { streams: Object.assign(Object.create(streams) as typeof streams, { getMessage }) }
          },
        }
      },
    })
    const { epoch } = await b.append('news', 'old 1')
    await b.append('news', 'old 2')
    const page = await a.log.read('news', 1)
    expect(page.epoch).not.toBe(epoch)
    expect(page.entries.map(textOf)).toEqual(['2 new 2', '3 new 3'])
  })

  it('has another epoch when the server has lost the end of it', async () => {
    const nats = await startNats()
    const [a, b] = [await startLogger(nats), await startLogger(nats)]
    const followed = [await follow(a, 'news'), await follow(b, 'news')]
    const before = await a.append('news', '1')
    await nats.stop()
    const copy = `${nats.folder}-copy`
    cpSync(nats.folder, copy, { recursive: true })
    await nats.start()
    await until(() => a.news.all.at(-1) === 'up' && b.news.all.at(-1) === 'up')
    for (const text of ['2', '3']) await a.append('news', text)
    for (const { news } of followed) expect(await news.take(3)).toEqual(['1 1', '2 2', '3 3'])
    await nats.stop()
    rmSync(nats.folder, { recursive: true })
    cpSync(copy, nats.folder, { recursive: true })
    rmSync(copy, { recursive: true })
    await nats.start()
    for (const { news } of followed) expect(await news.next()).toBe('reset 1')
    // Both may say so, one after the other, and the second one when there is something new already.
    const last = ({ news }: Follower): string => news.all.at(-1)!
    let isReset = true
    while (isReset) {
      const { sequence } = await a.append('news', 'new')
      await until(() =>
        followed.every((follower) => Number.parseInt(last(follower).replace('reset ', ''), 10) === sequence),
      )
      isReset = followed.some((follower) => last(follower).startsWith('reset'))
    }
    expect((await b.log.read('news', 1)).epoch).not.toBe(before.epoch)
    expect((await readAll(a, 'news', 0)).slice(0, 2)).toEqual(['1 1', '2 new'])
  })

  it('goes when nobody has needed it for long', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats, { unusedStreamMs: 200 })
    await follow(logger, 'followed')
    const left = await follow(logger, 'left')
    await logger.append('left', 'a', { maxAgeMs: 100 })
    await logger.append('full', 'a')
    left.subscription.stop()
    const manager = await jetstreamManager(logger.connection)
    const names = async (): Promise<string[]> => {
      const found: string[] = []
      for await (const name of manager.streams.names('fullduplex.log.>')) found.push(name)
      return found.sort()
    }
    expect(await names()).toEqual(['fullduplex__followed', 'fullduplex__full', 'fullduplex__left'])
    while ((await names()).includes('fullduplex__left'));
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(await names()).toEqual(['fullduplex__followed', 'fullduplex__full'])
    // It comes again when it is wanted again, as another one.
    expect(await logger.append('left', 'b')).toMatchObject({ sequence: 1 })
  })

  it('leaves no subscriptions', async () => {
    const nats = await startNats()
    const logger = await startLogger(nats)
    await follow(logger, 'news')
    const stored = logger.append('news', 'on its way')
    await logger.backplane.close()
    expect(await stored).toMatchObject({ sequence: 1 })
    await expect(logger.append('news', 'later')).rejects.toThrow('closed')
    // The one that is left is the client's own, for answers.
    expect((await nats.subjects()).filter((subject) => !subject.startsWith('_INBOX.'))).toEqual([])
    const { streams } = await nats.monitor<{ streams: number }>('jsz')
    expect(streams).toBe(1)
  })
})

describeWithNats('clients of servers with a history in JetStream', () => {
  const HISTORY: WebSocketServerOptions = { history: { news: { maxMessages: 100 } } }
  const OPTIONS: NatsNodeOptions = {
    nats: (connection) => ({ jetstream: jetstream(connection) }),
    server: HISTORY,
  }

  async function startNodes(nats: NatsServer): Promise<[NatsNode, NatsNode]> {
    return [await startNatsNode(nats, OPTIONS), await startNatsNode(nats, OPTIONS)]
  }

  it('get everything that was published, wherever it was, in one order', async () => {
    const nats = await startNats()
    const nodes = await startNodes(nats)
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
    const nats = await startNats()
    const [a, b] = await startNodes(nats)
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
    const gap = new Promise<void>((resolve) => {
      b.client.unsubscribe('news')
      b.client.subscribe('news', { after: positions[9]!, gap: resolve })
    })
    await gap
    a.server.publish('news', 'on')
    expect(await b.received.next()).toBe('on')
    expect([...a.errors.all, ...b.errors.all]).toEqual([])
  })

  it('miss nothing while the server is restarted and the publisher tries again', async () => {
    const nats = await startNats()
    const [a, b] = await startNodes(nats)
    b.client.subscribe('news')
    await b.server.synced()
    let isOver = false
    const publish = async (text: string): Promise<void> => {
      // What is not known to be stored may be stored all the same.
      while (!(await a.server.publish('news', text).stored!.then(Boolean, () => false))) await nextTurn()
    }
    const published = (async (): Promise<number> => {
      let index = 0
      while (!isOver) await publish(`${++index}`)
      return index
    })()
    for (let round = 0; round < 4; round++) {
      const { length } = b.received.all
      await until(() => b.received.all.length >= length + 20)
      await nats.restart()
    }
    isOver = true
    const count = await published
    await until(() => b.received.all.at(-1) === `${count}`)
    expect([...new Set(b.received.all)]).toEqual(numbers(count).map(String))
    expect([a.errors, b.errors].map(({ all }) => all.filter(({ message }) => message.includes('away')).length)).toEqual(
      [4, 4],
    )
  })

  it('are told that something is missing when the history was lost', async () => {
    const nats = await startNats()
    const [a, b] = await startNodes(nats)
    const gaps: WebSocketConnection[] = []
    b.client.subscribe('news', { gap: () => void gaps.push(b.client) })
    await b.server.synced()
    await a.server.publish('news', 'old').stored
    expect(await b.received.next()).toBe('old')
    const manager = await jetstreamManager(a.connection)
    await manager.streams.delete('fullduplex__news')
    const position = await a.server.publish('news', 'new').stored!
    expect(await b.received.next()).toBe('new')
    expect(gaps).toEqual([b.client])
    expect(position).toBe(formatPosition({ epoch: position.split('.')[0]!, sequence: 1 }))
    const late = await openClient(b.url)
    expect(late.state).toBe('open')
  })
})
