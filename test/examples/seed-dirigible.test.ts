import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Context, createContext, runInContext } from 'node:vm'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createRuntime } from '../../src/compat/dirigible.ts'
import { WebSocket } from '../../src/index.ts'
import { describeInChromium, inPage, keepRecords, type NewProfile } from '../support/chromium.ts'
import { makeFolder } from '../support/dirigible-folder.ts'
import { inProject } from '../support/example.ts'
import { freePort } from '../support/ports.ts'
import { type Program, startProgram } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { missingSeed, readIn, readSeed } from '../support/seed-documents.ts'
import { startServer } from '../support/servers.ts'

/*
 * A document beside the repository shows an API for websockets in two versions. Its code is run as it is written there,
 * in a folder of modules, by the packed library.
 */

/** The only block of code in which there is this. */
function find(text: string, part: string): string {
  const blocks = [...text.matchAll(/^```\w*\n(.*?)^```/gms)].map(([, code]) => code!)
  const found = blocks.filter((code) => code.includes(part))
  if (found.length !== 1) throw new Error(`${found.length} blocks have ${part}`)
  return found[0]!
}

/** Puts files into the project, in a folder of their own. */
function writeModules(folder: string, files: Readonly<Record<string, string>>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(inProject(folder, path)), { recursive: true })
    writeFileSync(inProject(folder, path), text)
  }
  return inProject(folder)
}

/** Runs a program with the modules of a folder. */
function startModules(folder: string, code: string): Program {
  writeFileSync(
    inProject(`${folder}.mjs`),
    `import { createRuntime } from 'fullduplex/dirigible'
    const runtime = createRuntime({ root: new URL('${folder}', import.meta.url) })
    const PAGE = '<!doctype html><link rel="icon" href="data:,">'
    ${code}`,
  )
  return startProgram(process.execPath, [inProject(`${folder}.mjs`)])
}

/** The same with a server; gives its port. */
async function serveModules(folder: string, services: readonly string[]): Promise<{ program: Program; port: string }> {
  const page = "({ path }) => (path === '/' ? { body: PAGE, headers: { 'Content-Type': 'text/html' } } : undefined)"
  const options = `{ port: 0, services: ${JSON.stringify(services)}, respond: ${page} }`
  const program = startModules(folder, `console.log((await runtime.serve(${options})).port)`)
  return { program, port: await program.line(/^\d+$/) }
}

/** Waits until a program has written these lines to its standard error. */
async function complains(program: Program, lines: readonly string[]): Promise<void> {
  await expect.poll(() => program.errorOutput.split('\n').slice(0, -1), { timeout: 20_000 }).toEqual(lines)
}

const seed = readSeed('002')

describe('the document with an API for websockets', () => {
  if (seed === undefined) {
    it('skipped: it is not beside the repository', ({ skip }) => skip(missingSeed('002')))
    return
  }
  const [fourth = '', second = ''] = seed.split(/^Version 3/m)
  describe('version 4', () => versionFour(fourth))
  describe('version 2', () => versionTwo(second))
  describeInChromium('in a browser', [], (newProfile) => inBrowser(fourth, newProfile))
  describe('the tables', () => tables(fourth, second))
})

/** The blocks of version 4, and what stands in them. */
function readFour(text: string) {
  const client = find(text, 'createWebsocket(uri')
  const handler = find(text, 'exports.onOpen')
  const descriptor = find(text, '"endpoint"')
  const browser = find(text, 'new WebSocket')
  const says = (name: string): string => readIn(handler, new RegExp(`exports\\.${name} = [\\s\\S]*?\\("(.*?)"`))
  const name = readIn(client, /handler = "(.*)"/)
  return { client, handler, descriptor, browser, says, name, uri: readIn(client, /uri = "(.*)"/) }
}

