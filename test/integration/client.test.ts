import { describe, expect, it } from 'vitest'
import { type ConnectOptions, connect, HandshakeError, type Message, UsageError } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { acceptOf, closeOf, frame, type RawClient, type RawFrame, type RawHead } from '../support/raw-client.ts'
import { acceptance, certificate, nextTurn, openClient, startRawServer, startServer } from '../support/servers.ts'

describe('what the server sends at once', () => {
  const sent = Array.from({ length: 20 }, (_, index) => Buffer.alloc(50_000, index))

  it.each(['ws', 'wss'] as const)('arrives whole over %s, however many reads it takes', async (scheme) => {
    const { url } = await startServer({
      ...(scheme === 'wss' ? { tls: certificate } : {}),
      open: (client) => {
        for (const message of sent) client.send(message)
      },
    })
    const messages = new Queue<Message>()
    await openClient(url, { message: (_, data) => messages.push(data) })
    const received = (await messages.take(sent.length)) as Buffer[]
    for (const [index, message] of sent.entries()) expect(message.equals(received[index]!)).toBe(true)
  })

  it('arrives over wss when each message is a record of its own', async () => {
    const { url } = await startServer({
      tls: certificate,
      open: (client) => {
        client.send('first')
        process.nextTick(() => client.send('second'))
      },
    })
    const messages = new Queue<Message>()
    await openClient(url, { message: (_, data) => messages.push(data) })
    expect(await messages.take(2)).toEqual(['first', 'second'])
  })
})

describe('a refusal', () => {
  it('is told with its status when the server keeps the connection open behind it', async () => {
    const { url } = await startRawServer((peer) => {
      peer.send('HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n')
      peer.send('9\r\nno token.\r\n0\r\n\r\n')
    })
    await expect(connect(url, { handshakeTimeoutMs: 200 })).rejects.toMatchObject({
      code: 'ERR_RESPONSE_STATUS',
      status: 401,
    })
  })
})

describe('an error handler that throws', () => {
  it('becomes a process warning', async () => {
    const { url } = await startRawServer((peer, request) => {
      // Reserved bits.
      peer.send(acceptance(request), Uint8Array.of(0xff, 0))
    })
    const warnings = new Queue<Error>()
    process.once('warning', warnings.push)
    const events = new Queue<{ code: number }>()
    await openClient(url, {
      error: () => {
        throw new Error('thrown by the error handler')
      },
      close: (_, event) => events.push(event),
    })
    expect((await warnings.next()).message).toBe('thrown by the error handler')
    expect((await events.next()).code).toBe(1002)
  })
})

/** The error that `connect` rejects with. */
async function failureOf(url: string | URL, options?: ConnectOptions): Promise<HandshakeError> {
  const [result] = await Promise.allSettled([connect(url, options)])
  if (result.status === 'rejected') return result.reason as HandshakeError
  result.value.terminate()
  throw new Error('it is open')
}

