import { describe, expect, it } from 'vitest'
import type { Role } from '../../src/constants.ts'
import { chunksAt, chunksOf, copyOf, randomChunks } from '../support/chunks.ts'
import { spoilFreedMemory } from '../support/freed-memory.ts'
import { Endpoint, ROLES } from '../support/protocol-host.ts'
import { seededRandom, seedOf } from '../support/random.ts'
import { close, type FrameSpec, headerLength } from '../support/wire.ts'
import { CASES, type Case } from './cases.ts'

spoilFreedMemory()

/** Up to here a case also runs byte by byte ... */
const BYTEWISE_UP_TO = 8_192
/** ... and in this many random ways; longer ones in fewer. */
const RANDOM_RUNS = 8
const LONG = 262_144

/** Offsets on the wire at which the frames end. */
function frameEnds(role: Role, frames: readonly FrameSpec[]): number[] {
  let end = 0
  return frames.map((frame) => (end += headerLength(role, frame) + (frame.payload?.length ?? 0)))
}

/** The ways in which TCP may cut the case, with their names. */
function* chunkings({ number, sends, chops = 997 }: Case, role: Role, wire: Buffer): Generator<[string, Buffer[]]> {
  const random = seededRandom(seedOf(`${number} ${role}`))
  yield ['whole', [copyOf(wire)]]
  yield ['frame by frame', chunksAt(wire, frameEnds(role, sends))]
  yield [`in chunks of ${chops} bytes`, chunksOf(wire, chops)]
  if (wire.length <= BYTEWISE_UP_TO) yield ['byte by byte', chunksOf(wire, 1)]
  for (let run = 1; run <= (wire.length < LONG ? RANDOM_RUNS : 2); run++) {
    yield [`at random, ${run}`, randomChunks(wire, 1 + random(30), random)]
  }
}

function expectOutcome(endpoint: Endpoint, { answers, violation, closed }: Case): void {
  if (violation !== undefined) {
    endpoint.expectFailedWith(violation.closeCode, violation.code, answers)
    return
  }
  endpoint.expectSent(...answers)
  if (closed === undefined) {
    endpoint.expectOpen()
    endpoint.receive(close(1000))
    endpoint.expectSent(close(1000))
  }
  endpoint.expectClosedWith(closed?.code ?? 1000, closed?.reason)
}

/** The wire offset behind the byte with which the violation is there. */
function failingOffset(endpoint: Endpoint, wire: Buffer): number {
  const chunks = chunksOf(wire, 1)
  for (const [index, chunk] of chunks.entries()) {
    endpoint.protocol.receive(chunk)
    if (endpoint.host.violations.length > 0) return index + 1
  }
  return Number.POSITIVE_INFINITY
}

describe.each(ROLES)('Autobahn’s cases, by a %s', (role) => {
  it.each(CASES.map((each) => [each.number, each.description, each] as const))('%s: %s', (_, __, each) => {
    const wire = new Endpoint(role, {}, seedOf(each.number)).encode(...each.sends)
    for (const [name, chunks] of chunkings(each, role, wire)) {
      const endpoint = new Endpoint(role).echo()
      endpoint.receiveChunks(chunks)
      try {
        expectOutcome(endpoint, each)
      } catch (error) {
        if (error instanceof Error) error.message = `${name}: ${error.message}`
        throw error
      }
    }
  })
})

describe.each(ROLES)('violations are found at once, by a %s', (role) => {
  const failing = CASES.flatMap(({ number, description, sends, violation }) =>
    violation === undefined ? [] : [[number, description, sends, violation] as const],
  )

  it.each(failing)('%s: %s', (_, __, sends, { frame, payloadBytes }) => {
    const endpoint = new Endpoint(role).echo()
    const at = failingOffset(endpoint, endpoint.encode(...sends))
    const ends = [0, ...frameEnds(role, sends)]
    if (payloadBytes !== undefined) {
      expect(at).toBe(ends[frame]! + headerLength(role, sends[frame]!) + payloadBytes)
    } else {
      expect(at).toBeGreaterThan(ends[frame]!)
      expect(at).toBeLessThanOrEqual(ends[frame + 1]!)
    }
  })
})

describe('the cases', () => {
  it('are complete and have numbers of their own', () => {
    const groups = new Map<string, number>()
    for (const { number } of CASES) {
      const group = number.split('.', 1)[0]!
      groups.set(group, (groups.get(group) ?? 0) + 1)
    }
    expect(Object.fromEntries(groups)).toEqual({ 1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1 })
    expect(new Set(CASES.map(({ number }) => number))).toHaveLength(CASES.length)
  })
})
