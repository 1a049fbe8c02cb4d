import { createServer, request, type Server } from 'node:http'
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Socket,
  type Server as TcpServer,
} from 'node:net'

/*
 * node:http as the judge over heads of HTTP messages: does its parser accept these bytes? "Accepted" means that a
 * request, or a response, reached its user; an error of the parser, an error answer made by node itself and a message
 * that is not whole when the bytes end are all "refused".
 */

/** A judge, and how to dismiss it. */
export interface Judge {
  accepts(bytes: Buffer): Promise<boolean>
  close(): Promise<void>
}

/** Judges the heads of requests, each on a connection of its own. */
export async function judgeOfRequests(): Promise<Judge> {
  const accepted = new Set<number | undefined>()
  const server = createServer()
  for (const event of ['request', 'checkContinue', 'checkExpectation'] as const) {
    server.on(event, (incoming, response) => {
      accepted.add(incoming.socket.remotePort)
      response.setHeader('Connection', 'close')
      response.end()
    })
  }
  server.on('upgrade', (_incoming, socket: Socket) => {
    accepted.add(socket.remotePort)
    socket.destroy()
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  await listen(server)
  return {
    accepts: (bytes) =>
      new Promise((resolve) => {
        const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
        let port: number | undefined
        socket.on('connect', () => {
          port = socket.localPort
          socket.end(bytes)
        })
        socket.on('error', () => {})
        socket.resume()
        socket.on('close', () => resolve(accepted.delete(port)))
      }),
    close: () => close(server),
  }
}

/** Judges the heads of responses to the request for an upgrade. */
export async function judgeOfResponses(): Promise<Judge> {
  let answer: Buffer = Buffer.alloc(0)
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(answer))
  })
  await listen(server)
  const ask = (): Promise<boolean> =>
    new Promise((resolve) => {
      const headers = { Connection: 'Upgrade', Upgrade: 'websocket' }
      const outgoing = request({
        port: (server.address() as AddressInfo).port,
        host: '127.0.0.1',
        agent: false,
        headers,
      })
      const settle = (verdict: boolean): void => {
        resolve(verdict)
        outgoing.destroy()
      }
      outgoing.on('response', () => settle(true))
      outgoing.on('upgrade', () => settle(true))
      outgoing.on('error', () => settle(false))
      outgoing.end()
    })
  // One at a time: there is one answer.
  let last: Promise<unknown> = Promise.resolve()
  return {
    accepts: (bytes) => {
      const verdict = last.then(() => {
        answer = bytes
        return ask()
      })
      last = verdict
      return verdict
    },
    close: () => close(server),
  }
}

function listen(server: Server | TcpServer): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
}

function close(server: Server | TcpServer): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
