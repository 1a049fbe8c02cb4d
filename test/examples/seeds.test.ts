import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Script } from 'node:vm'
import type { Page } from 'playwright-core'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../../src/index.ts'
import { describeInChromium, inPage, keepRecords, type NewProfile } from '../support/chromium.ts'
import { inProject } from '../support/example.ts'
import { freePort, isFree } from '../support/ports.ts'
import { type Program, startProgram } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { missingSeed, readIn, readSeed } from '../support/seed-documents.ts'

/*
 * Two documents beside the repository have programs for ws. They are run as they are written there, on this library
 * under the name `ws`: as version 7 the one that asks for it, as version 8 the other.
 */

interface Block {
  readonly language: string
  readonly code: string
}

/** The code in a document, in its order; undefined when there is no such document. */
function readBlocks(number: string): Block[] | undefined {
  const text = readSeed(number)
  if (text === undefined) return undefined
  return [...text.matchAll(/^```(\w+)\n(.*?)^```/gms)].map(([, language, code]) => ({
    language: language!,
    code: code!,
  }))
}

/** The only block in which there is this. */
function find(blocks: readonly Block[], language: string, part: string): string {
  const found = blocks.filter((block) => block.language === language && block.code.includes(part))
  if (found.length !== 1) throw new Error(`${found.length} blocks of ${language} have ${part}`)
  return found[0]!.code
}

function skipped(number: string): void {
  it('skipped: it is not beside the repository', ({ skip }) => skip(missingSeed(number)))
}

/** The port that some code has, or a free one when another program has it. */
async function choosePort(port: string): Promise<string> {
  return (await isFree(Number(port))) ? port : String(await freePort())
}

/** Runs a program under the name of a file, in the folder where `ws` is version 7 or 8. */
function startCode(file: string, code: string, env: Record<string, string> = {}): Program {
  writeFileSync(inProject(file), code)
  return startProgram(process.execPath, [inProject(file)], { env: { ...process.env, ...env } })
}

/** Waits for a server of ws, which says of a plain request that it wants another. */
async function listening(port: string): Promise<void> {
  const status = (): Promise<number> =>
    fetch(`http://localhost:${port}`).then(
      (answer) => answer.status,
      () => 0,
    )
  await expect.poll(status, { timeout: 20_000 }).toBe(426)
}

