// The main process: it has the server. The windows get the functions of the facade, and nothing else.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { app, BrowserWindow, ipcMain } from 'electron'
import { createApi } from 'fullduplex'
import { electronMain, exposeApi } from 'fullduplex/bridge'

const page = new URL('index.html', import.meta.url)
const preload = fileURLToPath(new URL('build/preload.cjs', import.meta.url))
const website = readFileSync(new URL('website.html', import.meta.url))

// With a certificate the server speaks wss://; docs/CERTIFICATES.md says where one comes from.
const { TLS_CERT, TLS_KEY, TLS_NAME = 'localhost' } = process.env
const tls = TLS_CERT && TLS_KEY ? () => ({ cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) }) : undefined
const address = tls ? `https://${TLS_NAME}` : 'http://127.0.0.1'

// What a browser sees that opens the port: a website that talks to this app.
function respond({ path }) {
  return path === '/' ? { headers: { 'Content-Type': 'text/html; charset=utf-8' }, body: website } : undefined
}

const api = createApi()
const webSocket = {
  ...api,
  // The page chooses the ports and the token, and not, for instance, the network to listen on.
  startServer: ({ possiblePorts, token } = {}) => api.startServer({ possiblePorts, token, tls, respond }),
}
exposeApi(webSocket, electronMain(ipcMain), {
  // Our own page may call, whatever else a window has come to show.
  allow: ({ senderFrame }) => senderFrame.url.split('#')[0] === page.href,
})

function openWindow() {
  const window = new BrowserWindow({ width: 720, height: 640, webPreferences: { preload } })
  window.webContents.on('will-navigate', (event) => event.preventDefault())
  window.webContents.setWindowOpenHandler(() => ({ action: 'deny' }))
  window.loadFile(fileURLToPath(page), { hash: address })
}

app.on('window-all-closed', () => app.quit())

// The clients are told that the app goes, before it goes.
let hasStopped = false
app.on('before-quit', async (event) => {
  if (hasStopped) return
  event.preventDefault()
  await api.stopServer()
  hasStopped = true
  app.quit()
})

app.whenReady().then(openWindow)
