import { describe, expect, it, onTestFinished } from 'vitest'
import { connect, type HandshakeError } from '../../src/index.ts'
import { addressIn, startExample } from '../support/example.ts'
import { describeWithNats, startNats } from '../support/nats-server.ts'
import type { Program } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { describeWithRedis, startRedis } from '../support/redis-server.ts'

async function startServer(): Promise<{ server: Program; address: string }> {
  const server = startExample('group-chat')
  const { host } = await addressIn(server)
  return { server, address: `ws://${host}` }
}

/** The example's client, in a terminal. */
async function startClient(name: string, address: string): Promise<Program> {
  const client = startExample('group-chat', { script: 'client', args: [name, address] })
  await client.line(`Hello, ${name}!`)
  return client
}

/** A client that may also say what the example's own never would. */
async function enter(name: string, address: string) {
  const received = new Queue<unknown>()
  const closed = new Queue<number>()
  const connection = await connect(`${address}/?name=${encodeURIComponent(name)}`, {
    message: (_connection, data) => received.push(JSON.parse(String(data))),
    close: (_connection, { code }) => closed.push(code),
  })
  onTestFinished(() => connection.close())
  const send = (command: unknown): boolean => connection.send(JSON.stringify(command))
  return { connection, received, closed, send }
}

/** A server process of several; `backplane` is what joins them. */
async function startOneOf(backplane: string): Promise<string> {
  const server = startExample('group-chat', { env: { BACKPLANE: backplane } })
  const { host } = await addressIn(server)
  return `ws://${host}`
}

/** What people in several processes notice of each other. */
async function talk(addresses: readonly string[]): Promise<void> {
  const names = ['Ann', 'Bob', 'Eve', 'Joe', 'Kim', 'Lea', 'Max', 'Sue'].slice(0, addresses.length * 2)
  const guests: Awaited<ReturnType<typeof enter>>[] = []
  // Word of somebody who came before may be on its way for longer than it takes the next one to come.
  const isLate = (message: unknown, listener: number): boolean => {
    const { type, name } = message as { type: string; name: string }
    return type === 'joined' && names.indexOf(name) < listener
  }
  const hear = async (listener: number): Promise<unknown> => {
    const message = await guests[listener]!.received.next()
    return isLate(message, listener) ? hear(listener) : message
  }
  for (const [index, name] of names.entries()) guests.push(await enter(name, addresses[index % addresses.length]!))
  for (const [index, guest] of guests.entries()) {
    guest.send({ type: 'join', room: 'garden' })
    expect(await hear(index)).toMatchObject({ type: 'here', room: 'garden' })
    // Everybody who is in the room already hears of it, wherever they are.
    const joined = { type: 'joined', room: 'garden', name: names[index] }
    for (let other = 0; other < index; other++) expect(await hear(other)).toEqual(joined)
  }
  for (const [index, guest] of guests.entries()) {
    await expect
      .poll(
        async () => {
          guest.send({ type: 'who', room: 'garden' })
          return hear(index)
        },
        { timeout: 20_000 },
      )
      .toEqual({ type: 'here', room: 'garden', names })
  }
  for (const [index, guest] of guests.entries()) {
    guest.send({ type: 'say', room: 'garden', text: `Hello from ${names[index]}` })
    const said = { type: 'said', room: 'garden', name: names[index], text: `Hello from ${names[index]}` }
    for (const other of guests.keys()) if (other !== index) expect(await hear(other)).toEqual(said)
  }
  const refused = await enter('Ann', addresses.at(-1)!).catch((error: HandshakeError) => error.status)
  expect(refused).toBe(409)
  guests[0]!.connection.close()
  for (const other of guests.keys()) {
    if (other > 0) expect(await hear(other)).toEqual({ type: 'left', room: 'garden', name: 'Ann' })
  }
}

describe('examples/group-chat on four workers', () => {
  it('is one chat', async () => {
    const server = startExample('group-chat', { env: { BACKPLANE: 'workers' } })
    const { host } = await addressIn(server)
    await expect.poll(() => server.lines.length, { timeout: 20_000 }).toBe(4)
    expect(new Set(server.lines).size).toBe(1)
    // The workers take turns, so these are with all four.
    await talk(Array.from({ length: 4 }, () => `ws://${host}`))
    expect(await server.stop()).toBe(0)
    expect(server.errorOutput).toBe('')
  })
})

describeWithRedis('examples/group-chat on three processes with Redis', () => {
  it('is one chat', async () => {
    const { url } = await startRedis()
    await talk(await Promise.all([startOneOf(url), startOneOf(url), startOneOf(url)]))
  })
})

describeWithNats('examples/group-chat on three processes with NATS', () => {
  it('is one chat', async () => {
    const { port } = await startNats({ jetstream: false })
    const url = `nats://127.0.0.1:${port}`
    await talk(await Promise.all([startOneOf(url), startOneOf(url), startOneOf(url)]))
  })
})

