import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { beforeAll, expect, it } from 'vitest'
import { Access } from '../../src/access/access.ts'
import { KeyRing } from '../../src/access/key-ring.ts'
import type { RouteScope } from '../../src/access/principal.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { SCOPES, type Scope } from '../../src/task/api-key.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

let queue: Queue
let server: QueueServer
let looksAtHealth = 0
const keys: Partial<Record<Scope, string>> = {}

beforeAll(async () => {
  queue = countingLooks(await openTestQueue())
  const access = new Access({ queue, keys: true, issuer: null, tokenSecret: null })
  const ring = new KeyRing(queue)
  for (const scope of SCOPES) {
    const key = { name: `only-${scope}`, scopes: [scope], rate: null, expiresAt: null, session: null }
    keys[scope] = (await ring.add(key)).token
  }
  const prepare = (fastify: FastifyInstance) =>
    expect(() => fastify.get('/new', async () => 'anybody')).toThrow('GET /new names no scope')
  server = await serveQueue(queue, { access, prepare })
})

const ROUTES = () =>
  [...server.fastify.routeScopes].filter(([route]) => !route.startsWith('HEAD') && !route.includes('*'))

/** The status of a call; of a stream, only the head is read. */
async function statusOf(route: string, key: string | undefined): Promise<number> {
  const [method, path] = route.split(' ') as [string, string]
  const stop = new AbortController()
  const body = method === 'POST' ? { body: '{}', headers: { 'Content-Type': 'application/json' } } : {}
  const headers = { ...body.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) }
  const filled = path.replaceAll(/:\w+/g, 'x')
  const { status } = await fetch(server.url + filled, {
    method,
    ...body,
    headers,
    signal: stop.signal,
    redirect: 'manual',
  })
  stop.abort()
  return status
}

function mayCall(scope: RouteScope, having: Scope): boolean {
  if (scope === 'open' || having === 'admin') return true
  const wanted = scope === 'listen' ? 'read' : scope
  return having === wanted || (having === 'view' && wanted === 'read')
}

it('answers each route only to keys with its scope', async () => {
  const routes = ROUTES()
  expect(routes.length).toBeGreaterThan(30)
  const wrong: string[] = []
  for (const [route, scope] of routes) {
    const bare = await statusOf(route, undefined)
    if ((bare === 401) !== (scope !== 'open') && !route.endsWith(' /api/v1/session')) wrong.push(`${route}: ${bare}`)
    for (const having of SCOPES) {
      const status = await statusOf(route, keys[having])
      const allowed = mayCall(scope, having)
      if (allowed ? status === 403 || (status === 401 && !route.endsWith('/session')) : status !== 403) {
        wrong.push(`${route} (${scope}) with ${having}: ${status}`)
      }
    }
  }
  expect(wrong).toEqual([])
})

it('matches the table of docs/security.md', () => {
  const docs = readFileSync(join(import.meta.dirname, '../../docs/security.md'), 'utf8')
  const rows = [...docs.matchAll(/^\| `(\w+ \/\S*)` +\| (\w+) +\|$/gm)].map(([, route, scope]) => [route, scope])
  const own = ROUTES().filter(([route]) => / \/(api\/|metrics|openapi\.json)/.test(route))
  expect(rows.sort()).toEqual(own.sort())
})

it('lists the scope of each call in OpenAPI', async () => {
  const { paths } = (await server.get('/openapi.json')).body as { paths: Record<string, object> }
  for (const [route, scope] of ROUTES().filter(([route]) => route.includes(' /api/'))) {
    const [method, path] = route.split(' ') as [string, string]
    const { security } = paths[path.replaceAll(/:(\w+)/g, '{$1}')]![method.toLowerCase() as never] as {
      security?: object[]
    }
    const others = scope === 'listen' ? [{ cookie: [] }, { token: [] }] : [{ cookie: [] }]
    expect(security, route).toEqual(scope === 'open' ? [] : [{ key: [] }, ...others])
  }
})

it('names the missing scope, and how to fix it', async () => {
  const ask = async (headers: Record<string, string>) => {
    const answer = await server.post('/types/x/pause', undefined, headers)
    return { status: answer.status, challenge: answer.headers.get('www-authenticate'), ...answer.body }
  }
  expect(await ask({})).toMatchObject({
    status: 401,
    code: 'unauthorized',
    challenge: 'Bearer realm="xqueue"',
    detail: expect.stringContaining('xqueue keys create'),
  })
  expect(await ask({ Authorization: `Bearer ${keys.read}` })).toMatchObject({
    status: 403,
    code: 'forbidden',
    challenge: 'Bearer realm="xqueue", error="insufficient_scope", scope="admin"',
    required_scope: 'admin',
    scopes: ['read'],
    detail: expect.stringMatching(/needs the scope admin, but only-read \(key-[0-9a-f]+\) has read:/),
  })
  const malformed = { 'Basic x': 'must be `Bearer KEY`', [`Digest ${keys.read}`]: 'must be `Bearer KEY`' }
  const wrong = { ...malformed, 'Bearer x': 'begin with xq_', 'Bearer xq_x': 'was revoked' }
  for (const [header, detail] of Object.entries({ ...wrong, 'Bearer a.b.c': 'are not accepted here' })) {
    const answer = await ask({ Authorization: header })
    expect(answer).toMatchObject({ status: 401, challenge: 'Bearer realm="xqueue", error="invalid_token"' })
    expect(answer).toMatchObject({ detail: expect.stringContaining(detail) })
  }
})

it('shows a client without a key only whether the server is healthy', async () => {
  const health = async (headers = {}) => (await server.get('/health', headers)).body
  const alone = { status: 'healthy', timestamp: expect.any(String) }
  expect(await health()).toEqual(alone)
  expect(await health({ Authorization: `Bearer ${keys.work}` })).toEqual(alone)
  expect(await health({ Authorization: `Bearer ${keys.read}` })).toMatchObject({ engine: 'sqlite', checks: [{}] })
})

it.each(['no key', 'a read key'])('checks the store once a second for all callers of health: %s', async (who) => {
  // A check of the store writes to the disk.
  const headers = who === 'no key' ? {} : { Authorization: `Bearer ${keys.read}` }
  const before = looksAtHealth
  const started = performance.now()
  const ask = () => server.get('/health', headers)
  const answers = [...(await Promise.all(Array.from({ length: 30 }, ask))), await ask()]
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  expect(looksAtHealth - before).toBeLessThanOrEqual(1 + Math.ceil((performance.now() - started) / 1_000))
})

function countingLooks(counted: Queue): Queue {
  return new Proxy(counted, {
    get(target, name: keyof Queue) {
      if (name === 'health') looksAtHealth += 1
      const value = target[name]
      return typeof value === 'function' ? (value as () => unknown).bind(target) : value
    },
  })
}