function versionFour(text: string): void {
  const { client, handler, descriptor, browser, says, name, uri } = readFour(text)
  const message = readIn(client, /send\("(.*)"\)/)

  /** Runs the client of the document against this address, which takes the place of a server in the net. */
  function startClient(folder: string, address: string, code = client): Program {
    writeModules(folder, { [`${name}.js`]: handler, 'my-project/client.js': code.replace(uri, address) })
    return startModules(folder, "runtime.require('my-project/client')")
  }

  it.each(['net/v4/websockets', 'net/websockets'])(
    'its client sends, hears the answer, and closes: %s',
    async (module) => {
      const received = new Queue<unknown>()
      const codes = new Queue<number>()
      const { url } = await startServer({
        message(peer, data) {
          received.push(data)
          peer.send(data)
        },
        close: (_peer, event) => codes.push(event.code),
      })
      expect(client).toContain('require("net/v4/websockets")')
      const program = startClient('seed-client', url, client.replace('net/v4/websockets', module))
      expect(await program.closed()).toBe(0)
      expect(program.lines).toEqual([
        readIn(client, /log\("(.*?)" \+ uri/) + url,
        says('onOpen'),
        says('onMessage') + message,
      ])
      expect(program.errorOutput).toBe(`${says('onClose')}\n`)
      expect(received.all).toEqual([message])
      expect(await codes.next()).toBe(1000)
    },
  )

  it('its handler is told when there is no server', async () => {
    const program = startClient('seed-refused', `ws://127.0.0.1:${await freePort()}/`)
    expect(await program.closed()).toBe(0)
    expect(program.lines).toHaveLength(1)
    const [error, closed, ...more] = program.errorOutput.split('\n').slice(0, -1)
    expect(error).toMatch(new RegExp(`^${says('onError')}.*ECONNREFUSED`))
    expect([closed, ...more]).toEqual([says('onClose')])
  })

  it('its descriptor puts its handler at its address', async () => {
    writeModules('seed-server', { [`${name}.js`]: handler, 'my-project/my-endpoint.websocket': descriptor })
    const { program, port } = await serveModules('seed-server', [])
    const page = newPage(browser.replace('8080', port))
    await page.run(0)
    await page.opened
    await page.run(1)
    await program.line(says('onMessage') + readIn(browser, /send\('(.*)'\)/))
    expect(program.lines).toEqual([port, says('onOpen'), says('onMessage') + readIn(browser, /send\('(.*)'\)/)])
    page.socket('ws').close()
    await complains(program, [says('onClose')])
  })
}

/** Lines that a page would run, in a context of their own. */
function newPage(code: string) {
  const context: Context = createContext({ WebSocket })
  const lines = code.split('\n').filter((line) => line.trim() !== '')
  let open!: () => void
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  const messages = new Queue<unknown>()
  const socket = (name: string): WebSocket => context[name] as WebSocket
  async function run(index: number): Promise<void> {
    runInContext(lines[index]!, context)
    const made = /var (\w+) = new WebSocket/.exec(lines[index]!)?.[1]
    if (made === undefined) return
    socket(made).addEventListener('open', open)
    socket(made).addEventListener('message', (event) => messages.push((event as unknown as { data: unknown }).data))
    onTestFinished(() => socket(made).close())
  }
  return { context, lines, opened, messages, socket, run }
}

function inBrowser(text: string, newProfile: NewProfile): void {
  const { handler, descriptor, browser, says, name } = readFour(text)

  it('its page talks to its handler, once it waits for the opening, as browsers ask for', async () => {
    writeModules('seed-page', { [`${name}.js`]: handler, 'my-endpoint.websocket': descriptor })
    const { program, port } = await serveModules('seed-page', [])
    const code = browser.replace('8080', port)
    const context = await newProfile()
    const { complaints } = keepRecords(context)
    const page = await context.newPage()
    await page.goto(`http://localhost:${port}/`)
    const [construct = '', send = ''] = code.split('\n')
    await page.addScriptTag({ content: code }) // all at once
    await expect.poll(() => complaints).toEqual([expect.stringMatching(/InvalidStateError|CONNECTING/)])
    await page.addScriptTag({ content: construct })
    await expect.poll(() => inPage<boolean>(page, 'ws.readyState === WebSocket.OPEN'), { timeout: 20_000 }).toBe(true)
    await page.addScriptTag({ content: send })
    await program.line(says('onMessage') + readIn(browser, /send\('(.*)'\)/))
    expect(complaints).toHaveLength(1)
  })
}

function versionTwo(text: string): void {
  const service = find(text, 'require("core/globals")')
  /** What the comment behind the code has each client do, in this order. */
  const steps = [...readIn(service, /\/\*\*\n(--[\s\S]*?)\*\//).matchAll(/^-- Client (\d)\n([^-]*)/gm)].map(
    ([, client = '', code = '']) => ({ client, code }),
  )

  it('its chat: both are welcomed, hear each other, and who is there', async () => {
    const module = readIn(service, /"module": "(.*?)"/)
    writeModules('seed-chat', { [module]: service })
    const { program, port } = await serveModules('seed-chat', [module])
    const members: string[] = []
    const pages = new Map<string, ReturnType<typeof newPage>>()
    const nameOf = new Map<string, string>()
    const log: string[] = []
    const heard: [string, unknown][] = []
    expect(steps.map(({ client }) => client)).toEqual(['1', '2', '1', '2'])
    for (const { client, code } of steps) {
      const page = newPage(code.replaceAll('8080', port))
      const former = pages.get(client)
      if (former === undefined) pages.set(client, page)
      const { context, messages, opened } = pages.get(client)!
      for (const [index, line] of page.lines.entries()) {
        if (line.includes('new WebSocket')) {
          await page.run(index)
          await opened
          continue
        }
        runInContext(line, context)
        const { type, from, to, message } = JSON.parse(readIn(line, /'(.*)'/)).params
        if (type === 'welcome') {
          nameOf.set(from, client)
          members.push(from)
          const text = await messages.next()
          expect(text).toBe(
            `${readIn(service, /sendText\("(.*?)" \+ from/)}${from}${readIn(service, /\+ from \+ "(.*?)"/)}`,
          )
          heard.push([client, text])
          log.push(readIn(service, /console.error\("(\w+ )" \+ from/) + from)
        } else if (type === 'message') {
          const text = await pages.get(nameOf.get(to)!)!.messages.next()
          expect(text).toBe(message)
          heard.push([nameOf.get(to)!, text])
          log.push(readIn(service, /"(send .*?)" \+ to/) + to)
        } else {
          const text = await messages.next()
          expect(text).toBe(JSON.stringify(members))
          heard.push([client, text])
          log.push(readIn(service, /"(list: )"/) + JSON.stringify(members))
        }
      }
    }
    expect(heard).toEqual([
      ['1', 'Welcome Tom!'],
      ['2', 'Welcome Jerry!'],
      ['2', 'Hello Jerry!'],
      ['1', 'Hi Tom!'],
      ['2', '["Tom","Jerry"]'],
    ])
    await complains(program, log)
    // Everybody has heard what is above, and nothing else.
    expect([...pages.values()].flatMap(({ messages }) => messages.all)).toHaveLength(heard.length)
  })

  it('its chat says when there is nobody of that name, and keeps nothing else from running', async () => {
    const module = readIn(service, /"module": "(.*?)"/)
    writeModules('seed-chat-alone', { [module]: service })
    const { program, port } = await serveModules('seed-chat-alone', [module])
    const line = steps[2]!.code.trim()
    const page = newPage(`${steps[0]!.code.trim().split('\n')[0]}\n${line}`.replace('8080', port))
    await page.run(0)
    await page.opened
    await page.run(1)
    await complains(program, [readIn(service, /"(no session .*?)" \+ to/) + readIn(line, /"to":"(.*?)"/)])
    expect(page.messages.all).toEqual([])
  })
}

/** The functions in tables: by the heading before, their names. */
function namesIn(text: string): Record<string, string[]> {
  const sections: Record<string, string[]> = {}
  let section = ''
  for (const line of text.split('\n')) {
    section = /^#{3,4} +(.*)/.exec(line)?.[1]?.trim() ?? section
    const name = /^\*\*(\w+)\(/.exec(line)?.[1]
    if (name !== undefined) (sections[section] ??= []).push(name)
  }
  return sections
}

function tables(fourth: string, second: string): void {
  it('have no function that is missing here', async () => {
    const runtime = createRuntime({
      root: makeFolder({
        'service.js': "require('core/globals').get('take')(require('net/websocket').getSession())",
      }),
    })
    onTestFinished(() => runtime.close())
    const sessions = new Queue<unknown>()
    const globals = runtime.require('core/globals') as { set(name: string, value: unknown): void }
    globals.set('take', sessions.push)
    const { port } = await runtime.serve({ services: ['service'] })
    const websockets = runtime.require(readIn(fourth, /Module: \*\*(.*)\*\*/)) as Record<string, unknown>
    expect(runtime.require(readIn(fourth, /Alias: \*\*(.*)\*\*/))).toBe(websockets)
    const websocket = runtime.require(readIn(second, /Module: \*\*(.*)\*\*/)) as Record<string, unknown>
    expect(runtime.require('net/websocket')).toBe(websocket)
    const create = websockets['createWebsocket'] as (uri: string, handler: object) => { send(text: string): void }
    const client = create(`ws://127.0.0.1:${port}/service/js`, {})
    client.send('{"module":"service"}')
    const session = await sessions.next()

    const owners = [
      [namesIn(fourth), { Functions: websockets, WebsocketClient: client }],
      [namesIn(second), { Functions: websocket, WebsocketSession: session }],
    ] as const
    for (const [sections, objects] of owners) {
      expect(Object.keys(sections)).toEqual(Object.keys(objects))
      for (const [section, owner] of Object.entries(objects)) {
        const types = sections[section]!.map((name) => [name, typeof (owner as Record<string, unknown>)[name]])
        expect(types).toEqual(sections[section]!.map((name) => [name, 'function']))
      }
    }
  })
}
