import { once } from 'node:events'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import * as fullduplex from '../../src/index.ts'
import { type Api, connect, createApi, type SendArguments, type StartServerArguments } from '../../src/index.ts'
import { makeCertificate } from '../support/certificate.ts'
import { collectWarnings, newApi, onlyClient, openPage, startApi, TOKEN } from '../support/facade.ts'
import { freePort, freePorts, holdPort, releasePort, whyNotListen } from '../support/ports.ts'
import { closeFrame, closeOf, RawClient } from '../support/raw-client.ts'
import { certificate, until } from '../support/servers.ts'

const hasIPv6 = (await whyNotListen(0, '::1')) === undefined
const lowPortsAreForbidden = (await whyNotListen(1, '127.0.0.1')) === 'EACCES'

/** A raw peer that has been let in. */
function openRaw(port: number, options: { paused?: boolean } = {}): Promise<RawClient> {
  return RawClient.open({ port, target: `/?${new URLSearchParams({ token: TOKEN })}`, ...options })
}

/** The failures of `startServer` look alike. */
const NOT_STARTED = { success: false, port: null, message: expect.stringMatching(/^\S.*[.?]$/) }
const FAILED = { success: false, message: expect.stringMatching(/^\S.*[.?]$/) }
const NOT_RUNNING = { success: false, message: 'The server is not running; call startServer first.' }
const STOPPED = { isRunning: false, clientIds: [], port: null }

