import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../src/task/outcome.ts'
import { type Fixture, WORKER } from './fixture.ts'

export function workersContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail, get } = fixture

  describe('workers', () => {
    it('lists workers until they leave', async () => {
      await submit()
      await claim()
      expect(await fixture.queue.workers()).toMatchObject([{ id: 'w1', running: 1, types: ['t', 'u'] }])
      await fixture.queue.turn({ worker: WORKER, want: 0, leaving: true })
      expect(await fixture.queue.workers()).toEqual([])
    })

    it('counts the attempts of a worker that succeeded and those that did not', async () => {
      for (let index = 0; index < 5; index++) await submit({ maxRetry: 0 })
      const leases = await claim(5)
      for (const { lease } of leases.slice(0, 3)) await succeed(lease)
      for (const { lease } of leases.slice(3)) await fail(lease)
      // Counts are written with the description of the worker, which is written when it changes.
      await fixture.queue.turn({ worker: { ...WORKER, types: ['t'] }, want: 0 })
      expect(await fixture.queue.workers()).toMatchObject([{ id: 'w1', processed: 3, failed: 2 }])
    })

    it.each(['plain', 'a|b', '|', 'a|', 'say "|"', 'größe|1'])('counts what the worker %s runs', async (id) => {
      const worker = { ...WORKER, id }
      await submit()
      await submit({ group: 'a' })
      await submit({ group: 'b', maxRetry: 0, tags: { k: '|' } })
      const running = async () => (await fixture.queue.workers()).map((one) => [one.id, one.running])
      const [first, second, third] = await claim(9, worker)
      expect(await running()).toEqual([[id, 3]])
      const success = { kind: 'success', result: null } as const
      const end = (lease: string, outcome: Outcome) =>
        fixture.queue.turn({ worker, want: 0, outcomes: [{ lease, outcome }] })
      await end(first!.lease, success)
      await end(second!.lease, success)
      expect(await running()).toEqual([[id, 1]])
      expect((await get(second!.task.id)).workerId).toBe(id)
      await end(third!.lease, { kind: 'failure', error: 'no', retry: false, delayMs: null })
      expect(await running()).toEqual([[id, 0]])
    })

    it('forgets a worker that gives no sign of life', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ workerTtlMs: 60_000 })
      await fixture.queue.turn({ worker: WORKER, want: 0 })
      fixture.now += 60_001
      await fixture.queue.sweep(100)
      expect(await fixture.queue.workers()).toEqual([])
    })
  })
}
