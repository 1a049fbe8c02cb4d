import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { DISPOSED_FROM } from './disposal.ts'

/** Whoever takes what a socket has to say: first the handshake, then the connection. */
export interface SocketPeer {
  receive(chunk: Buffer): void
  /** The other side has ended, in what may stay half open; told only to peers that have this when they adopt. */
  socketEnded?(): void
  /** The socket is gone. */
  socketClosed(): void
}

const kPeer = Symbol('peer')
const kShared = Symbol('shared')

interface PeeredSocket extends Duplex {
  [kPeer]?: SocketPeer
  /** Somebody has listened before us: with `once`, who is gone from the list of listeners by the time we are called. */
  [kShared]?: true
}

// One set of listeners serves all sockets: a closure per connection would cost more memory than the rest of it. Mostly
// there is none for `end`, which Node keeps a listener of its own for: an array of two would cost half a kilobyte. A socket that
// does not allow half-open ends by itself when the other side has, and closes.
function onData(this: PeeredSocket, chunk: Buffer): void {
  this[kPeer]!.receive(chunk)
}

function onEnd(this: PeeredSocket): void {
  this[kPeer]!.socketEnded?.()
}

function onClose(this: PeeredSocket): void {
  this[kPeer]!.socketClosed()
}

/** Resets and the like: the `close` that follows says all there is to say. A socket without this ends the process. */
function onError(): void {}

/**
 * Takes the place of a socket that is gone: whoever holds on to a connection that has ended, as an old table of a `Map`
 * does until the next full collection, does not hold on to all that is a socket.
 */
export const GONE: Duplex = new Socket().destroy()

/** Makes `peer` the one that hears of this socket; it takes the place of the one before. */
export function adopt(socket: Duplex, peer: SocketPeer): void {
  const peered: PeeredSocket = socket
  const isNew = peered[kPeer] === undefined
  peered[kPeer] = peer
  if (!isNew) return
  if (socket.listenerCount('data') > 0) peered[kShared] = true
  socket.on('error', onError)
  socket.on('data', onData)
  if (peer.socketEnded !== undefined) socket.on('end', onEnd)
  socket.on('close', onClose)
}

/**
 * Nobody else has this chunk of the socket's, nor anything else in its memory: Node makes new memory for each, and gives
 * it to whoever listens or reads. Somebody's stream may hold on to what it has given.
 */
export function isAlone(chunk: Buffer, socket: Duplex): boolean {
  return (
    chunk.length >= DISPOSED_FROM &&
    chunk.length === chunk.buffer.byteLength &&
    socket instanceof Socket &&
    socket.listenerCount('data') === 1 &&
    // One that does not flow is read by somebody else, who gets what we get.
    socket.readableFlowing === true &&
    (socket as PeeredSocket)[kShared] === undefined
  )
}
