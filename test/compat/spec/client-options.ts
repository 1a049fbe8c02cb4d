import { once } from 'node:events'
import { Agent, type ClientRequest } from 'node:http'
import { describe, expect, it } from 'vitest'
import { Queue } from '../../support/queue.ts'
import type { RawHead } from '../../support/raw-client.ts'
import { acceptance, startRawServer } from '../../support/servers.ts'
import type { Implementation, Ws } from './implementation.ts'
import { thrownBy } from './record.ts'
import { construct, type Loose, makeClient } from './sockets.ts'

const BAD_PROTOCOL = 'SyntaxError: An invalid or duplicated subprotocol was specified'
const BAD_SCHEME = 'SyntaxError: The URL\'s protocol must be one of "ws:", "wss:", "http:", "https:", or "ws+unix:"'

/** An agent that remembers what it is asked, and connects nothing. */
class DeadAgent extends Agent {
  readonly asked: [request: ClientRequest, options: Record<string, unknown>][] = []
  addRequest(request: ClientRequest, options: Record<string, unknown>): void {
    this.asked.push([request, options])
  }
}

/** What clients take: addresses, protocols, options; and the request that they make of it. */
export function clientOptionsSpec(implementation: Implementation): void {
  const { WebSocket } = implementation

  /** The request that a client makes. */
  async function requestOf(
    options?: Loose,
    { protocols, target = '', user = '' }: { protocols?: unknown; target?: string; user?: string } = {},
  ): Promise<RawHead> {
    const heads = new Queue<RawHead>()
    const { port } = await startRawServer((peer, head) => {
      heads.push(head)
      peer.send(acceptance(head, ...(protocols === undefined ? [] : ['Sec-WebSocket-Protocol: a'])))
    })
    const ws = makeClient(
      implementation,
      `ws://${user}127.0.0.1:${port}${target}`,
      ...([protocols, options] as [undefined, Loose]),
    )
    ws.on('error', () => {})
    return heads.next()
  }

  describe('the constructor of a client', () => {
    it.each<[string, unknown[], string]>([
      ['foo', ['foo'], 'SyntaxError: Invalid URL: foo'],
      ['an empty string', [''], 'SyntaxError: Invalid URL: '],
      ['undefined', [undefined], 'SyntaxError: Invalid URL: undefined'],
      ['ws:', ['ws:'], 'SyntaxError: Invalid URL: ws:'],
      ['ws://', ['ws://'], 'SyntaxError: Invalid URL: ws://'],
      ['a scheme', ['bad-scheme://websocket-echo-server'], BAD_SCHEME],
      ['file:', ['file:///etc'], BAD_SCHEME],
      ['a URL object', [new URL('ftp://localhost')], BAD_SCHEME],
      ['ws+unix without a path', ['ws+unix:'], "SyntaxError: The URL's pathname is empty"],
      ['a fragment', ['ws://localhost/#foo'], 'SyntaxError: The URL contains a fragment identifier'],
      ['a fragment of a wss URL', ['wss://localhost/#foo'], 'SyntaxError: The URL contains a fragment identifier'],
      ['null as protocols', ['ws://localhost', null], BAD_PROTOCOL],
      ['an empty protocol', ['ws://localhost', ''], BAD_PROTOCOL],
      ['an empty protocol in a list', ['ws://localhost', ['']], BAD_PROTOCOL],
      ['a protocol with a separator', ['ws://localhost', 'a/b'], BAD_PROTOCOL],
      ['a protocol with a comma', ['ws://localhost', 'a,b'], BAD_PROTOCOL],
      ['a protocol with a space', ['ws://localhost', ['a b']], BAD_PROTOCOL],
      ['a number as a protocol', ['ws://localhost', 1], BAD_PROTOCOL],
      ['a protocol twice', ['ws://localhost', ['a', 'b', 'a']], BAD_PROTOCOL],
      ['a bad protocol in options', ['ws://localhost', { protocols: 'a b' }], BAD_PROTOCOL],
      [
        'version 1000',
        ['ws://localhost', { protocolVersion: 1000 }],
        'RangeError: Unsupported protocol version: 1000 (supported versions: 8, 13)',
      ],
      [
        'version as a string',
        ['ws://localhost', { protocolVersion: '13' }],
        'RangeError: Unsupported protocol version: 13 (supported versions: 8, 13)',
      ],
      [
        'a bad version before a bad URL',
        ['foo', { protocolVersion: 7 }],
        'RangeError: Unsupported protocol version: 7 (supported versions: 8, 13)',
      ],
    ])('throws at %s', (_name, args, expected) => {
      expect(thrownBy(() => construct(implementation, ...args))).toBe(expected)
    })

    it('throws errors of the classes that they say', () => {
      expect(() => construct(implementation, 'foo')).toThrow(SyntaxError)
      expect(() => construct(implementation, 'ws://a', { protocolVersion: 1 })).toThrow(RangeError)
    })

    it('takes a URL object and leaves it alone', () => {
      const url = new URL('http://localhost/path?query')
      const ws = makeClient(implementation, url, { agent: new DeadAgent() })
      expect(ws.url).toBe('ws://localhost/path?query')
      expect(url.href).toBe('http://localhost/path?query')
    })

    it.each([
      ['ws://localhost', 'ws://localhost/'],
      ['WS://LOCALHOST:80/a b', 'ws://localhost/a%20b'],
      ['wss://localhost:443/x?y', 'wss://localhost/x?y'],
      ['http://localhost:8080', 'ws://localhost:8080/'],
      ['https://localhost', 'wss://localhost/'],
      ['ws://[::1]:1', 'ws://[::1]:1/'],
      ['ws://localhost/#', 'ws://localhost/#'],
      ['ws://user:pass@localhost', 'ws://user:pass@localhost/'],
    ])('%s has the url %s', (address, url) => {
      const agent = url.startsWith('wss') ? Object.assign(new DeadAgent(), { protocol: 'https:' }) : new DeadAgent()
      const ws = makeClient(implementation, address, { agent })
      ws.on('error', () => {})
      expect(ws.url).toBe(url)
      expect(ws.readyState).toBe(WebSocket.CONNECTING)
    })

    it('does not change options or headers that it is given', async () => {
      const headers = Object.freeze({ 'X-Foo': 'bar' })
      const options = Object.freeze({ headers, perMessageDeflate: Object.freeze({}) })
      expect((await requestOf(options)).headers.get('x-foo')).toBe('bar')
    })
  })

  describe('the request', () => {
    const AS_IS = /^Sec-WebSocket-Key: [+/0-9A-Za-z]{22}==$/

    it('has these lines in this order', async () => {
      const { text, lines } = await requestOf()
      expect(text).toBe('GET / HTTP/1.1')
      expect(lines.filter((line) => !AS_IS.test(line)).map((line) => line.replace(/:\d+$/, ''))).toEqual([
        'Sec-WebSocket-Version: 13',
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits',
        'Host: 127.0.0.1',
      ])
      expect(lines[1]).toMatch(AS_IS)
    })

    it('has headers of the program first, and origin, protocol and authorization at the end', async () => {
      const { lines } = await requestOf(
        { headers: { 'X-One': '1', Cookie: 'a=b' }, origin: 'http://example.com', auth: 'me:secret' },
        { protocols: ['a', 'b'], target: '/path?query=1' },
      )
      expect(lines.map((line) => line.replace(/^(Sec-WebSocket-Key|Host):.*/, '$1'))).toEqual([
        'X-One: 1',
        'Cookie: a=b',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key',
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits',
        'Sec-WebSocket-Protocol: a,b',
        'Origin: http://example.com',
        'Host',
        `Authorization: Basic ${Buffer.from('me:secret').toString('base64')}`,
      ])
    })

    it('has a new key each time, of 16 bytes', async () => {
      const keys = [await requestOf(), await requestOf()].map(({ headers }) => headers.get('sec-websocket-key')!)
      expect(keys[0]).not.toBe(keys[1])
      for (const key of keys) expect(Buffer.from(key, 'base64')).toHaveLength(16)
    })

    it('may have a host of the program', async () => {
      const { lines } = await requestOf({ headers: { Host: 'example.com' } })
      expect(lines.filter((line) => /^host/i.test(line))).toEqual(['Host: example.com'])
    })

    it('does not let the program replace its own headers', async () => {
      const { headers } = await requestOf({
        headers: { Upgrade: 'foo', Connection: 'close', 'Sec-WebSocket-Version': 1, 'Sec-WebSocket-Key': 'x' },
      })
      expect(headers.get('upgrade')).toBe('websocket')
      expect(headers.get('connection')).toBe('Upgrade')
      expect(headers.get('sec-websocket-version')).toBe('13')
      expect(headers.get('sec-websocket-key')).not.toBe('x')
    })

    it('of version 8 has Sec-WebSocket-Origin', async () => {
      const { headers } = await requestOf({ protocolVersion: 8, origin: 'https://example.com:8000' })
      expect(headers.get('sec-websocket-version')).toBe('8')
      expect(headers.get('sec-websocket-origin')).toBe('https://example.com:8000')
      expect(headers.has('origin')).toBe(false)
    })

    it.each<[string, unknown, string | undefined]>([
      ['a string', 'a', 'a'],
      ['a list', ['a', 'b'], 'a,b'],
      ['an empty list', [], undefined],
    ])('has the protocols of %s', async (_name, protocols, expected) => {
      expect((await requestOf(undefined, { protocols })).headers.get('sec-websocket-protocol')).toBe(expected)
      expect((await requestOf({ protocols })).headers.get('sec-websocket-protocol')).toBe(expected)
    })

    it('has no protocols of the options when the argument is there', async () => {
      const { headers } = await requestOf({ protocols: 'other' }, { protocols: 'a' })
      expect(headers.get('sec-websocket-protocol')).toBe('a')
    })

    it.each<[string, Loose, string]>([
      ['ws://u:p@', {}, 'u:p'],
      ['ws://u:p@ before auth', { auth: 'other:one' }, 'u:p'],
      ['auth', { auth: 'u:p' }, 'u:p'],
    ])('has authorization from %s', async (name, options, expected) => {
      const { headers } = await requestOf(options, name.startsWith('ws') ? { user: 'u:p@' } : {})
      expect(headers.get('authorization')).toBe(`Basic ${Buffer.from(expected).toString('base64')}`)
    })

    it.each([
      ['u@', 'u:'],
      [':p@', ':p'],
      ['%40u:p%3A%20%C3%B6@', '@u:p: \u00f6'],
      ['u%zz:p@', 'u%zz:p'],
    ])('decodes the userinfo %s', async (user, expected) => {
      const { headers } = await requestOf({}, { user })
      expect(headers.get('authorization')).toBe(`Basic ${Buffer.from(expected).toString('base64')}`)
    })

    it('has the authorization header of the program before auth', async () => {
      const { lines } = await requestOf({ auth: 'a:b', headers: { Authorization: 'Bearer x' } })
      expect(lines.filter((line) => /^authorization/i.test(line))).toEqual(['Authorization: Bearer x'])
    })

    it.each<[string, unknown, string | undefined]>([
      ['true', true, 'permessage-deflate; client_max_window_bits'],
      ['false', false, undefined],
      ['an empty object', {}, 'permessage-deflate; client_max_window_bits'],
      ['clientMaxWindowBits false', { clientMaxWindowBits: false }, 'permessage-deflate'],
      ['clientMaxWindowBits 12', { clientMaxWindowBits: 12 }, 'permessage-deflate; client_max_window_bits=12'],
      ['threshold', { threshold: 0 }, 'permessage-deflate; client_max_window_bits'],
      [
        'everything',
        {
          clientMaxWindowBits: true,
          clientNoContextTakeover: true,
          serverMaxWindowBits: 10,
          serverNoContextTakeover: true,
        },
        'permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits',
      ],
    ])('with perMessageDeflate %s', async (_name, perMessageDeflate, expected) => {
      expect((await requestOf({ perMessageDeflate })).headers.get('sec-websocket-extensions')).toBe(expected)
    })

    it('ignores options that the URL decides', async () => {
      const { text, headers } = await requestOf({
        host: 'nowhere.invalid',
        hostname: 'nowhere.invalid',
        path: '/elsewhere',
        port: 1,
        socketPath: '/nowhere',
        method: 'POST',
        protocol: 'https:',
        timeout: 1,
      })
      expect(text).toBe('GET / HTTP/1.1')
      expect(headers.get('host')).toMatch(/^127\.0\.0\.1:/)
    })

    it('can be finished by the program', async () => {
      const heads = new Queue<RawHead>()
      const { url } = await startRawServer((peer, head) => {
        heads.push(head)
        peer.send(acceptance(head))
      })
      let seen: unknown[] = []
      const ws = makeClient(implementation, url, {
        finishRequest(request: ClientRequest, socket: Ws) {
          seen = [request.getHeader('upgrade'), socket.readyState, request.writableEnded]
          setImmediate(() => {
            request.setHeader('X-Late', 'yes')
            request.end()
          })
        },
      })
      await once(ws, 'open')
      expect(seen).toEqual(['websocket', 0, false])
      expect((await heads.next()).headers.get('x-late')).toBe('yes')
    })
  })
}
