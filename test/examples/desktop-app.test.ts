import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { describeInChromium, inPage, keepRecords, type NewProfile, type PageRecords } from '../support/chromium.ts'
import { type AppWindow, ElectronApp, prepareElectronApp } from '../support/electron-app.ts'
import { inProject } from '../support/example.ts'
import { freePort, isFree } from '../support/ports.ts'
import { codeOf, missingSeed, readIn, readSeed } from '../support/seed-documents.ts'
import { certificate, startHttpServer } from '../support/servers.ts'

const document = readSeed('000')
const [websiteCode = '', ...appCode] = document === undefined ? [] : codeOf(document, 'javascript')
/** The name in the document, and that of a website, are this machine, as their name servers would say. */
const NAMES = [...(websiteCode ? [readIn(websiteCode, /wss:\/\/([\w.-]+)/)] : []), 'app.example']
const RESOLVER = `--host-resolver-rules=${NAMES.map((name) => `MAP ${name} 127.0.0.1`).join(', ')}`

beforeAll(() => prepareElectronApp('desktop-app'))

interface Started {
  readonly app: ElectronApp
  readonly window: AppWindow
  readonly page: Page
  readonly records: PageRecords
}

/** The app with its window, and the records of the window. */
async function startApp(newProfile: NewProfile, env?: Readonly<Record<string, string>>): Promise<Started> {
  const context = await newProfile()
  const records = keepRecords(context)
  const app = new ElectronApp('desktop-app', context, env)
  const window = await app.window()
  return { app, window, page: window.page, records }
}

function log(page: Page) {
  return page.getByRole('log').getByRole('listitem')
}

function status(page: Page, text: string | RegExp): Promise<void> {
  return page.getByRole('status').getByText(text).waitFor()
}

/** Starts the server by the window's form; gives the address that it shows. */
async function startServer(page: Page): Promise<URL> {
  const port = await freePort()
  await page.getByLabel('Ports').fill(String(port))
  await page.getByRole('button', { name: 'Start' }).click()
  await status(page, `The server listens on port ${port}. Clients: 0.`)
  return new URL(await page.getByLabel('Open in your browser').inputValue())
}

/** A tab of an ordinary browser. */
async function openTab(newProfile: NewProfile, options?: BrowserContextOptions): Promise<Page & PageRecords> {
  const context = await newProfile(options)
  const records = keepRecords(context)
  return Object.assign(await context.newPage(), records)
}

/** The certificate as the files that the app is given by its environment. */
function certificateFiles(): { TLS_CERT: string; TLS_KEY: string } {
  const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const files = { TLS_CERT: join(folder, 'cert.pem'), TLS_KEY: join(folder, 'key.pem') }
  writeFileSync(files.TLS_CERT, certificate.cert)
  writeFileSync(files.TLS_KEY, certificate.key)
  return files
}

