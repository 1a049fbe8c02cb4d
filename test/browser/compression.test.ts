import { expect, it } from 'vitest'
import type { WebSocketServerOptions } from '../../src/index.ts'
import { describeInChromium, inPage } from '../support/chromium.ts'
import { allowSockets, PageSocket } from '../support/page-socket.ts'
import { Queue } from '../support/queue.ts'
import { firstClient, startServer } from '../support/servers.ts'

/*
 * Compression with a browser, which offers it by itself and keeps its windows as zlib does.
 */

const MIB = 1_048_576
const TAKEOVER = { serverNoContextTakeover: false, clientNoContextTakeover: false, threshold: 1 }

describeInChromium('compression and Chromium', [], (newProfile) => {
  async function meet(options: WebSocketServerOptions) {
    const messages = new Queue<string | Buffer>()
    const { server, port } = await startServer({
      respond: () => ({ headers: { 'Content-Type': 'text/html' }, body: '<title>A page</title>' }),
      maxMessageBytes: 8 * MIB,
      message: (_, data) => messages.push(data),
      ...options,
    })
    const context = await newProfile()
    await allowSockets(context)
    const page = await context.newPage()
    await page.goto(`http://127.0.0.1:${port}/`)
    const socket = await PageSocket.open(page, `ws://127.0.0.1:${port}/`)
    return { server, page, socket, messages, opened: await socket.next() }
  }

  it.each<[string, WebSocketServerOptions['compression'], string]>([
    ['by default', true, '; server_no_context_takeover; client_no_context_takeover'],
    ['with context takeover', TAKEOVER, ''],
    [
      'with small windows',
      { ...TAKEOVER, serverMaxWindowBits: 9, clientMaxWindowBits: 10 },
      '; server_max_window_bits=9; client_max_window_bits=10',
    ],
    [
      'with windows of 8 bits',
      { ...TAKEOVER, serverMaxWindowBits: 8, clientMaxWindowBits: 8 },
      '; server_max_window_bits=8; client_max_window_bits=8',
    ],
  ])('a page and the server understand each other, %s', async (_, compression, agreed) => {
    const { server, page, opened } = await meet({
      compression,
      message: (client, data) => void client.send(data),
    })
    expect(opened).toBe(`open permessage-deflate${agreed}`)
    expect((await firstClient(server)).compressed).toBe(true)
    const sizes = [0, 1, 100, 1_023, 1_024, 65_535, 65_536, 65_537, 262_144, 262_145, 3 * MIB]
    // All at once, so that short ones stand behind long ones on both sides; the page compares.
    const differences = await inPage<number[]>(
      page,
      `new Promise((resolve, reject) => {
        const sizes = ${JSON.stringify(sizes)}
        const sent = sizes.flatMap((size) => {
          let text = ''
          for (let at = 0; text.length < size; at++) text += 'record ' + ((at * 7919) % 10007) + ', '
          text = text.slice(0, size)
          return [text, new TextEncoder().encode(text)]
        })
        const differences = []
        const socket = new WebSocket(location.href.replace('http', 'ws'))
        socket.binaryType = 'arraybuffer'
        socket.onopen = () => sent.forEach((message) => socket.send(message))
        socket.onclose = ({ code, reason }) => reject(new Error('closed: ' + code + ' ' + reason))
        const decoder = new TextDecoder()
        const asText = (data) => (typeof data === 'string' ? 'text ' + data : 'binary ' + decoder.decode(data))
        let received = 0
        socket.onmessage = ({ data }) => {
          if (asText(data) !== asText(sent[received])) differences.push(received)
          if (++received < sent.length) return
          socket.onclose = null
          socket.close()
          resolve(differences)
        }
      })`,
    )
    expect(differences).toEqual([])
  })

  it('a broadcast reaches pages that have agreed on it', async () => {
    const { server, socket } = await meet({ compression: true })
    const long = 'A long message for everybody. '.repeat(5_000)
    server.broadcast(long)
    server.broadcast('A short one')
    expect((await socket.next()) === long).toBe(true)
    expect(await socket.next()).toBe('A short one')
  })

  it('the server closes while a message is on its way through the pool', async () => {
    const { server, socket } = await meet({ compression: true })
    const client = await firstClient(server)
    client.send('A long message. '.repeat(50_000))
    client.close(1000, 'Done')
    expect(await socket.next()).toHaveLength(800_000)
    expect(await socket.next()).toEqual({ code: 1000, reason: 'Done', wasClean: true })
  })
})
