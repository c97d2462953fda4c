import { describe, expect, it } from 'vitest'
import type { MatchQuery } from '../../src/store/store.ts'
import type { TaskSpec } from '../../src/task/task.ts'
import { type StoreFixture, submitTo, WORKER } from './store-fixture.ts'

/** `change` and `matching`. */
export function changeContract(fixture: StoreFixture): void {
  const submit = (...specs: Partial<TaskSpec>[]) => submitTo(fixture.store, specs)
  const matching = async (query: Partial<MatchQuery> = {}) => {
    const all = { filter: {}, statuses: ['pending', 'processing'] as const, since: null, skip: 0, max: 100 }
    return (await fixture.store.matching({ ...all, ...query })).ids
  }

  describe('change', () => {
    it('answers for each id in order, by the status of the task', async () => {
      const [running, waiting] = (await submit({ priority: 9 }, {})) as [string, string]
      await fixture.store.turn({ worker: WORKER, want: 1 })
      const cancel = (ids: string[]) => fixture.store.change('cancel', ids)
      expect(await cancel([waiting, 'none', running])).toEqual(['changed', 'unknown', 'stopping'])
      expect(await cancel([waiting])).toEqual(['refused'])
      expect(await fixture.store.change('retry', [running, waiting])).toEqual(['refused', 'changed'])
      expect(await fixture.store.change('erase', [waiting])).toEqual(['refused'])
      await cancel([waiting])
      expect(await fixture.store.change('erase', ['none', waiting])).toEqual(['unknown', 'changed'])
      expect(await fixture.store.get([waiting])).toEqual([null])
    })

    it('finds waiting tasks of every kind, and running tasks only before they are asked to stop', async () => {
      const [first, grouped, delayed] = await submit({ priority: 9 }, { group: 'g' }, { delayMs: 1_000 })
      const [dependent] = await submit({ after: [first!] })
      await fixture.store.turn({ worker: WORKER, want: 1 })
      expect((await matching()).sort()).toEqual([first, grouped, delayed, dependent].sort())
      expect(await matching({ filter: { group: 'g' } })).toEqual([grouped])
      await fixture.store.change('cancel', [first!])
      expect((await matching()).sort()).toEqual([grouped, delayed, dependent].sort())
    })

    it('skips the requested number in a stable order, and tasks that have changed since', async () => {
      const ids = await submit({}, {}, {}, {})
      const all = await matching()
      expect([...all].sort()).toEqual([...ids].sort())
      expect(await matching({ skip: 1, max: 2 })).toEqual(all.slice(1, 3))
      const { at } = await fixture.store.matching({ filter: {}, statuses: [], since: null, skip: 0, max: 1 })
      expect(at).toBe(fixture.now)
      fixture.now += 5
      await fixture.store.change('cancel', [ids[0]!])
      const canceled = { statuses: ['canceled'] as const }
      expect(await matching({ ...canceled, since: at })).toEqual([])
      expect(await matching({ ...canceled, since: fixture.now })).toEqual([ids[0]])
    })

    it('finds each of many tasks that have ended once, while the ones before it are changed or refused', async () => {
      const ids = await submit(...Array.from({ length: 25 }, (_, n) => ({ group: n % 5 === 0 ? null : 'g' })))
      await fixture.store.change('cancel', ids)
      const query = { filter: { group: 'g' }, statuses: ['failed', 'canceled', 'timeout'] as const, max: 3 }
      const { at: since } = await fixture.store.matching({ ...query, since: null, skip: 0 })
      fixture.now += 5
      const found: string[] = []
      for (let cursor: string | null | undefined, refused = 0; cursor !== null; ) {
        const page = await fixture.store.matching({ ...query, since, skip: refused, cursor })
        found.push(...page.ids)
        if (page.nextCursor === undefined && page.ids.length < query.max) break
        const [kept, ...changed] = page.ids
        await fixture.store.change('retry', changed)
        // They end again, and are newer then.
        await fixture.store.change('cancel', changed)
        if (kept) refused += 1
        cursor = page.nextCursor
      }
      expect(found.toSorted()).toEqual(ids.filter((_, n) => n % 5 !== 0).toSorted())
    })
  })
}
