/*
 * Names of modules and endpoints, as texts: nothing here looks at files.
 */

/** A name without what makes no difference: the slash before it, the `.js` behind it. */
export function canonicalName(name: string): string {
  const start = name.startsWith('/') ? 1 : 0
  return name.slice(start, name.endsWith('.js') ? -'.js'.length : undefined)
}

/** Whether this names a module by its whole path in the folder: no way up, no second spelling, nothing encoded. */
export function isPlainName(name: string): boolean {
  const path = name.startsWith('/') ? name.slice(1) : name
  return path.split('/').every((segment) => segment !== '.' && segment !== '..' && isPlainSegment(segment))
}

/** Not empty, and without what separates, encodes or ends a path somewhere. */
function isPlainSegment(segment: string): boolean {
  return segment !== '' && ![...segment].some((char) => char < ' ' || char === '\x7f' || '\\%?#:*"<>|'.includes(char))
}

/** The characters that a URL has as they are (RFC 3986 §2.3), so that a path needs no decoding. */
const UNRESERVED = /^[A-Za-z0-9._~-]+$/

/** Whether this can stand in the path of an address: `my-endpoint`, `rooms/green`. */
export function isEndpointName(name: string): boolean {
  return name.split('/').every((segment) => segment !== '.' && segment !== '..' && UNRESERVED.test(segment))
}
