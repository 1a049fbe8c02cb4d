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
  /** Sockets beyond this are closed by the system's leave, unanswered. */
  readonly maxSockets: number
  /** A socket whose HTTP request may come now: over TLS behind its handshake, which has taken some time. */
  onSocket(socket: Socket, secure: boolean, waitedMs: number): void
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
    return combine([first, await listenOnAddress(first.port, '::1', options)])
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL') return combine([first])
    await first.close()
    throw error
  }
}

async function listenOnAddress(port: number, host: string, options: ListenOptions): Promise<Listener> {
  const listener = new Listener(options)
  await listener.listen(port, host)
  return listener
}

/** One listening socket. */
class Listener {
  readonly #server: Server
  /** Over TLS: who has been accepted, and when; the sockets that TLS gives us are others. */
  readonly #accepted = new Map<string, { socket: Socket; sinceMs: number }>()

  constructor({ tls, handshakeTimeoutMs, maxSockets, onSocket }: ListenOptions) {
    const settings = { noDelay: true }
    if (tls === undefined) {
      this.#server = createServer(settings, (socket) => onSocket(socket, false, 0))
    } else {
      const tlsSettings = { ...settings, handshakeTimeout: handshakeTimeoutMs, ...tls } as TlsOptions
      this.#server = createTlsServer(tlsSettings, (socket) => {
        const accepted = this.#accepted.get(peerOf(socket))
        onSocket(socket, true, accepted === undefined ? 0 : performance.now() - accepted.sinceMs)
      })
      this.#server.on('connection', (socket) => this.#note(socket))
      // Who fails the TLS handshake has not said anything yet; there is nobody to answer.
      this.#server.on('tlsClientError', (_error, socket: Socket) => socket.destroy())
    }
    this.#server.maxConnections = maxSockets
  }

  listen(port: number, host: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ port, host, backlog: ACCEPT_BACKLOG }, () => {
        this.#server.off('error', reject)
        // Running out of file descriptors while accepting: those who are connected go on.
        this.#server.on('error', () => {})
        resolve()
      })
    })
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  get address(): string {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.address : ''
  }

  /** Resolves when the last socket is gone; those that are still silent over TLS are cut. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve())
      for (const { socket } of this.#accepted.values()) socket.destroy()
    })
  }

  #note(socket: Socket): void {
    const peer = peerOf(socket)
    this.#accepted.set(peer, { socket, sinceMs: performance.now() })
    socket.once('close', () => this.#accepted.delete(peer))
  }
}

function peerOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`
}

function combine(listeners: readonly Listener[]): Listening {
  return {
    port: listeners[0]!.port,
    addresses: listeners.map((listener) => listener.address),
    close: async () => {
      await Promise.all(listeners.map((listener) => listener.close()))
    },
  }
}
