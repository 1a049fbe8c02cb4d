import { describe, expect, it, onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import { type Api, createApi, type StartServerArguments } from '../../src/index.ts'
import { runOnPage } from '../support/document-page.ts'
import { TOKEN } from '../support/facade.ts'
import { Queue } from '../support/queue.ts'
import { codeOf, missingSeed, readSeed } from '../support/seed-documents.ts'
import { certificate } from '../support/servers.ts'

/*
 * The document that specifies the facade lies beside the repository. Its code is run as it is written there, and its
 * lists of arguments and results are held against ours.
 */

/** A method, a property or an event of the document. */
interface Section {
  /** The call, as code. */
  readonly code: string
  readonly name: string
  /** Names and types, in the document's words. */
  readonly takes: Readonly<Record<string, string>>
  readonly returns: Readonly<Record<string, string>>
}

/** The items of the list below a bold word. */
function fieldsBelow(word: string, section: string): Record<string, string> {
  const [, list = ''] = section.split(`**${word}**`)
  const [items = ''] = list.split(/^\*\*/m, 1)
  return Object.fromEntries([...items.matchAll(/^\* `(\w+)` <[^>]*>([^<]*)</gm)].map(([, name, type]) => [name, type]))
}

function parseSections(document: string): Section[] {
  return document.split(/^### /m).flatMap((section) => {
    const [code] = codeOf(section, 'javascript')
    const name = code?.match(/window\.deskifier\.webSocket\.(\w+)\(/)?.[1]
    if (code === undefined || name === undefined) return []
    return [{ code, name, takes: fieldsBelow('Arguments', section), returns: fieldsBelow('Returns', section) }]
  })
}

/** What the code of the document finds around it. */
interface Surroundings {
  readonly api: Api
  readonly log?: ((...values: unknown[]) => void) | undefined
  readonly tls?: StartServerArguments['tls']
}

/** Runs code of the document as the body of an async function; `returned` is an expression for its result. */
function run(code: string, { api, log, tls }: Surroundings, returned = 'undefined'): Promise<unknown> {
  // What an app would put there for its page: ours, with the certificate of the name that the page calls.
  const webSocket = { ...api, startServer: (options: StartServerArguments) => api.startServer({ ...options, tls }) }
  return runOnPage(code, webSocket, log, returned)
}

function newApi(): Api {
  const api = createApi()
  onTestFinished(async () => {
    await api.stopServer()
  })
  return api
}

/** Arguments and results for the types of the document. */
const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  Boolean: (value) => typeof value === 'boolean',
  String: (value) => typeof value === 'string',
  Number: (value) => typeof value === 'number',
  'Array Of Numbers': (value) => Array.isArray(value) && value.every((item) => typeof item === 'number'),
  'Array Of Strings': (value) => Array.isArray(value) && value.every((item) => typeof item === 'string'),
}

function expectFields(value: unknown, fields: Readonly<Record<string, string>>): void {
  for (const [name, type] of Object.entries(fields)) {
    const isRight = TYPES[type]?.((value as Record<string, unknown>)[name])
    expect(isRight, `${name} is not a ${type} in ${JSON.stringify(value)}`).toBe(true)
  }
}

const document = readSeed('000')

