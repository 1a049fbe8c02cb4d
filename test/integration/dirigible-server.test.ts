import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { type HandshakeError, type Refusal, UsageError } from '../../src/index.ts'
import { type Files, makeFolder, NOTE, openFolder, openPeer, serveFolder } from '../support/dirigible-folder.ts'
import { collectWarnings } from '../support/facade.ts'
import { Queue } from '../support/queue.ts'
import { frame, RawClient, upgradeRequest } from '../support/raw-client.ts'
import { openClient } from '../support/servers.ts'

const AT = '/websockets/v4/service/'

/** A handler that notes what it is told, and answers. */
const TELLER = `${NOTE}
const websockets = require('net/v4/websockets')
const here = () => [websockets.getMethod(), websockets.getMessage(), websockets.getError(),
  ...['isOnOpen', 'isOnMessage', 'isOnError', 'isOnClose'].filter((name) => websockets[name]())]
exports.onOpen = (session) => { note(['open', ...here()]); session.send('welcome') }
exports.onMessage = (message, session) => { note(['message', message, ...here()]); session.send(message) }
exports.onError = (error) => note(['error', error, ...here()])
exports.onClose = (session) => note(['close', typeof session.getId(), ...here()])`

const TOLD: Files = {
  'project/teller.js': TELLER,
  'project/deep/in/it/my.websocket': { handler: 'project/teller', endpoint: 'my-endpoint', description: 'Mine' },
}

/** How an opening ends: with a status, or open. */
function statusOf(url: string, options = {}): Promise<number> {
  return openClient(url, options).then(
    () => 101,
    (error: HandshakeError) => error.status,
  )
}

