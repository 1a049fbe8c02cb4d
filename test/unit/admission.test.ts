import { describe, expect, it } from 'vitest'
import {
  type AdmissionOptions,
  checkAdmissionOptions,
  checkHost,
  checkOrigin,
  isLoopbackAddress,
  normalizeAddress,
  TokenGate,
  takeTokens,
} from '../../src/admission.ts'
import { parseSubprotocols } from '../../src/headers.ts'
import { type Lines, requestHead, requestOf, verdictOf } from '../support/heads.ts'

const YES = 'accepted'
const BAD_HOST = '403 ERR_HOST'
const BAD_ORIGIN = '403 ERR_ORIGIN'

/** The ways in which a server can be protected. */
const OPEN: AdmissionOptions = { hasAuthorize: false }
const AUTHORIZE: AdmissionOptions = { hasAuthorize: true }
const TOKEN: AdmissionOptions = { token: 'secret', hasAuthorize: false }
const ORIGINS = [
  'https://app.example',
  'https://*.app.example',
  'http://localhost:3000',
  'chrome-extension://abcdefghijklmnop',
]

function hostVerdict(host: string | undefined, options: AdmissionOptions): string {
  return verdictOf(() => checkHost(requestOf(host === undefined ? [] : [['Host', host]]), options))
}

function originVerdict(origin: string | undefined, options: AdmissionOptions, host: string | undefined): string {
  const lines: Lines = [
    ...(host === undefined ? [] : [['Host', host] as const]),
    ...(origin === undefined ? [] : [['Origin', origin] as const]),
  ]
  return verdictOf(() => checkOrigin(requestOf(lines), options))
}

describe('normalizeAddress', () => {
  it.each([
    ['::ffff:127.0.0.1', '127.0.0.1'],
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '::1'],
    ['::ffff:7f00:1', '::ffff:7f00:1'],
    ['fe80::1%eth0', 'fe80::1%eth0'],
    ['', ''],
  ])('makes %j to %j', (address, normalized) => {
    expect(normalizeAddress(address)).toBe(normalized)
  })
})

describe('isLoopbackAddress', () => {
  it.each(['127.0.0.1', '127.0.0.0', '127.255.255.255', '127.1.2.3', '::1'])('is true for %s', (address) => {
    expect(isLoopbackAddress(address)).toBe(true)
  })

  it.each([
    '',
    '126.255.255.255',
    '128.0.0.1',
    '10.127.0.1',
    '0.0.0.0',
    '127.0.0',
    '127.0.0.1.1',
    '127.0.0.256',
    '127.0.0.',
    '127..0.1',
    '127.0.0.1000',
    '127.0.0.0001',
    '127.0.0.x',
    '127.0.0.1e2',
    '127.0.0.0x1',
    '127.0.0.-1',
    '127.0.0.+1',
    '127.0.0. 1',
    '1270.0.1',
    '::',
    '::2',
    '::1%lo',
    'localhost',
  ])('is false for %j', (address) => {
    expect(isLoopbackAddress(address)).toBe(false)
  })
})