describe('startServer', () => {
  it('starts on the first port of the list, and says which', async () => {
    const [second, first] = (await freePorts(2)) as [number, number]
    const api = newApi()
    const result = await api.startServer({ possiblePorts: [first, second], token: TOKEN })
    expect(result).toStrictEqual({ success: true, port: first })
    const page = await openPage(first)
    expect(page.socket.readyState).toBe(WebSocket.OPEN)
  })

  it('passes over ports that are taken, in order', async () => {
    const [taken, alsoTaken, free, later] = (await freePorts(4)) as [number, number, number, number]
    await holdPort(taken)
    const other = newApi()
    expect(await other.startServer({ possiblePorts: [alsoTaken], token: TOKEN })).toMatchObject({ success: true })
    const result = await newApi().startServer({ possiblePorts: [taken, alsoTaken, free, later], token: TOKEN })
    expect(result).toStrictEqual({ success: true, port: free })
  })

  it.runIf(hasIPv6)('passes over a port of which somebody else holds ::1 alone', async () => {
    const [halfTaken, free] = (await freePorts(2)) as [number, number]
    await holdPort(halfTaken, '::1')
    const result = await newApi().startServer({ possiblePorts: [halfTaken, free], token: TOKEN })
    expect(result).toStrictEqual({ success: true, port: free })
    // And lets go of its other half.
    await holdPort(halfTaken, '127.0.0.1')
  })

  it.runIf(lowPortsAreForbidden)('passes over ports that are forbidden', async () => {
    const free = await freePort()
    const result = await newApi().startServer({ possiblePorts: [1, free], token: TOKEN })
    expect(result).toStrictEqual({ success: true, port: free })
  })

  it('may have any free port at the end of the list', async () => {
    const taken = await freePort()
    await holdPort(taken)
    const result = await newApi().startServer({ possiblePorts: [taken, 0], token: TOKEN })
    expect(result).toStrictEqual({ success: true, port: expect.any(Number) })
    expect(result.port).toBeGreaterThan(0)
  })

  it('fails when no port is free, names them, and can be tried again', async () => {
    const ports = (await freePorts(2)) as [number, number]
    const holder = await holdPort(ports[0])
    await holdPort(ports[1])
    const api = newApi()
    const result = await api.startServer({ possiblePorts: ports, token: TOKEN })
    expect(result).toStrictEqual(NOT_STARTED)
    for (const port of ports) expect(result).toHaveProperty('message', expect.stringContaining(String(port)))
    expect(await api.getServer()).toStrictEqual(STOPPED)
    await releasePort(holder)
    expect(await api.startServer({ possiblePorts: ports, token: TOKEN })).toStrictEqual({
      success: true,
      port: ports[0],
    })
  })

  it('fails while it is running, and harms nobody', async () => {
    const { api, port } = await startApi()
    const page = await openPage(port)
    const result = await api.startServer({ possiblePorts: [0], token: 'another' })
    expect(result).toStrictEqual(NOT_STARTED)
    expect(result).toHaveProperty('message', expect.stringMatching(/running/))
    expect(await api.getServer()).toMatchObject({ isRunning: true, port })
    expect((await api.broadcast({ message: 'still here' })).sent).toBe(1)
    expect(await page.messages.next()).toBe('still here')
  })

  it('fails while it is starting: of several calls at a time the first has its way', async () => {
    const api = newApi()
    const ports = (await freePorts(3)) as [number, number, number]
    const results = await Promise.all(ports.map((port) => api.startServer({ possiblePorts: [port], token: TOKEN })))
    expect(results[0]).toStrictEqual({ success: true, port: ports[0] })
    expect(results.slice(1)).toStrictEqual([NOT_STARTED, NOT_STARTED])
    await holdPort(ports[1])
  })

  it('fails while it is stopping, and works behind that', async () => {
    const { api, port } = await startApi()
    await openRaw(port)
    const stopping = api.stopServer()
    expect(await api.startServer({ possiblePorts: [port], token: TOKEN })).toStrictEqual(NOT_STARTED)
    await stopping
    expect(await api.startServer({ possiblePorts: [port], token: TOKEN })).toStrictEqual({ success: true, port })
  })

  const port = 50_050
  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['a string', 'possiblePorts'],
    ['a number', 50_050],
    ['a list', [50_050]],
    ['an empty object', {}],
    ['no token', { possiblePorts: [port] }],
    ['a token of undefined', { possiblePorts: [port], token: undefined }],
    ['a token of null', { possiblePorts: [port], token: null }],
    ['an empty token', { possiblePorts: [port], token: '' }],
    ['a number as token', { possiblePorts: [port], token: 42 }],
    ['a list as token', { possiblePorts: [port], token: ['secret'] }],
    ['no ports', { token: TOKEN }],
    ['ports of null', { possiblePorts: null, token: TOKEN }],
    ['one port', { possiblePorts: port, token: TOKEN }],
    ['a string of ports', { possiblePorts: '50050', token: TOKEN }],
    ['an empty list of ports', { possiblePorts: [], token: TOKEN }],
    ['a list of holes', { possiblePorts: new Array(2), token: TOKEN }],
    ['a hole among the ports', { possiblePorts: Object.assign([], { 1: port }), token: TOKEN }],
    ['ports as strings', { possiblePorts: ['50050'], token: TOKEN }],
    ['undefined among the ports', { possiblePorts: [undefined], token: TOKEN }],
    ['a port that is too high', { possiblePorts: [65_536], token: TOKEN }],
    ['a negative port', { possiblePorts: [-1], token: TOKEN }],
    ['half a port', { possiblePorts: [0.5], token: TOKEN }],
    ['no number as port', { possiblePorts: [Number.NaN], token: TOKEN }],
    ['an unknown option', { possiblePorts: [port], token: TOKEN, maxMesageBytes: 1 }],
    ['an impossible limit', { possiblePorts: [port], token: TOKEN, maxMessageBytes: -1 }],
    ['a key that is none', { possiblePorts: [port], token: TOKEN, tls: { key: 'no', cert: 'no' } }],
    ['a host of nobody', { possiblePorts: [port], token: TOKEN, host: '192.0.2.1' }],
    ['the option port', { possiblePorts: [port], token: TOKEN, port }],
    ['a handler of the engine', { possiblePorts: [port], token: TOKEN, message: () => {} }],
  ])('fails for %s', async (_, given) => {
    const api = newApi()
    expect(await api.startServer(given as StartServerArguments)).toStrictEqual(NOT_STARTED)
    expect(await api.getServer()).toStrictEqual(STOPPED)
  })

  it.each(['open', 'message', 'close'])('points from the handler %s to the listener', async (name) => {
    const given = { possiblePorts: [0], token: TOKEN, [name]: () => {} }
    const result = await newApi().startServer(given)
    expect(result).toHaveProperty(
      'message',
      expect.stringMatching(/\bon(ClientConnected|ClientDisconnected|Message)\b/),
    )
  })

  it('speaks wss:// with tls', async () => {
    const { api, port } = await startApi({ tls: certificate })
    const page = await openPage(port, { secure: true })
    await api.broadcast({ message: 'in private' })
    expect(await page.messages.next()).toBe('in private')
    await expect(openPage(port)).rejects.toThrow()
  })

  it.each([
    ['no token', '/'],
    ['a wrong token', '/?token=wrong'],
    ['an empty token', '/?token='],
  ])('lets nobody in with %s', async (_, target) => {
    const { port } = await startApi()
    const socket = new WebSocket(`ws://127.0.0.1:${port}${target}`)
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }]
    expect(response.statusCode).toBe(401)
    socket.on('error', () => {}).terminate()
  })

  it('lets the own client in too', async () => {
    const { api, port } = await startApi()
    const connection = await connect(`ws://127.0.0.1:${port}/?token=${encodeURIComponent(TOKEN)}`)
    await api.broadcast({ message: 'hello' })
    for await (const message of connection) {
      expect(message).toBe('hello')
      break
    }
    connection.terminate()
  })

  it.each(['+/=', 'a b', 'ä€😀', '%20', '100%', "'"])('takes the token %j', async (token) => {
    const { port } = await startApi({ token })
    const page = await openPage(port, { token })
    expect(page.socket.readyState).toBe(WebSocket.OPEN)
  })

  it('hands options on to the engine', async () => {
    const { port } = await startApi({ maxMessageBytes: 10, subprotocols: ['chat'], respond: () => ({ body: 'page' }) })
    const page = await openPage(port)
    page.socket.send('12345678901')
    expect((await once(page.socket, 'close'))[0]).toBe(1009)
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe('page')
  })
})

