// Several processes of one kind, with an engine between them.
import { Child } from '../processes.ts'
import { type Context, selected } from './context.ts'
import { Engine } from './engines.ts'
import type { Entry } from './rounds.ts'
import { type ClusterServer, clusterServers } from './servers.ts'

export interface Cluster {
  server: ClusterServer
  children: readonly Child[]
  engine: Engine
  entry: Entry
  stop(): Promise<void>
}

/** One for each kind that can be had, each with an engine of its own. `cores` has one for each process. */
export async function startClusters(context: Context, cores: readonly number[]): Promise<Cluster[]> {
  const clusters: Cluster[] = []
  for (const server of selected(context, clusterServers(context.options.node))) {
    let engine: Engine
    try {
      engine = await Engine.start(server.engine)
    } catch (error) {
      context.note(`${server.title} is left out: ${(error as Error).message}.`)
      continue
    }
    const children: Child[] = []
    const stop = async () => {
      await Promise.all(children.map((child) => child.stop()))
      await engine.stop()
    }
    try {
      const env = { ...server.program.env, ENGINE_PORT: String(engine.port), PREFIX: 'bench' }
      for (const core of cores) children.push(await Child.start({ ...server.program, core, env }))
    } catch (error) {
      context.note(`${server.title} is left out: ${(error as Error).message}.`)
      if (server.own) process.exitCode = 1
      await stop()
      continue
    }
    const entry = { server, about: `${children[0]!.about}, ${engine.about}`, samples: [], failures: [] }
    clusters.push({ server, children, engine, entry, stop })
  }
  return clusters
}
