import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { isLoopbackAddress, normalizeAddress } from './admission.ts'
import type { RequestOrigin } from './handshake.ts'

/** Where sockets come in. */
export interface Door {
  readonly secure: boolean
  /** The loopback address that our own listener is on: whoever comes in there is on this machine. */
  readonly loopback?: string | undefined
}

/** A socket, or what is left of it. */
type Peer = Pick<Partial<Socket>, 'remoteAddress' | 'remotePort'>

/**
 * The other end of a socket. At a loopback address the system is not asked for it before somebody wants to know, and
 * mostly nobody does: to ask would be a sixth of what a connection costs.
 */
export class SocketOrigin implements RequestOrigin {
  #peer: Peer
  readonly #door: Door

  constructor(socket: Duplex & Peer, door: Door) {
    this.#peer = socket
    this.#door = door
    // Somebody's stream may answer otherwise later on, and addresses are counted.
    if (door.loopback === undefined) this.settle()
  }

  /** When it is too late to ask, the loopback address that is listened on; '' where there is none. */
  get remoteAddress(): string {
    const { remoteAddress } = this.#peer
    return remoteAddress === undefined ? (this.#door.loopback ?? '') : normalizeAddress(remoteAddress)
  }

  get remotePort(): number | undefined {
    return this.#peer.remotePort
  }

  get secure(): boolean {
    return this.#door.secure
  }

  /** Whether the other end is on this machine. */
  get isLocal(): boolean {
    return this.#door.loopback !== undefined || isLoopbackAddress(this.remoteAddress)
  }

  /** Keeps the address, if it was asked for or still can be, and lets go of the socket. */
  settle(): void {
    const { remoteAddress, remotePort } = this.#peer
    this.#peer = { remoteAddress, remotePort }
  }
}
