import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runNode } from '../support/package.ts'
import { ROOT } from '../support/program.ts'
import { buildApart } from './build.ts'

/*
 * Programs on the packages that people use with ws. Each runs twice, as a process of its own: as it is, and with every
 * `ws`, wherever it is loaded, replaced by ours. It must say the same.
 */

const PROGRAMS = [...['browser-like', 'crossws', 'express', 'express-ws', 'fastify', 'graphql-ws', 'mqtt', 'socket-io']]
/** A line that shows whose objects a program handles. */
const MARKER = /^using .*: (fullduplex|the original)$/
let folder: string
let remove: () => void

beforeAll(async () => {
  ;({ folder, remove } = await buildApart())
})

afterAll(() => remove?.())

async function runProgram(name: string, isInjected: boolean): Promise<{ lines: string[]; markers: string[] }> {
  const programs = join(ROOT, 'test/compat/programs')
  const inject = isInjected ? ['--import', pathToFileURL(join(programs, 'inject-ws.mjs')).href] : []
  const output = await runNode(['--no-warnings', ...inject, join(programs, `${name}.mjs`)], {
    cwd: ROOT,
    env: { COMPAT_MODULE: pathToFileURL(join(folder, 'dist/compat/ws.js')).href },
  })
  // Which of two ends hears first that a connection is closed is left to chance.
  const all = output.trimEnd().split('\n').sort()
  return { lines: all.filter((line) => !MARKER.test(line)), markers: all.filter((line) => MARKER.test(line)) }
}

describe('a program with', () => {
  it.each(PROGRAMS)('%s says the same', { timeout: 60_000 }, async (name) => {
    const [original, ours] = await Promise.all([runProgram(name, false), runProgram(name, true)])
    expect(original.markers.length).toBeGreaterThan(0)
    expect(original.markers.filter((line) => !line.endsWith('the original'))).toEqual([])
    expect(ours.lines).toEqual(original.lines)
    expect(ours.markers).toEqual(original.markers.map((line) => line.replace('the original', 'fullduplex')))
  })
})

describe('the module, built', () => {
  const evaluate = (code: string, type: 'module' | 'commonjs'): string => {
    const { stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', `--input-type=${type}`, '-e', code], {
      encoding: 'utf8',
      cwd: folder,
    })
    return stdout + stderr
  }
  const pathOf = (): string => join(folder, 'dist/compat/ws.js')

  it('is the class for require()', () => {
    const code = `
      const WebSocket = require(${JSON.stringify(pathOf())})
      const { Server, WebSocketServer, createWebSocketStream } = WebSocket
      console.log(typeof WebSocket, WebSocket.name, WebSocket.OPEN, WebSocket.WebSocket === WebSocket)
      console.log(Server === WebSocketServer, WebSocketServer.name, typeof createWebSocketStream)
      const server = new WebSocket.Server({ port: 0 }, () => {
        const client = new WebSocket('ws://localhost:' + server.address().port)
        client.on('open', () => { console.log('open'); client.close(); server.close() })
      })`
    expect(evaluate(code, 'commonjs')).toBe('function WebSocket 1 true\ntrue WebSocketServer function\nopen\n')
  })

  it('is the same class for import and require()', () => {
    const code = `
      import { createRequire } from 'node:module'
      import WebSocket, * as all from ${JSON.stringify(pathToFileURL(pathOf()).href)}
      const required = createRequire(import.meta.url)(${JSON.stringify(pathOf())})
      console.log(required === WebSocket, all.WebSocket === WebSocket, typeof all.WebSocketServer)
      console.log(typeof all.createWebSocketStream, typeof all.Server)`
    expect(evaluate(code, 'module')).toBe('true true function\nfunction function\n')
  })
})
