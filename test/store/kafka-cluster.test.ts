import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Admin, ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from '@platformatic/kafka'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Health, Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { freePort } from '../fixtures/ports.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { main } from '../fixtures/root.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 500, startedAt: 0 }
let kafka: RunningKafka
let redis: RunningRedis
let queue: Queue | undefined
beforeEach(async () => {
  redis = await startRedis()
})
afterEach(async () => {
  queue = undefined
})

const failed = ({ checks }: Health) => checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`)

describe('a cluster with a wrong setting', () => {
  it('is reported with the setting and how to fix it', async () => {
    kafka = await startKafka()
    const url = `kafka://${kafka.address}?wait_ms=2000&state=${redis.url}`
    queue = await openTestQueue(url)
    await queue.configureType('t', { declared: true })
    await queue.submit([completeSpec({ type: 't' })])
    expect(failed(await queue.health())).toEqual([])
    const admin = new Admin({ clientId: 'operator', bootstrapBrokers: kafka.address.split(',') })
    const set = (topic: string, name: string, value: string) =>
      admin.incrementalAlterConfigs({
        resources: [
          {
            resourceType: ConfigResourceTypes.TOPIC,
            resourceName: topic,
            configs: [{ name, configOperation: IncrementalAlterConfigOperationTypes.SET, value }],
          },
        ],
      })
    await set('xq.lane.t.0', 'retention.ms', '1000')
    await set('xq.outcomes', 'cleanup.policy', 'delete')
    await set('xq.submit', 'min.insync.replicas', '2')
    await admin.deleteTopics({ topics: ['xq.dead'] })
    await admin.close()
    const [found] = failed(await queue.health())
    expect(found).toContain('xq.lane.t.0 has retention.ms=1000 and needs -1')
    expect(found).toContain('xq.outcomes has cleanup.policy=delete and needs compact,delete')
    expect(found).toContain('xq.submit requires 2 replicas in sync and has 1')
    expect(found).toContain('xq.dead is missing')
    const doctor = promisify(execFile)(process.execPath, [
      main,
      'doctor',
      '--engine',
      url,
      '--port',
      '0',
      '--mqtt',
      'off',
    ])
    await expect(doctor).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining('✗ engine: topics: xq.lane.t.0 has retention.ms=1000 and needs -1'),
    })
    await kafka.kill()
    expect(failed(await queue.health())[0]).toMatch(/^brokers: Kafka at 127\.0\.0\.1:\d+ cannot be reached/)
    await expect(queue.submit([completeSpec({ type: 't' })])).rejects.toMatchObject({ code: 'engine_unavailable' })
    await expect(queue.submit([completeSpec({ type: 't' })])).rejects.toMatchObject({ code: 'engine_unavailable' })
    // The second was refused before the state took it.
    expect((await queue.stats()).counts.pending).toBe(2)
  })

  it('is refused at the start if more replicas are requested than there are brokers, or no broker answers', async () => {
    kafka = await startKafka()
    const copies = `kafka://${kafka.address}?replication=3&wait_ms=5000&state=${redis.url}`
    await expect(openQueue(copies)).rejects.toThrow(/fewer brokers than requested copies: lower replication=/)
    const nobody = `kafka://127.0.0.1:${await freePort()}?wait_ms=500&state=${redis.url}`
    await expect(openQueue(nobody)).rejects.toMatchObject({ code: 'engine_unavailable' })
    await expect(openQueue(`kafka://${kafka.address}?state=sqlite::memory:`)).rejects.toThrow(/only Redis/)
  })

  it('is used with a login over TLS, and a refused password is reported with its user', async () => {
    kafka = await startKafka({ login: { user: 'ann', password: 'p@ss' } })
    const more = `?tls=on&ca=${kafka.authority}&wait_ms=5000&state=${redis.url}`
    queue = await openTestQueue(`kafka://ann:p%40ss@${kafka.address}${more}`)
    await queue.configureType('t', { declared: true })
    await queue.submit([completeSpec({ type: 't' })])
    for (const sasl of ['', 'sasl=scram-sha-512&']) {
      const again = await openQueue(`kafka://ann:p%40ss@${kafka.address}${more.replace('?', `?${sasl}`)}`)
      const [submitted] = await again.submit([completeSpec({ type: 't' })]).finally(() => again.close())
      expect(submitted!.existing).toBe(false)
      const wrong = `kafka://ann:wrong@${kafka.address}${more.replace('?', `?${sasl}`)}`
      await expect(openQueue(wrong)).rejects.toThrow(/the user or the password/)
    }
  })
})

describe('a task that blocks its lane', () => {
  it('is parked, so that offsets advance, and is restored after a loss of the state', async () => {
    kafka = await startKafka()
    const opened = await openQueue(`kafka://${kafka.address}?partitions=1&events=off&state=${redis.url}`)
    queue = opened
    await opened.configureType('t', { declared: true })
    const [late] = await opened.submit([completeSpec({ type: 't', delayMs: 3_600_000, payload: 'late' })])
    for (let batch = 0; batch < 10; batch++) {
      await opened.submit(Array.from({ length: 500 }, () => completeSpec({ type: 't' })))
      const { leases } = await opened.turn({ worker: WORKER, want: 500 })
      const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
      await opened.turn({ worker: WORKER, want: 0, outcomes })
    }
    await vi.waitFor(
      async () => {
        const { streams } = (await opened.stats()).stream
        const lag = (name: string) => streams.find((stream) => stream.name === name)!.length
        expect([lag('xq.lane.t.0'), lag('xq.parked')]).toEqual([0, 1])
      },
      { timeout: 40_000, interval: 200 },
    )
    redisCli(redis.port, 'FLUSHALL')
    await vi.waitFor(async () => expect(await opened.get([late!.task.id])).toMatchObject([{ status: 'pending' }]), {
      timeout: 20_000,
      interval: 100,
    })
    await vi.waitFor(
      async () => {
        expect((await opened.stats()).counts).toMatchObject({ pending: 1, success: 5_000 })
        expect((await opened.health()).checks.find(({ name }) => name === 'state')!.ok).toBe(true)
      },
      { timeout: 20_000, interval: 100 },
    )
    const [task] = await opened.get([late!.task.id])
    expect(task).toMatchObject({ payload: 'late', runAt: late!.task.runAt, createdAt: late!.task.createdAt })
  })
})
