import { expect, it } from 'vitest'
import { openEngine } from '../../src/engine/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { announce, normalizeHandlers } from '../../src/worker/handlers.ts'
import { redisCli, startRedis } from '../services/redis.ts'

it('asks Redis for a number of steps and reads that does not grow with each of many types', async () => {
  const types = Array.from({ length: 9_000 }, (_, index) => `type-${index}`)
  const handlers = normalizeHandlers(
    Object.fromEntries(types.map((type) => [type, { concurrency: 5, run: () => null }])),
  )
  const redis = await startRedis()
  const engine = await openEngine(redis.url)
  const calls = (command: string) => {
    const line = redisCli(redis.port, 'INFO', 'commandstats').match(new RegExp(`cmdstat_${command}:calls=(\\d+)`))
    return Number(line?.[1] ?? 0)
  }
  try {
    redisCli(redis.port, 'CONFIG', 'RESETSTAT')
    await announce(engine, handlers)
    expect(calls('fcall')).toBeLessThan(50)
    await engine.submit(types.map((type) => completeSpec({ type })))
    expect(calls('hkeys')).toBeLessThan(10)
    const worker = { id: 'w', host: 'h', pid: 1, types, concurrency: 10, startedAt: 0 }
    expect((await engine.turn({ worker, want: 10 })).leases).toHaveLength(10)
  } finally {
    await engine.close()
    await redis.stop()
  }
})
