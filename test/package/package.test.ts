import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  installPackage,
  linkNodeTypes,
  type Packed,
  packProject,
  run,
  runCompiler,
  runNode,
} from '../support/package.ts'
import { ROOT } from '../support/program.ts'
import { readSources } from '../support/sources.ts'

const MAX_PACKED_BYTES = 280_000
/** The client for pages, on its way through the net. */
const MAX_BROWSER_BYTES = 2_048

/** What `import` gives. A name that leaves, or changes, breaks programs of others. */
const VALUES = [
  ...['CloseCode', 'HandshakeError', 'Opcode', 'ProtocolError', 'UsageError', 'WebSocketConnection', 'WebSocketError'],
  ...[
    'WebSocketServer',
    'broadcast',
    'connect',
    'createApi',
    'events',
    'getServer',
    'onClientConnected',
    'onClientDisconnected',
  ],
  ...['onMessage', 'send', 'startServer', 'stopServer', 'updateTls', 'getRooms', 'joinRoom', 'leaveRoom'],
  ...['Publisher', 'createPublisher', 'prepare'],
  ...[
    'ReconnectingConnection',
    'WebSocket',
    'WebSocketCloseEvent',
    'WebSocketErrorEvent',
    'reconnecting',
    'toWebStreams',
  ],
]
/** And `import type`. */
const TYPES = [
  ...['ActionResult', 'Api', 'ApiEvents', 'AttachableServer', 'Authorization', 'BroadcastActionResult'],
  ...[
    'PathRule',
    'TlsSource',
    'PublishOptions',
    'PublishResult',
    'ClientEvent',
    'CloseEvent',
    'CompressionOptions',
    'ConnectOptions',
    'ConnectionErrorCode',
  ],
  ...['ConnectionHandlers', 'ConnectionLimits', 'Data', 'HandshakeErrorCode', 'HeadLimitOptions', 'HeaderFields'],
  ...['HttpAnswer', 'HttpRequest', 'Listener', 'Message', 'MessageEvent', 'ProtocolErrorCode', 'ProtocolState'],
  ...[
    'Refusal',
    'SendArguments',
    'SendOptions',
    'ServerCloseOptions',
    'ServerDetails',
    'ServerHandlers',
    'SlowConsumerPolicy',
  ],
  ...['StartServerArguments', 'StartServerResult', 'Unsubscribe', 'UpgradeRequest', 'UsageErrorCode'],
  ...['WebSocketErrorCode', 'WebSocketServerOptions'],
  ...['ConnectionLoss', 'ConnectionTarget', 'DialOptions', 'ReconnectingLimits', 'ReconnectingOptions'],
  ...['ReconnectingState', 'RefreshedOptions', 'UrlList', 'UrlSource', 'WebSocketCloseEventInit', 'WebSocketEvents'],
  ...['Backplane', 'BackplaneErrorCode', 'BackplaneHost', 'BroadcastArguments', 'HistoryLimits', 'HistoryOption'],
  ...['LogEntry', 'LogFollower', 'LogPage', 'LogSubscription', 'Position', 'PreparedMessage', 'PublisherOptions'],
  ...['ResolvedHistoryLimits', 'RoomArguments', 'RoomsResult', 'SubscribeOptions', 'TopicListener', 'TopicLog'],
  ...['WebSocketListener', 'WebSocketOptions', 'WebStreams', 'MessageStream', 'SendStreamOptions'],
]

let packed: Packed
let project: string
let installed: string
/** Paths in the tarball. */
let contents: string[]

beforeAll(async () => {
  packed = await packProject()
  project = packed.project
  await installPackage(packed)
  installed = join(project, 'node_modules/fullduplex')
  contents = readdirSync(installed, { recursive: true, encoding: 'utf8' })
    .filter((path) => statSync(join(installed, path)).isFile())
    .map((path) => path.replaceAll('\\', '/'))
})

afterAll(() => packed?.remove())

function read(path: string): string {
  return readFileSync(join(installed, path), 'utf8')
}

/** Puts a program into the project, and runs it. */
function runProgram(name: string, code: string): Promise<string> {
  writeFileSync(join(project, name), code)
  return runNode([name], { cwd: project })
}