/** The address of a page, from a server as small as can be. */
async function serve(page: string): Promise<string> {
  const server = createServer((request, response) => {
    response.writeHead(request.url === '/' ? 200 : 204, { 'Content-Type': 'text/html' })
    response.end(request.url === '/' ? page : undefined)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}

/** What a WebSocket server answers to a text. */
async function ask(url: string, text: string): Promise<unknown> {
  const answers = new Queue<unknown>()
  const connection = await connect(url, { message: (_connection, data) => answers.push(data) })
  onTestFinished(() => connection.close())
  connection.send(text)
  return answers.next()
}

const relay = readBlocks('001')
const notes = readBlocks('004')

describe('the document with a relay and a page', () => {
  if (relay === undefined) return skipped('001')
  describeInChromium('as it is written', [], (newProfile) => relayTests(relay, newProfile))
})

describe('the document with notes', () => {
  if (notes === undefined) return skipped('004')
  noteTests(notes)
  describeInChromium('in a browser', [], (newProfile) => notePageTests(notes, newProfile))
})

function relayTests(blocks: readonly Block[], newProfile: NewProfile): void {
  const server = find(blocks, 'js', 'Server(')
  const manifest = find(blocks, 'json', '"ws"')
  const page = find(blocks, 'html', 'new WebSocket')
  const port = readIn(server, /port: (\d+)/)
  const greeting = readIn(server, /ws\.send\('(.*)'\)/)

  async function openWindow(address: string): Promise<{ page: Page; complaints: string[] }> {
    const context = await newProfile()
    const { complaints } = keepRecords(context)
    const page = await context.newPage()
    await page.goto(address)
    await page.getByText(greeting, { exact: true }).waitFor()
    return { page, complaints }
  }

  it('relays what one page sends to both, as text', async () => {
    expect(JSON.parse(manifest)).toMatchObject({ type: 'module', dependencies: { ws: expect.stringMatching(/^\^7/) } })
    expect(page).toContain(`localhost:${port}`)
    const chosen = await choosePort(port)
    writeFileSync(inProject('ws7/package.json'), manifest)
    const program = startCode('ws7/server.js', server.replaceAll(port, chosen))
    await listening(chosen)
    const address = await serve(page.replaceAll(port, chosen))
    const windows = [await openWindow(address), await openWindow(address)] as const
    const texts = ['from the first', 'aus dem zweiten: äöü 👋', '<b>not bold</b>']
    for (const [index, text] of texts.entries()) {
      const { page } = windows[index % 2]!
      await page.getByRole('textbox').fill(text)
      if (index === 0) await page.getByRole('textbox').press('Enter')
      else await page.getByRole('button').click()
      for (const { page } of windows) await page.getByText(text, { exact: true }).waitFor()
    }
    for (const { page, complaints } of windows) {
      // The same words in the same order, and nothing like [object Blob] between them.
      expect(await page.locator('div > div > div').allTextContents()).toEqual([greeting, ...texts])
      expect(complaints).toEqual([])
    }
    expect(program.errorOutput).toBe('')
  })
}

/** The lines up to the first that is wrong. */
function rightLines(code: string): string {
  const lines = code.split('\n')
  const isRight = (count: number): boolean => {
    try {
      new Script(lines.slice(0, count).join('\n'))
      return true
    } catch {
      return false
    }
  }
  const count = lines.findLastIndex((_line, index) => isRight(index + 1))
  return lines.slice(0, count + 1).join('\n')
}

function notePageTests(blocks: readonly Block[], newProfile: NewProfile): void {
  const server = find(blocks, 'js', 'require(')
  const client = find(blocks, 'js', 'onmessage')
  const port = readIn(server, /port: ?'(\d+)'/)

  it('its page talks to its server, but for its click handler, which has a syntax error', async () => {
    expect(() => new Script(client)).toThrow(SyntaxError)
    const code = rightLines(client)
    expect(code).toContain('console.log')
    expect(code).not.toContain('handleClick')
    const chosen = await choosePort(port)
    startCode('ws8/server.cjs', server.replaceAll(port, chosen))
    await listening(chosen)

    const context = await newProfile()
    const { complaints } = keepRecords(context)
    const page = await context.newPage()
    await page.goto(await serve('<!doctype html>'))
    await page.addScriptTag({ content: code.replaceAll(port, chosen) })
    const text = readIn(client, /\.send\('(.*)'\)/)
    const isOpen = 'socket.readyState === WebSocket.OPEN'
    await expect.poll(() => inPage<boolean>(page, isOpen), { timeout: 20_000 }).toBe(true)
    await inPage(page, `socket.send('${text}')`)
    await expect.poll(() => complaints, { timeout: 20_000 }).toEqual([`log: ${readIn(server, /\.send\('(.*)'\)/)}`])
  })
}

function noteTests(blocks: readonly Block[]): void {
  it('its first server answers, with a port that is a string', async () => {
    const server = find(blocks, 'js', 'require(')
    const port = readIn(server, /port: ?'(\d+)'/)
    const chosen = await choosePort(port)
    const program = startCode('ws8/first.cjs', server.replaceAll(port, chosen))
    await listening(chosen)
    expect(await ask(`ws://localhost:${chosen}`, 'hello')).toBe(readIn(server, /\.send\('(.*)'\)/))
    expect(program.errorOutput).toBe('')
  })

  const shared = find(blocks, 'js', 'createServer(app)')

  it('its server beside Express runs, and ends, since it does not listen', async () => {
    const program = startCode('ws8/shared.mjs', shared)
    expect(await program.closed()).toBe(0)
    expect([program.output, program.errorOutput]).toEqual(['', ''])
  })

  it('its server beside Express has REST and WebSockets on one port, once it listens', async () => {
    expect(shared).toMatch(/new WebSocketServer\(server\)/)
    const program = startCode(
      'ws8/listening.mjs',
      `${shared}
      app.get('/rest', (_request, response) => { response.send('an answer') })
      socketServer.on('connection', (socket) => socket.on('message', (data) => socket.send('heard ' + data)))
      server.listen(0, '127.0.0.1', () => console.log(server.address().port))`,
    )
    const port = await program.line(/^\d+$/)
    expect(await (await fetch(`http://127.0.0.1:${port}/rest`)).text()).toBe('an answer')
    expect(await ask(`ws://127.0.0.1:${port}`, 'hello')).toBe('heard hello')
  })

  const misnamed = find(blocks, 'js', 'expressServer')
  const IMPORTS = "import express from 'express'\nimport http from 'node:http'\nimport ws from 'ws'\n"

  it('its last server is no program: it has names that nobody has defined', async () => {
    const program = startCode('ws8/undefined.mjs', misnamed, { PORT: '0' })
    expect(await program.closed()).toBe(1)
    expect(program.errorOutput).toContain('ReferenceError')
  })

  it.each(['http.createServer()', 'undefined'])(
    'its last server, with those names, is told what { expressServer } should be: %s',
    async (value) => {
      const code = `${IMPORTS}const expressServer = ${value}\n${misnamed}`
      const program = startCode('ws8/misnamed.mjs', code, { PORT: '0' })
      expect(await program.closed()).toBe(1)
      expect(program.errorOutput).toMatch(/^TypeError: .*did you mean \{ server \}\?$/m)
    },
  )

  it('its last server works once it does what it is told', async () => {
    const told = misnamed.replace(/\{ *expressServer *\}/, '{ server }')
    expect(told).not.toBe(misnamed)
    const report = `
      socketServer.on('connection', (socket) => socket.on('message', () => socket.send('heard')))
      server.once('listening', () => console.log(server.address().port))`
    const program = startCode('ws8/told.mjs', `${IMPORTS}${told}${report}`, { PORT: '0' })
    const port = await program.line(/^\d+$/)
    expect(await ask(`ws://127.0.0.1:${port}`, 'hello')).toBe('heard')
    await program.line(readIn(misnamed, /=> \{\s*console\.log\('(.*)'\)/))
    expect(program.errorOutput).toBe('')
  })
}