describe('stopServer', () => {
  it('closes the clients with 1001, and frees the port', async () => {
    const { api, port } = await startApi()
    const page = await openPage(port)
    const closed = once(page.socket, 'close')
    expect(await api.stopServer()).toStrictEqual({ success: true, message: 'The server has stopped.' })
    expect((await closed)[0]).toBe(1001)
    await holdPort(port)
    expect(await api.getServer()).toStrictEqual(STOPPED)
  })

  it('cuts clients that do not answer in time', async () => {
    const { api, port } = await startApi({ closeTimeoutMs: 100 })
    const client = await openRaw(port)
    expect((await api.stopServer()).success).toBe(true)
    expect(closeOf(await client.readFrame()).code).toBe(1001)
    await client.ended()
  })

  it('fails when nothing runs', async () => {
    const api = newApi()
    expect(await api.stopServer()).toStrictEqual({ success: false, message: 'The server is not running.' })
    await startApi({}, api)
    await api.stopServer()
    expect(await api.stopServer()).toStrictEqual({ success: false, message: 'The server is not running.' })
  })

  it('may be called twice at a time', async () => {
    const { api, port } = await startApi()
    await openPage(port)
    const results = await Promise.all([api.stopServer(), api.stopServer()])
    expect(results.map((result) => result.success)).toEqual([true, true])
    await holdPort(port)
  })

  it('waits for a server that is just starting', async () => {
    const port = await freePort()
    const api = newApi()
    const starting = api.startServer({ possiblePorts: [port], token: TOKEN })
    expect((await api.stopServer()).success).toBe(true)
    await starting
    expect(await api.getServer()).toStrictEqual(STOPPED)
    await holdPort(port)
  })

  it('is a failure where the start that it waited for was one', async () => {
    const port = await freePort()
    await holdPort(port)
    const api = newApi()
    const starting = api.startServer({ possiblePorts: [port], token: TOKEN })
    expect(await api.stopServer()).toStrictEqual({ success: false, message: 'The server is not running.' })
    expect(await starting).toStrictEqual(NOT_STARTED)
  })

  it('leaves listeners in place for the next start', async () => {
    const { api, port } = await startApi()
    const connected: string[] = []
    api.onClientConnected(({ id }) => connected.push(id))
    await openPage(port)
    await api.stopServer()
    const again = await startApi({}, api)
    await openPage(again.port)
    expect(connected).toHaveLength(2)
  })
})

