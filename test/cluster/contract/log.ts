import { expect, it } from 'vitest'
import type { Position } from '../../../src/index.ts'
import { untilDown, untilUp } from '../../support/planes.ts'
import { nextTurn, until } from '../../support/servers.ts'
import { type Access, type Engine, numbers, type RunningEngine } from './engine.ts'
import { follow, type Logger, loggerOf, readAll, startLogger, textOf } from './logger.ts'

/*
 * The log behind a topic's history.
 */

/** An engine that keeps histories. */
export interface LogEngine<Running extends RunningEngine = RunningEngine> extends Engine<Running> {
  /** Another one than `fullduplex`, with a capital and with what separates its parts. */
  readonly prefix: string
  /** What is told while it is away; undefined where those are the words of a client, or of the system. */
  readonly awayError?: string
  /** Who reads the same at the same time gets the same page. */
  readonly sharesPages: boolean
  /** Most messages of 300,000 bytes that come in one page. */
  readonly longMessagesPerPage: number
  /** Longest message, the next one that is too long, and what is told of it; undefined where there is no such limit. */
  readonly longest?: { readonly bytes: number; readonly tooLong: number; readonly error: string }
}

/** Numbers, and the order of all. */
export function orderSpec(engine: Engine): void {
  it('has numbers without a gap, and one order for all, while many publish', async () => {
    const running = await engine.start()
    const loggers = [await startLogger(running), await startLogger(running), await startLogger(running)]
    // All at once, so that all of them try to make the log.
    const followers = await Promise.all(loggers.map((logger) => follow(logger, 'news')))
    const count = 300
    const appendAll = async (logger: Logger, name: number): Promise<Position[]> => {
      const appended: Promise<Position>[] = []
      for (const index of numbers(count)) {
        // The first half at once.
        if (index > count / 2 && index % 10 === name) await nextTurn()
        appended.push(logger.append('news', `${name}/${index}`))
      }
      return Promise.all(appended)
    }
    const stored = await Promise.all(loggers.map(appendAll))
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
    expect(await readAll(loggers[0]!, 'news')).toEqual(entries)
    for (const [name, own] of stored.entries()) {
      for (const [index, { sequence }] of own.entries()) {
        expect(entries[sequence - 1]).toBe(`${sequence} ${name}/${index + 1}`)
      }
    }
  })

  it('keeps the order of each who publishes', async () => {
    const running = await engine.start()
    const loggers = [await startLogger(running), await startLogger(running)]
    const { news } = await follow(loggers[0]!, 'news')
    const appended: Promise<Position>[] = []
    for (const index of numbers(200)) {
      for (const [name, logger] of loggers.entries()) appended.push(logger.append('news', `${name} ${index}`))
      if (index % 7 === 0) await nextTurn()
    }
    await Promise.all(appended)
    const texts = (await news.take(400)).map((text) => text.replace(/^\d+ /, ''))
    for (const name of ['0', '1']) {
      const own = texts.filter((text) => text.startsWith(name))
      expect(own).toEqual(numbers(200).map((index) => `${name} ${index}`))
    }
  })

  it('is followed from the start of a connection on', async () => {
    const running = await engine.start()
    const { backplane } = await running.access()
    backplane.start({ receive: () => {}, up: () => {}, down: () => {} })
    const logger = loggerOf(backplane.log!)
    const [{ news }] = await Promise.all([follow(logger, 'news'), logger.append('other', 'early')])
    await logger.append('news', 'hello')
    expect(await news.next()).toBe('1 hello')
    await backplane.close()
  })
}

const TOPICS = [
  ...['a', 'A', 'a.b', 'a}b', 'a b', '{}', '}', '}:log', 'a}:state', '*', '>', 'é'],
  ...['😀'.repeat(64), `${'x'.repeat(255)}y`, 'x'.repeat(256)],
]

