import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createRuntime, createWebsocket, getClients } from '../../src/compat/dirigible.ts'
import { UsageError } from '../../src/index.ts'
import { makeFolder, openFolder, writeFiles } from '../support/dirigible-folder.ts'
import { ROOT, startScript } from '../support/program.ts'

/** What a call throws. */
function thrownBy(call: () => unknown): Error & { code?: string } {
  try {
    call()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

describe('createRuntime', () => {
  it('takes a path or a file URL, and says where the folder is', () => {
    const root = makeFolder({ 'one.js': 'exports.one = 1' })
    for (const given of [root, pathToFileURL(root), `${root}/`]) {
      const runtime = createRuntime({ root: given })
      onTestFinished(() => runtime.close())
      expect(runtime.root).toBe(root)
      expect(runtime.require('one')).toEqual({ one: 1 })
    }
  })

  it('refuses what is no folder, and options that there are not', () => {
    const root = makeFolder({ file: '' })
    for (const given of [join(root, 'file'), join(root, 'nothing'), '', undefined, 5]) {
      expect(thrownBy(() => createRuntime({ root: given as string }))).toMatchObject({ code: 'ERR_OPTION' })
    }
    const unknown = thrownBy(() => createRuntime({ root, conect: {} } as never))
    expect(unknown).toMatchObject({ code: 'ERR_OPTION_UNKNOWN', message: expect.stringContaining('connect') })
    expect(thrownBy(() => createRuntime({ root, connect: { maxRedirects: -1 } })).message).toContain('maxRedirects')
    expect(thrownBy(() => createRuntime({ root, connect: { message: () => {} } as never })).message).toContain(
      'message',
    )
  })
})

describe('the functions of the module', () => {
  it('say what to do while there is no runtime', () => {
    for (const call of [() => createWebsocket('ws://127.0.0.1:1', {}), () => getClients()]) {
      const error = thrownBy(call)
      expect(error).toBeInstanceOf(UsageError)
      expect(error).toMatchObject({
        code: 'ERR_SERVER_STATE',
        message: expect.stringContaining('createRuntime({ root })'),
      })
    }
  })

  it('belong to the runtime that was made last, and to none that was closed', async () => {
    const first = openFolder({})
    const second = openFolder({})
    createWebsocket('ws://127.0.0.1:1', {})
    const clientsOf = ({ runtime }: typeof first): unknown[] =>
      (runtime.require('net/websockets') as { getClients(): unknown[] }).getClients()
    expect([clientsOf(first).length, clientsOf(second).length]).toEqual([0, 1])
    await second.runtime.close()
    createWebsocket('ws://127.0.0.1:1', {})
    expect([clientsOf(first).length, clientsOf(second).length]).toEqual([1, 0])
    const { createWebsocket: late } = second.runtime.require('net/websockets') as {
      createWebsocket: typeof createWebsocket
    }
    expect(thrownBy(() => late('ws://127.0.0.1:1', {}))).toMatchObject({ code: 'ERR_SERVER_STATE' })
    await expect(second.runtime.serve({ port: 0 })).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' })
  })
})

describe('require', () => {
  it('finds modules from the root and beside the module, with .js and without', () => {
    const { runtime } = openFolder({
      'project/main.js': `
        exports.found = [require('project/other'), require('/project/other.js'), require('./other'), require('../project/other')]
        exports.index = require('project/folder')
        exports.data = [require('./data'), require('./data.json')]
        exports.common = require('./common.cjs')`,
      'project/other.js': 'module.exports = { name: "other" }',
      'project/folder/index.js': 'module.exports = "the index"',
      'project/data.json': '\uFEFF{ "a": [1] }',
      'project/common.cjs': '#!/usr/bin/env node\nmodule.exports = "common"',
    })
    const main = runtime.require('project/main') as { found: unknown[]; [name: string]: unknown }
    expect(new Set(main.found).size).toBe(1)
    expect(main).toMatchObject({ index: 'the index', data: [{ a: [1] }, { a: [1] }], common: 'common' })
    for (const name of ['/project/main', 'project/main.js', './project/main', 'project/../project/main']) {
      expect(runtime.require(name)).toBe(main)
    }
  })

  it('gives the modules of the runtime under all of their names', () => {
    const { runtime } = openFolder({})
    const websockets = runtime.require('net/v4/websockets')
    expect(runtime.require('net/websockets')).toBe(websockets)
    expect(Object.keys(websockets as object).sort()).toEqual([
      ...['createWebsocket', 'getClient', 'getClientByHandler', 'getClients', 'getError', 'getMessage', 'getMethod'],
      ...['isOnClose', 'isOnError', 'isOnMessage', 'isOnOpen'],
    ])
    expect(runtime.require('service/websocket')).toBe(runtime.require('net/websocket'))
    expect(Object.keys(runtime.require('net/websocket') as object)).toEqual(['getSession', 'getOpenSessions'])
    expect(Object.keys(runtime.require('core/globals') as object)).toEqual(['get', 'set'])
    expect(Object.keys(runtime.require('/core/context.js') as object)).toEqual(['get'])
  })

  it('knows no event and no session outside of a call', () => {
    const { runtime } = openFolder({
      'outside.js': `
        const websockets = require('net/v4/websockets')
        const { getSession, getOpenSessions } = require('net/websocket')
        exports.nulls = [websockets.getMessage(), websockets.getError(), websockets.getMethod(), getSession(),
          require('core/context').get('type'), require('core/globals').get('nothing')]
        exports.booleans = ['isOnOpen', 'isOnMessage', 'isOnError', 'isOnClose'].map((name) => websockets[name]())
        exports.sessions = getOpenSessions()`,
    })
    expect(runtime.require('outside')).toEqual({
      nulls: [null, null, null, null, null, null],
      booleans: [false, false, false, false],
      sessions: [],
    })
  })

  it('gives a module what CommonJS gives it, and runs it once', () => {
    const { runtime, root } = openFolder({
      'a/module.js': `
        exports.count = (require('core/globals').get('count') ?? 0) + 1
        require('core/globals').set('count', exports.count)
        exports.facts = [__filename, __dirname, module.id, module.filename, module.loaded, this === exports]
        exports.module = module`,
    })
    const loaded = runtime.require('a/module') as { count: number; facts: unknown[]; module: { loaded: boolean } }
    const file = join(root, 'a/module.js')
    expect(loaded.facts).toEqual([file, join(root, 'a'), file, file, false, true])
    expect(loaded.module.loaded).toBe(true)
    expect(runtime.require('a/module')).toBe(loaded)
    expect(loaded.count).toBe(1)
  })

  it('gives modules that need each other as far as they are', () => {
    const { runtime } = openFolder({
      'a.js': "exports.early = 'a'; exports.ofB = require('./b').ofA; exports.late = 'A'",
      'b.js': "const a = require('./a'); exports.ofA = { ...a }",
    })
    expect(runtime.require('a')).toEqual({ early: 'a', ofB: { early: 'a' }, late: 'A' })
  })

  it('runs a module again that has thrown, whose stack names file and line', () => {
    const { runtime, root } = openFolder({
      'thrower.js':
        "const globals = require('core/globals')\n\nif (!globals.get('calm')) throw new Error('not yet')\nexports.ok = true",
      'caller.js': "module.exports = require('./thrower')",
    })
    const error = thrownBy(() => runtime.require('caller'))
    expect(error.message).toBe('not yet')
    expect(error.stack).toContain(`${join(root, 'thrower.js')}:3:`)
    expect(error.stack).toContain(`${join(root, 'caller.js')}:1:`)
    ;(runtime.require('core/globals') as { set(name: string, value: unknown): void }).set('calm', true)
    expect(runtime.require('caller')).toEqual({ ok: true })
  })

  it('gives modules of Node, and packages that are installed in the folder', () => {
    const { runtime } = openFolder({
      'main.js': `
        exports.same = require('path') === require('node:path')
        exports.installed = require('installed')
        exports.deep = require('installed/deep')`,
      'path.js': 'throw new Error("this is not meant")',
      'node_modules/installed/package.json': { name: 'installed', main: 'lib.js' },
      'node_modules/installed/lib.js': "module.exports = 'the package'",
      'node_modules/installed/deep.js': "module.exports = 'deep'",
    })
    expect(runtime.require('main')).toEqual({ same: true, installed: 'the package', deep: 'deep' })
  })

  it('says what it does not find, and who wants it', () => {
    const { runtime, root } = openFolder({ 'a/wants.js': "require('b/missing')", 'a/near.js': "require('./missing')" })
    expect(thrownBy(() => runtime.require('a/wants'))).toMatchObject({
      name: 'UsageError',
      code: 'ERR_OPTION',
      message: `there is no module b/missing in ${root}, which a/wants.js requires`,
      cause: { code: 'MODULE_NOT_FOUND' },
    })
    expect(thrownBy(() => runtime.require('a/near')).message).toContain('./missing')
    for (const name of ['/etc/passwd', 'a', 'a/wants.js/x', '/']) {
      expect(thrownBy(() => runtime.require(name)).message).toContain(`there is no module ${name} in ${root}`)
    }
    for (const name of ['', 'a\\wants', 'a/wants\0.js', undefined, 5, {}]) {
      expect(thrownBy(() => runtime.require(name as string)).message).toContain('is not the name of a module')
    }
  })

  it('leads out of the folder neither by dots nor by links', () => {
    const outside = makeFolder({ 'secret.js': 'exports.secret = true', 'secret.json': {} })
    const { runtime, root } = openFolder({ 'in/side.js': 'exports.inside = true', 'up.js': "require('../secret')" })
    const name = root.split('/').at(-1)!
    for (const path of ['../secret', 'in/../../secret', './../secret', `../${name}x/y`, '..', '/../secret', 'up']) {
      expect(thrownBy(() => runtime.require(path)).message).toContain(`leads out of ${root}`)
    }
    symlinkSync(join(outside, 'secret.js'), join(root, 'link.js'))
    symlinkSync(outside, join(root, 'folder'))
    symlinkSync(join(root, 'in'), join(root, 'within'))
    symlinkSync(join(root, 'loop.js'), join(root, 'loop.js'))
    for (const path of ['link', 'link.js', 'folder/secret', 'folder/secret.json']) {
      expect(thrownBy(() => runtime.require(path))).toMatchObject({
        code: 'ERR_OPTION',
        message: expect.stringContaining(`is a link that leads out of ${root}`),
      })
    }
    expect(runtime.require('within/side')).toBe(runtime.require('in/side'))
    expect(thrownBy(() => runtime.require('loop')).message).toContain('there is no module loop')
  })

  it('says what is not JSON, or no JavaScript', () => {
    const { runtime, root } = openFolder({ 'bad.json': '{', 'bad.js': 'const = 1' })
    expect(thrownBy(() => runtime.require('bad.json'))).toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringContaining('bad.json is not JSON'),
    })
    const error = thrownBy(() => runtime.require('bad'))
    expect(error).toBeInstanceOf(SyntaxError)
    expect(error.stack).toContain(`${join(root, 'bad.js')}:1`)
  })
})

