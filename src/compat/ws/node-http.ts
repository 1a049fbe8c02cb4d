import type * as Http from 'node:http'
import type * as Https from 'node:https'

/*
 * An `import` of node:http reads all of its exports, among them the getters behind which Node has its own WebSocket:
 * 60 ms and 13 MB on Node 24, and a larger heap for every garbage collection. Besides, programs replace
 * `http.request`, so it has to be looked up when it is called.
 */

export const http: typeof Http = process.getBuiltinModule('node:http')
export const https: typeof Https = process.getBuiltinModule('node:https')
