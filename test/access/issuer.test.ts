import { once } from 'node:events'
import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { Issuer } from '../../src/access/issuer.ts'
import { Api } from '../fixtures/api.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const ISSUER = 'https://login.example'
const AUDIENCE = 'xqueue'
type Pair = Awaited<ReturnType<typeof generateKeyPair>> & { kid: string }

let identity: HttpServer
let jwksUrl: string
let published: Pair[] = []
let fetched = 0
let guarded: Server
let first: Pair

beforeAll(async () => {
  identity = createServer(async (_request, response) => {
    fetched += 1
    const keys = await Promise.all(
      published.map(async ({ publicKey, kid }) => ({ ...(await exportJWK(publicKey)), kid })),
    )
    response.setHeader('Content-Type', 'application/json')
    response.end(JSON.stringify({ keys }))
  }).listen(0, '127.0.0.1')
  await once(identity, 'listening')
  jwksUrl = `http://127.0.0.1:${(identity.address() as AddressInfo).port}/jwks`
  first = await pair('first')
  published = [first]
  const claims = { 'jwt-issuer': ISSUER, 'jwt-audience': AUDIENCE }
  guarded = await startServer({ auth: 'jwt', 'jwt-jwks': jwksUrl, ...claims })
})
afterAll(async () => {
  identity.close()
})
beforeEach(() => {
  published = [first]
})

async function pair(kid: string, alg = 'ES256'): Promise<Pair> {
  return { ...(await generateKeyPair(alg, { extractable: true })), kid }
}

function sign(by: Pair, claims: JWTPayload = {}, header: object = {}): Promise<string> {
  const token = new SignJWT({ iss: ISSUER, aud: AUDIENCE, sub: 'ann', scope: 'read', ...claims })
  if (!('exp' in claims)) token.setExpirationTime('5m')
  return token.setProtectedHeader({ alg: 'ES256', kid: by.kid, ...header }).sign(by.privateKey)
}

const ask = async (token: string) => guarded.as(token).call('GET', '/stats')

it.each([
  ['a string of scopes', { scope: 'openid read' }, 200],
  ['scopes with a prefix', { scope: 'xqueue:read' }, 200],
  ['a list', { scope: ['read', 'other'] }, 200],
  ['admin', { scope: 'admin' }, 200],
  ['another scope', { scope: 'submit' }, 403],
  ['no scopes', { scope: undefined }, 403],
] as const)('applies the scopes of a token that has %s', async (_, claims, status) => {
  const answer = await ask(await sign(first, claims as JWTPayload))
  expect(answer.status).toBe(status)
  if (status === 403) expect(answer.body.detail).toMatch(/needs the scope view or read or admin, but ann \(.+\) has/)
})

it('refuses a token with an unknown critical header, and does not report an outage of the issuer', async () => {
  const [header, ...rest] = (await sign(first)).split('.')
  const demanding = {
    ...JSON.parse(Buffer.from(header!, 'base64url').toString()),
    crit: ['b64', 'x'],
    b64: false,
    x: 1,
  }
  const token = [Buffer.from(JSON.stringify(demanding)).toString('base64url'), ...rest].join('.')
  const answer = await ask(token)
  expect([answer.status, answer.body.code]).toEqual([401, 'unauthorized'])
})

it.each([
  ['is of another issuer', { iss: 'https://other.example' }, `"iss" is not valid: it must be "${ISSUER}"`],
  ['is for another audience', { aud: 'another' }, '"aud" is not valid: it must be "xqueue"'],
  ['has expired', { exp: Math.floor(Date.now() / 1_000) - 60 }, 'has expired'],
  ['has no expiry', { exp: undefined }, '"exp" is not valid'],
  ['has no subject', { sub: undefined }, '"sub" is not valid'],
  ['is not valid yet', { nbf: Math.floor(Date.now() / 1_000) + 600 }, '"nbf" is not valid'],
] as const)('refuses a token that %s', async (_, claims, words) => {
  const { status, body, headers } = await ask(await sign(first, claims as JWTPayload))
  expect([status, body.detail]).toEqual([401, expect.stringContaining(words)])
  expect(headers.get('www-authenticate')).toContain('invalid_token')
})

