import { once } from 'node:events'
import { connect as connectTcp, createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import {
  createWebsocket,
  getClient,
  getClientByHandler,
  getClients,
  getError,
  getMessage,
  getMethod,
  isOnClose,
  isOnError,
  isOnMessage,
  isOnOpen,
  type WebsocketHandler,
} from '../../src/compat/dirigible.ts'
import { type ConnectionTarget, UsageError } from '../../src/index.ts'
import { NOTE, openFolder } from '../support/dirigible-folder.ts'
import { freePort, holdPort } from '../support/ports.ts'
import { defer, Queue } from '../support/queue.ts'
import { frame } from '../support/raw-client.ts'
import { acceptance, portOf, startRawServer, startServer } from '../support/servers.ts'

const NOTER = `${NOTE}
exports.onOpen = () => note('open')
exports.onMessage = (message) => note(['message', message])
exports.onError = (error) => note(['error', error])
exports.onClose = () => note('close')`

/** A handler whose calls are noted. */
function noting(more: WebsocketHandler = {}): { handler: WebsocketHandler; notes: Queue<unknown> } {
  const notes = new Queue<unknown>()
  const handler: WebsocketHandler = {
    onOpen: () => notes.push('open'),
    onMessage: (message) => notes.push(['message', message]),
    onError: (error) => notes.push(['error', error]),
    onClose: () => notes.push('close'),
    ...more,
  }
  return { handler, notes }
}

/** A server of the engine that answers each message, and tells what it was sent. */
async function startEcho() {
  const received = new Queue<unknown>()
  const closed = new Queue<number>()
  const { url, server } = await startServer({
    message: (client, data) => {
      received.push(data)
      client.send(data)
    },
    close: (_client, { code }) => closed.push(code),
  })
  return { url, server, received, closed }
}

describe('createWebsocket', () => {
  it('returns at once; what is sent and closed at once waits for the opening, and arrives', async () => {
    const { url, received, closed } = await startEcho()
    const { runtime, notes } = openFolder({
      'project/handler.js': NOTER,
      'project/client.js': `
        const websockets = require('net/v4/websockets')
        const client = websockets.createWebsocket('${url}', 'project/handler', 'undertow')
        exports.returned = [client.send('first'), client.send('second'), client.close(), client.send('late'), client.close()]
        exports.is = websockets.getClientByHandler('project/handler')`,
    })
    expect(runtime.require('project/client')).toEqual({ returned: Array(5).fill(undefined), is: null })
    expect(await notes.take(4)).toEqual(['open', ['message', 'first'], ['message', 'second'], 'close'])
    expect(received.all).toEqual(['first', 'second'])
    expect(await closed.next()).toBe(1000)
  })

  it('sends texts and bytes, before and after the opening, in their order', async () => {
    openFolder({})
    const { url, received } = await startEcho()
    const opened = defer()
    const { handler, notes } = noting({
      onOpen: (session) => void session.send('from onOpen'),
      onMessage: () => opened.resolve(),
    })
    const client = createWebsocket(new URL(url), handler)
    const bytes = Uint8Array.of(1, 2)
    client.send('early')
    client.send(bytes)
    bytes[0] = 9 // is its owner's again
    await opened.promise
    client.send('late')
    client.send(bytes)
    expect(await received.take(5)).toEqual(['early', Buffer.of(1, 2), 'from onOpen', 'late', Buffer.of(9, 2)])
    for (const wrong of [5, null, undefined, {}, ['x']]) {
      expect(() => client.send(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_DATA_TYPE' }))
    }
    client.close()
    expect(await notes.next()).toBe('close')
    expect(client.send('too late')).toBeUndefined()
  })

  it('tells the event that is being handled, also behind an await, and that of each of several', async () => {
    openFolder({})
    const { url } = await startEcho()
    const here = () => [
      getMethod(),
      getMessage(),
      getError(),
      ...Object.entries({ isOnOpen, isOnMessage, isOnError, isOnClose }).flatMap(([name, is]) => (is() ? [name] : [])),
    ]
    const notes = new Queue<unknown>()
    const note = async () => {
      const before = here()
      await null
      await new Promise(setImmediate)
      expect(here()).toEqual(before)
      notes.push(before)
    }
    const client = createWebsocket(url, { onOpen: note, onMessage: note, onError: note, onClose: note })
    client.send('a')
    expect(await notes.take(2)).toEqual([
      ['onopen', null, null, 'isOnOpen'],
      ['onmessage', 'a', null, 'isOnMessage'],
    ])
    client.send('b')
    client.close()
    expect(await notes.take(2)).toEqual([
      ['onmessage', 'b', null, 'isOnMessage'],
      ['onclose', null, null, 'isOnClose'],
    ])
    createWebsocket(`ws://127.0.0.1:${await freePort()}`, { onError: note, onClose: note })
    const told = (await notes.take(2)) as unknown[][]
    expect(told.find(([method]) => method === 'onerror')).toEqual([
      ...['onerror', null, expect.stringContaining('ECONNREFUSED'), 'isOnError'],
    ])
    expect(here()).toEqual([null, null, null])
  })

  it('leaves the context of the call that makes a client behind', async () => {
    const notes = new Queue<unknown>()
    const createConnection = ({ port, hostname }: ConnectionTarget) => {
      notes.push(['dial', getMethod(), getMessage()])
      return connectTcp(port, hostname)
    }
    openFolder({}, { connect: { createConnection } })
    const { url } = await startEcho()
    const outer = createWebsocket(url, {
      onMessage: () => {
        createWebsocket(url, { onOpen: () => notes.push([getMethod(), getMessage()]) })
        notes.push([getMethod(), getMessage()])
      },
    })
    outer.send('x')
    expect(await notes.take(4)).toEqual([
      ['dial', null, null],
      ['onmessage', 'x'],
      ['dial', null, null],
      ['onopen', null],
    ])
  })

  it('gives the functions of the handler the client', async () => {
    openFolder({})
    const { url } = await startEcho()
    const sessions: unknown[] = []
    const done = defer()
    const client = createWebsocket(url, {
      onOpen: (session) => void sessions.push(session),
      onMessage: (_message, session) => void sessions.push(session.close()),
      onClose: (session) => {
        sessions.push(session)
        done.resolve()
      },
    })
    client.send('x')
    await done.promise
    expect(sessions).toEqual([client, undefined, client])
  })

  it('refuses at once what cannot be', () => {
    const { runtime } = openFolder({ 'five.js': 'module.exports = 5', 'broken.js': 'throw new Error("broken")' })
    const refusal = (uri: unknown, handler: unknown): unknown => {
      try {
        createWebsocket(uri as string, handler as string)
      } catch (error) {
        return error
      }
      return undefined
    }
    for (const uri of ['', 'nothing', 'ftp://x', 'ws://x/#y', undefined]) {
      expect(refusal(uri, {})).toMatchObject({ name: 'UsageError', code: 'ERR_URL' })
    }
    for (const handler of ['missing', '', '../x', 'five', 5, null, undefined, { onOpen: 'x' }]) {
      expect(refusal('ws://127.0.0.1:1', handler), String(handler)).toMatchObject({ code: 'ERR_OPTION' })
      expect(refusal('ws://127.0.0.1:1', handler)).toBeInstanceOf(UsageError)
    }
    expect(refusal('ws://127.0.0.1:1', 'broken')).toMatchObject({ message: 'broken' })
    expect(runtime.require('net/websockets')).toSatisfy(
      (websockets: { getClients(): unknown[] }) => websockets.getClients().length === 0,
    )
  })
})

describe('a connection that fails', () => {
  it('calls onError and then onClose, once, and leaves the lists before', async () => {
    openFolder({})
    const closed = await freePort()
    for (const host of ['127.0.0.1', 'localhost']) {
      const { handler, notes } = noting({
        onError: (error) => notes.push(['error', error, getClients().length]),
        onClose: () => notes.push(['close', getClients().length]),
      })
      const client = createWebsocket(`ws://${host}:${closed}`, handler)
      client.send('never leaves')
      expect(await notes.next()).toEqual(['error', expect.stringContaining('ECONNREFUSED'), 0])
      expect(await notes.next()).toEqual(['close', 0])
      client.send('goes nowhere')
      client.close()
      expect(notes.all).toHaveLength(2)
    }
  })

  it('tells of a refusal, of a server that ends, and of one that breaks the protocol', async () => {
    openFolder({})
    const { url: refusing } = await startServer({
      authorize: () => ({ accept: false, status: 403, message: 'Not you.' }),
    })
    const { url: ending } = await startRawServer((peer) => peer.end())
    const { url: violating } = await startRawServer((peer, request) =>
      peer.send(acceptance(request), frame(1, 'masked')),
    )
    const { url: losing } = await startRawServer(async (peer, request) => {
      peer.send(acceptance(request))
      await peer.readFrame()
      peer.reset()
    })
    const fate = async (url: string): Promise<unknown[]> => {
      const { handler, notes } = noting()
      createWebsocket(url, handler).send('x')
      while (notes.all.at(-1) !== 'close') await notes.next()
      return notes.all
    }
    expect(await fate(refusing)).toEqual([['error', expect.stringContaining('403: Not you.')], 'close'])
    expect(await fate(ending)).toEqual([['error', expect.stringContaining('without an answer')], 'close'])
    expect(await fate(violating)).toEqual(['open', ['error', expect.stringContaining('mask')], 'close'])
    expect(await fate(losing)).toEqual(['open', ['error', 'the connection was lost'], 'close'])
  })

  it('harms nobody without onError, nor with one that fails', async () => {
    const reported = new Queue<Error>()
    openFolder({}, { error: reported.push })
    const port = await freePort()
    const done = defer()
    createWebsocket(`ws://127.0.0.1:${port}`, { onClose: () => done.resolve() })
    await done.promise
    createWebsocket(`ws://127.0.0.1:${port}`, {
      onError: () => {
        throw new Error('in onError')
      },
      onClose: async () => {
        throw new Error('in onClose')
      },
    })
    expect((await reported.take(2)).map(({ message }) => message)).toEqual(['in onError', 'in onClose'])
  })

  it('is what a function that fails makes of it', async () => {
    const reported = new Queue<Error>()
    openFolder({}, { error: reported.push })
    const { url, closed } = await startEcho()
    const { handler, notes } = noting({
      onOpen: () => {
        throw new Error('in onOpen')
      },
    })
    createWebsocket(url, handler)
    expect(await closed.next()).toBe(1011)
    expect(await notes.next()).toBe('close')
    const { handler: second, notes: others } = noting({ onMessage: () => Promise.reject(new Error('in onMessage')) })
    createWebsocket(url, second).send('x')
    expect(await closed.next()).toBe(1011)
    expect(await others.take(2)).toEqual(['open', 'close'])
    expect((await reported.take(2)).map(({ message }) => message)).toEqual(['in onOpen', 'in onMessage'])
  })

  it('is one whose server does not answer, and that has too much to send', async () => {
    openFolder({}, { connect: { maxBufferedBytes: 10 } })
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { handler, notes } = noting()
    const client = createWebsocket(`ws://127.0.0.1:${portOf(silent)}`, handler)
    client.send('12345')
    client.send('67890')
    expect(getClients()).toHaveLength(1)
    client.send('!')
    expect(getClients()).toHaveLength(0)
    expect(await notes.take(2)).toEqual([['error', 'more than 10 bytes wait for the opening'], 'close'])
    silent.close()
  })

  it('takes the options that its runtime has for all', async () => {
    const headers = { Authorization: 'Bearer secret' }
    openFolder({}, { connect: { headers, handshakeTimeoutMs: 50 } })
    const { url } = await startServer({ token: 'secret' })
    const open = noting()
    createWebsocket(url, open.handler)
    expect(await open.notes.next()).toBe('open')
    const late = noting()
    const held = createServer(() => {}).listen(0, '127.0.0.1')
    await once(held, 'listening')
    createWebsocket(`ws://127.0.0.1:${portOf(held)}`, late.handler)
    expect(await late.notes.next()).toEqual(['error', 'The server did not answer within 50 ms.'])
    held.close()
  })
})

describe('the lists', () => {
  it('have the clients that can be used, with what they were made from', async () => {
    const { runtime } = openFolder({ 'a/handler.js': NOTER })
    const { url } = await startEcho()
    const { handler, notes } = noting()
    const first = createWebsocket(url, 'a/handler.js')
    const second = createWebsocket(`${url}/path`, handler, 'any')
    const third = createWebsocket(url, '/a/handler')
    const id = expect.stringMatching(/^[0-9a-f]{32}$/)
    expect(getClients()).toEqual([
      { id, uri: url, handler: 'a/handler.js', engine: null },
      { id, uri: `${url}/path`, handler: null, engine: 'any' },
      { id, uri: url, handler: '/a/handler', engine: null },
    ])
    expect(new Set(getClients().map(({ id }) => id)).size).toBe(3)
    expect(getClients().map(({ id }) => getClient(id))).toEqual([first, second, third])
    expect(getClients()[0]!.id).toBe(first.getId())
    for (const name of ['a/handler', '/a/handler.js']) expect(getClientByHandler(name)).toBe(first)
    expect(getClientByHandler(handler)).toBe(second)
    for (const none of ['a', 'handler', '../x', '', {}, undefined, null])
      expect(getClientByHandler(none as string)).toBeNull()
    for (const none of ['', '0', undefined]) expect(getClient(none as string)).toBeNull()

    first.close()
    expect(getClientByHandler('a/handler')).toBe(third)
    expect(getClient(first.getId())).toBeNull()
    expect(await notes.next()).toBe('open')
    second.close()
    expect(await notes.next()).toBe('close')
    expect(getClients()).toHaveLength(1)
    await runtime.close()
    expect((runtime.require('net/websockets') as { getClients(): unknown[] }).getClients()).toEqual([])
  })

  it('lose a client that its server has closed', async () => {
    openFolder({})
    const { url, server } = await startEcho()
    const { handler, notes } = noting({ onClose: () => notes.push(getClients()) })
    createWebsocket(url, handler)
    expect(await notes.next()).toBe('open')
    for (const client of server.clients.values()) client.close(4000)
    expect(await notes.next()).toEqual([])
    expect(notes.all).toHaveLength(2) // a closing handshake is no error
  })
})

it('a runtime that closes ends its clients, open or on the way', async () => {
  const { runtime } = openFolder({})
  const { url, closed } = await startEcho()
  const open = noting()
  createWebsocket(url, open.handler)
  expect(await open.notes.next()).toBe('open')
  const opening = noting()
  const silent = createServer(() => {}).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  createWebsocket(`ws://127.0.0.1:${portOf(silent)}`, opening.handler)
  await runtime.close()
  expect(open.notes.all).toEqual(['open', 'close'])
  expect(opening.notes.all).toEqual([['error', 'the runtime was closed'], 'close'])
  expect(await closed.next()).toBe(1001)
  silent.close()
})

it('a program without a warning of its own goes on when a client cannot connect', async () => {
  const held = await holdPort(await freePort())
  const { runtime, notes } = openFolder({
    'handler.js': NOTER,
    'main.js': `
      const websockets = require('net/websockets')
      exports.start = (uri) => websockets.createWebsocket(uri, 'handler').send('x')`,
  })
  ;(runtime.require('main') as { start(uri: string): void }).start(`ws://127.0.0.1:${portOf(held)}`)
  expect(await notes.take(2)).toEqual([['error', expect.any(String)], 'close'])
})
