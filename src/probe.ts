import { UsageError } from './errors.ts'
import { type HttpAnswer, type HttpRequest, splitTarget } from './handshake.ts'
import { isToken } from './headers.ts'
import type { RequestHead } from './http-head.ts'

/*
 * A page sees of a refused WebSocket only that it is refused. So a server with a name answers a plain request for a
 * fixed path as well: which app it is, and whether it takes the token. That is for pages whose Origin may connect;
 * others get the ordinary refusal, which they cannot read, and learn no more than that something listens.
 */

/** Where a page asks which app listens here (RFC 8615). */
export const PROBE_PATH = '/.well-known/fullduplex'

/** Taken by a server with a name behind its own subprotocols: something to choose beside `bearer.<token>`. */
export const APP_SUBPROTOCOL = 'fullduplex'

const PLAIN_METHODS: readonly string[] = ['GET', 'HEAD']
const PROBE_METHODS: readonly string[] = [...PLAIN_METHODS, 'OPTIONS']

/** Refuses a name that could not stand everywhere. */
export function checkAppName(app: unknown): void {
  if (app !== undefined && (typeof app !== 'string' || !isToken(app))) {
    throw new UsageError('ERR_OPTION', 'the option app must be a name like my-app: letters, digits, and - . _')
  }
}

/** The methods that a request may have: for the probe also that of a CORS preflight. */
export function allowedMethods({ target }: RequestHead, app: string | undefined): readonly string[] {
  return app !== undefined && splitTarget(target).path === PROBE_PATH ? PROBE_METHODS : PLAIN_METHODS
}

/** Whether this request is for the probe. */
export function isProbe(request: HttpRequest): boolean {
  return request.path === PROBE_PATH && !request.isUpgrade
}

/** Lets the page that asks read the answer. Its Origin has been found to be right. */
export function corsFields({ origin }: HttpRequest): Record<string, string> {
  const fields: Record<string, string> = { Vary: 'Origin', 'Cache-Control': 'no-store' }
  if (origin !== undefined) fields['Access-Control-Allow-Origin'] = origin
  return fields
}

/**
 * Answers somebody whose Host and Origin are right, and who has presented the right token or none. `token` is `right`,
 * `missing`, or `none` where the server has none.
 */
export function answerProbe(app: string, request: HttpRequest, hasToken: boolean): HttpAnswer {
  const headers = corsFields(request)
  if (request.method === 'OPTIONS') return { status: 204, headers: { ...headers, ...preflightFields(request) } }
  // Any page may ask without being able to read, and only sees that there is an answer; some browsers hide one of JSON.
  if (request.headers.get('sec-fetch-mode') === 'no-cors') return { status: 204, headers }
  const token = request.authenticated ? 'right' : hasToken ? 'missing' : 'none'
  headers['Content-Type'] = 'application/json'
  headers['X-Content-Type-Options'] = 'nosniff'
  return { headers, body: JSON.stringify({ app, token }) }
}

/** What a page may send along, and, for browsers that ask, that it may send it to this computer. */
function preflightFields({ headers }: HttpRequest): Record<string, string> {
  const fields: Record<string, string> = { 'Access-Control-Allow-Headers': 'authorization' }
  for (const network of ['Private-Network', 'Local-Network']) {
    if (headers.get(`access-control-request-${network.toLowerCase()}`) === 'true') {
      fields[`Access-Control-Allow-${network}`] = 'true'
    }
  }
  return fields
}
