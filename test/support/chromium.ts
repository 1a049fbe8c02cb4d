import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, it, onTestFinished } from 'vitest'

/*
 * A real Chromium, one per file of tests, with a new profile per test. Without one the tests are skipped and say so,
 * except where nobody would read that.
 */

const NAMES = ['chromium', 'chromium-browser', 'google-chrome']
const MISSING =
  'Chromium is not installed, so nothing was tried in a real browser: apt-get install chromium, ' +
  'or name its executable in the environment variable CHROMIUM'

/** No traffic of the browser's own; what is left in the records of a test comes from its pages. */
const FLAGS = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

const executablePath = findChromium()

function findChromium(): string | undefined {
  const named = process.env['CHROMIUM']
  if (named) return named
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Opens a profile of its own, which ends with the test. */
export type NewProfile = (options?: BrowserContextOptions) => Promise<BrowserContext>

/** `describe` for tests that need a browser. */
export function describeInChromium(
  name: string,
  flags: readonly string[],
  body: (newProfile: NewProfile) => void,
): void {
  if (executablePath === undefined) {
    it(`${name}: needs Chromium (apt-get install chromium)`, ({ skip }) => {
      if (/^(1|true)$/i.test(process.env['CI'] ?? '')) throw new Error(MISSING)
      console.warn(MISSING)
      skip(MISSING)
    })
    return
  }
  describe(name, () => {
    let browser: Browser
    beforeAll(async () => {
      // As root Chromium does not start with its sandbox. The pages are our own.
      browser = await chromium.launch({ executablePath, chromiumSandbox: false, args: [...FLAGS, ...flags] })
    })
    afterAll(() => browser.close())
    body(async (options) => {
      const context = await browser.newContext(options)
      onTestFinished(() => context.close())
      context.setDefaultTimeout(20_000)
      return context
    })
  })
}

/** What a test wants to know of its pages behind their backs. */
export interface PageRecords {
  /** Addresses of all requests, WebSockets included. */
  readonly requests: string[]
  /** Messages on the console, and exceptions that nobody has caught. */
  readonly complaints: string[]
}

/** Keeps records of all pages of a profile; call it before the first is opened. */
export function keepRecords(context: BrowserContext): PageRecords {
  const records: PageRecords = { requests: [], complaints: [] }
  context.on('request', (request) => records.requests.push(request.url()))
  context.on('console', (message) => records.complaints.push(`${message.type()}: ${message.text()}`))
  context.on('weberror', (error) => records.complaints.push(`exception: ${error.error().message}`))
  context.on('page', (page) => page.on('websocket', (socket) => records.requests.push(socket.url())))
  return records
}

/** Runs an expression in a page: code for a browser, where the types of Node do not apply. */
export function inPage<T>(page: Page, expression: string): Promise<T> {
  return page.evaluate<T>(expression)
}
