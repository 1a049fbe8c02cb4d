import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BrowserContext, Locator, Page } from 'playwright-core'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { makeCertificate } from '../support/certificate.ts'
import { describeInChromium, inPage, keepRecords, type NewProfile } from '../support/chromium.ts'
import { freePort, isFree } from '../support/ports.ts'
import { addressOf, type Program, startMain } from '../support/program.ts'

/*
 * The main job from end to end: the command as `npm start` runs it, and its page as people see and use it.
 */

const TOKEN = 'a-token-for-the-tests'

/** On a machine that is busy with other tests, too. */
const PATIENCE = { timeout: 10_000 }

/** The page in one tab, by what is to be seen on it. */
class Tab {
  readonly page: Page
  readonly explanation: Locator
  readonly message: Locator
  readonly key: Locator
  /** Texts of the messages and events. */
  readonly items: Locator

  constructor(page: Page) {
    this.page = page
    this.explanation = page.locator('#explanation')
    this.message = page.getByRole('textbox', { name: 'Message' })
    this.key = page.getByRole('textbox', { name: 'Address or token from the terminal' })
    this.items = page.getByRole('log').getByRole('listitem')
  }

  /** Waits until the page says that this is the state; then says what it adds to it. */
  async state(title: string): Promise<string | null> {
    await this.page.locator('#state').getByText(title, { exact: true }).waitFor()
    return this.explanation.textContent()
  }

  button(name: string): Locator {
    return this.page.getByRole('button', { name, exact: true })
  }

  /** Waits for a message or an event with these words in it, and says all of it. */
  async item(words: string | RegExp): Promise<string> {
    const item = this.items.filter({ hasText: words }).first()
    await item.waitFor()
    return (await item.locator(':scope:not(:has(*)), .who, time, .text').allTextContents()).join(' ')
  }

  /** Waits for the answer to a message of this tab. */
  async receipt(text: string, words: string | RegExp): Promise<void> {
    await this.items.filter({ hasText: text }).locator('.receipt').filter({ hasText: words }).waitFor()
  }

  async isOverflowing(): Promise<boolean> {
    return inPage<boolean>(this.page, 'document.documentElement.scrollWidth > innerWidth')
  }

  async focusedName(): Promise<string> {
    return inPage<string>(this.page, `(({ id, textContent }) => id || textContent)(document.activeElement)`)
  }
}

async function openTab(context: BrowserContext, address: URL | string): Promise<Tab> {
  const page = await context.newPage()
  await page.goto(String(address))
  return new Tab(page)
}

/** The same address with another token. */
function withToken(address: URL, token: string): URL {
  const other = new URL(address)
  other.hash = token === '' ? '' : `#token=${token}`
  return other
}

describeInChromium('the page of the main job', [], (newProfile) => {
  const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
  const { cert, key } = makeCertificate()
  writeFileSync(join(folder, 'cert.pem'), cert)
  writeFileSync(join(folder, 'key.pem'), key)
  afterAll(() => rmSync(folder, { recursive: true }))

  const tlsArguments = ['--cert', join(folder, 'cert.pem'), '--key', join(folder, 'key.pem')]

  describe('over ws', () => connectionTests(newProfile, 'http', []))
  describe('over wss', () => connectionTests(newProfile, 'https', tlsArguments))
  describe('refused', () => refusalTests(newProfile))
  describe('without the app', () => absenceTests(newProfile))
  describe('for people', () => usageTests(newProfile))
})

