import { describe, expect, it } from 'vitest'
import { HandshakeError, UsageError } from '../../src/errors.ts'
import { isSameOrigin, parseUrl, redirectTarget, type Target, withoutSecrets, withoutTokens } from '../../src/target.ts'

const target = (url: string): Target => parseUrl(url).target

describe('parseUrl', () => {
  it.each<[string, Partial<Target>]>([
    ['ws://a', { protocol: 'ws:', hostname: 'a', port: 80, host: 'a', path: '/', href: 'ws://a/' }],
    ['http://a:80/b', { protocol: 'ws:', port: 80, host: 'a', path: '/b' }],
    ['wss://a:444/b?c', { protocol: 'wss:', port: 444, host: 'a:444', path: '/b?c' }],
    ['https://[::1]/', { protocol: 'wss:', hostname: '::1', port: 443, host: '[::1]' }],
    ['ws://user:password@a/', { href: 'ws://a/' }],
    [
      'ws+unix:/a.sock',
      { protocol: 'ws:', hostname: 'localhost', socketPath: '/a.sock', host: 'localhost', path: '/' },
    ],
    ['ws+unix:/a.sock?b', { socketPath: '/a.sock', path: '/?b' }],
    ['wss+unix:///a%3Ab:/c d?e', { protocol: 'wss:', socketPath: '/a:b', path: '/c%20d?e' }],
    ['ws+unix:./a.sock:/x y', { socketPath: './a.sock', path: '/x%20y' }],
    ['ws+unix:\\\\.\\pipe\\a:/', { socketPath: '\\\\.\\pipe\\a', path: '/' }],
  ])('%s', (url, expected) => {
    expect(target(url)).toMatchObject(expected)
  })

  it('keeps line breaks and blanks out of the request', () => {
    for (const url of ['ws://a/\r\nX: y', 'ws+unix:a.sock:/\r\nX: y z\tq']) {
      expect(target(url).path).not.toMatch(/\s/)
    }
  })

  it.each([
    '',
    'a',
    'ftp://a',
    'ws://',
    'ws://a#',
    'ws+unix:',
    'ws+unix::/',
    'ws+unix://a/b',
    'ws+unix:/a:b',
    'ws://%ff@a',
  ])('refuses %j', (url) => {
    expect(() => parseUrl(url)).toThrow(UsageError)
  })
})

describe('redirectTarget', () => {
  it.each([
    ['ws://a/b/c', 'd', 'ws://a/b/d'],
    ['ws://a/b', '?c', 'ws://a/b?c'],
    ['ws://a/b', '//c/d', 'ws://c/d'],
    ['ws://a', 'http://b', 'ws://b/'],
    ['ws://a', 'https://b', 'wss://b/'],
    ['wss://a', 'https://user:password@b:443/#c', 'wss://b/'],
  ])('from %s by %s', (from, location, expected) => {
    expect(redirectTarget(target(from), 302, location).href).toBe(expected)
  })

  it.each([
    ['ws://a', undefined],
    ['ws://a', 'http://[::'],
    ['ws://a', 'ftp://b'],
    ['wss://a', 'ws://a'],
    ['wss://a', 'http://a'],
    ['ws+unix:/a.sock', '/b'],
  ])('does not lead from %s by %s', (from, location) => {
    expect(() => redirectTarget(target(from), 302, location)).toThrow(HandshakeError)
  })
})

describe('another origin', () => {
  it.each([
    ['ws://a', 'http://a:80/b', true],
    ['ws://A', 'ws://a', true],
    ['ws://a', 'wss://a', false],
    ['ws://a:80', 'wss://a:80', false],
    ['ws://a', 'ws://a:81', false],
    ['ws://a', 'ws://b.a', false],
    ['ws://localhost', 'ws+unix:/a.sock', false],
  ])('%s and %s', (a, b, isSame) => {
    expect(isSameOrigin(target(a), target(b))).toBe(isSame)
  })

  it('gets no secrets', () => {
    const headers = { AUTHORIZATION: 'a', Cookie: 'b', 'proxy-Authorization': 'c', 'X-Mine': 'd' }
    expect(withoutSecrets(headers)).toEqual({ 'X-Mine': 'd' })
    expect(withoutTokens(['chat', 'bearer.secret'])).toEqual(['chat'])
  })
})
