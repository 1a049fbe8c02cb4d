import { describe, expect, it, onTestFinished } from 'vitest'
import { type Bridged, connectApi, exposeApi, type FacadeFunctions } from '../../src/bridge.ts'
import { copyAcross } from '../support/context-bridge.ts'
import { runOnPage } from '../support/document-page.ts'
import { newApi } from '../support/facade.ts'
import { openWindow, PortHub } from '../support/message-ports.ts'
import { Queue } from '../support/queue.ts'
import { codeOf, missingSeed, readIn, readSeed } from '../support/seed-documents.ts'
import { certificate } from '../support/servers.ts'

/*
 * The document that specifies the facade has it in a page of a desktop app. Its code is run as it is written, on the page's
 * side of a bridge; the app is on the other side of a MessagePort, and sets the certificate.
 */

type WebSocketFunctions = Bridged<FacadeFunctions>

function startApp() {
  const api = newApi()
  const hub = new PortHub()
  const startServer: typeof api.startServer = (given) => api.startServer({ ...given, tls: certificate })
  onTestFinished(exposeApi({ ...api, startServer }, hub))
  return {
    open(): WebSocketFunctions {
      return copyAcross(connectApi(openWindow(hub).page)) as WebSocketFunctions
    },
  }
}

const document = readSeed('000')

describe('the document of the facade, over a bridge', () => {
  if (document === undefined) {
    it('skipped: it is not beside the repository', ({ skip }) => skip(missingSeed('000')))
    return
  }
  const [pageCode = '', ...appCode] = codeOf(document, 'javascript')
  const startCode = appCode.find((code) => code.includes('const result'))!
  const calls = appCode.filter((code) => code !== startCode)
  const [greeting, arrival, farewell] = [...pageCode.matchAll(/console\.log\('(.*?)'/g)].map((match) => match[1])

  it('its app starts the server, and hears and answers its page', async ({ skip }) => {
    const webSocket = startApp().open()
    const heard = new Queue<{ id: string; content: unknown }>()
    webSocket.onMessage(heard.push as never)
    const logged: unknown[][] = []
    const result = await runOnPage(startCode, webSocket, (...values) => logged.push(values), 'result')
    const { success, port } = result as Awaited<ReturnType<WebSocketFunctions['startServer']>>
    if (!success) skip('all ports of the document are taken')
    expect(logged).toEqual([[port]])

    const ofPage = new Queue<unknown[]>()
    const code = pageCode.replaceAll(readIn(startCode, /possiblePorts: \[(\d+)/), String(port))
    await runOnPage(code, webSocket, (...values) => ofPage.push(values))
    const { id, content } = await heard.next()
    expect(content).toBe(readIn(pageCode, /send\('(.*)'\)/))
    expect(await ofPage.next()).toEqual([greeting])
    expect(await webSocket.getServer()).toStrictEqual({ isRunning: true, clientIds: [id], port })
    expect(await webSocket.send({ clientId: id, message: 'to you' })).toMatchObject({ success: true })
    expect(await webSocket.broadcast({ message: 'to all' })).toMatchObject({ success: true })
    expect(await ofPage.take(2)).toEqual([
      [arrival, 'to you'],
      [arrival, 'to all'],
    ])
    expect(await webSocket.stopServer()).toMatchObject({ success: true })
    expect(await ofPage.next()).toEqual([farewell])
  })

  it.each(calls)('its call gives what it does without a bridge: %s', async (code) => {
    const webSocket = startApp().open()
    const name = readIn(code, /window\.deskifier\.webSocket\.(\w+)\(/)
    const result = await runOnPage('', webSocket, undefined, code.trim())
    if (name.startsWith('on')) expect(result).toEqual(expect.any(Function))
    else if (name === 'getServer') expect(result).toStrictEqual({ isRunning: false, clientIds: [], port: null })
    else expect(result).toMatchObject({ success: false, message: expect.stringMatching(/\.$/) })
  })

  it('has eight calls, each of a function that is there', () => {
    const names = calls.map((code) => readIn(code, /window\.deskifier\.webSocket\.(\w+)\(/))
    expect(new Set(names).size).toBe(8)
    expect(Object.keys(startApp().open())).toEqual(expect.arrayContaining(names))
  })
})
