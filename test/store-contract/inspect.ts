import { describe, expect, it } from 'vitest'
import { noStoredCounts } from '../../src/task/status.ts'
import { declare, type StoreFixture, submitTo, WORKER } from './store-fixture.ts'

export function inspectContract(fixture: StoreFixture): void {
  const inspect: StoreFixture['store']['inspect'] = (query) => fixture.store.inspect(query)

  describe('inspect', () => {
    it('counts the tasks of a type by their stored status', async () => {
      const [first, , , , canceled] = await submitTo(fixture.store, [{ priority: 9 }, {}, { group: 'g' }, {}, {}])
      await submitTo(fixture.store, [{ delayMs: 1_000 }, { after: [first!] }, { after: [first!] }, { after: [first!] }])
      await fixture.store.turn({ worker: WORKER, want: 1 })
      await fixture.store.change('cancel', [canceled!])
      const { types, now } = await inspect({ types: ['t'] })
      const counts = { ...noStoredCounts(), pending: 3, delayed: 1, dependent: 3, processing: 1, canceled: 1 }
      expect(types).toMatchObject([
        { type: 't', isKnown: true, counts, settings: null, holders: [], nextStartAt: null },
      ])
      expect(now).toBe(fixture.now)
      expect((await inspect({})).types).toEqual(types)
    })

    it.each(['none', '00000000-0000-7000-8000-000000000000'])('has nothing of the unknown task %s', async (id) => {
      expect(await fixture.store.get([id])).toEqual([null])
      expect(await fixture.store.attempts([id])).toEqual([{ attempts: [], leftOut: 0 }])
      expect(await fixture.store.logs(id, 0, 9)).toEqual({ lines: [], leftOut: 0 })
    })

    it('reads holders, the next start and settings only on request', async () => {
      const ids = await submitTo(fixture.store, [{ priority: 9, group: 'g' }, {}])
      await declare(fixture.store, { rate: { max: 1, perMs: 5_000 }, maxConcurrency: 3, defaults: { maxRetry: 7 } })
      const { leases } = await fixture.store.turn({ worker: WORKER, want: 9 })
      const { expiresAt } = leases[0]!
      const [facts] = (await inspect({ types: ['t'], holders: true, settings: true })).types
      expect(facts).toMatchObject({ maxConcurrency: 3, groupConcurrency: null, paused: false, declared: false })
      expect(facts!.nextStartAt).toBe(fixture.now + 5_000)
      expect(facts!.settings).toMatchObject({ payloadSchema: null, defaults: { maxRetry: 7 }, ceilings: {} })
      const since = fixture.now
      expect(facts!.holders).toEqual([{ taskId: ids[0], workerId: 'w', since, expiresAt, group: 'g' }])
    })

    it('reads a task with its type: the tasks before it, its predecessors, and the holders of its group', async () => {
      const [first, second, last] = (await submitTo(fixture.store, [{ group: 'g', priority: 9 }, {}, {}])) as [
        ...[string, string, string],
      ]
      const [dependent] = await submitTo(fixture.store, [{ after: [second, first], group: 'g' }])
      await fixture.store.turn({ worker: WORKER, want: 1 })
      const { task, types } = await inspect({ task: last, holders: true })
      expect(task).toMatchObject({ task: { id: last, status: 'pending' }, ahead: 1, waitsFor: [], holdersOfGroup: [] })
      expect(types).toMatchObject([{ type: 't', holders: [{ taskId: first }] }])
      const waiting = (await inspect({ task: dependent!, holders: true })).task
      expect(waiting).toMatchObject({ waitsFor: [second, first], holdersOfGroup: [{ taskId: first }] })
      expect((await inspect({ task: 'none' })).task).toBeNull()
    })

    it('reads live workers, also without types', async () => {
      await submitTo(fixture.store, [{}])
      await fixture.store.turn({ worker: WORKER, want: 1 })
      const facts = await inspect({ types: [] })
      expect(facts.types).toEqual([])
      expect(facts.workers).toMatchObject([{ ...WORKER, running: 1, lastSeen: fixture.now, processed: 0 }])
      fixture.now += 120_000
      expect((await inspect({ types: [] })).workers).toEqual([])
    })
  })
}
