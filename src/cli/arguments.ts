import { parseArgs } from 'node:util'

const DEFAULT_PORTS: readonly number[] = [50050, 50060, 50070, 50080, 50090, 50100, 50110, 50120]
const MIN_TOKEN_CHARACTERS = 16

export interface ServeOptions {
  readonly ports: readonly number[]
  readonly host?: string
  readonly token?: string
  readonly tlsFiles?: { readonly cert: string; readonly key: string }
}

export type Command = { action: 'serve'; options: ServeOptions } | { action: 'help' } | { action: 'version' }

/** The command line cannot be understood or obeyed: the caller's mistake, exit code 2. */
export class ArgumentError extends Error {
  override readonly name = 'ArgumentError'
}

export const HELP: string = `Usage: fullduplex [options]

Serves a page and a WebSocket on one port of this computer, and shows what happens on them.
Every line you type goes to all tabs. Ctrl-C stops.

Options:
  --ports <list>    the ports to try, in this order (default ${DEFAULT_PORTS.slice(0, 3).join(',')} and more; 0 = any)
  --host <address>  the address to listen on (default: 127.0.0.1 and ::1, this computer only)
  --token <token>   use this token, at least ${MIN_TOKEN_CHARACTERS} characters, instead of a new random one;
                    other users of this computer may see it in the list of processes
  --cert <file>     certificate (PEM) for https and wss, together with
  --key <file>      its private key (PEM)
  --help            show this text
  --version         show the version
`

const OPTIONS = {
  ports: { type: 'string' },
  host: { type: 'string' },
  token: { type: 'string' },
  cert: { type: 'string' },
  key: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'v' },
} as const

type OptionName = keyof typeof OPTIONS

export function parseArguments(args: readonly string[]): Command {
  const values = readOptions(args)
  if (values.has('help')) return { action: 'help' }
  if (values.has('version')) return { action: 'version' }

  const host = values.get('host')
  const token = values.get('token')
  const cert = values.get('cert')
  const key = values.get('key')
  if (token !== undefined && [...token].length < MIN_TOKEN_CHARACTERS) {
    throw new ArgumentError(`--token needs at least ${MIN_TOKEN_CHARACTERS} characters`)
  }
  if ((cert === undefined) !== (key === undefined)) throw new ArgumentError('--cert and --key only work together')
  return {
    action: 'serve',
    options: {
      ports: parsePorts(values.get('ports')),
      ...(host !== undefined && { host }),
      ...(token !== undefined && { token }),
      ...(cert !== undefined && key !== undefined && { tlsFiles: { cert, key } }),
    },
  }
}

// parseArgs only cuts the line into tokens here: its own messages are written for programmers.
function readOptions(args: readonly string[]): Map<OptionName, string> {
  const { tokens } = parseArgs({
    args: [...args],
    options: OPTIONS,
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  const values = new Map<OptionName, string>()
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue
    if (token.kind === 'positional') throw new ArgumentError(`unexpected argument ${JSON.stringify(token.value)}`)
    if (!isOptionName(token.name)) throw new ArgumentError(`unknown option ${token.rawName}`)
    const takesValue = OPTIONS[token.name].type === 'string'
    if (!takesValue && token.value !== undefined) throw new ArgumentError(`${token.rawName} takes no value`)
    // "--host --token x" is a forgotten value, not a host named "--token"; "--host=--token" would say that.
    const forgotten = !token.value || (!token.inlineValue && token.value.startsWith('-'))
    if (takesValue && forgotten) throw new ArgumentError(`${token.rawName} needs a value`)
    values.set(token.name, token.value ?? '')
  }
  return values
}

function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name)
}

function parsePorts(list: string | undefined): readonly number[] {
  if (list === undefined) return DEFAULT_PORTS
  return list.split(',').map((text) => {
    const port = Number(text)
    if (/^\s*\d+\s*$/.test(text) && port <= 65535) return port
    throw new ArgumentError(
      `--ports takes numbers from 0 to 65535, separated by commas; ${JSON.stringify(text)} is none`,
    )
  })
}
