import { createServer } from 'node:http'

/*
 * What programs say: lines that must be the same with both implementations, and whose objects they were handling.
 */

const ours = (await import(process.env.COMPAT_MODULE)).default

export function say(...values) {
  console.log(values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(' '))
}

/** @param socket a WebSocket that the program got from a package. */
export function sayWhose(where, socket) {
  if (typeof socket?.send !== 'function') throw new Error(`${where}: no WebSocket`)
  console.log(`using ${where}: ${socket instanceof ours ? 'fullduplex' : 'the original'}`)
}

/** The class of the package itself. */
export function sayWhoseClass(where, type) {
  console.log(`using ${where}: ${type === ours ? 'fullduplex' : 'the original'}`)
}

/** Listens on a free port of this machine. */
export async function listen(server = createServer()) {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { server, port: server.address().port }
}

export function next(emitter, event) {
  return new Promise((resolve) => emitter.once(event, (...values) => resolve(values)))
}
