import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { Queue } from '../../support/queue.ts'
import { RawClient, type RequestOptions, upgradeRequest } from '../../support/raw-client.ts'
import { nextTurn } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { type Loose, startServer } from './sockets.ts'

interface Refusal {
  readonly request: RequestOptions
  readonly options?: Loose
  readonly status: string
  readonly text: string
  readonly more?: string
}

const BAD = '400 Bad Request'

const header = (name: string, value: string | undefined): RequestOptions => ({ headers: { [name]: value } })

function bytesOf({ status, text, more = '' }: Pick<Refusal, 'status' | 'text' | 'more'>): string {
  const head = `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/html\r\n`
  return `${head}Content-Length: ${Buffer.byteLength(text)}\r\n${more}\r\n${text}`
}

async function askFor(port: number, request: RequestOptions): Promise<string> {
  const client = await RawClient.connect({ port })
  client.send(upgradeRequest(request))
  return (await client.readToEnd()).toString('latin1')
}

/** What the program decides about a request: path, verifyClient, handleProtocols. */
export function admissionSpec(implementation: Implementation): void {
  describe('path', () => {
    it.each<[string, string, boolean]>([
      ['/chat', '/chat', true],
      ['/chat', '/chat?room=1', true],
      ['/chat', '/chat/', false],
      ['/chat', '/other', false],
      ['/chat', '/', false],
      ['/', '/?a', true],
    ])('%s and a request for %s: %s', async (path, target, isAccepted) => {
      const { port } = await startServer(implementation, { path })
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest({ target }))
      if (isAccepted) expect((await client.readHead()).status).toBe(101)
      else expect((await client.readToEnd()).toString()).toBe(bytesOf({ status: BAD, text: 'Bad Request' }))
    })

    it('is judged by shouldHandle, which looks at nothing but the url', async () => {
      const { wss } = await startServer(implementation, { path: '/foo' })
      const judge = (url: string): unknown => wss.shouldHandle({ url } as IncomingMessage)
      expect(['/foo', '/foo?bar', '/foo#', '/', '/bar', '/foobar'].map(judge)).toEqual([
        ...[true, true, false, false, false, false],
      ])
      const anywhere = await startServer(implementation)
      expect(anywhere.wss.shouldHandle({ url: '/anything' } as IncomingMessage)).toBe(true)
    })

    it('does not tell wsClientError', async () => {
      const { wss, port } = await startServer(implementation, { path: '/foo' })
      wss.on('wsClientError', () => expect.unreachable())
      expect(await askFor(port, {})).toContain('400 Bad Request')
    })

    it('can be changed by a shouldHandle of one object', async () => {
      const { wss, port } = await startServer(implementation)
      wss.shouldHandle = () => false
      expect(await askFor(port, {})).toBe(bytesOf({ status: BAD, text: 'Bad Request' }))
    })
  })

  describe('verifyClient', () => {
    interface Info {
      origin: string | undefined
      secure: boolean
      req: IncomingMessage
    }
    type Verdict = (result: unknown, code?: number, message?: string, headers?: Loose) => void

    it('with one parameter answers at once', async () => {
      const seen: Info[] = []
      const { port } = await startServer(implementation, {
        verifyClient: (info: Info) => {
          seen.push(info)
          return info.req.url === '/yes'
        },
      })
      expect(await askFor(port, { target: '/no', headers: { Origin: 'http://example.com' } })).toBe(
        bytesOf({ status: '401 Unauthorized', text: 'Unauthorized' }),
      )
      expect(Object.keys(seen[0]!)).toEqual(['origin', 'secure', 'req'])
      expect([seen[0]?.origin, seen[0]?.secure]).toEqual(['http://example.com', false])
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest({ target: '/yes' }))
      expect((await client.readHead()).status).toBe(101)
      expect(seen[1]?.origin).toBeUndefined()
    })

    it.each<[unknown, boolean]>([
      [0, false],
      ['', false],
      [undefined, false],
      [1, true],
      ['no', true],
      [Promise.resolve(false), true],
    ])('with one parameter that returns %s', async (value, isAccepted) => {
      const { port } = await startServer(implementation, { verifyClient: (_info: unknown) => value })
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest())
      expect((await client.readHead()).status).toBe(isAccepted ? 101 : 401)
    })

    it('without a parameter answers at once', async () => {
      const { port } = await startServer(implementation, { verifyClient: () => false })
      expect(await askFor(port, {})).toContain('401 Unauthorized')
    })

    it('has the origin of version 8 from its own header', async () => {
      const origins: unknown[] = []
      const { port } = await startServer(implementation, {
        verifyClient: ({ origin }: Info) => {
          origins.push(origin)
          return false
        },
      })
      const headers = { 'Sec-WebSocket-Version': '8', Origin: 'http://new', 'Sec-WebSocket-Origin': 'http://old' }
      await askFor(port, { headers })
      expect(origins).toEqual(['http://old'])
    })

    it.each<[string, Parameters<Verdict>, Pick<Refusal, 'status' | 'text' | 'more'>]>([
      ['false', [false], { status: '401 Unauthorized', text: 'Unauthorized' }],
      ['undefined', [undefined], { status: '401 Unauthorized', text: 'Unauthorized' }],
      ['a code', [false, 404], { status: '404 Not Found', text: 'Not Found' }],
      ['code 0', [false, 0], { status: '401 Unauthorized', text: 'Unauthorized' }],
      ['a message', [false, 404, 'nobody is here'], { status: '404 Not Found', text: 'nobody is here' }],
      ['a message that is not ASCII', [false, 403, 'n\u00f6'], { status: '403 Forbidden', text: 'n\u00c3\u00b6' }],
      ['an empty message', [false, 403, ''], { status: '403 Forbidden', text: 'Forbidden' }],
      [
        'headers',
        [false, 503, 'later', { 'Retry-After': 120, 'X-Foo': 'bar' }],
        { status: '503 Service Unavailable', text: 'later', more: 'Retry-After: 120\r\nX-Foo: bar\r\n' },
      ],
    ])('with two parameters refuses with %s', async (_name, verdict, expected) => {
      const { port } = await startServer(implementation, {
        verifyClient: (_info: Info, callback: Verdict) => void setImmediate(() => callback(...verdict)),
      })
      // Read as latin1, so two bytes for one letter are two letters.
      const bytes = bytesOf(expected).replace(
        /Content-Length: \d+/,
        `Content-Length: ${Buffer.from(expected.text, 'latin1').length}`,
      )
      expect(await askFor(port, {})).toBe(bytes)
    })

    it('can replace the headers of a refusal', async () => {
      const { port } = await startServer(implementation, {
        verifyClient: (_info: Info, callback: Verdict) => callback(false, 401, 'x', { 'Content-Type': 'text/plain' }),
      })
      expect(await askFor(port, {})).toBe(
        'HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx',
      )
    })

    it('with two parameters may accept at once or later', async () => {
      for (const when of [(then: () => void) => then(), (then: () => void) => void setImmediate(then)]) {
        const { port } = await startServer(implementation, {
          verifyClient: (_info: Info, callback: Verdict) => when(() => callback(true)),
        })
        const client = await RawClient.connect({ port })
        client.send(upgradeRequest())
        expect((await client.readHead()).status).toBe(101)
      }
    })

    it('is told by no wsClientError', async () => {
      const { wss, port } = await startServer(implementation, { verifyClient: () => false })
      wss.on('wsClientError', () => expect.unreachable())
      expect(await askFor(port, {})).toContain('401')
    })

    it('does not connect a peer that is gone meanwhile', async () => {
      let verdict: Verdict | undefined
      let socket: Socket | undefined
      const asked = new Queue<void>()
      const { wss, port } = await startServer(implementation, {
        verifyClient: (info: Info, callback: Verdict) => {
          verdict = callback
          socket = info.req.socket
          asked.push()
        },
      })
      wss.on('connection', () => expect.unreachable())
      wss.on('headers', () => expect.unreachable())
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest())
      await asked.next()
      client.reset()
      await new Promise((resolve) => socket?.once('close', resolve))
      verdict?.(true)
      await nextTurn()
      expect(wss.clients.size).toBe(0)
    })

    it('does not connect a peer that has ended its half, and destroys the socket', async () => {
      let verdict: Verdict | undefined
      let socket: Socket | undefined
      const asked = new Queue<void>()
      const { wss, port } = await startServer(implementation, {
        verifyClient: (info: Info, callback: Verdict) => {
          verdict = callback
          socket = info.req.socket
          asked.push()
        },
      })
      wss.on('connection', () => expect.unreachable())
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest())
      await asked.next()
      socket!.resume()
      client.end()
      await once(socket!, 'end')
      verdict?.(true)
      expect(socket?.destroyed).toBe(true)
      expect((await client.readToEnd()).toString()).toBe('')
    })

    it('is called as a method of the options', async () => {
      let self: unknown
      const { wss, port } = await startServer(implementation, {
        verifyClient(this: unknown) {
          self = this
          return false
        },
      })
      await askFor(port, {})
      expect(self).toBe(wss.options)
    })
  })

  describe('handleProtocols', () => {
    const ask = async (
      options: Loose,
      offered: string | undefined,
    ): Promise<{ line: string | undefined; ws: Ws | undefined }> => {
      const { wss, port } = await startServer(implementation, options)
      const connected = once(wss, 'connection')
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest(header('Sec-WebSocket-Protocol', offered)))
      const { headers } = await client.readHead()
      const [ws] = (await connected) as [Ws]
      return { line: headers.get('sec-websocket-protocol'), ws }
    }

    it('absent: the first is taken', async () => {
      const { line, ws } = await ask({}, 'foo, bar')
      expect([line, ws?.protocol]).toEqual(['foo', 'foo'])
    })

    it('gets the offered ones in a set, and the request', async () => {
      let seen: unknown[] = []
      const { line, ws } = await ask(
        {
          handleProtocols: (protocols: Set<string>, request: IncomingMessage) => {
            seen = [protocols, request.url]
            return 'bar'
          },
        },
        'foo, bar',
      )
      expect(seen).toEqual([new Set(['foo', 'bar']), '/'])
      expect([line, ws?.protocol]).toEqual(['bar', 'bar'])
    })

    it.each([false, '', undefined, null])('returns %s: none is taken', async (value) => {
      const { line, ws } = await ask({ handleProtocols: () => value }, 'foo')
      expect([line, ws?.protocol]).toEqual([undefined, ''])
    })

    it('may take one that was not offered', async () => {
      const { line, ws } = await ask({ handleProtocols: () => 'other' }, 'foo')
      expect([line, ws?.protocol]).toEqual(['other', 'other'])
    })

    it('is not called when none is offered', async () => {
      const { line, ws } = await ask({ handleProtocols: () => expect.unreachable() }, undefined)
      expect([line, ws?.protocol]).toEqual([undefined, ''])
    })
  })
}
