import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { elementsOf } from '../../src/store/erasure.ts'
import { logText } from '../../src/task/log-line.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const SECRET = 'a-secret-that-nobody-may-find'
const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t', 'u'], concurrency: 10, startedAt: 0 }
const handler = {
  ...{ maxConcurrency: null, groupConcurrency: null, rate: null, retry: RETRY_DEFAULTS },
  ...{ payloadSchema: null, defaults: {} },
}

/** Runs a task with the secret in every field, beside one with another word in the same fields. */
async function runTasks(queue: Queue): Promise<string> {
  for (const type of WORKER.types) await queue.configureType(type, { handler })
  const specOf = (word: string) =>
    completeSpec({ type: 't', payload: word, tags: { word }, idempotencyKey: word, batch: word, maxRetry: 1 })
  const submitted = await queue.submit([specOf(SECRET), specOf('not-a-secret')])
  const ids = submitted.map(({ task }) => task.id)
  await queue.submit([completeSpec({ type: 'u', after: [ids[0]!] }), completeSpec({ type: 't', after: [ids[0]!] })])
  const failed = await queue.turn({ worker: WORKER, want: 2, types: ['t'] })
  await queue.turn({
    ...{ worker: WORKER, want: 0 },
    logs: failed.leases.map(({ lease, task }) => ({ lease, lines: [logText(0, 'info', task.payload as string, '')] })),
    outcomes: failed.leases.map(({ lease, task }) => {
      return { lease, outcome: { kind: 'failure', error: task.payload as string, retry: true, delayMs: 0 } as const }
    }),
  })
  const { leases } = await queue.turn({ worker: WORKER, want: 2, types: ['t'] })
  const wordOf = new Map(leases.map(({ lease, task }) => [lease, task.payload]))
  await queue.turn({
    ...{ worker: WORKER, want: 0 },
    renewals: leases.map(({ lease }) => ({ lease, progress: { word: wordOf.get(lease)! } })),
  })
  await queue.turn({
    ...{ worker: WORKER, want: 0 },
    outcomes: leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: wordOf.get(lease)! } as const })),
  })
  while ((await queue.sweep(100)).more);
  return ids[0]!
}

it('leaves nothing of a purged task in the file of SQLite', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-erasure-'))
  try {
    const queue = await openQueue(`sqlite:${join(folder, 'q.db')}`)
    const id = await runTasks(queue)
    expect((await queue.erase([id])).results[0]!.outcome).toBe('changed')
    await queue.close()
    const files = readdirSync(folder).map((name) => readFileSync(join(folder, name)))
    expect(files.some((file) => file.includes('not-a-secret'))).toBe(true)
    expect(files.some((file) => file.includes(SECRET))).toBe(false)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

it('leaves nothing of a purged task in the memory of Redis', async () => {
  const redis = await startRedis()
  try {
    let now = Date.now()
    const queue = await openQueue(redis.url, { clock: () => now })
    for (const type of WORKER.types) await queue.configureType(type, { handler })
    const submitOthers = async () => {
      for (let n = 0; n < 20; n++, now += 60_000) await queue.submit([completeSpec({ type: 't', delayMs: 1e9 })])
    }
    // Events of before and after are ignored.
    await submitOthers()
    const id = await runTasks(queue)
    await submitOthers()
    const found = () => everything(redis.port)
    expect(found()).toContain(SECRET)
    expect((await queue.erase([id])).results[0]!.outcome).toBe('changed')
    expect(found()).toContain('not-a-secret')
    expect(found()).not.toContain(SECRET)
    await queue.close()
  } finally {
    redis.stop()
  }
})

it('reads the events of Redis once for all tasks of an erasure, and erases the contents of each', async () => {
  const redis = await startRedis()
  const queue = await openQueue(redis.url)
  try {
    await queue.configureType('t', { handler })
    const ids: string[] = []
    for (let n = 0; n < 150; n++) {
      const [submitted] = await queue.submit([completeSpec({ type: 't', payload: SECRET })])
      ids.push(submitted!.task.id)
      const { leases } = await queue.turn({ worker: WORKER, want: 1 })
      const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: SECRET } as const }))
      await queue.turn({ worker: WORKER, want: 0, outcomes })
    }
    redisCli(redis.port, 'CONFIG', 'RESETSTAT')
    const { results } = await queue.erase(ids)
    expect(results.every(({ outcome }) => outcome === 'changed')).toBe(true)
    const calls = /cmdstat_xrange:calls=(\d+)/.exec(redisCli(redis.port, 'INFO', 'commandstats'))?.[1]
    // Two of each task find it, and the entries around its events are moved.
    expect(Number(calls)).toBeLessThan(6 * ids.length)
    expect(everything(redis.port)).not.toContain(SECRET)
  } finally {
    await queue.close()
    redis.stop()
  }
})

