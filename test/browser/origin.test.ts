import { fileURLToPath } from 'node:url'
import type { BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { describe, expect, it } from 'vitest'
import type { Refusal, StartServerResult, WebSocketServerOptions } from '../../src/index.ts'
import { describeInChromium, inPage, type NewProfile } from '../support/chromium.ts'
import { allowSockets, PageSocket, REFUSED } from '../support/page-socket.ts'
import { freePorts } from '../support/ports.ts'
import { type Program, startScript } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { certificate, startHttpServer, startServer } from '../support/servers.ts'

/*
 * Pages of other origins: those that a local app is for, and those that it has to be protected from.
 */

const TOKEN = 'YOUR_SECURE_KEY'
const PROGRAM = fileURLToPath(new URL('./program.ts', import.meta.url))

/** All names of this domain are this machine: what an attacker's name server can say as well. */
const REBINDING = '--host-resolver-rules=MAP evil.example 127.0.0.1, MAP *.evil.example 127.0.0.1'

/** Chromium itself keeps some pages from reaching this machine; other browsers do not, and the server must not rely on it. */
const UNPROTECTED = '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets,HttpsUpgrades'

describeInChromium('pages of other origins', [REBINDING], (newProfile) => {
  describe.each([
    { scheme: 'ws', page: 'http' },
    { scheme: 'wss', page: 'https' },
  ] as const)('with the token over $scheme, from a page over $page', ({ scheme, page }) => {
    facadeTests(newProfile, scheme, page)
  })
  describe('with the token', () => tokenTests(newProfile))
})

describeInChromium('pages that meet a server without token', [REBINDING, UNPROTECTED], originTests)

/** A page of a website that has nothing to do with the server. */
async function openPage(
  newProfile: NewProfile,
  scheme: 'http' | 'https' = 'http',
  name = 'localhost',
  options?: BrowserContextOptions,
): Promise<Page> {
  const { httpServer, port } = await startHttpServer(scheme)
  httpServer.on('request', (_, response) =>
    response.setHeader('Content-Type', 'text/html').end('<title>A page</title>'),
  )
  const context = await newProfile({ ignoreHTTPSErrors: true, ...options })
  await allowSockets(context)
  const page = await context.newPage()
  await page.goto(`${scheme}://${name}:${port}/`)
  return page
}

// ── a program of twenty lines ───────────────────────────────────────────────────────────────────────────────────────

interface Told {
  readonly type: 'started' | 'connected' | 'message' | 'disconnected' | 'refused' | 'server'
  readonly event: Record<string, unknown>
}

interface App {
  readonly port: number
  readonly told: Queue<Told>
  readonly program: Program
}

/** Starts the program that uses the facade. */
async function startApp(options: object = {}): Promise<App> {
  const possiblePorts = await freePorts(2)
  const all = JSON.stringify({ possiblePorts, token: TOKEN, ...options })
  const program = startScript(PROGRAM, [all], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  })
  const told = new Queue<Told>()
  program.child.on('message', told.push as (message: unknown) => void)
  const { event } = await told.next()
  expect(event as StartServerResult).toEqual({ success: true, port: possiblePorts[0] })
  return { port: possiblePorts[0]!, told, program }
}

async function clientIds({ program, told }: App): Promise<unknown> {
  program.child.send('which?')
  const { type, event } = await told.next()
  expect(type).toBe('server')
  return event['clientIds']
}

