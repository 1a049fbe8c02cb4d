import type { Data, WebSocketConnection } from '../../connection.ts'
import { CloseCode } from '../../constants.ts'
import { UsageError } from '../../errors.ts'

/**
 * A client of a server, as the modules of a folder see it: in version 2 by `getSession()`, in version 4 as the last
 * argument of a handler's functions. It may be kept; once its connection has ended, what is sent goes nowhere.
 */
export class WebsocketSession {
  /** The connection itself, with all that the engine has: `data`, `path`, `subscribe` and so on. */
  readonly connection: WebSocketConnection

  /** @internal Sessions are made by the server. */
  constructor(connection: WebSocketConnection) {
    this.connection = connection
  }

  /**
   * Sends a text. Nothing in Node can wait for a socket; the text leaves at the end of the tick.
   *
   * @throws UsageError `ERR_DATA_TYPE` for anything but a string.
   */
  sendText(text: string): void {
    if (typeof text !== 'string') throw new UsageError('ERR_DATA_TYPE', 'only a string can be sent as text')
    this.connection.send(text)
  }

  /** The same as `sendText`: texts keep their order, whichever of the two sends them. */
  sendTextAsync(text: string): void {
    this.sendText(text)
  }

  /**
   * Sends what a `WebsocketClient` sends: a string as text, bytes as a binary message.
   *
   * @throws UsageError `ERR_DATA_TYPE` for anything else.
   */
  send(message: Data): void {
    this.connection.send(message)
  }

  /** The id of the connection: 32 hexadecimal digits that nobody can guess. */
  getId(): string {
    return this.connection.id
  }

  /** Closes the connection with 1000, behind what was sent. Returns its id. */
  close(): string {
    this.connection.close(CloseCode.NORMAL)
    return this.connection.id
  }
}
