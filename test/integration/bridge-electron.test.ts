import { EventEmitter } from 'node:events'
import { describe, expect, it, onTestFinished } from 'vitest'
import {
  type Bridged,
  connectApi,
  type ElectronCall,
  electronMain,
  electronPreload,
  exposeApi,
  type FacadeFunctions,
} from '../../src/bridge.ts'
import type { MessageEvent } from '../../src/index.ts'
import { copyAcross } from '../support/context-bridge.ts'
import { collectWarnings, newApi, openPage, TOKEN } from '../support/facade.ts'
import { Queue } from '../support/queue.ts'
import { nextTurn } from '../support/servers.ts'

/*
 * The shapes of Electron: what it gives and takes, played by three small classes that clone what goes over.
 */

const PAGE = 'app://app/index.html'

interface Frame {
  readonly url: string
  readonly parent: Frame | null
}

interface Call extends ElectronCall {
  readonly sender: WebContents
  readonly senderFrame: Frame | null
}

type Handler = (event: Call, ...values: unknown[]) => unknown

class IpcMain {
  readonly handlers = new Map<string, Handler>()

  handle(channel: string, handler: Handler): void {
    if (this.handlers.has(channel)) throw new Error(`Attempted to register a second handler for '${channel}'`)
    this.handlers.set(channel, handler)
  }

  removeHandler(channel: string): void {
    this.handlers.delete(channel)
  }
}

class WebContents extends EventEmitter {
  readonly renderer: IpcRenderer
  #isDestroyed = false

  constructor(renderer: IpcRenderer) {
    super()
    this.renderer = renderer
  }

  send(channel: string, ...values: unknown[]): void {
    if (this.#isDestroyed) throw new TypeError('Object has been destroyed')
    const cloned = structuredClone(values)
    setImmediate(() => this.renderer.emit(channel, { senderId: 0 }, ...cloned))
  }

  isDestroyed(): boolean {
    return this.#isDestroyed
  }

  destroy(): void {
    this.#isDestroyed = true
    this.emit('destroyed')
  }
}

class IpcRenderer extends EventEmitter {
  readonly webContents = new WebContents(this)
  readonly #main: IpcMain
  /** Where its calls come from. */
  frame: Frame | null = { url: PAGE, parent: null }

  constructor(main: IpcMain) {
    super()
    this.#main = main
  }

