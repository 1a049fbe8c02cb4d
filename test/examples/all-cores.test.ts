import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../../src/index.ts'
import { addressIn, startExample } from '../support/example.ts'
import { freePort, holdPort } from '../support/ports.ts'
import type { Program } from '../support/program.ts'
import { Queue } from '../support/queue.ts'

async function startServer(): Promise<{ server: Program; address: string }> {
  const server = startExample('all-cores', { env: { WORKERS: '2' } })
  const { host } = await addressIn(server)
  return { server, address: `ws://${host}` }
}

/** The example's client, in a terminal, and the process that it is with. */
async function startClient(topic: string, address: string): Promise<{ client: Program; pid: string }> {
  const client = startExample('all-cores', { script: 'client', args: [topic, address] })
  const line = await client.line(`You are in ${topic}`)
  return { client, pid: pidIn(line) }
}

function pidIn(line: string): string {
  return /process (\d+)/.exec(line)![1]!
}

/** A client that stays away when it is sent away. */
async function enter(address: string) {
  const received = new Queue<string>()
  const closed = new Queue<number>()
  const connection = await connect(`${address}/?topic=garden`, {
    message: (_, data) => received.push(String(data)),
    close: (_, { code }) => closed.push(code),
  })
  onTestFinished(() => connection.terminate())
  return { connection, received, closed, pid: pidIn(await received.next()) }
}

/** A client of each of the workers. */
async function enterBoth(address: string) {
  const one = await enter(address)
  let other = await enter(address)
  while (other.pid === one.pid) other = await enter(address)
  return [one, other] as const
}

describe('examples/all-cores', () => {
  it('lets clients of different processes talk', async () => {
    const { server, address } = await startServer()
    const [one, other] = await enterBoth(address)
    const { client, pid } = await startClient('garden', address)
    const { client: stranger } = await startClient('cellar', address)
    client.type('Hello!')
    for (const { received } of [one, other]) expect(await received.next()).toBe(`${pid}: Hello!`)
    one.connection.send('Hello, too!')
    expect(await other.received.next()).toBe(`${one.pid}: Hello, too!`)
    await client.line(`${one.pid}: Hello, too!`)
    client.child.stdin!.end()
    expect(await client.closed()).toBe(0)
    stranger.child.stdin!.end()
    expect(await stranger.closed()).toBe(0)
    expect(stranger.lines.length).toBe(1)
    expect(await server.stop()).toBe(0)
    expect([await one.closed.next(), await other.closed.next()]).toEqual([1012, 1012])
    await server.closed()
    expect([server, client, stranger].map(({ errorOutput }) => errorOutput)).toEqual(['', '', ''])
  })

  it('goes on when a worker is killed', async () => {
    const { server, address } = await startServer()
    const { client, pid } = await startClient('garden', address)
    process.kill(Number(pid), 'SIGKILL')
    await server.line(`Worker ${pid} has died (SIGKILL)`)
    const again = new RegExp(`^You are in garden, by way of process (?!${pid}\\b)`)
    const survivor = pidIn(await client.line(again))
    let [one, other] = await enterBoth(address)
    if (one.pid === survivor) [one, other] = [other, one]
    expect([one.pid, other.pid]).not.toContain(pid)
    one.connection.send('Hello from the new one!')
    await client.line(`${one.pid}: Hello from the new one!`)
    expect(await server.stop()).toBe(0)
  })

  it('replaces all workers one after the other', async () => {
    const { server, address } = await startServer()
    const [one, other] = await enterBoth(address)
    const { client, pid } = await startClient('garden', address)
    server.child.kill('SIGHUP')
    await server.line('All workers are new')
    expect([await one.closed.next(), await other.closed.next()]).toEqual([1012, 1012])
    await client.line('Disconnected (1012), trying again.')
    const now = await enterBoth(address)
    for (const { pid } of now) expect([one.pid, other.pid]).not.toContain(pid)
    const back = new RegExp(`^You are in garden, by way of process (${now[0].pid}|${now[1].pid})`)
    expect(pidIn(await client.line(back))).not.toBe(pid)
    now[0].connection.send('Hello again!')
    await client.line(`${now[0].pid}: Hello again!`)
    expect(await server.stop()).toBe(0)
    await server.closed()
    expect(server.errorOutput).toBe('')
  })

  it('says so when its port is taken', async () => {
    const port = await freePort()
    await holdPort(port)
    const server = startExample('all-cores', { env: { WORKERS: '2', PORT: `${port}` } })
    expect(await server.closed()).toBe(1)
    expect(server.errorOutput).toContain(`no port is free: tried ${port}`)
    expect(server.output).toBe('')
  })
})
