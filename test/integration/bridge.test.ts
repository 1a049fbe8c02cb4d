import { once } from 'node:events'
import { type MessagePort, Worker } from 'node:worker_threads'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type Bridged, connectApi, exposeApi, type FacadeFunctions } from '../../src/bridge.ts'
import type { Api, ClientEvent, MessageEvent } from '../../src/index.ts'
import { newApi, onlyClient, openPage, TOKEN } from '../support/facade.ts'
import { openWindow, PortHub, type TestWindow } from '../support/message-ports.ts'
import { freePort, holdPort } from '../support/ports.ts'
import { defer, Queue } from '../support/queue.ts'
import { nextTurn, until } from '../support/servers.ts'

/*
 * The facade in one place, a page that uses it in another; MessagePorts between them, as Electron's IPC would be.
 */

const START = { possiblePorts: [0], token: TOKEN, closeTimeoutMs: 500 }

interface App {
  readonly api: Api
  readonly hub: PortHub
  /** Ends the bridge on the main side. */
  readonly end: () => void
}

function startApp(): App {
  const api = newApi()
  const hub = new PortHub()
  const end = exposeApi(api, hub)
  onTestFinished(end)
  return { api, hub, end }
}

interface Window {
  readonly window: TestWindow
  readonly webSocket: Bridged<FacadeFunctions>
  /** What its listeners and its connection could not tell anybody. */
  readonly errors: Queue<Error>
}

function connectWindow({ hub }: App): Window {
  const window = openWindow(hub)
  const errors = new Queue<Error>()
  return { window, webSocket: connectApi(window.page, { error: errors.push }), errors }
}

/** How many listen to the api for a message. */
function listeners({ api }: App): number[] {
  return (['clientConnected', 'clientDisconnected', 'message'] as const).map((name) => api.events.listenerCount(name))
}

const NOT_RUNNING = { success: false, message: 'The server is not running; call startServer first.' }