function facadeTests(newProfile: NewProfile, scheme: 'ws' | 'wss', pageScheme: 'http' | 'https'): void {
  const tls = scheme === 'wss' ? { tls: certificate } : {}

  it('talk to a program that uses the facade, in text and bytes, until the page is closed', async () => {
    const app = await startApp(tls)
    const page = await openPage(newProfile, pageScheme)
    const socket = await PageSocket.open(page, `${scheme}://127.0.0.1:${app.port}/?token=${TOKEN}`)
    expect(await socket.next()).toBe('open')
    const connected = await app.told.next()
    expect(connected).toEqual({ type: 'connected', event: { id: expect.any(String) } })
    const { id } = connected.event
    expect(await clientIds(app)).toEqual([id])

    await socket.send('Hello from the browser! 👋')
    expect(await app.told.next()).toEqual({ type: 'message', event: { id, content: 'Hello from the browser! 👋' } })
    expect(await socket.next()).toBe('Hello from the browser! 👋')

    await socket.send([0, 1, 254, 255])
    const message = await app.told.next()
    expect(message).toEqual({ type: 'message', event: { id, content: new Uint8Array([0, 1, 254, 255]) } })
    expect(await socket.next()).toEqual([0, 1, 254, 255])

    await page.close()
    expect(await app.told.next()).toEqual({ type: 'disconnected', event: { id } })
    expect(await clientIds(app)).toEqual([])
  })

  it('are refused with a wrong token; the program is told why', async () => {
    const app = await startApp(tls)
    const page = await openPage(newProfile, pageScheme)
    const wrong = await PageSocket.open(page, `${scheme}://127.0.0.1:${app.port}/?token=a-wrong-one`)
    expect(await wrong.next()).toEqual(REFUSED)
    const { type, event } = await app.told.next()
    expect(type).toBe('refused')
    expect(event).toMatchObject({
      status: 401,
      reason: 'ERR_TOKEN_WRONG',
      path: '/',
      origin: new URL(page.url()).origin,
    })
    expect(JSON.stringify(event)).not.toContain('a-wrong-one')

    const none = await PageSocket.open(page, `${scheme}://127.0.0.1:${app.port}/`)
    expect(await none.next()).toEqual(REFUSED)
    expect((await app.told.next()).event).toMatchObject({ status: 401, reason: 'ERR_TOKEN_MISSING' })
  })

  it('send and receive 8 MiB in one message', async () => {
    const app = await startApp({ ...tls, maxMessageBytes: 16 * 1024 * 1024 })
    const page = await openPage(newProfile, pageScheme)
    const url = `${scheme}://127.0.0.1:${app.port}/?token=${TOKEN}`
    // Compared in the page: megabytes as numbers would not come through in time.
    const sameBytes = await inPage<boolean>(
      page,
      `new Promise((resolve) => {
        const bytes = new Uint8Array(8 * 1024 * 1024).map((_, index) => index * 31 + (index >> 8))
        const socket = new WebSocket('${url}')
        socket.binaryType = 'arraybuffer'
        socket.onopen = () => socket.send(bytes)
        socket.onclose = () => resolve(false)
        socket.onmessage = ({ data }) => {
          const echo = new Uint8Array(data)
          resolve(echo.length === bytes.length && echo.every((byte, index) => byte === bytes[index]))
        }
      })`,
    )
    expect(sameBytes).toBe(true)

    const sameText = await inPage<boolean>(
      page,
      `new Promise((resolve) => {
        const text = 'aé€😀'.repeat(8 * 1024 * 1024 / 10)
        const socket = new WebSocket('${url}')
        socket.onopen = () => socket.send(text)
        socket.onclose = () => resolve(false)
        socket.onmessage = ({ data }) => resolve(data === text)
      })`,
    )
    expect(sameText).toBe(true)
  })
}

