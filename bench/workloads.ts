// What is measured. A workload says what its clients do; load/ does it, rounds.ts counts it.

export interface EchoWorkload extends Named {
  kind: 'echo'
  clients: number
  /** Payload bytes. */
  size: number
  /** Messages each client keeps under way. */
  inFlight: number
  content: Content
}
export interface BroadcastWorkload extends Named {
  kind: 'broadcast'
  /** Receivers; the first one is also the publisher. */
  clients: number
  size: number
  /** Messages published in one write; the next come when every receiver has them all. */
  inFlight: number
  content: Content
}
export interface ConnectWorkload extends Named {
  kind: 'connect'
  /** Handshakes under way at a time. */
  clients: number
  /** With a closing handshake; otherwise each connection is reset as soon as it is open. */
  polite: boolean
}
export interface IdleWorkload extends Named {
  kind: 'idle'
  clients: number
  /** What each of them sends, and gets back, before it is idle. */
  before?: { messages: number; size: number; content: Content }
}
/** One message in many pieces, at four sizes: a piece must not cost more because the message is longer. */
export interface PiecesWorkload extends Named {
  kind: 'pieces'
  /** One frame in segments of one byte, or one message in frames of one byte. */
  by: 'segment' | 'fragment'
  /** Pieces of the smallest message; the others have 2, 4 and 8 times as many. */
  pieces: number
  /** Pieces to send at each size at least: a message that is cheap is sent more often. */
  atLeast: number
}
interface Named {
  name: string
  title: string
  /** With permessage-deflate; only servers that can are asked. */
  compressed?: true
  /** Servers for which the workload makes no sense. */
  without?: readonly string[]
  /** Only on demand. */
  extra?: true
}

export type Workload = EchoWorkload | BroadcastWorkload | ConnectWorkload | IdleWorkload | PiecesWorkload
export type Content = 'ascii' | 'mixed' | 'binary' | 'json'

/** The multiples of the smallest message at which `pieces` is measured. */
export const growth = [1, 2, 4, 8] as const

/** What one unit of a workload is, for the reader. */
export const unitOf: Record<Workload['kind'], string> = {
  echo: 'message',
  broadcast: 'delivery',
  connect: 'connection',
  idle: 'connection',
  pieces: 'piece',
}

const echo = (name: string, title: string, clients: number, size: number, inFlight: number): EchoWorkload => ({
  kind: 'echo',
  name,
  title,
  clients,
  size,
  inFlight,
  content: 'ascii',
})

const compressed = (workload: EchoWorkload): EchoWorkload => ({ ...workload, content: 'json', compressed: true })

export const workloads: readonly Workload[] = [
  echo('echo-16', 'Echo 16 B, one in flight', 64, 16, 1),
  echo('echo-16-x16', 'Echo 16 B, 16 in flight', 64, 16, 16),
  echo('echo-128-x64', 'Echo 128 B, 64 in flight', 64, 128, 64),
  echo('echo-1k-x16', 'Echo 1 KiB, 16 in flight', 64, 1024, 16),
  echo('echo-64k', 'Echo 64 KiB, one in flight', 16, 65_536, 1),
  echo('echo-1m', 'Echo 1 MiB, one in flight', 4, 1_048_576, 1),
  {
    kind: 'broadcast',
    name: 'broadcast-1000',
    title: 'Broadcast 64 B to 1,000',
    clients: 1000,
    size: 64,
    inFlight: 1,
    content: 'ascii',
  },
  {
    kind: 'broadcast',
    name: 'broadcast-1000-x16',
    title: 'Broadcast 16 × 64 B to 1,000',
    clients: 1000,
    size: 64,
    inFlight: 16,
    content: 'ascii',
  },
  { kind: 'connect', name: 'connect-drop', title: 'Connect, cut', clients: 64, polite: false },
  { kind: 'connect', name: 'connect-close', title: 'Connect, close politely', clients: 64, polite: true },
  { kind: 'idle', name: 'idle-10k', title: 'Idle connection (memory)', clients: 10_000 },
  compressed(echo('deflate-128-x16', 'Deflate 128 B, 16 in flight', 64, 128, 16)),
  compressed(echo('deflate-1k-x16', 'Deflate 1 KiB, 16 in flight', 64, 1024, 16)),
  compressed(echo('deflate-16k', 'Deflate 16 KiB, one in flight', 16, 16_384, 1)),
  {
    kind: 'idle',
    name: 'deflate-idle',
    title: 'Idle connection after 40 compressed KiB (memory)',
    clients: 4000,
    compressed: true,
    // More than the largest window there is.
    before: { messages: 10, size: 4096, content: 'json' },
  },
  {
    kind: 'pieces',
    name: 'bytewise',
    title: 'Frame in 1-byte segments',
    by: 'segment',
    pieces: 16_384,
    atLeast: 16_384,
  },
  {
    kind: 'pieces',
    name: 'fragments',
    title: 'Message in 1-byte fragments',
    by: 'fragment',
    pieces: 4096,
    atLeast: 262_144,
    without: ['floor'],
  },
  { ...echo('binary-16-x16', 'Echo 16 B binary, 16 in flight', 64, 16, 16), content: 'binary', extra: true },
  { ...echo('binary-1k-x16', 'Echo 1 KiB binary, 16 in flight', 64, 1024, 16), content: 'binary', extra: true },
  { ...echo('binary-64k', 'Echo 64 KiB binary', 16, 65_536, 1), content: 'binary', extra: true },
  { ...echo('binary-1m', 'Echo 1 MiB binary', 4, 1_048_576, 1), content: 'binary', extra: true },
  { ...echo('mixed-1k-x16', 'Echo 1 KiB mixed, 16 in flight', 64, 1024, 16), content: 'mixed', extra: true },
]