describe('Host, of a server that nothing else protects', () => {
  // The browser sends the name that the page has called, and its own resolver decides which address that is. Only a name
  // that nobody can point elsewhere may pass: localhost, and addresses.
  it.each([
    ['localhost', 'the name itself'],
    ['localhost:8080', 'any port: the request came to ours'],
    ['localhost:', 'an empty port is none'],
    ['LOCALHOST:8080', 'names have no case'],
    ['127.0.0.1', 'the address'],
    ['127.0.0.1:65535', 'the address, with a port'],
    ['127.255.0.9', 'all of 127.0.0.0/8 is this machine'],
    ['[::1]', 'the address in IPv6'],
    ['[::1]:8080', 'the address in IPv6, with a port'],
    ['[0:0:0:0:0:0:0:1]', 'the same, written out'],
    ['[::ffff:127.0.0.1]', 'IPv4 in IPv6'],
    ['[::FFFF:7F00:1]', 'IPv4 in IPv6, in hexadecimal'],
    ['127.1', 'is read as 127.0.0.1, as a browser does'],
    ['2130706433', '127.0.0.1 as one decimal number'],
    ['0x7f000001', '127.0.0.1 as one hexadecimal number'],
    ['0177.0.0.1', '127.0.0.1 in octal'],
    ['127.0.0.1.', 'an address stays one with a dot behind it'],
    ['%6cocalhost', 'is read as localhost; a browser never sends it, and programs need no tricks'],
  ])('lets in who calls %s: %s', (host) => {
    expect(hostVerdict(host, OPEN)).toBe(YES)
  })

  it.each([
    ['evil.example', 'DNS rebinding: the name of the page, pointed to this machine'],
    ['evil.example:8080', 'the same, with a port'],
    ['127.0.0.1.evil.example', 'a name that begins like the address'],
    ['localhost.evil.example', 'a name that begins like ours'],
    ['evil.localhost.example', 'a name with ours inside'],
    ['evillocalhost', 'a name that ends like ours'],
    ['app.localhost', 'not every resolver keeps names below localhost on this machine'],
    ['localhost.', 'an absolute name; some resolvers ask the network for it'],
    ['127.0.0.1e2', 'looks like an address, but is a name: a network can resolve it as it likes'],
    ['127.0.0.-1', 'looks like an address, but is a name'],
    ['127.0.0.+1', 'looks like an address, but is a name'],
    ['127.0.0.1e', 'looks like an address, but is a name'],
    ['127.0.0.256', 'no address'],
    ['128.0.0.1', 'an address that is not of this machine'],
    ['0.0.0.0', 'reaches this machine on some systems, from any page'],
    ['10.0.0.1', 'an address of the network'],
    ['[::]', 'reaches this machine on some systems'],
    ['[::2]', 'another address'],
    ['[::ffff:7f0:1234]', '7.240.18.52, which only begins like 127'],
    ['[::ffff:128.0.0.1]', 'IPv4 in IPv6, not of this machine'],
    ['[::127.0.0.1]', 'a deprecated form that means another address'],
    ['[::ffff:0:127.0.0.1]', 'a translated address'],
    ['[::1]evil.example', 'more than an address'],
    ['[::1', 'no address'],
    ['localhost:99999', 'no port'],
    ['localhost:8080:1', 'two ports'],
    ['localhost:http', 'no port'],
    ['localhost:NaN', 'no port, though JavaScript has such a number'],
    ['localhost:-1', 'no port'],
    ['localhost:1.5', 'no port'],
    ['user@localhost', 'with a user'],
    ['localhost@evil.example', 'with a user, and another name'],
    ['localhost/evil.example', 'with a path'],
    ['localhost\\evil.example', 'with what a URL parser takes for a path'],
    ['localhost?evil.example', 'with a query'],
    ['localhost#evil.example', 'with a fragment'],
    ['local\thost', 'with a tab, which URL parsers drop'],
    ['local host', 'with a blank'],
    ['localhost, evil.example', 'two names'],
    ['http://localhost', 'a URL'],
    ['loc\xe1lhost', 'a lookalike'],
    ['xn--loclhost-dza', 'the same in punycode'],
    ['localhost%00.evil.example', 'a zero, encoded'],
    ['*', 'everything'],
    ['', 'nothing'],
  ])('refuses who calls %j: %s', (host) => {
    expect(hostVerdict(host, OPEN)).toBe(BAD_HOST)
  })

  it('refuses a request without Host, as HTTP/1.0 may send it', () => {
    expect(hostVerdict(undefined, OPEN)).toBe(BAD_HOST)
  })
})

describe('Host, otherwise', () => {
  it.each([
    ['a token', TOKEN],
    ['authorize', AUTHORIZE],
    ['both', { ...TOKEN, ...AUTHORIZE, token: 'secret' }],
  ])('does not matter with %s: what a foreign page lacks is the secret', (_, options) => {
    for (const host of ['evil.example', 'localhost', '', undefined]) expect(hostVerdict(host, options)).toBe(YES)
  })

  const hosts = ['app.example', 'ported.example:8080', 'eighty.example:80', 'Bücher.example', '[2001:db8::1]']

  describe.each([
    ['nothing else', OPEN],
    ['a token', TOKEN],
    ['authorize', AUTHORIZE],
  ])('must be listed where hosts are given, with %s', (_, protection) => {
    const options = { ...protection, hosts }

    it.each([
      ['app.example', 'it is listed'],
      ['APP.example:1234', 'without a port in the list, any port'],
      ['ported.example:8080', 'it is listed with this port'],
      ['eighty.example:80', 'it is listed with this port'],
      ['eighty.example', 'port 80 is the one that URLs leave out'],
      ['xn--bcher-kva.example', 'it is listed; browsers send punycode'],
      ['[2001:DB8:0::1]:99', 'addresses are compared as such'],
      ['localhost:8080', 'loopback names are always allowed'],
      ['127.0.0.1', 'loopback addresses are always allowed'],
      ['[::1]:8080', 'loopback addresses are always allowed'],
    ])('%s is: %s', (host) => {
      expect(hostVerdict(host, options)).toBe(YES)
    })

    it.each([
      ['evil.example', 'it is not listed'],
      ['app.example.', 'another name'],
      ['app.example.evil.example', 'another name'],
      ['sub.app.example', 'a name is not its parent'],
      ['example', 'a name is not its child'],
      ['ported.example', 'it is listed with a port'],
      ['ported.example:8081', 'it is listed with another port'],
      ['eighty.example:8080', 'it is listed with another port'],
      ['app.example@evil.example', 'another name, with a user'],
      ['', 'nothing'],
    ])('%j is not: %s', (host) => {
      expect(hostVerdict(host, options)).toBe(BAD_HOST)
    })

    it('nor is no name at all', () => {
      expect(hostVerdict(undefined, options)).toBe(BAD_HOST)
    })
  })

  it('passes over listed names that are none', () => {
    expect(hostVerdict('app.example', { ...OPEN, hosts: ['http://app.example'] })).toBe(BAD_HOST)
  })

  it('allows loopback names alone where the list is empty', () => {
    expect(hostVerdict('localhost', { ...TOKEN, hosts: [] })).toBe(YES)
    expect(hostVerdict('app.example', { ...TOKEN, hosts: [] })).toBe(BAD_HOST)
  })
})

