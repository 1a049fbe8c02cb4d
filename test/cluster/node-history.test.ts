import { describe, expect, it, onTestFinished } from 'vitest'
import { reconnecting } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { seededRandom } from '../support/random.ts'
import { until } from '../support/servers.ts'
import { historySpec } from './contract/history.ts'
import { contentSpec, lossSpec, orderSpec } from './contract/log.ts'
import { exchange } from './contract/node-engine.ts'
import { CLEAN_END, numbered, numberIn, Primary, type PrimaryOptions, range, resumeProcess } from './node-programs.ts'

/*
 * Histories that the exchange keeps: everybody gets everything, in one order, whatever happens to the workers.
 */

const HISTORY = { news: { maxMessages: 100_000, maxAgeMs: 600_000 } }

function start(options: PrimaryOptions, limits: object = HISTORY): Primary {
  const server = { history: limits, maxBufferedBytes: 100_000_000 }
  return new Primary({ ...options, options: { server, joins: ['news'] } })
}

/** A client that says where it was when it comes back. */
function resume(port: unknown) {
  const received = new Queue<string>()
  const gaps = new Queue<string>()
  /** Names of the servers to which it has come. */
  const opened = new Queue<string>()
  const client = reconnecting(`ws://127.0.0.1:${port}`, {
    minDelayMs: 5,
    maxDelayMs: 50,
    resume: true,
    message: (_, data) => {
      if (String(data).startsWith('{')) opened.push(JSON.parse(String(data)).hello)
      else received.push(String(data))
    },
    gap: gaps.push,
  })
  onTestFinished(() => client.close())
  return { client, received, gaps, opened }
}

describe('a history of members in the process of the exchange', () => {
  orderSpec(exchange)
  contentSpec(exchange)
  lossSpec(exchange)
})

describe('clients of servers in the process of the exchange', () => {
  historySpec(exchange)
})

