import { readFileSync } from 'node:fs'
import { UsageError } from '../../errors.ts'
import type { Folder } from './folder.ts'
import { isEndpointName } from './names.ts'

/** What the files that describe an endpoint end with. */
const DESCRIPTOR_ENDING = '.websocket'

/** What such a file says. */
export interface Descriptor {
  /** The file, from the root on. */
  readonly path: string
  /** The file. */
  readonly file: string
  /** Name of the module that handles the endpoint's connections. */
  readonly handler: string
  /** Where the endpoint is served, below `/websockets/v4/service/`. */
  readonly endpoint: string
}

/**
 * The descriptors below a root.
 *
 * @throws UsageError `ERR_OPTION` that names the file and the field, for one that is not valid, or two of one endpoint.
 */
export function readDescriptors(folder: Folder): Descriptor[] {
  const descriptors = folder.list(DESCRIPTOR_ENDING).files.map((file) => readDescriptor(folder, file))
  const byEndpoint = new Map<string, Descriptor>()
  for (const descriptor of descriptors) {
    const other = byEndpoint.get(descriptor.endpoint)
    if (other !== undefined) {
      const message = `endpoint: ${other.path} has the endpoint ${descriptor.endpoint}, too`
      throw new UsageError('ERR_OPTION', `${descriptor.path}: ${message}`)
    }
    byEndpoint.set(descriptor.endpoint, descriptor)
  }
  return descriptors
}

function readDescriptor(folder: Folder, file: string): Descriptor {
  const path = folder.describe(file)
  const refuse = (why: string, cause?: unknown): UsageError =>
    new UsageError('ERR_OPTION', `${path}: ${why}`, cause === undefined ? undefined : { cause })
  const text = readFileSync(folder.realFile(file), 'utf8').replace(/^\uFEFF/, '')
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (cause) {
    throw refuse(`it is not JSON: ${(cause as Error).message}`, cause)
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) throw refuse('it is no JSON object')
  const { handler, endpoint, description = '' } = content as Readonly<Record<string, unknown>>
  if (typeof handler !== 'string' || handler === '') throw refuse('handler: it must be the name of a module')
  if (typeof endpoint !== 'string' || !isEndpointName(endpoint)) {
    throw refuse('endpoint: it must be a name of letters, digits and ._~-, or several with / between them')
  }
  if (typeof description !== 'string') throw refuse('description: it must be a text')
  return { path, file, handler, endpoint }
}
