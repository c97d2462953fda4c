import { describe, expect, it } from 'vitest'
import type { Changed, ChangePosition } from '../../src/queue/queue.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import type { Fixture } from './fixture.ts'

export function batchContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail } = fixture
  const submitAll = async (...specs: Partial<TaskSpec>[]) =>
    (await fixture.queue.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))).map(({ task }) => task)

  describe('batch', () => {
    it('counts its own tasks of all types by status', async () => {
      const tasks = await submitAll({ batch: 'b' }, { type: 'u', batch: 'b', maxRetry: 0 }, { batch: 'c' })
      await submit({ batch: 'b', delayMs: 1_000 })
      expect(tasks.map(({ batch }) => batch)).toEqual(['b', 'b', 'c'])
      expect(await fixture.queue.batch('b')).toMatchObject({ batch: 'b', total: 3, counts: { pending: 3 } })
      const leases = await claim(9)
      expect(leases.map(({ task }) => task.batch).sort()).toEqual(['b', 'b', 'c'])
      const of = (id: string) => leases.find(({ task }) => task.id === id)!.lease
      await succeed(of(tasks[0]!.id), 1)
      await fail(of(tasks[1]!.id))
      expect((await fixture.queue.batch('b'))!.counts).toEqual({
        pending: 1,
        processing: 0,
        success: 1,
        failed: 1,
        canceled: 0,
        timeout: 0,
      })
      expect((await fixture.queue.batch('c'))!.counts).toMatchObject({ processing: 1 })
      expect(await fixture.queue.batch('none')).toBeNull()
    })

    it('filters lists, cancellations and retries', async () => {
      const [a, , c] = await submitAll({ batch: 'b' }, {}, { type: 'u', batch: 'b', after: [0] })
      const page = await fixture.queue.list({ batch: 'b', limit: 10 })
      expect(page.tasks.map(({ id }) => id).sort()).toEqual([a!.id, c!.id].sort())
      fixture.now += 1
      const canceled = await fixture.queue.cancel({ filter: { batch: 'b' } })
      expect(canceled.results.map(({ id }) => id)).toContain(a!.id)
      while ((await fixture.queue.sweep(100)).more);
      expect(await fixture.queue.batch('b')).toMatchObject({ counts: { canceled: 2, pending: 0 } })
      expect((await fixture.queue.stats()).counts).toMatchObject({ pending: 1, canceled: 2 })
      fixture.now += 1
      const retried = await fixture.queue.retry({ filter: { batch: 'b' } })
      expect(retried.results).toHaveLength(2)
      expect(await fixture.queue.batch('b')).toMatchObject({ counts: { canceled: 0, pending: 2 } })
    })

    it('counts many tasks, including those that retention has removed', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ retention: { ageMs: 1_000, countMax: 10_000 } })
      await submitAll(...Array.from({ length: 2_500 }, () => ({ batch: 'b' })))
      expect(await fixture.queue.batch('b')).toMatchObject({ total: 2_500, counts: { pending: 2_500 } })
      const [first] = await claim()
      await succeed(first!.lease)
      fixture.now += 2_000
      while ((await fixture.queue.sweep(1_000)).more);
      expect(await fixture.queue.batch('b')).toMatchObject({ total: 2_500, counts: { pending: 2_499, success: 0 } })
      fixture.now += 1
      for (let next: Changed['next'] = null, calls = 0; calls === 0 || next !== null; calls++) {
        const from: { before?: ChangePosition } = next === null ? {} : { before: next }
        next = (await fixture.queue.cancel({ filter: { batch: 'b' }, ...from })).next
      }
      fixture.now += 2_000
      for (let step = 0; step < 3; step++) while ((await fixture.queue.sweep(1_000)).more);
      expect(await fixture.queue.batch('b')).toBeNull()
    })
  })
}