/**
 * Origins, all sent to `Host: localhost:8080`, and in which modes they pass:
 *
 *   open       neither token nor authorize: this host, and pages of this machine
 *   authorize  alone: this host, for cookies come along and only the handler looks at them
 *   listed     a token and `origins`: what is listed, and nothing else
 *
 * With a token alone all of them pass: a foreign page does not have it.
 */
type Mode = 'open' | 'authorize' | 'listed'
const ORIGIN_CASES: ReadonlyArray<readonly [origin: string, passes: readonly Mode[], why: string]> = [
  // This host.
  ['http://localhost:8080', ['open', 'authorize'], 'the page of this very server'],
  ['https://localhost:8080', ['open', 'authorize'], 'the same behind a TLS proxy'],
  ['HTTP://LOCALHOST:8080', ['open', 'authorize'], 'schemes and names have no case'],
  // This machine.
  ['http://localhost', ['open'], 'another port of this machine'],
  ['http://localhost:3000', ['open', 'listed'], 'another port of this machine, listed'],
  ['https://localhost:3000', ['open'], 'listed with another scheme'],
  ['http://127.0.0.1', ['open'], 'this machine by address'],
  ['http://127.0.0.1:5173', ['open'], 'this machine by address, with a port'],
  ['http://127.8.9.10', ['open'], 'all of 127.0.0.0/8 is this machine'],
  ['http://[::1]', ['open'], 'this machine in IPv6'],
  ['http://[::1]:8080', ['open'], 'this machine in IPv6; not the host that was called'],
  ['http://[::ffff:127.0.0.1]', ['open'], 'IPv4 in IPv6'],
  ['http://[::ffff:7f00:1]', ['open'], 'IPv4 in IPv6, as browsers write it'],
  ['http://127.1', ['open'], 'is read as 127.0.0.1'],
  ['http://2130706433', ['open'], '127.0.0.1 as a decimal number'],
  ['http://0x7f.1', ['open'], '127.0.0.1 with a hexadecimal part'],
  ['http://127.0.0.1.', ['open'], 'an address stays one with a dot behind it'],
  // Not this machine, however much they look like it.
  ['http://[::ffff:7f0:1234]', [], '7.240.18.52, which only begins like 127'],
  ['http://[::ffff:128.0.0.1]', [], 'IPv4 in IPv6, elsewhere'],
  ['http://[::127.0.0.1]', [], 'a deprecated form that means another address'],
  ['http://[::]', [], 'no address that a page can be loaded from'],
  ['http://0.0.0.0', [], 'no address that a page can be loaded from'],
  ['http://128.0.0.1', [], 'elsewhere'],
  ['http://127.0.0.1e2', [], 'a name: a network can resolve it as it likes'],
  ['http://127.0.0.-1', [], 'a name'],
  ['http://127.0.0.256', [], 'no address'],
  ['http://127.0.0.1.evil.example', [], 'a name that begins like the address'],
  ['http://localhost.evil.example', [], 'a name that begins like ours'],
  ['http://evil-localhost', [], 'a name that ends like ours'],
  ['http://app.localhost', [], 'not every resolver keeps names below localhost on this machine'],
  ['http://localhost.', [], 'an absolute name; some resolvers ask the network for it'],
  ['http://loc\xe1lhost', [], 'a lookalike'],
  ['http://xn--loclhost-dza', [], 'the same in punycode'],
  ['http://evil@localhost', [], 'with a user: no browser sends that'],
  ['http://localhost@evil.example', [], 'with a user, and another host'],
  ['http://localhost:8080@evil.example', [], 'with a user and a password, and another host'],
  ['http://localhost\\@evil.example', [], 'a backslash'],
  ['http://evil.example\\.localhost', [], 'a backslash'],
  ['http:\\\\localhost', [], 'two backslashes, which URL parsers take for slashes'],
  ['http://local\thost', [], 'a tab, which URL parsers drop'],
  ['ht\ttp://localhost', [], 'a tab in the scheme, which URL parsers drop'],
  ['http://local host', [], 'a blank'],
  ['http:localhost', [], 'no slashes: URL parsers put them there, browsers do not send it'],
  ['http:/localhost', [], 'one slash'],
  ['http:///localhost', [], 'three slashes'],
  ['//localhost', [], 'no scheme'],
  ['localhost', [], 'no scheme'],
  ['localhost:8080', [], 'a name that looks like a scheme'],
  ['http://localhost/', [], 'with a path: no browser sends that'],
  ['http://localhost/evil', [], 'with a path'],
  ['http://localhost?evil', [], 'with a query'],
  ['http://localhost#evil', [], 'with a fragment'],
  ['http://localhost:99999', [], 'no port'],
  ['http://localhost, http://evil.example', [], 'two origins'],
  ['http://localhost http://evil.example', [], 'two origins, as RFC 6454 once allowed'],
  // Other schemes.
  ['null', [], 'a sandboxed frame, a data: page, a file: any page can have this origin'],
  ['file://', [], 'a file: what some browsers and apps send'],
  ['file://localhost', [], 'a file, which may have been downloaded'],
  ['ws://localhost:8080', [], 'no origin of a page'],
  ['ftp://localhost:8080', [], 'no origin of a page'],
  ['chrome-extension://localhost', [], 'an extension that calls itself so'],
  ['chrome-extension://abcdefghijklmnop', ['listed'], 'an extension that is listed'],
  ['chrome-extension://ponmlkjihgfedcba', [], 'another extension'],
  ['app://localhost', [], 'the scheme of some desktop app'],
  ['data:text/html,hi', [], 'no host'],
  ['javascript://localhost/%0a', [], 'no origin'],
  ['blob:http://localhost:8080/1', [], 'no origin: browsers send that of its maker'],
  // Elsewhere.
  ['http://evil.example', [], 'a foreign page'],
  ['https://app.example', ['listed'], 'listed'],
  ['https://APP.example', ['listed'], 'names have no case'],
  ['https://app.example:443', ['listed'], 'the port that https: leaves out'],
  ['http://app.example', [], 'listed with another scheme'],
  ['https://app.example:8443', [], 'listed with another port'],
  ['https://app.example.', [], 'another name'],
  ['https://app.example.evil.example', [], 'a name that begins like a listed one'],
  ['https://evilapp.example', [], 'a name that ends like a listed one'],
  ['https://app.example@evil.example', [], 'a listed name as the user'],
  ['https://a.app.example', ['listed'], 'one label for the wildcard'],
  ['https://A.APP.example', ['listed'], 'one label for the wildcard, in any case'],
  ['https://xn--bcher-kva.app.example', ['listed'], 'one label for the wildcard, in punycode'],
  ['https://*.app.example', ['listed'], 'a page can only be called so below the listed name'],
  ['http://a.app.example', [], 'the wildcard has another scheme'],
  ['https://a.app.example:8443', [], 'the wildcard has another port'],
  ['https://a.b.app.example', [], 'two labels for the wildcard'],
  ['https://.app.example', [], 'an empty label for the wildcard'],
  ['https://aapp.example', [], 'no label for the wildcard'],
  ['https://a.app.example.evil.example', [], 'labels behind the pattern'],
  ['https://evil.example/.app.example', [], 'the pattern in the path'],
  ['https://evil.example?.app.example', [], 'the pattern in the query'],
  ['https://evil.example\\.app.example', [], 'a backslash'],
  ['', [], 'an empty header'],
]

