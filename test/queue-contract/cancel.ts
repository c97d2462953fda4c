import { describe, expect, it } from 'vitest'
import type { Changed } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

const WORKERS = [WORKER, { ...WORKER, id: 'w2' }]

export function cancelContract(fixture: Fixture): void {
  const { submit, claim, succeed, get } = fixture

  describe('cancel', () => {
    it('cancels a waiting task at once, and refuses a finished one', async () => {
      const { id } = await submit()
      expect((await fixture.queue.cancel({ ids: [id] })).results[0]).toMatchObject({ outcome: 'changed' })
      expect((await fixture.queue.cancel({ ids: [id, 'none'] })).results.map(({ outcome }) => outcome)).toEqual([
        'refused',
        'unknown',
      ])
      expect(await claim()).toEqual([])
    })

    it('asks a running task to stop, which ends as canceled whatever its outcome', async () => {
      const { id } = await submit()
      const [lease] = await claim()
      const waiting = fixture.queue.turn({ worker: WORKER, want: 0, waitMs: 20_000 })
      expect((await fixture.queue.cancel({ ids: [id] })).results[0]!.outcome).toBe('stopping')
      expect((await waiting).cancelRequested).toEqual([lease!.lease])
      expect(await succeed(lease!.lease, 1)).toEqual({ accepted: false, status: 'canceled' })
      expect(await get(id)).toMatchObject({ status: 'canceled', result: null })
    })

    it('ends a canceled task whose handler does not stop at the end of the grace period', async () => {
      const { id } = await submit()
      const { lease } = (await claim())[0]!
      await fixture.queue.cancel({ ids: [id] })
      for (let step = 0; step < 6; step++) {
        fixture.now += 900
        await fixture.queue.turn({ worker: WORKER, want: 0, renewals: [{ lease }] })
        await fixture.queue.sweep(100)
      }
      expect((await get(id)).status).toBe('canceled')
      expect((await succeed(lease)).status).toBeNull()
    })

    it('does not begin the grace period again with a second cancel', async () => {
      const { id } = await submit()
      const { lease } = (await claim())[0]!
      await fixture.queue.cancel({ ids: [id] })
      for (let step = 0; step < 6; step++) {
        fixture.now += 900
        await fixture.queue.cancel({ ids: [id] })
        await fixture.queue.turn({ worker: WORKER, want: 0, renewals: [{ lease }] })
        await fixture.queue.sweep(100)
      }
      expect((await get(id)).status).toBe('canceled')
    })

    it('cancels all tasks that match a filter, and no others', async () => {
      for (const tags of [{ a: '1' }, { a: '2' }, {}]) await submit({ tags })
      await fixture.queue.submit([completeSpec({ type: 'u', tags: { a: '1' } })])
      const filter = { type: 't', tag: { key: 'a', value: '1' } }
      expect((await fixture.queue.cancel({ filter })).results).toHaveLength(1)
      expect((await fixture.queue.cancel({ filter: {} })).results).toHaveLength(3)
      expect((await fixture.queue.retry({ filter: { status: 'canceled', type: 't' } })).results).toHaveLength(3)
      expect((await fixture.queue.stats()).counts).toMatchObject({ pending: 3, canceled: 1 })
    })

    it('asks each of very many running tasks once, in bounded steps', async () => {
      const ids: string[] = []
      const leases = new Map(WORKERS.map(({ id }) => [id, [] as string[]]))
      for (let batch = 0; batch < 5; batch++) {
        const specs = Array.from({ length: 500 }, () => completeSpec({ type: 't' }))
        ids.push(...(await fixture.queue.submit(specs)).map(({ task }) => task.id))
        const worker = WORKERS[batch % 2]!
        leases.get(worker.id)!.push(...(await claim(500, worker)).map(({ lease }) => lease))
      }
      const other = await submit({ type: 'u' })
      await claim()
      const asked: string[] = []
      const cancel = async () => {
        const filter = { status: 'processing', type: 't' } as const
        let [next, steps] = [undefined as Changed['next'] | undefined, 0]
        for (; next !== null && steps < 10; steps++) {
          const answer = await fixture.queue.cancel({ filter, ...(next === undefined ? {} : { before: next }) })
          for (const { id, outcome } of answer.results) {
            expect(outcome).toBe('stopping')
            asked.push(id)
          }
          next = answer.next
        }
        return { next, steps }
      }
      const { next, steps } = await cancel()
      // A store may look once more for tasks that have moved meanwhile.
      expect([next, steps === 3 || steps === 4]).toEqual([null, true])
      expect(asked.sort()).toEqual(ids.sort())
      // No worker is asked again.
      expect(await cancel()).toEqual({ next: null, steps: 1 })
      expect(asked).toHaveLength(2_500)
      for (const worker of WORKERS) {
        const { cancelRequested } = await fixture.queue.turn({ worker, want: 0 })
        expect(cancelRequested.sort()).toEqual(leases.get(worker.id)!.sort())
      }
      expect(await get(other.id)).toMatchObject({ status: 'processing' })
    })
  })
}
