// Child processes that answer one question at a time over IPC.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'

const TASKSET = 'taskset'

/** The cores of the server and of the load, where they can be told apart. */
export const cores = { server: 0, load: 1 }
export const pinned =
  process.platform === 'linux' &&
  availableParallelism() >= 2 &&
  spawnSync(TASKSET, ['-c', `${cores.server},${cores.load}`, 'true']).status === 0

interface Answer {
  ready?: true
  port?: number
  about?: string
  result?: unknown
  error?: string
}

export interface Program {
  command: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
  core: number
}

export class Child {
  /** What the program said when it was ready. */
  readonly port: number
  readonly about: string
  readonly #process: ChildProcess

  private constructor(process: ChildProcess, answer: Answer) {
    this.#process = process
    this.port = answer.port ?? 0
    this.about = answer.about ?? ''
  }

  static async start(program: Program): Promise<Child> {
    const { command, args, core } = program
    const line = pinned ? [TASKSET, '-c', String(core), command, ...args] : [command, ...args]
    const child = spawn(line[0]!, line.slice(1), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, ...program.env },
    })
    return new Child(child, await answerOf(child))
  }

  async ask<Result>(question: object): Promise<Result> {
    const answer = answerOf(this.#process)
    this.#process.send(question)
    const { result, error } = await answer
    if (error !== undefined) throw new Error(error)
    return result as Result
  }

  /** It ends by itself when its channel is closed; if it is too busy for that, it is killed. */
  async stop(): Promise<void> {
    const child = this.#process
    if (child.exitCode !== null || child.signalCode !== null) return
    const exit = new Promise((resolve) => child.once('exit', resolve))
    const timer = setTimeout(() => child.kill('SIGKILL'), 1000)
    if (child.connected) child.disconnect()
    await exit
    clearTimeout(timer)
  }
}

function answerOf(child: ChildProcess): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const settle = (outcome: () => void) => {
      child.off('message', onMessage)
      child.off('error', onError)
      child.off('exit', onExit)
      outcome()
    }
    const onMessage = (message: Answer) => settle(() => resolve(message))
    const onError = (error: Error) => settle(() => reject(error))
    const onExit = (code: number | null, signal: string | null) =>
      settle(() => reject(new Error(`the process ended (${signal ?? code})`)))
    child.on('message', onMessage)
    child.on('error', onError)
    child.on('exit', onExit)
  })
}