/** What is kept, how long, and how it is read. */
export function contentSpec(engine: LogEngine): void {
  const { prefix, sharesPages, longMessagesPerPage, longest } = engine

  it('keeps topics of any name apart, and any bytes', async () => {
    const running = await engine.start()
    const logger = await startLogger(running, { prefix })
    const followers = await Promise.all(TOPICS.map((topic) => follow(logger, topic)))
    const bytes = Buffer.from(numbers(256, 0))
    const read = await Promise.all(
      TOPICS.map(async (topic, index) => {
        const message = Buffer.concat([bytes, Buffer.of(index)])
        expect(await logger.append(topic, message)).toMatchObject({ sequence: 1 })
        expect(await followers[index]!.news.next()).toMatch(/^1 /)
        const { first, entries } = await logger.log.read(topic, 0)
        expect(first).toBe(1)
        expect(entries.map((entry) => entry.message?.toData())).toEqual([message])
        return (await logger.append(topic, 'é')).sequence
      }),
    )
    expect(read).toEqual(TOPICS.map(() => 2))
  })

  it('goes back as far as its limits say', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    const { news } = await follow(logger, 'few')
    for (const index of numbers(20)) await logger.append('few', `${index}`, { maxMessages: 5 })
    expect(await logger.log.read('few', 0)).toMatchObject({ first: 16, entries: [] })
    expect(await logger.log.read('few', 14)).toMatchObject({ first: 16, entries: [] })
    expect(await readAll(logger, 'few', 15)).toEqual(numbers(5, 16).map((index) => `${index} ${index}`))
    expect(await logger.log.read('few', 20)).toMatchObject({ first: 16, entries: [] })
    expect(await news.take(20)).toHaveLength(20)
    // Another process is given more.
    const other = await startLogger(running)
    for (const index of numbers(5)) await other.append('few', `${index}`, { maxMessages: 8 })
    expect(await logger.log.read('few', 0)).toMatchObject({ first: 18 })
    // Many at once, of which most go at once.
    await Promise.all(numbers(300).map((index) => logger.append('few', `${index}`, { maxMessages: 70 })))
    expect(await logger.log.read('few', 255)).toMatchObject({
      first: 256,
      entries: numbers(70, 256).map((sequence) => ({ sequence })),
    })
    expect(await news.take(305)).toHaveLength(305)

    for (const _ of numbers(10)) {
      await logger.append('small', Buffer.alloc(10_000), { maxMessages: 6, maxBytes: 40_000 })
    }
    expect((await logger.log.read('small', 0)).first).toBe(7)
  })

  it('forgets what is too old', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    const { news } = await follow(logger, 'short')
    for (const index of numbers(3)) await logger.append('short', `${index}`, { maxAgeMs: 300 })
    expect(await news.take(3)).toEqual(['1 1', '2 2', '3 3'])
    while ((await logger.log.read('short', 0)).first < 4) await nextTurn()
    expect(await logger.log.read('short', 3)).toMatchObject({ first: 4, entries: [] })
    expect((await logger.append('short', '4', { maxAgeMs: 300 })).sequence).toBe(4)
    expect(await news.next()).toBe('4 4')
  })

  it('is read in pages', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    await Promise.all(numbers(700).map((index) => logger.append('many', `${index}`)))
    const page = await logger.log.read('many', 10)
    expect([page.first, page.entries.length, page.entries[0]!.sequence]).toEqual([1, 256, 11])
    expect(await readAll(logger, 'many')).toEqual(numbers(700).map((index) => `${index} ${index}`))
    expect(await readAll(logger, 'many', 10)).toEqual(numbers(690, 11).map((index) => `${index} ${index}`))
    expect(await readAll(logger, 'many', 699)).toEqual(['700 700'])
    expect(await readAll(logger, 'many', 700)).toEqual([])
    const [one, other] = await Promise.all([logger.log.read('many', 600), logger.log.read('many', 600)])
    expect(one.entries).toHaveLength(100)
    expect(one === other).toBe(sharesPages)

    await Promise.all(numbers(20).map(() => logger.append('big', Buffer.alloc(300_000))))
    expect((await logger.log.read('big', 0)).entries.length).toBeLessThanOrEqual(longMessagesPerPage)
    expect(await readAll(logger, 'big')).toHaveLength(20)
  })

  if (longest === undefined) return

  it('refuses what is too long', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    await expect(logger.append('news', Buffer.alloc(longest.tooLong))).rejects.toThrow(longest.error)
    await logger.append('news', Buffer.alloc(longest.bytes, 'x'), { maxBytes: 100_000_000 })
    const { entries } = await logger.log.read('news', 0)
    expect(entries.map(({ message }) => message!.payload.length)).toEqual([longest.bytes])
  })
}

