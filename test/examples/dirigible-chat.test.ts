import type { Page } from 'playwright-core'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../../src/index.ts'
import { describeInChromium, keepRecords } from '../support/chromium.ts'
import { addressIn, startExample } from '../support/example.ts'
import type { Program } from '../support/program.ts'
import { Queue } from '../support/queue.ts'

async function startServer(): Promise<{ server: Program; address: URL }> {
  const server = startExample('dirigible-chat')
  return { server, address: await addressIn(server) }
}

/** A client that may say anything. */
async function enter(address: URL) {
  const received = new Queue<unknown>()
  const connection = await connect(`ws://${address.host}/service/js`, {
    message: (_connection, data) => received.push(JSON.parse(String(data))),
  })
  onTestFinished(() => connection.close())
  const run = (params: unknown): boolean => connection.send(JSON.stringify({ module: 'chat/desk.js', params }))
  return { connection, received, run }
}

const here = (...names: string[]) => ({ type: 'here', names })
const problem = (message: RegExp) => ({ type: 'problem', message: expect.stringMatching(message) })

describe('examples/dirigible-chat', () => {
  it('lets people enter, talk to each other, and see who is there', async () => {
    const { server, address } = await startServer()
    const ann = await enter(address)
    ann.run({ type: 'enter', name: 'Ann' })
    expect(await ann.received.take(2)).toEqual([{ type: 'welcome', name: 'Ann' }, here('Ann')])
    const bob = await enter(address)
    bob.run({ type: 'list' })
    bob.run({ type: 'enter', name: 'Böb1' })
    expect(await bob.received.take(3)).toEqual([here('Ann'), { type: 'welcome', name: 'Böb1' }, here('Ann', 'Böb1')])
    expect(await ann.received.next()).toEqual(here('Ann', 'Böb1'))
    ann.run({ type: 'say', to: 'Böb1', text: 'Hello', from: 'somebody else' })
    expect(await bob.received.next()).toEqual({ type: 'said', from: 'Ann', text: 'Hello' })
    bob.run({ type: 'say', to: 'Ann', text: 'Hi' })
    expect(await ann.received.next()).toEqual({ type: 'said', from: 'Böb1', text: 'Hi' })

    ann.connection.close()
    const isAlone = async (): Promise<unknown> => {
      bob.run({ type: 'list' })
      return bob.received.next()
    }
    await expect.poll(isAlone, { timeout: 10_000 }).toEqual(here('Böb1'))
    expect(await server.stop()).toBe(0)
    expect(server.errorOutput).toBe('')
  })

  it('answers what makes no sense, and goes on', async () => {
    const { server, address } = await startServer()
    const ann = await enter(address)
    const bob = await enter(address)
    bob.run({ type: 'enter', name: 'Bob' })
    await bob.received.take(2)
    const cases: [unknown, unknown][] = [
      [{}, problem(/"type"/)],
      [{ type: 'toString' }, problem(/"type"/)],
      [{ type: ['list'] }, problem(/"type"/)],
      [{ type: 'say', to: 'Bob', text: 'x' }, problem(/Enter first/)],
      [{ type: 'enter' }, problem(/letters/)],
      [{ type: 'enter', name: '<b>' }, problem(/letters/)],
      [{ type: 'enter', name: 'x'.repeat(21) }, problem(/letters/)],
      [{ type: 'enter', name: 'Bob' }, problem(/already/)],
      ['text', { error: expect.stringContaining('"params"') }],
    ]
    for (const [params, answer] of cases) {
      ann.run(params)
      expect(await ann.received.next(), JSON.stringify(params)).toEqual(answer)
    }
    for (const module of ['chat/rules.js', '../server.js', 'package.json']) {
      ann.connection.send(JSON.stringify({ module }))
      expect(await ann.received.next()).toEqual({ error: expect.any(String) })
    }
    ann.run({ type: 'enter', name: 'Ann' })
    await ann.received.take(2)
    ann.run({ type: 'enter', name: 'Ann2' })
    ann.run({ type: 'say', to: 'Bob', text: ' ' })
    ann.run({ type: 'say', to: 'Bob', text: 'x'.repeat(501) })
    ann.run({ type: 'say', to: 'Eve', text: 'x' })
    expect(await ann.received.take(4)).toEqual([
      problem(/as Ann/),
      problem(/something/),
      problem(/something/),
      problem(/nobody/),
    ])
    expect(bob.received.all).toHaveLength(3)
    expect(server.errorOutput).toBe('')
  })
})

describeInChromium('examples/dirigible-chat in a browser', [], (newProfile) => {
  it('shows in one window what is said in another, as text', async () => {
    const { server, address } = await startServer()
    const openWindow = async (name: string): Promise<{ page: Page; complaints: string[] }> => {
      const context = await newProfile()
      const { complaints } = keepRecords(context)
      const page = await context.newPage()
      await page.goto(address.href)
      await page.getByRole('textbox', { name: 'Your name' }).fill(name)
      await page.getByRole('button', { name: 'Enter' }).click()
      await page.getByText(`You are here as ${name}.`).waitFor()
      return { page, complaints }
    }
    const ann = await openWindow('Ann')
    const bob = await openWindow('Bob')
    const text = '<img src="x" onerror="alert(1)">'
    await ann.page.getByRole('combobox', { name: 'To' }).selectOption('Bob')
    await ann.page.getByRole('textbox', { name: 'Message' }).fill(text)
    await ann.page.getByRole('button', { name: 'Send' }).click()
    await bob.page.getByRole('listitem').getByText(`Ann: ${text}`, { exact: true }).waitFor()
    expect(await ann.page.getByRole('listitem').count()).toBe(0)
    await server.stop()
    await bob.page.getByText('Not connected.').waitFor()
    expect([ann.complaints, bob.complaints]).toEqual([[], []])
  })
})
