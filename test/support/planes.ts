import { onTestFinished } from 'vitest'
import type { Backplane, WebSocketConnection, WebSocketServer, WebSocketServerOptions } from '../../src/index.ts'
import { Queue } from './queue.ts'
import { openClient, startServer, until } from './servers.ts'

/*
 * Processes that are joined by a backplane, as far as one process can be several; whatever the backplane is made around.
 */

/** How they start. */
export interface PlaneOptions {
  readonly server?: WebSocketServerOptions | undefined
  /** Wait until the engine is there. Default true. */
  readonly awaitUp?: boolean | undefined
}

/** A server with one client. */
export interface PlaneNode {
  readonly server: WebSocketServer
  readonly url: string
  /** The server's side of its client. */
  readonly client: WebSocketConnection
  /** What the client has received. */
  readonly received: Queue<string | Buffer>
  readonly errors: Queue<Error>
  readonly restored: Queue<undefined>
}

export async function openNode(
  backplane: Backplane,
  { server: serverOptions, awaitUp = true }: PlaneOptions = {},
): Promise<PlaneNode> {
  const opened = new Queue<WebSocketConnection>()
  const errors = new Queue<Error>()
  const restored = new Queue<undefined>()
  const { server, url } = await startServer({
    backplane,
    error: (error) => errors.push(error),
    backplaneRestored: () => restored.push(undefined),
    open: (client) => opened.push(client),
    ...serverOptions,
  })
  const received = new Queue<string | Buffer>()
  await openClient(url, { message: (_, data) => received.push(data) })
  const client = await opened.next()
  if (awaitUp) await server.ready()
  return { server, url, client, received, errors, restored }
}

/** The backplane alone, and what it tells. */
export interface Plane {
  readonly backplane: Backplane
  readonly received: Queue<[channel: string, message: Buffer]>
  /** `up`, or why it is down. The first `up` is taken where it was waited for. */
  readonly news: Queue<string>
}

export async function openPlane(backplane: Backplane, { awaitUp = true }: PlaneOptions = {}): Promise<Plane> {
  const received = new Queue<[string, Buffer]>()
  const news = new Queue<string>()
  onTestFinished(() => backplane.close())
  backplane.start({
    receive: (channel, message) => received.push([channel, Buffer.from(message)]),
    up: () => news.push('up'),
    down: ({ message }) => news.push(message),
  })
  if (awaitUp) {
    await until(() => isUp({ news }))
    await news.take(news.all.length)
  }
  return { backplane, received, news }
}

/** What it has told of last. */
function isUp({ news }: Pick<Plane, 'news'>): boolean {
  return news.all.at(-1) === 'up'
}

/** Waits until all of them are up. */
export function untilUp(...planes: readonly Pick<Plane, 'news'>[]): Promise<void> {
  return until(() => planes.every(isUp))
}

/** Waits until all of them have noticed that the engine is away. */
export function untilDown(...planes: readonly Pick<Plane, 'news'>[]): Promise<void> {
  return until(() => !planes.some(isUp))
}
