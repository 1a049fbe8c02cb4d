import { createServer, type Server, type Socket } from 'node:net'
import {
  createSecureContext,
  createServer as createTlsServer,
  type TlsOptions,
  type Server as TlsServer,
} from 'node:tls'
import { isLoopbackAddress, normalizeAddress } from './admission.ts'
import { UsageError, WebSocketError } from './errors.ts'
import type { Door } from './socket-origin.ts'

/** Connections that the kernel keeps for us while the event loop is busy; it may allow fewer. */
const ACCEPT_BACKLOG = 4_096
/** Tries to find a free port that both loopback addresses have, when any will do. */
const FREE_PORT_TRIES = 20

/** Options of node:tls, or a function that gets them: it is called by `listen`, and again by `updateTls` without argument. */
export type TlsSource = TlsOptions | (() => TlsOptions | Promise<TlsOptions>)

/** Where to listen. */
export interface ListenOptions {
  /** Tried in order. 0 stands for any free port. */
  readonly ports: readonly number[]
  /** Undefined for both loopback addresses. */
  readonly host: string | undefined
  readonly tls: TlsSource | undefined
  readonly handshakeTimeoutMs: number
  /** Sockets beyond this are closed by the system's leave, unanswered. */
  readonly maxSockets: number
  /** A socket whose HTTP request may come now: over TLS behind its handshake, which has taken some time. */
  onSocket(socket: Socket, door: Door, waitedMs: number): void
}

/** The listening sockets of one server: one, or one per loopback address. */
export interface Listening {
  readonly port: number
  readonly addresses: readonly string[]
  /** Certificate and key for the handshakes to come; see `WebSocketServer.updateTls`. */
  updateTls(given?: TlsOptions): Promise<void>
  /** Stops accepting; those who are connected stay. */
  stop(): void
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
  const { tls: source } = options
  const tls = typeof source === 'function' ? await loadTls(source) : source
  const listeners = await listenOnPorts({ ...options, tls })
  return {
    port: listeners[0]!.port,
    addresses: listeners.map((listener) => listener.address),
    updateTls: tlsUpdates(source, tls, listeners),
    stop: () => {
      for (const listener of listeners) void listener.stop()
    },
    close: async () => {
      await Promise.all(listeners.map((listener) => listener.close()))
    },
  }
}

/** With what `tls` has given, if it was a function. */
interface ListenerOptions extends ListenOptions {
  readonly tls: TlsOptions | undefined
}

