import { once } from 'node:events'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { freePort } from '../../support/ports.ts'
import { Queue } from '../../support/queue.ts'
import { acceptOf, frame, type RawClient, type RawHead } from '../../support/raw-client.ts'
import { acceptance, nextTurn, portOf, startHttpServer, startRawServer } from '../../support/servers.ts'
import type { Implementation } from './implementation.ts'
import { failureOf, record, recordToEnd } from './record.ts'
import { inside, type Loose, makeClient, openClient, startServer } from './sockets.ts'

const EARLY = 'WebSocket was closed before the connection was established'
const BAD_EXTENSIONS = 'Invalid Sec-WebSocket-Extensions header'
const FOREIGN_EXTENSION = 'Server indicated an extension that was not requested'
const SWITCHING = 'HTTP/1.1 101 Switching Protocols'

/** A 101 with these lines; the accept value is put where `ACCEPT` stands. */
function answer({ headers }: RawHead, ...lines: string[]): string {
  const accept = acceptOf(headers.get('sec-websocket-key')!)
  return [SWITCHING, ...lines, '\r\n'].join('\r\n').replace('ACCEPT', accept)
}

const RIGHT = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Accept: ACCEPT']

/** What clients make of answers, and of being closed meanwhile. */
export function clientHandshakeSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

  /** How a client fails with an answer. */
  async function failureWith(
    reply: (peer: RawClient, head: RawHead) => unknown,
    protocols?: unknown,
    options?: Loose,
  ): Promise<string> {
    const { url } = await startRawServer(reply)
    return failureOf(makeClient(implementation, url, ...([protocols, options] as [undefined, Loose])))
  }

  describe('an answer that is not right', () => {
    const EXTENSION = 'Sec-WebSocket-Extensions: '
    const PROTOCOL = 'Sec-WebSocket-Protocol: '

    it.each<[string, string[], string, protocols?: unknown, options?: Loose]>([
      ['another upgrade', ['Upgrade: foo', ...RIGHT.slice(1)], 'Invalid Upgrade header'],
      ['a list of upgrades', ['Upgrade: websocket, foo', ...RIGHT.slice(1)], 'Invalid Upgrade header'],
      ['no accept value', RIGHT.slice(0, 2), 'Invalid Sec-WebSocket-Accept header'],
      [
        'a wrong accept value',
        [...RIGHT.slice(0, 2), 'Sec-WebSocket-Accept: CxYS6+NgJSBG74mdgLvGscRvpns='],
        'Invalid Sec-WebSocket-Accept header',
      ],
      [
        'a protocol that nobody asked for',
        [...RIGHT, `${PROTOCOL}foo`],
        'Server sent a subprotocol but none was requested',
      ],
      ['another protocol', [...RIGHT, `${PROTOCOL}foo`], 'Server sent an invalid subprotocol', ['bar', 'baz']],
      ['two protocols', [...RIGHT, `${PROTOCOL}bar, baz`], 'Server sent an invalid subprotocol', ['bar', 'baz']],
      ['an empty protocol', [...RIGHT, PROTOCOL], 'Server sent an invalid subprotocol', ['bar']],
      ['no protocol', RIGHT, 'Server sent no subprotocol', ['bar']],
      [
        'an extension when there is no deflate',
        [...RIGHT, `${EXTENSION}permessage-deflate`],
        'Server sent a Sec-WebSocket-Extensions header but no extension was requested',
        undefined,
        { perMessageDeflate: false },
      ],
      ['an extension that cannot be read', [...RIGHT, `${EXTENSION}permessage-deflate;`], BAD_EXTENSIONS],
      ['an empty extension', [...RIGHT, EXTENSION], BAD_EXTENSIONS],
      ['another extension', [...RIGHT, `${EXTENSION}foo`], FOREIGN_EXTENSION],
      ['one extension more', [...RIGHT, `${EXTENSION}permessage-deflate, foo`], FOREIGN_EXTENSION],
      ['an unknown parameter', [...RIGHT, `${EXTENSION}permessage-deflate; foo`], BAD_EXTENSIONS],
      ['a window without bits', [...RIGHT, `${EXTENSION}permessage-deflate; client_max_window_bits`], BAD_EXTENSIONS],
      ['a window of 7 bits', [...RIGHT, `${EXTENSION}permessage-deflate; server_max_window_bits=7`], BAD_EXTENSIONS],
      [
        'a parameter that the options exclude',
        [...RIGHT, `${EXTENSION}permessage-deflate; client_no_context_takeover`],
        BAD_EXTENSIONS,
        undefined,
        { perMessageDeflate: { clientNoContextTakeover: false } },
      ],
      [
        'a wider window than the options allow',
        [...RIGHT, `${EXTENSION}permessage-deflate; client_max_window_bits=15`],
        BAD_EXTENSIONS,
        undefined,
        { perMessageDeflate: { clientMaxWindowBits: 10 } },
      ],
    ])('with %s fails', async (_name, lines, message, protocols, options) => {
      const failure = await failureWith((peer, head) => peer.send(answer(head, ...lines)), protocols, options)
      expect(failure).toBe(`Error: ${message} / 1006 ""`)
    })

    it.each([
      ['200', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
      ['401', 'HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno'],
      ['404', 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'],
      ['302', 'HTTP/1.1 302 Found\r\nLocation: ws://localhost/\r\nContent-Length: 0\r\n\r\n'],
      ['500', 'HTTP/1.0 500 Mine\r\n\r\nthis is the body'],
      ['101', 'HTTP/1.1 101 Switching Protocols\r\nConnection: close\r\n\r\n'],
    ])('with status %s fails', async (status, bytes) => {
      const failure = await failureWith((peer) => peer.send(bytes))
      expect(failure).toBe(`Error: Unexpected server response: ${status} / 1006 ""`)
    })

    it.each([
      ['no HTTP', 'hello\r\n\r\n', /HPE_INVALID_CONSTANT/],
      ['frames', frame(1, 'hello'), /HPE_/],
      ['a broken header', `${SWITCHING}\r\nUpgrade : websocket\r\n\r\n`, /HPE_/],
    ])('with %s fails by the parser', async (_name, bytes, expected) => {
      expect(await failureWith((peer) => peer.send(bytes))).toMatch(expected)
    })

    it('that is never given fails as a hang-up', async () => {
      expect(await failureWith((peer) => peer.end())).toBe('Error ECONNRESET: socket hang up / 1006 ""')
      expect(await failureWith((peer) => peer.reset())).toMatch(/^Error ECONNRESET: /)
    })

    it('that is given in part fails as a hang-up', async () => {
      const failure = await failureWith((peer) => {
        peer.send(`${SWITCHING}\r\nUpgrade: web`)
        peer.end()
      })
      expect(failure).toMatch(/\/ 1006 ""$/)
    })

    it('destroys the connection', async () => {
      const ended = new Queue<void>()
      await failureWith((peer, head) => {
        peer.send(answer(head, 'Upgrade: foo', ...RIGHT.slice(1)))
        void peer.ended().then(ended.push)
      })
      await ended.next()
    })

    it('is reported with the state CLOSING, and the end with CLOSED', async () => {
      const { url } = await startRawServer((peer, head) => peer.send(answer(head, 'Upgrade: foo', ...RIGHT.slice(1))))
      expect(await recordToEnd(makeClient(implementation, url))).toEqual([
        'error 2 Error: Invalid Upgrade header',
        'close 3 1006 ""',
      ])
      const refused = makeClient(implementation, `ws://127.0.0.1:${await freePort()}`)
      const lines = await recordToEnd(refused)
      expect(lines).toHaveLength(2)
      expect(lines[0]).toMatch(/^error 2 Error ECONNREFUSED: /)
      expect(lines[1]).toBe('close 3 1006 ""')
    })
  })

  describe('an answer that is right', () => {
    it.each<[string, string[], protocols?: unknown]>([
      ['as it should be', RIGHT],
      ['with the upgrade in capitals', ['Upgrade: WebSocket', ...RIGHT.slice(1)]],
      ['with a protocol', [...RIGHT, 'Sec-WebSocket-Protocol: b'], ['a', 'b']],
      ['with an extension', [...RIGHT, 'Sec-WebSocket-Extensions: permessage-deflate']],
      ['with other headers', [...RIGHT, 'Set-Cookie: a=b', 'X-Foo: bar']],
    ])('%s opens', async (_name, lines, protocols) => {
      const { url } = await startRawServer((peer, head) => peer.send(answer(head, ...lines)))
      const ws = await openClient(implementation, url, ...([protocols] as [undefined]))
      expect(ws.readyState).toBe(WebSocket.OPEN)
      expect(ws.protocol).toBe(protocols === undefined ? '' : 'b')
      expect(ws.extensions).toBe(lines.at(-1)?.includes('deflate') ? 'permessage-deflate' : '')
    })

    it('emits upgrade with the response before open', async () => {
      const { url } = await startRawServer((peer, head) => peer.send(acceptance(head, 'X-Foo: bar')))
      const ws = makeClient(implementation, url)
      const events: unknown[] = []
      ws.on('upgrade', (response) => events.push(['upgrade', ws.readyState, response.headers['x-foo']]))
      ws.on('open', () => events.push(['open', ws.readyState]))
      await once(ws, 'open')
      expect(events).toEqual([
        ['upgrade', 0, 'bar'],
        ['open', 1],
      ])
    })

    it('emits upgrade even when the answer is not accepted', async () => {
      const { url } = await startRawServer((peer, head) => peer.send(answer(head, 'Upgrade: foo', ...RIGHT.slice(1))))
      const ws = makeClient(implementation, url)
      let count = 0
      ws.on('upgrade', () => count++)
      await failureOf(ws)
      expect(count).toBe(1)
    })

    it('may bring frames along, which come behind open', async () => {
      const unmasked = (opcode: number, payload: string): Buffer => frame(opcode, payload, { masked: false })
      const { url } = await startRawServer((peer, head) =>
        peer.send(acceptance(head), unmasked(1, 'one'), unmasked(9, 'two'), unmasked(8, '\x03\x69')),
      )
      const ws = makeClient(implementation, url)
      expect(await recordToEnd(ws)).toEqual([
        'open 1',
        'text "one"',
        'ping "two"',
        'error 2 RangeError WS_ERR_INVALID_CLOSE_CODE: Invalid WebSocket frame: invalid status code 873',
        'close 3 1006 ""',
      ])
    })

    it('may come in pieces', async () => {
      const { url } = await startRawServer(async (peer, head) => {
        for (const byte of acceptance(head)) {
          peer.send(byte)
          await nextTurn()
        }
      })
      const ws = await openClient(implementation, url)
      expect(ws.readyState).toBe(WebSocket.OPEN)
    })
  })

  describe('unexpected-response', () => {
    it('has the request and the response, and replaces the error', async () => {
      const { url } = await startRawServer((peer) =>
        peer.send('HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\nX-Foo: bar\r\n\r\nfoo'),
      )
      const ws = makeClient(implementation, url)
      const lines = record(ws)
      const [request, response] = (await once(ws, 'unexpected-response')) as [ClientRequest, IncomingMessage]
      expect(request.constructor.name).toBe('ClientRequest')
      expect([response.statusCode, response.headers['x-foo']]).toEqual([401, 'bar'])
      let body = ''
      for await (const chunk of response.setEncoding('utf8')) body += chunk
      expect(body).toBe('foo')
      expect(lines).toEqual([])
      expect(ws.readyState).toBe(WebSocket.CONNECTING)
    })

    it('leaves the end to the program', async () => {
      const { url } = await startRawServer((peer) =>
        peer.send('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n'),
      )
      const ws = makeClient(implementation, url)
      const failure = failureOf(ws)
      ws.on('unexpected-response', (_request, response) => {
        response.resume()
        ws.close()
      })
      expect(await failure).toBe(`Error: ${EARLY} / 1006 ""`)
    })

    it('lets the program destroy the request with an error', async () => {
      const { url } = await startRawServer((peer) =>
        peer.send('HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\n'),
      )
      const ws = makeClient(implementation, url)
      const failure = failureOf(ws)
      ws.on('unexpected-response', (request, response) => {
        response.on('error', () => {})
        request.destroy(new Error('of a test'))
      })
      expect(await failure).toBe('Error: of a test / 1006 ""')
    })
  })

  describe('handshakeTimeout', () => {
    it('ends a handshake that nobody answers', async () => {
      const failure = await failureWith(() => {}, undefined, { handshakeTimeout: 50 })
      expect(failure).toBe('Error: Opening handshake has timed out / 1006 ""')
    })

    it('ends a connection that does not come about', async () => {
      const server = createTcpServer()
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const ws = makeClient(implementation, `wss://127.0.0.1:${portOf(server)}`, { handshakeTimeout: 50 })
      expect(await failureOf(ws)).toBe('Error: Opening handshake has timed out / 1006 ""')
      server.close()
    })

    it('does nothing to a connection that is open', async () => {
      const { wss, url } = await startServer(implementation)
      wss.on('connection', (ws) => setTimeout(() => ws.send('late'), 120))
      const ws = await openClient(implementation, url, { handshakeTimeout: 60 })
      expect(String((await once(ws, 'message'))[0])).toBe('late')
    })
  })

  describe.each(['close', 'terminate'] as const)('%s() while connecting', (method) => {
    it('fails on a later tick, with the state CLOSING at once', async () => {
      const { url } = await startServer(implementation)
      const ws = makeClient(implementation, url)
      const lines = recordToEnd(ws)
      ws[method]()
      expect(ws.readyState).toBe(WebSocket.CLOSING)
      expect(await lines).toEqual([`error 2 Error: ${EARLY}`, 'close 3 1006 ""'])
    })

    it('may be called again', async () => {
      const { url } = await startServer(implementation)
      const ws = makeClient(implementation, url)
      const lines = recordToEnd(ws)
      ws[method]()
      ws[method]()
      ws.close()
      ws.terminate()
      expect(await lines).toEqual([`error 2 Error: ${EARLY}`, 'close 3 1006 ""'])
      ws.close()
      ws.terminate()
      expect(ws.readyState).toBe(WebSocket.CLOSED)
    })

    it('fails when the request is on its way', async () => {
      const heads = new Queue<RawClient>()
      const { url } = await startRawServer((peer) => heads.push(peer))
      const ws = makeClient(implementation, url)
      const lines = recordToEnd(ws)
      const peer = await heads.next()
      ws[method]()
      expect(await lines).toEqual([`error 2 Error: ${EARLY}`, 'close 3 1006 ""'])
      await peer.ended()
    })

    it('fails in a listener of upgrade', async () => {
      const { url } = await startServer(implementation)
      const ws = makeClient(implementation, url)
      ws.on('upgrade', () => ws[method]())
      expect(await recordToEnd(ws)).toEqual([`error 2 Error: ${EARLY}`, 'close 3 1006 ""'])
    })

    it('fails in finishRequest', async () => {
      const { url } = await startServer(implementation)
      const ws = makeClient(implementation, url, {
        finishRequest(
          request: ClientRequest,
          socket: { close(): void; terminate(): void; on(...args: unknown[]): void },
        ) {
          request.on('error', () => {})
          request.end()
          process.nextTick(() => socket[method]())
        },
      })
      expect(await recordToEnd(ws)).toEqual([`error 2 Error: ${EARLY}`, 'close 3 1006 ""'])
    })

    it('has no arguments that matter', async () => {
      const { url } = await startServer(implementation)
      const ws = makeClient(implementation, url)
      const lines = recordToEnd(ws)
      ;(ws[method] as (...args: unknown[]) => void)('bad', 5)
      expect((await lines).at(-1)).toBe('close 3 1006 ""')
    })
  })

  describe('while connecting', () => {
    it.each(['send', 'ping', 'pong'] as const)('%s() throws', (method) => {
      const ws = makeClient(implementation, 'ws://localhost', { lookup() {} })
      const error = new Error('WebSocket is not open: readyState 0 (CONNECTING)')
      const callback = (): void => expect.unreachable()
      expect(() => ws[method]('x')).toThrow(error)
      expect(() => ws[method]({}, callback as never)).toThrow(error)
    })

    it('pause() and resume() do nothing', () => {
      const ws = makeClient(implementation, 'ws://localhost', { lookup() {} })
      ws.pause()
      expect(ws.isPaused).toBe(false)
      ws.resume()
      expect(ws.isPaused).toBe(false)
    })

    it('the properties are empty', () => {
      const ws = makeClient(implementation, 'ws://localhost', ['a'], { lookup() {} })
      expect([ws.readyState, ws.protocol, ws.extensions, ws.bufferedAmount, ws.isPaused]).toEqual([0, '', '', 0, false])
      expect(inside(ws)._socket).toBeNull()
    })
  })

  describe('behind a failed handshake', () => {
    it('send() calls back with an error, and counts', async () => {
      const { httpServer, port } = await startHttpServer()
      httpServer.on('upgrade', (_request, socket) => socket.end('HTTP/1.1 403 Forbidden\r\n\r\n'))
      const ws = makeClient(implementation, `ws://127.0.0.1:${port}`)
      await failureOf(ws)
      const error = await new Promise((resolve) => ws.send('hello', resolve))
      expect(error).toEqual(new Error('WebSocket is not open: readyState 3 (CLOSED)'))
      ws.send(Buffer.alloc(3))
      ws.ping('xy')
      expect(ws.bufferedAmount).toBe(10)
      ws.close()
      ws.terminate()
      ws.pause()
      ws.resume()
      expect(ws.isPaused).toBe(false)
    })
  })
}
