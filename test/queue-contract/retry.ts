import { describe, expect, it } from 'vitest'
import type { Changed } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

export function retryContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail, get } = fixture

  describe('retry', () => {
    it('retries with attempts from 0 and a fence that was never used before', async () => {
      const { id } = await submit({ maxRetry: 0 })
      const [first] = await claim()
      await fail(first!.lease)
      expect((await fixture.queue.retry({ ids: [id] })).results[0]!.task).toMatchObject({
        status: 'pending',
        attempts: 0,
        error: null,
        completedAt: null,
      })
      const [second] = await claim()
      expect(second!.lease).not.toBe(first!.lease)
      expect((await fail(first!.lease)).status).toBeNull()
      await succeed(second!.lease)
      expect((await fixture.queue.retry({ ids: [id] })).results[0]!.outcome).toBe('refused')
    })

    it('retries a poison task with none of its leases lost', async () => {
      const { id } = await submit()
      const lose = async () => {
        expect(await claim()).toHaveLength(1)
        fixture.now += 1_000
        await fixture.queue.sweep(100)
        return (await get(id)).status
      }
      for (let lost = 1; lost < 5; lost++) expect(await lose()).toBe('pending')
      expect(await lose()).toBe('failed')
      await fixture.queue.retry({ ids: [id] })
      for (let lost = 1; lost < 5; lost++) expect(await lose()).toBe('pending')
      expect(await lose()).toBe('failed')
    })

    it('begins the queue time-out again', async () => {
      const { id } = await submit({ queueTimeoutMs: 1_000 })
      await fixture.queue.cancel({ ids: [id] })
      fixture.now += 1_000
      while ((await fixture.queue.sweep(100)).more);
      await fixture.queue.retry({ ids: [id] })
      expect((await fixture.queue.sweep(100)).nextAt).toBe(fixture.now + 1_000)
      fixture.now += 999
      await fixture.queue.sweep(100)
      expect((await get(id)).status).toBe('pending')
      fixture.now += 1
      await fixture.queue.sweep(100)
      expect(await get(id)).toMatchObject({ status: 'timeout', timeoutReason: 'queue_wait' })
    })

    it('terminates by filter although tasks fail as fast as it retries them', async () => {
      await fixture.queue.submit(Array.from({ length: 1_500 }, () => completeSpec({ type: 't', maxRetry: 0 })))
      const failAll = async () => {
        const leases = await claim(1_500)
        fixture.now += 1
        const failure = { kind: 'failure', error: 'no', retry: true, delayMs: null } as const
        const outcomes = leases.map(({ lease }) => ({ lease, outcome: failure }))
        await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })
      }
      await failAll()
      let { results, next } = await fixture.queue.retry({ filter: { type: 't' } })
      expect(results).toHaveLength(1_000)
      await failAll()
      ;({ results, next } = await fixture.queue.retry({ filter: { type: 't' }, before: next! }))
      expect([results.length, next]).toEqual([500, null])
      expect(results.every(({ task }) => task?.deliveries === 1)).toBe(true)
    })

    it('terminates by filter although it refuses more tasks than one step handles', async () => {
      const first = (await submit({ type: 'u', maxRetry: 0 })).id
      const canceled = Array.from({ length: 1_050 }, () => completeSpec({ type: 't', after: [first] }))
      await fixture.queue.submit(canceled)
      const [lease] = await claim()
      await fail(lease!.lease)
      for (let step = 0; step < 5; step++) while ((await fixture.queue.sweep(100)).more);
      await fixture.queue.erase([first])
      for (let step = 0; step < 5; step++) while ((await fixture.queue.sweep(100)).more);
      const others = (await Promise.all([1, 2, 3].map(() => submit()))).map(({ id }) => id)
      await fixture.queue.cancel({ ids: others })
      const retried: string[] = []
      let [next, steps] = [null as Changed['next'], 0]
      do {
        const answer = await fixture.queue.retry({ filter: { type: 't' }, ...(next && { before: next }) })
        retried.push(...answer.results.map(({ id }) => id))
        next = answer.next
        steps += 1
      } while (next !== null && steps < 10)
      expect([retried.sort(), steps]).toEqual([others.sort(), 2])
    })
  })
}
