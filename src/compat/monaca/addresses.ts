import { networkInterfaces } from 'node:os'

/*
 * Addresses as programs for the plugin know them.
 */

/**
 * An address and a port as `toString` of Java's `InetSocketAddress` writes them for a peer: `/10.0.6.164:56319`, IPv6 with
 * all of its eight groups, `/0:0:0:0:0:0:0:1:56319`, and with its zone if it has one.
 */
export function socketAddress(address: string, port: number): string {
  return `/${address.includes(':') ? spellOut(address) : address}:${port}`
}

/** An IPv6 address, as the system gives it, without abbreviations (RFC 5952 §4 has those). */
function spellOut(address: string): string {
  const [digits = '', ...zone] = address.split('%')
  const [first = [], last] = withoutDots(digits)
    .split('::')
    .map((groups) => groups.split(':').filter((group) => group !== ''))
  const groups = last === undefined ? first : [...first, ...zeros(8 - first.length - last.length), ...last]
  return [groups.join(':'), ...zone].join('%')
}

/** `::1.2.3.4` as `::102:304`. */
function withoutDots(address: string): string {
  return address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
  )
}

function zeros(count: number): string[] {
  return new Array<string>(count).fill('0')
}

/**
 * Where others reach a server that listens on this address. All addresses of the machine (`0.0.0.0`, `::`) are no address
 * to connect to: instead the first IPv4 address that is not internal, else such an IPv6 address, else 127.0.0.1.
 */
export function reachableAddress(address: string): string {
  if (address !== '0.0.0.0' && address !== '::') return address
  const outside = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal }) => !internal)
  const found =
    outside.find(({ family }) => family === 'IPv4') ??
    // One of a single link cannot be used without the name of the interface, which others have names of their own for.
    outside.find((info) => address === '::' && info.family === 'IPv6' && info.scopeid === 0)
  return found?.address ?? '127.0.0.1'
}
