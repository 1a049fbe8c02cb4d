import { describe, expect, it, vi } from 'vitest'
import { WebSocketError } from '../../src/errors.ts'
import { PingLedger } from '../../src/pings.ts'

describe('a pong', () => {
  it('gives the round-trip time of its ping', () => {
    const pings = new PingLedger()
    const payload = pings.add(1_000)
    expect(pings.answer(payload, 1_042)).toBe(42)
  })

  it('settles its ping, once', () => {
    const pings = new PingLedger()
    const settle = vi.fn()
    const payload = pings.add(0, settle)
    expect(settle).not.toHaveBeenCalled()
    pings.answer(payload, 1)
    expect(pings.answer(payload, 2)).toBeUndefined()
    pings.fail()
    expect(settle.mock.calls).toEqual([[]])
  })

  it('stands for all pings before it (§5.5.3), in order, and for none behind it', () => {
    const pings = new PingLedger()
    const settled: string[] = []
    pings.add(0, () => settled.push('first'))
    const second = pings.add(10, () => settled.push('second'))
    const third = pings.add(20, () => settled.push('third'))
    expect(pings.answer(second, 15)).toBe(5)
    expect(settled).toEqual(['first', 'second'])
    expect(pings.answer(third, 50)).toBe(30)
    expect(settled).toEqual(['first', 'second', 'third'])
  })

  it('says nothing when it answers a ping that another pong stood for', () => {
    const pings = new PingLedger()
    const first = pings.add(0)
    const second = pings.add(0)
    pings.answer(second, 1)
    expect(pings.answer(first, 2)).toBeUndefined()
  })

  it.each([
    ['empty', Buffer.alloc(0)],
    ['of another length', Buffer.alloc(5)],
    ['of a ping that was never sent', Buffer.of(0, 0, 0, 99)],
  ])('says nothing when it is %s', (_, payload) => {
    const pings = new PingLedger()
    const settle = vi.fn()
    pings.add(0, settle)
    expect(pings.answer(payload, 1)).toBeUndefined()
    expect(settle).not.toHaveBeenCalled()
  })
})

describe('pings', () => {
  it('have payloads that differ', () => {
    const pings = new PingLedger()
    const payloads = Array.from({ length: 100 }, () => pings.add(0).toString('hex'))
    expect(new Set(payloads)).toHaveLength(100)
  })

  it('are forgotten when very many have no pong, but the latest and those that somebody waits for', () => {
    const pings = new PingLedger()
    const settle = vi.fn()
    const first = pings.add(0)
    pings.add(0, settle)
    for (let count = 0; count < 1_000; count++) pings.add(count)
    const latest = pings.add(2_000)
    expect(pings.answer(first, 2_000)).toBeUndefined()
    expect(settle).not.toHaveBeenCalled()
    expect(pings.answer(latest, 2_007)).toBe(7)
    expect(settle).toHaveBeenCalledOnce()
  })
})

describe('the end of the connection', () => {
  it('fails whoever waits for a pong', () => {
    const pings = new PingLedger()
    const settle = vi.fn()
    pings.add(0)
    pings.add(0, settle)
    pings.fail()
    pings.fail()
    expect(settle).toHaveBeenCalledOnce()
    const [error] = settle.mock.lastCall as [WebSocketError]
    expect(error).toBeInstanceOf(WebSocketError)
    expect(error.code).toBe('ERR_CONNECTION_CLOSED')
  })
})
