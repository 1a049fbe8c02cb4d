import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

/*
 * Programs as processes of their own, which end with their test at the latest.
 */

/** The project's folder. */
export const ROOT: string = fileURLToPath(new URL('../..', import.meta.url))

/** How a process ended: by a code, or by a signal. */
export type Exit = number | NodeJS.Signals

export class Program {
  readonly child: ChildProcess
  /** The process has ended; its output may still come. */
  readonly exited: Promise<Exit>
  /** Everything that it wrote so far. */
  output = ''
  errorOutput = ''
  readonly #closed: Promise<unknown>
  readonly #readers = new Set<() => void>()

  constructor(child: ChildProcess) {
    this.child = child
    this.#closed = once(child, 'close')
    this.exited = once(child, 'exit').then(([code, signal]) => (code ?? signal) as Exit)
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.output += text
      for (const read of this.#readers) read()
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errorOutput += text
    })
    child.stdin?.on('error', () => {}) // a line for a program that is gone
  }

  /** Whole lines of the output so far. */
  get lines(): string[] {
    return this.output.split('\n').slice(0, -1)
  }

  /** The first line of the output that has this in it, as soon as it is there. */
  async line(wanted: string | RegExp): Promise<string> {
    const find = (): string | undefined =>
      this.lines.find((line) => (typeof wanted === 'string' ? line.includes(wanted) : wanted.test(line)))
    let found = find()
    while (found === undefined) {
      const gone = await Promise.race([this.#more(), this.#closed])
      found = find()
      if (found === undefined && gone !== undefined) {
        throw new Error(`the program ended without the line ${wanted}:\n${this.output}${this.errorOutput}`)
      }
    }
    return found
  }

  /** A line on its standard input. */
  type(line: string): void {
    this.child.stdin!.write(`${line}\n`)
  }

  /** Sends the signal and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<Exit> {
    this.child.kill(signal)
    return this.exited
  }

  /** The end of the process and of its output. */
  async closed(): Promise<Exit> {
    await this.#closed
    return this.exited
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      const read = (): void => {
        this.#readers.delete(read)
        resolve()
      }
      this.#readers.add(read)
    })
  }
}

/** Starts a program in the project's folder. */
export function startProgram(command: string, args: readonly string[], options: SpawnOptions = {}): Program {
  const program = new Program(spawn(command, args, { cwd: ROOT, ...options }))
  onTestFinished(async () => {
    const { child } = program
    if (child.exitCode === null && child.signalCode === null) await program.stop('SIGKILL')
  })
  return program
}

/** Starts a TypeScript file with Node, as `npm start` does. */
export function startScript(file: string, args: readonly string[] = [], options: SpawnOptions = {}): Program {
  return startProgram(process.execPath, ['--import', 'tsx', file, ...args], options)
}

/** The main job, as `npm start` starts it. */
export function startMain(...args: string[]): Program {
  return startScript('src/cli/main.ts', args)
}

/** The address that the main job prints; it is the first line. */
export async function addressOf(program: Program): Promise<URL> {
  return new URL((await program.line(/^/)).replace('Open ', ''))
}
