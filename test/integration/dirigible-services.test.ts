import { rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { WebsocketSession } from '../../src/compat/dirigible.ts'
import {
  type Files,
  makeFolder,
  NOTE,
  openFolder,
  openPeer,
  type Peer,
  type Served,
  serveFolder,
  writeFiles,
} from '../support/dirigible-folder.ts'
import { openClient } from '../support/servers.ts'

const PATH = '/service/js'

/** A service that tells what it was given, and how often modules have run. */
const FILES: Files = {
  'app/tell.js': `
    const { getSession, getOpenSessions } = require('net/websocket')
    const context = require('core/context')
    const globals = require('core/globals')
    globals.set('runs', (globals.get('runs') ?? 0) + 1)
    getSession().sendText(JSON.stringify({
      value: context.get(context.get('ask') ?? 'value'),
      runs: globals.get('runs'),
      once: require('./once').loaded,
      open: getOpenSessions().length,
      mine: getOpenSessions().includes(getSession()),
    }))`,
  'app/once.js': `
    const globals = require('core/globals')
    globals.set('loads', (globals.get('loads') ?? 0) + 1)
    exports.loaded = globals.get('loads')`,
  'app/secret.js': `${NOTE}note('the secret has run')`,
  'secret.js': `${NOTE}note('the secret has run')`,
  'app/fail.js': `
    if (require('core/context').get('value') === 'later') module.exports = Promise.reject(new Error('it fails later'))
    else throw new Error('it fails')`,
}
const SERVICES = ['app/tell.js', '/app/fail']

async function serveServices(files: Files = FILES, services = SERVICES): Promise<Served & { open(): Promise<Peer> }> {
  const served = await serveFolder(files, { services })
  return { ...served, open: () => openPeer(`${served.url}${PATH}`) }
}

/** What is answered to a message. */
async function ask(peer: Peer, message: unknown): Promise<Record<string, unknown>> {
  peer.send(message)
  return JSON.parse(String(await peer.messages.next()))
}

describe('a message', () => {
  it('runs the module that it names anew, with its params', async () => {
    const { open } = await serveServices()
    const peer = await open()
    const module = 'app/tell'
    expect(await ask(peer, { module, params: { value: 'first' } })).toEqual({
      value: 'first',
      runs: 1,
      once: 1,
      open: 1,
      mine: true,
    })
    // The module again, what it requires no more.
    expect(await ask(peer, { module, params: { value: [{ a: null }] } })).toMatchObject({
      value: [{ a: null }],
      runs: 2,
      once: 1,
    })
    for (const name of ['/app/tell.js', 'app/tell.js', '/app/tell', 'app/tell']) {
      expect(await ask(peer, { module: name, further: 1 })).toMatchObject({ value: null, mine: true })
    }
    for (const value of [0, false, '', 'text', { deep: { er: true } }]) {
      expect(await ask(peer, { module, params: { value } })).toMatchObject({ value })
    }
  })

  it('gives no more params than it has: nothing of a prototype, null for null', async () => {
    const { open } = await serveServices()
    const peer = await open()
    for (const name of ['missing', 'toString', 'hasOwnProperty', '__proto__', 'constructor', 'nothing']) {
      const params = { ask: name, nothing: null }
      expect(await ask(peer, { module: 'app/tell', params }), name).toMatchObject({ value: null })
    }
  })

  it('has its context behind an await, too, and the next waits for a promise that is exported', async () => {
    const { open, notes } = await serveServices(
      {
        'slow.js': `${NOTE}
          const { getSession } = require('net/websocket')
          const context = require('core/context')
          const session = getSession()
          module.exports = (async () => {
            for (let turns = context.get('turns'); turns > 0; turns--) await new Promise(setImmediate)
            note([context.get('name'), getSession() === session])
            session.sendTextAsync(context.get('name'))
          })()`,
      },
      ['slow'],
    )
    const peers = [await open(), await open()] as const
    peers[0].send({ module: 'slow', params: { name: 'a', turns: 20 } })
    peers[0].send({ module: 'slow', params: { name: 'b', turns: 0 } })
    peers[1].send({ module: 'slow', params: { name: 'c', turns: 3 } })
    expect((await notes.take(3)).sort()).toEqual([
      ['a', true],
      ['b', true],
      ['c', true],
    ])
    expect(await peers[0].messages.take(2)).toEqual(['a', 'b'])
    expect(await peers[1].messages.next()).toBe('c')
  })

  it('finds the sessions that others have left in globals; a closed one takes no harm', async () => {
    const { open, runtime } = await serveServices(
      {
        'talk.js': `
          const globals = require('core/globals')
          const context = require('core/context')
          const { getSession } = require('net/websocket')
          if (context.get('name')) globals.set(context.get('name'), getSession())
          const other = globals.get(context.get('to'))
          if (other === null) getSession().sendText('nobody')
          else other.sendText(context.get('text'))`,
      },
      ['talk'],
    )
    const ann = await open()
    const bob = await open()
    const say = (peer: Peer, params: object): void => peer.send({ module: 'talk', params })
    say(ann, { name: 'Ann' })
    expect(await ann.messages.next()).toBe('nobody')
    say(bob, { name: 'Bob', to: 'Ann', text: 'hello Ann' })
    expect(await ann.messages.next()).toBe('hello Ann')
    say(ann, { to: 'Bob', text: 'hello Bob' })
    expect(await bob.messages.next()).toBe('hello Bob')
    ann.connection.close(1000)
    expect(await ann.closed).toBe(1000)
    say(bob, { to: 'Ann', text: 'are you there?' })
    say(bob, { to: 'nobody' })
    expect(await bob.messages.next()).toBe('nobody')
    expect(bob.messages.all).toEqual(['hello Bob', 'nobody'])

    const globals = runtime.require('core/globals') as { get(name: string): WebsocketSession }
    const websocket = runtime.require('net/websocket') as { getOpenSessions(): WebsocketSession[] }
    await expect.poll(() => websocket.getOpenSessions()).toEqual([globals.get('Bob')])
    const session = globals.get('Bob')
    expect(session.getId()).toMatch(/^[0-9a-f]{32}$/)
    expect(session.getId()).not.toBe(globals.get('Ann').getId())
    expect(session.sendText('one')).toBeUndefined()
    expect(session.sendTextAsync('two')).toBeUndefined()
    expect(await bob.messages.take(2)).toEqual(['one', 'two'])
    for (const wrong of [null, undefined, 5, {}, Buffer.of(1)]) {
      expect(() => session.sendText(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_DATA_TYPE' }))
    }
    expect(session.close()).toBe(session.getId())
    expect(await bob.closed).toBe(1000)
    expect(websocket.getOpenSessions()).toEqual([])
  })

  it('of one that fails is answered and reported, and the next runs', async () => {
    const { open, errors } = await serveServices()
    const peer = await open()
    for (const value of ['now', 'later']) {
      expect(await ask(peer, { module: 'app/fail', params: { value } })).toEqual({ error: 'The module failed.' })
    }
    expect((await errors.take(2)).map(({ message }) => message)).toEqual(['it fails', 'it fails later'])
    expect(await ask(peer, { module: 'app/tell' })).toMatchObject({ runs: 1 })
  })

  it('runs what the file says now, and is answered when it has gone', async () => {
    const { open, root, errors } = await serveServices()
    const peer = await open()
    writeFiles(root, { 'app/tell.js': "require('net/websocket').getSession().sendText('{\"new\":true}')" })
    expect(await ask(peer, { module: 'app/tell' })).toEqual({ new: true })
    writeFiles(root, { 'app/tell.js': 'const = 5' })
    expect(await ask(peer, { module: 'app/tell' })).toEqual({ error: 'The module failed.' })
    rmSync(join(root, 'app/tell.js'))
    expect(await ask(peer, { module: 'app/tell' })).toEqual({ error: 'The module failed.' })
    const outside = makeFolder({ 'tell.js': `${NOTE}note('outside')` })
    symlinkSync(join(outside, 'tell.js'), join(root, 'app/tell.js'))
    expect(await ask(peer, { module: 'app/tell' })).toEqual({ error: 'The module failed.' })
    expect((await errors.take(3)).map(({ message }) => message)).toEqual([
      expect.stringMatching(/Unexpected token/),
      expect.stringContaining('there is no module app/tell.js'),
      expect.stringContaining('is a link that leads out'),
    ])
  })
})

describe('what a client may not say', () => {
  const deep = (levels: number): string =>
    `{"module":"app/tell","params":${'{"a":'.repeat(levels - 2)}{}${'}'.repeat(levels - 1)}`
  const NOT_JSON = /^The message is not JSON; send \{"module": "\.\.\.", "params": \{\.\.\.\}\}\.$/
  const messages: [unknown, RegExp][] = [
    ['', NOT_JSON],
    ['hello', NOT_JSON],
    ['{"module": "app/tell",}', NOT_JSON],
    [Buffer.from('{"module":"app/tell"}'), /^Send text/],
    ['null', /no object/],
    ['5', /no object/],
    ['"app/tell"', /no object/],
    ['["app/tell"]', /no object/],
    ['{}', /^"module" must be the name/],
    [{ module: null }, /^"module" must be the name/],
    [{ module: ['app/tell'] }, /^"module" must be the name/],
    [{ module: { toString: 'app/tell' } }, /^"module" must be the name/],
    [{ module: 'app/tell', params: null }, /^"params" must be an object/],
    [{ module: 'app/tell', params: 'x' }, /^"params" must be an object/],
    [{ module: 'app/tell', params: ['x'] }, /^"params" must be an object/],
    ['{"module":"app/tell","params":{"__proto__":{"type":"x"}}}', /^The key __proto__ is not allowed/],
    ['{"module":"app/tell","params":{"\\u005f_proto__":1}}', /^The key __proto__ is not allowed/],
    ['{"module":"app/tell","__proto__":{"params":{}}}', /^The key __proto__ is not allowed/],
    ['{"module":"app/tell","params":{"a":[{"b":{"constructor":1}}]}}', /^The key constructor is not allowed/],
    ['{"module":"app/tell","params":{"prototype":{}}}', /^The key prototype is not allowed/],
    [deep(33), /more than 32 levels/],
    [`{"module":"app/tell","params":{"a":${'['.repeat(30_000)}${']'.repeat(30_000)}}}`, /more than 32 levels/],
    [{ module: 'app/tell', params: { a: 'x'.repeat(65_536) } }, /more than 65536 bytes/],
    [{ module: 'app/tell', params: { a: 'ä'.repeat(32_768) } }, /more than 65536 bytes/],
  ]
  it.each(messages)('%.60s', async (message, error) => {
    const { open, errors } = await serveServices()
    const peer = await open()
    expect(await ask(peer, message)).toEqual({ error: expect.stringMatching(error) })
    // Nobody is harmed by it.
    expect(await ask(peer, { module: 'app/tell', params: { value: 1 } })).toMatchObject({ value: 1, runs: 1 })
    expect(await ask(await open(), { module: 'app/tell' })).toMatchObject({ runs: 2 })
    expect(errors.all).toEqual([])
    expect(({} as { type?: unknown }).type).toBeUndefined()
  })

  it('has limits that are just kept', async () => {
    const { open } = await serveServices()
    const peer = await open()
    expect(await ask(peer, deep(32))).toMatchObject({ runs: 1 })
    const frame = JSON.stringify({ module: 'app/tell', params: { a: '' } })
    expect(await ask(peer, frame.replace('""', `"${'x'.repeat(65_536 - frame.length)}"`))).toMatchObject({ runs: 2 })
    const { url } = await serveFolder(FILES, { services: SERVICES, maxRequestBytes: 10 })
    expect(await ask(await openPeer(`${url}${PATH}`), '"123456789"')).toMatchObject({
      error: expect.stringMatching(/10 bytes/),
    })
  })

  const names = [
    ...['app/secret.js', 'app/secret', '/app/secret.js', 'secret', 'app/tel', 'tell', 'app', 'app/tell.js.js'],
    ...['app/tell.json', 'app/tell.cjs', 'App/Tell', 'app/once', 'fs', 'net/websocket', 'core/globals'],
    ...['toString', 'constructor', 'app/tell ', ' app/tell', 'app/ｔell', 'app/tell\u200b', 'app/te\u0301ll'],
  ]
  const crooked = [
    ...[
      '',
      '/',
      '.',
      '..',
      'node:fs',
      '//app/tell',
      'app//tell',
      'app/tell/',
      './app/tell',
      'app/./tell',
      'app/../app/tell',
    ],
    ...['../app/secret', 'app/../secret', '/../secret', '../../etc/passwd', '/./app/tell', 'app/tell/../secret'],
    ...[
      'app\\tell',
      'app\\..\\secret',
      '..\\secret',
      'C:\\secret',
      'C:/secret',
      'file:///secret',
      'app/tell\0',
      'app/tell\0.js',
    ],
    ...[
      'app%2ftell',
      'app/%2e%2e/secret',
      '%2e%2e/secret',
      '%252e%252e/secret',
      'app/tell?x',
      'app/tell#x',
      'app/tell\n',
    ],
    ...['app/*', '<app>/tell', '|app/tell', '"app/tell"'],
  ]
  it('names no module but those that are listed', async () => {
    const { open, notes, errors, root } = await serveServices()
    const peer = await open()
    for (const module of names) {
      expect(await ask(peer, { module }), module).toEqual({ error: 'There is no such module here.' })
    }
    const paths = [join(root, 'app/tell.js'), join(root, 'app/secret.js'), '/etc/passwd']
    for (const module of paths) {
      expect(await ask(peer, { module }), module).toEqual({ error: 'There is no such module here.' })
    }
    for (const module of crooked) {
      expect(await ask(peer, { module }), module).toEqual({ error: '"module" is not the plain path of a module.' })
    }
    expect(await ask(peer, { module: 'app/tell' })).toMatchObject({ runs: 1 })
    expect([notes.all, errors.all]).toEqual([[], []])
  })
})

describe('services', () => {
  it('are none by default, and then there is nothing at their path', async () => {
    for (const options of [{}, { services: [] }]) {
      const { url } = await serveFolder(FILES, options)
      await expect(openClient(`${url}${PATH}`)).rejects.toMatchObject({ status: 404 })
    }
    const { url } = await serveFolder(FILES, { services: SERVICES })
    for (const path of ['/service', '/service/js/', '/service/js/app/tell.js', '/service/jS', '/service/%6as']) {
      await expect(openClient(`${url}${path}`)).rejects.toMatchObject({ status: 404 })
    }
  })

  it.each([
    ['app/missing', 'there is no module app/missing'],
    ['app/../secret', 'is not the plain path'],
    ['../secret', 'is not the plain path'],
    ['app\\tell', 'is not the plain path'],
    [5, 'is not the plain path'],
    ['link', 'is a link that leads out'],
    ['module.mjs', 'is an ES module'],
    ['esm', 'is an ES module'],
    ['data.json', 'is no module'],
    ['broken', 'Unexpected'],
  ])('cannot be: %s', async (service, message) => {
    const outside = makeFolder({ 'link.js': '' })
    const { runtime, root } = openFolder({
      'secret.js': '',
      'module.mjs': '',
      'esm.js': 'export {}',
      'data.json': {},
      'broken.js': '}',
    })
    symlinkSync(join(outside, 'link.js'), join(root, 'link.js'))
    await expect(runtime.serve({ services: [service as string] })).rejects.toThrow(message)
  })

  it('come in by the rules of the engine', async () => {
    const { url } = await serveFolder(FILES, { services: SERVICES, token: 'secret' })
    await expect(openClient(`${url}${PATH}`)).rejects.toMatchObject({ status: 401 })
    const peer = await openPeer(`${url}${PATH}?token=secret`)
    expect(await ask(peer, { module: 'app/tell' })).toMatchObject({ runs: 1 })
    const { url: open } = await serveFolder(FILES, { services: SERVICES })
    await expect(openClient(`${open}${PATH}`, { origin: 'https://evil.example' })).rejects.toMatchObject({
      status: 403,
    })
  })
})
