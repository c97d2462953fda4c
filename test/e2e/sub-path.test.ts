import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Browser, has } from '../fixtures/chromium.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { type Server, startServer } from '../fixtures/server.ts'
import { snippetsOf } from '../fixtures/snippets.ts'

/**
 * A process with access control behind a real nginx, configured as docs/deployment.md shows, with and without
 * stripping.
 */
const { code: stripping } = snippetsOf('docs/deployment.md').find(({ language }) => language === 'nginx')!
let guarded: Server
let nginx: Awaited<ReturnType<typeof startNginx>>
let browser: Browser
let key: string

beforeAll(async () => {
  guarded = await startServer({ auth: 'keys', 'base-path': '/queue', 'trusted-proxies': 'loopback' })
  const here = stripping.replaceAll('http://127.0.0.1:8080/', `${guarded.url}/`)
  const passing = here
    .replace('location /queue/', 'location /as-it-is/queue/')
    .replace(`${guarded.url}/`, `${guarded.url}/queue/`)
  nginx = await startNginx(`${here}\n${passing}`)
  browser = await Browser.start({ ignoreHTTPSErrors: true })
  key = await guarded.key(['admin'], { name: 'ann' })
})
afterAll(async () => {
  nginx.stop()
})

async function fetchThere(path: string, init: RequestInit = {}): Promise<Response> {
  // The fetch of the page would need a login; the certificate is self-signed.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  return fetch(`${nginx.url}${path}`, init)
}

async function logIn(browser: Browser, url: string): Promise<Page> {
  const page = await browser.open(url)
  await page.getByLabel('API key').fill(key)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.locator('.who').getByText('ann').waitFor()
  return page
}

it('the dashboard logs in, updates live, changes a limit and shows a task', async () => {
  const page = await logIn(browser, `${nginx.url}/queue/`)
  await has(page.getByRole('status').first(), 'live')
  const [cookie] = await page.context().cookies()
  expect(cookie).toMatchObject({ name: 'xqueue_session', path: '/queue/', secure: true, httpOnly: true })
  await page.getByRole('link', { name: 'Limits' }).click()
  const row = page.getByRole('row', { name: 'quick', exact: true })
  await page.getByLabel('Limit: quick').fill('4')
  await row.getByRole('button', { name: 'Set' }).click()
  await row.getByText('0 of 4').waitFor()
  const { id } = (await guarded.as(key).call('POST', '/tasks', { type: 'quick' })).body
  await page.goto(`${nginx.url}/queue/#/tasks/${id}`)
  await page.getByRole('heading', { name: 'quick' }).waitFor()
  expect(browser.complaints).toEqual([])
  expect(browser.requested.filter((url) => !new URL(url).pathname.startsWith('/queue/'))).toEqual([])
  expect(browser.requested).toContain(`${nginx.url}/queue/api/v1/events?stats=true`)
  await page.close()
})

it('the dashboard works at its path without a final slash, where Next.js redirects to', async () => {
  // Cookies do not depend on the port.
  const stranger = await Browser.start()
  const page = await logIn(stranger, `${guarded.url}/queue`)
  await has(page.getByRole('status').first(), 'live')
  expect(new URL(page.url()).pathname).toBe('/queue')
  expect(stranger.requested.filter((url) => !/^\/queue($|\/)/.test(new URL(url).pathname))).toEqual([])
  expect(stranger.complaints).toEqual([])
})

it('the API documentation loads, and its calls use the path', async () => {
  browser.requested.length = 0
  const page = await browser.open(`${nginx.url}/queue/docs`)
  await page.getByText('Submit a task').first().waitFor()
  expect(await page.title()).toBe('XQueue API')
  expect(await page.locator('.topbar, img').count()).toBe(0)
  const icon = await page.locator('link[rel=icon]').getAttribute('href')
  expect(icon).toBe('/queue/docs/static/theme/icon.svg')
  expect(await (await fetchThere(icon!)).text()).toContain('<title>XQueue</title>')
  expect(browser.requested.filter((url) => !new URL(url).pathname.startsWith('/queue/'))).toEqual([])
  expect(browser.complaints).toEqual([])
  const { servers } = (await (await fetchThere('/queue/openapi.json')).json()) as { servers: { url: string }[] }
  expect(servers.map(({ url }) => url)).toEqual(['/queue'])
  await page.close()
})

it.each(['/queue', '/as-it-is/queue'])(
  'links lead back through the proxy, with the path stripped or kept: %s',
  async (at) => {
    const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
    const answer = await fetchThere(`${at}/api/v1/tasks`, { method: 'POST', headers, body: '{"type": "quick"}' })
    const { id } = (await answer.json()) as { id: string }
    expect(answer.headers.get('location')).toBe(`/queue/api/v1/tasks/${id}`)
    expect((await fetchThere(answer.headers.get('location')!, { headers })).status).toBe(200)
    const subscribed = await fetchThere(`${at}/api/v1/subscriptions`, {
      method: 'POST',
      headers,
      body: '{"types": ["quick"]}',
    })
    const { url } = (await subscribed.json()) as { url: string }
    expect(url).toBe(`${nginx.url.replace('https', 'wss')}/queue/mqtt`)
  },
)

it('events arrive at once, and the audit log names the client', async () => {
  const stream = await fetchThere('/queue/api/v1/events', { headers: { Authorization: `Bearer ${key}` } })
  const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader()
  await guarded.as(key).call('POST', '/tasks', { type: 'quick' })
  let text = ''
  while (!text.includes('"success"')) text += (await reader.read()).value
  await reader.cancel()
  expect(guarded.audits().map(({ ip }) => ip)).toContain('127.0.0.1')
})
