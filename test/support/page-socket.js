// Runs in every page of the tests before its own scripts: a WebSocket whose events wait until somebody asks for them.
globalThis.openSocket = (url, protocols) => {
  const waiting = []
  const readers = []
  const push = (event) => {
    const reader = readers.shift()
    if (reader) reader(event)
    else waiting.push(event)
  }
  const socket = new WebSocket(url, protocols)
  socket.binaryType = 'arraybuffer'
  socket.onopen = () => push(`open ${socket.protocol}${socket.extensions}`.trim())
  socket.onmessage = ({ data }) => push(typeof data === 'string' ? data : [...new Uint8Array(data)])
  socket.onclose = ({ code, reason, wasClean }) => push({ code, reason, wasClean })
  const next = () => (waiting.length > 0 ? Promise.resolve(waiting.shift()) : new Promise((take) => readers.push(take)))
  return { socket, next }
}
