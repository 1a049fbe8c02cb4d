import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttpsServer, get as getHttps } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect, createApi, type Message, WebSocketServer, type WebSocketServerOptions } from '../../src/index.ts'
import { type Certificate, makeCertificate } from '../support/certificate.ts'
import { readCodeBlocks } from '../support/documents.ts'
import { defer, Queue } from '../support/queue.ts'
import { closeOf, ping, plainRequest, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import {
  certificate,
  closeBehindTest,
  firstClient,
  openClient,
  portOf,
  startServer,
  until,
} from '../support/servers.ts'

const echo: WebSocketServerOptions = { tls: certificate, message: (client, data) => void client.send(data) }
const ca = certificate.cert

it('server.close does not wait for a peer that never begins its TLS handshake', async () => {
  const { server, port } = await startServer({ tls: certificate, handshakeTimeoutMs: 60_000 })
  const silent = await RawClient.connect({ port })
  // The server has accepted in order: when a later one is in, so is the silent one.
  await RawClient.open({ port, ca: certificate.cert })
  await server.close({ timeoutMs: 100 })
  await silent.ended()
})

it('a burst of pings from a peer that reads is answered ping by ping', async () => {
  const { port } = await startServer({ tls: certificate })
  const client = await RawClient.open({ port, ca: certificate.cert })
  const count = 3_000
  client.send(...Array.from({ length: count }, (_, index) => ping(String(index))))
  for (let index = 0; index < count; index++) {
    const { opcode, payload } = await client.readFrame()
    expect([opcode, payload.toString()]).toEqual([10, String(index)])
  }
})

describe('over wss', () => {
  it('a client of ours and a server of ours echo and close', async () => {
    const requests = new Queue<object>()
    const { url, server } = await startServer({
      ...echo,
      open: (client, { secure, remoteAddress }) => requests.push({ secure, remoteAddress, path: client.path }),
    })
    expect(url).toMatch(/^wss:/)
    const messages = new Queue<Message>()
    const closed = new Queue<object>()
    const client = await openClient(`${url}/path?a=b`, {
      message: (_, data) => messages.push(data),
      close: (_, event) => closed.push(event),
    })
    expect(await requests.next()).toEqual({ secure: true, remoteAddress: '127.0.0.1', path: '/path' })
    client.send('text')
    client.send(Buffer.from('binary'))
    client.send('')
    expect(await messages.take(3)).toEqual(['text', Buffer.from('binary'), ''])
    await client.delivered()
    client.close(4_000, 'bye')
    expect(await closed.next()).toEqual({ code: 4_000, reason: '', wasClean: true })
    await until(() => server.clients.size === 0)
  })

  it('a name is checked against the certificate, and https: is another word for it', async () => {
    const { port } = await startServer(echo)
    const connection = await openClient(`https://localhost:${port}/`)
    await connection.delivered()
    await expect(connect(`wss://127.0.0.1:${port}`, { tls: { ca, servername: 'elsewhere.example' } })).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' }),
    )
  })

  it('a certificate that nobody vouches for is refused, with the reason of the system', async () => {
    const { url, expectEcho } = await startEcho()
    await expect(connect(url)).rejects.toMatchObject({
      code: expect.stringMatching(/^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN)$/),
    })
    await expect(connect(url, { tls: { ca: makeCertificate().cert } })).rejects.toBeInstanceOf(Error)
    await expectEcho()
  })

  it('bytes of all values and sizes arrive, both ways at once', async () => {
    const limits = { maxMessageBytes: 32_000_000, maxBufferedBytes: 64_000_000 }
    const { url } = await startServer({ ...echo, ...limits })
    const answers = new Queue<Message>()
    const client = await openClient(url, { ...limits, message: (_, data) => answers.push(data) })
    const sent = [0, 1, 16_383, 16_384, 16_385, 262_144, 262_145, 1_000_000, 10_000_000].map((size) => {
      const bytes = Buffer.allocUnsafe(size)
      for (let at = 0; at < size; at++) bytes[at] = (at * 7) >> (at % 5)
      return bytes
    })
    for (const bytes of sent) expect(client.send(bytes)).toBe(true)
    for (const bytes of sent) expect(((await answers.next()) as Buffer).equals(bytes)).toBe(true)
  })

  it('a broadcast reaches all, and is whole for each', async () => {
    const { server, port } = await startServer(echo)
    const raws: RawClient[] = []
    while (raws.length < 10) raws.push(await RawClient.open({ port, ca }))
    const large = 'large '.repeat(50_000)
    for (const message of ['small', large, 'small again']) {
      expect(server.broadcast(message)).toEqual({ sent: 10, dropped: 0 })
    }
    for (const raw of raws) {
      expect(await raw.readText()).toBe('small')
      expect((await raw.readText()) === large).toBe(true)
      expect(await raw.readText()).toBe('small again')
    }
  })

  it('a request that comes in many records, and a frame in the same record as its end, are taken', async () => {
    const { port } = await startServer(echo)
    const raw = await RawClient.connect({ port, ca })
    const bytes = Buffer.concat([Buffer.from(upgradeRequest()), text('hello')])
    for (let at = 0; at < bytes.length; at += 40) {
      raw.send(bytes.subarray(at, at + 40))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await raw.readHead()).status).toBe(101)
    expect(await raw.readText()).toBe('hello')
  })

  it('plain https requests are answered', async () => {
    const { port } = await startServer({ ...echo, respond: (request) => ({ body: `secure: ${request.secure}` }) })
    const body = await new Promise<string>((resolve, reject) => {
      const request = getHttps({ port, host: '127.0.0.1', servername: 'localhost', ca, agent: false }, (response) => {
        response.setEncoding('utf8').on('data', resolve)
      })
      request.on('error', reject)
    })
    expect(body).toBe('secure: true')
  })

  it('options of node:tls are passed on', async () => {
    const { port } = await startServer({ ...echo, tls: { ...certificate, minVersion: 'TLSv1.3' } })
    const old = connectTls({ port, host: '127.0.0.1', ca, servername: 'localhost', maxVersion: 'TLSv1.2' })
    onTestFinished(() => void old.destroy())
    const [error] = await once(old, 'error')
    expect(error).toBeInstanceOf(Error)
    const raw = await RawClient.open({ port, ca })
    raw.send(text('hello'))
    expect(await raw.readText()).toBe('hello')
  })

  it('a key that is none rejects listen', async () => {
    const server = new WebSocketServer({ tls: { key: 'no key', cert: 'no certificate' } })
    closeBehindTest(server)
    await expect(server.listen()).rejects.toBeInstanceOf(Error)
    expect(server.port).toBeNull()
  })
})