function tokenTests(newProfile: NewProfile): void {
  it('open fifty sockets from one page; all are gone with it', async () => {
    const app = await startApp()
    const page = await openPage(newProfile)
    const url = `ws://127.0.0.1:${app.port}/?token=${TOKEN}`
    const echoes = await inPage<string[]>(
      page,
      `Promise.all(Array.from({ length: 50 }, (_, index) => new Promise((resolve, reject) => {
        const socket = new WebSocket('${url}')
        socket.onopen = () => socket.send('socket ' + index)
        socket.onmessage = ({ data }) => resolve(data)
        socket.onclose = reject
      })))`,
    )
    expect(echoes).toEqual(Array.from({ length: 50 }, (_, index) => `socket ${index}`))
    const events = await app.told.take(100)
    const ids = events.filter(({ type }) => type === 'connected').map(({ event }) => event['id'])
    expect(new Set(ids).size).toBe(50)
    expect(await clientIds(app)).toEqual(ids)

    await page.close()
    const gone = await app.told.take(50)
    expect(new Set(gone.map(({ type }) => type))).toEqual(new Set(['disconnected']))
    expect(new Set(gone.map(({ event }) => event['id']))).toEqual(new Set(ids))
  })

  it('are served in several tabs at once', async () => {
    const app = await startApp()
    const page = await openPage(newProfile)
    const context: BrowserContext = page.context()
    const pages = await Promise.all(Array.from({ length: 5 }, () => context.newPage()))
    const sockets = await Promise.all(
      pages.map(async (tab) => {
        await tab.goto(page.url())
        const socket = await PageSocket.open(tab, `ws://localhost:${app.port}/?token=${TOKEN}`)
        expect(await socket.next()).toBe('open')
        return socket
      }),
    )
    await Promise.all(sockets.map((socket, index) => socket.send(`tab ${index}`)))
    expect(await Promise.all(sockets.map((socket) => socket.next()))).toEqual(pages.map((_, index) => `tab ${index}`))
    // A reload is an end, too.
    await app.told.take(10)
    await pages[0]!.reload()
    expect((await app.told.next()).type).toBe('disconnected')
  })

  it('present the token as a subprotocol beside a real one, which is the one that is chosen', async () => {
    const app = await startApp({ subprotocols: ['chat.v2', 'chat.v1'] })
    const page = await openPage(newProfile)
    const bearer = `bearer.${Buffer.from(TOKEN).toString('base64url')}`
    const url = `ws://127.0.0.1:${app.port}/`
    const socket = await PageSocket.open(page, url, ['chat.v1', bearer, 'chat.v2'])
    expect(await socket.next()).toBe('open chat.v2')
    await socket.send('Hello')
    expect(await socket.next()).toBe('Hello')

    const wrong = await PageSocket.open(page, url, ['chat.v1', 'bearer.V1JPTkc'])
    expect(await wrong.next()).toEqual(REFUSED)
    expect(app.told.all.at(-1)).toMatchObject({ type: 'refused', event: { reason: 'ERR_TOKEN_WRONG' } })
  })

  it('get nowhere with the token as the only subprotocol: a browser wants one of those it offers to be chosen', async () => {
    const app = await startApp()
    const page = await openPage(newProfile)
    const bearer = `bearer.${Buffer.from(TOKEN).toString('base64url')}`
    const socket = await PageSocket.open(page, `ws://127.0.0.1:${app.port}/`, [bearer])
    expect(await socket.next()).toEqual(REFUSED)
    expect((await app.told.take(2)).map(({ type }) => type)).toEqual(['connected', 'disconnected'])
  })

  it('reach ws:// on 127.0.0.1 from a page over https: loopback is no mixed content', async () => {
    const app = await startApp()
    const page = await openPage(newProfile, 'https')
    const socket = await PageSocket.open(page, `ws://127.0.0.1:${app.port}/?token=${TOKEN}`)
    expect(await socket.next()).toBe('open')
  })

  it.each(['ws', 'wss'] as const)('reach %s:// from a website, when the visitor permits it', async (scheme) => {
    const app = await startApp(scheme === 'wss' ? { tls: certificate } : {})
    const context = await newProfile({ ignoreHTTPSErrors: true, permissions: ['local-network-access'] })
    await allowSockets(context)
    const page = await context.newPage()
    // As far as the browser knows, this page came from somewhere in the internet.
    await page.route('https://app.example/', (route) => route.fulfill({ contentType: 'text/html', body: '<p>A page' }))
    await page.goto('https://app.example/')
    const socket = await PageSocket.open(page, `${scheme}://127.0.0.1:${app.port}/?token=${TOKEN}`)
    expect(await socket.next()).toBe('open')
  })

  it('are kept out by the option origins even with the token, unless they are listed', async () => {
    const page = await openPage(newProfile)
    const foreign = await openPage(newProfile, 'http', 'evil.example')
    const app = await startApp({ origins: [new URL(page.url()).origin] })
    const url = `ws://127.0.0.1:${app.port}/?token=${TOKEN}`
    expect(await (await PageSocket.open(page, url)).next()).toBe('open')
    await app.told.next()
    expect(await (await PageSocket.open(foreign, url)).next()).toEqual(REFUSED)
    expect((await app.told.next()).event).toMatchObject({ status: 403, reason: 'ERR_ORIGIN' })
  })
}

