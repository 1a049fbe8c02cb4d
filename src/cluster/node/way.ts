import { isMainThread, MessageChannel, type MessagePort, parentPort } from 'node:worker_threads'
import { type Line, type LineListener, ParentLine, PortLine } from './lines.ts'
import { localExchange } from './local.ts'
import { formatCall } from './wire.ts'

/** Opens a line to where an exchange may be: in this thread, or in the thread or process that has made this one. */
export function openLine(listener: LineListener): Line | undefined {
  const local = localExchange()
  if (local !== undefined) return new PortLine(local.openPort(), listener)
  if (!isMainThread) return parentPort === null ? undefined : callFromThread(parentPort, listener)
  return process.connected === true ? new ParentLine(listener) : undefined
}

/** Nothing but the call goes over the port that is the user's. */
function callFromThread(parent: MessagePort, listener: LineListener): Line {
  const { port1, port2 } = new MessageChannel()
  parent.postMessage(formatCall(port2), [port2])
  return new PortLine(port1, listener)
}
