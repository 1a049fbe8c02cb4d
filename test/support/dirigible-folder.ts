import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import { createRuntime, type Runtime, type RuntimeOptions, type ServeOptions } from '../../src/compat/dirigible.ts'
import type { ConnectOptions, WebSocketConnection } from '../../src/index.ts'
import { Queue } from './queue.ts'
import { openClient } from './servers.ts'

/*
 * Folders of modules that run, and end with their test.
 */

/** Texts of files by their paths. What is not a text is written as JSON. */
export type Files = Readonly<Record<string, unknown>>

/** A folder with these files. */
export function makeFolder(files: Files = {}): string {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'dirigible-')))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  writeFiles(root, files)
  return root
}

export function writeFiles(root: string, files: Files): void {
  for (const [path, content] of Object.entries(files)) {
    const file = join(root, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  }
}

/** A runtime, and what its modules note with `require('core/globals').get('note')`. */
export interface Folder {
  readonly root: string
  readonly runtime: Runtime
  readonly notes: Queue<unknown>
}

export function openFolder(files: Files, options: Partial<RuntimeOptions> = {}): Folder {
  const root = makeFolder(files)
  const runtime = createRuntime({ root, ...options })
  onTestFinished(() => runtime.close())
  const notes = new Queue<unknown>()
  const globals = runtime.require('core/globals') as { set(name: string, value: unknown): void }
  globals.set('note', notes.push)
  return { root, runtime, notes }
}

/** How a module of a test begins that notes something. */
export const NOTE = "const note = require('core/globals').get('note')\n"

export interface Served extends Folder {
  readonly port: number
  readonly url: string
  /** What the server has reported. */
  readonly errors: Queue<Error>
  close(): Promise<void>
}

/** A folder that is served on a free port. */
export async function serveFolder(files: Files, options: ServeOptions = {}): Promise<Served> {
  const folder = openFolder(files)
  const errors = new Queue<Error>()
  const { port, close } = await folder.runtime.serve({ closeTimeoutMs: 500, error: errors.push, ...options })
  return { ...folder, port, url: `ws://127.0.0.1:${port}`, errors, close: () => close() }
}

/** A peer of such a server, with what it was sent and how it ended. */
export interface Peer {
  readonly connection: WebSocketConnection<undefined>
  readonly messages: Queue<unknown>
  readonly closed: Promise<number>
  send(data: unknown): void
}

export async function openPeer(url: string, options: ConnectOptions = {}): Promise<Peer> {
  const messages = new Queue<unknown>()
  let tell!: (code: number) => void
  const closed = new Promise<number>((resolve) => {
    tell = resolve
  })
  const connection = await openClient(url, {
    message: (_connection, data) => messages.push(data),
    close: (_connection, { code }) => tell(code),
    ...options,
  })
  const send = (data: unknown): void => {
    connection.send(typeof data === 'string' || data instanceof Uint8Array ? data : JSON.stringify(data))
  }
  return { connection, messages, closed, send }
}