describe('an endpoint', () => {
  it('is served where its descriptor says, by the functions of its handler', async () => {
    const { url, notes } = await serveFolder(TOLD)
    const peer = await openPeer(`${url}${AT}my-endpoint?any=query`)
    expect(await notes.next()).toEqual(['open', 'onopen', null, null, 'isOnOpen'])
    expect(await peer.messages.next()).toBe('welcome')
    peer.send('hello')
    expect(await notes.next()).toEqual(['message', 'hello', 'onmessage', 'hello', null, 'isOnMessage'])
    expect(await peer.messages.next()).toBe('hello')
    peer.send(Uint8Array.of(1, 2))
    expect(await peer.messages.next()).toEqual(Buffer.of(1, 2))
    expect(await notes.next()).toEqual(['message', Buffer.of(1, 2), 'onmessage', Buffer.of(1, 2), null, 'isOnMessage'])
    peer.connection.close(1000)
    expect(await notes.next()).toEqual(['close', 'string', 'onclose', null, null, 'isOnClose'])
    expect(await peer.closed).toBe(1000)
    expect(notes.all).toHaveLength(4)
  })

  it('can have a handler without any function, and slashes in its name', async () => {
    const { url } = await serveFolder({
      'empty.js': '',
      'a.websocket': { handler: './empty.js', endpoint: 'rooms/green.1~_-' },
    })
    const peer = await openPeer(`${url}${AT}rooms/green.1~_-`)
    peer.send('heard by nobody')
    peer.connection.close(1000)
    expect(await peer.closed).toBe(1000)
  })

  it('tells the handler of a violation, and of a loss, before it tells of the end', async () => {
    const { port, notes, errors } = await serveFolder(TOLD)
    const violator = await RawClient.open({ port, target: `${AT}my-endpoint` })
    await notes.next()
    violator.send(frame(1, 'hello', { masked: false }))
    violator.end()
    const [, sentence, ...here] = (await notes.next()) as string[]
    expect(sentence).toMatch(/mask/)
    expect(here).toEqual(['onerror', null, sentence, 'isOnError'])
    expect(await notes.next()).toContain('onclose')
    expect(await errors.next()).toMatchObject({ name: 'ProtocolError', message: sentence })

    const lost = await RawClient.open({ port, target: `${AT}my-endpoint` })
    await notes.next()
    lost.socket.destroy()
    expect(await notes.next()).toEqual([
      ...['error', 'the connection was lost', 'onerror', null, 'the connection was lost', 'isOnError'],
    ])
    expect(await notes.next()).toContain('onclose')

    const polite = await RawClient.open({ port, target: `${AT}my-endpoint` })
    await notes.next()
    await polite.leave(4000)
    expect(await notes.next()).toContain('onclose')
    expect(errors.all).toHaveLength(1)
  })

  it('closes a client with 1011 when a function fails, and reports it', async () => {
    const { url, notes, errors } = await serveFolder({
      'bad.js': `${NOTE}
        exports.onMessage = (message) => {
          if (message === 'throw') throw new Error('thrown')
          return Promise.reject(new Error('rejected'))
        }
        exports.onError = (error) => note(error)
        exports.onClose = () => { note('closed'); throw new Error('thrown at the end') }`,
      'bad.websocket': { handler: 'bad', endpoint: 'bad' },
    })
    for (const [message, error] of [
      ['throw', 'thrown'],
      ['reject', 'rejected'],
    ]) {
      const peer = await openPeer(`${url}${AT}bad`)
      peer.send(message)
      expect(await peer.closed).toBe(1011)
      expect(await notes.next()).toBe('closed')
      expect((await errors.take(2)).map(({ message }) => message)).toEqual([error, 'thrown at the end'])
    }
    expect(notes.all).toEqual(['closed', 'closed'])
  })

  it('warns of what fails when nobody wants to hear of errors, but not of peers', async () => {
    const warnings = collectWarnings()
    const { runtime, notes } = openFolder({
      'bad.js': `${NOTE}
        exports.onMessage = () => { throw new Error('unheard') }
        exports.onClose = () => note('closed')`,
      'bad.websocket': { handler: 'bad', endpoint: 'bad' },
    })
    const { port } = await runtime.serve()
    const violator = await RawClient.open({ port, target: `${AT}bad` })
    violator.send(frame(3))
    violator.end()
    await notes.next()
    const peer = await openPeer(`ws://127.0.0.1:${port}${AT}bad`)
    peer.send('x')
    await notes.next()
    await expect.poll(() => warnings.map(({ message }) => message)).toEqual(['unheard'])
  })

  it('keeps messages in order behind functions that take their time, with the context of each', async () => {
    const { url, notes } = await serveFolder({
      'slow.js': `${NOTE}
        const { getMessage, getMethod } = require('net/websockets')
        const { setTimeout } = require('node:timers/promises')
        exports.onOpen = async () => { await setTimeout(20); note([getMethod(), getMessage()]) }
        exports.onMessage = async (message) => {
          await setTimeout(message === 'first' ? 20 : 1)
          note([getMethod(), getMessage() === message, message])
          setImmediate(() => note(['later', getMessage()]))
          await new Promise(setImmediate)
        }`,
      'slow.websocket': { handler: 'slow', endpoint: 'slow' },
    })
    const peer = await openPeer(`${url}${AT}slow`)
    peer.send('first')
    peer.send('second')
    expect(await notes.take(5)).toEqual([
      ['onopen', null],
      ['onmessage', true, 'first'],
      ['later', 'first'],
      ['onmessage', true, 'second'],
      ['later', 'second'],
    ])
  })

  it('gives its functions a session that can be kept, and has the connection', async () => {
    const { url, runtime, notes } = await serveFolder(
      {
        'who.js': `${NOTE}
          const sessions = []
          exports.onOpen = (session) => { sessions.push(session); note(session.connection.data.name) }
          exports.onMessage = (message, session) => {
            for (const other of sessions) if (other !== session) other.sendText(session.connection.data.name + ': ' + message)
            if (message === 'bye') note(session.close() === session.getId())
          }`,
        'who.websocket': { handler: 'who', endpoint: 'who' },
      },
      { authorize: ({ query }) => ({ accept: true, data: { name: query.get('name') } }) },
    )
    const ann = await openPeer(`${url}${AT}who?name=Ann`)
    const bob = await openPeer(`${url}${AT}who?name=Bob`)
    expect(await notes.take(2)).toEqual(['Ann', 'Bob'])
    ann.send('hi')
    expect(await bob.messages.next()).toBe('Ann: hi')
    bob.send('bye')
    expect(await ann.messages.next()).toBe('Bob: bye')
    expect(await notes.next()).toBe(true)
    expect(await bob.closed).toBe(1000)
    ann.send('is anybody there?') // goes to a session that has ended
    ann.send('bye')
    expect(await notes.next()).toBe(true)
    expect(runtime.require('net/websocket')).toSatisfy(
      (websocket: { getOpenSessions(): unknown[] }) => websocket.getOpenSessions().length === 0,
    )
  })

  it('serves a client that is not ours', async () => {
    const { port } = await serveFolder(TOLD)
    const socket = new WebSocket(`ws://localhost:${port}${AT}my-endpoint`)
    const messages = new Queue<string>()
    socket.on('message', (data) => messages.push(String(data)))
    socket.on('open', () => socket.send('from ws'))
    expect(await messages.take(2)).toEqual(['welcome', 'from ws'])
    socket.close()
  })
})

