import type { Role } from '../../constants.ts'
import { type DeflateProfile, deflateProfile } from '../../deflate.ts'
import { type DeflateParameters, formatDeflateParameters, readDeflateParameters } from '../../extension.ts'
import { type Extension, parseExtensions } from '../../headers.ts'

/** The options of permessage-deflate that `ws` has. */
export interface PerMessageDeflateOptions {
  serverNoContextTakeover?: boolean | undefined
  clientNoContextTakeover?: boolean | undefined
  serverMaxWindowBits?: number | undefined
  clientMaxWindowBits?: number | undefined
  /** Of these, `level` and `memLevel` count: the rest is the engine's to choose. */
  zlibDeflateOptions?:
    | { level?: number | undefined; memLevel?: number | undefined; [option: string]: unknown }
    | undefined
  zlibInflateOptions?: { [option: string]: unknown } | undefined
  /** Messages of fewer bytes are not compressed, where there is no context takeover. Default 1,024. */
  threshold?: number | undefined
  /** Has no effect: small messages are compressed at once, large ones in the thread pool. */
  concurrencyLimit?: number | undefined
}

const NAME = 'permessage-deflate'
const DEFAULT_THRESHOLD = 1_024
/** zlib's own default levels. */
const DEFAULT_LEVEL = 6
const DEFAULT_MEM_LEVEL = 8
const MAX_WINDOW_BITS = 15

/** What a client offers. */
export function formatOffer(options: PerMessageDeflateOptions): string {
  return formatDeflateParameters({
    serverNoContextTakeover: options.serverNoContextTakeover === true,
    clientNoContextTakeover: options.clientNoContextTakeover === true,
    serverMaxWindowBits: options.serverMaxWindowBits || undefined,
    clientMaxWindowBits: (options.clientMaxWindowBits ?? true) || undefined,
  })
}

/** What a server makes of a header with offers; undefined for none of ours in it. Throws when none can be met. */
export function acceptOffers(
  header: string,
  options: PerMessageDeflateOptions,
): { profile: DeflateProfile; response: string } | undefined {
  const offers = parseExtensions(header)
  if (offers === undefined) throw new Error('Invalid extensions header')
  const ours = offers
    .filter(({ name }) => name === NAME)
    .map((offer) => ({ offer, says: readDeflateParameters(offer) }))
  if (ours.length === 0) return undefined
  if (ours.some(({ says }) => says === undefined)) throw new Error('Invalid parameters')
  const accepted = ours.find(({ says }) => isAcceptable(says!, options))
  if (accepted === undefined) throw new Error('None of the extension offers can be accepted')
  const parameters = answer(accepted.says!, options)
  return { profile: makeProfile(parameters, options, 'server'), response: formatResponse(accepted.offer, parameters) }
}

/** The parameters in the order of the offer, and behind them what the server adds. */
function formatResponse(offer: Extension, parameters: DeflateParameters): string {
  const values = new Map<string, string | number | true | undefined>([
    ['server_no_context_takeover', parameters.serverNoContextTakeover || undefined],
    ['client_no_context_takeover', parameters.clientNoContextTakeover || undefined],
    ['server_max_window_bits', parameters.serverMaxWindowBits],
    ['client_max_window_bits', parameters.clientMaxWindowBits],
  ])
  const names = new Set([...offer.parameters.map(([name]) => name), ...values.keys()])
  const said = [...names].filter((name) => values.get(name) !== undefined)
  return [NAME, ...said.map((name) => (values.get(name) === true ? name : `${name}=${values.get(name)}`))].join('; ')
}

function isAcceptable(offer: DeflateParameters, options: PerMessageDeflateOptions): boolean {
  const { serverMaxWindowBits, clientMaxWindowBits } = options as Record<string, unknown>
  if (options.serverNoContextTakeover === false && offer.serverNoContextTakeover) return false
  if (offer.serverMaxWindowBits !== undefined) {
    if (serverMaxWindowBits === false) return false
    if (typeof serverMaxWindowBits === 'number' && serverMaxWindowBits > offer.serverMaxWindowBits) return false
  }
  if (typeof clientMaxWindowBits !== 'number') return true
  const offered = offer.clientMaxWindowBits
  return offered === true || (offered !== undefined && clientMaxWindowBits <= offered)
}

