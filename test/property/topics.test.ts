import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Resumption } from '../../src/browser/resume.ts'
import { decodeEnvelope, decodeRecord, encodeEnvelope, encodeRecord } from '../../src/envelope.ts'
import { escapeText, formatMark, formatPosition, HELLO, parsePosition, parseResume } from '../../src/marks.ts'
import { PreparedMessage } from '../../src/prepared.ts'
import { Sequences } from '../../src/sequences.ts'
import { countTopics, isMember, namesOf, type TopicMember, TopicTable } from '../../src/topics.ts'

const data = fc.oneof(fc.string({ unit: 'grapheme' }), fc.uint8Array({ maxLength: 300 }))
const message = fc
  .tuple(data, fc.constantFrom(undefined, true, false))
  .map(([content, compress]) => new PreparedMessage(content, compress))
const origin = Buffer.alloc(16, 3)

function plain({ opcode, payload, compress }: PreparedMessage): unknown {
  return [opcode, payload.toString('hex'), compress]
}

describe('envelopes', () => {
  it('bring messages over as they were', () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 9 }), fc.maxSafeNat(), (messages, number) => {
        const envelope = decodeEnvelope(encodeEnvelope(origin, number, messages))
        expect(envelope?.number).toBe(number)
        expect(envelope?.origin).toBe(origin.toString('latin1'))
        expect(envelope?.messages.map(plain)).toEqual(messages.map(plain))
      }),
    )
  })

  it('that are cut short, or changed, are none or others, and never an exception', () => {
    fc.assert(
      fc.property(message, fc.nat(400), fc.nat(255), fc.nat(400), (given, at, byte, length) => {
        const bytes = encodeEnvelope(origin, 1, [given])
        if (length < bytes.length) expect(decodeEnvelope(bytes.subarray(0, length))).toBeUndefined()
        bytes[at % bytes.length] = byte
        for (const { payload } of decodeEnvelope(bytes)?.messages ?? [])
          expect(payload.length).toBeLessThan(bytes.length)
      }),
    )
  })

  it('have no messages that are none: anything else is refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => decodeEnvelope(Buffer.from(bytes)) === undefined),
    )
  })

  it('bring over a message by itself', () => {
    fc.assert(
      fc.property(message, fc.uint8Array({ maxLength: 9 }), (given, rest) => {
        const bytes = encodeRecord(given)
        expect(plain(decodeRecord(bytes)!)).toEqual(plain(given))
        if (rest.length > 0) expect(decodeRecord(Buffer.concat([bytes, rest]))).toBeUndefined()
        expect(decodeRecord(bytes.subarray(1))?.payload.length).not.toBe(given.payload.length)
      }),
    )
  })
})

describe('sequences', () => {
  it('say of each number once that it is new, as long as it is not too old', () => {
    const number = fc.oneof(fc.nat(20), fc.nat(400_000))
    fc.assert(
      fc.property(fc.array(number, { maxLength: 60 }), (numbers) => {
        const sequences = new Sequences()
        const seen = new Set<number>()
        let highest = -1
        for (const each of numbers) {
          const isOld = each <= highest - 131_072
          expect(sequences.isNew('a', each)).toBe(!isOld && !seen.has(each))
          seen.add(each)
          highest = Math.max(highest, each)
        }
      }),
    )
  })

  it('forget an origin that is silent while many others speak', () => {
    const sequences = new Sequences()
    expect(sequences.isNew('first', 1)).toBe(true)
    for (let other = 0; other < 255; other++) sequences.isNew(`other ${other}`, 1)
    expect(sequences.isNew('first', 1)).toBe(false)
    for (let other = 0; other < 256; other++) sequences.isNew(`other ${other}`, 2)
    expect(sequences.isNew('first', 1)).toBe(true)
  })
})

describe('the table of topics', () => {
  it('is what a table of sets would be, after any changes', () => {
    const change = fc.tuple(fc.constantFrom('add', 'delete', 'end'), fc.nat(3), fc.nat(3))
    fc.assert(
      fc.property(fc.array(change, { maxLength: 80 }), (changes) => {
        const table = new TopicTable<TopicMember>()
        const members = Array.from({ length: 4 }, (): TopicMember => ({ memberships: undefined }))
        const expected = new Map<string, Set<TopicMember>>()
        for (const [kind, of, to] of changes) {
          const member = members[of]!
          const name = `topic ${to}`
          const set = expected.get(name) ?? new Set()
          if (kind === 'add') {
            expect(table.add(name, member)).toBe(!set.has(member))
            expected.set(name, set.add(member))
          } else if (kind === 'delete') {
            expect(table.delete(name, member)).toBe(set.delete(member))
          } else {
            table.deleteMember(member)
            for (const each of expected.values()) each.delete(member)
          }
          for (const [topic, each] of expected) if (each.size === 0) expected.delete(topic)
          expect(table.size).toBe(expected.size)
          expect(new Set(table.names())).toEqual(new Set(expected.keys()))
          for (const [topic, each] of expected) {
            expect(new Set(table.get(topic)!.members)).toEqual(each)
            expect(table.get(topic)!.size).toBe(each.size)
          }
          for (const each of members) {
            const topics = [...expected].filter(([, set]) => set.has(each)).map(([topic]) => topic)
            expect(namesOf(each)).toEqual(new Set(topics))
            expect(countTopics(each)).toBe(topics.length)
            expect(isMember(each, table.get('topic 1'))).toBe(topics.includes('topic 1'))
          }
        }
      }),
    )
  })
})

describe('marks', () => {
  const topic = fc.string({ minLength: 1, unit: 'grapheme' })
  const position = fc.record({ epoch: fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/), sequence: fc.maxSafeNat() })
  const ours = fc.record({ type: fc.constantFrom('subscribed', 'gap', 'position'), position, topic })

  it('have positions that can be read again', () => {
    fc.assert(
      fc.property(position, (given) => {
        expect(parsePosition(formatPosition(given))).toEqual(given)
      }),
    )
    fc.assert(fc.property(fc.string(), (text) => parsePosition(text) === undefined || /^[\w-]+\.\d+$/.test(text)))
  })

  it('are taken out by the client, and nothing else is', () => {
    const texts = fc.oneof(
      fc.string(),
      fc.string().map((text) => `\u0001${text}`),
      ours,
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(texts, fc.uint8Array())), (given) => {
        const client = new Resumption(() => {})
        client.begin('ws://a')
        expect(client.receive(HELLO)).toBeUndefined()
        for (const each of given) {
          if (each instanceof Uint8Array) expect(client.receive(each)).toBe(each)
          else if (typeof each === 'string') expect(client.receive(escapeText(each))).toBe(each)
          else expect(client.receive(formatMark(each.type as 'gap', each.position, each.topic))).toBeUndefined()
        }
      }),
    )
  })

  it('tell the server, when the client comes back, what the client was told last', () => {
    fc.assert(
      fc.property(fc.array(ours, { maxLength: 20 }), (marks) => {
        const client = new Resumption(() => {})
        client.begin('ws://a')
        client.receive(HELLO)
        const expected = new Map<string, unknown>()
        for (const mark of marks) {
          client.receive(formatMark(mark.type as 'gap', mark.position, mark.topic))
          // A position counts when its message is there.
          if (mark.type === 'position') client.receive('message')
          expected.set(mark.topic, mark.position)
        }
        const told = parseResume(new URL(client.begin('ws://a/?x')).searchParams.get('resume')!)
        expect(told).toEqual(expected)
      }),
    )
  })
})
