import { writeFileSync } from 'node:fs'
import { Script } from 'node:vm'
import { describe, expect, it, onTestFinished } from 'vitest'
import { plugins } from '../../src/compat/monaca.ts'
import { connect, type WebSocketConnection } from '../../src/index.ts'
import { inProject } from '../support/example.ts'
import { freePort, isFree } from '../support/ports.ts'
import { type Program, startProgram } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { closeOf, frame, RawClient } from '../support/raw-client.ts'
import { missingSeed, readSeed } from '../support/seed-documents.ts'

/*
 * A document beside the repository describes a plugin for WebSocket servers in apps, with an example for each function
 * and each event. The examples are run as they are written there, each as a program of its own, in which
 * `fullduplex/monaca` is the plugin.
 *
 * They are taken out of the document with two changes. A line with nothing but `...` stands for what the reader has done
 * before, and that takes its time: there the program starts the server and waits for the test to open clients, which
 * makes the function around it an async one. And the example for `send` lacks a comma, without which it is no program.
 */

/** The example of each section, by the section's label: what is indented behind the directive. */
function readExamples(text: string): Map<string, string> {
  const [, ...parts] = text.split(/^\.\. _(?:m|ss)\.(\w+):\n/m)
  const examples = new Map<string, string>()
  for (let at = 0; at < parts.length; at += 2) {
    const [, code, ...more] = parts[at + 1]!.split(/^ *\.\. code-block:: javascript\n/m)
    if (code === undefined || more.length > 0) throw new Error(`${parts[at]} has not one example`)
    examples.set(parts[at]!, /^(?: *\n| {4}.*\n)*/.exec(code)![0].replaceAll(/^ {4}/gm, ''))
  }
  return examples
}

