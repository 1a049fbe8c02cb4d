// A local app in twenty lines: it answers what a page says with the same. The tests start it with its options, and are
// told by messages what happens; the events arrive here as structured clones.
import { getServer, onClientConnected, onClientDisconnected, onMessage, send, startServer } from '../../src/index.ts'

const tell = (type: string, event: unknown): void => void process.send?.({ type, event })

onClientConnected((event) => tell('connected', event))
onClientDisconnected((event) => tell('disconnected', event))
onMessage(async (event) => {
  tell('message', event)
  await send({ clientId: event.id, message: event.content })
})

const options = JSON.parse(process.argv[2] ?? '{}')
tell('started', await startServer({ ...options, refused: (event) => tell('refused', event) }))

process.on('message', async () => tell('server', await getServer()))
process.on('disconnect', () => process.exit())
