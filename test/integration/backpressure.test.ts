import { describe, expect, it } from 'vitest'
import type { Message } from '../../src/index.ts'
import { Queue } from '../support/queue.ts'
import { certificate, openClient, startServer } from '../support/servers.ts'

const MIB = 1_048_576

describe('two ends that both have much to send', () => {
  it.each(['ws', 'wss'] as const)('get it all across over %s, and do not wait for each other', async (scheme) => {
    const limits = { maxMessageBytes: 16 * MIB, maxBufferedBytes: 64 * MIB }
    const { url } = await startServer({
      ...limits,
      ...(scheme === 'wss' ? { tls: certificate } : {}),
      message: (client, data) => void client.send(data),
    })
    const answers = new Queue<Message>()
    const client = await openClient(url, { ...limits, message: (_, data) => answers.push(data) })
    const sent = [1, 2, 3].map((byte) => Buffer.alloc(8 * MIB, byte))
    for (const message of sent) expect(client.send(message)).toBe(true)
    const received = (await answers.take(sent.length)) as Buffer[]
    for (const [index, message] of sent.entries()) expect(message.equals(received[index]!)).toBe(true)
  })
})

describe('a message handler that pauses and resumes at once, then returns a promise', () => {
  it('is called for one message at a time, and harms nobody', async () => {
    const events = new Queue<string>()
    const { url } = await startServer({
      message: async (client, data) => {
        events.push(`begin ${data}`)
        client.pause()
        client.resume()
        await new Promise((resolve) => setTimeout(resolve, 5))
        events.push(`end ${data}`)
      },
    })
    const client = await openClient(url)
    for (const message of ['1', '2', '3', '4']) client.send(message)
    expect(await events.take(8)).toEqual(
      ['1', '2', '3', '4'].flatMap((message) => [`begin ${message}`, `end ${message}`]),
    )
    client.send('5')
    expect(await events.take(2)).toEqual(['begin 5', 'end 5'])
  })
})
