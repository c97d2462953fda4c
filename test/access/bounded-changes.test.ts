import { expect, it } from 'vitest'
import type { Changed } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { BoundedQueue } from '../../src/tenants/bounded.ts'
import { startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const ENGINES: Record<string, () => Promise<string>> = {
  SQLite: async () => 'sqlite::memory:',
  Redis: async () => (await startRedis()).url,
}

it.each(Object.entries(ENGINES))(
  'changes all tasks of several types within bounds, more of each than one step does, on %s',
  async (_name, url) => {
    const queue = await openTestQueue(await url())
    const types = ['mail-a', 'mail-b', 'other']
    const ids: string[] = []
    for (const type of types) {
      await queue.configureType(type, { declared: true })
      for (const count of [1_000, 300]) {
        const submitted = await queue.submit(Array.from({ length: count }, () => completeSpec({ type })))
        if (type !== 'other') ids.push(...submitted.map(({ task }) => task.id))
      }
    }
    const tenant = new BoundedQueue(queue, { types: ['mail-*'], groups: null })
    const changeAll = async (change: 'cancel' | 'retry') => {
      const found: string[] = []
      for (let before: Changed['next'] = null; ; ) {
        const { results, next }: Changed = await tenant[change]({ filter: {}, ...(before === null ? {} : { before }) })
        found.push(...results.map(({ id }) => id))
        if (next === null) return found.sort()
        before = next
      }
    }
    expect(await changeAll('cancel')).toEqual(ids.toSorted())
    expect(await changeAll('retry')).toEqual(ids.toSorted())
    const { counts } = await queue.stats()
    expect([counts.pending, counts.canceled]).toEqual([3_900, 0])
  },
)