describe('the preload script of examples/desktop-app', () => {
  it('is one file that requires nothing but electron, as a sandbox demands', () => {
    const code = readFileSync(inProject('desktop-app/build/preload.cjs'), 'utf8')
    const required = [...code.matchAll(/\brequire\("([^"]+)"\)/g)].map((match) => match[1])
    expect(required).toEqual(['electron'])
    expect(code).not.toMatch(/^import |\bprocess\b/m)
  })
})

describeInChromium('examples/desktop-app', [RESOLVER], (newProfile) => {
  it('starts a server from its window, and talks to a website in a browser', async () => {
    const { page, app, records } = await startApp(newProfile)
    await status(page, 'The server is not running.')
    const address = await startServer(page)
    const [tab, other] = [await openTab(newProfile), await openTab(newProfile)]
    for (const one of [tab, other]) {
      await one.goto(address.href)
      await status(one, 'Connected to the app.')
    }
    await status(page, /Clients: 2\.$/)
    await log(page).getByText('is here').nth(1).waitFor()

    await tab.getByLabel('Message').fill('<b>Hello</b> from the browser! 👋')
    await tab.getByRole('button', { name: 'Send' }).click()
    await log(page).getByText('says: <b>Hello</b> from the browser! 👋').waitFor()

    await page.getByLabel('Message').fill('to all')
    await page.getByRole('button', { name: 'Send' }).click()
    for (const one of [tab, other]) await log(one).getByText('to all').waitFor()
    await log(page).getByText('Sent to 2 clients.').waitFor()
    const [first = ''] = (await log(page).allTextContents()).filter((text) => text.includes('Hello'))
    await page.getByLabel('To').selectOption(first.slice(0, 8))
    await page.getByLabel('Message').fill('to one')
    await page.getByLabel('Message').press('Enter')
    await log(tab).getByText('to one').waitFor()

    await tab.close()
    await log(page).getByText('has left').waitFor()
    await status(page, /Clients: 1\.$/)
    await page.getByRole('button', { name: 'Stop' }).click()
    await log(page).getByText('The server has stopped.').waitFor()
    await status(other, /^Not connected/)
    expect(await log(other).allTextContents()).toEqual(['to all'])
    await status(page, 'The server is not running.')
    expect([...records.complaints, ...other.complaints, app.program.errorOutput]).toEqual([''])
  })

  it('says in its window why the server cannot be started', async () => {
    const { page } = await startApp(newProfile)
    await page.getByLabel('Ports').fill('a port')
    await page.getByRole('button', { name: 'Start' }).click()
    await log(page).getByText('possiblePorts must be a list of port numbers').waitFor()
    await status(page, 'The server is not running.')
  })

  it('has a window with what Electron has on by default, and nothing to open another', async () => {
    const { app, window } = await startApp(newProfile)
    expect(Object.keys(window.preferences)).toEqual(['preload'])
    expect(app.windowOpenings).toEqual([{ action: 'deny' }])
    const keys = `Object.entries(window.deskifier).flatMap(([name, api]) => Object.keys(api).map((key) => name + '.' + key))`
    expect((await inPage<string[]>(window.page, keys)).sort()).toEqual(
      ['broadcast', 'getRooms', 'getServer', 'joinRoom', 'leaveRoom', 'onClientConnected', 'onClientDisconnected']
        .concat('onMessage', 'send', 'startServer', 'stopServer')
        .map((name) => `webSocket.${name}`),
    )
  })

  it('serves its own page, and no other that its window comes to show', async () => {
    const { page } = await startApp(newProfile)
    const address = await startServer(page)
    await page.goto(`http://127.0.0.1:${address.port}/`)
    const stop = 'window.deskifier.webSocket.stopServer()'
    expect(await inPage(page, stop)).toEqual({ success: false, message: 'This page may not use stopServer.' })
    await page.goBack()
    await status(page, `The server listens on port ${address.port}. Clients: 0.`)
    await inPage(page, `document.body.append(Object.assign(document.createElement('iframe'), { src: location.href }))`)
    const frame = await (await page.locator('iframe').elementHandle())!.contentFrame()
    await frame!.waitForLoadState()
    expect(await frame!.evaluate(stop)).toMatchObject({
      success: false,
      message: expect.stringMatching(/Only the page/),
    })
    expect(await inPage(page, stop)).toEqual({ success: true, message: 'The server has stopped.' })
  })

  it('hears events once when its page was loaded anew', async () => {
    const { page } = await startApp(newProfile)
    const address = await startServer(page)
    await page.reload()
    await status(page, /^The server listens/)
    const tab = await openTab(newProfile)
    await tab.goto(address.href)
    await status(page, /Clients: 1\.$/)
    await tab.getByLabel('Message').fill('Hello')
    await tab.getByLabel('Message').press('Enter')
    await log(page).getByText('says: Hello').waitFor()
    expect(await log(page).allTextContents()).toHaveLength(2)
  })

  it.each<[string, (started: Started) => Promise<void> | void]>([
    ['the user quits', ({ app }) => app.quit()],
    ['its last window is closed', ({ window }) => window.close()],
  ])('tells its clients that it goes when %s', async (_, leave) => {
    const started = await startApp(newProfile)
    const address = await startServer(started.page)
    const tab = await openTab(newProfile)
    await tab.goto(address.href)
    await status(tab, 'Connected to the app.')
    const closed = inPage<number>(
      tab,
      `new Promise((resolve) => {
        const socket = new WebSocket('ws://' + location.host + '/?token=' + location.hash.slice(1))
        socket.onopen = () => (document.title = 'open')
        socket.onclose = ({ code }) => resolve(code)
      })`,
    )
    await expect.poll(() => tab.title(), { timeout: 20_000 }).toBe('open')
    await leave(started)
    expect(await closed).toBe(1001)
    expect(await started.app.program.closed()).toBe(0)
    expect(await isFree(Number(address.port))).toBe(true)
  })

  it('speaks wss:// with a certificate, and shows the address of its name', async () => {
    const { page } = await startApp(newProfile, { ...certificateFiles(), TLS_NAME: 'app.example' })
    const address = await startServer(page)
    expect(address.origin).toBe(`https://app.example:${address.port}`)
    const tab = await openTab(newProfile, { ignoreHTTPSErrors: true })
    await tab.goto(address.href)
    await status(tab, 'Connected to the app.')
    expect(tab.requests.at(-1)).toMatch(/^wss:/)
  })

  describe('with the code of the document', () => {
    if (document === undefined) {
      it('skipped: it is not beside the repository', ({ skip }) => skip(missingSeed('000')))
      return
    }
    documentTests(newProfile)
  })
})

/** Runs code of the document in a page, and gives what an expression is worth behind it. */
function runIn<T>(page: Page, code: string, returned: string): Promise<T> {
  return inPage<T>(page, `(async () => {\n${code}\nreturn ${returned}\n})()`)
}

function documentTests(newProfile: NewProfile): void {
  const startCode = appCode.find((code) => code.includes('const result'))!
  const calls = appCode.filter((code) => code !== startCode)
  const [greeting, arrival, farewell] = [...websiteCode.matchAll(/console\.log\('(.*?)'/g)].map((match) => match[1])
  const ports = readIn(startCode, /possiblePorts: \[([^\]]*)/)
    .split(',')
    .map(Number)

  it('the window starts the server; a website over https talks to it by its name', async ({ skip }) => {
    const { page, records } = await startApp(newProfile, certificateFiles())
    await inPage(
      page,
      `globalThis.heard = []
      for (const name of ['onClientConnected', 'onMessage', 'onClientDisconnected']) {
        window.deskifier.webSocket[name]((data) => { heard.push([name, data]) })
      }`,
    )
    const { success, port } = await runIn<{ success: boolean; port: number }>(page, startCode, 'result')
    if (!success) skip('all ports of the document are taken')
    expect(ports).toContain(port)
    expect(records.complaints).toEqual([`log: ${port}`])

    // The website, at a name of its own, with a certificate of its own.
    const { httpServer, port: websitePort } = await startHttpServer('https')
    httpServer.on('request', (_, response) =>
      response.setHeader('Content-Type', 'text/html').end('<title>website</title>'),
    )
    const tab = await openTab(newProfile, { ignoreHTTPSErrors: true })
    await tab.goto(`https://app.example:${websitePort}/`)
    await tab.addScriptTag({ content: websiteCode.replaceAll(String(ports[0]), String(port)) })
    await expect.poll(() => tab.complaints, { timeout: 20_000 }).toContain(`log: ${greeting}`)
    // It sends before the socket is open, to which a browser says no; its handlers are in place, and now it is open.
    const [exception, ...others] = tab.complaints
    expect(exception).toMatch(/^exception: .*CONNECTING/)
    expect(others).toEqual([`log: ${greeting}`])
    const lastLine = websiteCode.trimEnd().split('\n').at(-1)!
    await inPage(tab, lastLine)
    const isHeard = 'heard.length === 2'
    await expect.poll(() => inPage<boolean>(page, isHeard), { timeout: 20_000 }).toBe(true)
    const [[, { id }], message] = await inPage<[[string, { id: string }], unknown]>(page, 'heard')
    expect(message).toEqual(['onMessage', { id, content: readIn(lastLine, /'(.*)'/) }])

    const api = 'window.deskifier.webSocket'
    expect(await inPage(page, `${api}.getServer()`)).toEqual({ isRunning: true, clientIds: [id], port })
    expect(await inPage(page, `${api}.send({ clientId: '${id}', message: 'to you' })`)).toMatchObject({ success: true })
    expect(await inPage(page, `${api}.broadcast({ message: 'to all' })`)).toMatchObject({ success: true })
    expect(await inPage(page, `${api}.stopServer()`)).toMatchObject({ success: true })
    const logs = [`log: ${arrival} to you`, `log: ${arrival} to all`, `log: ${farewell}`]
    await expect.poll(() => tab.complaints.slice(2), { timeout: 20_000 }).toEqual(logs)
    await expect.poll(() => inPage(page, 'heard.at(-1)'), { timeout: 20_000 }).toEqual(['onClientDisconnected', { id }])
  })

  it('the other calls of the document neither throw nor reject in the window', async () => {
    const { page, records } = await startApp(newProfile)
    for (const code of calls) {
      const expression = code.trim()
      // What stands there for the arguments means those of a function around it.
      const call = `(async function () { const result = ${expression}; return typeof result === 'function' ? 'ends it' : result })()`
      const result = await inPage(page, call)
      if (/webSocket\.on/.test(expression)) expect(result).toBe('ends it')
      else if (/getServer/.test(expression)) expect(result).toEqual({ isRunning: false, clientIds: [], port: null })
      else expect(result).toMatchObject({ success: false, message: expect.any(String) })
    }
    expect(calls).toHaveLength(8)
    expect(records.complaints).toEqual([])
  })
}
