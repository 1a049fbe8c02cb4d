import { EventEmitter } from 'node:events'
import type { Data, WebSocketConnection } from './connection.ts'
import { asError, isPromise, warn } from './handlers.ts'
import { CONNECTION_DEFAULTS } from './options.ts'
import type { Refusal } from './reception.ts'
import { WebSocketServer, type WebSocketServerOptions } from './server.ts'

/*
 * The facade: a server for an app that opens a port so that a page in a browser can talk to it. Nothing here throws or
 * rejects; results and events are plain objects that survive a structured clone.
 */

/** Arguments of `startServer`: the two that are required, and any option of `WebSocketServer` but its message handlers. */
export interface StartServerArguments
  extends Omit<
    WebSocketServerOptions,
    'port' | 'possiblePorts' | 'token' | 'open' | 'message' | 'messageStream' | 'close'
  > {
  /** The server starts on the first of these that is available. */
  readonly possiblePorts: readonly number[]
  /** The secret that a client must present, for instance as `?token=`. */
  readonly token: string
}

/** Result of `startServer`. */
export type StartServerResult = { success: true; port: number } | { success: false; port: null; message: string }

/** Result of most calls: whether it worked, and a sentence for people. */
export interface ActionResult {
  success: boolean
  message: string
}

/** Result of `broadcast`. */
export interface BroadcastActionResult extends ActionResult {
  /** Clients for which the message was accepted. */
  sent: number
  /** Clients whose buffer was full. */
  dropped: number
}

/** Result of `getServer`. */
export interface ServerDetails {
  isRunning: boolean
  clientIds: string[]
  /** Null when not running. */
  port: number | null
}

/** Arguments of `broadcast`. */
export interface BroadcastArguments {
  readonly message: Data
  /** Only the clients in this room. Default: all clients. */
  readonly room?: string | undefined
}

/** Arguments of `joinRoom` and `leaveRoom`. */
export interface RoomArguments {
  readonly clientId: string
  /** Name of the room: a string that is not empty, of at most 256 bytes. */
  readonly room: string
}

/** Result of `getRooms`. */
export interface RoomsResult extends ActionResult {
  /** The rooms in which somebody is. */
  rooms: { room: string; clientIds: string[] }[]
}

/** Arguments of `send`. */
export interface SendArguments {
  readonly clientId: string
  readonly message: Data
  /** Wait until the client's WebSocket stack has answered behind the message. Default false: until the system has it. */
  readonly confirm?: boolean | undefined
  /** How long to wait, in milliseconds. Default 20,000. */
  readonly timeoutMs?: number | undefined
}

/** A client, by its id. */
export interface ClientEvent {
  id: string
}

/** A message of a client: a text as string, binary as bytes. */
export interface MessageEvent {
  id: string
  content: string | Uint8Array
}

/** What `api.events` emits. */
export interface ApiEvents {
  clientConnected: [ClientEvent]
  clientDisconnected: [ClientEvent]
  message: [MessageEvent]
  refused: [Refusal]
  error: [Error]
}

/** Takes an event; a promise that it returns holds back the next message of that client. */
export type Listener<Event> = (event: Event) => unknown

/** Ends a subscription. */
export type Unsubscribe = () => void