/** An engine that has forgotten everything when it has ended. */
export function lossSpec(engine: LogEngine): void {
  it('says soon that the server is away', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    await running.stop()
    await untilDown(logger)
    await expect(logger.append('news', 'no')).rejects.toThrow(engine.awayError)
    await expect(logger.log.read('news', 0)).rejects.toThrow(engine.awayError)
    await expect(follow(logger, 'news')).rejects.toThrow(engine.awayError)
    await running.start()
    await untilUp(logger)
    expect(await logger.append('news', 'yes')).toMatchObject({ sequence: 1 })
  })

  it('is another one when the server has kept nothing', async () => {
    const running = await engine.start()
    const [a, b] = [await startLogger(running), await startLogger(running)]
    const { news, epochs } = await follow(b, 'news')
    for (const index of numbers(3)) await a.append('news', `${index}`)
    expect(await news.take(3)).toEqual(['1 1', '2 2', '3 3'])
    await running.stop()
    await untilDown(a, b)
    await running.start()
    await untilUp(a, b)
    // Nobody has to append for that.
    expect(await news.next()).toBe('reset 0')
    const { epoch, sequence } = await a.append('news', 'again')
    expect(sequence).toBe(1)
    expect(epochs[0]).not.toBe(epoch)
    expect(await news.next()).toBe('1 again')
    expect(epochs.at(-1)).toBe(epoch)
    // Nobody is told twice.
    await a.append('news', 'on')
    expect(await news.next()).toBe('2 on')
  })
}

/** What other programs, and accidents, do to a log. */
export interface RunningStore extends RunningEngine {
  /** The names that somebody has subscribed to, each once. */
  subscriptions(): Promise<string[]>
  hasEnded(left: number): Promise<void>
  /** How many logs there are. */
  logs(): Promise<number>
  deleteLog(topic: string): Promise<void>
  deleteEntry(topic: string, sequence: number): Promise<void>
  /** A way that can be cut; it comes back by itself. */
  unsteady(): Promise<{ readonly way: Access; cut(): Promise<void> | void }>
}

/** A program that keeps logs, beside the processes that write them, and over its own end. */
export interface Store extends LogEngine<RunningStore> {
  /** What is subscribed to for who follows `news`. */
  readonly liveName: string
  /** So many topics can be followed in a test. */
  readonly manyTopics: number
}