describe('broadcast', () => {
  it('reaches all clients, and counts them', async () => {
    const { api, port } = await startApi()
    expect(await api.broadcast({ message: 'nobody' })).toStrictEqual({
      success: true,
      message: 'Sent to 0 clients.',
      sent: 0,
      dropped: 0,
    })
    const pages = [await openPage(port), await openPage(port)]
    expect(await api.broadcast({ message: 'all' })).toStrictEqual({
      success: true,
      message: 'Sent to 2 clients.',
      sent: 2,
      dropped: 0,
    })
    for (const page of pages) expect(await page.messages.next()).toBe('all')
  })

  it('sends bytes as binary', async () => {
    const { api, port } = await startApi()
    const page = await openPage(port)
    await api.broadcast({ message: Uint8Array.of(1, 2, 3) })
    await api.broadcast({ message: Uint8Array.of(4, 5).buffer })
    expect(await page.messages.take(2)).toEqual([Buffer.of(1, 2, 3), Buffer.of(4, 5)])
  })

  it('counts who could not take it, and does not wait for them', async () => {
    const { api, port } = await startApi({ slowConsumer: 'drop', maxBufferedBytes: 100_000 })
    await openRaw(port, { paused: true })
    const page = await openPage(port)
    let result = await api.broadcast({ message: 'first' })
    while (result.dropped === 0) {
      await page.messages.next()
      result = await api.broadcast({ message: new Uint8Array(90_000) })
    }
    expect(result).toStrictEqual({
      success: true,
      message: 'Sent to 1 client. 1 client could not take it: the buffer is full.',
      sent: 1,
      dropped: 1,
    })
  })

  it('leaves out who is disconnecting', async () => {
    const { api, port } = await startApi()
    const client = await openRaw(port)
    client.send(closeFrame(1000))
    await client.readFrame()
    expect(await api.broadcast({ message: 'all' })).toMatchObject({ success: true, sent: 0, dropped: 0 })
  })

  it('fails when the server does not run', async () => {
    expect(await newApi().broadcast({ message: 'all' })).toStrictEqual({ ...NOT_RUNNING, sent: 0, dropped: 0 })
  })

  it.each([undefined, null, 'all'])('says how to call it, given %j', async (given) => {
    const { api } = await startApi()
    expect((await api.broadcast(given as never)).message).toBe('Call broadcast({ message }).')
  })

  it.each([undefined, null, 'all', {}, { message: undefined }, { message: null }, { message: 1 }, { message: [1] }])(
    'fails for %j',
    async (given) => {
      const { api } = await startApi()
      expect(await api.broadcast(given as never)).toStrictEqual({ ...FAILED, sent: 0, dropped: 0 })
    },
  )
})

