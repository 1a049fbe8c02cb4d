import { WebSocket as Undici } from 'undici'
import { describe, expect, it } from 'vitest'
import { WebSocket as Ours } from '../../src/index.ts'
import { freePort } from '../support/ports.ts'
import { frame } from '../support/raw-client.ts'
import { acceptance, startRawServer, startServer } from '../support/servers.ts'

/*
 * The same programs on two implementations of one standard.
 */

type Implementation = typeof Ours

const implementations = { ours: Ours, undici: Undici as unknown as Implementation }

/** What an event says, as far as the standard goes. */
async function describeEvent(
  event: Event & { data?: unknown; code?: number; reason?: string; wasClean?: boolean; origin?: string },
) {
  const { type, data, code, reason, wasClean, bubbles, cancelable } = event
  const content =
    data instanceof Blob
      ? `blob:${await data.text()}`
      : data instanceof ArrayBuffer
        ? Buffer.from(data).toString('hex')
        : data
  return [type, content, code, reason, wasClean, bubbles, cancelable, event.constructor.name.replace(/^WebSocket/, '')]
}

/** All that happens up to the close. */
function record(socket: InstanceType<Implementation>): Promise<unknown[]> {
  return new Promise((resolve) => {
    const events: Promise<unknown>[] = []
    for (const type of ['open', 'message', 'error', 'close'] as const) {
      socket.addEventListener(type, (event: Event) => {
        const { readyState, protocol, extensions, binaryType } = socket
        events.push(
          describeEvent(event as never).then((said) => [...said, { readyState, protocol, extensions, binaryType }]),
        )
        if (type === 'close') resolve(Promise.all(events))
      })
    }
  })
}

async function compare(program: (WebSocket: Implementation) => unknown): Promise<unknown> {
  const ours = await program(implementations.ours)
  expect(ours).toEqual(await program(implementations.undici))
  return ours
}

function thrownBy(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    return error instanceof DOMException ? error.name : (error as Error).constructor.name
  }
  return 'nothing'
}

describe('ours and undici’s do the same', () => {
  it('with URLs', async () => {
    const urls = [
      '',
      'x',
      '/x',
      'ws:',
      'ws://',
      'ws:/a',
      'ftp://a',
      'ws://127.0.0.1:1/#',
      'ws://127.0.0.1:1/#a',
      'http://127.0.0.1:1/a b?c#',
    ]
    const good = [
      'ws://127.0.0.1:1',
      'WSS://127.0.0.1:1/%7e/../a',
      'http://127.0.0.1:1/ä?ö',
      'https://127.0.0.1:443',
      'http://127.0.0.1:80/',
    ]
    await compare((WebSocket) => urls.map((url) => thrownBy(() => new WebSocket(url).close())))
    await compare((WebSocket) =>
      good.map((url) => {
        const socket = new WebSocket(url)
        socket.onerror = () => {}
        const seen = [socket.url, socket.readyState, socket.bufferedAmount, socket.protocol, socket.extensions]
        socket.close()
        return [...seen, socket.readyState]
      }),
    )
  })

  it('with subprotocols', async () => {
    const lists = ['', 'a', 'a b', 'a,b', [], ['a'], ['a', 'b'], ['a', 'a'], ['a', 'A'], [''], 'ü', '"', ['a\u0000']]
    await compare((WebSocket) => lists.map((list) => thrownBy(() => new WebSocket('ws://127.0.0.1:1', list).close())))
  })

  it('with arguments of close and send', async () => {
    const codes = [
      undefined,
      0,
      999,
      1000,
      1001,
      1005,
      1011,
      2999,
      3000,
      4999,
      5000,
      65_536,
      1000.4,
      Number.NaN,
      '1000',
      null,
    ]
    await compare((WebSocket) => {
      const thrown = codes.map((code) => {
        const socket = new WebSocket('ws://127.0.0.1:1')
        socket.onerror = () => {}
        const early = thrownBy(() => socket.send('early'))
        return [early, thrownBy(() => socket.close(code as number)), socket.readyState]
      })
      const socket = new WebSocket('ws://127.0.0.1:1')
      return [
        thrown,
        thrownBy(() => socket.close(1000, 'ü'.repeat(62))),
        thrownBy(() => socket.close(1000, 'ü'.repeat(61))),
      ]
    })
  })

  it('with a conversation in text and in both kinds of binary', async () => {
    const { url } = await startServer({
      subprotocols: ['chat'],
      message: (client, data) => {
        client.send(data)
        if (data === 'end') client.close(4001, 'as you say')
      },
    })
    for (const type of ['blob', 'arraybuffer'] as const) {
      await compare(async (WebSocket) => {
        const socket = new WebSocket(url, ['other', 'chat'])
        socket.binaryType = type
        const all = record(socket)
        const amounts: number[] = []
        socket.onopen = () => {
          for (const data of [
            'text ü',
            Uint8Array.of(1, 2),
            new Blob(['blob']),
            'behind',
            new Uint16Array([1, 2]).subarray(1),
            'end',
          ]) {
            socket.send(data)
            amounts.push(socket.bufferedAmount)
          }
        }
        return [await all, amounts]
      })
    }
  })

  it('with a close from either side', async () => {
    const { url } = await startServer({ message: (client, data) => client.close(...JSON.parse(String(data))) })
    for (const asked of [[], [1000], [1001, 'going'], [4999, 'ü'.repeat(61)]]) {
      await compare(async (WebSocket) => {
        const socket = new WebSocket(url)
        socket.onopen = () => socket.send(JSON.stringify(asked))
        return record(socket)
      })
    }
    for (const given of [[], [1000], [4000, 'bye']] as [number?, string?][]) {
      await compare(async (WebSocket) => {
        const socket = new WebSocket(url)
        socket.onopen = () => {
          socket.close(...given)
          socket.send('too late')
        }
        return record(socket)
      })
    }
  })

  it('with a connection that fails', async () => {
    const refused = await startServer({ token: 'secret' })
    const strange = await startServer()
    const wrong = await startRawServer((peer, request) => {
      peer.send(acceptance(request, 'Sec-WebSocket-Protocol: other'))
      peer.end()
    })
    const silent = await startRawServer(() => {})
    const nobody = `ws://127.0.0.1:${await freePort()}`
    await compare((WebSocket) => record(new WebSocket(refused.url)))
    await compare((WebSocket) => record(new WebSocket(nobody)))
    await compare((WebSocket) => record(new WebSocket(wrong.url, 'chat')))
    await compare((WebSocket) => record(new WebSocket(strange.url, 'chat')))
    await compare((WebSocket) => {
      const socket = new WebSocket(silent.url)
      setTimeout(() => socket.close(4000, 'never'), 20)
      return record(socket)
    })
  })

  it('with frames that break the protocol', async () => {
    for (const bytes of [frame(1, 'masked'), frame(3, '', { masked: false }), frame(0, '', { masked: false })]) {
      const { url } = await startRawServer((peer, request) => peer.send(acceptance(request), bytes))
      await compare(async (WebSocket) => (await record(new WebSocket(url))).map((event) => (event as unknown[])[0]))
    }
  })
})
