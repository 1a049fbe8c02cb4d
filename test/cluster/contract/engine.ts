import type { Backplane } from '../../../src/index.ts'
import { openNode, openPlane, type Plane, type PlaneNode, type PlaneOptions } from '../../support/planes.ts'

/*
 * What carries messages between processes, and keeps histories, does the same whatever it is. The tests of that are
 * written once, for an engine: an object that says how to start it, and how it names things. What an engine alone can do
 * is in its own file.
 */

/** How a backplane is made that is not as usual. */
export interface AccessOptions {
  readonly prefix?: string
  readonly pingIntervalMs?: number
  readonly pingTimeoutMs?: number
  /** It does not hear what it publishes itself, where the engine can be told so. */
  readonly noEcho?: boolean
  /** The client does not send again what had no answer, where it would. */
  readonly neverResends?: boolean
}

/** The way of one process to an engine. */
export interface Access {
  /** It was not started yet. */
  readonly backplane: Backplane
}

/** How an engine is started that is not as usual. */
export interface EngineOptions {
  /** It has after an end by SIGTERM or SIGKILL what it had before it; as a rule, or whatever the moment. Default: nothing. */
  readonly keeps?: 'usually' | 'always'
}

/** An engine that runs; it ends with the test. */
export interface RunningEngine<Way extends Access = Access> {
  /** A way of its own, as another process would have it. */
  access(options?: AccessOptions): Promise<Way>
  /** Starts it again, where it was, with what it has kept. */
  start(): Promise<void>
  stop(signal?: NodeJS.Signals): Promise<void>
}

export interface Engine<Running extends RunningEngine = RunningEngine> {
  start(options?: EngineOptions): Promise<Running>
}

/** A server with one client, with a way of its own. */
export async function startNode<Way extends Access>(
  running: RunningEngine<Way>,
  { server, awaitUp, ...options }: AccessOptions & PlaneOptions = {},
): Promise<PlaneNode & { readonly way: Way }> {
  const way = await running.access(options)
  return { way, ...(await openNode(way.backplane, { server, awaitUp })) }
}

/** The backplane alone, with a way of its own. */
export async function startPlane(running: Pick<RunningEngine, 'access'>, options?: AccessOptions): Promise<Plane> {
  const { backplane } = await running.access(options)
  return openPlane(backplane)
}

export function numbers(count: number, from = 1): number[] {
  return Array.from({ length: count }, (_, index) => from + index)
}
