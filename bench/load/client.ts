// A client reduced to what a measurement needs: the handshake, then bytes in and out of a node:net socket.
import { createHash, randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

export interface Target {
  port: number
  path: string
  /** Offer permessage-deflate as browsers and ws do. Default false. */
  offersDeflate?: boolean
  /** Told once about anything that goes wrong. */
  fail(error: Error): void
  /** Connections come from so many addresses in turn (127.0.0.1 only when 1): each has 28,000 ports or so. */
  addresses: number
  /** The server is expected to end connections. */
  mayEnd: boolean
}

/** Told how many bytes have come, and where they lie until it returns. */
export type Receive = (bytes: number, buffer: Buffer, socket: Socket) => void

// Every socket of this process reads into the same memory: nothing is allocated for what comes in.
const shared = Buffer.allocUnsafeSlow(256 * 1024)

const key = randomBytes(16).toString('base64')
const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')

const OFFER = 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n'

let turn = 0

/** Resolves when the server has answered 101 with the right Sec-WebSocket-Accept; `agreed` is shown the answer before. */
export function openClient(target: Target, receive: Receive, agreed?: (head: string) => void): Promise<Socket> {
  return new Promise((resolve) => {
    let head = ''
    let open = false
    const socket = connect({
      host: '127.0.0.1',
      port: target.port,
      noDelay: true,
      ...(target.addresses > 1 && { localAddress: `127.0.0.${1 + (turn++ % target.addresses)}` }),
      onread: {
        buffer: shared,
        callback: (bytes) => {
          if (open) {
            receive(bytes, shared, socket)
          } else {
            head += shared.toString('latin1', 0, bytes)
            if (!head.endsWith('\r\n\r\n')) return true
            if (!head.startsWith('HTTP/1.1 101 ') || !head.includes(accept)) {
              target.fail(new Error(`the handshake was answered with ${JSON.stringify(head.slice(0, 200))}`))
            }
            agreed?.(head)
            head = ''
            open = true
            resolve(socket)
          }
          return true
        },
      },
    })
    socket.on('error', target.fail)
    socket.on('end', () => {
      if (!open || !target.mayEnd) target.fail(new Error('the server ended the connection'))
    })
    socket.write(
      `GET ${target.path} HTTP/1.1\r\nHost: 127.0.0.1:${target.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n` +
        `${target.offersDeflate ? OFFER : ''}\r\n`,
      'latin1',
    )
  })
}

/** Opens `count` clients, 64 at a time. */
export async function openClients(count: number, open: (index: number) => Promise<Socket>): Promise<Socket[]> {
  const sockets: Socket[] = []
  let next = 0
  const lane = async () => {
    while (next < count) {
      const index = next++
      sockets[index] = await open(index)
    }
  }
  await Promise.all(Array.from({ length: Math.min(64, count) }, lane))
  return sockets
}

/** From here on the end of the connection is nothing to complain about. */
export function drop(socket: Socket): void {
  socket.removeAllListeners('error')
  socket.on('error', () => {})
  socket.resetAndDestroy()
}
