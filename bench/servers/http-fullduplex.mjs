// fullduplex with a token, and plain HTTP beside it.
import { ready } from './control.mjs'
import { WebSocketServer } from './engine.mjs'

const server = new WebSocketServer({
  host: '127.0.0.1',
  token: process.env.TOKEN,
  message: (client, data) => client.send(data),
  respond: () => ({ status: 200, headers: { 'Content-Type': 'text/plain' }, body: 'hello' }),
})
const { port } = await server.listen()
ready(port, `fullduplex, Node ${process.versions.node}`)