  async invoke(channel: string, ...values: unknown[]): Promise<unknown> {
    const cloned = structuredClone(values)
    try {
      const handler = this.#main.handlers.get(channel)
      if (handler === undefined) throw new Error(`No handler registered for '${channel}'`)
      return structuredClone(await handler({ sender: this.webContents, senderFrame: this.frame }, ...cloned))
    } catch (error) {
      throw new Error(`Error invoking remote method '${channel}': ${error}`)
    }
  }
}

interface Window {
  readonly renderer: IpcRenderer
  /** What the page finds: behind the preload script, in a world of its own. */
  readonly webSocket: Bridged<FacadeFunctions>
}

function start(allow?: (call: Call, name: string) => boolean) {
  const api = newApi()
  const ipcMain = new IpcMain()
  const end = exposeApi(api, electronMain<Call>(ipcMain), { allow })
  onTestFinished(end)
  const open = (): Window => {
    const renderer = new IpcRenderer(ipcMain)
    const preload = { webSocket: connectApi(electronPreload(renderer)) }
    return { renderer, ...(copyAcross(preload) as typeof preload) }
  }
  return { api, ipcMain, end, open }
}

const START = { possiblePorts: [0], token: TOKEN }

describe('the facade over the IPC of Electron, through the context bridge', () => {
  it('works as it does without: every function, every event', async () => {
    const { webSocket } = start().open()
    const events = new Queue<unknown>()
    webSocket.onClientConnected(({ id }) => events.push(['connected', id]))
    const unsubscribe = webSocket.onMessage(({ id, content }) => events.push([content, id]))
    webSocket.onClientDisconnected(({ id }) => events.push(['disconnected', id]))
    const started = await webSocket.startServer(START)
    expect(started).toStrictEqual({ success: true, port: expect.any(Number) })
    const browser = await openPage(started.port!)
    const [, id] = (await events.next()) as [string, string]
    browser.socket.send('Hello from the browser!')
    browser.socket.send(Uint8Array.of(1, 2))
    expect(await events.take(2)).toStrictEqual([
      ['Hello from the browser!', id],
      [Uint8Array.of(1, 2), id],
    ])
    expect(await webSocket.getServer()).toStrictEqual({ isRunning: true, clientIds: [id], port: started.port })
    expect(await webSocket.broadcast({ message: 'to all' })).toMatchObject({ success: true, sent: 1, dropped: 0 })
    expect(await webSocket.send({ clientId: id, message: Uint8Array.of(3) })).toMatchObject({ success: true })
    expect(await browser.messages.take(2)).toEqual(['to all', Buffer.of(3)])
    unsubscribe()
    await webSocket.getServer()
    browser.socket.send('unheard')
    await browser.leave()
    expect(await events.next()).toEqual(['disconnected', id])
    expect(await webSocket.stopServer()).toStrictEqual({ success: true, message: 'The server has stopped.' })
  })

  it('holds back messages for a listener of the page that returns a promise', async () => {
    const { webSocket } = start().open()
    const heard = new Queue<string>()
    webSocket.onMessage(async ({ content, id }: MessageEvent) => {
      heard.push(`begin ${content}`)
      const { success } = await webSocket.send({ clientId: id, message: content })
      heard.push(`end ${content} ${success}`)
    })
    const { port } = await webSocket.startServer(START)
    const browser = await openPage(port!)
    browser.socket.send('one')
    browser.socket.send('two')
    expect(await heard.take(4)).toEqual(['begin one', 'end one true', 'begin two', 'end two true'])
  })

  it('a failure of the IPC itself is one of the call', async () => {
    const { open, end } = start()
    const { webSocket } = open()
    expect(await webSocket.startServer({ ...START, respond: () => undefined })).toMatchObject({
      success: false,
      port: null,
      message: expect.stringMatching(/clone/),
    })
    end()
    expect(await webSocket.send({ clientId: 'a', message: 'b' })).toMatchObject({
      success: false,
      message: expect.stringMatching(/^Error invoking remote method 'fullduplex'/),
    })
    await expect(webSocket.getServer()).rejects.toThrow(/No handler/)
  })
})

describe('a window of Electron', () => {
  it.each<[string, (window: Window) => void]>([
    ['is closed', ({ renderer }) => renderer.webContents.destroy()],
    ['has lost its process', ({ renderer }) => renderer.webContents.emit('render-process-gone')],
  ])('that %s leaves nothing behind, and the other one goes on', async (_, lose) => {
    const { api, open } = start()
    const [first, second] = [open(), open()]
    const heard = new Queue<string>()
    first.webSocket.onMessage(({ content }) => heard.push(`first ${content}`))
    second.webSocket.onMessage(({ content }) => heard.push(`second ${content}`))
    const { port } = await first.webSocket.startServer(START)
    await second.webSocket.getServer()
    const browser = await openPage(port!)
    browser.socket.send('one')
    expect((await heard.take(2)).sort()).toEqual(['first one', 'second one'])
    lose(first)
    expect(first.renderer.webContents.eventNames()).toEqual([])
    browser.socket.send('two')
    expect(await heard.next()).toBe('second two')
    lose(second)
    expect(second.renderer.webContents.eventNames()).toEqual([])
    expect(api.events.listenerCount('message')).toBe(0)
  })

  it('that is destroyed just when an event comes is not sent anything', async () => {
    const warnings = collectWarnings()
    const { api, open } = start()
    const { webSocket, renderer } = open()
    webSocket.onMessage(() => {})
    const { port } = await webSocket.startServer(START)
    const messages = new Queue<unknown>()
    // Nobody is told that it is gone.
    renderer.webContents.removeAllListeners()
    renderer.webContents.destroy()
    api.onMessage(messages.push)
    const browser = await openPage(port!)
    browser.socket.send('one')
    expect(await messages.next()).toMatchObject({ content: 'one' })
    await nextTurn()
    expect(warnings).toEqual([])
  })

  it('has a page that is served; frames in it are not, nor what has gone on', async () => {
    const { open } = start()
    const { webSocket, renderer } = open()
    for (const frame of [{ url: PAGE, parent: { url: PAGE, parent: null } }, null]) {
      renderer.frame = frame
      expect(await webSocket.startServer(START)).toMatchObject({
        success: false,
        message: expect.stringMatching(/Only the page of a window may call/),
      })
    }
    renderer.frame = { url: PAGE, parent: null }
    expect(await webSocket.startServer(START)).toMatchObject({ success: true })
  })

  it('is judged by its address, if the app says so', async () => {
    const { open } = start(({ senderFrame }) => senderFrame?.url === PAGE)
    const [own, foreign] = [open(), open()]
    foreign.renderer.frame = { url: 'https://evil.example/', parent: null }
    expect(await own.webSocket.startServer(START)).toMatchObject({ success: true })
    expect(await foreign.webSocket.stopServer()).toStrictEqual({
      success: false,
      message: 'This page may not use stopServer.',
    })
    await expect(foreign.webSocket.getServer()).rejects.toThrow('This page may not use getServer.')
  })

  it('lets go of ipcMain and ipcRenderer when the bridge ends', async () => {
    const { ipcMain, end } = start()
    const renderer = new IpcRenderer(ipcMain)
    const controller = new AbortController()
    const webSocket = connectApi(electronPreload(renderer), { signal: controller.signal })
    webSocket.onMessage(() => {})
    await webSocket.getServer()
    expect(renderer.eventNames()).toEqual(['fullduplex:event'])
    controller.abort()
    expect(renderer.eventNames()).toEqual([])
    expect([...ipcMain.handlers.keys()]).toEqual(['fullduplex'])
    end()
    expect([...ipcMain.handlers.keys()]).toEqual([])
  })
})