describe('other paths', () => {
  it('get 404, plain requests what respond gives', async () => {
    const refusals = new Queue<Refusal>()
    const { url, port } = await serveFolder(TOLD, {
      refused: refusals.push,
      respond: ({ path }) => (path === '/page' ? { body: 'a page' } : undefined),
    })
    const paths = [
      ...['/', AT, `${AT}my`, `${AT}my-endpoint/`, `${AT}My-endpoint`, `${AT}my%2Dendpoint`, `${AT}./my-endpoint`],
      ...[`${AT}x/../my-endpoint`, `/${AT}my-endpoint`, '/service/js', `${AT}constructor`, `${AT}__proto__`],
    ]
    for (const path of paths) {
      const { status } = await RawClient.ask({ port }, upgradeRequest({ target: path }))
      expect(status, path).toBe(404)
      expect(await refusals.next()).toMatchObject({ status: 404, reason: 'ERR_PATH', path })
    }
    const http = url.replace('ws:', 'http:')
    expect(await (await fetch(`${http}/page`)).text()).toBe('a page')
    expect((await fetch(`${http}${AT}my-endpoint`)).status).toBe(404)
  })
})

describe('who may come in', () => {
  const target = `${AT}my-endpoint`

  async function statusWith(port: number, headers: Record<string, string>, path = target): Promise<number> {
    const raw = await RawClient.connect({ port })
    raw.send(upgradeRequest({ target: path, headers }))
    const { status } = await raw.readHead()
    raw.socket.destroy()
    return status
  }

  it('is decided by the rules of the engine, as without this adapter', async () => {
    const refusals = new Queue<Refusal>()
    const { port } = await serveFolder(TOLD, { refused: refusals.push })
    expect(await statusWith(port, {})).toBe(101)
    // Pages of this machine may connect, whatever their port; others may not.
    expect(await statusWith(port, { Origin: 'http://localhost:5173' })).toBe(101)
    expect(await statusWith(port, { Origin: 'https://evil.example' })).toBe(403)
    // A name that has been made to lead here.
    expect(await statusWith(port, { Host: 'evil.example', Origin: 'http://evil.example' })).toBe(403)
    expect(refusals.all.map(({ reason }) => reason)).toEqual(['ERR_ORIGIN', 'ERR_HOST'])
  })

  it('is decided by a token, origins and hosts', async () => {
    const { port } = await serveFolder(TOLD, {
      token: 'secret',
      origins: ['https://app.example'],
      hosts: ['app.example'],
    })
    const right = { Host: 'app.example', Authorization: 'Bearer secret', Origin: 'https://app.example' }
    expect(await statusWith(port, right)).toBe(101)
    expect(await statusWith(port, { ...right, Authorization: 'Bearer wrong' })).toBe(401)
    expect(await statusWith(port, { ...right, Origin: 'https://other.example' })).toBe(403)
    expect(await statusWith(port, { ...right, Host: 'other.example' })).toBe(403)
    expect(await statusWith(port, right, '/nothing')).toBe(404)
  })

  it('is decided by an authorize handler, which is not asked about other paths', async () => {
    const asked = new Queue<string>()
    const { url, port } = await serveFolder(TOLD, {
      authorize: async ({ path, query }) => {
        asked.push(path)
        return query.get('pass') === 'yes' || { accept: false, status: 418, message: 'No.' }
      },
    })
    expect(await statusOf(`${url}${target}?pass=yes`)).toBe(101)
    expect(await statusOf(`${url}${target}?pass=no`)).toBe(418)
    expect(await statusOf(`${url}/nothing?pass=yes`)).toBe(404)
    expect(await statusWith(port, { Origin: 'http://localhost:5173' })).toBe(403)
    expect(asked.all).toEqual([target, target])
  })

  it('is nobody from elsewhere, unless somebody decides', async () => {
    const { runtime } = openFolder(TOLD)
    await expect(runtime.serve({ port: 0, host: '0.0.0.0' })).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringContaining('others can reach 0.0.0.0'),
    })
    const { port } = await runtime.serve({ port: 0, host: '0.0.0.0', token: 'secret' })
    expect(await statusOf(`ws://127.0.0.1:${port}${target}?token=secret`)).toBe(101)
  })
})

