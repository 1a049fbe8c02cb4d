import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import packageJson from '../../package.json' with { type: 'json' }
import { freePort, freePorts, holdPort, isFree } from '../support/ports.ts'
import { addressOf, type Program, startMain, startProgram } from '../support/program.ts'
import { RawClient } from '../support/raw-client.ts'
import { certificate, openClient } from '../support/servers.ts'

/*
 * The command: its options, what it prints, and how it ends. Its page is tried in test/browser.
 */

const TOKEN = 'a-token-for-the-tests'

/** Starts the command with the token above; resolves when it listens. */
async function serve(...args: string[]): Promise<{ app: Program; port: number }> {
  const app = startMain('--token', TOKEN, '--ports', String(await freePort()), ...args)
  const { port } = await addressOf(app)
  return { app, port: Number(port) }
}

/** A command that is to end by itself. */
async function run(...args: string[]): Promise<{ exit: unknown; output: string; errorOutput: string }> {
  const app = startMain(...args)
  const exit = await app.closed()
  return { exit, output: app.output, errorOutput: app.errorOutput }
}

const urlOf = (port: number): string => `ws://127.0.0.1:${port}/?token=${TOKEN}`

/** A client of nobody's making: it takes part in nothing but the opening handshake, and never answers a Close frame. */
async function openDeafClient(port: number): Promise<RawClient> {
  return RawClient.open({ port, target: `/?token=${TOKEN}` })
}

describe('options', () => {
  it('--help explains them', async () => {
    const { exit, output, errorOutput } = await run('--help')
    expect(exit).toBe(0)
    expect(errorOutput).toBe('')
    for (const option of ['--ports', '--host', '--token', '--cert', '--key', '--help', '--version']) {
      expect(output).toContain(`  ${option} `)
    }
    expect(Math.max(...output.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120)
  })

  it('--version says which one it is', async () => {
    expect(await run('--version')).toEqual({ exit: 0, output: `${packageJson.version}\n`, errorOutput: '' })
  })

  it.each([
    [['--prots', '50050'], 'unknown option --prots'],
    [['-p', '50050'], 'unknown option -p'],
    [['50050'], 'unexpected argument "50050"'],
    [['--ports'], '--ports needs a value'],
    [['--ports', '--host', '::1'], '--ports needs a value'],
    [['--ports', '50050;50060'], '--ports takes numbers from 0 to 65535, separated by commas; "50050;50060" is none'],
    [['--ports', '65536'], '"65536" is none'],
    [['--token', 'short'], '--token needs at least 16 characters'],
    [['--help=yes'], '--help takes no value'],
    [['--cert', 'cert.pem'], '--cert and --key only work together'],
    [['--cert', '/nowhere/cert.pem', '--key', '/nowhere/key.pem'], '--cert: ENOENT'],
    [['--cert', 'package.json', '--key', 'package.json'], '--cert and --key are not a certificate and its key (PEM)'],
  ])('%j is a mistake of the caller: exit code 2 and a sentence', async (args, sentence) => {
    const { exit, output, errorOutput } = await run(...args)
    expect(exit).toBe(2)
    expect(output).toBe('')
    const [first, second, ...more] = errorOutput.split('\n')
    expect(first).toMatch(/^fullduplex: /)
    expect(first).toContain(sentence)
    expect(second).toBe('fullduplex --help shows the options.')
    expect(more).toEqual([''])
  })
})

describe('listening', () => {
  it('prints the address as its first line, with a new random token each time', async () => {
    const port = await freePort()
    const tokens = new Set<string>()
    for (let run = 0; run < 2; run++) {
      const app = startMain('--ports', String(port))
      const address = await addressOf(app)
      expect(app.lines[0]).toBe(`Open ${address.href}`)
      expect(address.origin).toBe(`http://127.0.0.1:${port}`)
      expect(address.hash).toMatch(/^#token=[\w-]{32}$/)
      tokens.add(address.hash)
      await app.stop()
    }
    expect(tokens.size).toBe(2)
  })

  it('takes the next port when one is taken', async () => {
    const [taken, next] = (await freePorts(2)) as [number, number]
    await holdPort(taken)
    const app = startMain('--ports', `${taken}, ${next}`)
    expect((await addressOf(app)).port).toBe(String(next))
  })

  it('says so when all are taken: exit code 1', async () => {
    const [first, second] = (await freePorts(2)) as [number, number]
    await holdPort(first)
    await holdPort(second)
    const { exit, output, errorOutput } = await run('--ports', `${first},${second}`)
    expect(exit).toBe(1)
    expect(output).toBe('')
    expect(errorOutput).toMatch(/^fullduplex: .*; choose others with --ports\n$/)
    expect(errorOutput).toContain(String(first))
  })

  it('says so when the address is not one of this machine: exit code 1', async () => {
    const { exit, errorOutput } = await run('--ports', '0', '--host', '203.0.113.5')
    expect(exit).toBe(1)
    expect(errorOutput).toMatch(/^fullduplex: .*203\.0\.113\.5.*\n$/)
  })

  it('warns when others can reach it, and prints an address that can be opened', async () => {
    const { app, port } = await serve('--host', '0.0.0.0')
    expect(app.lines[0]).toBe(`Open http://127.0.0.1:${port}/#token=${TOKEN}`)
    await app.line('Other computers can reach this address, and nothing is encrypted')
  })

  it('quotes in the address what a token may have in it', async () => {
    const token = 'ä token/with+odd=chars%&#'
    const app = startMain('--ports', '0', '--token', token)
    const address = await addressOf(app)
    expect(new URLSearchParams(address.hash.slice(1)).get('token')).toBe(token)
    const client = await openClient(`ws://${address.host}/?token=${encodeURIComponent(token)}`)
    expect(client.state).toBe('open')
  })

  it('serves https and wss with a certificate', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fullduplex-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, 'cert.pem'), certificate.cert)
    writeFileSync(join(folder, 'key.pem'), certificate.key)
    const { app, port } = await serve('--cert', join(folder, 'cert.pem'), '--key', join(folder, 'key.pem'))
    expect(app.lines[0]).toBe(`Open https://127.0.0.1:${port}/#token=${TOKEN}`)
    const client = await openClient(urlOf(port).replace('ws:', 'wss:'))
    expect(client.state).toBe('open')
  })
})

