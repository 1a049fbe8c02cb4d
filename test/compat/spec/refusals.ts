import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { Queue } from '../../support/queue.ts'
import { acceptOf, KEY, RawClient, type RequestOptions, upgradeRequest } from '../../support/raw-client.ts'
import type { Implementation, Ws } from './implementation.ts'
import { type Loose, startServer } from './sockets.ts'

interface Refusal {
  readonly request: RequestOptions
  readonly options?: Loose
  readonly status: string
  readonly text: string
  readonly more?: string
}

const BAD_KEY = 'Missing or invalid Sec-WebSocket-Key header'
const BAD_VERSION = 'Missing or invalid Sec-WebSocket-Version header'
const BAD_PROTOCOL = 'Invalid Sec-WebSocket-Protocol header'
const BAD_EXTENSIONS = 'Invalid or unacceptable Sec-WebSocket-Extensions header'
const VERSIONS = 'Sec-WebSocket-Version: 13, 8\r\n'
const BAD = '400 Bad Request'
const DEFLATE = { perMessageDeflate: true }

const header = (name: string, value: string | undefined): RequestOptions => ({ headers: { [name]: value } })
const offer = (value: string): RequestOptions => header('Sec-WebSocket-Extensions', value)

/** Refused in this order; a listener of wsClientError is told instead. */
const REFUSALS: [name: string, refusal: Refusal][] = [
  ['a POST', { request: { method: 'POST' }, status: '405 Method Not Allowed', text: 'Invalid HTTP method' }],
  ['a HEAD', { request: { method: 'HEAD' }, status: '405 Method Not Allowed', text: 'Invalid HTTP method' }],
  ['another upgrade', { request: header('Upgrade', 'foo'), status: BAD, text: 'Invalid Upgrade header' }],
  ['a list of upgrades', { request: header('Upgrade', 'websocket, foo'), status: BAD, text: 'Invalid Upgrade header' }],
  ['no key', { request: header('Sec-WebSocket-Key', undefined), status: BAD, text: BAD_KEY }],
  ['an empty key', { request: header('Sec-WebSocket-Key', ''), status: BAD, text: BAD_KEY }],
  ['a short key', { request: header('Sec-WebSocket-Key', 'P5l8BJcZwRc='), status: BAD, text: BAD_KEY }],
  [
    'a key with other characters',
    { request: header('Sec-WebSocket-Key', `${'-'.repeat(22)}==`), status: BAD, text: BAD_KEY },
  ],
  ['a long key', { request: header('Sec-WebSocket-Key', `A${KEY}`), status: BAD, text: BAD_KEY }],
  [
    'no version',
    { request: header('Sec-WebSocket-Version', undefined), status: BAD, text: BAD_VERSION, more: VERSIONS },
  ],
  ['version 12', { request: header('Sec-WebSocket-Version', '12'), status: BAD, text: BAD_VERSION, more: VERSIONS }],
  ['version 7', { request: header('Sec-WebSocket-Version', '7'), status: BAD, text: BAD_VERSION, more: VERSIONS }],
  [
    'a list of versions',
    { request: header('Sec-WebSocket-Version', '13, 8'), status: BAD, text: BAD_VERSION, more: VERSIONS },
  ],
  [
    'a word for a version',
    { request: header('Sec-WebSocket-Version', 'new'), status: BAD, text: BAD_VERSION, more: VERSIONS },
  ],
  ['an empty protocol', { request: header('Sec-WebSocket-Protocol', ''), status: BAD, text: BAD_PROTOCOL }],
  ['a protocol with a space', { request: header('Sec-WebSocket-Protocol', 'a b'), status: BAD, text: BAD_PROTOCOL }],
  ['a protocol twice', { request: header('Sec-WebSocket-Protocol', 'foo, bar, foo'), status: BAD, text: BAD_PROTOCOL }],
  [
    'a comma behind the protocols',
    { request: header('Sec-WebSocket-Protocol', 'foo,'), status: BAD, text: BAD_PROTOCOL },
  ],
  [
    'a comma before the protocols',
    { request: header('Sec-WebSocket-Protocol', ',foo'), status: BAD, text: BAD_PROTOCOL },
  ],
  ['a separator in a protocol', { request: header('Sec-WebSocket-Protocol', 'a/b'), status: BAD, text: BAD_PROTOCOL }],
  [
    'protocol lines with the same',
    { request: { headers: { 'Sec-WebSocket-Protocol': ['a', 'a'] } }, status: BAD, text: BAD_PROTOCOL },
  ],
  ['an empty extension', { request: offer(''), options: DEFLATE, status: BAD, text: BAD_EXTENSIONS }],
  [
    'a value without a name',
    { request: offer('permessage-deflate; =1'), options: DEFLATE, status: BAD, text: BAD_EXTENSIONS },
  ],
  [
    'a semicolon at the end',
    { request: offer('permessage-deflate;'), options: DEFLATE, status: BAD, text: BAD_EXTENSIONS },
  ],
  [
    'a comma at the end',
    { request: offer('permessage-deflate,'), options: DEFLATE, status: BAD, text: BAD_EXTENSIONS },
  ],
  [
    'a broken other extension',
    { request: offer('foo; bar="a b"'), options: DEFLATE, status: BAD, text: BAD_EXTENSIONS },
  ],
  ['an open quote', { request: offer('foo; bar="a'), options: DEFLATE, status: BAD, text: BAD_EXTENSIONS }],
  [
    'an unknown parameter',
    { request: offer('permessage-deflate; foo=1'), options: DEFLATE, status: BAD, text: BAD_EXTENSIONS },
  ],
  [
    'a parameter twice',
    {
      request: offer('permessage-deflate; server_no_context_takeover; server_no_context_takeover'),
      options: DEFLATE,
      status: BAD,
      text: BAD_EXTENSIONS,
    },
  ],
  [
    'a value for a flag',
    {
      request: offer('permessage-deflate; server_no_context_takeover=1'),
      options: DEFLATE,
      status: BAD,
      text: BAD_EXTENSIONS,
    },
  ],
  [
    'a window of 7 bits',
    {
      request: offer('permessage-deflate; server_max_window_bits=7'),
      options: DEFLATE,
      status: BAD,
      text: BAD_EXTENSIONS,
    },
  ],
  [
    'a window of 16 bits',
    {
      request: offer('permessage-deflate; client_max_window_bits=16'),
      options: DEFLATE,
      status: BAD,
      text: BAD_EXTENSIONS,
    },
  ],
  [
    'a window without bits',
    {
      request: offer('permessage-deflate; server_max_window_bits=abc'),
      options: DEFLATE,
      status: BAD,
      text: BAD_EXTENSIONS,
    },
  ],
  [
    'a broken offer behind a good one',
    {
      request: offer('permessage-deflate, permessage-deflate; foo'),
      options: DEFLATE,
      status: BAD,
      text: BAD_EXTENSIONS,
    },
  ],
  [
    'an offer that the options exclude',
    {
      request: offer('permessage-deflate; server_max_window_bits=9'),
      options: { perMessageDeflate: { serverMaxWindowBits: 12 } },
      status: BAD,
      text: BAD_EXTENSIONS,
    },
  ],
]

