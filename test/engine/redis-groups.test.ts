import { expect, it } from 'vitest'
import { openEngine } from '../../src/engine/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { redisCli, startRedis } from '../services/redis.ts'

it('keeps nothing of the waits of grouped tasks that have started or were canceled', async () => {
  const redis = await startRedis()
  const engine = await openEngine(redis.url)
  const waits = () => redisCli(redis.port, 'ZCARD', 'xq:{0}:group_waits')
  try {
    await engine.configureType('t', { declared: true })
    const specs = Array.from({ length: 21 }, (_, index) => completeSpec({ type: 't', group: `g${index}` }))
    const submitted = await engine.submit(specs)
    expect(waits()).toBe('21')
    await engine.cancel({ ids: [submitted[0]!.task.id] })
    expect(waits()).toBe('20')
    const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 20, startedAt: 0 }
    expect((await engine.turn({ worker, want: 20 })).leases).toHaveLength(20)
    expect(waits()).toBe('0')
  } finally {
    await engine.close()
    await redis.stop()
  }
})