describe('the terminal', () => {
  it('shows who comes, what is said and who goes; lines that are typed go to everyone', async () => {
    const { app, port } = await serve()
    const client = await openClient(urlOf(port))
    await app.line(/^\d\d:\d\d:\d\d {2}client 1 +connected from 127\.0\.0\.1$/)

    const messages = client[Symbol.asyncIterator]()
    client.send('Hello')
    await app.line(/client 1 +→ app: Hello$/)
    expect(await messages.next()).toMatchObject({ value: 'Hello' })
    client.send(new Uint8Array(20).fill(0xab))
    await app.line(/client 1 +→ app: <20 bytes: (ab){16}…>$/)
    expect(await messages.next()).toMatchObject({ value: Buffer.alloc(20, 0xab) })

    app.type('   ')
    app.type('To all of you')
    await app.line(/app +→ everyone \(1\): To all of you$/)
    expect(await messages.next()).toMatchObject({ value: 'To all of you' })

    client.close(4000, 'Bye')
    await app.line(/client 1 +left \(4000 Bye\)$/)
  })

  it('goes on when its input ends, and when nobody reads its output', async () => {
    const { app, port } = await serve()
    app.child.stdin!.end('The last line')
    await app.line('The last line')
    app.child.stdout!.destroy()
    const client = await openClient(urlOf(port))
    const messages = client[Symbol.asyncIterator]()
    client.send('Still there?')
    expect(await messages.next()).toMatchObject({ value: 'Still there?' })
    expect(await app.stop()).toBe(0)
  })

  it('shows a refusal with its reason, and never a token', async () => {
    const { app, port } = await serve()
    await expect(openClient(`ws://127.0.0.1:${port}/chat?token=a-wrong-one`)).rejects.toThrow('401')
    const line = await app.line('refused')
    expect(line).toContain('401 ERR_TOKEN_WRONG: The token is wrong')
    expect(line).toContain('(from 127.0.0.1, path /chat)')
    expect(app.output).not.toContain('a-wrong-one')
  })

  it('escapes what a hostile client wants it to obey', async () => {
    const { app, port } = await serve()
    const client = await openClient(urlOf(port))
    const attacks = [
      '\x1b]0;owned\x07', // the window's title
      '\x1b[2J\x1b[1;1H', // clear the screen
      '\x9b31m', // a colour, in C1
      '\u202egnp.exe', // reverse the reading order
      'line one\r\nline two\u2028three',
      '\x00\x08\x7f',
    ]
    for (const attack of attacks) client.send(attack)
    client.send('x'.repeat(1_000_000))
    client.close(1000, '\x1b[31mBye\x1b[5n')
    const refused = await RawClient.connect({ port })
    refused.send('GET /%1b]0;owned HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\nOrigin: http://\x9b31m\r\n')
    refused.send('Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n')
    await refused.readToEnd()

    const shown = [
      String.raw`\e]0;owned\x07`,
      String.raw`\e[2J\e[1;1H`,
      String.raw`\x9b31m`,
      String.raw`\u{202e}gnp.exe`,
      String.raw`line one\r\nline two\u{2028}three`,
      String.raw`\x00\x08\x7f`,
    ]
    for (const text of shown) await app.line(`→ app: ${text}`)
    await app.line('(1000000 characters)')
    await app.line(String.raw`left (1000 \e[31mBye\e[5n)`)
    await app.line('refused')
    await app.stop()
    await app.closed()
    expect(app.output).not.toMatch(/[^\P{Cc}\n]|\p{Cf}|\p{Zl}/u)
    expect(Math.max(...app.lines.map((line) => line.length))).toBeLessThan(700)
  })
})

