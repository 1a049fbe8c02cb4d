import { describe, expect, it } from 'vitest'
import { CLEAN_END, type Guest, numbered, numberIn, Primary, range } from './node-programs.ts'

async function enterAll<Names extends readonly string[]>(primary: Primary, names: Names): Promise<Guest[]> {
  const guests: Guest[] = []
  for (const name of names) guests.push(await primary.enter(name))
  return guests
}

describe('threads', () => {
  it.each([
    ['that are made behind the exchange', { threads: ['x', 'y'] }],
    ['that were there before it', { earlyThreads: ['x', 'y'] }],
  ])('%s share what is published, with the main thread and with processes', async (_, threads) => {
    const primary = new Primary({ ...threads, serves: 'main', workers: ['w'] })
    const names = ['x', 'y', 'main', 'w']
    const guests = await enterAll(primary, names)
    for (const guest of guests) await guest.subscribe('news', `to ${guest.at}`)
    await Promise.all(guests.map((guest, index) => guest.publish('news', { count: 300, bytes: 2_000 * index })))
    for (const guest of guests) {
      const received = (await guest.received.take(1_200)).map((text) => String(text).replace(/\.+$/, ''))
      for (const name of names) expect(received.filter((text) => text.startsWith(name))).toEqual(numbered(name, 300))
    }
    const [x, y, main, w] = guests as [Guest, Guest, Guest, Guest]
    await x.publish('to w')
    await w.publish('to y')
    await y.publish('to main')
    await main.publish('to x')
    expect(await Promise.all(guests.map(({ received }) => received.next()))).toEqual(['main 0', 'w 0', 'y 0', 'x 0'])
    await w.do({ do: 'publishBytes', topic: 'news', bytes: [0, 255] })
    for (const { received } of guests) expect(await received.next()).toEqual(Buffer.of(0, 255))
    expect(await primary.do({ do: 'foreign' })).toEqual({ foreign: [] })
    expect(await primary.end()).toEqual(CLEAN_END)
    expect(guests.map(({ received }) => received.all.length)).toEqual([1_202, 1_202, 1_202, 1_202])
  })

  it('that end are forgotten, and others join', async () => {
    const primary = new Primary({ threads: ['x', 'y'] })
    const [x, y] = await enterAll(primary, ['x', 'y'])
    await y!.subscribe('news')
    expect(await primary.do({ do: 'stats' })).toMatchObject({ members: 2, channels: 2 })
    await primary.do({ do: 'terminate', name: 'y' })
    await primary.line('exit', 'y')
    await primary.until({ members: 1, channels: 1 })
    await primary.do({ do: 'thread', name: 'z' })
    const z = await primary.enter('z')
    await z.subscribe('news')
    await x!.publish('news')
    expect(await z.received.next()).toBe('x 0')
    expect(primary.lines('error')).toEqual([])
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('of which nothing is heard, and nothing was heard at the beginning, are forgotten, and may come back', async () => {
    const backplane = { pingIntervalMs: 100, pingTimeoutMs: 500 }
    const primary = new Primary({ earlyThreads: ['x', 'y', 'z'], options: { backplane } })
    const [x, y] = await enterAll(primary, ['x', 'y', 'z'])
    for (const guest of [x!, y!]) await guest.subscribe('news')
    await y!.do({ do: 'block' })
    await primary.do({ do: 'terminate', name: 'z' })
    await primary.line('exit', 'z')
    await primary.until({ members: 1, channels: 2 })
    expect(await x!.publish('news')).toEqual({ everywhere: 1 })
    await primary.do({ do: 'unblock' })
    expect(await primary.line('at', 'y')).toMatchObject({
      error: 'the backplane is away: the exchange has not answered within 500 ms',
    })
    await primary.until({ members: 2, channels: 2 })
    await x!.publish('news', { first: 1 })
    expect(await y!.received.next()).toBe('x 1')
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('leave the messages of others on the same port alone, and are left alone', async () => {
    const primary = new Primary({ threads: ['x', 'y'] })
    const [x, y] = await enterAll(primary, ['x', 'y'])
    await x!.subscribe('news')
    const theirs = ['text', 1, null, [], { type: 'fullduplex', version: 1, member: 'x', items: [['gone']] }]
    await y!.do({ do: 'send', messages: theirs })
    await primary.do({ do: 'send', messages: theirs })
    await y!.publish('news')
    expect(await x!.received.next()).toBe('y 0')
    expect(await primary.do({ do: 'foreign' })).toEqual({ foreign: theirs.slice(0, 4) })
    for (const guest of [x!, y!]) expect(await guest.do({ do: 'foreign' })).toEqual({ foreign: theirs })
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('may be busy for long: the others go on, nothing piles up, and they hear that they have missed something', async () => {
    const exchange = { maxBacklogBytes: 1_048_576 }
    const primary = new Primary({ threads: ['x', 'y'], serves: 'main', exchange })
    const [x, y, main] = await enterAll(primary, ['x', 'y', 'main'])
    for (const guest of [x!, y!]) await guest.subscribe('news')
    await y!.do({ do: 'block' })
    for (let first = 0; first < 640; first += 8) {
      await main!.publish('news', { first, count: 8, bytes: 65_536 })
      await x!.received.take(8)
    }
    expect(await primary.line('at', 'exchange')).toMatchObject({
      error: expect.stringMatching(/^the thread \d+ does not/),
    })
    await primary.do({ do: 'unblock' })
    expect(await primary.line('at', 'y')).toMatchObject({ error: expect.stringMatching(/\d+ messages were dropped/) })
    await primary.line('restored', true)
    await main!.publish('news', { first: 640 })
    const received: number[] = []
    while (received.at(-1) !== 640) received.push(numberIn(await y!.received.next()))
    // So much had room; then nothing was let through by chance.
    expect(received.length).toBeLessThan(64)
    expect(received.slice(0, -1)).toEqual(range(0, received.length - 1))
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('hear that the exchange is closed, and find the next one', async () => {
    const primary = new Primary({ threads: ['x', 'y'], serves: 'main' })
    const [x, y, main] = await enterAll(primary, ['x', 'y', 'main'])
    for (const guest of [x!, y!, main!]) await guest.subscribe('news')
    await primary.do({ do: 'closeExchange' })
    for (const name of ['x', 'y', 'main']) {
      expect(await primary.line('at', name)).toMatchObject({ code: 'ERR_BACKPLANE' })
    }
    expect(await x!.publish('news')).toEqual({ everywhere: 0 })
    await primary.do({ do: 'startExchange' })
    await primary.until({ members: 3, channels: 2 })
    for (const guest of [x!, y!, main!]) await guest.do({ do: 'unsubscribe', topics: ['nothing'] })
    await x!.publish('news', { first: 1 })
    for (const guest of [y!, main!]) expect(await guest.received.next()).toBe('x 1')
    expect(await primary.end()).toEqual(CLEAN_END)
  })
})
