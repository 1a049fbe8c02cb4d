/*
 * `fullduplex/ws7`: as `fullduplex/ws`, with texts (and the reasons of closing) as strings: what the package `ws` gave up
 * to version 7, and what programs written for it relay.
 */
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import { extension, PerMessageDeflate, subprotocol } from './ws/negotiation.ts'
import type * as Options from './ws/options.ts'
import { Receiver } from './ws/receiver.ts'
import { Sender } from './ws/sender.ts'
import * as ServerModule from './ws/server.ts'
import { createWebSocketStream } from './ws/stream.ts'
import * as Client from './ws/websocket.ts'

type Request = typeof IncomingMessage

/** Listeners of version 7 get a text as string, and a reason too. */
interface StringEvents {
  on(event: 'message', listener: (data: Options.Data) => void): this
  on(event: 'close', listener: (code: number, reason: string) => void): this
  once(event: 'message', listener: (data: Options.Data) => void): this
  once(event: 'close', listener: (code: number, reason: string) => void): this
  off(event: 'message', listener: (data: Options.Data) => void): this
  off(event: 'close', listener: (code: number, reason: string) => void): this
}

/** What the class has beside what belongs to its connections. */
interface Statics {
  new (
    address: string | URL,
    protocols?: string | string[] | Options.ClientOptions<WebSocket>,
    options?: Options.ClientOptions<WebSocket>,
  ): WebSocket
  readonly WebSocket: typeof WebSocket
  readonly Server: typeof WebSocketServer
  readonly WebSocketServer: typeof WebSocketServer
  readonly createWebSocketStream: typeof createWebSocketStream
  readonly Sender: typeof Sender
  readonly Receiver: typeof Receiver
  readonly PerMessageDeflate: typeof PerMessageDeflate
  readonly extension: typeof extension
  readonly subprotocol: typeof subprotocol
}

class StringWebSocket extends Client.WebSocket {
  protected static override get textAsString(): boolean {
    return true
  }
}
Client.defineStates(StringWebSocket)
Object.defineProperty(StringWebSocket, 'name', { value: 'WebSocket' })

class StringWebSocketServer extends ServerModule.WebSocketServer {
  protected static override get Connection(): typeof Client.WebSocket {
    return StringWebSocket
  }
}
Object.defineProperty(StringWebSocketServer, 'name', { value: 'WebSocketServer' })

/** A server with the API of version 7: texts are strings. */
const WebSocketServer = StringWebSocketServer as unknown as {
  new (
    options?: ServerModule.ServerOptions<typeof WebSocket, Request> | HttpServer | HttpsServer,
    callback?: () => void,
  ): WebSocketServer
}
type WebSocketServer = ServerModule.WebSocketServer<typeof WebSocket, Request>

/** A connection of a `WebSocketServer`, or a client: texts are strings. */
const WebSocket: typeof Client.WebSocket & Statics = Object.assign(StringWebSocket, {
  WebSocket: StringWebSocket,
  Server: WebSocketServer,
  WebSocketServer,
  createWebSocketStream,
  Sender,
  Receiver,
  PerMessageDeflate,
  extension,
  subprotocol,
}) as unknown as typeof Client.WebSocket & Statics
type WebSocket = StringEvents & Client.WebSocket

declare namespace WebSocket {
  type WebSocket = StringEvents & Client.WebSocket
  type Server = ServerModule.WebSocketServer<typeof WebSocket, Request>
  type Data = Options.Data
  type ClientOptions = Options.ClientOptions<WebSocket>
  type ServerOptions = ServerModule.ServerOptions
  type MessageEvent = Client.MessageEvent
  type CloseEvent = Client.CloseEvent
  type ErrorEvent = Client.ErrorEvent
}

export {
  createWebSocketStream,
  extension,
  PerMessageDeflate,
  Receiver,
  Sender,
  subprotocol,
  WebSocket,
  WebSocket as default,
  WebSocket as 'module.exports',
  WebSocketServer,
  WebSocketServer as Server,
}