describe('send', () => {
  it('reaches that client and no other', async () => {
    const { api, port } = await startApi()
    const page = await openPage(port)
    const clientId = await onlyClient(api)
    const other = await openPage(port)
    const result = await api.send({ clientId, message: 'for you' })
    expect(result).toStrictEqual({ success: true, message: 'The message was sent.' })
    await api.broadcast({ message: 'for all' })
    expect(await page.messages.take(2)).toEqual(['for you', 'for all'])
    expect(await other.messages.take(1)).toEqual(['for all'])
  })

  it.each<[string, SendArguments['message'], unknown]>([
    ['an empty text', '', ''],
    ['a text', 'ä€😀', 'ä€😀'],
    ['a lone surrogate', 'a\ud800b', 'a\ufffdb'],
    ['a Uint8Array', Uint8Array.of(1, 2), Buffer.of(1, 2)],
    ['a Buffer', Buffer.of(3, 4), Buffer.of(3, 4)],
    ['an ArrayBuffer', Uint8Array.of(5, 6).buffer, Buffer.of(5, 6)],
    ['no bytes', new Uint8Array(0), Buffer.alloc(0)],
  ])('takes %s', async (_, message, expected) => {
    const { api, port } = await startApi()
    const page = await openPage(port)
    const result = await api.send({ clientId: await onlyClient(api), message })
    expect(result.success).toBe(true)
    expect(await page.messages.next()).toEqual(expected)
  })

  it('with confirm: success means that the client has the message', async () => {
    const { api, port } = await startApi()
    const page = await openPage(port)
    const result = await api.send({ clientId: await onlyClient(api), message: 'sure?', confirm: true })
    expect(page.messages.all).toEqual(['sure?'])
    expect(result).toStrictEqual({ success: true, message: 'The client has received the message.' })
  })

  it('with confirm: fails when the client does not answer in time', async () => {
    const { api, port } = await startApi()
    const client = await openRaw(port)
    const clientId = await onlyClient(api)
    const result = await api.send({ clientId, message: 'sure?', confirm: true, timeoutMs: 50 })
    expect(result).toStrictEqual(FAILED)
    expect(result.message).toMatch(/50 ms/)
    expect(await client.readText()).toBe('sure?')
  })

  it('with confirm: fails when the client goes instead of answering', async () => {
    const { api, port } = await startApi()
    const client = await openRaw(port)
    const sending = api.send({ clientId: await onlyClient(api), message: 'sure?', confirm: true })
    await client.readText()
    client.reset()
    expect(await sending).toStrictEqual(FAILED)
  })

  it('fails when the server does not run', async () => {
    const api = newApi()
    expect(await api.send({ clientId: 'a', message: 'hello' })).toStrictEqual(NOT_RUNNING)
    const { port } = await startApi({}, api)
    await openPage(port)
    const clientId = await onlyClient(api)
    await api.stopServer()
    expect(await api.send({ clientId, message: 'hello' })).toStrictEqual(NOT_RUNNING)
  })

  it('fails for a client that is unknown, or gone', async () => {
    const { api, port } = await startApi()
    const unknown = await api.send({ clientId: 'nobody', message: 'hello' })
    expect(unknown).toStrictEqual({ success: false, message: 'There is no client nobody.' })
    const page = await openPage(port)
    const clientId = await onlyClient(api)
    const gone = new Promise((resolve) => api.onClientDisconnected(resolve))
    await page.leave()
    await gone
    expect(await api.send({ clientId, message: 'hello' })).toStrictEqual({
      success: false,
      message: `There is no client ${clientId}.`,
    })
  })

  it('fails for a client that is disconnecting', async () => {
    const { api, port } = await startApi({ closeTimeoutMs: 60_000 })
    const client = await openRaw(port)
    const clientId = await onlyClient(api)
    client.send(closeFrame(1000))
    await client.readFrame()
    const result = await api.send({ clientId, message: 'hello' })
    expect(result).toStrictEqual({ success: false, message: `The client ${clientId} is disconnecting.` })
    expect(await api.getServer()).toMatchObject({ clientIds: [] })
  })

  it('fails for a message over the limit, in bytes', async () => {
    const { api, port } = await startApi({ maxBufferedBytes: 1_000 })
    const page = await openPage(port)
    const clientId = await onlyClient(api)
    for (const message of ['ä'.repeat(501), new Uint8Array(1_001), new ArrayBuffer(1_001)]) {
      const result = await api.send({ clientId, message })
      expect(result).toStrictEqual(FAILED)
      expect(result.message).toMatch(/maxBufferedBytes.*1000/)
    }
    expect((await api.send({ clientId, message: 'ä'.repeat(500) })).success).toBe(true)
    expect(await page.messages.next()).toBe('ä'.repeat(500))
  })

  it.each(['drop', 'close'] as const)(
    'fails for a client that does not read (slowConsumer: %s)',
    async (slowConsumer) => {
      const { api, port } = await startApi({ slowConsumer, maxBufferedBytes: 1_000_000 })
      const client = await openRaw(port, { paused: true })
      await until(() => client.socket.readyState === 'open')
      while ((await api.getServer()).clientIds.length === 0) await new Promise(setImmediate)
      const clientId = await onlyClient(api)
      const message = new Uint8Array(500_000)
      const full = { success: false, message: `The buffer of the client ${clientId} is full: it reads too slowly.` }
      const results: unknown[] = []
      // Those that wait in the buffer do not leave it in time; the one that has no room left fails at once.
      for (let sent = 0; sent < 100 && results.length === 0; sent++) {
        void api.send({ clientId, message, timeoutMs: 60_000 }).then((result) => {
          if (!result.success) results.push(result)
        })
        await new Promise(setImmediate)
      }
      expect(results[0]).toStrictEqual(full)
      const later = await api.send({ clientId, message: 'more', timeoutMs: 50 })
      expect(later).toStrictEqual(FAILED)
      expect(later.message).toMatch(slowConsumer === 'drop' ? /50 ms/ : /disconnecting/)
      client.socket.destroy()
    },
  )

  it.each([undefined, null, 'hello'])('says how to call it, given %j', async (given) => {
    const { api } = await startApi()
    expect((await api.send(given as never)).message).toBe('Call send({ clientId, message }).')
  })

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['a string', 'hello'],
    ['no client', { message: 'hello' }],
    ['a client of null', { clientId: null, message: 'hello' }],
    ['a symbol for a client', { clientId: Symbol('client'), message: 'hello' }],
    ['a client without a name', { clientId: Object.create(null), message: 'hello' }],
  ])('fails for %s', async (_, given) => {
    const { api } = await startApi()
    expect(await api.send(given as never)).toStrictEqual(FAILED)
  })

  it.each<[string, unknown]>([
    ['no message', {}],
    ['a message of null', { message: null }],
    ['a number', { message: 1 }],
    ['a list', { message: [1, 2] }],
    ['an object', { message: { text: 'hello' } }],
    ['a time that is none', { message: 'hello', timeoutMs: 'soon' }],
    ['a negative time', { message: 'hello', timeoutMs: -1 }],
    ['no number for a time', { message: 'hello', timeoutMs: Number.NaN }],
  ])('fails for %s to a client that is there, and sends nothing', async (_, given) => {
    const { api, port } = await startApi()
    const page = await openPage(port)
    const clientId = await onlyClient(api)
    expect(await api.send({ clientId, ...(given as object) } as never)).toStrictEqual(FAILED)
    await api.send({ clientId, message: 'behind', confirm: true })
    expect(page.messages.all).toEqual(['behind'])
  })

  it.each([2 ** 31, Number.POSITIVE_INFINITY])('does not take a time of %d for a short one', async (timeoutMs) => {
    const { api, port } = await startApi()
    const warnings = collectWarnings()
    await openRaw(port)
    const sending = api.send({ clientId: await onlyClient(api), message: 'hello', confirm: true, timeoutMs })
    const soon = await Promise.race([sending, new Promise<string>((resolve) => setTimeout(resolve, 50, 'waits'))])
    // To wait, or to say that such a time cannot be: both will do.
    if (soon !== 'waits') expect(soon).toHaveProperty('message', expect.stringContaining('timeoutMs'))
    expect(warnings).toEqual([])
  })
})

