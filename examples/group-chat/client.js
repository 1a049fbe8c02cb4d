import { createInterface } from 'node:readline'
import { connect } from 'fullduplex'

const [name = '', address = 'ws://127.0.0.1:8080'] = process.argv.slice(2)
const terminal = createInterface({ input: process.stdin })

const connection = await connect(`${address}/?name=${encodeURIComponent(name)}`, {
  message: (_connection, data) => show(JSON.parse(data)),
  close(_connection, { code }) {
    console.log(`Disconnected (${code}).`)
    terminal.close()
  },
}).catch((error) => {
  console.error(error.message)
  process.exit(1)
})
console.log(`Hello, ${name}! Commands: /join ROOM, /leave, /who. Everything else is said in the room joined last.`)

let room = ''

terminal.on('line', (line) => {
  const [word, other] = line.trim().split(/\s+/)
  if (word === '/join') send({ type: 'join', room: (room = other) })
  else if (word === '/leave') send({ type: 'leave', room })
  else if (word === '/who') send({ type: 'who', room })
  else if (word !== '') send({ type: 'say', room, text: line })
})
terminal.on('close', () => connection.close(1000))

function send(command) {
  connection.send(JSON.stringify(command))
}

function show({ type, room, name, names, text, message }) {
  if (type === 'said') console.log(`[${room}] ${name}: ${text}`)
  else if (type === 'here') console.log(`[${room}] here: ${names.join(', ') || 'nobody'}`)
  else if (type === 'problem') console.log(message)
  else console.log(`[${room}] ${name} has ${type}`)
}