/** What an example says that it displays. */
function displayed(example: string): string {
  const found = /^ *\/\/(?:It'd display: )?([{[].*[}\]]|undefined) *$/m.exec(example)?.[1]
  if (found === undefined) throw new Error(`nothing is displayed in:\n${example}`)
  return found
}

/** A line of output without what differs between two machines: addresses, and ports of clients. */
function shapeOf(line: string): string {
  return line.replaceAll(/"\/[\d.]+:\d+"/g, '"/client"').replaceAll(/"ip":"[\d.]+"/g, '"ip":""')
}

/** The ports of the examples. */
const PORTS = [3001, 2001]

interface Running {
  readonly program: Program
  /** Where its servers listen: those ports, or others if somebody has one of them. */
  readonly ports: readonly number[]
}

interface RunOptions {
  /** Clients that are there behind the `...`. */
  readonly clients?: number
  /** What the program does with each of the servers that the example has made, before it goes on or behind it. */
  readonly before?: string
  readonly behind?: string
}

/** Runs an example up to the end of its function; its servers go on. */
async function run(label: string, example: string, options: RunOptions = {}): Promise<Running> {
  const { clients = 0, before = '', behind = '' } = options
  const areFree = await Promise.all(PORTS.map(isFree))
  const ports = areFree.includes(false) ? [await freePort(), await freePort()] : PORTS
  const code = example
    .replace(/^( *)\.\.\.$/m, '$1await elided(socketServer)')
    .replace(/^function onDeviceReady/m, 'async function onDeviceReady')
    .replace(/(?<=socketServer\.send\(\w+,\w+)(?=\s+function)/, ',')
  const file = inProject(`monaca-${label}.mjs`)
  writeFileSync(
    file,
    `
    import { once } from 'node:events'
    import { plugins as plugin } from 'fullduplex/monaca'

    const moved = new Map(${JSON.stringify(PORTS.map((port, index) => [port, ports[index]]))})
    const servers = []
    globalThis.plugins = {
      webSocketServer(...given) {
        const server = plugin.webSocketServer(...(${ports === PORTS} ? given : [moved.get(given[0] ?? 3001)]))
        servers.push(server)
        ${before}
        return server
      },
    }
    globalThis.document = { addEventListener: (...given) => document.listeners.push(given), listeners: [] }
    async function elided(server) {
      await server.start()
      console.log('# started')
      await once(process.stdin, 'data')
    }

    ${code}

    for (const [event, listener] of document.listeners) if (event === 'deviceready') await listener()
    for (const server of servers) { ${behind} }
    console.log('# done')
    process.stdin.unref()
    `,
  )
  const program = startProgram(process.execPath, [file])
  if (code.includes('await elided')) {
    await program.line('# started')
    for (let count = 0; count < clients; count++) await open(ports[0]!)
    program.type('go on')
  }
  await program.line('# done')
  return { program, ports }
}

async function open(port: number, texts?: Queue<unknown>): Promise<WebSocketConnection<undefined>> {
  const connection = await connect(`ws://127.0.0.1:${port}`, { message: (_, data) => texts?.push(data) })
  onTestFinished(() => connection.terminate())
  return connection
}

const OWN_LINE = /^(?!# )/

/** The one line that an example has printed. */
async function printed({ program }: Running): Promise<string> {
  const line = await program.line(OWN_LINE)
  expect(program.lines.filter((other) => OWN_LINE.test(other))).toEqual([line])
  expect(program.errorOutput).toBe('')
  return line
}

const text = readSeed('003')

describe('the document with the plugin', () => {
  if (text === undefined) {
    it('skipped: it is not beside the repository', ({ skip }) => skip(missingSeed('003')))
    return
  }
  const examples = readExamples(text)
  const exampleOf = (label: string): string => examples.get(label) as string

  it('has the examples that are run here, and no others', () => {
    const labels = ['WebSocketServer', 'start', 'stop', 'getAddress', 'getClients', 'getStatus', 'send']
    const events = ['ClientCon', 'ClientDiscon', 'onmessage', 'onerror']
    expect([...examples.keys()]).toEqual([...labels, 'ToAllClients', ...events])
    expect(text.match(/code-block::/g)).toHaveLength(examples.size)
  })

  it('names functions and properties, all of which there are', () => {
    const server = plugins.webSocketServer()
    const members = [...text.matchAll(/^:ref:`plugins\.webSocketServer\.(\w+)(\(\))?</gm)]
    expect(members.length).toBe(11)
    for (const [, name, call] of members) {
      expect(name! in server, name).toBe(true)
      const member: unknown = Reflect.get(server, name!)
      expect(typeof member, name).toBe(call === undefined ? 'object' : 'function')
    }
    expect(plugins.webSocketServer).toBeTypeOf('function')
  })

  it('creates servers with the ports that it says', async () => {
    const running = await run('create', exampleOf('WebSocketServer'), {
      behind: 'console.log((await server.start()).port)',
    })
    expect(running.program.lines).toEqual([...running.ports.map(String), '# done'])
    for (const port of running.ports) await open(port)
  })

  it('starts a server', async () => {
    const running = await run('start', exampleOf('start'))
    const line = await printed(running)
    const port = running.ports[0]!
    expect(shapeOf(line)).toBe(shapeOf(displayed(exampleOf('start'))).replace('3001', String(port)))
    expect(JSON.parse(line).ip).toBe('127.0.0.1')
    await open(port)
  })

  it('stops a server that was started before', async () => {
    const running = await run('stop', exampleOf('stop'), { before: "server.start(() => console.log('# started'))" })
    expect(await printed(running)).toBe(displayed(exampleOf('stop')))
    expect(running.program.lines).toContain('# started')
    expect(await running.program.closed()).toBe(0)
  })

  it('fails to stop a server that nobody has started', async () => {
    const running = await run('not-started', exampleOf('stop'))
    expect(await printed(running)).toBe('error :The server is not started; call start first.')
  })

  it.each(['getAddress', 'getClients', 'getStatus', 'ToAllClients'])(
    'has the result that it says of %s',
    async (label) => {
      const running = await run(label, exampleOf(label), { clients: 2 })
      const expected = shapeOf(displayed(exampleOf(label))).replace('3001', String(running.ports[0]))
      expect(shapeOf(await printed(running))).toBe(expected)
    },
  )

  it('sends to a client that has connected, once it has its comma', async () => {
    const example = exampleOf('send')
    expect(() => new Script(example.replace('...', ''))).toThrow(SyntaxError)
    const running = await run('send', example)
    const texts = new Queue<unknown>()
    await open(running.ports[0]!, texts)
    expect(await texts.next()).toBe(/var message = "(.*)"/.exec(example)?.[1])
    expect(await printed(running)).toBe(displayed(example))
  })

  it.each<[string, (port: number) => unknown]>([
    ['ClientCon', open],
    ['ClientDiscon', async (port) => (await open(port)).close()],
    ['onmessage', async (port) => (await open(port)).send('hi')],
  ])('has the event that it says of %s', async (label, act) => {
    const running = await run(label, exampleOf(label))
    await act(running.ports[0]!)
    expect(shapeOf(await printed(running))).toBe(shapeOf(displayed(exampleOf(label))))
  })

  it('has the event that it says of onerror, with a message', async () => {
    const running = await run('onerror', exampleOf('onerror'))
    const client = await RawClient.open({ port: running.ports[0]! })
    client.send(frame(3))
    expect(closeOf(await client.readFrame()).code).toBe(1002)
    const line = await printed(running)
    expect(JSON.parse(line).message).toBe('Opcode 3 is reserved.')
    expect(shapeOf(line).replace('Opcode 3 is reserved.', '')).toBe(shapeOf(displayed(exampleOf('onerror'))))
  })
})