/** One server with its listeners. */
export interface Api {
  /** Starts the server on the first available port. */
  startServer(options: StartServerArguments): Promise<StartServerResult>
  /** Closes all clients (1001) and stops the server; the port is free afterwards. */
  stopServer(): Promise<ActionResult>
  /** Sends a message to all clients, or to those in a room; who cannot take it is counted, not waited for. */
  broadcast(options: BroadcastArguments): Promise<BroadcastActionResult>
  /** Sends a message to one client; success means that the system has it, or, with `confirm`, that the client has. */
  send(options: SendArguments): Promise<ActionResult>
  /** Tells whether the server runs, where, and for whom. */
  getServer(): Promise<ServerDetails>
  /** Puts a client into a room; it leaves it by `leaveRoom`, or when it disconnects. */
  joinRoom(options: RoomArguments): Promise<ActionResult>
  /** Takes a client out of a room. A room that nobody is in is gone. */
  leaveRoom(options: RoomArguments): Promise<ActionResult>
  /** Tells which rooms there are, and who is in them. */
  getRooms(): Promise<RoomsResult>
  /** Takes a renewed certificate without a restart; see `WebSocketServer.updateTls`. */
  updateTls(tls?: Parameters<WebSocketServer['updateTls']>[0]): Promise<ActionResult>
  /** A client is in. Returns the function that ends the subscription, as the others do. */
  onClientConnected(listener: Listener<ClientEvent>): Unsubscribe
  /** A client is gone, politely or not; comes behind its last message. */
  onClientDisconnected(listener: Listener<ClientEvent>): Unsubscribe
  /** A client has sent a message. */
  onMessage(listener: Listener<MessageEvent>): Unsubscribe
  /** The same events, and `refused` and `error`, for those who prefer an emitter. An `error` without listener is no exception. */
  readonly events: EventEmitter<ApiEvents>
}

const NOT_RUNNING = 'The server is not running; call startServer first.'
/** Handlers of the engine that the facade has its own way for. */
const OWN_HANDLERS = {
  open: 'onClientConnected',
  message: 'onMessage',
  close: 'onClientDisconnected',
  port: 'possiblePorts',
}

