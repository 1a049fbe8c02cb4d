import type { Server as HttpServer, IncomingMessage } from 'node:http'
import type { Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { isServed, type PathRule, splitTarget } from './handshake.ts'
import { HeaderFields } from './headers.ts'
import type { RequestHead } from './http-head.ts'
import type { Door } from './socket-origin.ts'

/** An http server of the user's. */
export type AttachableServer = HttpServer | HttpsServer

/** Takes an upgrade request of the http server that is its own. */
export interface Attachment {
  /** Undefined for every path. */
  readonly path: PathRule | undefined
  receiveUpgrade(socket: Duplex, door: Door, head: RequestHead, rest: Buffer, path: PathRule | undefined): void
  /** An exception in a function of the user's. */
  report(error: unknown): void
}

/** One `upgrade` listener per http server, however many of ours share it. */
const attachments = new WeakMap<AttachableServer, Attachment[]>()

/**
 * Adds an owner of upgrade requests to an http server, and returns the function that takes it away. Requests for other
 * paths are left to other listeners, and refused with 404 only when there is nobody else to answer them.
 */
export function attachTo(server: AttachableServer, attachment: Attachment): () => void {
  const known = attachments.get(server)
  if (known !== undefined) known.push(attachment)
  else {
    attachments.set(server, [attachment])
    server.on('upgrade', onUpgrade)
  }
  return () => {
    const remaining = (attachments.get(server) ?? []).filter((other) => other !== attachment)
    if (remaining.length > 0) attachments.set(server, remaining)
    else {
      attachments.delete(server)
      server.off('upgrade', onUpgrade)
    }
  }
}

function onUpgrade(this: AttachableServer, request: IncomingMessage, socket: Duplex, rest: Buffer): void {
  const { path } = splitTarget(request.url ?? '/')
  const ours = attachments.get(this) ?? []
  let owner = ours.find((attachment) => owns(attachment, path))
  // With nobody else to answer, one of ours refuses: its path is another one.
  if (owner === undefined && this.listenerCount('upgrade') === 1) owner = ours[0]
  if (owner === undefined) return
  // Pipelined behind a request whose answer is not finished: that answer would run into our frames.
  if ((socket as { _httpMessage?: unknown })._httpMessage != null) {
    socket.destroy()
    return
  }
  // node:http's own timeouts end with the request.
  if (socket instanceof Socket) socket.setTimeout(0).setNoDelay(true)
  owner.receiveUpgrade(socket, { secure: 'encrypted' in socket }, headOf(request), rest, owner.path)
}

function owns(attachment: Attachment, path: string): boolean {
  try {
    return isServed(path, attachment.path)
  } catch (error) {
    attachment.report(error)
    return false
  }
}

/** What node:http has parsed, in our words. Its header lines come in pairs, unmerged. */
function headOf(request: IncomingMessage): RequestHead {
  const headers = new HeaderFields()
  const { rawHeaders, method = '', url = '', httpVersion } = request
  for (let index = 0; index < rawHeaders.length; index += 2) headers.append(rawHeaders[index]!, rawHeaders[index + 1]!)
  return { method, target: url, version: httpVersion === '1.0' ? '1.0' : '1.1', headers }
}
