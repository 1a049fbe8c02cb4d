import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { onTestFinished } from 'vitest'

/*
 * A peer that does what it is told: any bytes, whole or in pieces, no reading, half-closing, resets. It has its own few
 * lines of framing, so that a mistake in ours does not hide behind itself.
 */

const HANDSHAKE_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** The key of the RFC's example (RFC 6455 §1.3). */
export const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

export function acceptOf(key: string): string {
  return createHash('sha1')
    .update(key + HANDSHAKE_GUID)
    .digest('base64')
}

/** What differs from a plain, right request. A header that is undefined is left out. */
export interface RequestOptions {
  readonly method?: string
  readonly target?: string
  readonly version?: string
  readonly headers?: Readonly<Record<string, string | readonly string[] | undefined>>
}

function formatHead(options: RequestOptions, defaults: Readonly<Record<string, string>>): string {
  const { method = 'GET', target = '/', version = 'HTTP/1.1', headers = {} } = options
  let text = `${method} ${target} ${version}\r\n`
  for (const [name, value] of Object.entries({ ...defaults, ...headers })) {
    if (value === undefined) continue
    for (const line of typeof value === 'string' ? [value] : value) text += `${name}: ${line}\r\n`
  }
  return `${text}\r\n`
}

/** The request that opens a WebSocket. */
export function upgradeRequest(options: RequestOptions = {}): string {
  return formatHead(options, {
    Host: 'localhost',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': KEY,
  })
}

/** A request for a plain answer. */
export function plainRequest(options: RequestOptions = {}): string {
  return formatHead(options, { Host: 'localhost' })
}

/** A frame. */
export interface RawFrame {
  readonly fin: boolean
  readonly opcode: number
  readonly masked: boolean
  readonly payload: Buffer
}

const MASKING_KEY = Buffer.from([0x12, 0x34, 0x56, 0x78])

/** A frame as a client sends it, masked. */
export function frame(opcode: number, payload: string | Uint8Array = '', { fin = true, masked = true } = {}): Buffer {
  const bytes = Buffer.from(payload as Uint8Array)
  const { length } = bytes
  const head =
    length < 126
      ? Buffer.from([0, length])
      : length < 0x10000
        ? Buffer.from([0, 126, length >> 8, length & 0xff])
        : Buffer.from([0, 127, 0, 0, 0, 0, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff])
  head[0] = (fin ? 0x80 : 0) | opcode
  if (!masked) return Buffer.concat([head, bytes])
  head[1]! |= 0x80
  for (let at = 0; at < length; at++) bytes[at]! ^= MASKING_KEY[at % 4]!
  return Buffer.concat([head, MASKING_KEY, bytes])
}

export const text = (payload: string): Buffer => frame(1, payload)
export const binary = (payload: Uint8Array): Buffer => frame(2, payload)
export const ping = (payload: string | Uint8Array = ''): Buffer => frame(9, payload)
export const pong = (payload: string | Uint8Array = ''): Buffer => frame(10, payload)

export function closeFrame(code?: number, reason = ''): Buffer {
  if (code === undefined) return frame(8)
  return frame(8, Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]))
}

/** Code and reason of a Close frame's payload. */
export function closeOf({ opcode, payload }: RawFrame): { code: number; reason: string } {
  if (opcode !== 8) throw new Error(`opcode ${opcode} is not a Close frame`)
  if (payload.length === 0) return { code: 1005, reason: '' }
  return { code: payload.readUInt16BE(0), reason: payload.toString('utf8', 2) }
}

/** The head of an answer. */
export interface RawHead {
  readonly status: number
  readonly text: string
  /** In lower case; of several lines of one name the last. */
  readonly headers: ReadonlyMap<string, string>
  /** The header lines as they came. */
  readonly lines: readonly string[]
}

export interface RawClientOptions {
  readonly port: number
  /** Default 127.0.0.1. */
  readonly host?: string
  /** Where it comes from; default what the system chooses. */
  readonly localAddress?: string
  /** The certificate to trust; given, it speaks TLS. */
  readonly ca?: string | undefined
  /** Does not read before it is told to. */
  readonly paused?: boolean
}

/** A whole HTTP answer. */
export interface RawAnswer extends RawHead {
  readonly body: string
}

/** See the head of the file. */
export class RawClient {
  readonly socket: Socket
  /** Below TLS; else the same. */
  readonly #tcp: Socket
  /** Bytes that came and that nobody has taken yet. */
  #chunks: Buffer[] = []
  #available = 0
  /** Bytes that ever came. */
  received = 0
  #ended = false
  #error: Error | undefined
  #wake: (() => void)[] = []

