/*
 * `fullduplex/ws`: the API of the package `ws`, version 8, on this library's engine. docs/WS.md has what differs.
 */
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import type * as Net from 'node:net'
import type { PerMessageDeflateOptions as DeflateOptions } from './ws/extension.ts'
import { extension, PerMessageDeflate, subprotocol } from './ws/negotiation.ts'
import type * as Options from './ws/options.ts'
import { Receiver } from './ws/receiver.ts'
import { Sender } from './ws/sender.ts'
import * as ServerModule from './ws/server.ts'
import { createWebSocketStream } from './ws/stream.ts'
import * as Client from './ws/websocket.ts'

type Request = typeof IncomingMessage

/** What the class has beside what belongs to its connections, for those who get nothing but the class. */
interface Statics {
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

/** A server with the API of ws's, on this library's engine. */
const WebSocketServer = ServerModule.WebSocketServer as unknown as {
  new <U extends typeof Client.WebSocket = typeof WebSocket, V extends Request = Request>(
    options?: ServerModule.ServerOptions<U, V> | HttpServer<V> | HttpsServer<V>,
    callback?: () => void,
  ): WebSocketServer<U, V>
}
type WebSocketServer<
  U extends typeof Client.WebSocket = typeof WebSocket,
  V extends Request = Request,
> = ServerModule.WebSocketServer<U, V>

/** A connection of a `WebSocketServer`, or a client. */
const WebSocket: typeof Client.WebSocket & Statics = Object.assign(Client.WebSocket, {
  WebSocket: Client.WebSocket,
  Server: WebSocketServer,
  WebSocketServer,
  createWebSocketStream,
  Sender,
  Receiver,
  PerMessageDeflate,
  extension,
  subprotocol,
}) as typeof Client.WebSocket & Statics
type WebSocket = Client.WebSocket

declare namespace WebSocket {
  type WebSocket = Client.WebSocket
  type Server<
    U extends typeof Client.WebSocket = typeof WebSocket,
    V extends Request = Request,
  > = ServerModule.WebSocketServer<U, V>
  type WebSocketServer<
    U extends typeof Client.WebSocket = typeof WebSocket,
    V extends Request = Request,
  > = ServerModule.WebSocketServer<U, V>
  type RawData = Options.RawData
  type Data = Options.Data
  type BufferLike = Options.BufferLike
  type ClientOptions = Options.ClientOptions<Client.WebSocket>
  type ServerOptions<
    U extends typeof Client.WebSocket = typeof WebSocket,
    V extends Request = Request,
  > = ServerModule.ServerOptions<U, V>
  type PerMessageDeflateOptions = DeflateOptions
  type VerifyClientCallbackSync<R extends IncomingMessage = IncomingMessage> = ServerModule.VerifyClientCallbackSync<R>
  type VerifyClientCallbackAsync<R extends IncomingMessage = IncomingMessage> =
    ServerModule.VerifyClientCallbackAsync<R>
  type FinishRequestCallback = NonNullable<ClientOptions['finishRequest']>
  type CertMeta = string | string[] | Buffer | Buffer[]
  type AddressInfo = Net.AddressInfo
  type EventListenerOptions = { once?: boolean | undefined }
  type Event = Client.Event
  type MessageEvent = Client.MessageEvent
  type CloseEvent = Client.CloseEvent
  type ErrorEvent = Client.ErrorEvent
  type WebSocketEventMap = Client.WebSocketEventMap
}

type RawData = Options.RawData
type Data = Options.Data
type ClientOptions = WebSocket.ClientOptions
type ServerOptions<
  U extends typeof Client.WebSocket = typeof WebSocket,
  V extends Request = Request,
> = ServerModule.ServerOptions<U, V>
type PerMessageDeflateOptions = DeflateOptions
type MessageEvent = Client.MessageEvent
type CloseEvent = Client.CloseEvent
type ErrorEvent = Client.ErrorEvent

export type {
  ClientOptions,
  CloseEvent,
  Data,
  ErrorEvent,
  MessageEvent,
  PerMessageDeflateOptions,
  RawData,
  ServerOptions,
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