describe.each(['json', 'advanced'] as const)('a history, with %s messages,', (serialization) => {
  it('is one order for everybody, in every process and thread', async () => {
    const primary = start({ serialization, workers: ['a', 'b'], threads: ['t'], serves: 'p' })
    const guests = await Promise.all(['a', 'b', 't', 'p'].map((name) => primary.enter(name)))
    for (const guest of guests) await guest.do({ do: 'subscribe', topics: ['other'] })
    const stored = await Promise.all(guests.map((guest) => guest.do({ do: 'store', topic: 'news', count: 200 })))
    const [first, ...others] = await Promise.all(guests.map(({ received }) => received.take(800)))
    for (const other of others) expect(other).toEqual(first)
    for (const { at } of guests) expect(first!.filter((text) => String(text).startsWith(at))).toEqual(numbered(at, 200))
    const positions = stored.map(({ position }) => String(position))
    expect(new Set(positions.map((position) => position.split('.')[0])).size).toBe(1)
    expect(positions.map(numberIn).length).toBe(4)
    expect(Math.max(...positions.map((position) => Number(position.split('.')[1])))).toBe(800)
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('survives workers that are killed: who comes back gets what it has missed, each message once', async () => {
    const seed = 20_260_801
    const random = seededRandom(seed)
    const primary = start({ serialization, workers: ['a', 'b'], children: ['writer'] })
    const writer = await primary.enter('writer')
    const { port } = await primary.line('listening', 'a')
    await primary.line('listening', 'b')
    const clients = Array.from({ length: 4 }, () => resume(port))
    for (const { opened } of clients) await opened.next()
    // A server knows that a client is in the topic before it hears of messages behind that.
    for (const name of ['a', 'b']) await (await primary.enter(name)).do({ do: 'subscribe', topics: ['other'] })
    const alive = ['a', 'b']
    let first = 0
    for (let times = 0; times < 5; times++) {
      const count = 50 + random(100)
      const [victim] = alive.splice(random(2), 1)
      const { pid } = await primary.line('listening', victim)
      const storing = writer.do({ do: 'store', topic: 'news', first, count, bytes: random(2) * 5_000 })
      const enough = first + random(30)
      await until(() => clients.some(({ received }) => received.all.length > enough))
      process.kill(Number(pid), 'SIGKILL')
      await primary.line('exit', victim)
      const next = `worker${times}`
      await primary.do({ do: 'fork', name: next })
      await primary.line('listening', next)
      alive.push(next)
      await storing
      first += count
    }
    for (const { received, gaps } of clients) {
      await until(() => received.all.length >= first)
      expect(received.all.map(numberIn), `seed ${seed}`).toEqual(range(0, first))
      expect(gaps.all).toEqual([])
    }
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('is read by who was stopped for long, and has missed nothing', async () => {
    const primary = start({ serialization, workers: ['a', 'b'], exchange: { maxBacklogBytes: 1_048_576 } })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    for (const guest of [a, b]) await guest.do({ do: 'subscribe', topics: ['other'] })
    process.kill(b.pid, 'SIGSTOP')
    onTestFinished(() => resumeProcess(b.pid))
    await a.do({ do: 'store', topic: 'news', count: 1_000, bytes: 10_000 })
    await primary.line('at', 'exchange')
    process.kill(b.pid, 'SIGCONT')
    await primary.line('restored', true)
    await a.do({ do: 'store', topic: 'news', first: 1_000, count: 10 })
    expect((await b.received.take(1_010)).map(numberIn)).toEqual(range(0, 1_010))
    expect(await primary.end()).toEqual(CLEAN_END)
  })
})

describe('a history', () => {
  it('that does not reach back far enough says so', async () => {
    const exchange = { maxBacklogBytes: 65_536 }
    const primary = start({ workers: ['a', 'b'], exchange }, { news: { maxMessages: 20 } })
    const [a, b] = [await primary.enter('a'), await primary.enter('b')]
    const { port } = await primary.line('listening', 'a')
    let client = resume(port)
    while ((await client.opened.next()) !== 'b') {
      await client.client.close()
      client = resume(port)
    }
    await b.do({ do: 'subscribe', topics: ['other'] })
    process.kill(b.pid, 'SIGSTOP')
    onTestFinished(() => resumeProcess(b.pid))
    await a.do({ do: 'store', topic: 'news', count: 200, bytes: 10_000 })
    await primary.line('at', 'exchange')
    process.kill(b.pid, 'SIGCONT')
    expect(await client.gaps.next()).toBe('news')
    await until(() => client.received.all.some((text) => numberIn(text) === 199))
    await a.do({ do: 'store', topic: 'news', first: 200 })
    await until(() => client.received.all.some((text) => numberIn(text) === 200))
    const numbers = client.received.all.map(numberIn)
    const gap = numbers.findIndex((number, index) => index > 0 && number !== numbers[index - 1]! + 1)
    expect(numbers).toEqual([...range(0, gap), ...range(180, 21)])
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('ends with its exchange, and who comes back is told', async () => {
    const primary = start({ workers: ['a', 'b'] })
    const a = await primary.enter('a')
    const { port } = await primary.line('listening', 'a')
    const { received, gaps, opened } = resume(port)
    await opened.next()
    await a.do({ do: 'subscribe', topics: ['other'] })
    await a.do({ do: 'store', topic: 'news' })
    expect(await received.next()).toBe('a 0')
    await primary.do({ do: 'closeExchange' })
    await primary.line('at', 'a')
    await primary.do({ do: 'startExchange' })
    expect(await gaps.next()).toBe('news')
    await primary.until({ members: 2 })
    await a.do({ do: 'subscribe', topics: ['more'] })
    await a.do({ do: 'store', topic: 'news', first: 1 })
    expect(await received.next()).toBe('a 1')
    expect([received.all.length, gaps.all.length]).toEqual([2, 1])
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('keeps nothing while the exchange is away', async () => {
    const primary = start({ workers: ['a'] })
    const a = await primary.enter('a')
    await primary.do({ do: 'closeExchange' })
    await primary.line('at', 'a')
    await expect(a.do({ do: 'store', topic: 'news' })).rejects.toThrow('closed with 1011')
    expect(primary.lines('error').map(({ code }) => code)).toContain('ERR_HISTORY')
    expect(await primary.end()).toEqual({ ...CLEAN_END, members: undefined, channels: undefined })
  })
})
