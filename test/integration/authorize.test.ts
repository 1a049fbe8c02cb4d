import { describe, expect, it } from 'vitest'
import { type Authorization, HandshakeError, type Refusal } from '../../src/index.ts'
import { defer, Queue } from '../support/queue.ts'
import { plainRequest, RawClient, text, upgradeRequest } from '../support/raw-client.ts'
import { openClient, startServer, until } from '../support/servers.ts'

interface User {
  readonly name: string
}

/** A verdict, given at once or later. */
const manners: readonly [string, <T>(value: T) => T | Promise<T>][] = [
  ['sync', (value) => value],
  ['async', (value) => Promise.resolve(value)],
  ['later', (value) => new Promise((resolve) => setTimeout(() => resolve(value), 10))],
]

describe.each(manners)('an authorize handler that answers %s', (_, give) => {
  it('accepts with data, which becomes client.data, and with headers of the answer', async () => {
    const events = new Queue<string>()
    const { port } = await startServer<User>({
      authorize: (request) =>
        give<Authorization<User>>({
          accept: true,
          data: { name: request.query.get('name') ?? 'nobody' },
          headers: { 'Set-Cookie': 'session=1; HttpOnly', 'X-Number': 'one' },
        }),
      open: (client) => events.push(`open ${client.data.name}`),
      message: (client, data) => {
        client.send(`${client.data.name}: ${data}`)
        client.data = { name: `${client.data.name}!` }
      },
      close: (client) => events.push(`close ${client.data.name}`),
    })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest({ target: '/?name=ann' }), text('hello'))
    const { status, headers } = await client.readHead()
    expect(status).toBe(101)
    expect([headers.get('set-cookie'), headers.get('x-number')]).toEqual(['session=1; HttpOnly', 'one'])
    expect(await client.readText()).toBe('ann: hello')
    await client.leave(1000)
    expect(await events.take(2)).toEqual(['open ann', 'close ann!'])
  })

  it.each([
    ['true', true],
    ['accept: true', { accept: true } as const],
  ])('accepts with %s; the data is undefined', async (_, authorization) => {
    const seen = new Queue<unknown>()
    const { port } = await startServer({
      authorize: () => give(authorization),
      open: (client) => seen.push(client.data),
    })
    await RawClient.open({ port })
    expect(await seen.next()).toBeUndefined()
  })

  it.each<[string, Authorization<unknown> | undefined, number, string | RegExp]>([
    ['false', false, 403, /^[^\r\n]+\n$/],
    ['accept: false', { accept: false }, 403, /^[^\r\n]+\n$/],
    ['a status', { accept: false, status: 404 }, 404, /^[^\r\n]+\n$/],
    [
      'a status and a text',
      { accept: false, status: 402, message: 'Pay first \u2013 ann.' },
      402,
      'Pay first \u2013 ann.\n',
    ],
    // By mistake, in JavaScript: what is not a yes is a no.
    ['nothing', undefined, 403, /^[^\r\n]+\n$/],
    ['something truthy', { accept: 1 } as never, 403, /^[^\r\n]+\n$/],
  ])('refuses with %s', async (_, authorization, status, body) => {
    const refusals = new Queue<Refusal>()
    const opened: unknown[] = []
    const { port, server } = await startServer({
      authorize: () => give(authorization) as never,
      refused: refusals.push,
      open: (client) => void opened.push(client),
    })
    const answer = await RawClient.ask({ port }, upgradeRequest(), text('too early'))
    expect(answer.status).toBe(status)
    expect(answer.body).toEqual(typeof body === 'string' ? body : expect.stringMatching(body))
    expect(await refusals.next()).toMatchObject({
      status,
      reason: 'ERR_NOT_AUTHORIZED',
      message: answer.body.trimEnd(),
    })
    expect([opened.length, server.clients.size]).toEqual([0, 0])
  })

  it('refuses with headers', async () => {
    const { port } = await startServer({
      authorize: () =>
        give({ accept: false as const, status: 401, headers: { 'WWW-Authenticate': 'Basic realm="a"' } }),
    })
    const { status, headers } = await RawClient.ask({ port }, upgradeRequest())
    expect([status, headers.get('www-authenticate')]).toEqual([401, 'Basic realm="a"'])
  })

  it.each([99, 101, 199, 600, 1.5, Number.NaN])('refuses with 500 when its status is %d', async (status) => {
    const errors = new Queue<Error>()
    const { port } = await startServer({
      authorize: () => give({ accept: false as const, status }),
      error: errors.push,
    })
    expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(500)
    expect(await errors.next()).toMatchObject({ name: 'UsageError' })
  })
})

