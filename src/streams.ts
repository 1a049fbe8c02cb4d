import type { Data, WebSocketConnection } from './connection.ts'
import { CloseCode } from './constants.ts'
import { WebSocketError } from './errors.ts'
import type { Message } from './inbox.ts'

/** A connection as a pair of web streams. */
export interface WebStreams {
  /**
   * The messages: text as string, binary as `Buffer`. The peer is held back while they are not read. It ends when the
   * connection has closed cleanly, and fails with `ERR_CONNECTION_CLOSED` when it has not. To cancel it closes the
   * connection with 1000.
   */
  readonly readable: ReadableStream<Message>
  /**
   * Each chunk is a message. A write takes as long as the peer makes it wait. To close it closes the connection with
   * 1000, behind everything written; to abort it cuts the connection.
   */
  readonly writable: WritableStream<Data>
}

/** Beyond this much of unsent data, in bytes, a write waits for the peer. Longer messages are not copied when they are sent. */
const WRITE_AHEAD_BYTES = 16_384

/**
 * Two web streams over a connection, with backpressure in both directions. The connection must not have a `message`
 * handler; on a server, this has to be called in `open`. For a Node stream there is
 * `Duplex.fromWeb(streams, { readableObjectMode: true })`.
 *
 * @throws UsageError `ERR_ITERATION` when messages go to a `message` handler.
 */
export function toWebStreams(connection: WebSocketConnection<unknown>): WebStreams {
  const messages = connection[Symbol.asyncIterator]()
  const writing = new Writing(connection)
  const readable = new ReadableStream<Message>(
    {
      async pull(controller) {
        try {
          const { done, value } = await messages.next()
          if (done !== true) return controller.enqueue(value)
          controller.close()
        } catch (error) {
          controller.error(error)
          writing.fail(error)
        }
      },
      cancel() {
        connection.close(CloseCode.NORMAL)
        // What still comes is not kept, or the peer's Close frame would wait behind it.
        void discard(messages)
      },
    },
    // Messages that nobody has asked for wait in the connection, which holds the peer back.
    { highWaterMark: 0 },
  )
  return { readable, writable: new WritableStream<Data>(writing, { highWaterMark: 1 }) }
}

async function discard(messages: AsyncIterator<Message, undefined>): Promise<void> {
  try {
    while ((await messages.next()).done !== true);
  } catch {
    // Nobody is there who would want to know how it ended.
  }
}

/** The way out. */
class Writing {
  readonly #connection: WebSocketConnection<unknown>
  #controller: WritableStreamDefaultController | undefined
  #closing = false

  constructor(connection: WebSocketConnection<unknown>) {
    this.#connection = connection
  }

  start(controller: WritableStreamDefaultController): void {
    this.#controller = controller
    // A write that waits for the peer would keep `abort` below from being called.
    const { signal } = controller as WritableStreamDefaultController & { readonly signal: AbortSignal }
    signal.addEventListener('abort', () => this.abort())
  }

  async write(data: Data): Promise<void> {
    const connection = this.#connection
    while (!connection.send(data)) {
      if (connection.state !== 'open') throw closedError()
      // Others have filled the buffer, of a connection that drops messages then.
      await connection.flushed()
    }
    const size = typeof data === 'string' ? data.length : data.byteLength
    if (size > WRITE_AHEAD_BYTES || connection.bufferedBytes > WRITE_AHEAD_BYTES) await connection.flushed()
  }

  async close(): Promise<void> {
    this.#closing = true
    if (this.#connection.state === 'closed') return
    this.#connection.close(CloseCode.NORMAL)
    // A peer that has gone at the same time has no need of our Close frame.
    await this.#connection.flushed().catch(() => {})
  }

  abort(): void {
    this.#closing = true
    this.#connection.terminate()
  }

  /** The connection is gone: whoever is about to write need not try. */
  fail(error: unknown): void {
    if (!this.#closing) this.#controller?.error(error)
  }
}

function closedError(): WebSocketError {
  return new WebSocketError('ERR_CONNECTION_CLOSED', 'the connection is closed')
}
