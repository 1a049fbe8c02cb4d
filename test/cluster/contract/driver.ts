import { expect, it } from 'vitest'
import { encodeEnvelope } from '../../../src/envelope.ts'
import { createPublisher, prepare } from '../../../src/index.ts'
import { type PlaneNode, untilDown, untilUp } from '../../support/planes.ts'
import { nextTurn, until } from '../../support/servers.ts'
import { type Access, type Engine, numbers, type RunningEngine, startNode, startPlane } from './engine.ts'

/*
 * What a backplane does between servers.
 */

export const EVERYWHERE = { sent: 1, dropped: 0, reach: 'everywhere' }
export const HERE = { sent: 1, dropped: 0, reach: 'process' }

/** Nothing has come that was not taken: what is sent now comes next. */
export async function expectNothingMore({ client, received }: PlaneNode): Promise<void> {
  client.send('the end')
  expect(await received.next()).toBe('the end')
}

/** The way of a process that has a connection, or a client, of its own. */
export interface OwnedAccess extends Access {
  /** Its owner closes it. */
  end(): unknown
  /** Behind the end of the backplane, whose only one it was: it can be used, and nothing is left on it or in the engine. */
  expectUntouched(): Promise<void>
}

/** An engine that can be looked into. */
export interface RunningBroker extends RunningEngine<OwnedAccess> {
  /** It keeps its connections, and does nothing any more. */
  hold(): Promise<void> | void
  goOn(): void
  /** The names that somebody has subscribed to, each once, without those that say whether a process hears. */
  subscriptions(): Promise<string[]>
  /** What it has besides of so many backplanes that are up. */
  expectBackplanes(count: number): Promise<void>
  /** Where it hears of an end by a closed connection alone: waits until no more subscriptions than these are left. */
  hasEnded(left: number): Promise<void>
  /** Writes to a channel, as any program could. */
  write(channel: string, message: string | Uint8Array): Promise<void>
  /** The same, in ways that only this engine has, with the name of a channel and a message that has come before. */
  disturb(channel: string, message: Uint8Array): Promise<void>
}

/** A program that many processes are connected to. */
export interface Broker extends Engine<RunningBroker> {
  /** Another one than `fullduplex`. */
  readonly prefix: string
  /** What is subscribed to for a channel, by its name in the engine, written out. */
  name(prefix: string, channel: string): string
  /** For tests in which it goes silent. */
  readonly impatience: { readonly pingIntervalMs: number; readonly pingTimeoutMs: number }
  /** What is told of silence then. */
  readonly silence: string
  /** What it was given before it went silent arrives later: surely, or perhaps. */
  readonly deliversLate: 'surely' | 'perhaps'
  /** What a server is told when the connection was closed. */
  readonly closedError: string
}

const CHANNELS = [
  ...['*', '#*', '#>', '#[a]', '#a.b', '#a b', '#A', '#a', '#{a}', '#😀', '#\r\n\0', '#\r\nPUB', '#__proto__'],
  `#${'é'.repeat(128)}`,
]

/** Bytes, in order. `text` is what the protocol of the engine has in it itself. */
export function bytesSpec(engine: Engine, { text, title = '' }: { text: string; title?: string }): void {
  it(`carries any bytes in the order of the calls, on channels of any name${title}`, async () => {
    const running = await engine.start()
    const [a, b] = [await startPlane(running), await startPlane(running)]
    expect([a.news.all, b.news.all]).toEqual([['up'], ['up']])
    await b.backplane.subscribe(CHANNELS)
    const sent: [string, Buffer][] = []
    for (let round = 0; round < 200; round++) {
      for (const channel of CHANNELS) {
        const bytes = round === 0 ? Buffer.from(numbers(256, 0)) : undefined
        const size = round === 100 ? 70_000 : round % 7
        sent.push([channel, bytes ?? Buffer.alloc(size, `${text}\0${round}`)])
      }
    }
    await Promise.all(sent.map(([channel, message]) => a.backplane.publish(channel, message)))
    // Long texts are compared faster than bytes.
    const asTexts = (all: [string, Buffer][]) => all.map(([channel, message]) => [channel, message.toString('latin1')])
    expect(asTexts(await b.received.take(sent.length))).toEqual(asTexts(sent))
    expect(a.received.all).toEqual([])
  })
}

