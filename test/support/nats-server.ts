import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type NatsConnection } from '@nats-io/transport-node'
import { describe, it, onTestFinished } from 'vitest'
import { freePorts } from './ports.ts'

/*
 * A real nats-server of a test's own: on a free port, with JetStream in a temporary folder. Without the program the
 * tests are skipped and say so, except where nobody would read that.
 */

const MISSING = 'nats-server is not installed, so nothing was tried with a real one: apt-get install nats-server'
const isInstalled = spawnSync('nats-server', ['--version']).status === 0

/** `describe` for tests that need nats-server. */
export function describeWithNats(name: string, body: () => void): void {
  if (isInstalled) {
    describe(name, body)
    return
  }
  it(`${name}: needs nats-server (apt-get install nats-server)`, ({ skip }) => {
    if (/^(1|true)$/i.test(process.env['CI'] ?? '')) throw new Error(MISSING)
    console.warn(MISSING)
    skip(MISSING)
  })
}

/** What a server is like that is not as usual. */
export interface NatsServerOptions {
  /** Further arguments of the program. */
  readonly args?: readonly string[]
  /** With JetStream. Default true. */
  readonly jetstream?: boolean
}

/** Starts one that ends with the test, with everything that it has stored. */
export async function startNats(options: NatsServerOptions = {}): Promise<NatsServer> {
  const [port, monitorPort] = await freePorts(2)
  const server = new NatsServer(port!, monitorPort!, options)
  onTestFinished(() => server.remove())
  await server.start()
  return server
}

/** A program that can be stopped, started again, and held. */
export class NatsServer {
  readonly port: number
  readonly #monitorPort: number
  /** A folder of its own, with what it stores. */
  readonly folder: string = mkdtempSync(join(tmpdir(), 'nats-'))
  /** With which it is started the next time. */
  readonly arguments: string[]
  #child: ChildProcess | undefined

  constructor(port: number, monitorPort: number, { args = [], jetstream = true }: NatsServerOptions) {
    this.port = port
    this.#monitorPort = monitorPort
    this.arguments = [
      ...['--addr', '127.0.0.1', '--port', `${port}`, '--http_port', `${monitorPort}`],
      ...(jetstream ? ['--jetstream', '--store_dir', this.folder] : []),
      ...args,
    ]
  }

  /** Resolves when it takes connections. */
  async start(): Promise<void> {
    const child = spawn('nats-server', this.arguments, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    let output = ''
    const ready = new Promise<void>((resolve, reject) => {
      child.stderr!.setEncoding('utf8').on('data', (text: string) => {
        output += text
        if (output.includes('Server is ready')) resolve()
      })
      child.once('exit', () => reject(new Error(`nats-server has ended:\n${output}`)))
    })
    await ready
  }

  /** Resolves when it has ended. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child!
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }

  async restart(signal?: NodeJS.Signals): Promise<void> {
    await this.stop(signal)
    await this.start()
  }

  /** From then on it does nothing any more, but its connections stay: like a network that is cut. */
  async hold(): Promise<void> {
    const { pid } = this.#child!
    this.#child!.kill('SIGSTOP')
    const isHeld = (): boolean => / T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
    while (existsSync('/proc/self/stat') && !isHeld()) await new Promise(setImmediate)
  }

  goOn(): void {
    this.#child!.kill('SIGCONT')
  }

  /** It reads its configuration again. */
  reload(): void {
    this.#child!.kill('SIGHUP')
  }

  /** A connection to it, closed behind the test; one that comes back soon. */
  async connect(options: ConnectionOptions = {}): Promise<NatsConnection> {
    const connection = await connect({
      servers: `127.0.0.1:${this.port}`,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 20,
      reconnectJitter: 0,
      ...options,
    })
    onTestFinished(() => connection.close())
    return connection
  }

  /** What it tells of itself: `subsz`, `connz`, `jsz`. */
  async monitor<Answer>(path: string): Promise<Answer> {
    const answer = await fetch(`http://127.0.0.1:${this.#monitorPort}/${path}`)
    return (await answer.json()) as Answer
  }

  /** The subjects of all subscriptions of clients. */
  async subjects(): Promise<string[]> {
    const { connections } = await this.monitor<{ connections: { subscriptions_list?: string[] }[] }>(
      'connz?subs=1&limit=10000',
    )
    return connections.flatMap(({ subscriptions_list = [] }) => subscriptions_list)
  }

  async remove(): Promise<void> {
    await this.stop('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }
}