async function listenOnPorts(options: ListenerOptions): Promise<Listener[]> {
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

async function listenOnPort(port: number, options: ListenerOptions): Promise<Listener[]> {
  if (options.host !== undefined) return [await listenOnAddress(port, options.host, options)]
  const first = await listenOnAddress(port, '127.0.0.1', options)
  try {
    // The same port on both: or another program could sit on ::1 and be taken for us by who resolves localhost so.
    return [first, await listenOnAddress(first.port, '::1', options)]
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL') return [first]
    await first.close()
    throw error
  }
}

async function listenOnAddress(port: number, host: string, options: ListenerOptions): Promise<Listener> {
  const listener = new Listener(options)
  await listener.listen(port, host)
  return listener
}

/** One listening socket. */
class Listener {
  readonly #server: Server | TlsServer
  #door: Door
  /** Over TLS: who has been accepted, and when; the sockets that TLS gives us are others. */
  readonly #accepted = new Map<string, { socket: Socket; sinceMs: number }>()
  #closed: Promise<void> | undefined

  constructor({ tls, handshakeTimeoutMs, maxSockets, onSocket }: ListenerOptions) {
    const settings = { noDelay: true }
    this.#door = { secure: tls !== undefined }
    if (tls === undefined) {
      this.#server = createServer(settings, (socket) => onSocket(socket, this.#door, 0))
    } else {
      const tlsSettings = { ...settings, handshakeTimeout: handshakeTimeoutMs, ...tls } as TlsOptions
      this.#server = createTlsServer(tlsSettings, (socket) => {
        const accepted = this.#accepted.get(peerOf(socket))
        onSocket(socket, this.#door, accepted === undefined ? 0 : performance.now() - accepted.sinceMs)
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
        if (isLoopbackAddress(this.address)) this.#door = { ...this.#door, loopback: this.address }
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

  /** For handshakes from now on. The options have been tried. */
  setTls(options: TlsOptions): void {
    if ('setSecureContext' in this.#server) this.#server.setSecureContext(options)
  }

  /** Resolves when the last socket is gone; those that are still silent over TLS are cut. */
  close(): Promise<void> {
    const closed = this.stop()
    for (const { socket } of this.#accepted.values()) socket.destroy()
    return closed
  }

  /** Accepts nobody more. Resolves when the last socket is gone. */
  stop(): Promise<void> {
    this.#closed ??= new Promise((resolve) => this.#server.close(() => resolve()))
    return this.#closed
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

/** Which options say who the server is: a certificate comes as a whole, in one form or the other. */
const IDENTITY = ['pfx', 'key', 'cert', 'passphrase'] as const
/** Options that a listening server cannot change, and nobody should believe that it has. */
const FIXED = ['requestCert', 'rejectUnauthorized', 'handshakeTimeout', 'enableTrace', 'pskIdentityHint'] as const

async function loadTls(source: () => TlsOptions | Promise<TlsOptions>): Promise<TlsOptions> {
  const loaded: unknown = await source()
  if (typeof loaded === 'object' && loaded !== null) return loaded
  throw new UsageError('ERR_OPTION', 'the function tls must give an object with key and cert, or a promise of one')
}

/** One update after the other, so that of several calls the last one counts, however long each takes to load. */
function tlsUpdates(
  source: TlsSource | undefined,
  listened: TlsOptions | undefined,
  listeners: readonly Listener[],
): Listening['updateTls'] {
  let current = listened
  let last: Promise<void> = Promise.resolve()

  async function update(given: TlsOptions | undefined): Promise<void> {
    if (current === undefined) {
      throw new UsageError('ERR_SERVER_STATE', 'the server does not speak TLS: it was made without the option tls')
    }
    if (given === undefined && typeof source !== 'function') {
      throw new UsageError('ERR_OPTION', 'give updateTls the new options, or make the server with a function as tls')
    }
    const next = given === undefined ? await loadTls(source as () => TlsOptions) : replaceIdentity(current, given)
    checkTls(next, current)
    for (const listener of listeners) listener.setTls(next)
    current = next
  }

  return (given) => {
    const updated = last.then(() => update(given))
    last = updated.catch(() => {})
    return updated
  }
}

/** What is not given stays as it is; a certificate takes the place of one in the other form. */
function replaceIdentity(current: TlsOptions, given: TlsOptions): TlsOptions {
  if (typeof given !== 'object' || given === null) {
    throw new UsageError('ERR_OPTION', 'updateTls takes an object with key and cert, as the option tls does')
  }
  const kept: TlsOptions = { ...current }
  if (IDENTITY.some((name) => given[name] !== undefined)) for (const name of IDENTITY) delete kept[name]
  return { ...kept, ...given }
}

/** Tries the options where nothing is lost yet. */
function checkTls(next: TlsOptions, current: TlsOptions): void {
  const changed = FIXED.find((name) => next[name] !== current[name])
  if (changed !== undefined) {
    throw new UsageError('ERR_OPTION', `the option ${changed} of tls cannot be changed while the server listens`)
  }
  if (next.pfx === undefined && (next.cert === undefined || (next.key ?? next.privateKeyIdentifier) === undefined)) {
    throw new UsageError('ERR_OPTION', 'tls has no certificate: give key and cert, or pfx')
  }
  try {
    createSecureContext(next)
  } catch (cause) {
    const { message } = cause as Error
    throw new UsageError('ERR_OPTION', `the certificate or its key cannot be used: ${message}`, { cause })
  }
}