describe('connect', () => {
  it('rejects with the error of the system when nobody listens', async () => {
    const { server, port } = await startServer()
    await server.close()
    expect(await failureOf(`ws://127.0.0.1:${port}`)).toMatchObject({ code: 'ECONNREFUSED' })
    expect(await failureOf(`wss://127.0.0.1:${port}`)).toMatchObject({ code: 'ECONNREFUSED' })
  })

  it('rejects with the error of the system when the name is unknown', async () => {
    expect(await failureOf('ws://nowhere.invalid')).toMatchObject({ syscall: 'getaddrinfo' })
  })

  it.each<[string, object, ConnectOptions, number, RegExp]>([
    ['a missing token', { token: 'token' }, {}, 401, /401.*[Tt]oken/],
    ['a wrong path', { path: '/socket' }, {}, 404, /404.*path/],
    ['an Origin', {}, { origin: 'https://evil.example' }, 403, /403.*Origin/],
    [
      'a text of its own',
      { authorize: () => ({ accept: false, status: 402, message: 'Pay first.' }) },
      {},
      402,
      /Pay first\.$/,
    ],
  ])('rejects with the status and the text of a refusal: %s', async (_, serverOptions, options, status, message) => {
    const { url } = await startServer(serverOptions)
    const error = await failureOf(url, options)
    expect(error).toBeInstanceOf(HandshakeError)
    expect(error).toMatchObject({ code: 'ERR_RESPONSE_STATUS', status })
    expect(error.message).toMatch(message)
  })

  it.each<[string, string, { code: string; status: number }]>([
    [
      'a redirection',
      'HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n',
      { code: 'ERR_RESPONSE_STATUS', status: 302 },
    ],
    [
      'a page',
      'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>',
      { code: 'ERR_RESPONSE_STATUS', status: 200 },
    ],
    ['no reason phrase', 'HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n', { code: 'ERR_RESPONSE_STATUS', status: 503 }],
    ['something else than HTTP', 'SSH-2.0-OpenSSH_9.6\r\n\r\n', { code: 'ERR_HEAD_SYNTAX', status: 0 }],
    ['HTTP/1.0', 'HTTP/1.0 101 Switching Protocols\r\n\r\n', { code: 'ERR_HEAD_SYNTAX', status: 0 }],
    [
      'a head without an end',
      `HTTP/1.1 101 Switching Protocols\r\nX: ${'x'.repeat(20_000)}`,
      { code: 'ERR_HEAD_TOO_LARGE', status: 431 },
    ],
  ])('rejects an answer that is %s', async (_, answer, expected) => {
    const { url } = await startRawServer((peer) => {
      peer.send(answer)
      peer.end()
    })
    expect(await failureOf(url, { handshakeTimeoutMs: 15_000 })).toMatchObject(expected)
  })

  it.each<[string, (request: RawHead) => string, ConnectOptions, string]>([
    ['no Upgrade', (head) => acceptance(head).replace(/Upgrade: websocket\r\n/, ''), {}, 'ERR_RESPONSE_UPGRADE'],
    ['another Upgrade', (head) => acceptance(head).replace('websocket', 'h2c'), {}, 'ERR_RESPONSE_UPGRADE'],
    ['no Connection', (head) => acceptance(head).replace(/Connection: Upgrade\r\n/, ''), {}, 'ERR_RESPONSE_UPGRADE'],
    ['no accept', (head) => acceptance(head).replace(/Sec-WebSocket-Accept: .*\r\n/, ''), {}, 'ERR_RESPONSE_ACCEPT'],
    [
      'the accept of another key',
      (head) => acceptance(head).replace(/(Accept: ).*/, `$1${acceptOf('another')}`),
      {},
      'ERR_RESPONSE_ACCEPT',
    ],
    [
      'a subprotocol that nobody offered',
      (head) => acceptance(head, 'Sec-WebSocket-Protocol: chat'),
      {},
      'ERR_RESPONSE_SUBPROTOCOL',
    ],
    [
      'another subprotocol than offered',
      (head) => acceptance(head, 'Sec-WebSocket-Protocol: v3.chat'),
      { subprotocols: ['v1.chat', 'v2.chat'] },
      'ERR_RESPONSE_SUBPROTOCOL',
    ],
    [
      'two subprotocols',
      (head) => acceptance(head, 'Sec-WebSocket-Protocol: v1.chat, v2.chat'),
      { subprotocols: ['v1.chat', 'v2.chat'] },
      'ERR_RESPONSE_SUBPROTOCOL',
    ],
    [
      'an extension that nobody offered',
      (head) => acceptance(head, 'Sec-WebSocket-Extensions: permessage-deflate'),
      {},
      'ERR_RESPONSE_EXTENSION',
    ],
  ])('rejects a 101 with %s, and goes', async (_, answerTo, options, code) => {
    const ends = new Queue<void>()
    const { url } = await startRawServer(async (peer, request) => {
      peer.send(answerTo(request))
      await peer.ended()
      ends.push()
    })
    expect(await failureOf(url, options)).toMatchObject({ name: 'HandshakeError', code, status: 101 })
    await ends.next()
  })

  it('takes an answer in other cases, with more headers, in pieces, with frames behind it', async () => {
    const { url } = await startRawServer(async (peer, request) => {
      const head = acceptance(request, 'X-More: yes')
        .replace('Upgrade: websocket', 'UPGRADE:WebSocket')
        .replace('Connection: Upgrade', 'connection: keep-alive, upgrade')
      const bytes = Buffer.concat([
        Buffer.from(head),
        frame(1, 'hel', { fin: false, masked: false }),
        frame(0, 'lo', { masked: false }),
      ])
      for (let at = 0; at < bytes.length; at += 30) {
        peer.send(bytes.subarray(at, at + 30))
        await nextTurn()
      }
    })
    const messages = new Queue<Message>()
    await openClient(url, { message: (_, data) => messages.push(data) })
    expect(await messages.next()).toBe('hello')
  })

  it('rejects when the server ends the connection without an answer, or in the middle of it', async () => {
    for (const answer of ['', 'HTTP/1.1 101 Switching']) {
      for (const way of ['end', 'reset'] as const) {
        const { url } = await startRawServer((peer) => {
          if (answer !== '') peer.send(answer)
          setImmediate(() => peer[way]())
        })
        const error = await failureOf(url, { handshakeTimeoutMs: 15_000 })
        // A reset behind some bytes is told as an end by some systems.
        const codes = way === 'end' ? /^ERR_RESPONSE_INCOMPLETE$/ : /^(ERR_RESPONSE_INCOMPLETE|ECONNRESET)$/
        expect(error.code).toMatch(codes)
      }
    }
  })

  it('rejects when no answer comes in time, and goes', async () => {
    for (const start of ['', 'HTTP/1.1 101 Switching Protocols\r\nUpgra']) {
      const ends = new Queue<void>()
      const { url } = await startRawServer(async (peer) => {
        if (start !== '') peer.send(start)
        await peer.ended()
        ends.push()
      })
      const error = await failureOf(url, { handshakeTimeoutMs: 50 })
      expect(error).toMatchObject({ name: 'HandshakeError', code: 'ERR_HANDSHAKE_TIMEOUT', status: 0 })
      expect(error.message).toContain('50 ms')
      await ends.next()
    }
  })

  it('rejects with the reason of its signal, before and during the handshake', async () => {
    const asked = new Queue<RawClient>()
    const { url } = await startRawServer((peer) => asked.push(peer))
    const reason = new Error('changed my mind')
    expect(await failureOf(url, { signal: AbortSignal.abort(reason) })).toBe(reason)
    const controller = new AbortController()
    const failure = failureOf(url, { signal: controller.signal })
    const peer = await asked.next()
    controller.abort(reason)
    expect(await failure).toBe(reason)
    await peer.ended()
    expect(asked.all).toHaveLength(1)
    expect(await failureOf(url, { signal: AbortSignal.timeout(20) })).toMatchObject({ name: 'TimeoutError' })
  })

  it('does not care for its signal once it is open', async () => {
    const { url } = await startServer({ message: (client, data) => void client.send(data) })
    const controller = new AbortController()
    const messages = new Queue<Message>()
    const client = await openClient(url, { signal: controller.signal, message: (_, data) => messages.push(data) })
    controller.abort()
    client.send('hello')
    expect(await messages.next()).toBe('hello')
  })

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['no URL', 'localhost'],
    ['an empty string', ''],
    ['another scheme', 'ftp://localhost'],
    ['a file', 'file:///etc/passwd'],
    ['a fragment', 'ws://localhost/#fragment'],
    ['an empty fragment', 'ws://localhost/#'],
    ['a port that is none', 'ws://localhost:65536'],
  ])('rejects a URL that cannot be: %s', async (_, url) => {
    const error = await failureOf(url as string)
    expect(error).toBeInstanceOf(UsageError)
    expect(error.code).toBe('ERR_URL')
  })

  it.each<[string, ConnectOptions, string]>([
    ['a subprotocol that is no token', { subprotocols: ['a b'] }, 'ERR_OPTION'],
    ['a subprotocol twice', { subprotocols: ['a', 'a'] }, 'ERR_OPTION'],
    ['CR and LF in a header', { headers: { 'X-Mine': 'a\r\nX-Injected: yes' } }, 'ERR_HEADER_VALUE'],
    ['NUL in a header', { headers: { 'X-Mine': '\u0000' } }, 'ERR_HEADER_VALUE'],
    ['a name that is none', { headers: { 'X Mine': 'a' } }, 'ERR_HEADER_VALUE'],
    ['CR and LF in the origin', { origin: 'http://a\r\nX-Injected: yes' }, 'ERR_HEADER_VALUE'],
    ['a header that is not the user’s', { headers: { 'sec-websocket-KEY': 'mine' } }, 'ERR_HEADER_VALUE'],
    ['a Host', { headers: { Host: 'elsewhere' } }, 'ERR_HEADER_VALUE'],
  ])('rejects %s, before anybody is called', async (_, options, code) => {
    const { url } = await startRawServer(() => expect.fail('it was called'))
    expect(await failureOf(url, options)).toMatchObject({ name: 'UsageError', code })
  })

  it('sends what it is told: path, query, headers, origin, subprotocols, a Host with its port', async () => {
    const requests = new Queue<RawHead>()
    const { url, port } = await startRawServer((peer, request) => {
      requests.push(request)
      peer.send(acceptance(request, 'Sec-WebSocket-Protocol: v2.chat'))
    })
    const client = await openClient(`${url}/a%20b/../c?d=%41&e`, {
      subprotocols: ['v1.chat', 'v2.chat'],
      headers: { 'X-Mine': 'yes', Authorization: 'Bearer token' },
      origin: 'https://app.example',
    })
    expect([client.subprotocol, client.path, client.remoteAddress, client.state]).toEqual([
      'v2.chat',
      '/c',
      '127.0.0.1',
      'open',
    ])
    const { text, headers } = await requests.next()
    expect(text).toBe('GET /c?d=%41&e HTTP/1.1')
    expect(Object.fromEntries(headers)).toEqual({
      host: `127.0.0.1:${port}`,
      upgrade: 'websocket',
      connection: 'Upgrade',
      'sec-websocket-key': expect.stringMatching(/^[A-Za-z0-9+/]{22}==$/),
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'v1.chat, v2.chat',
      'x-mine': 'yes',
      authorization: 'Bearer token',
      origin: 'https://app.example',
    })
  })

  it('sends another key each time, and no headers that nobody asked for', async () => {
    const requests = new Queue<RawHead>()
    const { url } = await startRawServer((peer, request) => {
      requests.push(request)
      peer.send(acceptance(request))
    })
    for (let round = 0; round < 5; round++) await openClient(new URL(url))
    const heads = await requests.take(5)
    expect(new Set(heads.map(({ headers }) => headers.get('sec-websocket-key'))).size).toBe(5)
    for (const { text, headers } of heads) {
      expect(text).toBe('GET / HTTP/1.1')
      expect([...headers.keys()].sort()).toEqual([
        'connection',
        'host',
        'sec-websocket-key',
        'sec-websocket-version',
        'upgrade',
      ])
    }
  })

  it.each([
    ['user:password', 'user:password'],
    ['user', 'user:'],
    ['%C3%BC%40:p%3Aw%2F', 'ü@:p:w/'],
    [':password', ':password'],
  ])('sends the user and the password of the URL as Basic authentication: %s', async (userinfo, credentials) => {
    const requests = new Queue<RawHead>()
    const { port } = await startRawServer((peer, request) => {
      requests.push(request)
      peer.send(acceptance(request))
    })
    await openClient(`ws://${userinfo}@127.0.0.1:${port}/path`)
    const { text, headers } = await requests.next()
    expect(text).toBe('GET /path HTTP/1.1')
    expect(headers.get('authorization')).toBe(`Basic ${Buffer.from(credentials).toString('base64')}`)
    expect(headers.get('host')).toBe(`127.0.0.1:${port}`)
  })

  it('lets a header Authorization of the user stand before that of the URL', async () => {
    const requests = new Queue<RawHead>()
    const { port } = await startRawServer((peer, request) => {
      requests.push(request)
      peer.send(acceptance(request))
    })
    for (const name of ['Authorization', 'authorization']) {
      await openClient(`ws://user:password@127.0.0.1:${port}`, { headers: { [name]: 'Bearer token' } })
      const { headers, lines } = await requests.next()
      expect(headers.get('authorization')).toBe('Bearer token')
      expect(lines.filter((line) => /^authorization:/i.test(line))).toHaveLength(1)
    }
  })

  it('rejects userinfo that does not decode', async () => {
    expect(await failureOf('ws://%ff:x@127.0.0.1:1')).toBeInstanceOf(UsageError)
  })

  it('speaks to ::1, to localhost, and over http: for ws:', async () => {
    const { port, server } = await startServer()
    for (const url of [`ws://localhost:${port}`, `http://127.0.0.1:${port}`]) await openClient(url)
    const [result] = await Promise.allSettled([openClient(`ws://[::1]:${port}`)])
    // Not every machine has IPv6.
    if (result.status === 'fulfilled') expect(result.value.remoteAddress).toBe('::1')
    expect(server.clients.size).toBeGreaterThanOrEqual(2)
  })
})