it('erases a task that another waits for, as the first step after Redis has lost its functions', async () => {
  const redis = await startRedis()
  const queue = await openQueue(redis.url)
  try {
    await queue.configureType('t', { handler })
    const [failing] = await queue.submit([completeSpec({ type: 't', maxRetry: 0 })])
    const { id } = failing!.task
    const [waiting] = await queue.submit([completeSpec({ type: 't', after: [id], onFailure: 'wait' })])
    const { leases } = await queue.turn({ worker: WORKER, want: 1 })
    const outcome = { kind: 'failure', error: 'no', retry: false, delayMs: null } as const
    await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
    redisCli(redis.port, 'FUNCTION', 'FLUSH')
    expect((await queue.erase([id])).results[0]!.outcome).toBe('changed')
    expect((await queue.get([waiting!.task.id]))[0]!.status).toBe('canceled')
  } finally {
    await queue.close()
    redis.stop()
  }
})

it('gives nothing of an erased task to those of its successors that Redis had not informed yet', async () => {
  const redis = await startRedis()
  const queue = await openTestQueue(redis.url)
  await queue.configureType('t', { declared: true })
  const [root] = await queue.submit([completeSpec({ type: 't' })])
  const after = [root!.task.id]
  for (let n = 0; n < 3; n++) {
    await queue.submit(Array.from({ length: 1_000 }, () => completeSpec({ type: 't', after })))
  }
  const [lease] = (await queue.turn({ worker: WORKER, want: 1 })).leases
  const outcomes = [{ lease: lease!.lease, outcome: { kind: 'success', result: SECRET } as const }]
  await queue.turn({ worker: WORKER, want: 0, outcomes })
  expect((await queue.erase(after)).results).toMatchObject([{ outcome: 'changed' }])
  const results: unknown[] = []
  for (let leases = 1; leases > 0 || (await queue.sweep(100)).more; ) {
    const turn = await queue.turn({ worker: WORKER, want: 1_000 })
    results.push(...turn.leases.flatMap(({ predecessors }) => predecessors.map(({ result }) => result)))
    leases = turn.leases.length
  }
  expect(results).toEqual(Array(3_000).fill(null))
})

it('cuts events out of their JSON without parsing it', () => {
  const events = ['1e400', '"a,]\\""', '{"b":[1,{"c":"}"}]}', '[[],"[",12345678901234567890]', 'null']
  expect(elementsOf(`[${events.join(',')}]`)).toEqual(events)
  expect(elementsOf('[]')).toEqual([])
})

/** Names and values of all keys, and their bytes, as a snapshot has them: with what was deleted and not overwritten. */
function everything(port: number): string {
  const cli = (...args: string[]) =>
    spawnSync('redis-cli', ['-p', String(port), ...args], { encoding: 'latin1' }).stdout
  cli('CONFIG', 'SET', 'rdbcompression', 'no')
  const read: Record<string, readonly string[]> = {
    ...{ string: ['GET'], hash: ['HGETALL'], set: ['SMEMBERS'] },
    ...{ list: ['LRANGE', '0', '-1'], zset: ['ZRANGE', '0', '-1'], stream: ['XRANGE', '-', '+'] },
  }
  const keys = cli('KEYS', '*').split('\n').filter(Boolean)
  return keys
    .map((key) => {
      const [command, ...rest] = read[cli('TYPE', key).trim()] ?? ['EXISTS'] // It has expired since.
      return `${key}\n${cli(command!, key, ...rest)}\n${cli('--raw', 'DUMP', key)}`
    })
    .join('\n')
}
