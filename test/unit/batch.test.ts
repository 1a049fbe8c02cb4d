import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Batch, type BatchMember, Run } from '../../src/batch.ts'

/** A connection in memory. `takes` says whether its socket takes everything at once. */
class Member implements BatchMember {
  pendingRun: Run | null = null
  takes: () => boolean = () => true
  /** What else happens when the socket is written to. */
  whenWritten: (() => void) | undefined = undefined
  /** One entry per write, copied at that moment. */
  readonly writes: Buffer[] = []
  /** Memory that the socket still needs, and what it has to contain. */
  readonly kept: { readonly memory: Buffer; readonly content: Buffer }[] = []

  transmit(bytes: Buffer): boolean {
    return this.transmitParts([bytes])
  }

  transmitParts(parts: readonly Buffer[]): boolean {
    const content = Buffer.concat(parts)
    this.writes.push(content)
    const taken = this.takes()
    if (!taken) for (const memory of parts) this.kept.push({ memory, content: Buffer.from(memory) })
    this.whenWritten?.()
    return taken
  }

  get stream(): string {
    return Buffer.concat(this.writes).toString('latin1')
  }

  get texts(): string[] {
    return this.writes.map((write) => write.toString('latin1'))
  }

  /** The socket has got rid of everything: until now nobody may have touched it. */
  expectKeptIntact(): void {
    for (const { memory, content } of this.kept.splice(0)) expect(memory.equals(content)).toBe(true)
  }
}

/** Sends as the protocol does: room is reserved, written over, and partly used. */
function write(batch: Batch, member: Member, text: string, unused = 14, whenReserved = (): void => {}): void {
  const size = text.length + unused
  const at = batch.reserve(member, size)
  whenReserved()
  batch.area.fill('?', at, at + size)
  batch.commit(at + batch.area.write(text, at, 'latin1'))
}

function append(batch: Batch, member: Member, text: string): void {
  batch.append(member, Buffer.from(text, 'latin1'))
}

const nextTick = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve))

function setUp(): { batch: Batch; a: Member; b: Member } {
  return { batch: new Batch(), a: new Member(), b: new Member() }
}

describe('a run', () => {
  const first = new Run(null, Buffer.from('one'))
  const second = new Run(first, Buffer.from(' two'))
  const third = new Run(second, Buffer.from(' three'))

  it('knows its length and its parts in order', () => {
    expect(third.total).toBe(13)
    expect(third.parts().map(String)).toEqual(['one', ' two', ' three'])
    expect(first.parts().map(String)).toEqual(['one'])
  })

  it('is joined once', () => {
    expect(third.joined().toString()).toBe('one two three')
    expect(third.joined()).toBe(third.joined())
    expect(second.joined().toString()).toBe('one two')
  })
})

