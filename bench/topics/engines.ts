// Redis and NATS, started for the occasion: on a free port of 127.0.0.1, in a temporary folder, with nothing on disk.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { pinned } from '../processes.ts'
import { places } from './placement.ts'

export type EngineName = 'redis' | 'nats'

interface Kind {
  program: string
  /** Debian's package. */
  install: string
  arguments(port: number, folder: string): string[]
  /** What it says when it takes connections. */
  ready: string
}

const kinds: Record<EngineName, Kind> = {
  redis: {
    program: 'redis-server',
    install: 'apt-get install redis-server',
    arguments: (port, folder) => [
      ...['--port', `${port}`, '--bind', '127.0.0.1', '--dir', folder],
      ...['--save', '', '--appendonly', 'no'],
    ],
    ready: 'Ready to accept connections',
  },
  nats: {
    program: 'nats-server',
    install: 'apt-get install nats-server',
    arguments: (port) => ['--addr', '127.0.0.1', '--port', `${port}`],
    ready: 'Server is ready',
  },
}

// Where Debian puts it is not in everybody's PATH.
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin` }

/** What has to go if the benchmark ends halfway. */
const running = new Map<ChildProcess, string>()
process.once('exit', () => {
  for (const [child, folder] of running) {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
})

export class Engine {
  readonly port: number
  /** Program and version. */
  readonly about: string
  readonly #child: ChildProcess
  readonly #folder: string

  private constructor(child: ChildProcess, port: number, folder: string, about: string) {
    this.#child = child
    this.port = port
    this.#folder = folder
    this.about = about
    running.set(child, folder)
  }

  /** @throws Error that says why there is none, and how to get it. */
  static async start(name: EngineName): Promise<Engine> {
    const kind = kinds[name]
    const version = spawnSync(kind.program, ['--version'], { env, encoding: 'utf8' })
    if (version.status !== 0) throw new Error(`${kind.program} is not installed (${kind.install})`)
    const number = /\d+\.\d+\.\d+/.exec(version.stdout + version.stderr)?.[0] ?? ''
    const folder = mkdtempSync(join(tmpdir(), 'bench-'))
    const port = await freePort()
    const args = [kind.program, ...kind.arguments(port, folder)]
    const line = pinned ? ['taskset', '-c', String(places.engine), ...args] : args
    const child = spawn(line[0]!, line.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const engine = new Engine(child, port, folder, `${kind.program} ${number}`)
    try {
      await saying(child, kind.ready)
    } catch (error) {
      await engine.stop()
      throw error
    }
    return engine
  }

  /** CPU time of all its threads in microseconds; NaN where the system does not tell. */
  cpuMicros(): number {
    try {
      const tasks = `/proc/${this.#child.pid}/task`
      const nanos = readdirSync(tasks).map((task) =>
        Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]),
      )
      return nanos.reduce((sum, each) => sum + each, 0) / 1000
    } catch {
      return Number.NaN
    }
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child.exitCode === null && child.signalCode === null) {
      const exit = once(child, 'exit')
      child.kill('SIGKILL')
      await exit
    }
    running.delete(child)
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Resolves when it has said so; what it says later is read and forgotten. */
function saying(child: ChildProcess, words: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = ''
    const listen = (text: string) => {
      if (output.length < 65_536) output += text
      if (output.includes(words)) resolve()
    }
    child.stdout!.setEncoding('utf8').on('data', listen)
    child.stderr!.setEncoding('utf8').on('data', listen)
    child.once('error', reject)
    child.once('exit', () => reject(new Error(`it has ended: ${output.slice(-500)}`)))
  })
}