describe('the end', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)('%s: clients are told, the port is free at once, exit 0', async (signal) => {
    const { app, port } = await serve()
    const client = await openClient(urlOf(port))
    const messages = client[Symbol.asyncIterator]()
    await app.line('client 1')

    expect(await app.stop(signal)).toBe(0)
    expect(await isFree(port)).toBe(true)
    // A clean close, not a broken connection: the iteration ends without an error.
    expect(await messages.next()).toMatchObject({ done: true })
    await app.closed()
    expect(app.errorOutput).toBe('')
    expect(app.lines.slice(-2)).toEqual([
      'Stopping: the clients are told. Ctrl-C again stops at once.',
      expect.stringMatching(/client 1 +left \(1001/),
    ])
  })

  it('does not wait for a client that does not answer', async () => {
    const { app, port } = await serve()
    const deaf = await openDeafClient(port)
    await app.line('client 1')
    expect(await app.stop()).toBe(0)
    expect(await isFree(port)).toBe(true)
    await deaf.ended()
  })

  it('a second Ctrl-C stops at once; the same one over two ways counts as one', async () => {
    const { app, port } = await serve()
    const deaf = await openDeafClient(port)
    await app.line('client 1')
    app.child.kill('SIGINT')
    app.child.kill('SIGTERM')
    await app.line('Stopping')
    expect(app.child.exitCode).toBeNull()
    // Someone who has lost patience: later than any second signal of the same key press.
    await new Promise((resolve) => setTimeout(resolve, 400))
    expect(await app.stop('SIGINT')).toBe(130)
    expect(await isFree(port)).toBe(true)
    await deaf.ended()
  })

  it('can be stopped as soon as the address is there', async () => {
    const app = startMain('--ports', String(await freePort()))
    await addressOf(app)
    expect(await app.stop('SIGTERM')).toBe(0)
  })
})

describe.skipIf(process.platform === 'win32')('npm start', () => {
  /** As in a terminal: npm, the shell that it starts and the app are one group of processes. */
  async function npmStart(): Promise<{ npm: Program; port: number; group: number }> {
    const port = await freePort()
    const args = ['start', '--', '--ports', String(port), '--token', TOKEN]
    const npm = startProgram('npm', args, { detached: true })
    await npm.line('Open http')
    return { npm, port, group: npm.child.pid! }
  }

  it('Ctrl-C in the terminal ends all of them; clients are told, the port is free', async () => {
    const { npm, port, group } = await npmStart()
    const client = await openClient(urlOf(port))
    const messages = client[Symbol.asyncIterator]()
    await npm.line('client 1')

    process.kill(-group, 'SIGINT')
    expect(await messages.next()).toMatchObject({ done: true })
    // Closed: none of them has the output open any more.
    expect(await npm.closed()).toBe(0)
    expect(await isFree(port)).toBe(true)
    await npm.line(/client 1 +left \(1001/)
  })

  it('a SIGTERM to npm alone ends all of them', async () => {
    const { npm, port } = await npmStart()
    npm.child.kill('SIGTERM')
    await npm.closed()
    expect(await isFree(port)).toBe(true)
  })
})
