import type { IncomingMessage } from 'node:http'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Refusal, WebSocketServer, WebSocketServerOptions } from '../../src/index.ts'
import { type BuiltClient, buildBrowserClient } from '../support/browser-client.ts'
import { describeInChromium, inPage, keepRecords, type PageRecords } from '../support/chromium.ts'
import { freePort, freePorts } from '../support/ports.ts'
import { Queue } from '../support/queue.ts'
import { certificate, firstClient, startHttpServer, startRawServer, startServer, until } from '../support/servers.ts'

/*
 * The client for pages, as it is published, in pages.
 */

const TOKEN = 'YOUR_SECURE_KEY/+ü'
const REBINDING = '--host-resolver-rules=MAP *.app.example 127.0.0.1'
const QUICK = { minDelayMs: 10, maxDelayMs: 40 }

/** A handler of the page that was called, with its event; `token` when it was asked for one. */
type PageEvent = readonly [name: string, event?: unknown]

let client: BuiltClient
beforeAll(async () => {
  client = await buildBrowserClient()
})
afterAll(() => client?.remove())

/** What the pages run: it calls back with every event. */
const SCRIPT = `
  import { connectToApp } from './client.js'
  globalThis.start = ({ tokens, faulty, greeting, ...options }) => {
    const plain = (event) => (event instanceof Uint8Array ? [...event] : event)
    const handler = (name) => (event) => {
      tell(event === undefined ? [name] : [name, plain(event)])
      if (name === 'open' && greeting) app.send(greeting)
      if (faulty) throw new Error('a mistake of the page')
    }
    const handlers = Object.fromEntries(['open', 'message', 'close', 'failure'].map((name) => [name, handler(name)]))
    // One after the other; the last is given again and again, and null is none.
    const token = () => {
      const next = tokens.length > 1 ? tokens.shift() : tokens[0]
      if (next === null) throw new Error('there is no token')
      return Promise.resolve(next)
    }
    globalThis.app = connectToApp({ ...(tokens && { token }), ...handlers, ...options })
  }
`

