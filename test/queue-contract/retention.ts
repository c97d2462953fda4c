import { describe, expect, it } from 'vitest'
import type { Retention } from '../../src/task/retention.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import type { FinalStatus } from '../../src/task/status.ts'
import type { Fixture } from './fixture.ts'

const DAY_MS = 86_400_000
const ALL = { ageMs: 100_000, countMax: 1_000 }
/** In a cluster a finished task is kept at least so long. */
const LEAST_MS = 10_000

export function retentionContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail, get, start } = fixture

  const restart = async (retention: { ageMs: number; countMax: number }) => {
    await fixture.opened.cleanup()
    await start({ retention })
  }
  const handle = (retention: Retention) => {
    const handler = { maxConcurrency: null, groupConcurrency: null, rate: null, retry: RETRY_DEFAULTS }
    return fixture.queue.configureType('t', { handler: { ...handler, payloadSchema: null, defaults: {}, retention } })
  }
  const sweep = async () => {
    // In a cluster what two partitions tell each other takes a few steps.
    for (let step = 0; step < 5; step++) while ((await fixture.queue.sweep(100)).more);
  }
  /** Has a task end in a status, each in its own way; answers its id. */
  const end: Record<FinalStatus, (type: string) => Promise<string>> = {
    success: async (type) => {
      const { id } = await submit({ type })
      for (const { lease } of await claim(1)) await succeed(lease)
      return id
    },
    failed: async (type) => {
      const { id } = await submit({ type, maxRetry: 0 })
      for (const { lease } of await claim(1)) await fail(lease)
      return id
    },
    canceled: async (type) => {
      const { id } = await submit({ type })
      await fixture.queue.cancel({ ids: [id] })
      return id
    },
    timeout: async (type) => {
      const { id } = await submit({ type, queueTimeoutMs: 1 })
      fixture.now += 1
      await sweep()
      return id
    },
  }
  const isKept = async (id: string) => (await get(id)) !== null

  describe('retention', () => {
    it('keeps tasks of a type by their final status, and other types by the default', async () => {
      await restart(ALL)
      await handle({ success: 20_000, timeout: 40_000 })
      const set = await fixture.queue.configureType('t', { retention: { failed: 30 * DAY_MS, canceled: 0 } })
      expect(set.retention).toEqual({
        set: { failed: 30 * DAY_MS, canceled: 0 },
        handler: { success: 20_000, timeout: 40_000 },
      })
      const ids: Record<string, string> = {}
      for (const type of ['t', 'u']) {
        for (const status of ['timeout', 'failed', 'success', 'canceled'] as const) {
          ids[`${type} ${status}`] = await end[status](type)
          expect(await get(ids[`${type} ${status}`]!)).toMatchObject({ type, status })
        }
      }
      const kept = async () => {
        await sweep()
        const names = Object.keys(ids).sort()
        const found = await Promise.all(names.map((name) => isKept(ids[name]!)))
        return names.filter((_, index) => found[index])
      }
      const ofU = ['u canceled', 'u failed', 'u success', 'u timeout']
      fixture.now += LEAST_MS
      expect(await kept()).toEqual(['t failed', 't success', 't timeout', ...ofU])
      fixture.now += 10_001
      expect(await kept()).toEqual(['t failed', 't timeout', ...ofU])
      fixture.now += 20_000
      expect(await kept()).toEqual(['t failed', ...ofU])
      fixture.now += 60_000
      expect(await kept()).toEqual(['t failed'])
      expect((await fixture.queue.stats()).counts).toMatchObject({ failed: 1, success: 0, canceled: 0, timeout: 0 })
      expect((await fixture.queue.list({ status: 'failed', limit: 10 })).tasks.map(({ id }) => id)).toEqual([
        ids['t failed'],
      ])
      fixture.now += 30 * DAY_MS
      expect(await kept()).toEqual([])
    })

    it.each([
      ['the retention of its type', 't', 50_000],
      ['the default', 'u', 100_000],
    ])('removes a finished task when %s has passed, and not before', async (_, type, ageMs) => {
      await restart(ALL)
      await handle({ success: 50_000 })
      const id = await end.success(type)
      const expiresAt = (await get(id)).completedAt! + ageMs
      fixture.now = expiresAt - 1
      await sweep()
      expect(await isKept(id)).toBe(true)
      fixture.now = expiresAt
      await sweep()
      expect(await isKept(id)).toBe(false)
    })

    it('reports when the next finished task expires, over all types', async () => {
      await restart(ALL)
      await handle({ success: 50_000, failed: DAY_MS })
      await end.failed('t')
      await end.success('u')
      expect((await fixture.queue.sweep(100)).nextAt).toBeLessThanOrEqual(fixture.now + 100_000)
      await end.success('t')
      expect((await fixture.queue.sweep(100)).nextAt).toBeLessThanOrEqual(fixture.now + 50_000)
    })

    it('removes the tasks above the count that would expire first, whatever their retention', async () => {
      await restart({ ageMs: 100_000, countMax: 3 })
      await handle({ success: 20_000, failed: 30 * DAY_MS })
      const failed = await end.failed('t')
      const [early, late] = [await end.canceled('t'), await end.canceled('t')]
      const short = await end.success('t')
      await sweep()
      expect(await Promise.all([failed, early, late, short].map(isKept))).toEqual([true, true, true, false])
      const last = await end.canceled('t')
      await sweep()
      expect(await Promise.all([failed, early, late, last].map(isKept))).toEqual([true, false, true, true])
    })

    it('applies to tasks that end after it was set; without it the handler decides again', async () => {
      await restart(ALL)
      await handle({ success: 20_000 })
      await fixture.queue.configureType('t', { retention: { success: 50_000, failed: 1 } })
      const first = await end.success('t')
      const { retention } = await fixture.queue.configureType('t', { retention: { success: null, failed: null } })
      expect(retention).toEqual({ set: {}, handler: { success: 20_000 } })
      const second = await end.success('t')
      await handle({})
      const third = await end.success('t')
      fixture.now += 20_001
      await sweep()
      expect(await Promise.all([first, second, third].map(isKept))).toEqual([true, false, true])
      fixture.now += 30_000
      await sweep()
      expect(await Promise.all([first, third].map(isKept))).toEqual([false, true])
      fixture.now += 50_000
      await sweep()
      expect(await isKept(third)).toBe(false)
    })

    it('is the same for every process', async () => {
      await handle({ success: 1_000 })
      await fixture.queue.configureType('t', { retention: { failed: 366 * DAY_MS } })
      await handle({ success: 2_000 })
      const second = await fixture.opened.second()
      const [info, other] = await second.types({ names: ['t', 'u'] })
      expect(info!.retention).toEqual({ set: { failed: 366 * DAY_MS }, handler: { success: 2_000 } })
      expect(other!.retention).toEqual({ set: {}, handler: {} })
    })

    it('counts from the last end of a task that was retried', async () => {
      await restart(ALL)
      await handle({ failed: 20_000 })
      const id = await end.failed('t')
      fixture.now += 19_000
      await fixture.queue.retry({ ids: [id] })
      fixture.now += 19_000
      await sweep()
      for (const { lease } of await claim(1)) await fail(lease, { retry: false })
      fixture.now += 19_000
      await sweep()
      expect(await get(id)).toMatchObject({ status: 'failed' })
      fixture.now += 1_001
      await sweep()
      expect(await isKept(id)).toBe(false)
    })

    it('keeps an idempotency key as long as its task', async () => {
      await restart(ALL)
      await handle({ success: 30_000 })
      const key = { idempotencyKey: 'k' }
      const { id } = await submit(key)
      for (const { lease } of await claim(1)) await succeed(lease)
      fixture.now += 20_000
      await sweep()
      expect((await submit(key)).id).toBe(id)
      fixture.now += 10_001
      await sweep()
      expect(await isKept(id)).toBe(false)
    })

    it('keeps the result of a predecessor with the task that waits for it', async () => {
      await restart(ALL)
      await handle({ success: 0 })
      const before = await submit()
      const [after, other] = [await submit({ type: 'u', after: [before.id] }), await submit({ type: 'u' })]
      for (const { lease } of await claim(1, { ...fixture.worker, types: ['t'] })) await succeed(lease, 7)
      await sweep()
      fixture.now += LEAST_MS
      await sweep()
      expect(await isKept(before.id)).toBe(false)
      const leases = await claim(2)
      expect(leases.map(({ task }) => task.id).sort()).toEqual([after.id, other.id].sort())
      expect(leases.find(({ task }) => task.id === after.id)!.predecessors).toMatchObject([{ result: 7 }])
    })
  })
}