/** A server that echoes, and shows that it still does. */
async function startEcho(options: WebSocketServerOptions = {}): Promise<{
  server: WebSocketServer
  port: number
  url: string
  expectEcho(): Promise<void>
}> {
  const started = await startServer({ ...echo, ...options })
  return {
    ...started,
    async expectEcho() {
      const raw = await RawClient.open({ port: started.port, ca })
      raw.send(text('hello'))
      expect(await raw.readText()).toBe('hello')
      await raw.leave(1000)
    },
  }
}

describe('what is no TLS', () => {
  it.each<[string, string | Uint8Array]>([
    ['a plain HTTP request', plainRequest()],
    ['a plain request for a WebSocket', upgradeRequest()],
    ['garbage', Buffer.alloc(5_000, 0xff)],
    ['half a record', Uint8Array.of(0x16, 3, 1, 2, 0, 1)],
    ['an old handshake', Buffer.concat([Uint8Array.of(0x80, 0x2e, 1, 0, 2), Buffer.alloc(41)])],
  ])('harms nobody: %s', async (_, bytes) => {
    const { port, expectEcho } = await startEcho({ handshakeTimeoutMs: 50 })
    const raw = await RawClient.connect({ port })
    raw.send(bytes)
    // Nobody speaks HTTP here that could be answered.
    expect(String(await raw.readToEnd())).not.toContain('HTTP')
    await expectEcho()
  })

  it('is cut after handshakeTimeoutMs when nothing comes at all', async () => {
    const { port, expectEcho } = await startEcho({ handshakeTimeoutMs: 50 })
    const raw = await RawClient.connect({ port })
    await raw.ended()
    await expectEcho()
  })

  it('a reset in the middle of the TLS handshake harms nobody', async () => {
    const { port, expectEcho } = await startEcho()
    for (let round = 0; round < 5; round++) {
      const raw = await RawClient.connect({ port })
      raw.send(Uint8Array.of(0x16, 3, 1))
      raw.reset()
    }
    await expectEcho()
  })

  it('a wss client on a ws port gets an error, and the server goes on', async () => {
    const { port } = await startServer({ ...echo, tls: undefined, handshakeTimeoutMs: 100 })
    await expect(connect(`wss://127.0.0.1:${port}`, { tls: { ca } })).rejects.toBeInstanceOf(Error)
    const raw = await RawClient.open({ port })
    raw.send(text('hello'))
    expect(await raw.readText()).toBe('hello')
  })
})

