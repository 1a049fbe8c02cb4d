import type { WebSocketConnection } from '../connection.ts'
import { CloseCode } from '../constants.ts'
import { ProtocolError } from '../errors.ts'
import { asError, warn } from '../handlers.ts'
import type { Message } from '../inbox.ts'
import { WebSocketServer, type WebSocketServerOptions } from '../server.ts'
import { reachableAddress, socketAddress } from './monaca/addresses.ts'
import { nothing, type OnEvent, type OnFailure, type OnSuccess, report, tell } from './monaca/callbacks.ts'

export type { OnEvent, OnFailure, OnSuccess } from './monaca/callbacks.ts'

/*
 * The API of Monaca's plugin for WebSocket servers in an app, on the engine; docs/MONACA.md tells what differs.
 */

/** Result of `start`. */
export interface StartResult {
  port: number
  event: 'server:started'
  /** The address that clients reach: of this machine alone, unless the option `host` says otherwise. */
  ip: string
}

/** Result of `getAddress`. */
export interface AddressResult {
  port: number
  ip: string
}

/** Result of `getStatus`. */
export type StatusResult =
  | { status: 'started'; ip: string; port: number; clients: string[] }
  | { status: 'stopped'; ip: null; port: null; clients: string[] }

/** Result of `sendToAllClients`. */
export interface SendToAllResult {
  /** Clients for which the message was accepted. */
  clientsSent: number
  send: 'success'
}

/** A client is in. */
export interface ConnectedEvent {
  /** Its id: address and port, such as `/10.0.6.164:56319`. */
  client: string
  event: 'connected'
}

/** A client has gone, politely or not. */
export interface DisconnectedEvent {
  /** The reason in its Close frame; mostly ''. */
  message: string
  client: string
  event: 'disconnected'
}

/** A client has sent something. */
export interface ReceivedEvent {
  /** A text as string, binary as bytes. */
  message: string | Uint8Array
  client: string
  event: 'message'
}

/** A client has broken the protocol, or gone over a limit. */
export interface ErrorEvent {
  /** What was wrong, as a sentence. */
  message: string
  client: string
  event: 'error'
}

/** Options beside the port: those of `WebSocketServer`, but for what this API has its own way for. */
export interface SocketServerOptions
  extends Omit<
    WebSocketServerOptions,
    'port' | 'possiblePorts' | 'open' | 'message' | 'messageStream' | 'close' | 'error'
  > {}

const DEFAULT_PORT = 3001

/** Options of the engine that have another name here. */
const OWN_NAMES: Readonly<Record<string, string>> = {
  port: 'the first argument',
  possiblePorts: 'the first argument',
  open: 'onClientConnected',
  message: 'onmessage',
  messageStream: 'onmessage',
  close: 'onClientDisconnected',
  error: 'onerror',
}

/** A server that listens. */
interface Running {
  readonly server: WebSocketServer
  readonly port: number
  readonly address: string
}

/**
 * A WebSocket server as Monaca's plugin has it; made by `plugins.webSocketServer`. It can be started and stopped any
 * number of times.
 *
 * Every method takes two callbacks at its end. With at least one of them it returns nothing, and calls one of them later;
 * a failure for which there is no callback becomes a process warning. With neither it returns a promise, which rejects
 * with an `Error` whose message is the sentence that `onFailure` would be told. No method throws.
 *
 * Calls take effect in their order: while the server is starting or stopping, what is called behind that waits for it.
 */
export class SocketServer {
  /** A client is in; it can be sent to. */
  onClientConnected: OnEvent<ConnectedEvent> = null
  /** A client has gone; comes once, behind its last message. */
  onClientDisconnected: OnEvent<DisconnectedEvent> = null
  /** A client has sent a message. */
  onmessage: OnEvent<ReceivedEvent> = null
  /** A client has broken the protocol, and is being disconnected. */
  onerror: OnEvent<ErrorEvent> = null

  readonly #port: number
  readonly #options: SocketServerOptions
  #running: Running | undefined
  /** The last start or stop; settled when there is none under way. */
  #change: Promise<unknown> = Promise.resolve()
  /** By id: those of whose end nobody has been told yet. */
  readonly #clients = new Map<string, WebSocketConnection>()
  readonly #ids = new Map<WebSocketConnection, string>()

  /** @internal Use `plugins.webSocketServer`. */
  constructor(port: number, options: SocketServerOptions) {
    this.#port = port
    this.#options = { ...options }
  }

  /**
   * Starts the server. Fails when it is started already, when the port is taken or may not be used, and when an option
   * is wrong; among them a `host` that others can reach, without `token` or `authorize`.
   */
  start(): Promise<StartResult>
  start(onSuccess: OnSuccess<StartResult>, onFailure?: OnFailure): void
  start(onSuccess?: OnSuccess<StartResult>, onFailure?: OnFailure): Promise<StartResult> | undefined {
    return report(
      this.#behindChange(() => this.#start()),
      onSuccess,
      onFailure,
    )
  }

