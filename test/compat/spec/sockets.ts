import { once } from 'node:events'
import type { Server as HttpServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { onTestFinished } from 'vitest'
import { defer } from '../../support/queue.ts'
import { RawClient, type RawHead, type RequestOptions, upgradeRequest } from '../../support/raw-client.ts'
import { acceptance, startRawServer } from '../../support/servers.ts'
import type { Implementation, Ws, Wss } from './implementation.ts'

/*
 * Servers, clients and pairs of either implementation; all of them end with their test.
 */

/** Options as programs in JavaScript give them: the published types do not know all. */
export type Loose = Readonly<Record<string, unknown>>

/** What programs reach for though it has an underscore. */
export interface Internals {
  readonly _socket: Socket
  readonly _sender: {
    _bufferedBytes: number
    sendFrame(list: (Buffer | string)[], callback?: (error?: Error) => void): void
  }
  _isServer: boolean
  setSocket(socket: Duplex, head: Buffer, options: Loose): void
}

export function inside(ws: Ws): Internals {
  return ws as unknown as Internals
}

/** The http server that a server made, or was given. */
export function httpServerOf(wss: Wss): HttpServer {
  return (wss as unknown as { _server: HttpServer })._server
}

/** Also ends the sockets that were upgraded and that nobody tracks. */
function endBehindTest(wss: Wss): void {
  const server = (wss as unknown as { _server?: HttpServer | null })._server
  const sockets = new Set<Socket>()
  server?.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    wss.close()
  })
}

export interface StartedServer {
  readonly wss: Wss
  readonly port: number
  readonly url: string
}

/** A server of this class, whose options are given as they are. */
export function makeServer({ WebSocketServer }: Pick<Implementation, 'WebSocketServer'>, options: Loose): Wss {
  const wss = new WebSocketServer(options as object)
  endBehindTest(wss)
  return wss
}

/** A server that listens on 127.0.0.1. */
export async function startServer(
  implementation: Pick<Implementation, 'WebSocketServer'>,
  options: Loose = {},
): Promise<StartedServer> {
  const wss = makeServer(implementation, { port: 0, host: '127.0.0.1', ...options })
  await once(wss, 'listening')
  const { port } = wss.address() as AddressInfo
  return { wss, port, url: `ws://127.0.0.1:${port}` }
}

/** A client; nothing is awaited. */
export function makeClient(
  { WebSocket }: Pick<Implementation, 'WebSocket'>,
  address: string | URL,
  ...rest: [protocols?: string | readonly string[] | Loose | undefined, options?: Loose]
): Ws {
  const ws = new (WebSocket as unknown as new (...args: unknown[]) => Ws)(address, ...rest)
  onTestFinished(() => {
    // Still connecting, it would report that it was closed.
    if (ws.readyState === ws.CONNECTING) ws.on('error', () => {})
    ws.terminate()
  })
  return ws
}

/** The constructor as JavaScript sees it. */
export function construct({ WebSocket }: Pick<Implementation, 'WebSocket'>, ...args: unknown[]): Ws {
  return new (WebSocket as unknown as new (...args: unknown[]) => Ws)(...args)
}

/** Waits for an open client. */
export async function openClient(
  implementation: Pick<Implementation, 'WebSocket'>,
  address: string | URL,
  ...rest: [protocols?: string | readonly string[] | Loose | undefined, options?: Loose]
): Promise<Ws> {
  const ws = makeClient(implementation, address, ...rest)
  await once(ws, 'open')
  return ws
}

/** Two ends of one connection, both of this implementation. */
export interface Pair extends StartedServer {
  readonly server: Ws
  readonly client: Ws
}

export async function openPair(
  implementation: Implementation,
  { server = {}, client = {} }: { server?: Loose; client?: Loose } = {},
): Promise<Pair> {
  const started = await startServer(implementation, server)
  const connected = once(started.wss, 'connection')
  const ws = await openClient(implementation, started.url, client)
  const [end] = (await connected) as [Ws]
  return { ...started, server: end, client: ws }
}

/** A server's end, and a raw peer that is its client. */
export interface ServedPeer extends StartedServer {
  readonly ws: Ws
  readonly peer: RawClient
  readonly head: RawHead
}

export async function openToServer(
  implementation: Implementation,
  options: Loose = {},
  request: RequestOptions = {},
): Promise<ServedPeer> {
  const started = await startServer(implementation, options)
  const connected = once(started.wss, 'connection')
  const peer = await RawClient.connect({ port: started.port })
  peer.send(upgradeRequest(request))
  const head = await peer.readHead()
  const [ws] = (await connected) as [Ws]
  return { ...started, ws, peer, head }
}

/** A client's end, and a raw peer that is its server. */
export interface ClientAndPeer {
  readonly ws: Ws
  readonly peer: RawClient
  readonly request: RawHead
  readonly url: string
}

/** @param lines header lines of the answer, for instance an extension. */
export async function openToClient(
  implementation: Implementation,
  options: Loose = {},
  lines: readonly string[] = [],
): Promise<ClientAndPeer> {
  const arrived = defer<{ peer: RawClient; request: RawHead }>()
  const { url } = await startRawServer((peer, request) => {
    peer.send(acceptance(request, ...lines))
    arrived.resolve({ peer, request })
  })
  const ws = await openClient(implementation, url, options)
  return { ws, url, ...(await arrived.promise) }
}