/** A second, independent instance; the functions of the module belong to the first. */
export function createApi(): Api {
  const events = new EventEmitter<ApiEvents>()
  events.setMaxListeners(0)
  let server: WebSocketServer | undefined
  let state: 'stopped' | 'starting' | 'running' | 'stopping' = 'stopped'
  let settled: Promise<unknown> = Promise.resolve()
  let maxBufferedBytes = 0

  /** Tells all listeners; one that throws is a process warning and harms nobody. */
  function tell<Name extends keyof ApiEvents>(name: Name, ...event: ApiEvents[Name]): Promise<void> | undefined {
    let pending: PromiseLike<unknown>[] | undefined
    for (const listener of events.rawListeners(name)) {
      try {
        const result: unknown = Reflect.apply(listener, events, event)
        if (isPromise(result)) {
          pending ??= []
          pending.push(result.then(undefined, warn))
        }
      } catch (error) {
        warn(error)
      }
    }
    return pending === undefined ? undefined : Promise.all(pending).then(() => {})
  }

  function subscribe<Name extends keyof ApiEvents>(name: Name, listener: Listener<ApiEvents[Name][0]>): Unsubscribe {
    // A function of its own per subscription: the same listener may be there twice, and leaves once for each.
    const own = (event: ApiEvents[Name][0]): unknown => listener(event)
    events.on(name, own as never)
    return () => void events.off(name, own as never)
  }

  async function startServer(given: StartServerArguments): Promise<StartServerResult> {
    if (state !== 'stopped') return notStarted(`The server is ${state} already; call stopServer first.`)
    try {
      const wrong = wrongArguments(given)
      if (wrong !== undefined) return notStarted(wrong)
      state = 'starting'
      server = new WebSocketServer({
        ...given,
        open: (client) => tell('clientConnected', { id: client.id }),
        message: (client, data) => tell('message', { id: client.id, content: cloneable(data) }),
        close: (client) => void tell('clientDisconnected', { id: client.id }),
        refused: (refusal) => {
          void tell('refused', refusal)
          return given.refused?.(refusal)
        },
        error: (error, client) => {
          void tell('error', error)
          if (given.error !== undefined) return given.error(error, client)
          if (events.listenerCount('error') === 0 && !('closeCode' in error)) warn(error)
        },
      })
      maxBufferedBytes = given.maxBufferedBytes ?? CONNECTION_DEFAULTS.maxBufferedBytes
      const listening = server.listen()
      settled = listening
      const { port } = await listening
      state = 'running'
      return { success: true, port }
    } catch (error) {
      state = 'stopped'
      server = undefined
      return notStarted(messageOf(error))
    }
  }

  async function stopServer(): Promise<ActionResult> {
    if (state === 'starting') await settled.catch(() => {})
    const stopping = server
    if (stopping === undefined) return { success: false, message: 'The server is not running.' }
    state = 'stopping'
    await stopping.close()
    if (server === stopping) {
      server = undefined
      state = 'stopped'
    }
    return { success: true, message: 'The server has stopped.' }
  }

  async function broadcast(given: BroadcastArguments): Promise<BroadcastActionResult> {
    try {
      if (!isObject(given)) return { ...failure('Call broadcast({ message }).'), sent: 0, dropped: 0 }
      if (server === undefined || state !== 'running') return { ...failure(NOT_RUNNING), sent: 0, dropped: 0 }
      const { message, room } = given
      const { sent, dropped, reach, stored } =
        room === undefined ? server.broadcast(message) : server.publish(room, message)
      await stored
      const behind = dropped === 0 ? '' : ` ${count(dropped)} could not take it: the buffer is full.`
      const alone = reach === 'process' ? ' The other processes could not be reached.' : ''
      return { success: true, message: `Sent to ${count(sent)}.${behind}${alone}`, sent, dropped }
    } catch (error) {
      return { success: false, message: messageOf(error), sent: 0, dropped: 0 }
    }
  }

  /** The client of this id, if it is there and stays; else a sentence. */
  function findClient(clientId: string): WebSocketConnection | string {
    const client = state === 'running' ? server?.clients.get(clientId) : undefined
    if (client === undefined) return state === 'running' ? `There is no client ${clientId}.` : NOT_RUNNING
    return client.state === 'open' ? client : `The client ${clientId} is disconnecting.`
  }

  async function joinRoom(given: RoomArguments): Promise<ActionResult> {
    try {
      if (!isObject(given)) return failure('Call joinRoom({ clientId, room }).')
      const { clientId, room } = given
      const client = findClient(clientId)
      if (typeof client === 'string') return failure(client)
      const message = client.subscribe(room) ? 'The client has joined the room.' : 'The client is in the room already.'
      return { success: true, message }
    } catch (error) {
      return failure(messageOf(error))
    }
  }

  async function leaveRoom(given: RoomArguments): Promise<ActionResult> {
    if (!isObject(given)) return failure('Call leaveRoom({ clientId, room }).')
    const { clientId, room } = given
    const client = findClient(clientId)
    if (typeof client === 'string') return failure(client)
    if (client.unsubscribe(room)) return { success: true, message: 'The client has left the room.' }
    return failure(`The client ${clientId} is not in this room.`)
  }

  async function getRooms(): Promise<RoomsResult> {
    const running = state === 'running' ? server : undefined
    if (running === undefined) return { ...failure(NOT_RUNNING), rooms: [] }
    const rooms = Array.from(running.topics, (room) => ({
      room,
      clientIds: Array.from(running.subscribers(room), ({ id }) => id),
    }))
    return {
      success: true,
      message: rooms.length === 1 ? 'There is 1 room.' : `There are ${rooms.length} rooms.`,
      rooms,
    }
  }

  async function send(given: SendArguments): Promise<ActionResult> {
    try {
      if (!isObject(given)) return failure('Call send({ clientId, message }).')
      const { clientId, message, confirm = false, timeoutMs = CONNECTION_DEFAULTS.pongTimeoutMs } = given
      if (!isTime(timeoutMs)) return failure(`timeoutMs must be a number of milliseconds, 1 to ${MAX_TIMEOUT_MS}.`)
      const client = findClient(clientId)
      if (typeof client === 'string') return failure(client)
      const size = typeof message === 'string' ? Buffer.byteLength(message) : (message?.byteLength ?? 0)
      if (size > maxBufferedBytes) {
        return failure(`The message has ${size} bytes; the limit (maxBufferedBytes) is ${maxBufferedBytes}.`)
      }
      if (!client.send(message)) return failure(`The buffer of the client ${clientId} is full: it reads too slowly.`)
      await (confirm ? client.delivered({ timeoutMs }) : within(timeoutMs, client.flushed()))
      return { success: true, message: confirm ? 'The client has received the message.' : 'The message was sent.' }
    } catch (error) {
      return failure(messageOf(error))
    }
  }

  async function getServer(): Promise<ServerDetails> {
    if (server === undefined || state !== 'running') return { isRunning: false, clientIds: [], port: null }
    const open = [...server.clients.values()].filter((client) => client.state === 'open')
    return { isRunning: true, clientIds: open.map((client) => client.id), port: server.port }
  }

  async function updateTls(tls?: Parameters<WebSocketServer['updateTls']>[0]): Promise<ActionResult> {
    if (server === undefined || state !== 'running') return failure(NOT_RUNNING)
    try {
      await server.updateTls(tls)
      return { success: true, message: 'New connections get the new certificate.' }
    } catch (error) {
      return failure(messageOf(error))
    }
  }

  return {
    startServer,
    stopServer,
    broadcast,
    send,
    getServer,
    joinRoom,
    leaveRoom,
    getRooms,
    updateTls,
    onClientConnected: (listener) => subscribe('clientConnected', listener),
    onClientDisconnected: (listener) => subscribe('clientDisconnected', listener),
    onMessage: (listener) => subscribe('message', listener),
    events,
  }
}