describe('backpressure over wss', () => {
  it('holds back a peer that does not read, delivers all of it when it does, and says drain', async () => {
    const size = 1_000_000
    const count = 24
    const drained = new Queue<number>()
    const { server, port } = await startServer({
      ...echo,
      maxBufferedBytes: 2 * size * count,
      drain: (client) => drained.push(client.bufferedBytes),
    })
    const raw = await RawClient.open({ port, ca })
    raw.stopReading()
    const client = await firstClient(server)
    for (let index = 0; index < count; index++) client.send(Buffer.alloc(size, index))
    expect(client.bufferedBytes).toBeGreaterThan(size)
    const flushed = client.flushed()
    raw.startReading()
    for (let index = 0; index < count; index++) {
      expect((await raw.readFrame()).payload.equals(Buffer.alloc(size, index))).toBe(true)
    }
    await flushed
    expect(await drained.next()).toBe(0)
  })

  it('close() behind much that is unread waits for it', async () => {
    const { server, port } = await startServer({ ...echo, maxBufferedBytes: 64_000_000, closeTimeoutMs: 60_000 })
    const raw = await RawClient.open({ port, ca })
    raw.stopReading()
    const client = await firstClient(server)
    client.send(Buffer.alloc(20_000_000, 'all'))
    const closing = server.close()
    raw.startReading()
    expect((await raw.readFrame()).payload.equals(Buffer.alloc(20_000_000, 'all'))).toBe(true)
    expect(closeOf(await raw.readFrame()).code).toBe(1001)
    await raw.leave(1001)
    await closing
  })
})

it('a server of ours attached to a node:https server with its own certificate speaks wss', async () => {
  const own = makeCertificate()
  const httpsServer = createHttpsServer(own, (_, response) => void response.end('page'))
  httpsServer.listen(0, '127.0.0.1')
  await once(httpsServer, 'listening')
  onTestFinished(() => {
    httpsServer.closeAllConnections()
    httpsServer.close()
  })
  const server = new WebSocketServer({ message: (client, data) => void client.send(data) })
  closeBehindTest(server)
  server.attach(httpsServer, { path: '/socket' })
  const url = `wss://127.0.0.1:${portOf(httpsServer)}/socket`
  const messages = new Queue<Message>()
  const client = await openClient(url, { tls: { ca: own.cert }, message: (_, data) => messages.push(data) })
  const large = Buffer.alloc(1_000_000, 'large')
  client.send(large)
  expect(((await messages.next()) as Buffer).equals(large)).toBe(true)
})

// ── certificates that change ──────────────────────────────────────────────────────────────────────────────────────

const renewed = makeCertificate()

/** The certificate that a server shows now; `resumes` is the session of an earlier connection. */
async function handshake(port: number, options: { host?: string; resumes?: Buffer } = {}) {
  const { host = '127.0.0.1', resumes } = options
  const socket = connectTls({
    port,
    host,
    servername: 'localhost',
    rejectUnauthorized: false,
    ...(resumes && { session: resumes }),
  })
  onTestFinished(() => void socket.destroy())
  await once(socket, 'secureConnect')
  return { socket, cert: socket.getPeerX509Certificate()?.toString(), isResumed: socket.isSessionReused() }
}

async function shownBy(port: number, host?: string): Promise<Certificate | undefined> {
  const { cert } = await handshake(port, host === undefined ? {} : { host })
  return [certificate, renewed].find((one) => one.cert === cert)
}

