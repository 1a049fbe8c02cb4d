import type { Child } from '../processes.ts'
import type { Options } from './options.ts'
import type { Outcome } from './report.ts'
import type { Server } from './servers.ts'

/** What all parts need. */
export interface Context {
  options: Options
  load: Child
  /** A sentence for the report, about what is left out or other than usual. Each is said once. */
  note(sentence: string): void
  /** A workload is done. */
  report(outcome: Outcome): void
}

/** Whether a workload was asked for. */
export const isWanted = ({ options }: Context, name: string): boolean => options.workloads?.includes(name) ?? true

export function selected<S extends Server>({ options }: Context, servers: readonly S[]): S[] {
  return servers.filter(({ name }) => options.servers?.includes(name) ?? true)
}