/** What the events of the module's functions come from. */
const api: Api = createApi()

/** See `Api.startServer`. */
export const startServer: Api['startServer'] = api.startServer
/** See `Api.stopServer`. */
export const stopServer: Api['stopServer'] = api.stopServer
/** See `Api.broadcast`. */
export const broadcast: Api['broadcast'] = api.broadcast
/** See `Api.send`. */
export const send: Api['send'] = api.send
/** See `Api.getServer`. */
export const getServer: Api['getServer'] = api.getServer
/** See `Api.joinRoom`. */
export const joinRoom: Api['joinRoom'] = api.joinRoom
/** See `Api.leaveRoom`. */
export const leaveRoom: Api['leaveRoom'] = api.leaveRoom
/** See `Api.getRooms`. */
export const getRooms: Api['getRooms'] = api.getRooms
/** See `Api.updateTls`. */
export const updateTls: Api['updateTls'] = api.updateTls
/** See `Api.onClientConnected`. */
export const onClientConnected: Api['onClientConnected'] = api.onClientConnected
/** See `Api.onClientDisconnected`. */
export const onClientDisconnected: Api['onClientDisconnected'] = api.onClientDisconnected
/** See `Api.events`. */
export const events: Api['events'] = api.events
/** See `Api.onMessage`. */
export const onMessage: Api['onMessage'] = api.onMessage

/** Longest time that a timer can wait. */
const MAX_TIMEOUT_MS = 0x7fffffff

function isTime(value: unknown): boolean {
  return typeof value === 'number' && value > 0 && value <= MAX_TIMEOUT_MS
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

/** What is wrong with the arguments of `startServer`, in a sentence. */
function wrongArguments(given: StartServerArguments | undefined): string | undefined {
  if (given === undefined || !isObject(given)) return 'Call startServer({ possiblePorts, token }).'
  const { possiblePorts, token } = given
  // A copy has no holes, which `every` would pass over.
  if (!Array.isArray(possiblePorts) || possiblePorts.length === 0 || ![...possiblePorts].every(Number.isInteger)) {
    return 'possiblePorts must be a list of port numbers, for instance [50050, 50060].'
  }
  if (typeof token !== 'string' || token === '') return 'token must be a string that is not empty.'
  const own = Object.entries(OWN_HANDLERS).find(([name]) => name in given)
  return own === undefined ? undefined : `startServer takes no ${own[0]}; use ${own[1]}.`
}

function notStarted(message: string): StartServerResult {
  return { success: false, port: null, message }
}

function failure(message: string): ActionResult {
  return { success: false, message }
}

function count(clients: number): string {
  return clients === 1 ? '1 client' : `${clients} clients`
}

/** Bytes without the pooled memory behind a `Buffer`, all of which a structured clone would take along. */
function cloneable(data: string | Buffer): string | Uint8Array {
  return typeof data === 'string' ? data : new Uint8Array(data)
}

function messageOf(error: unknown): string {
  const { message } = asError(error)
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}${/[.!?]$/.test(message) ? '' : '.'}`
}

async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`The message did not leave within ${timeoutMs} ms; it may still do so.`)),
      timeoutMs,
    )
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