describe('server.updateTls', () => {
  it('gives the new certificate to handshakes from now on; open connections go on', async () => {
    const { server, port, url } = await startServer(echo)
    const answers = new Queue<Message>()
    const before = await openClient(url, { message: (_, data) => answers.push(data) })
    expect(await shownBy(port)).toBe(certificate)

    await server.updateTls(renewed)
    expect(await shownBy(port)).toBe(renewed)
    const behind = await openClient(url, { tls: { ca: renewed.cert }, message: (_, data) => answers.push(data) })
    await expect(connect(url, { tls: { ca } })).rejects.toBeInstanceOf(Error)
    for (const client of [before, behind]) {
      client.send('still here')
      expect(await answers.next()).toBe('still here')
    }
    expect(server.clients.size).toBe(2)
  })

  it('on both loopback addresses', async () => {
    const { server } = await startServer(echo)
    const { port } = server
    await server.updateTls(renewed)
    expect(await shownBy(port!, '127.0.0.1')).toBe(renewed)
    const second = await shownBy(port!, '::1').catch((error: NodeJS.ErrnoException) => error.code)
    expect([renewed, 'EADDRNOTAVAIL', 'EAFNOSUPPORT']).toContain(second)
  })

  it('takes up no session of the old certificate', async () => {
    const { server, port } = await startServer({ tls: { ...certificate, maxVersion: 'TLSv1.2' } })
    const resumes = (await handshake(port)).socket.getSession()!
    expect((await handshake(port, { resumes })).isResumed).toBe(true)
    await server.updateTls(renewed)
    expect((await handshake(port, { resumes })).isResumed).toBe(false)
  })

  it('asks the function again that was given as tls: at listen, and at each call without argument', async () => {
    const given = [certificate, renewed, certificate]
    let calls = 0
    const { server, port } = await startServer({ ...echo, tls: () => given[calls++]! })
    expect([calls, await shownBy(port)]).toEqual([1, certificate])
    await server.updateTls()
    expect([calls, await shownBy(port)]).toEqual([2, renewed])
    await server.updateTls()
    expect([calls, await shownBy(port)]).toEqual([3, certificate])
    // What is given goes before what the function would give.
    await server.updateTls(renewed)
    expect([calls, await shownBy(port)]).toEqual([3, renewed])
  })

  it('waits for a function that is async; of several calls the last one counts', async () => {
    const slow = defer<Certificate>()
    const loads = [Promise.resolve(certificate), slow.promise]
    const { server, port } = await startServer({ ...echo, tls: async () => loads.shift()! })
    const updates = [server.updateTls(), server.updateTls(renewed)]
    expect(await shownBy(port)).toBe(certificate)
    slow.resolve(certificate)
    await Promise.all(updates)
    expect(loads).toEqual([])
    expect(await shownBy(port)).toBe(renewed)
  })

  it('keeps the options that are not given: what was refused before is refused behind it', async () => {
    const { server, port } = await startServer({ ...echo, tls: { ...certificate, minVersion: 'TLSv1.3' } })
    await server.updateTls(renewed)
    expect(await shownBy(port)).toBe(renewed)
    const old = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion: 'TLSv1.2' })
    onTestFinished(() => void old.destroy())
    expect((await once(old, 'error'))[0]).toBeInstanceOf(Error)
    await server.updateTls({ minVersion: 'TLSv1.2' })
    const { socket } = await handshake(port)
    expect(socket.getProtocol()).toBe('TLSv1.3')
    expect(await shownBy(port)).toBe(renewed)
  })

  it.each<[string, object | undefined, object]>([
    ['a key that is none', { key: 'no key', cert: renewed.cert }, { code: 'ERR_OPTION', cause: expect.any(Error) }],
    ['a certificate that is none', { key: renewed.key, cert: 'none' }, { code: 'ERR_OPTION' }],
    ['the key of another certificate', { key: certificate.key, cert: renewed.cert }, { code: 'ERR_OPTION' }],
    ['a certificate without a key', { cert: renewed.cert }, { code: 'ERR_OPTION' }],
    ['no object', 'renewed.pem' as unknown as object, { code: 'ERR_OPTION' }],
    ['what a listening server cannot change', { ...renewed, requestCert: true }, { code: 'ERR_OPTION' }],
    ['nothing, where tls was no function', undefined, { code: 'ERR_OPTION' }],
  ])('rejects %s, and goes on with the old one', async (_, given, error) => {
    const { server, port } = await startServer(echo)
    await expect(server.updateTls(given)).rejects.toMatchObject({ name: 'UsageError', ...error })
    expect(await shownBy(port)).toBe(certificate)
    await server.updateTls(renewed)
    expect(await shownBy(port)).toBe(renewed)
  })

  it.each<[string, () => never, object]>([
    ['throws', source, { message: 'the file is being written' }],
    ['rejects', (async () => source()) as () => never, { message: 'the file is being written' }],
    ['gives nothing', (() => undefined) as () => never, { name: 'UsageError', code: 'ERR_OPTION' }],
    ['gives no certificate', (() => ({})) as () => never, { name: 'UsageError', code: 'ERR_OPTION' }],
  ])('rejects when the function %s, and goes on with the old one', async (_, failing, error) => {
    let load: () => Certificate = () => certificate
    const { server, port } = await startServer({ ...echo, tls: () => load() })
    load = failing
    await expect(server.updateTls()).rejects.toMatchObject(error)
    expect(await shownBy(port)).toBe(certificate)
    load = () => renewed
    await server.updateTls()
    expect(await shownBy(port)).toBe(renewed)
  })

  it('rejects where there is no TLS: on a server over ws://, and before and behind listening', async () => {
    const wrong = { name: 'UsageError', code: 'ERR_SERVER_STATE' }
    const { server: plain } = await startServer()
    await expect(plain.updateTls(renewed)).rejects.toMatchObject(wrong)
    await expect(plain.updateTls()).rejects.toMatchObject(wrong)
    const server = new WebSocketServer({ tls: certificate })
    closeBehindTest(server)
    await expect(server.updateTls(renewed)).rejects.toMatchObject(wrong)
    await server.listen()
    await server.close()
    await expect(server.updateTls(renewed)).rejects.toMatchObject(wrong)
  })
})

