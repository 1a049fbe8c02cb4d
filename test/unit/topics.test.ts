import { describe, expect, it } from 'vitest'
import { decodeEnvelope, decodeRecord, encodeEnvelope, encodeRecord, recordSize } from '../../src/envelope.ts'
import { isServed } from '../../src/handshake.ts'
import { PreparedMessage } from '../../src/prepared.ts'
import { Sequences } from '../../src/sequences.ts'
import { countTopics, isMember, namesOf, type TopicMember, TopicTable } from '../../src/topics.ts'

const origin = Buffer.from('0123456789abcdef')
const text = new PreparedMessage('é', true)
const bytes = new PreparedMessage(Buffer.of(0xff), false)

describe('an envelope', () => {
  it('has a form that does not change', () => {
    const envelope = encodeEnvelope(origin, 258, [text, bytes])
    const head = `66640100${origin.toString('hex')}0000000000000102`
    expect(envelope.toString('hex')).toBe(`${head}0300000002c3a90400000001ff`)
    expect(recordSize(text) + recordSize(bytes)).toBe(envelope.length - 28)
    const { messages, ...rest } = decodeEnvelope(envelope)!
    expect(rest).toEqual({ origin: '0123456789abcdef', number: 258 })
    expect(messages.map(({ opcode, compress }) => [opcode, compress])).toEqual([
      [1, true],
      [2, false],
    ])
    expect(messages.map((message) => message.toData())).toEqual(['é', Buffer.of(0xff)])
  })

  it.each([
    ['cut in its head', (envelope: Buffer) => envelope.subarray(0, 28)],
    ['of another version', (envelope: Buffer) => envelope.fill(2, 2, 3)],
    ['with too high a number', (envelope: Buffer) => envelope.fill(0xff, 20, 28)],
    ['with half a head of a message', (envelope: Buffer) => envelope.subarray(0, 31)],
    ['cut in a message', (envelope: Buffer) => envelope.subarray(0, -1)],
    ['with a flag that means nothing', (envelope: Buffer) => envelope.fill(0x07, 28, 29)],
    ['with a text that is none', (envelope: Buffer) => envelope.fill(0xff, 33, 34)],
  ])('%s is none', (_, change) => {
    expect(decodeEnvelope(change(encodeEnvelope(origin, 1, [text])))).toBeUndefined()
  })

  it('is one message when it is long', () => {
    const long = new PreparedMessage(Buffer.alloc(300_000))
    expect(decodeEnvelope(encodeEnvelope(origin, 1, [long]))?.messages).toHaveLength(1)
    expect(decodeEnvelope(encodeEnvelope(origin, 1, [long, text]))).toBeUndefined()
  })

  it('of one message, as histories have it, ends where the message does', () => {
    const record = encodeRecord(new PreparedMessage('a'))
    expect(decodeRecord(record)?.toData()).toBe('a')
    expect(decodeRecord(Buffer.concat([record, Buffer.of(0)]))).toBeUndefined()
    expect(decodeRecord(record.subarray(0, 3))).toBeUndefined()
  })
})

describe('a message that could be taken for a mark', () => {
  it('has another form for those who would do so, made once', () => {
    const marked = new PreparedMessage('\u0001p x', false)
    expect(marked.escaped.toData()).toBe('\u0001\u0001p x')
    expect([marked.escaped.compress, marked.escaped.opcode]).toEqual([false, 1])
    expect(marked.escaped).toBe(marked.escaped)
    for (const message of [text, bytes, new PreparedMessage(Buffer.of(1))]) expect(message.escaped).toBe(message)
  })
})

describe('sequences', () => {
  it('tell what is new from what was there, and take for old what is too far back', () => {
    const sequences = new Sequences()
    const isNew = (number: number): boolean => sequences.isNew('a', number)
    expect([isNew(0), isNew(0), isNew(2), isNew(1), isNew(1)]).toEqual([true, false, true, true, false])
    // Where the ring comes round, and where it is cleared as a whole.
    expect([isNew(131_073), isNew(1), isNew(2), isNew(3)]).toEqual([true, false, false, true])
    expect([isNew(400_000), isNew(399_999), isNew(131_073)]).toEqual([true, true, false])
  })

  it('keep 256 origins apart', () => {
    const sequences = new Sequences()
    for (let index = 0; index <= 256; index++) expect(sequences.isNew(`${index}`, 1)).toBe(true)
    expect([sequences.isNew('256', 1), sequences.isNew('0', 1)]).toEqual([false, true])
  })
})

describe('the table of topics', () => {
  it('has topics of no, one and several members', () => {
    const table = new TopicTable<TopicMember>()
    const [a, b] = [{ memberships: undefined }, { memberships: undefined }] as [TopicMember, TopicMember]
    expect([table.add('x', a), table.add('x', a), table.add('x', b), table.add('y', a)]).toEqual([
      true,
      false,
      true,
      true,
    ])
    expect([...table.names()]).toEqual(['x', 'y'])
    expect([table.get('x')!.size, table.get('y')!.size, table.size]).toEqual([2, 1, 2])
    expect([...table.get('x')!.members]).toEqual([a, b])
    expect([...table.get('y')!.members]).toEqual([a])
    expect([isMember(a, table.get('y')), isMember(b, table.get('y')), isMember(b, undefined)]).toEqual([
      true,
      false,
      false,
    ])
    expect([namesOf(a), countTopics(a), countTopics(b)]).toEqual([new Set(['x', 'y']), 2, 1])
    const kept = table.get('y')!
    expect([table.delete('y', b), table.delete('z', a), table.delete('y', a)]).toEqual([false, false, true])
    expect([kept.size, [...kept.members]]).toEqual([0, []])
    table.deleteMember(b)
    table.deleteMember(a)
    expect([table.size, countTopics(a)]).toEqual([0, 0])
  })
})

describe('the rule on paths', () => {
  it('is none, a path, or a function', () => {
    expect([isServed('/a', undefined), isServed('/a', '/a'), isServed('/a', '/b')]).toEqual([true, true, false])
    expect(isServed('/a', (path) => path === '/a')).toBe(true)
  })
})