/** What is the same over both. */
function connectionTests(newProfile: NewProfile, scheme: string, tlsArguments: readonly string[]): void {
  async function startApp(port: number, ...args: string[]): Promise<{ app: Program; address: URL }> {
    const app = startMain('--ports', String(port), ...tlsArguments, ...args)
    return { app, address: await addressOf(app) }
  }

  const newContext = (): Promise<BrowserContext> => newProfile({ ignoreHTTPSErrors: true })

  it('connects, sends to the app, and shows that it has arrived', async () => {
    const { app, address } = await startApp(await freePort())
    expect(address.href).toMatch(new RegExp(`^${scheme}://127\\.0\\.0\\.1:\\d+/#token=[\\w-]{32}$`))
    const tab = await openTab(await newContext(), address)

    expect(await tab.state('Connected')).toBe('You are tab 1. Nobody else is connected.')
    await app.line(/tab 1 +connected from (127\.0\.0\.1|::1)/)

    await tab.message.fill('Hello, app')
    await tab.button('Send to app').click()
    await app.line('tab 1     → app: Hello, app')
    await tab.receipt('Hello, app', /^✓ the app received it · [\d.]+ ms$/)
    expect(await tab.message.inputValue()).toBe('')
  })

  it('passes broadcasts and lines of the terminal on to both tabs', async () => {
    const { app, address } = await startApp(await freePort())
    const context = await newContext()
    const one = await openTab(context, address)
    await one.state('Connected')
    const two = await openTab(context, address)
    expect(await two.state('Connected')).toBe('You are tab 2. 1 other is connected.')
    await one.item('Tab 2 joined')
    expect(await one.explanation.textContent()).toBe('You are tab 1. 1 other is connected.')

    await one.message.fill('From one')
    await one.button('Broadcast').click()
    expect(await two.item('From one')).toMatch(/^Tab 1 .*From one$/)
    await one.receipt('From one', 'the app and 1 other received it')
    await app.line('tab 1     → everyone (1): From one')

    await two.message.fill('From two')
    await two.button('Broadcast').click()
    expect(await one.item('From two')).toMatch(/^Tab 2 .*From two$/)

    app.type('From the terminal')
    expect(await one.item('From the terminal')).toMatch(/^App .*From the terminal$/)
    expect(await two.item('From the terminal')).toMatch(/^App .*From the terminal$/)
    await app.line('→ everyone (2): From the terminal')

    await two.page.close()
    await one.item('Tab 2 left')
    await app.line(/tab 2 +left \(1001\)/)
    expect(await one.explanation.textContent()).toBe('You are tab 1. Nobody else is connected.')
  })

  it('stops on SIGINT: the page is told, the port is free at once, exit 0', async () => {
    const port = await freePort()
    const { app, address } = await startApp(port)
    const tab = await openTab(await newContext(), address)
    await tab.state('Connected')

    expect(await app.stop('SIGINT')).toBe(0)
    expect(await isFree(port)).toBe(true)
    expect(await tab.state('The app was stopped')).toMatch(/^It said goodbye\. Start it again/)
    await app.line(/tab 1 +left \(1001/)
    await tab.item('The app was stopped')
    expect(await tab.button('Send to app').isDisabled()).toBe(true)
  })

  it('comes back by itself when the app is back with the same token', async () => {
    const port = await freePort()
    const { app, address } = await startApp(port, '--token', TOKEN)
    const tab = await openTab(await newContext(), address)
    await tab.state('Connected')
    await app.stop()
    await tab.state('The app was stopped')

    await startApp(port, '--token', TOKEN)
    await tab.state('Connected')
    expect(await tab.item('Connected again')).toContain('as tab 1; the app was restarted')
  })

  it('explains a new token after a restart, and takes the new address', async () => {
    const port = await freePort()
    const { app, address } = await startApp(port)
    const tab = await openTab(await newContext(), address)
    await tab.state('Connected')
    await app.stop()

    const next = await startApp(port)
    const explanation = await tab.state('The app was restarted and has a new token')
    expect(explanation).toContain('Open the address that the terminal shows now')
    await next.app.line(/refused +401 ERR_TOKEN_WRONG/)

    await tab.key.fill(`Open ${next.address}`)
    await tab.key.press('Enter')
    await tab.state('Connected')
    expect(await tab.focusedName()).toBe('text')
    // The address bar has the new one, which a reload needs.
    expect(tab.page.url()).toBe(next.address.href)
  })
}

async function startOne(...args: string[]): Promise<{ app: Program; address: URL; port: number }> {
  const port = await freePort()
  const app = startMain('--ports', String(port), ...args)
  return { app, address: await addressOf(app), port }
}

function refusalTests(newProfile: NewProfile): void {
  it('says in words that the token is wrong', async () => {
    const { app, address } = await startOne()
    const tab = await openTab(await newProfile(), withToken(address, 'wrong-wrong-wrong-wrong'))

    const explanation = await tab.state('The app refuses this tab')
    expect(explanation).toContain('Most likely the token in this address is wrong')
    const refusal = await app.line('refused')
    expect(refusal).toContain('401 ERR_TOKEN_WRONG')
    expect(refusal).toContain(`origin http://127.0.0.1:${address.port}`)
    expect(app.output).not.toContain('wrong-wrong')

    await tab.key.fill('http://127.0.0.1/')
    await tab.key.press('Enter')
    await tab.page.getByRole('alert').getByText('There is no token in this text.').waitFor()

    await tab.key.fill(address.hash.replace('#token=', ''))
    await tab.page.locator('#key-form').getByRole('button', { name: 'Connect' }).click()
    await tab.state('Connected')
    expect(await tab.key.isVisible()).toBe(false)
  })

  it('asks for the token when the address has none', async () => {
    const { address } = await startOne()
    const context = await newProfile()
    const records = keepRecords(context)
    const tab = await openTab(context, withToken(address, ''))

    expect(await tab.state('This address has no token')).toContain('Open the address that the app printed')
    // No attempt that is bound to fail, and would count as one.
    expect(records.requests).toEqual([withToken(address, '').href])

    // Another address in the same tab changes the fragment only, and the page stays.
    await tab.page.goto(address.href)
    await tab.state('Connected')
  })

  it('is not locked out by a neighbour with a wrong token', async () => {
    const { app, address } = await startOne()
    const context = await newProfile()
    const wrong = await openTab(context, withToken(address, 'wrong-wrong-wrong-wrong'))
    await wrong.state('The app refuses this tab')
    while (!app.output.includes('429')) {
      const refusals = app.lines.length
      await wrong.button('Try again').click()
      await expect.poll(() => app.lines.length, PATIENCE).toBeGreaterThan(refusals)
      await wrong.state('The app refuses this tab')
    }
    const right = await openTab(context, address)
    await right.state('Connected')
  })
}

function absenceTests(newProfile: NewProfile): void {
  it('tells a crash from a goodbye, and keeps what could not be sent', async () => {
    const { app, address, port } = await startOne('--token', TOKEN)
    const tab = await openTab(await newProfile(), address)
    await tab.state('Connected')
    await app.stop('SIGKILL')
    expect(await tab.state('The connection was lost')).toContain('without a goodbye')

    await tab.message.fill('While away')
    await tab.message.press('Enter')
    await tab.page.getByRole('alert').getByText('Not connected').waitFor()
    expect(await tab.message.inputValue()).toBe('While away')

    await addressOf(startMain('--ports', String(port), '--token', TOKEN))
    await tab.state('Connected')
    await tab.message.press('Enter')
    await tab.receipt('While away', 'the app received it')
  })

  it('notices another program at its address', async () => {
    const { app, address, port } = await startOne()
    const tab = await openTab(await newProfile(), address)
    await tab.state('Connected')
    await app.stop()
    await tab.state('The app was stopped')

    const stranger = createServer((_, response) => response.end('<h1>Hello</h1>')).listen(port, '127.0.0.1')
    onTestFinished(() => {
      stranger.closeAllConnections()
      stranger.close()
    })
    expect(await tab.state('Another program answers here')).toContain('Look in the terminal')
  })

  it('notices an app that does not answer', async () => {
    const { app, address } = await startOne()
    const tab = await openTab(await newProfile(), address)
    await tab.state('Connected')
    await tab.button('Disconnect').click()
    expect(await tab.state('Disconnected')).toBe('You ended the connection. The app goes on without this tab.')
    await app.line(/tab 1 +left \(1000\)/)

    app.child.kill('SIGSTOP')
    await tab.button('Connect').click()
    expect(await tab.state('The app does not answer')).toContain('Perhaps the app is suspended')
    app.child.kill('SIGCONT')
    await tab.state('Connected')
  })
}

function usageTests(newProfile: NewProfile): void {
  it('asks nobody else for anything, keeps the token to itself, and has nothing to complain of', async () => {
    const { app, address } = await startOne()
    const context = await newProfile()
    const records = keepRecords(context)
    const page = await context.newPage()
    const answer = await page.goto(address.href)
    const tab = new Tab(page)
    await tab.state('Connected')
    app.type('<img src="https://evil.example/x.png" onerror="alert(1)"><script>alert(2)</script>')
    await tab.item('<img src=')
    await tab.message.fill('<b>bold</b>')
    await tab.button('Broadcast').click()
    await tab.receipt('<b>bold</b>', 'no other tab is open')
    const [another] = await Promise.all([
      context.waitForEvent('page'),
      page.getByRole('link', { name: 'New tab' }).click(),
    ])
    await new Tab(another).state('Connected')
    await page.reload()
    await tab.state('Connected')

    const { origin, host } = address
    const own = [`${origin}/`, `${origin}/status`, `ws://${host}/`]
    // A browser never sends the fragment; the records show it all the same.
    expect(new Set(records.requests.map((url) => url.replace(address.hash, '')))).toEqual(new Set(own))
    expect(records.complaints).toEqual([])

    const headers = await answer!.allHeaders()
    expect(headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    })
    expect(headers['content-security-policy']).toMatch(
      /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; connect-src 'self';/,
    )
  })

  it('can be used with the keyboard alone', async () => {
    const { app, address } = await startOne()
    const context = await newProfile()
    const one = await openTab(context, address)
    await one.state('Connected')
    const two = await openTab(context, address)
    await two.state('Connected')
    const { keyboard } = one.page
    await one.page.bringToFront()

    const order: string[] = []
    for (let stops = 0; stops < 6; stops++) {
      await keyboard.press('Tab')
      order.push(await one.focusedName())
    }
    expect(order).toEqual(['another', 'toggle', 'log', 'text', 'broadcast', 'send'])

    await keyboard.press('Shift+Tab')
    await keyboard.press('Shift+Tab')
    await keyboard.type('First line')
    await keyboard.press('Shift+Enter')
    await keyboard.type('second line')
    await keyboard.press('Enter')
    await app.line('tab 1     → app: First line\\nsecond line')
    expect(await one.focusedName()).toBe('text')

    await keyboard.type('For all')
    await keyboard.press('Control+Enter')
    await two.item('For all')

    // Disconnect and connect: the focus stays where it was.
    for (let stops = 0; stops < 2; stops++) await keyboard.press('Shift+Tab')
    await keyboard.press('Enter')
    await one.state('Disconnected')
    expect(await one.focusedName()).toBe('toggle')
    await keyboard.press('Space')
    await one.state('Connected')
    expect(await one.focusedName()).toBe('toggle')
  })

  it('says what it is to a screen reader', async () => {
    const { app, address } = await startOne()
    const tab = await openTab(await newProfile(), address)
    await tab.state('Connected')
    app.type('Good morning')
    await tab.item('Good morning')
    const snapshot = await tab.page.locator('body').ariaSnapshot()
    for (const line of [
      'heading "fullduplex" [level=1]',
      'region "Connection"',
      'status',
      'log "Messages"',
      'textbox "Message"',
      'button "Broadcast"',
      'button "Send to app"',
    ]) {
      expect(snapshot).toContain(`- ${line}`)
    }
    expect(await tab.page.locator('#problem').getAttribute('role')).toBe('alert')
  })

  it('fits a phone, in every state', async () => {
    const { app, address } = await startOne()
    const context = await newProfile({ viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true })
    const tab = await openTab(context, address)
    await tab.state('Connected')
    app.type(`https://example.test/${'0123456789'.repeat(30)}`)
    await tab.item('example.test')
    await tab.message.fill('W'.repeat(200))
    await tab.button('Broadcast').tap()
    await tab.receipt('WWW', 'received it')
    expect(await tab.isOverflowing()).toBe(false)

    const refused = await openTab(context, withToken(address, 'wrong-wrong-wrong-wrong'))
    await refused.state('The app refuses this tab')
    expect(await refused.isOverflowing()).toBe(false)

    await app.stop()
    await tab.state('The app was stopped')
    expect(await tab.isOverflowing()).toBe(false)
    await tab.page.setViewportSize({ width: 568, height: 320 })
    expect(await tab.isOverflowing()).toBe(false)
  })

  it.each(['light', 'dark'] as const)('is easy to read in %s colours', async (colorScheme) => {
    const { app, address } = await startOne()
    const context = await newProfile({ colorScheme })
    const tab = await openTab(context, address)
    await tab.state('Connected')
    const other = await openTab(context, address)
    await other.state('Connected')
    await other.message.fill('From a tab')
    await other.button('Broadcast').click()
    app.type('From the app')
    await tab.item('From a tab')
    await tab.item('From the app')
    await tab.message.fill('From here')
    await tab.button('Send to app').click()
    await tab.receipt('From here', 'received it')
    await tab.message.fill(' ')
    await tab.button('Send to app').click()
    await tab.page.getByRole('alert').getByText('nothing to send').waitFor()
    expect(await poorContrasts(tab.page)).toEqual([])

    const refused = await openTab(context, withToken(address, 'wrong-wrong-wrong-wrong'))
    await refused.state('The app refuses this tab')
    await refused.key.fill('http://127.0.0.1/')
    await refused.key.press('Enter')
    expect(await poorContrasts(refused.page)).toEqual([])
  })

  it('refuses what would be too long, and sends what just is not', async () => {
    const { app, address } = await startOne()
    const tab = await openTab(await newProfile(), address)
    await tab.state('Connected')
    await tab.message.fill('x'.repeat(1_048_576))
    await tab.button('Send to app').click()
    await tab.page.getByRole('alert').getByText('too long').waitFor()
    await tab.message.fill('x'.repeat(1_048_500))
    await tab.button('Send to app').click()
    await tab.receipt('xxx', 'the app received it')
    await app.line('(1048500 characters)')
  })

  it('follows the end of the list, unless someone has scrolled up', async () => {
    const { app, address } = await startOne()
    const tab = await openTab(await newProfile({ viewport: { width: 700, height: 600 } }), address)
    await tab.state('Connected')
    for (let line = 1; line <= 40; line++) app.type(`line ${line}`)
    await tab.item('line 40')
    const log = tab.page.getByRole('log')
    const end = `(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight)(document.getElementById('log'))`
    await expect.poll(() => inPage<number>(tab.page, end), PATIENCE).toBeLessThan(3)

    await log.focus()
    await log.press('Home')
    // The browser scrolls smoothly; until it has arrived.
    await expect.poll(() => inPage<number>(tab.page, `document.getElementById('log').scrollTop`), PATIENCE).toBe(0)
    app.type('news')
    await tab.button('New messages ↓').click()
    await expect.poll(() => inPage<number>(tab.page, end), PATIENCE).toBeLessThan(3)
    expect(await tab.button('New messages ↓').isVisible()).toBe(false)
  })
}

/** Texts with a contrast below 4.5 (WCAG 2.2, 1.4.3), as `ratio text`. What is disabled does not count. */
function poorContrasts(page: Page): Promise<string[]> {
  return inPage<string[]>(
    page,
    `(() => {
      const parse = (color) => color.match(/[\\d.]+/g).map(Number)
      const luminance = ([r, g, b]) => {
        const linear = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4)
        return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
      }
      const backgroundOf = (element) => {
        for (let at = element; at !== null; at = at.parentElement) {
          const color = parse(getComputedStyle(at).backgroundColor)
          if (color.length === 3 || color[3] === 1) return color
        }
      }
      const poor = []
      const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
      while (texts.nextNode()) {
        const { parentElement: element, textContent } = texts.currentNode
        if (!textContent.trim() || !element.checkVisibility() || element.closest('script, style, :disabled, .unseen')) continue
        const pair = [luminance(parse(getComputedStyle(element).color)), luminance(backgroundOf(element))].sort((a, b) => b - a)
        const ratio = (pair[0] + 0.05) / (pair[1] + 0.05)
        if (ratio < 4.5) poor.push(ratio.toFixed(2) + ' ' + textContent.trim().slice(0, 60))
      }
      return poor
    })()`,
  )
}
