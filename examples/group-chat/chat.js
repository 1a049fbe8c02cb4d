import { WebSocketServer } from 'fullduplex'
import { openBackplane } from './backplane.js'
import { isName, parseCommand } from './commands.js'
import { People } from './people.js'

const { PORT = 8080 } = process.env
const MAX_ROOMS = 20

const { backplane, closeBackplane } = await openBackplane()

const server = new WebSocketServer({
  port: Number(PORT),
  maxMessageBytes: 8_192,
  backplane,

  // ws://127.0.0.1:8080/?name=Ann. What is given as `data` here is the client's from then on.
  authorize({ query }) {
    const name = query.get('name')
    if (!isName(name)) return { accept: false, status: 400, message: 'Say who you are: ?name= and a name.' }
    if (people.has(name)) return { accept: false, status: 409, message: 'Somebody with this name is here already.' }
    return { accept: true, data: { name, rooms: new Set() } }
  },

  open({ data: { name, rooms } }) {
    people.enter(name, rooms)
  },

  // The next message of this client waits until this one is dealt with.
  async message(client, data) {
    const command = parseCommand(data)
    const problem = command.problem ?? (await actions[command.type](client, command))
    if (problem) tell(client, { type: 'problem', message: problem })
  },

  close({ data: { name, rooms } }) {
    people.leave(name)
    for (const room of rooms) tellRoom(room, { type: 'left', room, name })
  },

  error(error) {
    console.error(error.message)
  },

  backplaneRestored() {
    console.error('the backplane works again')
    void people.begin()
  },
})

const people = new People(server)

/** By the command's type; each returns a sentence when it cannot be done. */
const actions = { join, leave, say, who }

async function join(client, { room }) {
  const { name, rooms } = client.data
  if (rooms.has(room)) return 'You are in this room already.'
  if (rooms.size === MAX_ROOMS) return `You are in ${MAX_ROOMS} rooms; leave one of them first.`
  rooms.add(room)
  people.changed()
  client.subscribe(topicOf(room))
  // From here on nothing is missed that is said in another process.
  await server.synced()
  tellRoom(room, { type: 'joined', room, name }, client)
  who(client, { room })
}

function leave(client, { room }) {
  const { name, rooms } = client.data
  if (!rooms.delete(room)) return 'You are not in this room.'
  people.changed()
  tellRoom(room, { type: 'left', room, name })
  client.unsubscribe(topicOf(room))
}

function say(client, { room, text }) {
  const { name, rooms } = client.data
  if (!rooms.has(room)) return 'You are not in this room.'
  tellRoom(room, { type: 'said', room, name, text }, client)
}

function who(client, { room }) {
  tell(client, { type: 'here', room, names: people.inRoom(room) })
}

function tell(client, message) {
  client.send(JSON.stringify(message))
}

/** To everybody in the room, in whatever process. */
function tellRoom(room, message, except) {
  server.publish(topicOf(room), JSON.stringify(message), { except })
}

/** Rooms are not the only topics here. */
function topicOf(room) {
  return `room ${room}`
}

const { port } = await server.listen()
await server.ready()
await people.begin()
console.log(`Listening on ws://127.0.0.1:${port}`)

// A terminal says it to all processes, and the first of them says it again to its workers.
let isEnding = false
process.on('SIGINT', async () => {
  if (isEnding) return
  isEnding = true
  people.end()
  await server.close()
  await closeBackplane()
  process.exit()
})
