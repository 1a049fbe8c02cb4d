import { createInterface } from 'node:readline'
import { reconnecting } from 'fullduplex'

const [topic = 'everybody', address = 'ws://127.0.0.1:8080'] = process.argv.slice(2)
const terminal = createInterface({ input: process.stdin })

const client = reconnecting(`${address}/?topic=${encodeURIComponent(topic)}`, {
  message: (_connection, data) => console.log(data),
  reconnecting: ({ event, error }) => console.log(`Disconnected (${event?.code ?? error.message}), trying again.`),
  gaveUp() {
    console.log('That was it.')
    terminal.close()
  },
})

terminal.on('line', (line) => line.trim() !== '' && client.send(line))
terminal.on('close', () => client.close())
