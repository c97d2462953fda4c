import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { XQueueError } from '../../src/task/errors.ts'
import { completeSpec } from '../../src/task/task.ts'
import { makeDocumentedUser } from '../fixtures/acl.ts'
import { startFakeRedis } from '../fixtures/fake-redis.ts'
import { freePort } from '../fixtures/ports.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { WAIT_MS } from './load.ts'

const PASSWORD = 'never-to-be-shown'
const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 10, startedAt: 0 }

let redis: RunningRedis
let queue: Queue | undefined
beforeAll(async () => {
  redis = await startRedis()
})
afterEach(async () => {
  await queue?.close()
  queue = undefined
  redisCli(redis.port, 'CONFIG', 'SET', 'maxmemory', '0')
  redisCli(redis.port, 'FLUSHALL')
})

const at = (where: string, port = redis.port) => `redis://${where}127.0.0.1:${port}?wait_ms=${WAIT_MS}`

/** The reason why the store cannot be opened: with a remedy and the address, and without secrets. */
async function refusalOf(url: string, port = redis.port): Promise<{ code: string; message: string }> {
  const error = (await openQueue(url).then(
    (open) => open.close().then(() => new Error('it was opened')),
    (reason: unknown) => reason,
  )) as XQueueError
  const everything = `${error.message} ${error.stack} ${JSON.stringify(error)}`
  expect(everything).not.toContain(PASSWORD)
  expect(error.message).toContain(`127.0.0.1:${port}`)
  return { code: error.code, message: error.message }
}

describe('an unusable Redis is reported with the reason', () => {
  it('no server listens there', async () => {
    const port = await freePort()
    const { code, message } = await refusalOf(at(`u:${PASSWORD}@`, port), port)
    expect(code).toBe('engine_unavailable')
    expect(message).toMatch(/cannot be reached .*ECONNREFUSED/)
  })

  it('the user or the password is wrong, or missing', async () => {
    redisCli(redis.port, 'ACL', 'SETUSER', 'asked', 'on', '>right', '+@all', '~*', '&*')
    const wrong = await refusalOf(at(`asked:${PASSWORD}@`))
    expect(wrong).toMatchObject({ code: 'engine_unavailable' })
    expect(wrong.message).toMatch(/refuses the user or the password.*WRONGPASS/)
    const closed = await startRedis('--requirepass', PASSWORD)
    const missing = await refusalOf(at('', closed.port), closed.port)
    await closed.stop()
    expect(missing.message).toMatch(/refuses the user or the password.*NOAUTH/)
  })

  it('the user lacks a permission', async () => {
    makeDocumentedUser(redis.port, 'xq', PASSWORD, '+fcall')
    queue = await openQueue(at(`xqueue:${PASSWORD}@`))
    await expect(queue.stats()).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringMatching(/the Redis user lacks permissions.*docs\/redis\.md.*NOPERM/),
    })
    // A refusal inside a function has another message.
    redisCli(redis.port, 'ACL', 'SETUSER', 'xqueue', '+fcall', '-hget', '-hgetall')
    await expect(queue.configureType('t', { declared: true })).rejects.toThrow(/lacks permissions/)
    redisCli(redis.port, 'ACL', 'SETUSER', 'xqueue', '+@hash', 'resetchannels')
    const listening = queue.turn({ worker: WORKER, want: 1, waitMs: 50 })
    await expect(listening).rejects.toThrow(/lacks permissions.*NOPERM/)
  })

  it('it is too old', async () => {
    const old = await startFakeRedis('6.2.14')
    const refusal = await refusalOf(old.url, Number(new URL(old.url).port))
    await old.stop()
    expect(refusal).toMatchObject({ code: 'engine_unusable', message: expect.stringMatching(/version 6\.2\.14.*7\.0/) })
  })

  it('it is a replica', async () => {
    const replica = await startRedis('--replicaof', `127.0.0.1 ${redis.port}`)
    const refusal = await refusalOf(at('', replica.port), replica.port)
    expect(refusal).toMatchObject({ code: 'engine_unusable', message: expect.stringContaining('read-only replica') })
    // One that becomes a replica later.
    redisCli(replica.port, 'REPLICAOF', 'NO', 'ONE')
    queue = await openQueue(at('', replica.port))
    await queue.configureType('t', { declared: true })
    redisCli(replica.port, 'REPLICAOF', '127.0.0.1', String(redis.port))
    // While it loads what its master has, it says that instead.
    await vi.waitFor(
      () =>
        expect(queue!.submit([completeSpec({ type: 't' })])).rejects.toMatchObject({
          code: 'engine_unavailable',
          message: expect.stringContaining('read-only replica'),
        }),
      { timeout: 30_000 },
    )
    await queue.close()
    await replica.stop()
  })

  it('it is part of a cluster, or not a cluster', async () => {
    const node = await startRedis('--cluster-enabled', 'yes')
    const single = await refusalOf(at('', node.port), node.port)
    await node.stop()
    expect(single.message).toContain('write redis+cluster://')
    const cluster = await refusalOf(`redis+cluster://127.0.0.1:${redis.port}`)
    expect(cluster.message).toContain('is not a cluster')
  })
})

describe('a Redis without memory', () => {
  it('refuses submissions, settles running tasks, reports it in /health, and accepts more when there is memory', async () => {
    queue = await openQueue(at(''))
    await queue.configureType('t', { declared: true })
    const specs = Array.from({ length: 20 }, () => completeSpec({ type: 't', payload: 'x'.repeat(1_000) }))
    await queue.submit(specs)
    const { leases } = await queue.turn({ worker: WORKER, want: 10 })
    redisCli(redis.port, 'CONFIG', 'SET', 'maxmemory', '1mb')
    await expect(queue.submit(specs)).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining('has no memory left'),
      details: { retry_after: 1 },
    })
    expect((await queue.health()).checks).toContainEqual(expect.objectContaining({ name: 'memory', ok: false }))
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
    const { settled, leases: more } = await queue.turn({ worker: WORKER, want: 10, outcomes })
    expect(settled.every(({ accepted }) => accepted)).toBe(true)
    expect(more).toHaveLength(10)
    expect((await queue.stats()).counts).toMatchObject({ success: 10, processing: 10, pending: 0 })
    redisCli(redis.port, 'CONFIG', 'SET', 'maxmemory', '0')
    expect(await queue.submit(specs)).toHaveLength(20)
  })

  it('is not healthy if it may evict keys', async () => {
    redisCli(redis.port, 'CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
    queue = await openQueue(at(''))
    const { checks } = await queue.health()
    redisCli(redis.port, 'CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
    expect(checks).toContainEqual(expect.objectContaining({ name: 'eviction', ok: false }))
  })
})

describe('health while Redis is down', () => {
  it('reports in time that Redis cannot be reached', async () => {
    queue = await openQueue(at(''))
    redis.signal('SIGSTOP')
    const { checks } = await queue.health()
    redis.signal('SIGCONT')
    expect(checks[0]).toMatchObject({ name: 'storage', ok: false })
  })
})