  constructor(socket: Socket, tcp = socket) {
    this.socket = socket
    this.#tcp = tcp
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#available += chunk.length
      this.received += chunk.length
      this.#notify()
    })
    socket.on('error', (error) => {
      this.#error = error
    })
    for (const event of ['end', 'close']) {
      socket.on(event, () => {
        this.#ended = true
        this.#notify()
      })
    }
  }

  /** Connects; the socket is destroyed behind the test. It half-closes only when told so. */
  static async connect({
    port,
    host = '127.0.0.1',
    localAddress,
    ca,
    paused = false,
  }: RawClientOptions): Promise<RawClient> {
    const tcp = connectTcp({ port, host, ...(localAddress && { localAddress }), allowHalfOpen: true, noDelay: true })
    const socket = ca === undefined ? tcp : connectTls({ socket: tcp, ca, servername: 'localhost' })
    const client = new RawClient(socket, tcp)
    if (paused) socket.pause()
    onTestFinished(() => {
      socket.destroy()
      tcp.destroy()
    })
    await once(socket, ca === undefined ? 'connect' : 'secureConnect')
    return client
  }

  /** Connects and opens a WebSocket. */
  static async open(options: RawClientOptions & RequestOptions): Promise<RawClient> {
    const client = await RawClient.connect(options)
    client.send(upgradeRequest(options))
    // A paused one leaves its 101 unread too.
    if (options.paused) return client
    const head = await client.readHead()
    if (head.status !== 101) throw new Error(`the answer is ${head.text}`)
    return client
  }

  /** Sends bytes on a connection of its own, and waits for the HTTP answer to them. */
  static async ask(options: RawClientOptions, ...parts: (string | Uint8Array)[]): Promise<RawAnswer> {
    const client = await RawClient.connect(options)
    client.send(...parts)
    return client.readAnswer()
  }

  /** Sends bytes, joined into one write. False: the socket has not taken all of it. */
  send(...parts: (string | Uint8Array)[]): boolean {
    return this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part as Uint8Array))))
  }

  stopReading(): void {
    this.socket.pause()
  }

  startReading(): void {
    this.socket.resume()
  }

  /** FIN; goes on reading. */
  end(): void {
    this.socket.end()
  }

  /** Starts the closing handshake and ends TCP behind it; returns what still came, the answering Close frame last. */
  async leave(code?: number, reason?: string): Promise<RawFrame[]> {
    this.send(closeFrame(code, reason))
    const frames = await this.readFrames()
    this.end()
    return frames
  }

  /** RST. */
  reset(): void {
    this.#tcp.resetAndDestroy()
  }

  /** What has come and was not taken, without waiting. */
  get pending(): Buffer {
    return this.#joined()
  }

  /** The error of the socket, for instance a reset by the other end. */
  get error(): Error | undefined {
    return this.#error
  }

  /** The next `count` bytes. */
  async read(count: number): Promise<Buffer> {
    while (this.#available < count) {
      if (this.#ended) throw new Error(`the other end is gone; ${this.#available} bytes are there, not ${count}`)
      await this.#more()
    }
    const joined = this.#joined()
    this.#putBack(joined.subarray(count))
    return joined.subarray(0, count)
  }

  /** The head of an HTTP answer; what comes behind it stays. */
  async readHead(): Promise<RawHead> {
    for (;;) {
      const joined = this.#joined()
      const end = joined.indexOf('\r\n\r\n')
      if (end !== -1) {
        this.#putBack(joined.subarray(end + 4))
        return parseHead(joined.toString('latin1', 0, end))
      }
      if (this.#ended) throw new Error(`the other end is gone without an answer: ${JSON.stringify(joined.toString())}`)
      await this.#more()
    }
  }

  /** A whole HTTP answer: its head, and all bytes up to the end of the connection. */
  async readAnswer(): Promise<RawAnswer> {
    const head = await this.readHead()
    const body = (await this.readToEnd()).toString()
    return { ...head, body }
  }

  async readFrame(): Promise<RawFrame> {
    const [first = 0, second = 0] = await this.read(2)
    let length = second & 0x7f
    if (length === 126) length = (await this.read(2)).readUInt16BE(0)
    else if (length === 127) length = Number((await this.read(8)).readBigUInt64BE(0))
    const masked = (second & 0x80) !== 0
    const key = masked ? await this.read(4) : undefined
    const payload = Buffer.from(await this.read(length))
    if (key !== undefined) for (let at = 0; at < length; at++) payload[at]! ^= key[at % 4]!
    return { fin: (first & 0x80) !== 0, opcode: first & 0x0f, masked, payload }
  }

  /** The next frame, which must be a text, as a string. */
  async readText(): Promise<string> {
    const { opcode, payload } = await this.readFrame()
    if (opcode !== 1) throw new Error(`opcode ${opcode} is not a text`)
    return payload.toString()
  }

  /** All frames up to the end of the connection. */
  async readFrames(): Promise<RawFrame[]> {
    const frames: RawFrame[] = []
    while (await this.#hasMore()) frames.push(await this.readFrame())
    return frames
  }

  /** All bytes up to FIN, or to the reset. */
  async readToEnd(): Promise<Buffer> {
    while (!this.#ended) await this.#more()
    const joined = this.#joined()
    this.#putBack(Buffer.alloc(0))
    return joined
  }

  /** Resolves when the other end has sent FIN or is gone; what it has sent before stays to be read. */
  async ended(): Promise<void> {
    while (!this.#ended) await this.#more()
  }

  async #hasMore(): Promise<boolean> {
    while (this.#available === 0 && !this.#ended) await this.#more()
    return this.#available > 0
  }

  #joined(): Buffer {
    const joined = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks)
    this.#chunks = [joined]
    return joined
  }

  #putBack(rest: Buffer): void {
    this.#chunks = [rest]
    this.#available = rest.length
  }

  #more(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve))
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}

function parseHead(head: string): RawHead {
  const [line = '', ...fields] = head.split('\r\n')
  const headers = new Map<string, string>()
  for (const field of fields) {
    const colon = field.indexOf(':')
    headers.set(field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim())
  }
  return { status: Number(line.split(' ')[1]), text: line, headers, lines: fields }
}
