// The page in a window of the app: it knows of no Electron and of no Node, only of window.deskifier.
const { webSocket } = window.deskifier
const find = (selector) => document.querySelector(selector)

function show(text) {
  const item = document.createElement('li')
  item.textContent = text // never innerHTML: others have written it
  find('ul').append(item)
}

/** What the server says of itself, in the window. */
async function refresh() {
  const { isRunning, clientIds, port } = await webSocket.getServer()
  find('[role=status]').textContent = isRunning
    ? `The server listens on port ${port}. Clients: ${clientIds.length}.`
    : 'The server is not running.'
  find('#start').disabled = isRunning
  find('#stop').disabled = !isRunning
  const to = find('#to').value
  find('#to').replaceChildren(new Option('all', ''), ...clientIds.map((id) => new Option(id.slice(0, 8), id)))
  if (clientIds.includes(to)) find('#to').value = to
}

webSocket.onClientConnected(({ id }) => {
  show(`${id.slice(0, 8)} is here`)
  refresh()
})
webSocket.onMessage(({ id, content }) => {
  show(`${id.slice(0, 8)} says: ${content}`)
})
webSocket.onClientDisconnected(({ id }) => {
  show(`${id.slice(0, 8)} has left`)
  refresh()
})

find('#server').onsubmit = async (event) => {
  event.preventDefault()
  const possiblePorts = find('#ports').value.split(',').map(Number)
  // New at each start: it says who may talk to the app.
  const token = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('')
  const { success, port, message } = await webSocket.startServer({ possiblePorts, token })
  if (success) find('#address').value = `${location.hash.slice(1)}:${port}/#${token}`
  else show(message)
  refresh()
}

find('#stop').onclick = async () => {
  const { message } = await webSocket.stopServer()
  show(message)
  find('#address').value = ''
  refresh()
}

find('#message').onsubmit = async (event) => {
  event.preventDefault()
  const [clientId, message] = [find('#to').value, find('#text').value]
  const result = clientId ? await webSocket.send({ clientId, message }) : await webSocket.broadcast({ message })
  show(result.message)
  if (result.success) find('#text').value = ''
}

refresh()