function bytesOf({ status, text, more = '' }: Pick<Refusal, 'status' | 'text' | 'more'>): string {
  const head = `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/html\r\n`
  return `${head}Content-Length: ${Buffer.byteLength(text)}\r\n${more}\r\n${text}`
}

async function askFor(port: number, request: RequestOptions): Promise<string> {
  const client = await RawClient.connect({ port })
  client.send(upgradeRequest(request))
  return (await client.readToEnd()).toString('latin1')
}

/** What servers refuse, with which bytes. */
export function refusalSpec(implementation: Implementation): void {
  describe('a refusal', () => {
    it.each(REFUSALS)('of %s has these bytes', async (_name, refusal) => {
      const { port, wss } = await startServer(implementation, refusal.options)
      wss.on('connection', () => expect.unreachable())
      expect(await askFor(port, refusal.request)).toBe(bytesOf(refusal))
    })

    it.each(REFUSALS)('of %s is told by wsClientError, and nothing is written', async (_name, refusal) => {
      const { port, wss } = await startServer(implementation, refusal.options)
      const told = once(wss, 'wsClientError')
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest(refusal.request))
      const [error, socket, request] = (await told) as [Error, Socket, IncomingMessage]
      expect(error).toBeInstanceOf(Error)
      expect(error.message).toBe(refusal.text)
      expect(request.socket).toBe(socket)
      expect([socket.destroyed, socket.writableEnded]).toEqual([false, false])
      socket.end('HTTP/1.1 400 Mine\r\n\r\n')
      expect((await client.readToEnd()).toString()).toBe('HTTP/1.1 400 Mine\r\n\r\n')
    })

    it('comes in this order when several things are wrong', async () => {
      const { port } = await startServer(implementation, { ...DEFLATE, path: '/yes' })
      const headers: Record<string, string | undefined> = {
        Upgrade: 'foo',
        'Sec-WebSocket-Key': undefined,
        'Sec-WebSocket-Version': undefined,
        'Sec-WebSocket-Protocol': '',
        'Sec-WebSocket-Extensions': '',
      }
      const bodies: string[] = []
      const ask = async (method: string, target: string): Promise<void> => {
        bodies.push((await askFor(port, { method, target, headers })).split('\r\n\r\n')[1]!)
      }
      await ask('PUT', '/no')
      for (const [name, value] of [
        ['Upgrade', 'WebSocket'],
        ['Sec-WebSocket-Key', KEY],
        ['Sec-WebSocket-Version', '13'],
      ] as const) {
        await ask('GET', '/no')
        headers[name] = value
      }
      await ask('GET', '/no')
      await ask('GET', '/yes')
      headers['Sec-WebSocket-Protocol'] = 'foo'
      await ask('GET', '/yes')
      expect(bodies).toEqual([
        ...['Invalid HTTP method', 'Invalid Upgrade header', BAD_KEY, BAD_VERSION],
        ...['Bad Request', BAD_PROTOCOL, BAD_EXTENSIONS],
      ])
    })
  })

  describe('a request', () => {
    it.each<[string, RequestOptions]>([
      ['an upgrade in capitals', header('Upgrade', 'WEBSOCKET')],
      ['version 8', header('Sec-WebSocket-Version', '8')],
      ['protocols with spaces and tabs', header('Sec-WebSocket-Protocol', 'foo \t, bar')],
      ['extensions that nobody knows', offer('foo; bar="baz"; q, permessage-foo')],
      ['a broken offer when there is no deflate', offer('permessage-deflate; ;')],
      ['a target with a query', { target: '/?a=b' }],
      ['no origin', header('Origin', undefined)],
    ])('with %s is accepted', async (_name, request) => {
      const { port } = await startServer(implementation)
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest(request))
      expect((await client.readHead()).text).toBe('HTTP/1.1 101 Switching Protocols')
    })

    it('is answered with exactly this', async () => {
      const { port } = await startServer(implementation)
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest())
      const { text, lines } = await client.readHead()
      expect([text, ...lines]).toEqual([
        'HTTP/1.1 101 Switching Protocols',
        'Upgrade: websocket',
        'Connection: Upgrade',
        `Sec-WebSocket-Accept: ${acceptOf(KEY)}`,
      ])
    })

    it('is answered with protocol, extension and lines of the event headers, in this order', async () => {
      const { wss, port } = await startServer(implementation, DEFLATE)
      const events: string[] = []
      wss.on('headers', (lines, request) => {
        events.push(`headers ${request.url} ${lines.length}`)
        expect(lines.slice(0, 3)).toEqual([
          'HTTP/1.1 101 Switching Protocols',
          'Upgrade: websocket',
          'Connection: Upgrade',
        ])
        lines.push('X-More: 1', 'Set-Cookie: a=b')
      })
      wss.on('connection', () => events.push('connection'))
      const client = await RawClient.connect({ port })
      client.send(
        upgradeRequest({
          target: '/somewhere',
          headers: { 'Sec-WebSocket-Protocol': 'foo, bar', 'Sec-WebSocket-Extensions': 'permessage-deflate' },
        }),
      )
      expect((await client.readHead()).lines.slice(3)).toEqual([
        'Sec-WebSocket-Protocol: foo',
        'Sec-WebSocket-Extensions: permessage-deflate',
        'X-More: 1',
        'Set-Cookie: a=b',
      ])
      expect(events).toEqual(['headers /somewhere 6', 'connection'])
    })

    it('may bring frames along, which come behind connection', async () => {
      const { wss, port } = await startServer(implementation)
      const lines = new Queue<string>()
      wss.on('connection', (ws: Ws) => {
        lines.push('connection')
        ws.on('message', (data) => lines.push(`message ${String(data)}`))
      })
      const client = await RawClient.connect({ port })
      const frame = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69])
      client.send(upgradeRequest(), frame, frame)
      expect(await lines.take(3)).toEqual(['connection', 'message hi', 'message hi'])
    })
  })
}
