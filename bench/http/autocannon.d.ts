// The part of autocannon that attack.ts uses; it comes without types.
declare module 'autocannon' {
  import type { EventEmitter } from 'node:events'

  interface Options {
    url: string
    connections: number
    duration: number
    headers?: Record<string, string>
    /** A new connection after so many requests. */
    reconnectRate?: number
    /** Called with each connection's client: emits 'headers' ({ statusCode }) and 'connError'. */
    setupClient(client: EventEmitter): void
  }
  export default function autocannon(options: Options): Promise<unknown>
}