describe('serve', () => {
  it('gives the port and a way to close, and frees the port', async () => {
    const { runtime } = openFolder(TOLD)
    const server = await runtime.serve({ port: 0 })
    expect(server).toEqual({ port: expect.any(Number), close: expect.any(Function) })
    const peer = await openPeer(`ws://127.0.0.1:${server.port}${AT}my-endpoint`)
    await server.close({ code: 4001 })
    expect(await peer.closed).toBe(4001)
    const again = await runtime.serve({ port: server.port })
    expect(again.port).toBe(server.port)
    await expect(runtime.serve({ port: server.port })).rejects.toMatchObject({ code: 'ERR_PORTS_TAKEN' })
    await again.close()
  })

  it('serves one folder twice, and ends with the runtime', async () => {
    const { runtime } = openFolder(TOLD)
    const servers = [await runtime.serve(), await runtime.serve()]
    const peers = await Promise.all(servers.map(({ port }) => openPeer(`ws://127.0.0.1:${port}${AT}my-endpoint`)))
    await runtime.close()
    expect(await Promise.all(peers.map(({ closed }) => closed))).toEqual([1001, 1001])
  })

  it.each([
    [{ path: '/x' }, 'path'],
    [{ open: () => {} }, 'open'],
    [{ message: () => {} }, 'message'],
    [{ messageStream: () => {} }, 'messageStream'],
    [{ close: () => {} }, 'close'],
    [{ prot: 1 }, 'port'],
    [{ watch: true, pingIntervalMs: -1 }, 'pingIntervalMs'],
    [{ maxRequestBytes: 0 }, 'maxRequestBytes'],
    [{ services: 'chat.js' }, 'services'],
  ])('refuses %o', async (options, name) => {
    const { runtime } = openFolder(TOLD)
    const error = await runtime.serve(options as never).then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    expect(error).toBeInstanceOf(UsageError)
    expect((error as UsageError).message).toContain(name)
  })
})

