import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { describe, it, onTestFinished } from 'vitest'
import { freePorts } from './ports.ts'
import { Program } from './program.ts'

/*
 * A redis-server of our own, on a free port of 127.0.0.1, with a folder of its own. It ends with its test.
 */

const MISSING = 'redis-server is not installed, so nothing was tried with Redis: apt-get install redis-server'

const isInstalled = spawnSync('redis-server', ['--version']).status === 0

/** `describe` for tests that need Redis. */
export function describeWithRedis(name: string, body: () => void): void {
  if (isInstalled) {
    describe(name, body)
    return
  }
  it(`${name}: needs Redis (apt-get install redis-server)`, ({ skip }) => {
    if (/^(1|true)$/i.test(process.env['CI'] ?? '')) throw new Error(MISSING)
    console.warn(MISSING)
    skip(MISSING)
  })
}

export interface RedisServerOptions {
  /** What was written survives a restart. Default false: nothing does. */
  readonly appendonly?: boolean
  /** A cluster of one node that owns all slots. Default false. */
  readonly cluster?: boolean
  /** Further settings, as on the command line, without the hyphens. */
  readonly settings?: Readonly<Record<string, string>>
}

export class RedisServer {
  readonly port: number
  readonly #busPort: number
  readonly #folder: string
  readonly #options: RedisServerOptions
  #program: Program | undefined
  #admin: Redis | undefined

  constructor(port: number, busPort: number, folder: string, options: RedisServerOptions) {
    this.port = port
    this.#busPort = busPort
    this.#folder = folder
    this.#options = options
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  /** Starts, at first or again: on the same port, in the same folder. */
  async start(): Promise<void> {
    const { appendonly = false, cluster = false, settings } = this.#options
    const all: Record<string, string> = {
      port: `${this.port}`,
      bind: '127.0.0.1',
      dir: this.#folder,
      save: '',
      appendonly: appendonly ? 'yes' : 'no',
      // A node by itself does not know under which address it is called.
      ...(cluster
        ? { 'cluster-enabled': 'yes', 'cluster-announce-ip': '127.0.0.1', 'cluster-port': `${this.#busPort}` }
        : {}),
      ...settings,
    }
    const args = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value])
    this.#program = new Program(spawn('redis-server', args, { cwd: this.#folder }))
    await this.#program.line('Ready to accept connections')
    if (!cluster) return
    const info = String(await this.command('CLUSTER', 'INFO'))
    if (info.includes('cluster_slots_assigned:0')) await this.command('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
    while (!String(await this.command('CLUSTER', 'INFO')).includes('cluster_state:ok')) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /** Ends it, and waits for that: by SIGTERM as a person would, by SIGKILL as an accident. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#admin?.disconnect()
    this.#admin = undefined
    const program = this.#program
    this.#program = undefined
    await program?.stop(signal)
  }

  /** It keeps its connections, and answers no more. */
  pause(): void {
    this.#program?.child.kill('SIGSTOP')
  }

  /** It goes on where it was. */
  resume(): void {
    this.#program?.child.kill('SIGCONT')
  }

  /** Sends a command, as another program would. */
  async command(name: string, ...args: (string | Buffer)[]): Promise<unknown> {
    this.#admin ??= new Redis({ port: this.port, host: '127.0.0.1', connectionName: 'admin' })
    return this.#admin.call(name, ...args)
  }

  /** How many clients are connected, this one not counted. */
  async countClients(): Promise<number> {
    const list = String(await this.command('CLIENT', 'LIST'))
    return list.split('\n').filter((line) => line !== '' && !line.includes('name=admin')).length
  }

  /** The channels that somebody has subscribed to, those of sharded Pub/Sub included. */
  async channels(): Promise<string[]> {
    const channels = (await this.command('PUBSUB', 'CHANNELS')) as string[]
    const shardChannels = (await this.command('PUBSUB', 'SHARDCHANNELS')) as string[]
    return [...channels, ...shardChannels].sort()
  }

  async remove(): Promise<void> {
    this.resume()
    await this.stop('SIGKILL')
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** A server that runs. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'fullduplex-redis-'))
  const [port, busPort] = await freePorts(2)
  const server = new RedisServer(port!, busPort!, folder, options)
  onTestFinished(() => server.remove())
  await server.start()
  return server
}
