import type { Workload } from '../workloads.ts'

/** What rounds.ts asks of the load process, one thing at a time. */
export type LoadRequest =
  | { ask: 'open'; port: number; workload: Workload; verify: boolean }
  | { ask: 'run'; seconds: number; amount?: number }
  | { ask: 'close' }

export interface RunResult {
  /** Messages answered, deliveries, handshakes, pieces. */
  units: number
  seconds: number
  /** CPU time of the load process. */
  cpuMicros: number
  /** Where they are counted: bytes of the frames to the server, and from it. */
  wire?: Wire | undefined
}

export interface Wire {
  to: number
  from: number
}

/** One kind of load against one server. */
export interface Driver {
  /** Of the latest run, where frames are counted. */
  readonly wire?: Wire
  open(): Promise<void>
  /**
   * Works for so many seconds, and on until the last answer is there: afterwards nothing is under way and the result
   * is exact. `amount` is for the kinds of load that have a size instead of a duration.
   */
  run(seconds: number, amount?: number): Promise<number>
  close(): void
}
