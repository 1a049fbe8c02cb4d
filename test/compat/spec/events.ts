import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import type { Implementation, Ws } from './implementation.ts'
import { closeOf } from './record.ts'
import { construct, makeClient, openPair, openToServer, startServer } from './sockets.ts'

/** An event of any type. */
interface AnyEvent {
  readonly type: string
  readonly target: unknown
  readonly data?: unknown
  readonly code?: number
  readonly reason?: string
  readonly wasClean?: boolean
  readonly error?: Error
  readonly message?: string
}
type Listener = ((event: AnyEvent) => unknown) | { handleEvent(event: AnyEvent): unknown }

interface Target {
  addEventListener(type: string, listener: Listener, options?: { once?: boolean }): void
  removeEventListener(type: string, listener: Listener): void
}
const targetOf = (ws: Ws): Target => ws as unknown as Target

/** addEventListener(), onX and their events. */
export function eventSpec(implementation: Implementation): void {
  const make = (): Ws => construct(implementation, null, undefined, {})

  describe('events', () => {
    it('of a connection have these properties', async () => {
      const { wss, url } = await startServer(implementation)
      wss.on('connection', (ws) => {
        ws.send('text')
        ws.send(Buffer.from('binary'))
        ws.close(1001, 'bye')
      })
      const ws = makeClient(implementation, url)
      const seen: unknown[] = []
      const note = (event: AnyEvent): void => {
        const { type, target } = event
        const { data, code, reason, wasClean } = event
        seen.push([type, target === ws, data, code, reason, wasClean])
      }
      for (const type of ['open', 'message', 'error', 'close']) targetOf(ws).addEventListener(type, note)
      await closeOf(ws)
      expect(seen).toEqual([
        ['open', true, undefined, undefined, undefined, undefined],
        ['message', true, 'text', undefined, undefined, undefined],
        ['message', true, Buffer.from('binary'), undefined, undefined, undefined],
        ['close', true, undefined, 1001, 'bye', true],
      ])
    })

    it('of an error have the error and its message', async () => {
      const ws = make()
      const events: AnyEvent[] = []
      targetOf(ws).addEventListener('error', (event) => events.push(event))
      const error = new Error('of a test')
      ws.emit('error', error)
      expect(events[0]?.error).toBe(error)
      expect([events[0]?.type, events[0]?.message, events[0]?.target === ws]).toEqual(['error', 'of a test', true])
    })

    it('of a cut connection are not clean', async () => {
      const { server, client } = await openPair(implementation)
      const closed = new Promise<AnyEvent>((resolve) => targetOf(client).addEventListener('close', resolve))
      server.terminate()
      const { code, reason, wasClean } = await closed
      expect([code, reason, wasClean]).toEqual([1006, '', false])
    })

    it('have their properties on prototypes, where programs can enumerate them', async () => {
      const ws = make()
      const events: AnyEvent[] = []
      for (const type of ['open', 'message', 'close', 'error'])
        targetOf(ws).addEventListener(type, (e) => events.push(e))
      ws.emit('open')
      ws.emit('message', Buffer.from('x'), false)
      ws.emit('close', 1000, Buffer.from('y'))
      ws.emit('error', new Error('z'))
      const names = events.map((event) => {
        const found: string[] = []
        for (const name in event) found.push(name)
        return found.sort()
      })
      expect(names).toEqual([
        ['target', 'type'],
        ['data', 'target', 'type'],
        ['code', 'reason', 'target', 'type', 'wasClean'],
        ['error', 'message', 'target', 'type'],
      ])
    })

    it.each(['nodebuffer', 'arraybuffer', 'fragments', 'blob'])(
      'have text as string with binaryType %s',
      async (type) => {
        const { server, client } = await openPair(implementation)
        Object.assign(client, { binaryType: type })
        const events: unknown[] = []
        const done = new Promise<void>((resolve) =>
          targetOf(client).addEventListener('message', ({ data }) => {
            events.push(data)
            if (events.length === 2) resolve()
          }),
        )
        server.send('text')
        server.send(Buffer.from('binary'))
        await done
        expect(events[0]).toBe('text')
        const expected = { nodebuffer: Buffer, arraybuffer: ArrayBuffer, fragments: Array, blob: Blob }[type]
        expect(events[1]).toBeInstanceOf(expected)
      },
    )

    it('reach listeners when programs emit them', () => {
      const ws = make()
      const seen: unknown[] = []
      ws.onmessage = ({ data }) => seen.push(data)
      targetOf(ws).addEventListener('message', ({ data }) => seen.push(data))
      ws.emit('message', Buffer.from('text'), false)
      ws.emit('message', Buffer.from('binary'), true)
      expect(seen).toEqual(['text', 'text', Buffer.from('binary'), Buffer.from('binary')])
    })
  })

  describe('addEventListener()', () => {
    it('ignores other types', () => {
      const ws = make()
      for (const type of ['ping', 'pong', 'upgrade', 'foo', 'unexpected-response', 'redirect']) {
        targetOf(ws).addEventListener(type, () => expect.unreachable())
        expect(ws.listenerCount(type)).toBe(0)
      }
    })

    it('adds the same listener once', () => {
      const ws = make()
      let count = 0
      const listener = (): number => count++
      targetOf(ws).addEventListener('open', listener)
      targetOf(ws).addEventListener('open', listener)
      targetOf(ws).addEventListener('open', listener, { once: true })
      expect(ws.listenerCount('open')).toBe(1)
      ws.emit('open')
      ws.emit('open')
      expect(count).toBe(2)
    })

    it('adds the same listener to each type', () => {
      const ws = make()
      const types: string[] = []
      const listener = ({ type }: AnyEvent): number => types.push(type)
      targetOf(ws).addEventListener('open', listener)
      targetOf(ws).addEventListener('message', listener)
      ws.emit('open')
      ws.emit('message', Buffer.alloc(0), false)
      expect(types).toEqual(['open', 'message'])
    })

    it('with once calls once', () => {
      const ws = make()
      let count = 0
      targetOf(ws).addEventListener('open', () => count++, { once: true })
      ws.emit('open')
      ws.emit('open')
      expect(count).toBe(1)
      expect(ws.listenerCount('open')).toBe(0)
    })

    it('takes objects with handleEvent', () => {
      const ws = make()
      const listener = {
        seen: [] as unknown[],
        handleEvent(event: AnyEvent) {
          this.seen.push(event.type)
        },
      }
      targetOf(ws).addEventListener('open', listener)
      ws.emit('open')
      targetOf(ws).removeEventListener('open', listener)
      ws.emit('open')
      expect(listener.seen).toEqual(['open'])
    })

    it('calls functions with the WebSocket as this', () => {
      const ws = make()
      let self: unknown
      targetOf(ws).addEventListener('open', function (this: unknown) {
        self = this
      })
      ws.emit('open')
      expect(self).toBe(ws)
    })

    it('keeps the order among all kinds of listeners', () => {
      const ws = make()
      const order: string[] = []
      ws.on('open', () => order.push('on'))
      targetOf(ws).addEventListener('open', () => order.push('added'))
      ws.onopen = () => order.push('handler')
      ws.on('open', () => order.push('on again'))
      ws.emit('open')
      expect(order).toEqual(['on', 'added', 'handler', 'on again'])
    })

    it('takes no options too', () => {
      const ws = make()
      targetOf(ws).addEventListener('open', () => {}, {})
      targetOf(ws).addEventListener('open', () => {}, undefined)
      expect(ws.listenerCount('open')).toBe(2)
    })
  })

  describe('removeEventListener()', () => {
    it('removes what was added', () => {
      const ws = make()
      const listener = (): never => expect.unreachable()
      targetOf(ws).addEventListener('open', listener)
      targetOf(ws).addEventListener('message', listener, { once: true })
      targetOf(ws).removeEventListener('open', listener)
      targetOf(ws).removeEventListener('message', listener)
      expect([ws.listenerCount('open'), ws.listenerCount('message')]).toEqual([0, 0])
      ws.emit('open')
    })

    it('leaves listeners of on() and onX alone', () => {
      const ws = make()
      let count = 0
      const listener = (): number => count++
      ws.on('open', listener)
      ws.onopen = listener
      targetOf(ws).removeEventListener('open', listener)
      ws.emit('open')
      expect(count).toBe(2)
      expect(ws.onopen).toBe(listener)
    })

    it('ignores what was never added, and other types', () => {
      const ws = make()
      targetOf(ws).removeEventListener('open', () => {})
      targetOf(ws).removeEventListener('foo', () => {})
      expect(ws.listenerCount('open')).toBe(0)
    })

    it('off() does not remove what addEventListener() added', () => {
      const ws = make()
      let count = 0
      const listener = (): number => count++
      targetOf(ws).addEventListener('open', listener)
      ws.off('open', listener)
      ws.emit('open')
      expect(count).toBe(1)
    })

    it('removeAllListeners() removes everything', () => {
      const ws = make()
      ws.onopen = () => expect.unreachable()
      targetOf(ws).addEventListener('open', () => expect.unreachable())
      ws.removeAllListeners('open')
      expect(ws.onopen).toBeNull()
      ws.emit('open')
    })
  })

  describe.each(['open', 'message', 'close', 'error'] as const)('on%s', (type) => {
    const name = `on${type}` as const
    const emit = (ws: Ws): boolean => {
      if (type === 'open') return ws.emit('open')
      if (type === 'message') return ws.emit('message', Buffer.from('x'), false)
      if (type === 'close') return ws.emit('close', 1000, Buffer.alloc(0))
      return ws.emit('error', new Error('of a test'))
    }
    const assign = (ws: Ws, value: unknown): void => void Object.assign(ws, { [name]: value })

    it('is null, then what was set', () => {
      const ws = make()
      expect(ws[name]).toBeNull()
      const handler = (): void => {}
      assign(ws, handler)
      expect(ws[name]).toBe(handler)
      expect(ws.listenerCount(type)).toBe(1)
    })

    it('is called with an event', () => {
      const ws = make()
      const events: AnyEvent[] = []
      assign(ws, (event: AnyEvent) => events.push(event))
      emit(ws)
      expect(events.map((event) => [event.type, event.target === ws])).toEqual([[type, true]])
    })

    it('replaces the one before', () => {
      const ws = make()
      let count = 0
      assign(ws, () => expect.unreachable())
      assign(ws, () => count++)
      emit(ws)
      expect(count).toBe(1)
      expect(ws.listenerCount(type)).toBe(1)
    })

    it.each([null, undefined, 0, 'foo', {}, { handleEvent() {} }])('is cleared by %o', (value) => {
      const ws = make()
      assign(ws, () => expect.unreachable())
      assign(ws, value)
      expect(ws[name]).toBeNull()
      expect(ws.listenerCount(type)).toBe(0)
    })

    it('is apart from the other listeners', () => {
      const ws = make()
      let count = 0
      const listener = (): number => count++
      assign(ws, listener)
      targetOf(ws).addEventListener(type, listener)
      ws.on(type, listener)
      emit(ws)
      expect(count).toBe(3)
      assign(ws, null)
      emit(ws)
      expect(count).toBe(5)
    })

    it('is not what on() or addEventListener() add', () => {
      const ws = make()
      ws.on(type, () => {})
      targetOf(ws).addEventListener(type, () => {})
      expect(ws[name]).toBeNull()
    })
  })

  describe('an exception', () => {
    it('in a handler is thrown where the event is emitted', () => {
      const ws = make()
      ws.onopen = () => {
        throw new Error('of a test')
      }
      expect(() => ws.emit('open')).toThrow('of a test')
    })
  })

  describe('error', () => {
    it('without a listener is thrown', () => {
      const ws = make()
      expect(() => ws.emit('error', new Error('of a test'))).toThrow('of a test')
    })

    it('with a handler is not', async () => {
      const { ws, peer } = await openToServer(implementation)
      const event = new Promise<AnyEvent>((resolve) => {
        ws.onerror = resolve as never
      })
      peer.send(Buffer.from([0x85, 0x80]))
      const { error, message, type } = await event
      expect([type, message, (error as NodeJS.ErrnoException).code]).toEqual([
        'error',
        'Invalid WebSocket frame: invalid opcode 5',
        'WS_ERR_INVALID_OPCODE',
      ])
      peer.end()
    })
  })

  describe('events.once and other tools of node', () => {
    it('work with both ends', async () => {
      const { server, client } = await openPair(implementation)
      const [message] = await Promise.all([once(client, 'message'), server.send('x')])
      expect(String(message[0])).toBe('x')
      const failure = once(client, 'close')
      client.emit('error', new Error('of a test'))
      await expect(failure).rejects.toThrow('of a test')
    })
  })
}
