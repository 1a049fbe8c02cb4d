import type { Agent, ClientRequest, ClientRequestArgs } from 'node:http'
import type { createConnection } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type { PerMessageDeflateOptions } from './extension.ts'

/** What can be sent. Strings and numbers are text, everything else is binary. */
export type BufferLike =
  | string
  | number
  | Buffer
  | Uint8Array
  | ArrayBufferView
  | ArrayBuffer
  | SharedArrayBuffer
  | Blob
  | readonly number[]
  | { valueOf(): ArrayBuffer | SharedArrayBuffer | Uint8Array | readonly number[] | string }
  | { [Symbol.toPrimitive](hint: string): string }

/** A message as listeners of `message` get it. */
export type RawData = Buffer | ArrayBuffer | Buffer[]
/** A message as `event.data` has it. */
export type Data = string | Buffer | ArrayBuffer | Buffer[]
/** How binary messages are given. */
export type BinaryType = 'nodebuffer' | 'arraybuffer' | 'fragments' | 'blob'

/** Options that both ends have. */
export interface CommonOptions {
  /** Whether several events may come in one turn of the event loop. Default true. */
  allowSynchronousEvents?: boolean | undefined
  /** Pings are answered. Default true. */
  autoPong?: boolean | undefined
  /** How long the closing handshake may take, in milliseconds. Default 30,000. */
  closeTimeout?: number | undefined
  /** Longest message that is received, in bytes, inflated; 0 for no limit. Default 100 MiB. */
  maxPayload?: number | undefined
  /** Most fragments of one message. Default 16,384. */
  maxFragments?: number | undefined
  /** Most chunks that one frame may come in. Default 262,144. */
  maxBufferedChunks?: number | undefined
  /** A peer that leaves more pongs unread is cut off. Default 60. */
  maxPendingAutoPongs?: number | undefined
  /** Takes text for valid UTF-8. Default false. */
  skipUTF8Validation?: boolean | undefined
}

/** Options of `new WebSocket(address, protocols, options)`; those of `http.request` and `tls.connect` are passed on. */
export interface ClientOptions<WebSocket = never>
  extends CommonOptions,
    Omit<ConnectionOptions, 'timeout' | 'host' | 'port' | 'path'> {
  /** Offers compression. Default true. */
  perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /** Subprotocols to offer, where the second argument gives none. */
  protocols?: string | string[] | undefined
  protocol?: string | undefined
  /** How long the opening handshake may be idle, in milliseconds. Default no limit. */
  handshakeTimeout?: number | undefined
  /** Default false. */
  followRedirects?: boolean | undefined
  /** Default 10. */
  maxRedirects?: number | undefined
  /** 13 (the default) or 8. */
  protocolVersion?: number | undefined
  origin?: string | undefined
  headers?: { [name: string]: string | string[] | number | undefined } | undefined
  auth?: string | undefined
  agent?: Agent | undefined
  host?: string | undefined
  family?: number | undefined
  localAddress?: string | undefined
  createConnection?: ClientRequestArgs['createConnection'] | typeof createConnection | undefined
  /** Must call `request.end()`. */
  finishRequest?: ((request: ClientRequest, websocket: WebSocket) => void) | undefined
  /** Fills the four bytes of a masking key. Default randomness. */
  generateMask?: ((mask: Buffer) => void) | undefined
}

/** Options of one message. */
export interface SendOptions {
  binary?: boolean | undefined
  compress?: boolean | undefined
  /** False: more fragments of this message follow. Default true. */
  fin?: boolean | undefined
  /** Default as the role demands. */
  mask?: boolean | undefined
}

/** Defaults of what both ends have. */
export const CONNECTION_DEFAULTS = {
  allowSynchronousEvents: true,
  autoPong: true,
  closeTimeout: 30_000,
  maxBufferedChunks: 262_144,
  maxFragments: 16_384,
  maxPayload: 104_857_600,
  maxPendingAutoPongs: 60,
  skipUTF8Validation: false,
} as const