describe('Origin', () => {
  const HOST = 'localhost:8080'
  const verdictIn = (mode: Mode, passes: readonly Mode[]) => (passes.includes(mode) ? YES : BAD_ORIGIN)

  it.each(ORIGIN_CASES)('%j passes %j: %s', (origin, passes) => {
    expect({
      open: originVerdict(origin, OPEN, HOST),
      authorize: originVerdict(origin, AUTHORIZE, HOST),
      listed: originVerdict(origin, { ...TOKEN, origins: ORIGINS }, HOST),
      token: originVerdict(origin, TOKEN, HOST),
      tokenAndAuthorize: originVerdict(origin, { ...TOKEN, hasAuthorize: true }, HOST),
    }).toEqual({
      open: verdictIn('open', passes),
      authorize: verdictIn('authorize', passes),
      listed: verdictIn('listed', passes),
      token: YES,
      tokenAndAuthorize: YES,
    })
  })

  it.each(ORIGIN_CASES)('%j passes with a list what it passes without, or is in it', (origin, passes) => {
    for (const [mode, options] of [
      ['open', OPEN],
      ['authorize', AUTHORIZE],
    ] as const) {
      const expected = passes.includes(mode) || passes.includes('listed') ? YES : BAD_ORIGIN
      expect(originVerdict(origin, { ...options, origins: ORIGINS }, HOST)).toBe(expected)
    }
  })

  it.each(ORIGIN_CASES)("%j passes everywhere with '*'", (origin) => {
    for (const options of [OPEN, AUTHORIZE, TOKEN]) {
      expect(originVerdict(origin, { ...options, origins: '*' }, HOST)).toBe(YES)
      expect(originVerdict(origin, { ...options, origins: ['https://app.example', '*'] }, HOST)).toBe(YES)
    }
  })

  it.each([OPEN, AUTHORIZE, TOKEN, { ...TOKEN, origins: [] }, { ...OPEN, origins: ORIGINS }])(
    'of programs, which send none, passes: %j',
    (options) => {
      expect(originVerdict(undefined, options, HOST)).toBe(YES)
    },
  )

  it('passes nothing where the list is empty and a token is asked for', () => {
    expect(originVerdict('http://localhost:8080', { ...TOKEN, origins: [] }, HOST)).toBe(BAD_ORIGIN)
  })

  it("passes 'null' where it is listed", () => {
    expect(originVerdict('null', { ...TOKEN, origins: ['null'] }, HOST)).toBe(YES)
    expect(originVerdict('file://', { ...TOKEN, origins: ['null'] }, HOST)).toBe(BAD_ORIGIN)
  })

  it.each<[origin: string, host: string | undefined, verdict: string, why: string]>([
    ['http://app.example', 'app.example', YES, 'the same'],
    ['http://app.example', 'app.example:80', YES, 'with the port that http: leaves out'],
    ['https://app.example', 'app.example:443', YES, 'with the port that https: leaves out'],
    ['https://app.example', 'APP.EXAMPLE', YES, 'in another case'],
    ['https://xn--bcher-kva.example', 'xn--bcher-kva.example', YES, 'in punycode'],
    ['http://[2001:db8::1]:8080', '[2001:db8:0::1]:8080', YES, 'by address'],
    ['https://app.example', 'app.example:80', BAD_ORIGIN, 'with another port'],
    ['http://app.example:8080', 'app.example', BAD_ORIGIN, 'with another port'],
    ['http://app.example', 'app.example.', BAD_ORIGIN, 'with another name'],
    ['http://app.example', 'user@app.example', BAD_ORIGIN, 'a Host that is none'],
    ['http://app.example', '', BAD_ORIGIN, 'an empty Host'],
    ['http://app.example', undefined, BAD_ORIGIN, 'no Host'],
    ['app://app.example', 'app.example', BAD_ORIGIN, 'a scheme that is not of the web'],
    ['null', 'null', BAD_ORIGIN, 'no host at all'],
  ])('%s is compared with Host %j: %s, %s', (origin, host, verdict) => {
    expect(originVerdict(origin, AUTHORIZE, host)).toBe(verdict)
    expect(originVerdict(origin, OPEN, host)).toBe(verdict)
    expect(originVerdict(origin, { ...TOKEN, origins: [] }, host)).toBe(BAD_ORIGIN)
  })

  it.each([
    ['https://*.example', 'https://app.example', YES, 'one label'],
    ['https://*.example', 'https://a.b.example', BAD_ORIGIN, 'two labels'],
    ['https://*.example', 'https://example', BAD_ORIGIN, 'no label'],
    ['https://*.example', 'https://.example', BAD_ORIGIN, 'an empty label'],
    ['https://*.*.example', 'https://a.b.example', YES, 'two wildcards for two labels'],
    ['https://*.*.example', 'https://a.example', BAD_ORIGIN, 'two wildcards for one label'],
    ['https://a.*.example', 'https://a.b.example', YES, 'a wildcard in the middle'],
    ['https://a.*.example', 'https://b.b.example', BAD_ORIGIN, 'a wildcard in the middle, another label before it'],
    ['HTTPS://*.EXAMPLE', 'https://app.example', YES, 'a pattern in capitals'],
    ['https://*.example:8443', 'https://app.example:8443', YES, 'the port of the pattern'],
    ['https://*.example:8443', 'https://app.example', BAD_ORIGIN, 'not the port of the pattern'],
    ['https://*.example:443', 'https://app.example', YES, 'the port that https: leaves out'],
    ['http://*.example:80', 'http://app.example', YES, 'the port that http: leaves out'],
    ['https://*.bücher.example', 'https://a.xn--bcher-kva.example', YES, 'a pattern in letters that browsers encode'],
    ['app://*.example', 'app://one.example', YES, 'another scheme'],
    ['app://*.example', 'apps://one.example', BAD_ORIGIN, 'not the scheme of the pattern'],
    ['https://bücher.example', 'https://xn--bcher-kva.example', YES, 'letters that browsers encode, no wildcard'],
    ['https://app.example:443', 'https://app.example', YES, 'the port that https: leaves out, no wildcard'],
    ['app://ONE.example', 'app://one.example', YES, 'another scheme, no wildcard'],
  ])('%s is for %s: %s, %s', (pattern, origin, verdict) => {
    expect(verdictOf(() => checkAdmissionOptions({ ...TOKEN, origins: [pattern] }))).toBe(YES)
    expect(originVerdict(origin, { ...TOKEN, origins: [pattern] }, HOST)).toBe(verdict)
  })
})

