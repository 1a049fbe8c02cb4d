// Which process runs on which core.
import { availableParallelism } from 'node:os'
import { pinned } from '../processes.ts'

const isRoomy = availableParallelism() >= 4

/** The process that publishes, the other one, the load, and the engine. */
export const places = { first: 0, second: isRoomy ? 2 : 0, load: 1, engine: isRoomy ? 3 : 1 }

export const placement = !pinned
  ? 'Nothing is pinned to a core.'
  : isRoomy
    ? 'Of several servers the first (and all that publish) is on core 0, the other on core 2; load on core 1; engine on core 3.'
    : 'All servers share core 0; load and engine share core 1.'