export function storeSpec(engine: Store): void {
  it('has one log for each topic, of any name', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    await Promise.all(TOPICS.map((topic) => logger.append(topic, 'one')))
    expect(await running.logs()).toBe(TOPICS.length)
  })

  it('says that it begins later when a message was deleted by hand', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    await Promise.all(numbers(5).map((index) => logger.append('news', `${index}`)))
    await running.deleteEntry('news', 3)
    expect((await logger.log.read('news', 0)).entries.map(textOf)).toEqual(['1 1', '2 2'])
    expect(await logger.log.read('news', 2)).toMatchObject({ first: 4, entries: [] })
    expect(await readAll(logger, 'news', 3)).toEqual(['4 4', '5 5'])
  })

  it('is another one when it was deleted', async () => {
    const running = await engine.start()
    const [a, b] = [await startLogger(running), await startLogger(running)]
    const { news, epochs } = await follow(a, 'news')
    const before = await b.append('news', 'old')
    expect(epochs).toEqual([before.epoch])
    await running.deleteLog('news')
    const after = await b.append('news', 'new')
    expect(after.sequence).toBe(1)
    expect(after.epoch).not.toBe(before.epoch)
    expect(await news.take(3)).toEqual(['1 old', 'reset 0', '1 new'])
    expect(epochs.at(-1)).toBe(after.epoch)
    expect(await a.log.read('news', 1)).toEqual({ epoch: after.epoch, first: 1, entries: [] })
  })

  it('is followed over a connection that comes and goes while many publish', async () => {
    const running = await engine.start()
    const a = await startLogger(running)
    const { way, cut } = await running.unsteady()
    const b = await startLogger({ access: async () => way })
    const { news } = await follow(b, 'news')
    const positions: Position[] = []
    const publish = async (count: number): Promise<void> => {
      for (const end = positions.length + count; positions.length < end; ) {
        const appended = numbers(20, positions.length + 1).map((number) =>
          a.append('news', `${number}`, { maxMessages: 100_000 }),
        )
        positions.push(...(await Promise.all(appended)))
      }
    }
    for (let round = 0; round < 5; round++) {
      const published = publish(600)
      await until(() => news.all.length >= round * 600 + 50)
      await cut()
      await untilUp(b)
      await published
    }
    expect(positions.map(({ sequence }) => sequence)).toEqual(numbers(3_000))
    expect(await news.take(3_000)).toEqual(numbers(3_000).map((number) => `${number} ${number}`))
  })

  it.each<[string, readonly NodeJS.Signals[]]>([
    ['SIGTERM', ['SIGTERM']],
    ['SIGKILL', ['SIGKILL']],
    ['both, one after the other', ['SIGTERM', 'SIGKILL']],
  ])('is followed over a restart of the server (%s)', async (_, signals) => {
    const running = await engine.start({ keeps: 'usually' })
    const [a, b] = [await startLogger(running), await startLogger(running)]
    const { news, epochs } = await follow(b, 'news')
    const { epoch } = await a.append('news', '1')
    for (const [index, signal] of signals.entries()) {
      await running.stop(signal)
      await untilDown(a, b)
      await running.start()
      // Both: a client that is at the door of a server that dies may wait for long.
      await untilUp(a, b)
      expect(await a.append('news', `${index + 2}`)).toEqual({ epoch, sequence: index + 2 })
    }
    expect(await news.take(signals.length + 1)).toEqual(numbers(signals.length + 1).map((index) => `${index} ${index}`))
    expect(epochs).toEqual([epoch])
  })

  it('has followers of many topics, also after a restart', async () => {
    const running = await engine.start({ keeps: 'usually' })
    const [a, b] = [await startLogger(running), await startLogger(running)]
    const topics = numbers(engine.manyTopics).map((index) => `topic ${index}`)
    const followers = await Promise.all(topics.map((topic) => follow(b, topic)))
    await Promise.all(topics.map((topic) => a.append(topic, 'one')))
    await running.stop()
    await untilDown(a, b)
    await running.start()
    await untilUp(a)
    await Promise.all(topics.map((topic) => a.append(topic, 'two')))
    for (const { news } of followers) expect(await news.take(2)).toEqual(['1 one', '2 two'])
  })

  it('stores at the end what is on its way', async () => {
    const running = await engine.start()
    const [logger, other] = [await startLogger(running), await startLogger(running)]
    const appended = numbers(500).map((index) => logger.append('news', `${index}`))
    await logger.backplane.close()
    expect((await Promise.all(appended)).map(({ sequence }) => sequence)).toEqual(numbers(500))
    expect(await readAll(other, 'news')).toHaveLength(500)
  })

  it('leaves no subscriptions', async () => {
    const running = await engine.start()
    const logger = await startLogger(running)
    const [one, other] = [await follow(logger, 'news'), await follow(logger, 'news')]
    expect(await running.subscriptions()).toEqual([engine.liveName])
    one.subscription.stop()
    one.subscription.stop()
    await logger.append('news', 'hello')
    expect(await other.news.next()).toBe('1 hello')
    expect(one.news.all).toEqual([])
    other.subscription.stop()
    await running.hasEnded(0)
    expect(await running.subscriptions()).toEqual([])
    const again = await follow(logger, 'news')
    await logger.append('news', 'again')
    expect(await again.news.next()).toBe('2 again')
    const stored = logger.append('news', 'on its way')
    await logger.backplane.close()
    expect(await stored).toMatchObject({ sequence: 3 })
    await expect(logger.append('news', 'late')).rejects.toThrow('the backplane is closed')
    await running.hasEnded(0)
    expect(await running.subscriptions()).toEqual([])
    expect(await running.logs()).toBe(1)
  })
}