describe('checkAdmissionOptions', () => {
  const refused = expect.objectContaining({ name: 'UsageError', code: 'ERR_OPTION' })

  it.each<Partial<AdmissionOptions>>([
    {},
    { token: 'x' },
    { origins: '*' },
    { origins: [] },
    { origins: ['*'] },
    { origins: ['null'] },
    { origins: ORIGINS },
    { origins: ['http://127.0.0.1:3000', 'http://[::1]', 'app://.', 'https://app.example:443'] },
    { hosts: [] },
    { hosts: ['app.example', 'app.example:8080', '127.0.0.1', '[::1]:80', 'bücher.example'] },
  ])('takes %j', (options) => {
    expect(() => checkAdmissionOptions({ hasAuthorize: false, ...options })).not.toThrow()
  })

  it.each(['', 5, null, {}])('refuses the token %j', (token) => {
    expect(() => checkAdmissionOptions({ hasAuthorize: false, token: token as string })).toThrow(refused)
  })

  it.each([
    '',
    'app.example',
    '*.example',
    'app.example:8080',
    'https://',
    'https://app.example/',
    'https://app.example/path',
    'https://app.example?query',
    'https://app.example#fragment',
    'https://user@app.example',
    'https://app.example ',
    'https://app.example:port',
    'https://*',
    'https://app.*',
    'https://*:8080',
    'https://a*.example',
    'https://*a.example',
    'https://**.example',
    '*://app.example',
    '*.app://x',
    'file://',
    'http://127.0.0.*',
    'http://*.0.0.1',
  ])('refuses the origin %j, which could never match', (origin) => {
    expect(() => checkAdmissionOptions({ ...TOKEN, origins: [origin] })).toThrow(refused)
    expect(() => checkAdmissionOptions({ ...TOKEN, origins: ['https://app.example', origin] })).toThrow(refused)
  })

  it.each([
    '',
    '*',
    '*.example',
    'http://app.example',
    'app.example/path',
    'user@app.example',
    'app.example:port',
    'app.example, other.example',
    'app example',
  ])('refuses the host %j, which could never match', (host) => {
    expect(() => checkAdmissionOptions({ ...TOKEN, hosts: [host] })).toThrow(refused)
    expect(() => checkAdmissionOptions({ ...TOKEN, hosts: ['app.example', host] })).toThrow(refused)
  })

  it('names what it refuses', () => {
    expect(() => checkAdmissionOptions({ ...TOKEN, origins: ['app.example'] })).toThrow('"app.example"')
    expect(() => checkAdmissionOptions({ ...TOKEN, hosts: ['a b'] })).toThrow('"a b"')
  })

  it('never names the token', () => {
    expect(() => checkAdmissionOptions({ token: '', hasAuthorize: false, origins: ['x'] })).toThrow(/token must be/)
  })
})

