import { BlockList, isIP } from 'node:net'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type AdmissionOptions,
  checkHost,
  checkOrigin,
  isLoopbackAddress,
  TokenGate,
  takeTokens,
} from '../../src/admission.ts'
import { type Lines, requestHead, requestOf, verdictOf } from '../support/heads.ts'

const OPEN: AdmissionOptions = { hasAuthorize: false }

/** What a loopback address is, told by node:net. */
const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

function isLoopback(address: string): boolean {
  const family = isIP(address)
  return family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6')
}

/** Whether a browser that loads this URL talks to this machine, whatever a name server says. */
function isLocalUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { hostname } = new URL(text)
  return hostname === 'localhost' || isLoopback(hostname.replace(/^\[(.*)\]$/, '$1'))
}

/** Host names that are loopback names, or nearly. */
const part = fc.oneof(
  fc.nat(300).map(String),
  fc.constantFrom('127', '127', '0', '1', '0x7f', '0177', '1e2', '-1', '+1', '1_0', '0b1', '', '01', 'a', '*', '%31'),
)
const hostname = fc.oneof(
  fc.tuple(fc.constantFrom('127', '0x7f', '0177', '128'), part, part, part).map((parts) => parts.join('.')),
  fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('.')),
  fc.constantFrom(
    'localhost',
    'LocalHost',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '[0:0:0:0:0:0:0:1]',
    '2130706433',
    '0x7f000001',
  ),
  fc.ipV6().map((address) => `[${address}]`),
  fc.ipV4().map((address) => `[::ffff:${address}]`),
  fc
    .tuple(fc.constantFrom('7f00', '7f', '7f0', '7fff', '7f000'), fc.nat(0xffff))
    .map(([high, low]) => `[::ffff:${high}:${low.toString(16)}]`),
)
const tail = fc.oneof(
  { weight: 4, arbitrary: fc.constant('') },
  { weight: 2, arbitrary: fc.nat(70_000).map((port) => `:${port}`) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '.',
      ':',
      '.evil.example',
      '@evil.example',
      '/',
      '?',
      '#',
      '\\',
      ' ',
      '\t',
      ':NaN',
      '%00',
      '\xad',
    ),
  },
)
const head = fc.oneof(
  { weight: 4, arbitrary: fc.constant('') },
  { weight: 1, arbitrary: fc.constantFrom('evil@', 'evil.', 'evil', '.', '\t', '//', '\\') },
)
const host = fc.tuple(head, hostname, tail).map((parts) => parts.join(''))
const origin = fc
  .tuple(fc.constantFrom('http://', 'https://', 'http://', 'HTTP://', 'http:', 'ws://', 'file://', 'app://', ''), host)
  .map((parts) => parts.join(''))

