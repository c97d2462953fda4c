import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { IdentityProvider, type IdentityProviderOptions } from '../../src/access/identity-provider.ts'
import type { Scope } from '../../src/task/api-key.ts'
import { type RunningProvider, startProvider } from '../fixtures/identity-provider.ts'
import { freePort } from '../fixtures/ports.ts'

const CALLBACK = 'http://127.0.0.1:1/login/callback'
let port: number
let running: RunningProvider
let options: IdentityProviderOptions
let provider: IdentityProvider

afterEach(() => {
  vi.useRealTimers()
})

const startHere = () =>
  startProvider(port, CALLBACK, {
    ann: { roles: ['ops'], xqueue_groups: ['acme'] },
    dee: { roles: ['sales'] },
    long: { preferred_username: 'x'.repeat(101), roles: ['ops'] },
  })

beforeAll(async () => {
  port = await freePort()
  running = await startHere()
  options = {
    issuer: running.issuer,
    clientId: 'xqueue',
    clientSecret: 'a secret of the client',
    scopes: 'profile',
    rolesClaim: 'roles',
    roles: new Map<string, Scope[]>([['ops', ['admin']]]),
  }
  provider = new IdentityProvider(options)
})

/** What a browser does between both steps: it follows redirects, and fills in the forms of the provider. */
async function logIn(url: URL, user: string): Promise<URL> {
  const cookies = new Map<string, string>()
  let [next, body] = [url, undefined as URLSearchParams | undefined]
  while (!next.href.startsWith(CALLBACK)) {
    const headers = { Cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }
    const answer = await fetch(next, { redirect: 'manual', headers, ...(body && { method: 'POST', body }) })
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie)!
      cookies.set(name!, value!)
    }
    body = undefined
    const location = answer.headers.get('location')
    if (location !== null) next = new URL(location, next)
    else {
      const prompt = /name="prompt" value="(\w+)"/.exec(await answer.text())![1]!
      body = new URLSearchParams({ prompt, ...(prompt === 'login' ? { login: user, password: 'anything' } : {}) })
    }
  }
  return next
}
async function loggedIn(user: string, by = provider) {
  const { url, login } = await by.start(CALLBACK)
  return by.finish(await logIn(url, user), login)
}

describe('a login at an identity provider', () => {
  it('asks for a code with PKCE, state and nonce, each drawn anew', async () => {
    const { url, login } = await provider.start(CALLBACK)
    expect(url.origin).toBe(running.issuer)
    const random = expect.stringMatching(/^[\w-]{43}$/)
    const asked = { redirect_uri: CALLBACK, scope: 'openid profile', client_id: 'xqueue', response_type: 'code' }
    const drawn = { code_challenge: random, code_challenge_method: 'S256', state: login.state, nonce: login.nonce }
    expect(Object.fromEntries(url.searchParams)).toEqual({ ...asked, ...drawn })
    expect(login).toEqual({ state: random, nonce: random, verifier: random })
    const again = await provider.start(CALLBACK)
    for (const part of ['state', 'nonce', 'verifier'] as const) expect(again.login[part]).not.toBe(login[part])
    const alone = await new IdentityProvider({ ...options, scopes: '' }).start(CALLBACK)
    expect(alone.url.searchParams.get('scope')).toBe('openid')
  })

  it('makes its user a caller with the scopes and bounds of the claims', async () => {
    expect(await loggedIn('ann')).toEqual({
      id: 'oidc:ann',
      name: 'ann',
      scopes: ['admin'],
      rate: null,
      keyId: null,
      expiresAt: null,
      interests: null,
      bounds: { types: null, groups: ['acme'] },
    })
    expect(await loggedIn('long')).toMatchObject({ name: 'x'.repeat(100), bounds: null })
  })

  it('is refused without a known role', async () => {
    await expect(loggedIn('dee')).rejects.toMatchObject({
      code: 'forbidden',
      message:
        'dee has no role of XQueue in the claim roles: ask an administrator of the identity provider to assign one',
    })
  })

  it.each<[string, Record<string, string>, RegExp]>([
    ['another state', { code: 'x', state: 'a'.repeat(43) }, /^the login is not valid: .*\. Log in again$/],
    ['an unknown code', { code: 'x' }, /^the identity provider refused the code: /],
    [
      'a refusal',
      { error: 'access_denied', error_description: 'not you' },
      /^the identity provider refused the login: not you$/,
    ],
    ['a refusal without words', { error: 'access_denied' }, /^the identity provider refused the login: access_denied$/],
  ])('is refused after %s', async (_, query, message) => {
    const { login } = await provider.start(CALLBACK)
    const url = new URL(CALLBACK)
    url.search = new URLSearchParams({ iss: running.issuer, state: login.state, ...query }).toString()
    const refused = { code: 'unauthorized', message: expect.stringMatching(message) }
    await expect(provider.finish(url, login)).rejects.toMatchObject(refused)
  })

  it('is refused with the secret of another client', async () => {
    const other = new IdentityProvider({ ...options, clientSecret: 'wrong' })
    await expect(loggedIn('ann', other)).rejects.toMatchObject({ code: 'unauthorized' })
    const open = new IdentityProvider({ ...options, clientSecret: null })
    await expect(loggedIn('ann', open)).rejects.toMatchObject({ code: 'unauthorized' })
  })

  it('asks the provider once an hour where it is', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    vi.advanceTimersByTime(1_000)
    const own = new IdentityProvider(options)
    await own.start(CALLBACK)
    await running.stop()
    vi.advanceTimersByTime(3_599_999)
    expect((await own.start(CALLBACK)).url.origin).toBe(running.issuer)
    vi.advanceTimersByTime(1)
    await expect(own.start(CALLBACK)).rejects.toMatchObject({ code: 'issuer_unavailable' })
    running = await startHere()
  })

  it('is not possible while the provider is away, and is again when it is back', async () => {
    await running.stop()
    const fresh = new IdentityProvider(options)
    const message = expect.stringMatching(`^the identity provider ${running.issuer} cannot be reached \\(`)
    const unavailable = { code: 'issuer_unavailable', message, details: { retry_after: 1 } }
    await expect(fresh.start(CALLBACK)).rejects.toMatchObject(unavailable)
    const { login } = await provider.start(CALLBACK)
    const url = new URL(`${CALLBACK}?code=x&state=${login.state}&iss=${running.issuer}`)
    await expect(provider.finish(url, login)).rejects.toMatchObject(unavailable)
    running = await startHere()
    expect((await fresh.start(CALLBACK)).url.origin).toBe(running.issuer)
  })
})
