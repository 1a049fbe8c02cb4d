import { cpSync, rmSync } from 'node:fs'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { expect, it, onTestFinished, vi } from 'vitest'
import type { NatsBackplaneOptions, NatsJetStream } from '../../src/cluster/nats.ts'
import { startNatsPlane } from '../support/nats-node.ts'
import { describeWithNats, type NatsServer, startNats } from '../support/nats-server.ts'
import { type Plane, untilDown, untilUp } from '../support/planes.ts'
import { defer } from '../support/queue.ts'
import { nextTurn, until } from '../support/servers.ts'
import { numbers } from './contract/engine.ts'
import { historySpec, storedHistorySpec } from './contract/history.ts'
import { contentSpec, lossSpec, orderSpec, storeSpec } from './contract/log.ts'
import { type Follower, follow, type Logger, readAll, textOf, withLog } from './contract/logger.ts'
import { natsStore } from './contract/nats-engine.ts'

type MakeJetStream = (connection: NatsConnection) => NatsJetStream

/** A backplane with its log. */
async function start(
  nats: NatsServer,
  options: Omit<NatsBackplaneOptions, 'connection' | 'jetstream'> & { jetstream?: MakeJetStream } = {},
): Promise<Plane & Logger & { connection: NatsConnection }> {
  const { jetstream: make = jetstream, ...more } = options
  return withLog(await startNatsPlane(nats, { nats: (connection) => ({ ...more, jetstream: make(connection) }) }))
}

type Answer = ReturnType<NatsJetStream['publish']>

