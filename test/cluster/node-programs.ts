import { onTestFinished } from 'vitest'
import { connect, type WebSocketConnection } from '../../src/index.ts'
import { type Program, startProgram } from '../support/program.ts'
import { defer, Queue } from '../support/queue.ts'

/*
 * Processes of one machine that share an exchange: programs/primary.mjs and what it starts, with clients that tell them
 * what to do.
 */

export type Serialization = 'json' | 'advanced'

export interface PrimaryOptions {
  readonly serialization?: Serialization
  /** Names of workers of node:cluster, and of processes that are started with fork. */
  readonly workers?: readonly string[]
  readonly children?: readonly string[]
  /** Names of threads: made behind `startExchange`, and made before it. */
  readonly threads?: readonly string[]
  readonly earlyThreads?: readonly string[]
  /** The name of a server in the primary process itself. */
  readonly serves?: string
  /** Of `startExchange`; null for none at first. */
  readonly exchange?: object | null
  readonly options?: {
    readonly server?: object
    readonly backplane?: object
    /** Topics that every client is in. */
    readonly joins?: readonly string[]
    /** There is no exchange at first that a server could wait for. */
    readonly isAlone?: boolean
  }
}

type Line = Readonly<Record<string, unknown>>

/** A primary process. */
export class Primary {
  readonly program: Program
  #commands = 0

  constructor(options: PrimaryOptions, ...nodeArgs: string[]) {
    const args = ['--import', 'tsx', 'test/cluster/programs/primary.mjs', JSON.stringify(options)]
    this.program = startProgram(process.execPath, [...nodeArgs, ...args])
  }

  /** The first line with this value, as soon as it is there. */
  async line(name: string, value: unknown): Promise<Line> {
    return JSON.parse(await this.program.line(`"${name}":${JSON.stringify(value)}`)) as Line
  }

  /** All lines so far that have this in them. */
  lines(name: string): Line[] {
    return this.program.lines.map((line) => JSON.parse(line) as Line).filter((line) => name in line)
  }

  /** Has the primary do something; gives what it says. */
  async do(command: Line): Promise<Line> {
    const number = ++this.#commands
    this.program.type(JSON.stringify({ number, ...command }))
    const { number: _, ...answer } = await this.line('number', number)
    return answer
  }

  /** Asks until the statistics have these values. */
  async until(wanted: Line): Promise<void> {
    for (;;) {
      const stats = await this.do({ do: 'stats' })
      if (Object.entries(wanted).every(([name, value]) => stats[name] === value)) return
    }
  }

  /** A client of a worker; on a port that several share, connections are made until it is the right one. */
  async enter(name: string): Promise<Guest> {
    const { port } = await this.line('listening', name)
    for (;;) {
      const guest = await Guest.connect(Number(port))
      if (guest.at === name) return guest
      guest.connection.terminate()
    }
  }

  /** Ends all of them; every process has to go by itself, without an error. */
  async end(): Promise<Line> {
    const last = await this.do({ do: 'end' })
    const code = await this.program.closed()
    const { errorOutput } = this.program
    return { ...last, code, errorOutput }
  }
}

/** A client of one of the servers. */
export class Guest {
  readonly connection: WebSocketConnection<undefined>
  readonly received: Queue<string | Buffer>
  readonly at: string
  readonly pid: number
  readonly #answers: Queue<Line>
  /** Rejects when the connection is closed. */
  readonly #closed: Promise<never>

  private constructor(
    connection: WebSocketConnection<undefined>,
    received: Queue<string | Buffer>,
    closed: Promise<never>,
    answers: Queue<Line>,
    hello: Line,
  ) {
    this.connection = connection
    this.received = received
    this.#answers = answers
    this.#closed = closed
    this.at = String(hello['hello'])
    this.pid = Number(hello['pid'])
  }

  static async connect(port: number): Promise<Guest> {
    const received = new Queue<string | Buffer>()
    const answers = new Queue<Line>()
    const { promise: closed, reject } = defer<never>()
    closed.catch(() => {})
    const connection = await connect(`ws://127.0.0.1:${port}`, {
      maxMessageBytes: 16_777_216,
      close: (_, { code }) => reject(new Error(`the connection was closed with ${code}`)),
      message: (_, data) => {
        if (typeof data === 'string' && data.startsWith('{')) answers.push(JSON.parse(data) as Line)
        else received.push(data)
      },
    })
    onTestFinished(() => connection.terminate())
    return new Guest(connection, received, closed, answers, await answers.next())
  }

  /** Has its server do something; gives what it says. */
  async do(command: Line): Promise<Line> {
    this.connection.send(JSON.stringify(command))
    const { done: _, ...answer } = await Promise.race([this.#answers.next(), this.#closed])
    return answer
  }

  subscribe(...topics: string[]): Promise<Line> {
    return this.do({ do: 'subscribe', topics })
  }

  publish(topic: string, more: Line = {}): Promise<Line> {
    return this.do({ do: 'publish', topics: [topic], ...more })
  }
}

/** How a primary process ends that has nothing left, and nothing to complain of. */
export const CLEAN_END = { members: 0, channels: 0, code: 0, errorOutput: '' }

/** Texts as `publish` sends them. */
export function numbered(name: string, count: number): string[] {
  return range(0, count).map((number) => `${name} ${number}`)
}

export function numberIn(text: string | Buffer): number {
  return Number(/\d+/.exec(String(text))![0])
}

export function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index)
}

/** For a process that may have been stopped, and may be gone. */
export function resumeProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT')
  } catch {
    // It is gone.
  }
}
