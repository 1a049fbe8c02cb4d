/*
 * Runs once for each message, anew each time. What stays is in the globals, and in modules that it requires.
 */

const context = require('core/context')
const globals = require('core/globals')
const websocket = require('net/websocket')
const { isName, isText } = require('./rules')

/** Who is here: sessions by name. */
const people = globals.get('people') ?? new Map()
globals.set('people', people)

const present = new Set(websocket.getOpenSessions())
for (const [name, session] of people) if (!present.has(session)) people.delete(name)

const session = websocket.getSession()
// Whose message this is, is known by its session, and not by what it says.
const sender = [...people.keys()].find((name) => people.get(name) === session)

const actions = { enter, say, list }
const type = context.get('type')
const action = typeof type === 'string' && Object.hasOwn(actions, type) ? actions[type] : unknown
const problem = action()
if (problem) tell(session, { type: 'problem', message: problem })

function enter() {
  const name = context.get('name')
  if (sender !== undefined) return `You are here already, as ${sender}.`
  if (!isName(name)) return 'A name has up to 20 letters and digits.'
  if (people.has(name)) return 'Somebody with this name is here already.'
  people.set(name, session)
  tell(session, { type: 'welcome', name })
  for (const other of people.values()) tell(other, { type: 'here', names: [...people.keys()] })
}

function say() {
  const to = context.get('to')
  const text = context.get('text')
  if (sender === undefined) return 'Enter first.'
  if (!isText(text)) return 'Say something, in up to 500 characters.'
  if (!people.has(to)) return 'There is nobody of that name.'
  tell(people.get(to), { type: 'said', from: sender, text })
}

function list() {
  tell(session, { type: 'here', names: [...people.keys()] })
}

function unknown() {
  return `"type" has to be one of ${Object.keys(actions).join(', ')}.`
}

function tell(to, message) {
  to.sendText(JSON.stringify(message))
}
