import { describe, expect, it, onTestFinished } from 'vitest'
import { Opcode, type Role } from '../../src/constants.ts'
import { deflateProfile, maxCompressedBytes } from '../../src/deflate.ts'
import {
  acceptDeflateOffer,
  COMPRESSION_DEFAULTS,
  type Compression,
  type DeflateAgreement,
  readDeflateResponse,
} from '../../src/extension.ts'
import { chunksAt, chunksOf, randomChunks } from '../support/chunks.ts'
import { dissect } from '../support/deflate-blocks.ts'
import { DeflatePeer } from '../support/deflate-peer.ts'
import { spoilFreedMemory } from '../support/freed-memory.ts'
import { Endpoint, ROLES } from '../support/protocol-host.ts'
import { type Random, seededRandom, seedOf } from '../support/random.ts'
import { close, cut, describeMessage, type FrameSpec, fragments, headerLength } from '../support/wire.ts'
import { COMPRESSION_CASES, type CompressionCase } from './compression-cases.ts'

spoilFreedMemory()

const MAX_MESSAGE_BYTES = 1_048_576

/** As echo-server.ts has it: everything is agreed to. */
const OPEN: Compression = {
  ...COMPRESSION_DEFAULTS,
  threshold: 0,
  serverNoContextTakeover: false,
  clientNoContextTakeover: false,
}

function agree(role: Role, { offer, response }: CompressionCase): DeflateAgreement | undefined {
  return role === 'server' ? acceptDeflateOffer(offer, OPEN)?.agreement : readDeflateResponse(response, OPEN)
}

/** An endpoint that echoes under this agreement, and the suite's end. */
function meet(role: Role, agreement: DeflateAgreement): { endpoint: Endpoint; peer: DeflatePeer } {
  const endpoint = new Endpoint(role, {
    allowRsv1: true,
    deflate: deflateProfile(agreement, OPEN, role),
    maxMessageBytes: MAX_MESSAGE_BYTES,
    maxFrameBytes: maxCompressedBytes(MAX_MESSAGE_BYTES),
  })
  const { serverMaxWindowBits, clientMaxWindowBits, serverNoContextTakeover, clientNoContextTakeover } = agreement
  const isServer = role === 'server'
  const peer = new DeflatePeer({
    windowBits: isServer ? clientMaxWindowBits : serverMaxWindowBits,
    noContextTakeover: isServer ? clientNoContextTakeover : serverNoContextTakeover,
    receivedWindowBits: isServer ? serverMaxWindowBits : clientMaxWindowBits,
    receivedNoContextTakeover: isServer ? serverNoContextTakeover : clientNoContextTakeover,
  })
  onTestFinished(() => peer.end())
  return { endpoint: endpoint.echo(), peer }
}

/** The frames of the case, compressed one after the other. */
async function framesOf(
  { messages, isBinary, fragmentBytes }: CompressionCase,
  peer: DeflatePeer,
): Promise<FrameSpec[]> {
  const frames: FrameSpec[] = []
  for (const message of messages) {
    const payload = await peer.compress(message)
    const parts = fragmentBytes === 0 ? [payload] : cut(payload, fragmentBytes)
    const [first, ...others] = fragments(isBinary ? Opcode.BINARY : Opcode.TEXT, parts)
    frames.push({ ...first!, rsv: 4 }, ...others)
  }
  return frames
}

/** Each case is cut in one way, which differs from case to case. */
function cutWire(role: Role, index: number, frames: readonly FrameSpec[], wire: Buffer, random: Random): Buffer[] {
  let end = 0
  const ends = frames.map((frame) => (end += headerLength(role, frame) + frame.payload!.length))
  if (index % 4 === 0) return [wire]
  if (index % 4 === 1) return chunksAt(wire, ends)
  if (index % 4 === 2) return chunksOf(wire, 997)
  return randomChunks(wire, 1 + random(30), random)
}

describe.each(ROLES)('Autobahn’s cases of compression, by a %s', (role) => {
  const cases = COMPRESSION_CASES.map((each, index) => [each.number, each.description, each, index] as const)

  it.each(cases)('%s: %s', async (_, __, each, index) => {
    const random = seededRandom(seedOf(`${each.number} ${role}`))
    const agreement = agree(role, each)!
    const { endpoint, peer } = meet(role, agreement)
    const frames = await framesOf(each, peer)
    const wire = endpoint.encode(...frames)
    for (const chunk of cutWire(role, index + each.number.length, frames, wire, random)) {
      // A socket that is paused gives nothing.
      await endpoint.host.idle()
      endpoint.protocol.receive(chunk)
    }
    await endpoint.host.idle()
    await new Promise<void>((resolve) => endpoint.protocol.whenSent(resolve))

    const answers: string[] = []
    const windowBits = role === 'server' ? agreement.serverMaxWindowBits : agreement.clientMaxWindowBits
    for (const { opcode, payload, rsv, fin } of endpoint.takeSent()) {
      expect(fin).toBe(true)
      if (rsv === 4 && windowBits < 15) expect(dissect(payload).farthest).toBeLessThanOrEqual(2 ** windowBits)
      const message = rsv === 4 ? await peer.inflate(payload) : payload
      answers.push(describeMessage(opcode === Opcode.TEXT ? message.toString() : message))
    }
    expect(answers).toEqual(
      each.messages.map((message) => describeMessage(each.isBinary ? message : message.toString())),
    )
    endpoint.expectOpen()
    endpoint.receive(close(1000))
    endpoint.expectSent(close(1000))
    endpoint.expectClosedWith(1000)
  })
})

describe('the offers of the suite', () => {
  const first = (group: string): CompressionCase => COMPRESSION_CASES.find(({ number }) => number === `${group}.1`)!

  it.each([
    ['12.1', 'client_no_context_takeover'],
    ['13.1', 'client_no_context_takeover'],
    ['13.2', 'server_no_context_takeover; client_no_context_takeover'],
    ['13.3', 'client_no_context_takeover; server_max_window_bits=9'],
    ['13.4', 'client_no_context_takeover; server_max_window_bits=15'],
    ['13.5', 'server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9'],
    ['13.6', 'server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15'],
    ['13.7', 'server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9'],
  ])('%s is answered with %s', (group, parameters) => {
    expect(acceptDeflateOffer(first(group).offer, OPEN)?.response).toBe(`permessage-deflate; ${parameters}`)
  })

  it('the cases are complete and have numbers of their own', () => {
    const groups = new Map<string, number>()
    for (const { number } of COMPRESSION_CASES) {
      const group = number.split('.', 1)[0]!
      groups.set(group, (groups.get(group) ?? 0) + 1)
    }
    expect(Object.fromEntries(groups)).toEqual({ 12: 90, 13: 126 })
    expect(new Set(COMPRESSION_CASES.map(({ number }) => number))).toHaveLength(216)
  })
})
