import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

/*
 * The client for pages where a real browser cannot be brought: its permissions, and its patience. Everything else is in
 * test/browser/client.test.ts.
 */

interface Client {
  readonly state: string
  send(data: string): boolean
  retry(): void
  close(): void
}

type ConnectToApp = (options: Record<string, unknown>) => Client

// Its types are those of a browser, which this program does not have.
const FILE = '../../src/browser/client.ts'
const { connectToApp } = (await import(/* @vite-ignore */ FILE)) as { connectToApp: ConnectToApp }

/** A socket that is opened and closed by the test. */
class FakeSocket {
  static readonly all: FakeSocket[] = []
  readyState = 0
  bufferedAmount = 0
  readonly sent: string[] = []
  onopen = (): void => {}
  onclose = (_: object): void => {}

  constructor() {
    FakeSocket.all.push(this)
  }

  send(data: string): void {
    // A real one swallows what comes too late.
    if (this.readyState === 1) this.sent.push(data)
  }

  open(): void {
    this.readyState = 1
    this.onopen()
  }

  close(): void {
    this.readyState = 3
    this.onclose({ code: 1006, reason: '', wasClean: false })
  }
}

/** Whether somebody listens, and which app that is. */
let listening = false
const asked = vi.fn(async () => {
  if (!listening) throw new TypeError('Failed to fetch')
  return { ok: true, json: async () => ({ app: 'my-app', token: 'missing' }) }
})

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  vi.advanceTimersByTime(1) // no page does anything at 0
  vi.stubGlobal('fetch', asked)
  vi.stubGlobal('WebSocket', FakeSocket)
  vi.stubGlobal('location', { protocol: 'http:' })
  vi.stubGlobal('navigator', {})
  listening = false
  FakeSocket.all.length = 0
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
  asked.mockClear()
})

/** Waits for what has been settled already. */
const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0)

describe('the permission to talk to this computer', () => {
  const permissions = (states: Record<string, string>): object => ({
    permissions: {
      query: async ({ name }: { name: string }) => {
        if (!(name in states)) throw new TypeError(`${name} is not a permission`)
        return { state: states[name] }
      },
    },
  })

  it.each([
    ['permission', 'is denied', permissions({ 'loopback-network': 'denied', 'local-network-access': 'prompt' })],
    ['permission', 'is denied under its older name', permissions({ 'local-network-access': 'denied' })],
    ['not-running', 'is given', permissions({ 'loopback-network': 'granted', 'local-network-access': 'granted' })],
    ['not-running', 'was not asked for yet', permissions({ 'loopback-network': 'prompt' })],
    ['not-running', 'is not known to the browser', permissions({})],
    ['not-running', 'cannot be asked for', {}],
  ])('%s: it %s', async (reason, _, browser) => {
    vi.stubGlobal('navigator', browser)
    const failure = vi.fn()
    const client = connectToApp({ possiblePorts: [1], failure })
    await settle()
    expect(failure.mock.calls).toEqual([[{ reason, willRetry: true }]])
    client.close()
  })
})

it('a message for a socket that is closing waits for the next one', async () => {
  listening = true
  const client = connectToApp({ possiblePorts: [1] })
  await settle()
  const [first] = FakeSocket.all as [FakeSocket]
  first.open()
  client.send('in time')
  first.readyState = 2
  expect(client.state).toBe('open')
  expect(client.send('too late')).toBe(true)
  first.close()
  await vi.advanceTimersToNextTimerAsync()
  const [, second] = FakeSocket.all as [FakeSocket, FakeSocket]
  second.open()
  expect([first.sent, second.sent]).toEqual([['in time'], ['too late']])
  client.close()
})

it('an attempt is not disturbed by another', async () => {
  const client = connectToApp({ possiblePorts: [1] })
  client.retry()
  await settle()
  // One to read the answer, one to see whether there is any.
  expect(asked).toHaveBeenCalledTimes(2)
  client.retry()
  client.retry()
  expect(vi.getTimerCount()).toBe(0)
  await settle()
  expect(asked).toHaveBeenCalledTimes(4)
  client.close()
})

describe('the pauses between attempts', () => {
  it('grow to a limit, and are any part of what they may be', async () => {
    const random = vi.spyOn(Math, 'random')
    const parts = [0.99, 0.99, 0.5, 0.99, 0.99, 0, 0.99]
    for (const part of parts) random.mockReturnValueOnce(part)
    const waits = vi.spyOn(globalThis, 'setTimeout')
    const client = connectToApp({ possiblePorts: [1], minDelayMs: 100, maxDelayMs: 1_000 })
    await settle()
    while (waits.mock.calls.length < parts.length) await vi.advanceTimersToNextTimerAsync()
    const pauses = waits.mock.calls.slice(0, parts.length).map(([, pauseMs]) => Math.round(pauseMs ?? 0))
    expect(pauses).toEqual([199, 397, 450, 991, 991, 100, 991])
    client.close()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('begin anew behind a connection that has lasted, and not behind one that was thrown out', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(1)
    listening = true
    const pauses: number[] = []
    const client = connectToApp({ possiblePorts: [1], minDelayMs: 100, maxDelayMs: 1_000 })
    for (const lastedMs of [0, 0, 0, 6_000, 0]) {
      await settle()
      const socket = FakeSocket.all.at(-1)!
      socket.open()
      expect(client.state).toBe('open')
      await vi.advanceTimersByTimeAsync(lastedMs)
      socket.close()
      expect(client.state).toBe('waiting')
      const since = performance.now()
      await vi.advanceTimersToNextTimerAsync()
      pauses.push(performance.now() - since)
    }
    expect(pauses).toEqual([200, 400, 800, 200, 400])
    client.close()
  })
})
