import type { Page } from 'playwright-core'
import { expect, it } from 'vitest'
import { describeInChromium, keepRecords, type NewProfile } from '../support/chromium.ts'
import { addressIn, startExample } from '../support/example.ts'

const WELCOME = 'Welcome! Everybody who is here will read what you send.'

/** The page in one window, with what it complained of. */
async function openWindow(newProfile: NewProfile, address: URL): Promise<{ page: Page; complaints: string[] }> {
  const context = await newProfile()
  const { complaints } = keepRecords(context)
  const page = await context.newPage()
  await page.goto(address.href)
  await page.getByRole('status').getByText('Connected.', { exact: true }).waitFor()
  await received(page, WELCOME).waitFor()
  return { page, complaints }
}

function received(page: Page, text: string) {
  return page.getByRole('log').getByRole('listitem').getByText(text, { exact: true })
}

async function say(page: Page, text: string): Promise<void> {
  await page.getByRole('textbox', { name: 'Message' }).fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
}

describeInChromium('examples/chat', [], (newProfile) => {
  it('shows in two windows what either of them sends, as text', async () => {
    const server = startExample('chat', { env: { PAGE_PORT: '0' } })
    const address = await addressIn(server)
    const windows = [await openWindow(newProfile, address), await openWindow(newProfile, address)] as const
    const texts = ['Hello from the first', 'Grüße vom zweiten: 👋', '<img src="x" onerror="alert(1)">']
    for (const [index, text] of texts.entries()) {
      await say(windows[index % 2]!.page, text)
      for (const { page } of windows) await received(page, text).waitFor()
    }
    for (const { page, complaints } of windows) {
      expect(await page.getByRole('listitem').allTextContents()).toEqual([WELCOME, ...texts])
      expect(await page.getByRole('textbox', { name: 'Message' }).inputValue()).toBe('')
      expect(complaints).toEqual([])
    }
  })

  it('says when the server is gone, and sends nothing more', async () => {
    const server = startExample('chat', { env: { PAGE_PORT: '0' } })
    const { page } = await openWindow(newProfile, await addressIn(server))
    await server.stop()
    await page.getByRole('status').getByText('Not connected.').waitFor()
    expect(await page.getByRole('button', { name: 'Send' }).isDisabled()).toBe(true)
  })

  it('has nothing but its page', async () => {
    const address = await addressIn(startExample('chat', { env: { PAGE_PORT: '0' } }))
    const answer = await fetch(new URL('/server.js', address))
    expect([answer.status, await answer.text()]).toEqual([404, 'Not found'])
  })
})