describe('ES modules', () => {
  it('are told from CommonJS by what is in them, and not given by require', async () => {
    const { runtime } = openFolder({
      'one.mjs': 'export const one = 1',
      'two.js': 'export const two = 2',
      'package.json': { type: 'module' },
      'common.js': 'exports.three = 3',
    })
    for (const name of ['one', 'two']) {
      const error = thrownBy(() => runtime.require(name))
      expect(error).toMatchObject({ code: 'ERR_OPTION', message: expect.stringMatching(/ES module: use import\(\)/) })
    }
    expect(await runtime.import('common')).toEqual({ three: 3 })
    await expect(runtime.import('missing')).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(runtime.import('node:fs')).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })

  it('import the functions by name, and can be handlers', async () => {
    const module = pathToFileURL(join(ROOT, 'src/compat/dirigible.ts')).href
    const root = makeFolder({
      'package.json': { type: 'module' },
      'es/client.js': `
        import { createWebsocket } from '${module}'
        export const connectTo = (port) =>
          createWebsocket('ws://127.0.0.1:' + port + '/websockets/v4/service/echo', 'es/handler')
        export const early = createWebsocket('ws://127.0.0.1:1', {})`,
      'es/handler.mjs': `
        import { getMessage, getMethod } from '${module}'
        export function onOpen(session) { session.send('from an ES module') }
        export async function onMessage(message, session) {
          await null
          console.log(getMethod(), getMessage() === message, message)
          session.close()
        }
        export const onClose = () => console.log(getMethod())`,
      'es/echo.mjs': 'export const onMessage = (message, session) => session.send(message)',
      'es/echo.websocket': { handler: './echo', endpoint: 'echo' },
      'broken.mjs': 'export default nothing',
    })
    const other = makeFolder()
    const main = join(root, 'main.mjs')
    writeFileSync(
      main,
      `import { createRuntime, getClients } from '${module}'
      const runtime = createRuntime({ root: '${root}' })
      const other = createRuntime({ root: '${other}' })
      const { port, close } = await runtime.serve({ port: 0 })
      const { connectTo } = await runtime.import('es/client')
      console.log(getClients().length, runtime.require('net/websockets').getClients().length)
      console.log(await runtime.import('broken').catch((error) => error.name))
      runtime.require('net/websockets').createWebsocket('ws://127.0.0.1:' + port + '/websockets/v4/service/echo', 'es/handler.mjs')
      process.once('beforeExit', () => console.log('the end'))
      setTimeout(() => {}, 1)
      while (runtime.require('net/websockets').getClients().length > 0) await new Promise(setImmediate)
      await runtime.close()`,
    )
    const program = startScript(main)
    expect(await program.closed()).toBe(0)
    expect(program.errorOutput).toBe('')
    expect(program.lines).toEqual([
      '0 1', // the client was made in the runtime of its module, not in the last one
      'ReferenceError',
      'onmessage true from an ES module',
      'onclose',
      'the end',
    ])
  })

  it('can be imported by CommonJS modules, from beside them', async () => {
    const root = makeFolder({
      'a/common.js': 'exports.load = async () => (await import("./es.mjs")).default',
      'a/es.mjs': 'export default "an ES module"',
      'main.mjs': `
        import { createRuntime } from '${pathToFileURL(join(ROOT, 'src/compat/dirigible.ts')).href}'
        console.log(await createRuntime({ root: new URL('.', import.meta.url) }).require('a/common').load())`,
    })
    // In a process of its own: here it would be the imports of Vitest.
    const program = startScript(join(root, 'main.mjs'))
    expect(await program.closed()).toBe(0)
    expect(program.lines).toEqual(['an ES module'])
  })

  it('are loaded again when their file has changed', async () => {
    const module = pathToFileURL(join(ROOT, 'src/compat/dirigible.ts')).href
    const root = makeFolder({
      'answer.mjs': "export const onMessage = (_, session) => session.send('first')",
      'answer.websocket': { handler: 'answer', endpoint: 'answer' },
    })
    const program = startScript(
      join(
        makeFolder({
          'main.mjs': `
            import { createRuntime } from '${module}'
            const runtime = createRuntime({ root: '${root}' })
            const { port } = await runtime.serve({ port: 0, watch: true })
            const { createWebsocket } = runtime.require('net/websockets')
            const client = createWebsocket('ws://127.0.0.1:' + port + '/websockets/v4/service/answer', {
              onMessage(message) { console.log(message); setTimeout(() => client.send('again'), 10) },
            })
            client.send('first')`,
        }),
        'main.mjs',
      ),
    )
    await program.line('first')
    writeFiles(root, { 'answer.mjs': "export const onMessage = (_, session) => session.send('second')" })
    await program.line('second')
    await program.stop('SIGKILL')
    expect(program.errorOutput).toBe('')
  })
})