describeInChromium('the client for pages', [REBINDING], (newProfile) => {
  interface Tab {
    readonly page: Page
    readonly origin: string
    readonly events: Queue<PageEvent>
    readonly records: PageRecords
    /** Calls `connectToApp`; without waiting for anything. */
    start(options: Record<string, unknown>): Promise<void>
    /** Something of what `connectToApp` has given. */
    app<T>(expression: string): Promise<T>
  }

  async function tabOf(origin: string, options: BrowserContextOptions = {}, isPublic = false): Promise<Tab> {
    const context = await newProfile({ ignoreHTTPSErrors: true, ...options })
    const records = keepRecords(context)
    const page = await context.newPage()
    const events = new Queue<PageEvent>()
    await page.exposeFunction('tell', events.push)
    if (isPublic) {
      // As far as the browser knows, this came from somewhere in the internet.
      for (const [path, contentType, body] of contents()) {
        await page.route(origin + path, (route) => route.fulfill({ contentType, body }))
      }
    }
    await page.goto(`${origin}/`)
    await page.waitForFunction('globalThis.start')
    return {
      page,
      origin,
      events,
      records,
      start: (given) => inPage(page, `start(${JSON.stringify({ app: 'my-app', token: TOKEN, ...QUICK, ...given })})`),
      app: (expression) => inPage(page, `app.${expression}`),
    }
  }

  const contents = (): [path: string, type: string, body: string][] => [
    ['/', 'text/html', '<!doctype html><link rel=icon href=data:,><script type=module src=/start.js></script>'],
    ['/start.js', 'text/javascript', SCRIPT],
    ['/client.js', 'text/javascript', client.code],
  ]

  /** A page of a website on this computer. */
  async function openTab(scheme: 'http' | 'https' = 'http'): Promise<Tab> {
    const { httpServer, port } = await startHttpServer(scheme)
    httpServer.on('request', ({ url }: IncomingMessage, response) => {
      const [, type = 'text/plain', body] = contents().find(([path]) => path === url) ?? []
      response.setHeader('Content-Type', type).end(body)
    })
    return tabOf(`${scheme}://localhost:${port}`)
  }

  interface App {
    readonly server: WebSocketServer
    readonly port: number
    readonly messages: Queue<string | Buffer>
    readonly refusals: Queue<Refusal>
  }

  async function startApp(options: WebSocketServerOptions = {}): Promise<App> {
    const messages = new Queue<string | Buffer>()
    const refusals = new Queue<Refusal>()
    const { server, port } = await startServer({
      app: 'my-app',
      token: TOKEN,
      refused: refusals.push,
      message: (_, data) => messages.push(data),
      ...options,
    })
    return { server, port, messages, refusals }
  }

  const unhandled = ({ complaints }: PageRecords): string[] =>
    complaints.filter((complaint) => complaint.startsWith('exception'))

  describe('finds the app', () => {
    it('behind another program, another app, and a port where nobody is; only the app sees the token', async () => {
      const { httpServer, port: website } = await startHttpServer()
      const seen: string[] = []
      httpServer.on('request', ({ rawHeaders, url }: IncomingMessage, response) => {
        seen.push(`${url} ${rawHeaders.join(' ')}`)
        response.setHeader('Access-Control-Allow-Origin', '*').end('<p>A website')
      })
      httpServer.on('upgrade', (_, socket) => {
        seen.push('an upgrade')
        socket.destroy()
      })
      const others = new Queue<string>()
      const other = await startApp({ app: 'other-app', open: (_, { url }) => others.push(url) })
      const { server, port } = await startApp()
      const tab = await openTab()
      await tab.start({ possiblePorts: [website, other.port, await freePort(), port] })
      expect(await tab.events.next()).toEqual(['open'])
      expect(await tab.app('state')).toBe('open')
      expect(await tab.app('port')).toBe(port)
      expect((await firstClient(server)).subprotocol).toBe('fullduplex')
      expect(seen).toHaveLength(2)
      expect(seen.filter((line) => /authorization|bearer|upgrade/i.test(line))).toEqual([])
      expect([...other.refusals.all, ...others.all]).toEqual([])
      // Nor is it in an address.
      const sockets = tab.records.requests.filter((url) => url.startsWith('ws'))
      expect(sockets).toEqual([`ws://127.0.0.1:${port}/`])
    })

    it('behind a program that sends everybody on to the app; it is not taken for the app', async () => {
      const { port } = await startApp()
      const { httpServer, port: detour } = await startHttpServer()
      const seen: string[] = []
      httpServer.on('upgrade', ({ rawHeaders }: IncomingMessage, socket) => {
        seen.push(rawHeaders.join(' '))
        socket.destroy()
      })
      httpServer.on('request', ({ url }: IncomingMessage, response) => {
        const headers = { 'Access-Control-Allow-Origin': '*', Location: `http://127.0.0.1:${port}${url}` }
        response.writeHead(307, headers).end()
      })
      const tab = await openTab()
      await tab.start({ possiblePorts: [detour, port] })
      expect(await tab.events.next()).toEqual(['open'])
      expect(await tab.app('port')).toBe(port)
      expect(seen).toEqual([])
    })

    it('behind a port where somebody takes connections and says nothing', async () => {
      const silent = await startRawServer(() => {})
      const { port } = await startApp()
      const tab = await openTab()
      await tab.start({ possiblePorts: [silent.port, port], probeTimeoutMs: 100 })
      while ((await tab.events.next())[0] !== 'open');
      expect(await tab.app('port')).toBe(port)
    })

    it('of any name, when none is asked for; and any that has no token', async () => {
      const { port } = await startApp({ app: 'other-app', token: undefined })
      const tab = await openTab()
      await tab.start({ app: undefined, token: undefined, possiblePorts: [port] })
      expect(await tab.events.next()).toEqual(['open'])
    })

    it('over wss:, at a path, with a subprotocol', async () => {
      const opened = new Queue<string>()
      const { server, port } = await startApp({
        tls: certificate,
        path: '/room',
        subprotocols: ['chat.v2', 'chat.v1'],
        open: (_, { url }) => opened.push(url),
      })
      const tab = await openTab('https')
      const given = { possiblePorts: [port], secure: true, path: '/room?name=Ann' }
      await tab.start({ ...given, subprotocols: ['chat.v1', 'chat.v2'] })
      expect(await tab.events.next()).toEqual(['open'])
      expect(await opened.next()).toBe('/room?name=Ann')
      expect((await firstClient(server)).subprotocol).toBe('chat.v2')
    })

    it.each([[{}], [{ permissions: ['local-network-access'] }]])(
      'from a page of the internet, if the visitor permits it: %j',
      async (permissions) => {
        const { port } = await startApp()
        const tab = await tabOf('https://page.example', permissions, true)
        await tab.start({ possiblePorts: [port] })
        const expected =
          'permissions' in permissions ? ['open'] : ['failure', { reason: 'permission', willRetry: true }]
        expect(await tab.events.next()).toEqual(expected)
      },
    )
  })

  it('messages go both ways, as text and as bytes', async () => {
    const { server, port, messages } = await startApp()
    const tab = await openTab()
    await tab.start({ possiblePorts: [port] })
    await tab.events.next()
    expect(await tab.app("send('Grüße')")).toBe(true)
    expect(await tab.app('send(Uint8Array.of(0, 255))')).toBe(true)
    expect(await tab.app('send(new ArrayBuffer(2))')).toBe(true)
    expect(await messages.take(3)).toEqual(['Grüße', Buffer.of(0, 255), Buffer.of(0, 0)])
    const peer = await firstClient(server)
    peer.send('Hello')
    peer.send(Uint8Array.of(1, 2))
    expect(await tab.events.take(2)).toEqual([
      ['message', 'Hello'],
      ['message', [1, 2]],
    ])
  })

  describe('says why it cannot connect', () => {
    it('not-running; and comes in when the app starts', async () => {
      const [first, second] = await freePorts(2)
      const tab = await openTab()
      await tab.start({ possiblePorts: [first, second] })
      for (let round = 0; round < 3; round++) {
        expect(await tab.events.next()).toEqual(['failure', { reason: 'not-running', willRetry: true }])
      }
      await startApp({ port: second })
      while ((await tab.events.next())[0] !== 'open');
      expect(await tab.app('port')).toBe(second)
      expect(unhandled(tab.records)).toEqual([])
    })

    it('wrong-app', async () => {
      const { port } = await startApp({ app: 'other-app' })
      const tab = await openTab()
      await tab.start({ possiblePorts: [port, await freePort()] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'wrong-app', willRetry: true }])
    })

    it('refused: the Origin is not listed', async () => {
      const { port, refusals } = await startApp({ origins: ['https://app.example'] })
      const tab = await openTab()
      await tab.start({ possiblePorts: [port] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'refused', willRetry: true }])
      expect(await refusals.next()).toMatchObject({ reason: 'ERR_ORIGIN', origin: tab.origin })
      expect(tab.records.requests.filter((url) => url.startsWith('ws'))).toEqual([])
    })

    it('refused: another program, which answers somehow', async () => {
      const { httpServer, port } = await startHttpServer()
      httpServer.on('request', (_, response) => response.writeHead(404, { 'Content-Type': 'text/html' }).end('<p>No'))
      const tab = await openTab()
      await tab.start({ possiblePorts: [await freePort(), port] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'refused', willRetry: true }])
    })

    it('refused: the token is right, and authorize says no', async () => {
      const { port, refusals } = await startApp({ authorize: () => false, origins: '*' })
      const tab = await openTab()
      await tab.start({ possiblePorts: [port] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'refused', willRetry: true }])
      expect(refusals.all[0]).toMatchObject({ reason: 'ERR_NOT_AUTHORIZED' })
    })

    it.each([['WRONG'], ['']])('wrong-token: %j, and does not come back', async (token) => {
      const { port, refusals } = await startApp()
      const tab = await openTab()
      await tab.start({ token, possiblePorts: [await freePort(), port] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'wrong-token', willRetry: false }])
      expect(await tab.app('state')).toBe('closed')
      expect(await tab.app("send('too late')")).toBe(false)
      expect(refusals.all.map(({ status }) => status)).toEqual(refusals.all.map(() => 401))
    })

    it('wrong-token, and comes in with the next one that it is given', async () => {
      const { port, messages } = await startApp()
      const tab = await openTab()
      await tab.start({ token: undefined, tokens: ['OLD', TOKEN], possiblePorts: [port] })
      await tab.app("send('queued')")
      expect(await tab.events.take(2)).toEqual([['failure', { reason: 'wrong-token', willRetry: true }], ['open']])
      expect(await messages.next()).toBe('queued')
    })

    it('wrong-token, twice with tokens that were just fetched: that is the end', async () => {
      const { port } = await startApp()
      const tab = await openTab()
      await tab.start({ token: undefined, tokens: ['OLD', 'OLDER', TOKEN], possiblePorts: [port] })
      expect(await tab.events.take(2)).toEqual([
        ['failure', { reason: 'wrong-token', willRetry: true }],
        ['failure', { reason: 'wrong-token', willRetry: false }],
      ])
      expect(await tab.app('state')).toBe('closed')
    })

    it('wrong-token, and may be wrong again after it was right', async () => {
      const first = await startApp()
      const tab = await openTab()
      await tab.start({ token: undefined, tokens: ['OLD', TOKEN, TOKEN, 'NEW'], possiblePorts: [first.port] })
      expect(await tab.events.take(2)).toEqual([['failure', { reason: 'wrong-token', willRetry: true }], ['open']])
      await first.server.close()
      expect((await tab.events.next())[0]).toBe('close')
      await startApp({ port: first.port, token: 'NEW' })
      let event = await tab.events.next()
      // It may have come while the first was just closing, or nobody was there.
      while (/refused|not-running/.test(JSON.stringify(event))) event = await tab.events.next()
      expect(event).toEqual(['failure', { reason: 'wrong-token', willRetry: true }])
      expect(await tab.events.next()).toEqual(['open'])
    })

    it('no-token, and asks again', async () => {
      const { port } = await startApp()
      const tab = await openTab()
      await tab.start({ token: undefined, tokens: [null, TOKEN], possiblePorts: [port] })
      expect(await tab.events.take(2)).toEqual([['failure', { reason: 'no-token', willRetry: true }], ['open']])
      expect(unhandled(tab.records)).toEqual([])
    })

    it('permission: a page over plain http cannot get it at all', async () => {
      const { port } = await startApp()
      const tab = await tabOf('http://page.example', {}, true)
      await tab.start({ possiblePorts: [port] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'permission', willRetry: true }])
    })

    it('mixed-content, or what else the browser refuses at once: subprotocols that are none', async () => {
      const { port } = await startApp()
      const tab = await openTab()
      await tab.start({ possiblePorts: [port], subprotocols: ['not a token'] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'mixed-content', willRetry: false }])
      expect(unhandled(tab.records)).toEqual([])
    })

    it('mixed-content: a name that is not loopback, over ws: from a page over https', async () => {
      const { port } = await startApp()
      const tab = await openTab('https')
      await tab.start({ host: 'local.app.example', possiblePorts: [port] })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'mixed-content', willRetry: false }])
      expect(await tab.app('state')).toBe('closed')
      expect(unhandled(tab.records)).toEqual([])
    })
  })

  describe('comes back', () => {
    it.each(['the same port', 'the other port'])(
      'when the app is restarted on %s; what was queued arrives once, in order',
      async (where) => {
        const possiblePorts = await freePorts(2)
        const before = await startApp({ possiblePorts })
        const tab = await openTab()
        await tab.start({ possiblePorts })
        expect(await tab.events.next()).toEqual(['open'])
        await tab.app("send('before')")
        expect(await before.messages.next()).toBe('before')

        await before.server.close()
        expect(await tab.events.next()).toEqual(['close', { code: 1001, reason: '', wasClean: true, willRetry: true }])
        const expected = Array.from({ length: 100 }, (_, index) => `message ${index}`)
        await inPage(tab.page, "for (let index = 0; index < 100; index++) app.send('message ' + index)")
        expect(await tab.app('queuedBytes')).toBe(expected.join('').length)
        expect(await tab.events.next()).toMatchObject(['failure', { willRetry: true }])

        const ports = where === 'the same port' ? possiblePorts : [possiblePorts[1]!]
        const after = await startApp({ possiblePorts: ports })
        while ((await tab.events.next())[0] !== 'open');
        await tab.app("send('the last')")
        expect(await after.messages.take(101)).toEqual([...expected, 'the last'])
        expect(await tab.app('port')).toBe(ports[0])
        // Nor does it come again with the next connection.
        ;(await firstClient(after.server)).terminate()
        while ((await tab.events.next())[0] !== 'open');
        await tab.app("send('and one more')")
        expect(await after.messages.next()).toBe('and one more')
        expect(await tab.app('queuedBytes')).toBe(0)
        expect(unhandled(tab.records)).toEqual([])
      },
    )

    it('when the connection is cut, and begins with the port that worked', async () => {
      const possiblePorts = await freePorts(2)
      const { server } = await startApp({ port: possiblePorts[1]! })
      const tab = await openTab()
      await tab.start({ possiblePorts })
      await tab.events.next()
      const before = tab.records.requests.length
      ;(await firstClient(server)).terminate()
      expect(await tab.events.take(2)).toEqual([
        ['close', { code: 1006, reason: '', wasClean: false, willRetry: true }],
        ['open'],
      ])
      const asked = tab.records.requests.slice(before)
      expect(asked.map((url) => new URL(url).port)).toEqual(asked.map(() => String(possiblePorts[1])))
    })

    it.each([
      [1001, true],
      [1012, true],
      [4000, true],
      [1008, false],
      [4401, false],
      [4403, false],
    ])('from the close code %i: %s', async (code, willRetry) => {
      const { server, port } = await startApp()
      const tab = await openTab()
      await tab.start({ possiblePorts: [port] })
      await tab.events.next()
      ;(await firstClient(server)).close(code, 'Goodbye')
      expect(await tab.events.next()).toEqual(['close', { code, reason: 'Goodbye', wasClean: true, willRetry }])
      if (willRetry) expect(await tab.events.next()).toEqual(['open'])
      else expect(await tab.app('state')).toBe('closed')
    })

    it('and says in the handler open what goes before the queue', async () => {
      const port = await freePort()
      const tab = await openTab()
      await tab.start({ possiblePorts: [port], greeting: 'Hello again' })
      await inPage(tab.page, "app.send('queued 1'), app.send('queued 2')")
      const { messages } = await startApp({ port })
      expect(await messages.take(3)).toEqual(['Hello again', 'queued 1', 'queued 2'])
    })

    it('at once, when it is told so', async () => {
      const port = await freePort()
      const tab = await openTab()
      await tab.start({ possiblePorts: [port], minDelayMs: 2 ** 30, maxDelayMs: 2 ** 30 })
      expect(await tab.events.next()).toEqual(['failure', { reason: 'not-running', willRetry: true }])
      expect(await tab.app('state')).toBe('waiting')
      await startApp({ port })
      await inPage(tab.page, 'app.retry(), app.retry()')
      expect(await tab.events.next()).toEqual(['open'])
    })
  })

  describe('keeps no more than it may', () => {
    it('while the app is away; one message may have any size', async () => {
      const port = await freePort()
      const tab = await openTab()
      await tab.start({ possiblePorts: [port], maxQueuedBytes: 10 })
      expect(await inPage(tab.page, "['12345', 'üü', '67', '6'].map((data) => app.send(data))")).toEqual([
        ...[true, true, false, true],
      ])
      expect(await tab.app('queuedBytes')).toBe(10)
      const { messages, server } = await startApp({ port })
      expect(await messages.take(3)).toEqual(['12345', 'üü', '6'])
      await server.close()
      await until(() => tab.events.all.some(([name]) => name === 'close'))
      // Its own bytes may be written over meanwhile.
      const bytes = 'globalThis.bytes = Uint8Array.from({ length: 11 }, (_, index) => index)'
      expect(await inPage(tab.page, `app.send(${bytes})`)).toBe(true)
      expect(await inPage(tab.page, "bytes.fill(99), app.send('no')")).toBe(false)
      const again = await startApp({ port })
      expect(await again.messages.next()).toEqual(Buffer.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
    })

    it('while the app does not read', async () => {
      const { port } = await startApp({ message: () => new Promise(() => {}) })
      const tab = await openTab()
      await tab.start({ possiblePorts: [port], maxQueuedBytes: 4 * 1024 * 1024 })
      await tab.events.next()
      const fill = (): Promise<number> =>
        inPage(tab.page, '{ let count = 0; while (app.send(new Uint8Array(1024 * 1024))) count++; count }')
      expect(await fill()).toBe(4)
      // The system's buffers take a few more.
      await expect.poll(fill, { interval: 200, timeout: 20_000 }).toBe(0)
      expect(await tab.app('queuedBytes')).toBeGreaterThan(3 * 1024 * 1024)
    })
  })

  describe('is closed by the page', () => {
    it('while it is open', async () => {
      const closes = new Queue<number>()
      const { port } = await startApp({ close: (_, { code }) => closes.push(code) })
      const tab = await openTab()
      await tab.start({ possiblePorts: [port] })
      await tab.events.next()
      await tab.app("close(4001, 'Done')")
      expect(await closes.next()).toBe(4001)
      expect(await tab.events.next()).toMatchObject(['close', { code: 4001, wasClean: true, willRetry: false }])
      expect(await tab.app('state')).toBe('closed')
    })

    it('while it is connecting or waiting: nothing happens any more', async () => {
      const { server, port, refusals } = await startApp()
      const tab = await openTab()
      await tab.start({ possiblePorts: [port] })
      await tab.app('close()')
      await tab.start({ possiblePorts: [await freePort()], minDelayMs: 2_000, maxDelayMs: 2_000 })
      expect((await tab.events.next())[0]).toBe('failure')
      await inPage(tab.page, 'app.close(), app.retry(), app.close()')
      // A third one, later than what the others could have done.
      await tab.start({ possiblePorts: [port] })
      expect(await tab.events.next()).toEqual(['open'])
      expect([server.clients.size, refusals.all, tab.events.all.length]).toEqual([1, [], 2])
    })
  })

  it('a handler that throws is reported like any other, and harms nobody', async () => {
    const port = await freePort()
    const tab = await openTab()
    await tab.start({ faulty: true, possiblePorts: [port] })
    expect((await tab.events.next())[0]).toBe('failure')
    const { server } = await startApp({ port })
    while ((await tab.events.next())[0] !== 'open');
    ;(await firstClient(server)).send('Hello')
    expect(await tab.events.next()).toEqual(['message', 'Hello'])
    await expect.poll(() => unhandled(tab.records).length).toBe(tab.events.all.length)
    expect(new Set(unhandled(tab.records))).toEqual(new Set(['exception: a mistake of the page']))
  })
})
