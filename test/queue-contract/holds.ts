import { describe, expect, it } from 'vitest'
import type { Lease, Settled } from '../../src/queue/queue.ts'
import { type Fixture, WORKER } from './fixture.ts'

/** Holds: no task of a type starts before a time, because the service that its handler calls refuses calls. */
export function holdsContract(fixture: Fixture): void {
  const { submit, claim, get, limit, start, succeed } = fixture

  const heldUntil = async () => (await fixture.queue.types({ names: ['t'] }))[0]!.heldUntil
  const operate = (holdMs: number) => fixture.queue.configureType('t', { holdMs })
  const hold = async ({ lease }: Lease, holdMs: number): Promise<Settled> => {
    const outcomes = [{ lease, outcome: { kind: 'held', error: 'HTTP 429', holdMs } as const }]
    return (await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })).settled[0]!
  }

  describe('a hold', () => {
    it('starts no task of the type until its time has passed, and costs its own task no attempt', async () => {
      const { id } = await submit({ maxRetry: 0 })
      const other = await submit({ priority: 5, group: 'a' })
      const [first, second] = await claim(9)
      expect(second!.task.id).toBe(id)
      await hold(second!, 5_000)
      expect(await hold(first!, 1)).toEqual({ accepted: true, status: 'pending' })
      expect(await get(id)).toMatchObject({ status: 'pending', attempts: 0, deliveries: 1, error: 'HTTP 429' })
      expect(await heldUntil()).toBe(fixture.now + 5_000)
      expect((await fixture.queue.explain(id))!).toMatchObject({ reason: 'held', until: fixture.now + 5_000 })
      fixture.now += 4_999
      expect(await claim(9)).toEqual([])
      fixture.now += 1
      expect(await heldUntil()).toBeNull()
      expect((await claim(9)).map(({ task }) => task.id)).toEqual([other.id, id])
    })

    it('of less than a second is a second, so that its task does not run in a loop', async () => {
      for (const holdMs of [0.1, 1, 5]) {
        await submit()
        const [lease] = await claim()
        await hold(lease!, holdMs)
        expect(await heldUntil()).toBe(fixture.now + 1_000)
        await operate(0)
        await succeed((await claim())[0]!.lease)
      }
    })

    it('of no time is a failed attempt, so that its task ends', async () => {
      for (const holdMs of [0, -1]) {
        const { id } = await submit({ maxRetry: 0 })
        const [lease] = await claim()
        expect(await hold(lease!, holdMs)).toEqual({ accepted: true, status: 'failed' })
        const error = expect.stringMatching(/^\(the hold of .* is not valid.*HTTP 429$/)
        expect(await get(id)).toMatchObject({ attempts: 1, error })
        expect(await heldUntil()).toBeNull()
      }
    })

    it('holds no other type', async () => {
      await submit()
      const { id } = await submit({ type: 'u' })
      await operate(500)
      expect((await claim(9)).map(({ task }) => task.id)).toEqual([id])
    })

    it('applies to claims in the same turn, and in other processes', async () => {
      const other = await fixture.opened.second()
      await submit()
      await submit()
      const [first] = await claim()
      const outcomes = [{ lease: first!.lease, outcome: { kind: 'held', error: 'no', holdMs: 5_000 } as const }]
      expect((await fixture.queue.turn({ worker: WORKER, want: 9, outcomes })).leases).toEqual([])
      expect((await other.turn({ worker: { ...WORKER, id: 'w2' }, want: 9 })).leases).toEqual([])
    })

    it('is not shortened by a later one, but an operator may change or end it', async () => {
      await submit()
      await submit()
      const [first, second] = await claim(9)
      await hold(first!, 9_000)
      await hold(second!, 1_000)
      expect(await heldUntil()).toBe(fixture.now + 9_000)
      await operate(50)
      expect(await heldUntil()).toBe(fixture.now + 50)
      await operate(0)
      expect(await heldUntil()).toBeNull()
      expect(await claim(9)).toHaveLength(2)
    })

    it('that an operator has ended stays ended when the clock is set back', async () => {
      await fixture.queue.configureLimit('gpu', { max: 1 })
      for (const holdMs of [5_000, 0]) {
        await operate(holdMs)
        await fixture.queue.configureLimit('gpu', { holdMs })
      }
      fixture.now -= 1_000
      expect(await heldUntil()).toBeNull()
      expect(await fixture.queue.limits({ names: ['gpu'] })).toMatchObject([{ heldUntil: null }])
    })

    it('is not started by a lost lease', async () => {
      await submit()
      const [first] = await claim()
      fixture.now += 1_000
      await fixture.queue.sweep(100)
      expect(await hold(first!, 5_000)).toEqual({ accepted: false, status: null })
      expect(await heldUntil()).toBeNull()
    })

    it('leaves a canceled task canceled', async () => {
      const { id } = await submit()
      const [first] = await claim()
      await fixture.queue.cancel({ ids: [id] })
      expect(await hold(first!, 5_000)).toEqual({ accepted: true, status: 'canceled' })
    })

    it('with an invalid time fails the attempt with the reason', async () => {
      const { id } = await submit({ maxRetry: 0 })
      const [first] = await claim()
      await hold(first!, Number.NaN)
      const { status, error } = await get(id)
      expect([status, error]).toEqual(['failed', expect.stringMatching(/hold of .* is not valid.* HTTP 429/)])
      expect(await heldUntil()).toBeNull()
    })

    it.each([
      ['no limit', null],
      ['a limit', 5],
    ])('wakes a waiting turn when it ends, and when an operator ends it: with %s', async (_, maxConcurrency) => {
      await fixture.opened.cleanup()
      await start({ clock: Date.now })
      await limit('t', maxConcurrency)
      const { id } = await submit()
      const wait = () => fixture.queue.turn({ worker: WORKER, want: 9, waitMs: 20_000 })
      await operate(50)
      const [first] = (await wait()).leases
      expect(first!.task.id).toBe(id)
      await hold(first!, 60_000)
      const [{ leases }] = await Promise.all([wait(), operate(0)])
      expect(leases).toHaveLength(1)
    })
  })
}