describe('tls as a function', () => {
  it('that fails rejects listen, and nothing listens', async () => {
    for (const tls of [source, async () => source()]) {
      const server = new WebSocketServer({ tls })
      closeBehindTest(server)
      await expect(server.listen()).rejects.toThrow('the file is being written')
      expect(server.port).toBeNull()
    }
  })

  it('that gives no object rejects listen with a UsageError', async () => {
    const server = new WebSocketServer({ tls: (() => 'cert.pem') as unknown as () => Certificate })
    closeBehindTest(server)
    await expect(server.listen()).rejects.toMatchObject({ name: 'UsageError', code: 'ERR_OPTION' })
  })

  it('is an option of startServer, too', async () => {
    const api = createApi()
    onTestFinished(async () => void (await api.stopServer()))
    const { port } = await api.startServer({ possiblePorts: [0], token: 'a token', tls: async () => certificate })
    expect(await shownBy(port!)).toBe(certificate)
  })
})

function source(): never {
  throw new Error('the file is being written')
}

const hasOpenssl = spawnSync('sh', ['-c', 'openssl version']).status === 0

describe('an authority of an installation, as docs/CERTIFICATES.md makes it', () => {
  const [commands] = readCodeBlocks().filter(
    ({ place, language }) => place.startsWith('docs/CERTIFICATES.md') && language === 'sh',
  )
  /** One command per line, however it is broken. */
  const lines = commands!.code.replaceAll('\\\n', ' ').trim().split('\n')
  const forget = lines.filter((line) => line.startsWith('rm '))
  const sign = lines.filter((line) => !line.startsWith('rm '))

  function makeFiles() {
    const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const run = (line: string) => execFileSync('sh', ['-e', '-c', line], { cwd: folder, stdio: 'pipe' })
    return { run, read: (name: string) => readFileSync(join(folder, name), 'utf8') }
  }

  it.runIf(hasOpenssl)('vouches for its name, and for no other', async () => {
    const { run, read } = makeFiles()
    for (const line of sign) run(line)
    const tls = { cert: read('cert.pem'), key: read('key.pem') }
    // The same once more, with names that the authority is not for.
    for (const line of sign.slice(1))
      run(line.replaceAll('local.app.example', 'bank.example').replaceAll('127.0.0.1', '127.0.0.2'))
    const foreign = { cert: read('cert.pem'), key: read('key.pem') }
    for (const line of forget) run(line)
    expect(() => read('authority-key.pem')).toThrow(/ENOENT/)

    const { port, url, server } = await startServer({ ...echo, tls })
    const trusted = { ca: read('authority.pem') }
    await openClient(url, { tls: trusted })
    await openClient(url, { tls: { ...trusted, servername: 'local.app.example' } })
    await expect(connect(url, { tls: { ...trusted, servername: 'bank.example' } })).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    })
    await server.updateTls(foreign)
    await expect(connect(url, { tls: { ...trusted, servername: 'bank.example' } })).rejects.toMatchObject({
      message: expect.stringMatching(/permitted subtree/),
    })
    await server.updateTls(tls)
    await openClient(`wss://127.0.0.1:${port}`, { tls: trusted })
  })
})
