import type { Socket } from 'node:net'
import { isLoopbackAddress, normalizeAddress } from './admission.ts'
import type { RequestOrigin } from './handshake.ts'

/** Where sockets come in. */
export interface Door {
  readonly secure: boolean
  /** The loopback address that is listened on: nobody else can be there. */
  readonly loopback?: string | undefined
}

type Peer = Pick<Partial<Socket>, 'remoteAddress' | 'remotePort'>

const FORGOTTEN: Peer = {}

/**
 * The other end of a socket. At a loopback address the system is not asked for it before somebody wants to know, and
 * mostly nobody does: to ask would be a sixth of what a connection costs.
 */
export class SocketOrigin implements RequestOrigin {
  #peer: Peer
  readonly #door: Door

  constructor(socket: object, door: Door) {
    this.#peer = socket
    this.#door = door
    // A socket remembers what it was asked for.
    if (door.loopback === undefined) void this.remoteAddress
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

  /** The socket is gone: keeps what was asked for, and lets go of the rest. */
  release(): void {
    const { remoteAddress, remotePort } = this.#peer
    this.#peer = remoteAddress === undefined ? FORGOTTEN : { remoteAddress, remotePort }
  }
}