describe('getServer', () => {
  it('tells what runs, and who is in', async () => {
    const api = newApi()
    expect(await api.getServer()).toStrictEqual(STOPPED)
    const { port } = await startApi({}, api)
    expect(await api.getServer()).toStrictEqual({ isRunning: true, clientIds: [], port })
    const connected: string[] = []
    api.onClientConnected(({ id }) => connected.push(id))
    const pages = [await openPage(port), await openPage(port)]
    expect(await api.getServer()).toStrictEqual({ isRunning: true, clientIds: connected, port })
    const gone = new Promise((resolve) => api.onClientDisconnected(resolve))
    await pages[0]!.leave()
    await gone
    expect(await api.getServer()).toStrictEqual({ isRunning: true, clientIds: connected.slice(1), port })
    await api.stopServer()
    expect(await api.getServer()).toStrictEqual(STOPPED)
  })

  it('gives lists that are the caller’s to change', async () => {
    const { api, port } = await startApi()
    await openPage(port)
    ;(await api.getServer()).clientIds.length = 0
    expect((await api.getServer()).clientIds).toHaveLength(1)
  })
})

describe('updateTls', () => {
  it('gives the new certificate to pages that come from now on', async () => {
    const { api, port } = await startApi({ tls: certificate })
    const page = await openPage(port, { secure: true })
    const renewed = makeCertificate()
    expect(await api.updateTls(renewed)).toStrictEqual({
      success: true,
      message: 'New connections get the new certificate.',
    })
    await openPage(port, { secure: true, client: { ca: renewed.cert } })
    await expect(openPage(port, { secure: true })).rejects.toThrow()
    await api.broadcast({ message: 'to all' })
    expect(await page.messages.next()).toBe('to all')
  })

  it('asks the function again that was given as tls', async () => {
    let loads = 0
    const tls = async () => {
      if (++loads === 2) throw new Error('the file is being written')
      return certificate
    }
    const { api } = await startApi({ tls })
    expect(await api.updateTls()).toStrictEqual({ success: false, message: 'The file is being written.' })
    expect(await api.updateTls()).toMatchObject({ success: true })
    expect(loads).toBe(3)
  })

  it('fails when the server does not run, or not with TLS, or not with such a certificate', async () => {
    expect(await newApi().updateTls(certificate)).toStrictEqual(NOT_RUNNING)
    const { api: plain } = await startApi()
    expect(await plain.updateTls(certificate)).toStrictEqual(FAILED)
    const { api } = await startApi({ tls: certificate })
    for (const given of [{ cert: 'none', key: 'none' }, undefined, 'none', null]) {
      expect(await api.updateTls(given as never)).toStrictEqual(FAILED)
    }
  })
})

