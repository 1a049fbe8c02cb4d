/*
 * What Electron's contextBridge does with a value that goes from one world of a page to the other: functions are called from
 * afar, promises are awaited from afar, of an error its message arrives, symbols are left out, and everything else is copied.
 * Prototypes and getters get lost there; here they throw, so that a test notices. One function with nothing around it, so that
 * its text can be run in a browser.
 */

/** A value as the other world gets it. */
export function copyAcross(value: unknown): unknown {
  if (typeof value === 'symbol') return undefined
  if (typeof value === 'function') {
    if (Object.keys(value).length > 0) throw new TypeError('properties of a function cannot cross')
    return (...values: unknown[]) => {
      try {
        return copyAcross(value(...values.map(copyAcross)))
      } catch (error) {
        throw new Error((error as Error).message)
      }
    }
  }
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Promise) {
    return value.then(copyAcross, (error: Error) => {
      throw new Error(error.message)
    })
  }
  if (value instanceof Error) return new Error(value.message)
  if (Array.isArray(value)) return value.map(copyAcross)
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) {
    const isCloneable = value instanceof ArrayBuffer || ArrayBuffer.isView(value) || value instanceof Date
    if (isCloneable) return structuredClone(value)
    throw new TypeError('an object of a class cannot cross')
  }
  return Object.fromEntries(
    Object.entries(Object.getOwnPropertyDescriptors(value)).map(([name, property]) => {
      if (property.get !== undefined || property.set !== undefined)
        throw new TypeError(`the getter ${name} cannot cross`)
      return [name, copyAcross(property.value)]
    }),
  )
}