describe('the tarball', () => {
  it('has what is needed, and nothing else', () => {
    const outside = contents.filter((path) => !path.startsWith('dist/')).sort()
    expect(outside).toEqual([
      ...['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md', 'assets/page.html', 'package.json'],
    ])
    const modules = readSources().map(({ path }) => path.slice(0, -'.ts'.length))
    const built = modules.flatMap((module) => [`dist/${module}.d.ts`, `dist/${module}.js`])
    expect(contents.filter((path) => path.startsWith('dist/')).sort()).toEqual(built.sort())
  })

  it('is small', () => {
    expect(statSync(packed.tarball).size).toBeLessThan(MAX_PACKED_BYTES)
  })

  it('has a client for pages that is smaller still, and is loaded as it is', () => {
    const code = read('dist/browser/client.js')
    expect(gzipSync(code, { level: 9 }).length).toBeLessThanOrEqual(MAX_BROWSER_BYTES)
    expect(code).not.toMatch(/\bimport\b|\brequire\b|^\s*\/[/*]/m)
    expect(code.match(/^export .*$/gm)).toEqual([expect.stringMatching(/^export function connectToApp\(/)])
    // Its types are for people, too.
    expect(read('dist/browser/client.d.ts')).toMatch(/\/\*\*/)
  })

  it('refers to no source that is not in it', () => {
    for (const path of contents) expect(read(path), path).not.toMatch(/sourceMappingURL/)
  })

  it('says nothing of the machine that it was made on', () => {
    for (const path of contents) {
      expect(read(path).includes(ROOT), path).toBe(false)
      expect(read(path).includes(packed.project), path).toBe(false)
    }
  })

  it('brings no other package along, and runs nothing when it is installed', () => {
    expect(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual(['fullduplex'])
    const manifest = JSON.parse(read('package.json')) as Record<string, unknown>
    for (const name of ['dependencies', 'peerDependencies', 'optionalDependencies']) {
      expect(manifest).not.toHaveProperty(name)
    }
    const scripts = Object.keys(manifest['scripts'] as object)
    expect(scripts.filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([])
  })

  it('has declarations without internals', () => {
    for (const path of contents.filter((name) => name.endsWith('.d.ts'))) {
      expect(read(path), path).not.toMatch(/@internal/)
    }
  })
})

describe('the installed package', () => {
  it('exports these values, to import', async () => {
    const output = await runProgram(
      'import.mjs',
      "import * as all from 'fullduplex'\nconsole.log(JSON.stringify(Object.keys(all)))\n",
    )
    expect(JSON.parse(output)).toEqual([...VALUES].sort())
  })

  it('exports the same values, to require', async () => {
    const output = await runProgram(
      'require.cjs',
      "const all = require('fullduplex')\nconsole.log(JSON.stringify(Object.keys(all).sort()))\n",
    )
    expect(JSON.parse(output)).toEqual([...VALUES].sort())
  })

  it('exports these types', () => {
    const names = [...read('dist/index.d.ts').matchAll(/export (type )?\{([^}]*)\}/g)].flatMap(([, type, list]) =>
      list!.split(',').map((name) => `${type ?? ''}${name.trim()}`),
    )
    const types = names.filter((name) => /^type ./.test(name)).map((name) => name.replace(/^.* /, ''))
    expect(types.sort()).toEqual([...TYPES].sort())
  })

  it('has these entries, and its manifest', async () => {
    const open = [
      ...['fullduplex/browser', 'fullduplex/browser/resume', 'fullduplex/bridge', 'fullduplex/ws', 'fullduplex/ws7'],
      ...['fullduplex/monaca', 'fullduplex/dirigible', 'fullduplex/cluster/redis', 'fullduplex/cluster/nats'],
      ...['fullduplex/cluster/node', 'fullduplex/package.json'],
    ]
    const attempts = [
      ...open,
      'fullduplex/dist/server.js',
      'fullduplex/dist/index.js',
      'fullduplex/dist/browser/client.js',
    ]
    const code = `
      for (const name of ${JSON.stringify(attempts)}) {
        try { console.log(import.meta.resolve(name) && 'resolved') } catch (error) { console.log(error.code) }
      }`
    const closed = 'ERR_PACKAGE_PATH_NOT_EXPORTED'
    expect((await runProgram('entries.mjs', code)).trim().split('\n')).toEqual([
      ...open.map(() => 'resolved'),
      ...[closed, closed, closed],
    ])
  })

  it('does what it is for', async () => {
    const output = await runProgram(
      'talk.mjs',
      `
      import { connect, onMessage, send, startServer, stopServer } from 'fullduplex'
      const { success, port } = await startServer({ possiblePorts: [0], token: 'secret' })
      onMessage(({ id, content }) => send({ clientId: id, message: content.toUpperCase() }))
      const connection = await connect('ws://127.0.0.1:' + port + '/?token=secret')
      connection.send('hello')
      for await (const message of connection) { console.log(success, message); break }
      connection.close()
      console.log(await stopServer())
      `,
    )
    expect(output).toBe("true HELLO\n{ success: true, message: 'The server has stopped.' }\n")
  })

  it('keeps no process alive that has nothing to do', async () => {
    expect(await runProgram('idle.mjs', "import 'fullduplex'\n")).toBe('')
  })

  it('has a command', async () => {
    const { version } = JSON.parse(read('package.json')) as { version: string }
    if (process.platform !== 'win32') {
      expect(await runNode(['node_modules/.bin/fullduplex', '--version'], { cwd: project })).toBe(`${version}\n`)
    }
    expect(await run('npm', ['exec', '--offline', '--', 'fullduplex', '--version'], { cwd: project })).toBe(
      `${version}\n`,
    )
    expect(await runNode(['node_modules/fullduplex/dist/cli/main.js', '--help'], { cwd: project })).toMatch(
      /fullduplex.*--/s,
    )
  })
})

describe('the declarations', () => {
  /** A program that has to do with most of the types. */
  const PROGRAM = `
    const server = new WebSocketServer<{ name: string }>({
      possiblePorts: [0],
      authorize: (request) => ({ accept: true, data: { name: request.query.get('name') ?? '' } }),
      open: (client) => { client.send(client.data.name satisfies string) },
      message: async (client, data) => { const text: string | Buffer = data; client.send(text) },
      close: (_client, { code, reason, wasClean }) => { [code satisfies number, reason satisfies string, wasClean satisfies boolean] },
      refused: (refusal: Refusal) => { console.log(refusal.reason satisfies string) },
      error: (error) => { if (error instanceof ProtocolError) console.log(error.closeCode satisfies number) },
    })
    export const options: WebSocketServerOptions = { maxMessageBytes: undefined }
    export const short: WebSocketServerOptions = {
      open: (client) => client.subscribe('news'),
      message: (client, data) => client.send(data),
    }
    // @ts-expect-error there is no such option
    export const wrong: WebSocketServerOptions = { maxMesageBytes: 1 }
    // @ts-expect-error a number cannot be sent
    for (const client of server.clients.values()) client.send(1)
    // @ts-expect-error nobody makes a connection but a server and connect()
    export const internal = server.clients.get('')?.receive
    export async function main(): Promise<void> {
      const { port } = await server.listen()
      const connection: WebSocketConnection = await connect(\`ws://127.0.0.1:\${port}\`)
      for await (const message of connection) { const text: string | Buffer = message; console.log(text) }
      const streams: WebStreams = toWebStreams(connection)
      const socket = new WebSocket('ws://localhost', { headers: {} })
      socket.onclose = ({ code, wasClean }) => console.log(code satisfies number, wasClean satisfies boolean)
      socket.addEventListener('error', ({ message }) => console.log(message satisfies string, streams))
      const client = reconnecting(['ws://localhost'], { message: (_, data) => console.log(data satisfies string | Buffer) })
      console.log(client.send('text') satisfies boolean)
      const result = await startServer({ possiblePorts: [50050], token: 'secret', tls: { key: '', cert: '' } })
      if (result.success) console.log(result.port satisfies number)
      else console.log(result.message satisfies string, result.port satisfies null)
      const end = onMessage(({ id, content }) => send({ clientId: id, message: content, confirm: true }))
      end()
    }
  `
  const NAMES = [
    ...['connect', 'onMessage', 'ProtocolError', 'type Refusal', 'send', 'startServer', 'WebSocketConnection'],
    ...['WebSocketServer', 'type WebSocketServerOptions'],
    ...['reconnecting', 'toWebStreams', 'WebSocket', 'type WebStreams'],
  ].join(', ')

  beforeAll(() => linkNodeTypes(packed))

  it('of the client for pages are right, also in a program that has no types of a browser', async () => {
    const code = `
      import { type AppConnection, connectToApp, type FailureReason } from 'fullduplex/browser'
      const reasons: FailureReason[] = []
      export const app: AppConnection = connectToApp({
        app: 'my-app',
        possiblePorts: [50050],
        token: async () => 'secret',
        open: () => console.log(app.send(Uint8Array.of(1)) satisfies boolean),
        message: (data) => console.log(data satisfies string | Uint8Array),
        close: ({ code, willRetry }) => console.log(code satisfies number, willRetry satisfies boolean),
        failure: ({ reason }) => void reasons.push(reason),
      })
      // @ts-expect-error there is no such option
      connectToApp({ possiblePorts: [50050], port: 50050 })
    `
    writeFileSync(join(project, 'page.ts'), code)
    for (const [module, moduleResolution] of [
      ['nodenext', 'nodenext'],
      ['preserve', 'bundler'],
    ] as const) {
      const options = ['--module', module, '--moduleResolution', moduleResolution, '--types', 'node', '--strict']
      const exact = ['--exactOptionalPropertyTypes', '--skipLibCheck', 'false', '--noEmit']
      expect(await runCompiler([...options, ...exact, '--lib', 'es2023', 'page.ts'], { cwd: project })).toBe('')
    }
  })

  it.each([
    ['nodenext', 'program.mts', `import { ${NAMES} } from 'fullduplex'`],
    ['nodenext', 'program.cts', `import { ${NAMES} } from 'fullduplex'`],
    ['bundler', 'program.ts', `import { ${NAMES} } from 'fullduplex'`],
  ])('are right under %s resolution, in %s', async (resolution, name, head) => {
    const tsconfig = {
      compilerOptions: {
        ...{ module: resolution === 'bundler' ? 'preserve' : resolution, moduleResolution: resolution },
        ...{ target: 'es2023', lib: ['es2023'], types: ['node'], noEmit: true },
        ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false },
      },
      files: [name],
    }
    writeFileSync(join(project, name), `${head}\n${PROGRAM}`)
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(tsconfig))
    expect(await runCompiler(['-p', '.'], { cwd: project })).toBe('')
  })
})
