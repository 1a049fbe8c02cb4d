// The floor: the least a server on node:net can do. It answers the handshake, learns the size of the messages from the
// first frame header, and from then on only counts bytes; for each complete message it sends back a frame of the same
// size that was made beforehand, all answers to one chunk in as few writes as possible. It unmasks nothing, looks at no
// further header, and its answers carry zeros. What is between it and a WebSocket server is WebSocket work; what is
// below it is Node and the kernel.
import { createHash } from 'node:crypto'
import { createServer } from 'node:net'
import { ready } from './control.mjs'

const MiB = 1024 * 1024
const CLOSE = Buffer.from([0x88, 2, 0x03, 0xe8])
const NOTHING = Buffer.alloc(0)
const STATE = Symbol('state')
const members = new Set()
const runs = new Map()

/** What the floor knows of a connection; the listeners are shared, so that memory is a floor as well. */
class State {
  open = false
  broadcast = false
  /** What has come of the request, then of the first frame. */
  first = NOTHING
  run = undefined
  received = 0
}

const server = createServer({ noDelay: true }, (socket) => {
  socket[STATE] = new State()
  socket.on('error', ignore)
  socket.on('close', leave)
  socket.on('data', receive)
})

function ignore() {}

function leave() {
  members.delete(this)
}

function receive(chunk) {
  const state = this[STATE]
  if (!state.run && !learn(this, state, chunk)) return
  state.received += chunk.length
  const { bytes, count, answerBytes, requestBytes } = state.run
  let complete = Math.floor(state.received / requestBytes)
  state.received -= complete * requestBytes
  while (complete > 0) {
    const now = Math.min(complete, count)
    const answers = bytes.subarray(0, now * answerBytes)
    if (state.broadcast) for (const member of members) member.write(answers)
    else this.write(answers)
    complete -= now
  }
}

/** Handshake and first header. True when the size of the messages is known. */
function learn(socket, state, chunk) {
  const first = state.first.length === 0 ? chunk : Buffer.concat([state.first, chunk])
  state.first = first
  if (!state.open) {
    if (first.subarray(-4).toString('latin1') !== '\r\n\r\n') return false
    const head = first.toString('latin1')
    state.open = true
    state.first = NOTHING
    state.broadcast = head.startsWith('GET /broadcast ')
    if (state.broadcast) members.add(socket)
    socket.write(switching(head), 'latin1')
    return false
  }
  if ((first[0] & 0x0f) === 8) {
    socket.end(CLOSE)
    return false
  }
  if (first.length < 2 + extendedBytes(first[1])) return false
  state.run = answersTo(first)
  state.received = first.length - chunk.length
  state.first = NOTHING
  return true
}

function switching(head) {
  const key = /sec-websocket-key: *(\S+)/i.exec(head)[1]
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`
}

/** How many bytes of length follow the second byte of a header. */
const extendedBytes = (second) => ((second & 0x7f) < 126 ? 0 : (second & 0x7f) === 126 ? 2 : 8)

/** Ready-made answers, up to 1 MiB of them in a row, for the kind of frame that begins like this one. */
function answersTo(first) {
  const short = first[1] & 0x7f
  const extended = extendedBytes(short)
  const size = short < 126 ? short : short === 126 ? first.readUInt16BE(2) : Number(first.readBigUInt64BE(2))
  const name = `${first[0]} ${size}`
  let run = runs.get(name)
  if (!run) {
    const answer = Buffer.alloc(2 + extended + size)
    first.copy(answer, 0, 0, 2 + extended)
    answer[1] = short
    const count = Math.max(1, Math.floor(MiB / answer.length))
    const bytes = Buffer.concat(Array.from({ length: count }, () => answer))
    run = { bytes, count, answerBytes: answer.length, requestBytes: answer.length + 4 }
    runs.set(name, run)
  }
  return run
}

server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  ready(server.address().port, `Node ${process.versions.node}`)
})
