import Module, { register } from 'node:module'
import { fileURLToPath } from 'node:url'

/*
 * Loaded first, by --import: from here on every `import 'ws'` and `require('ws')` of any package is the module in
 * COMPAT_MODULE.
 */

const url = process.env.COMPAT_MODULE

const resolveFilename = Module._resolveFilename
Module._resolveFilename = function (request, ...rest) {
  return request === 'ws' ? fileURLToPath(url) : resolveFilename.call(this, request, ...rest)
}

const hooks = `export const resolve = (specifier, context, next) =>
  specifier === 'ws' ? { url: ${JSON.stringify(url)}, format: 'module', shortCircuit: true } : next(specifier, context)`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)