describe('an authorize handler that fails', () => {
  const failures: readonly [string, () => never | Promise<never>, string][] = [
    [
      'throws',
      () => {
        throw new Error('the database is down')
      },
      'the database is down',
    ],
    ['rejects', () => Promise.reject(new Error('the database is down')), 'the database is down'],
    ['rejects with something else', () => Promise.reject('a string'), 'a string'],
    [
      'throws nothing',
      () => {
        throw undefined
      },
      'undefined',
    ],
  ]

  it.each(failures)('refuses with 500 and tells the error handler when it %s', async (_, authorize, message) => {
    const errors = new Queue<Error>()
    const refusals = new Queue<Refusal>()
    const { port } = await startServer({ authorize, error: errors.push, refused: refusals.push })
    const { status, body } = await RawClient.ask({ port }, upgradeRequest())
    expect(status).toBe(500)
    expect(body).not.toContain(message)
    const error = await errors.next()
    expect(error).toBeInstanceOf(Error)
    expect(error.message).toBe(message)
    expect(await refusals.next()).toMatchObject({ status: 500, reason: 'ERR_AUTHORIZE_FAILED' })
  })

  it('is a process warning without an error handler', async () => {
    const warnings = new Queue<Error>()
    process.once('warning', warnings.push)
    const { port } = await startServer({ authorize: () => Promise.reject(new Error('the database is down')) })
    expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(500)
    expect((await warnings.next()).message).toBe('the database is down')
  })
})

describe('the rules on Host, Origin and token', () => {
  it('come before authorize: it is not called for those whom they refuse', async () => {
    const asked = new Queue<string>()
    const { port } = await startServer({
      token: 'token',
      hosts: ['app.example'],
      origins: ['https://app.example'],
      authorize: (request) => {
        asked.push(request.url)
        return true
      },
    })
    const from = (target: string, Host: string, Origin: string): string =>
      upgradeRequest({ target, headers: { Host, Origin } })
    for (const [request, status] of [
      [from('/?token=wrong', 'app.example', 'https://app.example'), 401],
      [from('/?token=token', 'evil.example', 'https://app.example'), 403],
      [from('/?token=token', 'app.example', 'https://evil.example'), 403],
      [plainRequest({ headers: { Host: 'app.example' } }), 426],
    ] as const) {
      expect((await RawClient.ask({ port }, request)).status).toBe(status)
    }
    const client = await RawClient.connect({ port })
    client.send(from('/last?token=token', 'app.example', 'https://app.example'))
    expect((await client.readHead()).status).toBe(101)
    expect(asked.all).toEqual(['/last'])
  })

  it('let any Host call a server with authorize, but pages of the same host only', async () => {
    const { port } = await startServer({ authorize: () => true })
    const statuses = []
    for (const [Host, Origin] of [
      ['app.example', undefined],
      ['app.example', 'https://app.example'],
      ['app.example:8080', 'http://app.example:8080'],
      ['app.example', 'https://evil.example'],
      ['app.example', 'http://localhost'],
      ['app.example', 'null'],
      ['app.example', 'https://app.example.evil.example'],
    ]) {
      const client = await RawClient.connect({ port })
      client.send(upgradeRequest({ headers: { Host, Origin } }))
      statuses.push((await client.readHead()).status)
    }
    expect(statuses).toEqual([101, 101, 101, 403, 403, 403, 403])
  })
})

