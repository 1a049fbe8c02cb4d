import { once } from 'node:events'
import { createServer as createTlsServer } from 'node:tls'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type ConnectOptions, connect, type HandshakeError } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { RawClient, type RawHead } from '../support/raw-client.ts'
import { acceptance, certificate, openClient, portOf, startHttpServer, startRawServer } from '../support/servers.ts'

const SECRETS = {
  Authorization: 'Bearer secret',
  cookie: 'session=secret',
  'Proxy-AUTHORIZATION': 'Basic secret',
  'X-Mine': 'yes',
}

async function failureOf(url: string | URL, options?: ConnectOptions): Promise<HandshakeError> {
  const [result] = await Promise.allSettled([connect(url, options)])
  if (result.status === 'rejected') return result.reason as HandshakeError
  result.value.terminate()
  throw new Error('it is open')
}

function redirect(location: string | undefined, status = 302): string {
  const line = location === undefined ? '' : `Location: ${location}\r\n`
  return `HTTP/1.1 ${status} Elsewhere\r\n${line}Content-Length: 0\r\n\r\n`
}

/** A server that accepts, and keeps the requests. */
async function startEnd(): Promise<{ url: string; port: number; requests: Queue<RawHead> }> {
  const requests = new Queue<RawHead>()
  const { url, port } = await startRawServer((peer, request) => {
    requests.push(request)
    peer.send(acceptance(request))
  })
  return { url, port, requests }
}

/** A server that sends everybody elsewhere. */
async function startSignpost(
  locationOf: (request: RawHead, count: number) => string | undefined,
  status?: number,
): Promise<{ url: string; port: number; requests: Queue<RawHead>; peers: RawClient[] }> {
  const requests = new Queue<RawHead>()
  const peers: RawClient[] = []
  const { url, port } = await startRawServer((peer, request) => {
    requests.push(request)
    peers.push(peer)
    peer.send(redirect(locationOf(request, requests.all.length), status))
  })
  return { url, port, requests, peers }
}