describe('a server that nothing protects', () => {
  it('is called by names of this machine only', () => {
    let accepted = 0
    fc.assert(
      fc.property(host, (name) => {
        if (verdictOf(() => checkHost(requestOf([['Host', name]]), OPEN)) !== 'accepted') return
        accepted++
        expect({ name, local: isLocalUrl(`http://${name}`) }).toEqual({ name, local: true })
      }),
      { numRuns: 5_000 },
    )
    expect(accepted).toBeGreaterThan(100)
  })

  it('is used by pages of this machine only', () => {
    let accepted = 0
    fc.assert(
      fc.property(origin, (page) => {
        const lines: Lines = [
          ['Host', 'app.example'],
          ['Origin', page],
        ]
        if (verdictOf(() => checkOrigin(requestOf(lines), OPEN)) !== 'accepted') return
        accepted++
        expect({ page, local: isLocalUrl(page) && /^https?:\/\//i.test(page) }).toEqual({ page, local: true })
      }),
      { numRuns: 5_000 },
    )
    expect(accepted).toBeGreaterThan(100)
  })

  it('is used and called by every address of this machine', () => {
    fc.assert(
      fc.property(fc.nat(255), fc.nat(255), fc.nat(255), fc.integer({ min: 1, max: 65_535 }), (b, c, d, port) => {
        const name = `127.${b}.${c}.${d}:${port}`
        const lines: Lines = [
          ['Host', name],
          ['Origin', `http://${name}`],
        ]
        checkHost(requestOf(lines), OPEN)
        checkOrigin(requestOf([['Host', 'app.example'], ...lines.slice(1)]), OPEN)
      }),
    )
  })
})

it('isLoopbackAddress says of addresses what node:net says', () => {
  const address = fc.oneof(
    fc.ipV4(),
    fc.ipV4().map((ip) => ip.replace(/^\d+/, '127')),
    fc.constantFrom('::1', '::', '::2'),
  )
  fc.assert(
    fc.property(address, (text) => {
      expect(isLoopbackAddress(text)).toBe(isLoopback(text))
    }),
  )
})

it('isLoopbackAddress is never true for what is no address', () => {
  fc.assert(
    fc.property(hostname, (text) => {
      if (isLoopbackAddress(text)) expect({ text, family: isIP(text) }).not.toEqual({ text, family: 0 })
    }),
    { numRuns: 3_000 },
  )
})

it('a wildcard stands for one whole label, whatever is in it', () => {
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?$/).filter((text) => !/^\d+$|^xn--/.test(text))
  const labels = fc.array(label, { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(labels, labels, fc.nat(3), (wanted, called, place) => {
      const pattern = [...wanted]
      pattern[place % pattern.length] = '*'
      const options = { token: 'x', origins: [`https://${pattern.join('.')}.example`], hasAuthorize: false }
      const pages = [called, wanted, [...wanted.slice(0, -1), called[0]!], ['a', ...wanted], wanted.slice(1)]
      for (const page of pages) {
        const matches =
          page.length === pattern.length && page.every((text, at) => pattern[at] === '*' || pattern[at] === text)
        const request = requestOf([['Origin', `https://${[...page, 'example'].join('.')}`]])
        expect(verdictOf(() => checkOrigin(request, options))).toBe(matches ? 'accepted' : '403 ERR_ORIGIN')
      }
    }),
    { numRuns: 300 },
  )
})

// ── token ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Tokens that do not stand in anything else by chance. */
const anyToken = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).map((text) => `t0k3n${text}`)
const bearerToken = fc.stringMatching(/^t0k3n[A-Za-z0-9._~+/-]{1,20}=?$/)
const otherPairs = fc.array(fc.constantFrom('a=1', 'room=%20b', '', 'tokens=1', 'c'), { maxLength: 4 })
const otherSubprotocols = fc.uniqueArray(fc.constantFrom('chat', 'superchat', 'mqtt', 'v1.json'), { maxLength: 3 })

/** `one` among `others`. */
function among<T>(others: readonly T[], one: T, place: number): T[] {
  const at = place % (others.length + 1)
  return [...others.slice(0, at), one, ...others.slice(at)]
}

/** Everything that a handler could find, in all spellings. */
function visible(given: ReturnType<typeof takeTokens>['head']): string {
  const request = requestOf([...given.headers], { target: given.target })
  return JSON.stringify([given.target, ...given.headers, ...request.query, ...request.subprotocols])
}

function expectTaken(taken: ReturnType<typeof takeTokens>, token: string, spellings: readonly string[]): void {
  expect(taken.tokens).toEqual([token])
  const gate = new TokenGate(token)
  expect(verdictOf(() => gate.check(taken.tokens, { remoteAddress: '10.0.0.1' }, 0))).toBe('accepted')
  const left = visible(taken.head)
  for (const spelling of [token, ...spellings]) expect(left).not.toContain(JSON.stringify(spelling).slice(1, -1))
}

describe('a token', () => {
  it('is found in the query, and nothing of it is left there', () => {
    fc.assert(
      fc.property(anyToken, otherPairs, fc.nat(), fc.boolean(), (token, others, place, asForm) => {
        const encoded = asForm
          ? new URLSearchParams({ token }).toString().slice('token='.length)
          : encodeURIComponent(token)
        const pairs = among(others, `token=${encoded}`, place)
        const taken = takeTokens(requestHead([], { target: `/chat?${pairs.join('&')}` }))
        expectTaken(taken, token, [encoded])
        expect(taken.head.target).toBe(others.join('&') === '' ? '/chat' : `/chat?${others.join('&')}`)
      }),
      { numRuns: 500 },
    )
  })

  it('is found in Authorization, and nothing of it is left there', () => {
    fc.assert(
      fc.property(bearerToken, fc.constantFrom('Bearer', 'bearer', 'BEARER'), (token, scheme) => {
        const taken = takeTokens(
          requestHead([
            ['Host', 'a'],
            ['Authorization', `${scheme} ${token}`],
          ]),
        )
        expectTaken(taken, token, [])
        expect([...taken.head.headers]).toEqual([['host', 'a']])
      }),
      { numRuns: 300 },
    )
  })

  it('is found among the subprotocols, and nothing of it is left there', () => {
    fc.assert(
      fc.property(anyToken, otherSubprotocols, fc.nat(), (token, others, place) => {
        const encoded = Buffer.from(token).toString('base64url')
        const offered = among(others, `bearer.${encoded}`, place)
        const taken = takeTokens(requestHead([['Sec-WebSocket-Protocol', offered.join(', ')]]))
        expectTaken(taken, token, [encoded])
        expect(requestOf([...taken.head.headers]).subprotocols).toEqual(others)
      }),
      { numRuns: 500 },
    )
  })

  it('takes nothing else along', () => {
    fc.assert(
      fc.property(otherPairs, otherSubprotocols, (pairs, subprotocols) => {
        fc.pre(pairs.join('&') !== '' && subprotocols.length > 0)
        const lines: Lines = [
          ['authorization', 'Basic YTpi'],
          ['sec-websocket-protocol', subprotocols.join(', ')],
          ['cookie', 'token=1'],
        ]
        const taken = takeTokens(requestHead(lines, { target: `/?${pairs.join('&')}` }))
        expect(taken.tokens).toEqual([])
        expect(taken.head.target).toBe(`/?${pairs.join('&')}`)
        expect([...taken.head.headers]).toEqual(lines)
      }),
    )
  })

  it('opens the gate whatever happened before, and nothing else ever does', () => {
    const step = fc.record({
      tokens: fc.array(fc.constantFrom('right', 'wrong', '', 'Right', 'right '), { maxLength: 3 }),
      address: fc.constantFrom('10.0.0.1', '10.0.0.2', '::1'),
      waitMs: fc.constantFrom(0, 0, 0, 1, 20_000, 59_999, 60_000, 100_000),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const gate = new TokenGate('right')
        /** The slow twin: when the failures of an address were. */
        const failures = new Map<string, { first: number; count: number }>()
        let nowMs = 0
        for (const { tokens, address, waitMs } of steps) {
          nowMs += waitMs
          const verdict = verdictOf(() => gate.check(tokens, { remoteAddress: address }, nowMs))
          if (tokens.includes('right')) {
            expect(verdict).toBe('accepted')
            continue
          }
          const known = failures.get(address)
          const current = known !== undefined && nowMs < known.first + 60_000 ? known : { first: nowMs, count: 0 }
          failures.set(address, { ...current, count: current.count + 1 })
          const kind = tokens.length === 0 ? '401 ERR_TOKEN_MISSING' : '401 ERR_TOKEN_WRONG'
          expect(verdict).toBe(current.count < 5 ? kind : '429 ERR_TOKEN_ATTEMPTS')
        }
      }),
      { numRuns: 300 },
    )
  })
})