describe('when output leaves', () => {
  it('at the end of the current callback, all of it in one write', async () => {
    const { batch, a } = setUp()
    write(batch, a, 'one ')
    append(batch, a, 'two ')
    write(batch, a, 'three')
    expect(a.writes).toEqual([])
    await nextTick()
    expect(a.texts).toEqual(['one two three'])
  })

  it('for each connection in one write, in the order in which they began', async () => {
    const { batch, a, b } = setUp()
    const order: string[] = []
    a.whenWritten = () => order.push('a')
    b.whenWritten = () => order.push('b')
    for (const text of ['one ', 'two ', 'three ']) {
      write(batch, b, text)
      append(batch, a, text)
    }
    await nextTick()
    expect(a.texts).toEqual(['one two three '])
    expect(b.texts).toEqual(['one two three '])
    expect(order).toEqual(['b', 'a'])
  })

  it('behind promises that are ready, together with what their handlers send', async () => {
    const { batch, a } = setUp()
    const ready = Promise.resolve()
    await Promise.all(['one ', 'two ', 'three '].map((text) => ready.then(() => write(batch, a, text))))
    await nextTick()
    expect(a.texts).toEqual(['one two three '])
  })

  it('at the end of a chunk, without waiting for the tick', () => {
    const { batch, a, b } = setUp()
    batch.beginChunk({})
    write(batch, a, 'answer ')
    append(batch, b, 'broadcast')
    write(batch, a, 'another')
    expect(a.writes).toEqual([])
    batch.endChunk()
    expect(a.texts).toEqual(['answer another'])
    expect(b.texts).toEqual(['broadcast'])
  })

  it('not twice', async () => {
    const { batch, a, b } = setUp()
    write(batch, a, 'once')
    batch.flush()
    append(batch, b, 'once')
    batch.flushMember(b)
    batch.flushMember(b)
    batch.flush()
    await nextTick()
    expect(a.texts).toEqual(['once'])
    expect(b.texts).toEqual(['once'])
  })

  it('not at all when there is nothing', () => {
    const { batch, a, b } = setUp()
    batch.flush()
    batch.flushMember(a)
    batch.commit(batch.reserve(a, 10))
    batch.flush()
    batch.commit(batch.reserve(a, 10))
    batch.commit(batch.reserve(b, 10))
    batch.flush()
    expect([...a.writes, ...b.writes]).toEqual([])
  })

  it('for one connection, when it is asked for', () => {
    const { batch, a, b } = setUp()
    write(batch, a, 'a1')
    write(batch, b, 'b1')
    append(batch, a, 'a2')
    batch.flushMember(a)
    expect(a.texts).toEqual(['a1a2'])
    expect(b.texts).toEqual([])
    batch.flush()
    expect(b.texts).toEqual(['b1'])
  })

  it('at once when it is one long message', () => {
    const { batch, a, b } = setUp()
    write(batch, a, 'x'.repeat(100_000))
    expect(a.stream).toBe('x'.repeat(100_000))
    append(batch, b, 'x'.repeat(100_000))
    expect(b.stream).toBe('x'.repeat(100_000))
  })

  it('at once when much is waiting, written or appended', () => {
    const { batch, a, b } = setUp()
    for (let count = 0; count < 10; count++) write(batch, a, 'x'.repeat(10_000))
    expect(a.writes.length).toBeGreaterThan(0)
    for (let count = 0; count < 10; count++) append(batch, b, 'x'.repeat(10_000))
    expect(b.writes.length).toBeGreaterThan(0)
    batch.flush()
    expect(a.stream).toBe('x'.repeat(100_000))
    expect(b.stream).toBe('x'.repeat(100_000))
  })
})

describe('pendingBytes', () => {
  it('counts what is written and appended, of this connection only', () => {
    const { batch, a, b } = setUp()
    expect(batch.pendingBytes(a)).toBe(0)
    write(batch, a, '12345')
    expect(batch.pendingBytes(a)).toBe(5)
    append(batch, a, '678')
    write(batch, a, '90')
    write(batch, b, 'other')
    expect(batch.pendingBytes(a)).toBe(10)
    expect(batch.pendingBytes(b)).toBe(5)
    batch.flush()
    expect(batch.pendingBytes(a)).toBe(0)
    expect(batch.pendingBytes(b)).toBe(0)
  })

  it('stays small in one tick, whoever takes turns with whom', () => {
    const { batch, a, b } = setUp()
    let mostWaiting = 0
    for (let count = 0; count < 100; count++) {
      write(batch, a, 'a'.repeat(10_000), 20_000)
      write(batch, b, 'b'.repeat(9_000))
      mostWaiting = Math.max(mostWaiting, batch.pendingBytes(a), batch.pendingBytes(b))
    }
    expect(mostWaiting).toBeLessThan(200_000)
  })
})

describe('broadcasts', () => {
  it('share one list of parts, and one copy of them', () => {
    const batch = new Batch()
    const members = Array.from({ length: 5 }, () => new Member())
    const frames = ['one ', 'two ', 'three'].map((text) => Buffer.from(text))
    for (const frame of frames) for (const member of members) batch.append(member, frame)
    expect(new Set(members.map((member) => member.pendingRun))).toHaveLength(1)
    batch.flush()
    expect(members.map((member) => member.texts)).toEqual(members.map(() => ['one two three']))
  })

  it('reach a connection behind what it was sent before', () => {
    const { batch, a, b } = setUp()
    const frame = Buffer.from('[all]')
    write(batch, a, 'a')
    for (const member of [a, b]) batch.append(member, frame)
    write(batch, b, 'b')
    for (const member of [a, b]) batch.append(member, frame)
    batch.flush()
    expect(a.stream).toBe('a[all][all]')
    expect(b.stream).toBe('[all]b[all]')
  })

  it('are handed over as they are when nothing else waits', () => {
    const { batch, a } = setUp()
    const frame = Buffer.alloc(100)
    a.takes = () => false
    batch.append(a, frame)
    batch.flush()
    expect(a.kept[0]!.memory).toBe(frame)
  })

  it('leave in one vectored write when they are long', () => {
    const { batch, a } = setUp()
    const frames = [Buffer.alloc(40_000, 'x'), Buffer.alloc(40_000, 'y')]
    a.takes = () => false
    for (const frame of frames) batch.append(a, frame)
    expect(a.kept.map(({ memory }) => memory)).toEqual(frames)
    expect(a.writes).toHaveLength(1)
  })
})

