import { X509Certificate } from 'node:crypto'
import { isIP, isIPv6 } from 'node:net'

export interface AddressParts {
  readonly port: number
  readonly host: string | undefined
  readonly token: string
  /** PEM; its presence means https */
  readonly certificate: Buffer | undefined
}

/**
 * The address a person opens. The token stands in the fragment: a browser keeps that part to itself, so the token is in
 * no request line, no Referer and no log, and still survives a reload or a copy into another tab.
 */
export function formatAddress({ port, host, token, certificate }: AddressParts): string {
  const scheme = certificate ? 'https' : 'http'
  const name = chooseName(host, certificate)
  return `${scheme}://${isIPv6(name) ? `[${name}]` : name}:${port}/#token=${encodeURIComponent(token)}`
}

// "Every interface" is no address to open, and a certificate is made for certain names only.
function chooseName(host: string | undefined, certificate: Buffer | undefined): string {
  const listensHere = host === undefined || host === '0.0.0.0' || host === '::'
  const names = listensHere ? ['127.0.0.1', 'localhost'] : [host]
  if (!certificate) return names[0]!
  const { checkHost, checkIP } = X509Certificate.prototype
  const x509 = new X509Certificate(certificate)
  return names.find((name) => (isIP(name) ? checkIP : checkHost).call(x509, name) !== undefined) ?? names[0]!
}

/** Whether programs on other computers can reach the server. */
export function isReachableFromOutside(host: string | undefined): boolean {
  if (host === undefined || host === 'localhost' || host === '::1') return false
  return !(isIP(host) === 4 && host.startsWith('127.'))
}