it('bounds a token to the types and groups of its claims', async () => {
  const scope = 'submit read admin'
  const bound = await sign(first, { scope, sub: 'acme', xqueue_types: ['quick'], xqueue_groups: ['acme'] })
  const free = await sign(first, { scope })
  const submit = (token: string, task: object) => guarded.as(token).call('POST', '/tasks', task)
  const seen = async (token: string, id: string) => (await guarded.as(token).call('GET', `/tasks/${id}`)).status
  const own = await submit(bound, { type: 'quick', delay: '1h' })
  expect(own).toMatchObject({ status: 201, body: { group: 'acme' } })
  const others = [
    await submit(free, { type: 'quick', delay: '1h', group: 'rival' }),
    await submit(free, { type: 'quick', delay: '1h' }),
    await submit(free, { type: 'show', delay: '1h', group: 'acme' }),
  ]
  expect(await Promise.all(others.map(({ body }) => seen(free, body.id)))).toEqual([200, 200, 200])
  expect(await Promise.all(others.map(({ body }) => seen(bound, body.id)))).toEqual([404, 404, 404])
  expect(await seen(bound, own.body.id)).toBe(200)
  const { tasks } = (await guarded.as(bound).call('GET', '/tasks')).body
  expect(tasks.map(({ id }: { id: string }) => id)).toEqual([own.body.id])
  expect((await guarded.as(bound).call('GET', '/types')).body).toMatchObject({
    count: 1,
    types: [{ pending: 1 }],
  })
  expect((await submit(bound, { type: 'show' })).body).toMatchObject({ status: 400, registered_types: ['quick'] })
  expect((await submit(bound, { type: 'quick', group: 'rival' })).status).toBe(400)
})

it.each([
  ['xqueue_types', 'quick', 'must be a list of names'],
  ['xqueue_types', [], 'has 0 names: use 1 to 100'],
  ['xqueue_types', ['no spaces'], 'has "no spaces"'],
  ['xqueue_groups', ['acme', 7], 'must be a list of names'],
])('refuses a token whose claim %s is %j, and does not grant it everything', async (claim, value, words) => {
  const { status, body } = await ask(await sign(first, { [claim]: value }))
  expect([status, body.detail]).toEqual([401, expect.stringContaining(words)])
})

it('refuses tokens that the issuer did not sign', async () => {
  const stranger = await pair('first')
  expect((await ask(await sign(stranger))).body.detail).toContain('signature of the token is not valid')
  const [, body] = (await sign(first)).split('.')
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  for (const forged of [`${encode({ alg: 'none' })}.${body}.`, `${encode({ alg: 'none' })}.${body}.x`, 'a.b.c']) {
    expect((await ask(forged)).status).toBe(401)
  }
  // A public key must not be used as an HMAC secret.
  const publicKey = new TextEncoder().encode(JSON.stringify(await exportJWK(first.publicKey)))
  const confused = await new SignJWT({ iss: ISSUER, aud: AUDIENCE, sub: 'x', scope: 'admin' })
    .setProtectedHeader({ alg: 'HS256', kid: 'first' })
    .setExpirationTime('5m')
    .sign(publicKey)
  expect((await ask(confused)).body.detail).toContain('signature is not accepted')
})

it('follows an issuer that changes its keys, without a request for each token', async () => {
  const issuer = new Issuer({ jwksUrl, issuer: ISSUER, audience: AUDIENCE, scopeClaim: 'scope', cooldownMs: 0 })
  await issuer.verify(await sign(first))
  const before = fetched
  for (let n = 0; n < 20; n++) await issuer.verify(await sign(first))
  expect(fetched).toBe(before)
  const second = await pair('second')
  await expect(issuer.verify(await sign(second))).rejects.toThrow('a key that is not at')
  published = [second]
  expect(await issuer.verify(await sign(second))).toMatchObject({ id: 'jwt:ann', name: 'ann', scopes: ['read'] })
  await expect(issuer.verify(await sign(first))).rejects.toThrow('a key that is not at')
})

it('answers 503, not 401, while the issuer is unreachable', async () => {
  const gone = createServer().listen(0, '127.0.0.1')
  await once(gone, 'listening')
  const { port } = gone.address() as AddressInfo
  gone.close()
  const claims = { 'jwt-issuer': ISSUER, 'jwt-audience': AUDIENCE }
  const alone = await startServer({ auth: 'keys+jwt', 'jwt-jwks': `http://127.0.0.1:${port}/`, ...claims })
  const { status, headers, body } = await new Api(alone.url, await sign(first)).call('GET', '/stats')
  expect([status, headers.get('retry-after'), body.code]).toEqual([503, '1', 'issuer_unavailable'])
  expect((await alone.as(await alone.key(['read'])).call('GET', '/stats')).status).toBe(200)
  await alone.stop()
})

it('accepts keys only if it is configured to, and a login with a token lasts no longer than the token', async () => {
  const key = await guarded.key(['read'])
  expect((await guarded.as(key).call('GET', '/stats')).body.detail).toContain('keys are not accepted here')
  const exp = Math.floor(Date.now() / 1_000) + 120
  const login = await guarded.as(null).call('POST', '/session', { key: await sign(first, { exp }) })
  expect(login.body).toMatchObject({ name: 'ann', expires_at: new Date(exp * 1_000).toISOString() })
  const cookie = login.headers.get('set-cookie')!.split(';')[0]!
  expect((await guarded.as(null).call('GET', '/stats', undefined, { Cookie: cookie })).status).toBe(200)
})