describe('the area', () => {
  it('is used again when everything was taken', () => {
    const { batch, a, b } = setUp()
    const { area } = batch
    for (let count = 0; count < 200; count++) {
      write(batch, a, 'x'.repeat(1_000))
      write(batch, b, 'x'.repeat(1_000))
      batch.flush()
    }
    expect(batch.area).toBe(area)
  })

  it('is used again within a tick when one connection sends a lot', () => {
    const { batch, a } = setUp()
    const { area } = batch
    for (let count = 0; count < 200; count++) write(batch, a, 'x'.repeat(1_000))
    expect(batch.area).toBe(area)
  })

  it('is left behind, when it is full, if a socket still needs a part of it', () => {
    const { batch, a } = setUp()
    const { area } = batch
    a.takes = () => false
    for (let count = 0; count < 100; count++) {
      write(batch, a, String(count).repeat(500))
      batch.flush()
    }
    expect(batch.area).not.toBe(area)
    a.expectKeptIntact()
  })

  it('that follows one that was left behind is used again, too', () => {
    const { batch, a, b } = setUp()
    const left = batch.area
    a.takes = () => false
    while (batch.area === left) {
      write(batch, a, 'x'.repeat(1_000))
      batch.flush()
    }
    a.takes = () => true
    const areas = new Set<Buffer>()
    for (let count = 0; count < 500; count++) {
      write(batch, a, 'x'.repeat(1_000))
      write(batch, b, 'x'.repeat(1_000))
      batch.flush()
      areas.add(batch.area)
    }
    // In the first of them the last bytes of the slow time stand.
    expect(areas.size).toBeLessThanOrEqual(2)
    a.expectKeptIntact()
  })

  it('has room for messages that are longer than it is', () => {
    const { batch, a, b } = setUp()
    write(batch, b, 'before')
    for (const text of ['x'.repeat(300_000), 'short', 'y'.repeat(200_000)]) write(batch, a, text, text.length * 2)
    batch.flush()
    expect(a.stream === `${'x'.repeat(300_000)}short${'y'.repeat(200_000)}`).toBe(true)
    expect(b.stream).toBe('before')
  })

  it('keeps apart what one connection sends while another one’s socket is written to', () => {
    // A stream in the same process may hand bytes on at once, and whoever gets them answers elsewhere.
    const { batch, a, b } = setUp()
    a.whenWritten = () => {
      a.whenWritten = undefined
      write(batch, b, '[for b]')
    }
    write(batch, a, '[for a]')
    batch.flush()
    batch.flush()
    expect(a.stream).toBe('[for a]')
    expect(b.stream).toBe('[for b]')
  })

  it('forgets nothing that is sent while a socket is written to, also not in a chunk', async () => {
    const { batch, a, b } = setUp()
    a.whenWritten = () => {
      a.whenWritten = undefined
      batch.beginChunk({})
      write(batch, b, '[answer]')
      batch.endChunk()
    }
    write(batch, a, '[for a]')
    batch.flushMember(a)
    await nextTick()
    expect(a.stream).toBe('[for a]')
    expect(b.stream).toBe('[answer]')
  })

  it('is not used again while a socket is written to that does not take everything', () => {
    const { batch, a, b } = setUp()
    a.takes = () => false
    a.whenWritten = () => {
      a.whenWritten = undefined
      write(batch, b, '[for b]')
      batch.flush()
      write(batch, b, '[for b again]')
      batch.flush()
    }
    write(batch, a, '[for a]')
    batch.flush()
    expect(b.stream).toBe('[for b][for b again]')
    a.expectKeptIntact()
  })

  it('keeps connections apart when a socket throws', () => {
    const { batch, a, b } = setUp()
    a.whenWritten = () => {
      throw new Error('a stream that throws when it is written to')
    }
    write(batch, a, '[for a]')
    expect(() => batch.flush()).toThrow()
    a.whenWritten = undefined
    write(batch, b, '[for b]')
    batch.flush()
    expect(b.stream).toBe('[for b]')
  })
})

