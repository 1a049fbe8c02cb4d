import { currentCall, getError, getMessage, getMethod, isOnClose, isOnError, isOnMessage, isOnOpen } from './call.ts'
import type { Clients } from './clients.ts'
import { canonicalName } from './names.ts'
import type { WebsocketSession } from './session.ts'

/** The modules of a runtime, by the canonical names under which its folder requires them. */
export function provideModules(clients: Clients, sessions: ReadonlySet<WebsocketSession>): Map<string, object> {
  const websockets = newWebsockets(clients)
  const websocket = newWebsocket(sessions)
  const modules: Record<string, object> = {
    'net/v4/websockets': websockets,
    'net/websockets': websockets,
    'net/websocket': websocket,
    'service/websocket': websocket,
    'core/globals': newGlobals(),
    'core/context': context,
  }
  return new Map(Object.entries(modules).map(([name, module]) => [canonicalName(name), module]))
}

/** Version 4. */
function newWebsockets(clients: Clients): object {
  const { createWebsocket, getClients, getClient, getClientByHandler } = clients
  return Object.freeze({
    createWebsocket,
    getClients,
    getClient,
    getClientByHandler,
    getMessage,
    getError,
    getMethod,
    isOnOpen,
    isOnMessage,
    isOnError,
    isOnClose,
  })
}

/** Version 2: whose message is being handled, and who else is there. */
function newWebsocket(sessions: ReadonlySet<WebsocketSession>): object {
  return Object.freeze({
    getSession: (): WebsocketSession | null => currentCall()?.session ?? null,
    getOpenSessions: (): WebsocketSession[] => [...sessions].filter(({ connection }) => connection.state === 'open'),
  })
}

/** What all modules of a runtime share, for as long as it lives. */
function newGlobals(): object {
  const values = new Map<string, unknown>()
  return Object.freeze({
    get: (name: string): unknown => values.get(name) ?? null,
    set: (name: string, value: unknown): void => void values.set(name, value),
  })
}

/** What the message gives that runs the module; nothing of a prototype's. */
const context: object = Object.freeze({
  get(name: string): unknown {
    const params = currentCall()?.params
    return params !== undefined && Object.hasOwn(params, name) ? (params[name] ?? null) : null
  },
})
