import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import { type Api, createApi, type StartServerArguments } from '../../src/index.ts'
import { Queue } from './queue.ts'
import { certificate } from './servers.ts'

/*
 * The facade with what talks to it: pages, played by a client that is not ours.
 */

export const TOKEN = 'a token of the test'

/** An instance of its own, stopped behind the test. */
export function newApi(): Api {
  const api = createApi()
  onTestFinished(async () => {
    await api.stopServer()
  })
  return api
}

/** An instance whose server runs on a free port. */
export async function startApi(
  options: Partial<StartServerArguments> = {},
  api: Api = newApi(),
): Promise<{ api: Api; port: number }> {
  const result = await api.startServer({ possiblePorts: [0], token: TOKEN, closeTimeoutMs: 500, ...options })
  if (!result.success) throw new Error(result.message)
  return { api, port: result.port }
}

/** A tab: an open WebSocket, and what it was sent: text as string, binary as bytes. */
export interface Page {
  readonly socket: WebSocket
  readonly messages: Queue<string | Buffer>
  /** Closes politely; resolves when the connection has gone. */
  leave(): Promise<void>
}

export interface PageOptions {
  readonly secure?: boolean
  readonly token?: string | undefined
  readonly client?: ClientOptions
}

export async function openPage(port: number, options: PageOptions = {}): Promise<Page> {
  const { secure = false, token = TOKEN, client = {} } = options
  const url = `${secure ? 'wss' : 'ws'}://127.0.0.1:${port}/?${new URLSearchParams({ token })}`
  const socket = new WebSocket(url, { ca: certificate.cert, ...client })
  const messages = new Queue<string | Buffer>()
  socket.on('message', (data: Buffer, isBinary) => messages.push(isBinary ? data : data.toString()))
  onTestFinished(() => socket.terminate())
  await once(socket, 'open')
  return {
    socket,
    messages,
    leave: async () => {
      socket.close()
      await once(socket, 'close')
    },
  }
}

/** The id of the one client. */
export async function onlyClient(api: Api): Promise<string> {
  const { clientIds } = await api.getServer()
  if (clientIds.length !== 1) throw new Error(`there are ${clientIds.length} clients, not one`)
  return clientIds[0] as string
}

/** The process warnings that come during the test. */
export function collectWarnings(): Error[] {
  const warnings: Error[] = []
  const push = (warning: Error): void => void warnings.push(warning)
  process.on('warning', push)
  onTestFinished(() => void process.off('warning', push))
  return warnings
}