  /**
   * Disconnects all clients (1001) and stops the server; the port is free afterwards. Clients that do not answer are cut
   * after `closeTimeoutMs`. Fails when the server is not started.
   */
  stop(): Promise<undefined>
  stop(onSuccess: OnSuccess<undefined>, onFailure?: OnFailure): void
  stop(onSuccess?: OnSuccess<undefined>, onFailure?: OnFailure): Promise<undefined> | undefined {
    return report(
      this.#behindChange(() => this.#stop()),
      onSuccess,
      onFailure,
    )
  }

  /** Tells where the server is reached. Fails when it is not started. */
  getAddress(): Promise<AddressResult>
  getAddress(onSuccess: OnSuccess<AddressResult>, onFailure?: OnFailure): void
  getAddress(onSuccess?: OnSuccess<AddressResult>, onFailure?: OnFailure): Promise<AddressResult> | undefined {
    const address = this.#inOrder(() => {
      const running = this.#started()
      return { port: running.port, ip: reachableAddress(running.address) }
    })
    return report(address, onSuccess, onFailure)
  }

  /** Tells the ids of the clients, in the order in which they came. Fails when the server is not started. */
  getClients(): Promise<string[]>
  getClients(onSuccess: OnSuccess<string[]>, onFailure?: OnFailure): void
  getClients(onSuccess?: OnSuccess<string[]>, onFailure?: OnFailure): Promise<string[]> | undefined {
    const clients = this.#inOrder(() => {
      this.#started()
      return this.#listClients()
    })
    return report(clients, onSuccess, onFailure)
  }

  /** Tells whether the server is started, where it is reached, and who is there. Does not fail. */
  getStatus(): Promise<StatusResult>
  getStatus(onSuccess: OnSuccess<StatusResult>, onFailure?: OnFailure): void
  getStatus(onSuccess?: OnSuccess<StatusResult>, onFailure?: OnFailure): Promise<StatusResult> | undefined {
    return report(
      this.#inOrder(() => this.#describe()),
      onSuccess,
      onFailure,
    )
  }

  /**
   * Sends a text to one client; success means that the system has it. Fails when the server is not started, when there is
   * no such client or it is disconnecting, when it reads so slowly that its buffer is full, when it has gone before the
   * system had the text, and when an argument is no string.
   */
  send(clientId: string, message: string): Promise<undefined>
  send(clientId: string, message: string, onSuccess: OnSuccess<undefined>, onFailure?: OnFailure): void
  send(
    clientId: string,
    message: string,
    onSuccess?: OnSuccess<undefined>,
    onFailure?: OnFailure,
  ): Promise<undefined> | undefined {
    return report(
      this.#inOrder(() => this.#send(clientId, message)),
      onSuccess,
      onFailure,
    )
  }

  /**
   * Sends a text to all clients, and waits for none of them. Who cannot take it is not counted; with nobody there it is a
   * success with 0. Fails when the server is not started, and when the message is no string.
   */
  sendToAllClients(message: string): Promise<SendToAllResult>
  sendToAllClients(message: string, onSuccess: OnSuccess<SendToAllResult>, onFailure?: OnFailure): void
  sendToAllClients(
    message: string,
    onSuccess?: OnSuccess<SendToAllResult>,
    onFailure?: OnFailure,
  ): Promise<SendToAllResult> | undefined {
    const result = this.#inOrder((): SendToAllResult => {
      const { server } = this.#started()
      checkString('message', message)
      return { clientsSent: server.broadcast(message).sent, send: 'success' }
    })
    return report(result, onSuccess, onFailure)
  }

  // ── order ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Behind every start and stop that was called before. */
  #inOrder<Result>(work: () => Result | Promise<Result>): Promise<Result> {
    return this.#change.then(work)
  }

  /** The same for a start or a stop; what is called from now on waits for it. */
  #behindChange<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#inOrder(work)
    this.#change = result.then(nothing, nothing)
    // A promise of its own: that failures of `result` are handled above must not hide those that the caller ignores.
    return result.then((value) => value)
  }

  // ── work ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #start(): Promise<StartResult> {
    if (this.#running !== undefined) throw new Error('The server is started already; call stop first.')
    const server = this.#newServer()
    const { port, addresses } = await server.listen().catch((error) => {
      throw explain(error, this.#port)
    })
    const address = addresses[0]!
    this.#running = { server, port, address }
    return { port, event: 'server:started', ip: reachableAddress(address) }
  }

  #newServer(): WebSocketServer {
    const own = Object.keys(OWN_NAMES).find((name) => name in this.#options)
    if (own !== undefined) throw new Error(`Instead of the option ${own}, use ${OWN_NAMES[own]}.`)
    try {
      return new WebSocketServer({
        ...this.#options,
        port: this.#port,
        open: (client, { remotePort = 0 }) => this.#welcome(client, socketAddress(client.remoteAddress, remotePort)),
        message: (client, data) => this.#receive(client, data),
        close: (client, { reason }) => this.#dismiss(client, reason),
        error: (error, client) => this.#fail(error, client),
      })
    } catch (error) {
      throw explain(error, this.#port)
    }
  }

  async #stop(): Promise<undefined> {
    const { server } = this.#started()
    await server.close()
    this.#running = undefined
  }

  #started(): Running {
    if (this.#running === undefined) throw new Error('The server is not started; call start first.')
    return this.#running
  }

  #describe(): StatusResult {
    if (this.#running === undefined) return { status: 'stopped', ip: null, port: null, clients: [] }
    const { port, address } = this.#running
    return { status: 'started', ip: reachableAddress(address), port, clients: this.#listClients() }
  }

  #listClients(): string[] {
    return [...this.#clients].filter(([, client]) => client.state === 'open').map(([id]) => id)
  }

  async #send(clientId: string, message: string): Promise<undefined> {
    this.#started()
    checkString('clientId', clientId)
    checkString('message', message)
    const client = this.#clients.get(clientId)
    if (client === undefined) throw new Error(`There is no client ${clientId}.`)
    if (client.state !== 'open') throw new Error(`The client ${clientId} is disconnecting.`)
    if (!client.send(message)) throw new Error(`The buffer of the client ${clientId} is full: it reads too slowly.`)
    await client.flushed().catch((cause) => {
      throw new Error(`The client ${clientId} was gone before the message was sent.`, { cause })
    })
  }

  // ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #welcome(client: WebSocketConnection, id: string): Promise<void> | undefined {
    if (this.#clients.has(id)) {
      // Connected to two addresses of this machine from one port of theirs, which a router can make of two strangers:
      // what is meant for one of them must not reach the other.
      client.close(CloseCode.TRY_AGAIN_LATER, 'another client has the same address and port')
      return undefined
    }
    this.#clients.set(id, client)
    this.#ids.set(client, id)
    return tell(() => this.onClientConnected?.({ client: id, event: 'connected' }))
  }

  #receive(client: WebSocketConnection, data: Message): Promise<void> | undefined {
    const id = this.#ids.get(client)
    if (id === undefined) return undefined
    // Without the pooled memory behind a Buffer, all of which a structured clone would take along.
    const message = typeof data === 'string' ? data : new Uint8Array(data)
    return tell(() => this.onmessage?.({ message, client: id, event: 'message' }))
  }

  #dismiss(client: WebSocketConnection, message: string): void {
    const id = this.#ids.get(client)
    if (id === undefined) return
    this.#ids.delete(client)
    this.#clients.delete(id)
    void tell(() => this.onClientDisconnected?.({ message, client: id, event: 'disconnected' }))
  }

  #fail(error: Error, client: WebSocketConnection | undefined): void {
    // The others are exceptions of handlers in the options, and no fault of a client.
    if (!(error instanceof ProtocolError)) warn(error)
    const id = error instanceof ProtocolError && client !== undefined ? this.#ids.get(client) : undefined
    if (id !== undefined) void tell(() => this.onerror?.({ message: sentenceOf(error), client: id, event: 'error' }))
  }
}

