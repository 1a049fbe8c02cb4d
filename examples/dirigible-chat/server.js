import { readFileSync } from 'node:fs'
import { createRuntime } from 'fullduplex/dirigible'

const { PORT = 8080 } = process.env
const page = readFileSync(new URL('index.html', import.meta.url))

const runtime = createRuntime({ root: new URL('modules', import.meta.url) })

const { port } = await runtime.serve({
  port: Number(PORT),
  // Clients choose the module that their message runs, among these and no others.
  services: ['chat/desk.js'],
  respond: ({ path }) =>
    path === '/' ? { body: page, headers: { 'Content-Type': 'text/html; charset=utf-8' } } : undefined,
})
console.log(`Open http://localhost:${port}/ in two windows.`)

process.once('SIGINT', () => runtime.close())