// ── a server without any secret ─────────────────────────────────────────────────────────────────────────────────────

function originTests(newProfile: NewProfile): void {
  async function startOpenServer(
    options: WebSocketServerOptions = {},
  ): Promise<{ port: number; refusals: Queue<Refusal> }> {
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({
      message: (client, data) => void client.send(data),
      refused: refusals.push,
      ...options,
    })
    return { port, refusals }
  }

  it.each(['localhost', '127.0.0.1', '[::1]'])('let in those of this machine: %s', async (name) => {
    const { port } = await startOpenServer()
    const page = await openPage(newProfile)
    const socket = await PageSocket.open(page, `ws://${name}:${port}/`)
    expect(await socket.next()).toBe('open')
  })

  it.each(['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example'])(
    'keep out those of %s',
    async (name) => {
      const { port, refusals } = await startOpenServer()
      const page = await openPage(newProfile, 'http', name)
      const socket = await PageSocket.open(page, `ws://127.0.0.1:${port}/`)
      expect(await socket.next()).toEqual(REFUSED)
      const { origin } = new URL(page.url())
      expect(await refusals.next()).toMatchObject({ status: 403, reason: 'ERR_ORIGIN', origin })
    },
  )

  it('keep out pages without an origin: a sandboxed frame, a data: address', async () => {
    const { port, refusals } = await startOpenServer()
    const page = await openPage(newProfile)
    await inPage(
      page,
      `new Promise((resolve) => {
        const frame = document.createElement('iframe')
        frame.sandbox = 'allow-scripts'
        frame.srcdoc = '<title>A frame</title>'
        frame.onload = resolve
        document.body.append(frame)
      })`,
    )
    const framed = await PageSocket.open(page.frames()[1]!, `ws://127.0.0.1:${port}/`)
    expect(await framed.next()).toEqual(REFUSED)
    expect(await refusals.next()).toMatchObject({ reason: 'ERR_ORIGIN', origin: 'null' })

    await page.goto('data:text/html,<title>A page</title>')
    const data = await PageSocket.open(page, `ws://127.0.0.1:${port}/`)
    expect(await data.next()).toEqual(REFUSED)
    expect(await refusals.next()).toMatchObject({ reason: 'ERR_ORIGIN', origin: 'null' })
  })

  it('keep out a name that was bound to this machine behind the back of the browser', async () => {
    const { port, refusals } = await startOpenServer({ respond: () => ({ body: 'A secret' }) })
    const context = await newProfile()
    await allowSockets(context)
    const page = await context.newPage()

    // The page came from the attacker's own server at that name and port; from now on the name means this machine.
    const home = `http://evil.example:${port}/`
    await page.route(
      home,
      (route) => route.fulfill({ contentType: 'text/html', body: '<link rel=icon href=data:,>' }),
      {
        times: 1,
      },
    )
    await page.goto(home)
    const socket = await PageSocket.open(page, `ws://evil.example:${port}/`)
    expect(await socket.next()).toEqual(REFUSED)
    expect(await refusals.next()).toMatchObject({
      status: 403,
      reason: 'ERR_HOST',
      origin: `http://evil.example:${port}`,
    })

    const answer = await inPage<{ status: number; body: string }>(
      page,
      `fetch('/secret').then(async (response) => ({ status: response.status, body: await response.text() }))`,
    )
    expect(answer.status).toBe(403)
    expect(answer.body).not.toContain('A secret')
    expect(await refusals.next()).toMatchObject({ reason: 'ERR_HOST' })
  })

  it('let in a name that is listed', async () => {
    const page = await openPage(newProfile, 'http', 'app.evil.example')
    const { origin } = new URL(page.url())
    const { port } = await startOpenServer({ hosts: ['app.evil.example'], origins: [origin] })
    const socket = await PageSocket.open(page, `ws://app.evil.example:${port}/`)
    expect(await socket.next()).toBe('open')
  })
}