describe('a page with the facade behind a bridge', () => {
  it('has the functions of the facade, and nothing else', () => {
    const { webSocket } = connectWindow(startApp())
    expect(Reflect.ownKeys(webSocket).sort()).toEqual([
      ...['broadcast', 'getRooms', 'getServer', 'joinRoom', 'leaveRoom', 'onClientConnected', 'onClientDisconnected'],
      ...['onMessage', 'send', 'startServer', 'stopServer'],
    ])
    expect(Object.getPrototypeOf(webSocket)).toBe(Object.prototype)
    for (const value of Object.values(webSocket)) expect(value).toBeTypeOf('function')
  })

  it('starts, hears, sends and stops: results and events are those of the api', async () => {
    const app = startApp()
    const { webSocket, errors } = connectWindow(app)
    const connected = new Queue<ClientEvent>()
    const messages = new Queue<MessageEvent>()
    const disconnected = new Queue<ClientEvent>()
    webSocket.onClientConnected(connected.push)
    webSocket.onMessage(messages.push)
    webSocket.onClientDisconnected(disconnected.push)

    expect(await webSocket.getServer()).toStrictEqual({ isRunning: false, clientIds: [], port: null })
    const started = await webSocket.startServer(START)
    expect(started).toStrictEqual({ success: true, port: expect.any(Number) })
    const { port } = started
    expect(await app.api.getServer()).toMatchObject({ isRunning: true, port })

    const browser = await openPage(port!)
    const { id } = await connected.next()
    expect(await webSocket.getServer()).toStrictEqual({ isRunning: true, clientIds: [id], port })
    browser.socket.send('Hello from the browser!')
    browser.socket.send(Uint8Array.of(1, 2, 3))
    expect(await messages.take(2)).toStrictEqual([
      { id, content: 'Hello from the browser!' },
      { id, content: Uint8Array.of(1, 2, 3) },
    ])
    expect(await webSocket.broadcast({ message: 'to all' })).toStrictEqual({
      success: true,
      message: 'Sent to 1 client.',
      sent: 1,
      dropped: 0,
    })
    expect(await webSocket.send({ clientId: id, message: 'to one', confirm: true })).toStrictEqual({
      success: true,
      message: 'The client has received the message.',
    })
    expect(await webSocket.send({ clientId: id, message: Uint8Array.of(4, 5) })).toMatchObject({ success: true })
    expect(await browser.messages.take(3)).toEqual(['to all', 'to one', Buffer.of(4, 5)])

    expect(await webSocket.stopServer()).toStrictEqual({ success: true, message: 'The server has stopped.' })
    expect(await disconnected.next()).toStrictEqual({ id })
    expect(await webSocket.getServer()).toStrictEqual({ isRunning: false, clientIds: [], port: null })
    expect(errors.all).toEqual([])
  })

  it('puts clients into rooms', async () => {
    const { webSocket } = connectWindow(startApp())
    const { port } = await webSocket.startServer(START)
    const [first, second] = [await openPage(port!), await openPage(port!)]
    const { clientIds } = await webSocket.getServer()
    const [clientId = ''] = clientIds
    expect(await webSocket.joinRoom({ clientId, room: 'garden' })).toMatchObject({ success: true })
    expect(await webSocket.getRooms()).toMatchObject({
      success: true,
      rooms: [{ room: 'garden', clientIds: [clientId] }],
    })
    expect(await webSocket.broadcast({ message: 'to the room', room: 'garden' })).toMatchObject({ sent: 1 })
    expect(await first.messages.next()).toBe('to the room')
    expect(await webSocket.leaveRoom({ clientId, room: 'garden' })).toMatchObject({ success: true })
    expect(await webSocket.getRooms()).toMatchObject({ rooms: [] })
    expect(second.messages.all).toEqual([])
  })

  it('is told by the api what is wrong with its arguments', async () => {
    const { webSocket } = connectWindow(startApp())
    expect(await webSocket.startServer({ possiblePorts: [], token: 'a' })).toMatchObject({ success: false, port: null })
    expect(await webSocket.startServer(undefined as never)).toStrictEqual({
      success: false,
      port: null,
      message: 'Call startServer({ possiblePorts, token }).',
    })
    const taken = await freePort()
    await holdPort(taken)
    const failed = await webSocket.startServer({ ...START, possiblePorts: [taken] })
    expect(failed).toMatchObject({ success: false, message: expect.stringContaining(String(taken)) })
    expect(await webSocket.send({ clientId: 'nobody', message: 'hello' })).toStrictEqual(NOT_RUNNING)
    expect(await webSocket.broadcast({ message: 'hello' })).toStrictEqual({ ...NOT_RUNNING, sent: 0, dropped: 0 })
    expect(await webSocket.stopServer()).toStrictEqual({ success: false, message: 'The server is not running.' })
  })

  it('gets a failure, and no exception, for what cannot be cloned', async () => {
    const { webSocket } = connectWindow(startApp())
    const failed = { success: false, message: expect.stringMatching(/clone/) }
    const respond = (): undefined => undefined
    expect(await webSocket.startServer({ ...START, respond })).toStrictEqual({ ...failed, port: null })
    expect(await webSocket.send({ clientId: 'a', message: respond as never })).toStrictEqual(failed)
    expect(await webSocket.broadcast({ message: Symbol('a') as never })).toStrictEqual({
      ...failed,
      sent: 0,
      dropped: 0,
    })
  })

  it('gets a failure when the main side is not there', async () => {
    const app = startApp()
    app.end()
    const { webSocket } = connectWindow(app)
    const failed = { success: false, message: 'nobody answers on fullduplex' }
    expect(await webSocket.startServer(START)).toStrictEqual({ ...failed, port: null })
    expect(await webSocket.stopServer()).toStrictEqual(failed)
    expect(await webSocket.broadcast({ message: '' })).toStrictEqual({ ...failed, sent: 0, dropped: 0 })
    expect(await webSocket.send({ clientId: '', message: '' })).toStrictEqual(failed)
    expect(await webSocket.joinRoom({ clientId: '', room: 'garden' })).toStrictEqual(failed)
    expect(await webSocket.leaveRoom({ clientId: '', room: 'garden' })).toStrictEqual(failed)
    expect(await webSocket.getRooms()).toStrictEqual({ ...failed, rooms: [] })
    await expect(webSocket.getServer()).rejects.toThrow('nobody answers on fullduplex')
  })
})

