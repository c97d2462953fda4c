import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Access } from '../../src/access/access.ts'
import { KeyRing } from '../../src/access/key-ring.ts'
import { ANYONE } from '../../src/access/principal.ts'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { Scope } from '../../src/task/api-key.ts'
import type { XQueueError } from '../../src/task/errors.ts'
import { Api } from '../fixtures/api.ts'
import { removeAtExit } from '../fixtures/processes.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const HOUR_MS = 3_600_000

const STORES = {
  SQLite: async () => {
    const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-rates-')))
    return { url: `sqlite:${join(folder, 'x.db')}`, stop: async () => undefined }
  },
  Redis: async () => {
    const redis = await startRedis()
    return { url: redis.url, stop: () => redis.stop() }
  },
}

describe.each(Object.entries(STORES))('the rate of a key over two processes on %s', (_name, startStore) => {
  let store: Awaited<ReturnType<typeof startStore>>
  let queue: Queue
  let servers: Program[]
  let mqttUrls: string[]
  beforeAll(async () => {
    store = await startStore()
    queue = await openTestQueue(store.url)
    servers = await Promise.all([0, 1].map(() => startProgram({ store: store.url, flags: ['--auth', 'keys'] })))
    const admin = await key(['admin'], null)
    const checks = await Promise.all(
      servers.map(async ({ url }) => (await new Api(url, admin).call('GET', '/health')).body),
    )
    mqttUrls = checks.map((body) => /mqtt:\/\/[\d.:]+/.exec(JSON.stringify(body))![0])
  })
  afterAll(async () => {
    await Promise.all((servers ?? []).map((server) => server.stop()))
    await store?.stop()
  })

  /** Both processes know the key. */
  async function key(scopes: Scope[], max: number | null): Promise<string> {
    const rate = max === null ? null : { max, perMs: HOUR_MS }
    const name = `key-${Math.random().toString(36).slice(2)}`
    const { token } = await new KeyRing(queue).add({ name, scopes, rate, expiresAt: null, session: null })
    // This unlimited call does not count.
    const known = async ({ url }: Program) => (await new Api(url, token).call('GET', '/session')).body.name === name
    await vi.waitFor(async () => expect(await Promise.all(servers.map(known))).toEqual([true, true]), 30_000)
    return token
  }

  /** Of the latest login. */
  let session = { cookie: '', server: 0 }
  /** Whether the call was allowed, and if not, when to retry. */
  const uses: Record<string, (token: string, server: number) => Promise<boolean>> = {
    call: async (token, server) => {
      const { status, headers } = await new Api(servers[server]!.url, token).call('GET', '/stats')
      expect([200, 429]).toContain(status)
      if (status === 429) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
      return status === 200
    },
    login: async (token, server) => {
      const { status, headers } = await new Api(servers[server]!.url, null).call('POST', '/session', { key: token })
      expect([200, 429]).toContain(status)
      if (status === 200) session = { cookie: headers.get('set-cookie')!.split(';')[0]!, server }
      return status === 200
    },
    'session call': async () => {
      const { cookie, server } = session
      const { status } = await new Api(servers[server]!.url, null).get('/stats', { cookie })
      expect([200, 429]).toContain(status)
      return status === 200
    },
    connection: async (token, server) => {
      const options = { username: 'key', password: token, reconnectPeriod: 0, protocolVersion: 4 } as const
      const client = mqtt.connect(mqttUrls[server]!, options)
      const code = await Promise.race([
        once(client as never, 'connect').then(() => 0),
        new Promise<number>((resolve) => client.on('error', (error) => resolve((error as { code: number }).code))),
      ])
      await client.endAsync(true)
      expect([0, 3]).toContain(code)
      return code === 0
    },
  }

  it('allows exactly its number of calls, however they are spread over the processes', async () => {
    const token = await key(['read'], 20)
    const answers = await Promise.all(Array.from({ length: 80 }, (_, n) => uses.call!(token, n % 2)))
    expect(answers.filter(Boolean)).toHaveLength(20)
  })

  it('counts calls, logins, MQTT connections and calls of sessions together', async () => {
    const token = await key(['read'], 9)
    const answers: boolean[] = []
    const order = ['call', 'login', 'session call', 'connection']
    for (let n = 0; n < 12; n++) answers.push(await uses[order[n % 4]!]!(token, n % 2))
    expect(answers).toEqual(Array.from({ length: 12 }, (_, n) => n < 9))
  })
})

it('asks the store once for simultaneous calls, and never while no call is allowed or without a rate', async () => {
  const asked: number[] = []
  const real = await openQueue('sqlite::memory:')
  const countCalls: Queue['countCalls'] = (id, rate, calls) => {
    asked.push(calls)
    return real.countCalls(id, rate, calls)
  }
  const watched = new Proxy(real, {
    get: (target, name: keyof Queue) => (name === 'countCalls' ? countCalls : target[name]),
  })
  const access = new Access({ queue: watched, keys: true, issuer: null, tokenSecret: null })
  const caller = { ...ANYONE, id: 'key-1', name: 'shop', rate: { max: 30, perMs: HOUR_MS } }
  const spend = async () => (await access.spend(caller).catch((error: XQueueError) => error.code)) ?? 'allowed'
  const answers = await Promise.all(Array.from({ length: 40 }, spend))
  expect(answers).toEqual(Array.from({ length: 40 }, (_, n) => (n < 30 ? 'allowed' : 'too_many_calls')))
  expect(asked).toEqual([1, 39])
  expect(await spend()).toBe('too_many_calls')
  await Promise.all(Array.from({ length: 40 }, () => access.spend({ ...caller, id: 'key-2', rate: null })))
  expect(asked).toEqual([1, 39])
  await real.close()
})
