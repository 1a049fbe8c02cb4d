// Runs in each window before its page, sandboxed; `npm run build` makes one file of it. The page finds window.deskifier.
import { contextBridge, ipcRenderer } from 'electron'
import { connectApi, electronPreload } from 'fullduplex/bridge'

contextBridge.exposeInMainWorld('deskifier', { webSocket: connectApi(electronPreload(ipcRenderer)) })
