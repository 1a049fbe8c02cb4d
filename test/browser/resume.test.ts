import { afterAll, beforeAll, expect, it } from 'vitest'
import type { WebSocketConnection, WebSocketServerOptions } from '../../src/index.ts'
import { type BuiltClient, buildBrowserClient } from '../support/browser-client.ts'
import { describeInChromium, inPage, keepRecords } from '../support/chromium.ts'
import { Queue } from '../support/queue.ts'
import { startServer, until } from '../support/servers.ts'

/*
 * A page that comes back to topics with a history, in a real browser.
 */

let client: BuiltClient
beforeAll(async () => {
  client = await buildBrowserClient()
})
afterAll(() => client?.remove())

const SCRIPT = `
  import { connectToApp } from './client.js'
  import { resuming } from './resume.js'
  const show = (data) => (typeof data === 'string' ? data : [...data])
  globalThis.app = connectToApp(resuming({
    possiblePorts: [Number(location.port)],
    token: 'secret',
    path: '/socket?x=1',
    minDelayMs: 10,
    maxDelayMs: 40,
    message: (data) => tell(['message', show(data)]),
    gap: (topic) => tell(['gap', topic]),
    close: ({ code }) => tell(['close', code]),
  }))
`

describeInChromium('a page that comes back', [], (newProfile) => {
  async function start(options: WebSocketServerOptions = {}) {
    const opened = new Queue<WebSocketConnection>()
    const urls: string[] = []
    const pages: Readonly<Record<string, [type: string, body: string]>> = {
      '/': ['text/html', '<!doctype html><link rel=icon href=data:,><script type=module src=/start.js></script>'],
      '/start.js': ['text/javascript', SCRIPT],
      '/client.js': ['text/javascript', client.code],
      '/resume.js': ['text/javascript', client.resumeCode],
    }
    const { server, port } = await startServer({
      app: 'my-app',
      token: 'secret',
      history: { 'the news': { maxMessages: 3 } },
      respond: ({ path }) => {
        const [type, body] = pages[path] ?? ['text/plain', '']
        return { status: 200, headers: { 'Content-Type': type }, body }
      },
      open: (connection, { url }) => {
        urls.push(url)
        connection.subscribe('the news')
        opened.push(connection)
      },
      ...options,
    })
    const context = await newProfile()
    const records = keepRecords(context)
    const page = await context.newPage()
    const events = new Queue<unknown>()
    await page.exposeFunction('tell', events.push)
    await page.goto(`http://localhost:${port}/`)
    return { server, opened, events, page, urls, records }
  }

  it('gets what it has missed, once, in order', async () => {
    const { server, opened, events, page, urls, records } = await start()
    const first = await opened.next()
    server.publish('the news', 'one')
    server.publish('the news', Buffer.of(2))
    server.broadcast('\u0001p made.up the news')
    expect(await events.take(3)).toEqual([
      ['message', 'one'],
      ['message', [2]],
      ['message', '\u0001p made.up the news'],
    ])
    first.terminate()
    await until(() => server.clients.size === 0)
    server.publish('the news', 'three')
    await opened.next()
    server.publish('the news', Buffer.of(4))
    expect(await events.take(3)).toEqual([
      ['close', 1006],
      ['message', 'three'],
      ['message', [4]],
    ])
    expect(urls[0]).toBe('/socket?x=1&resume=')
    expect(urls[1]).toMatch(/^\/socket\?x=1&resume=the%2520news%3D[0-9a-f]+\.2%26$/)
    await inPage(page, 'app.close()')
    expect(records.complaints.filter((line) => line.startsWith('exception'))).toEqual([])
  })

  it('is told when something is missing', async () => {
    const { server, opened, events } = await start()
    const first = await opened.next()
    server.publish('the news', 'one')
    expect(await events.next()).toEqual(['message', 'one'])
    first.close(1001)
    await until(() => server.clients.size === 0)
    for (const message of ['two', 'three', 'four', 'five']) server.publish('the news', message)
    await opened.next()
    server.publish('the news', 'six')
    expect(await events.take(3)).toEqual([
      ['close', 1001],
      ['gap', 'the news'],
      ['message', 'six'],
    ])
  })
})
