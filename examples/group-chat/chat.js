import { WebSocketServer } from 'fullduplex'
import { isName, parseCommand } from './commands.js'

const { PORT = 8080 } = process.env
const MAX_ROOMS = 20

const server = new WebSocketServer({
  port: Number(PORT),
  maxMessageBytes: 8_192,

  // ws://127.0.0.1:8080/?name=Ann. What is given as `data` here is the client's from then on.
  authorize({ query }) {
    const name = query.get('name')
    if (!isName(name)) return { accept: false, status: 400, message: 'Say who you are: ?name= and a name.' }
    const isTaken = [...server.clients.values()].some((client) => client.data.name === name)
    if (isTaken) return { accept: false, status: 409, message: 'Somebody with this name is here already.' }
    return { accept: true, data: { name, rooms: new Set() } }
  },

  message(client, data) {
    const command = parseCommand(data)
    const problem = command.problem ?? actions[command.type](client, command)
    if (problem) tell(client, { type: 'problem', message: problem })
  },

  close(client) {
    for (const room of client.data.rooms) leave(client, { room })
  },
})

/** By the command's type; each returns a sentence when it cannot be done. */
const actions = { join, leave, say, who }

function join(client, { room }) {
  const { name, rooms } = client.data
  if (rooms.has(room)) return 'You are in this room already.'
  if (rooms.size === MAX_ROOMS) return `You are in ${MAX_ROOMS} rooms; leave one of them first.`
  rooms.add(room)
  tellRoom(room, { type: 'joined', room, name }, client)
  who(client, { room })
}

function leave(client, { room }) {
  const { name, rooms } = client.data
  if (!rooms.has(room)) return 'You are not in this room.'
  tellRoom(room, { type: 'left', room, name })
  rooms.delete(room)
}

function say(client, { room, text }) {
  const { name, rooms } = client.data
  if (!rooms.has(room)) return 'You are not in this room.'
  tellRoom(room, { type: 'said', room, name, text }, client)
}

function who(client, { room }) {
  const people = [...server.clients.values()].filter(({ data }) => data.rooms.has(room))
  tell(client, { type: 'here', room, names: people.map(({ data }) => data.name) })
}

function tell(client, message) {
  client.send(JSON.stringify(message))
}

/** A room is whoever has it among their rooms; the message is encoded once for all of them. */
function tellRoom(room, message, except) {
  server.broadcast(JSON.stringify(message), { except, filter: ({ data }) => data.rooms.has(room) })
}

const { port } = await server.listen()
console.log(`Listening on ws://127.0.0.1:${port}`)

process.once('SIGINT', () => server.close())
