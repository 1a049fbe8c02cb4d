import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql'
import { createClient } from 'graphql-ws'
import { useServer } from 'graphql-ws/use/ws'
import WebSocket, { WebSocketServer } from 'ws'
import { listen, next, say, sayWhose } from './report.mjs'

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({ name: 'Query', fields: { hello: { type: GraphQLString, resolve: () => 'world' } } }),
  subscription: new GraphQLObjectType({
    name: 'Subscription',
    fields: {
      count: {
        type: GraphQLInt,
        args: { to: { type: GraphQLInt } },
        async *subscribe(_source, { to }) {
          for (let count = 1; count <= to; count++) yield { count }
        },
      },
    },
  }),
})

const { server, port } = await listen()
const wss = new WebSocketServer({ server, path: '/graphql' })
wss.on('connection', (socket) => {
  sayWhose('server', socket)
  say('protocol', socket.protocol)
})
const disposable = useServer(
  {
    schema,
    onConnect: ({ connectionParams }) => connectionParams?.token === 'right',
    onDisconnect: (_context, code, reason) => say('disconnected', code, reason),
  },
  wss,
)

const url = `ws://127.0.0.1:${port}/graphql`
const client = createClient({ url, webSocketImpl: WebSocket, connectionParams: { token: 'right' } })
const all = async (query) => {
  const results = []
  for await (const { data } of client.iterate({ query })) results.push(data)
  return results
}
client.on('opened', (socket) => sayWhose('client', socket))
client.on('closed', (event) => say('closed', event.code, event.reason, event.wasClean))
say(await all('{ hello }'))
say(await all('subscription { count(to: 5) }'))
for await (const { data } of client.iterate({ query: 'subscription { count(to: 1000) }' })) {
  if (data.count === 3) break
}
say('stopped')
await client.dispose()

const refused = createClient({ url, webSocketImpl: WebSocket, connectionParams: { token: 'wrong' }, retryAttempts: 0 })
try {
  for await (const result of refused.iterate({ query: '{ hello }' })) say(result)
} catch (event) {
  say('refused', event.code, event.reason)
}

const foreign = new WebSocket(url, 'foreign')
foreign.on('error', () => {})
const [code, reason] = await next(foreign, 'close')
say('foreign', code, String(reason))
await disposable.dispose()
server.close()
