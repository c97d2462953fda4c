import { describe, expect, it, vi } from 'vitest'
import type { HistoryFigures, Lease } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

const NONE = { submitted: 0, started: 0, success: 0, failed: 0, canceled: 0, timeout: 0, errors: 0 }

export function historyContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail } = fixture
  const slotsOf = async (ring: '10s' | '5m' | '2h', type: string | null = null) =>
    (await fixture.queue.history(ring, type)).slots
  const countsOf = ({ at: _, waitMs: __, runMs: ___, ...counts }: HistoryFigures) => counts
  const last = async (ring: '10s' | '5m' | '2h', type: string | null = null) => (await slotsOf(ring, type)).at(-1)!

  describe('history', () => {
    it('counts what happened to tasks, in each ring, by type and over all types', async () => {
      await fixture.queue.submit([completeSpec({ type: 't', maxRetry: 1 }), completeSpec({ type: 't' })])
      await submit({ type: 'u', idempotencyKey: 'k' })
      await submit({ type: 'u', idempotencyKey: 'k' })
      const canceled = await submit({ delayMs: 1_000_000 })
      await fixture.queue.cancel({ ids: [canceled.id] })
      const leases = await claim(3)
      fixture.now += 70
      await fail(leases[0]!.lease, { delayMs: 0 })
      for (const { lease } of leases.slice(1)) await succeed(lease)
      await fail((await claim())[0]!.lease)
      const t = { ...NONE, submitted: 3, started: 3, success: 1, failed: 1, canceled: 1, errors: 2 }
      const u = { ...NONE, submitted: 1, started: 1, success: 1 }
      const all = { ...t, submitted: 4, started: 4, success: 2 }
      for (const ring of ['10s', '5m', '2h'] as const) {
        expect([ring, countsOf(await last(ring, 't'))]).toEqual([ring, t])
        expect([ring, countsOf(await last(ring, 'u'))]).toEqual([ring, u])
        expect([ring, countsOf(await last(ring))]).toEqual([ring, all])
      }
      const { waitMs, runMs } = await last('5m', 't')
      expect(waitMs!.p50).toBeLessThanOrEqual(2)
      expect(runMs!.p99).toBeGreaterThanOrEqual(70 / Math.SQRT2)
      expect(runMs!.p99).toBeLessThanOrEqual(70 * Math.SQRT2)
      expect(countsOf(await last('10s', 'never'))).toEqual(NONE)
    })

    it('does not count an attempt that was given back', async () => {
      await submit()
      const [{ lease }] = (await claim()) as [Lease]
      fixture.now += 100
      const outcomes = [{ lease, outcome: { kind: 'released' } as const }]
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })
      const slots = await slotsOf('5m', 't')
      expect(slots.map(({ errors, runMs }) => [errors, runMs])).toEqual(slots.map(() => [0, null]))
      expect(slots.length).toBeGreaterThan(0)
    })

    it('counts tasks that waited too long, and attempts that timed out', async () => {
      await submit({ queueTimeoutMs: 1_000 })
      fixture.now += 1_001
      await fixture.queue.sweep(100)
      await submit({ processTimeoutMs: 500, maxRetry: 0, queueTimeoutMs: 0 })
      await claim()
      fixture.now += 501
      await fixture.queue.sweep(100)
      const slots = await slotsOf('5m', 't')
      const sum = (name: keyof typeof NONE) => slots.reduce((all, slot) => all + slot[name], 0)
      expect([sum('timeout'), sum('errors'), sum('submitted')]).toEqual([2, 1, 2])
    })

    it('keeps slots as long as their ring is, in order, and the empty ones between them', async () => {
      const { slotMs } = await fixture.queue.history('10s', 't')
      await submit()
      await fixture.queue.history('10s', 't')
      fixture.now += 2 * slotMs
      await submit()
      await submit()
      const slots = await slotsOf('10s', 't')
      expect(slots.slice(-3).map(({ submitted }) => submitted)).toEqual([1, 0, 2])
      expect(slots.map(({ at }) => at)).toEqual(slots.map((_, n) => slots[0]!.at + n * slotMs))
      expect([slots.length, slotMs, slots.at(-1)!.at <= fixture.now]).toEqual([360, 10_000, true])
      fixture.now += 358 * slotMs
      expect((await slotsOf('10s', 't'))[1]!.submitted).toBe(2)
      expect((await slotsOf('10s', 't'))[0]!.submitted).toBe(0)
      fixture.now += 2 * slotMs
      expect((await slotsOf('10s', 't')).every(({ submitted }) => submitted === 0)).toBe(true)
      expect((await slotsOf('2h', 't')).reduce((sum, { submitted }) => sum + submitted, 0)).toBe(3)
    })

    it('has the figures of all processes, and after a restart', async () => {
      const second = await fixture.opened.second()
      await submit()
      await fixture.queue.history('10s', 't')
      await second.submit([completeSpec({ type: 't' })])
      await second.history('10s', 't')
      expect((await last('10s', 't')).submitted).toBe(2)
      const { leases } = await second.turn({ worker: { ...WORKER, id: 'w2' }, want: 1 })
      expect(leases).toHaveLength(1)
      await second.close()
      const third = await fixture.opened.second()
      expect((await third.history('10s', 't')).slots.at(-1)).toMatchObject({ submitted: 2, started: 1 })
    })

    it('is written by itself', async () => {
      await submit()
      const second = await fixture.opened.second()
      const isThere = async () => {
        fixture.now += 10_000
        await fixture.queue.sweep(100)
        expect((await second.history('2h', 't')).slots.at(-1)!.submitted).toBe(1)
      }
      await vi.waitFor(isThere, { timeout: 20_000 })
    })
  })
}
