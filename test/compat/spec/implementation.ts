import { describe } from 'vitest'
import original, {
  createWebSocketStream,
  WebSocketServer,
  type WebSocketServer as WebSocketServerType,
  type WebSocket as WebSocketType,
} from 'ws'
import * as ours from '../../../src/compat/ws.ts'

/*
 * The same tests run against the original and against the drop-in: what the first does is what the second must do.
 */

/** What a spec needs of a module that calls itself ws. */
export interface Implementation {
  readonly name: string
  readonly WebSocket: typeof original
  readonly WebSocketServer: typeof WebSocketServer
  readonly createWebSocketStream: typeof createWebSocketStream
}

export type Ws = WebSocketType
export type Wss = WebSocketServerType

export const theOriginal: Implementation = {
  name: 'ws',
  WebSocket: original,
  WebSocketServer,
  createWebSocketStream,
}

/** Its types are those of @types/ws as far as programs see: types.test.ts compares them. */
const theDropIn: Implementation = {
  ...ours,
  name: 'fullduplex/ws',
  WebSocket: ours.default,
} as unknown as Implementation

/** To run one of them alone: its name. */
const only = process.env['COMPAT_ONLY']

/** The original first. */
export const implementations: readonly Implementation[] = [theOriginal, theDropIn].filter(
  ({ name }) => only === undefined || name === only,
)

/** Registers the tests of a spec for each implementation. */
export function specify(...specs: ((implementation: Implementation) => void)[]): void {
  for (const implementation of implementations) {
    describe(implementation.name, () => {
      for (const spec of specs) spec(implementation)
    })
  }
}
