import { describe, expect, expectTypeOf, it, onTestFinished } from 'vitest'
import { connectApi, type ExposeApiOptions, exposeApi, type FacadeFunctions, facadeFailure } from '../../src/bridge.ts'
import { UsageError } from '../../src/index.ts'
import { collectWarnings, newApi } from '../support/facade.ts'
import { openWindow, type PortCall, PortHub } from '../support/message-ports.ts'
import { defer, Queue } from '../support/queue.ts'
import { until } from '../support/servers.ts'

/*
 * Any object with functions over a bridge, and who may call what.
 */

/** A class, for the functions of an api may need their object. */
class Counter {
  #count = 0
  readonly #listeners = new Set<(count: number, by: number) => unknown>()
  readonly secrets = { token: 'a secret' }

  /** What the listeners have returned. */
  readonly returned: unknown[] = []

  add(by: number): number {
    this.#count += by
    for (const listener of this.#listeners) this.returned.push(listener(this.#count, by))
    return this.#count
  }

  async read(): Promise<{ count: number }> {
    return { count: this.#count }
  }

  fail(): never {
    throw new UsageError('ERR_OPTION', 'of the api')
  }

  async reject(): Promise<never> {
    throw 'a string'
  }

  give(): unknown {
    return () => {}
  }

  /** No event: there is no capital behind `on`. */
  once(): string {
    return 'no event'
  }

  onAdded(listener: (count: number, by: number) => unknown): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  onBroken(_listener: () => void): () => void {
    throw new Error('of onBroken')
  }

  /** An event that nobody can end. */
  onEndless(listener: (count: number) => unknown): undefined {
    this.#listeners.add(listener)
  }

  /** Tells what cannot be cloned. */
  tellFunctions(): void {
    for (const listener of this.#listeners) listener((() => {}) as never, 0)
  }

  reset(): void {
    this.#count = 0
  }

  get listenerCount(): number {
    return this.#listeners.size
  }
}

const NAMES = [
  'add',
  'read',
  'fail',
  'reject',
  'give',
  'once',
  'onAdded',
  'onBroken',
  'onEndless',
  'tellFunctions',
] as const

function exposeCounter(options: ExposeApiOptions<PortCall> = {}) {
  const counter = new Counter()
  const hub = new PortHub()
  onTestFinished(exposeApi(counter, hub, { names: NAMES, ...options }))
  const connect = (url?: string) => {
    const window = openWindow(hub, url)
    const errors = new Queue<Error>()
    return { window, errors, page: connectApi<Counter>(window.page, { names: NAMES, error: errors.push }) }
  }
  return { counter, hub, connect }
}

describe('an api of your own', () => {
  it('is called with values, and gives promises of its results', async () => {
    const { page } = exposeCounter().connect()
    expect(await page.add(2)).toBe(2)
    expect(await page.add(3)).toBe(5)
    expect(await page.read()).toStrictEqual({ count: 5 })
    expect(await page.once()).toBe('no event')
    expect(page).not.toHaveProperty('reset')
  })

  it('has its types, with promises for results', () => {
    const { page } = exposeCounter().connect()
    expectTypeOf(page.add).toEqualTypeOf<(by: number) => Promise<number>>()
    expectTypeOf(page.read).toEqualTypeOf<() => Promise<{ count: number }>>()
    expectTypeOf(page.once).toEqualTypeOf<() => Promise<string>>()
    expectTypeOf(page.onAdded).returns.toEqualTypeOf<() => void>()
    // @ts-expect-error it is no function
    expect(page.listenerCount).toBeUndefined()
    // @ts-expect-error it is no function, and cannot be listed
    expect(() => exposeApi(new Counter(), new PortHub(), { names: ['secrets'] })).toThrow(UsageError)
    // @ts-expect-error there is no such name, of another api than the facade
    expect(() => exposeApi(new Counter(), new PortHub())).toThrow(UsageError)
  })

  it('tells its events with all their values', async () => {
    const { counter, connect } = exposeCounter()
    const { page } = connect()
    const heard = new Queue<number[]>()
    const unsubscribe = page.onAdded((...values) => heard.push(values))
    await page.add(2)
    counter.add(3)
    expect(await heard.take(2)).toEqual([
      [2, 2],
      [5, 3],
    ])
    unsubscribe()
    await page.add(1)
    expect([heard.all.length, counter.listenerCount]).toEqual([2, 0])
  })

  it('rejects with what its functions throw: name, message and code', async () => {
    const { page } = exposeCounter().connect()
    await expect(page.fail()).rejects.toMatchObject({ name: 'UsageError', message: 'of the api', code: 'ERR_OPTION' })
    const error: unknown = await page.reject().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ name: 'Error', message: 'a string' })
    expect(error).not.toHaveProperty('code')
  })

  it('rejects when an argument or a result cannot be cloned', async () => {
    const { page } = exposeCounter().connect()
    await expect(page.give()).rejects.toThrow(/clone/)
    await expect(page.add((() => {}) as never)).rejects.toThrow(/clone/)
    expect(await page.read()).toEqual({ count: 0 })
  })

  it('may say instead what a call that has failed resolves with', async () => {
    const { hub } = exposeCounter()
    const failure = ({ message }: Error, name: string): unknown => ({ failed: name, message })
    const page = connectApi<Counter>(openWindow(hub).page, { names: NAMES, failure })
    expect(await page.fail()).toEqual({ failed: 'fail', message: 'of the api' })
  })

  it('of some functions of the facade may fail as the facade does', async () => {
    const names = ['stopServer', 'broadcast', 'getServer'] as const
    const page = connectApi<FacadeFunctions>(openWindow(new PortHub()).page, { names, failure: facadeFailure })
    const failed = { success: false, message: 'nobody answers on fullduplex' }
    expect(await page.stopServer()).toStrictEqual(failed)
    expect(await page.broadcast({ message: 'to all' })).toStrictEqual({ ...failed, sent: 0, dropped: 0 })
    await expect(page.getServer()).rejects.toThrow(failed.message)
    expect(Object.keys(page)).toEqual(names)
  })

  it('waits for the listeners of a page by what its own listeners return, until the page falls silent', async () => {
    const { counter, connect } = exposeCounter({ answerTimeoutMs: 10 })
    const { page } = connect()
    const answers = [defer(), defer()]
    page.onAdded((count) => answers[count - 1]?.promise)
    await page.add(1)
    await counter.returned[0] // for as long as it is waited for
    await page.add(1)
    expect(counter.returned).toEqual([expect.any(Promise), undefined])
    for (const { resolve } of answers) resolve()
    while (!(counter.returned.at(-1) instanceof Promise)) await page.add(1)
    await counter.returned.at(-1)
  })

  it('that tells what cannot be cloned is told so, and goes on', async () => {
    const errors = new Queue<Error>()
    const { page } = exposeCounter({ error: errors.push }).connect()
    const heard = new Queue<number>()
    page.onAdded(heard.push)
    await page.tellFunctions()
    expect(await errors.next()).toMatchObject({ name: 'DataCloneError' })
    await page.add(1)
    expect(await heard.next()).toBe(1)
  })

  it('is warned of it where nobody wants to know', async () => {
    const warnings = collectWarnings()
    const { page } = exposeCounter().connect()
    page.onAdded(() => {})
    await page.tellFunctions()
    await until(() => warnings.length === 1)
    expect(warnings[0]).toMatchObject({ name: 'DataCloneError' })
  })

  it('of which one event fails tells the page so; its other events are there', async () => {
    const { page, errors } = exposeCounter().connect()
    const heard = new Queue<number>()
    page.onBroken(() => {})
    page.onAdded(heard.push)
    await page.add(1)
    expect(await heard.next()).toBe(1)
    expect(errors.all).toMatchObject([{ message: 'of onBroken' }])
  })

  it('that gives no function to end a subscription is listened to once, however many come and go', async () => {
    const { counter, connect } = exposeCounter()
    const { page } = connect()
    const heard = new Queue<number>()
    page.onEndless(() => {})
    await page.add(1)
    page.onEndless(() => {})()
    await page.add(1)
    const { page: other, window } = connect()
    other.onEndless(heard.push)
    await other.add(1)
    expect(await heard.next()).toBe(3)
    expect(counter.listenerCount).toBe(1)
    window.close()
    await page.add(1)
    expect(heard.all).toEqual([3])
  })
})

describe('what is not listed', () => {
  it.each(['reset', 'secrets', 'listenerCount', 'constructor', 'toString', '__proto__', 'hasOwnProperty', '', 'Add'])(
    'cannot be called, nor listened to: %j',
    async (name) => {
      const { counter, connect } = exposeCounter()
      const { window, page } = connect()
      const ask = (verb: string, ...values: unknown[]) => window.page.invoke('fullduplex', verb, 'a-page', ...values)
      const refused = { error: { name: 'Error', message: `There is no function ${name}.` } }
      await page.add(1)
      expect(await ask('call', name, [])).toStrictEqual(refused)
      expect(await ask('listen', [name])).toStrictEqual(refused)
      expect([await page.read(), counter.listenerCount]).toEqual([{ count: 1 }, 0])
    },
  )

  it.each<[string, unknown[]]>([
    ['an event as a function', ['call', 'a-page', 'onAdded', [() => {}].map(String)]],
    ['a function as an event', ['listen', 'a-page', ['add']]],
    ['an event of another kind of name', ['listen', 'a-page', ['once']]],
    ['a page without a name', ['call', undefined, 'add', [1]]],
    ['nothing', []],
    ['a name that is no string', ['call', 'a-page', ['add'], [1]]],
    ['a name that cannot be one', ['call', 'a-page', { toString: 1 }, [1]]],
    ['no list of names', ['listen', 'a-page', [null]]],
  ])('is refused: %s', async (_, values) => {
    const { counter, connect } = exposeCounter()
    const { window } = connect()
    expect(await window.page.invoke('fullduplex', ...values)).toStrictEqual({
      error: { name: expect.stringMatching(/^(Type)?Error$/), message: expect.any(String) },
    })
    expect([await counter.read(), counter.listenerCount]).toEqual([{ count: 0 }, 0])
  })

  it.each<[string, unknown[]]>([
    ['an unknown word', ['destroy', 'a-page']],
    ['no list of names', ['listen', 'a-page', 'onAdded']],
    ['the end of an event that never was', ['done', 'a-page', 1]],
  ])('does nothing: %s', async (_, values) => {
    const { counter, connect } = exposeCounter()
    const { window } = connect()
    expect(await window.page.invoke('fullduplex', ...values)).toStrictEqual({ value: undefined })
    expect(counter.listenerCount).toBe(0)
  })

  it('is not there, of the facade neither: its emitter stays where it is', async () => {
    const hub = new PortHub()
    onTestFinished(exposeApi(newApi(), hub))
    const { page } = openWindow(hub)
    expect(await page.invoke('fullduplex', 'call', 'a-page', 'events', [])).toHaveProperty('error')
  })
})

describe('allow', () => {
  it('says who may call what; anything but true is a no', async () => {
    const asked: string[] = []
    const answers = new Map<string, unknown>([
      ['add', true],
      ['read', 1],
      ['once', Promise.resolve(true)],
      ['onAdded', true],
    ])
    const { connect } = exposeCounter({
      allow: ({ url }, name) => {
        asked.push(`${url} ${name}`)
        return url === 'app://app/' && (answers.get(name) as boolean)
      },
    })
    const { page } = connect('app://app/')
    expect(await page.add(1)).toBe(1)
    await expect(page.read()).rejects.toThrow('This page may not use read.')
    await expect(page.once()).rejects.toThrow('This page may not use once.')
    const { page: other } = connect('https://evil.example/')
    await expect(other.add(1)).rejects.toThrow('This page may not use add.')
    expect(asked).toEqual(['app://app/ add', 'app://app/ read', 'app://app/ once', 'https://evil.example/ add'])
  })

  it('is asked for events, too; the other events of the page are not concerned', async () => {
    const { counter, connect } = exposeCounter({ allow: (_, name) => name !== 'onBroken' })
    const { page, errors } = connect()
    const heard = new Queue<number>()
    page.onBroken(() => {})
    page.onAdded(heard.push)
    expect(await page.add(1)).toBe(1)
    expect((await errors.next()).message).toBe('This page may not use onBroken.')
    expect(await heard.next()).toBe(1)
    expect(counter.listenerCount).toBe(1)
  })

  it('that throws lets nobody in, and is reported', async () => {
    const errors = new Queue<Error>()
    const { connect } = exposeCounter({
      allow: () => {
        throw new Error('of allow')
      },
      error: errors.push,
    })
    await expect(connect().page.add(1)).rejects.toThrow('This page may not use add.')
    expect((await errors.next()).message).toBe('of allow')
  })
})

describe('bridges', () => {
  it('of several channels do not meet', async () => {
    const hub = new PortHub()
    const [first, second] = [new Counter(), new Counter()]
    const names = ['add', 'onAdded'] as const
    onTestFinished(exposeApi(first, hub, { names, channel: 'first' }))
    onTestFinished(exposeApi(second, hub, { names, channel: 'second' }))
    const { page } = openWindow(hub)
    const heard = new Queue<string>()
    const [one, two] = ['first', 'second'].map((channel) => {
      const connected = connectApi<Counter>(page, { names, channel })
      connected.onAdded((count) => heard.push(`${channel} ${count}`))
      return connected
    })
    expect(await one!.add(1)).toBe(1)
    expect(await two!.add(2)).toBe(2)
    expect((await heard.take(2)).sort()).toEqual(['first 1', 'second 2'])
  })

  it.each<[string, object, string]>([
    ['an unknown option', { alow: () => true }, 'ERR_OPTION_UNKNOWN'],
    ['no list', { names: 'add' }, 'ERR_OPTION'],
    ['no names', { names: [] }, 'ERR_OPTION'],
    ['a name that every object has', { names: ['toString'] }, 'ERR_OPTION'],
    ['a dangerous name', { names: ['__proto__'] }, 'ERR_OPTION'],
    ['an empty name', { names: [''] }, 'ERR_OPTION'],
    ['an empty channel', { channel: '' }, 'ERR_OPTION'],
    ['a channel that is no string', { channel: 1 }, 'ERR_OPTION'],
    ['a handler that is no function', { error: 'no function' }, 'ERR_OPTION'],
  ])('refuse %s, on both sides', (_, options, code) => {
    const hub = new PortHub()
    const wrong = expect.objectContaining({ name: 'UsageError', code })
    expect(() => exposeApi(newApi(), hub, options)).toThrow(wrong)
    expect(() => connectApi(openWindow(hub).page, options)).toThrow(wrong)
    expect(hub.channels).toEqual([])
  })

  it.each<[string, object, string]>([
    ['a name of which there is no function', { names: ['secrets'] }, 'ERR_OPTION'],
    ['a name of nothing', { names: ['nothing'] }, 'ERR_OPTION'],
    ['an option of the other side', { signal: AbortSignal.abort() }, 'ERR_OPTION_UNKNOWN'],
    ['a time that is none', { answerTimeoutMs: 0 }, 'ERR_OPTION'],
    ['allow that is no function', { allow: true }, 'ERR_OPTION'],
  ])('refuse %s, on the main side', (_, options, code) => {
    const given = { names: ['add'], ...options } as never
    expect(() => exposeApi(new Counter(), new PortHub(), given)).toThrow(expect.objectContaining({ code }))
  })
})
