// ws, with the rooms that its users write: a Map from the name to the clients. It does what topics-fullduplex.mjs does.
// Without ROOMS=names every client also keeps the names of its rooms, or it would have to be looked for in all rooms when
// it leaves; with it, it is.
import { createRequire } from 'node:module'
import { WebSocketServer } from 'ws'
import { ready } from './control.mjs'

const require = createRequire(import.meta.url)
const { ROOMS } = process.env
const rooms = new Map()

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 4096, perMessageDeflate: false })
server.on('connection', (client) => {
  if (ROOMS !== 'names') client.rooms = new Set()
  client.on('error', () => {})
  client.on('close', () => {
    for (const name of client.rooms ?? rooms.keys()) leave(client, name)
  })
  client.on('message', (data) => {
    const text = data.toString()
    if (text.startsWith('+') || text.startsWith('-')) {
      for (const name of JSON.parse(text.slice(1))) (text.startsWith('+') ? join : leave)(client, name)
      client.send(text[0])
      return
    }
    const room = rooms.get(text.slice(0, 8))
    if (room !== undefined) for (const member of room) member.send(data, { binary: false })
  })
})

function join(client, name) {
  let room = rooms.get(name)
  if (room === undefined) {
    room = new Set()
    rooms.set(name, room)
  }
  room.add(client)
  client.rooms?.add(name)
}

function leave(client, name) {
  const room = rooms.get(name)
  if (room === undefined) return
  room.delete(client)
  client.rooms?.delete(name)
  if (room.size === 0) rooms.delete(name)
}

server.on('listening', () => {
  ready(server.address().port, `ws ${require('ws/package.json').version}, Node ${process.versions.node}`)
})
