import { describe, expect, it, onTestFinished } from 'vitest'
import { connect, type ReconnectingConnection, reconnecting } from '../../src/index.ts'
import { describeWithNats, startNats } from '../support/nats-server.ts'
import { type Program, startScript } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { describeWithRedis, startRedis } from '../support/redis-server.ts'
import { until } from '../support/servers.ts'

/*
 * Several server processes, real ones, on a real engine: messages are counted at every client, while processes are
 * killed, the engine is stopped and held, and others write to its channels.
 */

/** An engine, in the hands of a test. */
interface Engine {
  readonly port: number
  start(): Promise<void>
  stop(): Promise<void>
  hold(): unknown
  goOn(): void
  /** Writes something to every channel and subject of ours that there is. */
  writeGarbage(): Promise<number>
  /** Subscriptions of our processes. */
  countSubscriptions(): Promise<number>
  /** What our processes have left in it: connections and subscriptions. */
  countLeft(): Promise<number>
}

async function startRedisEngine(): Promise<Engine> {
  const redis = await startRedis({ appendonly: true, settings: { appendfsync: 'always' } })
  return {
    port: redis.port,
    start: () => redis.start(),
    stop: () => redis.stop(),
    hold: () => redis.pause(),
    goOn: () => redis.resume(),
    writeGarbage: async () => {
      const channels = await redis.channels()
      for (const channel of channels) await redis.command('PUBLISH', channel, Buffer.from([0x66, 0x64, 1, 0, 255, 255]))
      return channels.length
    },
    countSubscriptions: async () => (await redis.channels()).length,
    countLeft: async () => (await redis.channels()).length + (await redis.countClients()),
  }
}

async function startNatsEngine(): Promise<Engine> {
  const nats = await startNats()
  return {
    port: nats.port,
    start: () => nats.start(),
    stop: () => nats.stop(),
    hold: () => nats.hold(),
    goOn: () => nats.goOn(),
    writeGarbage: async () => {
      const subjects = new Set((await nats.subjects()).filter((subject) => /^fullduplex\.msg\.[^*>]+$/.test(subject)))
      const connection = await nats.connect()
      for (const subject of subjects) connection.publish(subject, Buffer.from([0x66, 0x64, 1, 0, 255, 255]))
      await connection.flush()
      return subjects.size
    },
    countSubscriptions: async () => (await nats.subjects()).length,
    countLeft: async () => (await nats.subjects()).length,
  }
}

interface ServerEvent {
  readonly event: string
  readonly code?: string
  readonly clients?: number
  readonly topics?: number
  readonly reaches?: readonly string[]
}

/** A server process. */
class ServerProcess {
  readonly program: Program
  readonly name: string
  port = 0

  constructor(kind: string, engine: Engine, name: string) {
    this.name = name
    this.program = startScript('test/support/cluster-node.ts', [kind, `${engine.port}`, name])
  }

  async listening(): Promise<this> {
    this.port = (JSON.parse(await this.program.line('"listening"')) as { port: number }).port
    return this
  }

  get events(): ServerEvent[] {
    return this.program.lines.map((line) => JSON.parse(line) as ServerEvent)
  }

  /** The next event of this kind that was not awaited yet. */
  readonly #awaited = new Map<string, number>()
  async next(event: string): Promise<ServerEvent> {
    const seen = this.#awaited.get(event) ?? 0
    const find = (): ServerEvent | undefined => this.events.filter((each) => each.event === event)[seen]
    await until(() => find() !== undefined)
    this.#awaited.set(event, seen + 1)
    return find()!
  }

  async count(): Promise<ServerEvent> {
    this.program.type('count')
    return this.next('count')
  }

  url(...topics: string[]): string {
    const query = topics.map((topic) => `topic=${encodeURIComponent(topic)}`)
    return `ws://127.0.0.1:${this.port}/?${query.join('&')}`
  }
}

async function startProcesses(kind: string, engine: Engine, names = ['a', 'b', 'c']): Promise<ServerProcess[]> {
  return Promise.all(names.map((name) => new ServerProcess(kind, engine, name).listening()))
}

interface Client {
  readonly received: string[]
}

/** Clients of a process, in these topics; the engine knows of them. */
async function enter(server: ServerProcess, count: number, ...topics: string[]): Promise<Client[]> {
  const clients = await Promise.all(
    Array.from({ length: count }, async () => {
      const received: string[] = []
      const connection = await connect(server.url(...topics), {
        message: (_, data) => void received.push(String(data)),
      })
      onTestFinished(() => connection.terminate())
      return { received }
    }),
  )
  await server.count()
  return clients
}

function numbers(name: string, from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => `${name}:${from + index}`)
}

/** What a client has of one publisher. */
function of(name: string, { received }: Client): string[] {
  return received.filter((message) => message.startsWith(`${name}:`))
}