describe('limits of a client', () => {
  it.each<[string, ConnectOptions, Buffer, number, string]>([
    [
      'maxMessageBytes',
      { maxMessageBytes: 10 },
      frame(1, 'x'.repeat(11), { masked: false }),
      1009,
      'ERR_MESSAGE_TOO_BIG',
    ],
    [
      'maxFragments',
      { maxFragments: 2 },
      Buffer.concat([0, 1, 2].map((index) => frame(index === 0 ? 1 : 0, 'x', { fin: false, masked: false }))),
      1008,
      'ERR_TOO_MANY_FRAGMENTS',
    ],
    ['text that is none', {}, frame(1, Uint8Array.of(0xff), { masked: false }), 1007, 'ERR_TEXT_UTF8'],
  ])('close with their code: %s', async (_, options, bytes, closeCode, code) => {
    const closes = new Queue<RawFrame>()
    const { url } = await startRawServer(async (peer, request) => {
      peer.send(acceptance(request), bytes)
      closes.push(await peer.readFrame())
      peer.end()
    })
    const errors = new Queue<Error>()
    const events = new Queue<object>()
    await openClient(url, { ...options, error: errors.push, close: (_, event) => events.push(event) })
    expect(closeOf(await closes.next()).code).toBe(closeCode)
    expect(await errors.next()).toMatchObject({ code, closeCode })
    expect(await events.next()).toMatchObject({ code: closeCode, wasClean: false })
  })

  it('slowConsumer holds for the client role too', async () => {
    const peers = new Queue<RawClient>()
    const { url } = await startRawServer((peer, request) => {
      peer.send(acceptance(request))
      peer.stopReading()
      peers.push(peer)
    })
    const client = await openClient(url, { maxBufferedBytes: 1_000_000 })
    const peer = await peers.next()
    let accepted = 0
    while (client.send(Buffer.alloc(100_000, accepted))) {
      accepted++
      await nextTurn()
    }
    peer.startReading()
    for (let index = 0; index < accepted; index++) {
      const { payload } = await peer.readFrame()
      expect([payload.length, payload[0]]).toEqual([100_000, index % 256])
    }
    expect(closeOf(await peer.readFrame()).code).toBe(1013)
  })
})
