// fullduplex as it is published: the compiled files, no loader. FULLDUPLEX_DIST is another build than ../../dist/, for
// comparing two of them.
import { pathToFileURL } from 'node:url'

const { FULLDUPLEX_DIST } = process.env
const dist = FULLDUPLEX_DIST ? pathToFileURL(`${FULLDUPLEX_DIST}/`) : new URL('../../dist/', import.meta.url)

export const { WebSocketServer } = await import(new URL('index.js', dist).href)

/** The drop-in for ws. */
export const importDropIn = () => import(new URL('compat/ws.js', dist).href)

/** A driver: `redis`, `nats`. */
export const importCluster = (name) => import(new URL(`cluster/${name}.js`, dist).href)