describe('a subscription of a page', () => {
  it('is in place for what is called behind it', async () => {
    const app = startApp()
    const { webSocket } = connectWindow(app)
    const connected = new Queue<ClientEvent>()
    const starting = webSocket.startServer(START)
    webSocket.onClientConnected(connected.push)
    await starting
    await webSocket.getServer()
    expect(listeners(app)).toEqual([1, 0, 0])
    webSocket.onMessage(() => {})
    const { port } = await webSocket.getServer()
    expect(listeners(app)).toEqual([1, 0, 1])
    await openPage(port!)
    expect(await connected.next()).toStrictEqual({ id: await onlyClient(app.api) })
  })

  it('ends by the function that it has returned; the api is left alone then', async () => {
    const app = startApp()
    const { webSocket } = connectWindow(app)
    const heard = new Queue<string>()
    const listener = ({ content }: MessageEvent): void => heard.push(String(content))
    // The same twice is there twice, and leaves once for each.
    const [first, second] = [webSocket.onMessage(listener), webSocket.onMessage(listener)]
    const { port } = await webSocket.startServer(START)
    const browser = await openPage(port!)
    browser.socket.send('one')
    expect(await heard.take(2)).toEqual(['one', 'one'])
    expect(first()).toBeUndefined()
    first()
    browser.socket.send('two')
    expect(await heard.next()).toBe('two')
    expect(listeners(app)).toEqual([0, 0, 1])
    second()
    await until(() => app.api.events.listenerCount('message') === 0)
    browser.socket.send('three')
    await browser.leave()
    expect(heard.all).toEqual(['one', 'one', 'two'])
    const third = webSocket.onMessage(listener)
    await webSocket.getServer()
    expect(listeners(app)).toEqual([0, 0, 1])
    third()
    await webSocket.getServer()
    expect(listeners(app)).toEqual([0, 0, 0])
  })

  it('with a listener that fails harms nobody, and is reported in the page', async () => {
    const { webSocket, errors } = connectWindow(startApp())
    const heard = new Queue<unknown>()
    webSocket.onMessage(() => {
      throw new Error('thrown')
    })
    webSocket.onMessage(async () => {
      throw new Error('rejected')
    })
    webSocket.onMessage('no function' as never)
    webSocket.onMessage(({ content }) => heard.push(content))
    const { port } = await webSocket.startServer(START)
    const browser = await openPage(port!)
    browser.socket.send('one')
    browser.socket.send('two')
    expect(await heard.take(2)).toEqual(['one', 'two'])
    const messages = (await errors.take(5)).map(({ message }) => message)
    expect(messages).toEqual(['onMessage takes a function.', 'thrown', 'rejected', 'thrown', 'rejected'])
  })

  it('with a listener that returns a promise holds back the next message of that client, and of no other', async () => {
    const { webSocket } = connectWindow(startApp())
    const heard = new Queue<unknown>()
    const slow = defer()
    webSocket.onMessage(({ content }) => {
      heard.push(content)
      return content === 'slow' ? slow.promise : undefined
    })
    const { port } = await webSocket.startServer(START)
    const [first, second] = [await openPage(port!), await openPage(port!)]
    first.socket.send('slow')
    first.socket.send('next')
    expect(await heard.next()).toBe('slow')
    second.socket.send('other')
    expect(await heard.next()).toBe('other')
    second.socket.send('another')
    expect(await heard.next()).toBe('another')
    slow.resolve()
    expect(await heard.next()).toBe('next')
  })
})

