// A client that first talks, text by text, and then only receives: bytes, as they come.
import { createHash, randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { drop } from '../../load/client.ts'
import { frame } from '../../load/frames.ts'

const TEXT = 1
const PING = 9
const PONG = 10

/** Told how many bytes have come, and where they lie until it returns. */
type Receive = (bytes: number, buffer: Buffer) => void

// Every socket of this process reads into the same memory.
const shared = Buffer.allocUnsafeSlow(256 * 1024)

const key = randomBytes(16).toString('base64')
const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')

export class Client {
  readonly #socket: Socket
  readonly #fail: (error: Error) => void
  /** What has come and was not understood yet. */
  #pending: Buffer = Buffer.alloc(0)
  #opened: (() => void) | undefined
  readonly #texts: string[] = []
  readonly #waiting: ((text: string) => void)[] = []
  #receive: Receive | undefined

  private constructor(port: number, path: string, fail: (error: Error) => void) {
    this.#fail = fail
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      onread: {
        buffer: shared,
        callback: (bytes) => {
          if (this.#receive) this.#receive(bytes, shared)
          else this.#read(bytes)
          return true
        },
      },
    })
    this.#socket.on('error', fail)
    this.#socket.on('end', () => fail(new Error('the server ended the connection')))
    this.#socket.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
      'latin1',
    )
  }

  /** Resolves when the handshake is over. `fail` is told of anything that goes wrong, then and later. */
  static async open(port: number, path: string, fail: (error: Error) => void): Promise<Client> {
    const client = new Client(port, path, fail)
    await new Promise<void>((resolve) => {
      client.#opened = resolve
    })
    return client
  }

  say(text: string): void {
    this.write(frame(TEXT, Buffer.from(text), randomBytes(4)))
  }

  /** Whole frames, masked. */
  write(frames: Buffer): void {
    this.#socket.write(frames)
  }

  /** The next text of the server. */
  next(): Promise<string> {
    const text = this.#texts.shift()
    return text === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(text)
  }

  /** From now on bytes are handed over as they come. */
  stream(receive: Receive): void {
    if (this.#pending.length > 0 || this.#texts.length > 0) this.#fail(new Error('the server said more than it should'))
    this.#receive = receive
  }

  close(): void {
    drop(this.#socket)
  }

  #read(bytes: number): void {
    this.#pending = Buffer.concat([this.#pending, shared.subarray(0, bytes)])
    if (this.#opened && !this.#readHead()) return
    for (let size = frameSize(this.#pending); size <= this.#pending.length; size = frameSize(this.#pending)) {
      const bytes = this.#pending.subarray(0, size)
      this.#pending = this.#pending.subarray(size)
      this.#take(bytes)
    }
  }

  #readHead(): boolean {
    const end = this.#pending.indexOf('\r\n\r\n')
    if (end < 0) return false
    const head = this.#pending.toString('latin1', 0, end)
    this.#pending = this.#pending.subarray(end + 4)
    if (!head.startsWith('HTTP/1.1 101 ') || !head.includes(accept)) {
      this.#fail(new Error(`the handshake was answered with ${JSON.stringify(head.slice(0, 200))}`))
    }
    this.#opened?.()
    this.#opened = undefined
    return true
  }

  /** An unmasked frame that is whole: a text, or a Ping. */
  #take(bytes: Buffer): void {
    const payload = bytes.subarray(bytes[1]! === 126 ? 4 : bytes[1]! === 127 ? 10 : 2)
    if (bytes[0] === (0x80 | PING)) this.write(frame(PONG, payload, randomBytes(4)))
    else if (bytes[0] !== (0x80 | TEXT)) this.#fail(new Error(`the server sent a frame that begins with ${bytes[0]}`))
    else {
      const text = payload.toString()
      const waiting = this.#waiting.shift()
      if (waiting) waiting(text)
      else this.#texts.push(text)
    }
  }
}

/** Infinity, as long as it cannot be told. */
function frameSize(bytes: Buffer): number {
  const short = bytes[1] ?? Infinity
  if (short < 126) return 2 + short
  if (short === 126 && bytes.length >= 4) return 4 + bytes.readUInt16BE(2)
  if (short === 127 && bytes.length >= 10) return 10 + Number(bytes.readBigUInt64BE(2))
  return Infinity
}

/** Does something for each index below `count`, 64 at a time. */
export async function forEach(count: number, act: (index: number) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < count) await act(next++)
  }
  await Promise.all(Array.from({ length: Math.min(64, count) }, lane))
}
