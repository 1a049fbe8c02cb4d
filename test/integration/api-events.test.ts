import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import type { Api, ClientEvent, MessageEvent, Refusal } from '../../src/index.ts'
import { collectWarnings, newApi, onlyClient, openPage, startApi, TOKEN } from '../support/facade.ts'
import { defer, Queue } from '../support/queue.ts'
import { frame, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import { nextTurn, until } from '../support/servers.ts'

const TARGET = `/?${new URLSearchParams({ token: TOKEN })}`

/** Everything that an instance tells, in order. */
function record(api: Api): Queue<string> {
  const events = new Queue<string>()
  api.onClientConnected(() => events.push('connected'))
  api.onMessage(({ content }) => events.push(`message ${content}`))
  api.onClientDisconnected(() => events.push('disconnected'))
  return events
}

describe('onClientConnected, onMessage, onClientDisconnected', () => {
  it('tell who came, what was said, and who left', async () => {
    const { api, port } = await startApi()
    const connected = new Queue<ClientEvent>()
    const messages = new Queue<MessageEvent>()
    const disconnected = new Queue<ClientEvent>()
    api.onClientConnected(connected.push)
    api.onMessage(messages.push)
    api.onClientDisconnected(disconnected.push)
    const page = await openPage(port)
    const id = await onlyClient(api)
    expect(await connected.next()).toStrictEqual({ id })
    page.socket.send('hello')
    expect(await messages.next()).toStrictEqual({ id, content: 'hello' })
    await page.leave()
    expect(await disconnected.next()).toStrictEqual({ id })
  })

  it.each<[string, (client: RawClient) => unknown]>([
    ['leaves politely', (client) => client.leave(1000)],
    ['ends TCP', (client) => client.end()],
    ['is reset', (client) => client.reset()],
    ['breaks the protocol', (client) => client.send(frame(3)) && client.readFrames().then(() => client.end())],
  ])('tell once of a client that %s', async (_, leave) => {
    const { api, port } = await startApi()
    const events = record(api)
    const client = await RawClient.open({ port, target: TARGET })
    await leave(client)
    expect(await events.take(2)).toEqual(['connected', 'disconnected'])
    await api.stopServer()
    expect(events.all).toHaveLength(2)
  })

  it('tell of a client that is in while the server stops', async () => {
    const { api, port } = await startApi()
    const events = record(api)
    await openPage(port)
    await api.stopServer()
    expect(await events.take(2)).toEqual(['connected', 'disconnected'])
  })

  it('give a text as string, and bytes as a Uint8Array with nothing behind it', async () => {
    const { api, port } = await startApi()
    const messages = new Queue<MessageEvent>()
    api.onMessage(messages.push)
    const page = await openPage(port)
    const large = new Uint8Array(100_000).fill(7)
    for (const content of ['', 'ä€😀', new Uint8Array(0), Uint8Array.of(1, 2, 3), large]) page.socket.send(content)
    const contents = (await messages.take(5)).map((message) => message.content)
    expect(contents.slice(0, 2)).toEqual(['', 'ä€😀'])
    expect(contents.slice(2)).toEqual([new Uint8Array(0), Uint8Array.of(1, 2, 3), large])
    for (const content of contents.slice(2) as Uint8Array[]) {
      expect(Object.getPrototypeOf(content)).toBe(Uint8Array.prototype)
      expect(content.buffer.byteLength).toBe(content.byteLength)
    }
  })

  it('give what a structured clone can take', async () => {
    const { api, port } = await startApi()
    const events = new Queue<unknown>()
    for (const name of ['clientConnected', 'clientDisconnected', 'message', 'refused', 'error'] as const) {
      api.events.on(name, events.push)
    }
    const page = await openPage(port)
    page.socket.send('text')
    page.socket.send(Uint8Array.of(1))
    await RawClient.ask({ port }, upgradeRequest())
    await page.leave()
    const client = await RawClient.open({ port, target: TARGET })
    client.send(frame(3))
    for (const event of await events.take(7)) {
      const clone: unknown = structuredClone(event)
      expect(clone).toEqual(event instanceof Error ? expect.objectContaining({ message: event.message }) : event)
    }
  })

  it('come in order: connected, its messages, disconnected', async () => {
    const { api, port } = await startApi()
    const events = record(api)
    const client = await RawClient.connect({ port })
    // All in one packet, the end included.
    client.send(upgradeRequest({ target: TARGET }), text('one'), text('two'), frame(8))
    client.end()
    expect(await events.take(4)).toEqual(['connected', 'message one', 'message two', 'disconnected'])
  })

  it('take any number of listeners', async () => {
    const { api, port } = await startApi()
    const warnings = collectWarnings()
    const heard: number[] = []
    const all = Array.from({ length: 30 }, (_, index) => index)
    for (const index of all) api.onMessage(() => heard.push(index))
    const page = await openPage(port)
    page.socket.send('hello')
    await until(() => heard.length === 30)
    expect(heard).toEqual(all)
    await nextTurn()
    expect(warnings).toEqual([])
  })

  it('return the function that ends the subscription', async () => {
    const { api, port } = await startApi()
    const heard = new Queue<string>()
    const endFirst = api.onMessage(() => heard.push('first'))
    const endSecond = api.onMessage(() => heard.push('second'))
    api.onMessage(({ content }) => heard.push(String(content)))
    const page = await openPage(port)
    page.socket.send('one')
    expect(await heard.take(3)).toEqual(['first', 'second', 'one'])
    expect(endFirst()).toBeUndefined()
    endFirst()
    page.socket.send('two')
    expect(await heard.take(2)).toEqual(['second', 'two'])
    endSecond()
    page.socket.send('three')
    expect(await heard.take(1)).toEqual(['three'])
  })

  it('keep the same listener twice, and let it go once for each', async () => {
    const { api, port } = await startApi()
    const heard = new Queue<string>()
    const listener = ({ content }: MessageEvent): void => heard.push(String(content))
    const end = api.onMessage(listener)
    api.onMessage(listener)
    const page = await openPage(port)
    page.socket.send('one')
    expect(await heard.take(2)).toEqual(['one', 'one'])
    end()
    end()
    page.socket.send('two')
    page.socket.send('three')
    expect(await heard.take(2)).toEqual(['two', 'three'])
  })

  it('may be ended from within', async () => {
    const { api, port } = await startApi()
    const heard = new Queue<string>()
    const end = api.onMessage(() => {
      heard.push('once')
      end()
    })
    api.onMessage(({ content }) => heard.push(String(content)))
    const page = await openPage(port)
    page.socket.send('one')
    page.socket.send('two')
    expect(await heard.take(3)).toEqual(['once', 'one', 'two'])
  })
})

describe('a listener that fails', () => {
  it.each<[string, () => unknown]>([
    [
      'throws',
      () => {
        throw new Error('of the listener')
      },
    ],
    [
      'rejects',
      async () => {
        throw new Error('of the listener')
      },
    ],
  ])('%s: harms nobody, and becomes a warning', async (_, fail) => {
    const { api, port } = await startApi()
    const warnings = collectWarnings()
    api.onClientConnected(fail)
    api.onMessage(fail)
    api.onClientDisconnected(fail)
    const events = record(api)
    const page = await openPage(port)
    page.socket.send('one')
    page.socket.send('two')
    expect(await events.take(3)).toEqual(['connected', 'message one', 'message two'])
    expect((await api.send({ clientId: await onlyClient(api), message: 'fine', confirm: true })).success).toBe(true)
    await page.leave()
    expect(await events.next()).toBe('disconnected')
    await until(() => warnings.length === 4)
    for (const warning of warnings) expect(warning.message).toBe('of the listener')
  })

  it.each([undefined, null, 'a string', 42, Object.create(null)])('throws %o, and harms nobody', async (thrown) => {
    const { api, port } = await startApi()
    const warnings = collectWarnings()
    api.onMessage(() => {
      throw thrown
    })
    const messages = new Queue<MessageEvent>()
    api.onMessage(messages.push)
    const page = await openPage(port)
    page.socket.send('one')
    page.socket.send('two')
    await messages.take(2)
    await until(() => warnings.length === 2)
  })

  it.each<[string, 'refused' | 'error']>([
    ['of refused', 'refused'],
    ['of error', 'error'],
  ])('%s: harms nobody', async (_, name) => {
    const { api, port } = await startApi()
    const warnings = collectWarnings()
    api.events.on(name, () => {
      throw new Error('of the listener')
    })
    expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(401)
    const client = await RawClient.open({ port, target: TARGET })
    client.send(frame(3))
    await until(() => warnings.length === 1)
    expect((await openPage(port)).socket.readyState).toBe(WebSocket.OPEN)
  })
})

describe('a listener that is async', () => {
  it('onMessage: holds back the next message of that client, and of no other', async () => {
    const { api, port } = await startApi()
    const events = new Queue<string>()
    const first = defer()
    api.onMessage(async ({ content }) => {
      events.push(`begin ${content}`)
      if (content === 'slow') await first.promise
      events.push(`end ${content}`)
    })
    const page = await openPage(port)
    page.socket.send('slow')
    page.socket.send('next')
    expect(await events.next()).toBe('begin slow')
    const other = await openPage(port)
    other.socket.send('other')
    expect(await events.take(2)).toEqual(['begin other', 'end other'])
    first.resolve()
    expect(await events.take(3)).toEqual(['end slow', 'begin next', 'end next'])
  })

  it('onMessage: the slowest of several counts', async () => {
    const { api, port } = await startApi()
    const events = new Queue<string>()
    const [quick, slow] = [defer(), defer()]
    api.onMessage(({ content }) => (content === 'one' ? quick.promise : undefined))
    api.onMessage(({ content }) => (content === 'one' ? slow.promise : undefined))
    api.onMessage(({ content }) => events.push(String(content)))
    const page = await openPage(port)
    page.socket.send('one')
    page.socket.send('two')
    expect(await events.next()).toBe('one')
    quick.resolve()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(events.all).toEqual(['one'])
    slow.reject(new Error('but it is over'))
    expect(await events.next()).toBe('two')
  })

  it('onMessage: disconnected waits for it', async () => {
    const { api, port } = await startApi()
    const events = new Queue<string>()
    const work = defer()
    api.onMessage(async () => {
      events.push('begin')
      await work.promise
      events.push('end')
    })
    api.onClientDisconnected(() => events.push('disconnected'))
    const page = await openPage(port)
    page.socket.send('hello')
    await events.next()
    await page.leave()
    await nextTurn()
    work.resolve()
    expect(await events.take(2)).toEqual(['end', 'disconnected'])
  })

  it('onClientConnected: holds back the first message of that client', async () => {
    const { api, port } = await startApi()
    const events = new Queue<string>()
    const greeting = defer()
    api.onClientConnected(async () => {
      events.push('begin')
      await greeting.promise
      events.push('end')
    })
    api.onMessage(({ content }) => events.push(String(content)))
    const page = await openPage(port)
    page.socket.send('hello')
    expect(await events.next()).toBe('begin')
    await new Promise((resolve) => setTimeout(resolve, 20))
    greeting.resolve()
    expect(await events.take(2)).toEqual(['end', 'hello'])
  })

  it('may answer its client, and wait for that', async () => {
    const { api, port } = await startApi()
    const results: unknown[] = []
    api.onMessage(async ({ id, content }) => {
      results.push(await api.send({ clientId: id, message: `re: ${content}`, confirm: true }))
    })
    const page = await openPage(port)
    page.socket.send('one')
    page.socket.send('two')
    expect(await page.messages.take(2)).toEqual(['re: one', 're: two'])
    await until(() => results.length === 2)
    expect(results).toMatchObject([{ success: true }, { success: true }])
  })
})

describe('events', () => {
  it('are the same that the functions tell', async () => {
    const { api, port } = await startApi()
    const heard = new Queue<unknown>()
    api.events.on('clientConnected', heard.push)
    api.events.on('message', heard.push)
    api.events.once('clientDisconnected', heard.push)
    const page = await openPage(port)
    const id = await onlyClient(api)
    page.socket.send('hello')
    await heard.take(2)
    await page.leave()
    await heard.next()
    expect(heard.all).toStrictEqual([{ id }, { id, content: 'hello' }, { id }])
    expect(api.events.listenerCount('clientDisconnected')).toBe(0)
  })

  it('can be awaited', async () => {
    const { api, port } = await startApi()
    const connected = once(api.events, 'clientConnected')
    await openPage(port)
    expect(await connected).toEqual([{ id: await onlyClient(api) }])
  })

  it('refused: tells who was not let in, beside the option', async () => {
    const refused = new Queue<Refusal>()
    const api = newApi()
    const events = new Queue<Refusal>()
    api.events.on('refused', events.push)
    const { port } = await startApi({ refused: refused.push }, api)
    const target = `/page?token=${encodeURIComponent('not the token')}`
    await RawClient.ask({ port }, upgradeRequest({ target, headers: { Origin: 'https://app.example' } }))
    const expected = {
      status: 401,
      reason: 'ERR_TOKEN_WRONG',
      message: expect.any(String),
      remoteAddress: '127.0.0.1',
      origin: 'https://app.example',
      path: '/page',
    }
    expect(await events.next()).toStrictEqual(expected)
    expect(await refused.next()).toStrictEqual(expected)
    expect(JSON.stringify(events.all)).not.toContain('not the token')
  })

  it('error: tells of a peer that breaks the protocol, beside the option', async () => {
    const errors = new Queue<Error>()
    const api = newApi()
    const events = new Queue<Error>()
    api.events.on('error', events.push)
    const { port } = await startApi({ error: errors.push }, api)
    const client = await RawClient.open({ port, target: TARGET })
    client.send(frame(3))
    expect(await events.next()).toMatchObject({ name: 'ProtocolError', code: 'ERR_OPCODE', closeCode: 1002 })
    expect(await errors.next()).toBe(events.all[0])
  })

  it('error: without a listener is no exception, and of a peer not even a warning', async () => {
    const { api, port } = await startApi()
    const warnings = collectWarnings()
    const events = record(api)
    const client = await RawClient.open({ port, target: TARGET })
    client.send(frame(3))
    await client.readFrames()
    client.end()
    expect(await events.take(2)).toEqual(['connected', 'disconnected'])
    await nextTurn()
    expect(warnings).toEqual([])
  })

  it('error: an exception in a handler of the user’s is told; without a listener it is a warning', async () => {
    const warnings = collectWarnings()
    const authorize = (): never => {
      throw new Error('of authorize')
    }
    const { api, port } = await startApi({ authorize })
    expect((await RawClient.ask({ port }, upgradeRequest({ target: TARGET }))).status).toBe(500)
    await until(() => warnings.length === 1)
    expect(warnings[0]!.message).toBe('of authorize')
    const events = new Queue<Error>()
    api.events.on('error', events.push)
    expect((await RawClient.ask({ port }, upgradeRequest({ target: TARGET }))).status).toBe(500)
    expect((await events.next()).message).toBe('of authorize')
    await nextTurn()
    expect(warnings).toHaveLength(1)
  })

  it.each(['refused', 'error'] as const)('the option %s may be async and fail', async (name) => {
    const warnings = collectWarnings()
    const { api, port } = await startApi({
      [name]: async () => {
        throw new Error('of the option')
      },
    })
    const events = new Queue<Error>()
    if (name === 'refused') api.events.on('error', events.push)
    expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(401)
    const client = await RawClient.open({ port, target: TARGET })
    client.send(frame(3))
    if (name === 'error') await until(() => warnings.some((warning) => warning.message === 'of the option'))
    else expect((await events.next()).message).toBe('of the option')
    expect((await openPage(port)).socket.readyState).toBe(WebSocket.OPEN)
  })
})
