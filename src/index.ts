export {
  type ActionResult,
  type Api,
  type ApiEvents,
  type BroadcastActionResult,
  type BroadcastArguments,
  broadcast,
  type ClientEvent,
  createApi,
  events,
  getRooms,
  getServer,
  joinRoom,
  type Listener,
  leaveRoom,
  type MessageEvent,
  onClientConnected,
  onClientDisconnected,
  onMessage,
  type RoomArguments,
  type RoomsResult,
  type SendArguments,
  type ServerDetails,
  type StartServerArguments,
  type StartServerResult,
  send,
  startServer,
  stopServer,
  type Unsubscribe,
  updateTls,
} from './api.ts'
export type { AttachableServer } from './attach.ts'
export type { Backplane, BackplaneHost } from './backplane.ts'
export { type ConnectOptions, connect } from './client.ts'
export {
  type ConnectionHandlers,
  type SlowConsumerPolicy,
  WebSocketConnection,
} from './connection.ts'
export { CloseCode, Opcode } from './constants.ts'
export type { Data } from './data.ts'
export type { ConnectionTarget, DialOptions } from './dial.ts'
export {
  type BackplaneErrorCode,
  type ConnectionErrorCode,
  HandshakeError,
  type HandshakeErrorCode,
  ProtocolError,
  type ProtocolErrorCode,
  UsageError,
  type UsageErrorCode,
  WebSocketError,
  type WebSocketErrorCode,
} from './errors.ts'
export type { CompressionOptions } from './extension.ts'
export type { HttpAnswer, HttpRequest, HttpRequest as UpgradeRequest, PathRule } from './handshake.ts'
export type { HeaderFields } from './headers.ts'
export type {
  HistoryLimits,
  HistoryOption,
  LogEntry,
  LogFollower,
  LogPage,
  LogSubscription,
  ResolvedHistoryLimits,
  TopicLog,
} from './history.ts'
export { prepare, type TopicListener } from './hub.ts'
export type { Message } from './inbox.ts'
export type { TlsSource } from './listen.ts'
export type { ConnectionLoss } from './losses.ts'
export type { Position } from './marks.ts'
export type { MessageStream, SendStreamOptions } from './message-streams.ts'
export type { ConnectionLimits, HeadLimitOptions } from './options.ts'
export type { PreparedMessage } from './prepared.ts'
export type { CloseEvent, ProtocolState } from './protocol.ts'
export { createPublisher, Publisher, type PublisherOptions } from './publisher.ts'
export type { PublishOptions, PublishResult, SendOptions, SubscribeOptions } from './publishing.ts'
export type { Authorization, Refusal } from './reception.ts'
export {
  ReconnectingConnection,
  type ReconnectingLimits,
  type ReconnectingOptions,
  type ReconnectingState,
  type RefreshedOptions,
  reconnecting,
  type UrlList,
  type UrlSource,
} from './reconnecting.ts'
export {
  type ServerCloseOptions,
  type ServerHandlers,
  WebSocketServer,
  type WebSocketServerOptions,
} from './server.ts'
export { toWebStreams, type WebStreams } from './streams.ts'
export { WebSocket, type WebSocketEvents, type WebSocketListener, type WebSocketOptions } from './websocket.ts'
export { WebSocketCloseEvent, type WebSocketCloseEventInit, WebSocketErrorEvent } from './websocket-events.ts'