/** What programs for the plugin find under the global name `plugins`. */
export interface Plugins {
  /**
   * A server that is not started yet. Wrong arguments are told by its `start`.
   *
   * @param port the port to listen on, 0 for any free one. Default 3001.
   * @param options where to listen (by default 127.0.0.1 and ::1 alone), who may come in, limits.
   */
  webSocketServer(port?: number | null, options?: SocketServerOptions): SocketServer
}

/** See `Plugins`. To run a program for the plugin unchanged: `globalThis.plugins = plugins`. */
export const plugins: Plugins = {
  webSocketServer: (port, options = {}) => new SocketServer(port ?? DEFAULT_PORT, options),
}

function checkString(name: string, value: unknown): void {
  if (typeof value !== 'string') throw new Error(`${name} must be a string.`)
}

/** An error of the engine or the system, in a sentence that says what to do where that is known. */
function explain(error: unknown, port: number): Error {
  const { code, syscall, cause } = error as NodeJS.ErrnoException
  if (code !== 'ERR_PORTS_TAKEN') {
    const where = syscall === undefined ? '' : 'The server cannot listen at that host: '
    return new Error(`${where}${sentenceOf(error)}`, { cause: error })
  }
  const isForbidden = (cause as NodeJS.ErrnoException | undefined)?.code === 'EACCES'
  const sentence = isForbidden
    ? `The system does not let this program have port ${port}; give another one.`
    : `Port ${port} is in use; stop the program that has it, or give another port.`
  return new Error(sentence, { cause: error })
}

function sentenceOf(error: unknown): string {
  const { message } = asError(error)
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}${/[.!?]$/.test(message) ? '' : '.'}`
}
