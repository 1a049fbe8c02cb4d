import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import {
  type Files,
  NOTE,
  openPeer,
  type Peer,
  type Served,
  serveFolder,
  writeFiles,
} from '../support/dirigible-folder.ts'

const AT = '/websockets/v4/service/'

/** A handler that answers with a word. */
function speaker(word: string): string {
  return `exports.onMessage = (message, session) => session.send('${word}')`
}

const FILES: Files = {
  'a/speaker.js': speaker('one'),
  'a/speaker.websocket': { handler: 'a/speaker', endpoint: 'speaker' },
}

function watch(files: Files): Promise<Served> {
  return serveFolder(files, { watch: true })
}

/** Asks until the answer is this one. */
async function hears(peer: Peer, word: string): Promise<void> {
  await expect
    .poll(
      () => {
        peer.send('?')
        return peer.messages.next()
      },
      { timeout: 10_000, interval: 20 },
    )
    .toBe(word)
}

/** How an opening there ends, at last. */
async function answers(url: string, status: 101 | 404): Promise<void> {
  const attempt = (): Promise<number> =>
    openPeer(url).then(
      ({ connection }) => {
        connection.terminate()
        return 101
      },
      (error: { status: number }) => error.status,
    )
  await expect.poll(attempt, { timeout: 10_000, interval: 20 }).toBe(status)
}

it('gives open connections the new handler, from the next event on', async () => {
  const { url, root } = await watch(FILES)
  const peer = await openPeer(`${url}${AT}speaker`)
  await hears(peer, 'one')
  for (const word of ['two', 'three']) {
    writeFiles(root, { 'a/speaker.js': speaker(word) })
    await hears(peer, word)
  }
  await hears(await openPeer(`${url}${AT}speaker`), 'three')
  expect(peer.connection.state).toBe('open')
})

it('loads a handler again when a module has changed that it requires, and no others', async () => {
  const { url, root, notes } = await watch({
    'deep/word.js': "module.exports = 'one'",
    'deep/middle.js': "module.exports = require('./word')",
    'handler.js': "const word = require('deep/middle')\nexports.onMessage = (message, session) => session.send(word)",
    'h.websocket': { handler: 'handler', endpoint: 'h' },
    'other.js': `${NOTE}note('other has run')`,
    'o.websocket': { handler: 'other', endpoint: 'o' },
  })
  const peer = await openPeer(`${url}${AT}h`)
  await hears(peer, 'one')
  writeFiles(root, { 'deep/word.js': "module.exports = 'two'" })
  await hears(peer, 'two')
  expect(notes.all).toEqual(['other has run'])
})

it('serves endpoints that come, in folders that come, and no more those that go', async () => {
  const { url, root } = await watch(FILES)
  const peer = await openPeer(`${url}${AT}speaker`)
  mkdirSync(join(root, 'b/c'), { recursive: true })
  writeFiles(root, { 'b/c/new.js': speaker('new'), 'b/c/new.websocket': { handler: './new', endpoint: 'new' } })
  await answers(`${url}${AT}new`, 101)
  writeFiles(root, { 'b/c/new.js': speaker('newer') })
  await hears(await openPeer(`${url}${AT}new`), 'newer')

  rmSync(join(root, 'a/speaker.websocket'))
  await answers(`${url}${AT}speaker`, 404)
  await hears(peer, 'one') // who is in stays

  renameSync(join(root, 'b'), join(root, 'moved'))
  writeFiles(root, { 'moved/c/new.js': speaker('moved') })
  await hears(await openPeer(`${url}${AT}new`), 'moved')

  rmSync(join(root, 'moved'), { recursive: true })
  await answers(`${url}${AT}new`, 404)
  writeFiles(root, {
    'moved/c/new.js': speaker('back'),
    'moved/c/new.websocket': { handler: './new', endpoint: 'new' },
  })
  await answers(`${url}${AT}new`, 101)
  writeFiles(root, { 'moved/c/new.js': speaker('back again') })
  await hears(await openPeer(`${url}${AT}new`), 'back again')
})

it('watches a folder that takes the place of another', async () => {
  const { url, root } = await watch({ ...FILES, 'next/speaker.js': speaker('two') })
  const peer = await openPeer(`${url}${AT}speaker`)
  await hears(peer, 'one')
  renameSync(join(root, 'a/speaker.websocket'), join(root, 'next/speaker.websocket'))
  rmSync(join(root, 'a'), { recursive: true })
  renameSync(join(root, 'next'), join(root, 'a'))
  await hears(peer, 'two')
  writeFiles(root, { 'a/speaker.js': speaker('three') })
  await hears(peer, 'three')
})

it('moves an endpoint to another name or handler', async () => {
  const { url, root } = await watch({ ...FILES, 'a/other.js': speaker('other') })
  const peer = await openPeer(`${url}${AT}speaker`)
  writeFiles(root, { 'a/speaker.websocket': { handler: 'a/other', endpoint: 'speaker' } })
  await hears(peer, 'other')
  writeFiles(root, { 'a/speaker.websocket': { handler: 'a/speaker', endpoint: 'renamed' } })
  await answers(`${url}${AT}renamed`, 101)
  await answers(`${url}${AT}speaker`, 404)
})

it.each([
  [
    'a handler that does not run',
    { 'a/speaker.js': 'exports.onMessage = ' },
    /^a\/speaker\.websocket: handler: Unexpected/,
  ],
  ['a handler that throws', { 'a/speaker.js': 'throw new Error("no")' }, /^a\/speaker\.websocket: handler: no$/],
  ['a descriptor that is not JSON', { 'a/speaker.websocket': '{' }, /^a\/speaker\.websocket: it is not JSON/],
  [
    'a second descriptor',
    { 'b.websocket': { handler: 'a/speaker', endpoint: 'speaker' } },
    /^b\.websocket: endpoint: /,
  ],
])('reports %s, keeps what was there, and goes on when it is right again', async (_what, wrong, message) => {
  const { url, root, errors } = await watch(FILES)
  const peer = await openPeer(`${url}${AT}speaker`)
  await hears(peer, 'one')
  writeFiles(root, wrong)
  expect(await errors.next()).toMatchObject({ code: 'ERR_OPTION', message: expect.stringMatching(message) })
  await hears(peer, 'one')
  await hears(await openPeer(`${url}${AT}speaker`), 'one')
  rmSync(join(root, 'b.websocket'), { force: true })
  writeFiles(root, { ...FILES, 'a/speaker.js': speaker('two') })
  await hears(peer, 'two')
})

it('sees changes that never pause', async () => {
  const { url, root } = await watch(FILES)
  const peer = await openPeer(`${url}${AT}speaker`)
  let count = 0
  const busy = setInterval(() => writeFiles(root, { 'a/log.txt': String(count++) }), 10)
  try {
    writeFiles(root, { 'a/speaker.js': speaker('two') })
    await hears(peer, 'two')
  } finally {
    clearInterval(busy)
  }
})

it('looks at nothing without watch, and no more when the server has closed', async () => {
  const still = await serveFolder(FILES)
  const peer = await openPeer(`${still.url}${AT}speaker`)
  const watched = await still.runtime.serve({ watch: true })
  await watched.close()
  const third = await still.runtime.serve({ watch: true })
  const other = await openPeer(`ws://127.0.0.1:${third.port}${AT}speaker`)
  writeFiles(still.root, { 'a/speaker.js': speaker('two') })
  await hears(other, 'two')
  peer.send('?')
  expect(await peer.messages.next()).toBe('one')
})
