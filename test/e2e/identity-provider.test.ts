import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { Browser, faultsOf } from '../fixtures/chromium.ts'
import { type RunningProvider, startProvider } from '../fixtures/identity-provider.ts'
import { freePort } from '../fixtures/ports.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const CALLBACK = '/login/callback'
let provider: RunningProvider
let providerPort: number
let guarded: Server
let browser: Browser
let page: Page

const startHere = () =>
  startProvider(providerPort, `${guarded.url}${CALLBACK}`, {
    ann: { roles: ['ops'] },
    bob: { roles: ['support'] },
    cyd: { roles: ['xqueue:read'] },
    dee: { roles: ['sales'] },
    eve: { roles: ['support'], xqueue_groups: ['acme'] },
  })

beforeAll(async () => {
  providerPort = await freePort()
  guarded = await startServer({
    auth: 'keys',
    'oidc-issuer': `http://127.0.0.1:${providerPort}`,
    'oidc-client-id': 'xqueue',
    'oidc-client-secret': 'a secret of the client',
    'oidc-roles': 'ops=admin,support=read+submit',
  })
  provider = await startHere()
  browser = await Browser.start()
})
afterAll(async () => {
  await provider.stop()
})
afterEach(async () => {
  await page.context().clearCookies()
  await page.close()
})

async function logIn(user: string): Promise<void> {
  page = await browser.open(`${guarded.url}/`)
  await page.getByRole('link', { name: 'Log in with your organization' }).click()
  await page.getByPlaceholder('Enter any login').fill(user)
  await page.getByPlaceholder('and password').fill('anything')
  await page.getByRole('button', { name: 'Sign-in' }).click()
  await page.getByRole('button', { name: 'Continue' }).click()
}
const tabs = () => page.locator('nav').first().getByRole('link').allTextContents()

it('offers both ways to log in, and passes axe', async () => {
  page = await browser.open(`${guarded.url}/`)
  await page.getByRole('link', { name: 'Log in with your organization' }).waitFor()
  await page.getByLabel('API key').waitFor()
  expect(await faultsOf(page)).toEqual([])
})

it.each([
  ['ann', 'admin', ['Overview', 'Tasks', 'Workers', 'Limits', 'Schedules', 'Submit']],
  ['bob', 'read, submit', ['Overview', 'Tasks', 'Workers', 'Limits', 'Schedules', 'Submit']],
  ['cyd', 'read', ['Overview', 'Tasks', 'Workers', 'Limits', 'Schedules']],
])('logs in %s with the scopes of the role: %s', async (user, scopes, shown) => {
  await logIn(user)
  await page.locator('.who').getByText(user).waitFor()
  expect(await page.locator('.who').getAttribute('title')).toBe(scopes)
  expect(await tabs()).toEqual(shown)
  expect(page.url()).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/(#.*)?$/)
  const cookies = await page.context().cookies()
  expect(cookies.find(({ name }) => name === 'xqueue_session')).toMatchObject({ httpOnly: true, sameSite: 'Strict' })
  expect(cookies.find(({ name }) => name === 'xqueue_login')).toBeUndefined()
  expect(guarded.audits()).toContainEqual(expect.objectContaining({ actor: user, action: 'log in', status: 302 }))

  await page.getByRole('button', { name: 'Log out' }).click()
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
})

it('refuses an account without a role, on the page and in the audit log, and opens no session', async () => {
  await logIn('dee')
  await page.getByRole('alert').getByText('Your account has no role for this queue').waitFor()
  expect((await page.context().cookies(guarded.url)).map(({ name }) => name)).not.toContain('xqueue_session')
  expect(guarded.audits()).toContainEqual(
    expect.objectContaining({ action: 'log in', status: 403, refused: true, why: expect.stringContaining('no role') }),
  )
})

it('confines an account to the groups that its claims name', async () => {
  const admin = await guarded.key(['admin'])
  for (const group of ['acme', 'globex']) await guarded.as(admin).call('POST', '/tasks', { type: 'quick', group })
  await logIn('eve')
  await page.locator('.who').getByText('eve').waitFor()
  const { tasks } = (await page.evaluate("fetch('api/v1/tasks').then((answer) => answer.json())")) as {
    tasks: { group: string }[]
  }
  expect(tasks.map(({ group }) => group)).toEqual(['acme'])
})

it('refuses an unsolicited answer: another state, another browser, a used code, or none', async () => {
  const start = await fetch(`${guarded.url}/login`, { redirect: 'manual' })
  const cookie = start.headers.get('set-cookie')!.split(';')[0]!
  expect(start.headers.get('set-cookie')).toMatch(/HttpOnly; SameSite=Lax; Max-Age=600/)
  const asked = new URL(start.headers.get('location')!)
  expect(Object.fromEntries(asked.searchParams)).toMatchObject({
    response_type: 'code',
    code_challenge_method: 'S256',
    code_challenge: expect.stringMatching(/^[\w-]{43}$/),
    state: expect.stringMatching(/^[\w-]{43}$/),
    nonce: expect.stringMatching(/^[\w-]{43}$/),
  })
  const state = asked.searchParams.get('state')!
  const iss = encodeURIComponent(provider.issuer)
  const answers: [query: string, cookie: string][] = [
    [`code=x&state=${'a'.repeat(43)}&iss=${iss}`, cookie],
    [`code=x&state=${state}&iss=${iss}`, ''],
    [`code=x&state=${state}&iss=${iss}`, cookie],
    [`code=x&state=${state}&iss=https://elsewhere.example`, cookie],
    [`error=access_denied&state=${state}&iss=${iss}`, cookie],
    ['', cookie],
  ]
  for (const [query, sent] of answers) {
    const answer = await fetch(`${guarded.url}${CALLBACK}?${query}`, { redirect: 'manual', headers: { Cookie: sent } })
    expect([query, answer.status, answer.headers.get('location')]).toEqual([query, 302, '../#login-error=unauthorized'])
    expect(answer.headers.getSetCookie().join()).not.toContain('xqueue_session')
  }
  page = await browser.open(`${guarded.url}/`)
})

it('reports that the provider is unreachable, and logs in again when it is back', async () => {
  await provider.stop()
  const away = await startServer({ auth: 'keys', 'oidc-issuer': provider.issuer, 'oidc-client-id': 'xqueue' })
  const answer = await fetch(`${away.url}/login`)
  expect(answer.status).toBe(503)
  expect(await answer.json()).toMatchObject({ code: 'issuer_unavailable' })
  expect(answer.headers.get('retry-after')).toBe('1')
  await away.stop()
  provider = await startHere()
  await logIn('ann')
  await page.locator('.who').getByText('ann').waitFor()
})

it('offers no login by a provider unless one is configured', async () => {
  const plain = await startServer({ auth: 'keys' })
  expect((await plain.as(null).call('GET', '/session')).body.login_url).toBeNull()
  expect((await fetch(`${plain.url}/login`)).status).toBe(404)
  await plain.stop()
  page = await browser.open(`${guarded.url}/`)
})
