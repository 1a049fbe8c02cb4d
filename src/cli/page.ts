import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { HttpAnswer, HttpRequest } from '../index.ts'

const PAGE_FILE = new URL('../../assets/page.html', import.meta.url)

const COMMON_HEADERS: Readonly<Record<string, string>> = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
}

/**
 * Answers plain HTTP: the page, and /status, by which the page finds out why a connection failed (JavaScript in a
 * browser cannot see a 401). /status never looks at a token, so it cannot be asked about one. It tells that the app
 * runs, and which run this is: a random name, new at every start, from which nothing about the token follows.
 */
export function createAnswers(run: string): (request: HttpRequest) => HttpAnswer | undefined {
  const page = loadPage()
  const status: HttpAnswer = {
    headers: { ...COMMON_HEADERS, 'Content-Type': 'application/json' },
    body: JSON.stringify({ app: 'fullduplex', run }),
  }
  const answers = new Map([
    ['/', page],
    ['/status', status],
  ])
  return (request) => answers.get(request.path)
}

function loadPage(): HttpAnswer {
  // A browser hashes what the HTML parser made of the source, and that has no CR; a checkout on Windows may have.
  const html = readFileSync(PAGE_FILE, 'utf8').replaceAll('\r\n', '\n')
  return {
    headers: {
      ...COMMON_HEADERS,
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy': contentSecurityPolicy(html),
      'Cross-Origin-Opener-Policy': 'same-origin',
    },
    body: html,
  }
}

function contentSecurityPolicy(html: string): string {
  return [
    "default-src 'none'",
    `script-src ${hashOf(html, 'script')}`,
    `style-src ${hashOf(html, 'style')}`,
    "connect-src 'self'", // also ws: and wss: on this host and port
    'img-src data:', // the icon
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; ')
}

function hashOf(html: string, element: 'script' | 'style'): string {
  const content = html.split(`<${element}>`)[1]?.split(`</${element}>`)[0] ?? ''
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`
}