describe('examples/group-chat', () => {
  it('lets people talk from terminal to terminal', async () => {
    const { server, address } = await startServer()
    const ann = await startClient('Ann', address)
    const bob = await startClient('Bob', address)
    ann.type('/join garden')
    await ann.line('[garden] here: Ann')
    bob.type('/join garden')
    await bob.line('[garden] here: Ann, Bob')
    await ann.line('[garden] Bob has joined')
    ann.type('Hello, Bob!')
    await bob.line('[garden] Ann: Hello, Bob!')
    bob.type('/leave')
    await ann.line('[garden] Bob has left')
    bob.type('Anybody there?')
    await bob.line('You are not in this room.')
    ann.child.stdin!.end()
    await ann.line('Disconnected (1000).')
    expect(await ann.closed()).toBe(0)
    await server.stop()
    await bob.line('Disconnected (1001).')
    expect(await bob.closed()).toBe(0)
    expect(await server.closed()).toBe(0)
    expect([ann, bob, server].map(({ errorOutput }) => errorOutput)).toEqual(['', '', ''])
  })

  it('keeps what is said in a room in it, and knows who is there', async () => {
    const { address } = await startServer()
    const [ann, bob, eve] = [await enter('Ann', address), await enter('Bob', address), await enter('Eve', address)]
    ann.send({ type: 'join', room: 'garden' })
    expect(await ann.received.next()).toEqual({ type: 'here', room: 'garden', names: ['Ann'] })
    eve.send({ type: 'join', room: 'cellar' })
    expect(await eve.received.next()).toEqual({ type: 'here', room: 'cellar', names: ['Eve'] })
    bob.send({ type: 'join', room: 'garden' })
    bob.send({ type: 'join', room: 'cellar' })
    expect(await ann.received.next()).toEqual({ type: 'joined', room: 'garden', name: 'Bob' })
    expect(await eve.received.next()).toEqual({ type: 'joined', room: 'cellar', name: 'Bob' })
    expect(await bob.received.take(2)).toEqual([
      { type: 'here', room: 'garden', names: ['Ann', 'Bob'] },
      { type: 'here', room: 'cellar', names: ['Bob', 'Eve'] },
    ])
    ann.send({ type: 'say', room: 'garden', text: 'To the garden' })
    bob.send({ type: 'say', room: 'cellar', text: 'To the cellar' })
    expect(await bob.received.next()).toEqual({ type: 'said', room: 'garden', name: 'Ann', text: 'To the garden' })
    expect(await eve.received.next()).toEqual({ type: 'said', room: 'cellar', name: 'Bob', text: 'To the cellar' })

    bob.send({ type: 'leave', room: 'garden' })
    const left = { type: 'left', room: 'garden', name: 'Bob' }
    expect(await ann.received.next()).toEqual(left)
    expect(await bob.received.next()).toEqual(left)
    bob.connection.close()
    expect(await eve.received.next()).toEqual({ type: 'left', room: 'cellar', name: 'Bob' })
    for (const guest of [ann, eve]) guest.send({ type: 'who', room: 'garden' })
    const here = { type: 'here', room: 'garden', names: ['Ann'] }
    // Nobody has heard their own words, or those of another room.
    expect(await ann.received.next()).toEqual(here)
    expect(await eve.received.next()).toEqual(here)
  })

  it('answers what makes no sense, and goes on', async () => {
    const { address } = await startServer()
    const ann = await enter('Ann', address)
    const room = 'garden'
    const senseless: [unknown, string | RegExp][] = [
      [null, /"type"/],
      [[], /"type"/],
      [{ type: 'constructor', room }, /"type"/],
      [{ type: 'join' }, /"room"/],
      [{ type: 'join', room: 'x'.repeat(33) }, /"room"/],
      [{ type: 'join', room: '<b>' }, /"room"/],
      [{ type: 'say', room, text: ' ' }, /"text"/],
      [{ type: 'say', room, text: 'x'.repeat(1_001) }, /1000/],
      [{ type: 'say', room, text: 'Hello' }, /not in this room/],
      [{ type: 'leave', room }, /not in this room/],
    ]
    for (const [command, words] of senseless) {
      ann.send(command)
      expect(await ann.received.next()).toEqual({ type: 'problem', message: expect.stringMatching(words) })
    }
    ann.connection.send('{"type":')
    expect(await ann.received.next()).toEqual({ type: 'problem', message: 'That is not JSON.' })
    ann.connection.send(Uint8Array.of(1))
    expect(await ann.received.next()).toEqual({ type: 'problem', message: 'Send text, not bytes.' })

    for (let count = 1; count <= 20; count++) ann.send({ type: 'join', room: `room-${count}` })
    await ann.received.take(20)
    ann.send({ type: 'join', room: 'room-1' })
    ann.send({ type: 'join', room: 'room-21' })
    expect(await ann.received.take(2)).toEqual([
      { type: 'problem', message: expect.stringMatching(/already/) },
      { type: 'problem', message: expect.stringMatching(/20 rooms/) },
    ])
    ann.connection.send('x'.repeat(8_193))
    expect(await ann.closed.next()).toBe(1009)
  })

  it('lets in one of each name', async () => {
    const { address } = await startServer()
    const refusal = (name: string) => enter(name, address).catch((error: HandshakeError) => error.status)
    expect(await refusal('')).toBe(400)
    expect(await refusal('Ann Bob')).toBe(400)
    const both = await Promise.all([refusal('Ånn'), refusal('Ånn')])
    expect(both.filter((outcome) => outcome === 409)).toHaveLength(1)
    const { connection, closed } = both.find((outcome) => typeof outcome === 'object')!
    connection.close()
    await closed.next()
    // The server hears a little later that the socket is gone.
    await expect.poll(() => refusal('Ånn'), { timeout: 10_000 }).toBeTypeOf('object')

    const client = startExample('group-chat', { script: 'client', args: ['Ånn', address] })
    expect(await client.closed()).toBe(1)
    expect(client.errorOutput).toContain('Somebody with this name is here already.')
  })
})
