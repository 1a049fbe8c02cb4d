import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe } from 'vitest'
import original, {
  createWebSocketStream,
  WebSocketServer,
  type WebSocketServer as WebSocketServerType,
  type WebSocket as WebSocketType,
} from 'ws'

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

const OURS = new URL('../../../src/compat/ws.ts', import.meta.url)

async function loadOurs(): Promise<Implementation[]> {
  if (!existsSync(fileURLToPath(OURS))) return []
  const ours = (await import(OURS.href)) as {
    default: typeof original
    WebSocketServer: typeof WebSocketServer
    createWebSocketStream: typeof createWebSocketStream
  }
  return [{ ...ours, name: 'fullduplex/ws', WebSocket: ours.default }]
}

const only = process.env['COMPAT_ONLY']

/** The original first. */
export const implementations: readonly Implementation[] = [theOriginal, ...(await loadOurs())].filter(
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