/** Servers that share what is published. */
export function sharingSpec(engine: Engine): void {
  it('joins servers and publishers, without an echo, without a duplicate', async () => {
    const running = await engine.start()
    const [a, b] = [await startNode(running), await startNode(running)]
    // Elsewhere a server hears what it publishes itself; and another prefix is another world.
    const c = await startNode(running, { noEcho: true })
    const other = await startNode(running, { prefix: 'other' })
    const publisher = createPublisher({ backplane: (await running.access()).backplane })
    const all = [a, b, c, other]
    for (const { client } of all) client.subscribe('news')
    await Promise.all([...all.map(({ server }) => server.synced()), publisher.ready()])
    expect(a.server.publish('news', 'text é')).toEqual(EVERYWHERE)
    expect(await b.received.next()).toBe('text é')
    expect(b.client.publish('news', Buffer.of(0, 255))).toEqual({ ...EVERYWHERE, sent: 0 })
    expect(await c.received.take(2)).toEqual(['text é', Buffer.of(0, 255)])
    expect(publisher.publish('news', 'of a worker')).toEqual({ ...EVERYWHERE, sent: 0 })
    expect(await a.received.take(3)).toEqual(['text é', Buffer.of(0, 255), 'of a worker'])
    expect(c.server.broadcast('all')).toEqual(EVERYWHERE)
    expect(await a.received.next()).toBe('all')
    expect(await b.received.take(2)).toEqual(['of a worker', 'all'])
    expect(await c.received.take(2)).toEqual(['of a worker', 'all'])
    await publisher.close()
    for (const node of all) await expectNothingMore(node)
    for (const { errors } of all) expect(errors.all).toEqual([])
  })

  it('keeps the order of each publisher while many publish', async () => {
    const running = await engine.start()
    const nodes = [await startNode(running), await startNode(running), await startNode(running)]
    for (const { client } of nodes) client.subscribe('news')
    await Promise.all(nodes.map(({ server }) => server.synced()))
    const count = 2_000
    for (let index = 0; index < count; index++) {
      for (const [name, { server }] of nodes.entries()) server.publish('news', `${name} ${index}`)
      if (index % 100 === 0) await nextTurn()
    }
    for (const { received } of nodes) {
      const messages = (await received.take(count * nodes.length)) as string[]
      for (const name of nodes.keys()) {
        const own = messages.filter((message) => message.startsWith(`${name} `))
        expect(own).toEqual(numbers(count, 0).map((index) => `${name} ${index}`))
      }
    }
  })
}

/** Servers whose engine goes away. `expectBack` looks into it when it is back, and two servers are in the topics `news` and `later`. */
export function outageSpec<Running extends RunningEngine>(
  engine: Engine<Running>,
  expectBack?: (running: Running) => Promise<void>,
): void {
  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'goes on in the process while the server is away, and with all when it is back (%s)',
    async (signal) => {
      const running = await engine.start()
      const [a, b] = [await startNode(running), await startNode(running)]
      for (const { client } of [a, b]) client.subscribe('news')
      await Promise.all([a.server.synced(), b.server.synced()])
      await running.stop(signal)
      const errors = await Promise.all([a.errors.next(), b.errors.next()])
      for (const error of errors) expect(error).toMatchObject({ code: 'ERR_BACKPLANE' })
      expect(a.server.publish('news', 'here')).toEqual(HERE)
      expect(a.server.broadcast('here, too')).toEqual(HERE)
      a.client.subscribe('later')
      b.client.unsubscribe('news')
      b.client.subscribe('news')
      expect(await a.received.take(2)).toEqual(['here', 'here, too'])
      await running.start()
      await Promise.all([a.restored.next(), b.restored.next()])
      await Promise.all([a.server.synced(), b.server.synced()])
      await expectBack?.(running)
      expect(b.server.publish('later', 'again')).toEqual({ ...EVERYWHERE, sent: 0 })
      expect(a.server.publish('news', 'again')).toEqual(EVERYWHERE)
      expect(await a.received.take(2)).toEqual(['again', 'again'])
      // What was published meanwhile does not come afterwards.
      expect(await b.received.next()).toBe('again')
      for (const node of [a, b]) {
        await expectNothingMore(node)
        expect([node.errors.all.length, node.restored.all.length]).toEqual([1, 1])
      }
    },
  )
}

