import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BrowserContext, Page } from 'playwright-core'
import { copyAcross } from './context-bridge.ts'
import { inProject } from './example.ts'
import { run } from './package.ts'
import { type Program, ROOT, startProgram } from './program.ts'
import { Queue } from './queue.ts'

/*
 * An example for Electron without Electron: its main process runs in Node, and finds a module `electron` that stands in for
 * it; its windows are pages in Chromium, with its preload script in front of them. What Electron does with what goes between
 * the two (structured clone, the context bridge, a preload script that can require nothing) is done here as well.
 */

const STAND_IN = fileURLToPath(new URL('./electron/', import.meta.url))

/** Puts the stand-in into an example of the project, and builds its preload script, by the script of its package.json. */
export async function prepareElectronApp(name: string): Promise<void> {
  const folder = inProject(name)
  const modules = join(folder, 'node_modules/electron')
  if (!existsSync(modules)) mkdirSync(modules, { recursive: true })
  for (const file of ['package.json', 'main.js']) cpSync(join(STAND_IN, file), join(modules, file))
  const { scripts } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    scripts: Readonly<Record<string, string>>
  }
  const [command = '', ...words] = (scripts['build'] ?? '').split(' ')
  await run(join(ROOT, 'node_modules/.bin', command), words, { cwd: folder })
}

/** What the stand-in says. */
interface Load {
  readonly type: 'load'
  readonly window: number
  readonly url: string
  readonly preferences: Readonly<Record<string, unknown>>
}

type Told =
  | Load
  | { readonly type: 'answer'; readonly id: number; readonly value?: unknown; readonly error?: string }
  | { readonly type: 'send'; readonly window: number; readonly channel: string; readonly values: unknown[] }
  | { readonly type: 'window-open'; readonly window: number; readonly answer: unknown }

/** What IPC answers a window. */
interface IpcAnswer {
  readonly value?: unknown
  readonly error?: string
}

/** A window of the app, and what it was made with. */
export interface AppWindow {
  readonly page: Page
  readonly preferences: Readonly<Record<string, unknown>>
  /** Closes it, as its user does. */
  close(): Promise<void>
}

/** See the head of the file. */
export class ElectronApp {
  readonly program: Program
  readonly #context: BrowserContext
  readonly #loads = new Queue<Load>()
  readonly #pages = new Map<number, Page>()
  readonly #answers = new Map<number, (answer: IpcAnswer) => void>()
  /** What the app says to windows that its pages want to open. */
  readonly windowOpenings: unknown[] = []
  #lastId = 0

  constructor(name: string, context: BrowserContext, env: Readonly<Record<string, string>> = {}) {
    this.#context = context
    this.program = startProgram(process.execPath, ['main.js'], {
      cwd: inProject(name),
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'advanced',
    })
    this.program.child.on('message', (message) => this.#hear(message as Told))
  }

  #hear(told: Told): void {
    if (told.type === 'load') this.#loads.push(told)
    else if (told.type === 'window-open') this.windowOpenings.push(told.answer)
    else if (told.type === 'answer') this.#answers.get(told.id)?.(told)
    else {
      const sent = JSON.stringify([told.channel, told.values])
      // A window that has been closed meanwhile hears nothing.
      this.#pages
        .get(told.window)
        ?.evaluate(`__receive(...${sent})`)
        .catch(() => {})
    }
  }

  /** Shows the next window that the app opens. */
  async window(): Promise<AppWindow> {
    const { window, url, preferences } = await this.#loads.next()
    const page = await this.#context.newPage()
    this.#pages.set(window, page)
    await page.exposeBinding('__invoke', ({ frame }, channel: string, values: unknown[]) => {
      const parent = frame.parentFrame() === null ? null : {}
      return this.#ask({ type: 'invoke', window, channel, values, frame: { url: frame.url(), parent } })
    })
    const script = readFileSync(join(STAND_IN, 'preload.js'), 'utf8')
    const code = readFileSync(String(preferences['preload']), 'utf8')
    const preload = `;((require, module, exports) => {\n${code}\n})`
    // By functions: the texts have dollar signs in them.
    await page.addInitScript(script.replace('COPY_ACROSS', () => String(copyAcross)).replace('PRELOAD', () => preload))
    await page.goto(url)
    return {
      page,
      preferences,
      close: async () => {
        this.#pages.delete(window)
        await page.close()
        this.#send({ type: 'close', window })
      },
    }
  }

  #ask(message: object): Promise<IpcAnswer> {
    return new Promise((resolve) => {
      const id = ++this.#lastId
      this.#answers.set(id, resolve)
      this.#send({ id, ...message })
    })
  }

  /** An app that has quit hears nothing; its windows, which would have gone with it, may not know that yet. */
  #send(message: object): void {
    this.program.child.send(message, () => {})
  }

  /** The user quits. */
  quit(): void {
    this.#send({ type: 'quit' })
  }
}