describe('takeTokens', () => {
  const SECRET = 'p4ss+wörd/€ ='
  const encoded = Buffer.from(SECRET).toString('base64url')

  /** Everything that a handler could find in the head, as text. */
  const visible = (lines: Lines, target: string): string => {
    const { head } = takeTokens(requestHead(lines, { target }))
    const request = requestOf([...head.headers], { target: head.target })
    return JSON.stringify([head.target, ...head.headers, ...request.query, request.url])
  }

  it.each([
    ['/?token=abc', '/', ['abc']],
    ['/chat?token=abc&room=1', '/chat?room=1', ['abc']],
    ['/chat?room=1&token=abc', '/chat?room=1', ['abc']],
    ['/chat?a=1&token=abc&b=2', '/chat?a=1&b=2', ['abc']],
    ['/?token=one&token=two', '/', ['one', 'two']],
    ['/?token=', '/', ['']],
    ['/?token', '/', ['']],
    [`/?token=${encodeURIComponent(SECRET)}`, '/', [SECRET]],
    ['/?token=a+b%2Bc', '/', ['a b+c']],
    ['/?token=a=b', '/', ['a=b']],
    ['/?token=%zz%ff', '/', ['%zz\ufffd']],
    ['/?%74oken=abc', '/', ['abc']],
    ['/?to%6Ben=abc&a=1', '/?a=1', ['abc']],
  ])('takes out of %s, which becomes %s, %j', (target, becomes, tokens) => {
    const taken = takeTokens(requestHead([], { target }))
    expect(taken.tokens).toEqual(tokens)
    expect(taken.head.target).toBe(becomes)
  })

  it.each([
    '/',
    '/chat',
    '/chat?a=1&b=%20',
    '/?tokens=abc',
    '/?atoken=abc',
    '/token=abc',
    '/?Token=abc',
    '/?a=token=b',
    '/?&&',
  ])('leaves %s as it is', (target) => {
    const taken = takeTokens(requestHead([], { target }))
    expect(taken.tokens).toEqual([])
    expect(taken.head.target).toBe(target)
  })

  it.each([
    ['Bearer abc', ['abc']],
    ['bearer abc', ['abc']],
    ['BEARER   abc  ', ['abc']],
    ['Bearer a.b-c_d~e+f/g==', ['a.b-c_d~e+f/g==']],
    ['Bearer ', ['']],
  ])('takes out of Authorization: %s', (value, tokens) => {
    const taken = takeTokens(requestHead([['Authorization', value]]))
    expect(taken.tokens).toEqual(tokens)
    expect([...taken.head.headers]).toEqual([])
  })

  it.each(['Basic YTpi', 'Bearer', 'Bearerabc', 'Digest abc', ''])('leaves Authorization: %s', (value) => {
    const taken = takeTokens(requestHead([['Authorization', value]]))
    expect(taken.tokens).toEqual([])
    expect([...taken.head.headers]).toEqual([['authorization', value]])
  })

  it.each([
    ['http://localhost:8080/chat?token=abc', 'http://localhost:8080/chat'],
    ['http://localhost:8080/?room=1', 'http://localhost:8080/'],
    ['http://localhost:8080/', 'http://localhost:8080/'],
    ['', ''],
  ])('cuts the query off Referer: %s, where the page may have had the token', (value, left) => {
    const taken = takeTokens(requestHead([['Referer', value]]))
    expect(taken.tokens).toEqual([])
    expect([...taken.head.headers]).toEqual([['referer', left]])
  })

  it.each([
    [`bearer.${encoded}`, [SECRET], undefined],
    [`chat, bearer.${encoded}`, [SECRET], 'chat'],
    [`chat, bearer.${encoded},superchat`, [SECRET], 'chat, superchat'],
    ['bearer.YQ, bearer.Yg, chat', ['a', 'b'], 'chat'],
    ['bearer.', [''], undefined],
    ['bearer.!!!, a', [''], 'a'],
    ['chat, superchat', [], 'chat, superchat'],
    ['Bearer.YQ, bearer', [], 'Bearer.YQ, bearer'],
  ])('takes out of the subprotocols %s', (value, tokens, left) => {
    const taken = takeTokens(requestHead([['Sec-WebSocket-Protocol', value]]))
    expect(taken.tokens).toEqual(tokens)
    expect(taken.head.headers.get('sec-websocket-protocol')).toBe(left)
  })

  it('takes all of them, from all places and lines', () => {
    const lines: Lines = [
      ['Host', 'localhost'],
      ['Authorization', 'Bearer one'],
      ['X-A', 'b'],
      ['Authorization', 'Bearer two'],
      ['Sec-WebSocket-Protocol', 'bearer.dGhyZWU'],
      ['Sec-WebSocket-Protocol', 'chat, bearer.Zm91cg'],
    ]
    const taken = takeTokens(requestHead(lines, { target: '/?token=five' }))
    expect(taken.tokens.toSorted()).toEqual(['five', 'four', 'one', 'three', 'two'])
    expect([...taken.head.headers]).toEqual([
      ['host', 'localhost'],
      ['x-a', 'b'],
      ['sec-websocket-protocol', 'chat'],
    ])
    expect(taken.head).toMatchObject({ method: 'GET', target: '/', version: '1.1' })
  })

  it.each<[string, Lines, string]>([
    ['the query', [], '/?token=S3CRET'],
    ['the query, encoded', [], '/?token=%53%33CRET'],
    ['the query, its name encoded', [], '/?%74oken=S3CRET'],
    ['Authorization', [['Authorization', 'Bearer S3CRET']], '/'],
    ['the query of the page', [['Referer', 'http://localhost/?token=S3CRET']], '/'],
    ['the subprotocols', [['Sec-WebSocket-Protocol', 'chat, bearer.UzNDUkVU']], '/'],
    ['subprotocols of which one comes twice', [['Sec-WebSocket-Protocol', 'bearer.UzNDUkVU, bearer.UzNDUkVU']], '/'],
    ['subprotocols of which another comes twice', [['Sec-WebSocket-Protocol', 'a, bearer.UzNDUkVU, a']], '/'],
    ['a malformed list of subprotocols', [['Sec-WebSocket-Protocol', 'chat,, bearer.UzNDUkVU']], '/'],
    ['a list of subprotocols that has no tokens', [['Sec-WebSocket-Protocol', 'a b, bearer.UzNDUkVU']], '/'],
  ])('leaves nothing of the token that came in %s', (_, lines, target) => {
    const left = visible(lines, target)
    for (const form of ['S3CRET', '%53%33CRET', 'UzNDUkVU']) expect(left).not.toContain(form)
  })

  it.each(['', 'a,,b', 'a, a', 'chat,, bearer.YQ', 'bearer.YQ,', 'a, bearer.YQ, a', 'a b, bearer.YQ'])(
    'leaves a malformed list of subprotocols malformed, for the handshake to refuse: %j',
    (value) => {
      const { head } = takeTokens(requestHead([['Sec-WebSocket-Protocol', value]]))
      expect(parseSubprotocols(head.headers.get('sec-websocket-protocol')!)).toBeUndefined()
    },
  )

  it('does not change the head that it is given', () => {
    const head = requestHead([['Authorization', 'Bearer abc']], { target: '/?token=abc' })
    takeTokens(head)
    expect(head.target).toBe('/?token=abc')
    expect(head.headers.get('authorization')).toBe('Bearer abc')
  })
})