describe('any interleaving', () => {
  const MEMBERS = 3
  const member = fc.nat({ max: MEMBERS - 1 })
  const size = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: 200 }) },
    { weight: 3, arbitrary: fc.integer({ min: 200, max: 20_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 20_000, max: 150_000 }) },
  )
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('write' as const), member, size, unused: size }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('append' as const), member, size }) },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant('broadcast' as const), members: fc.uniqueArray(member), size }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('flushMember' as const), member }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('takes' as const), member, answers: fc.array(fc.boolean()) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('flush', 'beginChunk', 'endChunk', 'tick') }) },
  )
  /** A stream in the same process: when `member` is next written to, something is sent to `to` at once. */
  const reply = fc.record({ do: fc.constant('reply' as const), member, to: member, size })
  type Step = typeof step | typeof reply extends fc.Arbitrary<infer Value> ? Value : never

  /** Bytes that no other send has, over and over. */
  function content(number: number, length: number): Buffer {
    return Buffer.alloc(length, `<${number}>`)
  }

  async function run(steps: readonly Step[]): Promise<void> {
    const batch = new Batch()
    const members = Array.from({ length: MEMBERS }, () => new Member())
    /** The slow twin: everybody's own bytes, one behind the other. */
    const expected: Buffer[][] = members.map(() => [])
    const send = (to: number, bytes: Buffer, unused?: number): void => {
      // Making room may write to a socket, which may call back: what it sends comes first.
      write(batch, members[to]!, bytes.toString('latin1'), unused, () => expected[to]!.push(bytes))
    }
    for (const [number, current] of steps.entries()) {
      switch (current.do) {
        case 'write':
          send(current.member, content(number, current.size), current.unused)
          break
        case 'append':
          expected[current.member]!.push(content(number, current.size))
          batch.append(members[current.member]!, content(number, current.size))
          break
        case 'broadcast': {
          const bytes = content(number, current.size)
          for (const index of current.members) {
            expected[index]!.push(bytes)
            batch.append(members[index]!, bytes)
          }
          break
        }
        case 'reply': {
          const from = members[current.member]!
          from.whenWritten = () => {
            from.whenWritten = undefined
            send(current.to, content(number, current.size))
          }
          break
        }
        case 'flushMember':
          batch.flushMember(members[current.member]!)
          break
        case 'takes': {
          // No answers: everything is taken again, and the socket has got rid of what it had kept.
          const answers = [...current.answers]
          if (answers.length === 0) members[current.member]!.expectKeptIntact()
          members[current.member]!.takes = () => answers.shift() ?? current.answers.length === 0
          break
        }
        case 'tick':
          await nextTick()
          break
        default:
          if (current.do === 'beginChunk') batch.beginChunk({})
          else batch[current.do]()
      }
      for (const [index, each] of members.entries()) {
        const sent = expected[index]!.reduce((sum, bytes) => sum + bytes.length, 0)
        const written = each.writes.reduce((sum, bytes) => sum + bytes.length, 0)
        expect(batch.pendingBytes(each)).toBe(sent - written)
      }
    }
    batch.endChunk()
    await nextTick()
    for (const [index, each] of members.entries()) {
      expect(Buffer.concat(each.writes).equals(Buffer.concat(expected[index]!))).toBe(true)
      each.expectKeptIntact()
    }
  }

  it('gives every connection its own bytes in order, and leaves alone what a socket has kept', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 80 }), run), { numRuns: 300 })
  })

  it('also when sockets call back while they are written to', async () => {
    const steps = fc.array(fc.oneof({ weight: 4, arbitrary: step }, { weight: 1, arbitrary: reply }), { maxLength: 60 })
    await fc.assert(fc.asyncProperty(steps, run), { numRuns: 200 })
  })

  it('also when there are very many steps', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 500, maxLength: 1_000 }), run), { numRuns: 10 })
  })
})