describe('windows', () => {
  it('hear what they have subscribed to, each for itself; one that closes leaves nothing behind', async () => {
    const app = startApp()
    const [first, second] = [connectWindow(app), connectWindow(app)]
    const heard = new Queue<string>()
    first.webSocket.onMessage(({ content }) => heard.push(`first ${content}`))
    second.webSocket.onMessage(({ content }) => heard.push(`second ${content}`))
    second.webSocket.onClientConnected(() => heard.push('second connected'))
    await first.webSocket.getServer()
    await second.webSocket.getServer()
    // Once for all windows.
    expect(listeners(app)).toEqual([1, 0, 1])
    const { port } = await first.webSocket.startServer(START)
    expect(await second.webSocket.startServer(START)).toMatchObject({ success: false })
    const browser = await openPage(port!)
    expect(await heard.next()).toBe('second connected')
    browser.socket.send('one')
    expect((await heard.take(2)).sort()).toEqual(['first one', 'second one'])

    second.window.close()
    await until(() => app.api.events.listenerCount('clientConnected') === 0)
    expect(listeners(app)).toEqual([0, 0, 1])
    browser.socket.send('two')
    expect(await heard.next()).toBe('first two')
    await openPage(port!)
    expect(await first.webSocket.getServer()).toMatchObject({ isRunning: true, port })

    first.window.close()
    await until(() => app.api.events.listenerCount('message') === 0)
    for (const { window } of [first, second]) {
      // Of this transport: its own listener, and none of the bridge.
      expect(window.port.listenerCount('close')).toBe(0)
    }
    browser.socket.send('three')
    await browser.leave()
    expect(heard.all).toHaveLength(4)
  })

  it('that close while an event waits for them hold nothing back any more', async () => {
    const app = startApp()
    const { window, webSocket } = connectWindow(app)
    const heard = new Queue<unknown>()
    webSocket.onMessage(({ content }) => {
      heard.push(content)
      return new Promise(() => {})
    })
    const { port } = await webSocket.startServer(START)
    const browser = await openPage(port!)
    browser.socket.send('one')
    browser.socket.send('two')
    await heard.next()
    const inMain = new Promise((resolve) => app.api.onMessage(resolve))
    window.close()
    expect(await inMain).toMatchObject({ content: 'two' })
  })

  it('that load their page anew hear each event once, and the page before is not waited for', async () => {
    const app = startApp()
    const { window, webSocket } = connectWindow(app)
    const heard = new Queue<string>()
    webSocket.onMessage(({ content }) => {
      heard.push(`before ${content}`)
      return new Promise(() => {})
    })
    const { port } = await webSocket.startServer(START)
    const browser = await openPage(port!)
    browser.socket.send('one')
    browser.socket.send('two')
    expect(await heard.next()).toBe('before one')

    const reloaded = connectApi(window.load())
    await reloaded.getServer()
    expect(listeners(app)).toEqual([0, 0, 0])
    reloaded.onMessage(({ content }) => heard.push(`behind ${content}`))
    await reloaded.getServer()
    browser.socket.send('three')
    while (!heard.all.includes('behind three')) await heard.next()
    expect(heard.all.filter((text) => text.startsWith('before'))).toEqual(['before one'])
    expect(new Set(heard.all).size).toBe(heard.all.length)
    expect(window.port.listenerCount('close')).toBe(1)
  })

  it('have one connection: a second one takes the place of the first', async () => {
    const app = startApp()
    const { window, webSocket } = connectWindow(app)
    const heard = new Queue<string>()
    webSocket.onMessage(({ content }) => heard.push(`first ${content}`))
    await webSocket.getServer()
    const second = connectApi(window.page)
    second.onMessage(({ content }) => heard.push(`second ${content}`))
    const { port } = await second.startServer(START)
    const browser = await openPage(port!)
    browser.socket.send('one')
    browser.socket.send('two')
    expect(await heard.take(2)).toEqual(['second one', 'second two'])
    // What the first says when it ends is of no interest.
    await window.page.invoke('fullduplex', 'listen', 'the first', [])
    expect(listeners(app)).toEqual([0, 0, 1])
  })

  it('that do not answer are waited for once, and no longer', async () => {
    const api = newApi()
    const hub = new PortHub()
    onTestFinished(exposeApi(api, hub, { answerTimeoutMs: 20 }))
    const { webSocket } = connectWindow({ api, hub, end: () => {} })
    const heard = new Queue<unknown>()
    webSocket.onMessage(({ content }) => {
      heard.push(content)
      return new Promise(() => {})
    })
    const { port } = await webSocket.startServer(START)
    const browser = await openPage(port!)
    for (const text of ['one', 'two', 'three']) browser.socket.send(text)
    expect(await heard.take(3)).toEqual(['one', 'two', 'three'])
  })
})

