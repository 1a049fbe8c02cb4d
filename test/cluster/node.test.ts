import { describe, expect, it, onTestFinished } from 'vitest'
import { until } from '../support/servers.ts'
import { bytesSpec, outageSpec, sharingSpec } from './contract/driver.ts'
import { exchange } from './contract/node-engine.ts'
import {
  CLEAN_END,
  Guest,
  numbered,
  numberIn,
  Primary,
  range,
  resumeProcess,
  type Serialization,
} from './node-programs.ts'

const NAMES = ['a', 'b', 'c'] as const
async function enterAll(primary: Primary): Promise<[Guest, Guest, Guest]> {
  return [await primary.enter('a'), await primary.enter('b'), await primary.enter('c')]
}

describe('members in the process of the exchange', () => {
  bytesSpec(exchange, { text: '{"\\' })
  sharingSpec(exchange)
  outageSpec(exchange)
})

describe.each<Serialization>(['json', 'advanced'])('workers with %s messages', (serialization) => {
  it('share what is published and broadcast, without an echo', async () => {
    const primary = new Primary({ serialization, workers: NAMES })
    const guests = await enterAll(primary)
    const [a, b, c] = guests
    for (const guest of guests) await guest.subscribe('news')
    const texts = ['text é €', '', '\u0001 "quoted"\n', 'x'.repeat(1_000_000)]
    for (const data of texts) await a.do({ do: 'publishFrom', topic: 'news', data })
    await b.do({ do: 'publishBytes', topic: 'news', bytes: [0, 255, 128] })
    expect(await c.do({ do: 'broadcast', data: 'all' })).toEqual({ sent: 1, dropped: 0, reach: 'everywhere' })
    expect(await primary.do({ do: 'publish', topic: 'news', data: 'of the primary' })).toEqual({
      sent: 0,
      dropped: 0,
      reach: 'everywhere',
    })
    const bytes = Buffer.of(0, 255, 128)
    const all = new Set<string | Buffer>([...texts, bytes, 'all', 'of the primary'])
    for (const guest of [b, c]) expect(new Set(await guest.received.take(7))).toEqual(all)
    expect(new Set(await a.received.take(3))).toEqual(new Set([bytes, 'all', 'of the primary']))
    expect(await primary.end()).toEqual(CLEAN_END)
    expect(guests.map(({ received }) => received.all.length)).toEqual([3, 7, 7])
  })

  it('keep the order of each publisher, without a duplicate', async () => {
    const primary = new Primary({ serialization, workers: NAMES })
    const guests = await enterAll(primary)
    for (const guest of guests) await guest.subscribe('news', 'more')
    // Lines of different lengths, so that they travel together and alone.
    await Promise.all(guests.map((guest, index) => guest.publish('news', { count: 500, bytes: 10_000 * index })))
    for (const guest of guests) {
      const received = (await guest.received.take(1_500)).map((text) => String(text).replace(/\.+$/, ''))
      for (const name of NAMES) expect(received.filter((text) => text.startsWith(name))).toEqual(numbered(name, 500))
    }
    expect(await primary.end()).toEqual(CLEAN_END)
    expect(guests.map(({ received }) => received.all.length)).toEqual([1_500, 1_500, 1_500])
  })

  it('get what they have subscribed to, and nothing else', async () => {
    const primary = new Primary({ serialization, workers: NAMES })
    const [a, b, c] = await enterAll(primary)
    await b.subscribe('to b', 'to both')
    await c.subscribe('to c', 'to both')
    for (const topic of ['to b', 'to c', 'to both', 'to nobody']) await a.publish(topic, { count: 100, atOnce: 1 })
    await c.received.take(200)
    await c.do({ do: 'unsubscribe', topics: ['to both'] })
    await a.publish('to both', { count: 10, atOnce: 1 })
    // What it publishes itself does not come back to it.
    await b.publish('to b', { count: 10, atOnce: 1 })
    await a.do({ do: 'broadcast', data: 'end' })
    expect((await b.received.take(221)).at(-1)).toBe('end')
    expect(await c.received.next()).toBe('end')
    // The process, and not just its client.
    const arrived = async (guest: Guest): Promise<unknown> => (await guest.do({ do: 'stats' }))['arrived']
    expect(await arrived(a)).not.toHaveProperty('message')
    expect(await arrived(b)).toHaveProperty('message', 211)
    expect(await arrived(c)).toHaveProperty('message', 201)
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('leave the messages of others on the same channel alone, and are left alone', async () => {
    const primary = new Primary({ serialization, workers: ['a', 'b'] })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    for (const guest of [a, b]) await guest.subscribe('news')
    const theirs = ['text', 1, null, true, [], {}, { type: 'other' }, { cmd: 'x', items: [] }]
    const garbage = [
      ...[{ type: 'fullduplex' }, { type: 'fullduplex', version: 1 }, { type: 'fullduplex', version: 1, items: [] }],
      { type: 'fullduplex', version: 1, member: {}, items: {} },
      { type: 'fullduplex', version: 2, member: 'x', items: [['join', 'x', 1, []]] },
      {
        type: 'fullduplex',
        version: 1,
        member: 'x',
        items: [null, 1, [], ['join'], ['leave', 1], [{}], ['__proto__']],
      },
      { type: 'fullduplex', version: 1, member: 'x', items: [['publish', '#news', 'AAAA'], ['ping'], ['leave']] },
      {
        type: 'fullduplex',
        version: 1,
        member: 'x',
        items: [
          ['joined', 1],
          ['message', '#news', 'AAAA'],
          ['lost', -1],
        ],
      },
    ]
    await a.do({ do: 'send', messages: [...theirs, ...garbage] })
    await primary.do({ do: 'send', messages: [...garbage, ...theirs] })
    expect(await b.publish('news', { count: 3 })).toEqual({ everywhere: 3 })
    expect(await a.received.take(3)).toEqual(numbered('b', 3))
    expect(await primary.do({ do: 'foreign' })).toEqual({ foreign: theirs })
    for (const guest of [a, b]) expect(await guest.do({ do: 'foreign' })).toEqual({ foreign: theirs })
    expect(await primary.do({ do: 'stats' })).toMatchObject({ members: 2, channels: 2 })
    expect(primary.lines('error')).toEqual([])
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('may be stopped for long: the others go on, nothing piles up, and they hear that they have missed something', async () => {
    const maxBacklogBytes = 8_388_608
    const primary = new Primary({ serialization, workers: NAMES, exchange: { maxBacklogBytes } }, '--expose-gc')
    const [a, b, c] = await enterAll(primary)
    for (const guest of [b, c]) await guest.subscribe('news')
    const publish = async (rounds: number, first: number): Promise<void> => {
      for (let round = 0; round < rounds; round++) {
        const told = await a.publish('news', { first: first + round * 32, count: 32, bytes: 65_536 })
        expect(told).toEqual({ everywhere: 32 })
        await b.received.take(32)
      }
    }
    await publish(4, 0)
    await c.received.take(128)
    process.kill(c.pid, 'SIGSTOP')
    onTestFinished(() => resumeProcess(c.pid))
    await publish(8, 128)
    const before = await primary.do({ do: 'stats' })
    await publish(64, 384)
    const after = await primary.do({ do: 'stats' })
    // 128 MiB have gone by, or more as base64; the rest is what a process takes more or less.
    expect(Number(after['rss']) - Number(before['rss'])).toBeLessThan(80 * 1_048_576)
    expect(await primary.line('at', 'exchange')).toMatchObject({ error: expect.stringContaining(`process ${c.pid}`) })
    process.kill(c.pid, 'SIGCONT')
    const { error, code } = await primary.line('at', 'c')
    expect([error, code]).toEqual([expect.stringMatching(/\d+ messages were dropped/), 'ERR_BACKPLANE'])
    await primary.line('restored', true)
    await publish(2, 2_432)
    const received: number[] = []
    while (received.at(-1) !== 2_495) received.push(numberIn(await c.received.next()))
    // What had been sent to it before, without a gap; and what was sent behind the report, without a gap.
    const gap = received.findIndex((number, index) => index > 0 && number !== received[index - 1]! + 1)
    expect(received.slice(0, gap)).toEqual(range(128, gap))
    expect(received.slice(gap)).toEqual(range(2_432, 64))
    expect(primary.lines('error').length).toBe(2)
    expect(await primary.end()).toEqual(CLEAN_END)
  })
})

describe('a worker', () => {
  it('that is killed is forgotten; one that starts joins', async () => {
    const primary = new Primary({ workers: NAMES })
    const [a, b, c] = await enterAll(primary)
    for (const guest of [a, b, c]) await guest.subscribe('news')
    await c.subscribe('of c alone')
    expect(await primary.do({ do: 'stats' })).toMatchObject({ members: 3, channels: 3 })
    const publishing = a.publish('news', { count: 3_000, bytes: 1_000 })
    await c.received.take(100)
    process.kill(c.pid, 'SIGKILL')
    expect(await primary.line('exit', 'c')).toMatchObject({ signal: 'SIGKILL' })
    expect(await publishing).toEqual({ everywhere: 3_000 })
    await b.received.take(3_000)
    await primary.until({ members: 2, channels: 2 })
    await primary.do({ do: 'fork', name: 'd' })
    const d = await primary.enter('d')
    await d.subscribe('news')
    await d.publish('news', { count: 2 })
    await a.publish('news', { count: 2, first: 3_000 })
    expect((await b.received.take(4)).sort()).toEqual(['a 3000', 'a 3001', 'd 0', 'd 1'])
    expect(await d.received.take(4)).toEqual(['d 0', 'd 1', 'a 3000', 'a 3001'])
    expect(primary.lines('error')).toEqual([])
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('that leaves is forgotten, and the port goes on for the others', async () => {
    const primary = new Primary({ workers: ['a', 'b'] })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    for (const guest of [a, b]) await guest.subscribe('news', guest.at)
    const { port } = await primary.line('listening', 'a')
    expect(await primary.line('listening', 'b')).toMatchObject({ port })
    await a.do({ do: 'leave' })
    expect(await primary.line('exit', 'a')).toMatchObject({ code: 0 })
    await primary.until({ members: 1, channels: 3 })
    for (let count = 0; count < 4; count++) expect((await Guest.connect(Number(port))).at).toBe('b')
    expect(await b.publish('news')).toEqual({ everywhere: 1 })
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('has ten thousand topics', async () => {
    const primary = new Primary({ workers: ['a', 'b'] })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    const topics = Array.from({ length: 10_000 }, (_, index) => `topic ${index} é`)
    await b.subscribe(...topics)
    expect(await primary.do({ do: 'stats' })).toMatchObject({ members: 2, channels: 10_001 })
    expect(await a.do({ do: 'publish', topics })).toEqual({ everywhere: 10_000 })
    expect(await b.received.take(10_000)).toEqual(Array.from(topics, () => 'a 0'))
    b.connection.terminate()
    await primary.until({ channels: 1 })
    expect(await primary.end()).toEqual(CLEAN_END)
  })
})

describe('the exchange', () => {
  it('may be ended and started: meanwhile everybody is alone, and knows', async () => {
    const primary = new Primary({ workers: ['a', 'b'] })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    for (const guest of [a, b]) await guest.subscribe('news')
    await primary.do({ do: 'closeExchange' })
    for (const name of ['a', 'b']) {
      expect(await primary.line('at', name)).toMatchObject({
        code: 'ERR_BACKPLANE',
        error: 'the backplane is away: the exchange was closed',
      })
    }
    expect(await a.publish('news')).toEqual({ everywhere: 0 })
    await b.subscribe('more')
    await primary.do({ do: 'startExchange' })
    await primary.until({ members: 2, channels: 3 })
    for (const guest of [a, b]) await guest.do({ do: 'unsubscribe', topics: ['nothing'] })
    expect(
      primary
        .lines('restored')
        .map(({ at }) => at)
        .sort(),
    ).toEqual(['a', 'b'])
    for (const topic of ['news', 'more']) expect(await a.publish(topic, { first: 1 })).toEqual({ everywhere: 1 })
    expect(await b.received.take(2)).toEqual(['a 1', 'a 1'])
    expect(await a.received.take(2)).toEqual(['a 0', 'a 1'])
    expect(primary.lines('error').length).toBe(2)
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('may be started late', async () => {
    const primary = new Primary({ workers: ['a', 'b'], exchange: null, options: { isAlone: true } })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    for (const guest of [a, b]) await guest.subscribe('news')
    expect(await a.publish('news')).toEqual({ everywhere: 0 })
    await primary.line('at', 'a')
    await primary.do({ do: 'startExchange' })
    await primary.until({ members: 2, channels: 2 })
    for (const guest of [a, b]) await guest.do({ do: 'unsubscribe', topics: ['nothing'] })
    expect(await a.publish('news', { first: 1 })).toEqual({ everywhere: 1 })
    expect(await b.received.next()).toBe('a 1')
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('may be in a process that does not answer: it counts as away until it does', async () => {
    const backplane = { pingIntervalMs: 50, pingTimeoutMs: 50 }
    const primary = new Primary({ workers: ['a', 'b'], options: { backplane } })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    for (const guest of [a, b]) await guest.subscribe('news')
    const { pid } = primary.program.child
    process.kill(pid!, 'SIGSTOP')
    onTestFinished(() => resumeProcess(pid!))
    while (((await a.publish('news'))['everywhere'] as number) > 0) await a.received.next()
    process.kill(pid!, 'SIGCONT')
    await primary.line('restored', true)
    expect(primary.lines('error').find(({ at }) => at === 'a')).toMatchObject({
      error: 'the backplane is away: the exchange has not answered within 50 ms',
    })
    const before = b.received.all.length
    while (((await a.publish('news', { first: 7 }))['everywhere'] as number) === 0) {}
    while ((await b.received.next()) !== 'a 7') expect(b.received.all.length).toBeLessThan(before + 1_000)
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('may die with its process: workers of a cluster end, others go on alone', async () => {
    const primary = new Primary({ workers: ['a'], children: ['b'] })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    for (const guest of [a, b]) await guest.subscribe('news')
    // In the middle of it.
    const publishing = b.publish('news', { count: 20_000, bytes: 1_000 })
    await a.received.next()
    primary.program.child.kill('SIGKILL')
    await until(() => a.connection.state === 'closed')
    const everywhere = Number((await publishing)['everywhere'])
    expect([everywhere > 0, everywhere < 20_000]).toEqual([true, true])
    await primary.line('at', 'b')
    expect(primary.lines('error').map(({ at, code }) => [at, code])).toEqual([['b', 'ERR_BACKPLANE']])
    expect(await b.publish('news')).toEqual({ everywhere: 0 })
    expect((await b.received.take(20_001)).at(-1)).toBe('b 0')
    process.kill(b.pid, 'SIGKILL')
    await primary.program.closed()
    expect(primary.program.errorOutput).toBe('')
  })

  it('takes in processes that were started with fork', async () => {
    const primary = new Primary({ workers: ['a'], children: ['b', 'c'], serialization: 'advanced' })
    const guests = await enterAll(primary)
    for (const guest of guests) await guest.subscribe('news')
    for (const guest of guests) await guest.publish('news', { count: 10 })
    for (const { received } of guests) {
      expect((await received.take(30)).sort()).toEqual(NAMES.flatMap((name) => numbered(name, 10)))
    }
    expect(await primary.end()).toEqual(CLEAN_END)
  })
})