describe('while an authorize handler is at work', () => {
  it('others come in', async () => {
    const verdict = defer<boolean>()
    const { port } = await startServer({
      authorize: (request) => (request.path === '/slow' ? verdict.promise : true),
      message: (client, data) => void client.send(data),
    })
    const slow = await RawClient.connect({ port })
    slow.send(upgradeRequest({ target: '/slow' }))
    const quick = await RawClient.open({ port })
    quick.send(text('hello'))
    expect(await quick.readText()).toBe('hello')
    expect(slow.received).toBe(0)
    verdict.resolve(true)
    expect((await slow.readHead()).status).toBe(101)
  })

  it.each(['reset', 'end'] as const)('the peer may go (%s), whatever the verdict is', async (way) => {
    for (const accept of [true, false]) {
      const asked = defer<void>()
      const verdict = defer<boolean>()
      const opened: unknown[] = []
      const closed: unknown[] = []
      const errors: Error[] = []
      const { port, url, server } = await startServer({
        authorize: (request) => {
          if (request.path !== '/gone') return true
          asked.resolve()
          return verdict.promise
        },
        open: (client) => void opened.push(client.path),
        close: (client) => void closed.push(client.path),
        error: (error) => void errors.push(error),
        message: (client, data) => void client.send(data),
      })
      const gone = await RawClient.connect({ port })
      gone.send(upgradeRequest({ target: '/gone' }), text('hello'))
      await asked.promise
      gone[way]()
      verdict.resolve(accept)
      const other = await openClient(url)
      other.send('still here')
      for await (const message of other) {
        expect(message).toBe('still here')
        break
      }
      // Whether it still got in depends on what the system had seen by then; who is opened is closed.
      await until(() => server.clients.size === 1)
      expect(closed).toEqual(opened.filter((path) => path === '/gone'))
      expect(errors).toEqual([])
    }
  })

  it('the time for the handshake ends: 408, and the verdict changes nothing', async () => {
    const verdict = defer<boolean>()
    const opened: unknown[] = []
    const { port, server } = await startServer({
      handshakeTimeoutMs: 50,
      authorize: () => verdict.promise,
      open: (client) => void opened.push(client),
    })
    const client = await RawClient.connect({ port })
    client.send(upgradeRequest(), text('hello'))
    expect((await client.readAnswer()).status).toBe(408)
    verdict.resolve(true)
    await verdict.promise
    expect([opened.length, server.clients.size]).toEqual([0, 0])
  })

  it('the server may close: 503, and the verdict changes nothing', async () => {
    const asked = defer<void>()
    const verdict = defer<boolean>()
    const opened: unknown[] = []
    const { port, server } = await startServer({
      authorize: (request) => {
        if (request.path !== '/late') return true
        asked.resolve()
        return verdict.promise
      },
      open: (client) => void opened.push(client.path),
    })
    // Keeps the server closing for a while.
    const lingering = await RawClient.open({ port })
    const late = await RawClient.connect({ port })
    late.send(upgradeRequest({ target: '/late' }))
    await asked.promise
    const closing = server.close()
    expect((await late.readAnswer()).status).toBe(503)
    verdict.resolve(true)
    await lingering.leave(1001)
    await closing
    expect(opened).toEqual(['/'])
  })
})

describe('an authorize handler that fails with an error of this library', () => {
  it.each([0, 101, 404])('is no refusal with status %d, but a 500 and an error', async (status) => {
    const upstream = new HandshakeError('ERR_RESPONSE_STATUS', status, 'another server said no')
    for (const authorize of [
      () => Promise.reject(upstream),
      () => {
        throw upstream
      },
    ]) {
      const errors = new Queue<Error>()
      const { port } = await startServer({ authorize, error: errors.push })
      const answer = await RawClient.ask({ port }, upgradeRequest())
      expect(answer.status).toBe(500)
      expect(await errors.next()).toBe(upstream)
    }
  })

  it('says no when it says nothing', async () => {
    const { port } = await startServer({ authorize: () => undefined as never })
    expect((await RawClient.ask({ port }, upgradeRequest())).status).toBe(403)
  })
})
