import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import { isLoopbackAddress, normalizeAddress } from './admission.ts'
import { WebSocketError } from './errors.ts'

/** Connections that the kernel keeps for us while the event loop is busy; it may allow fewer. */
const ACCEPT_BACKLOG = 4_096
/** Tries to find a free port that both loopback addresses have, when any will do. */
const FREE_PORT_TRIES = 20

/** Where to listen. */
export interface ListenOptions {
  /** Tried in order. 0 stands for any free port. */
  readonly ports: readonly number[]
  /** Undefined for both loopback addresses. */
  readonly host: string | undefined
  readonly tls: TlsOptions | undefined
  readonly handshakeTimeoutMs: number
  /** A socket whose HTTP request may come now; over TLS behind its handshake. */
  onSocket(socket: Socket, secure: boolean): void
}

/** The listening sockets of one server: one, or one per loopback address. */
export interface Listening {
  readonly port: number
  readonly addresses: readonly string[]
  /** Stops accepting; resolves when the port is free and the last socket gone. */
  close(): Promise<void>
}

/** Whether this host is reached from this machine only. */
export function isLoopbackHost(host: string | undefined): boolean {
  return host === undefined || host === 'localhost' || isLoopbackAddress(normalizeAddress(host))
}

/**
 * Listens on the first of the ports that is free and allowed. Throws `ERR_PORTS_TAKEN`, with the last system error as
 * its cause, when none is.
 */
export async function listen(options: ListenOptions): Promise<Listening> {
  let cause: unknown
  for (const port of options.ports) {
    for (let tries = port === 0 ? FREE_PORT_TRIES : 1; tries > 0; tries--) {
      try {
        return await listenOnPort(port, options)
      } catch (error) {
        if (!isUnavailable(error)) throw error
        cause = error
      }
    }
  }
  const ports = options.ports.join(', ')
  throw new WebSocketError('ERR_PORTS_TAKEN', `no port is free: tried ${ports}`, { cause })
}

/** Taken by somebody else, or not allowed (privileged; reserved by Windows). */
function isUnavailable(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'EADDRINUSE' || code === 'EACCES'
}

async function listenOnPort(port: number, options: ListenOptions): Promise<Listening> {
  if (options.host !== undefined) return combine([await listenOnAddress(port, options.host, options)])
  const first = await listenOnAddress(port, '127.0.0.1', options)
  try {
    // The same port on both: or another program could sit on ::1 and be taken for us by who resolves localhost so.
    return combine([first, await listenOnAddress(portOf(first), '::1', options)])
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL') return combine([first])
    await closeServer(first)
    throw error
  }
}

function listenOnAddress(port: number, host: string, options: ListenOptions): Promise<Server> {
  const { tls, handshakeTimeoutMs, onSocket } = options
  const server =
    tls === undefined
      ? createServer({ noDelay: true, allowHalfOpen: true }, (socket) => onSocket(socket, false))
      : createTlsServer(
          { noDelay: true, allowHalfOpen: true, handshakeTimeout: handshakeTimeoutMs, ...tls } as TlsOptions,
          (socket) => onSocket(socket, true),
        )
  // Who fails the TLS handshake has not said anything yet; there is nobody to answer.
  server.on('tlsClientError', (_error, socket: Socket) => socket.destroy())
  if (tls !== undefined) trackSockets(server)
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, backlog: ACCEPT_BACKLOG }, () => {
      server.off('error', reject)
      // Running out of file descriptors while accepting: those who are connected go on.
      server.on('error', () => {})
      resolve(server)
    })
  })
}

const tlsSockets = new WeakMap<Server, Set<Socket>>()

function trackSockets(server: Server): void {
  const sockets = new Set<Socket>()
  tlsSockets.set(server, sockets)
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
}

function portOf(server: Server): number {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

function combine(servers: readonly Server[]): Listening {
  return {
    port: portOf(servers[0]!),
    addresses: servers.map((server) => {
      const address = server.address()
      return typeof address === 'object' && address !== null ? address.address : String(address)
    }),
    close: async () => {
      await Promise.all(servers.map(closeServer))
    },
  }
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    for (const socket of tlsSockets.get(server) ?? []) socket.destroy()
  })
}
