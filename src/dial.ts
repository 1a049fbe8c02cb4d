import { connect as connectTcp, isIP, type LookupFunction, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { UsageError } from './errors.ts'
import { isPromise } from './handlers.ts'
import type { Target } from './target.ts'

/** Ways to the server other than a socket of our own. At most one of them. */
export interface DialOptions {
  /**
   * An open stream to talk through, for instance a tunnel that a proxy has opened. For wss:// TLS is put on top of it.
   * It belongs to the connection from then on, and is destroyed when the opening handshake fails. Data that was read
   * from it already has to be put back first (`unshift`).
   */
  readonly socket?: Duplex | undefined
  /**
   * Opens the stream to talk through, for instance by way of a proxy; may be async. For wss:// TLS is put on top of what
   * it gives. It is called once for each request, so again for a redirect.
   */
  readonly createConnection?: ((target: ConnectionTarget) => Duplex | Promise<Duplex>) | undefined
  /** Options of node:tls for wss:// (`ca`, `servername`, ...). */
  readonly tls?: ConnectionOptions | undefined
}

/** Where `createConnection` should lead to. */
export interface ConnectionTarget {
  /** A name or an address; IPv6 without brackets. */
  readonly hostname: string
  readonly port: number
  /** wss:// */
  readonly secure: boolean
  /** Of a `ws+unix:` URL: path of the Unix socket. */
  readonly socketPath: string | undefined
  /** Aborted when the opening handshake is given up. */
  readonly signal: AbortSignal
}

/** The stream to a target; it may still be connecting, and then tells by its events how that went. */
export function dial(target: Target, options: DialOptions, signal: AbortSignal): Duplex | Promise<Duplex> {
  const { socket, createConnection, tls } = options
  if (socket !== undefined) return secured(socket, target, tls)
  if (createConnection !== undefined) return dialThrough(createConnection, target, tls, signal)
  const { protocol, hostname, port, socketPath } = target
  if (socketPath !== undefined) {
    if (protocol === 'ws:') return connectTcp({ path: socketPath })
    return connectTls({ ...tlsOptions(hostname, tls), path: socketPath })
  }
  const address = { host: hostname, port, autoSelectFamily: true, ...(hostname === 'localhost' ? { lookup } : {}) }
  return withoutDelay(
    protocol === 'ws:' ? connectTcp(address) : connectTls({ ...tlsOptions(hostname, tls), ...address }),
  )
}

/** RFC 6761 §6.3: both, as a server may listen on one of them only, and the system may know one only by that name. */
const lookup: LookupFunction = (_hostname, _options, found) => {
  found(null, [
    { address: '127.0.0.1', family: 4 },
    { address: '::1', family: 6 },
  ])
}

function dialThrough(
  createConnection: NonNullable<DialOptions['createConnection']>,
  target: Target,
  tls: ConnectionOptions | undefined,
  signal: AbortSignal,
): Duplex | Promise<Duplex> {
  const { hostname, port, protocol, socketPath } = target
  const given = createConnection({ hostname, port, secure: protocol === 'wss:', socketPath, signal })
  const secure = (stream: Duplex): Duplex => {
    checkStream(stream)
    // Nobody waits for it any more.
    if (signal.aborted) stream.on('error', () => {}).destroy()
    return stream.destroyed ? stream : secured(stream, target, tls)
  }
  return isPromise(given) ? given.then(secure) : secure(given)
}

/** Refuses what cannot be talked through. */
export function checkStream(stream: Duplex): void {
  if (typeof (stream as Partial<Duplex> | undefined)?.pipe === 'function') return
  throw new UsageError('ERR_OPTION', 'the options socket and createConnection must give a Duplex stream')
}

function secured(stream: Duplex, { protocol, hostname }: Target, tls: ConnectionOptions | undefined): Duplex {
  if (stream instanceof Socket) withoutDelay(stream)
  if (protocol === 'ws:' || stream.destroyed) return stream
  const socket = connectTls({ ...tlsOptions(hostname, tls), socket: stream })
  // Errors below come up through TLS when the stream is a socket; any other stream has to be told of its end, too.
  stream.on('error', (error) => socket.destroy(error))
  socket.on('close', () => stream.destroy())
  return socket
}

function tlsOptions(hostname: string, tls: ConnectionOptions | undefined): ConnectionOptions {
  // RFC 6066 §3: no server name for an address; the certificate is checked against it all the same.
  const servername = isIP(hostname) === 0 ? { servername: hostname } : {}
  return { ALPNProtocols: ['http/1.1'], ...servername, ...tls, host: hostname }
}

function withoutDelay<Stream extends Socket>(socket: Stream): Stream {
  socket.setNoDelay(true)
  return socket
}
