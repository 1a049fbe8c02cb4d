import { MessageChannel } from 'node:worker_threads'
import { describe, expect, it, onTestFinished } from 'vitest'
import { nodeBackplane, startExchange } from '../../src/cluster/node.ts'
import { createPublisher } from '../../src/index.ts'
import { freePorts, holdPort } from '../support/ports.ts'
import { startScript } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { CLEAN_END, Primary } from './node-programs.ts'

describe('a process', () => {
  it.each(['close', 'just end'])('%ss, and so do its children and threads', async (ending) => {
    const program = startScript('test/cluster/programs/jobs.mjs', [ending])
    expect(await program.closed()).toBe(0)
    expect(program.errorOutput).toBe('')
    const lines = program.lines.map((line) => JSON.parse(line))
    const valuesOf = (name: string) => lines.filter((line) => name in line).map((line) => line[name])
    const isClosed = ending === 'close'
    const done = (job: string) => ({ job, reach: 'everywhere', ...(isClosed && { hasRestored: true }) })
    expect(lines.filter((line) => 'job' in line)).toEqual(['here', 'process', 'thread'].map(done))
    expect(valuesOf('heard')).toEqual(['here', 'process', 'thread'])
    expect(valuesOf('codes')).toEqual([[0, 0]])
    expect(valuesOf('error')).toEqual([])
    if (!isClosed) return
    expect(valuesOf('left')).toEqual([[0, 0]])
    expect(lines.at(-1)).toEqual({
      hasRestored: true,
      events: [
        [0, 0],
        [0, 0],
        [0, 0],
      ],
    })
  })
})

describe('workers that listen', () => {
  it('share the first port of a list that others have not taken', async () => {
    const [taken, halfTaken, free] = await freePorts(3)
    await holdPort(taken!)
    await holdPort(halfTaken!, '::1')
    const server = { possiblePorts: [taken, halfTaken, free] }
    const primary = new Primary({ workers: ['a', 'b'], options: { server } })
    for (const name of ['a', 'b']) expect(await primary.line('listening', name)).toMatchObject({ port: free })
    // Each of them, on either address, is reached by way of the primary.
    for (const name of ['a', 'b']) expect((await primary.enter(name)).at).toBe(name)
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('are told when there is none', async () => {
    const [taken, alsoTaken] = await freePorts(2)
    await holdPort(taken!)
    await holdPort(alsoTaken!)
    const primary = new Primary({ workers: ['a', 'b'], options: { server: { possiblePorts: [taken, alsoTaken] } } })
    for (const name of ['a', 'b']) {
      expect(await primary.line('refused', name)).toEqual({
        refused: name,
        code: 'ERR_PORTS_TAKEN',
        message: `no port is free: tried ${taken}, ${alsoTaken}`,
        cause: 'EADDRINUSE',
      })
      expect(await primary.line('exit', name)).toMatchObject({ code: 0 })
    }
    expect(await primary.end()).toEqual(CLEAN_END)
  })

  it('have a port for themselves in each process that was started with fork', async () => {
    const primary = new Primary({ workers: ['a'], children: ['b', 'c'] })
    const ports = await Promise.all(
      ['a', 'b', 'c'].map(async (name) => (await primary.line('listening', name))['port']),
    )
    expect(new Set(ports).size).toBe(3)
    expect(await primary.end()).toEqual(CLEAN_END)
  })
})

describe('in one thread', () => {
  it('several members with one prefix hear of each other, and those with another do not', async () => {
    const exchange = startExchange()
    onTestFinished(() => exchange.close())
    const start = async (prefix?: string) => {
      const publisher = createPublisher({ backplane: nodeBackplane({ prefix }) })
      const heard = new Queue<unknown>()
      publisher.listenTo('news', heard.push)
      await publisher.ready()
      await publisher.synced()
      return { publisher, heard }
    }
    const [a, b, c] = [await start(), await start('fullduplex'), await start('other')]
    expect([exchange.members, exchange.channels]).toEqual([3, 2])
    for (const [index, { publisher }] of [a, b, c].entries()) publisher.publish('news', `${index}`)
    expect(await a.heard.next()).toBe('0')
    expect(await a.heard.next()).toBe('1')
    expect((await b.heard.take(2)).sort()).toEqual(['0', '1'])
    for (const { publisher } of [a, b, c]) await publisher.close()
    expect([a, b, c].map(({ heard }) => heard.all.length)).toEqual([2, 2, 1])
    expect([exchange.members, exchange.channels]).toEqual([0, 0])
  })

  it('members wait for the exchange, and find it at once when it starts', async () => {
    const errors = new Queue<Error>()
    const publisher = createPublisher({ backplane: nodeBackplane(), error: errors.push })
    onTestFinished(() => publisher.close())
    const exchange = startExchange()
    onTestFinished(() => exchange.close())
    await publisher.ready()
    expect([errors.all, exchange.members]).toEqual([[], 1])
  })

  it('there is one exchange, and another one behind it', async () => {
    const exchange = startExchange()
    expect(() => startExchange()).toThrow(expect.objectContaining({ code: 'ERR_SERVER_STATE' }))
    await Promise.all([exchange.close(), exchange.close()])
    const next = startExchange()
    await exchange.close()
    expect(() => startExchange()).toThrow(expect.objectContaining({ code: 'ERR_SERVER_STATE' }))
    await next.close()
  })

  it('options that cannot be are refused', async () => {
    const wrong = (options: object) => () => nodeBackplane(options as never)
    expect(wrong({ prefx: 'a' })).toThrow(expect.objectContaining({ code: 'ERR_OPTION_UNKNOWN' }))
    for (const options of [
      ...[{ prefix: '' }, { prefix: 'a\0b' }, { prefix: 1 }],
      ...[{ pingIntervalMs: -1 }, { pingTimeoutMs: 0 }, { pingTimeoutMs: 1.5 }],
    ]) {
      expect(wrong(options), JSON.stringify(options)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    }
    expect(() => startExchange({ backlog: 1 } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION_UNKNOWN' }),
    )
    for (const maxBacklogBytes of [0, -1, Number.NaN, '1']) {
      expect(() => startExchange({ maxBacklogBytes } as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    }
    const exchange = startExchange()
    onTestFinished(() => exchange.close())
    for (const worker of [undefined, {}, process, new MessageChannel().port1]) {
      expect(() => exchange.add(worker as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    }
    const backplane = nodeBackplane()
    const host = { receive: () => {}, up: () => {}, down: () => {} }
    backplane.start(host)
    expect(() => backplane.start(host)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    await backplane.close()
    await backplane.close()
    await expect(backplane.publish('*', Uint8Array.of(1))).rejects.toThrow('the backplane is closed')
    await expect(backplane.subscribe(['*'])).rejects.toThrow('the backplane is closed')
  })
})
