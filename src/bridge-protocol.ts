import type { Api } from './api.ts'
import { UsageError } from './errors.ts'
import { asError } from './handlers.ts'
import { unknownOption } from './nearest.ts'

/*
 * What the two sides of a bridge have in common:
 *
 *   channel          page → main   connect | listen names | call name values | done sequence; each with the page's id
 *   channel:event    main → page   page, sequence, name, values
 *
 * Each invocation is answered with an `Answer`.
 */

/** The side that has the api. `Call` is what the transport tells of a call, such as Electron's event. */
export interface MainPort<Call> {
  /** Answers what is invoked on a channel with what the promise gives. Returns the function that ends it. */
  handle(channel: string, answer: (call: Call, ...values: unknown[]) => Promise<unknown>): () => void
  /** Sends to the page that a call has come from. */
  send(call: Call, channel: string, ...values: unknown[]): void
  /** Tells windows apart: the same value for all calls of one window. Default: there is only one. */
  windowOf?(call: Call): unknown
  /** Calls back when the window of a call is gone. Returns the function that ends it. Default: no window ever goes. */
  onGone?(call: Call, gone: () => void): () => void
}

/** The side of the page. */
export interface PagePort {
  /** Asks the main side, and gives its answer. */
  invoke(channel: string, ...values: unknown[]): Promise<unknown>
  /** Hears what the main side sends. Returns the function that ends it. */
  on(channel: string, listener: (...values: unknown[]) => void): () => void
}

/** The functions of the facade that are exposed unless `names` says otherwise: all that a page has a use for. */
export const FACADE_NAMES = [
  'startServer',
  'stopServer',
  'broadcast',
  'send',
  'getServer',
  'joinRoom',
  'leaveRoom',
  'getRooms',
  'onClientConnected',
  'onClientDisconnected',
  'onMessage',
] as const

/** These functions, as `createApi()` gives them. */
export type FacadeFunctions = Pick<Api, (typeof FACADE_NAMES)[number]>

/** The names of the functions of an api. */
export type FunctionName<Exposed> = {
  [Name in keyof Exposed & string]: Exposed[Name] extends (...values: never[]) => unknown ? Name : never
}[keyof Exposed & string]

/** `on...`, with a capital behind it, is an event: it takes a listener and returns the function that ends the subscription. */
type IsEvent<Name> = Name extends `on${infer Letter}${string}`
  ? Letter extends Uppercase<Letter>
    ? true
    : false
  : false

/** An api as the other side has it: its functions give promises, its events the function that ends the subscription. */
export type Bridged<Exposed> = {
  [Name in FunctionName<Exposed>]: Exposed[Name] extends (...values: infer Values) => infer Result
    ? (...values: Values) => IsEvent<Name> extends true ? () => void : Promise<Awaited<Result>>
    : never
}

/** Options of both sides. */
export interface BridgeOptions {
  /** Tells several bridges apart; the same on both sides. Default `fullduplex`. */
  readonly channel?: string | undefined
  /** What nobody else is told of: a listener that fails, an event that cannot be sent. */
  readonly error?: ((error: Error) => unknown) | undefined
}

/** For another api than the facade: which of its functions there are. */
export interface BridgedNames<Exposed> {
  readonly names: readonly FunctionName<Exposed>[]
}

/** Default of `channel`. */
export const DEFAULT_CHANNEL = 'fullduplex'
const COMMON_OPTIONS = ['names', 'channel', 'error']

/** A function of an api, or a listener. */
export type AnyFunction = (...values: unknown[]) => unknown

/** What comes back from the main side: it never rejects, for transports put words of their own around an error. */
export type Answer = { readonly value: unknown } | { readonly error: ErrorParts }

/** What is left of an error. */
export interface ErrorParts {
  readonly name: string
  readonly message: string
  readonly code?: string
}

/** Refuses options that neither both sides have nor this one (`own`), and values that cannot be. */
export function checkBridgeOptions(options: object, own: readonly string[]): void {
  const known = [...COMMON_OPTIONS, ...own]
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name)) throw unknownOption(name, known)
    if (value === undefined) continue
    if (name === 'channel' && (typeof value !== 'string' || value === '')) {
      throw new UsageError('ERR_OPTION', 'the option channel must be a string that is not empty')
    }
    if (name === 'answerTimeoutMs' && !(typeof value === 'number' && value >= 1 && value <= 0x7fffffff)) {
      throw new UsageError('ERR_OPTION', 'the option answerTimeoutMs must be a number from 1 to 2147483647')
    }
    if (['error', 'allow', 'failure'].includes(name) && typeof value !== 'function') {
      throw new UsageError('ERR_OPTION', `the option ${name} must be a function`)
    }
  }
}

/** Names that every object has are none of an api. */
export function checkNames(names: readonly string[]): readonly string[] {
  const valid = Array.isArray(names) && names.length > 0
  if (!valid || !names.every((name) => typeof name === 'string' && name !== '' && !(name in Object.prototype))) {
    throw new UsageError('ERR_OPTION', 'the option names must be a list of names of functions')
  }
  return [...names]
}

/** Whether the function takes a listener; see `IsEvent`. */
export function isEventName(name: string): boolean {
  const letter = name.charAt(2)
  return name.startsWith('on') && letter !== '' && letter === letter.toUpperCase()
}

/** What passes a structured clone of anything that was thrown. */
export function partsOf(thrown: unknown): ErrorParts {
  const { name, message, code } = asError(thrown) as NodeJS.ErrnoException
  return { name: String(name), message: String(message), ...(typeof code === 'string' && { code }) }
}

/** The error that such parts are of. */
export function errorOf({ name, message, code }: ErrorParts): Error {
  return Object.assign(new Error(message), code === undefined ? { name } : { name, code })
}
