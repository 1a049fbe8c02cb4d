import { once } from 'node:events'
import { syncBuiltinESMExports } from 'node:module'
import type { AddressInfo } from 'node:net'
import os, { type NetworkInterfaceInfo } from 'node:os'
import { describe, expect, expectTypeOf, it, onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import { reachableAddress, socketAddress } from '../../src/compat/monaca/addresses.ts'
import {
  type OnFailure,
  type OnSuccess,
  plugins,
  type SocketServer,
  type SocketServerOptions,
  type StartResult,
  type StatusResult,
} from '../../src/compat/monaca.ts'
import { collectWarnings } from '../support/facade.ts'
import { freePort, holdPort, isFree, whyNotListen } from '../support/ports.ts'
import { ROOT, startProgram } from '../support/program.ts'
import { defer, Queue } from '../support/queue.ts'
import { closeFrame, closeOf, frame, RawClient, type RequestOptions } from '../support/raw-client.ts'
import { certificate, nextTurn, openClient } from '../support/servers.ts'

const hasIPv6 = (await whyNotListen(0, '::1')) === undefined
/** Whether all of 127.0.0.0/8 is this machine. */
const hasLoopbackNet = (await whyNotListen(0, '127.0.0.2')) === undefined

const MIB = 1_048_576

/** Addresses that a machine may have. */
const V4: NetworkInterfaceInfo = {
  address: '10.0.6.1',
  netmask: '255.255.255.0',
  family: 'IPv4',
  mac: '00:00:00:00:00:00',
  internal: false,
  cidr: null,
}
const V4_INTERNAL: NetworkInterfaceInfo = { ...V4, address: '127.0.0.1', internal: true }
const V6: NetworkInterfaceInfo = { ...V4, address: 'fd00::1', family: 'IPv6', scopeid: 0 }
const V6_LINK: NetworkInterfaceInfo = { ...V6, address: 'fe80::1', scopeid: 2 }

/** A server that is not started yet, on any free port; stopped behind the test. */
function newServer(options: SocketServerOptions = {}, port: number | undefined = 0): SocketServer {
  const server = plugins.webSocketServer(port, { closeTimeoutMs: 500, ...options })
  onTestFinished(async () => {
    await server.stop().catch(() => {})
  })
  return server
}

async function startServer(options: SocketServerOptions = {}): Promise<{ server: SocketServer; port: number }> {
  const server = newServer(options)
  const { port } = await server.start()
  return { server, port }
}

/** A client of another implementation, with the id that it should have. */
interface Client {
  readonly id: string
  readonly socket: WebSocket
  readonly texts: Queue<string>
}

async function openWs(port: number, host = '127.0.0.1'): Promise<Client> {
  const socket = new WebSocket(`ws://${host.includes(':') ? `[${host}]` : host}:${port}`)
  const texts = new Queue<string>()
  socket.on('message', (data) => texts.push(String(data)))
  onTestFinished(() => socket.terminate())
  let localPort = 0
  socket.on('upgrade', (response) => {
    localPort = response.socket.localPort ?? 0
  })
  await once(socket, 'open')
  return { id: `/${host === '::1' ? '0:0:0:0:0:0:0:1' : host}:${localPort}`, socket, texts }
}

/** A client that does what it is told, with the id that it should have. */
async function openRaw(port: number, options: RequestOptions = {}): Promise<RawClient & { id: string }> {
  const client = await RawClient.open({ port, ...options })
  return Object.assign(client, { id: `/127.0.0.1:${(client.socket.address() as AddressInfo).port}` })
}

/** All events, in order, as the plugin's users print them. */
function record(server: SocketServer): Queue<string> {
  const events = new Queue<string>()
  const push = (event: object): void => events.push(JSON.stringify(event))
  server.onClientConnected = push
  server.onClientDisconnected = push
  server.onmessage = push
  server.onerror = push
  return events
}

/** What comes of a call with callbacks: how it went, and what it was told. */
function callBack<Result>(call: (onSuccess: OnSuccess<Result>, onFailure: OnFailure) => unknown): Promise<unknown[]> {
  return new Promise((resolve) => {
    let returned = false
    const answer = (kind: string) => (value: unknown) => resolve([returned ? kind : 'inside the call', value])
    expect(call(answer('success'), answer('failure'))).toBeUndefined()
    returned = true
  })
}

type Call = (server: SocketServer, onSuccess?: OnSuccess<unknown>, onFailure?: OnFailure) => unknown

const NOBODY = '/127.0.0.1:1'
/** Every method, with arguments that are right in their form. */
const calls: Readonly<Record<string, Call>> = {
  start: (server, ...callbacks) => server.start(...callbacks),
  stop: (server, ...callbacks) => server.stop(...callbacks),
  getAddress: (server, ...callbacks) => server.getAddress(...callbacks),
  getClients: (server, ...callbacks) => server.getClients(...callbacks),
  getStatus: (server, ...callbacks) => server.getStatus(...callbacks),
  send: (server, ...callbacks) => server.send(NOBODY, 'hello', ...callbacks),
  sendToAllClients: (server, ...callbacks) => server.sendToAllClients('hello', ...callbacks),
}
const names = Object.keys(calls)

describe('results', () => {
  it.each(['callbacks', 'promises'])('have their keys in their order, with %s', async (style) => {
    const server = newServer()
    const ask = async <Result>(
      call: (onSuccess?: OnSuccess<Result>, onFailure?: OnFailure) => unknown,
    ): Promise<string | undefined> => {
      if (style === 'promises') return JSON.stringify(await call())
      const [kind, value] = await callBack(call)
      expect(kind).toBe('success')
      return JSON.stringify(value)
    }
    expect(await ask((...callbacks) => server.getStatus(...callbacks))).toBe(
      '{"status":"stopped","ip":null,"port":null,"clients":[]}',
    )
    const started = await ask((...callbacks) => server.start(...callbacks))
    const { port } = await server.getAddress()
    expect(started).toBe(`{"port":${port},"event":"server:started","ip":"127.0.0.1"}`)
    expect(await ask((...callbacks) => server.getAddress(...callbacks))).toBe(`{"port":${port},"ip":"127.0.0.1"}`)
    const clients = [await openWs(port), await openWs(port)] as const
    const ids = JSON.stringify(clients.map(({ id }) => id))
    expect(await ask((...callbacks) => server.getClients(...callbacks))).toBe(ids)
    expect(await ask((...callbacks) => server.getStatus(...callbacks))).toBe(
      `{"status":"started","ip":"127.0.0.1","port":${port},"clients":${ids}}`,
    )
    expect(await ask((...callbacks) => server.send(clients[0].id, 'to one', ...callbacks))).toBeUndefined()
    expect(await ask((...callbacks) => server.sendToAllClients('to all', ...callbacks))).toBe(
      '{"clientsSent":2,"send":"success"}',
    )
    expect(await clients[0].texts.take(2)).toEqual(['to one', 'to all'])
    expect(await clients[1].texts.next()).toBe('to all')
    expect(await ask((...callbacks) => server.stop(...callbacks))).toBeUndefined()
    expect(await server.getStatus()).toEqual({ status: 'stopped', ip: null, port: null, clients: [] })
  })

  it('are typed', () => {
    const server = newServer()
    expectTypeOf(server.getStatus()).resolves.toEqualTypeOf<StatusResult>()
    expectTypeOf(server.start()).resolves.toEqualTypeOf<StartResult>()
    expectTypeOf(server.stop()).resolves.toEqualTypeOf<undefined>()
    expectTypeOf(server.getStatus((status) => expectTypeOf(status).toEqualTypeOf<StatusResult>())).toBeVoid()
  })

  it('count nobody where nobody is', async () => {
    const { server } = await startServer()
    expect(await server.sendToAllClients('hello')).toEqual({ clientsSent: 0, send: 'success' })
    expect(await server.getClients()).toEqual([])
  })

  it('are true of the moment: who closes is no client any more', async () => {
    const { server, port } = await startServer({ closeTimeoutMs: 60_000 })
    const [staying, leaving] = [await openWs(port), await openRaw(port)]
    const left = new Queue<string[]>()
    server.onClientDisconnected = async () => left.push(await server.getClients())
    leaving.send(closeFrame(1000))
    expect(closeOf(await leaving.readFrame()).code).toBe(1000)
    // The closing handshake is done, while TCP stays.
    expect(await server.getClients()).toEqual([staying.id])
    expect((await server.sendToAllClients('hello')).clientsSent).toBe(1)
    await expect(server.send(leaving.id, 'hello')).rejects.toThrow('is disconnecting.')
    leaving.end()
    expect(await left.next()).toEqual([staying.id])
    await expect(server.send(leaving.id, 'hello')).rejects.toThrow(`There is no client ${leaving.id}.`)
  })
})

describe('callbacks', () => {
  it.each(names)('are never called inside of %s', async (name) => {
    const { server } = await startServer()
    expect((await callBack((...callbacks) => calls[name]!(server, ...callbacks)))[0]).not.toBe('inside the call')
    const stopped = newServer()
    expect((await callBack((...callbacks) => calls[name]!(stopped, ...callbacks)))[0]).not.toBe('inside the call')
  })

  it.each(names)('one alone, or null beside it, is enough for %s to give no promise', async (name) => {
    const nothing = (): void => {}
    for (const server of [newServer(), (await startServer()).server]) {
      expect(calls[name]!(server, nothing, null)).toBeUndefined()
      expect(calls[name]!(server, nothing)).toBeUndefined()
      expect(calls[name]!(server, null, nothing)).toBeUndefined()
      expect(calls[name]!(server, undefined, nothing)).toBeUndefined()
      const promise = calls[name]!(server, null, null) as Promise<unknown>
      await promise.catch(nothing)
    }
  })

  it('tell a failure that has no callback as a process warning', async () => {
    const warnings = collectWarnings()
    const server = newServer()
    server.stop(() => expect.unreachable())
    await expect
      .poll(() => warnings.map(({ message }) => message))
      .toEqual(['The server is not started; call start first.'])
  })

  it.each<[string, () => unknown]>([
    [
      'throw',
      () => {
        throw new Error('a mistake in a callback')
      },
    ],
    ['reject', () => Promise.reject(new Error('a mistake in a callback'))],
  ])('that %s are a process warning, and harm nothing', async (_, fail) => {
    const warnings = collectWarnings()
    const { server, port } = await startServer()
    server.getAddress(fail)
    server.send(NOBODY, 'hello', null, fail)
    server.onClientConnected = fail
    server.onmessage = fail
    server.onClientDisconnected = fail
    const client = await openWs(port)
    client.socket.send('hello')
    await expect.poll(() => warnings.length).toBe(4)
    await server.send(client.id, 'still here')
    expect(await client.texts.next()).toBe('still here')
    client.socket.close(1000)
    const [code] = await once(client.socket, 'close')
    expect(code).toBe(1000)
    const raw = await openRaw(port)
    server.onerror = fail
    raw.send(frame(3))
    await expect.poll(() => warnings.length).toBe(8)
    expect(warnings.map(({ message }) => message)).toEqual(new Array(8).fill('a mistake in a callback'))
    expect((await server.getStatus()).status).toBe('started')
  })

  it('that are no functions are a process warning', async () => {
    const warnings = collectWarnings()
    const { server, port } = await startServer()
    server.getAddress('no function' as never)
    server.onClientConnected = 'no function' as never
    await openWs(port)
    await expect.poll(() => warnings.map(({ name }) => name)).toEqual(['TypeError', 'TypeError'])
  })

  it('of a program: its mistakes are warned of on standard error, and it goes on', async () => {
    const program = startTypeScript(`
      const server = plugins.webSocketServer(0)
      server.start(() => { throw new Error('a mistake') })
      server.getAddress(() => console.log('goes on'))
      server.stop(() => console.log('has stopped'))
    `)
    expect(await program.closed()).toBe(0)
    expect(program.lines).toEqual(['goes on', 'has stopped'])
    expect(program.errorOutput).toContain('Error: a mistake')
  })

  it('of a program without any: a promise that it ignores is an unhandled rejection as everywhere', async () => {
    for (const call of ['stop()', 'start()', 'send("", "")']) {
      const program = startTypeScript(`plugins.webSocketServer(-1).${call}`)
      expect(await program.closed()).toBe(1)
      expect(program.errorOutput).toMatch(/not started; call start first|whole number/)
    }
  })
})

function startTypeScript(code: string): ReturnType<typeof startProgram> {
  const source = `import { plugins } from './src/compat/monaca.ts'\n${code}`
  return startProgram(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', source], { cwd: ROOT })
}

describe('calls', () => {
  it('take effect in their order, without waiting for one another', async () => {
    const server = newServer()
    const outcomes = new Queue<string>()
    const note =
      (name: string) =>
      (value: unknown): void =>
        outcomes.push(`${name} ${JSON.stringify(value)?.replaceAll(/"port":\d+/g, '"port":0')}`)
    const callAll = (): void => {
      server.start(note('start'), note('no start'))
      server.getAddress(note('address'), note('no address'))
      server.start(note('start again'), note('no start again'))
      server.sendToAllClients('hello', note('sent'), note('not sent'))
      server.stop(note('stop'), note('no stop'))
      server.getStatus(note('status'), note('no status'))
      server.stop(note('stop again'), note('no stop again'))
    }
    callAll()
    callAll()
    const expected = [
      'start {"port":0,"event":"server:started","ip":"127.0.0.1"}',
      'address {"port":0,"ip":"127.0.0.1"}',
      'no start again "The server is started already; call stop first."',
      'sent {"clientsSent":0,"send":"success"}',
      'stop undefined',
      'status {"status":"stopped","ip":null,"port":null,"clients":[]}',
      'no stop again "The server is not started; call start first."',
    ]
    expect(await outcomes.take(14)).toEqual([...expected, ...expected])
  })

  it('send in their order', async () => {
    const { server, port } = await startServer()
    const { id, texts } = await openWs(port)
    server.send(id, '1', () => {})
    server.sendToAllClients('2', () => {})
    void server.send(id, '3')
    void server.sendToAllClients('4')
    server.stop(() => {})
    expect(await texts.take(4)).toEqual(['1', '2', '3', '4'])
  })
})

describe('start', () => {
  it('takes port 3001 unless told otherwise', async () => {
    for (const port of [undefined, null]) {
      const server = plugins.webSocketServer(port, {})
      // Another program may have it: the sentence says which port it is, too.
      const outcome = await server.start().then(
        (result) => `${result.port} is free`,
        (error: Error) => error.message,
      )
      expect(outcome).toContain('3001')
      await server.stop().catch(() => {})
    }
  })

  it('takes the port that it is told, and frees it with stop, any number of times', async () => {
    const port = await freePort()
    const server = newServer({}, port)
    for (let time = 0; time < 3; time++) {
      expect((await server.start()).port).toBe(port)
      const client = await openWs(port)
      expect(await server.getClients()).toEqual([client.id])
      const closed = once(client.socket, 'close')
      await server.stop()
      expect((await closed)[0]).toBe(1001)
      expect(await isFree(port)).toBe(true)
    }
  })

  it('fails on a port that is taken, and works when it is free again', async () => {
    const port = await freePort()
    const first = newServer({}, port)
    const second = newServer({}, port)
    await first.start()
    const sentence = `Port ${port} is in use; stop the program that has it, or give another port.`
    expect(await callBack((...callbacks) => second.start(...callbacks))).toEqual(['failure', sentence])
    await expect(second.start()).rejects.toMatchObject({ message: sentence, cause: { code: 'ERR_PORTS_TAKEN' } })
    expect((await second.getStatus()).status).toBe('stopped')
    await first.stop()
    await second.start()
    await expect(first.start()).rejects.toThrow(sentence)
  })

  it('fails on a port that another program has', async () => {
    const port = await freePort()
    await holdPort(port)
    await expect(newServer({}, port).start()).rejects.toThrow(`Port ${port} is in use`)
  })

  it.each<[string, SocketServerOptions, number | undefined, RegExp]>([
    ['a port that is none', {}, 70_000, /^The option port must be a whole number from 0 to 65535\.$/],
    ['a port that is no number', {}, '3001' as never, /^The option port must be a whole number/],
    ['a host that others reach', { host: '0.0.0.0' }, 0, /^Others can reach 0\.0\.0\.0: give a token or an authorize/],
    ['a host of another machine', { host: '198.51.100.1', token: 'secret' }, 0, /^The server cannot listen at that/],
    ['an unknown option', { hosst: 'localhost' } as never, 0, /^.*hosst.*host.*\.$|^.*hosst.*\?$/],
    ['options that are null', null as never, -1, /port/],
    ['a handler of the engine', { message: () => {} } as never, 0, /^Instead of the option message, use onmessage\.$/],
    [
      'the error handler of the engine',
      { error: () => {} } as never,
      0,
      /^Instead of the option error, use onerror\.$/,
    ],
    ['a port among the options', { port: 1 } as never, 0, /^Instead of the option port, use the first argument\.$/],
    [
      'a list of ports',
      { possiblePorts: [1] } as never,
      0,
      /^Instead of the option possiblePorts, use the first argument\.$/,
    ],
    ['a token that is none', { token: '' }, 0, /token/],
    ['a certificate that is none', { tls: { key: 'none', cert: 'none' } }, 0, /./],
  ])('fails with a sentence: %s', async (_, options, port, sentence) => {
    const server = plugins.webSocketServer(port, options)
    const [kind, failure] = await callBack((...callbacks) => server.start(...callbacks))
    expect(kind).toBe('failure')
    expect(failure).toMatch(sentence)
    expect(failure).toMatch(/^[A-Z].*[.?]$/)
    await expect(server.start()).rejects.toThrow(failure as string)
    expect((await server.getStatus()).status).toBe('stopped')
  })

  it.runIf(process.platform === 'linux' && process.getuid?.() !== 0)(
    'fails on a port that is not allowed',
    async () => {
      await expect(newServer({}, 1).start()).rejects.toThrow('does not let this program have port 1;')
    },
  )

  it('has options that are those of the moment when the server was made', async () => {
    const options: SocketServerOptions & { token?: string } = { token: 'secret' }
    const server = newServer(options)
    delete options.token
    const { port } = await server.start()
    const { status } = await RawClient.ask({ port }, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    expect(status).toBe(426)
    await expect(RawClient.open({ port })).rejects.toThrow('401')
    await RawClient.open({ port, target: '/?token=secret' })
  })

  it('gives wss with tls', async () => {
    const { server, port } = await startServer({ tls: certificate })
    const events = record(server)
    const client = await openClient(`wss://127.0.0.1:${port}`)
    client.send('hello')
    const { client: id } = JSON.parse(await events.next())
    expect(id).toMatch(/^\/127\.0\.0\.1:\d+$/)
    expect(await events.next()).toBe(`{"message":"hello","client":"${id}","event":"message"}`)
  })

  it('lets pages of this machine in, and others when they are listed', async () => {
    const origin = { headers: { Origin: 'https://app.example' } }
    const { port } = await startServer()
    await RawClient.open({ port, headers: { Origin: 'http://localhost:8080' } })
    await expect(RawClient.open({ port, ...origin })).rejects.toThrow('403')
    const listed = await startServer({ origins: ['https://app.example'] })
    await RawClient.open({ port: listed.port, ...origin })
  })
})

describe('stop', () => {
  it('fails when there is nothing to stop', async () => {
    const server = newServer()
    const sentence = 'The server is not started; call start first.'
    for (const name of ['stop', 'getAddress', 'getClients', 'send', 'sendToAllClients']) {
      expect(await callBack((...callbacks) => calls[name]!(server, ...callbacks))).toEqual(['failure', sentence])
      await expect(calls[name]!(server)).rejects.toThrow(sentence)
    }
  })

  it('succeeds behind the last onClientDisconnected', async () => {
    const { server, port } = await startServer()
    const clients = [await openWs(port), await openWs(port)]
    const events = record(server)
    server.stop(() => events.push('stopped'))
    const all = await events.take(3)
    expect(all.slice(0, 2).sort()).toEqual(
      clients.map(({ id }) => `{"message":"","client":"${id}","event":"disconnected"}`).sort(),
    )
    expect(all[2]).toBe('stopped')
  })

  it('cuts a client that does not answer', async () => {
    const { server, port } = await startServer({ closeTimeoutMs: 50 })
    const events = record(server)
    const client = await openRaw(port)
    await events.next()
    await server.stop()
    expect(await events.next()).toContain('"disconnected"')
    await client.ended()
  })

  it('does not wait for handlers that wait for it', async () => {
    const { server, port } = await startServer({ closeTimeoutMs: 60_000 })
    const stopped = defer<string>()
    server.onmessage = async () => {
      await server.stop()
      stopped.resolve(await server.start().then(({ event }) => event))
    }
    const client = await openWs(port)
    client.socket.send('hello')
    expect(await stopped.promise).toBe('server:started')
  })
})

describe('send', () => {
  it.each<[string, unknown, unknown, string]>([
    ['nobody', NOBODY, 'hello', `There is no client ${NOBODY}.`],
    ['no id', undefined, 'hello', 'clientId must be a string.'],
    ['a number', 'ID', 1, 'message must be a string.'],
    ['bytes', 'ID', Uint8Array.of(1), 'message must be a string.'],
    ['nothing', 'ID', undefined, 'message must be a string.'],
  ])('fails with a sentence: %s', async (_, clientId, message, sentence) => {
    const { server, port } = await startServer()
    const { id, texts } = await openWs(port)
    const to = (clientId === 'ID' ? id : clientId) as string
    expect(await callBack((...callbacks) => server.send(to, message as string, ...callbacks))).toEqual([
      'failure',
      sentence,
    ])
    await expect(server.send(to, message as string)).rejects.toThrow(sentence)
    if (typeof message !== 'string') await expect(server.sendToAllClients(message as never)).rejects.toThrow(sentence)
    await server.send(id, 'the only one')
    expect(await texts.next()).toBe('the only one')
  })

  it('takes any text', async () => {
    const { server, port } = await startServer()
    const { id, texts } = await openWs(port)
    const sent = ['', 'ä€😀', 'x'.repeat(3 * MIB)]
    for (const message of sent) await server.send(id, message)
    expect(await texts.take(3)).toEqual(sent)
  })

  it('succeeds when the system has the message, and not before', async () => {
    const { server, port } = await startServer({ maxBufferedBytes: 64 * MIB })
    const raw = await openRaw(port)
    raw.stopReading()
    const message = 'slow '.repeat(5 * MIB)
    let isSent = false
    const sent = server.send(raw.id, message).then(() => {
      isSent = true
    })
    await nextTurn()
    await nextTurn()
    expect(isSent).toBe(false)
    // Who sends to all does not wait for the slow ones.
    expect(await server.sendToAllClients('behind it')).toEqual({ clientsSent: 1, send: 'success' })
    expect(isSent).toBe(false)
    raw.startReading()
    expect(await raw.readText()).toBe(message)
    expect(await raw.readText()).toBe('behind it')
    await sent
  })

  it('fails when the client goes before', async () => {
    const { server, port } = await startServer({ maxBufferedBytes: 64 * MIB })
    const raw = await openRaw(port)
    raw.stopReading()
    const sent = callBack((...callbacks) => server.send(raw.id, 'lost '.repeat(8 * MIB), ...callbacks))
    await nextTurn()
    raw.reset()
    expect(await sent).toEqual(['failure', `The client ${raw.id} was gone before the message was sent.`])
  })

  it('fails when the buffer of the client is full, and is not counted in sendToAllClients', async () => {
    const { server, port } = await startServer({ maxBufferedBytes: MIB, slowConsumer: 'drop' })
    const raw = await openRaw(port)
    raw.stopReading()
    server.send(raw.id, 'x'.repeat(32 * MIB), null, () => {})
    const sentence = `The buffer of the client ${raw.id} is full: it reads too slowly.`
    await expect(server.send(raw.id, 'x'.repeat(MIB))).rejects.toThrow(sentence)
    expect(await server.sendToAllClients('x'.repeat(MIB))).toEqual({ clientsSent: 0, send: 'success' })
    raw.reset()
  })
})

describe('events', () => {
  it('have their keys in their order, and come in that of the client', async () => {
    const { server, port } = await startServer()
    const events = record(server)
    const { id, socket } = await openWs(port)
    socket.send('hi')
    socket.send('ä€😀')
    socket.close()
    expect(await events.take(4)).toEqual([
      `{"client":"${id}","event":"connected"}`,
      `{"message":"hi","client":"${id}","event":"message"}`,
      `{"message":"ä€😀","client":"${id}","event":"message"}`,
      `{"message":"","client":"${id}","event":"disconnected"}`,
    ])
  })

  it.each<[string, string, (client: RawClient) => unknown]>([
    ['with a reason', 'enough', (client) => client.leave(1000, 'enough')],
    ['without a code', '', (client) => client.leave()],
    ['by ending TCP', '', (client) => client.end()],
    ['by a reset', '', (client) => client.reset()],
  ])('tell once of a client that goes %s, and are no error', async (_, message, leave) => {
    const { server, port } = await startServer()
    const events = record(server)
    const client = await openRaw(port)
    await leave(client)
    await events.next()
    expect(await events.next()).toBe(JSON.stringify({ message, client: client.id, event: 'disconnected' }))
    await server.stop()
    expect(events.all).toHaveLength(2)
  })

  it('tell of an error before its client is gone, and the reason behind it', async () => {
    const { server, port } = await startServer()
    const events = record(server)
    const client = await openRaw(port)
    client.send(frame(3))
    expect(closeOf(await client.readFrame()).code).toBe(1002)
    client.end()
    const [, error, disconnected] = (await events.take(3)).map((event) => JSON.parse(event))
    expect(Object.entries(error)).toEqual([
      ['message', 'Opcode 3 is reserved.'],
      ['client', client.id],
      ['event', 'error'],
    ])
    expect(disconnected).toMatchObject({ client: client.id, event: 'disconnected' })
  })

  it('make no warning of an error that nobody wants to know of', async () => {
    const warnings = collectWarnings()
    const { server, port } = await startServer()
    const client = await openRaw(port)
    client.send(frame(3))
    await client.readFrames()
    await server.stop()
    expect(warnings).toEqual([])
  })

  it('give binary as bytes with nothing behind them', async () => {
    const { server, port } = await startServer()
    const messages = new Queue<string | Uint8Array>()
    server.onmessage = ({ message }) => messages.push(message)
    const { socket } = await openWs(port)
    socket.send(Uint8Array.of(1, 2, 3))
    const bytes = (await messages.next()) as Uint8Array
    expect(bytes).toStrictEqual(Uint8Array.of(1, 2, 3))
    expect(bytes.buffer.byteLength).toBe(3)
  })

  it('may be answered at once', async () => {
    const { server, port } = await startServer()
    server.onClientConnected = ({ client }) => {
      server.send(client, 'welcome', null, () => expect.unreachable())
      server.getClients((clients) => server.send(client, JSON.stringify(clients), null))
    }
    server.onmessage = ({ client, message }) => server.send(client, `You said: ${message}`)
    const { id, socket, texts } = await openWs(port)
    expect(await texts.take(2)).toEqual(['welcome', JSON.stringify([id])])
    socket.send('hello')
    expect(await texts.next()).toBe('You said: hello')
  })

  it('hold back the next event of a client, and of no other, while a handler is at work', async () => {
    const { server, port } = await startServer()
    const events = new Queue<string>()
    const { promise, resolve } = defer()
    server.onmessage = async ({ message }) => {
      events.push(`begin ${message}`)
      if (message === 'slow') await promise
      events.push(`end ${message}`)
    }
    server.onClientDisconnected = () => events.push('disconnected')
    const [first, second] = [await openWs(port), await openWs(port)]
    first.socket.send('slow')
    expect(await events.next()).toBe('begin slow')
    first.socket.send('next')
    first.socket.close()
    second.socket.send('other')
    expect(await events.take(2)).toEqual(['begin other', 'end other'])
    resolve()
    expect(await events.take(4)).toEqual(['end slow', 'begin next', 'end next', 'disconnected'])
  })

  it('go to the handlers of the moment', async () => {
    const { server, port } = await startServer()
    const events = new Queue<string>()
    const { socket } = await openWs(port)
    server.onmessage = () => {
      events.push('first')
      server.onmessage = () => {
        events.push('second')
        server.onmessage = null
        server.onClientDisconnected = () => events.push('disconnected')
      }
    }
    for (const message of ['1', '2', '3']) socket.send(message)
    socket.close()
    expect(await events.take(3)).toEqual(['first', 'second', 'disconnected'])
  })

  it('of two servers are their own', async () => {
    const [first, second] = [await startServer(), await startServer()]
    const [ofFirst, ofSecond] = [record(first.server), record(second.server)]
    expect(first.port).not.toBe(second.port)
    const clients = [await openWs(first.port), await openWs(second.port)] as const
    expect([await ofFirst.next(), await ofSecond.next()]).toEqual(
      clients.map(({ id }) => `{"client":"${id}","event":"connected"}`),
    )
    await expect(first.server.send(clients[1].id, 'hello')).rejects.toThrow('There is no client')
    expect((await first.server.sendToAllClients('first')).clientsSent).toBe(1)
    await first.server.stop()
    await second.server.send(clients[1].id, 'second')
    expect(await clients[1].texts.next()).toBe('second')
    expect(clients[0].texts.all).toEqual(['first'])
  })

  it('tell of exceptions in handlers of the options as process warnings', async () => {
    const warnings = collectWarnings()
    const { server, port } = await startServer({
      authorize: () => {
        throw new Error('a mistake in authorize')
      },
    })
    const events = record(server)
    await expect(RawClient.open({ port })).rejects.toThrow('500')
    await expect.poll(() => warnings.map(({ message }) => message)).toEqual(['a mistake in authorize'])
    expect(events.all).toEqual([])
  })
})

describe('ids', () => {
  it.runIf(hasIPv6)('have IPv6 without abbreviations', async () => {
    const { server, port } = await startServer()
    const { id, texts } = await openWs(port, '::1')
    expect(id).toMatch(/^\/0:0:0:0:0:0:0:1:\d+$/)
    expect(await server.getClients()).toEqual([id])
    await server.send(id, 'hello')
    expect(await texts.next()).toBe('hello')
  })

  it.runIf(hasIPv6)('have IPv4 as such where it comes in over IPv6', async () => {
    const { server, port } = await startServer({ host: '::', token: 'secret' })
    const client = await openRaw(port, { target: '/?token=secret' })
    expect(await server.getClients()).toEqual([client.id])
  })

  it.each([
    ['10.0.6.164', 56_319, '/10.0.6.164:56319'],
    ['::1', 1, '/0:0:0:0:0:0:0:1:1'],
    ['::', 1, '/0:0:0:0:0:0:0:0:1'],
    ['fe80::', 1, '/fe80:0:0:0:0:0:0:0:1'],
    ['2001:db8::a:0:1', 443, '/2001:db8:0:0:0:a:0:1:443'],
    ['1:2:3:4:5:6:7:8', 1, '/1:2:3:4:5:6:7:8:1'],
    ['1::3:4:5:6:7:8', 1, '/1:0:3:4:5:6:7:8:1'],
    ['fe80::1%eth0', 1, '/fe80:0:0:0:0:0:0:1%eth0:1'],
    ['::1.2.3.4', 1, '/0:0:0:0:0:0:102:304:1'],
  ])('are written as by Java: %s, port %i', (address, port, id) => {
    expect(socketAddress(address, port)).toBe(id)
  })

  it.runIf(hasLoopbackNet)('are never those of two clients at a time', async () => {
    const { server, port } = await startServer({ host: '0.0.0.0', token: 'secret' })
    const events = record(server)
    const connect = async (host: string, localPort?: number): Promise<WebSocket> => {
      const url = `ws://${host}:${port}/?token=secret`
      const socket = new WebSocket(url, { localAddress: '127.0.0.1', ...(localPort && { localPort }) } as object)
      onTestFinished(() => socket.terminate())
      await once(socket, 'open')
      return socket
    }
    const first = await connect('127.0.0.1')
    const { client } = JSON.parse(await events.next())
    const localPort = Number(client.split(':')[1])
    const second = await connect('127.0.0.2', localPort)
    second.on('message', () => expect.unreachable())
    second.send('from the second')
    expect((await once(second, 'close'))[0]).toBe(1013)
    first.send('from the first')
    expect(JSON.parse(await events.next())).toEqual({ message: 'from the first', client, event: 'message' })
    expect(await server.getClients()).toEqual([client])
    first.close()
    await events.next()
    // Free again, it goes to whoever comes now.
    await connect('127.0.0.2', localPort)
    expect(JSON.parse(await events.next())).toEqual({ client, event: 'connected' })
  })
})

describe('ip', () => {
  it.each([
    ['127.0.0.1', '127.0.0.1'],
    ...(hasLoopbackNet ? [['127.0.0.2', '127.0.0.2']] : []),
    ...(hasIPv6 ? [['::1', '::1']] : []),
  ])('is the host that was given: %s', async (host, ip) => {
    const server = newServer({ host: host! })
    expect((await server.start()).ip).toBe(ip)
    expect((await server.getAddress()).ip).toBe(ip)
    expect((await server.getStatus()).ip).toBe(ip)
  })

  it('is an address, where the host is a name', async () => {
    const server = newServer({ host: 'localhost' })
    expect(['127.0.0.1', '::1']).toContain((await server.start()).ip)
  })

  it('is one that others reach, where the host is all of them', async () => {
    const { server } = await startServer({ host: '0.0.0.0', token: 'secret' })
    const own = Object.values(os.networkInterfaces()).flatMap((infos) => infos ?? [])
    const expected = own.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1'
    expect((await server.getAddress()).ip).toBe(expected)
    setInterfaces([V4_INTERNAL], [V6_LINK, V6], [V4, { ...V4, address: '10.0.6.2' }])
    expect(await server.getStatus()).toMatchObject({ status: 'started', ip: '10.0.6.1' })
  })

  it.each<[string, string, NetworkInterfaceInfo[], string]>([
    ['0.0.0.0', 'nobody outside', [V4_INTERNAL], '127.0.0.1'],
    ['0.0.0.0', 'only IPv6 outside', [V4_INTERNAL, V6_LINK, V6], '127.0.0.1'],
    ['::', 'only IPv6 outside', [V4_INTERNAL, V6_LINK, V6], 'fd00::1'],
    ['::', 'IPv4 behind IPv6', [V6, V4], '10.0.6.1'],
    ['::', 'addresses of one link', [V6_LINK], '127.0.0.1'],
    ['192.0.2.9', 'an address given', [V4], '192.0.2.9'],
  ])('of %s with %s', (address, _, infos, ip) => {
    setInterfaces(infos)
    expect(reachableAddress(address)).toBe(ip)
  })
})

/** Lets the machine have these addresses during the test. */
function setInterfaces(...interfaces: NetworkInterfaceInfo[][]): void {
  const real = os.networkInterfaces
  const set = (networkInterfaces: typeof real): void => {
    os.networkInterfaces = networkInterfaces
    syncBuiltinESMExports()
  }
  set(() => Object.fromEntries(interfaces.map((infos, index) => [`if${index}`, infos])))
  onTestFinished(() => set(real))
}
