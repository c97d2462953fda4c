import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { type Fixture, WORKER } from './fixture.ts'

export function sweepContract(fixture: Fixture): void {
  const { start, submit, claim, succeed, get } = fixture

  describe('sweep', () => {
    it('returns a task with a lost lease: one more delivery, no attempt, and the old lease is fenced', async () => {
      const { id } = await submit()
      const [old] = await claim()
      fixture.now += 999
      await fixture.queue.sweep(100)
      expect((await get(id)).status).toBe('processing')
      fixture.now += 1
      await fixture.queue.sweep(100)
      expect(await get(id)).toMatchObject({ status: 'pending', attempts: 0, deliveries: 1 })
      const [again] = await claim()
      expect(again!.task).toMatchObject({ id, deliveries: 2, attempts: 0 })
      expect(await succeed(old!.lease, 1)).toEqual({ accepted: false, status: null })
      const renewals = [{ lease: old!.lease, progress: 99 }]
      expect((await fixture.queue.turn({ worker: WORKER, want: 0, renewals })).renewed).toEqual([null])
      expect(await get(id)).toMatchObject({ status: 'processing', progress: null })
      expect((await succeed(again!.lease, 2)).accepted).toBe(true)
      expect((await get(id)).result).toBe(2)
    })

    it('keeps a lease that is renewed', async () => {
      const { id } = await submit()
      const [lease] = await claim()
      for (let step = 0; step < 5; step++) {
        fixture.now += 900
        const { renewed } = await fixture.queue.turn({ worker: WORKER, want: 0, renewals: [{ lease: lease!.lease }] })
        expect(renewed[0]).toEqual({ expiresAt: fixture.now + 1_000, cancelRequested: false })
        await fixture.queue.sweep(100)
      }
      expect(await get(id)).toMatchObject({ status: 'processing', deliveries: 1 })
    })

    it('renews a lease for as long as its worker has asked for', async () => {
      await submit()
      const { leases } = await fixture.queue.turn({ worker: WORKER, want: 1, leaseMs: 7_000 })
      expect(leases[0]!.expiresAt).toBe(fixture.now + 7_000)
      fixture.now += 6_000
      const { renewed } = await fixture.queue.turn({ worker: WORKER, want: 0, renewals: leases })
      expect(renewed[0]!.expiresAt).toBe(fixture.now + 7_000)
    })

    it('fails a task as poison after its fifth lost lease', async () => {
      const { id } = await submit()
      for (let lost = 0; lost < 5; lost++) {
        expect(await claim()).toHaveLength(1)
        fixture.now += 1_000
        await fixture.queue.sweep(100)
      }
      const task = await get(id)
      expect(task).toMatchObject({ status: 'failed', attempts: 0, deliveries: 5 })
      expect(task.error).toContain('poison')
    })

    it('ends an attempt at its time-out, retries it, and ends in timeout; a late result is refused', async () => {
      const { id } = await submit({ processTimeoutMs: 500, maxRetry: 1 })
      await claim()
      fixture.now += 500
      await fixture.queue.sweep(100)
      expect(await get(id)).toMatchObject({ status: 'pending', attempts: 1 })
      fixture.now += 1_000
      const [lease] = await claim()
      fixture.now += 500
      expect(await succeed(lease!.lease, 1)).toMatchObject({ accepted: false, status: 'timeout' })
      expect(await get(id)).toMatchObject({
        status: 'timeout',
        timeoutReason: 'processing',
        attempts: 2,
        result: null,
      })
    })

    it('accepts no result at or after the deadline, also if the deadline passes during the call', async () => {
      for (let readsBefore = 0; readsBefore < 6; readsBefore++) {
        const { id } = await submit({ processTimeoutMs: 500, maxRetry: 0 })
        const { lease } = (await claim())[0]!
        const deadline = fixture.now + 500
        fixture.now = deadline - 1 - readsBefore
        fixture.tickMs = 1
        const settled = await succeed(lease, 1)
        fixture.tickMs = 0
        const task = await get(id)
        expect(task.status).toBe(settled.accepted ? 'success' : 'timeout')
        if (settled.accepted) expect(task.completedAt).toBeLessThan(deadline)
      }
    })

    it('ends waits without a live worker, and reports when the next sweep is due', async () => {
      const { id } = await submit({ queueTimeoutMs: 700 })
      expect((await fixture.queue.sweep(100)).nextAt).toBe(fixture.now + 700)
      fixture.now += 700
      await fixture.queue.sweep(100)
      expect(await get(id)).toMatchObject({ status: 'timeout', timeoutReason: 'queue_wait' })
    })

    it.each([[null], ['g']])('ends waits in bounded steps, and says that there are more: group %s', async (group) => {
      const ids: string[] = []
      for (let index = 0; index < 5; index++) ids.push((await submit({ group, queueTimeoutMs: 700 })).id)
      fixture.now += 700
      for (const more of [true, true, false]) {
        expect((await fixture.queue.sweep(2)).more).toBe(more)
        // Only the caller goes on; a timer of the store would have time for it here.
        await sleep(20)
      }
      for (const id of ids) expect((await get(id)).status).toBe('timeout')
    })

    it('removes finished tasks by count and by age, in bounded steps, and keeps the statistics right', async () => {
      await fixture.opened.cleanup()
      await start({ retention: { ageMs: 10_000, countMax: 3 } })
      const unfinished = await submit({ delayMs: 1e8, queueTimeoutMs: 0 })
      for (let index = 0; index < 8; index++) await submit()
      for (const { lease } of await claim(8)) await succeed(lease)
      expect((await fixture.queue.sweep(2)).more).toBe(true)
      while ((await fixture.queue.sweep(2)).more);
      expect((await fixture.queue.stats()).counts.success).toBe(3)
      expect((await fixture.queue.list({ limit: 100, status: 'success' })).tasks).toHaveLength(3)
      fixture.now += 10_001
      while ((await fixture.queue.sweep(2)).more);
      expect((await fixture.queue.stats()).counts).toMatchObject({ success: 0, pending: 1 })
      expect((await get(unfinished.id)).status).toBe('pending')
    })
  })
}
