import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Inbox, type Message } from '../../src/inbox.ts'

const DONE = { done: true, value: undefined }
const ERROR = new Error('the connection is closed')

describe('messages that wait', () => {
  it('come out in order', () => {
    const inbox = new Inbox()
    const messages: Message[] = ['text', Buffer.from('binary'), '']
    for (const message of messages) inbox.push(message)
    expect([inbox.shift(), inbox.shift(), inbox.shift(), inbox.shift()]).toEqual([...messages, undefined])
  })

  it('make it not empty', () => {
    const inbox = new Inbox()
    expect(inbox.empty).toBe(true)
    inbox.push('')
    expect(inbox.empty).toBe(false)
    inbox.shift()
    expect(inbox.empty).toBe(true)
  })

  it('make it full when there are many', () => {
    const inbox = new Inbox()
    for (let count = 0; count < 15; count++) inbox.push('')
    expect(inbox.full).toBe(false)
    inbox.push('')
    expect(inbox.full).toBe(true)
    inbox.shift()
    expect(inbox.full).toBe(false)
  })

  it('make it full when they are long', () => {
    const inbox = new Inbox()
    inbox.push(Buffer.alloc(65_535))
    expect(inbox.full).toBe(false)
    inbox.push('x')
    expect(inbox.full).toBe(true)
    inbox.shift()
    expect(inbox.full).toBe(false)
  })

  it('can be dropped', () => {
    const inbox = new Inbox()
    for (let count = 0; count < 20; count++) inbox.push('x'.repeat(10_000))
    inbox.clear()
    expect(inbox.empty).toBe(true)
    expect(inbox.full).toBe(false)
    expect(inbox.shift()).toBeUndefined()
  })
})

describe('reading', () => {
  it('gets a message that waits', async () => {
    const inbox = new Inbox()
    inbox.push('first')
    await expect(inbox.read()).resolves.toEqual({ done: false, value: 'first' })
    expect(inbox.empty).toBe(true)
  })

  it('waits for a message, first come, first served', async () => {
    const inbox = new Inbox()
    const reads = [inbox.read(), inbox.read()]
    inbox.push('one')
    inbox.push('two')
    inbox.push('three')
    await expect(Promise.all(reads)).resolves.toEqual([
      { done: false, value: 'one' },
      { done: false, value: 'two' },
    ])
    expect(inbox.shift()).toBe('three')
  })

  it('does not count what a reader has waited for', () => {
    const inbox = new Inbox()
    void inbox.read()
    inbox.push(Buffer.alloc(100_000))
    expect(inbox.full).toBe(false)
    expect(inbox.empty).toBe(true)
  })
})

describe('the end', () => {
  it('comes behind the last message, and stays', async () => {
    const inbox = new Inbox()
    inbox.push('last')
    inbox.end(undefined)
    await expect(inbox.read()).resolves.toEqual({ done: false, value: 'last' })
    await expect(inbox.read()).resolves.toEqual(DONE)
    await expect(inbox.read()).resolves.toEqual(DONE)
  })

  it('ends all reads that wait', async () => {
    const inbox = new Inbox()
    const reads = [inbox.read(), inbox.read()]
    inbox.end(undefined)
    await expect(Promise.all(reads)).resolves.toEqual([DONE, DONE])
  })

  it('is an error for the next read only', async () => {
    const inbox = new Inbox()
    inbox.push('last')
    inbox.end(ERROR)
    await expect(inbox.read()).resolves.toEqual({ done: false, value: 'last' })
    await expect(inbox.read()).rejects.toBe(ERROR)
    await expect(inbox.read()).resolves.toEqual(DONE)
  })

  it('is an error for the first of the reads that wait', async () => {
    const inbox = new Inbox()
    const reads = [inbox.read(), inbox.read()]
    inbox.end(ERROR)
    await expect(Promise.allSettled(reads)).resolves.toEqual([
      { status: 'rejected', reason: ERROR },
      { status: 'fulfilled', value: DONE },
    ])
    await expect(inbox.read()).resolves.toEqual(DONE)
  })

  it('is no rejection that nobody hears of', async () => {
    const inbox = new Inbox()
    inbox.end(ERROR)
    await new Promise((resolve) => setImmediate(resolve))
    await expect(inbox.read()).rejects.toBe(ERROR)
  })
})

describe('any order of pushes and reads', () => {
  it('hands over every message once, in order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 100 }), async (steps) => {
        const inbox = new Inbox()
        const reads: ReturnType<Inbox['read']>[] = []
        let pushed = 0
        for (const isRead of steps) {
          if (isRead) reads.push(inbox.read())
          else inbox.push(`message ${pushed++}`)
        }
        while (reads.length < pushed) reads.push(inbox.read())
        inbox.end(undefined)
        const results = await Promise.all(reads)
        const values = results.map(({ value }) => value)
        expect(values.slice(0, pushed)).toEqual(Array.from({ length: pushed }, (_, index) => `message ${index}`))
        expect(results.slice(pushed)).toEqual(results.slice(pushed).map(() => DONE))
      }),
    )
  })
})
