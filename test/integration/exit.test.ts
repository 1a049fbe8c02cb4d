import { expect, it } from 'vitest'
import { runNode } from '../support/package.ts'
import { ROOT } from '../support/program.ts'
import { Queue } from '../support/queue.ts'
import { startServer } from '../support/servers.ts'

/** Programs that send and end in the same moment. */
const PROGRAMS: Readonly<Record<string, string>> = {
  connect: `
    import { connect } from './src/index.ts'
    const connection = await connect(process.argv[1])
    connection.send('last')
    connection.close(4000, 'bye')
    process.exit()`,
  'fullduplex/ws': `
    import WebSocket from './src/compat/ws.ts'
    const ws = new WebSocket(process.argv[1], { perMessageDeflate: false })
    ws.on('open', () => {
      ws.send('last')
      ws.close(4000, 'bye')
      process.exit()
    })`,
  'an exit listener': `
    import { connect } from './src/index.ts'
    const connection = await connect(process.argv[1])
    process.on('exit', () => {
      connection.send('last')
      connection.close(4000, 'bye')
    })
    process.exit()`,
}

it.each(Object.keys(PROGRAMS))('what is sent before process.exit() is sent: %s', async (name) => {
  const events = new Queue<unknown>()
  const { port } = await startServer({
    message: (_, data) => events.push(data),
    close: (_, { code, reason }) => events.push([code, reason]),
  })
  const url = `ws://127.0.0.1:${port}`
  await runNode(['--import', 'tsx', '--input-type=module', '--eval', PROGRAMS[name]!, '--', url], { cwd: ROOT })
  expect(await events.next()).toBe('last')
  expect(await events.next()).toEqual([4000, 'bye'])
})
