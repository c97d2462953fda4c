import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Page } from 'playwright-core'
import { beforeAll, beforeEach, expect, it } from 'vitest'
import { Browser, faultsOf, goOn, has } from '../fixtures/chromium.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const screenshots = process.env.TEST_SCREENSHOTS
const COOKIE = 'xqueue_session'
let guarded: Server
let browser: Browser
let page: Page

beforeAll(async () => {
  guarded = await startServer({ auth: 'keys' })
  browser = await Browser.start()
  if (screenshots) mkdirSync(screenshots, { recursive: true })
})
beforeEach(async () => {
  await page?.context().clearCookies()
  await page?.close()
  page = await browser.open(`${guarded.url}/`)
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
  browser.complaints.length = 0
})

async function logIn(key: string): Promise<void> {
  await page.getByLabel('API key').fill(key)
  await page.getByRole('button', { name: 'Log in' }).click()
}
const isLive = () => has(page.getByRole('status').first(), 'live')
const tabs = () => page.locator('nav').first().getByRole('link').allTextContents()
const cookies = async () => (await page.context().cookies()).filter(({ name }) => name === COOKIE)

it('shows only the form before the login, and explains why a key is refused', async () => {
  expect(await faultsOf(page)).toEqual([])
  if (screenshots) await page.screenshot({ path: join(screenshots, 'login.png') })
  await logIn(`xq_${'x'.repeat(43)}`)
  await page.getByRole('alert').getByText('the key is not valid').waitFor()
  expect(browser.requested.filter((url) => /stats|tasks|types|events|mqtt/.test(url))).toEqual([])
  expect(await cookies()).toEqual([])
})

it('logs in with an admin key: updates live, and changes take effect', async () => {
  await logIn(await guarded.key(['admin'], { name: 'ann' }))
  await isLive()
  expect(await tabs()).toEqual(['Overview', 'Tasks', 'Workers', 'Limits', 'Schedules', 'Submit'])
  await page.locator('.who').getByText('ann').waitFor()
  expect(await page.evaluate('document.cookie')).toBe('')
  expect(await cookies()).toMatchObject([{ httpOnly: true, sameSite: 'Strict' }])
  await page.getByRole('link', { name: 'Limits' }).click()
  const row = page.getByRole('row', { name: 'quick', exact: true })
  await page.getByLabel('Limit: quick').fill('4')
  await row.getByRole('button', { name: 'Set' }).click()
  await row.getByText('0 of 4').waitFor()
  await page.getByRole('link', { name: 'Submit' }).click()
  await page.locator('select').selectOption('show')
  await page.locator('form').getByRole('button', { name: 'Submit' }).click()
  await page.locator('.submitted').getByText('success').waitFor()
  if (screenshots) await page.screenshot({ path: join(screenshots, 'logged-in.png') })
  await page.reload()
  await isLive()
  expect(browser.complaints).toEqual([])
})

it('shows a key with only `read` no buttons that the server would refuse', async () => {
  await guarded
    .as(await guarded.key(['submit']))
    .call('POST', '/tasks', { type: 'quick', delay: 3_600, batch: 'later' })
  await logIn(await guarded.key(['read']))
  await isLive()
  expect(await tabs()).toEqual(['Overview', 'Tasks', 'Workers', 'Limits', 'Schedules'])
  await page.getByRole('link', { name: 'Limits' }).click()
  await page.getByRole('row', { name: 'quick', exact: true }).waitFor()
  expect(await page.locator('.limits input, .limits form button').count()).toBe(0)
  await page.getByRole('link', { name: 'Tasks', exact: true }).click()
  await page.getByRole('table', { name: 'Tasks' }).getByRole('link').first().waitFor()
  expect(await page.locator('.matching button, .list input').count()).toBe(0)
  await page.getByRole('table').getByRole('link').first().click()
  await page.locator('.timeline').waitFor()
  // Folding and copying ask the server for nothing.
  const changing = page.locator('main button:not(.json-tools button, .copy), main a.button')
  expect(await changing.count()).toBe(0)
  await page.getByRole('link', { name: 'later' }).click()
  await page.getByText('0 of 1 have ended').waitFor()
  expect(await changing.count()).toBe(0)
  await goOn(page, 'submit')
  await page.getByText('does not allow access').waitFor()
  expect(browser.complaints).toEqual([])
})

it('lets a key with only `submit` submit, and reads nothing else', async () => {
  browser.requested.length = 0
  await logIn(await guarded.key(['submit']))
  await page.getByLabel('Type').fill('quick')
  await page.getByLabel('Type').blur()
  await page.getByLabel('Payload').fill('{"n": 1}')
  await page.locator('form').getByRole('button', { name: 'Submit' }).click()
  await page.locator('.submitted a').waitFor()
  expect(await tabs()).toEqual(['Submit'])
  expect(browser.requested.filter((url) => /stats|types|events|mqtt/.test(url))).toEqual([])
})

it('logs out, and asks for a key again, also after the key was revoked elsewhere', async () => {
  const { token, key } = await guarded.newKey(['read'])
  await logIn(token)
  await isLive()
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
  expect(await cookies()).toEqual([])
  await logIn(token)
  await isLive()
  await guarded.ring.drop(key.id)
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
})

it('lets the example page watch a task with a token for that task', async () => {
  const host = await startServer({ auth: 'keys', 'mqtt-origins': 'null' })
  const [reader, submitter] = [await host.key(['read']), await host.key(['submit'])]
  const { id } = (await host.as(submitter).call('POST', '/tasks', { type: 'quick', delay: 3_600 })).body
  const { password } = (await host.as(reader).call('POST', '/subscriptions', { task_ids: [id] })).body
  const file = join(import.meta.dirname, '../../examples/mqtt-client.html')
  const example = await browser.open(pathToFileURL(file).href)
  await example.getByLabel('Server').fill(new URL(host.url).host)
  await example.getByLabel('Task id').fill(id)
  await example.getByLabel('Password').fill(password)
  await example.getByRole('button').click()
  await example.locator('#states').getByText('pending').waitFor()
  await host.as(submitter).call('DELETE', `/tasks/${id}`)
  await example.locator('#states').getByText('canceled').waitFor()
  await example.close()
  await host.stop()
})

it('shows Chinese texts', async () => {
  await page.getByRole('button', { name: '中文' }).click()
  await page.getByRole('heading', { name: '登录' }).waitFor()
  await page.getByLabel('API 密钥').waitFor()
  await page.getByRole('button', { name: 'English' }).click()
})

it('runs the API documentation under its content security policy', async () => {
  await page.goto(`${guarded.url}/docs/`)
  await page.getByText('Submit many tasks: accepts all or none').waitFor()
  expect(browser.complaints).toEqual([])
})
