import { execFileSync } from 'node:child_process'
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

let kafka: RunningKafka
let redis: RunningRedis
let queue: Queue

beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
})
beforeEach(async () => {
  queue = await openTestQueue(url(), { pendingMax: 50 })
  await queue.configureType('t', { declared: true })
})

const url = () => `kafka://${kafka.address}?partitions=1&state=${redis.url}`
const until = (isSo: () => unknown) => vi.waitFor(isSo, { timeout: 30_000, interval: 100 })
/** Puts one record into a topic, with a key or without. */
const put = (topic: string, value: string | Buffer, key?: string) => {
  const args = ['-P', '-b', kafka.address, '-t', topic, '-p', '0', ...(key ? ['-k', key] : [])]
  execFileSync('kcat', args, { input: value })
}
const dead = () =>
  execFileSync('kcat', ['-C', '-b', kafka.address, '-t', 'xq.dead', '-o', 'beginning', '-e', '-q', '-J'], {
    encoding: 'utf8',
  })
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const { headers, payload } = JSON.parse(line) as { headers: string[]; payload: string }
      const header = (name: string) => headers[headers.indexOf(`xqueue_${name}`) + 1]
      return { topic: header('topic'), reason: header('reason'), payload }
    })
const tagged = async (tag: string) => (await queue.list({ tag: { key: 'is', value: tag }, limit: 10 })).tasks

/** Bytes that no reader of a topic expects. */
const GARBAGE: readonly (string | Buffer)[] = [
  'no JSON',
  '7',
  'null',
  '[]',
  '{}',
  Buffer.from([0xff, 0xfe, 0x00]),
  '{"id": "x", "type": "t", "status": "success"}',
  '{"schedule": 1}',
  '{"type": 1}',
]

describe('an unusable record', () => {
  it('does not block later records in the submit topic, whatever its content', async () => {
    const bad = [
      ...GARBAGE,
      '{"type": "t", "tags": {"name": "half a pair \\ud83d"}}',
      '{"type": "t", "idempotency_key": "half a pair \\ud83d"}',
      '{"type": "t", "group": "half a pair \\ud83d"}',
      '{"type": "\\ud83d"}',
      `{"type": "t", "payload": ${'['.repeat(5_000)}${']'.repeat(5_000)}}`,
      `{"type": "t", "after": ["no task"]}`,
    ]
    for (const value of bad) put('xq.submit', value)
    put('xq.submit', '{"type": "t", "tags": {"is": "behind"}}')
    await until(async () => expect(await tagged('behind')).toHaveLength(1))
    await until(() => expect(dead().filter(({ topic }) => topic === 'xq.submit')).toHaveLength(bad.length))
    expect(dead().every(({ reason }) => /^\w+: ./.test(reason!))).toBe(true)
  })

  it('does not block lanes or the restoration of a lost state', async () => {
    const [submitted] = await queue.submit([completeSpec({ type: 't', tags: { is: 'kept' } })])
    await until(() => expect(execFileSync('kcat', ['-L', '-b', kafka.address]).toString()).toContain('xq.lane.t.0'))
    for (const value of GARBAGE) {
      for (const topic of ['xq.lane.t.0', 'xq.parked']) put(topic, value)
      for (const topic of ['xq.types', 'xq.limits', 'xq.schedules']) put(topic, value, 'key')
      put('xq.outcomes', value, submitted!.task.id)
    }
    put('xq.lane.t.0', 'no task', 'no-id')
    await queue.submit([completeSpec({ type: 't', tags: { is: 'kept' }, payload: 2 })])
    redisCli(redis.port, 'FLUSHALL')
    await until(async () => expect(await tagged('kept')).toHaveLength(2))
    await until(() => queue.submit([completeSpec({ type: 't' })]))
    await until(() => {
      const topics = new Set(dead().map(({ topic }) => topic))
      expect(topics).toEqual(
        new Set(['xq.submit', 'xq.lane.t.0', 'xq.parked', 'xq.outcomes', 'xq.types', 'xq.limits', 'xq.schedules']),
      )
    })
    expect((await queue.health()).checks.find(({ name }) => name === 'readers')).toMatchObject({ ok: true })
  })
})

describe('a blocked reader', () => {
  it('is reported by health, with its offset and the reason', async () => {
    const specs = Array.from({ length: 50 }, () => completeSpec({ type: 't' }))
    for (const spec of specs) await queue.submit([spec]).catch(() => undefined)
    put('xq.submit', '{"type": "t", "tags": {"is": "last"}}')
    const readers = async () => (await queue.health()).checks.find(({ name }) => name === 'readers')!
    await until(async () =>
      expect(await readers()).toMatchObject({
        ok: false,
        degrades: true,
        detail: expect.stringMatching(/^partition 0 of xq\.submit has not advanced beyond offset \d+ .*queue_full/),
      }),
    )
    await queue.cancel({ filter: { type: 't' } })
    await until(async () => expect(await tagged('last')).toHaveLength(1))
    // The task is in the queue a moment before its reader goes on.
    await until(async () => expect(await readers()).toMatchObject({ ok: true }))
  })
})
