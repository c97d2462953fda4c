import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { elementsOf } from '../../src/engine/erasure.ts'
import { openEngine } from '../../src/engine/open.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import { startRedis } from '../services/redis.ts'

const SECRET = 'a-secret-that-nobody-may-find'
const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t', 'u'], concurrency: 10, startedAt: 0 }
const handler = {
  ...{ maxConcurrency: null, groupConcurrency: null, rate: null, retry: RETRY_DEFAULTS },
  ...{ payloadSchema: null, defaults: {} },
}

/** Runs a task that has the secret everywhere, beside one that says the same of itself in another word. */
async function runTasks(engine: Engine): Promise<string> {
  for (const type of WORKER.types) await engine.configureType(type, { handler })
  const specOf = (word: string) =>
    completeSpec({ type: 't', payload: word, tags: { word }, idempotencyKey: word, batch: word })
  const submitted = await engine.submit([specOf(SECRET), specOf('not-a-secret')])
  const ids = submitted.map(({ task }) => task.id)
  await engine.submit([completeSpec({ type: 'u', after: [ids[0]!] }), completeSpec({ type: 't', after: [ids[0]!] })])
  const { leases } = await engine.turn({ worker: WORKER, want: 2, types: ['t'] })
  const wordOf = new Map(leases.map(({ lease, task }) => [lease, task.payload]))
  await engine.turn({
    ...{ worker: WORKER, want: 0 },
    renewals: leases.map(({ lease }) => ({ lease, progress: { word: wordOf.get(lease)! } })),
  })
  await engine.turn({
    ...{ worker: WORKER, want: 0 },
    outcomes: leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: wordOf.get(lease)! } as const })),
  })
  while ((await engine.sweep(100)).more);
  return ids[0]!
}

it('leaves nothing of a purged task in the file of SQLite', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-erasure-'))
  try {
    const engine = await openEngine(`sqlite:${join(folder, 'q.db')}`)
    const id = await runTasks(engine)
    expect((await engine.erase([id])).results[0]!.outcome).toBe('changed')
    await engine.close()
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
    const engine = await openEngine(redis.url, { clock: () => now })
    for (const type of WORKER.types) await engine.configureType(type, { handler })
    const submitOthers = async () => {
      for (let n = 0; n < 20; n++, now += 60_000) await engine.submit([completeSpec({ type: 't', delayMs: 1e9 })])
    }
    // Events of before and after are not looked at.
    await submitOthers()
    const id = await runTasks(engine)
    await submitOthers()
    const found = () => everything(redis.port)
    expect(found()).toContain(SECRET)
    expect((await engine.erase([id])).results[0]!.outcome).toBe('changed')
    expect(found()).toContain('not-a-secret')
    expect(found()).not.toContain(SECRET)
    await engine.close()
  } finally {
    redis.stop()
  }
})

it('cuts events out of their JSON as they are', () => {
  const events = ['1e400', '"a,]\\""', '{"b":[1,{"c":"}"}]}', '[[],"[",12345678901234567890]', 'null']
  expect(elementsOf(`[${events.join(',')}]`)).toEqual(events)
  expect(elementsOf('[]')).toEqual([])
})

/** Names and values of all keys. */
function everything(port: number): string {
  const cli = (...args: string[]) => spawnSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8' }).stdout
  const read: Record<string, readonly string[]> = {
    ...{ string: ['GET'], hash: ['HGETALL'], set: ['SMEMBERS'] },
    ...{ list: ['LRANGE', '0', '-1'], zset: ['ZRANGE', '0', '-1'], stream: ['XRANGE', '-', '+'] },
  }
  const keys = cli('KEYS', '*').split('\n').filter(Boolean)
  return keys
    .map((key) => {
      const [command, ...rest] = read[cli('TYPE', key).trim()] ?? ['EXISTS'] // It has expired since.
      return `${key}\n${cli(command!, key, ...rest)}`
    })
    .join('\n')
}