describe('TokenGate', () => {
  const HERE = '127.0.0.1'
  const MISSING = '401 ERR_TOKEN_MISSING'
  const WRONG = '401 ERR_TOKEN_WRONG'
  const TOO_MANY = '429 ERR_TOKEN_ATTEMPTS'
  const MINUTE = 60_000

  /** A gate, and what it says to tokens of an address at a time. */
  function gateFor(token: string) {
    const gate = new TokenGate(token)
    return (tokens: readonly string[], address = HERE, nowMs = 0) =>
      verdictOf(() => gate.check(tokens, { remoteAddress: address }, nowMs))
  }

  it('passes the right token, also among wrong ones', () => {
    const check = gateFor('secret')
    expect(check(['secret'])).toBe(YES)
    expect(check(['wrong', 'secret', ''])).toBe(YES)
  })

  it.each(['', 'Secret', 'secret ', 'secre', 'secret\0', 'secretsecret'])('refuses %j', (token) => {
    expect(gateFor('secret')([token])).toBe(WRONG)
  })

  it('takes a base64 token whose plus came as a space', () => {
    expect(gateFor('a+b/c')(['a b/c'])).toBe(YES)
    expect(gateFor('a b')(['a b'])).toBe(YES)
    expect(gateFor('a b')(['a+b'])).toBe(WRONG)
  })

  it('does not look at more tokens than a request has ways to send one', () => {
    expect(gateFor('secret')([...new Array<string>(100).fill('wrong'), 'secret'])).toBe(WRONG)
  })

  it('refuses who has none, and says how to send it', () => {
    expect(gateFor('secret')([])).toBe(MISSING)
    expect(() => new TokenGate('secret').check([], { remoteAddress: HERE }, 0)).toThrow(
      /\?token=.*Authorization: Bearer.*bearer\./,
    )
  })

  it('compares tokens of any length and of all characters', () => {
    const token = `${'x'.repeat(10_000)}é😀`
    expect(gateFor(token)([token])).toBe(YES)
    expect(gateFor(token)([token.slice(0, -1)])).toBe(WRONG)
  })

  it('refuses with 429 from the sixth failure on, whether a token came or not', () => {
    const check = gateFor('secret')
    const verdicts = [['a'], [], ['b'], [], ['c'], ['d'], [], ['e']].map((tokens) => check(tokens))
    expect(verdicts).toEqual([WRONG, MISSING, WRONG, MISSING, WRONG, TOO_MANY, TOO_MANY, TOO_MANY])
  })

  it('passes the right token in spite of any number of failures', () => {
    const check = gateFor('secret')
    for (let failure = 0; failure < 50; failure++) check(['wrong'])
    expect(check(['wrong'])).toBe(TOO_MANY)
    expect(check(['secret'])).toBe(YES)
    expect(check(['wrong'])).toBe(TOO_MANY)
  })

  it('counts per address', () => {
    const check = gateFor('secret')
    for (let failure = 0; failure < 9; failure++) check(['wrong'], '10.0.0.1')
    expect(check(['wrong'], '10.0.0.1')).toBe(TOO_MANY)
    expect(check(['wrong'], '10.0.0.2')).toBe(WRONG)
    expect(check(['wrong'], '__proto__')).toBe(WRONG)
  })

  it('forgets failures a minute after the first of them', () => {
    const check = gateFor('secret')
    for (let failure = 0; failure < 9; failure++) check(['wrong'], HERE, failure)
    expect(check(['wrong'], HERE, MINUTE - 1)).toBe(TOO_MANY)
    expect(check(['wrong'], HERE, MINUTE)).toBe(WRONG)
    expect(check(['wrong'], HERE, MINUTE + 1)).toBe(WRONG)
  })

  it('counts slow failures too, as far as they fall into one minute', () => {
    const check = gateFor('secret')
    const verdicts = [0, 11, 22, 33, 44, 55, 66, 77].map((seconds) => check(['wrong'], HERE, seconds * 1_000))
    expect(verdicts).toEqual([WRONG, WRONG, WRONG, WRONG, WRONG, TOO_MANY, WRONG, WRONG])
  })

  it('remembers 10,000 addresses, and forgets the one first that has been quiet for longest', () => {
    const check = gateFor('secret')
    for (let failure = 0; failure < 9; failure++) {
      check(['wrong'], 'busy')
      check(['wrong'], 'quiet')
    }
    for (let index = 0; index < 9_998; index++) check(['wrong'], `10.0.${index >> 8}.${index & 255}`)
    expect(check(['wrong'], 'busy')).toBe(TOO_MANY)
    check(['wrong'], 'one more')
    expect(check(['wrong'], 'busy')).toBe(TOO_MANY)
    expect(check(['wrong'], 'quiet')).toBe(WRONG)
  })

  it('never says the token', () => {
    const gate = new TokenGate('secret')
    for (const tokens of [[], ['wrong'], ['a'], ['b'], ['c'], ['d'], ['e']]) {
      expect(() => gate.check(tokens, { remoteAddress: HERE }, 0)).toThrow(
        expect.objectContaining({ message: expect.not.stringContaining('secret') }),
      )
    }
  })
})