function answer(offer: DeflateParameters, options: PerMessageDeflateOptions): DeflateParameters {
  const { serverMaxWindowBits, clientMaxWindowBits } = options as Record<string, unknown>
  const offeredBits = offer.clientMaxWindowBits
  return {
    serverNoContextTakeover: offer.serverNoContextTakeover || options.serverNoContextTakeover === true,
    clientNoContextTakeover: offer.clientNoContextTakeover || options.clientNoContextTakeover === true,
    serverMaxWindowBits: typeof serverMaxWindowBits === 'number' ? serverMaxWindowBits : offer.serverMaxWindowBits,
    clientMaxWindowBits:
      typeof clientMaxWindowBits === 'number'
        ? clientMaxWindowBits
        : offeredBits === true || clientMaxWindowBits === false
          ? undefined
          : offeredBits,
  }
}

/** What the server's answer to an offer means; throws for one that does not fit it. */
export function acceptAnswer(header: string, options: PerMessageDeflateOptions): DeflateProfile | undefined {
  const chosen = parseExtensions(header)
  if (chosen === undefined) throw new Error('Invalid Sec-WebSocket-Extensions header')
  if (chosen.length === 0) return undefined
  if (chosen.some(({ name }) => name !== NAME)) throw new Error('Server indicated an extension that was not requested')
  const parameters = readDeflateParameters(chosen[0]!)
  if (parameters === undefined || !fits(parameters, options)) throw new Error('Invalid Sec-WebSocket-Extensions header')
  return makeProfile(parameters, options, 'client')
}

function fits(parameters: DeflateParameters, options: PerMessageDeflateOptions): boolean {
  const { clientMaxWindowBits } = options as Record<string, unknown>
  if (options.clientNoContextTakeover === false && parameters.clientNoContextTakeover) return false
  const bits = parameters.clientMaxWindowBits
  if (bits === true) return false
  if (bits === undefined) return true
  return clientMaxWindowBits !== false && !(typeof clientMaxWindowBits === 'number' && bits > clientMaxWindowBits)
}

function makeProfile(parameters: DeflateParameters, options: PerMessageDeflateOptions, role: Role): DeflateProfile {
  const { level = DEFAULT_LEVEL, memLevel = DEFAULT_MEM_LEVEL } = options.zlibDeflateOptions ?? {}
  const clientBits = parameters.clientMaxWindowBits
  const ownNoTakeover = role === 'server' ? parameters.serverNoContextTakeover : parameters.clientNoContextTakeover
  return deflateProfile(
    {
      serverNoContextTakeover: parameters.serverNoContextTakeover,
      clientNoContextTakeover: parameters.clientNoContextTakeover,
      serverMaxWindowBits: parameters.serverMaxWindowBits ?? MAX_WINDOW_BITS,
      clientMaxWindowBits:
        clientBits === undefined || clientBits === true
          ? role === 'client' && typeof options.clientMaxWindowBits === 'number'
            ? options.clientMaxWindowBits
            : MAX_WINDOW_BITS
          : clientBits,
    },
    {
      // With its context a message is worth compressing at any size.
      threshold: ownNoTakeover ? (options.threshold ?? DEFAULT_THRESHOLD) : 0,
      level,
      memLevel,
      evenIfLarger: true,
    },
    role,
  )
}

/** Refuses at once what zlib would refuse when the first message is compressed. */
export function checkDeflateOptions(options: boolean | PerMessageDeflateOptions | undefined): void {
  if (typeof options !== 'object' || options === null) return
  const { level, memLevel } = options.zlibDeflateOptions ?? {}
  checkRange('level', level, -1, 9)
  checkRange('memLevel', memLevel, 1, 9)
}

function checkRange(name: string, value: number | undefined, from: number, to: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= from && value <= to)) return
  throw new RangeError(`The option zlibDeflateOptions.${name} must be a whole number from ${from} to ${to}`)
}
