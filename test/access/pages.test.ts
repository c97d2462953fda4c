import { once } from 'node:events'
import { get } from 'node:http'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { WebSocket } from 'ws'
import { type Server, startServer } from '../fixtures/server.ts'

const APP = 'https://app.example'
let guarded: Server
let key: string
let cookie: string

beforeAll(async () => {
  guarded = await startServer({ auth: 'keys', 'cors-origins': APP })
  key = await guarded.key(['admin'])
  cookie = await logIn()
})

async function logIn(of = key): Promise<string> {
  const { headers } = await guarded.as(null).call('POST', '/session', { key: of }, { Origin: guarded.url })
  return headers.get('set-cookie')!.split(';')[0]!
}
const asPage = (method: string, path: string, headers: object, body?: object) =>
  guarded.as(null).call(method, path, body, { Cookie: cookie, ...headers })

describe('a session', () => {
  it('is a cookie that scripts cannot read and other sites do not send', async () => {
    const answer = await guarded.as(null).call('POST', '/session', { key: ` ${key}\n` }, { Origin: guarded.url })
    expect(answer.headers.get('set-cookie')).toMatch(
      /^xqueue_session=xqs_[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=(43200|4319\d)$/,
    )
    expect(answer.body).toMatchObject({ access_control: true, scopes: ['admin'], expires_at: expect.any(String) })
    const proxied = await guarded.as(null).call('POST', '/session', { key }, { Origin: 'https://q.example', Host: 'x' })
    expect(proxied.status).toBe(403)
  })

  it('is Secure behind a proxy that terminates TLS', async () => {
    const { host } = new URL(guarded.url)
    const { headers } = await guarded.as(null).call('POST', '/session', { key }, { Origin: `https://${host}` })
    expect(headers.get('set-cookie')).toMatch(/; Secure$/)
  })

  it('has the rights and the name of its key, and ends at logout', async () => {
    const own = await logIn(await guarded.key(['read'], { name: 'reader' }))
    const ask = (method: string, path: string) =>
      guarded.as(null).call(method, path, undefined, { Cookie: own, Origin: guarded.url })
    expect((await ask('GET', '/session')).body).toMatchObject({ name: 'reader', scopes: ['read'] })
    expect((await ask('GET', '/stats')).status).toBe(200)
    expect((await ask('POST', '/types/quick/pause')).status).toBe(403)
    const out = await ask('DELETE', '/session')
    expect([out.status, out.headers.get('set-cookie')]).toEqual([204, expect.stringContaining('Max-Age=0')])
    expect((await ask('GET', '/stats')).body).toMatchObject({
      code: 'unauthorized',
      detail: expect.stringContaining('log in'),
    })
    expect((await ask('GET', '/session')).body).toMatchObject({ name: null, scopes: [] })
  })

  it('ends with its key, and is listed with it; a key has at most 50', async () => {
    const { token, key: made } = await guarded.newKey(['read'])
    const own = await logIn(token)
    for (let n = 0; n < 51; n++) await logIn(token)
    const { keys } = await guarded.queue.keys()
    expect(keys.filter(({ session }) => session?.of === made.id)).toHaveLength(50)
    expect((await guarded.as(null).call('GET', '/stats', undefined, { Cookie: own })).status).toBe(401)
    const last = await logIn(token)
    await guarded.ring.drop(made.id)
    await vi.waitFor(
      async () => expect((await guarded.as(null).call('GET', '/stats', undefined, { Cookie: last })).status).toBe(401),
      { timeout: 30_000 },
    )
  })

  it('is not opened with a wrong key, and the audit log records the refusal', async () => {
    const { status, headers } = await guarded.as(null).call('POST', '/session', { key: `xq_${'x'.repeat(43)}` })
    expect([status, headers.get('set-cookie')]).toEqual([401, null])
    expect(guarded.audits()).toContainEqual(expect.objectContaining({ refused: true, ip: '127.0.0.1' }))
  })

  it('is no key, and a key is no session', async () => {
    const session = cookie.split('=')[1]!
    expect((await guarded.as(session).call('GET', '/stats')).status).toBe(401)
    const answer = await guarded.as(null).call('GET', '/stats', undefined, { Cookie: `xqueue_session=${key}` })
    expect(answer.status).toBe(401)
  })
})

describe('a page of another origin', () => {
  const other = { Origin: APP }
  it.each([
    ['an origin of --cors-origins', other],
    ['another port of the same host', { Origin: 'http://127.0.0.1:1' }],
    ['the same site, by Sec-Fetch-Site', { 'Sec-Fetch-Site': 'same-site' }],
  ])('reads nothing with the cookie: %s', async (_, headers) => {
    expect((await asPage('GET', '/stats', headers)).status).toBe(401)
    expect((await asPage('GET', '/session', headers)).body.name).toBeNull()
  })

  it('changes nothing with the cookie, and something with its own key if --cors-origins names it', async () => {
    expect((await asPage('POST', '/types/quick/resume', other)).status).toBe(401)
    expect((await asPage('DELETE', '/session', other)).status).toBe(204)
    expect((await asPage('GET', '/stats', { 'Sec-Fetch-Site': 'same-origin' })).status).toBe(200)
    expect((await guarded.as(key).call('POST', '/types/quick/resume', undefined, other)).status).toBe(200)
  })
})

describe('a page of another site', () => {
  it.each([
    ['another site', { Origin: 'https://evil.example' }],
    ['a frame without origin', { Origin: 'null' }],
    ['another port of this machine', { Origin: 'http://127.0.0.1:1' }],
    ['another site, by Sec-Fetch-Site', { 'Sec-Fetch-Site': 'cross-site' }],
  ])('changes nothing: %s', async (_, headers) => {
    for (const [method, path] of [
      ['POST', '/types/quick/pause'],
      ['DELETE', '/session'],
    ] as const) {
      expect((await asPage(method, path, headers)).body).toMatchObject({ status: 403, code: 'cross_site' })
    }
    expect((await asPage('GET', '/session', {})).body.scopes).toEqual(['admin'])
  })

  it('is refused also without access control', async () => {
    const open = await startServer({ auth: 'off' })
    const pause = (headers: object) => open.as(null).call('POST', '/types/quick/pause', undefined, headers)
    expect((await pause({ Origin: 'https://evil.example' })).status).toBe(403)
    expect((await pause({ Origin: open.url })).status).toBe(200)
    expect((await pause({})).status).toBe(200)
    expect((await open.as(null).call('GET', '/session')).body).toMatchObject({ access_control: false, name: null })
    expect((await open.as(null).call('POST', '/subscriptions', { types: ['quick'] })).body).toMatchObject({
      status: 409,
      code: 'access_control_off',
    })
    await open.stop()
  })

  it('refuses calls with a foreign host name that resolves to this server, without access control', async () => {
    const open = await startServer({ auth: 'off' })
    const insecure = await startServer({ auth: 'off', insecure: 'true' })
    const ask = (url: string, name: string) => {
      const { port } = new URL(url)
      const host = `${name}:${port}`
      const page = get({ host: '127.0.0.1', port, path: '/api/v1/tasks', headers: { Host: host } })
      const socket = new WebSocket(`ws://127.0.0.1:${port}/mqtt`, 'mqtt', {
        headers: { Host: host },
        origin: `http://${host}`,
      })
      return Promise.all([
        once(page, 'response').then(([answer]) => answer.resume().statusCode),
        new Promise((resolve) => {
          socket.on('error', () => undefined)
          socket.on('open', () => resolve(101)).on('unexpected-response', (_, answer) => resolve(answer.statusCode))
        }).finally(() => socket.terminate()),
      ])
    }
    for (const name of ['evil.example', '127.0.0.1.evil.example', 'localhost.evil.example']) {
      expect(await ask(open.url, name), name).toEqual([403, 403])
    }
    for (const name of ['localhost', '127.0.0.1', '[::1]', 'queue.localhost']) {
      expect(await ask(open.url, name), name).toEqual([200, 101])
    }
    expect(await ask(insecure.url, 'queue.example')).toEqual([200, 101])
    expect(await ask(guarded.url, 'queue.example')).toEqual([401, 101])
    await open.stop()
    await insecure.stop()
  })

  it('this server’s own page changes what its session allows', async () => {
    expect((await asPage('POST', '/types/quick/resume', { Origin: guarded.url })).status).toBe(200)
  })

  it('may read answers only if its origin is listed, and never with the cookie', async () => {
    const headersOf = async (origin: string, method = 'GET') => {
      const preflight = { Origin: origin, 'Access-Control-Request-Method': 'POST' }
      return (await guarded.as(method === 'GET' ? key : null).call(method, '/tasks', undefined, preflight)).headers
    }
    const named = await headersOf(APP)
    expect(named.get('access-control-allow-origin')).toBe(APP)
    expect(named.get('access-control-allow-credentials')).toBeNull()
    expect((await headersOf(APP, 'OPTIONS')).get('access-control-allow-headers')).toContain('Authorization')
    expect((await headersOf('https://evil.example')).get('access-control-allow-origin')).toBeNull()
    const by = (origin: string) => guarded.as(key).call('POST', '/types/quick/resume', undefined, { Origin: origin })
    expect([(await by(APP)).status, (await by('https://evil.example')).status]).toEqual([200, 403])
  })
})

it('sends security headers with every answer, including events, pages, files and refusals', async () => {
  const stop = new AbortController()
  for (const path of ['/', '/docs/', '/openapi.json', '/metrics', '/nothing', '/api/v1/stats', '/api/v1/events']) {
    const { headers } = await fetch(guarded.url + path, {
      headers: { Authorization: `Bearer ${key}`, Origin: APP },
      signal: stop.signal,
    })
    expect(Object.fromEntries(headers), path).toMatchObject({
      'x-content-type-options': 'nosniff',
      'cross-origin-resource-policy': 'same-origin',
      'content-security-policy': expect.stringContaining("frame-ancestors 'none'"),
      'access-control-allow-origin': APP,
    })
    const more = path.startsWith('/api/')
      ? { 'cache-control': 'no-store' }
      : { 'x-frame-options': 'DENY', 'referrer-policy': 'no-referrer', 'cross-origin-opener-policy': 'same-origin' }
    expect(Object.fromEntries(headers), path).toMatchObject(more)
  }
  stop.abort()
})

it('allows no page of another site anything if no origin is listed', async () => {
  const plain = await startServer({ auth: 'keys' })
  const headers = { Origin: APP, 'Access-Control-Request-Method': 'POST' }
  for (const method of ['GET', 'OPTIONS']) {
    const answer = await plain.as(null).call(method, '/tasks', undefined, headers)
    expect(answer.headers.get('access-control-allow-origin')).toBeNull()
  }
  await plain.stop()
})
