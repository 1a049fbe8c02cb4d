import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Backlog, SLICE_BYTES } from '../../src/backlog.ts'

function backlogOf(...sizes: number[]): { backlog: Backlog; parts: Buffer[] } {
  const backlog = new Backlog()
  const parts = sizes.map((size, index) => Buffer.alloc(size, index + 1))
  for (const part of parts) backlog.push(part)
  return { backlog, parts }
}

function lengthOf(slice: readonly Buffer[]): number {
  return slice.reduce((sum, part) => sum + part.length, 0)
}

describe('takeSlice', () => {
  it('gives nothing when nothing waits', () => {
    expect(new Backlog().takeSlice()).toEqual([])
  })

  it('gives what was pushed, in order and without a copy of what is large', () => {
    const { backlog, parts } = backlogOf(16_384, 20_000, 30_000)
    expect(backlog.bytes).toBe(66_384)
    const slice = backlog.takeSlice()
    expect(slice).toHaveLength(3)
    for (const [index, part] of slice.entries()) expect(part).toBe(parts[index])
    expect(backlog.bytes).toBe(0)
    expect(backlog.takeSlice()).toEqual([])
  })

  it('gives one slice at a time', () => {
    const { backlog } = backlogOf(SLICE_BYTES, SLICE_BYTES, 1)
    expect(lengthOf(backlog.takeSlice())).toBe(SLICE_BYTES)
    expect(backlog.bytes).toBe(SLICE_BYTES + 1)
    expect(lengthOf(backlog.takeSlice())).toBe(SLICE_BYTES)
    expect(lengthOf(backlog.takeSlice())).toBe(1)
    expect(backlog.bytes).toBe(0)
  })

  it('copies what is small into memory of its own, which does not grow with the number of parts', () => {
    const shared = Buffer.alloc(1_048_576, 7)
    const backlog = new Backlog()
    for (let at = 0; at < 3_000; at++) backlog.push(shared.subarray(at, at + 10))
    expect(backlog.bytes).toBe(30_000)
    const slice = backlog.takeSlice()
    expect(slice.every(({ buffer }) => buffer !== shared.buffer)).toBe(true)
    expect(slice.length).toBeLessThan(10)
    expect(Buffer.concat(slice).equals(Buffer.alloc(30_000, 7))).toBe(true)
  })

  it('does not write behind what was taken', () => {
    const backlog = new Backlog()
    backlog.push(Buffer.from('abc'))
    const [taken] = backlog.takeSlice()
    backlog.push(Buffer.from('def'))
    expect(taken?.toString()).toBe('abc')
    expect(Buffer.concat(backlog.takeSlice()).toString()).toBe('def')
  })

  it('cuts a part that is too long, without a copy', () => {
    const { backlog, parts } = backlogOf(16_384, 2 * SLICE_BYTES)
    const slices = [backlog.takeSlice(), backlog.takeSlice(), backlog.takeSlice()]
    expect(slices.map(lengthOf)).toEqual([SLICE_BYTES, SLICE_BYTES, 16_384])
    expect(slices.flat().every((part) => parts.some(({ buffer }) => buffer === part.buffer))).toBe(true)
    expect(Buffer.concat(slices.flat()).equals(Buffer.concat(parts))).toBe(true)
  })

  it('gives every byte once and in order, however it is pushed and taken', () => {
    const sizes = fc.array(fc.oneof(fc.nat({ max: 1_000 }), fc.nat({ max: 3 * SLICE_BYTES })), { maxLength: 6 })
    fc.assert(
      fc.property(fc.array(sizes, { maxLength: 6 }), (rounds) => {
        const backlog = new Backlog()
        const pushed: Buffer[] = []
        const taken: Buffer[] = []
        const take = (): void => {
          const slice = backlog.takeSlice()
          expect(lengthOf(slice)).toBeLessThanOrEqual(SLICE_BYTES)
          taken.push(...slice)
        }
        for (const round of rounds) {
          for (const size of round) {
            pushed.push(Buffer.alloc(size, pushed.length + 1))
            backlog.push(pushed.at(-1)!)
          }
          take()
          expect(backlog.bytes).toBe(lengthOf(pushed) - lengthOf(taken))
        }
        while (backlog.bytes > 0) take()
        expect(Buffer.concat(taken).equals(Buffer.concat(pushed))).toBe(true)
      }),
      { numRuns: 30 },
    )
  })
})

describe('wait', () => {
  it('resolves for everybody when everything has left', async () => {
    const backlog = new Backlog()
    const waiting = [backlog.wait(), backlog.wait()]
    backlog.settle()
    await expect(Promise.all(waiting)).resolves.toEqual([undefined, undefined])
  })

  it('rejects for everybody when the connection ends before', async () => {
    const backlog = new Backlog()
    const waiting = [backlog.wait(), backlog.wait()]
    const error = new Error('the connection is closed')
    backlog.settle(error)
    await expect(Promise.allSettled(waiting)).resolves.toEqual([
      { status: 'rejected', reason: error },
      { status: 'rejected', reason: error },
    ])
  })

  it('is settled once', async () => {
    const backlog = new Backlog()
    const first = backlog.wait()
    backlog.settle()
    const second = backlog.wait()
    backlog.settle(new Error('later'))
    await expect(first).resolves.toBeUndefined()
    await expect(second).rejects.toThrow('later')
  })
})
