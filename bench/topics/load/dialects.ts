// How a client says that it joins and publishes, and how it is answered: in words of our own, and in socket.io's.
import type { Client } from './client.ts'

export type DialectName = 'plain' | 'socket.io'

export interface Dialect {
  path: string
  /** What is said before anything else. */
  enter(client: Client): Promise<void>
  /** Resolves when the server has taken it. */
  change(client: Client, sign: '+' | '-', topics: readonly string[]): Promise<void>
  /** What a client sends to publish a message. */
  publish(message: string): string
  /** What the members get. */
  delivered(message: string): string
}

const plain: Dialect = {
  path: '/',
  async enter() {},
  async change(client, sign, topics) {
    client.say(sign + JSON.stringify(topics))
    expect(await client.next(), sign)
  },
  publish: (message) => message,
  delivered: (message) => message,
}

/** Engine.IO 4 over WebSocket, with Socket.IO 5 in it: type numbers, then JSON. */
const socketIo: Dialect = {
  path: '/socket.io/?EIO=4&transport=websocket',
  async enter(client) {
    expect(await client.next(), '0{')
    client.say('40')
    expect(await client.next(), '40{')
  },
  async change(client, sign, topics) {
    if (sign === '-') throw new Error('nobody leaves here')
    client.say(`420${JSON.stringify(['join', topics])}`)
    expect(await client.next(), '430')
  },
  publish: (message) => `42${JSON.stringify(['publish', message])}`,
  delivered: (message) => `42${JSON.stringify(['message', message])}`,
}

export const dialects: Record<DialectName, Dialect> = { plain, 'socket.io': socketIo }

function expect(text: string, beginning: string): void {
  if (!text.startsWith(beginning)) throw new Error(`the server said ${JSON.stringify(text.slice(0, 200))}`)
}
