import type { DeflateProfile } from '../../deflate.ts'
import { MessageDeflate } from '../../deflate.ts'
import { parseExtensions, parseSubprotocols } from '../../headers.ts'
import { acceptAnswer, acceptOffers, formatOffer, type PerMessageDeflateOptions } from './extension.ts'

/*
 * What ws exports of its negotiation, for programs that do it themselves.
 */

/** Values of one parameter, `true` for one without a value. */
type Parameters = Record<string, (string | number | true)[]>

/** `Sec-WebSocket-Extensions` as an object, and back. */
export const extension = {
  /** @throws SyntaxError for what does not fit the grammar (RFC 6455 §9.1). */
  parse(header: string): Record<string, Parameters[]> {
    const extensions = parseExtensions(header)
    if (extensions === undefined) throw new SyntaxError('Unexpected character or end of input')
    const parsed: Record<string, Parameters[]> = Object.create(null)
    for (const { name, parameters } of extensions) {
      const values: Parameters = Object.create(null)
      for (const [parameter, value] of parameters) (values[parameter] ??= []).push(value)
      ;(parsed[name] ??= []).push(values)
    }
    return parsed
  },

  format(extensions: Readonly<Record<string, unknown>>): string {
    const elements = Object.entries(extensions).flatMap(([name, configurations]) =>
      listOf(configurations).map((parameters) => [name, ...formatParameters(parameters as object)].join('; ')),
    )
    return elements.join(', ')
  },
}

function formatParameters(parameters: object): string[] {
  return Object.entries(parameters).flatMap(([name, values]) =>
    listOf(values).map((value) => (value === true ? name : `${name}=${value}`)),
  )
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [value]
}

/** `Sec-WebSocket-Protocol` as a set. */
export const subprotocol = {
  /** @throws SyntaxError for anything but a list of tokens, none twice. */
  parse(header: string): Set<string> {
    const subprotocols = parseSubprotocols(header)
    if (subprotocols === undefined) throw new SyntaxError('Unexpected character or end of input')
    return new Set(subprotocols)
  },
}

const NAME = 'permessage-deflate'

type Callback = (error: Error | null, data?: Buffer) => void

/** permessage-deflate for a program that negotiates it, and compresses, by itself. */
export class PerMessageDeflate {
  readonly #options: PerMessageDeflateOptions & { readonly isServer?: boolean; readonly maxPayload?: number }
  readonly #fragments: Buffer[] = []
  #deflate: MessageDeflate | undefined
  #isFirst = true
  /** What was agreed on. */
  params: Record<string, string | number | true> | null = null

  constructor(options: PerMessageDeflateOptions & { readonly isServer?: boolean; readonly maxPayload?: number } = {}) {
    this.#options = options
  }

  static get extensionName(): string {
    return NAME
  }

  /** @internal */
  get profile(): DeflateProfile | undefined {
    return this.#deflate?.profile
  }

  /** Parameters of an offer, for `extension.format`. */
  offer(): Record<string, string | number | true> {
    return single(extension.parse(formatOffer(this.#options))[NAME]![0]!)
  }

  /** Takes the offers of a client, or the answer of a server, as `extension.parse` gives them; throws when it cannot. */
  accept(configurations: readonly object[]): Record<string, string | number | true> {
    const header = extension.format({ [NAME]: configurations })
    const { profile, response } =
      this.#options.isServer === true
        ? acceptOffers(header, this.#options)!
        : { profile: acceptAnswer(header, this.#options)!, response: header }
    this.#deflate = new MessageDeflate(profile)
    this.params = single(extension.parse(response)[NAME]![0]!)
    return this.params
  }

  /** Compresses a message, or the next fragment of one. */
  compress(data: Buffer | string, fin: boolean, callback: Callback): void {
    const isFirst = this.#isFirst
    this.#isFirst = fin
    const compressed = this.#agreed().compressFragment(Buffer.from(data as string), isFirst, fin)
    process.nextTick(callback, null, compressed)
  }

  /** Inflates a message; of one in fragments everything comes with the last. */
  decompress(data: Buffer, fin: boolean, callback: Callback): void {
    this.#fragments.push(data)
    if (!fin) {
      process.nextTick(callback, null, Buffer.alloc(0))
      return
    }
    const { maxPayload = 0 } = this.#options
    const payload = Buffer.concat(this.#fragments.splice(0))
    this.#agreed().inflateLater(payload, maxPayload || Number.POSITIVE_INFINITY, (error, inflated) => {
      if (error === undefined) callback(null, inflated)
      else callback(error as Error)
    })
  }

  /** Forgets what messages could refer to. */
  cleanup(): void {
    this.#deflate = this.#deflate && new MessageDeflate(this.#deflate.profile)
    this.#fragments.length = 0
    this.#isFirst = true
  }

  #agreed(): MessageDeflate {
    if (this.#deflate === undefined) throw new Error('Nothing was agreed on: call accept() first')
    return this.#deflate
  }
}

/** Each parameter with its one value; windows as numbers. */
function single(parameters: Parameters): Record<string, string | number | true> {
  return Object.fromEntries(
    Object.entries(parameters).map(([name, [value]]) => [name, value === true ? true : Number(value)]),
  )
}
