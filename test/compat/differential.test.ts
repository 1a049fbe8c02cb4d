import { constants, deflateRawSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { Role } from '../../src/constants.ts'
import { type Random, seededRandom, seedOf } from '../support/random.ts'
import { RawClient, upgradeRequest } from '../support/raw-client.ts'
import { nextTurn } from '../support/servers.ts'
import { describeFrame, formatFor, parseFrames } from '../support/wire.ts'
import { type Implementation, implementations, theOriginal, type Ws } from './spec/implementation.ts'
import { inflater } from './spec/inflater.ts'
import { record } from './spec/record.ts'
import { makeScript, type Reaction, type Script } from './spec/script.ts'
import { type Loose, openToClient, openToServer, startServer } from './spec/sockets.ts'

/*
 * Random conversations with both implementations: each must report the same events and send the same frames. Where one
 * writes a frame in two pieces and the other in one does not matter; nor does which messages are compressed.
 */

const SEEDS = 150
const OFFER = 'permessage-deflate; client_no_context_takeover'
const others = implementations.filter((implementation) => implementation !== theOriginal)

function react(ws: Ws, reaction: Reaction, data: unknown, isBinary: boolean): void {
  if (ws.readyState !== ws.OPEN) return
  const bytes = Array.isArray(data) ? Buffer.concat(data) : (data as Buffer)
  if (reaction === 'echo') ws.send(bytes, { binary: isBinary })
  else if (reaction === 'plain') ws.send(bytes, { binary: isBinary, compress: false })
  else if (reaction === 'ping') ws.ping('pinged')
  else if (reaction === 'fragments') {
    ws.send('first', { fin: false })
    ws.send(bytes)
  } else if (reaction === 'close') ws.close(4000, 'enough')
}

async function converse(implementation: Implementation, role: Role, script: Script): Promise<unknown> {
  const { ws, peer } = await open(implementation, role, script)
  const events = record(ws)
  const closed = new Promise((resolve) => ws.on('close', resolve))
  ;(ws as { binaryType: string }).binaryType = script.binaryType
  let count = 0
  ws.on('message', (data, isBinary) => {
    // By the next turn all that came in one chunk may be there already: what is sent must not depend on that.
    react(ws, script.reactions[count++] ?? 'nothing', data, isBinary)
  })
  for (const chunk of script.chunks) {
    if (peer.socket.destroyed || peer.socket.errored !== null) break
    peer.send(chunk)
    await nextTurn()
  }
  const inflate = inflater()
  const frames: string[] = []
  const bytes = await readReplies(peer)
  peer.end()
  await closed
  for (const frame of parseFrames(Buffer.concat([bytes, await peer.readToEnd()]))) {
    expect(frame.maskingKey !== undefined, 'masked').toBe(role === 'client')
    frames.push(describeFrame(inflate(frame)))
  }
  return { events, frames }
}

/** Up to the Close frame, which is always sent. */
async function readReplies(peer: RawClient): Promise<Buffer> {
  const parts: Buffer[] = []
  for (;;) {
    const head = await peer.read(2)
    const length = head[1]! & 0x7f
    const more = await peer.read((length === 126 ? 2 : length === 127 ? 8 : 0) + (head[1]! & 0x80 ? 4 : 0))
    const size = length === 126 ? more.readUInt16BE(0) : length === 127 ? Number(more.readBigUInt64BE(0)) : length
    parts.push(head, more, Buffer.from(await peer.read(size)))
    if ((head[0]! & 15) === 8) return Buffer.concat(parts)
  }
}

async function open(
  implementation: Implementation,
  role: Role,
  { options, isDeflating }: Script,
): Promise<{ ws: Ws; peer: RawClient }> {
  const all = { ...options, perMessageDeflate: isDeflating }
  if (role === 'server') {
    return openToServer(implementation, all, isDeflating ? { headers: { 'Sec-WebSocket-Extensions': OFFER } } : {})
  }
  // The peer compresses each message by itself.
  const lines = isDeflating ? ['Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover'] : []
  return openToClient(implementation, all, lines)
}

describe.each(['server', 'client'] as const)('random conversations with a %s', (role) => {
  it('end as they should with the original', async () => {
    const kinds = new Set<string>()
    for (let seed = 0; seed < SEEDS; seed++) {
      const { events } = (await converse(theOriginal, role, makeScript(role, seed))) as { events: string[] }
      for (const event of events) kinds.add(event.split(' ').slice(0, 1).join(' '))
      for (const event of events) {
        const code = /(WS_ERR_\w+|Z_\w+)/.exec(event)?.[0]
        if (code !== undefined) kinds.add(code)
      }
      expect(events.at(-1)).toMatch(/^close 3 /)
    }
    // The conversations are worth having: most of what can happen does.
    expect([...kinds].sort()).toEqual(
      expect.arrayContaining([
        ...['binary', 'close', 'error', 'ping', 'pong', 'text', 'WS_ERR_INVALID_OPCODE', 'WS_ERR_INVALID_UTF8'],
        ...['WS_ERR_UNEXPECTED_RSV_1', 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', 'WS_ERR_TOO_MANY_BUFFERED_PARTS'],
      ]),
    )
  })

  it('are the same each time', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const script = makeScript(role, seed)
      expect(await converse(theOriginal, role, script), `seed ${seed}`).toEqual(
        await converse(theOriginal, role, script),
      )
    }
  })

  describe.each(others)('of $name', (ours) => {
    it.each(Array.from({ length: SEEDS / 10 }, (_, index) => index * 10))(
      'are those of the original: %i',
      async (first) => {
        for (let seed = first; seed < first + 10; seed++) {
          const script = makeScript(role, seed)
          const expected = await converse(theOriginal, role, script)
          expect(await converse(ours, role, script), `seed ${seed}`).toEqual(expected)
        }
      },
    )
  })
})