describe('a redirect', () => {
  it.each([301, 302, 303, 307, 308])('is followed with %d, on a connection of its own', async (status) => {
    const end = await startEnd()
    const signpost = await startSignpost(() => `${end.url}/there?a=b#ignored`, status)
    const client = await openClient(`${signpost.url}/here`, { maxRedirects: 1 })
    const { text, headers } = await end.requests.next()
    expect(text).toBe('GET /there?a=b HTTP/1.1')
    expect(headers.get('host')).toBe(`127.0.0.1:${end.port}`)
    expect(client.path).toBe('/there')
    const [first] = await signpost.requests.take(1)
    expect(headers.get('sec-websocket-key')).not.toBe(first?.headers.get('sec-websocket-key'))
    await signpost.peers[0]?.ended()
  })

  it.each([300, 304, 305, 399])('is none with %d', async (status) => {
    const signpost = await startSignpost(() => '/elsewhere', status)
    expect(await failureOf(signpost.url, { maxRedirects: 5 })).toMatchObject({ code: 'ERR_RESPONSE_STATUS', status })
    expect(signpost.requests.all).toHaveLength(1)
  })

  it('is not followed unless it is allowed', async () => {
    const end = await startEnd()
    const signpost = await startSignpost(() => end.url)
    for (const options of [{}, { maxRedirects: 0 }, { maxRedirects: undefined }]) {
      expect(await failureOf(signpost.url, options)).toMatchObject({ code: 'ERR_RESPONSE_STATUS', status: 302 })
    }
    expect(end.requests.all).toEqual([])
  })

  it('may lead to http:, which is ws:', async () => {
    const end = await startEnd()
    const signpost = await startSignpost(() => end.url.replace('ws:', 'http:'))
    await openClient(signpost.url, { maxRedirects: 1 })
    expect(end.requests.all).toHaveLength(1)
  })

  it('takes everything along within its origin', async () => {
    const requests = new Queue<RawHead>()
    const { port } = await startRawServer((peer, request) => {
      requests.push(request)
      peer.send(request.text.includes(' /end ') ? acceptance(request) : redirect('/end', 307))
    })
    await openClient(`ws://user:password@127.0.0.1:${port}/start?token=x`, {
      maxRedirects: 1,
      headers: { cookie: 'session=secret' },
      subprotocols: ['chat', 'bearer.secret'],
    })
    const [, { text, headers }] = (await requests.take(2)) as [RawHead, RawHead]
    expect(text).toBe('GET /end HTTP/1.1')
    expect(headers.get('cookie')).toBe('session=secret')
    expect(headers.get('authorization')).toBe(`Basic ${Buffer.from('user:password').toString('base64')}`)
    expect(headers.get('sec-websocket-protocol')).toBe('chat, bearer.secret')
  })

  it.each(['ws://user:password@', 'ws://'])(
    'tells no secrets to another origin, nor what the Location invents: %s',
    async (scheme) => {
      const end = await startEnd()
      const signpost = await startSignpost(() => `ws://evil:invented@127.0.0.1:${end.port}/`)
      await openClient(`${scheme}127.0.0.1:${signpost.port}`, {
        maxRedirects: 1,
        headers: scheme === 'ws://' ? SECRETS : { 'X-Mine': 'yes' },
        subprotocols: ['chat', 'bearer.secret'],
        origin: 'https://app.example',
      })
      const { headers, lines } = await end.requests.next()
      expect(lines.join('\n')).not.toMatch(/secret|authorization|cookie|invented/i)
      expect(headers.get('x-mine')).toBe('yes')
      expect(headers.get('origin')).toBe('https://app.example')
      expect(headers.get('sec-websocket-protocol')).toBe('chat')
    },
  )

  it('takes another name of the same machine for another origin', async () => {
    const requests = new Queue<RawHead>()
    const { port } = await startRawServer((peer, request) => {
      requests.push(request)
      peer.send(request.text.includes(' /end ') ? acceptance(request) : redirect(`//localhost:${port}/end`))
    })
    await openClient(`ws://127.0.0.1:${port}/`, { maxRedirects: 1, headers: SECRETS })
    const [, last] = await requests.take(2)
    expect(last?.lines.join('\n')).not.toMatch(/secret/)
  })

  it('tells no secrets on the way back either', async () => {
    const other = await startSignpost(() => `ws://127.0.0.1:${home.port}/end`)
    const requests = new Queue<RawHead>()
    const home = await startRawServer((peer, request) => {
      requests.push(request)
      peer.send(request.text.includes(' /end ') ? acceptance(request) : redirect(other.url))
    })
    await openClient(home.url, { maxRedirects: 2, headers: SECRETS })
    const [first, last] = await requests.take(2)
    expect(first?.lines.join('\n')).toMatch(/secret/)
    expect(last?.lines.join('\n')).not.toMatch(/secret/)
  })

  it('may lead from ws: to wss:, without secrets and client certificate, under the new name', async () => {
    const server = createTlsServer({ ...certificate, requestCert: true, rejectUnauthorized: false })
    const seen = new Queue<{ lines: readonly string[]; hasCertificate: boolean; servername: string | false | null }>()
    server.on('secureConnection', async (socket) => {
      onTestFinished(() => void socket.destroy())
      const peer = new RawClient(socket)
      const request = await peer.readHead()
      const hasCertificate = Object.keys(socket.getPeerCertificate()).length > 0
      seen.push({ lines: request.lines, hasCertificate, servername: socket.servername })
      peer.send(acceptance(request))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const url = `https://127.0.0.1:${portOf(server)}/`
    const tls = { ca: certificate.cert, cert: certificate.cert, key: certificate.key, servername: 'localhost' }

    await openClient(url, { headers: SECRETS, tls })
    expect(await seen.next()).toMatchObject({ hasCertificate: true, servername: 'localhost' })

    const signpost = await startSignpost(() => url)
    await openClient(signpost.url, { maxRedirects: 1, headers: SECRETS, tls })
    const { lines, hasCertificate, servername } = await seen.next()
    expect(lines.join('\n')).not.toMatch(/secret/)
    expect([hasCertificate, servername]).toEqual([false, false])
  })

  it('never leads from wss: to ws:', async () => {
    const end = await startEnd()
    const { httpServer, port } = await startHttpServer('https')
    for (const scheme of ['ws:', 'http:']) {
      httpServer.removeAllListeners('upgrade')
      httpServer.on('upgrade', (_, socket) => socket.end(redirect(`${scheme}//127.0.0.1:${end.port}/`)))
      const failure = await failureOf(`wss://localhost:${port}`, { maxRedirects: 5, tls: { ca: certificate.cert } })
      expect(failure).toMatchObject({ name: 'HandshakeError', code: 'ERR_REDIRECT', status: 302 })
      expect(failure.message).toMatch(/wss: to ws:/)
    }
    expect(end.requests.all).toEqual([])
  })

  it.each([
    undefined,
    '',
    'ws://',
    'http://[::',
    'ftp://127.0.0.1/',
    'file:///etc/passwd',
    'javascript:1',
    'ws+unix:/a.sock:/',
  ])('leads nowhere with the Location %j', async (location) => {
    const signpost = await startSignpost((_, count) => (count === 1 ? location : 'ftp://the.end/'))
    const failure = await failureOf(signpost.url, { maxRedirects: 5 })
    expect(failure).toMatchObject({ name: 'HandshakeError', code: 'ERR_REDIRECT', status: 302 })
  })

  it('is followed as often as it is allowed', async () => {
    const signpost = await startSignpost((_, count) => `/${count}`)
    for (const maxRedirects of [1, 3]) {
      const before = signpost.requests.all.length
      expect(await failureOf(signpost.url, { maxRedirects })).toMatchObject({
        code: 'ERR_TOO_MANY_REDIRECTS',
        status: 302,
      })
      expect(signpost.requests.all.length - before).toBe(maxRedirects + 1)
    }
  })

  it('does not begin the time of the handshake again', async () => {
    const { url } = await startRawServer((peer) => {
      setTimeout(() => peer.send(redirect('/again')), 20)
    })
    expect(await failureOf(url, { maxRedirects: 1_000, handshakeTimeoutMs: 150 })).toMatchObject({
      code: 'ERR_HANDSHAKE_TIMEOUT',
    })
  })

  it('is given up with its signal on the second leg', async () => {
    const asked = new Queue<RawClient>()
    const silent = await startRawServer((peer) => asked.push(peer))
    const signpost = await startSignpost(() => silent.url)
    const controller = new AbortController()
    const failure = failureOf(signpost.url, { maxRedirects: 1, signal: controller.signal })
    const peer = await asked.next()
    const reason = new Error('changed my mind')
    controller.abort(reason)
    expect(await failure).toBe(reason)
    await peer.ended()
  })
})

describe('Retry-After', () => {
  it.each<[string, (ms: number | undefined) => boolean]>([
    ['7', (ms) => ms === 7_000],
    ['0', (ms) => ms === 0],
    [new Date(Date.now() + 3_600_000).toUTCString(), (ms) => ms !== undefined && ms > 3_000_000 && ms <= 3_600_000],
    ['Wed, 21 Oct 2015 07:28:00 GMT', (ms) => ms === 0],
    ['soon', (ms) => ms === undefined],
    ['-5', (ms) => ms === undefined || ms === 0],
  ])('is in the error: %s', async (value, isRight) => {
    const { url } = await startRawServer((peer) => {
      peer.send(`HTTP/1.1 503 Busy\r\nRetry-After: ${value}\r\nContent-Length: 0\r\n\r\n`)
    })
    const { retryAfterMs } = await failureOf(url)
    expect(isRight(retryAfterMs), String(retryAfterMs)).toBe(true)
  })

  it('is undefined where the server says nothing of it', async () => {
    const { url } = await startRawServer((peer) => peer.send('HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n'))
    expect((await failureOf(url)).retryAfterMs).toBeUndefined()
  })
})
