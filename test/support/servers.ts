import { once } from 'node:events'
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https'
import { createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import {
  type ConnectOptions,
  connect,
  type WebSocketConnection,
  WebSocketServer,
  type WebSocketServerOptions,
} from '../../src/index.ts'
import { type Certificate, makeCertificate } from './certificate.ts'
import { acceptOf, RawClient, type RawHead } from './raw-client.ts'

/*
 * Servers and clients that end with their test. All listen on a free port of the loopback addresses.
 */

/** One certificate for all tests of a file. */
export const certificate: Certificate = makeCertificate()

export interface Started<Data> {
  readonly server: WebSocketServer<Data>
  readonly port: number
  /** `ws://127.0.0.1:port`, or wss. */
  readonly url: string
}

/** A server of ours that listens. */
export async function startServer<Data = unknown>(options: WebSocketServerOptions<Data> = {}): Promise<Started<Data>> {
  const server = new WebSocketServer<Data>(options)
  closeBehindTest(server)
  const { port } = await server.listen()
  return { server, port, url: `${options.tls === undefined ? 'ws' : 'wss'}://127.0.0.1:${port}` }
}

/** For servers that the test makes itself. */
export function closeBehindTest<Data>(server: WebSocketServer<Data>): void {
  onTestFinished(async () => {
    for (const client of server.clients.values()) client.terminate()
    await server.close({ timeoutMs: 0 }).catch(() => {})
  })
}

/** A client of ours; cut behind the test. Errors are not warned of unless the test wants to see them. */
export async function openClient(
  url: string | URL,
  options: ConnectOptions = {},
): Promise<WebSocketConnection<undefined>> {
  const connection = await connect(url, { tls: { ca: certificate.cert }, ...options })
  onTestFinished(() => connection.terminate())
  return connection
}

/** The one client of a server; waits for it. */
export async function firstClient<Data>(server: WebSocketServer<Data>): Promise<WebSocketConnection<Data>> {
  for (;;) {
    for (const client of server.clients.values()) return client
    await nextTurn()
  }
}

/** Resolves in the next turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Waits until this is true, turn by turn; the time limit is that of the test. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

/** A node:http server, or a node:https one, that listens. */
export async function startHttpServer(
  kind: 'http' | 'https' = 'http',
): Promise<{ httpServer: HttpServer | HttpsServer; port: number }> {
  const httpServer = kind === 'http' ? createHttpServer() : createHttpsServer(certificate)
  httpServer.listen(0, '127.0.0.1')
  await once(httpServer, 'listening')
  onTestFinished(() => {
    httpServer.closeAllConnections()
    httpServer.close()
  })
  return { httpServer, port: portOf(httpServer) }
}

/** A TCP server that does with each socket what the test says; its sockets are cut behind the test. */
async function startTcpServer(
  onSocket: (socket: Socket) => void,
  host = '127.0.0.1',
): Promise<{ tcpServer: Server; port: number }> {
  const sockets = new Set<Socket>()
  const tcpServer = createTcpServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    onSocket(socket)
  })
  tcpServer.listen(0, host)
  await once(tcpServer, 'listening')
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    tcpServer.close()
  })
  return { tcpServer, port: portOf(tcpServer) }
}

/** The 101 answer that belongs to a request; further lines as given. */
export function acceptance({ headers }: RawHead, ...lines: string[]): string {
  const accept = acceptOf(headers.get('sec-websocket-key') ?? '')
  const head = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
  return [...head, `Sec-WebSocket-Accept: ${accept}`, ...lines, '\r\n'].join('\r\n')
}

/** A server of raw peers, for clients of ours: it reads each request and does with it what the test says. */
export async function startRawServer(
  onRequest: (peer: RawClient, request: RawHead) => unknown,
): Promise<{ url: string; port: number }> {
  const { port } = await startTcpServer((socket) => {
    const peer = new RawClient(socket)
    peer.readHead().then(
      (request) => onRequest(peer, request),
      () => {},
    )
  })
  return { url: `ws://127.0.0.1:${port}`, port }
}

export function portOf(server: Server): number {
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the server does not listen')
  return address.port
}
