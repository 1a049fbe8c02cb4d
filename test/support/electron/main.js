// Stands in for the module `electron` in the main process of an app. What Electron would show in windows, a test shows in
// Chromium; it is told by messages what there is to show, and its messages are what the windows say. See electron-app.ts.
import { EventEmitter } from 'node:events'
import { pathToFileURL } from 'node:url'

const windows = new Map()
const handlers = new Map()
let lastId = 0

function tell(message) {
  process.send(message)
}

class WebContents extends EventEmitter {
  #id
  #isDestroyed = false

  constructor(id) {
    super()
    this.#id = id
  }

  send(channel, ...values) {
    if (this.#isDestroyed) throw new TypeError('Object has been destroyed')
    tell({ type: 'send', window: this.#id, channel, values: structuredClone(values) })
  }

  isDestroyed() {
    return this.#isDestroyed
  }

  setWindowOpenHandler(handler) {
    tell({ type: 'window-open', window: this.#id, answer: handler({ url: 'https://evil.example/' }) })
  }

  destroy() {
    this.#isDestroyed = true
    this.emit('destroyed')
  }
}

export class BrowserWindow extends EventEmitter {
  #id = ++lastId
  #preferences

  constructor({ webPreferences = {} } = {}) {
    super()
    this.webContents = new WebContents(this.#id)
    this.#preferences = webPreferences
    windows.set(this.#id, this)
  }

  async loadFile(path, { hash = '' } = {}) {
    const url = pathToFileURL(path)
    url.hash = hash
    tell({ type: 'load', window: this.#id, url: url.href, preferences: this.#preferences })
  }

  close() {
    if (!windows.delete(this.#id)) return
    this.emit('closed')
    this.webContents.destroy()
    if (windows.size === 0 && !app.emit('window-all-closed')) app.quit()
  }
}

export const ipcMain = {
  handle(channel, handler) {
    if (handlers.has(channel)) throw new Error(`Attempted to register a second handler for '${channel}'`)
    handlers.set(channel, handler)
  },
  removeHandler(channel) {
    handlers.delete(channel)
  },
}

class App extends EventEmitter {
  whenReady() {
    return new Promise((resolve) => setImmediate(resolve))
  }

  quit() {
    let isPrevented = false
    this.emit('before-quit', { preventDefault: () => (isPrevented = true) })
    if (isPrevented) return
    for (const window of [...windows.values()]) window.webContents.destroy()
    this.emit('quit')
    process.exit(0)
  }
}

export const app = new App()

async function answer({ window, id, channel, values, frame }) {
  try {
    const handler = handlers.get(channel)
    if (handler === undefined) throw new Error(`No handler registered for '${channel}'`)
    const event = { sender: windows.get(window).webContents, senderFrame: frame }
    tell({ type: 'answer', id, value: structuredClone(await handler(event, ...values)) })
  } catch (error) {
    tell({ type: 'answer', id, error: `Error invoking remote method '${channel}': ${error}` })
  }
}

process.on('message', (message) => {
  if (message.type === 'invoke') answer(message)
  else if (message.type === 'close') windows.get(message.window)?.close()
  else if (message.type === 'quit') app.quit()
})
process.on('disconnect', () => process.exit(1))
