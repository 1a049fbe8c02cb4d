import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { addressIn, inProject, startExample } from '../support/example.ts'
import { type Program, ROOT } from '../support/program.ts'

/** Says whose handshakes they are, which cannot be seen from outside. */
const WITNESS = `
  import { createRequire } from 'node:module'
  import { WebSocketServer } from 'fullduplex/ws'

  const original = createRequire(${JSON.stringify(join(ROOT, 'node_modules/engine.io/package.json'))})('ws')
  for (const type of [original.WebSocketServer, WebSocketServer]) {
    const { handleUpgrade } = type.prototype
    type.prototype.handleUpgrade = function (...args) {
      console.log('handshake by', type === WebSocketServer ? 'fullduplex' : 'the original')
      return handleUpgrade.apply(this, args)
    }
  }
`

async function startClient(address: URL, room: string, text = ''): Promise<Program> {
  const client = startExample('socket.io', { script: 'client', args: [room, text, address.origin] })
  await client.line('Joined')
  return client
}

describe('examples/socket.io', () => {
  it('runs on this engine, with a room, a broadcast and acknowledgements', async () => {
    const witness = inProject('witness.mjs')
    writeFileSync(witness, WITNESS)
    const server = startExample('socket.io', { imports: [pathToFileURL(witness).href] })
    const address = await addressIn(server)
    const listeners = [await startClient(address, 'lobby'), await startClient(address, 'lobby')]
    const elsewhere = await startClient(address, 'attic')
    const speaker = await startClient(address, 'lobby', 'Good morning')
    await speaker.line('Confirmed by: 2')
    expect(await speaker.closed()).toBe(0)
    for (const listener of listeners) await listener.line('Heard: Good morning')

    const other = await startClient(address, 'attic', 'Only here')
    await other.line('Confirmed by: 1')
    await elsewhere.line('Heard: Only here')
    expect(elsewhere.lines).toEqual(['Joined attic, people: 1', 'Heard: Only here'])
    expect(listeners.map(({ lines }) => lines)).toEqual([
      ['Joined lobby, people: 1', 'Heard: Good morning'],
      ['Joined lobby, people: 2', 'Heard: Good morning'],
    ])
    expect(speaker.lines).toEqual(['Joined lobby, people: 3', 'Confirmed by: 2'])
    expect(server.lines.slice(1)).toEqual(Array(5).fill('handshake by fullduplex'))
    expect(server.errorOutput).toBe('')
  })
})
