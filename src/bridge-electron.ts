import type { MainPort, PagePort } from './bridge-protocol.ts'

/** What of a window's `webContents` is used. */
export interface ElectronWebContents {
  send(channel: string, ...values: unknown[]): void
  isDestroyed(): boolean
  on(event: 'destroyed' | 'render-process-gone', listener: () => void): unknown
  off(event: 'destroyed' | 'render-process-gone', listener: () => void): unknown
}

/** What of the event of `ipcMain.handle` is used. */
export interface ElectronCall {
  readonly sender: ElectronWebContents
  /** Null when its page has gone on to another address. */
  readonly senderFrame: { readonly parent: unknown } | null
}

/** What of `ipcMain` is used. */
export interface ElectronIpcMain<Call> {
  handle(channel: string, listener: (event: Call, ...values: unknown[]) => unknown): void
  removeHandler(channel: string): void
}

/** What of `ipcRenderer` is used. */
export interface ElectronIpcRenderer {
  invoke(channel: string, ...values: unknown[]): Promise<unknown>
  on(channel: string, listener: (event: unknown, ...values: unknown[]) => void): unknown
  off(channel: string, listener: (event: unknown, ...values: unknown[]) => void): unknown
}

/** The side of the main process. Frames inside a page are not served. */
export function electronMain<Call extends ElectronCall>(ipcMain: ElectronIpcMain<Call>): MainPort<Call> {
  return {
    handle(channel, answer) {
      ipcMain.handle(channel, async (call, ...values) => {
        if (call.senderFrame?.parent !== null) throw new Error('Only the page of a window may call, not a frame in it.')
        return answer(call, ...values)
      })
      return () => ipcMain.removeHandler(channel)
    },
    send({ sender }, channel, ...values) {
      if (!sender.isDestroyed()) sender.send(channel, ...values)
    },
    windowOf: ({ sender }) => sender,
    onGone({ sender }, gone) {
      sender.on('destroyed', gone)
      sender.on('render-process-gone', gone)
      return () => {
        sender.off('destroyed', gone)
        sender.off('render-process-gone', gone)
      }
    },
  }
}

/** The side of a preload script. */
export function electronPreload(ipcRenderer: ElectronIpcRenderer): PagePort {
  return {
    invoke: (channel, ...values) => ipcRenderer.invoke(channel, ...values),
    on(channel, listener) {
      const withoutEvent = (_event: unknown, ...values: unknown[]): void => listener(...values)
      ipcRenderer.on(channel, withoutEvent)
      return () => void ipcRenderer.off(channel, withoutEvent)
    },
  }
}