describe('a descriptor', () => {
  const handler = 'h'
  const cases: [string, unknown, RegExp][] = [
    ['no JSON', '{ "handler": }', /^a\/b\.websocket: it is not JSON/],
    ['empty', '', /^a\/b\.websocket: it is not JSON/],
    ['no object', '["h", "e"]', /^a\/b\.websocket: it is no JSON object/],
    ['null', 'null', /^a\/b\.websocket: it is no JSON object/],
    ['no handler', { endpoint: 'e' }, /^a\/b\.websocket: handler: /],
    ['a handler that is no text', { handler: 5, endpoint: 'e' }, /^a\/b\.websocket: handler: /],
    ['an empty handler', { handler: '', endpoint: 'e' }, /^a\/b\.websocket: handler: /],
    ['no endpoint', { handler }, /^a\/b\.websocket: endpoint: /],
    ['a description that is no text', { handler, endpoint: 'e', description: {} }, /^a\/b\.websocket: description: /],
    [
      'a handler that is missing',
      { handler: 'no/such', endpoint: 'e' },
      /^a\/b\.websocket: handler: there is no module no\/such/,
    ],
    ['a handler of Node', { handler: 'fs', endpoint: 'e' }, /^a\/b\.websocket: handler: there is no module fs/],
    ['a handler outside', { handler: '../../../x', endpoint: 'e' }, /^a\/b\.websocket: handler: .* leads out of /],
    ['a handler that throws', { handler: 'throws', endpoint: 'e' }, /^a\/b\.websocket: handler: it is broken$/],
    ['a handler that rejects', { handler: 'rejects', endpoint: 'e' }, /^a\/b\.websocket: handler: .*gone/],
    [
      'a handler that is no object',
      { handler: 'five', endpoint: 'e' },
      /^a\/b\.websocket: handler: .*five exports no functions/,
    ],
    [
      'a function that is none',
      { handler: 'typo', endpoint: 'e' },
      /^a\/b\.websocket: handler: .*exports onMessage, which/,
    ],
    ...['', '/e', 'e/', 'a//b', '.', '..', '../e', 'a/../b', 'e?x', 'e#x', 'e%2e', 'ä', 'a b', 'a\\b', 5, ['e']].map(
      (endpoint): [string, unknown, RegExp] => [
        `the endpoint ${JSON.stringify(endpoint)}`,
        { handler, endpoint },
        /^a\/b\.websocket: endpoint: it must be a name/,
      ],
    ),
  ]

  it.each(cases)('is refused by its file and field: %s', async (_what, descriptor, message) => {
    const { runtime } = openFolder({
      'h.js': '',
      'five.js': 'module.exports = 5',
      'throws.js': 'throw new Error("it is broken")',
      'rejects.js': 'require("./gone")',
      'typo.js': 'exports.onMessage = "x"',
      'a/b.websocket': descriptor,
    })
    await expect(runtime.serve({ port: 0 })).rejects.toMatchObject({
      name: 'UsageError',
      code: 'ERR_OPTION',
      message: expect.stringMatching(message),
    })
  })

  it('is refused when another has its endpoint; both are named', async () => {
    const { runtime } = openFolder({
      'h.js': '',
      'a/one.websocket': { handler, endpoint: 'same' },
      'b/two.websocket': { handler, endpoint: 'same' },
    })
    await expect(runtime.serve()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: 'b/two.websocket: endpoint: a/one.websocket has the endpoint same, too',
    })
  })

  it('is taken from the folder alone, and not from packages and hidden folders', async () => {
    const outside = makeFolder({
      'out.websocket': { handler, endpoint: 'out' },
      'folder/f.websocket': { handler, endpoint: 'f' },
    })
    const { runtime, root } = openFolder({
      'h.js': '',
      'node_modules/p/p.websocket': { handler: 'none', endpoint: 'p' },
      '.git/g.websocket': 'nothing',
      '.websocket/e.js': '',
      'in.websocket': { handler, endpoint: 'in', location: 'further fields are ignored' },
    })
    symlinkSync(join(outside, 'folder'), join(root, 'folder'))
    symlinkSync(root, join(root, 'round'))
    const { port, close } = await runtime.serve()
    expect(await statusOf(`ws://127.0.0.1:${port}${AT}in`)).toBe(101)
    for (const endpoint of ['p', 'g', 'f']) expect(await statusOf(`ws://127.0.0.1:${port}${AT}${endpoint}`)).toBe(404)
    await close()
    symlinkSync(join(outside, 'out.websocket'), join(root, 'link.websocket'))
    await expect(runtime.serve()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: `link.websocket is a link that leads out of ${root}`,
    })
  })
})