// No numbers that only JavaScript takes for numbers, such as 1e1: the original accepts them.
describe('random offers of extensions and protocols', () => {
  const PARAMETERS = [
    ...[
      'client_max_window_bits',
      'client_max_window_bits=8',
      'client_max_window_bits=15',
      'client_max_window_bits="12"',
    ],
    ...['server_max_window_bits=9', 'server_max_window_bits=15', 'server_max_window_bits', 'server_max_window_bits=1'],
    ...['server_no_context_takeover', 'client_no_context_takeover', 'server_no_context_takeover=1', 'foo', 'foo=bar'],
    ...['client_max_window_bits=', 'client_max_window_bits=-9', 'x="a\\b"', 'x=""', '=', 'a b', '"'],
  ]
  const PROTOCOLS = ['a', 'b', 'a', 'c.d', 'e f', '', '"q"', 'x/y', '\t', '#!$%']

  function makeRequest(random: Random): { headers: Record<string, string>; options: Loose } {
    const pick = <T>(values: readonly T[]): T => values[random(values.length)]!
    const offers = Array.from({ length: 1 + random(3) }, () => {
      const name = random(4) === 0 ? pick(['permessage-foo', 'x', '', 'a b']) : 'permessage-deflate'
      return [name, ...Array.from({ length: random(4) }, () => pick(PARAMETERS))].join(pick(['; ', ';', ' ; ']))
    })
    const headers: Record<string, string> = { 'Sec-WebSocket-Extensions': offers.join(pick([', ', ',', ' , '])) }
    if (random(3) === 0) {
      headers['Sec-WebSocket-Protocol'] = Array.from({ length: 1 + random(3) }, () => pick(PROTOCOLS)).join(', ')
    }
    if (random(8) === 0) headers['Sec-WebSocket-Version'] = pick(['8', ' 13', '7', '-13', '13,13', 'x'])
    if (random(8) === 0) headers['Upgrade'] = pick(['WebSocket', 'websocket ', 'h2c', 'websocket,'])
    const options: Record<string, unknown> = {}
    if (random(2) === 0) options['serverMaxWindowBits'] = pick([false, true, 9, 12, 15])
    if (random(2) === 0) options['clientMaxWindowBits'] = pick([false, true, 9, 12, 15])
    if (random(3) === 0) options['serverNoContextTakeover'] = random(2) === 0
    if (random(3) === 0) options['clientNoContextTakeover'] = random(2) === 0
    return { headers, options }
  }

  async function answerOf(implementation: Implementation, request: ReturnType<typeof makeRequest>): Promise<string> {
    const { port } = await startServer(implementation, { perMessageDeflate: request.options })
    const peer = await RawClient.connect({ port })
    peer.send(upgradeRequest({ headers: request.headers }))
    const head = await peer.readHead()
    const text = [head.text, ...head.lines].join('\n')
    return head.status === 101 ? text : `${text}\n\n${(await peer.readToEnd()).toString()}`
  }

  it('are accepted and refused by the original', async () => {
    const statuses = new Set<string>()
    for (let seed = 0; seed < 100; seed++) {
      const answer = await answerOf(theOriginal, makeRequest(seededRandom(seedOf(`offer ${seed}`))))
      statuses.add(answer.split('\n')[0]!)
    }
    expect([...statuses].sort()).toEqual(['HTTP/1.1 101 Switching Protocols', 'HTTP/1.1 400 Bad Request'])
  })

  it.each(others)('are answered by $name with the same bytes', async (ours) => {
    for (let seed = 0; seed < 200; seed++) {
      const request = makeRequest(seededRandom(seedOf(`offer ${seed}`)))
      const expected = await answerOf(theOriginal, request)
      expect(await answerOf(ours, request), JSON.stringify(request)).toBe(expected)
    }
  })
})

describe.each(others)('where the original throws, $name', (ours) => {
  it('reports an error in a chunk behind an inflation, and ends', async () => {
    const { ws, peer } = await openToServer(
      ours,
      { perMessageDeflate: true },
      { headers: { 'Sec-WebSocket-Extensions': OFFER } },
    )
    const events = record(ws)
    const closed = new Promise((resolve) => ws.on('close', resolve))
    const random = seededRandom(1)
    // Little to send and much to inflate: what comes behind it waits, in chunks of its own.
    const payload = deflateRawSync(Buffer.alloc(10_000_000), { finishFlush: constants.Z_SYNC_FLUSH })
    peer.send(formatFor('server', { opcode: 2, rsv: 4, payload: payload.subarray(0, -4) }, random))
    for (let count = 0; count < 20; count++) {
      peer.send(formatFor('server', { opcode: 1, payload: Buffer.of(0xff) }, random))
      await nextTurn()
    }
    expect((await readReplies(peer)).readUInt16BE(2)).toBe(1007)
    peer.end()
    await closed
    expect(events.map((line) => line.replace(/:.*/, ''))).toEqual([
      'binary 10000000 bytes',
      'error 2 Error WS_ERR_INVALID_UTF8',
      'close 3 1006 ""',
    ])
  })
})