function describeEngine(kind: string, startEngine: () => Promise<Engine>): void {
  describe(`three processes with ${kind}`, () => {
    it('bring every message to every client, once, in order, and nothing to others', async () => {
      const engine = await startEngine()
      const processes = await startProcesses(kind, engine)
      const inNews = (await Promise.all(processes.map((each) => enter(each, 5, 'news')))).flat()
      const others = (await Promise.all(processes.map((each) => enter(each, 2, 'other')))).flat()
      for (const each of processes) each.program.type('publish news 0 1000')
      await until(() => inNews.every(({ received }) => received.length >= 3_000))
      for (const { program } of processes) program.type('publish other 0 1')
      await until(() => others.every(({ received }) => received.length === 3))
      for (const client of inNews) {
        expect(client.received).toHaveLength(3_000)
        for (const { name } of processes) expect(of(name, client)).toEqual(numbers(name, 0, 1_000))
      }
      for (const each of processes) expect((await each.next('published')).reaches).toEqual(['everywhere'])

      expect(await engine.countLeft()).toBeGreaterThan(0)
      for (const { program } of processes) expect(await program.stop('SIGTERM')).toBe(0)
      await until(() => processes.every(({ events }) => events.at(-1)?.event === 'closed'))
      await expect.poll(() => engine.countLeft()).toBe(0)
      for (const { program } of processes) expect(program.errorOutput).toBe('')
    })

    it('go on when one of them is killed, and take another in', async () => {
      const engine = await startEngine()
      const [a, b, c] = (await startProcesses(kind, engine)) as [ServerProcess, ServerProcess, ServerProcess]
      const clients = [...(await enter(a, 2, 'news')), ...(await enter(b, 2, 'news'))]
      await enter(c, 2, 'news')
      c.program.type('publish news 0 100')
      await until(() => clients.every(({ received }) => received.length === 100))
      await c.program.stop('SIGKILL')
      a.program.type('publish news 0 100')
      await until(() => clients.every(({ received }) => received.length === 200))
      const d = await new ServerProcess(kind, engine, 'd').listening()
      const newcomers = await enter(d, 2, 'news')
      b.program.type('publish news 0 100')
      d.program.type('publish news 0 100')
      await until(() => newcomers.every(({ received }) => received.length === 200))
      await until(() => clients.every(({ received }) => received.length === 400))
      for (const client of clients) expect(of('d', client)).toEqual(numbers('d', 0, 100))
      expect([a, b, d].flatMap(({ events }) => events.filter(({ event }) => event === 'error'))).toEqual([])
    })

    it.each([
      ['is stopped and started again', 'stop'],
      ['is cut off from them for a while', 'hold'],
    ] as const)('deliver to their own clients while the engine %s, say so once, and go on', async (_, how) => {
      const engine = await startEngine()
      const [a, b] = (await startProcesses(kind, engine, ['a', 'b'])) as [ServerProcess, ServerProcess]
      const [ofA] = (await enter(a, 1, 'news')) as [Client]
      const [ofB] = (await enter(b, 1, 'news')) as [Client]
      a.program.type('publish news 0 10')
      await until(() => ofB.received.length === 10)
      if (how === 'stop') await engine.stop()
      else await engine.hold()
      for (const each of [a, b]) expect(await each.next('error')).toMatchObject({ code: 'ERR_BACKPLANE' })
      a.program.type('publish news 10 20')
      await until(() => ofA.received.length === 20)
      expect((await a.next('published')).reaches).toEqual(['everywhere'])
      expect((await a.next('published')).reaches).toEqual(['process'])
      // Somebody comes in meanwhile, and is known to the engine when it is back.
      const later = await enter(b, 1, 'later')
      if (how === 'stop') await engine.start()
      else engine.goOn()
      for (const each of [a, b]) await each.next('restored')
      await b.count()
      a.program.type('publish news 20 30')
      a.program.type('publish later 0 10')
      await until(() => later[0]!.received.length === 10 && ofB.received.length >= 20 && ofA.received.length === 30)
      expect(ofB.received).toEqual([...numbers('a', 0, 10), ...numbers('a', 20, 30)])
      expect(ofA.received).toEqual(numbers('a', 0, 30))
      for (const { events } of [a, b]) expect(events.filter(({ event }) => event === 'error')).toHaveLength(1)
    })

    it('are not held up by one that stands still', async () => {
      const engine = await startEngine()
      const [a, b, c] = (await startProcesses(kind, engine)) as [ServerProcess, ServerProcess, ServerProcess]
      const [ofB] = (await enter(b, 1, 'news')) as [Client]
      const [ofC] = (await enter(c, 1, 'news')) as [Client]
      c.program.child.kill('SIGSTOP')
      onTestFinished(() => void c.program.child.kill('SIGCONT'))
      a.program.type('publish news 0 5000')
      await until(() => ofB.received.length === 5_000)
      expect(ofB.received).toEqual(numbers('a', 0, 5_000))
      expect(ofC.received).toEqual([])
      c.program.child.kill('SIGCONT')
      // What it has missed by then, if anything, it has missed; what comes arrives in order.
      await until(() => {
        a.program.type('publish news 5000 5001')
        return ofC.received.includes('a:5000')
      })
      expect(of('a', ofC).filter((message) => message !== 'a:5000')).toEqual(
        numbers('a', 0, 5_000).slice(0, ofC.received.indexOf('a:5000')),
      )
    })

    it('carry ten thousand topics, and forget them', async () => {
      const engine = await startEngine()
      const [a, b] = (await startProcesses(kind, engine, ['a', 'b'])) as [ServerProcess, ServerProcess]
      const before = await engine.countSubscriptions()
      const received: string[] = []
      const topics = Array.from({ length: 10_000 }, (_, index) => `t${index}`)
      const connections = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          // A head may have 16 KiB.
          connect(b.url(...topics.slice(index * 200, index * 200 + 200)), {
            message: (__, data) => void received.push(String(data)),
          }),
        ),
      )
      expect(await b.count()).toMatchObject({ clients: 50, topics: 10_000 })
      for (let index = 0; index < 10_000; index += 1_111) a.program.type(`publish t${index} ${index} ${index + 1}`)
      await until(() => received.length === 10)
      expect(received.toSorted()).toEqual(Array.from({ length: 10 }, (_, index) => `a:${index * 1_111}`).toSorted())
      for (const connection of connections) connection.terminate()
      await expect.poll(async () => (await b.count()).topics).toBe(0)
      await expect.poll(() => engine.countSubscriptions()).toBe(before)
    })

    it('are not harmed by what another program writes to their channels', async () => {
      const engine = await startEngine()
      const [a, b] = (await startProcesses(kind, engine, ['a', 'b'])) as [ServerProcess, ServerProcess]
      const clients = [...(await enter(a, 1, 'news')), ...(await enter(b, 1, 'news'))]
      expect(await engine.writeGarbage()).toBeGreaterThan(0)
      expect(await engine.writeGarbage()).toBeGreaterThan(0)
      a.program.type('publish news 0 10')
      await until(() => clients.every(({ received }) => received.length === 10))
      for (const { received } of clients) expect(received).toEqual(numbers('a', 0, 10))
      for (const { events } of [a, b]) {
        expect(events.filter(({ event }) => event === 'error')).toMatchObject([{ code: 'ERR_BACKPLANE' }])
      }
    })
  })

  describe(`histories with ${kind}`, () => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    it(`give every client exactly what was published, whatever happens (seed ${seed})`, {
      timeout: 180_000,
    }, async () => {
      const random = seededRandom(seed)
      const engine = await startEngine()
      let born = 0
      const newProcess = (): Promise<ServerProcess> => new ServerProcess(kind, engine, `p${born++}`).listening()
      const serving = await Promise.all([newProcess(), newProcess(), newProcess()])
      // One process publishes and is never killed: of one that is, nobody knows what the history has.
      const publisher = await new ServerProcess(kind, engine, 'publisher').listening()
      const clients = Array.from({ length: 6 }, () => follow(serving, random))
      await until(() => clients.every(({ client }) => client.state === 'open'))
      await Promise.all(serving.map((each) => each.count()))
      await until(() => clients.every(({ begun }) => begun()))

      const steps = 12
      const each = 40
      for (let step = 0; step < steps; step++) {
        publisher.program.type(`keep kept/${0} ${step * each} ${(step + 1) * each}`)
        const choice = random(5)
        if (choice === 0) {
          const [victim] = serving.splice(random(serving.length), 1)
          await victim!.program.stop('SIGKILL')
          serving.push(await newProcess())
        } else if (choice === 1) {
          await engine.stop()
          await engine.start()
        } else if (choice === 2) {
          for (const { client } of clients) if (random(2) === 0) client.connection?.terminate()
        } else if (choice === 3) {
          await engine.hold()
          await new Promise((resolve) => setTimeout(resolve, 300 + random(900)))
          engine.goOn()
        }
        await publisher.next('kept')
      }
      const published = numbers('publisher', 0, steps * each)
      for (const { received, gaps } of clients) {
        await until(() => received.all.length >= published.length)
        expect(received.all).toEqual(published)
        expect(gaps).toEqual([])
      }
    })
  })
}

interface Follower {
  readonly client: ReconnectingConnection
  readonly received: Queue<string>
  readonly gaps: string[]
  /** It has been told its place. */
  begun(): boolean
}

/** A client that comes back to any of the processes, and goes on where it was. */
function follow(serving: readonly ServerProcess[], random: Random): Follower {
  const received = new Queue<string>()
  const gaps: string[] = []
  const client = reconnecting(() => serving[random(serving.length)]!.url('kept/0'), {
    resume: true,
    minDelayMs: 10,
    maxDelayMs: 100,
    message: (_, data) => received.push(String(data)),
    gap: (topic) => gaps.push(topic),
  })
  onTestFinished(() => client.close())
  return { client, received, gaps, begun: () => client.state === 'open' }
}

describeWithRedis('Redis', () => {
  describeEngine('node-redis', startRedisEngine)
  describeEngine('ioredis', startRedisEngine)
})

describeWithNats('NATS', () => {
  describeEngine('nats', startNatsEngine)
})
