import { describe, expect, it } from 'vitest'
import * as fullduplex from '../../src/index.ts'
import { newApi, openPage, startApi } from '../support/facade.ts'
import { MemoryEngine } from '../support/memory-engine.ts'

const NOT_RUNNING = { success: false, message: 'The server is not running; call startServer first.' }

async function startWithPages(count: number, options = {}) {
  const { api, port } = await startApi(options)
  const pages: Awaited<ReturnType<typeof openPage>>[] = []
  while (pages.length < count) pages.push(await openPage(port))
  const { clientIds } = await api.getServer()
  return { api, pages, clientIds: clientIds as [string, string, string] }
}

describe('rooms', () => {
  it('are joined, left, told of, and reached by a broadcast', async () => {
    const { api, pages, clientIds } = await startWithPages(3)
    const [a, b, c] = clientIds
    expect(await api.getRooms()).toStrictEqual({ success: true, message: 'There are 0 rooms.', rooms: [] })
    for (const clientId of [a, b]) {
      const joined = await api.joinRoom({ clientId, room: 'garden' })
      expect(joined).toStrictEqual({ success: true, message: 'The client has joined the room.' })
    }
    expect(await api.joinRoom({ clientId: a, room: 'garden' })).toStrictEqual({
      success: true,
      message: 'The client is in the room already.',
    })
    expect(await api.getRooms()).toStrictEqual({
      success: true,
      message: 'There is 1 room.',
      rooms: [{ room: 'garden', clientIds: [a, b] }],
    })
    const result = await api.broadcast({ message: 'tea', room: 'garden' })
    expect(result).toStrictEqual({ success: true, message: 'Sent to 2 clients.', sent: 2, dropped: 0 })
    expect(await api.leaveRoom({ clientId: a, room: 'garden' })).toStrictEqual({
      success: true,
      message: 'The client has left the room.',
    })
    await api.broadcast({ message: 'more tea', room: 'garden' })
    expect(await api.broadcast({ message: 'nobody', room: 'cellar' })).toMatchObject({ success: true, sent: 0 })
    await api.broadcast({ message: 'all' })
    const expected = { [a]: ['tea', 'all'], [b]: ['tea', 'more tea', 'all'], [c]: ['all'] }
    for (const [index, { messages }] of pages.entries()) {
      const ofThis = expected[clientIds[index]!]!
      expect(await messages.take(ofThis.length)).toEqual(ofThis)
    }
  })

  it('are left by who disconnects', async () => {
    const { api, pages, clientIds } = await startWithPages(1)
    await api.joinRoom({ clientId: clientIds[0], room: 'garden' })
    await pages[0]!.leave()
    await expect.poll(async () => (await api.getRooms()).rooms).toEqual([])
  })

  it('say in a sentence what cannot be', async () => {
    const { api, clientIds } = await startWithPages(1)
    const [clientId] = clientIds
    const wrong: [Promise<unknown>, string][] = [
      [api.joinRoom({ clientId: 'nobody', room: 'a' }), 'There is no client nobody.'],
      [api.leaveRoom({ clientId: 'nobody', room: 'a' }), 'There is no client nobody.'],
      [api.leaveRoom({ clientId, room: 'a' }), `The client ${clientId} is not in this room.`],
      [api.joinRoom({ clientId, room: '' }), 'The name of a topic must be a string of whole characters, not empty.'],
      [api.joinRoom(undefined as never), 'Call joinRoom({ clientId, room }).'],
      [api.leaveRoom(undefined as never), 'Call leaveRoom({ clientId, room }).'],
    ]
    for (const [result, message] of wrong) expect(await result).toStrictEqual({ success: false, message })
    const broadcast = await api.broadcast({ message: 'x', room: 7 as never })
    expect(broadcast).toMatchObject({ success: false, sent: 0, dropped: 0 })
  })

  it('are not there without a server', async () => {
    const api = newApi()
    expect(await api.joinRoom({ clientId: 'a', room: 'b' })).toStrictEqual(NOT_RUNNING)
    expect(await api.leaveRoom({ clientId: 'a', room: 'b' })).toStrictEqual(NOT_RUNNING)
    expect(await api.getRooms()).toStrictEqual({ ...NOT_RUNNING, rooms: [] })
    expect(await fullduplex.getRooms()).toStrictEqual({ ...NOT_RUNNING, rooms: [] })
    expect(await fullduplex.joinRoom({ clientId: 'a', room: 'b' })).toStrictEqual(NOT_RUNNING)
    expect(await fullduplex.leaveRoom({ clientId: 'a', room: 'b' })).toStrictEqual(NOT_RUNNING)
  })

  it('with a history say when a message could not be kept', async () => {
    const engine = new MemoryEngine()
    const { api } = await startWithPages(1, {
      backplane: engine.backplane({ keepsHistory: true }),
      history: { garden: {} },
    })
    expect(await api.broadcast({ message: 'x', room: 'garden' })).toMatchObject({ success: true })
    engine.log.append = () => {
      throw new Error('full')
    }
    expect(await api.broadcast({ message: 'x', room: 'garden' })).toEqual({
      success: false,
      message: 'The message could not be kept: full.',
      sent: 0,
      dropped: 0,
    })
  })

  it('say when a message stays in this process', async () => {
    const engine = new MemoryEngine()
    const { api } = await startWithPages(1, { backplane: engine.backplane() })
    expect(await api.broadcast({ message: 'x' })).toMatchObject({ message: 'Sent to 1 client.' })
    engine.stop()
    expect(await api.broadcast({ message: 'x' })).toMatchObject({
      success: true,
      message: 'Sent to 1 client. The other processes could not be reached.',
    })
  })
})