describe('a bridge that ends', () => {
  it('on the main side: calls fail, and the api is left alone', async () => {
    const app = startApp()
    const { window, webSocket } = connectWindow(app)
    const heard = new Queue<unknown>()
    webSocket.onMessage(heard.push)
    const { port } = await webSocket.startServer(START)
    const browser = await openPage(port!)
    app.end()
    app.end()
    expect([listeners(app), app.hub.channels, window.port.listenerCount('close')]).toEqual([[0, 0, 0], [], 0])
    expect(await webSocket.stopServer()).toMatchObject({ success: false })
    browser.socket.send('hello')
    await browser.leave()
    expect(heard.all).toEqual([])
    // The server is the app's, not the bridge's.
    expect(await app.api.getServer()).toMatchObject({ isRunning: true })
    onTestFinished(exposeApi(app.api, app.hub))
    expect(await webSocket.getServer()).toMatchObject({ isRunning: true })
  })

  it('on the side of the page: its subscriptions are over, and its calls fail', async () => {
    const app = startApp()
    const window = openWindow(app.hub)
    const controller = new AbortController()
    const webSocket = connectApi(window.page, { signal: controller.signal })
    const heard = new Queue<unknown>()
    const unsubscribe = webSocket.onMessage(heard.push)
    await webSocket.startServer(START)
    expect([listeners(app), window.page.listenerCount]).toEqual([[0, 0, 1], 1])
    controller.abort()
    await until(() => app.api.events.listenerCount('message') === 0)
    expect(window.page.listenerCount).toBe(0)
    unsubscribe()
    webSocket.onMessage(heard.push)()
    const ended = { success: false, message: 'The connection to the app was ended.' }
    expect(await webSocket.stopServer()).toStrictEqual(ended)
    await expect(webSocket.getServer()).rejects.toThrow(ended.message)
    await nextTurn()
    expect([listeners(app), window.port.listenerCount('close')]).toEqual([[0, 0, 0], 0])
  })

  it('on the side of the page before it has begun', async () => {
    const app = startApp()
    const window = openWindow(app.hub)
    const webSocket = connectApi(window.page, { signal: AbortSignal.abort() })
    webSocket.onMessage(() => {})
    expect(await webSocket.stopServer()).toMatchObject({ success: false })
    expect([listeners(app), window.page.listenerCount]).toEqual([[0, 0, 0], 0])
  })
})

describe('a page in another thread', () => {
  it('talks to the facade in this one, and leaves nothing behind when it dies', async () => {
    const app = startApp()
    const file = new URL('../support/bridge-worker.ts', import.meta.url)
    const load = `import('tsx/esm/api').then(({ register }) => { register(); return import('${file}') })`
    const worker = new Worker(load, { eval: true })
    onTestFinished(async () => void (await worker.terminate()))
    const [port] = (await once(worker, 'message')) as [MessagePort]
    app.hub.add(port)
    const told = new Queue<unknown>()
    worker.on('message', told.push)
    worker.postMessage({ ...START })
    const started = (await told.next()) as { success: boolean; port: number }
    expect(started).toStrictEqual({ success: true, port: expect.any(Number) })
    const browser = await openPage(started.port)
    browser.socket.send('Hello from the browser!')
    expect(await browser.messages.next()).toBe('You said: Hello from the browser!')
    const id = await onlyClient(app.api)
    expect(await told.take(2)).toStrictEqual([{ id }, { success: true, message: 'The message was sent.' }])
    expect(listeners(app)).toEqual([1, 0, 1])
    await worker.terminate()
    await until(() => listeners(app).every((count) => count === 0))
    expect(await app.api.getServer()).toMatchObject({ isRunning: true, clientIds: [id] })
  })
})
