/*
 * `fullduplex/dirigible`: a folder of modules that serve WebSockets, and connect to them, by the names and functions of
 * the websockets API of Dirigible, in its versions 4 and 2. docs/DIRIGIBLE.md describes it.
 */
import type { WebsocketClient, WebsocketClientMetadata } from './dirigible/clients.ts'
import type { WebsocketHandler } from './dirigible/handler.ts'
import { currentClients } from './dirigible/runtime.ts'

export {
  getError,
  getMessage,
  getMethod,
  isOnClose,
  isOnError,
  isOnMessage,
  isOnOpen,
  type Method,
} from './dirigible/call.ts'
export type { ClientConnectOptions, WebsocketClient, WebsocketClientMetadata } from './dirigible/clients.ts'
export type { Answerable, WebsocketHandler } from './dirigible/handler.ts'
export { createRuntime, type Runtime, type RuntimeOptions } from './dirigible/runtime.ts'
export type { RunningServer, ServeOptions } from './dirigible/server.ts'
export type { WebsocketSession } from './dirigible/session.ts'

// For ES modules, and for the program itself. Modules that get them by `require` get those of their own runtime.

/**
 * Connects to a server, and calls the functions of a handler: a module by its name in the folder, or an object. Returns
 * at once; when there is no connection, the handler's `onError` and `onClose` tell. `engine` is accepted, and ignored.
 *
 * @throws UsageError `ERR_URL` for a URI that cannot be, `ERR_OPTION` when there is no such handler, `ERR_SERVER_STATE`
 *   when there is no runtime.
 */
export function createWebsocket(
  uri: string | URL,
  handler: string | WebsocketHandler,
  engine?: string,
): WebsocketClient {
  return currentClients().createWebsocket(uri, handler, engine)
}

/** The clients that are opening or open, in the order of their making. */
export function getClients(): WebsocketClientMetadata[] {
  return currentClients().getClients()
}

/** The client with this id; null when there is none, or none any more. */
export function getClient(id: string): WebsocketClient | null {
  return currentClients().getClient(id)
}

/** The first client with this handler; null when there is none, or none any more. */
export function getClientByHandler(handler: string | WebsocketHandler): WebsocketClient | null {
  return currentClients().getClientByHandler(handler)
}