describe('instances', () => {
  it('are independent of each other', async () => {
    const [first, second] = [await startApi(), await startApi({ token: 'another' })]
    expect(second.port).not.toBe(first.port)
    const heard: string[] = []
    first.api.onMessage(() => heard.push('first'))
    second.api.onMessage(() => heard.push('second'))
    const page = await openPage(second.port, { token: 'another' })
    const message = new Promise((resolve) => second.api.onMessage(resolve))
    page.socket.send('hello')
    await message
    expect(heard).toEqual(['second'])
    expect((await first.api.broadcast({ message: 'hello' })).sent).toBe(0)
    await first.api.stopServer()
    expect((await second.api.getServer()).isRunning).toBe(true)
  })

  it('the functions of the module are one of them', async () => {
    const port = await freePort()
    expect(await fullduplex.startServer({ possiblePorts: [port], token: TOKEN })).toStrictEqual({ success: true, port })
    expect(await createApi().getServer()).toStrictEqual(STOPPED)
    const events: unknown[] = []
    const unsubscribe = [
      fullduplex.onClientConnected(() => events.push('connected')),
      fullduplex.onMessage(({ content }) => events.push(content)),
    ]
    const gone = new Promise((resolve) => unsubscribe.push(fullduplex.onClientDisconnected(resolve)))
    const page = await openPage(port)
    const [clientId] = (await fullduplex.getServer()).clientIds as [string]
    page.socket.send('hello')
    expect((await fullduplex.send({ clientId, message: 'one', confirm: true })).success).toBe(true)
    expect((await fullduplex.broadcast({ message: 'all' })).sent).toBe(1)
    expect(await page.messages.take(2)).toEqual(['one', 'all'])
    expect((await fullduplex.stopServer()).success).toBe(true)
    await gone
    expect(events).toEqual(['connected', 'hello'])
    for (const end of unsubscribe) end()
  })

  it('have functions that need no object', async () => {
    const { startServer, stopServer, getServer } = newApi()
    expect((await startServer({ possiblePorts: [0], token: TOKEN })).success).toBe(true)
    expect((await getServer()).isRunning).toBe(true)
    expect((await stopServer()).success).toBe(true)
  })
})

