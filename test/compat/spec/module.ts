import { EventEmitter, once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import { nextTurn } from '../../support/servers.ts'
import { type Implementation, theOriginal, type Ws } from './implementation.ts'
import { closeOf, nextMessage } from './record.ts'
import { construct, makeServer, openClient, openPair, startServer } from './sockets.ts'

const require = createRequire(import.meta.url)

const STATES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'] as const
const ACCESSORS = ['binaryType', 'bufferedAmount', 'extensions', 'isPaused', 'protocol', 'readyState', 'url']
const HANDLERS = ['onopen', 'onmessage', 'onclose', 'onerror']

/** The shape of the module and of its classes. */
export function moduleSpec(implementation: Implementation): void {
  const { WebSocket, WebSocketServer } = implementation

  describe('the module', () => {
    it('has itself and the server as properties of the class, as CommonJS programs use them', () => {
      // The original adds them when it is loaded by require.
      const statics = (implementation === theOriginal ? require('ws') : WebSocket) as Record<string, unknown>
      expect(statics).toBe(WebSocket)
      expect(statics['WebSocket']).toBe(WebSocket)
      expect(statics['Server']).toBe(WebSocketServer)
      expect(statics['WebSocketServer']).toBe(WebSocketServer)
      expect(statics['createWebSocketStream']).toBe(implementation.createWebSocketStream)
    })

    it('has classes with these names', () => {
      expect(WebSocket.name).toBe('WebSocket')
      expect(WebSocketServer.name).toBe('WebSocketServer')
    })

    it('has classes that are event emitters', () => {
      expect(WebSocket.prototype).toBeInstanceOf(EventEmitter)
      expect(WebSocketServer.prototype).toBeInstanceOf(EventEmitter)
    })

    it('has classes that must be constructed with new', () => {
      expect(() => (WebSocket as unknown as () => void)()).toThrow(TypeError)
      expect(() => (WebSocketServer as unknown as () => void)()).toThrow(TypeError)
    })
  })

  describe('the class WebSocket', () => {
    it.each([...STATES.entries()])('has %i as constant %s, on itself and on its prototype', (value, name) => {
      const expected = { value, enumerable: true, writable: false, configurable: false }
      expect(Object.getOwnPropertyDescriptor(WebSocket, name)).toEqual(expected)
      expect(Object.getOwnPropertyDescriptor(WebSocket.prototype, name)).toEqual(expected)
    })

    it.each(ACCESSORS)('has the accessor %s on its prototype', (name) => {
      const descriptor = Object.getOwnPropertyDescriptor(WebSocket.prototype, name)
      expect(descriptor).toMatchObject({ enumerable: true, configurable: true, get: expect.any(Function) })
      expect(descriptor?.set !== undefined).toBe(name === 'binaryType')
    })

    it.each(HANDLERS)('has the accessor %s with a setter', (name) => {
      expect(Object.getOwnPropertyDescriptor(WebSocket.prototype, name)).toMatchObject({
        enumerable: true,
        configurable: true,
        get: expect.any(Function),
        set: expect.any(Function),
      })
    })

    it.each([
      'addEventListener',
      'removeEventListener',
      'close',
      'pause',
      'ping',
      'pong',
      'resume',
      'send',
      'terminate',
    ])('has the method %s on its prototype', (name) => {
      expect(Object.getOwnPropertyDescriptor(WebSocket.prototype, name)?.value).toBeTypeOf('function')
    })

    it('throws when an accessor without a setter is assigned in strict mode', () => {
      const ws = construct(implementation, null, undefined, {})
      for (const name of ACCESSORS) {
        if (name === 'binaryType') continue
        expect(() => Object.assign(ws, { [name]: 1 })).toThrow(TypeError)
      }
    })

    it('can be extended, and its objects take properties', async () => {
      class Greeter extends WebSocket {
        greetings = 0
        greet(): void {
          this.greetings++
          this.send('hello')
        }
      }
      const { wss, url } = await startServer(implementation)
      const connected = once(wss, 'connection')
      const ws = (await openClient({ WebSocket: Greeter as typeof WebSocket }, url)) as Greeter
      const [server] = (await connected) as [Ws & { isAlive?: boolean }]
      server.isAlive = true
      const message = nextMessage(server)
      ws.greet()
      expect(await message).toBe('text "hello"')
      expect(ws).toBeInstanceOf(WebSocket)
      expect(ws).toBeInstanceOf(Greeter)
      expect([ws.greetings, server.isAlive]).toEqual([1, true])
    })

    it('calls methods that a subclass overrides', async () => {
      const emitted: string[] = []
      class Listening extends WebSocket {
        override emit(event: string | symbol, ...values: unknown[]): boolean {
          emitted.push(String(event))
          return super.emit(event, ...values)
        }
      }
      const { server, client } = await openPair(
        { ...implementation, WebSocket: Listening as typeof WebSocket },
        { server: { WebSocket } },
      )
      const closed = closeOf(client)
      server.send('hello')
      server.ping()
      server.close()
      await closed
      expect(emitted.filter((name) => name !== 'newListener')).toEqual(['upgrade', 'open', 'message', 'ping', 'close'])
    })
  })

  describe('the class WebSocketServer', () => {
    it('can be extended', async () => {
      const handled: (string | undefined)[] = []
      class Choosy extends WebSocketServer {
        override shouldHandle(request: IncomingMessage): boolean {
          handled.push(request.url)
          return request.url === '/yes'
        }
      }
      const { wss, url } = await startServer({ WebSocketServer: Choosy as typeof WebSocketServer })
      const ws = await openClient(implementation, `${url}/yes`)
      expect(ws.readyState).toBe(WebSocket.OPEN)
      await expect(openClient(implementation, `${url}/no`)).rejects.toThrow('Unexpected server response: 400')
      expect(handled).toEqual(['/yes', '/no'])
      expect(wss).toBeInstanceOf(WebSocketServer)
    })

    it('calls handleUpgrade of a subclass', async () => {
      let count = 0
      class Counting extends WebSocketServer {
        override handleUpgrade(...args: Parameters<InstanceType<typeof WebSocketServer>['handleUpgrade']>): void {
          count++
          super.handleUpgrade(...args)
        }
      }
      const { url } = await startServer({ WebSocketServer: Counting as typeof WebSocketServer })
      await openClient(implementation, url)
      expect(count).toBe(1)
    })

    it('makes connections of the class in the option WebSocket', async () => {
      const constructed: unknown[][] = []
      class Special extends WebSocket {
        constructor(...args: unknown[]) {
          super(...(args as [null]))
          constructed.push(args)
        }
      }
      const { wss, server } = await openPair(implementation, { server: { WebSocket: Special } })
      expect(server).toBeInstanceOf(Special)
      expect(constructed).toHaveLength(1)
      expect(constructed[0]?.[0]).toBeNull()
      expect(constructed[0]?.[1]).toBeUndefined()
      expect(constructed[0]?.[2]).toBe(wss.options)
    })

    it('lets a subclass see open, which happens before connection', async () => {
      const events: string[] = []
      class Early extends WebSocket {
        constructor(...args: unknown[]) {
          super(...(args as [null]))
          this.on('open', () => events.push(`open ${this.readyState}`))
        }
      }
      const { wss, url } = await startServer(implementation, { WebSocket: Early })
      wss.on('connection', () => events.push('connection'))
      await openClient(implementation, url)
      await nextTurn()
      expect(events).toEqual(['open 1', 'connection'])
    })
  })

  describe('an object without a connection', () => {
    it('is made with null as its address', () => {
      const ws = construct(implementation, null, undefined, {})
      expect(ws.readyState).toBe(WebSocket.CONNECTING)
      expect(ws.url).toBeUndefined()
      expect(ws.protocol).toBe('')
      expect(ws.extensions).toBe('')
      expect(ws.binaryType).toBe('nodebuffer')
      expect(ws.isPaused).toBe(false)
    })

    it('is what a server makes connections of, and takes events of users', () => {
      const wss = makeServer(implementation, { noServer: true })
      const ws = construct(implementation, null, undefined, {})
      const seen: unknown[] = []
      wss.on('connection', (...args) => seen.push(...args))
      const request = {}
      wss.emit('connection', ws, request, 'more')
      expect(seen).toEqual([ws, request, 'more'])
    })
  })
}
