import { describe, expect, it } from 'vitest'
import { Outbox, type OutboxStep } from '../../src/outbox.ts'
import { defer } from '../support/queue.ts'

/** An outbox that keeps a record of what happens. */
function newOutbox() {
  const events: string[] = []
  const finish = new Map<string, () => void>()
  const outbox: Outbox = new Outbox(() => events.push('empty'))
  const step = (name: string, bytes: number, isLater: boolean): OutboxStep => ({
    bytes,
    run: (done) => {
      events.push(name)
      if (isLater) finish.set(name, done)
      else done()
    },
    cancel: () => events.push(`${name} given up`),
  })
  return {
    outbox,
    events,
    now: (name: string, bytes = 1) => outbox.push(step(name, bytes, false)),
    later: (name: string, bytes = 1) => outbox.push(step(name, bytes, true)),
    done: (name: string) => finish.get(name)!(),
  }
}

/** Elements of arrays that are moved, or copied, meanwhile. */
function countMoves(action: () => void): number {
  const { shift, slice, splice } = Array.prototype
  let moves = 0
  Object.assign(Array.prototype, {
    shift(this: unknown[]) {
      moves += this.length
      return shift.call(this)
    },
    slice(this: unknown[], ...range: []) {
      const kept = slice.apply(this, range)
      moves += kept.length
      return kept
    },
    splice(this: unknown[], ...range: [number, number]) {
      moves += this.length
      return splice.apply(this, range)
    },
  })
  try {
    action()
  } finally {
    Object.assign(Array.prototype, { shift, slice, splice })
  }
  return moves
}

describe('an outbox', () => {
  it('does what can be done at once', () => {
    const { outbox, events, now } = newOutbox()
    now('a')
    expect(events).toEqual(['a', 'empty'])
    now('b')
    expect(events).toEqual(['a', 'empty', 'b', 'empty'])
    expect(outbox.bytes).toBe(0)
  })

  it('lets nothing overtake what is under way', () => {
    const { events, now, later, done } = newOutbox()
    later('a')
    now('b')
    later('c')
    now('d')
    expect(events).toEqual(['a'])
    done('a')
    expect(events).toEqual(['a', 'b', 'c'])
    done('c')
    expect(events).toEqual(['a', 'b', 'c', 'd', 'empty'])
  })

  it('counts what waits, and knows how much it was at the most', () => {
    const { outbox, now, later, done } = newOutbox()
    later('a', 100)
    now('b', 20)
    now('c', 3)
    expect([outbox.bytes, outbox.mostBytes]).toEqual([123, 123])
    done('a')
    expect([outbox.bytes, outbox.mostBytes]).toEqual([0, 123])
    later('d', 50)
    expect([outbox.bytes, outbox.mostBytes]).toEqual([50, 123])
  })

  it('takes a step as done once', () => {
    const { outbox, events, later, done } = newOutbox()
    later('a', 10)
    later('b', 5)
    done('a')
    done('a')
    expect(events).toEqual(['a', 'b'])
    expect(outbox.bytes).toBe(5)
    done('b')
    done('b')
    expect(events).toEqual(['a', 'b', 'empty'])
    expect(outbox.bytes).toBe(0)
  })

  it('takes steps that are added by a step, or when it is empty', async () => {
    const events: string[] = []
    const again = defer()
    const step = (name: string): OutboxStep => ({
      bytes: 1,
      run: (done) => {
        events.push(name)
        done()
      },
    })
    const outbox: Outbox = new Outbox(() => {
      events.push('empty')
      if (events.length > 4) again.resolve()
      else outbox.push(step('c'))
    })
    outbox.push({
      bytes: 1,
      run: (done) => {
        events.push('a')
        outbox.push(step('b'))
        done()
        events.push('behind a')
      },
    })
    await again.promise
    expect(events).toEqual(['a', 'behind a', 'b', 'empty', 'c', 'empty'])
  })

  it('a thousand steps that are done at once need no deeper stack than one', () => {
    const { events, now, later, done } = newOutbox()
    later('first')
    for (let count = 0; count < 20_000; count++) now('next')
    done('first')
    expect(events.length).toBe(20_002)
  })

  it('given up, does nothing more', () => {
    const { outbox, events, now, later, done } = newOutbox()
    later('a', 10)
    now('b', 5)
    outbox.push({ bytes: 2, run: () => events.push('never') })
    outbox.clear()
    expect(events).toEqual(['a', 'a given up', 'b given up'])
    expect(outbox.bytes).toBe(0)
    done('a')
    expect(events).toEqual(['a', 'a given up', 'b given up'])
  })

  it('may be given up by a step', () => {
    const { outbox, events, now } = newOutbox()
    outbox.push({
      bytes: 1,
      run: (done) => {
        outbox.clear()
        done()
      },
    })
    expect(outbox.bytes).toBe(0)
    expect(events).toEqual([])
    now('late')
    expect(events).toEqual([])
  })

  it('given up on the way, gives up what is left and nothing else', () => {
    const { outbox, events, now, later, done } = newOutbox()
    later('first')
    for (let count = 0; count < 10; count++) now('next')
    later('last')
    now('behind it')
    done('first')
    events.length = 0
    outbox.clear()
    expect(events).toEqual(['last given up', 'behind it given up'])
    done('last')
    expect(events).toEqual(['last given up', 'behind it given up'])
    expect(outbox.bytes).toBe(0)
  })

  it.each([
    ['at once', false],
    ['one after the other', true],
  ])('a hundred thousand steps that are done %s are moved about a few times each, and stay in order', (_, isLater) => {
    const count = 100_000
    const ran: number[] = []
    const waiting: (() => void)[] = []
    let emptied = 0
    const outbox = new Outbox(() => emptied++)
    for (let step = 0; step < count; step++) {
      outbox.push({
        bytes: 1,
        run: (done) => {
          ran.push(step)
          if (isLater || step === 0) waiting.push(done)
          else done()
        },
      })
    }
    const moves = countMoves(() => {
      for (let step = 0; step < waiting.length; step++) waiting[step]!()
    })
    expect(ran.length).toBe(count)
    expect(ran.every((step, index) => step === index)).toBe(true)
    expect([outbox.bytes, emptied]).toEqual([0, 1])
    expect(moves).toBeLessThan(3 * count)
  })
})