describe('whatever they are given', () => {
  /** Anything, and things that are nearly right. */
  const anything = fc.oneof(
    fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withTypedArray: true }),
    fc.constantFrom<unknown>(Symbol('any'), () => {}, Promise.resolve(), Object.create(null)),
  )
  const nearlyRight = fc.record(
    {
      possiblePorts: fc.oneof(fc.array(fc.oneof(fc.constant(0), anything), { maxLength: 3 }), anything),
      token: fc.oneof(fc.string(), anything),
      host: fc.oneof(fc.constantFrom('127.0.0.1', 'localhost'), anything),
      origins: anything,
      subprotocols: anything,
      clientId: anything,
      message: anything,
      confirm: anything,
      timeoutMs: fc.oneof(fc.integer({ min: 1, max: 20 }), anything),
    },
    { requiredKeys: [] },
  )
  const argument = fc.oneof(anything, nearlyRight)

  function expectResult(result: unknown): void {
    expect(result).toMatchObject({ success: expect.any(Boolean) })
    const { success, message } = result as { success: boolean; message?: unknown }
    if (!success) expect(message).toEqual(expect.any(String))
    expect(structuredClone(result)).toEqual(result)
  }

  async function callAll(api: Api, given: unknown): Promise<void> {
    expectResult(await api.startServer(given as never))
    expectResult(await api.send(given as never))
    expectResult(await api.broadcast(given as never))
    const details = await api.getServer()
    expect(structuredClone(details)).toEqual(details)
    const stopped = await api.stopServer()
    expect(stopped).toStrictEqual({ success: details.isRunning, message: expect.any(String) })
  }

  it('calls on a server that does not run neither throw nor reject', async () => {
    await fc.assert(
      fc.asyncProperty(argument, (given) => callAll(createApi(), given)),
      { numRuns: 300 },
    )
  })

  it('calls on a server that runs neither throw nor reject', async () => {
    const { api, port } = await startApi({ maxBufferedBytes: Number.POSITIVE_INFINITY })
    const page = await openPage(port)
    await fc.assert(
      fc.asyncProperty(argument, async (given) => {
        const clientId = await onlyClient(api)
        expectResult(await api.startServer(given as never))
        expectResult(await api.broadcast(given as never))
        expectResult(await api.send(given as never))
        expectResult(await api.send({ ...(given as object), clientId } as never))
        expectResult(await api.send({ clientId, message: given, confirm: true } as never))
      }),
      { numRuns: 300 },
    )
    expect(page.socket.readyState).toBe(WebSocket.OPEN)
  })

  it('subscriptions neither throw nor harm anybody', async () => {
    const { api, port } = await startApi()
    const heard = new Promise((resolve) => api.onMessage(resolve))
    fc.assert(
      fc.property(argument, (given) => {
        for (const subscribe of [api.onClientConnected, api.onClientDisconnected, api.onMessage]) {
          const unsubscribe = subscribe(given as never)
          unsubscribe()
          unsubscribe()
        }
      }),
    )
    api.onMessage(undefined as never)
    api.onClientConnected('no function' as never)
    const page = await openPage(port)
    page.socket.send('hello')
    expect(await heard).toMatchObject({ content: 'hello' })
    expect(page.socket.readyState).toBe(WebSocket.OPEN)
  })

  const hostile = (): never => {
    throw Object.create(null)
  }
  it.each<[string, unknown]>([
    [
      'a getter that throws',
      {
        possiblePorts: [0],
        token: TOKEN,
        clientId: 'a',
        get message() {
          return hostile()
        },
      },
    ],
    [
      'ports that throw',
      {
        get possiblePorts() {
          return hostile()
        },
        token: TOKEN,
      },
    ],
    [
      'a token that throws',
      {
        possiblePorts: [0],
        get token() {
          return hostile()
        },
      },
    ],
    [
      'an option that throws',
      {
        possiblePorts: [0],
        token: TOKEN,
        get tls() {
          return hostile()
        },
      },
    ],
    ['a proxy that throws', new Proxy({}, { get: hostile, has: hostile, ownKeys: hostile })],
    ['a name that throws', { clientId: { toString: hostile }, message: 'hello' }],
  ])('not even for %s', async (_, given) => {
    await callAll(newApi(), given)
    const { api } = await startApi()
    expectResult(await api.startServer(given as never))
    expectResult(await api.send(given as never))
    expectResult(await api.broadcast(given as never))
  })
})