/** What is in the engine, and what becomes of the connection to it. */
export function brokerSpec(engine: Broker): void {
  const ours = (...channels: string[]): string[] => channels.map((channel) => engine.name('fullduplex', channel))

  it('subscribes to the topics of its clients, to no others, and leaves nothing', async () => {
    const { prefix } = engine
    const running = await engine.start()
    const { server, client, way } = await startNode(running, { prefix })
    client.subscribe('b')
    client.subscribe('a')
    client.unsubscribe('b')
    client.subscribe('c d')
    await server.synced()
    expect(await running.subscriptions()).toEqual(['#a', '#c d', '*'].map((channel) => engine.name(prefix, channel)))
    await running.expectBackplanes(1)
    client.terminate()
    await until(() => server.clients.size === 0)
    await server.synced()
    expect(await running.subscriptions()).toEqual([engine.name(prefix, '*')])
    await running.expectBackplanes(1)
    await server.close()
    await running.hasEnded(0)
    expect(await running.subscriptions()).toEqual([])
    await way.expectUntouched()
  })

  it('takes what other programs write for what it is', async () => {
    const running = await engine.start()
    const [a, b] = [await startNode(running), await startNode(running)]
    b.client.subscribe('news')
    await b.server.synced()
    const envelope = encodeEnvelope(Buffer.alloc(16, 1), 0, [prepare('from another origin')])
    const [cut, longer] = [envelope.subarray(0, -1), Buffer.concat([envelope, Buffer.of(0)])]
    for (const message of ['', 'hello', cut, longer, Buffer.alloc(100_000, 1)]) await running.write('#news', message)
    await running.write('#news', envelope)
    await running.write('#news', envelope)
    expect(await b.received.next()).toBe('from another origin')
    a.server.publish('news', 'hello')
    expect(await b.received.next()).toBe('hello')
    await expectNothingMore(b)
    expect(b.errors.all).toMatchObject([{ code: 'ERR_BACKPLANE' }])
    expect(b.errors.all[0]!.message).toContain('"#news"')
    expect(a.errors.all).toEqual([])
    await running.disturb('#news', envelope)
    a.server.publish('news', 'on')
    expect(await b.received.next()).toBe('on')
    await expectNothingMore(b)
    expect(b.errors.all).toHaveLength(1)
  })

  outageSpec(engine, async (running) => {
    expect(await running.subscriptions()).toEqual(ours('#later', '#news', '*'))
    await running.expectBackplanes(2)
  })

  it('notices a server that is silent, and gives it nothing meanwhile', async () => {
    const { impatience, silence } = engine
    const running = await engine.start()
    const [a, b] = [await startPlane(running, impatience), await startPlane(running, impatience)]
    await b.backplane.subscribe(['#news'])
    await running.hold()
    const inFlight = a.backplane.publish('#news', Buffer.from('in flight'))
    await expect(inFlight).rejects.toThrow(`has not answered within ${impatience.pingTimeoutMs} ms`)
    expect(await a.news.next()).toBe(silence)
    await expect(a.backplane.publish('#news', Buffer.from('not sent'))).rejects.toThrow('has not answered')
    await expect(a.backplane.subscribe(['#more'])).rejects.toThrow('has not answered')
    expect(await b.news.next()).toBe(silence)
    running.goOn()
    expect(await a.news.next()).toBe('up')
    expect(await b.news.next()).toBe('up')
    await a.backplane.publish('#news', Buffer.from('again'))
    const texts = (): string[] => b.received.all.map(([, message]) => message.toString())
    await until(() => texts().includes('again'))
    // What was on its way may arrive after all; what was published later may not.
    const late = engine.deliversLate === 'surely' || texts().length > 1 ? ['in flight'] : []
    expect(texts()).toEqual([...late, 'again'])
    expect(await running.subscriptions()).toEqual(ours('#news'))
    await running.expectBackplanes(2)
  })

  it('rejects what is on its way when the connection breaks, and does not send it later', async () => {
    const running = await engine.start()
    const [a, b] = [await startPlane(running, { neverResends: true }), await startPlane(running)]
    await b.backplane.subscribe(['#news'])
    await running.hold()
    const inFlight = numbers(100).map((index) => a.backplane.publish('#news', Buffer.from(`${index}`)))
    const settled = Promise.allSettled(inFlight)
    // A client may send in the next turn, and keep what it could not send.
    await nextTurn()
    await nextTurn()
    await running.stop('SIGKILL')
    expect(new Set((await settled).map(({ status }) => status))).toEqual(new Set(['rejected']))
    await expect(a.backplane.publish('#news', Buffer.from('away'))).rejects.toThrow()
    await untilDown(a, b)
    await expect(a.backplane.publish('#news', Buffer.from('away'))).rejects.toThrow()
    await running.start()
    await untilUp(a, b)
    await a.backplane.publish('#news', Buffer.from('again'))
    expect(await b.received.next()).toEqual(['#news', Buffer.from('again')])
    expect(b.received.all).toHaveLength(1)
  })

  it('is down when its connection was closed, and is closed then without it', async () => {
    const running = await engine.start()
    const { way, server, client, errors, received } = await startNode(running)
    client.subscribe('news')
    await server.synced()
    await way.end()
    expect(await errors.next()).toMatchObject({ code: 'ERR_BACKPLANE' })
    expect(errors.all[0]!.message).toContain(engine.closedError)
    expect(server.publish('news', 'here')).toEqual(HERE)
    expect(await received.next()).toBe('here')
    await server.close()
    await running.expectBackplanes(0)
  })

  it('has 10,000 topics, also after a restart', async () => {
    const running = await engine.start()
    const a = await startNode(running, { server: { maxTopicsPerClient: 20_000 } })
    const b = await startNode(running)
    const topics = numbers(10_000)
    for (const index of topics) a.client.subscribe(`topic ${index}`)
    await a.server.synced()
    const round = async (text: string): Promise<void> => {
      for (const index of topics) b.server.publish(`topic ${index}`, `${text} ${index}`)
      expect(new Set(await a.received.take(10_000))).toEqual(new Set(topics.map((index) => `${text} ${index}`)))
    }
    await round('one')
    await running.stop()
    await Promise.all([a.errors.next(), b.errors.next()])
    await running.start()
    await Promise.all([a.restored.next(), b.restored.next()])
    await round('two')
    await a.server.close()
    await running.hasEnded(1)
    expect(await running.subscriptions()).toEqual(ours('*'))
  })
}
