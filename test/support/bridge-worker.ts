// A page in a thread of its own: it starts the server when it is told with what, and answers what is said.
import { MessageChannel, parentPort } from 'node:worker_threads'
import { connectApi } from '../../src/bridge.ts'
import { PortPage } from './port-page.ts'

const { port1, port2 } = new MessageChannel()
parentPort!.postMessage(port1, [port1])
const webSocket = connectApi(new PortPage(port2))

webSocket.onClientConnected((event) => parentPort!.postMessage(event))
webSocket.onMessage(async ({ id, content }) => {
  parentPort!.postMessage(await webSocket.send({ clientId: id, message: `You said: ${content}` }))
})
parentPort!.once('message', async (options) => parentPort!.postMessage(await webSocket.startServer(options)))
