import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/*
 * A self-signed X.509 certificate (RFC 5280) for this machine, made in a millisecond and trusted by nobody: tests of
 * wss:// need no openssl and leave no key in the repository. DER is written by five small functions.
 */

/** Key and certificate in PEM; `cert` is also what a client names as its `ca`. */
export interface Certificate {
  readonly key: string
  readonly cert: string
}

const Tag = {
  BOOLEAN: 0x01,
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OCTET_STRING: 0x04,
  OID: 0x06,
  UTF8_STRING: 0x0c,
  UTC_TIME: 0x17,
  SEQUENCE: 0x30,
  SET: 0x31,
} as const

/** A tag, a length, and what is in it. */
function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents)
  const length = content.length
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content])
  if (length < 0x100) return Buffer.concat([Buffer.from([tag, 0x81, length]), content])
  return Buffer.concat([Buffer.from([tag, 0x82, length >> 8, length & 0xff]), content])
}

function sequence(...contents: Uint8Array[]): Buffer {
  return der(Tag.SEQUENCE, ...contents)
}

/** An object identifier such as 2.5.29.17: base 128, the first two arcs in one byte. */
function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...arcs] = dotted.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const arc of arcs) {
    const digits = [arc & 0x7f]
    for (let rest = arc >> 7; rest > 0; rest >>= 7) digits.unshift((rest & 0x7f) | 0x80)
    bytes.push(...digits)
  }
  return der(Tag.OID, Buffer.from(bytes))
}

/** 20261121035700Z without its century: right until 2049. */
function utcTime(date: Date): Buffer {
  return der(Tag.UTC_TIME, Buffer.from(`${date.toISOString().slice(2, 19).replaceAll(/[-T:]/g, '')}Z`))
}

function bitString(bytes: Uint8Array): Buffer {
  return der(Tag.BIT_STRING, Buffer.from([0]), bytes)
}

function extension(id: string, value: Buffer, isCritical?: 'critical'): Buffer {
  const critical = isCritical === undefined ? [] : [der(Tag.BOOLEAN, Buffer.from([0xff]))]
  return sequence(oid(id), ...critical, der(Tag.OCTET_STRING, value))
}

function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n')
}

const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
const COMMON_NAME = '2.5.4.3'
const BASIC_CONSTRAINTS = '2.5.29.19'
const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17'
const DAY_MS = 86_400_000

/** For localhost, 127.0.0.1 and ::1; valid from yesterday for a month. */
export function makeCertificate(): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const name = sequence(der(Tag.SET, sequence(oid(COMMON_NAME), der(Tag.UTF8_STRING, Buffer.from('localhost')))))
  const serial = randomBytes(8)
  // A positive number without a leading zero byte.
  serial[0] = (serial[0]! & 0x7f) | 0x40
  const alternativeNames = sequence(
    der(0x82, Buffer.from('localhost')),
    der(0x87, Buffer.from([127, 0, 0, 1])),
    der(0x87, Buffer.from([...new Array<number>(15).fill(0), 1])),
  )
  const isAuthority = sequence(der(Tag.BOOLEAN, Buffer.from([0xff])))
  const body = sequence(
    der(0xa0, der(Tag.INTEGER, Buffer.from([2]))),
    der(Tag.INTEGER, serial),
    ECDSA_WITH_SHA256,
    name,
    sequence(utcTime(new Date(Date.now() - DAY_MS)), utcTime(new Date(Date.now() + 30 * DAY_MS))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(
      0xa3,
      sequence(
        extension(BASIC_CONSTRAINTS, isAuthority, 'critical'),
        extension(SUBJECT_ALTERNATIVE_NAME, alternativeNames),
      ),
    ),
  )
  const signature = sign('sha256', body, privateKey)
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: pem('CERTIFICATE', sequence(body, ECDSA_WITH_SHA256, bitString(signature))),
  }
}
