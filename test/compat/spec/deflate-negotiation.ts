import { describe, expect, it } from 'vitest'
import { RawClient, upgradeRequest } from '../../support/raw-client.ts'
import type { Implementation } from './implementation.ts'
import { nextMessage, recordToEnd, takeMessages } from './record.ts'
import { type Loose, openPair, openToServer, startServer } from './sockets.ts'

const OFFER = 'permessage-deflate'

/** permessage-deflate in the handshake, in both roles, and that both ends understand each other. */
export function negotiationSpec(implementation: Implementation): void {
  const openDeflating = (options: Loose = {}, offer = OFFER, more: Loose = {}): ReturnType<typeof openToServer> =>
    openToServer(
      implementation,
      { perMessageDeflate: options, ...more },
      { headers: { 'Sec-WebSocket-Extensions': offer } },
    )

  describe('the answer of a server', () => {
    it.each<[offer: string, options: Loose | true, answer: string | undefined]>([
      ['permessage-deflate', true, 'permessage-deflate'],
      ['permessage-deflate', {}, 'permessage-deflate'],
      ['permessage-deflate; client_max_window_bits', {}, 'permessage-deflate'],
      ['permessage-deflate; client_max_window_bits=10', {}, 'permessage-deflate; client_max_window_bits=10'],
      ['permessage-deflate; client_max_window_bits="10"', {}, 'permessage-deflate; client_max_window_bits=10'],
      [
        'permessage-deflate; client_max_window_bits',
        { clientMaxWindowBits: 11 },
        'permessage-deflate; client_max_window_bits=11',
      ],
      [
        'permessage-deflate; client_max_window_bits=12',
        { clientMaxWindowBits: 11 },
        'permessage-deflate; client_max_window_bits=11',
      ],
      ['permessage-deflate; client_max_window_bits=12', { clientMaxWindowBits: false }, 'permessage-deflate'],
      ['permessage-deflate; client_max_window_bits', { clientMaxWindowBits: true }, 'permessage-deflate'],
      ['permessage-deflate; server_max_window_bits=10', {}, 'permessage-deflate; server_max_window_bits=10'],
      ['permessage-deflate', { serverMaxWindowBits: 12 }, 'permessage-deflate; server_max_window_bits=12'],
      [
        'permessage-deflate; server_max_window_bits=14',
        { serverMaxWindowBits: 12 },
        'permessage-deflate; server_max_window_bits=12',
      ],
      ['permessage-deflate; server_no_context_takeover', {}, 'permessage-deflate; server_no_context_takeover'],
      ['permessage-deflate; client_no_context_takeover', {}, 'permessage-deflate; client_no_context_takeover'],
      [
        'permessage-deflate; client_no_context_takeover; server_no_context_takeover',
        {},
        'permessage-deflate; client_no_context_takeover; server_no_context_takeover',
      ],
      [
        'permessage-deflate',
        { serverNoContextTakeover: true, clientNoContextTakeover: true },
        'permessage-deflate; server_no_context_takeover; client_no_context_takeover',
      ],
      [
        'permessage-deflate; server_max_window_bits=9',
        { serverNoContextTakeover: true },
        'permessage-deflate; server_max_window_bits=9; server_no_context_takeover',
      ],
      [
        'permessage-deflate; server_max_window_bits=9, permessage-deflate',
        { serverMaxWindowBits: 12 },
        'permessage-deflate; server_max_window_bits=12',
      ],
      [
        'permessage-deflate; server_no_context_takeover, permessage-deflate',
        { serverNoContextTakeover: false },
        'permessage-deflate',
      ],
      ['permessage-foo, permessage-deflate', {}, 'permessage-deflate'],
      ['permessage-foo', {}, undefined],
    ])('to %s with %o', async (offer, options, answer) => {
      const { head, ws, peer } = await openDeflating(options as Loose, offer)
      expect(head.headers.get('sec-websocket-extensions')).toBe(answer)
      expect(ws.extensions).toBe(answer === undefined ? '' : 'permessage-deflate')
      peer.end()
    })

    it.each<[offer: string, options: Loose]>([
      ['permessage-deflate', { clientMaxWindowBits: 10 }],
      ['permessage-deflate; client_max_window_bits=9', { clientMaxWindowBits: 10 }],
      ['permessage-deflate; server_max_window_bits=10', { serverMaxWindowBits: false }],
      ['permessage-deflate; server_no_context_takeover', { serverNoContextTakeover: false }],
    ])('refuses %s with %o', async (offer, options) => {
      const { port } = await startServer(implementation, { perMessageDeflate: options })
      const answer = await RawClient.ask({ port }, upgradeRequest({ headers: { 'Sec-WebSocket-Extensions': offer } }))
      expect([answer.status, answer.body]).toEqual([400, 'Invalid or unacceptable Sec-WebSocket-Extensions header'])
    })

    it('without the option is none', async () => {
      const { head, ws } = await openToServer(implementation, {}, { headers: { 'Sec-WebSocket-Extensions': OFFER } })
      expect(head.headers.has('sec-websocket-extensions')).toBe(false)
      expect(ws.extensions).toBe('')
    })
  })

  describe('both ends', () => {
    it('agree when both want it', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      expect([server.extensions, client.extensions]).toEqual(['permessage-deflate', 'permessage-deflate'])
    })

    it('do without when one does not', async () => {
      const plainly = await openPair(implementation)
      expect([plainly.server.extensions, plainly.client.extensions]).toEqual(['', ''])
      const other = await openPair(implementation, {
        server: { perMessageDeflate: true },
        client: { perMessageDeflate: false },
      })
      expect([other.server.extensions, other.client.extensions]).toEqual(['', ''])
    })

    const MESSAGES = Array.from({ length: 200 }, (_, index) => `message ${index % 7} `.repeat((index * 37) % 300))

    it.each<[string, Loose, Loose]>([
      ['as they are', {}, {}],
      ['without the context of the server', { serverNoContextTakeover: true }, {}],
      ['without the context of the client', { clientNoContextTakeover: true }, {}],
      ['without any context', { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0 }, {}],
      ['with small windows', { serverMaxWindowBits: 9, clientMaxWindowBits: 9 }, { clientMaxWindowBits: 9 }],
      ['as the client asks', {}, { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0 }],
      ['with one call at a time', { concurrencyLimit: 1 }, {}],
      [
        'with options of zlib',
        { zlibDeflateOptions: { level: 9, memLevel: 3 }, zlibInflateOptions: { chunkSize: 256 } },
        {},
      ],
    ])('exchange 200 messages each way: %s', async (_name, server, client) => {
      const pair = await openPair(implementation, {
        server: { perMessageDeflate: server },
        client: { perMessageDeflate: client },
      })
      const [there, back] = [takeMessages(pair.server, 200), takeMessages(pair.client, 200)]
      for (const [index, message] of MESSAGES.entries()) {
        const data = index % 2 === 0 ? message : Buffer.from(message)
        pair.client.send(data)
        pair.server.send(data)
      }
      const expected = MESSAGES.map(
        (message, index) =>
          `${index % 2 === 0 ? 'text' : 'binary'} ${message.length > 64 ? `${message.length} bytes` : JSON.stringify(message)}`,
      )
      expect(await there).toEqual(expected)
      expect(await back).toEqual(expected)
    })

    it('keep the order with pings, blobs and messages that are not compressed', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: true } })
      const lines = recordToEnd(client)
      server.send('x'.repeat(2000))
      server.ping('1')
      server.send('plain', { compress: false })
      ;(server as unknown as { send(data: Blob): void }).send(new Blob(['blob']))
      server.pong('2')
      server.send('y'.repeat(100))
      server.close(1000, 'end')
      expect(await lines).toEqual([
        ...['text 2000 bytes', 'ping "1"', 'text "plain"', 'binary "blob"', 'pong "2"', 'text 100 bytes'],
        'close 3 1000 "end"',
      ])
    })

    it('exchange fragments', async () => {
      const { server, client } = await openPair(implementation, { server: { perMessageDeflate: { threshold: 0 } } })
      const message = nextMessage(server)
      client.send('a'.repeat(20), { fin: false })
      client.send('b'.repeat(20), { fin: false })
      client.send('c'.repeat(20))
      expect(await message).toBe(`text "${'a'.repeat(20)}${'b'.repeat(20)}${'c'.repeat(20)}"`)
    })
  })
}
