import { expect, it, onTestFinished } from 'vitest'
import { reconnecting, type WebSocketConnection, type WebSocketServerOptions } from '../../../src/index.ts'
import type { PlaneNode } from '../../support/planes.ts'
import { Queue } from '../../support/queue.ts'
import { nextTurn, openClient, until } from '../../support/servers.ts'
import { type Engine, numbers, type RunningEngine, startNode } from './engine.ts'
import type { Store } from './log.ts'

/*
 * What clients get of a history that their servers have in common.
 */

const SERVER: WebSocketServerOptions = { history: { news: { maxMessages: 100 }, all: { maxMessages: 100_000 } } }

async function startNodes(running: RunningEngine): Promise<[PlaneNode, PlaneNode]> {
  return [await startNode(running, { server: SERVER }), await startNode(running, { server: SERVER })]
}

/** Histories of an engine that need not keep anything over its own end. */
export function historySpec(engine: Engine): void {
  it('get everything that was published, wherever it was, in one order', async () => {
    const nodes = await startNodes(await engine.start())
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
    const [a, b] = await startNodes(await engine.start())
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
    const [a, b] = await startNodes(await engine.start())
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
    onTestFinished(() => client.close())
    // One that was cut may be listed for a moment.
    const everybody = (): WebSocketConnection[] =>
      [...a.server.clients.values(), ...b.server.clients.values()].filter(({ state }) => state === 'open')
    const subscribeAll = async (): Promise<void> => {
      await until(() => everybody().length === 3)
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
    const expected = numbers(5, 0).flatMap((round) => [
      ...numbers(20).map((index) => `${round} ${index}`),
      `${round} while nobody was there`,
    ])
    expect(received).toEqual(expected)
    expect(gaps).toEqual([])
  })

  it('are told that something is missing when the server has kept nothing', async () => {
    const running = await engine.start()
    const [a, b] = await startNodes(running)
    const gaps = new Queue<string>()
    b.client.subscribe('news', { gap: () => gaps.push('gap') })
    await b.server.synced()
    const position = await a.server.publish('news', 'old').stored!
    expect(await b.received.next()).toBe('old')
    await running.stop()
    await Promise.all([a.errors.next(), b.errors.next()])
    await running.start()
    await Promise.all([a.restored.next(), b.restored.next()])
    await a.server.publish('news', 'new').stored
    expect(await b.received.next()).toBe('new')
    expect(await gaps.next()).toBe('gap')
    b.client.unsubscribe('news')
    b.client.subscribe('news', { after: position, gap: () => gaps.push('old position') })
    expect(await gaps.next()).toBe('old position')
    expect(gaps.all).toHaveLength(2)
  })
}

/** Histories that somebody can delete, and that are there again behind a restart. */
export function storedHistorySpec(engine: Store): void {
  it('miss nothing while the server is restarted and the publisher tries again', async () => {
    const running = await engine.start({ keeps: 'always' })
    const [a, b] = await startNodes(running)
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
      await running.stop(round % 2 === 0 ? 'SIGKILL' : 'SIGTERM')
      await running.start()
    }
    isOver = true
    const count = await published
    await until(() => b.received.all.at(-1) === `${count}`)
    expect([...new Set(b.received.all)]).toEqual(numbers(count).map(String))
    const outages = [a.errors, b.errors].map(({ all }) => all.filter(({ message }) => message.includes('away')).length)
    expect(outages).toEqual([4, 4])
  })

  it('are told that something is missing when the history was deleted', async () => {
    const running = await engine.start()
    const [a, b] = await startNodes(running)
    const gaps: WebSocketConnection[] = []
    b.client.subscribe('news', { gap: () => void gaps.push(b.client) })
    await b.server.synced()
    await a.server.publish('news', 'old').stored
    expect(await b.received.next()).toBe('old')
    await running.deleteLog('news')
    const position = await a.server.publish('news', 'new').stored!
    expect(await b.received.next()).toBe('new')
    expect(gaps).toEqual([b.client])
    expect(position).toMatch(/^[^.]+\.1$/)
    const late = await openClient(b.url)
    expect(late.state).toBe('open')
  })
}