describe('the document of the facade', () => {
  if (document === undefined) {
    it('skipped: it is not beside the repository', ({ skip }) => skip(missingSeed('000')))
    return
  }
  const sections = parseSections(document)
  const [pageCode = '', ...appCode] = codeOf(document, 'javascript')
  const [greeting, arrival, farewell] = [...pageCode.matchAll(/console\.log\('(.*?)'/g)].map((match) => match[1])
  const startCode = appCode.find((code) => code.includes('const result'))
  const [ports = '', token = ''] = [...(startCode ?? '').matchAll(/(?<=possiblePorts: \[|token: ")[^\]"]*/g)].flat()
  const possiblePorts = ports.split(',').map(Number)

  it('has eight names, and we have them all', () => {
    const names = sections.map((section) => section.name)
    expect(names).toHaveLength(8)
    expect(Object.keys(createApi())).toEqual(expect.arrayContaining([...names, 'events']))
  })

  it('its page and its app talk to each other, as they are written', async ({ skip }) => {
    const api = newApi()
    const received = new Queue<unknown>()
    api.onMessage(received.push)
    const ofApp = new Queue<unknown[]>()
    const app = { api, tls: certificate, log: (...values: unknown[]) => ofApp.push(values) }
    const result = await run(startCode!, app, 'result')
    const { success, port } = result as Awaited<ReturnType<Api['startServer']>>
    if (!success) skip('all ports of the document are taken')
    expect(possiblePorts).toContain(port)
    expect(ofApp.all).toEqual([[port]])

    const ofPage = new Queue<unknown[]>()
    // The document says that this is to be replaced.
    const code = pageCode.replaceAll(String(possiblePorts[0]), String(port))
    const socket = await run(code, { api, log: (...values) => ofPage.push(values) }, 'socket')
    expect(socket).toBeInstanceOf(WebSocket)
    expect(await received.next()).toStrictEqual({
      id: (await api.getServer()).clientIds[0],
      content: pageCode.match(/send\('(.*)'\)/)?.[1],
    })
    expect(await ofPage.next()).toEqual([greeting])
    await api.broadcast({ message: 'hello' })
    expect(await ofPage.next()).toEqual([arrival, 'hello'])
    await api.stopServer()
    expect(await ofPage.next()).toEqual([farewell])
  })

  it('its page is not let in with another token', async () => {
    const api = newApi()
    const { port } = await api.startServer({ possiblePorts: [0], token: TOKEN, tls: certificate })
    const refused = new Promise((resolve) => api.events.once('refused', resolve))
    const ofPage = new Queue<unknown[]>()
    const code = `${pageCode.replaceAll(String(possiblePorts[0]), String(port))}\nsocket.onerror = () => {}`
    await run(code, { api, log: (...values) => ofPage.push(values) })
    expect(await refused).toMatchObject({ status: 401, reason: 'ERR_TOKEN_WRONG' })
    expect(await ofPage.next()).toEqual([farewell])
  })

  it.each(sections)('$name: its call as it is written neither throws nor rejects', async ({ code, name, returns }) => {
    const api = newApi()
    // What stands there for the arguments means the arguments of the function around it, which are not the right ones.
    const expression = code.trim()
    const result = await run('', { api }, expression)
    if (name.startsWith('on')) expect(result).toEqual(expect.any(Function))
    else if (name === 'getServer') expect(result).toMatchObject({ isRunning: false })
    else expect(result).toMatchObject({ success: false, message: expect.any(String) })
    expect(Object.keys(returns)).toHaveLength(name.startsWith('on') ? 0 : name === 'getServer' ? 3 : 2)
  })

  it('its arguments are ours, and so are its results and events', async () => {
    const api = newApi()
    const events = new Map<string, Queue<unknown>>()
    for (const { name } of sections.filter((section) => section.name.startsWith('on'))) {
      const queue = new Queue<unknown>()
      events.set(name, queue)
      api[name as 'onMessage'](queue.push)
    }
    /** Calls with exactly the arguments that the document names. */
    const call = async (name: string, values: Record<string, unknown>): Promise<Record<string, unknown>> => {
      const section = sections.find((one) => one.name === name)!
      expect(Object.keys(values)).toEqual(Object.keys(section.takes))
      expectFields(values, section.takes)
      const method = api[name as 'startServer'] as (values?: unknown) => Promise<unknown>
      const result = await method(...(Object.keys(values).length === 0 ? [] : [values]))
      expectFields(result, section.returns)
      return result as Record<string, unknown>
    }
    const { port } = await call('startServer', { possiblePorts: [0], token })
    const socket = new WebSocket(`ws://127.0.0.1:${port}?token=${token}`)
    onTestFinished(() => socket.terminate())
    const sent = new Queue<string>()
    socket.on('message', (data) => sent.push(String(data)))
    const connected = (await events.get('onClientConnected')!.next()) as { id: string }
    expect(await call('getServer', {})).toStrictEqual({ isRunning: true, clientIds: [connected.id], port })
    expect(await call('broadcast', { message: 'to all' })).toMatchObject({ success: true })
    expect(await call('send', { clientId: connected.id, message: 'to one' })).toMatchObject({ success: true })
    expect(await sent.take(2)).toEqual(['to all', 'to one'])
    socket.send('to the app')
    expect(await events.get('onMessage')!.next()).toStrictEqual({ id: connected.id, content: 'to the app' })
    expect(await call('stopServer', {})).toMatchObject({ success: true })
    expect(await events.get('onClientDisconnected')!.next()).toStrictEqual(connected)
    for (const { name, takes } of sections) {
      for (const event of events.get(name)?.all ?? []) {
        expect(Object.keys(event as object)).toEqual(Object.keys(takes))
        expectFields(event, takes)
      }
    }
    const details = await api.getServer()
    expect(details).toStrictEqual({ isRunning: false, clientIds: [], port: null })
  })
})
