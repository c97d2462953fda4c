import { describe, expect, it } from 'vitest'
import type { Changed } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import type { Fixture } from './fixture.ts'

/** Filters by the time of acceptance and by the error, which lists and changes share. */
export function filtersContract(fixture: Fixture): void {
  const { submit, claim, fail, succeed } = fixture
  const all = async (query: object, limit = 1) => {
    const found: string[] = []
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await fixture.queue.list({ ...query, limit, ...(cursor ? { cursor } : {}) })
      found.push(...page.tasks.map(({ id }) => id))
      cursor = page.nextCursor
    }
    return found
  }

  describe('filters by time and error', () => {
    it('takes times of acceptance from the first one on to before the second one, in every list', async () => {
      const start = fixture.now
      const specs = [{}, { priority: 3 }, { delayMs: 9_000 }, { type: 'u' }, { group: 'g' }, { batch: 'b' }]
      const ids: string[] = []
      for (const spec of specs) {
        ids.push((await submit(spec)).id)
        fixture.now += 1_000
      }
      const dependent = await submit({ after: [ids[0]!] })
      ids.push(dependent.id)
      const within = (from: number, to: number) => ({
        createdAfter: start + from * 1_000,
        createdBefore: start + to * 1_000,
      })
      for (const limit of [1, 2, 100]) {
        expect(await all(within(1, 4), limit)).toEqual([ids[3], ids[2], ids[1]])
        expect(await all({ createdAfter: start + 5_000 }, limit)).toEqual([ids[6], ids[5]])
        expect(await all({ createdBefore: start + 1_001 }, limit)).toEqual([ids[1], ids[0]])
        expect(await all({ ...within(0, 7), status: 'pending' }, limit)).toEqual(
          [1, 0, 3, 4, 5, 2, 6].map((n) => ids[n]),
        )
        expect(await all({ ...within(2, 7), status: 'pending' }, limit)).toEqual([3, 4, 5, 2, 6].map((n) => ids[n]))
        expect(await all({ ...within(0, 7), type: 'u' }, limit)).toEqual([ids[3]])
        expect(await all({ ...within(0, 5), batch: 'b' }, limit)).toEqual([])
        expect(await all({ ...within(5, 6), batch: 'b' }, limit)).toEqual([ids[5]])
        expect(await all({ ...within(4, 6), status: 'pending', group: 'g' }, limit)).toEqual([ids[4]])
        expect(await all(within(3, 3), limit)).toEqual([])
        expect(await all({ createdAfter: 1e14 }, limit)).toEqual([])
      }
      await claim(1)
      fixture.now += 50_000
      for (const { lease } of await claim(3)) await succeed(lease)
      const status = 'success' as const
      const succeeded = await all({ status })
      expect(succeeded).toHaveLength(3)
      for (const id of succeeded) {
        const { createdAt } = await fixture.get(id)
        expect(await all({ status, createdAfter: createdAt, createdBefore: createdAt + 1 })).toEqual([id])
      }
      expect(await all({ status: 'processing', ...within(1, 2) })).toEqual([ids[1]])
      expect(await all({ status: 'processing', ...within(2, 7) })).toEqual([])
    })

    it('finds a part of the error that a task shows, in any case of ASCII letters, in every list', async () => {
      const failing = async (error: string, spec: object = {}, more: object = {}) => {
        const { id } = await submit({ maxRetry: 0, ...spec })
        const [lease] = await claim()
        expect(lease!.task.id).toBe(id)
        await fail(lease!.lease, { error, ...more })
        return id
      }
      const plain = await failing('Error: 503 Service Unavailable')
      const long = await failing(`Error: "quoted" C:\\new\n    at f (a.ts:1)\n${'x'.repeat(9_000)}\n\tat THE end Ü`)
      const grouped = await failing('timed out: 503', { group: 'g', batch: 'b', tags: { a: '1' } })
      const later = await failing('not yet: 503', { maxRetry: 3 }, { delayMs: 50_000 })
      const retried = await failing('Error: 503 again', { maxRetry: 3 }, { delayMs: 0 })
      await submit({ payload: 'Error: 503' })
      const status = 'failed' as const
      for (const limit of [1, 100]) {
        expect((await all({ error: '503' }, limit)).sort()).toEqual([plain, grouped, retried, later].sort())
        expect(await all({ error: 'ERROR: 503 SERVICE' }, limit)).toEqual([plain])
        expect((await all({ status, error: '503' }, limit)).sort()).toEqual([plain, grouped].sort())
        expect(await all({ status: 'pending', error: '503' }, limit)).toEqual([retried, later])
        expect(await all({ status, group: 'g', tag: { key: 'a', value: '1' }, error: 'OUT' }, limit)).toEqual([grouped])
        expect(await all({ batch: 'b', error: '503' }, limit)).toEqual([grouped])
        expect(await all({ batch: 'b', error: '504' }, limit)).toEqual([])
        expect(await all({ status, error: '50%' }, limit)).toEqual([])
      }
      for (const error of ['"Quoted" c:\\new', '\n    at F', 'x\n\tat the END Ü'])
        expect(await all({ error })).toEqual([long])
      for (const error of ['C:\\\\new', '\\n    at', '"Error', 'null', 'ü'])
        expect(await all({ status, error })).toEqual([])
      const [lease] = await claim()
      expect(lease!.task.id).toBe(retried)
      expect(await all({ status: 'processing', error: '503 AGAIN' })).toEqual([retried])
      await succeed(lease!.lease)
      expect(await all({ status: 'success', error: '503' })).toEqual([])
      const bare = await fixture.queue.list({ status, error: 'SERVICE', limit: 10, bare: true })
      expect(bare.tasks.map(({ id, error }) => [id, error])).toEqual([[plain, null]])
    })

    it('cancels and retries the tasks that such a list shows, and no others', async () => {
      const ids: string[] = []
      for (const error of ['503 a', '503 b', 'other']) {
        ids.push((await submit({ maxRetry: 0 })).id)
        const [lease] = await claim()
        await fail(lease!.lease, { error })
        fixture.now += 10
      }
      const [first, second] = await Promise.all(ids.map((id) => fixture.get(id)))
      const matching = { error: '503', createdAfter: second!.createdAt }
      expect(await all({ status: 'failed', ...matching })).toEqual([ids[1]])
      const retried = await fixture.queue.retry({ filter: matching })
      expect(retried.results.map(({ id }) => id)).toEqual([ids[1]])
      const canceled = await fixture.queue.cancel({ filter: { createdBefore: second!.createdAt } })
      expect(canceled.results).toEqual([])
      const both = await fixture.queue.retry({ filter: { createdBefore: second!.createdAt } })
      expect(both.results.map(({ id }) => id)).toEqual([first!.id])
      const ended = await fixture.queue.cancel({ filter: { ...matching, status: 'pending' } })
      expect(ended.results.map(({ id, outcome }) => [id, outcome])).toEqual([])
      const byTime = await fixture.queue.cancel({ filter: { createdAfter: second!.createdAt } })
      expect(byTime.results.map(({ id }) => id)).toEqual([ids[1]])
    })

    it('passes many tasks that do not match, and misses none behind them', async () => {
      const old = await submit()
      fixture.now += 10
      for (let n = 0; n < 3; n++) {
        await fixture.queue.submit(Array.from({ length: 800 }, () => completeSpec({ type: n === 1 ? 'u' : 't' })))
        fixture.now += 10
      }
      const late = await submit({})
      expect(await all({ createdBefore: old.createdAt + 1 }, 10)).toEqual([old.id])
      expect(await all({ createdBefore: old.createdAt + 1, status: 'pending' }, 10)).toEqual([old.id])
      expect(await all({ createdAfter: late.createdAt }, 10)).toEqual([late.id])
      expect(await all({ createdAfter: late.createdAt, status: 'pending' }, 10)).toEqual([late.id])
      const filter = { createdAfter: old.createdAt + 1 }
      for (let next: Changed['next'] | undefined; next !== null; ) {
        next = (await fixture.queue.cancel({ filter, ...(next && { before: next }) })).next
      }
      expect(await all({ status: 'canceled', createdAfter: late.createdAt }, 10)).toEqual([late.id])
      expect(await all({ status: 'canceled' }, 1_000)).toHaveLength(2_401)
      expect(await all({ status: 'pending' }, 10)).toEqual([old.id])
      expect(await all({ error: 'no' }, 10)).toEqual([])
    })
  })
}