/** JetStream, to which messages come by way of this function: it is told the text, and how to send it. */
function publishingBy(send: (text: string, publish: () => Answer) => Answer): MakeJetStream {
  return (connection) => {
    const real = jetstream(connection)
    return {
      jetstreamManager: (check) => real.jetstreamManager(check),
      publish: (subject, record, options) =>
        send(Buffer.from(record).toString('utf8', 5), () => real.publish(subject, record, options)),
    }
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

describeWithNats('a history in JetStream', () => {
  orderSpec(natsStore)
  contentSpec(natsStore)
  lossSpec(natsStore)
  storeSpec(natsStore)

  it('has a stream for each topic, named by prefix and topic', async () => {
    const nats = await startNats()
    const logger = await start(nats, { prefix: 'my.App' })
    for (const topic of ['a', 'A', 'a.b', '>']) await logger.append(topic, 'one')
    const manager = await jetstreamManager(logger.connection)
    const names: string[] = []
    for await (const { config } of manager.streams.list('my.App.log.>')) names.push(config.name)
    expect(names).toHaveLength(4)
    expect(names).toContain('my_2e_41pp__a')
  })

  it('says of what was on its way that the server has not come back, and soon of everything else', async () => {
    const nats = await startNats()
    const logger = await start(nats)
    await logger.append('news', 'a')
    await nats.hold()
    const inFlight = logger.append('news', 'b')
    await new Promise(setImmediate)
    await nats.stop('SIGKILL')
    await untilDown(logger)
    await expect(logger.append('news', 'c')).rejects.toThrow('lost')
    await expect(inFlight).rejects.toThrow()
  })

  it('stores once what is sent again because an answer was lost', async () => {
    const nats = await startNats()
    const lost = new Set(['a', 'c'])
    const sent: string[] = []
    const logger = await start(nats, {
      jetstream: publishingBy(async (text, publish) => {
        sent.push(text)
        const answer = await publish()
        if (lost.delete(text)) throw new Error('the answer was lost')
        return answer
      }),
    })
    const { news } = await follow(logger, 'news')
    const stored = await Promise.all(['a', 'b', 'c', 'd'].map((text) => logger.append('news', text)))
    expect(stored.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4])
    expect(await news.take(4)).toEqual(['1 a', '2 b', '3 c', '4 d'])
    expect(sent.filter((text) => text === 'a')).toHaveLength(2)
    expect(await readAll(logger, 'news')).toEqual(news.all)
  })

  it('does not store behind a later message what was lost before it', async () => {
    const nats = await startNats()
    const lost = new Set(['b'])
    const logger = await start(nats, {
      jetstream: publishingBy(async (text, publish) => {
        if (lost.delete(text)) throw new Error('it was lost')
        return publish()
      }),
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
    const logger = await start(nats, {
      jetstream: publishingBy(async (text, publish) => {
        if (!lost.delete(text)) return publish()
        if (text === 'b') failed.resolve()
        else await failed.promise.then(nextTurn)
        throw new Error('it was lost')
      }),
    })
    const { news } = await follow(logger, 'news')
    await Promise.all(['a', 'b'].map((text) => logger.append('news', text)))
    expect(await news.take(2)).toEqual(['1 a', '2 b'])
  })

  it('stores once, in order, what was on its way when the server went away for a moment', async () => {
    const nats = await startNats()
    const logger = await start(nats)
    const { news } = await follow(logger, 'news')
    await logger.append('news', '0')
    await nats.hold()
    const stored = Promise.all(numbers(50).map((index) => logger.append('news', `${index}`)))
    await new Promise(setImmediate)
    await nats.restart('SIGKILL')
    expect((await stored).map(({ sequence }) => sequence)).toEqual(numbers(50, 2))
    expect(await news.take(51)).toEqual(numbers(51, 0).map((index) => `${index + 1} ${index}`))
    expect(await readAll(logger, 'news')).toEqual(news.all)
  })

  it('does not take messages without end from those who do not wait', async () => {
    const nats = await startNats()
    const logger = await start(nats)
    await logger.append('news', 'a')
    await nats.hold()
    const message = Buffer.alloc(1_000_000)
    const stored = numbers(70).map(() => logger.append('news', message))
    await expect(stored.at(-1)).rejects.toThrow('more slowly than they are published')
    await nats.goOn()
    const fulfilled = (await Promise.allSettled(stored)).filter(({ status }) => status === 'fulfilled')
    expect(fulfilled).toHaveLength(67)
  })

  it('takes what other programs write for what it is', async () => {
    const nats = await startNats()
    const logger = await start(nats)
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
    expect(await readAll(logger, 'news')).toEqual(['1 no message', '2 hello'])
  })

  it('does not take a stream of somebody else for its own', async () => {
    const nats = await startNats()
    const logger = await start(nats)
    const manager = await jetstreamManager(logger.connection)
    await manager.streams.add({ name: 'fullduplex__news', subjects: ['orders.*'] })
    await expect(logger.append('news', 'a')).rejects.toThrow()
    await expect(follow(logger, 'news')).rejects.toThrow('not one of ours')
    expect((await manager.streams.info('fullduplex__news')).config.subjects).toEqual(['orders.*'])
  })

  it('needs JetStream in the server', async () => {
    const nats = await startNats({ jetstream: false })
    const logger = await start(nats)
    await expect(follow(logger, 'news')).rejects.toThrow('jetstream is not enabled')
    await expect(logger.append('news', 'a')).rejects.toThrow('jetstream is not enabled')
  })

  it('reads what it was not told of', async () => {
    const nats = await startNats()
    const [a, b] = [await start(nats), await start(nats)]
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
    const [a, b] = [await start(nats), await start(nats)]
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
    const [a, b] = [await start(nats), await start(nats)]
    const lost = loseEntries(a.connection)
    for (const sequence of numbers(8, 2)) lost.add(sequence)
    const { news } = await follow(a, 'news')
    for (const index of numbers(10)) await b.append('news', `${index}`, { maxMessages: 3 })
    expect(await news.take(5)).toEqual(['1 1', 'reset 7', '8 8', '9 9', '10 10'])
  })

  it('is reset when the server has lost the end of it, and has given its numbers to others', async () => {
    const nats = await startNats()
    const a = await start(nats)
    const { news } = await follow(a, 'news')
    const { epoch } = await a.append('news', '1')
    await nats.stop()
    const copy = `${nats.folder}-copy`
    cpSync(nats.folder, copy, { recursive: true })
    await nats.start()
    await untilUp(a)
    for (const text of ['2', '3']) await a.append('news', text)
    expect(await news.take(3)).toEqual(['1 1', '2 2', '3 3'])
    await nats.stop()
    rmSync(nats.folder, { recursive: true })
    cpSync(copy, nats.folder, { recursive: true })
    rmSync(copy, { recursive: true })
    // Others find the server sooner.
    const elsewhere = await startNats({ args: ['--store_dir', nats.folder] })
    const b = await start(elsewhere)
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
    const b = await start(nats)
    let isFirst = true
    const a = await start(nats, {
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
    const [a, b] = [await start(nats), await start(nats)]
    const followed = [await follow(a, 'news'), await follow(b, 'news')]
    const before = await a.append('news', '1')
    await nats.stop()
    const copy = `${nats.folder}-copy`
    cpSync(nats.folder, copy, { recursive: true })
    await nats.start()
    await untilUp(a, b)
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
    expect((await readAll(a, 'news')).slice(0, 2)).toEqual(['1 1', '2 new'])
  })

  it('goes when nobody has needed it for long', async () => {
    const nats = await startNats()
    const logger = await start(nats, { unusedStreamMs: 200 })
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
})

describeWithNats('clients of servers with a history in JetStream', () => {
  historySpec(natsStore)
  storedHistorySpec(natsStore)
})
