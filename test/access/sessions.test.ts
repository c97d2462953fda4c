import { once } from 'node:events'
import mqtt from 'mqtt'
import { beforeAll, expect, it, vi } from 'vitest'
import { Access } from '../../src/access/access.ts'
import { KeyRing } from '../../src/access/key-ring.ts'
import { openQueue } from '../../src/queue/open.ts'
import type { KeyChange, Queue } from '../../src/queue/queue.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const SOON_MS = 30_000
let guarded: Server
let admin: string
beforeAll(async () => {
  guarded = await startServer({ auth: 'keys' })
  admin = await guarded.key(['admin'])
})

async function login(key: string): Promise<string> {
  const { headers } = await guarded.as(null).call('POST', '/session', { key })
  return headers.get('set-cookie')!.split(';')[0]!
}
const nameOf = async (cookie: string) =>
  (await guarded.as(null).call('GET', '/session', undefined, { Cookie: cookie })).body.name

/** The queue with another implementation of `keys`. */
function withKeys(queue: Queue, keys: Queue['keys']): Queue {
  return new Proxy(queue, { get: (target, name: keyof Queue) => (name === 'keys' ? keys : target[name]) })
}

it('opens no session with a key that is revoked during the login', async () => {
  const queue = await openQueue('sqlite::memory:')
  const rights = { scopes: ['admin'], rate: null, expiresAt: null, session: null } as const
  const { token, key } = await new KeyRing(queue).add({ name: 'shop', ...rights })
  // Between the check of the key and the storing of the session another process revokes it.
  const revoking = withKeys(queue, async (change?: KeyChange) => {
    if (change && 'add' in change) await queue.keys({ drop: key.id })
    return queue.keys(change)
  })
  const access = new Access({ queue: revoking, keys: true, issuer: null, tokenSecret: null })
  const principal = await access.authenticate(token)
  await expect(access.openSession(principal)).rejects.toMatchObject({ code: 'unauthorized' })
  expect((await queue.keys()).keys).toEqual([])
  await queue.close()
})

it('does not accept a session of a dropped key that a process of the previous version stored', async () => {
  const queue = await openQueue('sqlite::memory:')
  const rights = { scopes: ['admin'], rate: null, expiresAt: null } as const
  const { token, key } = await new KeyRing(queue).add({ name: 'orphan', ...rights, session: { of: null } })
  const { secret } = await queue.keys()
  const stored = withKeys(queue, async () => ({ keys: [{ ...key, session: { of: 'key-gone' } }], secret }))
  const access = new Access({ queue: stored, keys: true, issuer: null, tokenSecret: null })
  await expect(access.bySession(token.replace('xq_', 'xqs_'))).rejects.toMatchObject({ code: 'unauthorized' })
  expect(await access.keys()).toEqual([])
  await queue.close()
})

it('says to a caller without a key that it has no rights', async () => {
  const { status, body } = await guarded.as(null).get('/session')
  expect([status, body]).toMatchObject([200, { access_control: true, name: null, scopes: [], expires_at: null }])
})

it('lists keys and sessions, and revokes one session or all sessions of a key', async () => {
  const { token, key } = await guarded.newKey(['read'], { name: 'rita' })
  const cookies = [await login(token), await login(token)]
  const { body } = await guarded.as(admin).call('GET', '/keys')
  const [made, first, second] = body.keys.filter(({ name }: { name: string }) => name === 'rita')
  expect([made, first, second]).toMatchObject([
    { id: key.id, kind: 'key', opened_with: null, scopes: ['read'] },
    { kind: 'session', opened_with: key.id },
    { kind: 'session', opened_with: key.id },
  ])
  expect(JSON.stringify(body)).not.toContain(key.hash)
  expect((await guarded.as(admin).call('DELETE', `/keys/${first.id}`)).status).toBe(200)
  const names = await Promise.all(cookies.map(nameOf))
  expect(names.filter((name) => name === 'rita')).toHaveLength(1)
  expect((await guarded.as(admin).call('DELETE', `/keys/${key.id}`)).status).toBe(200)
  expect(await Promise.all(cookies.map(nameOf))).toEqual([null, null])
  expect((await guarded.as(admin).call('DELETE', `/keys/${key.id}`)).status).toBe(404)
  expect((await guarded.as(await guarded.key(['read', 'submit', 'work'])).call('GET', '/keys')).status).toBe(403)
})

it('revokes the subscription tokens of a key and of its sessions, and no later ones', async () => {
  const { token, key } = await guarded.newKey(['read'])
  const bySession = { Cookie: await login(token), Origin: guarded.url }
  const make = async (by: string | null, headers = {}) =>
    (await guarded.as(by).call('POST', '/subscriptions', { types: ['quick'] }, headers)).body.password as string
  const listens = async (password: string) => {
    const end = new AbortController()
    const { status } = await fetch(`${guarded.url}/api/v1/events?access_token=${password}`, { signal: end.signal })
    end.abort()
    return status
  }
  const [old, oldOfSession] = [await make(token), await make(null, bySession)]
  expect([await listens(old), await listens(oldOfSession)]).toEqual([200, 200])
  expect((await guarded.as(admin).call('DELETE', `/keys/${key.id}/tokens`)).body.tokens_valid_from).not.toBeNull()
  await vi.waitFor(async () => expect([await listens(old), await listens(oldOfSession)]).toEqual([401, 401]), SOON_MS)
  expect(await listens(await make(token))).toBe(200)
})

it('counts logins, MQTT connections and the use of tokens with the rate of their key', async () => {
  const limited = () => guarded.key(['read'], { rate: { max: 3, perMs: 3_600_000 } })
  const use: Record<string, (key: string) => Promise<number>> = {
    login: async (key) => (await guarded.as(null).call('POST', '/session', { key })).status,
    mqtt: async (key) => {
      const client = mqtt.connect(url, { username: 'key', password: key, reconnectPeriod: 0, protocolVersion: 4 })
      const code = await Promise.race([
        once(client as never, 'connect').then(() => 0),
        new Promise<number>((resolve) => client.on('error', (error) => resolve((error as { code: number }).code))),
      ])
      await client.endAsync(true)
      return code
    },
  }
  const url = await guarded.mqttUrl(admin)
  for (const [name, [well, refused]] of Object.entries({ login: [200, 429], mqtt: [0, 3] })) {
    const key = await limited()
    const answers: number[] = []
    for (let n = 0; n < 4; n++) answers.push(await use[name]!(key))
    expect(answers, name).toEqual([well, well, well, refused])
  }
  const key = await limited()
  const { password } = (await guarded.as(key).call('POST', '/subscriptions', { types: ['quick'] })).body
  const streams: number[] = []
  for (let n = 0; n < 3; n++) {
    const end = new AbortController()
    const stream = await fetch(`${guarded.url}/api/v1/events?access_token=${password}`, { signal: end.signal })
    streams.push(stream.status)
    end.abort()
  }
  expect(streams).toEqual([200, 200, 429])
})
